"""Aliases that state shapes."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Vertices: TypeAlias = npt.NDArray[Any]
"""(N, D) positions, stored dtype, in the units of the store's axes."""
IntArray: TypeAlias = npt.NDArray[np.int64]
"""Integers of any shape: rows, offsets, ids."""
BoolArray: TypeAlias = npt.NDArray[np.bool_]
"""A mask."""
Floats: TypeAlias = npt.NDArray[np.float64]
"""(D,) coordinates, edges or bounds in float64."""
ChunkCoords: TypeAlias = IntArray
"""(n, K) chunk coordinates; K = D, or D + 1 where an attribute is the first chunk axis."""
BBox: TypeAlias = tuple[Floats, Floats]
"""(lo, hi), each (D,), inclusive on both faces."""
Buffer: TypeAlias = bytes | memoryview
"""Stored or decoded bytes: anything that has the buffer protocol, which Python 3.11 cannot spell."""
Raw: TypeAlias = Buffer | Exception | None
"""What a fetch gave for a cell: its encoded bytes, what went wrong with it alone, or None: there is no such object."""
Json: TypeAlias = dict[str, Any]
"""A decoded ``zarr.json`` or a part of one."""
