"""Where rows are stored, and which task knows it: what the ends of links are resolved by, out of core.

A place is the number of a chunk and a row in it, in one integer: places sort as the format sorts the ends of a link.
Rows are dealt to homes in stripes, so that any number of rows spreads evenly over a fixed number of homes.
"""

import numpy as np

from zarr_vectors_lazy.types import IntArray

ROW_BITS = 32  # a cell ends at 4 GiB
STRIPE = 256
UNKNOWN = -1
PLACE = np.dtype([("row", "<i8"), ("place", "<i8")])


def pack_places(chunks: IntArray, rows: IntArray) -> IntArray:
    """Places of rows of chunks."""
    found: IntArray = (chunks << ROW_BITS) | rows
    return found


def chunk_of_places(places: IntArray) -> IntArray:
    """Number of the chunk of each place."""
    found: IntArray = places >> ROW_BITS
    return found


def row_of_places(places: IntArray) -> IntArray:
    """Row in its chunk of each place."""
    found: IntArray = places & ((1 << ROW_BITS) - 1)
    return found


def homes_of(rows: IntArray, homes: int) -> IntArray:
    """Home of each row, of ``homes``."""
    found: IntArray = rows // STRIPE % homes
    return found


def seats_of(rows: IntArray, homes: int) -> IntArray:
    """Number of each row among those of its home, without gaps where all rows are there."""
    found: IntArray = rows // (STRIPE * homes) * STRIPE + rows % STRIPE
    return found


def look_up(rows: IntArray, values: IntArray, wanted: IntArray, homes: int) -> IntArray:
    """Values of wanted rows of a home, `UNKNOWN` for those that are not there.

    Parameters
    ----------
    rows, values
        (n,) rows of the home and their values, 0 or more, in any order.
    wanted
        Rows of the same home.
    """
    seats, asked = seats_of(rows, homes), seats_of(wanted, homes)
    table = np.full(max(seats.max(initial=-1), asked.max(initial=-1)) + 1, UNKNOWN)
    table[seats] = values
    found: IntArray = table[asked]
    return found
