"""Generation 0.9.2 behind the interface of ``format.writing``."""

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from zarr_vectors_lazy.format.base import Found
from zarr_vectors_lazy.format.codecs import encode_cell, encode_shard
from zarr_vectors_lazy.format.keys import format_delta
from zarr_vectors_lazy.format.v09 import documents, objects
from zarr_vectors_lazy.format.v09.arrays import OUR_KEY, parse_cells
from zarr_vectors_lazy.format.v09.documents import DOC, root_with_notes
from zarr_vectors_lazy.format.v09.generation import SEGMENT_ID, VERTEX_COUNT
from zarr_vectors_lazy.format.v09.links import SELF, parse_offsets
from zarr_vectors_lazy.format.vectors import LOGICAL_DTYPE, dictionary_attributes, is_time
from zarr_vectors_lazy.model.arrays import CellSpec, Dictionary, missing_integer
from zarr_vectors_lazy.model.objects import Manifests
from zarr_vectors_lazy.model.writing import (
    ArrayDraft,
    Cells,
    Encoding,
    Grid,
    LevelDraft,
    LevelRecord,
    LinkFamilyDraft,
    Notes,
    StoreDraft,
)
from zarr_vectors_lazy.requests import Put
from zarr_vectors_lazy.types import Floats, IntArray, Json

LINK = "int64"
Values: TypeAlias = np.ndarray[Any, Any]


class Writing09:
    """Stores of format 0.9.2."""

    name = "0.9"
    version = documents.VERSION

    def vertices(self, dtype: np.dtype[Any]) -> ArrayDraft:
        """The positions (spec 0.9, 5.1)."""
        attributes = {"zv_array": "vertices", "dtype": dtype.name, "encoding": "raw"}
        return ArrayDraft(path="vertices", attributes=attributes)

    def fragments(self) -> ArrayDraft:
        """The fragment indexes (spec 0.9, 5.2)."""
        return ArrayDraft(
            path="vertex_fragments", attributes={"zv_array": "vertex_fragments", "encoding": "fragment_index_v1"}
        )

    def attribute(
        self,
        name: str,
        dtype: np.dtype[Any],
        row_shape: tuple[int, ...] = (),
        *,
        dictionary: Dictionary | None = None,
        of: str = "vertex",
        ours: Json | None = None,
    ) -> ArrayDraft:
        """An attribute of vertices, or of fragments: ``of="fragment"`` (spec 0.9, 6); ``ours`` is what we say of it."""
        kind = "attribute" if of == "vertex" else "fragment_attribute"
        attributes: Json = {"zv_array": kind, "name": name, "dtype": objects.dtype_name(dtype)}
        if row_shape:
            attributes["channel_names"] = [f"ch{i}" for i in range(math.prod(row_shape))]
        attributes["row_shape"] = list(row_shape)
        if is_time(dtype):
            nat = missing_integer(np.dtype(np.int64))
            attributes |= {LOGICAL_DTYPE: str(dtype.newbyteorder("=")), "_FillValue": nat}
        if dictionary is not None:
            attributes.update(dictionary_attributes(dictionary))
        if ours:
            attributes[OUR_KEY] = ours
        return ArrayDraft(path=f"{of}_attributes/{name}", attributes=attributes)

    def cell_spec(self, level: int, draft: ArrayDraft, grid: Grid, encoding: Encoding) -> CellSpec:
        """How the cells of an array that is being written are read, before its metadata are there."""
        nothing = np.empty((0, len(grid.shape)), np.int64)
        doc = json.loads(documents.cells_document(draft, grid, nothing, encoding, {}))
        return parse_cells(Found(f"{level}/{draft.path}", doc, "")).spec

    def link_path(self, delta: int, segment: str) -> str:
        """Path of a segment's records below the level."""
        return f"links/{format_delta(delta)}/{segment}"

    def offsets(self, segment: str, width: int, rank: int) -> IntArray:
        """(L - 1, K) chunk offsets that a segment's name states."""
        return parse_offsets(segment, width, rank, segment)

    def link_attribute_path(self, name: str, delta: int, segment: str) -> str:
        """Path of a segment's values of a link attribute below the level."""
        return f"link_attributes/{name}/{format_delta(delta)}/{segment}"

    def is_within(self, delta: int, segment: str) -> bool:
        """Whether a segment's records lie inside one chunk of the level, and so have `link_fragments`."""
        return delta == 0 and segment != SELF and not set(segment) & set("+-")

    owner_names = ("object_id", SEGMENT_ID)
    """Attributes of fragments that name their objects."""

    def fragment_owners(self, object_attributes: Collection[str]) -> ArrayDraft:
        """Ids of the objects of fragments, beside object attributes of these names.

        Others colour and pick by ``segment_id``, which is the id where objects have one too (spec next, 20); where an
        attribute of the objects is called so, it is something else.
        """
        if SEGMENT_ID in object_attributes:
            return self.attribute("object_id", np.dtype(np.int64), of="fragment")
        return self.attribute(SEGMENT_ID, np.dtype(np.uint64), of="fragment", ours={"owners": "ids"})

    def fragment_rows(self, ids: IntArray) -> tuple[ArrayDraft, ...]:
        """Ids of the objects of fragments once more, where they are the rows of the objects.

        zarr-vectors-tools coarsens skeletons by ``object_id``, which it takes for a row, of uint64.
        """
        rows = np.array_equal(ids, np.arange(len(ids)))
        return (self.attribute("object_id", np.dtype(np.uint64), of="fragment"),) if rows else ()

    def told_puts(
        self,
        level: int,
        ids: IntArray | None,
        vertices: IntArray,
        object_attributes: Collection[str],
        encoding: Encoding,
    ) -> list[Put]:
        """What others want to know of objects without their manifests, as attributes beside ``object_attributes``.

        Parameters
        ----------
        ids
            (O,) of the objects; None where they are row numbers and need not be told.
        vertices
            (O,) that their manifests name, on this level.
        """
        family = "object_attributes"
        wide = np.uint32 if vertices.max(initial=0) < 2**32 else np.uint64
        told = {} if ids is None else {SEGMENT_ID: (ids.astype(np.uint64), "ids")}
        told[VERTEX_COUNT] = vertices.astype(wide), "vertices"
        puts = [] if object_attributes else [Put(f"{level}/{family}/{DOC}", documents.group_document())]
        for name, (values, what) in told.items():
            if name not in object_attributes:
                said = {OUR_KEY: {"repeats": what}}
                puts += objects.dense_attribute(level, family, name, values, encoding, more=said)
        return puts

    def recounted(self, attributes: Mapping[str, Values], vertices: IntArray) -> dict[str, Values]:
        """Attributes of the objects of a copy: the count of vertices that others keep among them is made anew."""
        old = attributes.get(VERTEX_COUNT)
        if old is None or old.dtype.kind not in "iu" or old.ndim > 1:
            return dict(attributes)
        dtype = np.result_type(old.dtype, np.min_scalar_type(int(vertices.max(initial=0))))
        return {**attributes, VERTEX_COUNT: vertices.astype(dtype)}

    @property
    def link_fragments(self) -> str:
        """Path of the fragment indexes of the records inside chunks, below the level."""
        return "link_fragments"

    def cell_puts(self, level: int, cells: Cells, grid: Grid, encoding: Encoding) -> list[Put]:
        """Encode cells; with shards, all cells of each shard must be among them (spec 0.9, 4.3)."""
        indices = cells.coords - np.asarray(grid.origin, np.int64)
        prefix = f"{level}/{cells.path}/c/"
        array = documents.unfinished_cells(grid, encoding)
        if encoding.shard_shape is None:
            keys = ["/".join(map(str, index)) for index in indices.tolist()]
            return [
                Put(prefix + key, encode_cell(payload, encoding), unread=True, array=array)
                for key, payload in zip(keys, cells.payloads, strict=True)
            ]
        return self._shard_puts(prefix, indices, cells.payloads, encoding, array)

    def _shard_puts(
        self, prefix: str, indices: IntArray, payloads: Sequence[Any], encoding: Encoding, array: bytes
    ) -> list[Put]:
        assert encoding.shard_shape is not None
        shape = np.asarray(encoding.shard_shape, np.int64)
        at = np.ravel_multi_index(tuple((indices % shape).T), encoding.shard_shape)
        shards, member = np.unique(indices // shape, axis=0, return_inverse=True)
        puts = []
        for shard, index in enumerate(shards.tolist()):
            mine = np.flatnonzero(member.reshape(-1) == shard)
            mine = mine[np.argsort(at[mine], kind="stable")]
            encoded = [encode_cell(payloads[i], encoding) for i in mine.tolist()]
            data = encode_shard(encoded, at[mine], math.prod(encoding.shard_shape))
            puts.append(Put(prefix + "/".join(map(str, index)), data, unread=True, array=array))
        return puts

    def level_puts(
        self, draft: LevelDraft, record: LevelRecord, grid: Grid, encoding: Encoding, beside: Sequence[Put] = ()
    ) -> list[Put]:
        """Metadata of a level and its arrays of cells, from what its tasks wrote; the level's own node is the last.

        That tells the level's content: a digest of the documents, which tell that of cells and manifests, and of what
        is put ``beside`` them.
        """
        drafts = {array.path: array for array in draft.arrays}
        groups: dict[str, Json] = {}
        for family in draft.families:
            groups.update(self._family_groups(family, draft.rank))
        found = []
        none = np.empty((0, draft.rank), np.int64)
        for path in sorted(drafts.keys() | record.cells.keys()):
            array, coords = drafts.get(path) or self._link_draft(path, draft), record.cells.get(path, none)
            stamp: Json = {"content": f"{record.content.get(path, 0):016x}"}
            if path == "vertices":
                stamp["vertex_counts"] = record.counts
            doc = documents.cells_document(array, grid, coords, encoding, stamp)
            found.append(Put(f"{draft.level}/{path}/{DOC}", doc))
            parts = path.split("/")[:-1]
            for depth in range(1, len(parts) + 1):
                groups.setdefault("/".join(parts[:depth]), {})
        found += [Put(f"{draft.level}/{path}/{DOC}", documents.group_document(groups[path])) for path in sorted(groups)]
        return [*found, Put(f"{draft.level}/{DOC}", self._level_document(draft, record, [*found, *beside]))]

    def _level_document(self, draft: LevelDraft, record: LevelRecord, puts: Sequence[Put]) -> bytes:
        present = {path.partition("/")[0] for path in record.cells} | set(draft.attributes.get("arrays_present", ()))
        block: Json = {
            "level": draft.level,
            "object_sparsity": 1.0,
            "vertex_count": record.vertex_count,
            "coarsening_method": "none",
            "parent_level": None,
            **draft.attributes,
            "arrays_present": sorted(present),
        }
        # Not the manifests, which others may have put and whose digest their document tells, nor names of groups, which
        # notes bring where the store is a copy.
        kept = [put for put in puts if put.key.endswith(DOC) or "/object_index/" not in put.key]
        kept = [put for put in kept if put.key != f"{draft.level}/groups/{DOC}"]
        told = [documents.dump(block).decode(), *sorted(f"{put.key}:{objects.put_digest(put)}" for put in kept)]
        content = hashlib.blake2b("\n".join(told).encode(), digest_size=8).hexdigest()
        return documents.group_document({"zarr_vectors_level": block, OUR_KEY: {"content": content}})

    def _family_groups(self, family: LinkFamilyDraft, rank: int) -> dict[str, Json]:
        delta = format_delta(family.delta)
        policy: Json = {
            "zv_array": "links_family",
            "level_delta": family.delta,
            "link_width": family.width,
            "directed": family.directed,
            "store": "canonical",
            "sid_ndim": rank,
            "num_links": family.count,
            "num_physical_records": family.count,
        }
        groups = {"links": {}, f"links/{delta}": policy}
        for name in family.values:
            groups |= {"link_attributes": {}, f"link_attributes/{name}": {}}
            groups[f"link_attributes/{name}/{delta}"] = {
                "zv_array": "link_attribute_family",
                "name": name,
                "level_delta": family.delta,
                "num_links": family.count,
            }
        return groups

    def _link_draft(self, path: str, draft: LevelDraft) -> ArrayDraft:
        if path == self.link_fragments:
            return ArrayDraft(path=path, attributes={"zv_array": "link_fragments", "encoding": "fragment_index_v1"})
        parts = path.split("/")
        family = next(family for family in draft.families if format_delta(family.delta) == parts[-2])
        offsets = parse_offsets(parts[-1], family.width, draft.rank, path)
        if parts[0] == "links":
            attributes: Json = {
                "zv_array": "links",
                "dtype": LINK,
                "offsets": offsets.tolist(),
                "has_perm": bool(offsets.any()) and family.delta == 0 and not family.directed,
                "link_width": family.width,
                "level_delta": family.delta,
            }
            return ArrayDraft(path=path, attributes=attributes)
        dtype, row_shape = family.values[parts[1]]
        attributes = {
            "zv_array": "link_attribute",
            "name": parts[1],
            "dtype": objects.dtype_name(dtype),
            "offsets": offsets.tolist(),
            "level_delta": family.delta,
            "row_shape": list(row_shape),
        }
        if parts[1] in family.fills:
            attributes["_FillValue"] = family.fills[parts[1]]
        return ArrayDraft(path=path, attributes=attributes)

    def object_puts(
        self, level: int, ids: IntArray | None, manifests: Manifests, rank: int, encoding: Encoding
    ) -> list[Put]:
        """The object index; ``ids`` (O,) ascending, None where they are row numbers (spec 0.9, 8)."""
        return objects.object_index(level, ids, manifests, rank, encoding)

    def object_documents(
        self,
        level: int,
        ids: IntArray | None,
        count: tuple[int, int],
        content: Sequence[str],
        *,
        rank: int,
        encoding: Encoding,
    ) -> list[Put]:
        """The object index but its manifests; ``content`` tells what these are (spec 0.9, 8)."""
        return objects.object_documents(level, ids, count, content, rank=rank, encoding=encoding)

    shard_rows = objects.MANIFEST_ROWS
    """Objects whose manifests share a stored chunk."""

    def manifest_put(self, level: int, shard: int, manifests: Manifests, rows: int, encoding: Encoding) -> Put:
        """Manifests of the objects of one shard, of ``rows`` objects in all (spec 0.9, 8)."""
        return objects.manifest_shard(level, shard, manifests, rows, encoding)

    def digest(self, put: Put) -> str:
        """Text that changes with a put's bytes."""
        return objects.put_digest(put)

    def fill_value(self, dtype: np.dtype[Any]) -> Any:
        """Value of absent rows of an object attribute (spec 0.9, 8)."""
        return objects.fill_value(dtype)

    def group_puts(
        self, level: int, members: Sequence[IntArray], names: Sequence[str] | None, encoding: Encoding
    ) -> list[Put]:
        """Groups of object ids, by group number (spec 0.9, 8)."""
        return objects.groups(level, members, names, encoding)

    def dense_puts(
        self, level: int, family: str, values: Mapping[str, np.ndarray[Any, Any]], encoding: Encoding
    ) -> list[Put]:
        """Rows of ``"object_attributes"`` (aligned with manifests) or ``"group_attributes"``, by name (spec 0.9, 8)."""
        if not values:
            return []
        puts = [put for name in values for put in objects.dense_attribute(level, family, name, values[name], encoding)]
        return [Put(f"{level}/{family}/{DOC}", documents.group_document()), *puts]

    def marker(self, write_id: str, *, clearing: bool = False) -> Put:
        """A root that says that the store is being written; ``write_id`` tells one write from another.

        Parameters
        ----------
        write_id
            Of the write.
        clearing
            Whether what was there before is being deleted still.
        """
        return Put(DOC, documents.marker_document(write_id, clearing=clearing))

    def root(self, store: StoreDraft, arrays: Sequence[ArrayDraft], notes: Notes | None = None) -> Put:
        """The root of a finished store that has level 0 alone, with these arrays; ``notes`` where it is a copy."""
        made = documents.root_attributes(store, arrays)
        return Put(DOC, documents.group_document(made if notes is None else root_with_notes(made, notes)))

    def root_with_levels(
        self, attributes: Json, bins: Mapping[int, Floats], base: Floats, block: Json | None = None
    ) -> Put:
        """Return the root ``attributes`` with other levels above 0; see `documents.with_levels`."""
        return Put(DOC, documents.group_document(documents.with_levels(attributes, bins, base, block)))
