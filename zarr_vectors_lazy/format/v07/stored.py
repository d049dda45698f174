"""Arrays of objects and groups, and tables of links: blobs that are read whole (spec 0.7, 4.5, 4.7 and 4.8)."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.v07.blobs import decode_blob, fetch_blobs
from zarr_vectors_lazy.requests import Steps
from zarr_vectors_lazy.types import Blob, Buffer, IntArray


def missing_value(dtype: np.dtype[Any]) -> Any:
    """Value of absent rows, as 0.9 fills them: NaN, the least integer, the largest unsigned one, ``""``."""
    if dtype.kind in "iu":
        return np.iinfo(dtype).min if dtype.kind == "i" else np.iinfo(dtype).max
    return np.nan if dtype.kind in "fc" else dtype.type()


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseBlob:
    """Rows of numbers or of text of one width (spec 0.7, 4.8), or a table of links (4.5).

    Parameters
    ----------
    path
        Path of the blob.
    dtype, shape
        Of the array.
    mask
        Path of the blob that tells which rows are there; None where all are.
    never_zeros
        Whether the bytes cannot all be zero: then a missing object is damage.
    """

    path: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    mask: str | None = None
    never_zeros: bool = False

    @property
    def requests(self) -> int:
        """Two a blob: its metadata and its bytes."""
        return 2 if self.mask is None else 4

    def read(self) -> Steps[np.ndarray[Any, Any]]:
        """The whole array, absent rows at `missing_value`."""
        paths = [self.path, *([self.mask] if self.mask else [])]
        blobs = yield from fetch_blobs(paths, headed=self.never_zeros)
        payloads = [_decoded(blob, path) for blob, path in zip(blobs, paths, strict=True)]
        nbytes = self.dtype.itemsize * math.prod(self.shape)
        if len(payloads[0]) != nbytes:
            raise FormatError(
                f"{len(payloads[0])} bytes, {nbytes} are stated: {self.dtype} of {self.shape}", where=self.path
            )
        values = np.frombuffer(payloads[0], self.dtype).reshape(self.shape)
        if self.mask is None:
            return values
        if len(payloads[1]) != self.shape[0]:
            raise FormatError(f"{len(payloads[1])} marks for {self.shape[0]} rows", where=self.mask)
        absent = np.frombuffer(payloads[1], np.uint8) == 0
        values = values.copy()
        values[absent] = missing_value(self.dtype)
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class RaggedBlob:
    """Byte strings, one after another, and where each begins (spec 0.7, 4.7 and 4.8).

    Parameters
    ----------
    path
        Path of the group of ``data`` and ``offsets``.
    count
        Number of strings.
    """

    path: str
    count: int

    @property
    def requests(self) -> int:
        """Two a blob: its metadata and its bytes."""
        return 4 if self.count else 0

    def read(self) -> Steps[np.ndarray[Any, Any]]:
        """(count,) of bytes."""
        paths = [f"{self.path}/data", f"{self.path}/offsets"]
        if not self.count:
            return np.empty(0, object)
        blobs = yield from fetch_blobs(paths, headed=False)
        data, raw = (_decoded(blob, path) for blob, path in zip(blobs, paths, strict=True))
        if len(raw) != 8 * self.count:
            raise FormatError(f"{len(raw)} bytes of offsets for {self.count} rows", where=paths[1])
        return _split(data, np.append(np.frombuffer(raw, "<i8"), len(data)), paths[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class LostColumn:
    """A column of Python objects, of which the writer stored memory addresses (spec 0.7, 4.8).

    Parameters
    ----------
    path
        Path of its group.
    """

    path: str

    @property
    def requests(self) -> int:
        """None."""
        return 0

    def read(self) -> Steps[np.ndarray[Any, Any]]:
        """Raise FormatError: the values are not there."""
        yield from ()
        raise FormatError(
            "zarr-vectors 0.2.0 wrote memory addresses in place of objects: its values are lost", where=self.path
        )


def _split(data: Buffer, bounds: IntArray, where: str) -> np.ndarray[Any, Any]:
    if bounds[0] < 0 or (np.diff(bounds) < 0).any():
        raise FormatError(f"offsets must ascend within {len(data)} bytes, found {bounds[:5].tolist()}", where=where)
    view = memoryview(data)
    out = np.empty(len(bounds) - 1, object)
    out[:] = [bytes(view[start:stop]) for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]
    return out


def _decoded(blob: object, path: str) -> Buffer:
    if isinstance(blob, Blob):
        try:
            return decode_blob(blob)
        except FormatError as error:
            raise FormatError(error.message, where=path) from error
    raise FormatError("its object is not there" if blob is None else str(blob), where=path)
