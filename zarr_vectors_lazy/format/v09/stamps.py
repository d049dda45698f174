"""Counts of vertices by chunk, added to the metadata of a store (what `arrays` reads back)."""

import numpy as np

from zarr_vectors_lazy.format.v09.arrays import OUR_KEY
from zarr_vectors_lazy.format.v09.documents import dump
from zarr_vectors_lazy.types import IntArray, Json

COUNTS = "vertex_counts"


def without_counts(doc: Json) -> Json:
    """Document of an array as it is without counts."""
    attributes = doc.get("attributes")
    ours = attributes.get(OUR_KEY) if isinstance(attributes, dict) else None
    if not isinstance(attributes, dict) or not isinstance(ours, dict) or COUNTS not in ours:
        return doc
    rest = {name: value for name, value in ours.items() if name != COUNTS}
    bare = {name: value for name, value in attributes.items() if name != OUR_KEY}
    return {**doc, "attributes": bare | ({OUR_KEY: rest} if rest else {})}


def with_counts(doc: Json, order: IntArray, counts: IntArray) -> bytes:
    """Document of an array of vertices with the rows of each chunk.

    Parameters
    ----------
    order
        (n,) position of each chunk in the document's own list.
    counts
        (n,) rows of each chunk.
    """
    listed = np.empty(len(counts), np.int64)
    listed[order] = counts
    attributes = doc["attributes"]
    ours = attributes.get(OUR_KEY)
    stamp = {**(ours if isinstance(ours, dict) else {}), COUNTS: listed.tolist()}
    return dump({**doc, "attributes": {**attributes, OUR_KEY: stamp}})


def with_total(doc: Json, total: int) -> bytes:
    """Document of a level with its number of vertices."""
    attributes = doc["attributes"]
    block = {**attributes["zarr_vectors_level"], "vertex_count": total}
    return dump({**doc, "attributes": {**attributes, "zarr_vectors_level": block}})
