"""A level out into the ecosystem: xarray, data frames, delayed values, chunks one by one, pictures."""

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, cast

import xarray as xr
from dask.delayed import Delayed

from zarr_vectors_lazy.api.files import write_file
from zarr_vectors_lazy.api.keywords import suggesting
from zarr_vectors_lazy.api.objects import is_whole
from zarr_vectors_lazy.convert.dataframe import dataframe
from zarr_vectors_lazy.convert.plot import fitting, panels_of, plot_view
from zarr_vectors_lazy.convert.xarray import level_dataset
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.graph.narrow import select_region
from zarr_vectors_lazy.graph.parts import delayed_parts, iterate_chunks
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.integrations.web.precomputed import open_viewer

if TYPE_CHECKING:
    import dask.dataframe as dd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from zarr_vectors_lazy.api.level import ZVLevel
    from zarr_vectors_lazy.api.store import ZVStore


class Outward:
    """What a level becomes elsewhere; `ZVLevel` has these methods."""

    _store: "ZVStore"
    _view: LevelView

    def to_xarray(self, *, objects: bool = False, edges: bool = False) -> xr.Dataset:
        """Dataset of Dask arrays: ``vertices(vertex, axis)``, coordinates by axis name, attributes beside them.

        ``dataset.sel(x=slice(0, 10), y=slice(20, 50))`` is exact and reads the positions of the chunks that may hold
        such vertices, so does ``method="nearest"`` ; what else there is stays
        lazy. Where there are objects, ``vertex_object_id`` is the one of each vertex, -1 where it has none.
        Xarray needs known sizes: where the store does not tell them, they are read here, as by `compute_chunk_sizes`.
        ``dataset.zv.sel(bbox=...)`` cuts boxes, ``dataset.zv.bin(resolution)`` gives images.

        Parameters
        ----------
        objects
            Add objects as a CF ragged index: ``object_rows(object_vertex)``, the rows of ``vertex`` in path order, and
            ``row_size(object)``; reads manifests and fragment indexes.
        edges
            Add ``edges(edge, end)``, or ``faces(face, corner)`` of a mesh; reads what tells how many there are.
        """
        return level_dataset(self._view, objects=objects, edges=edges)

    def to_dask_dataframe(self, attributes: Sequence[str] | None = None) -> "dd.DataFrame":
        """Dask data frame: a partition a block, columns by axis name and attribute.

        A column that a computation does not use is not fetched. Dictionary-encoded attributes are categoricals, whole
        numbers and bool of which some are missing have pandas' nullable dtypes. Where there are objects, ``object_id``
        is the one of each vertex: int64, -1 where none has it, the least id where several do. The index counts rows of
        the level where sizes are known, else of each partition.

        No column hides another: an attribute keeps its own name, unless an axis or ``object_id`` has it (then
        ``name_attribute``); vectors become ``name_0``, ``name_1``, ...; made-up names have ``_`` behind them
        where an attribute is called so.

        Parameters
        ----------
        attributes
            Names of those wanted, ``"object_id"`` may be among them; None for all.

        Raises
        ------
        NotFoundError
            If there is no such attribute.
        ImportError
            If ``dask.dataframe`` is not installed.
        """
        frame: dd.DataFrame = dataframe(self._view, attributes)
        return frame

    @suggesting
    def to_file(
        self,
        path: Any,
        *,
        format: str | None = None,  # noqa: A002  as NumPy's and pandas' own
        attributes: Sequence[str] | None = None,
        world: bool = True,
        triangulate: bool = False,
        like: Any = None,
        reference: Any = None,
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Write what is selected to a file of the field, as ``zvl read`` does.

        Parameters
        ----------
        path
            The file; it is whole when it is there.
        format
            Name or suffix of the format; None: as the suffix of ``path`` says, in capitals too.
        attributes
            Names of the vertex attributes wanted; None for all.
        world
            Positions in world coordinates (`ZVStore.to_world`) and in the format's unit; False: as stored.
        triangulate
            Cut faces of more than three corners where the format has only triangles.
        like, reference
            A tractogram, or an image, whose space a tractogram is written in; None: as the store says.
        overwrite
            Replace a file that is there.

        Returns
        -------
        dict with ``path``, ``format``, ``level``, ``vertices``, ``bytes`` and ``left_out``: what the format has no
        place for.

        Raises
        ------
        SelectionError
            If there is no such format, what is selected does not fit it, or a file is there.
        NotFoundError
            If there is no such attribute.
        ImportError
            If the library that writes it is not installed.
        """
        options: dict[str, Any] = {"world": world, "triangulate": triangulate, "like": like, "reference": reference}
        return write_file(
            cast("ZVLevel", self), path, format=format, attributes=attributes, overwrite=overwrite, **options
        )

    def to_delayed(self) -> list[Delayed]:
        """Return one value a block: ``{"vertices": (n, D), "attributes": {name: (n,) or (n, C)}}``."""
        return delayed_parts(self._view)

    def iter_chunks(self, prefetch: int = 4) -> Iterator[tuple[tuple[int, ...], dict[str, Any]]]:
        """Chunks in the order of `chunk_keys`, each ``(chunk_key, {"vertices": ..., "attributes": {...}})``.

        Parameters
        ----------
        prefetch
            Chunks that are read ahead while one is worked on; no more than that are in memory beside it.

        Raises
        ------
        SelectionError
            If ``prefetch`` is no whole number, or negative.
        """
        if not is_whole(prefetch) or prefetch < 0:
            raise SelectionError(f"prefetch must be a whole number, 0 or more; found {prefetch!r}")
        return iterate_chunks(self._view, prefetch)

    @suggesting
    def plot(
        self,
        *,
        color: str | None = None,
        projection: str | Sequence[str] | None = None,
        exact: bool = False,
        cmap: str | None = None,
        size: float | None = None,
        ax: "Axes | None" = None,
    ) -> "Figure":
        """Draw points, polylines, edges or outlines of faces, in up to three projections.

        Of a level that is finer than the picture's pixels, the coarsest level is read whose bins are no larger than a
        pixel; objects and conditions are always drawn on the level itself.

        Parameters
        ----------
        color
            Vertex attribute that says the colour.
        projection
            Two axes, such as ``"xy"``; by default each pair of the first three of `ZVStore.to_world`, a panel each.
            All is drawn in world coordinates; axes that these have not can be named too.
        exact
            Draw this level, however fine.
        cmap, size
            Matplotlib's colour map; area of points or width of lines, in its points.
        ax
            Matplotlib axes to draw into; needs a ``projection`` where there are more than two axes.

        Returns
        -------
        matplotlib.figure.Figure
            Shows itself in a notebook; ``savefig(path)`` writes it.

        Raises
        ------
        NotFoundError
            If there is no such attribute.
        SelectionError
            If an argument is of a wrong kind.
        ImportError
            If Matplotlib is not installed.
        """
        panels = panels_of(self._view.data.store, projection)
        if ax is not None and len(panels) > 1:
            raise SelectionError("ax= holds one projection: name it, as in projection='xy'")
        plain = not self._view.by_object and not self._view.selection.conditions
        views = [self._view, *(self._coarser() if plain and not exact else ())]
        return plot_view(fitting(views, panels, color), panels=panels, color=color, cmap=cmap, size=size, ax=ax)

    @suggesting
    def view(self) -> Any:
        """Open what is selected in Neuroglancer: a `neuroglancer.Viewer`, shown by its URL.

        Points, lines, skeletons and meshes are read when the viewer asks for them, cell by cell and object by object,
        from a server in this process; of any size. They are in world coordinates and units, as `ZVStore.to_world`
        gives them; lengths of a unit that is none, or not known, are taken as nanometres.

        Raises
        ------
        ImportError
            If Neuroglancer's package is not installed.
        """
        return open_viewer(self._view)

    def _coarser(self) -> list[LevelView]:
        views = [self._store[index]._view for index in self._store.levels if index > self._view.data.meta.index]
        return [reduce(select_region, self._view.selection.regions, view) for view in views]
