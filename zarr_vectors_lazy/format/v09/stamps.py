"""What is added to the documents of a store: counts of vertices by chunk (what `arrays` reads back), dtypes."""

from collections.abc import Collection

import numpy as np

from zarr_vectors_lazy.format.v09.arrays import OUR_KEY
from zarr_vectors_lazy.format.v09.documents import dump
from zarr_vectors_lazy.model.writing import ArrayDraft
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


def with_spec(doc: Json, draft: ArrayDraft, beside: Collection[str]) -> bytes | None:
    """Root that names a new vertex attribute too; None where it does not name those that are there.

    Viewers show what it names and nothing else (spec 0.9, 3.1).
    """
    attributes = doc["attributes"]
    specs = attributes["zarr_vectors"].get("attribute_specs", {})
    vertex = specs.get("vertex", {}) if isinstance(specs, dict) else None
    if not isinstance(vertex, dict) or not vertex.keys() >= set(beside):
        return None
    told = {**vertex, draft.attributes["name"]: {"dtype": draft.attributes["dtype"]}}
    block = {**attributes["zarr_vectors"], "attribute_specs": {**specs, "vertex": told}}
    return dump({**doc, "attributes": {**attributes, "zarr_vectors": block}})
