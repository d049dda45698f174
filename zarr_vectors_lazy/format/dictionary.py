"""Text and other categories to codes: the writing half of `format.vectors.decode_categories` (spec 0.9, 6)."""

import math
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.model.arrays import Dictionary
from zarr_vectors_lazy.types import BoolArray, Json

MISSING = -1


def encode_categories(values: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], Dictionary]:
    """Codes of values, and their categories, sorted.

    Parameters
    ----------
    values
        (N,) text; of dtype object, None and NaN are missing.

    Returns
    -------
    codes
        (N,) of the smallest unsigned dtype, of a signed one where values are missing.

    Raises
    ------
    SelectionError
        If a value is neither text nor missing.
    """
    values, missing = parse_text(values)
    categories, inverse = np.unique(values[~missing], return_inverse=True)
    if missing.any():
        codes = np.full(values.shape, MISSING, code_dtype(len(categories), missing=True))
        codes[~missing] = inverse
        return codes, Dictionary(categories=categories, fill=MISSING)
    return inverse.astype(code_dtype(len(categories), missing=False)), Dictionary(categories=categories)


def parse_text(values: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], BoolArray]:
    """Text as ``<U..``, ``""`` where it is missing; and where it is.

    Raises
    ------
    SelectionError
        If a value is neither text nor missing.
    """
    if values.dtype.kind == "U":
        return values, np.zeros(values.shape, np.bool_)
    items = values.astype(object).reshape(-1)
    missing = np.asarray(items == None, np.bool_)  # noqa: E711  elementwise
    if set(map(type, items)) - {str, type(None)}:
        missing = np.asarray([_is_missing(value) for value in items], np.bool_)
        wrong = next((value for value in items[~missing] if not isinstance(value, str)), None)
        if wrong is not None:
            kind = type(wrong).__name__
            raise SelectionError(f"values must be numbers of one dtype or all text, found {wrong!r} of type {kind}")
    text = np.where(missing, "", items).astype(np.str_)
    return text.reshape(values.shape), missing.reshape(values.shape)


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def code_dtype(categories: int, *, missing: bool) -> np.dtype[Any]:
    """Smallest dtype for the codes of so many categories."""
    if missing:
        return next(np.dtype(f"i{size}") for size in (1, 2, 4, 8) if categories <= 2 ** (8 * size - 1))
    return next(np.dtype(f"u{size}") for size in (1, 2, 4, 8) if categories <= 2 ** (8 * size))


def dictionary_attributes(dictionary: Dictionary) -> Json:
    """Attributes of an array of codes, as `format.nodes.parse_dictionary` reads them."""
    found: Json = {"encoding": "dictionary", "categories": dictionary.categories.tolist(), "ordered": False}
    return found if dictionary.fill is None else {**found, "_FillValue": dictionary.fill}
