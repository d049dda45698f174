"""Generation 0.9.2 as it is written: documents, cells, the place of link records, the object index (spec 0.9)."""

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import factorial
from typing import Any, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.format.base import Found, format_delta, format_deltas
from zarr_vectors_lazy.format.codecs import LITTLE, byte_codecs, encode_bytes, encode_cell, encode_shard, encode_vlen
from zarr_vectors_lazy.format.manifests import encode_manifests
from zarr_vectors_lazy.format.v09 import documents
from zarr_vectors_lazy.format.v09.arrays import OUR_KEY, parse_cells
from zarr_vectors_lazy.format.v09.documents import DOC, VLEN, WRITING, array_document, group_document, root_with_notes
from zarr_vectors_lazy.format.v09.generation import SEGMENT_ID, SELF, VERTEX_COUNT, parse_offsets
from zarr_vectors_lazy.format.vectors import LOGICAL_DTYPE, dictionary_attributes, is_time
from zarr_vectors_lazy.model.arrays import CellSpec, Dictionary, absent_value, missing_integer
from zarr_vectors_lazy.model.levels import ranked
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
from zarr_vectors_lazy.types import Array, BoolArray, ChunkCoords, Floats, IntArray, Json

LINK = "int64"
Values: TypeAlias = Array
MAX_PERMUTED = 20
"""Most ends whose permutations an int64 can number."""
MANIFEST_ROWS = 16384
DENSE_ROWS = 65536
Bytes: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint8]]
KINDS = {"object_attributes": "object_attribute", "group_attributes": "groupings_attribute"}


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
        """An attribute of vertices, or of fragments (``of="fragment"``; spec 0.9, 6); ``ours``: our own metadata."""
        kind = "attribute" if of == "vertex" else "fragment_attribute"
        attributes: Json = {"zv_array": kind, "name": name, "dtype": dtype_name(dtype)}
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
        """How the cells of an array that is being written are read, before its metadata exist."""
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
        """Ids of the objects of fragments, given the names of object attributes.

        Other software colours and picks by ``segment_id``, which is the id if objects have one too (spec next, 20); if
        objects have an attribute of this name, it means something else.
        """
        if SEGMENT_ID in object_attributes:
            return self.attribute("object_id", np.dtype(np.int64), of="fragment")
        return self.attribute(SEGMENT_ID, np.dtype(np.uint64), of="fragment", ours={"owners": "ids"})

    def fragment_rows(self, ids: IntArray) -> tuple[ArrayDraft, ...]:
        """Ids of the objects of fragments once more, if they are the rows of the objects.

        zarr-vectors-tools coarsens skeletons by ``object_id``, which it takes for a row of uint64.
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
        """What readers without manifests want to know about objects, as attributes in ``object_attributes``.

        Parameters
        ----------
        ids
            (O,) ids of the objects; None if they are row numbers and need not be stored.
        vertices
            (O,) number of vertices that their manifests name, on this level.
        """
        family = "object_attributes"
        wide = np.uint32 if vertices.max(initial=0) < 2**32 else np.uint64
        told = {} if ids is None else {SEGMENT_ID: (ids.astype(np.uint64), "ids")}
        told[VERTEX_COUNT] = vertices.astype(wide), "vertices"
        puts = [] if object_attributes else [Put(f"{level}/{family}/{DOC}", documents.group_document())]
        for name, (values, what) in told.items():
            if name not in object_attributes:
                said = {OUR_KEY: {"repeats": what}}
                puts += self._dense_attribute(level, family, name, values, encoding, more=said)
        return puts

    def recounted(self, attributes: Mapping[str, Values], vertices: IntArray) -> dict[str, Values]:
        """Attributes of the objects of a copy, with a recount of the vertices that other software stores among them."""
        old = attributes.get(VERTEX_COUNT)
        if old is None or old.dtype.kind not in "iu" or old.ndim > 1:
            return dict(attributes)
        dtype = np.result_type(old.dtype, np.min_scalar_type(int(vertices.max(initial=0))))
        return {**attributes, VERTEX_COUNT: vertices.astype(dtype)}

    link_fragments = "link_fragments"
    """Path of the fragment indexes of the records inside chunks, below the level."""

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
        puts = []
        for index, mine, at in documents.cut_shards(indices, encoding.shard_shape):
            encoded = [encode_cell(cells.payloads[i], encoding) for i in mine.tolist()]
            data = encode_shard(encoded, at, math.prod(encoding.shard_shape))
            puts.append(Put(prefix + "/".join(map(str, index.tolist())), data, unread=True, array=array))
        return puts

    def level_puts(
        self, draft: LevelDraft, record: LevelRecord, grid: Grid, encoding: Encoding, beside: Sequence[Put] = ()
    ) -> list[Put]:
        """Metadata of a level and its arrays of cells, from what its tasks wrote; the level's own node comes last.

        The node states the level's content: a digest of the documents, which state that of cells and manifests, and of
        what is put ``beside`` them.
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
        # Not the manifests, which other tasks may have put and whose digest is in their document, nor names of groups,
        # which come from notes if the store is a copy.
        kept = [put for put in puts if put.key.endswith(DOC) or "/object_index/" not in put.key]
        kept = [put for put in kept if put.key != f"{draft.level}/groups/{DOC}"]
        told = [documents.dump(block).decode(), *sorted(map(self.digest, kept))]
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
            "dtype": dtype_name(dtype),
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
        """The object index of a level.

        Parameters
        ----------
        ids
            (O,) ids, ascending, of the manifests; None if ids are row numbers.
        manifests
            Manifests of all objects; those without entries are absent.
        rank
            Components of a chunk coordinate, K.
        """
        rows = len(manifests)
        present = int((np.diff(manifests.offsets) > 0).sum())
        parts = [np.arange(i, min(i + MANIFEST_ROWS, rows), dtype=np.int64) for i in range(0, rows, MANIFEST_ROWS)]
        cells = [self.manifest_put(level, i, manifests.take(part), rows, encoding) for i, part in enumerate(parts)]
        content = [self.digest(put) for put in cells]
        return [*self.object_documents(level, ids, (rows, present), content, rank=rank, encoding=encoding), *cells]

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
        """The object index of a level without its manifests, which `manifest_put` makes.

        Parameters
        ----------
        count
            Number of objects, and how many of them are present.
        content
            `digest` of each shard, in order.
        """
        path = f"{level}/object_index"
        rows, present = count
        attributes: Json = {
            "zv_array": "object_index",
            "num_objects": rows,
            "num_present": present,
            "sid_ndim": rank,
            "layout": "vlen_manifests_v1" if ids is None else "vlen_manifests_v2",
        }
        if ids is not None:
            attributes["object_ids_sorted"] = bool((np.diff(ids) > 0).all())
        found = _vlen_array(f"{path}/manifests", rows, [], encoding, {})
        if ids is not None:
            found += dense_array(f"{path}/object_ids", ids, encoding, {}, fill=0, chunk_rows=MANIFEST_ROWS)
        # Digest of what is in no document, so that a cache can distinguish two indexes.
        digest = hashlib.blake2b("".join([*content, *map(self.digest, found)]).encode(), digest_size=8)
        attributes[OUR_KEY] = {"content": digest.hexdigest()}
        return [Put(f"{path}/{DOC}", group_document(attributes)), *found]

    shard_rows = MANIFEST_ROWS
    """How many objects share a stored chunk of manifests."""

    def manifest_put(self, level: int, shard: int, manifests: Manifests, rows: int, encoding: Encoding) -> Put:
        """Manifests of the objects of one stored chunk, `MANIFEST_ROWS` of all ``rows``."""
        chunk = max(1, min(MANIFEST_ROWS, rows))
        path = f"{level}/object_index/manifests"
        (unfinished,) = _vlen_array(path, rows, [], encoding, WRITING)
        # stored chunks are complete
        cell = b"".join(
            [struct.pack("<I", chunk), encode_manifests(manifests).data, bytes(4 * (chunk - len(manifests)))]
        )
        return Put(f"{path}/c/{shard}", encode_bytes(cell, encoding), array=bytes(unfinished.data))

    def digest(self, put: Put, *, checked: bool = False) -> str:
        """Hexadecimal text that changes with a put's key and bytes; ``checked`` if these end with their checksum."""
        of_bytes = struct.unpack("<I", put.data[-4:])[0] if checked else zlib.crc32(put.data)
        return hashlib.blake2b(f"{put.key}:{of_bytes}:{len(put.data)}".encode(), digest_size=8).hexdigest()

    def group_puts(
        self, level: int, members: Sequence[IntArray], names: Sequence[str] | None, encoding: Encoding
    ) -> list[Put]:
        """Groups of object ids, by group number."""
        sizes = np.fromiter(map(len, members), np.int64, len(members))
        data = np.concatenate([np.empty(0, np.int64), *members]).astype("<i8").view(np.uint8)
        offsets = np.concatenate([[0], 8 * np.cumsum(sizes)]).astype(np.int64)
        attributes: Json = {"zv_array": "groups", "num_groups": len(members)}
        if names is not None:
            attributes["group_names"] = list(names)
        parts = range(0, len(members), MANIFEST_ROWS)
        cells = [(data, offsets[start : start + MANIFEST_ROWS + 1]) for start in parts]
        return _vlen_array(f"{level}/groups", len(members), cells, encoding, attributes)

    def dense_puts(self, level: int, family: str, values: Mapping[str, Array], encoding: Encoding) -> list[Put]:
        """Rows of ``"object_attributes"`` (aligned with manifests) or ``"group_attributes"``, by name (spec 0.9, 8)."""
        if not values:
            return []
        puts = [put for name in values for put in self._dense_attribute(level, family, name, values[name], encoding)]
        return [Put(f"{level}/{family}/{DOC}", documents.group_document()), *puts]

    def _dense_attribute(
        self, level: int, family: str, name: str, values: Array, encoding: Encoding, *, more: Json | None = None
    ) -> list[Put]:
        """One attribute of objects or groups; ``family`` is ``"object_attributes"`` or ``"group_attributes"``.

        For a masked array, the metadata state the number for missing values, in addition to absent rows.
        """
        attributes: Json = {
            **(more or {}),
            "zv_array": KINDS[family],
            "name": name,
            "dtype": dtype_name(values.dtype),
            "shape": list(values.shape),
        }
        if family == "object_attributes":
            attributes["fill_sentinel_meaning"] = "absent"
        fill = absent_value(values.dtype)
        if isinstance(values, np.ma.MaskedArray):
            attributes["_FillValue"] = fill
        return dense_array(f"{level}/{family}/{name}", np.asarray(values), encoding, attributes, fill=fill)

    def marker(self, write_id: str, *, clearing: bool = False) -> Put:
        """A root that says that the store is being written; ``write_id`` distinguishes writes.

        Parameters
        ----------
        write_id
            Id of the write.
        clearing
            Whether what was there before is still being deleted.
        """
        return Put(DOC, documents.marker_document(write_id, clearing=clearing))

    def root(self, store: StoreDraft, arrays: Sequence[ArrayDraft], notes: Notes | None = None) -> Put:
        """The root of a finished store with only level 0 and these arrays; ``notes`` if it is a copy."""
        made = documents.root_attributes(store, arrays)
        return Put(DOC, documents.group_document(made if notes is None else root_with_notes(made, notes)))

    def root_with_levels(
        self, attributes: Json, bins: Mapping[int, Floats], base: Floats, block: Json | None = None
    ) -> Put:
        """Return the root ``attributes`` with other levels above 0; see `documents.with_levels`."""
        return Put(DOC, documents.group_document(documents.with_levels(attributes, bins, base, block)))


# Where link records are stored (spec 0.9, 7.2 to 7.4).


@dataclass(frozen=True, slots=True, eq=False)
class PlacedLinks:
    """Link records cut into cells, grouped by source chunk.

    Parameters
    ----------
    segments
        Name of each cell's segment, such as ``"0.0.+1"``.
    sources
        (cells,) number of the chunk of stored endpoint 0, ascending.
    bounds
        (cells + 1,) records of cell i are ``bounds[i]:bounds[i + 1]``.
    records
        (M, columns) int64 as stored: the permutation, if there is one, and rows.
    order
        (M,) the given record of each; attributes are taken by it.
    headed
        (cells,) whether the payload begins with a header of groups.
    permuted
        (cells,) whether the first column is the permutation.
    """

    segments: Sequence[str]
    sources: IntArray
    bounds: IntArray
    records: IntArray
    order: IntArray
    headed: BoolArray
    permuted: BoolArray

    @property
    def counts(self) -> tuple[int, int]:
        """Records inside chunks, and across."""
        counts = np.diff(self.bounds)
        return int(counts[~self.headed].sum()), int(counts[self.headed].sum())

    def payload(self, cell: int) -> bytes:
        """Payload of one cell."""
        rows = self.records[self.bounds[cell] : self.bounds[cell + 1], 0 if self.permuted[cell] else 1 :]
        head = struct.pack("<qq", 1, 0) if self.headed[cell] else b""
        return head + np.ascontiguousarray(rows, "<i8").tobytes()

    def members(self, cell: int) -> IntArray:
        """Which of the given records are in a cell, in stored order."""
        return self.order[self.bounds[cell] : self.bounds[cell + 1]]


def place_links(
    chunks: IntArray,
    rows: IntArray,
    coords: ChunkCoords,
    *,
    directed: bool = False,
    delta: int = 0,
    other: ChunkCoords | None = None,
    anchors: ChunkCoords | None = None,
) -> PlacedLinks:
    """Cut link records into the cells in which a canonical family stores them.

    Parameters
    ----------
    chunks
        (M, L) number in ``coords`` of the chunk of each endpoint; with ``other``, of the other endpoints in it.
    rows
        (M, L) rows in these chunks.
    coords
        (C, K) chunks of this level, in lexicographic order.
    directed
        Whether endpoints keep the given order; otherwise they are sorted, and a permutation restores them.
    delta
        Level of the other endpoints, minus this one.
    other, anchors
        For ``delta != 0``: (C', K) chunks of the other level, and (C, K) where each chunk of this level lies there.
    """
    width, rank = chunks.shape[1], coords.shape[1]
    inside = np.full(len(chunks), delta == 0)
    for column in chunks.T[1:] if delta == 0 else ():
        inside &= column == chunks[:, 0]
    codes = np.zeros(len(chunks), np.int64)
    if delta == 0 and not directed and width > 1:
        chunks, rows, codes = _canonical(chunks, rows, inside)
    group, first = _group(chunks, max(len(coords), 0 if other is None else len(other)))
    order = np.argsort(
        group.astype(np.uint16) if len(first) <= 2**16 else group, kind="stable"
    )  # the first: radix sort
    bounds = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=len(first)))]).astype(np.int64)
    ends = chunks[first]
    base = coords if anchors is None else anchors
    offsets = (coords if other is None else other)[ends[:, 1:]] - base[ends[:, :1]]
    within = ~offsets.any(axis=(1, 2)) if width > 1 else np.ones(len(first), np.bool_)
    headed = ~within if delta == 0 else np.ones(len(first), np.bool_)
    return PlacedLinks(
        segments=_names(offsets, rank),
        sources=ends[:, 0],
        bounds=bounds,
        records=np.concatenate([codes[:, None], rows], axis=1)[order],
        order=order,
        headed=np.asarray(headed),
        permuted=np.asarray(headed & (delta == 0) & (not directed)),
    )


def _canonical(chunks: IntArray, rows: IntArray, inside: BoolArray) -> tuple[IntArray, IntArray, IntArray]:
    """Endpoints sorted by (chunk, row), and the code of the permutation; records inside a chunk stay as given."""
    width, codes, across = chunks.shape[1], np.zeros(len(chunks), np.int64), np.flatnonzero(~inside)
    if not len(across):
        return chunks, rows, codes
    if width > MAX_PERMUTED:
        raise SelectionError(
            f"{len(across)} links of {width} ends lie in several chunks, and the format has no order for more than "
            f"{MAX_PERMUTED} ends: choose a larger chunk_shape"
        )
    chunks, rows = chunks.copy(), rows.copy()
    if width == 2:  # their only permutation has the code 1
        turned = across[chunks[across, 0] > chunks[across, 1]]
        codes[turned] = 1
        for ends in (chunks, rows):
            ends[turned] = ends[turned, ::-1]
        return chunks, rows, codes
    sigma = np.lexsort((rows[across], chunks[across]), axis=1)
    codes[across] = lehmer_codes(sigma)
    for ends in (chunks, rows):
        ends[across] = np.take_along_axis(ends[across], sigma, 1)
    return chunks, rows, codes


def lehmer_codes(sigma: IntArray) -> IntArray:
    """(M,) codes of (M, L) permutations (spec 0.9, 7.2)."""
    width = sigma.shape[1]
    codes = np.zeros(len(sigma), np.int64)
    for i in range(width - 1):
        digit = (sigma[:, i + 1 :] < sigma[:, i : i + 1]).sum(axis=1)
        codes += digit * factorial(width - 1 - i)
    return codes


def _group(chunks: IntArray, total: int) -> tuple[IntArray, IntArray]:
    """Number of the combination of chunks of each record, lexicographic, and the first record of each."""
    total = max(total, 1)
    group, found = ranked(chunks[:, 0].astype(np.int64), total)
    for column in chunks.T[1:]:
        group, found = ranked(group * total + column, len(found) * total)
    first = np.empty(len(found), np.int64)
    first[group[::-1]] = np.arange(len(group))[::-1]  # of several, the last to be assigned is the first
    return group, first


def _names(offsets: IntArray, rank: int) -> list[str]:
    each = offsets.shape[1]
    if not each:
        return [SELF] * len(offsets)
    parts = format_deltas(offsets.reshape(-1, rank))
    return ["_".join(parts[i : i + each]) for i in range(0, len(parts), each)]


# Object index, groups and dense arrays as puts of whole documents and chunks (spec 0.9, 8).


def dense_array(
    path: str, values: Array, encoding: Encoding, attributes: Json, *, fill: Any, chunk_rows: int = DENSE_ROWS
) -> list[Put]:
    """An ordinary array, cut along its rows."""
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    chunk_shape = (max(1, min(chunk_rows, len(values))), *values.shape[1:])
    codecs = [LITTLE, *byte_codecs(encoding)]
    doc = array_document(
        values.shape, data_type(values.dtype), chunk_shape, codecs, fill=json_fill(fill), attributes=attributes
    )
    found = [Put(f"{path}/{DOC}", doc)]
    tail = "/0" * (values.ndim - 1)
    for chunk, start in enumerate(range(0, len(values), chunk_shape[0])):
        part = values[start : start + chunk_shape[0]]
        if len(part) < chunk_shape[0]:  # stored chunks are complete
            whole = np.full(chunk_shape, fill, values.dtype)
            whole[: len(part)] = part
            part = whole
        found.append(Put(f"{path}/c/{chunk}{tail}", encode_bytes(part.tobytes(), encoding)))
    return found


def _vlen_array(
    path: str, rows: int, cells: Sequence[tuple[Bytes, IntArray]], encoding: Encoding, attributes: Json
) -> list[Put]:
    """One-dimensional array of bytes; each cell holds its elements and their offsets."""
    chunk = max(1, min(MANIFEST_ROWS, rows))
    codecs = [VLEN, *byte_codecs(encoding)]
    doc = array_document([rows], "variable_length_bytes", [chunk], codecs, fill="", attributes=attributes)
    found = [Put(f"{path}/{DOC}", doc)]
    for i, (data, offsets) in enumerate(cells):
        whole = np.pad(offsets, (0, chunk + 1 - len(offsets)), mode="edge")  # stored chunks are complete
        found.append(Put(f"{path}/c/{i}", encode_bytes(encode_vlen(data, whole), encoding)))
    return found


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Dtype as attributes name it."""
    if dtype.kind in "mM":
        return "int64"
    return str(dtype.newbyteorder("=")) if dtype.kind != "U" else dtype.newbyteorder("<").str


def data_type(dtype: np.dtype[Any]) -> Any:
    """Dtype as ``zarr.json`` names it."""
    if dtype.kind == "U":
        return {"name": "fixed_length_utf32", "configuration": {"length_bytes": dtype.itemsize}}
    return dtype.name


def json_fill(value: Any) -> Any:
    """Fill value as ``zarr.json`` writes it."""
    if isinstance(value, np.complexfloating):
        return [json_fill(value.real), json_fill(value.imag)]
    if isinstance(value, float | np.floating):
        return "NaN" if np.isnan(value) else float(value)
    return value
