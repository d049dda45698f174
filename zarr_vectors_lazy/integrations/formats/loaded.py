"""What a file gave, and how it is written as a store."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zarr_vectors_lazy.api.shapes import suggest_chunk_shape
from zarr_vectors_lazy.api.write.linked import write_graph, write_mesh
from zarr_vectors_lazy.api.write.writers import write_points, write_polylines
from zarr_vectors_lazy.errors import SelectionError

Kind = Literal["points", "streamlines", "skeleton", "graph", "mesh"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Loaded:
    """Contents of a file.

    Parameters
    ----------
    kind
        What it holds.
    positions
        (N, D).
    attributes
        (N,) or (N, C) by name.
    joins
        (M, 2) edges, or (F, W) faces; of streamlines their (O + 1,) offsets; of points nothing.
    object_ids
        (N,) object of each vertex, where the file says so.
    """

    kind: Kind
    positions: np.ndarray[Any, Any]
    attributes: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    joins: np.ndarray[Any, Any] | None = None
    object_ids: np.ndarray[Any, Any] | None = None


def write_loaded(
    loaded: Loaded, path: Any, *, chunk_shape: Any = None, bin_shape: Any = None, **options: Any
) -> dict[str, Any]:
    """Write the contents of a file as a store; what the writer of its kind returns.

    Parameters
    ----------
    chunk_shape
        (D,), or one number, or None: what `suggest_chunk_shape` says.
    bin_shape, **options
        As for `write_points`.
    """
    if not len(loaded.positions):
        raise SelectionError("there are no vertices in the file")
    shape = chunk_shape or suggest_chunk_shape(loaded.positions, bin_shape=_edges(bin_shape, loaded.positions.shape[1]))
    given: dict[str, Any] = {"chunk_shape": shape, "bin_shape": bin_shape, "vertex_attributes": loaded.attributes}
    given |= {"object_ids": loaded.object_ids, **options}
    positions, joins = loaded.positions, loaded.joins
    done: dict[str, Any]
    match loaded.kind:
        case "points":
            done = write_points(path, positions, **given)
        case "streamlines":
            done = write_polylines(path, (positions, joins), geometry_type="streamline", **given)
        case "mesh":
            done = write_mesh(path, positions, joins, **given)
        case "skeleton" | "graph":
            done = write_graph(path, positions, joins, kind=loaded.kind, **given)
    return done


def _edges(bin_shape: Any, ndim: int) -> list[float] | None:
    return None if bin_shape is None else np.broadcast_to(np.asarray(bin_shape, float), (ndim,)).tolist()


def wrong(path: Path, reason: str) -> SelectionError:
    """Error about a file that is not what its suffix says."""
    return SelectionError(f"{path}: {reason}")
