"""Lines and polylines as writers take them, one after another."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from zarr_vectors_lazy.api.write.values import as_array, attribute_values, by_name
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.kernels.rows import joined
from zarr_vectors_lazy.types import IntArray, Vertices

Arrays = Sequence[np.ndarray[Any, Any]]


def flat_lines(endpoints: Any) -> tuple[Vertices, IntArray]:
    """(2 N, D) ends, and (N,) twos; raises SelectionError if ``endpoints`` is not (N, 2, D)."""
    array = as_array(endpoints, "endpoints")
    check_lines(array)
    return array.reshape(-1, array.shape[2]), np.full(len(array), 2, np.int64)


def check_lines(array: Any) -> None:
    """Raise SelectionError if an array, in memory or of Dask, is not (N, 2, D)."""
    if array.ndim != 3 or array.shape[1] != 2:
        raise SelectionError(f"endpoints must be (N, 2, D), found shape {array.shape}")


def flat_paths(polylines: Any) -> tuple[Vertices, IntArray]:
    """(N, D) vertices, and (O,) vertices of each path.

    Parameters
    ----------
    polylines
        A sequence of (n, D) arrays, or ``(vertices, offsets)``.

    Raises
    ------
    SelectionError
        If it is neither, or axes or dtypes differ.
    """
    if not isinstance(polylines, Iterable) or isinstance(polylines, Mapping):
        raise SelectionError(f"polylines must be a sequence of (n, D) arrays, found {type(polylines).__name__}")
    parts = [as_array(part, "polylines") for part in polylines]
    if len(parts) == 2 and parts[0].ndim == 2 and parts[1].ndim == 1:
        return parts[0], _lengths(parts[1], len(parts[0]))
    if not parts:
        raise SelectionError(
            "there are no polylines: their number of axes is not known; give (np.empty((0, D)), [0]) and bounds"
        )
    for at, part in enumerate(parts):
        if part.ndim != 2 or part.shape[1] != parts[0].shape[1]:
            like = f" as the first has D {parts[0].shape[1]}" if at else ""
            raise SelectionError(f"polylines must be (n, D) arrays, one each{like}; no. {at} has shape {part.shape}")
    return np.concatenate(parts), np.fromiter(map(len, parts), np.int64, len(parts))


def _lengths(offsets: np.ndarray[Any, Any], rows: int) -> IntArray:
    lengths = np.diff(offsets)
    whole = offsets.dtype.kind in "iu" and len(offsets) and offsets[0] == 0 and offsets[-1] == rows
    if not whole or (offsets[1:] < offsets[:-1]).any():
        raise SelectionError(f"offsets must ascend from 0 to the {rows} vertices, found {offsets[:5].tolist()}")
    return lengths.astype(np.int64)


def flat_attributes(
    attributes: Mapping[str, Any] | None, lengths: IntArray, *, width: int | None = None
) -> dict[str, np.ndarray[Any, Any]]:
    """Attributes with one row a vertex.

    Parameters
    ----------
    attributes
        By name one array a path, or an array of all rows; with ``width`` one of (O, width) or (O, width, C).
    lengths
        (O,) vertices of each path.

    Raises
    ------
    SelectionError
        If an array has another number of rows.
    """
    return {
        name: _flat_lines(name, value, len(lengths), width) if width else _flat_paths(name, value, lengths)
        for name, value in by_name(attributes, "vertex_attributes").items()
    }


def _flat_lines(name: str, value: Any, lines: int, width: int) -> np.ndarray[Any, Any]:
    array = attribute_values(value, f"vertex_attributes[{name!r}]")
    if array.ndim not in (2, 3) or array.shape[:2] != (lines, width):
        raise SelectionError(
            f"vertex_attributes[{name!r}] must be ({lines}, {width}) or ({lines}, {width}, C), found {array.shape}"
        )
    flat: np.ndarray[Any, Any] = array.reshape(-1, *array.shape[2:])
    return flat


def _flat_paths(name: str, value: Any, lengths: IntArray) -> np.ndarray[Any, Any]:
    if isinstance(value, np.ndarray) and len(value) == int(lengths.sum()) and _is_flat(value):
        return value
    if not isinstance(value, Iterable):
        raise SelectionError(f"vertex_attributes[{name!r}] must be an array for each polyline, found {value!r}")
    parts = [attribute_values(part, f"vertex_attributes[{name!r}]") for part in value]
    found = np.asarray([len(part) if part.ndim else -1 for part in parts], np.int64)
    if not np.array_equal(found, lengths):
        at = int(np.argmax(found != lengths)) if len(found) == len(lengths) else min(len(found), len(lengths))
        raise SelectionError(
            f"vertex_attributes[{name!r}] must have an array for each of the {len(lengths)} polylines, as long as it; "
            f"found {len(parts)}, no. {at} does not fit"
        )
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) > 1:
        raise SelectionError(f"vertex_attributes[{name!r}] has rows of several shapes: {sorted(shapes)}")
    filled = [part for part in parts if len(part)]  # an empty list would be float64
    return joined(filled or parts) if parts else np.empty(0)


def _is_flat(values: np.ndarray[Any, Any]) -> bool:
    """Whether an array has a value a row, texts among them, and not an array a path."""
    return values.dtype != object or all(np.ndim(value) == 0 for value in values[:1])
