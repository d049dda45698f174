"""Where rows are stored, and which task knows it: what the ends of links are resolved by, out of core.

A place is the number of a chunk and a row in it, in one integer: places sort as the format sorts the ends of a link.
Rows are dealt to homes in stripes, so that any number of rows spreads evenly over a fixed number of homes.
"""

from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.kernels.records import block_of, row_in_block
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


@dataclass(frozen=True, slots=True)
class Homes:
    """Which task knows where a row is stored.

    Parameters
    ----------
    count
        Number of such tasks.
    apart
        Whether rows are named by their block and the row in it (`kernels.records.row_numbers`); else they are counted
        from block to block.
    """

    count: int
    apart: bool = False

    def of(self, rows: IntArray) -> IntArray:
        """Home of each row."""
        found: IntArray = (block_of(rows) if self.apart else rows // STRIPE) % self.count
        return found

    def names(self, numbers: IntArray, firsts: IntArray) -> IntArray:
        """By what rows are named whose numbers are given; ``firsts`` (B,) rows before each block."""
        return numbers if self.apart else firsts[block_of(numbers)] + row_in_block(numbers)

    def look_up(self, rows: IntArray, values: IntArray, wanted: IntArray, sizes: IntArray) -> IntArray:
        """Values of wanted rows of one home, `UNKNOWN` for those that are not there.

        Parameters
        ----------
        rows, values
            (n,) rows of the home and their values, 0 or more, in any order.
        wanted
            Rows of the same home.
        sizes
            (B,) rows of each block.
        """
        seats, asked = self._seats(rows, sizes), self._seats(wanted, sizes)
        table = np.full(max(seats.max(initial=-1), asked.max(initial=-1)) + 2, UNKNOWN)  # the last for what is nowhere
        table[seats] = values
        found: IntArray = table[asked]
        return found

    def _seats(self, rows: IntArray, sizes: IntArray) -> IntArray:
        """Number of each row among those of its home, without gaps where all are there; -1 if its block is shorter."""
        if not self.apart:
            found: IntArray = rows // (STRIPE * self.count) * STRIPE + rows % STRIPE
            return found
        block, row = block_of(rows), row_in_block(rows)
        return np.where(row < sizes[block], self._before(sizes)[block] + row, -1)

    def _before(self, sizes: IntArray) -> IntArray:
        """(B,) rows of the blocks before each one that have the same home."""
        table = np.zeros(-(-len(sizes) // self.count) * self.count, np.int64)
        table[: len(sizes)] = sizes
        rounds = table.reshape(-1, self.count)
        before: IntArray = (np.cumsum(rounds, axis=0) - rounds).reshape(-1)[: len(sizes)]
        return before
