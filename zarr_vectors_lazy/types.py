"""Types shared by all layers: aliases that state shapes, and encoded cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from zarr.abc.store import Store

FilePath: TypeAlias = str | PathLike[str]
"""A file on disk."""
StorePath: TypeAlias = "FilePath | Store"
"""Where a store is: a URL, a path, or a zarr store object."""
Lengths: TypeAlias = float | Sequence[float] | npt.NDArray[Any]
"""(D,) edge lengths of a chunk or a bin, in the store's units, or one for all axes."""
Box: TypeAlias = Sequence[Any] | npt.NDArray[Any]
"""(lo, hi), each (D,), or one (2, D) array, inclusive on both faces; (n, 2, D) for several boxes."""

Vertices: TypeAlias = npt.NDArray[Any]
"""(N, D) positions, stored dtype, in the units of the store's axes."""
Array: TypeAlias = np.ndarray[Any, Any]
"""Any dtype and shape."""
IntArray: TypeAlias = npt.NDArray[np.int64]
"""Integers of any shape: rows, offsets, ids."""
BoolArray: TypeAlias = npt.NDArray[np.bool_]
"""A mask."""
Floats: TypeAlias = npt.NDArray[np.float64]
"""(D,) coordinates, edges or bounds in float64."""
ChunkCoords: TypeAlias = IntArray
"""(n, K) chunk coordinates; K is D, or D + 1 if an attribute is the first chunk axis."""
BBox: TypeAlias = tuple[Floats, Floats]
"""(lo, hi), each (D,), inclusive on both faces."""
Buffer: TypeAlias = bytes | memoryview
"""Stored or decoded bytes: anything with the buffer protocol, for which Python 3.11 has no type."""


class Payload(bytes):
    """A cell that is already decoded."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A cell that is an array of its own, with that array's metadata.

    Parameters
    ----------
    nbytes
        Size of the payload.
    stored
        Size after decoding: the payload, and padding behind it.
    codecs
        Bytes-to-bytes codecs, in the order in which the writer applied them.
    body
        Encoded bytes; None if only the metadata were requested.
    """

    nbytes: int
    stored: int
    codecs: tuple[str, ...]
    body: Buffer | None


Raw: TypeAlias = Buffer | Blob | Exception | None
"""Result of fetching a cell: its encoded bytes, an error that concerns it alone, or None if there is no such object."""
Json: TypeAlias = dict[str, Any]
"""A decoded ``zarr.json``, or a part of one."""
