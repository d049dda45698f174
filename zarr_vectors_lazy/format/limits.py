"""How much metadata and stored bytes may claim before memory is taken for it."""

from dataclasses import dataclass

from zarr_vectors_lazy.errors import FormatError

RATIO = 1032  # deflate's densest; a cell that is larger than its limit may be so many times as large as stored
MAX_CELL_NBYTES = 2**32 + 8  # the format states the size of a cell in 32 bits, behind 8 bytes of header
MAX_AXES = 32
MAX_ROWS = 2**40  # of an array of objects; how many can be read is a matter of `Limits.array_nbytes`
MAX_PIECES = 2**20  # stored chunks of such an array
MAX_ITEM_NBYTES = 2**16  # of a dtype: a text of 16384 characters
MAX_ROW_VALUES = 2**20  # of an attribute
MAX_DIMENSIONS = 16


@dataclass(slots=True)
class Limits:
    """What a user may set, for this process.

    Parameters
    ----------
    cell_nbytes
        Decoded size of a cell that is believed however few bytes are stored.
    array_nbytes
        Size of an array that is read whole (manifests, ids, attributes of objects), of a column of missing values, or
        of the texts that dictionary codes stand for.
    """

    cell_nbytes: int = 2**28
    array_nbytes: int = 2**32

    def of_cell(self, stored: int) -> int:
        """Decoded size that so many stored bytes may have."""
        return min(MAX_CELL_NBYTES, max(self.cell_nbytes, RATIO * stored))


LIMITS = Limits()


def check_array(nbytes: int, what: str, where: str = "") -> None:
    """Raise FormatError if an array would take more memory than is allowed."""
    if nbytes > LIMITS.array_nbytes:
        raise FormatError(
            f"{what} would take {nbytes} bytes, more than the {LIMITS.array_nbytes} of the setting "
            "zarr_vectors_lazy.max-array-bytes",
            where=where,
        )
