"""Root and level metadata, nearly alike in all generations (spec 0.9, 3; spec 0.7, 2)."""

import re
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Found
from zarr_vectors_lazy.format.limits import MAX_AXES
from zarr_vectors_lazy.format.nodes import MAX_INDEX, parse_values
from zarr_vectors_lazy.model.levels import LevelMeta, StoreMeta
from zarr_vectors_lazy.types import Floats, Json

LEVEL = re.compile("0|[1-9][0-9]{0,8}")


def parse_root(root: Found, children: tuple[str, ...] | None) -> StoreMeta:
    """Parse the root's attributes (spec 0.9, 3.1 and 3.2).

    Raises
    ------
    FormatError
        If a required field is missing or contradicts another.
    """
    block = root.attributes["zarr_vectors"]
    version = block.get("zv_version")
    if not isinstance(version, str):
        raise FormatError(f"zarr_vectors.zv_version must be text like '0.9.2', found {version!r}", where=root.path)
    multiscale = _multiscale(root)
    axes = multiscale.get("axes")
    if not isinstance(axes, list) or not all(isinstance(axis, dict) and "name" in axis for axis in axes) or not axes:
        raise FormatError(f"multiscales[0].axes must be a list of named axes, found {axes!r}", where=root.path)
    ndim = len(axes)
    if ndim > MAX_AXES:
        raise FormatError(f"multiscales[0] has {ndim} axes, at most {MAX_AXES} are read", where=root.path)
    chunk_shape = numbers(block.get("chunk_shape"), ndim, "zarr_vectors.chunk_shape", root.path, positive=True)
    declared_bin = block.get("base_bin_shape")
    bin_shape = (
        chunk_shape if declared_bin is None else numbers(declared_bin, ndim, "base_bin_shape", root.path, positive=True)
    )
    bounds = block.get("bounds")
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise FormatError(f"zarr_vectors.bounds must be [lo, hi], found {bounds!r}", where=root.path)
    lo, hi = (numbers(corner, ndim, "zarr_vectors.bounds", root.path) for corner in bounds)
    geometries = block.get("geometry_types")
    if not isinstance(geometries, list) or not all(isinstance(name, str) for name in geometries):
        raise FormatError(f"zarr_vectors.geometry_types must be a list of names, found {geometries!r}", where=root.path)
    bins = _bins(multiscale, ndim, bin_shape, root.path, declared=declared_bin is not None)
    bin_shape = bins.get(0, bin_shape)
    names = {int(name) for name in (children or ()) if LEVEL.fullmatch(name)}
    offset = block.get("coordinate_offset")
    return StoreMeta(
        version=version,
        axes=tuple(str(axis["name"]) for axis in axes),
        axis_types=tuple(str(axis.get("type", "space")) for axis in axes),
        units=tuple(axis.get("unit") for axis in axes),
        chunk_shape=chunk_shape,
        bin_shape=bin_shape,
        bounds=(lo, hi),
        geometry_types=tuple(geometries),
        links_convention=block.get("links_convention") or "implicit_sequential",
        level_names=tuple(sorted(names | set(bins))),
        bins=bins,
        crs=block.get("crs"),
        coordinate_offset=None if offset is None else numbers(offset, ndim, "coordinate_offset", root.path),
        attributes=root.attributes,
    )


def parse_level(node: Found, store: StoreMeta, level: int) -> LevelMeta:
    """Parse a level's attributes (spec 0.9, 3.4).

    Raises
    ------
    FormatError
        If the node is no level, or contradicts the root.
    """
    block = node.attributes.get("zarr_vectors_level")
    if not isinstance(block, dict):
        raise FormatError("a level's attributes must have 'zarr_vectors_level'", where=node.path)
    if block.get("level", level) != level:
        raise FormatError(f"group {level} says that it is level {block.get('level')!r}", where=node.path)
    chunk_shape = store.chunk_shape
    if block.get("chunk_shape") is not None:
        chunk_shape = numbers(block["chunk_shape"], store.ndim, "chunk_shape", node.path, positive=True)
    bin_shape = store.bins.get(level)
    if bin_shape is None:
        bin_shape = _legacy_bin(block, store, node.path)
    count = block.get("vertex_count")
    if count is not None and (not isinstance(count, int) or not 0 <= count <= MAX_INDEX):
        raise FormatError(f"vertex_count must be a whole number, found {count!r}", where=node.path)
    return LevelMeta(
        index=level,
        chunk_shape=chunk_shape,
        bin_shape=bin_shape,
        vertex_count=count,
        chunk_attribute=_chunk_attribute(block, node.path),
        fragments_tile=bool(block.get("fragments_tile", False)),
        link_groups=bool(block.get("fragment_link_groups", False)),
        attributes=node.attributes,
    )


def numbers(value: Any, length: int, name: str, where: str, *, positive: bool = False) -> Floats:
    """(length,) float64 of a JSON list, checked."""
    good = isinstance(value, list) and len(value) == length
    if not good or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
        raise FormatError(f"{name} must be {length} numbers, found {value!r}", where=where)
    try:
        array = np.asarray(value, np.float64)
    except OverflowError as error:
        raise FormatError(f"{name} must fit in 64 bits, found {value!r}", where=where) from error
    if np.isnan(array).any():
        raise FormatError(f"{name} must be numbers, found {value!r}", where=where)
    if positive and not (np.isfinite(array) & (array > 0)).all():
        raise FormatError(f"{name} must be positive, found {value!r}", where=where)
    return array


def _multiscale(root: Found) -> Json:
    multiscales = root.attributes.get("multiscales")
    if not isinstance(multiscales, list) or not multiscales or not isinstance(multiscales[0], dict):
        raise FormatError(f"the root needs a 'multiscales' list, found {multiscales!r}", where=root.path)
    return multiscales[0]


def _bins(multiscale: Json, ndim: int, base: Floats, where: str, *, declared: bool) -> dict[int, Floats]:
    """Bin shape by level: twice the translation, else scale times the base bin (spec 0.9, 3.2)."""
    bins: dict[int, Floats] = {}
    for dataset in _objects(multiscale.get("datasets"), "datasets", where):
        path = str(dataset.get("path", ""))
        if not LEVEL.fullmatch(path):
            continue
        listed = _objects(dataset.get("coordinateTransformations"), "coordinateTransformations", where)
        transforms = {str(transform.get("type")): transform for transform in listed}
        if "translation" in transforms:
            shape = 2 * numbers(transforms["translation"].get("translation"), ndim, "translation", where)
        elif "scale" in transforms:
            shape = base * numbers(transforms["scale"].get("scale"), ndim, "scale", where)
        else:
            shape = base
        bins[int(path)] = shape if (shape > 0).all() else base
    if 0 in bins and (declared or not _divides(bins[0], base)):
        bins[0] = base
    return bins


def _divides(bins: Floats, chunk: Floats) -> bool:
    """Whether bins make chunks: then level 0 tells the bins of rows that are not in their order, as we write them."""
    ratio = chunk / bins
    return bool((np.abs(ratio - np.rint(ratio)) < 1e-6).all() and (np.rint(ratio) >= 1).all())


def _objects(value: Any, name: str, where: str) -> list[Json]:
    found = [] if value is None else value
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise FormatError(f"multiscales[0].{name} must be a list of objects, found {value!r}", where=where)
    return found


def _legacy_bin(block: Json, store: StoreMeta, where: str) -> Floats:
    if block.get("bin_shape") is not None:
        return numbers(block["bin_shape"], store.ndim, "bin_shape", where, positive=True)
    if block.get("bin_ratio") is not None:
        return store.bin_shape * numbers(block["bin_ratio"], store.ndim, "bin_ratio", where, positive=True)
    return store.bin_shape


def _chunk_attribute(block: Json, where: str) -> tuple[str, np.ndarray[Any, Any]] | None:
    name, values = block.get("chunk_attribute_name"), block.get("chunk_attribute_values")
    if name is None and values is None:
        return None
    if not isinstance(name, str) or values is None:
        raise FormatError(f"chunk_attribute_name {name!r} needs chunk_attribute_values, found {values!r}", where=where)
    return name, parse_values(values, "chunk_attribute_values", where)
