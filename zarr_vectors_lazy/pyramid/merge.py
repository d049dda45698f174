"""Which finer rows become one, their attributes, and what the journal keeps about it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from zarr_vectors_lazy.errors import FormatError, NotFoundError
from zarr_vectors_lazy.format.registry import CURRENT
from zarr_vectors_lazy.kernels.bins import Groups, Rule, check_rule, components, cut_runs, group_by
from zarr_vectors_lazy.model.arrays import CellArray, is_coded
from zarr_vectors_lazy.model.levels import ChunkTable, dotted
from zarr_vectors_lazy.model.objects import ranges
from zarr_vectors_lazy.model.writing import ChunkKey, ChunkRecord, Pieces
from zarr_vectors_lazy.pyramid.finer import FineRows, Owned, Owners
from zarr_vectors_lazy.pyramid.step import JOURNAL, Aggregated, LevelBuild, Part
from zarr_vectors_lazy.read.cells import vertex_row_shape
from zarr_vectors_lazy.read.level import LevelData
from zarr_vectors_lazy.read.rows import Column
from zarr_vectors_lazy.requests import Get, Put
from zarr_vectors_lazy.storage.base import Backend
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray, Json

# Which rows of finer chunks become one, geometry by geometry, of several coarse chunks at once.


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Rows that become the vertices of some coarse chunks.

    Parameters
    ----------
    members
        (M,) rows of the finer chunks, in canonical order within a group; None for all, in order.
    groups
        Group of each member, numbered like the coarse rows, chunk after chunk.
    bins
        (C,) bin of each coarse row, as `kernels.bins.bins_of` numbers them.
    rows
        (g + 1,) coarse rows of chunk i are ``rows[i]:rows[i + 1]``.
    pieces
        Fragments of the coarse rows, chunk after chunk.
    cuts
        (g + 1,) those of chunk i are ``cuts[i]:cuts[i + 1]``.
    exact
        Coarse rows that are not means, and the finer rows at whose positions they lie; None if all are means.
    """

    members: IntArray | None
    groups: Groups
    bins: IntArray
    rows: IntArray
    pieces: Pieces
    cuts: IntArray
    exact: tuple[IntArray, IntArray] | None = None

    @property
    def became(self) -> tuple[IntArray, IntArray]:
        """(M,) rows of the members, ascending, and the rows that they became."""
        labels, rows = self.groups.labels, self.members
        if rows is None:
            return np.arange(len(labels)), labels
        of_row = np.full(int(rows.max(initial=-1)) + 1, -1, np.int64)
        of_row[rows] = labels
        there = np.flatnonzero(of_row >= 0)
        if len(there) == len(rows) == len(of_row):
            return there, of_row
        if len(there) == len(rows):
            return there, of_row[there]
        order = np.argsort(rows, kind="stable")  # objects share some of them
        return rows[order], labels[order]


@dataclass(frozen=True, slots=True, eq=False)
class Binned:
    """Rows of finer chunks and the bins in which they lie.

    Parameters
    ----------
    fine
        The rows.
    bins
        (N,) bin of each, numbered chunk by chunk.
    cells
        Number of bins of a coarse chunk.
    """

    fine: FineRows
    bins: IntArray
    cells: int

    @property
    def chunks(self) -> int:
        """Coarse chunks."""
        return len(self.fine.bounds) - 1

    def bounds(self, ascending: IntArray, each: int) -> IntArray:
        """(g + 1,) where the numbers of each chunk begin, if it has ``each`` of them."""
        return np.searchsorted(ascending, np.arange(self.chunks + 1) * each)


def join_points(binned: Binned, keep: BoolArray | None) -> Joined:
    """All vertices in a bin become one, bins in C order."""
    members = None if keep is None or keep.all() else np.flatnonzero(keep)
    bins = binned.bins if members is None else binned.bins[members]
    groups, found = group_by(bins, binned.chunks * binned.cells)
    rows = binned.bounds(found, binned.cells)
    return Joined(members, groups, found, rows, Pieces(rows), np.arange(binned.chunks + 1))


def join_sets(binned: Binned, owned: Owned, alone: IntArray) -> Joined:
    """All vertices of an object in a bin become one, by object and bin; each object is one piece.

    Parameters
    ----------
    alone
        Rows without an object; they stay together.
    """
    cells = binned.cells
    rows, entries = member_rows(binned.fine, owned)
    rows, objects = np.concatenate([alone, rows]), np.concatenate([np.full(len(alone), -1), owned.objects[entries]])
    if len(rows) and (np.diff(rows) < 0).any():
        order = np.argsort(rows, kind="stable")
        rows, objects = rows[order], objects[order]
    present, local = _numbered(objects)
    chunk, bins = np.divmod(binned.bins[rows], cells)
    of_chunk = len(present) * cells
    groups, keys = group_by(chunk * of_chunk + local * cells + bins, binned.chunks * of_chunk)
    piece = keys // max(cells, 1)
    begins = np.flatnonzero(np.diff(piece, prepend=-1))
    pieces = Pieces(np.append(begins, len(keys)), present[piece[begins] % max(len(present), 1)])
    bounds = binned.bounds(keys, of_chunk)
    of_bins = keys // max(of_chunk, 1) * cells + keys % cells
    return Joined(rows, groups, of_bins, bounds, pieces, np.searchsorted(begins, bounds))


def join_paths(binned: Binned, owned: Owned, owners: Owners, least: int) -> Joined:
    """Maximal runs of a path in one bin become one vertex; the ends of a path keep their place.

    Parameters
    ----------
    owned
        Entries of the chunks, sorted by coarse chunk, object and place.
    owners
        Owners of the whole level.
    least
        Coarse vertices that a piece must keep if its path enters fewer coarse chunks than that.
    """
    fine, run = binned.fine, binned.fine.fragments
    assert run is not None
    numbers = run.at(owned.slots, owned.fragments)
    rows, counts = run.fragments.rows(numbers), run.fragments.counts[numbers]
    follows = np.zeros(len(owned.objects), np.bool_)
    coarse = fine.coarse[owned.slots]
    follows[1:] = (np.diff(owned.objects) == 0) & (np.diff(owned.ordinals) == 1) & (np.diff(coarse) == 0)
    firsts = np.flatnonzero(~follows)
    bounds = np.concatenate([[0], np.cumsum(counts)])[np.append(firsts, len(follows))]
    distinct = np.flatnonzero(np.diff(bounds))  # a piece whose fragments are empty has no members
    heads, tails = firsts[distinct], np.append(firsts[1:], len(follows))[distinct] - 1
    bins, bounds = binned.bins.take(rows), np.append(bounds[:-1][distinct], bounds[-1])
    objects = owned.objects[heads]
    groups = cut_runs(bins, bounds, np.where(owners.visits[objects] < least, least, 1))
    first_rows = groups.starts
    starts = np.append(groups.labels[bounds[:-1]], groups.count)
    lengths = owners.offsets[objects + 1] - owners.offsets[objects]
    begins, ends = owned.ordinals[heads] == 0, owned.ordinals[tails] == lengths - 1
    exact = (
        np.concatenate([starts[:-1][begins], starts[1:][ends] - 1]),
        np.concatenate([rows[bounds[:-1][begins]], rows[bounds[1:][ends] - 1]]),
    )
    found = bins[first_rows]
    of_chunks = np.searchsorted(found // binned.cells, np.arange(binned.chunks + 1))
    parts = Pieces(starts, objects, owned.ordinals[heads], owned.ordinals[tails])
    return Joined(rows, groups, found, of_chunks, parts, np.searchsorted(starts[:-1], of_chunks), exact)


def join_clusters(binned: Binned, owners: IntArray, edges: IntArray, roots: BoolArray | None) -> Joined:
    """Connected vertices of one object in one bin become one, by object, bin and first member.

    Parameters
    ----------
    owners
        (N,) object of each row, -1 for none, -2 if it is dropped.
    edges
        (E, 2) rows that edges join.
    roots
        (N,) roots of trees: what they become begins a piece of its own.
    """
    dropped = owners < -1
    one, other = edges[:, 0], edges[:, 1]
    same = (binned.bins[one] == binned.bins[other]) & (owners[one] == owners[other])
    root = components(len(owners), edges[same])
    leads = root == np.arange(len(root))
    members = None
    if dropped.any():
        leads &= ~dropped
        members = np.flatnonzero(~dropped)
        root = root[members]
    first = np.flatnonzero(leads)
    number = np.cumsum(leads) - 1
    labels = number[root]
    present, local = _numbered(owners[first])
    inner = np.ones(len(first), np.int64)
    if roots is not None:
        at = np.flatnonzero(roots if members is None else roots[members])
        inner[labels[at]] = 0
    chunk, bins = np.divmod(binned.bins[first], binned.cells)
    piece = (chunk * len(present) + local) * 2 + inner
    order = np.argsort(piece * binned.cells + bins, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    piece = piece[order]
    begins = np.flatnonzero((np.diff(piece >> 1, prepend=-1) != 0) | (piece & 1 == 0 if roots is not None else False))
    rows = np.searchsorted(chunk[order], np.arange(binned.chunks + 1))
    pieces = Pieces(np.append(begins, len(order)), owners[first][order][begins])
    found = binned.bins[first][order]
    return Joined(members, Groups(rank[labels], len(first)), found, rows, pieces, np.searchsorted(begins, rows))


def _numbered(objects: IntArray) -> tuple[IntArray, IntArray]:
    """Distinct objects, ascending, and the number of each among them."""
    if len(objects) and (objects == objects[0]).all():
        return objects[:1], np.zeros(len(objects), np.int64)
    present, local = np.unique(objects, return_inverse=True)
    return present, local.reshape(-1)


def rows_alone(fine: FineRows, everything: Owned) -> IntArray:
    """Rows that belong to no object, ascending."""
    named = np.zeros(len(fine), np.bool_)
    named[member_rows(fine, everything)[0]] = True
    return np.flatnonzero(~named)


def owners_of_rows(fine: FineRows, everything: Owned, kept: Owned) -> IntArray:
    """(N,) object of each row: -1 if it has none, -2 if its object is dropped.

    Raises
    ------
    FormatError
        If a row belongs to several objects.
    """
    owners = np.full(len(fine), -1, np.int64)
    if everything is not kept:
        owners[member_rows(fine, everything)[0]] = -2
    rows, entries = member_rows(fine, kept)
    owners[rows] = kept.objects[entries]
    if not np.array_equal(owners[rows], kept.objects[entries]):
        raise FormatError("a vertex belongs to several objects, which is only possible for points and paths")
    return owners


def member_rows(fine: FineRows, owned: Owned) -> tuple[IntArray, IntArray]:
    """Rows that entries name, entry by entry, and the entry of each; (M,) both."""
    run = fine.fragments
    assert run is not None
    numbers = run.at(owned.slots, owned.fragments)
    counts = run.fragments.counts[numbers]
    return run.fragments.rows(numbers), np.repeat(np.arange(len(counts)), counts)


# How each vertex attribute is read and combined.

OURS = "zarr_vectors_lazy"


def plan_attributes(
    data: LevelData, aggregate: Mapping[str, Rule | None], weight: str | None
) -> tuple[list[Aggregated], dict[str, BoolArray]]:
    """Attributes to combine, and which chunks have no values of some.

    Raises
    ------
    NotFoundError
        If ``aggregate`` names an attribute that the level does not have.
    SelectionError
        If a rule does not suit its attribute.
    """
    names = [name for name in data.stored_names if name != weight]
    for name in aggregate:
        if name not in names:
            raise NotFoundError.among("attribute", name, names, where=data.url)
    items: list[Aggregated] = []
    missing = {}
    for name in names:
        array = data.attribute(name)
        rule = _rule(array, name, aggregate)
        if rule is None:
            continue
        absent = array.chunks.find(data.vertices.chunks.coords) < 0
        if absent.any():
            missing[name] = absent
        fill = array.attributes.get("_FillValue") if array.spec.dtype.kind in "iu" else None
        column = _column(data, array, name, bool(absent.any()))
        items.append(Aggregated(name=name, column=column, rule=rule, fill=fill if isinstance(fill, int) else None))
    return items, missing


def _column(data: LevelData, array: CellArray, name: str, holes: bool) -> Column:
    spec = array.spec
    if holes and (spec.dtype.kind in "iub" or spec.dictionary is not None):
        raise FormatError(
            f"attribute {name!r} has no values in some chunks, which {spec.dtype} cannot express: leave it out with "
            f"aggregate={{{name!r}: None}}",
            where=data.url,
        )
    loose = spec.dtype.kind == "U" and spec.dictionary is None
    return Column(
        source=data.source,
        spec=spec,
        vertices=data.vertices.spec,
        row_shape=(spec.row_shape or ()) if loose else vertex_row_shape(data, array),
        dtype=spec.dtype,
        decode=False,
        loose=loose,
    )


def _rule(array: CellArray, name: str, aggregate: Mapping[str, Rule | None]) -> Rule | None:
    """The requested rule, or else the one that the attribute states, or else the mean of real numbers or the mode."""
    dictionary, dtype = array.spec.dictionary, array.spec.dtype
    coded, fill = is_coded(dictionary), dictionary is not None
    stated = stated_rule(array.attributes)
    rule: Rule | None = "mean" if dtype.kind == "f" and not coded else "mode"
    if name in aggregate:
        rule, what = aggregate[name], f"aggregate[{name!r}]"
    elif stated:
        rule, what = stated["aggregate"], f"the rule that the attribute {name!r} states"
    else:
        return rule
    if rule is not None:
        check_rule(rule, dtype, what, coded=coded, fill=fill)
    return rule


def stated_rule(attributes: Json) -> Json:
    """The rule for combining values that an array's attribute states: ``{"aggregate": rule}``, or nothing."""
    ours = attributes.get(OURS)
    return {"aggregate": ours["aggregate"]} if isinstance(ours, dict) and "aggregate" in ours else {}


# What the rows of finer chunks became: the journal keeps it if links lead there from other parts.


def made_parts(records: Iterable[Iterable[ChunkRecord]]) -> list[list[ChunkRecord]]:
    """Records of the chunks of each part of a level, in order; the first of a part states its shards."""
    ranked = sorted((record for group in records for record in group), key=lambda record: record.chunk)
    firsts = [i for i, record in enumerate(ranked) if record.shards]
    return [ranked[first:last] for first, last in pairwise([*firsts, len(ranked)])]


def map_put(step: LevelBuild, part: Part, fine: FineRows, joined: Joined, named: ChunkCoords) -> Iterator[Put]:
    """Put the coarse row of each row of a part's finer chunks that others name, -1 for none; nothing if none are named.

    It is a table: the number of finer chunks, their coordinates, their numbers of rows, and the coarse rows.
    """
    wanted = np.flatnonzero(ChunkTable(named).find(fine.chunks) >= 0) if len(named) else np.zeros(0, np.int64)
    if not len(wanted):
        return
    became = np.full(len(fine), -1, np.int64)
    rows, labels = joined.became
    became[rows] = labels - joined.rows[fine.coarse_of_rows[rows]]
    counts = np.diff(fine.starts)[wanted]
    head = [[len(wanted)], fine.chunks[wanted].reshape(-1), counts]
    table = np.concatenate([*head, became[ranges(fine.starts[wanted], counts)]])
    yield Put(f"{JOURNAL}/{step.level}/maps/{dotted(part.key(0))}", table.astype("<i8").tobytes())


def read_maps(backend: Backend, step: LevelBuild, firsts: Sequence[ChunkKey]) -> tuple[ChunkCoords, IntArray, IntArray]:
    """Read what rows of the finer chunks of some parts became; the first chunk of each part identifies it.

    Returns
    -------
    (n, K) chunks, (n,) their rows, and the coarse row of each of these.
    """
    chunks, counts, became = [np.empty((0, step.rank), np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for raw in fetch(backend, [Get(f"{JOURNAL}/{step.level}/maps/{dotted(first)}") for first in firsts]):
        table = np.frombuffer(raw if raw is not None else b"", "<i8").astype(np.int64, copy=False)
        n = int(table[0]) if len(table) else 0
        head, after = 1 + n * step.rank, 1 + n * (step.rank + 1)
        chunks.append(table[1:head].reshape(n, step.rank))
        counts.append(table[head:after])
        became.append(table[after:])
    return np.concatenate(chunks), np.concatenate(counts), np.concatenate(became)


# Tables of pieces: which fragment of a coarse chunk belongs to which object; the journal keeps them.

OWNER, FRAGMENT, FIRST, LAST, START, STOP, CHUNK = range(7)
"""For a piece: object, fragment, first and last place on the finer level, rows in its chunk, number of that chunk."""
COLUMNS = 7


def pieces_key(level: int, first: ChunkKey) -> str:
    """Key of the table of a part, which its first chunk identifies."""
    return f"{JOURNAL}/{level}/pieces/{dotted(first)}"


def pieces_put(level: int, first: ChunkKey, joined: Joined, objects: int) -> tuple[Put, tuple[int, ...]]:
    """Put a part's table, sorted by object and chunk, and (shards + 1,) where the objects of each shard end in it."""
    pieces, owners = joined.pieces, joined.pieces.owners
    assert owners is not None
    order = np.argsort(owners, kind="stable")
    order = order[np.searchsorted(owners[order], 0) :]
    chunk = np.repeat(np.arange(len(joined.cuts) - 1), np.diff(joined.cuts))[order]
    table = np.zeros((len(order), COLUMNS), "<i8")
    table[:, OWNER], table[:, FRAGMENT], table[:, CHUNK] = owners[order], order - joined.cuts[chunk], chunk
    if pieces.first is not None and pieces.last is not None:
        table[:, FIRST], table[:, LAST] = pieces.first[order], pieces.last[order]
    before = joined.rows[chunk]
    table[:, START], table[:, STOP] = pieces.starts[order] - before, pieces.starts[order + 1] - before
    ends = np.minimum(np.arange(0, objects + CURRENT.shard_rows, CURRENT.shard_rows), objects)
    return Put(pieces_key(level, first), table.tobytes()), tuple(np.searchsorted(table[:, OWNER], ends).tolist())


def read_pieces(
    backend: Backend, level: int, parts: Sequence[Sequence[ChunkRecord]], shard: int | None = None
) -> IntArray:
    """(7, F) pieces of some parts, or of the objects of a shard; their chunks are numbered consecutively.

    Raises
    ------
    FormatError
        If a table does not exist.
    """
    row, tables, before, wanted = 8 * COLUMNS, [np.empty((COLUMNS, 0), np.int64)], 0, []
    for part in parts:
        start, stop = (0, part[0].shards[-1]) if shard is None else (*part[0].shards[shard : shard + 2], 0)[:2]
        if stop > start:
            key = pieces_key(level, part[0].chunk)
            wanted.append((Get(key, start * row, stop * row), (stop - start) * row, before))
        before += len(part)
    for (get, nbytes, chunks), raw in zip(wanted, fetch(backend, [get for get, *_ in wanted]), strict=True):
        if raw is None or len(raw) != nbytes:
            raise FormatError(
                f"the journal has no table {get.key!r}; build again with overwrite=True", where=backend.url
            )
        tables.append(np.frombuffer(raw, "<i8").reshape(-1, COLUMNS).T.astype(np.int64, order="C"))
        tables[-1][CHUNK] += chunks
    return np.concatenate(tables, axis=1)
