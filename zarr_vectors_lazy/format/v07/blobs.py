"""Blobs: one-dimensional arrays of bytes that hold one byte string each (spec 0.7, 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Found
from zarr_vectors_lazy.format.codecs import Pipeline, check_foreign, parse_pipeline
from zarr_vectors_lazy.format.limits import LIMITS
from zarr_vectors_lazy.format.nodes import parse_chunk_shape, parse_codecs, parse_integers, parse_json, parse_named
from zarr_vectors_lazy.requests import Elements, Get, Request, Steps
from zarr_vectors_lazy.types import Blob, Buffer, Raw

KEY = "c/0"
MAX_NBYTES = 2**33  # of a blob, as of a cell in 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobMeta:
    """What the ``zarr.json`` of a blob says.

    Parameters
    ----------
    nbytes
        Size of the blob.
    stored
        Size of what the codecs give, at least ``nbytes``.
    codecs
        Bytes-to-bytes codecs; None where only zarr can decode it.
    key
        Of its one object, below the array's path.
    fill
        Value of bytes that were never stored.
    """

    nbytes: int
    stored: int
    codecs: tuple[str, ...] | None
    key: str
    fill: object

    @property
    def may_be_left_out(self) -> bool:
        """Whether a writer leaves out the object of a blob of zeros: zarr does, the bulk writer does not."""
        return self.codecs != () and self.fill == 0


def parse_blob(node: Found) -> BlobMeta:
    """Read the metadata of a blob.

    Raises
    ------
    FormatError
        If they are not those of a one-dimensional array of bytes in one chunk.
    """
    doc = node.doc
    shape = parse_integers(doc.get("shape"), "shape", node.path)
    if doc.get("node_type") != "array" or doc.get("data_type") != "uint8" or len(shape) != 1 or shape[0] < 0:
        kind = f"{doc.get('node_type')!r} of {doc.get('data_type')!r} and shape {list(shape)}"
        raise FormatError(f"a blob is a one-dimensional array of uint8, found {kind}", where=node.path)
    (stored,) = parse_chunk_shape(node, 1)
    if stored < shape[0]:
        raise FormatError(f"a blob of {shape[0]} bytes lies in chunks of {stored}, expected one", where=node.path)
    if stored > MAX_NBYTES:
        raise FormatError(f"a blob of {stored} bytes is larger than any writer makes", where=node.path)
    encoding = parse_named(doc.get("chunk_key_encoding"), "chunk_key_encoding", node.path)
    separator = str(encoding["configuration"].get("separator", "/" if encoding["name"] == "default" else "."))
    if separator not in ("/", "."):
        raise FormatError(f"the separator of chunk keys must be '/' or '.', found {separator!r}", where=node.path)
    codecs = parse_codecs(doc.get("codecs"), node.path)
    pipeline = None if doc.get("storage_transformers") else parse_pipeline(codecs, "bytes")
    if pipeline is None:
        check_foreign(codecs, node.path)
        if not codecs or codecs[0]["name"].startswith("vlen"):
            raise FormatError(f"codecs {codecs!r} cannot give an array of uint8", where=node.path)
    return BlobMeta(
        nbytes=shape[0],
        stored=stored,
        codecs=None if pipeline is None else pipeline.names,
        key=f"c{separator}0" if encoding["name"] == "default" else "0",
        fill=doc.get("fill_value"),
    )


def parse_raw(raw: Buffer, path: str) -> BlobMeta:
    """Read the metadata of a blob from the bytes of its ``zarr.json``; errors as `parse_blob`."""
    return parse_blob(Found(path, parse_json(raw, path), ""))


def fetch_blobs(paths: Sequence[str], *, headed: bool) -> Steps[list[Raw]]:
    """Fetch blobs and their metadata, all at once.

    Parameters
    ----------
    headed
        Whether blobs begin with a header: then none is all zeros.

    Returns
    -------
    For each path a `Blob`; None where there is no such object; what went wrong with it alone.
    """
    answers = yield [Get(f"{path}/{name}") for path in paths for name in ("zarr.json", KEY)]
    out: list[Raw] = [None] * len(paths)
    metas: dict[int, BlobMeta] = {}
    for at, path in enumerate(paths):
        if answers[2 * at] is not None:
            try:
                metas[at] = parse_raw(answers[2 * at], path)
            except FormatError as error:
                out[at] = error
    bodies = {at: answers[2 * at + 1] for at in metas}
    elsewhere = {at: Get(f"{paths[at]}/{meta.key}") for at, meta in metas.items() if meta.key != KEY and meta.nbytes}
    if elsewhere:
        bodies.update(zip(elsewhere, (yield list[Request | Elements](elsewhere.values())), strict=True))
    foreign = {at: Elements(paths[at]) for at, meta in metas.items() if meta.codecs is None and bodies[at] is not None}
    decoded = dict(zip(foreign, (yield list[Request | Elements](foreign.values())), strict=True)) if foreign else {}
    for at, meta in metas.items():
        out[at] = decoded[at] if isinstance(decoded.get(at), Exception) else _blob(meta, bodies, decoded, at, headed)
    return out


def _blob(meta: BlobMeta, bodies: dict[int, Buffer], decoded: dict[int, Buffer], at: int, headed: bool) -> Raw:
    if not meta.nbytes:
        return Blob(0, 0, (), b"")
    if at in decoded:
        return Blob(meta.nbytes, meta.nbytes, (), decoded[at])
    if bodies[at] is None:
        return absent_blob(meta, headed=headed)
    return Blob(meta.nbytes, meta.stored, meta.codecs or (), bodies[at])


def absent_blob(meta: BlobMeta, *, headed: bool) -> Raw:
    """A blob without an object: all zeros, or None where it must have one (spec 0.7, 3.1)."""
    if headed or not meta.may_be_left_out:
        return None
    if meta.nbytes > LIMITS.cell_nbytes:
        return FormatError(f"{meta.nbytes} zeros of which nothing is stored: too many to believe")
    return Blob(meta.nbytes, meta.nbytes, (), bytes(meta.nbytes))


def fetch_sizes(paths: Sequence[str]) -> Steps[list[Raw]]:
    """Fetch the metadata of blobs alone; `Blob` without a body for each."""
    answers = yield [Get(f"{path}/zarr.json") for path in paths]
    return [None if raw is None else _size(raw, path) for raw, path in zip(answers, paths, strict=True)]


def _size(raw: Buffer, path: str) -> Raw:
    try:
        meta = parse_raw(raw, path)
    except FormatError as error:
        return error
    return Blob(meta.nbytes, meta.stored, (), None)


def decode_blob(blob: Blob) -> Buffer:
    """Payload of a blob.

    Raises
    ------
    FormatError
        If a codec refuses the bytes, or they are not as many as its metadata say.
    """
    assert blob.body is not None
    data = Pipeline(blob.codecs).decode(blob.body)
    if len(data) != blob.stored:
        raise FormatError(f"{len(data)} bytes, its metadata say {blob.stored}: truncated or overlong")
    return data if blob.stored == blob.nbytes else np.frombuffer(data, np.uint8)[: blob.nbytes].data
