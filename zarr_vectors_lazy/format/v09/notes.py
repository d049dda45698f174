"""What a copy keeps of a store's metadata besides what its writer states: all but layout (spec 0.9, 2; next, 2, 10)."""

import json
from typing import Any

from zarr_vectors_lazy.format.v09.arrays import OUR_KEY
from zarr_vectors_lazy.format.v09.documents import DOC, dump, foreign_nodes
from zarr_vectors_lazy.model.writing import Notes
from zarr_vectors_lazy.requests import Put
from zarr_vectors_lazy.types import Json

ROOT = frozenset({"zarr_vectors", "multiscales", "ome", OUR_KEY, "shard_layout", "shard_size"})
BLOCK = frozenset({
    "zv_version", "chunk_shape", "bounds", "geometry_types", "links_convention", "object_index_convention",
    "cross_chunk_strategy", "base_bin_shape", "cross_level_depth", "cross_level_storage", "reduction_factor",
    "format_capabilities", "required_capabilities", "manifest_layout",
})  # fmt: skip
"""Members of ``zarr_vectors`` that are about layout, and so not those of a copy."""
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
"""Of cells: writers state them. Of rows of objects and groups, which are carried as they are stored, they are kept."""
DENSE = ("object_attributes/", "group_attributes/")
STATED = ("channel_names", "ordered")
"""What writers state of an attribute and its source knows better."""
ANY = "*"
"""Name of whichever array there is in a folder, in the path of a note."""
BLOCKS = ("zarr_vectors_level", OUR_KEY)
OURS = ("aggregate",)
"""What we say of an attribute that is no stamp of its cells."""


def kept(path: str, attributes: Json) -> Json:
    """Attributes of the node at ``path`` below a level, ``""`` for the level's own, that are not about layout."""
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
    """Attributes of a copy's root: what its writer states, and what the source's states that is not about layout."""
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
    """Members of both, those that are made first and as they are."""
    return {**made, **_without(source, made)}


def _without(attributes: Json, names: Any) -> Json:
    return {name: value for name, value in attributes.items() if name not in names}
