"""Metadata as a 0.9 writer writes them, for tests to change, and answers to requests for them."""

import copy

from zarr_vectors_lazy.format.base import Children, Found, Node
from zarr_vectors_lazy.format.registry import ALL

GENERATION = next(generation for generation in ALL if generation.name == "0.9")


def array_doc(shape=(4, 6), keys=("0.0", "1.2"), codecs=("vlen-bytes",), shards=None, **attributes):
    """``zarr.json`` of a chunk-grid array."""
    names = [{"name": name, "configuration": {}} for name in codecs]
    if shards is not None:
        index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
        inner = {"chunk_shape": [1] * len(shape), "codecs": names, "index_codecs": index, "index_location": "end"}
        names = [{"name": "sharding_indexed", "configuration": inner}]
    return {
        "shape": list(shape),
        "data_type": "variable_length_bytes",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shards or [1] * len(shape))}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "",
        "codecs": names,
        "attributes": {"nonempty_chunks": list(keys)} | attributes,
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def dense_doc(shape=(5,), chunk=(2,), data_type="float32", **attributes):
    """``zarr.json`` of a dense array."""
    return array_doc(shape, codecs=("bytes",)) | {
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "fill_value": 0,
        "attributes": attributes,
    }


def group_doc(attributes):
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def dataset(path, scale=None, translation=None):
    transforms = [{"type": "scale", "scale": scale}] if scale else []
    transforms += [{"type": "translation", "translation": translation}] if translation else []
    return {"path": path, "coordinateTransformations": transforms}


def root_doc(**block):
    """``zarr.json`` of a root with levels 0 and 1."""
    ours = {
        "zv_version": "0.9.2",
        "chunk_shape": [10, 20.5],
        "bounds": [[-5, 0], [99.5, 40]],
        "geometry_types": ["point_cloud"],
    }
    axes = [{"name": "y", "type": "space", "unit": "micrometer"}, {"name": "x", "type": "space"}]
    datasets = [dataset("0", [1, 1], [5, 10.25]), dataset("1", [2, 4], [10, 41])]
    multiscales = [{"version": "0.4", "name": "default", "axes": axes, "datasets": datasets}]
    return group_doc({"zarr_vectors": ours | block, "multiscales": multiscales})


def level_doc(level=0, **block):
    return group_doc({"zarr_vectors_level": {"level": level, "vertex_count": 7, "arrays_present": []} | block})


def found(doc, path="0/cells"):
    return Found(path, copy.deepcopy(doc), "digest of " + path)


def changed(doc, path, value=...):
    """A copy of ``doc`` in which the member at ``path`` has another value, or is missing."""
    out = at = copy.deepcopy(doc)
    for key in path[:-1]:
        at = at[key]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return out


def places(doc, path=()):
    """Paths of all members of a document."""
    members = doc.items() if isinstance(doc, dict) else enumerate(doc) if isinstance(doc, list) else ()
    for key, value in members:
        yield (*path, key)
        yield from places(value, (*path, key))


def ask(steps, docs):
    """Answer a generation's requests from a dict of documents."""
    answers = None
    while True:
        try:
            wanted = next(steps) if answers is None else steps.send(answers)
        except StopIteration as stop:
            return stop.value
        answers = [_answer(want, docs) for want in wanted]


def _answer(want, docs):
    if isinstance(want, Node):
        return found(docs[want.path], want.path) if want.path in docs else None
    assert isinstance(want, Children)
    prefix = f"{want.path}/"
    return tuple(sorted({path[len(prefix) :].split("/")[0] for path in docs if path.startswith(prefix)}))
