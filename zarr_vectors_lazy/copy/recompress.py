"""Cells are put, without being decoded, into other objects, or with other codecs into another store."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from dask.delayed import delayed

from zarr_vectors_lazy.errors import CorruptChunkError, FormatError, SelectionError
from zarr_vectors_lazy.format import recode
from zarr_vectors_lazy.format.base import Found
from zarr_vectors_lazy.format.codecs import encode_bytes, encode_cell
from zarr_vectors_lazy.format.v09.arrays import GridLayout
from zarr_vectors_lazy.format.v09.documents import (
    Resharding,
    dump,
    is_cell_array,
    pack_puts,
    plan_resharding,
    stale_prefix,
)
from zarr_vectors_lazy.keywords import suggesting
from zarr_vectors_lazy.model.levels import dotted
from zarr_vectors_lazy.model.writing import Compressor, Encoding
from zarr_vectors_lazy.plan.blocks import cut_units
from zarr_vectors_lazy.progress import finish
from zarr_vectors_lazy.read.level import drive
from zarr_vectors_lazy.read.metadata import DOC, MetaTree
from zarr_vectors_lazy.read.store import OpenStore, open_tree
from zarr_vectors_lazy.requests import ListSizes, Put
from zarr_vectors_lazy.settings import setting
from zarr_vectors_lazy.storage.fetch import connect, delete, fetch, zarr_array, zarr_cells
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import Buffer, ChunkCoords, IntArray, Json, StorePath
from zarr_vectors_lazy.write import in_place
from zarr_vectors_lazy.write.arguments import Profile, parse_encoding
from zarr_vectors_lazy.write.session import Mode, WriteSession, begin_write, copy_objects, new_write_id, resolve_apart

# The tasks that combine the cells of an array into shards, in place.
#
# The new objects have other keys than the old ones. An array switches to them in a single put, that of its document;
# the old objects are complete before it, and the new ones after it. So a reader, or a store that is left at any moment,
# has either the old ones or the new ones.


def pack_cells(spec: StoreSpec, change: Resharding, coords: ChunkCoords, _started: object = None) -> int:
    """Write the new objects of some cells; return how many.

    Raises
    ------
    CorruptChunkError
        If a listed cell is missing.
    """
    backend = connect(spec)
    (raws,) = drive(backend, [change.array.spec.layout.fetch(coords)])
    found: list[Buffer] = []
    for coord, raw in zip(coords.tolist(), raws, strict=True):
        if raw is None or isinstance(raw, Exception):
            reason = "it is listed, but there is no such object" if raw is None else str(raw)
            raise CorruptChunkError(reason, array=change.layout.path, chunk=dotted(coord), url=spec.url)
        found.append(raw)  # type: ignore[arg-type]
    puts = pack_puts(change.layout, coords, found)
    fetch(backend, puts)
    return len(puts)


def change_array(
    spec: StoreSpec, node: Found, raw: bytes, change: Resharding, packed: Sequence[int]
) -> tuple[str, int]:
    """Put the document that refers to the new objects, then delete the old ones; return path and number of the new.

    Parameters
    ----------
    node, raw
        The document that the new one was made from.
    packed
        How many objects each task wrote; all of them exist.
    """
    tree = MetaTree(spec)
    tree.take(node, raw)
    in_place.put_unchanged(tree, node, change.doc)
    delete(connect(spec), sorted(change.array.spec.layout.object_keys(change.array.chunks.coords) or ()))
    return change.layout.path, sum(packed)


def delete_left_over(spec: StoreSpec, path: str, prefix: str) -> None:
    """Delete what an earlier, interrupted run left next to an array."""
    backend = connect(spec)
    (sizes,) = fetch(backend, [ListSizes(path)])
    delete(backend, [key for key in sizes if key.startswith(prefix)])


# Combining cells into shards as a Dask graph: a task packs some shards, and one for each array switches it over.


def shard_store(opened: OpenStore, shard_shape: tuple[int, ...] | None) -> Any:
    """Delayed number of objects by array, for those that are not yet as requested.

    Parameters
    ----------
    shard_shape
        Chunks along each axis, one number for all or one for each; None: one object per cell.

    Raises
    ------
    SelectionError
        If the shape has another number of axes than an array.
    """
    tree, spec = opened.tree, opened.tree.spec
    consolidated = tree.existing("").consolidated
    start = delayed(in_place.drop_consolidated, pure=False)(spec) if consolidated else None
    pack, change_over, clear = (delayed(f, pure=False) for f in (pack_cells, change_array, delete_left_over))
    done = []
    for path, doc in in_place.read_nodes(tree).items():
        if not is_cell_array(doc):
            continue
        node = tree.existing(path)
        change = plan_resharding(node, shape_of_shards(shard_shape, len(doc["shape"]), opened.meta.ndim, path))
        if change is None:
            done.append(clear(spec, path, stale_prefix(node)))
            continue
        plan = shared(change)
        packed = [pack(spec, plan, coords, start) for coords in shard_runs(change.array.chunks.coords, change.layout)]
        done.append(change_over(spec, shared(node), tree.raw(path), plan, packed))
    return delayed(_finish, pure=False)(spec, consolidated, done)


def shared(value: Any) -> Any:
    """Delayed value that tasks refer to but do not hold; Dask looking into it took most of a copy's time."""
    return delayed(value, traverse=False, pure=False)


def _finish(spec: StoreSpec, consolidated: bool, done: list[tuple[str, int] | None]) -> dict[str, int]:
    if consolidated:
        in_place.write_consolidated(spec)
    return dict(change for change in done if change is not None)


def shape_of_shards(wanted: tuple[int, ...] | None, rank: int, ndim: int, path: str) -> tuple[int, ...] | None:
    """Cells of a shard along each axis of an array, from one number for all axes, or one for each axis of positions."""
    if wanted is None:
        return None
    if len(wanted) == 1:
        return wanted * rank
    if len(wanted) == ndim < rank:  # the first axis of chunks is an attribute
        return (1, *wanted)
    if len(wanted) != rank:
        raise SelectionError(f"shard_shape= has {len(wanted)} numbers, but array {path!r} has {rank} axes of chunks")
    return wanted


def shard_runs(coords: ChunkCoords, layout: GridLayout) -> Iterator[ChunkCoords]:
    """Coordinates of the cells of each task: whole shards of the layout, about as many cells as in a batch."""
    if not len(coords):
        return
    shape = np.ones(coords.shape[1], np.int64) if layout.shards is None else np.asarray(layout.shards.shape)
    shard = np.unique(layout.zarr_indices(coords) // shape, axis=0, return_inverse=True)[1].reshape(-1)
    for run in cut_units(shard, 1, int(setting("batch-chunks"))):
        yield coords[np.sort(run)]


# Reading an array's pieces with their codecs undone, and writing them with others into another store.


Recoded: TypeAlias = tuple[int, int, int, int]
"""What a task copied: pieces, the objects that hold them now, and their stored bytes before and after."""
COUNTED = ("cell_count", "object_count", "source_nbytes", "nbytes")


def read_pieces(spec: StoreSpec, array: recode.StoredArray, indices: ChunkCoords) -> list[tuple[Buffer | None, int]]:
    """Decoded pieces of an array, and how many bytes each took; None if there is no object.

    Raises
    ------
    CorruptChunkError
        If a piece cannot be decoded.
    StoreError
        If the store cannot be read.
    """
    if array.layout.pipeline is None:
        return [(piece, 0 if piece is None else len(piece)) for piece in _through_zarr(spec, array, indices)]
    (raws,) = drive(connect(spec), [array.layout.fetch(indices)])
    found: list[tuple[Buffer | None, int]] = []
    for index, raw in zip(indices, raws, strict=True):
        if raw is None:
            found.append((None, 0))
            continue
        try:
            if isinstance(raw, FormatError):
                raise raw
            found.append((array.decode(raw), len(raw)))  # type: ignore[arg-type]
        except FormatError as error:
            raise corrupt(spec, array, index, error.message) from error
    return found


def piece_nbytes(spec: StoreSpec, array: recode.StoredArray, index: IntArray) -> int | None:
    """Bytes of a decoded cell, from its head; None if that does not state them, or if there is no cell."""
    if not array.is_cells or array.layout.pipeline is None:
        return None
    ((raw,),) = drive(connect(spec), [array.layout.fetch_heads(index[None])])
    nbytes = None if raw is None or isinstance(raw, Exception) else array.layout.head_nbytes(raw)
    return None if nbytes is None else len(encode_cell(b"", recode.PLAIN)) + nbytes


def corrupt(spec: StoreSpec, array: recode.StoredArray, index: IntArray, reason: str) -> CorruptChunkError:
    """Error about a piece."""
    return CorruptChunkError(reason, array=array.path, chunk=dotted(array.chunk(index)), url=spec.url)


def _through_zarr(spec: StoreSpec, array: recode.StoredArray, indices: ChunkCoords) -> list[bytes | None]:
    backend = connect(spec)
    if array.is_cells:
        cells = zarr_cells(backend, array.path, indices)
        return [encode_cell(cell, recode.PLAIN) if cell else None for cell in cells]
    step, rows = array.piece[0], array.shape[0]
    starts = (indices[:, 0] * step).tolist()
    return [array.encode_rows(zarr_array(backend, array.path, at, min(at + step, rows))) for at in starts]


@dataclass(frozen=True, slots=True, eq=False)
class ArrayCopy:
    """How an array is copied; shared by its tasks.

    Parameters
    ----------
    source, target
        The array as it is stored, and as it will be.
    encoding
        Encoding of the target's pieces.
    unfinished
        The target's document without its attributes, which may list very many chunks.
    """

    source: recode.StoredArray
    target: recode.StoredArray
    encoding: Encoding
    unfinished: bytes


def copy_pieces(spec: StoreSpec, copy: ArrayCopy, indices: ChunkCoords, session: WriteSession) -> Recoded:
    """Write pieces of an array into another store; of each shard that is written, all pieces.

    Raises
    ------
    CorruptChunkError
        If a listed cell is missing, or a piece cannot be decoded.
    """
    array = copy.source
    pieces = read_pieces(spec, array, indices)
    kept = [at for at, (piece, _) in enumerate(pieces) if piece is not None]
    if array.is_cells and len(kept) < len(indices):
        missing = next(at for at, (piece, _) in enumerate(pieces) if piece is None)
        raise corrupt(spec, array, indices[missing], "it is listed, but there is no such object")
    encoded = [encode_bytes(piece, copy.encoding) for piece, _ in pieces if piece is not None]
    puts = [replace(put, array=copy.unfinished) for put in pack_puts(copy.target.layout, indices[kept], encoded)]
    session.put(puts)
    return len(kept), len(puts), sum(size for _, size in pieces), sum(len(put.data) for put in puts)


def copy_whole(spec: StoreSpec, path: str, doc: Json, session: WriteSession) -> Recoded:
    """Write the objects of an array unchanged, because only its own codecs can read them."""
    objects, nbytes = copy_objects(spec, recode.stored_keys(path, doc), dump(doc), session)
    return objects, objects, nbytes, nbytes


def put_documents(
    session: WriteSession, root: Json, nodes: Mapping[str, Json], left_out: list[str], done: Sequence[Recoded]
) -> dict[str, Any]:
    """Write the documents of a copy, the root last of all; return what `recompress` does."""
    session.put([Put(f"{path}/{DOC}", dump(doc)) for path, doc in nodes.items()])
    session.commit(Put(DOC, dump(root)))
    return {**{name: sum(of[at] for of in done) for at, name in enumerate(COUNTED)}, "left_out": left_out}


def plain_root(spec: StoreSpec) -> Json:
    """Root of a store as it is with codecs and shards undone, with the documents of all nodes if these are known.

    They are not if the store cannot be listed, or if levels are still being written.

    Raises
    ------
    FormatError, StoreError
        As for `open_tree`.
    """
    opened = open_tree(spec, None)
    tree, bare = opened.tree, opened.tree.existing("").bare
    if not (tree.complete or tree.backend.listable) or any(data.meta.deferred for data in opened.levels.values()):
        return bare
    nodes = {path: recode.plain_document(Found(path, doc, "")) for path, doc in in_place.read_nodes(tree).items()}
    return in_place.with_nodes(recode.with_specs(bare, nodes), nodes)


# Copying a store's arrays piece by piece with other codecs, as a Dask graph; nothing is decoded further than that.


def recompress_store(opened: OpenStore, target: StoreSpec, encoding: Encoding, mode: Mode) -> Any:
    """Delayed copy of every node of a store, with the pieces of its arrays encoded anew; gives what `recompress` does.

    Parameters
    ----------
    encoding
        Encoding of pieces; its shard shape counts chunks along each axis of positions.

    Raises
    ------
    SelectionError
        If the shard shape does not have the number of axes of an array.
    FormatError
        If an array's document is invalid.
    """
    tree, spec = opened.tree, opened.tree.spec
    nodes = in_place.read_nodes(tree)
    session = delayed(begin_write, pure=False)(target, mode, new_write_id())
    pieces, whole = delayed(copy_pieces, pure=False), delayed(copy_whole, pure=False)
    done, docs = [], dict(nodes)
    for path, doc in nodes.items():
        node = Found(path, doc, "")
        if node.unfinished:
            del docs[path]
        elif doc.get("node_type") == "array":
            array = recode.parse_stored(node)
            if array is None:
                done.append(whole(spec, path, shared(doc), session))
                continue
            wanted = encoding.shard_shape if array.is_cells else None
            shape = shape_of_shards(wanted, len(array.shape), opened.meta.ndim, path)
            made = replace(encoding, shard_shape=shape)
            copy = recode.recoded(array, made)
            docs[path] = copy.doc
            plan = shared(ArrayCopy(array, copy, made, dump({**copy.doc, "attributes": {}})))
            runs = shard_runs(array.indices(), copy.layout)
            done += [pieces(spec, plan, indices, session) for indices in runs]
    root = tree.existing("")
    bare = recode.with_specs(root.bare, docs)
    bare = shared(in_place.with_nodes(bare, docs) if root.consolidated else bare)
    left_out = _left_out(tree, docs, list(opened.levels))
    return delayed(put_documents, pure=False)(session, bare, shared(docs), left_out, done)


def _left_out(tree: MetaTree, docs: Mapping[str, Json], levels: list[int]) -> list[str]:
    """Paths of what lies in the root, or in a level, and is not copied."""
    found = [f"{folder}/{name}".lstrip("/") for folder in ("", *map(str, levels)) for name in tree.listed(folder) or ()]
    return sorted(path for path in found if path not in docs)


@suggesting
def recompress(
    src: StorePath,
    dst: StorePath,
    *,
    compressor: Compressor = "zstd",
    checksum: bool = True,
    shard_shape: Any = None,
    profile: Profile = None,
    mode: Mode = "w-",
    compute: bool = True,
    progress: bool = False,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    dst_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> Any:
    """Copy a store of format 0.9 cell by cell with another encoding: other codecs, with or without shards.

    The contents of cells are not interpreted, so everything stays the same: all levels, links, objects, groups,
    headers, and what this package does not know. `rechunk` writes other chunks, and `shard` combines cells in place.

    Parameters
    ----------
    src, dst
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    compressor, checksum, shard_shape
        Encoding of the copy, as for `write_points`; by default each cell is an object, in zstd with a checksum. Rows of
        objects and groups are never in shards.
    profile
        ``"viewer"``: ``compressor=None, checksum=False, shard_shape=None``, for viewers that read raw cells.
    mode, compute, progress
        As for `write_points`.
    backend, storage_options, **backend_kwargs
        As for `open_zv`, of ``src``, and of ``dst`` where ``dst_options`` is None.
    dst_options
        Options of ``dst`` alone, ``backend`` among them.

    Returns
    -------
    dict
        ``cell_count``, stored pieces of arrays; ``object_count``, the objects that hold them now; ``source_nbytes`` and
        ``nbytes``, their bytes before and after; ``left_out``, paths of what is not part of a Zarr tree, or was being
        written.

    Raises
    ------
    SelectionError
        If ``src`` and ``dst`` are the same place, or an argument is malformed.
    FormatError
        If there is no store, if it is of format 0.7 (`migrate` takes ``compressor=`` too), or if levels are being
        written.
    CorruptChunkError
        If a listed cell is missing, or one cannot be decoded; then there is no store at ``dst``.
    StoreError
        If a store cannot be reached, or something already exists at ``dst``.

    Examples
    --------
    >>> import tempfile
    >>> import zarr_vectors_lazy as zvl
    >>> folder = tempfile.mkdtemp()
    >>> _ = zvl.write_points(f"{folder}/a.zarrvectors", [[1.0, 2.0], [3.0, 4.0]], chunk_shape=10)
    >>> done = zvl.recompress(f"{folder}/a.zarrvectors", f"{folder}/b.zarrvectors", compressor="blosc")
    >>> done["cell_count"], done["left_out"]
    (2, [])
    """
    options = {"backend": backend, "storage_options": storage_options, **backend_kwargs}
    source, target = resolve_apart(src, dst, mode, dst_options, **options)
    opened = open_tree(source, None)
    encoding = parse_encoding(compressor, checksum, shard_shape, opened.meta.ndim, profile)
    if not opened.generation.changeable:
        raise FormatError(
            f"stores of format {opened.meta.version} cannot be recompressed; zvl.migrate makes new stores, and takes "
            "compressor= and checksum= too",
            where=source.url,
        )
    opened.refuse_deferred()
    return finish(recompress_store(opened, target, encoding, mode), "recompress", compute=compute, shown=progress)
