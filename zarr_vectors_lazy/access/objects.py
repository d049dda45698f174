"""Manifests and ids of objects, read by client and workers alike, each stored chunk of them once per process."""

import math
import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.limits import adopt_limits
from zarr_vectors_lazy.access.read import placed, read_batch, read_payload
from zarr_vectors_lazy.access.talk import converse
from zarr_vectors_lazy.access.wanted import Wanted
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.codecs import Pipeline
from zarr_vectors_lazy.format.limits import check_array
from zarr_vectors_lazy.format.manifests import decode_manifests
from zarr_vectors_lazy.format.vectors import decode_rows
from zarr_vectors_lazy.model.arrays import CellArray, DenseArray
from zarr_vectors_lazy.model.objects import GroupIndex, Manifests, ObjectIndex, concatenate_manifests
from zarr_vectors_lazy.storage.arrays import zarr_array
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.types import ChunkCoords, IntArray

KEPT_ENTRIES = 8_000_000  # manifest entries that a process keeps, about 40 bytes each

_lock = threading.Lock()
_kept: OrderedDict[tuple[Any, ...], Manifests] = OrderedDict()
_kept_ids: OrderedDict[tuple[Any, ...], IntArray] = OrderedDict()


def read_dense(source: Source, array: DenseArray, start: int = 0, stop: int | None = None) -> np.ndarray[Any, Any]:
    """Rows [start, stop) of a dense array, absent ones at its fill value.

    Raises
    ------
    FormatError
        If zarr cannot decode them.
    StoreError
        If they cannot be reached.
    """
    stop = array.shape[0] if stop is None else stop
    if stop <= start:
        return np.empty((0, *array.shape[1:]), array.dtype)
    adopt_limits()
    nbytes = (stop - start) * array.dtype.itemsize * math.prod(array.shape[1:])
    check_array(nbytes, f"{stop - start} rows of {array.path!r}", source.spec.url)
    if array.stored is None:
        check = Pipeline(array.codecs).check_expansion
        return np.asarray(zarr_array(connect(source.spec), array.path, start, stop, check, version=array.digest))
    try:
        (values,) = converse(connect(source.spec), [array.stored.read()])
    except FormatError as error:
        raise FormatError(error.message, where=f"{source.spec.url}/{error.where}") from error
    return values[start:stop]


def read_ids(source: Source, index: ObjectIndex) -> IntArray:
    """(O,) int64 object id of each manifest row (spec 0.9, 8); read once per process, and kept."""
    if index.ids is None:
        adopt_limits()
        check_array(8 * index.count, f"ids of {index.count} objects", source.spec.url)
        return np.arange(index.count, dtype=np.int64)
    key = (source, index.ids.path, index.digest)
    with _lock:
        found = _kept_ids.get(key)
        if found is not None:
            _kept_ids.move_to_end(key)
            return found
    made = read_dense(source, index.ids).astype(np.int64)
    made.flags.writeable = False
    with _lock:
        _kept_ids[key] = made
        while len(_kept_ids) > 1 and sum(map(len, _kept_ids.values())) > KEPT_ENTRIES:
            _kept_ids.popitem(last=False)
    return made


def forget(source: Source) -> None:
    """Let ids and manifests that this process has read be read again."""
    with _lock:
        for kept in (_kept, _kept_ids):
            for key in [key for key in kept if key[0] == source]:
                del kept[key]


def read_owners(source: Source, owners: CellArray, coords: ChunkCoords) -> IntArray:
    """Ids of the objects that have a fragment in some chunks, ascending.

    Raises
    ------
    CorruptChunkError
        If a cell is missing or undecodable.
    """
    wanted = Wanted("owners", owners.spec, tuple(range(len(coords))), coords)
    raws = read_batch(source, [wanted])
    parts = [np.empty(0, np.int64)]
    for row, coord in enumerate(coords.tolist()):
        payload = read_payload(source, owners.spec, coord, raws["owners", row])
        with placed(source, owners.spec, coord):
            parts.append(np.unique(decode_rows(payload, owners.spec.dtype, ())).astype(np.int64))
    return np.unique(np.concatenate(parts))


def read_manifests(source: Source, index: ObjectIndex, rows: IntArray | None = None) -> Manifests:
    """Manifests of some object rows, in the order given, or of all.

    Only the stored chunks of manifests that hold these rows are read, and kept.
    """
    if index.manifests is None:
        return concatenate_manifests([], index.rank)
    size = index.manifests.chunk_rows
    wanted = range(-(-index.count // size)) if rows is None else np.unique(rows // size).tolist()
    parts = [_manifest_chunk(source, index, chunk) for chunk in wanted]
    joined = parts[0] if len(parts) == 1 else concatenate_manifests(parts, index.rank)
    if rows is None:
        return joined
    first = np.full(-(-index.count // size) + 1, -1, np.int64)
    first[list(wanted)] = np.cumsum([0, *map(len, parts)])[:-1]
    return joined.take(first[rows // size] + rows % size)


def _manifest_chunk(source: Source, index: ObjectIndex, chunk: int) -> Manifests:
    assert index.manifests is not None
    key = (source, index.manifests.path, index.digest, chunk)
    with _lock:
        found = _kept.get(key)
        if found is not None:
            _kept.move_to_end(key)
            return found
    size = index.manifests.chunk_rows
    blobs = read_dense(source, index.manifests, chunk * size, min((chunk + 1) * size, index.count))
    try:
        made = _decoded(index, [bytes(blob) for blob in blobs.tolist()])
    except FormatError as error:
        raise FormatError(f"{index.manifests.path}: {error.message}", where=source.spec.url) from error
    with _lock:
        _kept[key] = made
        while len(_kept) > 1 and sum(len(part.fragments) for part in _kept.values()) > KEPT_ENTRIES:
            _kept.popitem(last=False)
    return made


def _decoded(index: ObjectIndex, blobs: list[bytes]) -> Manifests:
    if index.blank_is_lost and b"" in blobs:
        raise FormatError("a manifest has no bytes: the object that held it is not there")
    return decode_manifests(blobs, index.rank)


def read_groups(source: Source, groups: GroupIndex) -> dict[int, IntArray]:
    """Object ids of every group, as stored (spec 0.9, 8)."""
    blobs = read_dense(source, groups.members).tolist() if groups.members is not None else []
    members: dict[int, IntArray] = {}
    for group in range(groups.count):
        if group in groups.ranges:
            start, stop = groups.ranges[group]
            check_array(8 * (stop - start), f"group {group} of {stop - start} objects", source.spec.url)
            members[group] = np.arange(*groups.ranges[group], dtype=np.int64)
            continue
        blob = bytes(blobs[group])
        if len(blob) % 8:
            raise FormatError(f"group {group} has {len(blob)} bytes, no whole number of ids", where=source.spec.url)
        members[group] = np.frombuffer(blob, "<i8").astype(np.int64)
    return members
