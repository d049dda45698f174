"""What a level gives, whole or selected, as a store of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import dask
import numpy as np

from zarr_vectors_lazy.api.progress import computing
from zarr_vectors_lazy.api.save.lazy import NOTHING, PATHS, goes_out_of_core, save_lazily
from zarr_vectors_lazy.api.save.tables import Values, object_tables, same_ids
from zarr_vectors_lazy.api.write.linked import write_graph, write_mesh
from zarr_vectors_lazy.api.write.writers import write_lines, write_points, write_polylines
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.graph.narrow import candidate_objects
from zarr_vectors_lazy.graph.paths import path_rows_arrays
from zarr_vectors_lazy.types import IntArray, Vertices

if TYPE_CHECKING:
    from zarr_vectors_lazy.api.level import ZVLevel

LINKED = {"graph", "skeleton"}
WHOLE = "select with whole_objects=True"


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
    rows, runs, offsets
        (M,) rows along the objects, numbers that differ where a path is interrupted, and where each object begins.
    """

    vertices: Vertices
    attributes: dict[str, Values]
    joined: IntArray | None
    links: IntArray | None
    values: dict[str, Values]
    objects: IntArray
    ids: IntArray | None
    rows: IntArray
    runs: IntArray
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
    if goes_out_of_core(level, kind):
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
    save: Callable[..., Any] = _save_paths if kind in PATHS else {"line": _save_lines}.get(kind, _save_rows)
    return save(level, path, kind, taken, common)


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
    rows, _, runs, offsets = found.pop("paths")
    there = np.diff(offsets) > 0
    return Taken(
        **found,
        objects=objects[there],
        ids=view.object_ids[objects[there]] if with_objects else None,
        rows=rows,
        runs=runs,
        offsets=np.append(offsets[:-1][there], offsets[-1:]),
    )


def _save_rows(level: "ZVLevel", path: Any, kind: str, taken: Taken, common: Mapping[str, Any]) -> Any:
    tables: dict[str, Any] = {"vertex_attributes": taken.attributes}
    if taken.ids is not None:
        tables |= {"object_ids": _owners(taken)} | _tables(level, taken)
    if kind == "point_cloud":
        return write_points(path, taken.vertices, **tables, **common)
    if kind == "mesh":
        return write_mesh(path, taken.vertices, taken.joined, link_attributes=taken.values, **tables, **common)
    values = _edge_values(taken)
    return write_graph(path, taken.vertices, taken.joined, kind=kind, link_attributes=values, **tables, **common)  # type: ignore[arg-type]


def _tables(level: "ZVLevel", taken: Taken) -> dict[str, Any]:
    """Tables of objects; a writer of rows takes them by ascending id."""
    assert taken.ids is not None
    order = np.argsort(taken.ids, kind="stable")
    return object_tables(level._view, taken.objects[order], same_ids(taken.ids))


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


def _save_paths(level: "ZVLevel", path: Any, kind: str, taken: Taken, common: Mapping[str, Any]) -> Any:
    """Paths, one for each run of selected vertices: the first keeps the object's id, others get new ones."""
    assert taken.ids is not None
    starts = np.diff(taken.runs, prepend=-1) != 0
    starts[taken.offsets[:-1]] = True
    begins = np.flatnonzero(starts)
    owner = np.searchsorted(taken.offsets, begins, side="right") - 1
    first = np.diff(owner, prepend=-1) != 0
    ids = taken.ids[owner]
    ids[~first] = _largest(level) + 1 + np.arange(int((~first).sum()))
    children = {int(taken.ids[k]): ids[owner == k] for k in np.unique(owner[~first]).tolist()}
    renamed = {**{int(i): np.asarray([i]) for i in taken.ids}, **children}
    return write_polylines(
        path,
        (taken.vertices[taken.rows], np.append(begins, len(taken.rows))),
        vertex_attributes={name: values[taken.rows] for name, values in taken.attributes.items()},
        object_ids=ids,
        geometry_type=kind,  # type: ignore[arg-type]
        **object_tables(level._view, taken.objects[owner], renamed),
        **common,
    )


def _largest(level: "ZVLevel") -> int:
    return int(level._view.object_ids.max(initial=0))


def _save_lines(level: "ZVLevel", path: Any, kind: str, taken: Taken, common: Mapping[str, Any]) -> Any:
    assert taken.ids is not None
    if (np.diff(taken.offsets) < 2).any():
        raise SelectionError(f"{int((np.diff(taken.offsets) < 2).sum())} lines have one selected end; {WHOLE}")
    ends = taken.rows[np.stack([taken.offsets[:-1], taken.offsets[1:] - 1], axis=1)]
    return write_lines(
        path,
        taken.vertices[ends],
        vertex_attributes={name: values[ends] for name, values in taken.attributes.items()},
        object_ids=taken.ids,
        **object_tables(level._view, taken.objects, same_ids(taken.ids)),
        **common,
    )
