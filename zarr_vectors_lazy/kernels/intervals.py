"""Paths as intervals of consecutive places along them."""

import numpy as np

from zarr_vectors_lazy.types import IntArray

INTERVAL = 3  # columns: first place, one past the last, owner


def join_intervals(intervals: IntArray) -> IntArray:
    """(R, 3) intervals by ascending place, those of one owner that meet made one.

    Parameters
    ----------
    intervals
        (n, 3) first place, one past the last, and owner of each; no two share a place.
    """
    ordered = intervals[np.argsort(intervals[:, 0], kind="stable")]
    start, stop, owner = ordered.T
    apart = (start[1:] != stop[:-1]) | (owner[1:] != owner[:-1])
    begins = np.concatenate([np.ones(min(1, len(ordered)), np.bool_), apart])
    ends = np.concatenate([apart, np.ones(min(1, len(ordered)), np.bool_)])
    return np.stack([start[begins], stop[ends], owner[begins]], axis=1)


def intervals_of(places: IntArray, owners: IntArray) -> IntArray:
    """(R, 3) intervals that places, (M,) all different, and their owners make."""
    return join_intervals(np.stack([places, places + 1, owners], axis=1))


def ids_of_intervals(owners: IntArray, largest: int) -> IntArray:
    """(R,) an id for each interval: its owner's for the first of an owner, for others new ones above ``largest``.

    Parameters
    ----------
    owners
        (R,) of the intervals, those of one owner after another.
    """
    again = np.concatenate([np.zeros(min(1, len(owners)), np.bool_), owners[1:] == owners[:-1]])
    return np.where(again, largest + np.cumsum(again), owners)
