"""napari's reader (npe2): a store as layers. The finest level with few vertices is read; others are read when shown.

The arrays of napari's layers are in memory, and axes run from the slowest, z, to x. Points become a points layer; paths
become tracks if they have an axis of time, and shapes or vectors otherwise; the edges of graphs and skeletons become
vectors, and meshes a surface.
"""

import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import dask
import numpy as np

from zarr_vectors_lazy.convert.precomputed import triangles
from zarr_vectors_lazy.errors import SelectionError, ZVWarning
from zarr_vectors_lazy.level import ZVLevel
from zarr_vectors_lazy.model.world import metres
from zarr_vectors_lazy.store import ZVStore, open_zv

LayerData: TypeAlias = tuple[Any, dict[str, Any], str]
Read: TypeAlias = Callable[[Any], list[LayerData]]
SHOWN_VERTICES = 100_000  # most vertices of the level that is read first
MOST_VERTICES = 5_000_000  # most vertices of a level that becomes a layer
MOST_SHAPES = 500  # most paths that are drawn as shapes: napari takes seconds for more, so they are drawn as vectors
TIMES = ("t", "time")
PENDING = "zarr_vectors_level"
LINES = {"line", "polyline", "streamline"}


def get_reader(path: str | Sequence[str]) -> Read | None:
    """Return the function that reads one or more paths; None if one is a folder that is not a Zarr Vectors store."""
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    return read_layers if paths and all(map(_may_be_store, paths)) else None


def _may_be_store(path: str) -> bool:
    if "://" in str(path):
        return True
    try:
        root = json.loads((Path(path).expanduser() / "zarr.json").read_bytes())
    except (OSError, ValueError):
        return False
    attributes = root.get("attributes") if isinstance(root, dict) else None
    return isinstance(attributes, dict) and "zarr_vectors" in attributes


def read_layers(path: str | Sequence[str]) -> list[LayerData]:
    """Return the layers of stores; the first of each is shown: the finest level with few vertices, or the coarsest.

    Other levels are hidden. If a viewer is open, they are empty until they are shown, and are read then.

    Raises
    ------
    SelectionError
        If every level is too large for memory, or the store has none.
    FormatError, StoreError
        If a store cannot be read.

    Warns
    -----
    ZVWarning
        If finer levels are too large.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else path
    return [layer for one in paths for layer in _store_layers(open_zv(one))]


def _store_layers(store: ZVStore) -> list[LayerData]:
    sizes = {level.index: _size(level) for level in store}
    kept = [index for index in store.levels if sizes[index] <= MOST_VERTICES]
    if not kept:
        raise SelectionError(
            f"napari holds layers in memory, and no level of {store.url} has {MOST_VERTICES:,} vertices or less: build "
            "coarser ones (zvl pyramid), or add the rows of a box: viewer.add_points(level.sel(...).vertices.compute())"
        )
    large = [index for index in store.levels if index not in kept]
    if large:
        warnings.warn(
            f"levels {large} of {store.url} have more than {MOST_VERTICES:,} vertices and are left out",
            ZVWarning,
            stacklevel=3,
        )
    store._opened.meta.world.warn()
    first = next((index for index in kept if sizes[index] <= SHOWN_VERTICES), kept[-1])
    others = [index for index in kept if index != first]
    viewer = open_viewer()
    if viewer is not None and others:
        viewer.layers.events.inserted.connect(on_inserted)
        return [*level_layers(store[first]), *(_pending(store, index, sizes[index]) for index in others)]
    hidden = [layer for index in others for layer in level_layers(store[index])]
    return [*level_layers(store[first]), *((data, {**meta, "visible": False}, kind) for data, meta, kind in hidden)]


def _size(level: ZVLevel) -> int:
    count = level.vertex_count
    return level.compute_chunk_sizes().vertex_count or 0 if count is None else count


def open_viewer() -> Any:
    """The viewer that is open in this process, or None; this does not import napari."""
    napari = sys.modules.get("napari")
    return None if napari is None else napari.current_viewer()


def _pending(store: ZVStore, index: int, size: int) -> LayerData:
    """Empty layer that stands for a level which is not read yet."""
    _, meta = _placed(store)
    name = f"{_name(store)} level {index}: {size:,} vertices, read when shown"
    return (
        np.empty((0, store.ndim)),
        {**meta, "name": name, "visible": False, "metadata": {PENDING: store[index]}},
        "points",
    )


def on_inserted(event: Any) -> None:
    """Arrange for a level that is not read yet to be read when it is shown."""
    layer = event.value
    if PENDING in layer.metadata:
        layer.events.visible.connect(partial(_on_shown, layer))


def _on_shown(layer: Any, _event: Any = None) -> None:
    viewer, level = open_viewer(), layer.metadata.get(PENDING)
    if level is None or not layer.visible or viewer is None or layer not in viewer.layers:
        return
    create = sys.modules["napari"].layers.Layer.create
    at = viewer.layers.index(layer)
    made = [create(*data) for data in level_layers(level)]
    for offset, new in enumerate(made):
        viewer.layers.insert(at + offset, new)
    viewer.layers.remove(layer)


def level_layers(level: ZVLevel) -> list[LayerData]:
    """Layers of a level or a selection, read now."""
    kinds, lost = set(level.store.geometry_types), level._view.data.meta.edges_lost
    if lost:
        warnings.warn(
            f"{level.store.url}, level {level.index}: {lost}; its vertices are shown", ZVWarning, stacklevel=2
        )
        return [_points(level)]
    if "mesh" in kinds:
        return [_surface(level)]
    if kinds & LINES:
        return [_paths(level)]
    return (
        [_vectors(level), _points(level)]
        if "graph" in kinds
        else [_vectors(level)]
        if "skeleton" in kinds
        else [_points(level)]
    )


def _points(level: ZVLevel) -> LayerData:
    order, meta = _placed(level.store)
    wanted = _columns(level)
    index = level._view.data.object_index
    if index is not None and index.has_manifests and not index.lost:
        wanted["object_id"] = level.to_xarray()["vertex_object_id"].data
    positions, values = dask.compute(level.vertices, wanted)
    shown = _shown(level, positions, order)
    return shown, {**meta, "name": _level_name(level), "features": _flat(values), "size": _size_of(shown)}, "points"


def _vectors(level: ZVLevel) -> LayerData:
    positions, edges = dask.compute(level.vertices, level.edges)
    return _joined(level, positions, edges)


def _joined(level: ZVLevel, positions: Any, edges: Any) -> LayerData:
    order, meta = _placed(level.store)
    shown = _shown(level, positions, order)
    starts, ends = shown[edges[:, 0]], shown[edges[:, 1]]
    data = np.stack([starts, ends - starts], axis=1)
    width = _size_of(shown) / 4
    return data, {**meta, "name": _level_name(level), "edge_width": width, "vector_style": "line"}, "vectors"


def _surface(level: ZVLevel) -> LayerData:
    order, meta = _placed(level.store)
    positions, faces = dask.compute(level.vertices, level.faces)
    return (_shown(level, positions, order), triangles(faces)), {**meta, "name": _level_name(level)}, "surface"


def _paths(level: ZVLevel) -> LayerData:
    """Tracks if paths have an axis of time, otherwise the paths themselves if they are few, or their segments."""
    order, meta = _placed(level.store)
    names = level.store._opened.meta.world.shown[1]
    timed = names[order[0]].lower() in TIMES
    ids = level.objects.ids
    if not timed and len(ids) > MOST_SHAPES:
        return _vectors(level)
    ragged = level.objects.ragged(attributes=[*level.attribute_names] if timed else ())
    positions, offsets, values = dask.compute(*ragged, dict(ragged.attributes) if timed else {})
    shown = _shown(level, positions, order)
    name = _level_name(level)
    if not timed:
        objects = level.objects.attributes
        drawn = np.diff(offsets) > 1  # napari refuses shorter ones
        if not drawn.all():
            few = f"objects with fewer than two vertices are left out ({int((~drawn).sum())} of {len(ids)})"
            warnings.warn(f"{level.store.url}, level {level.index}: {few}", ZVWarning, stacklevel=2)
        table = {str(key): np.asarray(of.sel(object=ids))[drawn] for key, of in objects.data_vars.items()}
        features = {"object_id": ids[drawn], **_flat(table)}
        paths = [shown[start:stop] for start, stop in zip(offsets[:-1][drawn], offsets[1:][drawn], strict=True)]
        told = {
            "ndim": shown.shape[1],
            "shape_type": "path",
            "edge_width": _size_of(shown) / 4,
            "face_color": "transparent",
            "features": features,
        }
        return paths, {**meta, "name": name, **told}, "shapes"
    owner = np.repeat(ids, np.diff(offsets))
    rows = np.lexsort([shown[:, 0], owner])
    tracks = np.concatenate([owner[:, None], shown], axis=1)[rows]
    return tracks, {**meta, "name": name, "features": {key: of[rows] for key, of in _flat(values).items()}}, "tracks"


def _placed(store: ZVStore) -> tuple[list[int], dict[str, Any]]:
    """Columns of displayed positions in napari's order, time first, z to x; and how layers describe their axes."""
    _, names, units = store._opened.meta.world.shown
    order = sorted(range(len(names)), key=lambda axis: (names[axis].lower() not in TIMES, -axis))
    meta: dict[str, Any] = {"axis_labels": tuple(names[axis] for axis in order)}
    if all(metres(unit) or (unit and names[axis].lower() in TIMES) for axis, unit in enumerate(units)):
        meta["units"] = tuple(units[axis] for axis in order)
    return order, meta


def _shown(level: ZVLevel, positions: Any, order: Sequence[int]) -> np.ndarray[Any, Any]:
    return level.store._opened.meta.world.show(positions)[:, list(order)]


def _columns(level: ZVLevel) -> dict[str, Any]:
    return {name: level.attributes[name] for name in level.attribute_names}


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a table: those of a vector are `name_0`, `name_1`, ..., and none hides another."""
    found = {name: of for name, of in values.items() if np.ndim(of) == 1}
    for name, of in values.items():
        if np.ndim(of) > 1:
            parts = np.reshape(of, (len(of), -1)).T
            found |= {f"{name}_{at}": part for at, part in enumerate(parts) if f"{name}_{at}" not in found}
    return found


def _size_of(positions: np.ndarray[Any, Any]) -> float:
    """Width of a mark: a part of the distance that neighbours would have if vertices were spread evenly."""
    if len(positions) < 2:
        return 1.0
    extent = np.ptp(positions, axis=0)
    extent = extent[extent > 0]
    return float(np.prod(extent / len(positions) ** (1 / len(extent))) ** (1 / len(extent)) / 2) if len(extent) else 1.0


def _name(store: ZVStore) -> str:
    return store.url.rstrip("/").rpartition("/")[2]


def _level_name(level: ZVLevel) -> str:
    return f"{_name(level.store)} level {level.index}"
