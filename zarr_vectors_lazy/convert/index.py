"""Coordinates of vertices as an xarray index, and rows that xarray reads when it indexes them."""

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from xarray.backends import BackendArray
from xarray.core import indexing

from zarr_vectors_lazy.errors import FormatError, NotFoundError, SelectionError, counted, in_line
from zarr_vectors_lazy.model.arrays import DenseArray
from zarr_vectors_lazy.model.objects import ranges
from zarr_vectors_lazy.plan.selection import Boxes, Region, nearest_rows, parse_region
from zarr_vectors_lazy.read.columns import sized, vertices_array
from zarr_vectors_lazy.read.layers import batched, empty_array
from zarr_vectors_lazy.read.level import Source
from zarr_vectors_lazy.read.objects import read_dense
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.types import IntArray, Vertices

# Rows of a level that xarray reads when it indexes them, without Dask arrays in the dataset.

Make = Callable[[LevelView], da.Array]
SOURCE, CHUNKED = "zarr_vectors_rows", "zarr_vectors_chunked"
"""In a variable's encoding: the `LazyRows` as which it was opened, and the name of the Dask array made from it."""


class LazySizes:
    """A view whose chunk sizes are read when they are first needed.

    Parameters
    ----------
    view
        Part of a level; it has sizes once they were needed.
    """

    def __init__(self, view: LevelView) -> None:
        self.view = view
        self._lock = threading.Lock()
        self._starts: IntArray | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return LazySizes, (self.view,)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("LazySizes", self.view.token)

    def sized(self) -> LevelView:
        """Return the view with known sizes."""
        with self._lock:
            self.view = sized(self.view)
        return self.view

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
        Returns the Dask array that is read, for a view.
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
        for axis in reversed(range(found.ndim)):  # from the last, so that an integer does not shift the others
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
        """Dask array of scattered rows; chunks without any of them are not read."""
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
            f"{counted(found, 'vertex')} stored, but the level states {self.shape[0]}; run zvl.index", where=data.url
        )


def _computed(array: da.Array) -> np.ndarray[Any, Any]:
    """Computed values; xarray's own Dask tasks request a block at a time, which is one batch of requests."""
    return np.asarray(array.compute(scheduler="sync" if array.npartitions == 1 else None))


class RowsVariable(xr.Variable):
    """Variable over ``vertex`` that was opened as `LazyRows`.

    If it was cut into Dask blocks, each of which reads a batch of the store's chunks, picking rows reads only the
    chunks that have one of them.
    """

    __slots__ = ()

    def chunk(self, *args: Any, **kwargs: Any) -> "RowsVariable":
        """As for any variable; notes the name of the Dask array."""
        out: RowsVariable = super().chunk(*args, **kwargs)
        if self.chunks is None and SOURCE in out.encoding:
            out.encoding[CHUNKED] = out.data.name
        return out

    def isel(self, indexers: Any = None, missing_dims: Any = "raise", **kwargs: Any) -> "RowsVariable":
        """As for any variable; see above."""
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
        Returns the Dask array that has the blocks.
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


# Coordinates of vertices as an xarray index, which ``ds.sel(x=slice(0, 10), y=slice(20, 50))`` uses.

MOST_RUNS = 1000  # most rows from several levels that an index follows


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Vertices of a dataset that belong to one level.

    Parameters
    ----------
    sizes
        The level, or a selection of it.
    length
        How many there are.
    rows
        (n,) their rows in it; None for all, in order.
    positions
        (n, D) if they were read.
    """

    sizes: LazySizes
    length: int
    rows: IntArray | None = None
    positions: Vertices | None = None

    def take(self, at: IntArray) -> "Part":
        """Some of the vertices."""
        rows = at if self.rows is None else self.rows[at]
        return Part(self.sizes, len(at), rows, None if self.positions is None else self.positions[at])

    def read(self, at: IntArray) -> Vertices:
        """(n, D) positions of some of the vertices; chunks without any of them are not read."""
        if self.positions is not None:
            return self.positions[at]
        array = vertices_array(self.sizes.view)
        rows = LazyRows(self.sizes, vertices_array, (int(self.sizes.starts()[-1]), array.shape[1]), array.dtype)
        found: Vertices = rows.pick(at if self.rows is None else self.rows[at]).compute()
        return found

    def near(self, region: Region) -> IntArray:
        """Vertices in the chunks that boxes meet, ascending."""
        if self.positions is not None:
            return np.arange(self.length)
        view = self.sizes.sized()
        return self.of_chunks(np.flatnonzero(region.chunks(view.table.coords, view.data.placement)[0]))

    def of_chunks(self, chunks: IntArray) -> IntArray:
        """Vertices in some chunks, numbered as in the view, ascending."""
        starts = self.sizes.starts()
        if self.rows is None:
            counts = starts[chunks + 1] - starts[chunks]
            return ranges(starts[chunks], counts)
        met = np.zeros(len(starts), np.bool_)
        met[chunks] = True
        return np.flatnonzero(met[np.searchsorted(starts, self.rows, "right") - 1])

    def same(self, other: "Part") -> bool:
        """Whether another part has the same vertices in the same order."""
        if self.sizes.view.token != other.sizes.view.token or self.length != other.length:
            return False
        mine, theirs = (np.arange(part.length) if part.rows is None else part.rows for part in (self, other))
        return self.rows is other.rows or bool(np.array_equal(mine, theirs))


class PositionIndex(xr.Index):
    """Index over coordinates ``x(vertex)``, ... of a level's positions.

    ``sel`` takes ranges including both ends, compared in float64, or with ``method="nearest"`` a value for each axis.
    It reads the positions of the chunks that may match, immediately; other variables stay as lazy as they were. It
    survives ``isel``, ``concat`` along the vertices, ``merge``, ``rename`` and copies.

    Parameters
    ----------
    parts
        Vertices, one part after another.
    names
        Names of the coordinates, in the order of the axes.
    dim
        Dimension of the vertices.
    dtype
        Dtype of the positions.
    """

    def __init__(self, parts: Sequence[Part], names: Sequence[Hashable], dim: Hashable, dtype: np.dtype[Any]) -> None:
        self.parts, self.names, self.dim, self.dtype = tuple(parts), tuple(names), dim, dtype
        self._indexer: Any = None  # marks coordinates as those of this index

    def __len__(self) -> int:
        return sum(part.length for part in self.parts)

    def __repr__(self) -> str:
        return in_line(f"<PositionIndex of {counted(len(self), 'vertex')} over {', '.join(map(str, self.names))}>")

    def _repr_inline_(self, max_width: int) -> str:
        return repr(self)[:max_width]

    def _like(self, parts: Sequence[Part]) -> "PositionIndex":
        return PositionIndex(parts, self.names, self.dim, self.dtype)

    @property
    def _starts(self) -> IntArray:
        return np.concatenate([[0], np.cumsum([part.length for part in self.parts])]).astype(np.int64)

    def positions(self) -> Vertices:
        """(N, D) positions, which are read if they are not known."""
        found = [part.read(np.arange(part.length)) for part in self.parts]
        return np.concatenate([np.empty((0, len(self.names)), self.dtype), *found])

    def take(self, rows: IntArray) -> "PositionIndex | None":
        """Index of some vertices; None if they alternate between too many parts."""
        if len(self.parts) == 1:
            return self._like([self.parts[0].take(rows)])
        starts = self._starts
        part = np.searchsorted(starts, rows, "right") - 1
        cuts = np.flatnonzero(np.diff(part)) + 1
        if len(cuts) > MOST_RUNS:
            return None
        runs = [run for run in np.split(rows, cuts) if len(run)]
        at = [int(np.searchsorted(starts, run[0], "right")) - 1 for run in runs]
        return self._like([self.parts[p].take(run - starts[p]) for p, run in zip(at, runs, strict=True)])

    def isel(self, indexers: Mapping[Any, Any]) -> "PositionIndex | None":
        """Index of the remaining vertices; None if they no longer have a dimension."""
        key = indexers.get(self.dim, slice(None))
        if isinstance(key, xr.Variable):
            if key.dims != (self.dim,):
                return None
            key = key.values
        if np.ndim(key) != 1 and not isinstance(key, slice):
            return None
        if isinstance(key, slice) and key == slice(None):
            return self
        found = self.take(np.arange(len(self))[key])
        if found is not None:
            found._indexer = key
        return found

    def roll(self, shifts: Mapping[Any, int]) -> "PositionIndex | None":
        """Index of the vertices, rotated."""
        return self.isel({self.dim: np.roll(np.arange(len(self)), shifts[self.dim])}) if self.dim in shifts else self

    def create_variables(self, variables: Mapping[Any, xr.Variable] | None = None) -> dict[Any, xr.Variable]:
        """Coordinates: those given, if this index was taken from them, or new ones that read when they are indexed."""
        key, self._indexer = self._indexer, None
        given = dict(variables or {})
        if given and key is not None:
            return {name: variable.isel({self.dim: key}) for name, variable in given.items()}
        if given and all(variable.sizes.get(self.dim) == len(self) for variable in given.values()):
            return given
        known = all(part.positions is not None for part in self.parts)
        positions = self.positions() if known else None
        made = {}
        for axis, name in enumerate(self.names):
            lazy = indexing.LazilyIndexedArray(LazyColumn(self, axis))
            made[name] = xr.Variable(self.dim, lazy if positions is None else positions[:, axis])
            if name in given:
                made[name].attrs.update(given[name].attrs)
                made[name] = made[name].chunk({self.dim: -1}) if given[name].chunks else made[name]
        return made

    @classmethod
    def concat(
        cls, indexes: Sequence["PositionIndex"], dim: Hashable, positions: Iterable[Iterable[int]] | None = None
    ) -> "PositionIndex":
        """Index of the vertices of several datasets; raises SelectionError if their axes differ."""
        first = indexes[0]
        facts = (first.names, dim)
        if not all(isinstance(index, cls) and (index.names, index.dim) == facts for index in indexes):
            raise SelectionError(
                f"the vertices have different axes, or are not joined along {first.dim!r}; call drop_indexes() first"
            )
        dtype = np.result_type(*(index.dtype for index in indexes))
        joined = cls([part for index in indexes for part in index.parts if part.length], first.names, dim, dtype)
        if positions is not None:
            places = np.concatenate([np.asarray(list(part)) for part in positions])
            found = joined.take(np.argsort(places, kind="stable"))
            if found is None:
                raise SelectionError("the index cannot follow this order of the vertices: call drop_indexes() first")
            joined = found
        return joined

    def equals(self, other: xr.Index, **_options: Any) -> bool:
        """Whether another index has the same vertices in the same order."""
        return isinstance(other, PositionIndex) and (
            (self.names, self.dim, len(self.parts)) == (other.names, other.dim, len(other.parts))
            and all(mine.same(theirs) for mine, theirs in zip(self.parts, other.parts, strict=True))
        )

    def join(self, other: "PositionIndex", how: str = "inner") -> "PositionIndex":
        """The index itself, if both are alike; else raises SelectionError, as vertices have no labels to join by."""
        if self.equals(other):
            return self
        raise SelectionError(
            f"{how} join: datasets with different vertices cannot be aligned; drop_indexes({self.names[0]!r}) first"
        )

    def reindex_like(self, other: "PositionIndex") -> dict[Hashable, Any]:
        """Nothing to do if both are alike; otherwise raises SelectionError."""
        self.join(other, "reindex")
        return {}

    def rename(self, name_dict: Mapping[Any, Hashable], dims_dict: Mapping[Any, Hashable]) -> "PositionIndex":
        """Index with other names of coordinates."""
        names = [name_dict.get(name, name) for name in self.names]
        return PositionIndex(self.parts, names, dims_dict.get(self.dim, self.dim), self.dtype)

    def sel(
        self, labels: Mapping[Any, Any], method: str | None = None, tolerance: Any = None
    ) -> indexing.IndexSelResult:
        """Vertices by their coordinates.

        Parameters
        ----------
        labels
            Without ``method``, slices including both ends, or single values; with ``method="nearest"`` one value for
            each axis, or one-dimensional arrays, which may be DataArrays with their own dimension.
        tolerance
            Largest distance of the nearest vertex, in the units of the store.

        Raises
        ------
        SelectionError
            If a range is malformed, or labels do not suit the method.
        NotFoundError
            If no vertex has the values, or the nearest is too far away.
        """
        if method is not None:
            if method != "nearest":
                raise SelectionError(f"method must be 'nearest', found {method!r}")
            return indexing.IndexSelResult({self.dim: self._nearest(labels, tolerance)})
        if tolerance is not None:
            raise SelectionError("tolerance= needs method='nearest'")
        slices = {}
        for name, label in labels.items():
            single = not isinstance(label, slice)
            if single and np.ndim(label):
                raise SelectionError(
                    f"{name}= must be a slice or a value; for the nearest to several values, use method='nearest'"
                )
            slices[str(name)] = slice(_scalar(label), _scalar(label)) if single else label
        region = parse_region(None, slices, [str(name) for name in self.names])
        assert region is not None
        rows, positions = self.inside(region)
        if not len(rows) and any(not isinstance(label, slice) for label in labels.values()):
            raise NotFoundError(f"no vertex has {', '.join(f'{name}={label!r}' for name, label in labels.items())}")
        taken = self.take(rows)
        if taken is None:
            return indexing.IndexSelResult({self.dim: rows})
        own = np.split(positions, np.cumsum([part.length for part in taken.parts], dtype=np.int64))
        found = taken._like([replace(part, positions=of) for part, of in zip(taken.parts, own, strict=False)])
        return indexing.IndexSelResult({self.dim: rows}, dict.fromkeys(self.names, found), found.create_variables())

    def inside(self, region: Region) -> tuple[IntArray, Vertices]:
        """Vertices in boxes, ascending, and their positions."""
        rows, positions = [np.empty(0, np.int64)], [np.empty((0, len(self.names)), self.dtype)]
        for start, part in zip(self._starts, self.parts, strict=False):
            near = part.near(region)
            found = part.read(near) if len(near) else positions[0]
            mask = region.rows(found)
            rows.append(near[mask] + start)
            positions.append(found[mask])
        return np.concatenate(rows), np.concatenate(positions)

    def near(self, region: Region) -> IntArray:
        """Vertices in the chunks that boxes meet, ascending."""
        parts = zip(self._starts, self.parts, strict=False)
        return np.concatenate([np.empty(0, np.int64), *(part.near(region) + start for start, part in parts)])

    def _nearest(self, labels: Mapping[Any, Any], tolerance: Any) -> Any:
        missing = [name for name in self.names if name not in labels]
        if missing or any(isinstance(label, slice) for label in labels.values()):
            raise SelectionError(
                f"method='nearest' takes a value for each of {', '.join(map(str, self.names))}, not slices"
            )
        values = [labels[name] for name in self.names]
        dims = next((label.dims for label in values if isinstance(label, xr.DataArray | xr.Variable)), (self.dim,))
        arrays = np.broadcast_arrays(*(np.asarray(value, np.float64) for value in values))
        if arrays[0].ndim > 1:
            raise SelectionError("method='nearest' takes single values or one-dimensional arrays")
        points = np.stack([np.atleast_1d(array) for array in arrays], axis=1)
        if np.isnan(points).any():
            raise SelectionError("method='nearest' does not take NaN")
        boxes = Boxes.joined([part_boxes(part) for part in self.parts], len(self.names))
        rows, distances = nearest_rows(points, 1, boxes, self._read_chunks)
        far = distances[:, 0] > (np.inf if tolerance is None else float(tolerance))
        if far.any() or (rows < 0).any():
            at = int(np.argmax(far | (rows[:, 0] < 0)))
            raise NotFoundError(
                f"no vertex within {tolerance} of {points[at].tolist()}; the nearest is {distances[at, 0]:g} away"
            )
        return int(rows[0, 0]) if not arrays[0].ndim else xr.Variable(dims, rows[:, 0])

    def _read_chunks(self, chunks: IntArray) -> tuple[IntArray, Vertices, IntArray]:
        """Rows of the chunks of some boxes, their positions, and the number in each."""
        bounds = np.concatenate([[0], np.cumsum([len(part_boxes(part)) for part in self.parts])])
        rows, positions, counts = [], [], []
        for number, (start, part) in enumerate(zip(self._starts, self.parts, strict=False)):
            own = chunks[(chunks >= bounds[number]) & (chunks < bounds[number + 1])] - bounds[number]
            if not len(own):
                continue
            at = part.of_chunks(own) if part.positions is None else np.arange(part.length)
            rows.append(at + start)
            positions.append(part.read(at))
            counts.append(part_counts(part)[own])
        return np.concatenate(rows), np.concatenate(positions), np.concatenate(counts)


class LazyColumn(BackendArray):
    """Coordinates of one axis that are read when xarray indexes them."""

    def __init__(self, index: PositionIndex, axis: int) -> None:
        self.index, self.axis = index, axis
        self.shape, self.dtype = (len(index),), index.dtype

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        parts = tuple((part.sizes, part.rows, part.length) for part in self.index.parts)
        return ("LazyColumn", tokenize(parts), self.axis)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> Any:
        rows = np.arange(len(self.index))[key[0]]
        taken = self.index.take(np.atleast_1d(rows))
        found = (self.index if taken is None else taken).positions()[:, self.axis]
        found = found if taken is not None else found[rows]
        return found[0] if np.ndim(rows) == 0 else found


def part_counts(part: Part) -> IntArray:
    """(K,) vertices of a part in each chunk; a single number if they are known."""
    if part.positions is not None:
        return np.array([part.length])
    starts = part.sizes.starts()
    if part.rows is None:
        return np.diff(starts)
    return np.bincount(np.searchsorted(starts, part.rows, "right") - 1, minlength=len(starts) - 1)


def part_boxes(part: Part) -> Boxes:
    """Boxes that hold the vertices of a part, by chunk."""
    if part.positions is not None:
        return Boxes.of_points(part.positions)
    view = part.sizes.sized()
    return Boxes.of_chunks(
        view.data.placement.bounds(view.table.coords), part_counts(part), known=view.data.placement.known
    )


def index_of(dataset: xr.Dataset) -> PositionIndex | None:
    """The index over a dataset's positions; None if it was lost."""
    return next((index for index in dataset.xindexes.values() if isinstance(index, PositionIndex)), None)


def _scalar(label: Any) -> Any:
    return label.item() if hasattr(label, "item") else label
