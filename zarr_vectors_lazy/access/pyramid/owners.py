"""Which object each fragment of a level belongs to, and which objects are kept; worked out once per process."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.objects import read_ids, read_manifests
from zarr_vectors_lazy.access.pyramid.step import Step, Thinning
from zarr_vectors_lazy.kernels.hashing import kept_ids
from zarr_vectors_lazy.model.chunks import ChunkTable, distinct_chunks
from zarr_vectors_lazy.model.objects import Manifests, ObjectIndex, ragged_arange
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray

KEPT = 4  # levels of which a process keeps the owners

_lock = threading.Lock()
_owners: OrderedDict[tuple[Any, ...], "Owners"] = OrderedDict()
_masks: OrderedDict[tuple[Any, ...], BoolArray] = OrderedDict()


@dataclass(frozen=True, slots=True, eq=False)
class Owned:
    """Manifest entries that name fragments of some chunks.

    Parameters
    ----------
    objects
        (E,) manifest row.
    ordinals
        (E,) place in the object's manifest.
    slots
        (E,) number of the chunk among those asked for.
    fragments
        (E,) fragment of that chunk.
    """

    objects: IntArray
    ordinals: IntArray
    slots: IntArray
    fragments: IntArray

    def take(self, rows: IntArray | BoolArray) -> "Owned":
        """Some entries."""
        return Owned(self.objects[rows], self.ordinals[rows], self.slots[rows], self.fragments[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Owners:
    """All manifest entries of a level, by chunk.

    Parameters
    ----------
    table
        Chunks that manifests name.
    starts
        (n + 1,) entries of chunk i are ``starts[i]:starts[i + 1]``.
    entries
        (E,) manifest entries by chunk, within a chunk by object and place; entries are numbered by object and place.
    owners, fragments, chunk_of
        (E,) object, fragment, and number in ``table`` of the chunk, of each entry.
    offsets
        (O + 1,) entries of object o are ``offsets[o]:offsets[o + 1]``.
    visits
        (O,) how often each object enters a coarse chunk.
    """

    table: ChunkTable
    starts: IntArray
    entries: IntArray
    owners: IntArray
    fragments: IntArray
    chunk_of: IntArray
    offsets: IntArray
    visits: IntArray

    def of_chunks(self, chunks: ChunkCoords, coarse: IntArray) -> Owned:
        """Entries of some chunks, sorted by (n,) the coarse chunk in which each lies, object and place."""
        at = self.table.find(chunks)
        counts = np.where(at >= 0, self.starts[at + 1] - self.starts[at], 0)
        entries = self.entries[np.repeat(np.where(at >= 0, self.starts[at], 0), counts) + ragged_arange(counts)]
        slots = np.repeat(np.arange(len(chunks)), counts)
        order = np.argsort(coarse[slots] * len(self.owners) + entries, kind="stable")
        entries, objects = entries[order], self.owners[entries[order]]
        return Owned(objects, entries - self.offsets[objects], slots[order], self.fragments[entries])

    @property
    def lengths(self) -> IntArray:
        """(O,) entries of each object."""
        return np.diff(self.offsets)


def read_owners(step: Step, build: str) -> Owners:
    """Manifest entries of the finer level by chunk; kept by this process as long as the build runs."""
    assert step.index is not None
    key = (step.source, build)
    with _lock:  # one thread sorts, the others wait for it
        found = _owners.get(key)
        if found is None:
            found = _owners[key] = _sorted(step, step.index)
            while len(_owners) > KEPT:
                _owners.popitem(last=False)
        return found


def _sorted(step: Step, index: ObjectIndex) -> Owners:
    manifests = read_manifests(step.source, index)
    table, chunk = distinct_chunks(manifests.chunks)
    counts = np.bincount(chunk, minlength=len(table))
    small = chunk.astype(np.uint16) if len(table) <= 2**16 else chunk  # radix sort
    return Owners(
        table=table,
        starts=np.concatenate([[0], np.cumsum(counts), [counts.sum()]]).astype(np.int64),
        entries=np.argsort(small, kind="stable"),
        owners=manifests.owners,
        fragments=manifests.fragments,
        chunk_of=chunk,
        offsets=manifests.offsets,
        visits=_visits(manifests, step.parent(table.coords), chunk),
    )


def _visits(manifests: Manifests, coarse: ChunkCoords, chunk: IntArray) -> IntArray:
    """(O,) how often each object enters a coarse chunk; (n, K) those of the chunks, (E,) the chunk of each entry."""
    path, owners = distinct_chunks(coarse)[1][chunk], manifests.owners
    enters = np.ones(len(path), np.bool_)
    enters[1:] = (np.diff(path) != 0) | (np.diff(owners) != 0)
    return np.bincount(owners[enters], minlength=len(manifests))


def kept_objects(thinning: Thinning, build: str) -> BoolArray | None:
    """(O,) whether the object of a manifest row is kept; None: all are.

    The number kept is a fraction of the objects that the base level has, and which ones depends on their ids alone.
    """
    if thinning.index is None or thinning.keep >= 1:
        return None
    key = (thinning.base, thinning.seed, thinning.keep, build)
    with _lock:
        found = _masks.get(key)
        if found is None:
            found = _masks[key] = _mask(thinning, thinning.index)
            while len(_masks) > 4 * KEPT:
                _masks.popitem(last=False)
        return found


def _mask(thinning: Thinning, index: ObjectIndex) -> BoolArray:
    ids = read_ids(thinning.base, index)
    present = np.flatnonzero(np.diff(read_manifests(thinning.base, index).offsets) > 0)
    mask = np.zeros(len(ids), np.bool_)
    keep = max(1, round(len(present) * thinning.keep))
    mask[present[kept_ids(thinning.seed, ids[present], keep)]] = True
    return mask


def owned_by(step: Step, chunks: ChunkCoords, coarse: IntArray, build: str) -> tuple[Owned, Owned] | None:
    """Entries of all objects in some finer chunks, and of the kept ones; None where the level has no objects.

    Parameters
    ----------
    chunks, coarse
        (f, K) the finer chunks, and (f,) the coarse chunk of each.
    """
    if step.index is None:
        return None
    owned = read_owners(step, build).of_chunks(chunks, coarse)
    mask = None if step.thinning is None else kept_objects(step.thinning, build)
    return owned, owned if mask is None else owned.take(mask[owned.objects])
