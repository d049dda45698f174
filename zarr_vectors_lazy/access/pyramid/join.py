"""Which rows of finer chunks become one, geometry by geometry."""

from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.access.pyramid.owners import Owned
from zarr_vectors_lazy.access.pyramid.read import FineRows
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.kernels.bins import BinGrid, bins_of
from zarr_vectors_lazy.kernels.clusters import components
from zarr_vectors_lazy.kernels.groups import Groups, group_by
from zarr_vectors_lazy.kernels.runs import cut_runs
from zarr_vectors_lazy.model.objects import ragged_arange
from zarr_vectors_lazy.model.pyramid import Pieces
from zarr_vectors_lazy.types import BoolArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Rows that become the vertices of one coarse chunk.

    Parameters
    ----------
    members
        (M,) rows of the finer chunks, those of a group in canonical order; None: all, in order.
    groups
        Of the members, numbered as the coarse rows.
    bins
        (C,) bin of each coarse row.
    pieces
        Fragments of the coarse rows.
    exact
        Coarse rows that are not means, and the finer rows where they lie; None where all are means.
    """

    members: IntArray | None
    groups: Groups
    bins: IntArray
    pieces: Pieces
    exact: tuple[IntArray, IntArray] | None = None

    def rows(self) -> IntArray:
        """(M,) rows of the members."""
        return np.arange(len(self.groups.labels)) if self.members is None else self.members


def join_points(fine: FineRows, grid: BinGrid, keep: BoolArray | None) -> Joined:
    """All vertices of a bin become one, bins in C order."""
    members = None if keep is None or keep.all() else np.flatnonzero(keep)
    positions = fine.positions if members is None else fine.positions[members]
    groups, bins = group_by(bins_of(positions, grid), grid.cells)
    return Joined(members, groups, bins, Pieces(np.asarray([0, groups.count], np.int64)))


def join_sets(fine: FineRows, grid: BinGrid, owned: Owned, alone: IntArray) -> Joined:
    """All vertices of an object in a bin become one, by object and bin; each object is one piece.

    Parameters
    ----------
    alone
        Rows that no object names; they stay together.
    """
    rows, entries = member_rows(fine, owned)
    rows, objects = np.concatenate([alone, rows]), np.concatenate([np.full(len(alone), -1), owned.objects[entries]])
    order = np.lexsort((rows, objects))
    rows, objects = rows[order], objects[order]
    present, local = np.unique(objects, return_inverse=True)
    bins = bins_of(fine.positions[rows], grid)
    groups, keys = group_by(local.reshape(-1) * grid.cells + bins, len(present) * grid.cells)
    starts = np.searchsorted(keys // grid.cells, np.arange(len(present) + 1))
    return Joined(rows, groups, keys % grid.cells, Pieces(starts, present))


def join_paths(fine: FineRows, grid: BinGrid, owned: Owned, least: IntArray, lengths: IntArray) -> Joined:
    """Maximal runs of a path in one bin become one vertex; the ends of a path stay where they are.

    Parameters
    ----------
    owned
        Entries of the chunks, sorted by object and place.
    least
        (E,) coarse vertices that a piece that begins with this entry must keep.
    lengths
        (E,) entries that the object of each entry has in all chunks.
    """
    rows, entries = member_rows(fine, owned)
    used = np.bincount(entries, minlength=len(owned.objects)) > 0
    follows = np.zeros(len(owned.objects), np.bool_)
    follows[1:] = (np.diff(owned.objects) == 0) & (np.diff(owned.ordinals) == 1)
    piece_of_entry = np.cumsum(~follows) - 1
    distinct, pieces = np.unique(piece_of_entry[entries], return_inverse=True)
    pieces = pieces.reshape(-1)
    heads = np.flatnonzero(~follows)[distinct]
    tails = np.append(np.flatnonzero(~follows)[1:], len(follows))[distinct] - 1
    bins = bins_of(fine.positions[rows], grid)
    groups = cut_runs(bins, pieces, least[heads])
    first_rows = groups.order[groups.starts]
    starts = np.searchsorted(pieces[first_rows], np.arange(len(distinct) + 1))
    begins = owned.ordinals[heads] == 0
    ends = owned.ordinals[tails] == lengths[tails] - 1
    at_begin, at_end = starts[:-1][begins], starts[1:][ends] - 1
    bounds = np.searchsorted(pieces, np.arange(len(distinct) + 1))
    exact = (
        np.concatenate([at_begin, at_end]),
        np.concatenate([rows[bounds[:-1][begins]], rows[bounds[1:][ends] - 1]]),
    )
    assert used.any() or not len(rows)
    return Joined(
        rows,
        groups,
        bins[first_rows],
        Pieces(starts, owned.objects[heads], owned.ordinals[heads], owned.ordinals[tails]),
        exact,
    )


def join_clusters(fine: FineRows, grid: BinGrid, owners: IntArray, edges: IntArray, roots: BoolArray | None) -> Joined:
    """Connected vertices of one object in one bin become one, by object, bin and first member.

    Parameters
    ----------
    owners
        (N,) object of each row, -1 for none, -2 where it is dropped.
    edges
        (E, 2) rows that are joined.
    roots
        (N,) vertices of trees that have no parent: what they become leads a piece of its own, as a root must.
    """
    members = np.flatnonzero(owners >= -1)
    local = np.full(len(owners), -1, np.int64)
    local[members] = np.arange(len(members))
    ends = local[edges]
    ends = ends[(ends >= 0).all(axis=1)]
    owner, bins = owners[members], bins_of(fine.positions[members], grid)
    same = (owner[ends[:, 0]] == owner[ends[:, 1]]) & (bins[ends[:, 0]] == bins[ends[:, 1]])
    root = components(len(members), ends[same])
    first, labels = np.unique(root, return_inverse=True)
    labels = labels.reshape(-1)
    inner = np.ones(len(first), np.bool_)
    if roots is not None:
        inner[labels[roots[members]]] = False
    order = np.lexsort((first, bins[first], inner, owner[first]))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    of, inner = owner[first][order], inner[order]
    changes = np.concatenate([np.ones(min(1, len(of)), np.bool_), np.diff(of) != 0])
    begins = np.flatnonzero(changes | ~inner if roots is not None else changes)
    pieces = Pieces(np.append(begins, len(of)), of[begins])
    return Joined(members, Groups(rank[labels], len(first)), bins[first][order], pieces)


def rows_alone(fine: FineRows, everything: Owned) -> IntArray:
    """Rows that no object names, ascending."""
    named = np.zeros(len(fine), np.bool_)
    named[member_rows(fine, everything)[0]] = True
    return np.flatnonzero(~named)


def owners_of_rows(fine: FineRows, everything: Owned, kept: Owned) -> IntArray:
    """(N,) object of each row: -1 where no object names it, -2 where its object is dropped.

    Raises
    ------
    FormatError
        If a row is of several objects.
    """
    owners = np.full(len(fine), -1, np.int64)
    rows, _ = member_rows(fine, everything)
    owners[rows] = -2
    rows, entries = member_rows(fine, kept)
    owners[rows] = kept.objects[entries]
    if not np.array_equal(owners[rows], kept.objects[entries]):
        raise FormatError("a vertex is of several objects, which only points and paths can be")
    return owners


def member_rows(fine: FineRows, owned: Owned) -> tuple[IntArray, IntArray]:
    """Rows that entries name, entry by entry, and the entry of each; (M,) both."""
    counts = np.zeros(len(owned.objects), np.int64)
    found: list[tuple[IntArray, IntArray]] = []
    for slot, index in enumerate(fine.fragments):
        entries = np.flatnonzero(owned.slots == slot)
        named = owned.fragments[entries]
        index.check(int(fine.starts[slot + 1] - fine.starts[slot]))
        found.append((entries, index.rows(named) + fine.starts[slot]))
        counts[entries] = index.counts[named]
    begins = np.cumsum(counts) - counts
    rows = np.empty(int(counts.sum()), np.int64)
    for entries, named in found:
        rows[np.repeat(begins[entries], counts[entries]) + ragged_arange(counts[entries])] = named
    return rows, np.repeat(np.arange(len(counts)), counts)
