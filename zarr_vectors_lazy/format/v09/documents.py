"""The ``zarr.json`` of groups and arrays, as written and as changed (spec 0.9, 3, 4.1 and 7.1)."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Found
from zarr_vectors_lazy.format.codecs import byte_codecs, encode_shard, shard_codecs
from zarr_vectors_lazy.format.metadata import KEYS, parse_codecs
from zarr_vectors_lazy.format.v09.arrays import OUR_KEY, GridLayout, parse_cells, parse_layout
from zarr_vectors_lazy.model.arrays import CellArray
from zarr_vectors_lazy.model.levels import by_key
from zarr_vectors_lazy.model.writing import ArrayDraft, Encoding, Grid, Notes, StoreDraft
from zarr_vectors_lazy.requests import Put
from zarr_vectors_lazy.types import Buffer, ChunkCoords, Floats, IntArray, Json

# The ``zarr.json`` of groups and arrays of cells (spec 0.9, 3, 4.1 and 7.1).

VERSION = "0.9.2"
DOC = "zarr.json"
WRITING: Json = {OUR_KEY: {"state": "writing"}}
"""Attributes of an array whose cells are being written; readers take it for absent."""
VERTEX, SEGMENTS = "attribute", "fragment_attributes/segment_id"
LINKED: Json = {"zarr_vectors_tools": {"skeleton_layout": "linked_across_chunks"}}
VLEN: Json = {"name": "vlen-bytes", "configuration": {}}


def dump(doc: Json) -> bytes:
    """Bytes of a document; a NaN that others have put in it stays, spelled as they and Zarr do."""
    return json.dumps(doc, separators=(",", ":")).encode()


def group_document(attributes: Json | None = None) -> bytes:
    """A group."""
    return dump({"zarr_format": 3, "node_type": "group", "attributes": attributes or {}})


def array_document(
    shape: Sequence[int], data_type: Any, chunk_shape: Sequence[int], codecs: list[Json], *, fill: Any, attributes: Json
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
        What our readers want to know about them: ``content`` changes when a cell does, ``vertex_counts`` are (n,) rows
        of each in the order of ``coords``.
    """
    keys, order = by_key(coords)
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
    """An array of cells that are being written: only what is necessary to accept a cell."""
    return _cells_array(grid, encoding, WRITING)


def marked_cells(grid: Grid, encoding: Encoding, write_id: str) -> bytes:
    """The same; ``write_id`` distinguishes writes."""
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
    """Attributes of a root with only level 0 (spec 0.9, 3.1 to 3.3), whose arrays of cells are ``arrays``."""
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
    # A skeleton whose fragments name their objects is taken for unconnected pieces unless this is stated.
    return made | (LINKED if segments and "skeleton" in store.geometry_types else {})


def with_levels(attributes: Json, bins: Mapping[int, Floats], base: Floats, block: Json | None = None) -> Json:
    """Attributes of a root with other levels named too; level 0 stays as it is.

    Parameters
    ----------
    attributes
        The root's attributes.
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
    """Entries of a collection that are not levels; they are kept (spec next, 10)."""
    nodes = ome.get("nodes")
    return [node for node in nodes if not _is_level(node)] if isinstance(nodes, list) else []


def _is_level(node: Any) -> bool:
    return isinstance(node, dict) and node.get("type") == "zv:level"


def _dataset(level: int, bin_shape: Floats, base: Floats) -> Json:
    scale = (np.asarray(bin_shape) / base).tolist()
    translation = (np.asarray(bin_shape) / 2).tolist()
    transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}]
    return {"path": str(level), "coordinateTransformations": transforms}


# Additions to the documents of a store: counts of vertices by chunk (which `arrays` reads), dtypes.

COUNTS = "vertex_counts"


def without_counts(doc: Json) -> Json:
    """Document of an array without counts."""
    attributes = doc.get("attributes")
    ours = attributes.get(OUR_KEY) if isinstance(attributes, dict) else None
    if not isinstance(attributes, dict) or not isinstance(ours, dict) or COUNTS not in ours:
        return doc
    rest = {name: value for name, value in ours.items() if name != COUNTS}
    bare = {name: value for name, value in attributes.items() if name != OUR_KEY}
    return {**doc, "attributes": bare | ({OUR_KEY: rest} if rest else {})}


def with_counts(doc: Json, order: IntArray, counts: IntArray) -> bytes:
    """Document of an array of vertices with the rows of each chunk.

    Parameters
    ----------
    order
        (n,) position of each chunk in the document's own list.
    counts
        (n,) rows of each chunk.
    """
    listed = np.empty(len(counts), np.int64)
    listed[order] = counts
    attributes = doc["attributes"]
    ours = attributes.get(OUR_KEY)
    stamp = {**(ours if isinstance(ours, dict) else {}), COUNTS: listed.tolist()}
    return dump({**doc, "attributes": {**attributes, OUR_KEY: stamp}})


def with_total(doc: Json, total: int) -> bytes:
    """Document of a level with its number of vertices."""
    attributes = doc["attributes"]
    block = {**attributes["zarr_vectors_level"], "vertex_count": total}
    return dump({**doc, "attributes": {**attributes, "zarr_vectors_level": block}})


def with_spec(doc: Json, draft: ArrayDraft, beside: Collection[str]) -> bytes | None:
    """Root that also names a new vertex attribute; None if it does not name the existing ones.

    Viewers show what it names, and nothing else (spec 0.9, 3.1).
    """
    attributes = doc["attributes"]
    specs = attributes["zarr_vectors"].get("attribute_specs", {})
    vertex = specs.get("vertex", {}) if isinstance(specs, dict) else None
    if not isinstance(vertex, dict) or not vertex.keys() >= set(beside):
        return None
    told = {**vertex, draft.attributes["name"]: {"dtype": draft.attributes["dtype"]}}
    block = {**attributes["zarr_vectors"], "attribute_specs": {**specs, "vertex": told}}
    return dump({**doc, "attributes": {**attributes, "zarr_vectors": block}})


# What a copy keeps of a store's metadata in addition to what its writer states: all but layout (spec 0.9, 2; next, 2,
# 10).

ROOT = frozenset({"zarr_vectors", "multiscales", "ome", OUR_KEY, "shard_layout", "shard_size"})
BLOCK = frozenset({
    "zv_version", "chunk_shape", "bounds", "geometry_types", "links_convention", "object_index_convention",
    "cross_chunk_strategy", "base_bin_shape", "cross_level_depth", "cross_level_storage", "reduction_factor",
    "format_capabilities", "required_capabilities", "manifest_layout",
})  # fmt: skip
"""Members of ``zarr_vectors`` that describe layout, and so are not copied."""
LEVEL_NODE = frozenset({"zarr_vectors_level", "zarr_vectors_presence", OUR_KEY})
LEVEL = frozenset({
    "level", "vertex_count", "arrays_present", "object_sparsity", "coarsening_method", "parent_level", "chunk_shape",
    "chunk_dims", "chunk_attribute_name", "chunk_attribute_values", "preserves_object_ids", "inherited_num_objects",
    "shared_fragments", "fragments_tile", "bin_shape", "bin_ratio", "refinement", "fragment_link_groups",
    "zarr_vectors_presence", OUR_KEY,
})  # fmt: skip
ARRAY = frozenset({
    "zv_array", "zvf_array", "name", "dtype", "logical_dtype", "row_shape", "shape", "num_channels", "nonempty_chunks",
    "chunk_grid_origin", "shard_index", "cell_codec", "offsets", "has_perm", "link_width", "level_delta", "num_links",
    "num_physical_records", "directed", "store", "sid_ndim", "num_groups", "group_ranges", "num_objects",
    "num_present", "layout", "object_ids_sorted", "fill_sentinel_meaning", "has_present_mask", OUR_KEY,
})  # fmt: skip
CODED = frozenset({"encoding", "categories", "_FillValue"})
"""For cells, writers state them. For rows of objects and groups, which are copied as stored, they are kept."""
DENSE = ("object_attributes/", "group_attributes/")
STATED = ("channel_names", "ordered")
"""What writers state about an attribute, but its source knows better."""
ANY = "*"
"""Any array in a folder, in the path of a note."""
BLOCKS = ("zarr_vectors_level", OUR_KEY)
OURS = ("aggregate",)
"""What we say about an attribute, other than stamps of its cells."""


def kept(path: str, attributes: Json) -> Json:
    """Attributes of the node at ``path`` below a level, ``""`` for the level's own, that do not describe layout."""
    if not path:
        block = attributes.get("zarr_vectors_level")
        own = _without(block, LEVEL) if isinstance(block, dict) else {}
        return _without(attributes, LEVEL_NODE) | ({"zarr_vectors_level": own} if own else {})
    found = _without(attributes, ARRAY if path.startswith(DENSE) else ARRAY | CODED)
    ours = attributes.get(OUR_KEY)
    said = {name: ours[name] for name in OURS if name in ours} if isinstance(ours, dict) else {}
    return found | ({OUR_KEY: said} if said else {})


def with_notes(put: Put, notes: Notes) -> Put:
    """Return the document of a node of a copy with what it keeps."""
    path, _, name = put.key.rpartition("/")
    family = path.rpartition("/")[0]
    found = notes.nodes.get(path) or notes.nodes.get(f"{family}/{ANY}") if name == DOC else None
    if not found:
        return put
    doc = json.loads(bytes(put.data))
    return Put(put.key, dump({**doc, "attributes": _joined(found, doc["attributes"])}), array=put.array)


def _joined(source: Json, made: Json) -> Json:
    stated = {name: made[name] for name in STATED if name in made}
    known = {name: source[name] for name in stated if name in source and _alike(source[name], stated[name])}
    out = _beside(made, source) | known
    return out | {name: _beside(made[name], source[name]) for name in BLOCKS if name in made and name in source}


def _alike(source: Any, made: Any) -> bool:
    return type(source) is type(made) and (not isinstance(made, list) or len(source) == len(made))


def root_with_notes(made: Json, notes: Notes) -> Json:
    """Attributes of a copy's root: what its writer states, and what the source states except layout."""
    source = notes.root
    if not source:
        return made
    out = _beside(made, _without(source, ROOT))
    out["zarr_vectors"] = _beside(made["zarr_vectors"], _without(source["zarr_vectors"], BLOCK))
    specs, own = source["zarr_vectors"].get("attribute_specs"), made["zarr_vectors"].get("attribute_specs")
    if isinstance(specs, dict) and own:
        told = specs["vertex"] if isinstance(specs.get("vertex"), dict) else {}
        vertex = {
            name: (told[name] if isinstance(told.get(name), dict) else {}) | of for name, of in own["vertex"].items()
        }
        out["zarr_vectors"]["attribute_specs"] = specs | {"vertex": vertex}
    (stated, *_), (first, *others) = source["multiscales"], made["multiscales"]
    multiscale = _beside(first, _without(stated, {"coordinateTransformations"}))
    multiscale["axes"] = [own | given for own, given in zip(first["axes"], stated["axes"], strict=True)]
    metadata = stated.get("metadata")
    multiscale["metadata"] = _beside(first["metadata"], metadata) if isinstance(metadata, dict) else first["metadata"]
    multiscale["name"] = stated.get("name", first["name"])
    out["multiscales"] = [multiscale, *others]
    ome = source.get("ome")
    if isinstance(ome, dict):
        own = {"name": made["ome"]["name"], "nodes": [*made["ome"]["nodes"], *foreign_nodes(ome)]}
        out["ome"] = made["ome"] | ome | own
    return out


def _beside(made: Json, source: Json) -> Json:
    """Members of both; the new ones come first and win."""
    return {**made, **_without(source, made)}


def _without(attributes: Json, names: Any) -> Json:
    return {name: value for name, value in attributes.items() if name not in names}


# Cells of an array moved into other objects, with their bytes unchanged (spec 0.9, 4.1 and 4.3).
#
# The new objects have keys that no old one has: `c.0.0` instead of `c/0/0`. So they can be written while the old ones
# are read, and one put of the array's document switches from the old to the new.

OTHER = {"/": ".", ".": "/"}


@dataclass(frozen=True, slots=True, eq=False)
class Resharding:
    """An array as it is and as it will be.

    Parameters
    ----------
    array
        The array as it is.
    layout
        Layout of its cells as they will be.
    doc
        The new document.
    """

    array: CellArray
    layout: GridLayout
    doc: bytes


def is_cell_array(doc: Json) -> bool:
    """Whether a document is that of an array of cells."""
    attributes = doc.get("attributes")
    return doc.get("node_type") == "array" and isinstance(attributes, dict) and "nonempty_chunks" in attributes


def stale_prefix(node: Found) -> str:
    """Beginning of the keys that cells of an array would have in its other form."""
    layout = parse_cells(node).spec.layout
    assert isinstance(layout, GridLayout)
    return f"{node.path}/c{OTHER[layout.separator]}"


def plan_resharding(node: Found, shard_shape: tuple[int, ...] | None) -> Resharding | None:
    """How the cells of an array get into shards of that shape, or each into an object; None if they are already there.

    Raises
    ------
    FormatError
        If its cells cannot be separated without decoding them.
    """
    array = parse_cells(node)
    layout = array.spec.layout
    assert isinstance(layout, GridLayout)
    codecs = parse_codecs(node.doc.get("codecs"), node.path)
    inner = codecs
    if [codec["name"] for codec in codecs] == ["sharding_indexed"]:
        if layout.shards is None:
            raise FormatError("its shards cannot be split without decoding them", where=node.path)
        inner = parse_codecs(codecs[0]["configuration"].get("codecs"), node.path)
    if (None if layout.shards is None else layout.shards.shape) == shard_shape:
        return None
    rank = len(layout.origin)
    doc = {
        **node.doc,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shard_shape or (1,) * rank)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": OTHER[layout.separator]}},
        "codecs": inner if shard_shape is None else shard_codecs(Encoding(), rank, inner),
    }
    return Resharding(array, parse_layout(Found(node.path, doc, ""), layout.origin), dump(doc))


def pack_puts(layout: GridLayout, coords: ChunkCoords, raws: Sequence[Buffer]) -> list[Put]:
    """Objects that hold encoded cells; with shards, all cells of each shard must be among them."""
    if layout.shards is None:
        keys = map(layout.object_key, layout.zarr_indices(coords))
        return [Put(key, bytes(raw)) for key, raw in zip(keys, raws, strict=True)]
    puts = []
    for index, mine, at in cut_shards(layout.zarr_indices(coords), layout.shards.shape):
        data = encode_shard([bytes(raws[i]) for i in mine.tolist()], at, layout.shards.cells)
        puts.append(Put(layout.object_key(index), data))
    return puts


def cut_shards(indices: IntArray, shape: tuple[int, ...]) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
    """For each shard of some cells: its index, which cells lie in it, and their places there, ascending."""
    edges = np.asarray(shape, np.int64)
    at = np.ravel_multi_index(tuple((indices % edges).T), shape)
    shards, member = np.unique(indices // edges, axis=0, return_inverse=True)
    for shard, index in enumerate(shards):
        mine = np.flatnonzero(member.reshape(-1) == shard)
        mine = mine[np.argsort(at[mine], kind="stable")]
        yield index, mine, at[mine]


def array_form(node: Found) -> tuple[Grid, Encoding]:
    """Grid of an array of cells, and how to store a new array like it: in the same way, if we write such cells."""
    layout = parse_cells(node).spec.layout
    assert isinstance(layout, GridLayout)
    shape = None if layout.shards is None else layout.shards.shape
    names = () if layout.pipeline is None else layout.pipeline.names
    compressor = names[0] if names and names[0] != "crc32c" else None
    grid = Grid(origin=layout.origin, shape=tuple(node.doc["shape"]))
    if layout.pipeline is None or compressor not in ("zstd", "blosc", None):
        return grid, Encoding(shard_shape=shape)
    return grid, Encoding(compressor=compressor, checksum="crc32c" in names, shard_shape=shape)  # type: ignore[arg-type]
