"""The cells of some coarse chunks, from the rows that become their vertices."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.objects import read_ids
from zarr_vectors_lazy.access.pyramid.cells import Payload
from zarr_vectors_lazy.access.pyramid.join import Joined
from zarr_vectors_lazy.access.pyramid.read import FineRows
from zarr_vectors_lazy.access.pyramid.step import Aggregated, Step
from zarr_vectors_lazy.format.keys import format_deltas
from zarr_vectors_lazy.format.writing import CURRENT, encode_rows, encode_tiling, place_links
from zarr_vectors_lazy.kernels.bins import place_in_bins, root_slots
from zarr_vectors_lazy.kernels.clusters import distinct_rows, proper, smallest_first
from zarr_vectors_lazy.kernels.groups import NUMBERS, Groups, aggregate, sums, weighted_means
from zarr_vectors_lazy.kernels.hashing import Hashes, hash_rows
from zarr_vectors_lazy.model.pyramid import Pieces
from zarr_vectors_lazy.types import ChunkCoords, IntArray, Vertices

TIES = 0x71E5  # seed of the hash by which ties among most frequent values end; another than that of thinning


def coarse_positions(step: Step, chunks: ChunkCoords, fine: FineRows, joined: Joined) -> Vertices:
    """(C, D) positions of the coarse rows."""
    groups, members = joined.groups, joined.members
    positions = fine.positions if members is None else fine.positions[members]
    means = weighted_means(groups, positions, taken(fine.weights, joined))
    out = place_in_bins(means, joined.bins, step.bin_grid(chunks), position_dtype(positions.dtype))
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


def by_root_bins(step: Step, chunks: ChunkCoords, positions: Vertices, joined: Joined) -> tuple[Vertices, Joined]:
    """Coarse rows by the bins of level 0, a fragment for each of these: the reference's boxes count on that."""
    assert step.root_bins is not None
    which, each = np.repeat(np.arange(len(chunks)), np.diff(joined.rows)), int(np.prod(step.root_bins))
    slots = root_slots(positions, which, step.bin_grid(chunks), step.root_bins)
    order = np.argsort(slots, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    pieces = Pieces(np.searchsorted(slots[order], np.arange(len(chunks) * each + 1)))
    groups, cuts = Groups(rank[joined.groups.labels], joined.groups.count), np.arange(len(chunks) + 1) * each
    return positions[order], Joined(joined.members, groups, joined.bins[order], joined.rows, pieces, cuts)


def chunk_payloads(
    step: Step, chunks: ChunkCoords, fine: FineRows, joined: Joined, links: Sequence[Sequence[Payload]]
) -> Iterator[list[Payload]]:
    """Payloads of each of some coarse chunks; none of one that has no vertices.

    Parameters
    ----------
    chunks
        (g, K) the coarse chunks.
    links
        Of each the payloads of links inside the level.
    """
    if not joined.groups.count:
        yield from ([] for _ in chunks)
        return
    positions = coarse_positions(step, chunks, fine, joined)
    if step.root_bins is not None:
        positions, joined = by_root_bins(step, chunks, positions, joined)
    columns = dict(_columns(step, fine, joined))
    ids = _owner_ids(step, joined)
    between = _between(step, chunks, fine, joined)
    pieces, rows, cuts = joined.pieces, joined.rows.tolist(), joined.cuts.tolist()
    for i, key in enumerate(map(tuple, chunks.tolist())):
        (lo, hi), (first, last) = rows[i : i + 2], cuts[i : i + 2]
        if lo == hi:
            yield []
            continue
        found = []
        owned = ids is not None and pieces.owners is not None and pieces.owners[first:last].min() >= 0
        if owned and ids is not None and step.owners is not None:
            owners = encode_rows(ids[first:last])
            found.append(Payload(step.level, step.owners.path, key, last - first, owners))
        tiling = encode_tiling(np.diff(pieces.starts[first : last + 1]))
        found.append(Payload(step.level, "vertex_fragments", key, hi - lo, tiling))
        for path, values in columns.items():
            found.append(Payload(step.level, path, key, hi - lo, encode_rows(values[lo:hi])))
        found += [*between[i], *links[i]]
        found.append(Payload(step.level, "vertices", key, hi - lo, encode_rows(positions[lo:hi])))
        yield found


def _columns(step: Step, fine: FineRows, joined: Joined) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Values of the coarse rows, by the array's path: the attributes, and the weight."""
    groups, weights, picks = joined.groups, taken(fine.weights, joined), None
    if any(item.rule == "mode" for item in step.attributes):
        picks = taken(hash_rows(TIES, step.source.level, fine.chunks, np.diff(fine.starts)), joined)
    for item in step.attributes:
        values = taken(fine.values[item.name], joined)
        assert values is not None
        yield f"vertex_attributes/{item.name}", joined_values(groups, values, weights, item, picks)
    counted = groups.sizes if weights is None else sums(groups, weights)
    yield f"vertex_attributes/{step.weight}", counted.astype(np.int64)


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


def _owner_ids(step: Step, joined: Joined) -> IntArray | None:
    """(F,) ids of the objects of the fragments, which spare readers the manifests; those of no object are of no use."""
    owners = joined.pieces.owners
    if step.index is None or owners is None:
        return None
    return read_ids(step.source, step.index)[owners]


def _between(step: Step, chunks: ChunkCoords, fine: FineRows, joined: Joined) -> list[list[Payload]]:
    """Of each coarse chunk the links between its rows and those below, for each finer chunk by its rows."""
    found: list[list[Payload]] = [[] for _ in range(len(chunks))]
    if step.cross == "none":
        return found
    coarse, delta = fine.coarse, step.level - step.source.level
    zero = CURRENT.link_path(delta, ".".join("0" * step.rank))
    segments = format_deltas(fine.chunks - step.anchors(chunks)[coarse])
    rows, labels = joined.became
    bounds = np.searchsorted(rows, fine.starts)
    counts = np.diff(bounds)
    up = np.empty((len(rows) + len(counts), 2), "<i8")  # before the records of each cell the header of their one group
    heads = bounds[:-1] + np.arange(len(counts))
    up[heads] = (1, 0)
    inner = np.ones(len(up), np.bool_)
    inner[heads] = False
    up[inner, 0] = rows - np.repeat(fine.starts[:-1], counts)
    up[inner, 1] = labels - np.repeat(joined.rows[coarse], counts)
    down = up[:, ::-1].copy()
    down[heads] = (1, 0)
    keys, parents = list(map(tuple, fine.chunks.tolist())), list(map(tuple, chunks.tolist()))
    for i, (parent, count, head) in enumerate(zip(coarse.tolist(), counts.tolist(), heads.tolist(), strict=True)):
        if not count:
            continue
        cell = slice(head, head + count + 1)
        found[parent].append(Payload(step.source.level, zero, keys[i], count, encode_rows(up[cell])))
        if step.cross == "explicit":
            path = CURRENT.link_path(-delta, segments[i])
            found[parent].append(Payload(step.level, path, parents[parent], count, encode_rows(down[cell])))
    return found


def link_payloads(
    step: Step, coords: ChunkCoords, starts: IntArray, ends: IntArray, owners: Sequence[int], count: int
) -> list[list[Payload]]:
    """Payloads of the links inside a level that each of some chunks stores.

    Parameters
    ----------
    coords, starts
        (n, K) the chunks in which ends lie, in lexicographic order, and (n + 1,) the numbers of their rows.
    ends
        (M, L) rows; links that collapsed, and copies, are left out.
    owners, count
        Which of ``count`` chunks each of these is, -1 for none: what that one stores is not wanted.
    """
    found: list[list[Payload]] = [[] for _ in range(count)]
    ends = one_of_each(step, ends)
    chunk = np.searchsorted(starts[1:], ends, side="right")
    placed = place_links(chunk, ends - starts[chunk], coords, directed=step.directed)
    for cell, source in enumerate(placed.sources.tolist()):
        owner = owners[source]
        if owner < 0:
            continue
        key = tuple(coords[source].tolist())
        number, segment = int(placed.bounds[cell + 1] - placed.bounds[cell]), placed.segments[cell]
        found[owner].append(Payload(step.level, CURRENT.link_path(0, segment), key, number, placed.payload(cell)))
        if CURRENT.is_within(0, segment):
            data = encode_tiling(np.asarray([number], np.int64))
            found[owner].append(Payload(step.level, CURRENT.link_fragments, key, number, data))
    return found


def one_of_each(step: Step, ids: IntArray) -> IntArray:
    """Records without copies and without those that collapsed, ascending; faces turned alike.

    Edges of no direction lead from the lower end; those of trees, and of directed graphs, keep theirs.
    """
    ids = ids[proper(ids)]
    if step.kind == "faces":
        ids = smallest_first(ids)
    elif step.kind == "graph" and not step.directed:
        ids = np.stack([np.minimum(ids[:, 0], ids[:, 1]), np.maximum(ids[:, 0], ids[:, 1])], axis=1)
    return distinct_rows(ids)
