"""What reads an array's pieces with their codecs undone, and writes them with others into another store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from zarr_vectors_lazy.access.metadata import DOC
from zarr_vectors_lazy.access.store import open_tree
from zarr_vectors_lazy.access.talk import converse
from zarr_vectors_lazy.access.upkeep.consolidate import read_nodes, with_nodes
from zarr_vectors_lazy.access.write.copied import copy_objects
from zarr_vectors_lazy.access.write.session import WriteSession
from zarr_vectors_lazy.errors import CorruptChunkError, FormatError
from zarr_vectors_lazy.format.base import Found
from zarr_vectors_lazy.format.encoding import encode_bytes, encode_cell
from zarr_vectors_lazy.format.recode import PLAIN, StoredArray, plain_document, stored_keys, with_specs
from zarr_vectors_lazy.format.writing import dump, pack_puts
from zarr_vectors_lazy.model.chunks import dotted
from zarr_vectors_lazy.model.writing import Encoding
from zarr_vectors_lazy.requests import Put
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.storage.fetch import zarr_array, zarr_cells
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import Buffer, ChunkCoords, IntArray, Json


@dataclass(frozen=True, slots=True)
class Recoded:
    """What a task copied: pieces, objects that they are in now, and bytes as they were and are stored."""

    pieces: int = 0
    objects: int = 0
    before: int = 0
    nbytes: int = 0

    def __add__(self, other: "Recoded") -> "Recoded":
        """Both."""
        return Recoded(
            self.pieces + other.pieces,
            self.objects + other.objects,
            self.before + other.before,
            self.nbytes + other.nbytes,
        )


def read_pieces(spec: StoreSpec, array: StoredArray, indices: ChunkCoords) -> list[tuple[Buffer | None, int]]:
    """Pieces of an array, not encoded, and how many bytes each took; None where there is no object.

    Raises
    ------
    CorruptChunkError
        If a piece cannot be decoded.
    StoreError
        If the store cannot be read.
    """
    if array.layout.pipeline is None:
        return [(piece, 0 if piece is None else len(piece)) for piece in _through_zarr(spec, array, indices)]
    (raws,) = converse(connect(spec), [array.layout.fetch(indices)])
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


def corrupt(spec: StoreSpec, array: StoredArray, index: IntArray, reason: str) -> CorruptChunkError:
    """Error about a piece."""
    return CorruptChunkError(reason, array=array.path, chunk=dotted(array.chunk(index)), url=spec.url)


def _through_zarr(spec: StoreSpec, array: StoredArray, indices: ChunkCoords) -> list[bytes | None]:
    backend = connect(spec)
    if array.is_cells:
        cells = zarr_cells(backend, array.path, indices)
        return [encode_cell(cell, PLAIN) if cell else None for cell in cells]
    step, rows = array.piece[0], array.shape[0]
    starts = (indices[:, 0] * step).tolist()
    return [array.encode_rows(zarr_array(backend, array.path, at, min(at + step, rows))) for at in starts]


def copy_pieces(
    spec: StoreSpec,
    array: StoredArray,
    target: StoredArray,
    encoding: Encoding,
    indices: ChunkCoords,
    session: WriteSession,
) -> Recoded:
    """Write pieces of an array into another store; with shards, all of each that is written.

    Raises
    ------
    CorruptChunkError
        If a listed cell is not there, or a piece cannot be decoded.
    """
    pieces = read_pieces(spec, array, indices)
    kept = [at for at, (piece, _) in enumerate(pieces) if piece is not None]
    if array.is_cells and len(kept) < len(indices):
        missing = next(at for at, (piece, _) in enumerate(pieces) if piece is None)
        raise corrupt(spec, array, indices[missing], "it is listed and there is no such object")
    encoded = [encode_bytes(piece, encoding) for piece, _ in pieces if piece is not None]
    doc = dump(target.doc)
    puts = [replace(put, array=doc) for put in pack_puts(target.layout, indices[kept], encoded)]
    session.put(puts)
    return Recoded(len(kept), len(puts), sum(size for _, size in pieces), sum(len(put.data) for put in puts))


def copy_whole(spec: StoreSpec, path: str, doc: Json, session: WriteSession) -> Recoded:
    """Write the objects of an array as they are: only its own codecs make sense of them."""
    objects, nbytes = copy_objects(spec, stored_keys(path, doc), dump(doc), session)
    return Recoded(objects, objects, nbytes, nbytes)


def put_documents(session: WriteSession, root: Json, nodes: Mapping[str, Json], done: Sequence[Recoded]) -> Recoded:
    """Write the documents of a copy, the root last of all."""
    session.put([Put(f"{path}/{DOC}", dump(doc)) for path, doc in nodes.items()])
    session.commit(Put(DOC, dump(root)))
    return sum(done, Recoded())


def plain_root(spec: StoreSpec) -> Json:
    """Root of a store as it is where codecs and shards are undone, with the documents of all nodes if these are known.

    They are not where the store cannot be listed, or levels are still written.

    Raises
    ------
    FormatError, StoreError
        As `open_tree`.
    """
    opened = open_tree(spec, None)
    tree, root = opened.tree, opened.tree.node("")
    assert root is not None
    bare = {name: value for name, value in root.doc.items() if name != "consolidated_metadata"}
    if not (tree.complete or tree.backend.listable) or any(data.meta.deferred for data in opened.levels.values()):
        return bare
    nodes = {path: plain_document(Found(path, doc, "")) for path, doc in read_nodes(tree).items()}
    return with_nodes(with_specs(bare, nodes), nodes)
