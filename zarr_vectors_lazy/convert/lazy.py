"""Rows of a level that xarray reads when it indexes them, without Dask arrays in the dataset."""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from xarray.backends import BackendArray
from xarray.core import indexing

from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.objects import read_dense
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.graph.array import empty_array
from zarr_vectors_lazy.graph.batches import batched
from zarr_vectors_lazy.graph.numbering import sized
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.model.arrays import DenseArray
from zarr_vectors_lazy.types import IntArray

Make = Callable[[LevelView], da.Array]
SOURCE, CHUNKED = "zarr_vectors_rows", "zarr_vectors_chunked"
"""Of a variable's encoding: the `LazyRows` that it was opened as, and the name of the Dask array made of it."""


class LazySizes:
    """A view whose chunk sizes are read when they are first needed.

    Parameters
    ----------
    view
        Part of a level.
    """

    def __init__(self, view: LevelView) -> None:
        self._view = view
        self._lock = threading.Lock()
        self._starts: IntArray | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return LazySizes, (self._view,)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("LazySizes", self._view.token)

    @property
    def view(self) -> LevelView:
        """The view, its sizes known only if they are known already."""
        return self._view

    def sized(self) -> LevelView:
        """Return the view with known sizes."""
        with self._lock:
            self._view = sized(self._view)
        return self._view

    def starts(self) -> IntArray:
        """(n + 1,) first row of each chunk, and the number of rows."""
        view = self.sized()
        assert view.sizes is not None
        if self._starts is None:
            self._starts = np.concatenate([[0], np.cumsum(view.sizes)]).astype(np.int64)
        return self._starts


class LazyRows(BackendArray):
    """Rows of a level, or a column of them, as an array that xarray indexes.

    Parameters
    ----------
    sizes
        The level.
    make
        Gives the Dask array of a view that is read from.
    shape, dtype
        What the metadata promise; a read that contradicts it is a FormatError.
    """

    def __init__(self, sizes: LazySizes, make: Make, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.sizes = sizes
        self.make = make
        self.shape = shape
        self.dtype = dtype

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("LazyRows", tokenize(self.sizes, self.make), self.shape)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray[Any, Any]:
        rows = key[0] if not isinstance(key[0], int | np.integer) else slice(int(key[0]), int(key[0]) + 1)
        found = self._rows(rows)
        key = (slice(None) if rows is key[0] else 0, *key[1:])
        for axis in reversed(range(found.ndim)):  # from the last, so that whole numbers shift nothing
            found = found[(slice(None),) * axis + (key[axis],)]
        return found

    def _rows(self, rows: slice | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        total = self.shape[0]
        wanted = range(*rows.indices(total)) if isinstance(rows, slice) else None
        if wanted == range(total):
            found = _computed(self.make(batched(self.sizes.view)))
            if len(found) != total:
                self._refuse(len(found))
            return found
        starts = self.sizes.starts()
        if starts[-1] != total:
            self._refuse(int(starts[-1]))
        if wanted is not None and abs(wanted.step) == 1 and wanted:
            first, last = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1])
            start, stop = np.searchsorted(starts, (first, last), "right").tolist()
            array = self.make(batched(self.sizes.sized().span(start - 1, stop)))
            offset = int(starts[start - 1])
            return _computed(array[first - offset : last + 1 - offset])[:: wanted.step]
        return _computed(self.pick(np.asarray(rows if wanted is None else wanted, np.int64)))

    def pick(self, rows: IntArray) -> da.Array:
        """Dask array of rows here and there; chunks that have none of them are not read."""
        if not len(rows):
            return empty_array(self.shape[1:], self.dtype)
        starts = self.sizes.starts()
        rows = np.where(rows < 0, rows + self.shape[0], rows)
        chunk = np.searchsorted(starts, rows, "right") - 1
        chunks, at = np.unique(chunk, return_inverse=True)
        part = self.sizes.sized().take(chunks)
        assert part.sizes is not None
        offset = np.cumsum(part.sizes) - part.sizes
        picked: da.Array = self.make(batched(part))[offset[at] + rows - starts[chunk]]
        return picked

    def _refuse(self, found: int) -> None:
        data = self.sizes.view.data
        raise FormatError(
            f"{found} vertices are stored, the level states {self.shape[0]}; run zvl.index", where=data.url
        )


def _computed(array: da.Array) -> np.ndarray[Any, Any]:
    """Computed values; xarray's own Dask tasks ask for a block at a time, which is one batch of requests."""
    return np.asarray(array.compute(scheduler="sync" if array.npartitions == 1 else None))


class RowsVariable(xr.Variable):
    """Variable over ``vertex`` that was opened as `LazyRows`.

    Where it was cut into Dask blocks, each of which reads a batch of the store's chunks, picking rows reads the chunks
    alone that have one of them.
    """

    __slots__ = ()

    def chunk(self, *args: Any, **kwargs: Any) -> "RowsVariable":
        """As of any variable; notes the name of the Dask array."""
        out: RowsVariable = super().chunk(*args, **kwargs)
        if self.chunks is None and SOURCE in out.encoding:
            out.encoding[CHUNKED] = out.data.name
        return out

    def isel(self, indexers: Any = None, missing_dims: Any = "raise", **kwargs: Any) -> "RowsVariable":
        """As of any variable; see above."""
        wanted = dict(indexers or {}, **kwargs)
        rows = wanted.get(self.dims[0])
        whole = self.chunks is not None and self.encoding.get(CHUNKED) == self.data.name
        if not whole or not isinstance(rows, np.ndarray) or rows.ndim != 1:
            out: RowsVariable = super().isel(wanted, missing_dims)
            return out
        own: LazyRows = self.encoding[SOURCE]
        picked = own.pick(np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.int64))
        rest = {dim: key for dim, key in wanted.items() if dim != self.dims[0]}
        found: RowsVariable = RowsVariable(self.dims, picked, self.attrs, self.encoding).isel(rest, missing_dims)
        return found


class PreferredChunks(Mapping[str, tuple[int, ...]]):
    """``encoding["preferred_chunks"]`` of rows: batches of the store's chunks, read together.

    Their sizes are read when xarray asks for them.

    Parameters
    ----------
    sizes
        The level.
    make
        Gives the Dask array that has the blocks.
    """

    def __init__(self, sizes: LazySizes, make: Make) -> None:
        self._sizes = sizes
        self._make = make

    def __getitem__(self, dim: str) -> tuple[int, ...]:
        if dim != "vertex":
            raise KeyError(dim)
        blocks = self._make(batched(self._sizes.sized()))
        chunks: tuple[int, ...] = tuple(int(size) for size in blocks.chunks[0])
        return chunks

    def __iter__(self) -> Iterator[str]:
        return iter(("vertex",))

    def __len__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return "<batches of the store's chunks along 'vertex'>"


class LazyDense(BackendArray):
    """A dense array of the store that xarray reads when it indexes it."""

    def __init__(self, source: Source, array: DenseArray) -> None:
        self.source = source
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("LazyDense", self.source.spec, self.source.level, self.array.path, self.shape)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[Any, ...]) -> Any:
        rows, *rest = key
        if not isinstance(rows, slice):
            return read_dense(self.source, self.array, int(rows), int(rows) + 1)[(0, *rest)]
        wanted = range(*rows.indices(self.shape[0]))
        start, stop = (min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1]) + 1) if wanted else (0, 0)
        found = read_dense(self.source, self.array, start, stop)
        return found[:: wanted.step][(slice(None), *rest)]
