"""What a user selected: boxes, objects and conditions that rows must all meet."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, TypeAlias

import numpy as np

from zarr_vectors_lazy.model.chunks import ChunkTable
from zarr_vectors_lazy.plan.conditions import Test
from zarr_vectors_lazy.plan.nearest import Near
from zarr_vectors_lazy.plan.regions import Region
from zarr_vectors_lazy.types import BBox, BoolArray, ChunkCoords, IntArray


@dataclass(frozen=True, eq=False)
class Picks:
    """Rows of chunks by their numbers there; the test of a condition that reads no attribute.

    Parameters
    ----------
    coords
        (m, K) chunks, in lexicographic order.
    starts
        (m + 1,) where the rows of each begin.
    rows
        Their rows, ascending in each.
    """

    coords: ChunkCoords
    starts: IntArray
    rows: IntArray

    def of(self, coord: tuple[int, ...]) -> "Picks":
        """Those of one chunk."""
        at = int(ChunkTable(self.coords).find(np.asarray([coord]))[0])
        part = slice(self.starts[at], self.starts[at + 1]) if at >= 0 else slice(0)
        rows = self.rows[part]
        return Picks(np.asarray([coord]), np.array([0, len(rows)]), rows)

    def __call__(self, count: int) -> BoolArray:
        """(count,) mask of the rows of the one chunk that it is of."""
        mask = np.zeros(count, np.bool_)
        mask[self.rows] = True
        return mask


@dataclass(frozen=True, eq=False)
class Condition:
    """A row mask from vertex attributes.

    Parameters
    ----------
    names
        Attributes that it reads.
    test
        What tells the rows of one attribute's values, or a callable of the attributes' rows that gives a mask.
    passes
        (n,) which categories of a dictionary-encoded attribute pass; the test is then one of truth values.
    """

    names: tuple[str, ...]
    test: Test | Picks | Callable[..., Any]
    passes: BoolArray | None = None


Area: TypeAlias = Region | Near


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """Rows meet all of it.

    Parameters
    ----------
    regions
        Boxes that rows lie in: in each of them.
    objects
        Ids of the objects, sorted, or None for all rows whatever their object.
    conditions
        Masks from attributes.
    """

    regions: tuple[Area, ...] = ()
    objects: IntArray | None = None
    conditions: tuple[Condition, ...] = ()

    @property
    def box(self) -> BBox | None:
        """Box in stored coordinates that holds all that is selected, or None where there are no boxes."""
        if not self.regions:
            return None
        lo, hi = zip(*(region.bounds for region in self.regions), strict=True)
        return np.max(lo, axis=0), np.min(hi, axis=0)

    def with_region(self, region: Area) -> "Selection":
        """Intersect with boxes, or what is near points; those that do not meet select nothing."""
        boxes = [part for part in (*self.regions, region) if isinstance(part, Region) and part.is_box]
        others = [part for part in (*self.regions, region) if not part.is_box]
        return replace(self, regions=(*([reduce(Region.__and__, boxes)] if boxes else ()), *others))

    def with_objects(self, ids: IntArray) -> "Selection":
        """Keep only these objects."""
        ids = np.unique(ids)
        return replace(self, objects=ids if self.objects is None else np.intersect1d(self.objects, ids))

    def token(self) -> tuple[Any, ...]:
        """What tells this selection from another, for Dask's tokenize."""
        return ("selection", self.regions, self.objects, self.conditions)
