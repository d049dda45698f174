"""The ``zarr.json`` of groups and arrays of cells (spec 0.9, 3, 4.1 and 7.1)."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from zarr_vectors_lazy.format.encoding import byte_codecs, shard_codecs
from zarr_vectors_lazy.format.keys import format_chunk_keys
from zarr_vectors_lazy.format.v09.arrays import OUR_KEY
from zarr_vectors_lazy.model.writing import ArrayDraft, Encoding, Grid, StoreDraft
from zarr_vectors_lazy.types import ChunkCoords, Floats, Json

VERSION = "0.9.2"
DOC = "zarr.json"
WRITING: Json = {OUR_KEY: {"state": "writing"}}
"""Attributes of an array whose cells are being written; for readers it is not there."""
VERTEX, SEGMENTS = "attribute", "fragment_attributes/segment_id"
LINKED: Json = {"zarr_vectors_tools": {"skeleton_layout": "linked_across_chunks"}}
VLEN: Json = {"name": "vlen-bytes", "configuration": {}}
KEYS: Json = {"name": "default", "configuration": {"separator": "/"}}


def dump(doc: Json) -> bytes:
    """Bytes of a document; a NaN that others have put in it stays, spelled as they and Zarr do."""
    return json.dumps(doc, separators=(",", ":")).encode()


def group_document(attributes: Json | None = None) -> bytes:
    """A group."""
    return dump({"zarr_format": 3, "node_type": "group", "attributes": attributes or {}})


def array_document(
    shape: Sequence[int],
    data_type: Any,
    chunk_shape: Sequence[int],
    codecs: list[Json],
    *,
    fill: Any,
    attributes: Json,
) -> bytes:
    """An array."""
    return dump(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(shape),
            "data_type": data_type,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}},
            "chunk_key_encoding": KEYS,
            "fill_value": fill,
            "codecs": codecs,
            "attributes": attributes,
            "storage_transformers": [],
        }
    )


def cells_document(
    draft: ArrayDraft, grid: Grid, coords: ChunkCoords, encoding: Encoding, stamp: Mapping[str, Any]
) -> bytes:
    """An array of cells.

    Parameters
    ----------
    coords
        (n, K) chunks that have a cell, in any order.
    stamp
        What our readers want to know of them: ``content`` changes when a cell does, ``vertex_counts`` are (n,) rows of
        each in the order of ``coords``.
    """
    keys = format_chunk_keys(coords)
    order = sorted(range(len(keys)), key=keys.__getitem__)
    attributes: Json = {"nonempty_chunks": [keys[i] for i in order]}
    if any(grid.origin):
        attributes["chunk_grid_origin"] = list(grid.origin)
    attributes.update(draft.attributes)
    attributes[OUR_KEY] = draft.attributes.get(OUR_KEY, {}) | {
        name: value[order].tolist() if isinstance(value, np.ndarray) else value for name, value in stamp.items()
    }
    return _cells_array(grid, encoding, attributes)


@lru_cache(maxsize=64)
def unfinished_cells(grid: Grid, encoding: Encoding) -> bytes:
    """An array of cells that are being written: what any cell needs to be taken, and no more."""
    return _cells_array(grid, encoding, WRITING)


def marked_cells(grid: Grid, encoding: Encoding, write_id: str) -> bytes:
    """The same; ``write_id`` tells one write from another."""
    return _cells_array(grid, encoding, {OUR_KEY: {**WRITING[OUR_KEY], "write": write_id}})


def _cells_array(grid: Grid, encoding: Encoding, attributes: Json) -> bytes:
    rank = len(grid.shape)
    codecs = [VLEN, *byte_codecs(encoding)]
    chunk_shape: tuple[int, ...] = (1,) * rank
    if encoding.shard_shape is not None:
        codecs, chunk_shape = shard_codecs(encoding, rank, codecs), encoding.shard_shape
    return array_document(grid.shape, "variable_length_bytes", chunk_shape, codecs, fill="", attributes=attributes)


def marker_document(write_id: str, *, clearing: bool) -> bytes:
    """A root that says that the store is being written, and nothing else."""
    return group_document(
        {OUR_KEY: {"state": "writing", "write": write_id, **({"clearing": True} if clearing else {})}}
    )


def root_attributes(store: StoreDraft, arrays: Sequence[ArrayDraft] = ()) -> Json:
    """Attributes of a root with level 0 alone (spec 0.9, 3.1 to 3.3), whose arrays of cells are ``arrays``."""
    block: Json = {
        "zv_version": VERSION,
        "format_capabilities": [],
        "chunk_shape": store.chunk_shape.tolist(),
        "bounds": [corner.tolist() for corner in store.bounds],
        "geometry_types": list(store.geometry_types),
        "links_convention": store.links_convention,
        "object_index_convention": "standard",
        "cross_chunk_strategy": "explicit_links",
    }
    if not store.bins_apart and not np.array_equal(store.bin_shape, store.chunk_shape):
        block["base_bin_shape"] = store.bin_shape.tolist()
    if store.crs is not None:
        block["crs"] = store.crs
    specs = {
        a.attributes["name"]: {"dtype": a.attributes["dtype"]} for a in arrays if a.attributes["zv_array"] == VERTEX
    }
    if specs:
        block["attribute_specs"] = {"vertex": specs}
    axes = [
        {"name": name, "type": "space"} | ({} if unit is None else {"unit": unit})
        for name, unit in zip(store.axes, store.units, strict=True)
    ]
    multiscale = {
        "version": "0.4",
        "name": "default",
        "axes": axes,
        "datasets": [_dataset(0, store.bin_shape, store.bin_shape)],
        "metadata": {"format": "zarr_vectors"},
    }
    scene = {"coordinateSystems": [{"name": "world", "axes": axes}], "coordinateTransformations": []}
    ome = {"version": "0.6", "type": "collection", "name": store.name, "attributes": {"scene": scene}}
    nodes = [{"type": "zv:level", "name": "0"}]
    made = {"zarr_vectors": block, "multiscales": [multiscale], "ome": {**ome, "nodes": nodes}}
    segments = any(array.path == SEGMENTS for array in arrays)
    # A skeleton whose fragments name their objects is taken for pieces that nothing joins, unless this is said.
    return made | (LINKED if segments and "skeleton" in store.geometry_types else {})


def with_levels(attributes: Json, bins: Mapping[int, Floats], base: Floats, block: Json | None = None) -> Json:
    """Attributes of a root with other levels named too; level 0 stays as it is.

    Parameters
    ----------
    attributes
        The root's.
    bins
        (D,) bin shape of each level above 0.
    base
        (D,) bin shape of level 0.
    block
        Members of ``zarr_vectors`` to set, such as ``cross_level_depth``.
    """
    first, *others = attributes["multiscales"]
    kept = [entry for entry in first["datasets"] if entry["path"] == "0"]
    datasets = [*kept, *(_dataset(level, shape, base) for level, shape in sorted(bins.items()))]
    found = {
        **attributes,
        "zarr_vectors": {**attributes["zarr_vectors"], **(block or {})},
        "multiscales": [{**first, "datasets": datasets}, *others],
    }
    if isinstance(attributes.get("ome"), dict):
        nodes = [{"type": "zv:level", "name": entry["path"]} for entry in datasets]
        found["ome"] = {**attributes["ome"], "nodes": [*nodes, *foreign_nodes(attributes["ome"])]}
    return found


def foreign_nodes(ome: Json) -> list[Any]:
    """Entries of a collection that are no levels; they are kept (spec next, 10)."""
    nodes = ome.get("nodes")
    return [node for node in nodes if not _is_level(node)] if isinstance(nodes, list) else []


def _is_level(node: Any) -> bool:
    return isinstance(node, dict) and node.get("type") == "zv:level"


def _dataset(level: int, bin_shape: Floats, base: Floats) -> Json:
    scale = (np.asarray(bin_shape) / base).tolist()
    translation = (np.asarray(bin_shape) / 2).tolist()
    transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}]
    return {"path": str(level), "coordinateTransformations": transforms}
