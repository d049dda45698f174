"""Manifests and ids of objects, read by client and workers alike; each stored chunk is read once per process."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import CorruptChunkError, FormatError, counted
from zarr_vectors_lazy.format.base import check_array
from zarr_vectors_lazy.format.codecs import Pipeline, split_vlen
from zarr_vectors_lazy.format.manifests import decode_manifests
from zarr_vectors_lazy.format.vectors import decode_rows
from zarr_vectors_lazy.model.arrays import CellArray, DenseArray
from zarr_vectors_lazy.model.levels import dotted
from zarr_vectors_lazy.model.objects import GroupIndex, Manifests, ObjectIndex, concatenate_manifests, ranges
from zarr_vectors_lazy.read.cells import Requested, error_context, read_batch, read_payload
from zarr_vectors_lazy.read.level import Source, adopt_limits, read_level
from zarr_vectors_lazy.read.metadata import DOC
from zarr_vectors_lazy.requests import Get, Steps
from zarr_vectors_lazy.settings import Recent
from zarr_vectors_lazy.storage.fetch import connect
from zarr_vectors_lazy.storage.zarr import zarr_array
from zarr_vectors_lazy.types import Array, Buffer, ChunkCoords, IntArray

READ_AT_ONCE = 16  # stored chunks of manifests that are read together
KEPT_ENTRIES = 8_000_000  # manifest entries that a process keeps, about 40 bytes each

_kept: Recent[tuple[Any, ...], Manifests] = Recent(KEPT_ENTRIES, lambda manifests: len(manifests.fragments))
_kept_ids: Recent[tuple[Any, ...], IntArray] = Recent(KEPT_ENTRIES, lambda ids: ids.size)


def read_dense(source: Source, array: DenseArray, start: int = 0, stop: int | None = None) -> Array:
    """Rows [start, stop) of a dense array; absent ones have its fill value.

    Raises
    ------
    CorruptChunkError
        If zarr cannot decode them.
    FormatError
        If the array's metadata are wrong.
    StoreError
        If they cannot be reached.
    """
    stop = array.shape[0] if stop is None else stop
    if stop <= start:
        return np.empty((0, *array.shape[1:]), array.dtype)
    if array.present is not None and stop > array.present:
        stored = read_dense(source, array, start, min(max(start, array.present), stop))
        lost = stop - start - len(stored)
        check_array(lost * array.dtype.itemsize * math.prod(array.shape[1:]), f"{lost} absent rows", source.spec.url)
        return np.concatenate([stored, np.full((lost, *array.shape[1:]), array.missing, array.dtype)])
    adopt_limits()
    nbytes = (stop - start) * array.dtype.itemsize * math.prod(array.shape[1:])
    check_array(nbytes, f"{counted(stop - start, 'row')} of {array.path!r}", source.spec.url)
    if array.stored is None:
        check = Pipeline(array.codecs).check_expansion
        read_level(source, [])
        try:
            return np.asarray(zarr_array(connect(source.spec), array.path, start, stop, check, version=array.digest))
        except FormatError as error:
            if not error.__dict__.get("rows"):
                raise
            first, last = start // array.chunk_rows, (stop - 1) // array.chunk_rows
            chunk = str(first) if first == last else f"{first} to {last}"
            raise CorruptChunkError(
                error.message, level=source.level, array=array.path, chunk=chunk, url=source.spec.url
            ) from error
    try:
        (values,) = read_level(source, [array.stored.read()])
    except FormatError as error:
        raise FormatError(error.message, where=f"{source.spec.url}/{error.where}") from error
    return values[start:stop]


def read_ids(source: Source, index: ObjectIndex) -> IntArray:
    """(O,) int64 object id of each manifest row (spec 0.9, 8); read once per process, then kept."""
    if index.ids is None:
        adopt_limits()
        check_array(8 * index.count, f"ids of {index.count} objects", source.spec.url)
        return np.arange(index.count, dtype=np.int64)
    return _kept_rows(_kept_as(source, index.ids, index.digest), source, index.ids, 0, index.count)


def _kept_as(source: Source, array: DenseArray, digest: str, chunk: int = 0) -> tuple[Any, ...]:
    """Key under which rows of an array are kept.

    Another writer may replace a level by one with the same metadata, and only files show that.
    """
    backend = connect(source.spec)
    files = () if source.content else (DOC, "c", f"c/{chunk}")
    return source, array.path, digest, chunk, *(backend.stamp(f"{array.path}/{file}") for file in files)


def forget(sources: Collection[Source]) -> None:
    """Let ids and manifests of levels that this process has read be read again."""
    for kept in (_kept, _kept_ids):
        kept.clear(lambda key: key[0] in sources)


def read_owners(source: Source, owners: CellArray, coords: ChunkCoords) -> IntArray:
    """Ids of the objects that have a fragment in some chunks, ascending.

    Raises
    ------
    CorruptChunkError
        If a cell is missing or undecodable.
    """
    wanted = Requested("owners", owners.spec, tuple(range(len(coords))), coords)
    raws = read_batch(source, [wanted])
    parts = [np.empty(0, np.int64)]
    for row, coord in enumerate(coords.tolist()):
        payload = read_payload(source, owners.spec, coord, raws["owners", row])
        with error_context(source, owners.spec, coord):
            parts.append(np.unique(decode_rows(payload, owners.spec.dtype, ())).astype(np.int64))
    return np.unique(np.concatenate(parts))


def read_manifests(source: Source, index: ObjectIndex, rows: IntArray | None = None) -> Manifests:
    """Manifests of some object rows, in the given order, or of all.

    Only the stored chunks of manifests with these rows are read, and kept.

    Raises
    ------
    FormatError
        If the level has no objects, or if two share a fragment and it is lost which rows are whose.
    """
    if index.lost:
        raise FormatError(index.lost, where=f"{source.spec.url}/{source.level}")
    if index.exclusive and rows is not None:
        return read_manifests(source, index).take(rows)  # only all manifests show who else names a fragment
    if index.parts:
        return _chained_manifests(source, index, rows)
    found = _dense_manifests(source, index, rows) if index.spans is not None else _vlen_manifests(source, index, rows)
    if index.exclusive:
        _check_exclusive(source, index, found)
    return found


def _vlen_manifests(source: Source, index: ObjectIndex, rows: IntArray | None) -> Manifests:
    if index.manifests is None:
        return concatenate_manifests([], index.rank)
    size = index.manifests.chunk_rows
    wanted = [*range(-(-index.count // size))] if rows is None else np.unique(rows // size).tolist()
    parts = _manifest_chunks(source, index, wanted)
    joined = parts[0] if len(parts) == 1 else concatenate_manifests(parts, index.rank)
    if rows is None:
        empty = [chunk for chunk, part in zip(wanted, parts, strict=True) if not len(part.fragments)]
        if empty and (present := np.count_nonzero(np.diff(joined.offsets))) < (index.present or 0):
            raise CorruptChunkError(
                f"missing or empty, but the object index states {index.present} manifests, and others have {present}",
                level=source.level,
                array=index.manifests.path,
                chunk=", ".join(map(str, empty)),
                url=source.spec.url,
            )
        return joined
    first = np.full(-(-index.count // size) + 1, -1, np.int64)
    first[wanted] = np.cumsum([0, *map(len, parts)])[:-1]
    return joined.take(first[rows // size] + rows % size)


def _dense_manifests(source: Source, index: ObjectIndex, rows: IntArray | None) -> Manifests:
    """Manifests as rows of two arrays (spec next, 5)."""
    assert index.spans is not None
    assert index.blocks is not None
    spans = _rows_of(source, index.spans, index.digest, np.arange(index.count) if rows is None else rows)
    starts, counts = spans[:, 0], spans[:, 1]
    used, total = counts > 0, index.blocks.shape[0]
    if (counts < 0).any() or (starts[used] < 0).any() or (starts[used] > total - counts[used]).any():
        reason = f"a span refers to blocks that do not exist: there are {total}"
        raise CorruptChunkError(reason, level=source.level, array=index.spans.path, url=source.spec.url)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    blocks = _rows_of(source, index.blocks, index.digest, ranges(starts, counts))
    return Manifests(offsets, blocks[:, :-1], blocks[:, -1])


def _rows_of(source: Source, array: DenseArray, digest: str, rows: IntArray) -> IntArray:
    """Some rows of an array of integers; the stored chunks that hold them are read, and kept."""
    chunks, at = np.unique(rows // array.chunk_rows, return_inverse=True)
    parts, firsts = [np.empty((0, *array.shape[1:]), np.int64)], [0]
    for chunk in chunks.tolist():
        first, last = chunk * array.chunk_rows, min((chunk + 1) * array.chunk_rows, array.shape[0])
        parts.append(_kept_rows(_kept_as(source, array, digest, chunk), source, array, first, last))
        firsts.append(firsts[-1] + last - first)
    found: IntArray = np.concatenate(parts)[np.asarray(firsts, np.int64)[at] + rows % array.chunk_rows]
    return found


def _kept_rows(key: tuple[Any, ...], source: Source, array: DenseArray, start: int, stop: int) -> IntArray:
    if (found := _kept_ids.get(key)) is not None:
        return found
    made = read_dense(source, array, start, stop).astype(np.int64)
    made.flags.writeable = False
    return _kept_ids.put(key, made)


def _check_exclusive(source: Source, index: ObjectIndex, found: Manifests) -> None:
    """Raise FormatError if two objects name one fragment (spec next, 16): it is not stored which rows are whose."""
    order = np.lexsort((found.fragments, *found.chunks.T[::-1]))
    chunks, fragments, owners = found.chunks[order], found.fragments[order], found.owners[order]
    alike = (chunks[1:] == chunks[:-1]).all(axis=1) & (fragments[1:] == fragments[:-1]) & (owners[1:] != owners[:-1])
    if alike.any():
        at = int(np.argmax(alike))
        ids = read_ids(source, index)[owners[at : at + 2]].tolist()
        raise FormatError(
            f"objects {ids[0]} and {ids[1]} share fragment {fragments[at]} of chunk {dotted(chunks[at])}, and the "
            "level does not declare shared fragments; which rows are whose was lost by rechunking or Draco",
            where=f"{source.spec.url}/{source.level}",
        )


def _chained_manifests(source: Source, index: ObjectIndex, rows: IntArray | None) -> Manifests:
    """Manifests of objects, each from the first of several levels that has it (spec next, 4.3)."""
    ids = read_ids(source, index)
    wanted = ids if rows is None else ids[rows]
    missing = np.ones(len(wanted), np.bool_)
    owners, chunks, fragments = [np.empty(0, np.int64)], [np.empty((0, index.rank), np.int64)], [np.empty(0, np.int64)]
    for first, part in index.parts:
        at = rows_of_ids(read_ids(source, part), wanted)
        asked = np.flatnonzero((at >= 0) & missing)
        found = read_manifests(source, part, at[asked])
        missing[asked[np.diff(found.offsets) > 0]] = False
        owners.append(asked[found.owners])
        chunks.append(np.insert(found.chunks, 0, first, axis=1))
        fragments.append(found.fragments)
    order = np.argsort(np.concatenate(owners), kind="stable")
    counts = np.bincount(np.concatenate(owners), minlength=len(wanted))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Manifests(offsets, np.concatenate(chunks)[order], np.concatenate(fragments)[order])


def rows_of_ids(known: IntArray, ids: IntArray) -> IntArray:
    """Object rows of ids; -1 if there is none."""
    if not len(known):
        return np.full(len(ids), -1, np.int64)
    if (known[1:] < known[:-1]).any():
        order = np.argsort(known, kind="stable")
        at = rows_of_ids(known[order], ids)
        return np.where(at < 0, -1, order[at])
    at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[at] == ids, at, -1)


def _manifest_chunks(source: Source, index: ObjectIndex, chunks: Sequence[int]) -> list[Manifests]:
    """Manifests in some stored chunks, ascending; those that are not kept are read together."""
    array = index.manifests
    assert array is not None
    keys = {chunk: _kept_as(source, array, index.digest, chunk) for chunk in chunks}
    found = {chunk: kept for chunk, key in keys.items() if (kept := _kept.get(key)) is not None}
    unread = np.asarray([chunk for chunk in chunks if chunk not in found], np.int64)
    cut = (np.diff(unread) > 1) | (np.arange(1, len(unread)) % READ_AT_ONCE == 0)
    for run in np.split(unread, np.flatnonzero(cut) + 1) if len(unread) else ():
        for chunk, stored in zip(run.tolist(), _read_blobs(source, array, run), strict=True):
            try:
                found[chunk] = _kept.put(keys[chunk], _decoded(index, array, chunk, stored))
            except FormatError as error:
                raise CorruptChunkError(
                    error.message,
                    level=source.level,
                    array=array.path,
                    chunk=str(chunk),
                    url=source.spec.url,
                ) from error
    return [found[chunk] for chunk in chunks]


def _read_blobs(source: Source, array: DenseArray, run: IntArray) -> list[Buffer | list[bytes] | None]:
    """Consecutive stored chunks of manifests: as they are stored, or blobs if only zarr can decode them."""
    chunks, size = run.tolist(), array.chunk_rows
    start, stop = chunks[0] * size, min((chunks[-1] + 1) * size, array.shape[0])
    if array.direct and array.present is None:
        adopt_limits()
        check_array(8 * (stop - start), f"{stop - start} rows of {array.path!r}", source.spec.url)
        return read_level(source, [_read_objects([f"{array.path}/c/{chunk}" for chunk in chunks])])[0]
    blobs = [*map(bytes, read_dense(source, array, start, stop).tolist())]
    return [blobs[i : i + size] for i in range(0, stop - start, size)]


def _read_objects(keys: Sequence[str]) -> Steps[list[Any]]:
    return (yield [Get(key) for key in keys])


def _decoded(index: ObjectIndex, array: DenseArray, chunk: int, stored: Buffer | list[bytes] | None) -> Manifests:
    """Manifests of a stored chunk; those of one that does not exist have no bytes."""
    rows, pipeline = min(array.chunk_rows, index.count - chunk * array.chunk_rows), Pipeline(array.codecs)
    if stored is None:
        stored = [b""] * rows
    elif not isinstance(stored, list):
        pipeline.check_expansion(stored)
        stored = split_vlen(pipeline.decode(stored), array.chunk_rows)[:rows]
    if index.blank_is_lost and b"" in stored:
        raise FormatError("a manifest has no bytes: the object that held it is missing")
    if stored and not any(stored) and (index.present or 0) > index.count - rows:
        raise FormatError(f"missing or empty, but the object index states {index.present} manifests of {index.count}")
    return decode_manifests(stored, index.rank)


def read_groups(source: Source, groups: GroupIndex) -> dict[int, IntArray]:
    """Object ids of every group, as stored (spec 0.9, 8)."""
    blobs = read_dense(source, groups.members).tolist() if groups.members is not None else []
    members: dict[int, IntArray] = {}
    for group in range(groups.count):
        if group in groups.ranges:
            start, stop = groups.ranges[group]
            check_array(8 * (stop - start), f"group {group} of {counted(stop - start, 'object')}", source.spec.url)
            members[group] = np.arange(*groups.ranges[group], dtype=np.int64)
            continue
        blob = bytes(blobs[group])
        if len(blob) % 8:
            raise FormatError(f"group {group} has {len(blob)} bytes, not a whole number of ids", where=source.spec.url)
        members[group] = np.frombuffer(blob, "<i8").astype(np.int64)
    return members
