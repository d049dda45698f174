"""A store as ``open_zv`` returns it, and as a plain zarr group."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr
import zarr

from zarr_vectors_lazy import display
from zarr_vectors_lazy.convert.xarray import root_dataset
from zarr_vectors_lazy.cost import Cost, Rates
from zarr_vectors_lazy.errors import NotFoundError, SelectionError, ZVWarning
from zarr_vectors_lazy.keywords import Suggesting, suggesting
from zarr_vectors_lazy.level import ZVLevel
from zarr_vectors_lazy.objects import is_whole
from zarr_vectors_lazy.plan.blocks import Chunking, check_chunking
from zarr_vectors_lazy.plan.selection import Selection
from zarr_vectors_lazy.read.metadata import MetaTree
from zarr_vectors_lazy.read.store import OpenStore, Told, open_tree, reopen
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.storage.fetch import zarr_store
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.types import Box, Floats, Json, StorePath
from zarr_vectors_lazy.write.in_place import open_to_change, read_inventory, write_consolidated

# A store as ``open_zv`` returns it.


@suggesting
def open_zv(
    path: StorePath,
    *,
    chunks: Chunking | Mapping[Any, Any] = None,
    consolidated: bool | None = None,
    attribute_dtypes: Mapping[str, Any] | None = None,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> "ZVStore":
    """Open a Zarr Vectors store; reads metadata only and never writes.

    Parameters
    ----------
    path
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    chunks
        Blocks of the Dask arrays. None or {}: one for each chunk of the store; ``"auto"``: neighbouring chunks share a
        block, up to Dask's ``array.chunk-size``; an int: that many chunks to a block.
    consolidated
        None: use consolidated metadata if the root has them; False: ignore them; True: insist on them.
    attribute_dtypes
        ``{"name": "int32", "tangent": ("float32", 3)}``: the dtypes, and widths of vectors, of vertex attributes for
        which the store states none (the reference's lazy writer leaves them out). Without it they are a `FormatError`.
    backend
        ``"obstore"``, ``"fsspec"`` or ``"local"``; by default the one that ``ZARR_VECTORS_BACKEND`` names, or one that
        suits the URL's scheme.
    storage_options, **backend_kwargs
        Options of that backend, by its own names; the two are merged.

    Returns
    -------
    ZVStore

    Raises
    ------
    FormatError
        If there is no complete Zarr Vectors store of a known generation.
    StoreError
        If the store cannot be reached, or if a name, an option or the URL is wrong.
    SelectionError
        If ``chunks`` or ``attribute_dtypes`` is malformed.

    Examples
    --------
    >>> store = zvl.open_zv(zvl.example("tracts"))
    >>> store.levels, store.geometry_types, store.axes
    ([0, 1, 2], ('streamline',), ('x', 'y', 'z'))
    >>> store[0].vertices.shape
    (5261, 3)
    """
    chunking = check_chunking(chunks)
    spec = resolve(path, backend=backend, storage_options=storage_options, **backend_kwargs)
    return ZVStore(open_tree(spec, consolidated, parse_told(attribute_dtypes)), chunking)


class ZVStore(Suggesting):
    """A Zarr Vectors store, as `open_zv` returns it: its metadata, and its levels by index.

    Examples
    --------
    >>> store = zvl.open_zv(zvl.example("tracts"))
    >>> len(store), store.units, store[-1].vertex_count
    (3, ('mm', 'mm', 'mm'), 534)
    """

    def __init__(self, opened: OpenStore, chunking: Chunking = None) -> None:
        self._opened = opened
        self._chunking = chunking
        self._warned: set[int] = set()  # levels about which a warning said that they are still being written

    def __reduce__(self) -> tuple[Any, ...]:
        contents = {level: data.content for level, data in self._opened.levels.items() if data.content}
        return _arrive, (self._opened.tree, self._chunking, self._opened.meta.told, contents)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("ZVStore", self._opened.tree.spec, self._opened.digest, self._chunking, sorted(self._opened.meta.told))

    @property
    def url(self) -> str:
        """Where it is, without secrets."""
        return self._opened.tree.url

    @property
    def backend(self) -> str:
        """The backend that reads the store: ``"local"``, ``"obstore"``, ``"fsspec"`` or ``"zarr"``."""
        return self._opened.tree.spec.backend

    @property
    def format_version(self) -> str:
        """The version that the store states."""
        return self._opened.meta.version

    @property
    def levels(self) -> list[int]:
        """Indices of the levels, ascending."""
        return sorted(self._opened.levels)

    @property
    def geometry_types(self) -> tuple[str, ...]:
        """Kinds of geometry."""
        return self._opened.meta.geometry_types

    @property
    def ndim(self) -> int:
        """Number of axes, D."""
        return self._opened.meta.ndim

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes, in the order of the coordinate columns."""
        return self._opened.meta.axes

    @property
    def units(self) -> tuple[str | None, ...]:
        """Units of the axes; None for an axis without one."""
        return self._opened.meta.units

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """(lo, hi) corners, inclusive, as the store states them; (D,) each."""
        return self._opened.meta.bounds

    @property
    def crs(self) -> Any:
        """Coordinate reference system, as stored."""
        return self._opened.meta.crs

    @property
    def coordinate_offset(self) -> Floats | None:
        """(D,) world minus stored coordinates, or None if the store states none; `to_world` applies it."""
        return self._opened.meta.coordinate_offset

    @property
    def world_units(self) -> tuple[str | None, ...]:
        """Units of the columns that `to_world` returns; None for a column without one."""
        return self._opened.meta.world.world_units

    def to_world(self, positions: Any) -> Any:
        """Convert stored positions to world positions: columns x, y, z, with the store's offset and affine applied.

        The columns are the axes x, y and z (in upper or lower case), then the others in their order; three at most, or
        two for a store with two axes. `coordinate_offset` is added. If `crs` has the ``input_space`` voxmm and an
        ``affine``, as converters of TrackVis files write it, positions become RAS millimetres,
        ``affine @ (p / v - 0.5)``, where v is the lengths of the affine's columns. Units are not converted: see
        `world_units`.

        Parameters
        ----------
        positions
            (N, D), or a single (D,); a Dask array stays lazy.

        Returns
        -------
        array
            (N, 3) float64, or (N, 2); no row depends on the others.

        Raises
        ------
        SelectionError
            If positions do not have a column for each axis.

        Warns
        -----
        ZVWarning
            If ``crs`` names another space; positions then stay in stored coordinates.

        Examples
        --------
        >>> import zarr_vectors_lazy as zvl
        >>> store = zvl.open_zv("brain.zarrvectors")  # doctest: +SKIP
        >>> store.to_world(store[0].vertices[:10]).compute()  # doctest: +SKIP
        """
        world = self._opened.meta.world
        world.warn()
        if isinstance(positions, da.Array) and positions.ndim:
            blocks = positions.rechunk({positions.ndim - 1: -1})
            chunks = (*blocks.chunks[:-1], (len(world.columns),))
            return blocks.map_blocks(world.to_world, dtype=np.float64, chunks=chunks)
        return world.to_world(positions)

    def from_world(self, positions: Any) -> Floats:
        """Convert world positions to stored positions, the inverse of `to_world`.

        Parameters
        ----------
        positions
            (N, 3), or (N, 2), with columns as `to_world` returns them; or a single row.

        Returns
        -------
        array
            (N, D) float64, with columns in the order of `axes`.

        Raises
        ------
        SelectionError
            If the store has axes that world coordinates do not include, or if positions have another number of columns.

        Warns
        -----
        ZVWarning
            If ``crs`` names a space that `to_world` does not know.

        Examples
        --------
        >>> store = zvl.open_zv(zvl.example("tracts"))
        >>> store.from_world([[84, 100, 78]])
        array([[ 84., 100.,  78.]])
        """
        world = self._opened.meta.world
        world.warn()
        return world.from_world(positions)

    @property
    def chunk_shape(self) -> Floats:
        """(D,) edge lengths of a chunk at level 0."""
        return self._opened.meta.chunk_shape

    @property
    def bin_shape(self) -> Floats:
        """(D,) edge lengths of a bin at level 0."""
        return self._opened.meta.bin_shape

    @cached_property
    def headers(self) -> dict[str, Json]:
        """Headers by format name, as stored; read on first use.

        Examples
        --------
        >>> store = zvl.open_zv(zvl.example("tracts"))
        >>> dict(store.headers)
        {}
        """
        return self._opened.tree.run(self._opened.generation.headers())

    @property
    def attrs(self) -> Json:
        """Attributes of the root, as stored."""
        return self._opened.meta.attributes

    def __len__(self) -> int:
        return len(self._opened.levels)

    def __iter__(self) -> Iterator[ZVLevel]:
        return map(self.__getitem__, self.levels)  # without a frame: warnings are of the caller's line

    def __contains__(self, index: object) -> bool:
        return index in self._opened.levels

    def __getitem__(self, index: int) -> ZVLevel:
        last = is_whole(index) and -len(self) <= index < 0
        data = self._opened.complete.get(self.levels[index] if last else index) if is_whole(index) else None
        if data is None:
            raise NotFoundError.among("level", index, self.levels, where=self.url)
        if data.meta.deferred and index not in self._warned:
            self._warned.add(index)
            text = f"level {index} of {self.url} is still being written: only what exists now is read"
            warnings.warn(text, ZVWarning, stacklevel=2)
        return ZVLevel(self, LevelView(data, Selection(), self._chunking))

    def level_for(self, resolution: float | tuple[float, ...] | None) -> ZVLevel:
        """Return the coarsest level whose bins are no larger than ``resolution``, or the finest if there is none.

        Parameters
        ----------
        resolution
            In the units of the axes, one for all or one for each; None for the finest level.

        Raises
        ------
        SelectionError
            If it is not positive, or not one number or one for each axis.

        Examples
        --------
        >>> store = zvl.open_zv(zvl.example("tracts"))
        >>> store.level_for(3).index
        1
        """
        if not self.levels:
            raise NotFoundError("the store has no levels", where=self.url)
        if resolution is None:
            return self[self.levels[0]]
        try:
            wanted = np.broadcast_to(np.asarray(resolution, np.float64), (self.ndim,))
        except (TypeError, ValueError) as error:
            raise SelectionError(
                f"resolution must be a number, or one for each of {self.ndim} axes, found {resolution!r}"
            ) from error
        if not (wanted > 0).all():
            raise SelectionError(f"resolution must be positive, found {resolution!r}")
        fits = [i for i in self.levels if (self._opened.levels[i].meta.bin_shape <= wanted).all()]
        coarsest = max(fits, key=lambda i: (float(np.prod(self._opened.levels[i].meta.bin_shape)), i), default=None)
        return self[self.levels[0] if coarsest is None else coarsest]

    @suggesting
    def query(
        self, bbox: Box | None = None, *, resolution: float | tuple[float, ...] | None = None, level: int | None = None
    ) -> ZVLevel:
        """Select a box on the level that suits a resolution, or on a given one.

        Raises
        ------
        SelectionError
            If both ``resolution`` and ``level`` are given, or the box is malformed.
        NotFoundError
            If there is no such level.

        Examples
        --------
        >>> store = zvl.open_zv(zvl.example("tracts"))
        >>> part = store.query(([84, 100, 78], [92, 112, 88]), resolution=3)
        >>> part.index, part.vertices.compute().shape
        (1, (91, 3))
        """
        if resolution is not None and level is not None:
            raise SelectionError(f"give resolution or level, not both: resolution={resolution!r}, level={level!r}")
        chosen = self[level] if level is not None else self.level_for(resolution)
        return chosen if bbox is None else chosen.sel(bbox)

    @suggesting
    def cost(
        self,
        *,
        storage: float = 0.023,
        put: float = 0.005,
        get: float = 0.0004,
        transfer: float = 0.09,
        currency: str = "USD",
    ) -> Cost:
        """Count objects and stored bytes by level and family of arrays, from one listing, and price them.

        Parameters
        ----------
        storage
            Price of 10^9 bytes for a month.
        put, get
            Price of 1000 requests that write, and of 1000 that read.
        transfer
            Price of 10^9 bytes that leave the store. The defaults are list prices of S3 in dollars; set your own.
        currency
            Name of the currency, for printing.

        Returns
        -------
        Cost
            Printing it shows sums and a table; ``rows``, ``objects``, ``nbytes``, ``month``, ``write`` and ``read`` are
            the numbers.

        Raises
        ------
        StoreError
            If the store cannot be listed.
        SelectionError
            If a price is negative.

        Examples
        --------
        >>> store = zvl.open_zv(zvl.example("tracts"))
        >>> cost = store.cost(storage=0.02, currency="EUR")
        >>> cost.objects, cost.level(2).objects
        (291, 55)
        """
        rates = Rates(storage=storage, put=put, get=get, transfer=transfer, currency=currency)
        return Cost(self.url, read_inventory(self._opened.tree, self._opened.generation), rates)

    def _elsewhere(self, name: str) -> str:
        if name == "level":
            return "; did you mean store[0]?"
        return f"; levels have it: store[0].{name}" if hasattr(ZVLevel, name) else ""

    def to_datatree(self) -> xr.DataTree:
        """Return a tree of the datasets of all levels, ``"0"``, ``"1"``, ..., below a root that describes the store.

        Examples
        --------
        >>> store = zvl.open_zv(zvl.example("tracts"))
        >>> sorted(store.to_datatree().children)
        ['0', '1', '2']
        """
        nodes = {"/": root_dataset(self._opened.meta)}
        return xr.DataTree.from_dict(nodes | {f"/{level.index}": level.to_xarray() for level in self})

    def consolidate(self) -> None:
        """Write the metadata of all nodes into the root, so that one request opens the store (see `consolidate`).

        Examples
        --------
        >>> zvl.open_zv(zvl.example("cloud", "cloud.zarrvectors")).consolidate()
        >>> zvl.open_zv("cloud.zarrvectors", consolidated=True).levels
        [0, 1, 2]
        """
        write_consolidated(self._opened.tree.spec)

    def __repr__(self) -> str:
        return display.store_text(self)

    def _repr_html_(self) -> str:
        return display.store_html(self)


def _arrive(tree: MetaTree, chunking: Chunking, told: Told, contents: Mapping[int, str]) -> ZVStore:
    return ZVStore(reopen(tree, told, contents), chunking)


def parse_told(given: Any) -> Told:
    """Dtypes and widths that ``attribute_dtypes=`` gives; raises SelectionError if it is malformed."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise SelectionError(f"attribute_dtypes= must be dtypes by name, found {given!r}")
    told: dict[str, tuple[np.dtype[Any], int | None]] = {}
    for name, value in given.items():
        dtype, width = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
        try:
            found = np.dtype(dtype).newbyteorder("<")
        except TypeError as error:
            raise SelectionError(f"attribute_dtypes={{{name!r}: {value!r}}} is not a dtype that NumPy knows") from error
        if found.kind not in "biuf" or dtype is None or not (width is None or (is_whole(width) and width > 0)):
            text = "is not a dtype of numbers or booleans, nor a pair of such a dtype and the number of values in a row"
            raise SelectionError(f"attribute_dtypes={{{name!r}: {value!r}}} {text}")
        told[str(name)] = (found, None if width is None else int(width))
    return told


# A store as a plain zarr group.


@dataclass(frozen=True, slots=True)
class PlainStore:
    """A store as zarr sees it, after a check that it is a Zarr Vectors store.

    Parameters
    ----------
    url
        Where it is, without secrets.
    zarr_group
        Its root group.
    """

    url: str
    zarr_group: zarr.Group


@suggesting
def open_store(
    path: StorePath,
    *,
    mode: Literal["r", "r+"] = "r",
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> PlainStore:
    """Open a store as a plain zarr group, to use its arrays as zarr returns them; reads metadata only.

    Parameters
    ----------
    path
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    mode
        ``"r"``: the group is read-only. ``"r+"``: it can be written with everything that zarr offers; a zarr store
        object must itself be writable.
    backend, storage_options, **backend_kwargs
        As for `open_zv`.

    Returns
    -------
    PlainStore
        Its ``zarr_group`` is the root, a ``zarr.Group``.

    Raises
    ------
    SelectionError
        If the mode is neither.
    FormatError, StoreError
        As for `open_zv`; with ``"r+"`` also if the store is of format 0.7, or cannot be written to.

    Examples
    --------
    >>> root = zvl.open_store(zvl.example("tracts", "tracts.zarrvectors"), mode="r+")
    >>> root.zarr_group["0/vertices"].shape  # chunks along each axis
    (5, 4, 3)
    >>> zarr.consolidate_metadata(root.zarr_group.store)  # doctest: +SKIP

    Notes
    -----
    If you change cells or documents this way, you must also update what the metadata say about them
    (``nonempty_chunks``, counts). With ``"r+"`` the group shows documents as they are; with ``"r"`` it shows the root's
    consolidated metadata, if there are any: consolidate again after a change.
    """
    if mode not in {"r", "r+"}:
        raise SelectionError(
            f"mode must be 'r' or 'r+', found {mode!r}; new stores are made by the functions that write"
        )
    spec = resolve(path, backend=backend, storage_options=storage_options, **backend_kwargs)
    opened = open_tree(spec, None) if mode == "r" else open_to_change(spec)
    consolidated = None if mode == "r" and opened.tree.complete else False  # as zarr does, except for stale ones
    where = zarr_store(spec, writable=mode == "r+")
    group = zarr.open_group(where, mode=mode, zarr_format=3, use_consolidated=consolidated)
    return PlainStore(opened.tree.url, group)
