"""A level, whole or selected: arrays that read when they are computed."""

from collections.abc import Callable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

from zarr_vectors_lazy.api.arrays import ArraysMixin
from zarr_vectors_lazy.api.columns import Attributes, Categories, EdgeAttributes, LinkAttributes
from zarr_vectors_lazy.api.keywords import is_near
from zarr_vectors_lazy.api.objects import Objects, is_whole
from zarr_vectors_lazy.api.outward import Outward
from zarr_vectors_lazy.api.pieces import Meshes, Polylines, Skeletons
from zarr_vectors_lazy.api.select import parse_ids, select_by_values
from zarr_vectors_lazy.api.show import text
from zarr_vectors_lazy.api.stored import Stored
from zarr_vectors_lazy.errors import NotFoundError, SelectionError, meant
from zarr_vectors_lazy.graph.columns import vertices_array
from zarr_vectors_lazy.graph.edges import edges_array, faces_array
from zarr_vectors_lazy.graph.explain import Explanation, explain
from zarr_vectors_lazy.graph.links import links_array
from zarr_vectors_lazy.graph.narrow import nearest_of_view, pick_rows, select_objects, select_region, select_touching
from zarr_vectors_lazy.graph.numbering import sized
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.plan.nearest import Near, parse_points
from zarr_vectors_lazy.plan.regions import parse_region
from zarr_vectors_lazy.plan.selection import Selection
from zarr_vectors_lazy.types import BoolArray, Floats, IntArray

if TYPE_CHECKING:
    from zarr_vectors_lazy.api.store import ZVStore

SELECTING = ("bbox", "objects", "groups", "where", "whole_objects", "world")


class ZVLevel(Outward, Stored, ArraysMixin):
    """One level of a store, or a selection of it; `ZVStore` gives it.

    It is a Dask collection of its vertices, attributes, and edges or faces: ``dask.compute(level)`` and
    ``level.compute()`` read them in one pass into a `LevelArrays` of NumPy arrays, ``persist`` into one of Dask arrays.
    Given to ``dask.delayed``, as any collection, it is computed first.
    """

    def __init__(self, store: "ZVStore", view: LevelView) -> None:
        self._store = store
        self._view = view

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("ZVLevel", self._view.token, self._view.chunking)

    @property
    def store(self) -> "ZVStore":
        """The store that it is a level of."""
        return self._store

    @property
    def index(self) -> int:
        """Number of the level."""
        return self._view.data.meta.index

    @property
    def own(self) -> "ZVLevel":
        """The whole level with only what it stores itself: less than all of it where it refines coarser ones.

        Everything else of such a level (``refinement: "add"``) is complete: what it stores, and what the levels that it
        refines do; its `chunk_keys` have the level that stores a chunk before the chunk's own coordinate.
        """
        data = self._store._opened.levels[self.index]
        return ZVLevel(self._store, LevelView(data, Selection(), self._view.chunking))

    @property
    def vertex_count(self) -> int | None:
        """Number of selected vertices; None where the store does not know, and for selections until sized."""
        sizes = self._view.sizes
        if sizes is not None:
            return int(sizes.sum())
        if self._view.rows is not None:
            return None
        stated = self._view.data.meta.vertex_count
        # Streaming writers leave 0, and a listed chunk has vertices: then the store does not know.
        return None if stated == 0 and len(self._view) else stated

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

        The chunk's own, but for coarse levels whose rows may lie outside their chunk (zarr-vectors-tools 0.3.0).
        """
        return self._view.data.placement.bounds(self._view.table.coords)

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """Names of the vertex attributes, sorted."""
        return self._view.data.attribute_names

    @property
    def deltas(self) -> tuple[int, ...]:
        """Deltas of the link families whose target level is there, ascending."""
        opened = self._store._opened
        leads = {level - self.index for level, data in opened.levels.items() if not data.meta.chain} | {0}
        return tuple(delta for delta in self._view.data.deltas if delta in leads)

    @property
    def vertices(self) -> da.Array:
        """(N, D) positions, stored dtype; one block a chunk, in the order of `chunk_keys`, rows as stored."""
        return vertices_array(self._view)

    @property
    def attributes(self) -> Attributes:
        """Vertex attributes by name: (N,) or (N, C) arrays aligned with `vertices`.

        Missing values are NaN, NaT or ``""``. Whole numbers some of which are missing become float64; computing those
        that it does not hold exactly raises FormatError: `codes` has them, or a data frame.
        """
        return Attributes(self._view, decode=True)

    @property
    def codes(self) -> Attributes:
        """Stored codes of dictionary-encoded attributes, and integers some of which are missing, by name."""
        return Attributes(self._view, decode=False)

    @property
    def categories(self) -> Categories:
        """Categories of dictionary-encoded attributes, by name."""
        return Categories(self._view)

    @property
    def edges(self) -> da.Array:
        """(E, 2) int64 rows of `vertices`: every edge, inside chunks and across (FORMAT 0.9, 10).

        Polylines, streamlines and lines: consecutive vertices of each object. Skeletons: ``[child, parent]``.
        Graphs: the stored records. Of a selection, the edges whose ends are both selected. Those of paths come by chunk
        and fragment of their first vertex, of skeletons by child, of graphs as the records are stored.
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

        Values that were never stored are NaN; of whole numbers of 64 bits, which float64 might not hold, masked.
        """
        return LinkAttributes(self._view)

    @property
    def edge_attributes(self) -> EdgeAttributes:
        """Attributes of links, by name: (E,) or (E, C) arrays aligned with `edges`, NaN where an edge is implied.

        Of meshes they are aligned with `faces`. Paths have no other edges than implied ones; a value that is stored for
        the record of one, between chunks, is its value.
        """
        return EdgeAttributes(self._view)

    @property
    def objects(self) -> Objects:
        """Objects by id, each its vertices in path order."""
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

        A whole level: sizes from a listing where cells are uncompressed, else the head of each cell. A selection: what
        choosing its rows needs.
        """
        return ZVLevel(self._store, sized(self._view))

    def sel(
        self,
        bbox: Any = None,
        *,
        objects: int | Sequence[int] | Set[int] | IntArray | BoolArray | None = None,
        groups: int | str | Sequence[int | str] | None = None,
        where: Mapping[str, Any] | Callable[..., Any] | None = None,
        whole_objects: bool = False,
        world: bool = False,
        **axes: slice | tuple[float | None, float | None],
    ) -> "ZVLevel":
        """Select rows; what is selected is a level again, and nothing is read but ids where objects are named.

        Parameters
        ----------
        bbox
            (lo, hi), inclusive on both faces, compared in float64; or several boxes, of depth 3, (n, 2, D): their
            union.
        objects, groups
            Ids of objects, or truth values that go with ``.objects.slots``; ids or names of groups.
        where
            Values by attribute, all of which must hold: ``(lo, hi)`` or ``slice(lo, hi)``, a range with both ends in it
            (None leaves one open; text goes by code points); a list, set or array: any of its values; one number, text
            or bool: this value; None: what is missing. Integers are compared as integers, exactly. Or a callable whose
            parameter names are the attributes that it reads and that gives a mask of the rows of a chunk.
        whole_objects
            All rows of every object that has a vertex in the box.
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
            If a keyword is no axis and spelt nearly as another argument is.
        """
        view = self._view
        root = view.data.store
        for name in sorted(axes.keys() - {*root.axes, *root.world.names}):
            if is_near(name, SELECTING):
                raise TypeError(f"sel() takes no argument {name!r}{meant(name, SELECTING)}")
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

    def nearest(self, points: Any, k: int = 1) -> tuple[IntArray, Floats]:
        """Rows of `vertices` nearest to some points; read now, from the chunks that may have them.

        Parameters
        ----------
        points
            (n, D) in stored coordinates and units; (D,) is one point.
        k
            How many of each.

        Returns
        -------
        rows
            (n, k) int64, the nearest first, of equally far ones the least row; -1 where there are fewer.
        distances
            (n, k) float64 in stored units; infinite where there are fewer.

        Raises
        ------
        SelectionError
            If points are no finite numbers of D columns, or k no positive whole number.
        """
        wanted = parse_points(points, self._store.ndim)
        if not is_whole(k) or k < 1:
            raise SelectionError(f"k must be a positive whole number, found {k!r}")
        return nearest_of_view(sized(self._view), wanted, int(k))

    def within(self, points: Any, radius: float) -> "ZVLevel":
        """Select what lies no farther than ``radius`` from one of some points: exact; other chunks are not read.

        Parameters
        ----------
        points
            (n, D) in stored coordinates and units; (D,) is one point.
        radius
            In stored units; as far away counts.

        Raises
        ------
        SelectionError
            If points are no finite numbers of D columns, or the radius is negative or no number.
        """
        wanted = parse_points(points, self._store.ndim)
        given: Any = radius
        if not isinstance(given, int | float | np.number) or not given >= 0:
            raise SelectionError(f"radius must be a number from 0 on, found {radius!r}")
        return ZVLevel(self._store, select_region(self._view, Near(wanted, float(radius))))

    def sample(self, n: int, seed: int = 0) -> "ZVLevel":
        """Select n rows at random, each as likely as any other; all of them where there are no more.

        Reads what tells the number of rows, where that is not known; of a selection also which rows it has.

        Parameters
        ----------
        n
            How many.
        seed
            The same for the same rows.

        Raises
        ------
        SelectionError
            If n or the seed is no whole number from 0 on.
        """
        for name, value in (("n", n), ("seed", seed)):
            if not is_whole(value) or value < 0:
                raise SelectionError(f"{name} must be a whole number from 0 on, found {value!r}")
        view = sized(self._view)
        assert view.sizes is not None
        total = int(view.sizes.sum())
        if n >= total:
            return ZVLevel(self._store, view)
        rows = np.random.default_rng(int(seed)).choice(total, int(n), replace=False, shuffle=False)
        return ZVLevel(self._store, pick_rows(view, np.sort(rows)))

    def explain(self, *members: str) -> Explanation:
        """Tell what computing members would fetch, before anything is fetched.

        Parameters
        ----------
        *members
            ``"vertices"`` (the default), ``"edges"``, ``"faces"``, ``"links"``, ``"attributes"`` (all), ``"objects"``
            or names of attributes.

        Raises
        ------
        NotFoundError
            If there is no such member.
        """
        arrays: list[da.Array] = []
        for member in members or ("vertices",):
            arrays += self._member(member)
        return explain(self._view, members or ("vertices",), arrays)

    def _parts(self) -> dict[str, Any]:
        kinds = set(self._store.geometry_types)
        return {
            "index": self.index,
            "vertices": self.vertices,
            "attributes": dict(self.attributes),
            "edges": self.edges if kinds - {"point_cloud", "mesh"} else None,
            "faces": self.faces if "mesh" in kinds else None,
        }

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
        return text.level_text(self)

    def _repr_html_(self) -> str:
        return text.level_html(self)
