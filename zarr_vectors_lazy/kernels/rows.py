"""Row masks and row numbers of one chunk."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.types import BoolArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Rows of a chunk that are selected.

    Parameters
    ----------
    total
        Rows that the chunk has.
    rows
        The selected ones, ascending; None for all.
    """

    total: int
    rows: IntArray | None

    def __len__(self) -> int:
        return self.total if self.rows is None else len(self.rows)

    def take(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the selected rows of the chunk's values.

        Raises
        ------
        FormatError
            If there are not as many values as the chunk has rows.
        """
        if len(values) != self.total:
            raise FormatError(f"{len(values)} values for {self.total} vertices of a chunk")
        return values if self.rows is None else values[self.rows]

    def renumber(self, rows: IntArray) -> IntArray:
        """Positions of chunk rows among the selected ones, -1 where they are not; any shape."""
        if self.rows is None:
            return rows
        at = np.full(self.total, -1, np.int64)
        at[self.rows] = np.arange(len(self.rows))
        return at[rows]


def kept_of_mask(mask: BoolArray) -> Kept:
    """Rows where a mask is true."""
    rows = np.flatnonzero(mask)
    return Kept(len(mask), None if len(rows) == len(mask) else rows)
