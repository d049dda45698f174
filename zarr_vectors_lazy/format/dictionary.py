"""Text and other categories to codes: the writing half of `format.vectors.decode_categories` (spec 0.9, 6)."""

import math
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.model.arrays import Dictionary, integers_with_missing, missing_integer
from zarr_vectors_lazy.types import BoolArray, Json

MISSING = -1


def encode_categories(values: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], Dictionary]:
    """Codes of values, and their categories, sorted.

    Parameters
    ----------
    values
        (N,) text; of dtype object, None and NaN are missing. Or a masked array of anything.

    Returns
    -------
    codes
        (N,) of the smallest unsigned dtype, of a signed one where values are missing.

    Raises
    ------
    SelectionError
        If a value is neither text nor missing.
    """
    if isinstance(values, np.ma.MaskedArray):
        values, missing = np.asarray(values.data), np.ma.getmaskarray(values)
    else:
        values, missing = parse_text(values)
    categories, inverse = np.unique(values[~missing], return_inverse=True)
    if missing.any():
        codes = np.full(values.shape, MISSING, code_dtype(len(categories), missing=True))
        codes[~missing] = inverse
        return codes, Dictionary(categories=categories, fill=MISSING)
    return inverse.astype(code_dtype(len(categories), missing=False)), Dictionary(categories=categories)


def encode_integers(values: np.ma.MaskedArray[Any, Any]) -> tuple[np.ndarray[Any, Any], Dictionary | None]:
    """Whole numbers with `missing_integer` where they are masked, and what says so; None where none is.

    Raises
    ------
    SelectionError
        If one of them is that number.
    """
    missing, stored = np.ma.getmaskarray(values), np.asarray(values.data)
    if not missing.any():
        return stored, None
    fill = missing_integer(stored.dtype)
    if (stored[~missing] == fill).any():
        raise SelectionError(taken(stored.dtype))
    return np.where(missing, stored.dtype.type(fill), stored), integers_with_missing(stored.dtype)


def taken(dtype: np.dtype[Any]) -> str:
    """What is wrong with integers of which some are missing, and one is the number that says so."""
    return (
        f"it has missing values, which {missing_integer(dtype)} stands for among {dtype.name}, and that number too: "
        "choose a wider dtype"
    )


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
    if dictionary.plain:
        return {"_FillValue": dictionary.fill}
    found: Json = {"encoding": "dictionary", "categories": dictionary.categories.tolist(), "ordered": False}
    return found if dictionary.fill is None else {**found, "_FillValue": dictionary.fill}
