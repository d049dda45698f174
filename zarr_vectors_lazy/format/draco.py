"""Cells of meshes that are Draco streams (spec 0.9, 5.3; spec 0.7, 7.6): positions and the faces inside the chunk.

Draco puts vertices in an order of its own, and the writers keep the old order in all else: attributes of such vertices,
and faces that cross chunks, cannot be told.
"""

import importlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.model.arrays import CellArray, Layout, LinkCoding, LinkFamily, LinkSegment, Places
from zarr_vectors_lazy.requests import Steps
from zarr_vectors_lazy.types import Blob, Buffer, ChunkCoords, IntArray, Raw

CORNERS = 3
LOST = "vertices are encoded with Draco, which puts them in an order of its own: "


@dataclass(frozen=True, slots=True, eq=False)
class DracoLayout:
    """Cells of Draco streams, of which one part is given.

    Parameters
    ----------
    inner
        Where the streams are.
    part
        Positions, or corners of the faces.
    dtype
        In which it is given.
    """

    inner: Layout
    part: Literal["points", "faces"]
    dtype: np.dtype[Any]

    @property
    def direct(self) -> bool:
        """True: others are refused."""
        return True

    def fetch(self, coords: ChunkCoords, places: Places | None = None) -> Steps[list[Raw]]:
        """Encoded streams."""
        return self.inner.fetch(coords, places)

    fetch_heads = fetch  # only the whole stream tells how many rows there are

    def decode(self, raw: Buffer | Blob) -> Buffer:
        """Rows of the part that is given."""
        mesh = _decoder().decode(bytes(self.inner.decode(raw)))
        found = getattr(mesh, self.part, None)
        rows = np.empty((0, CORNERS)) if found is None else np.asarray(found)
        return rows.astype(self.dtype).tobytes()

    def head_nbytes(self, raw: Buffer | Blob) -> int | None:
        """Size of the rows; None where the stream is none."""
        try:
            return len(self.decode(raw))
        except FormatError:
            return None

    def plain_keys(self, coords: ChunkCoords) -> list[str] | None:
        """None: no listing tells how many rows a stream has."""
        return None

    def object_keys(self, coords: ChunkCoords) -> set[str] | None:
        """Keys of the objects in which cells are stored."""
        return self.inner.object_keys(coords)

    def plain_nbytes(self, stored: int) -> int:
        """Return the size as it is."""
        return stored

    def zarr_indices(self, coords: ChunkCoords) -> IntArray:
        """Indices of the cells in their array."""
        return self.inner.zarr_indices(coords)

    def requests(self, coords: ChunkCoords, places: Places | None = None, *, head: bool = False) -> int:
        """Those of whole cells."""
        return self.inner.requests(coords, places)


class _Decoder:
    """DracoPy, whose errors are ours."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def decode(self, stream: bytes) -> Any:
        """Mesh, or point cloud, of a stream."""
        errors = tuple(getattr(self._module, name) for name in ERRORS if hasattr(self._module, name))
        try:
            return self._module.decode(stream)
        except (*errors, ValueError, RuntimeError) as error:
            raise FormatError(f"{len(stream)} bytes are no Draco stream: {error}") from error


ERRORS = ("FileTypeException", "EncodingFailedException")


@lru_cache(maxsize=1)
def _decoder() -> _Decoder:
    try:
        return _Decoder(importlib.import_module("DracoPy"))
    except ImportError as error:
        text = "vertices are encoded as 'draco': pip install 'zarr-vectors-lazy[draco]' reads them"
        raise FormatError(text) from error


def draco_vertices(array: CellArray) -> CellArray:
    """Positions whose cells are Draco streams.

    Raises
    ------
    FormatError
        If DracoPy is not installed, there are other than three axes, or the codecs are not known here.
    """
    try:
        _decoder()
    except FormatError as error:
        raise FormatError(error.message, where=array.spec.path) from error
    if array.spec.row_shape != (CORNERS,) or not array.spec.layout.direct:
        raise FormatError("encoding 'draco' is read of three axes, and with codecs known here", where=array.spec.path)
    layout = DracoLayout(array.spec.layout, "points", array.spec.dtype)
    return replace(array, spec=replace(array.spec, layout=layout), counts=None)


def is_draco(array: CellArray) -> bool:
    """Whether an array's cells are Draco streams."""
    return isinstance(array.spec.layout, DracoLayout)


def draco_links(vertices: CellArray, family: LinkFamily | None) -> LinkFamily:
    """The links of a level whose vertices are Draco streams: the faces in these.

    Raises
    ------
    FormatError
        If others are stored beside them.
    """
    layout = vertices.spec.layout
    assert isinstance(layout, DracoLayout)
    beside = () if family is None else family.segments
    if (family is not None and family.table is not None) or any(len(segment.array.chunks) for segment in beside):
        raise FormatError(LOST + "faces that cross chunks name rows as they were before", where=vertices.spec.path)
    number = np.dtype(np.int64)
    spec = replace(vertices.spec, dtype=number, row_shape=(), layout=DracoLayout(layout.inner, "faces", number))
    segment = LinkSegment(
        array=replace(vertices, spec=spec, counts=None),
        name="faces",
        offsets=np.zeros((CORNERS - 1, vertices.chunks.rank), np.int64),
        coding=LinkCoding(width=CORNERS, dtype=number, grouped=False, permuted=False),
    )
    return LinkFamily(delta=0, width=CORNERS, directed=False, segments=(segment,))
