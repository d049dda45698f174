"""Rows of a level that xarray reads when it indexes them, without Dask arrays in the dataset."""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dask.array as da
import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.objects import read_dense
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.graph.numbering import sized
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.model.arrays import DenseArray

Make = Callable[[LevelView], da.Array]


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
        return ("LazyRows", self.sizes, self.make, self.shape)

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
        if isinstance(rows, slice) and range(*rows.indices(self.shape[0])) == range(self.shape[0]):
            return self._checked(np.asarray(self.make(self.sizes.view).compute()))
        array = self.make(self.sizes.sized())
        if array.shape[0] != self.shape[0]:
            self._refuse(int(array.shape[0]))
        part = array[rows]
        # One block is one batch of requests; xarray's own Dask tasks ask for a block at a time.
        return np.asarray(part.compute(scheduler="sync") if part.npartitions == 1 else part.compute())

    def _checked(self, found: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if len(found) != self.shape[0]:
            self._refuse(len(found))
        return found

    def _refuse(self, found: int) -> None:
        data = self.sizes.view.data
        raise FormatError(
            f"{found} vertices are stored, the level states {self.shape[0]}; run zvl.index", where=data.url
        )


class PreferredChunks(Mapping[str, tuple[int, ...]]):
    """``encoding["preferred_chunks"]`` of rows: their blocks, whose sizes are read when xarray asks for them.

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
        chunks: tuple[int, ...] = tuple(int(size) for size in self._make(self._sizes.sized()).chunks[0])
        return chunks

    def __iter__(self) -> Iterator[str]:
        return iter(("vertex",))

    def __len__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return "<chunks of the store along 'vertex'>"


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
