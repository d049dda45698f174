"""Ragged arrays as awkward arrays."""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from zarr_vectors_lazy.types import IntArray, Vertices


def to_awkward(vertices: Vertices, offsets: IntArray, attributes: Mapping[str, np.ndarray[Any, Any]]) -> Any:
    """Awkward array of objects: of their vertices, or of records of these and of attributes.

    Parameters
    ----------
    vertices
        (M, D).
    offsets
        (O + 1,).
    attributes
        (M,) or (M, C) by name.

    Raises
    ------
    ImportError
        If awkward is not installed.
    """
    try:
        awkward = importlib.import_module("awkward")
    except ImportError as error:
        raise ImportError("to_awkward() needs awkward: pip install 'zarr-vectors-lazy[formats]'") from error
    inner = awkward.from_numpy(np.asarray(vertices), regulararray=True)
    if attributes:
        columns = {
            name: awkward.from_numpy(np.asarray(values), regulararray=True) for name, values in attributes.items()
        }
        inner = awkward.zip({"vertices": inner, **columns}, depth_limit=1)
    return awkward.Array(awkward.contents.ListOffsetArray(awkward.index.Index64(offsets), inner.layout))
