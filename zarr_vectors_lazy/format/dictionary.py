"""Text and other categories to codes: the writing half of `format.vectors.decode_categories` (spec 0.9, 6)."""

from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.model.arrays import Dictionary
from zarr_vectors_lazy.types import Json

MISSING = -1


def encode_categories(values: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], Dictionary]:
    """Codes of values, and their categories, sorted.

    Parameters
    ----------
    values
        (N,) text; of dtype object, None is missing.

    Returns
    -------
    codes
        (N,) of the smallest unsigned dtype, of a signed one where values are missing.

    Raises
    ------
    SelectionError
        If a value is neither text nor None.
    """
    missing = np.zeros(values.shape, np.bool_)
    if values.dtype.kind == "T":
        values = values.astype(np.str_)
    if values.dtype.hasobject:
        missing = np.asarray([value is None for value in values.tolist()], np.bool_).reshape(values.shape)
        wrong = next((v for v in values[~missing].tolist() if not isinstance(v, str)), None)
        if wrong is not None:
            raise SelectionError(f"values must be all text, found {wrong!r} of type {type(wrong).__name__}")
        values = np.where(missing, "", values).astype(np.str_)
    categories, inverse = np.unique(values[~missing], return_inverse=True)
    if missing.any():
        codes = np.full(values.shape, MISSING, code_dtype(len(categories), missing=True))
        codes[~missing] = inverse
        return codes, Dictionary(categories=categories, fill=MISSING)
    return inverse.astype(code_dtype(len(categories), missing=False)), Dictionary(categories=categories)


def code_dtype(categories: int, *, missing: bool) -> np.dtype[Any]:
    """Smallest dtype for the codes of so many categories."""
    if missing:
        return next(np.dtype(f"i{size}") for size in (1, 2, 4, 8) if categories <= 2 ** (8 * size - 1))
    return next(np.dtype(f"u{size}") for size in (1, 2, 4, 8) if categories <= 2 ** (8 * size))


def dictionary_attributes(dictionary: Dictionary) -> Json:
    """Attributes of an array of codes, as `format.nodes.parse_dictionary` reads them."""
    found: Json = {"encoding": "dictionary", "categories": dictionary.categories.tolist(), "ordered": False}
    return found if dictionary.fill is None else {**found, "_FillValue": dictionary.fill}
