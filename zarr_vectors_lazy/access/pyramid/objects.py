"""What a coarse level tells of objects: manifests, shard by shard, attributes and groups."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.metadata import DOC
from zarr_vectors_lazy.access.objects import read_dense, read_ids
from zarr_vectors_lazy.access.pyramid.pieces import FIRST, FRAGMENT, OWNER, START, STOP, read_pieces
from zarr_vectors_lazy.access.pyramid.step import Step
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.writing import CURRENT
from zarr_vectors_lazy.model.arrays import DenseArray
from zarr_vectors_lazy.model.objects import Manifests, ObjectIndex
from zarr_vectors_lazy.model.pyramid import ChunkRecord
from zarr_vectors_lazy.requests import Get, ListSizes, Put
from zarr_vectors_lazy.storage.base import Backend
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.types import IntArray, Json

CARRIED = ("groups", "group_attributes")
FAMILY = "object_attributes"
Shard: TypeAlias = tuple[IntArray, str]
"""(o,) vertices of the objects of a shard on the level, and a digest of their manifests."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObjectTables:
    """What is told of objects on the level that is there, and is carried to coarser ones.

    Parameters
    ----------
    source, index
        The level and its object index.
    attributes
        Of its objects.
    carried
        Folders that are copied as they are.
    """

    source: Source
    index: ObjectIndex
    attributes: dict[str, DenseArray]
    carried: tuple[str, ...] = CARRIED


def index_shard(step: Step, shard: int, records: Sequence[Sequence[ChunkRecord]]) -> Shard:
    """Task: write the manifests of the objects of one shard; return their vertices, 0 for absent ones, and a digest.

    The result depends on the set of records only: pieces are put in the order of the paths, or of the chunks.
    """
    assert step.index is not None
    backend = connect(step.source.spec)
    total, size = step.index.count, CURRENT.shard_rows
    first, last = shard * size, min((shard + 1) * size, total)
    mine = sorted(
        (r for group in records for r in group if r.shards and r.shards[shard + 1] > r.shards[shard]),
        key=lambda record: record.chunk,
    )
    tables = read_pieces(
        backend, step.level, [r.chunk for r in mine], [(r.shards[shard], r.shards[shard + 1]) for r in mine]
    )
    table = np.concatenate([np.empty((0, 6), np.int64), *tables])
    chunks = np.repeat(
        np.asarray([r.chunk for r in mine], np.int64).reshape(-1, step.rank), [len(t) for t in tables], axis=0
    )
    span = int(table[:, FIRST].max(initial=0)) + 1
    order = np.argsort(table[:, OWNER] * span + table[:, FIRST], kind="stable")  # without places, chunks stay in order
    counts = np.bincount(table[:, OWNER] - first, minlength=last - first)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    manifests = Manifests(offsets, chunks[order], table[order, FRAGMENT])
    put = CURRENT.manifest_put(step.level, shard, manifests, total, step.encoding)
    fetch(backend, [put])
    vertices = np.bincount(table[:, OWNER] - first, weights=table[:, STOP] - table[:, START], minlength=last - first)
    return vertices.astype(np.int64), CURRENT.digest(put)


def write_object_tables(step: Step, tables: ObjectTables, shards: Sequence[Shard]) -> int:
    """Task: write the rest of what a level tells of objects; return how many are present."""
    backend = connect(step.source.spec)
    vertices = np.concatenate([np.empty(0, np.int64), *(counts for counts, _ in shards)])
    here = np.asarray(vertices > 0)
    ids = None if tables.index.ids is None else read_ids(tables.source, tables.index)
    count = int(here.sum())
    content = [digest for _, digest in shards]
    puts = CURRENT.object_documents(
        step.level, ids, (len(here), count), content, rank=step.rank, encoding=step.encoding
    )
    puts += _attribute_puts(backend, step, tables, vertices)
    puts += CURRENT.told_puts(step.level, ids, vertices, tables.attributes, step.encoding)
    for folder in tables.carried:
        puts += _copied(backend, f"{tables.source.level}/{folder}", f"{step.level}/{folder}")
    fetch(backend, puts)
    return count


def _attribute_puts(backend: Backend, step: Step, tables: ObjectTables, vertices: IntArray) -> list[Put]:
    """Attributes of the objects; absent ones are at the fill value, the rest as they are, but a count of vertices."""
    puts: list[Put] = []
    here = np.asarray(vertices > 0)
    for name, array in tables.attributes.items():
        values = read_dense(tables.source, array)
        values = values.astype(np.str_) if values.dtype.hasobject else values.copy()
        if len(values) != len(here):
            raise FormatError(f"{array.path} has {len(values)} rows for {len(here)} objects", where=backend.url)
        values[~here] = CURRENT.fill_value(values.dtype)
        made = CURRENT.dense_puts(step.level, FAMILY, CURRENT.recounted({name: values}, vertices), step.encoding)
        (old,) = fetch(backend, [Get(f"{array.path}/{DOC}")])
        puts += [_with_attributes(put, old) if put.key.endswith(f"/{name}/{DOC}") else put for put in made]
    return puts


def _with_attributes(put: Put, old: bytes | None) -> Put:
    """Document with what else was said of the array that it continues."""
    doc, before = json.loads(bytes(put.data)), json.loads(bytes(old)) if old is not None else {}
    attributes: Json = {**before.get("attributes", {}), **doc["attributes"]}
    return Put(put.key, json.dumps({**doc, "attributes": attributes}, separators=(",", ":")).encode())


def _copied(backend: Backend, old: str, new: str) -> list[Put]:
    (sizes,) = fetch(backend, [ListSizes(old)])
    keys = sorted(sizes)
    raws = fetch(backend, [Get(key) for key in keys])
    return [
        Put(new + key.removeprefix(old), bytes(raw)) for key, raw in zip(keys, raws, strict=True) if raw is not None
    ]
