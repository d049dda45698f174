"""Link families."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_vectors_lazy.model.arrays import CellArray, DenseArray
from zarr_vectors_lazy.types import IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCoding:
    """How link records lie in a payload.

    Parameters
    ----------
    width
        Endpoints of a record, L.
    dtype
        Stored integer dtype.
    grouped
        Whether the payload is the self-describing blob of groups.
    permuted
        Whether a first column tells the order in which the endpoints were given.
    reversed
        Whether endpoints come parent first (cross-chunk records of streaming skeletons).
    """

    width: int
    dtype: np.dtype[Any]
    grouped: bool
    permuted: bool
    reversed: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkSegment:
    """The link records of one family whose endpoints lie at the same relative chunk offsets.

    Parameters
    ----------
    array
        Its cells, by chunk of the stored endpoint 0.
    name
        The offsets as the format writes them, e.g. ``"0.0.+1"``.
    offsets
        (L - 1, K) chunk offsets of endpoints 1.. relative to endpoint 0.
    listed
        Rows of ``array.chunks`` in the format's canonical (string) order.
    coding
        How records are laid out in a payload.
    """

    array: CellArray
    name: str
    offsets: IntArray
    listed: IntArray
    coding: LinkCoding


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkTable:
    """Link records that name the chunk of each endpoint, all in one object (spec 0.7, 4.5).

    Parameters
    ----------
    records
        (R, L, K + 1) int64: K chunk coordinates and a row, for each endpoint.
    digest
        Changes when its metadata change.
    """

    records: DenseArray
    digest: str


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkValues:
    """An attribute of a link family.

    Parameters
    ----------
    cells
        Its cells by segment name; segments without values are left out.
    table
        Values of the family's table, or None where there are none.
    """

    cells: dict[str, CellArray]
    table: DenseArray | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkFamily:
    """All link records from one level to level + delta, duplicate copies left out.

    Parameters
    ----------
    delta
        Level of endpoints 1.. minus this level.
    width
        Endpoints of a record, L.
    directed
        Whether endpoint order has a meaning to the writer.
    segments
        In canonical order.
    table
        Records that follow those of the segments, or None.
    stated
        Records that its metadata state, None where they do not.
    same_key
        Whether a cell's records lead to the chunk of the same coordinate on the other level; else to the one below
        which the cell's chunk lies.
    parted
        Whether records inside a chunk of a skeleton stay inside a fragment, and each vertex has one parent.
    """

    delta: int
    width: int
    directed: bool
    segments: tuple[LinkSegment, ...]
    table: LinkTable | None = None
    stated: int | None = None
    same_key: bool = False
    parted: bool = False
