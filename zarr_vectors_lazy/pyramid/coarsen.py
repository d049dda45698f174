"""The tasks that make the cells of coarse chunks, and their links: within a part, between parts, across levels."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import format_deltas
from zarr_vectors_lazy.format.manifests import encode_tiling
from zarr_vectors_lazy.format.registry import CURRENT
from zarr_vectors_lazy.format.v09.writing import place_links
from zarr_vectors_lazy.format.vectors import encode_rows
from zarr_vectors_lazy.kernels.bins import (
    NUMBERS,
    Groups,
    aggregate,
    bins_of,
    distinct_rows,
    every,
    place_in_bins,
    proper,
    root_slots,
    smallest_first,
    summed_weights,
    weighted_means,
    whole,
)
from zarr_vectors_lazy.kernels.rows import Hashes, hash_rows
from zarr_vectors_lazy.model.arrays import LinkCoding
from zarr_vectors_lazy.model.levels import ChunkTable, distinct_chunks, dotted
from zarr_vectors_lazy.model.objects import ragged_arange
from zarr_vectors_lazy.model.writing import ArrayDraft, ChunkKey, ChunkRecord, Grid, Pieces, following
from zarr_vectors_lazy.plan.blocks import coarse_chunks
from zarr_vectors_lazy.pyramid.finer import (
    Ends,
    FineRows,
    LinkIndex,
    Owners,
    decode_rows,
    fetch_part,
    incident,
    last_of_each_child,
    misplaced,
    owned_by,
    read_ends,
    read_owners,
    rows_of_ends,
    tree_edges,
)
from zarr_vectors_lazy.pyramid.merge import (
    CHUNK,
    FIRST,
    LAST,
    OWNER,
    START,
    STOP,
    Binned,
    Joined,
    join_clusters,
    join_paths,
    join_points,
    join_sets,
    made_parts,
    map_put,
    owners_of_rows,
    pieces_put,
    read_maps,
    read_pieces,
    rows_alone,
)
from zarr_vectors_lazy.pyramid.step import (
    Aggregated,
    Begun,
    LevelBuild,
    Part,
    Payload,
    Thinning,
    encode,
    write_once,
    written_once,
)
from zarr_vectors_lazy.read.cells import Requested, read_batch, read_links, read_row_count
from zarr_vectors_lazy.read.level import Source
from zarr_vectors_lazy.read.objects import read_ids
from zarr_vectors_lazy.requests import Put
from zarr_vectors_lazy.storage.fetch import connect
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray, Vertices

T = TypeVar("T")

# The cells of some coarse chunks, from the rows that become their vertices.

TIES = 0x71E5  # seed of the hash that decides between equally frequent values; different from that of thinning


def coarse_positions(step: LevelBuild, chunks: ChunkCoords, fine: FineRows, joined: Joined) -> Vertices:
    """(C, D) positions of the coarse rows."""
    groups, members = joined.groups, joined.members
    positions = fine.positions if members is None else fine.positions.take(members, axis=0)  # faster than an index
    means = weighted_means(groups, positions, taken(fine.weights, joined))
    out = place_in_bins(means, joined.bins, step.bin_grid(chunks), position_dtype(positions.dtype))
    if joined.exact is not None:
        coarse, rows = joined.exact
        out[coarse] = fine.positions[rows]
    return out


def position_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Dtype of coarse positions: the finer level's, except that means of integers are floats."""
    return dtype if dtype.kind == "f" else np.dtype(np.float64)


def taken(values: np.ndarray[Any, Any] | None, joined: Joined) -> np.ndarray[Any, Any] | None:
    """Values of the members."""
    return values if values is None or joined.members is None else values[joined.members]


def by_root_bins(step: LevelBuild, chunks: ChunkCoords, positions: Vertices, joined: Joined) -> tuple[Vertices, Joined]:
    """Sort coarse rows into the bins of level 0, one fragment for each: the reference's boxes rely on that."""
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
    step: LevelBuild, chunks: ChunkCoords, fine: FineRows, joined: Joined, links: Sequence[Sequence[Payload]]
) -> Iterator[list[Payload]]:
    """Payloads of each of some coarse chunks; none for a chunk without vertices.

    Parameters
    ----------
    chunks
        (g, K) the coarse chunks.
    links
        For each, the payloads of links inside the level.
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
    for i, (key, links_between) in enumerate(zip(map(tuple, chunks.tolist()), between, strict=True)):
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
        found += [*links_between, *links[i]]
        found.append(Payload(step.level, "vertices", key, hi - lo, encode_rows(positions[lo:hi])))
        yield found


def _columns(step: LevelBuild, fine: FineRows, joined: Joined) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Values of the coarse rows, by array path: the attributes, and the weight."""
    groups, weights, picks = joined.groups, taken(fine.weights, joined), None
    if any(item.rule == "mode" for item in step.attributes):
        picks = taken(hash_rows(TIES, step.source.level, fine.chunks, np.diff(fine.starts)), joined)
    for item in step.attributes:
        values = taken(fine.values[item.name], joined)
        assert values is not None
        yield f"vertex_attributes/{item.name}", joined_values(groups, values, weights, item, picks)
    yield f"vertex_attributes/{step.weight}", groups.sizes if weights is None else summed_weights(groups, weights)


def joined_values(
    groups: Groups, values: np.ndarray[Any, Any], weights: IntArray | None, item: Aggregated, picks: Hashes | None
) -> np.ndarray[Any, Any]:
    """Values of the coarse rows; a number that stands for a missing value enters no mean, extreme or sum."""
    if item.fill is None or item.rule not in NUMBERS or (there := values != item.fill).all():
        return aggregate(groups, values, weights, item.rule, picks)
    labels, kept = np.unique(groups.labels[there], return_inverse=True), None if weights is None else weights[there]
    found = np.full((groups.count, *values.shape[1:]), item.fill, item.dtype)
    found[labels[0]] = aggregate(Groups(labels[1].reshape(-1), len(labels[0])), values[there], kept, item.rule)
    return found


def _owner_ids(step: LevelBuild, joined: Joined) -> IntArray | None:
    """(F,) ids of the objects of the fragments, which save readers the manifests; of no use without objects."""
    owners = joined.pieces.owners
    if step.index is None or owners is None:
        return None
    return read_ids(step.source, step.index)[owners]


def _between(step: LevelBuild, chunks: ChunkCoords, fine: FineRows, joined: Joined) -> Iterator[list[Payload]]:
    """For each coarse chunk, the links between its rows and those of each finer chunk below it."""
    if step.cross_level_storage == "none":
        yield from ([] for _ in range(len(chunks)))
        return
    coarse, delta = fine.coarse, step.level - step.source.level
    zero = CURRENT.link_path(delta, ".".join("0" * step.rank))
    segments = format_deltas(fine.chunks - step.anchors(chunks)[coarse])
    rows, labels = joined.became
    bounds = np.searchsorted(rows, fine.starts).tolist()
    keys, starts, firsts = [*map(tuple, fine.chunks.tolist())], fine.starts.tolist(), joined.rows.tolist()
    ranges_below = zip(map(tuple, chunks.tolist()), pairwise(fine.bounds.tolist()), strict=True)
    for parent, (key, below) in enumerate(ranges_below):
        found = []
        for i in range(*below):
            lo, hi = bounds[i : i + 2]
            if lo == hi:
                continue
            up = np.empty((hi - lo + 1, 2), "<i8")
            up[0] = (1, 0)  # the header of their one group
            np.subtract(rows[lo:hi], starts[i], out=up[1:, 0])
            np.subtract(labels[lo:hi], firsts[parent], out=up[1:, 1])
            found.append(Payload(step.source.level, zero, keys[i], hi - lo, encode_rows(up)))
            if step.cross_level_storage == "explicit":
                down = up[:, ::-1].copy()
                down[0] = (1, 0)
                path = CURRENT.link_path(-delta, segments[i])
                found.append(Payload(step.level, path, key, hi - lo, encode_rows(down)))
        yield found


def link_payloads(
    step: LevelBuild, coords: ChunkCoords, starts: IntArray, ends: IntArray, owners: Sequence[int], count: int
) -> list[list[Payload]]:
    """Payloads of the links inside a level that each of some chunks stores.

    Parameters
    ----------
    coords, starts
        (n, K) the chunks in which ends lie, in lexicographic order, and (n + 1,) the numbers of their rows.
    ends
        (M, L) rows; collapsed links and duplicates, which paths do not have, are left out.
    owners, count
        Which of ``count`` chunks each of these is; -1 for others, whose links are not needed.
    """
    found: list[list[Payload]] = [[] for _ in range(count)]
    if step.kind != "paths":
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


def one_of_each(step: LevelBuild, ids: IntArray) -> IntArray:
    """Records without duplicates and collapsed ones, ascending; equal faces are rotated alike.

    Undirected edges lead from the lower end; those of trees and directed graphs keep their direction.
    """
    ids = ids.take(np.flatnonzero(proper(ids)), axis=0)
    if step.kind == "faces":
        ids = smallest_first(ids)
    elif step.kind == "graph" and not step.directed:
        ids = np.stack([np.minimum(ids[:, 0], ids[:, 1]), np.maximum(ids[:, 0], ids[:, 1])], axis=1)
    return distinct_rows(ids)


# The task that makes the cells of some coarse chunks.

CELLS, LINKS = "cells", "links"
"""Stages whose records the journal keeps."""
NO_PIECES = (0,)  # shards of a part without a table of pieces


@written_once(CELLS)
def coarsen_part(
    step: LevelBuild,
    part: Part,
    begun: Begun,
    threshold: int | None,
    below: Sequence[Sequence[ChunkRecord]],
    links: LinkIndex | None = None,
    after: object = None,
) -> Iterator[tuple[ChunkRecord, list[Put]]]:
    """Make some coarse chunks: fetch everything they need concurrently, put their cells, leave a record of each.

    Parameters
    ----------
    threshold
        Largest hash of a vertex that is kept, if vertices are dropped one by one.
    below, links
        Records of the tasks that made the finer chunks, and their links, if these are made in the same graph.
    after
        Other tasks that must have finished before.
    """
    part = alive_part(part, below)
    if not len(part.fine):
        yield from ((ChunkRecord(part.key(i), 0, (), () if i else NO_PIECES), []) for i in range(len(part)))
        return
    fine = decode_rows(step, part, fetch_part(step, part))
    puts: list[Put] = []  # what the journal keeps about the part
    shards: tuple[int, ...] = NO_PIECES
    rows = None
    if step.linked:
        segments, cells = incident(step, part, links)
        inside, across = cells.parted(part.number(cells.chunks, (0, len(part))))
        rows = rows_of_ends(cells if step.kind == "tree" else inside, step, segments, fine)
    roots = None
    if step.kind == "tree":
        assert rows is not None
        rows, roots = tree_edges(fine, rows)
    joined = join(step, part, fine, begun, threshold, rows, roots)
    inner: list[list[Payload]] = [[] for _ in range(len(part))]
    if step.kind == "paths" and len(part) > 1:
        inner = link_payloads(step, part.chunks, joined.rows, joined.pieces.bridges(), range(len(part)), len(part))
    if rows is not None:
        inner = _inner_links(step, part, fine, joined, rows)
        puts += map_put(step, part, fine, joined, across.chunks)
    if joined.pieces.owners is not None and step.index is not None:
        table, shards = pieces_put(step.level, part.key(0), joined, step.index.count)
        puts += [table] if shards[-1] else []
    for i, payloads in enumerate(chunk_payloads(step, part.chunks, fine, joined, inner)):
        made, cells_made = encode(step, payloads)
        count = int(joined.rows[i + 1] - joined.rows[i])
        yield ChunkRecord(part.key(i), count, cells_made, () if i else shards), [*puts, *made]
        puts = []


def alive_part(part: Part, below: Sequence[Sequence[ChunkRecord]]) -> Part:
    """Leave out finer chunks that turned out to be empty."""
    if not below:
        return part
    rows = {record.chunk: record.rows for group in below for record in group}
    alive = np.asarray([rows[tuple(key)] > 0 for key in part.fine.tolist()], np.bool_)
    if alive.all():
        return part
    kept = np.concatenate([[0], np.cumsum(alive)])
    return Part(
        chunks=part.chunks,
        fine=part.fine[alive],
        bounds=kept[part.bounds].astype(np.int64),
        missing={name: mask[alive] for name, mask in part.missing.items()},
        cells=part.cells,
    )


def join(
    step: LevelBuild,
    part: Part,
    fine: FineRows,
    begun: Begun,
    threshold: int | None,
    edges: IntArray | None,
    roots: BoolArray | None,
) -> Joined:
    """Decide which rows become one, by the kind of geometry."""
    grid = step.bin_grid(part.chunks)
    binned = Binned(fine, bins_of(fine.positions, fine.coarse_of_rows, grid), grid.cells)
    owned = owned_by(step, fine.chunks, part.chunks, begun)
    if step.kind == "points" or (owned is None and step.kind in ("sets", "faces")):
        return join_points(binned, None if threshold is None else _kept_rows(step, fine, threshold))
    if step.linked:  # what a row became must be a single vertex
        owners = np.zeros(len(fine), np.int64) if owned is None else owners_of_rows(fine, *owned)
    if step.kind in ("graph", "tree"):
        assert edges is not None
        return join_clusters(binned, owners, edges, roots)
    assert owned is not None
    if step.kind != "paths":
        return join_sets(binned, owned[1], rows_alone(fine, owned[0]))
    return join_paths(binned, owned[1], read_owners(step, begun), step.min_vertices)


def _inner_links(step: LevelBuild, part: Part, fine: FineRows, joined: Joined, rows: IntArray) -> list[list[Payload]]:
    """Payloads, for each coarse chunk, of the links inside a part, whose ends are (M, L) finer rows."""
    became = np.full(len(fine), -1, np.int64)
    members, labels = joined.became
    became[members] = labels
    ends = whole(became.take(whole(rows)))
    return link_payloads(step, part.chunks, joined.rows, ends, range(len(part)), len(part))


def linked_chunks(
    step: LevelBuild, keys: Sequence[ChunkKey], payloads: Sequence[Sequence[Payload]], finer: Grid | None = None
) -> Iterator[tuple[ChunkRecord, list[Put]]]:
    """Records and puts of the links that some coarse chunks store; ``finer`` is the finer level's grid, if any."""
    for key, of_chunk in zip(keys, payloads, strict=True):
        puts, cells = encode(step, of_chunk, finer)
        yield ChunkRecord(key, len(cells), cells), puts


def _kept_rows(step: LevelBuild, fine: FineRows, threshold: int) -> BoolArray:
    assert step.thinning is not None
    hashes = hash_rows(step.thinning.sparsity_seed, step.level, fine.chunks, np.diff(fine.starts))
    return np.asarray(hashes <= np.uint64(threshold))


def gathered(parts: Iterable[list[T]]) -> list[T]:
    """Task: join what several tasks return, such as records, in one list."""
    return [each for part in parts for each in part]


# Which vertices of a level without objects are kept: those with the smallest hashes, up to a counted threshold.

BITS = 16  # bits of a hash that a first pass counts
ROWS = 2**20  # rows that are hashed at once
BATCH = 1024  # heads of cells that are fetched at once


def row_threshold(
    step: LevelBuild,
    thinning: Thinning,
    coords: ChunkCoords,
    counts: IntArray | None,
    below: list[list[ChunkRecord]],
    begun: Begun,
) -> int:
    """Largest hash of a vertex that is kept.

    Parameters
    ----------
    coords, counts
        Chunks of the finer level and their rows, if these are known beforehand.
    below
        Records of the tasks that made the finer level, if it is made in the same graph.
    begun
        The build that has begun.
    """
    if below:
        records = sorted((r for group in below for r in group if r.rows), key=lambda record: record.chunk)
        coords = np.asarray([record.chunk for record in records], np.int64)
        counts = np.asarray([record.rows for record in records], np.int64)
    elif counts is None:
        counts = _read_counts(step, coords)
    total = int(counts.sum())
    keep = min(total, max(1, round(total * thinning.keep)))
    shift = np.uint64(64 - BITS)
    table = np.zeros(2**BITS, np.int64)
    for some in _some(counts):
        hashes = hash_rows(thinning.sparsity_seed, step.level, coords[some], counts[some])
        table += np.bincount((hashes >> shift).astype(np.int64), minlength=2**BITS)
    below_bucket = np.cumsum(table) - table
    bucket = np.uint64(np.searchsorted(below_bucket, keep) - 1)
    near = [np.zeros(0, np.uint64)]
    for some in _some(counts):
        hashes = hash_rows(thinning.sparsity_seed, step.level, coords[some], counts[some])
        near.append(hashes[hashes >> shift == bucket])
    found = np.sort(np.concatenate(near))
    return int(found[keep - int(below_bucket[int(bucket)]) - 1]) if len(found) else 0


def _some(counts: IntArray) -> Iterator[slice]:
    """Runs of chunks with about `ROWS` rows, at least one chunk in each."""
    turns = np.flatnonzero(np.diff(np.cumsum(counts) // ROWS, prepend=0))
    for first, last in pairwise(np.unique([0, *turns, len(counts)]).tolist()):
        yield slice(first, last)


def _read_counts(step: LevelBuild, coords: ChunkCoords) -> IntArray:
    found = []
    for start in range(0, len(coords), BATCH):
        part = coords[start : start + BATCH]
        raws = read_batch(step.source, [Requested("", step.vertices, tuple(range(len(part))), part, head=True)])
        found += [
            read_row_count(step.source, step.vertices, coord, raws["", i]) for i, coord in enumerate(part.tolist())
        ]
    return np.asarray(found, np.int64)


# Links across more than one level, derived from the links of the levels between.

CODING = LinkCoding(width=2, dtype=np.dtype("<i8"), grouped=True, permuted=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FarStep:
    """Links from a level to one that is several levels coarser.

    Parameters
    ----------
    step
        The last step, which makes the coarser of the two levels.
    level, grid
        The finer of the two levels, and the grid of its links.
    scale, last
        (D,) finest chunks, and chunks of the level before the coarsest, of a coarse chunk along each axis.
    """

    step: LevelBuild
    level: int
    grid: Grid
    scale: IntArray
    last: IntArray

    @property
    def delta(self) -> int:
        """Levels that the links reach across."""
        return self.step.level - self.level


def far_part(
    far: FarStep,
    keys: Sequence[ChunkKey],
    finest: ChunkCoords,
    begun: Begun,
    upper: Sequence[Sequence[ChunkRecord]],
    lower: Sequence[Sequence[ChunkRecord]],
) -> list[ChunkRecord]:
    """Task: write the links of some coarse chunks to a level far below, and back.

    Parameters
    ----------
    keys
        The coarse chunks.
    finest
        (f, K) the chunks of the finest level below them, in lexicographic order.
    upper, lower
        Records of the tasks that wrote the links from the level before the coarsest, and to it.
    """
    return write_once(far.step, f"far{far.delta}", keys, begun, _far_chunks(far, keys, finest, upper, lower))


def _far_chunks(
    far: FarStep,
    keys: Sequence[ChunkKey],
    finest: ChunkCoords,
    upper: Sequence[Sequence[ChunkRecord]],
    lower: Sequence[Sequence[ChunkRecord]],
) -> Iterator[tuple[ChunkRecord, list[Put]]]:
    step = far.step
    onward = _read(far, step.source.level, 1, step.fine_grid, upper)
    first = _read(far, far.level, far.delta - 1, far.grid, lower)
    coarse, middle = coarse_chunks(finest, far.scale), coarse_chunks(finest, far.scale // far.last)
    payloads: list[list[Payload]] = [[] for _ in keys]
    table = ChunkTable(np.asarray(keys, np.int64))
    of_key = table.order[table.find(coarse)]
    for i, chunk, through in zip(of_key.tolist(), finest.tolist(), middle.tolist(), strict=True):
        pairs = _composed(first.get(tuple(chunk)), onward.get(tuple(through)))
        payloads[i] += _payloads(far, keys[i], tuple(chunk), pairs)
    yield from linked_chunks(step, keys, payloads, far.grid)


def _path(delta: int, rank: int) -> str:
    return CURRENT.link_path(delta, ".".join("0" * rank))


def _read(
    far: FarStep, level: int, delta: int, grid: Grid, records: Sequence[Sequence[ChunkRecord]]
) -> dict[ChunkKey, IntArray]:
    """Pairs (row, row of the coarser level) in the cells that were written, by chunk."""
    path, source = _path(delta, far.step.rank), Source(far.step.source.spec, level)
    keys = sorted({c.chunk for group in records for r in group for c in r.cells if c.level == level and c.path == path})
    draft = ArrayDraft(path=path, attributes={"dtype": "int64", "row_shape": []})
    spec = CURRENT.cell_spec(level, draft, grid, far.step.encoding)
    coords = np.asarray(keys, np.int64).reshape(-1, far.step.rank)
    raws = read_batch(source, [Requested("", spec, tuple(range(len(keys))), coords)])
    return {key: read_links(source, spec, key, raws["", i], CODING)[:, 1] for i, key in enumerate(keys)}


def _composed(first: IntArray | None, onward: IntArray | None) -> IntArray:
    """Pairs composed through rows of the level between; (n, 2), by first row."""
    if first is None or onward is None:
        return np.empty((0, 2), np.int64)
    begins = np.searchsorted(onward[:, 0], first[:, 1], side="left")
    counts = np.searchsorted(onward[:, 0], first[:, 1], side="right") - begins
    at = np.repeat(begins, counts) + ragged_arange(counts)
    return np.stack([np.repeat(first[:, 0], counts), onward[at, 1]], axis=1)


def _payloads(far: FarStep, key: ChunkKey, chunk: ChunkKey, pairs: IntArray) -> list[Payload]:
    if not len(pairs):
        return []
    step, head = far.step, np.asarray([[1, 0]], np.int64)
    n, rank = len(pairs), step.rank
    found = [Payload(far.level, _path(far.delta, rank), chunk, n, encode_rows(np.concatenate([head, pairs])))]
    if step.cross_level_storage == "explicit":
        lead = rank - len(far.scale)
        corner = np.concatenate([np.asarray(key[:lead], np.int64), np.asarray(key[lead:], np.int64) * far.scale])
        (segment,) = format_deltas((np.asarray(chunk) - corner)[None])
        back = encode_rows(np.concatenate([head, pairs[:, ::-1]]))
        found.append(Payload(step.level, CURRENT.link_path(-far.delta, segment), key, n, back))
    return found


# Edges and faces of a coarse level: those of the finer one, between the vertices that its vertices became.
#
# Those inside a part are written by its own task, which has everything they need; those across by a second task, which
# looks up in the journal what vertices of other parts became. The chunk that stores a link depends only on its ends, so
# all its duplicates meet there and become one.


@written_once(LINKS)
def remap_part(
    step: LevelBuild,
    part: Part,
    begun: Begun,
    cuts: Sequence[int],
    links: LinkIndex | None,
    below: Sequence[Sequence[ChunkRecord]],
    records: Sequence[Sequence[ChunkRecord]],
) -> Iterator[tuple[ChunkRecord, list[Put]]]:
    """Task: write the edges or faces that some coarse chunks store and that lead out of their part.

    Parameters
    ----------
    part, cuts
        Coarse chunks; one task made those from ``cuts[i]`` to ``cuts[i + 1]``.
    links, below
        The links of the finer level, and records of the tasks that wrote its chunks, where these are made in the same
        graph.
    records
        Records of the tasks that made the chunks of this level.
    """
    work = alive_part(part, below)
    segments, cells = incident(step, work, links)
    across = cells.parted(work.number(cells.chunks, cuts))[1]
    if not step.directed:  # stored with the lowest of their chunks, and parts consist of ascending chunks
        across = across.without(_before(step.parent(across.chunks), part.chunks[:1]))
    if not len(across.chunks):
        return
    ends = read_ends(across, step, segments)
    if step.kind == "tree":
        ends = last_of_each_child(ends)
    coords, starts, became = _coarse_ends(step, ends, made_parts(records))
    owners = ChunkTable(part.chunks).find(coords).tolist()
    yield from linked_chunks(step, part.keys, link_payloads(step, coords, starts, became, owners, len(part)))


def _before(chunks: ChunkCoords, first: ChunkCoords) -> BoolArray:
    """(n,) which chunks come before a given one."""
    number = distinct_chunks(np.concatenate([first, chunks]))[1]
    return np.asarray(number[1:] < number[0])


def _coarse_ends(
    step: LevelBuild, ends: Ends, parts: Sequence[Sequence[ChunkRecord]]
) -> tuple[ChunkCoords, IntArray, IntArray]:
    """Coarse chunks, the numbers of their rows, and (M, L) rows that ends became; dropped ends are left out."""
    backend, known = connect(step.source.spec), [record for part in parts for record in part]
    coarse = ChunkTable(np.asarray([record.chunk for record in known], np.int64))
    number = coarse.find(step.parent(ends.chunks))
    used = np.unique(np.repeat(np.arange(len(parts)), [len(part) for part in parts])[number[number >= 0]])
    chunks, counts, became = read_maps(backend, step, [parts[i][0].chunk for i in used.tolist()])
    table = ChunkTable(chunks)
    at = table.find(ends.chunks)
    if (at < 0).any():
        missing = dotted(ends.chunks[np.argmin(at)])
        raise FormatError(
            f"a link of level {step.source.level} leads to chunk {missing!r}, which the level does not list",
            where=backend.url,
        )
    slot = table.order[at]
    wrong = (ends.rows < 0) | (ends.rows >= counts[slot][ends.at])
    if wrong.any():
        raise misplaced(step, int(ends.rows[wrong][0]))
    row = became[(np.cumsum(counts) - counts)[slot][ends.at] + ends.rows]
    starts = np.concatenate([[0], np.cumsum([record.rows for record in known])])
    kept = every(row >= 0)
    return coarse.coords, starts, starts[number[ends.at[kept]]] + row[kept]


# Links between pieces of paths that continue in another chunk.


@written_once(LINKS)
def bridge_part(
    step: LevelBuild, part: Part, begun: Begun, records: Sequence[Sequence[ChunkRecord]]
) -> Iterator[tuple[ChunkRecord, list[Put]]]:
    """Task: link the pieces of some coarse chunks to those in later parts that precede and follow them.

    A link is stored with the lower of its two chunks, and parts consist of ascending chunks; the task
    that made some of the chunks has already linked what lies in these.
    """
    backend, keys = connect(step.source.spec), part.keys
    parts = made_parts(records)
    of_chunk = {record.chunk: i for i, made in enumerate(parts) for record in made}
    mine = [parts[i] for i in sorted({of_chunk[key] for key in keys})]
    table = read_pieces(backend, step.level, mine)
    later = _later(step, read_owners(step, begun), keys[-1], table)
    beyond = [parts[i] for i in sorted({of_chunk[key] for key in later})]
    others = read_pieces(backend, step.level, beyond)
    others[CHUNK] += len(keys)
    table = np.concatenate([table, others], axis=1)
    known = [record for made in (*mine, *beyond) for record in made]
    of_part = np.repeat(np.arange(len(mine) + 1), [*map(len, mine), len(known) - len(keys)])
    starts = np.concatenate([[0], np.cumsum([record.rows for record in known])])
    one, other = following(table[OWNER], table[FIRST], table[LAST])
    part_of = of_part.take(table[CHUNK])
    across = np.flatnonzero(part_of.take(one) != part_of.take(other))
    one, other, begin = one[across], other[across], starts.take(table[CHUNK])
    ends = np.stack([(begin + table[STOP] - 1).take(one), (begin + table[START]).take(other)], axis=1)
    coords = np.asarray([record.chunk for record in known], np.int64)
    stored = [*range(len(keys)), *(-1 for _ in known[len(keys) :])]
    yield from linked_chunks(step, keys, link_payloads(step, coords, starts, ends, stored, len(keys)))


def _later(step: LevelBuild, owners: Owners, last: Sequence[int], mine: IntArray) -> list[tuple[int, ...]]:
    """Chunks after a part's ``last`` in which its paths continue, or from which they come, ascending."""
    first, end = owners.offsets.take(mine[OWNER]), owners.offsets[1:].take(mine[OWNER])
    onward, back = first + mine[LAST] + 1, first + mine[FIRST] - 1
    used = np.zeros(len(owners.table), np.bool_)
    for entries, inside in ((onward, onward < end), (back, back >= first)):
        used[owners.chunk_of.take(entries[inside])] = True
    return after(step.parent(owners.table.coords[used]), last)


def after(chunks: ChunkCoords, last: Sequence[int]) -> list[tuple[int, ...]]:
    """Distinct chunks that come after ``last``, ascending."""
    found = map(tuple, distinct_chunks(chunks)[0].coords.tolist())
    return [key for key in found if key > tuple(last)]
