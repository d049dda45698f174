"""Objects as rows of a level: what is computed once and cut into pieces, lines and vertices of objects."""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import dask
import numpy as np

from zarr_vectors_lazy.access.objects import rows_of_ids
from zarr_vectors_lazy.graph.narrow import candidate_objects
from zarr_vectors_lazy.graph.paths import path_arrays
from zarr_vectors_lazy.model.objects import ranges
from zarr_vectors_lazy.plan.regions import Region
from zarr_vectors_lazy.types import BoolArray, IntArray, Vertices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zarr_vectors_lazy.api.level import ZVLevel


@dataclass(frozen=True, slots=True, eq=False)
class Walks:
    """Vertices of objects, one object after another, each in path order, computed.

    Parameters
    ----------
    ids
        (o,) object ids.
    offsets
        (o + 1,) vertices of object k are ``offsets[k]:offsets[k + 1]``.
    begins
        (M,) whether what an object has of one fragment begins here.
    vertices
        (M, D) positions.
    attributes
        (M,) or (M, C) by name.
    """

    ids: IntArray
    offsets: IntArray
    begins: BoolArray
    vertices: Vertices
    attributes: dict[str, np.ndarray[Any, Any]]

    @property
    def counts(self) -> IntArray:
        """(o,) vertices of each."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> IntArray:
        """(M,) object id of each vertex."""
        return np.repeat(self.ids, self.counts)

    def take(self, objects: IntArray) -> "Walks":
        """Return some objects, by position, in the order given."""
        if np.array_equal(objects, np.arange(len(self.ids))):
            return self
        counts = self.counts[objects]
        at = ranges(self.offsets[:-1][objects], counts)
        return Walks(
            self.ids[objects],
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            self.begins[at],
            self.vertices[at],
            {name: values[at] for name, values in self.attributes.items()},
        )

    def longer(self, least: int) -> "Walks":
        """Objects of at least so many vertices."""
        return self.take(np.flatnonzero(self.counts >= least))

    def touching(self, region: Region) -> "Walks":
        """Objects that have a vertex in some boxes."""
        inside = np.concatenate([[0], np.cumsum(region.rows(self.vertices))])
        return self.take(np.flatnonzero(np.diff(inside[self.offsets]) > 0))

    def pieces(self) -> list[list[Vertices]]:
        """Positions of each object, cut where a fragment ends."""
        starts = np.flatnonzero(self.begins)
        vertices = self.vertices
        parts = [vertices[start:stop] for start, stop in pairwise([*starts.tolist(), len(vertices)])]
        cuts = np.searchsorted(starts, self.offsets).tolist()
        return [parts[first:last] for first, last in pairwise(cuts)]


def walk(level: "ZVLevel", ids: IntArray | None, names: "Sequence[str]") -> Walks:
    """Compute the objects of a level, cut to its selection, in one go.

    Parameters
    ----------
    ids
        Objects, in the order wanted; None for all that the selection may touch, in the order of their manifests.
    names
        Attributes wanted.
    """
    view = level._view
    if view.data.object_index is None:
        rows = np.empty(0, np.int64)
    elif ids is not None:
        rows = rows_of_ids(view.object_ids, ids)
    else:
        rows = candidate_objects(view)
    objects, order = np.unique(rows, return_inverse=True)
    found = path_arrays(view, objects, attributes=names, whole=True)
    members = (found.vertices, found.attributes, found.begins, found.offsets)
    vertices, attributes, begins, offsets = dask.compute(*members)
    walks = Walks(view.object_ids[objects], offsets, begins, vertices, attributes)
    return walks.take(order.reshape(-1))
