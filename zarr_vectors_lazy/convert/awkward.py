"""Ragged arrays as awkward arrays."""

import importlib
from typing import Any

from zarr_vectors_lazy.types import IntArray, Vertices


def to_awkward(vertices: Vertices, offsets: IntArray) -> Any:
    """Awkward array of objects.

    Parameters
    ----------
    vertices
        (M, D).
    offsets
        (O + 1,).

    Raises
    ------
    ImportError
        If awkward is not installed.
    """
    try:
        awkward = importlib.import_module("awkward")
    except ImportError as error:
        raise ImportError("to_awkward() needs awkward: pip install 'zarr-vectors-lazy[formats]'") from error
    inner = awkward.contents.RegularArray(awkward.contents.NumpyArray(vertices.reshape(-1)), vertices.shape[1])
    return awkward.Array(awkward.contents.ListOffsetArray(awkward.index.Index64(offsets), inner))
