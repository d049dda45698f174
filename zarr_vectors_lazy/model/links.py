"""Link families."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_vectors_lazy.model.arrays import CellArray
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
    """

    delta: int
    width: int
    directed: bool
    segments: tuple[LinkSegment, ...]
