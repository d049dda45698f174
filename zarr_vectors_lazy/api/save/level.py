"""What a level gives, whole or selected, as a store of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import dask
import numpy as np

from zarr_vectors_lazy.api.progress import computing
from zarr_vectors_lazy.api.save.lazy import NOTHING, goes_out_of_core, save_lazily
from zarr_vectors_lazy.api.save.tables import Values, object_tables
from zarr_vectors_lazy.api.write.linked import write_graph, write_mesh
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.graph.narrow import candidate_objects
from zarr_vectors_lazy.graph.paths import path_rows_arrays
from zarr_vectors_lazy.types import IntArray, Vertices

if TYPE_CHECKING:
    from zarr_vectors_lazy.api.level import ZVLevel

LINKED = {"graph", "skeleton"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Taken:
    """Everything that a level gives, in memory.

    Parameters
    ----------
    vertices, attributes
        Rows of the level.
    joined
        Edges or faces, as rows; None where the geometry has neither.
    links, values
        Records inside the level and their attributes.
    objects, ids
        (o,) manifest rows and ids of the objects that have a row; None where the level has no objects.
    rows, offsets
        (M,) rows of the objects, and where each object begins.
    """

    vertices: Vertices
    attributes: dict[str, Values]
    joined: IntArray | None
    links: IntArray | None
    values: dict[str, Values]
    objects: IntArray
    ids: IntArray | None
    rows: IntArray
    offsets: IntArray


def save_level(level: "ZVLevel", path: Any, arguments: Mapping[str, Any]) -> Any:
    """Write a level as a new store; return what the writer of its geometry returns, or a Delayed of it.

    Parameters
    ----------
    arguments
        Of the writer, ``compute`` and ``progress`` among them.

    Raises
    ------
    SelectionError
        If nothing is selected, objects share vertices or are cut in a way that the format cannot say, or the store has
        several geometries.
    """
    kinds = set(level.store.geometry_types)
    if len(kinds) != 1:
        raise SelectionError(f"a level of one geometry can be saved, this has {sorted(kinds) or 'none'}")
    (kind,) = kinds
    store = level.store
    common = {"axes": store.axes, "units": store.units, "crs": store.crs, **arguments}
    if goes_out_of_core(kind):
        return save_lazily(level, path, kind, common)
    save = partial(save_from_memory, level, path, kind, {**common, "compute": True})
    return save() if arguments["compute"] else dask.delayed(save, pure=False, name="save")()


def save_from_memory(level: "ZVLevel", path: Any, kind: str, common: Mapping[str, Any]) -> Any:
    """Read a level into memory and write it.

    Raises
    ------
    SelectionError
        As `save_level`.
    """
    with computing("reading", shown=common["progress"]):
        taken = take_level(level, kind)
    if not len(taken.vertices):
        raise SelectionError(NOTHING)
    return _save_rows(level, path, kind, taken, common)


def take_level(level: "ZVLevel", kind: str) -> Taken:
    """Read all of a level in one pass."""
    view = level._view
    with_objects = view.data.object_index is not None
    objects = candidate_objects(view) if with_objects else np.empty(0, np.int64)
    linked = kind in LINKED and view.data.links(0) is not None
    members = {
        "vertices": level.vertices,
        "attributes": dict(level.attributes),
        "joined": level.edges if kind in LINKED else level.faces if kind == "mesh" else None,
        "links": level.links(0) if linked else None,
        "values": dict(level.link_attributes) if linked or kind == "mesh" else {},
        "paths": path_rows_arrays(view, objects),
    }
    (found,) = dask.compute(members)
    rows, _, offsets = found.pop("paths")
    there = np.diff(offsets) > 0
    return Taken(
        **found,
        objects=objects[there],
        ids=view.object_ids[objects[there]] if with_objects else None,
        rows=rows,
        offsets=np.append(offsets[:-1][there], offsets[-1:]),
    )


def _save_rows(level: "ZVLevel", path: Any, kind: str, taken: Taken, common: Mapping[str, Any]) -> Any:
    tables: dict[str, Any] = {"vertex_attributes": taken.attributes}
    if taken.ids is not None:
        tables |= {"object_ids": _owners(taken)} | _tables(level, taken)
    if kind == "mesh":
        return write_mesh(path, taken.vertices, taken.joined, link_attributes=taken.values, **tables, **common)
    values = _edge_values(taken)
    return write_graph(path, taken.vertices, taken.joined, kind=kind, link_attributes=values, **tables, **common)  # type: ignore[arg-type]


def _tables(level: "ZVLevel", taken: Taken) -> dict[str, Any]:
    """Tables of objects; a writer of rows takes them by ascending id."""
    assert taken.ids is not None
    order = np.argsort(taken.ids, kind="stable")
    return object_tables(level._view, taken.objects[order], taken.ids[order])


def _owners(taken: Taken) -> IntArray:
    """(N,) id of the object of each row."""
    assert taken.ids is not None
    counts = np.bincount(taken.rows, minlength=len(taken.vertices))
    if (counts > 1).any():
        raise SelectionError(f"{int((counts > 1).sum())} vertices belong to several objects, which a writer cannot say")
    if (counts == 0).any():
        raise SelectionError(f"{int((counts == 0).sum())} vertices belong to no object; others do")
    owners = np.empty(len(taken.vertices), np.int64)
    owners[taken.rows] = np.repeat(taken.ids, np.diff(taken.offsets))
    return owners


def _edge_values(taken: Taken) -> dict[str, Values]:
    """Link attributes by edge; of a skeleton, whose records are but some of its edges, NaN where there is none."""
    assert taken.joined is not None
    if taken.links is None or np.array_equal(taken.links, taken.joined):
        return taken.values
    found = {}
    at = np.full(len(taken.vertices), -1, np.int64)  # a child has one parent
    at[taken.links[:, 0]] = np.arange(len(taken.links))
    record = at[taken.joined[:, 0]]
    for name, values in taken.values.items():
        missing = record < 0
        out = values.astype(np.float64 if missing.any() and values.dtype.kind != "f" else values.dtype)[record]
        out[missing] = np.nan
        found[name] = out
    return found
