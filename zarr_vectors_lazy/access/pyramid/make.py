"""The cells of one coarse chunk, from the rows that become its vertices."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.objects import read_ids
from zarr_vectors_lazy.access.pyramid.cells import Payload
from zarr_vectors_lazy.access.pyramid.join import Joined
from zarr_vectors_lazy.access.pyramid.read import FineRows
from zarr_vectors_lazy.access.pyramid.step import Aggregated, Step
from zarr_vectors_lazy.format.keys import format_deltas
from zarr_vectors_lazy.format.writing import CURRENT, encode_rows, encode_tiling
from zarr_vectors_lazy.kernels.bins import place_in_bins, root_slots
from zarr_vectors_lazy.kernels.groups import NUMBERS, Groups, aggregate, sums, weighted_means
from zarr_vectors_lazy.kernels.hashing import Hashes, hash_rows
from zarr_vectors_lazy.model.pyramid import ChunkKey, Pieces
from zarr_vectors_lazy.types import IntArray, Vertices

TIES = 0x71E5  # seed of the hash by which ties among most frequent values end; another than that of thinning


def coarse_positions(step: Step, chunk: ChunkKey, fine: FineRows, joined: Joined) -> Vertices:
    """(C, D) positions of the coarse rows."""
    groups, members = joined.groups, joined.members
    positions = fine.positions if members is None else fine.positions[members]
    means = weighted_means(groups, positions, taken(fine.weights, joined))
    out = place_in_bins(means, joined.bins, step.bin_grid(chunk), position_dtype(positions.dtype))
    if joined.exact is not None:
        coarse, rows = joined.exact
        out[coarse] = fine.positions[rows]
    return out


def position_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Dtype of coarse positions: the finer level's, but means of whole numbers are none."""
    return dtype if dtype.kind == "f" else np.dtype(np.float64)


def taken(values: np.ndarray[Any, Any] | None, joined: Joined) -> np.ndarray[Any, Any] | None:
    """Values of the members."""
    return values if values is None or joined.members is None else values[joined.members]


def by_root_bins(step: Step, chunk: ChunkKey, positions: Vertices, joined: Joined) -> tuple[Vertices, Joined]:
    """Coarse rows by the bins of level 0, a fragment for each of these: the reference's boxes count on that."""
    assert step.root_bins is not None
    slots = root_slots(positions, step.bin_grid(chunk), step.root_bins)
    order = np.argsort(slots, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    starts = np.searchsorted(slots[order], np.arange(int(np.prod(step.root_bins)) + 1))
    groups = Groups(rank[joined.groups.labels], joined.groups.count)
    return positions[order], Joined(joined.members, groups, joined.bins[order], Pieces(starts), joined.exact)


def chunk_payloads(step: Step, chunk: ChunkKey, fine: FineRows, joined: Joined) -> Iterator[Payload]:
    """Payloads of a coarse chunk: positions, fragments, attributes, weights, links to and from the finer level."""
    positions = coarse_positions(step, chunk, fine, joined)
    if step.root_bins is not None:
        positions, joined = by_root_bins(step, chunk, positions, joined)
    groups, n = joined.groups, joined.groups.count
    weights = taken(fine.weights, joined)
    yield Payload(step.level, "vertex_fragments", chunk, n, encode_tiling(np.diff(joined.pieces.starts)))
    picks = None
    if any(item.rule == "mode" for item in step.attributes):
        hashes = hash_rows(TIES, step.source.level, np.asarray(fine.chunks), np.diff(fine.starts))
        picks = taken(hashes, joined)
    for item in step.attributes:
        values = taken(fine.values[item.name], joined)
        assert values is not None
        found = joined_values(groups, values, weights, item, picks)
        yield Payload(step.level, f"vertex_attributes/{item.name}", chunk, n, encode_rows(found))
    counted = groups.sizes if weights is None else sums(groups, weights)
    yield Payload(step.level, f"vertex_attributes/{step.weight}", chunk, n, encode_rows(counted.astype(np.int64)))
    yield from link_payloads(step, chunk, fine, joined)
    yield Payload(step.level, "vertices", chunk, n, encode_rows(positions))


def joined_values(
    groups: Groups, values: np.ndarray[Any, Any], weights: IntArray | None, item: Aggregated, picks: Hashes | None
) -> np.ndarray[Any, Any]:
    """Values of the coarse rows; where a number stands for what is missing, it enters no mean, extreme or sum."""
    if item.fill is None or item.rule not in NUMBERS or (there := values != item.fill).all():
        return aggregate(groups, values, weights, item.rule, picks)
    labels, kept = np.unique(groups.labels[there], return_inverse=True), None if weights is None else weights[there]
    found = np.full((groups.count, *values.shape[1:]), item.fill, item.dtype)
    found[labels[0]] = aggregate(Groups(labels[1].reshape(-1), len(labels[0])), values[there], kept, item.rule)
    return found


def owner_payloads(step: Step, chunk: ChunkKey, joined: Joined) -> Iterator[Payload]:
    """Ids of the objects of the fragments, which spare readers the manifests; none where a fragment has no object."""
    owners = joined.pieces.owners
    if step.index is None or owners is None or not len(owners) or owners.min() < 0:
        return
    ids = read_ids(step.source, step.index)[owners]
    yield Payload(step.level, CURRENT.fragment_owners, chunk, len(ids), encode_rows(ids))


def link_payloads(step: Step, chunk: ChunkKey, fine: FineRows, joined: Joined) -> Iterator[Payload]:
    """Links between the rows of a coarse chunk and those below; the one for each finer chunk, by its rows."""
    if step.cross == "none":
        return
    delta = step.level - step.source.level
    zero = CURRENT.link_path(delta, ".".join("0" * len(chunk)))
    offsets = np.asarray(fine.chunks, np.int64) - np.asarray(step.anchor(chunk), np.int64)
    for key, segment, pairs in zip(fine.chunks, format_deltas(offsets), parent_pairs(fine, joined), strict=True):
        if not len(pairs) - 1:
            continue
        yield Payload(step.source.level, zero, key, len(pairs) - 1, encode_rows(pairs))
        if step.cross == "explicit":
            mirrored = pairs[:, ::-1].copy()
            mirrored[0] = pairs[0]
            yield Payload(step.level, CURRENT.link_path(-delta, segment), chunk, len(pairs) - 1, encode_rows(mirrored))


def parent_pairs(fine: FineRows, joined: Joined) -> Iterator[IntArray]:
    """For each finer chunk (n + 1, 2) int64: the header of one group of records, then (row, coarse row) by row."""
    labels, rows = joined.groups.labels, joined.members
    if rows is not None and len(rows) and (np.diff(rows) < 0).any():
        order = np.argsort(rows, kind="stable")
        rows, labels = rows[order], labels[order]
    bounds = fine.starts if rows is None else np.searchsorted(rows, fine.starts)
    for i, start in enumerate(fine.starts[:-1].tolist()):
        lo, hi = int(bounds[i]), int(bounds[i + 1])
        pairs = np.empty((hi - lo + 1, 2), np.int64)
        pairs[0] = (1, 0)
        pairs[1:, 0] = np.arange(hi - lo) if rows is None else rows[lo:hi] - start
        pairs[1:, 1] = labels[lo:hi]
        yield pairs
