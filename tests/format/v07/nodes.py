"""Metadata and blobs as a 0.7 writer writes them, in a dict of objects by key."""

import json

import numpy as np
from numcodecs.zstd import Zstd

from tests.format.v09.nodes import ask, dense_doc, found, group_doc, level_doc, root_doc
from zarr_vectors_lazy.format.v07.generation import Generation07
from zarr_vectors_lazy.requests import Elements

GENERATION = Generation07()
STORE = GENERATION.parse_store(found(root_doc(zv_version="0.7.0"), ""), None)
LEVEL = GENERATION.parse_level(found(level_doc(), "0"), STORE, 0)
ZSTD = {"name": "zstd", "configuration": {"level": 0, "checksum": False}}


def blob_doc(nbytes, *codecs, **more):
    """``zarr.json`` of a blob."""
    return {
        "shape": [nbytes],
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [max(nbytes, 1)]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes"}, *codecs],
        "attributes": {},
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    } | more


def blob(path, payload, *codecs, left_out=False, key="c/0", **more):
    """Objects of a blob."""
    stored = Zstd().encode(payload) if ZSTD in codecs else payload
    out = {f"{path}/zarr.json": json.dumps(blob_doc(len(payload), *codecs, **more)).encode()}
    return out if left_out else out | {f"{path}/{key}": stored}


def read(steps, objects):
    """Answer a layout's requests from a dict of objects; also returns the keys requested in each round."""
    answers, rounds = None, []
    while True:
        try:
            wanted = next(steps) if answers is None else steps.send(answers)
        except StopIteration as stop:
            return stop.value, [[getattr(want, "key", want) for want in asked] for asked in rounds if asked]
        rounds.append(wanted)
        answers = [_answer(want, objects) for want in wanted]


def _answer(want, objects):
    if isinstance(want, Elements):
        return np.frombuffer(objects[f"{want.path}/elements"], np.uint8)
    data = objects.get(want.key)
    return data if data is None else data[want.start : want.stop]


__all__ = [
    "GENERATION",
    "LEVEL",
    "STORE",
    "ZSTD",
    "ask",
    "blob",
    "blob_doc",
    "dense_doc",
    "found",
    "group_doc",
    "read",
    "root_doc",
]
