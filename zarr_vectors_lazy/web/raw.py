"""``/raw/`` of a served store: the same tree with codecs and shards undone, for viewers that read raw cells."""

import re
import time
from functools import lru_cache
from http import HTTPStatus

import numpy as np

from zarr_vectors_lazy.copy.recompress import corrupt, piece_nbytes, plain_root, read_pieces
from zarr_vectors_lazy.format.base import Found
from zarr_vectors_lazy.format.metadata import parse_json
from zarr_vectors_lazy.format.recode import StoredArray, parse_stored, plain_document
from zarr_vectors_lazy.format.registry import dump
from zarr_vectors_lazy.read.metadata import DOC
from zarr_vectors_lazy.requests import Get
from zarr_vectors_lazy.storage.fetch import connect
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.web.answers import Answer, Environ, Objects, in_part, is_in_array, kind_of, of_bytes, refusal

FRESH_S = 2.0  # for so long metadata are taken to be as they were; pieces are read anew each time
PIECE = re.compile(r"(.+)/c((?:/(?:0|[1-9][0-9]{0,17}))+)")


class Raw:
    """Objects of a store as they would be if it had been written raw, with an object for each piece.

    Parameters
    ----------
    spec
        The store.
    stored
        Its objects as they are: what cannot be undone is served so.
    """

    def __init__(self, spec: StoreSpec, stored: Objects) -> None:
        self.spec, self.stored = spec, stored
        self._array = lru_cache(4096)(self._read_array)
        self._root = lru_cache(1)(self._read_root)

    def get(self, key: str, environ: Environ) -> Answer:
        """Answer a GET or HEAD of an object."""
        if key == DOC:
            return of_bytes(self._root(_period()), key, environ)
        if key.endswith(f"/{DOC}"):
            node = self._node(key.removesuffix(f"/{DOC}"))
            return _nothing() if node is None else of_bytes(dump(plain_document(node)), key, environ)
        found = PIECE.fullmatch(key)
        array = self._array(found[1], _period()) if found else None
        if found is None or array is None:
            return self.stored.get(key, environ)
        index = np.asarray(found[2].split("/")[1:], np.int64)
        if len(index) != len(array.shape) or (index >= array.grid).any():
            return _nothing()
        if environ["REQUEST_METHOD"] == "HEAD" and (size := piece_nbytes(self.spec, array, index)) is not None:
            return in_part(environ, size, "", kind_of(key), {})  # no ETag: it is made of all bytes
        ((piece, _),) = read_pieces(self.spec, array, index[None])
        if piece is None and array.lists(index):
            raise corrupt(self.spec, array, index, "it is listed and there is no such object")
        piece = array.filler() if piece is None else piece
        return _nothing() if piece is None else of_bytes(bytes(piece), key, environ)

    def names(self, folder: str) -> list[str] | None:
        """Names in a folder; None for those of pieces, which nobody lists."""
        return None if is_in_array(self.spec, folder) else self.stored.names(folder)

    def _node(self, path: str) -> Found | None:
        (raw,) = connect(self.spec).fetch([Get(f"{path}/{DOC}")])
        return None if raw is None else Found(path, parse_json(raw, f"{self.spec.url}/{path}"), "")

    def _read_root(self, _period: int) -> bytes:
        return dump(plain_root(self.spec))

    def _read_array(self, path: str, _period: int) -> StoredArray | None:
        node = self._node(path)
        return None if node is None or node.doc.get("node_type") != "array" else parse_stored(node)


def _period() -> int:
    return int(time.monotonic() / FRESH_S)


def _nothing() -> Answer:
    return refusal(HTTPStatus.NOT_FOUND, "no such object")
