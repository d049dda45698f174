"""A level, whole or selected: arrays that read when they are computed, and conversions to other things."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.base import DaskMethodsMixin
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.threaded import get

from zarr_vectors_lazy import display
from zarr_vectors_lazy.convert.frames import frame_columns
from zarr_vectors_lazy.convert.plot import Style, fitting, panels_of, plot_view
from zarr_vectors_lazy.convert.precomputed_export import LIMIT, Export, export_level
from zarr_vectors_lazy.convert.precomputed_level import PrecomputedLevel
from zarr_vectors_lazy.convert.xarray import level_dataset
from zarr_vectors_lazy.copy.save import save_level
from zarr_vectors_lazy.errors import NotFoundError, SelectionError, meant, optional
from zarr_vectors_lazy.files import neighbours
from zarr_vectors_lazy.files.outgoing import Outgoing
from zarr_vectors_lazy.interchange import write_file
from zarr_vectors_lazy.kernels.bins import Rule
from zarr_vectors_lazy.keywords import Suggesting, check_flag, is_near, suggesting
from zarr_vectors_lazy.model.writing import Compressor
from zarr_vectors_lazy.objects import (
    Attributes,
    Categories,
    EdgeAttributes,
    LinkAttributes,
    Meshes,
    Objects,
    Polylines,
    Skeletons,
    is_whole,
    parse_ids,
    select_by_values,
)
from zarr_vectors_lazy.plan.selection import Near, Selection, parse_points, parse_region
from zarr_vectors_lazy.progress import finish
from zarr_vectors_lazy.read.columns import (
    delayed_parts,
    iterate_chunks,
    nearest_of_view,
    pick_rows,
    select_objects,
    select_region,
    select_touching,
    sized,
    vertices_array,
)
from zarr_vectors_lazy.read.explain import Explanation, explain
from zarr_vectors_lazy.read.links import edges_array, faces_array, links_array
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.types import BoolArray, Box, FilePath, Floats, IntArray, Lengths, StorePath
from zarr_vectors_lazy.web.neuroglancer import open_viewer
from zarr_vectors_lazy.write.arguments import attribute_values, by_labels, check_name
from zarr_vectors_lazy.write.in_place import add_attribute
from zarr_vectors_lazy.write.session import Mode, check_apart

if TYPE_CHECKING:
    import dask.dataframe as dd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from zarr_vectors_lazy.store import ZVStore

# A level as one Dask collection: what ``dask.compute(level)`` and ``persist`` return.

Arrays = Sequence[da.Array]


class ArraysMixin(DaskMethodsMixin):
    """Dask's protocol for an object made of several Dask arrays."""

    def _arrays(self: Any) -> dict[tuple[str, str], Any]:
        """Arrays by member, and name in it: vertices, attributes, edges, faces."""
        arrays = {("vertices", ""): self.vertices}
        arrays |= {("attributes", name): array for name, array in self.attributes.items()}
        return arrays | {(name, ""): getattr(self, name) for name in self._joins()}

    def _lazy(self: Any) -> list[da.Array]:
        return [array for array in self._arrays().values() if isinstance(array, da.Array)]

    def __dask_graph__(self) -> HighLevelGraph | None:
        arrays = self._lazy()
        return HighLevelGraph.merge(*(array.__dask_graph__() for array in arrays)) if arrays else None

    def __dask_keys__(self) -> list[Any]:
        return [array.__dask_keys__() for array in self._lazy()]

    def __dask_layers__(self) -> tuple[str, ...]:
        return tuple(name for array in self._lazy() for name in array.__dask_layers__())

    def __dask_postcompute__(self: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        made = {place: array.__dask_postcompute__() for place, array in self._arrays().items()}
        return finish_computed, (self.index, made)

    def __dask_postpersist__(self: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        made = {place: array.__dask_postpersist__() for place, array in self._arrays().items()}
        return finish_persisted, (self.index, made)

    # The same function as arrays have: a level computed together with an array is optimised with it, and shares its
    # reads.
    __dask_optimize__ = da.Array.__dict__["__dask_optimize__"]
    __dask_scheduler__ = staticmethod(get)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class LevelArrays(ArraysMixin):
    """The rows of a level and the edges or faces that join them: NumPy arrays if computed, Dask arrays if persisted.

    Parameters
    ----------
    index
        Number of the level.
    vertices
        (N, D).
    attributes
        (N,) or (N, C) by name.
    edges
        (E, 2) int64 rows of ``vertices``; None for point clouds and meshes.
    faces
        (F, W) int64 rows of ``vertices``; None except for meshes.
    """

    index: int
    vertices: Any
    attributes: Mapping[str, Any]
    edges: Any = None
    faces: Any = None

    def _joins(self) -> list[str]:
        return [name for name in ("edges", "faces") if getattr(self, name) is not None]

    def _shown(self) -> dict[str, Any]:
        return {"vertices": self.vertices, **{name: getattr(self, name) for name in self._joins()}, **self.attributes}

    def __repr__(self) -> str:
        return display.arrays_text(f"LevelArrays of level {self.index}", self._shown())

    def _repr_html_(self) -> str:
        return display.arrays_html(f"LevelArrays of level {self.index}", self._shown())


Made = Mapping[tuple[str, str], tuple[Callable[..., Any], tuple[Any, ...]]]
"""What makes an array of its blocks, by member and name in it."""


def finish_computed(results: Sequence[Any], index: int, made: Made) -> LevelArrays:
    """Join the blocks of each array."""
    joined = zip(made.items(), results, strict=True)
    return _rebuilt(index, {place: join(blocks, *rest) for (place, (join, rest)), blocks in joined})


def finish_persisted(
    graph: Mapping[Any, Any], index: int, made: Made, *, rename: Mapping[str, str] | None = None
) -> LevelArrays:
    """Dask arrays over a graph of results."""
    renamed = {} if rename is None else {"rename": rename}
    return _rebuilt(index, {place: join(graph, *rest, **renamed) for place, (join, rest) in made.items()})


def _rebuilt(index: int, arrays: Mapping[tuple[str, str], Any]) -> LevelArrays:
    attributes = {name: array for (member, name), array in arrays.items() if member == "attributes"}
    others = {member: array for (member, _), array in arrays.items() if member != "attributes"}
    return LevelArrays(index=index, attributes=attributes, **others)


def dataframe(view: LevelView, attributes: Collection[str] | None) -> Any:
    """Dask data frame of a view; see `frame_columns`.

    Raises
    ------
    ImportError
        If ``dask.dataframe`` is not installed.
    """
    expression = optional("zarr_vectors_lazy.convert.frame_expression", "data frames need", "dataframe")
    return expression.level_frame(view, frame_columns(view, attributes))


ELSEWHERE = {  # names that people type for a level, and what is meant
    **dict.fromkeys(("coords", "points", "positions"), "vertices"),
    **dict.fromkeys(("to_dataframe", "to_pandas"), "to_dask_dataframe().compute()"),
    "shape": "vertices.shape",
    "to_csv": "to_file('name.csv')",
}
SELECTING = ("bbox", "objects", "groups", "where", "whole_objects", "world")


class ZVLevel(Suggesting, ArraysMixin):
    """One level of a store, or a selection of it, as `ZVStore` returns it.

    It is a Dask collection of its vertices, attributes, and edges or faces: ``dask.compute(level)`` and
    ``level.compute()`` read them in one pass into a `LevelArrays` of NumPy arrays, and ``persist`` into one of Dask
    arrays. If you pass it to ``dask.delayed``, it is computed first, like any collection.

    Examples
    --------
    >>> level = zvl.open_zv(zvl.example("tracts"))[0]
    >>> level.vertex_count, level.attribute_names, level.chunk_count
    (5261, ('arc_length', 'index'), 16)
    >>> level.vertices[:2].compute().shape
    (2, 3)
    """

    def __init__(self, store: "ZVStore", view: LevelView) -> None:
        self._store = store
        self._view = view

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("ZVLevel", self._view.token, self._view.chunking)

    @property
    def store(self) -> "ZVStore":
        """The store to which it belongs."""
        return self._store

    @property
    def index(self) -> int:
        """Number of the level."""
        return self._view.data.meta.index

    @property
    def own(self) -> "ZVLevel":
        """The level with only what it stores itself, which is not everything if it refines coarser levels.

        Otherwise, such a level (``refinement: "add"``) is complete: it includes what the levels that it refines store.
        Its `chunk_keys` then begin with the level that stores a chunk, before the chunk's own coordinate.
        """
        data = self._store._opened.levels[self.index]
        return ZVLevel(self._store, LevelView(data, Selection(), self._view.chunking))

    @property
    def vertex_count(self) -> int | None:
        """Number of selected vertices; None if the store does not state it, and for selections until sized."""
        sizes = self._view.sizes
        if sizes is not None:
            return int(sizes.sum())
        return None if self._view.rows is not None else self._view.data.row_count

    @property
    def chunk_keys(self) -> list[tuple[int, ...]]:
        """Coordinates of the chunks that may hold selected vertices, in lexicographic order."""
        return [tuple(coord) for coord in self._view.table.coords.tolist()]

    @property
    def chunk_count(self) -> int:
        """Number of those chunks."""
        return len(self._view)

    @property
    def chunk_shape(self) -> Floats:
        """(D,) edge lengths of a chunk at this level."""
        return self._view.data.meta.chunk_shape

    @property
    def bin_shape(self) -> Floats:
        """(D,) edge lengths of a bin at this level."""
        return self._view.data.meta.bin_shape

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """(lo, hi) corners: the store's, cut by the box of a selection."""
        lo, hi = self._view.data.store.bounds
        box = self._view.selection.box
        return (lo, hi) if box is None else (np.maximum(lo, box[0]), np.minimum(hi, box[1]))

    @property
    def chunk_bounds(self) -> Floats:
        """(n, 2, D) lower and upper corner of the region in which the vertices of each chunk lie.

        The chunk itself, except on coarse levels whose rows may lie outside their chunk (zarr-vectors-tools 0.3.0).
        """
        return self._view.data.placement.bounds(self._view.table.coords)

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """Names of the vertex attributes, sorted."""
        return self._view.data.attribute_names

    @property
    def deltas(self) -> tuple[int, ...]:
        """Deltas of the link families whose target level exists, ascending."""
        opened = self._store._opened
        leads = {level - self.index for level, data in opened.levels.items() if not data.meta.chain} | {0}
        return tuple(delta for delta in self._view.data.deltas if delta in leads)

    @property
    def vertices(self) -> da.Array:
        """(N, D) positions in the stored dtype; one block for each chunk, in the order of `chunk_keys`, rows as stored.

        Averages of many float32 values need ``dtype="f8"``: ``level.vertices.mean(axis=0, dtype="f8")``.
        """
        return vertices_array(self._view)

    @property
    def attributes(self) -> Attributes:
        """Vertex attributes by name: (N,) or (N, C) arrays aligned with `vertices`.

        Missing values are NaN, NaT or ``""``. Integers with missing values become float64. Computing integers that
        float64 cannot hold exactly raises FormatError; `codes` or a data frame has them.
        """
        return Attributes(self._view, decode=True)

    @property
    def codes(self) -> Attributes:
        """Stored codes of dictionary-encoded attributes, and of integers with missing values, by name."""
        return Attributes(self._view, decode=False)

    @property
    def categories(self) -> Categories:
        """Categories of dictionary-encoded attributes, by name."""
        return Categories(self._view)

    @property
    def edges(self) -> da.Array:
        """(E, 2) int64 rows of `vertices`: every edge, inside chunks and across (FORMAT 0.9, 10).

        Polylines, streamlines and lines: consecutive vertices of each object. Skeletons: ``[child, parent]``. Graphs:
        the stored records. In a selection: the edges whose ends are both selected. Edges of paths are ordered by chunk
        and fragment of their first vertex, those of skeletons by child, those of graphs as stored.
        """
        return edges_array(self._view)

    @property
    def faces(self) -> da.Array:
        """(F, W) int64 rows of `vertices`: every face of a mesh, winding kept."""
        return faces_array(self._view)

    def links(self, delta: int = 0) -> da.Array:
        """(L, W) int64 rows of the stored link records, in the format's canonical order.

        Parameters
        ----------
        delta
            0: inside this level. Otherwise the first column has rows of this level, the others rows of the whole
            level ``index + delta``.

        Raises
        ------
        NotFoundError
            If there are no such links.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("tracts"))[0]
        >>> level.links().compute().shape, level.links(1).compute().shape
        ((379, 2), (5261, 2))
        """
        if delta == 0:
            return links_array(self._view, self._view.data.links(0))
        if delta not in self.deltas:
            raise NotFoundError.among("link delta", delta, self.deltas, where=self._view.data.url)
        other = self._store[self.index + delta]._view
        return links_array(self._view, self._view.data.links(delta), other)

    @property
    def link_attributes(self) -> LinkAttributes:
        """Attributes of the links inside this level, by name: (L,) or (L, C) arrays aligned with ``links(0)``.

        Values that were never stored are NaN, or masked for 64-bit integers, which float64 might not hold.
        """
        return LinkAttributes(self._view)

    @property
    def edge_attributes(self) -> EdgeAttributes:
        """Attributes of links, by name: (E,) or (E, C) arrays aligned with `edges`, NaN where an edge is implied.

        For meshes they are aligned with `faces`. Paths only have implied edges; if a value is stored for the record of
        one, between chunks, that is its value.
        """
        return EdgeAttributes(self._view)

    @property
    def objects(self) -> Objects:
        """Objects by id; each is its vertices, in path order."""
        return Objects(self)

    @property
    def polylines(self) -> Polylines:
        """Polylines by object id: (n, D) arrays, each with ``attributes``."""
        return Polylines(self)

    @property
    def skeletons(self) -> Skeletons:
        """Skeletons by object id: ``vertices``, ``edges``, ``attributes``, ``edge_attributes``."""
        return Skeletons(self)

    @property
    def meshes(self) -> Meshes:
        """Meshes by object id: ``vertices``, ``faces``, ``attributes``."""
        return Meshes(self)

    def compute_chunk_sizes(self) -> "ZVLevel":
        """Return the same level with known chunk sizes; reads as little as the store allows, once.

        For a whole level it reads sizes from a listing if cells are uncompressed, otherwise the head of each cell. For
        a selection it reads what is needed to choose its rows.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("tracts"))[0]
        >>> box = level.sel(x=(84, 92))
        >>> box.compute_chunk_sizes().vertices.shape
        (4523, 3)
        """
        return ZVLevel(self._store, sized(self._view))

    def sel(
        self,
        bbox: Box | None = None,
        *,
        objects: int | Sequence[int] | Set[int] | IntArray | BoolArray | None = None,
        groups: int | str | Sequence[int | str] | None = None,
        where: Mapping[str, Any] | Callable[..., Any] | None = None,
        whole_objects: bool = False,
        world: bool = False,
        **axes: slice | tuple[float | None, float | None],
    ) -> "ZVLevel":
        """Select rows. The result is a level again; nothing is read, except ids if objects are named.

        Parameters
        ----------
        bbox
            (lo, hi), inclusive on both faces, compared in float64; or several boxes, of depth 3, (n, 2, D): their
            union.
        objects, groups
            Ids of objects, or a mask that goes with ``.objects.slots``; ids or names of groups.
        where
            Conditions by attribute, all of which must hold: ``(lo, hi)`` or ``slice(lo, hi)``, a range including both
            ends (None leaves one open; text is ordered by code points); a list, set or array: any of its values; one
            number, text or bool: this value; None: missing values. Integers are compared exactly, as integers. Or a
            callable whose parameter names are the attributes that it reads, and which returns a mask of the rows of a
            chunk.
        whole_objects
            Select all rows of every object that has a vertex in the box.
        world
            Boxes, and ``x=``, ``y=``, ``z=``, are in world coordinates: exactly the rows whose `ZVStore.to_world` lies
            in them.
        **axes
            ``x=slice(100, 300)`` or ``x=(100, 300)`` by axis name.

        Raises
        ------
        SelectionError
            If the box is malformed, an axis unknown, or an argument of a wrong kind.
        NotFoundError
            If there is no such object, group or attribute.
        TypeError
            If a keyword is not an axis, and resembles another argument.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("tracts"))[0]
        >>> level.sel(x=(84, 92), y=(100, 112), z=(78, 88)).vertices.compute().shape
        (244, 3)
        >>> level.sel(groups="short", where={"arc_length": (5, None)}).vertices.compute().shape
        (1040, 3)
        """
        check_flag("whole_objects", whole_objects)
        check_flag("world", world)
        view = self._view
        root = view.data.store
        for name in sorted(axes.keys() - {*root.axes, *root.world.names}):
            if is_near(name, SELECTING):
                raise TypeError(f"sel() takes no argument {name!r}{meant(name, SELECTING)}")
            if name in self.attribute_names:
                raise SelectionError(
                    f"{name!r} is an attribute, not an axis: where={{{name!r}: (lo, hi)}} selects by it"
                )
        region = parse_region(bbox, axes, root.axes, root.world if world else None)
        if region is None and (whole_objects or world):
            raise SelectionError(f"{'whole_objects' if whole_objects else 'world'}=True needs a box")
        if world:
            root.world.warn()
        if objects is not None or groups is not None:
            view = select_objects(view, parse_ids(self.objects, objects, groups))
        if region is not None:
            view = select_touching(view, region) if whole_objects else select_region(view, region)
        if where is not None:
            view = select_by_values(view, where)
        return ZVLevel(self._store, view)

    @suggesting
    def nearest(self, points: Any, k: int = 1) -> tuple[IntArray, Floats]:
        """Find the rows of `vertices` nearest to some points; reads at once, from the chunks that may have them.

        Parameters
        ----------
        points
            (n, D) in stored coordinates and units, or a table whose columns are named as the axes; (D,) is one point.
        k
            How many for each point.

        Returns
        -------
        rows
            (n, k) int64, nearest first, with the lowest row first among equally distant ones; -1 if there are fewer.
        distances
            (n, k) float64 in stored units; infinite where there are fewer.

        Raises
        ------
        SelectionError
            If points are not finite numbers in D columns, or k is not a positive integer.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("tracts"))[0]
        >>> rows, distances = level.nearest([[90, 100, 80]], k=2)
        >>> rows.shape, distances.round(1)
        ((1, 2), array([[8.9, 8.9]]))
        """
        wanted = parse_points(points, self._store.axes)
        if not is_whole(k) or k < 1:
            raise SelectionError(f"k must be a whole number, 1 or more; found {k!r}")
        return nearest_of_view(sized(self._view), wanted, int(k))

    @suggesting
    def within(self, points: Any, radius: float) -> "ZVLevel":
        """Select the vertices within ``radius`` of any of some points, exactly; other chunks are not read.

        Parameters
        ----------
        points
            (n, D) in stored coordinates and units, or a table whose columns are named as the axes; (D,) is one point.
        radius
            In stored units; vertices at exactly this distance are included.

        Raises
        ------
        SelectionError
            If points are not finite numbers in D columns, or the radius is negative or not a number.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("tracts"))[0]
        >>> level.within([[90, 100, 80]], 12).vertices.compute().shape
        (1056, 3)
        """
        wanted = parse_points(points, self._store.axes)
        given: Any = radius
        if not isinstance(given, int | float | np.number) or not given >= 0:
            raise SelectionError(f"radius must be a number, 0 or more; found {radius!r}")
        return ZVLevel(self._store, select_region(self._view, Near(wanted, float(radius))))

    @suggesting
    def sample(self, n: int, seed: int = 0) -> "ZVLevel":
        """Select n rows at random, all equally likely; all rows if there are no more than n.

        Reads whatever states the number of rows, if it is not known; for a selection also which rows it has.

        Parameters
        ----------
        n
            How many.
        seed
            The same seed selects the same rows.

        Raises
        ------
        SelectionError
            If n or the seed is not an integer from 0 on.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("tracts"))[0]
        >>> level.sample(100, seed=1).vertices.compute().shape
        (100, 3)
        """
        for name, value in (("n", n), ("seed", seed)):
            if not is_whole(value) or value < 0:
                raise SelectionError(f"{name} must be a whole number, 0 or more; found {value!r}")
        view = sized(self._view)
        assert view.sizes is not None
        total = int(view.sizes.sum())
        if n >= total:
            return ZVLevel(self._store, view)
        rows = np.random.default_rng(int(seed)).choice(total, int(n), replace=False, shuffle=False)
        return ZVLevel(self._store, pick_rows(view, np.sort(rows)))

    def explain(self, *members: str) -> Explanation:
        """Say what computing members would fetch, without fetching it.

        Parameters
        ----------
        *members
            ``"vertices"`` (the default), ``"edges"``, ``"faces"``, ``"links"``, ``"attributes"`` (all), ``"objects"``
            or names of attributes.

        Raises
        ------
        NotFoundError
            If there is no such member.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("tracts"))[0]
        >>> plan = level.sel(x=(84, 92)).explain("vertices", "arc_length")
        >>> plan.chunks, plan.chunks_total, plan.requests
        (5, 16, 10)
        """
        arrays: list[da.Array] = []
        for member in members or ("vertices",):
            arrays += self._member(member)
        return explain(self._view, members or ("vertices",), arrays)

    def _joins(self) -> list[str]:
        kinds = set(self._store.geometry_types)
        return (["edges"] if kinds - {"point_cloud", "mesh"} else []) + (["faces"] if "mesh" in kinds else [])

    def _elsewhere(self, name: str) -> str:
        if name in self.attribute_names:
            return f"; did you mean .attributes[{name!r}]?"
        if name in self._store.axes:
            return f"; did you mean .vertices[:, {self._store.axes.index(name)}]?"
        if name in ELSEWHERE:
            return f"; did you mean .{ELSEWHERE[name]}?"
        return f"; the store has it: .store.{name}" if hasattr(type(self._store), name) else ""

    def _member(self, member: str) -> list[da.Array]:
        if member == "attributes":
            return list(self.attributes.values())
        if member in ("vertices", "edges", "faces"):
            array: da.Array = getattr(self, member)
            return [array]
        if member == "links":
            return [self.links()]
        if member == "objects":
            return list(self.objects.ragged())
        if self._view.data.has_attribute(member):
            return [self.attributes[member]]
        known = ("vertices", "edges", "faces", "links", "attributes", "objects", *self.attribute_names)
        raise NotFoundError.among("member", member, known, where=self._view.data.url)

    def __repr__(self) -> str:
        return display.level_text(self)

    def _repr_html_(self) -> str:
        return display.level_html(self)

    # Into a store: new attributes, and the selection as a store of its own.

    @suggesting
    def write_attribute(
        self, name: str, values: Any, *, aggregate: Rule | None = None, compute: bool = True, progress: bool = False
    ) -> Any:
        """Add a new vertex attribute to a level, chunk by chunk; open the store again to read it.

        Parameters
        ----------
        name
            Name of the attribute; the level must not have one with that name.
        values
            (N,) or (N, C) NumPy or Dask array aligned with `vertices`, such as one computed from them and other
            attributes, or a pandas or Arrow column (pandas' by its index): numbers, booleans, times, or (N,) text,
            which is dictionary-encoded. Masked values and None are missing. If chunk sizes are unknown, a Dask array
            must have one block for each chunk.
        aggregate
            How `build_pyramid` should combine the values, for instance ``"mean"``; this is stored with the attribute.
            None for the default.
        compute
            False to return a Delayed that writes.
        progress
            Show a bar.

        Returns
        -------
        int
            The number of chunks that have values.

        Raises
        ------
        SelectionError
            If the level is a selection or already has this attribute, or if the values are not aligned with it.
        FormatError
            If the store is of format 0.7 (`migrate` it first).
        StoreError
            If a put fails, or another write of the same attribute has begun in the meantime. Readers then do not see
            the attribute, and it can be written again.

        Examples
        --------
        >>> path = zvl.example("cloud", "cloud.zarrvectors")
        >>> level = zvl.open_zv(path)[0]
        >>> level.write_attribute("depth", level.vertices[:, 2] - level.bounds[0][2])
        26
        >>> zvl.open_zv(path)[0].attributes["depth"].shape
        (4946,)
        """
        check_name(name, "attribute")
        if not dask.is_dask_collection(values):
            values = attribute_values(by_labels(values, None, "values", "row labels"), "values")
        job = add_attribute(self._view, name, values, aggregate)
        return finish(job, f"write {name}", compute=compute, shown=progress)

    @suggesting
    def save(
        self,
        path: StorePath,
        *,
        chunk_shape: Lengths | None = None,
        bin_shape: Lengths | None = None,
        compressor: Compressor = "zstd",
        checksum: bool = True,
        shard_shape: Any = None,
        mode: Mode = "w-",
        compute: bool = True,
        progress: bool = False,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        **backend_kwargs: Any,
    ) -> Any:
        """Write the selection as level 0 of a new store of format 0.9.

        The new store has the positions, attributes, edges or faces and their attributes, objects with their attributes
        and groups; the axes, units, reference system and offset; the headers; ``user_metadata``, the units and
        descriptions of attributes, and all other metadata that do not describe the layout. ``left_out`` in the result
        names what is not copied.

        Writing is out of core: a Dask graph reads each chunk once, and needs as much memory as the geometry's writer
        does for Dask arrays, plus all manifests. The fragment indexes of paths are read twice. If the store does not
        state the chunk sizes of a graph, a skeleton or a mesh, they are read before this method returns, even with
        ``compute=False``.

        A path that the selection interrupts becomes several objects: the first piece keeps the id, the others get new
        ids, and all of them have the attributes and groups of the object. No edge joins vertices that were not joined.

        Parameters
        ----------
        path
            The new store: a URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
        chunk_shape, bin_shape
            Chunks and bins of the new store; by default those of the level.
        compressor, checksum, shard_shape, mode, compute, progress
            As for `write_points`.
        backend, storage_options, **backend_kwargs
            As for `open_zv`, for the new store.

        Returns
        -------
        dict
            What the geometry's writer returns, and ``left_out``: the paths in the store of whatever is not copied, such
            as other levels, parametric objects, and arrays that this package does not know.

        Raises
        ------
        SelectionError
            If ``path`` is the store itself or lies inside it, if nothing is selected, if vertices belong to several
            objects (as on coarse levels from the reference package), if a line is cut in two, or if an argument is
            malformed.
        StoreError
            If something already exists at ``path``, or a put fails.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("tracts"))[0]
        >>> done = level.sel(groups="short").save("short.zarrvectors")
        >>> done["polyline_count"], done["vertex_count"]
        (37, 1262)
        """
        options = {"backend": backend, "storage_options": storage_options, **backend_kwargs}
        check_apart(self._view.data.tree.spec, resolve(path, **options))
        meta = self._view.data.meta
        if chunk_shape is None:
            bin_shape = meta.bin_shape if bin_shape is None and meta.bins_tile else bin_shape
            chunk_shape = meta.chunk_shape
        shapes = {"chunk_shape": chunk_shape, "bin_shape": bin_shape, "shard_shape": shard_shape}
        how = {"compressor": compressor, "checksum": checksum, "mode": mode, "compute": compute, "progress": progress}
        return save_level(self, path, {**shapes, **how, **options})

    # To other libraries: xarray, data frames, delayed values, chunks one by one, pictures.

    @suggesting
    def to_xarray(self, *, objects: bool = False, edges: bool = False) -> xr.Dataset:
        """Return an xarray dataset of Dask arrays: ``vertices(vertex, axis)``, a coordinate for each axis, attributes.

        ``dataset.sel(x=slice(0, 10), y=slice(20, 50))`` is exact, and reads only the positions of the chunks that may
        hold such vertices; so does ``method="nearest"``. Everything else stays lazy. If the level has objects,
        ``vertex_object_id`` is the object id of each vertex, or -1 if it has none. Xarray needs known sizes: if the
        store does not state them, they are read here, as `compute_chunk_sizes` does. ``dataset.zv.sel(bbox=...)``
        selects boxes, and ``dataset.zv.bin(resolution)`` makes images.

        Parameters
        ----------
        objects
            Add objects as a CF ragged index: ``object_rows(object_vertex)``, the rows of ``vertex`` in path order, and
            ``row_size(object)``. This reads manifests and fragment indexes.
        edges
            Add ``edges(edge, end)``, or ``faces(face, corner)`` for a mesh. This reads whatever is needed to count
            them.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("tracts"))[0]
        >>> dataset = level.to_xarray()
        >>> dataset["vertices"].shape, sorted(dataset.coords)
        ((5261, 3), ['axis', 'object_id', 'x', 'y', 'z'])
        """
        return level_dataset(self._view, objects=objects, edges=edges)

    @suggesting
    def to_dask_dataframe(self, attributes: Sequence[str] | None = None) -> "dd.DataFrame":
        """Return a Dask data frame with one partition for each block, and a column for each axis and attribute.

        Columns that a computation does not use are not fetched. Dictionary-encoded attributes become categoricals;
        integers and booleans with missing values have pandas' nullable dtypes. If the level has objects, ``object_id``
        is the object id of each vertex, as int64: -1 if it belongs to none, and the smallest id if it belongs to
        several. The index counts the rows of the level if sizes are known, and otherwise those of each partition.

        No column hides another. An attribute keeps its own name, unless an axis or ``object_id`` has the same name
        (then it becomes ``name_attribute``). Vectors become ``name_0``, ``name_1``, ...; these names get a trailing
        ``_`` if an attribute is already called that.

        Parameters
        ----------
        attributes
            Names of the attributes to include, among them possibly ``"object_id"``; None for all.

        Raises
        ------
        NotFoundError
            If there is no such attribute.
        ImportError
            If ``dask.dataframe`` is not installed.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("tracts"))[0]
        >>> frame = level.to_dask_dataframe()
        >>> list(frame.columns), len(frame)
        (['x', 'y', 'z', 'arc_length', 'index', 'object_id'], 5261)
        """
        frame: dd.DataFrame = dataframe(self._view, attributes)
        return frame

    @suggesting
    def to_file(
        self,
        path: FilePath,
        *,
        format: str | None = None,  # noqa: A002  as NumPy's and pandas' own
        attributes: Sequence[str] | None = None,
        world: bool = True,
        triangulate: bool = False,
        like: Any = None,
        reference: Any = None,
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Write the selection to a file in one of the supported formats, as ``zvl read`` does.

        Parameters
        ----------
        path
            The file. It appears only when it is complete.
        format
            Name or suffix of the format; None to use the suffix of ``path``, in upper or lower case.
        attributes
            Names of the vertex attributes to include; None for all.
        world
            True to write world coordinates (`ZVStore.to_world`) in the format's unit; False to write positions as
            stored.
        triangulate
            Cut faces of more than three corners if the format only has triangles.
        like, reference
            A tractogram, or an image, in whose space a tractogram is written; None to use the store's.
        overwrite
            Replace an existing file.

        Returns
        -------
        dict with ``path``, ``format``, ``level``, ``vertices``, ``bytes`` and ``left_out``, which names what the format
        cannot hold.

        Raises
        ------
        SelectionError
            If the format is unknown, if the selection does not fit it, or if the file already exists.
        NotFoundError
            If there is no such attribute.
        ImportError
            If the library that writes this format is not installed.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("tracts"))[0]
        >>> done = level.sel(groups="short").to_file("short.trk")
        >>> done["vertices"], done["left_out"]
        (1262, ['object ids', 'groups'])
        """
        options: dict[str, Any] = {"world": world, "triangulate": triangulate, "like": like, "reference": reference}
        return write_file(self, path, format, attributes, overwrite=overwrite, **options)

    @suggesting
    def to_arrow(self, attributes: Sequence[str] | None = None, *, world: bool = True, geometry: bool = False) -> Any:
        """Return a `pyarrow.Table` with a column for each axis and attribute, and ``object_id`` if there are objects.

        The columns are those of `to_dask_dataframe`. Dictionary-encoded attributes are dictionaries, missing values are
        null, and units are in the metadata of the axes' fields. Libraries that support Arrow accept the level itself,
        and read it block by block: ``polars.DataFrame(level)``, ``pyarrow.RecordBatchReader.from_stream(level)``.

        Parameters
        ----------
        attributes
            Names of the vertex attributes to include; None for all.
        world
            True for positions in world coordinates (`ZVStore.to_world`), False for positions as stored.
        geometry
            Return positions as GeoArrow, in a column ``geometry``, with the rows of `to_geopandas`.

        Raises
        ------
        NotFoundError
            If there is no such attribute.
        ImportError
            If pyarrow is not installed.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("tracts"))[0]
        >>> level.to_arrow().shape
        (5261, 6)
        """
        return neighbours.to_arrow(Outgoing(self, attributes, world=world), geometry=geometry)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Stream what `to_arrow` returns to another library, block by block (Arrow's PyCapsule interface)."""
        return neighbours.arrow_reader(Outgoing(self, None, world=True)).__arrow_c_stream__(requested_schema)

    def __dlpack__(self, **options: Any) -> Any:
        """Pass (N, D) positions in world coordinates to another array library, as ``torch.from_dlpack(level)`` does."""
        return neighbours.positions_of(Outgoing(self, (), world=True)).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Device of `__dlpack__`: main memory."""
        return (1, 0)

    @suggesting
    def to_geopandas(self, attributes: Sequence[str] | None = None, *, world: bool = True) -> Any:
        """Return a `geopandas.GeoDataFrame` with a row for each point, line (one per object), edge or face.

        Points have their attributes and ``object_id``. Lines have the attributes of their objects, and lists of the
        attributes of their vertices; the line of a skeleton has a part for each branch. Edges and faces have link
        attributes. If a box or a condition cuts lines, what is left of them is returned as edges. A line with a single
        vertex runs from that vertex to itself. The reference system is the store's, if pyproj knows it.

        Parameters
        ----------
        attributes, world
            As for `to_arrow`.

        Raises
        ------
        NotFoundError
            If there is no such attribute.
        ImportError
            If GeoPandas is not installed.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("cloud"))[0]
        >>> level.to_geopandas().shape
        (4946, 7)
        """
        return neighbours.to_geopandas(Outgoing(self, attributes, world=world))

    @suggesting
    def to_dask_geopandas(self, attributes: Sequence[str] | None = None, *, world: bool = True) -> Any:
        """Return a lazy `dask_geopandas.GeoDataFrame`; each partition is a block of points, or some lines or skeletons.

        Its ``spatial_partitions`` are the bounds of the chunks in world coordinates, so that ``cx`` and joins read only
        what they need.

        Parameters
        ----------
        attributes, world
            As for `to_arrow`.

        Raises
        ------
        SelectionError
            If the level is a graph or a mesh.
        NotFoundError
            If there is no such attribute.
        ImportError
            If dask-geopandas is not installed.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("cloud"))[0]
        >>> level.to_dask_geopandas().npartitions
        26
        """
        return neighbours.to_dask_geopandas(self, attributes, world=world)

    @suggesting
    def to_spatialdata(self, attributes: Sequence[str] | None = None, *, world: bool = True) -> Any:
        """Return a `spatialdata.SpatialData` with lazy points ``vertices``, or with a shape for each face of a mesh.

        Parameters
        ----------
        attributes, world
            As for `to_arrow`.

        Raises
        ------
        SelectionError
            If the level has lines, which SpatialData cannot hold.
        ImportError
            If spatialdata is not installed.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("cloud"))[0]
        >>> data = level.to_spatialdata()  # doctest: +SKIP
        """
        return neighbours.to_spatialdata(self, attributes, world=world)

    @suggesting
    def to_anndata(self, attributes: Sequence[str] | None = None, *, world: bool = True) -> Any:
        """Return an `anndata.AnnData` of the vertices: positions in ``obsm``, attributes in ``obs``, edges in ``obsp``.

        Parameters
        ----------
        attributes, world
            As for `to_arrow`.

        Raises
        ------
        SelectionError
            If the level is a mesh.
        ImportError
            If anndata is not installed.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("cloud"))[0]
        >>> level.to_anndata().n_obs
        4946
        """
        return neighbours.to_anndata(Outgoing(self, attributes, world=world))

    @suggesting
    def to_pyvista(self, attributes: Sequence[str] | None = None, *, world: bool = True) -> Any:
        """Return a `pyvista.PolyData` of vertices, polylines, edges or faces, with attributes of points and cells.

        Parameters
        ----------
        attributes, world
            As for `to_arrow`.

        Raises
        ------
        ImportError
            If PyVista is not installed.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("surface"))[0]
        >>> level.to_pyvista().n_points
        2562
        """
        return neighbours.to_pyvista(Outgoing(self, attributes, world=world))

    @suggesting
    def to_trimesh(
        self, attributes: Sequence[str] | None = None, *, world: bool = True, triangulate: bool = False
    ) -> Any:
        """Return a mesh as a `trimesh.Trimesh` (vertices are not merged), points as a PointCloud, lines as a Path3D.

        Parameters
        ----------
        attributes, world
            As for `to_arrow`.
        triangulate
            Cut faces of more than three corners.

        Raises
        ------
        SelectionError
            If faces have more than three corners and ``triangulate`` is False.
        ImportError
            If trimesh is not installed.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("surface"))[0]
        >>> level.to_trimesh().faces.shape
        (5120, 3)
        """
        return neighbours.to_trimesh(Outgoing(self, attributes, world=world, triangulate=triangulate))

    @suggesting
    def to_networkx(self, attributes: Sequence[str] | None = None, *, world: bool = True) -> Any:
        """Return a `networkx.Graph` whose nodes are the rows of `vertices`.

        Each node has its position as ``pos`` and its attributes; edges have link attributes. A skeleton or a directed
        graph becomes a DiGraph, ``child -> parent``; a graph with parallel edges becomes a MultiGraph.

        Parameters
        ----------
        attributes, world
            As for `to_arrow`.

        Raises
        ------
        SelectionError
            If the level is a mesh.
        ImportError
            If NetworkX is not installed.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("neuron"))[2]
        >>> level.to_networkx().number_of_nodes()
        689
        """
        return neighbours.to_networkx(Outgoing(self, attributes, world=world))

    @suggesting
    def adjacency(self, weight: str | None = None) -> Any:
        """Return the edges between rows of `vertices` as an (N, N) `scipy.sparse.csr_array`, symmetric if undirected.

        Parameters
        ----------
        weight
            Name of the link attribute to use as values; None for 1 for each edge. Values of parallel edges are added.

        Raises
        ------
        SelectionError
            If the level has no edges, or if an edge has no value of this attribute.
        NotFoundError
            If there is no such link attribute.
        ImportError
            If SciPy is not installed.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("neuron"))[0]
        >>> level.adjacency().shape
        (8515, 8515)
        """
        return neighbours.adjacency(self, weight)

    @suggesting
    def to_precomputed(
        self,
        path: StorePath,
        kind: str,
        *,
        sharded: bool = False,
        limit: int = LIMIT,
        overwrite: bool = False,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Write the selection as files that Neuroglancer can read from any web server or bucket.

        Parameters
        ----------
        path
            Folder or URL to write to; ``info`` is written last.
        kind
            ``"points"`` or ``"lines"``, which are drawn without being selected, in levels that add up, each a fair
            sample; or ``"skeletons"`` or ``"mesh"``, which are drawn by object id.
        sharded
            Put many cells and segments into one file, to be read by byte ranges. Single annotations, which a viewer
            requests on a click, are always stored like this.
        limit
            Approximate number of annotations in a cell.
        overwrite
            Replace an existing export.
        backend, storage_options
            As for `open_zv`, for the target.

        Returns
        -------
        dict with ``kind``, ``count`` (of annotations or segments), ``levels`` (of the spatial index), ``files`` and
        ``bytes``.

        Raises
        ------
        SelectionError
            If the level has nothing of this kind, or an ``info`` already exists.
        FormatError
            If an object's id is negative.

        Examples
        --------
        >>> level.to_precomputed("tracts_ng", "skeletons", sharded=True)  # doctest: +SKIP
        """
        if not is_whole(limit) or limit < 1:
            raise SelectionError(f"limit must be a whole number, 1 or more; found {limit!r}")
        target = resolve(path, backend=backend, storage_options=storage_options)
        export = Export(PrecomputedLevel(self._view), kind, target, sharded, int(limit))
        return export_level(export, overwrite)

    def to_delayed(self) -> list[Delayed]:
        """Return a Delayed for each block: ``{"vertices": (n, D), "attributes": {name: (n,) or (n, C)}}``.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("tracts"))[0]
        >>> blocks = level.to_delayed()
        >>> len(blocks)
        16
        """
        return delayed_parts(self._view)

    @suggesting
    def iter_chunks(self, prefetch: int = 4) -> Iterator[tuple[tuple[int, ...], dict[str, Any]]]:
        """Iterate over chunks in the order of `chunk_keys`, as ``(chunk_key, {"vertices": ..., "attributes": {...}})``.

        Parameters
        ----------
        prefetch
            The number of chunks to read ahead; no more than these and the current one are in memory.

        Raises
        ------
        SelectionError
            If ``prefetch`` is not a whole number, or is negative.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("tracts"))[0]
        >>> sum(len(rows["vertices"]) for _, rows in level.iter_chunks())
        5261
        """
        if not is_whole(prefetch) or prefetch < 0:
            raise SelectionError(f"prefetch must be a whole number, 0 or more; found {prefetch!r}")
        return iterate_chunks(self._view, prefetch)

    @suggesting
    def plot(
        self,
        *,
        color: Any = None,
        projection: str | Sequence[str] | None = None,
        exact: bool = False,
        robust: bool = False,
        density: bool | None = None,
        cmap: Any = None,
        size: float | None = None,
        ax: "Axes | None" = None,
    ) -> "Figure":
        """Draw points, polylines, edges or outlines of faces, in up to three projections on the same scale.

        If the level is finer than the pixels of the picture, the coarsest level whose bins are no larger than a pixel
        is drawn instead. Selections of objects and conditions are always drawn from the level itself.

        Parameters
        ----------
        color
            What determines the colour: a vertex attribute, ``"object_id"``, or an attribute of objects. Text, booleans,
            object ids, and integers with at most 20 distinct values are categories: each has its own colour and is
            named in a legend, and grey means no category. An edge has the colour of its child, or, on paths, that of
            the vertex where it begins. An attribute of 3 or 4 numbers (uint8, uint16, or from 0 to 1) is drawn as
            it is: red, green, blue and opacity; so are several of one number, ``"red,green,blue"``. Or an array with
            a row for each vertex of this level: (N,), (N, 3) or (N, 4), also of Dask.
        projection
            Two axes, such as ``"xy"``; by default there is a panel for each pair of the first three axes of
            `ZVStore.to_world`. Everything is drawn in world coordinates; other axes of the store can be named too.
        exact
            Draw this level, however fine it is.
        robust
            Spread the colours from the 2nd to the 98th percentile of a quantity, ignoring outliers.
        density
            Count vertices in hexagons, or average a quantity there, instead of drawing each vertex; by default if
            there are more than 100,000 points of one colour.
        cmap, size
            Matplotlib's colour map, also for categories; the area of points, or the width of lines, in points.
        ax
            Matplotlib axes to draw on; ``projection`` is needed if there are more than two axes.

        Returns
        -------
        matplotlib.figure.Figure
            It shows itself in a notebook; ``savefig(path)`` saves it.

        Raises
        ------
        NotFoundError
            If there is no such attribute or colour map.
        SelectionError
            If an argument is of the wrong kind.
        ImportError
            If Matplotlib is not installed.

        Examples
        --------
        >>> level = zvl.open_zv(zvl.example("tracts"))[0]
        >>> level.plot(color="length", robust=True, projection="xz").get_suptitle()
        'tracts.zarrvectors, level 0: 5,261 vertices'
        """
        panels = panels_of(self._view.data.store, projection)
        if ax is not None and len(panels) > 1:
            raise SelectionError("ax= holds one projection: name it, as in projection='xy'")
        check_flag("density", density)
        given: Any = size
        if given is not None and not (isinstance(given, int | float | np.number) and given > 0):
            raise SelectionError(f"size must be a positive number, found {given!r}")
        named = color is None or isinstance(color, str)
        plain = named and not self._view.by_object and not self._view.selection.conditions
        views = [self._view, *(self._coarser() if plain and not exact and not density else ())]
        style = Style(cmap=cmap, size=size, robust=robust, density=density)
        return plot_view(fitting(views, panels, color), panels=panels, color=color, style=style, ax=ax)

    @suggesting
    def view(self) -> Any:
        """Open the selection in Neuroglancer; returns a `neuroglancer.Viewer`, which shows its URL.

        A server in this process provides points, lines, skeletons and meshes as the viewer requests them, cell by cell
        and object by object, so that the store may have any size. They are in world coordinates and units, as
        `ZVStore.to_world` returns them; without a known unit of length, 1 is taken as 1 nanometre.

        Raises
        ------
        ImportError
            If Neuroglancer's package is not installed.

        Examples
        --------
        >>> level.view()  # a page of Neuroglancer's  # doctest: +SKIP
        """
        return open_viewer(self._view)

    def _coarser(self) -> list[LevelView]:
        views = [self._store[index]._view for index in self._store.levels if index > self._view.data.meta.index]
        return [reduce(select_region, self._view.selection.regions, view) for view in views]
