"""Levels as objects of other libraries (tables, geometries, meshes, graphs, neurons), in world coordinates."""

import importlib
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import dask
import numpy as np

from zarr_vectors_lazy.convert.frames import FrameColumn, frame_columns, read_frame
from zarr_vectors_lazy.errors import NotFoundError, SelectionError, ZVWarning, listed
from zarr_vectors_lazy.files.formats import CLOUDS, MESHES, PATHS, TREES
from zarr_vectors_lazy.files.graphs import KINDS, RADII, is_directed, parents_of, rows_of
from zarr_vectors_lazy.files.las import system_of
from zarr_vectors_lazy.files.loaded import library
from zarr_vectors_lazy.files.meshes import NAMES, colours_of, flat_columns, triangles_of
from zarr_vectors_lazy.files.outgoing import Outgoing, Values, at_least_two, placed_frame
from zarr_vectors_lazy.files.tables import arrow_column
from zarr_vectors_lazy.files.vtk import cell_lists
from zarr_vectors_lazy.kernels.trees import depth_first
from zarr_vectors_lazy.model.objects import ranges
from zarr_vectors_lazy.model.world import World, metres, unit_factors
from zarr_vectors_lazy.plan.selection import OBJECT_ID
from zarr_vectors_lazy.read.columns import sized
from zarr_vectors_lazy.read.layers import batched
from zarr_vectors_lazy.types import Floats, IntArray, Json

GEOMETRY = "geometry"
MANY_OBJECTS = 1000  # lines in a partition
NANOMETER = "nanometer"
LINES = TREES - {"graph"}


def check_holds(out: Outgoing, what: str, kinds: Iterable[str], instead: str) -> None:
    """Raise SelectionError if a library has no place for a geometry."""
    if out.geometry not in kinds:
        raise SelectionError(f"{what} has no place for a {out.geometry}, only for {listed(sorted(kinds))}; {instead}")


def about(out: Outgoing) -> Json:
    """What is known about the positions: axes, their units, the reference system; as JSON."""
    told = {"axes": list(out.axes), "units": list(out.units), "geometry": out.geometry}
    return told | ({"crs": out.crs} if out.crs else {})


def single_unit(out: Outgoing) -> str | None:
    """Unit of length of all axes, for libraries that need one; where they differ, all are converted to the first."""
    units = out.units[:3]
    if not all(map(metres, units)):
        return None
    if len(set(units)) > 1:
        if not out.world:
            return None
        out.unit = units[0]
    return units[0]


def tables(out: Outgoing) -> dict[str, Any]:
    """Ids and attributes of objects, and groups, if there are any."""
    if not out.has_objects:
        return {}
    found: dict[str, Any] = {"objects": {OBJECT_ID: out.object_ids, **out.object_attributes}}
    return found | ({"groups": out.groups} if out.groups else {})


def told(out: Outgoing, made: Any) -> Any:
    """Return the result; a warning names requested values that it has no place for."""
    if out.left_out:
        warnings.warn(f"no place for {', '.join(out.left_out)}", ZVWarning, stacklevel=5)
    return made


def without_attributes(out: Outgoing) -> None:
    """Read no vertex attributes, and report requested ones as left out."""
    out.leave(*(f"attribute {name}" for name in out.attribute_names if out.names is not None))
    out.names = ()


def with_owners(out: Outgoing, attributes: dict[str, Values]) -> dict[str, Any]:
    """Vertex attributes, and ``object_id`` if there are objects."""
    return attributes | ({OBJECT_ID: out.vertex_object_ids} if out.has_objects else {})


# Arrow, and geometries in Arrow's memory layout


def arrow_reader(out: Outgoing) -> Any:
    """`pyarrow.RecordBatchReader` of positions, attributes and ``object_id``, read block by block."""
    arrow = library("pyarrow")
    frames = out.frames()
    first = arrow.Table.from_pandas(next(frames), preserve_index=False)
    units = {name: unit for name, unit in zip(out.axes, out.units, strict=True) if unit}
    fields = [f.with_metadata({"units": units[f.name]}) if f.name in units else f for f in first.schema]
    schema = arrow.schema(fields, first.schema.metadata)
    later = (arrow.Table.from_pandas(frame, preserve_index=False) for frame in frames)
    parts = (table.cast(schema).to_batches() for table in chain([first], later))
    return arrow.RecordBatchReader.from_batches(schema, chain.from_iterable(parts))


def positions_of(out: Outgoing) -> Any:
    """(N, D) positions as they leave the store; reads nothing else."""
    return out.moved(dask.compute(out.level.vertices)[0])


def to_arrow(out: Outgoing, *, geometry: bool) -> Any:
    """`pyarrow.Table` with one row for each vertex; with ``geometry``, as `geo_table`."""
    return told(out, geo_table(out)) if geometry else arrow_reader(out).read_all()


def geo_table(out: Outgoing) -> Any:
    """`pyarrow.Table` with a column ``geometry`` of GeoArrow: points, lines of objects, edges or faces."""
    arrow = library("pyarrow")
    if out.geometry in CLOUDS:
        table = arrow_reader(out).read_all()
        table = table.rename_columns([f"{name}_attribute" if name == GEOMETRY else name for name in table.column_names])
        names = list(out.axes[:3])
        positions = np.column_stack([np.asarray(table[name], np.float64) for name in names])
        return _with_geometry(out, table.drop_columns(names), "point", positions, ())
    out.leave(*(f"axis {name}" for name in out.axes[3:]))
    if out.geometry in LINES and not out.cut:
        return _lines_table(out, np.asarray(out.flat[:, :3], np.float64))
    without_attributes(out)
    positions = np.asarray(out.flat[:, :3], np.float64)
    rows = out.faces if out.geometry in MESHES else out.edges
    assert rows is not None
    columns = flat_columns(out.link_attributes, (OBJECT_ID, GEOMETRY))
    if out.has_objects:
        columns[OBJECT_ID] = out.vertex_object_ids[rows[:, 0]]  # type: ignore[index]
    table = arrow.table({name: arrow_column(values) for name, values in columns.items()})
    if out.geometry not in MESHES:
        ends = np.arange(0, rows.size + 1, 2)
        return _with_geometry(out, table, "linestring", positions[rows.reshape(-1)], (ends,))
    rings = np.column_stack([rows, rows[:, :1]])
    ends = np.arange(0, rings.size + 1, rings.shape[1])
    return _with_geometry(out, table, "polygon", positions[rings.reshape(-1)], (ends, np.arange(len(rows) + 1)))


def _lines_table(out: Outgoing, positions: Floats) -> Any:
    """A row for each object: its line, or the branches of a skeleton; vertex attributes are lists along them."""
    arrow, (ids, offsets, rows) = library("pyarrow"), out.path_rows
    at, counts = at_least_two(offsets)
    rows, ends, outer = rows[at], np.concatenate([[0], np.cumsum(counts)]), np.arange(len(ids) + 1)
    if out.geometry == "skeleton":
        outer = np.append(np.unique(ids, return_index=True)[1], len(ids))
        ids = np.unique(ids)
    at = np.searchsorted(out.object_ids, ids) if out.has_objects else np.empty(0, np.int64)
    of_objects = {name: values[at] for name, values in out.exact_objects.items()}
    attributes = flat_columns({name: values[rows] for name, values in out.exact.items()}, (OBJECT_ID, GEOMETRY))
    columns = flat_columns(of_objects, (OBJECT_ID, GEOMETRY, *attributes))
    found = {OBJECT_ID: arrow_column(ids)} if out.has_objects else {}
    found |= {name: arrow_column(values) for name, values in columns.items()}
    starts = arrow.array(ends[outer], arrow.int32())
    lists = {name: arrow.ListArray.from_arrays(starts, arrow_column(v)) for name, v in attributes.items()}
    branching = out.geometry == "skeleton"
    kind, parts = ("multilinestring", (ends, outer)) if branching else ("linestring", (ends,))
    return _with_geometry(out, arrow.table(found | lists), kind, positions[rows], parts)


def _with_geometry(out: Outgoing, table: Any, kind: str, positions: Floats, offsets: Sequence[IntArray]) -> Any:
    """Table with a column of GeoArrow's separated coordinates, and what is known about its reference system."""
    arrow = library("pyarrow")
    fields = [arrow.field(name, arrow.float64(), nullable=False) for name in "xyz"[: positions.shape[1]]]
    parts = [arrow.array(np.ascontiguousarray(part)) for part in positions.T]
    column = arrow.StructArray.from_arrays(parts, fields=fields)
    for ends in offsets:
        column = arrow.ListArray.from_arrays(arrow.array(ends, arrow.int32()), column)
    system = system_of(out.crs) if out.crs else None
    extension = {} if system is None else {"crs": system.to_json_dict(), "crs_type": "projjson"}
    metadata = {"ARROW:extension:name": f"geoarrow.{kind}", "ARROW:extension:metadata": json.dumps(extension)}
    return table.append_column(arrow.field(GEOMETRY, column.type, metadata=metadata), column)


# Geometries


def to_geopandas(out: Outgoing) -> Any:
    """`geopandas.GeoDataFrame`: points, lines of objects, edges, or faces as polygons."""
    geopandas = library("geopandas", extra="geo")
    frame = geopandas.GeoDataFrame.from_arrow(geo_table(out))
    frame.attrs |= {key: value for key, value in about(out).items() if key != "crs"}
    return told(out, frame)


def to_dask_geopandas(level: Any, attributes: Sequence[str] | None, *, world: bool) -> Any:
    """`dask_geopandas.GeoDataFrame`: partitions are blocks of points, or objects; bounds are those of their chunks."""
    dask_geopandas = library("dask_geopandas", "dask-geopandas", extra="geo")
    geopandas = library("geopandas", extra="geo")
    frames = importlib.import_module("dask.dataframe")
    out, view = Outgoing(level, attributes, world), level._view
    check_holds(out, "dask-geopandas", CLOUDS | LINES, "level.to_geopandas() has a row for each edge or face")
    parts: _PointParts | _ObjectParts
    if out.geometry in CLOUDS:
        parts = _PointParts(out, level)
        keys: list[Any] = list(range(max(1, len(view.bounds) - 1)))
        boxes, first, meta = level.chunk_bounds, view.bounds[:-1], parts.meta
    else:
        parts = _ObjectParts(level, attributes, world=world)
        ids, manifests = level.objects.ids, view.manifests.take(level.objects.rows)
        starts = list(range(0, len(ids), MANY_OBJECTS)) or [0]
        keys, meta = [ids[at : at + MANY_OBJECTS] for at in starts], parts(ids[:0])
        boxes, first = view.data.placement.bounds(manifests.chunks), manifests.offsets[starts]
    with dask.config.set({"dataframe.convert-string": False}):  # lists are not text
        made = frames.from_map(parts, keys, meta=meta, label="zv-geometries")
    if len(boxes) and np.isfinite(boxes).all():
        lo, hi = _moved_boxes(view.data.store.world if world else None, boxes)
        lo, hi = np.minimum.reduceat(lo, first), np.maximum.reduceat(hi, first)
        shapely = importlib.import_module("shapely")
        crs = made._meta.crs
        made.spatial_partitions = geopandas.GeoSeries(shapely.box(*lo[:, :2].T, *hi[:, :2].T), crs=crs)
    assert isinstance(made, dask_geopandas.GeoDataFrame)
    return made


class _PointParts:
    """Points of a level as frames, by block number; each partition reads only its own chunks, always."""

    def __init__(self, out: Outgoing, level: Any) -> None:
        self._view, self._columns = level._view, _columns(out, level)
        self._world = level._view.data.store.world if out.world else None
        self._axes, self._names = level.store.axes, out.axes
        self._crs = system_of(out.crs) if out.crs else None
        self.meta = self._made(placed_dask_frame(out, level)[0]._meta)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("PointParts", self._view.token, self._view.chunking, self._columns, self._names, self._world is None)

    def __call__(self, block: int) -> Any:
        bounds = self._view.bounds
        view = batched(self._view.span(int(bounds[block]), int(bounds[min(block + 1, len(bounds) - 1)])))
        with dask.config.set(scheduler="sync"):  # inside a task
            frame, _ = read_frame(self._columns, view)
        return self._made(_place(frame, self._world, self._axes, self._names))

    def _made(self, frame: Any) -> Any:
        geopandas, names = library("geopandas", extra="geo"), list(self._names[:3])
        points = geopandas.points_from_xy(*(frame[name].to_numpy(np.float64) for name in names), crs=self._crs)
        return geopandas.GeoDataFrame(frame.drop(columns=names), geometry=points)


class _ObjectParts:
    """Objects of a level as a frame, by id; Dask does not take it for a collection, as it would the level."""

    def __init__(self, level: Any, attributes: Sequence[str] | None, *, world: bool) -> None:
        self._level, self._attributes, self._world = level, attributes, world

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("ObjectParts", self._level._view.token, self._attributes, self._world)

    def __call__(self, ids: IntArray) -> Any:
        with dask.config.set(scheduler="sync"):  # inside a task
            return to_geopandas(Outgoing(self._level.sel(objects=ids), self._attributes, self._world))


def _columns(out: Outgoing, level: Any) -> list[FrameColumn]:
    """Columns of a frame of the vertices, as stored."""
    objects = [OBJECT_ID] if out.has_objects else []
    taken = (*level.store.axes, *out.axes, GEOMETRY, *objects)
    return frame_columns(level._view, list(dict.fromkeys([*out.attribute_names, *objects])), taken=taken)


def placed_dask_frame(out: Outgoing, level: Any) -> tuple[Any, tuple[str, ...]]:
    """Dask frame of the vertices, positions as they leave the store, a partition for each block; and column names."""
    expression = library("zarr_vectors_lazy.convert.frame_expression", "dask[dataframe]", extra="dataframe")
    frame, world = expression.level_frame(level._view, _columns(out, level)), level._view.data.store.world
    if not out.world or world.plain:
        return frame, out.axes
    given = (world, level.store.axes, out.axes)
    return frame.map_partitions(_place, *given, meta=_place(frame._meta, *given)), out.axes


def _place(frame: Any, world: World | None, axes: tuple[str, ...], names: tuple[str, ...]) -> Any:
    if world is None or world.plain:
        return frame
    return placed_frame(frame, axes, names, world.show(frame[list(axes)].to_numpy(np.float64)))


def _moved_boxes(world: World | None, boxes: Floats) -> tuple[Floats, Floats]:
    """(K, C) lower and upper corners of boxes, (K, 2, D), in world coordinates."""
    if world is None:
        return boxes[:, 0], boxes[:, 1]
    ndim = boxes.shape[2]
    ends = np.array(list(np.ndindex(*(2,) * ndim)))
    moved = world.to_world(boxes[:, ends, np.arange(ndim)])
    return moved.min(axis=1), moved.max(axis=1)


# Cells


def to_spatialdata(level: Any, attributes: Sequence[str] | None, *, world: bool) -> Any:
    """`spatialdata.SpatialData` with lazy points ``vertices``, or with shapes ``faces``."""
    spatialdata = library("spatialdata", extra="spatialdata")
    models = library("spatialdata.models", extra="spatialdata")
    out = Outgoing(level, attributes, world)
    check_holds(out, "SpatialData", CLOUDS | MESHES, "level.to_geopandas() has lines")
    if out.geometry in MESHES:
        faces = to_geopandas(out)
        if not len(faces):
            raise SelectionError("SpatialData cannot hold empty shapes, and no face is selected")
        made = spatialdata.SpatialData(shapes={"faces": models.ShapesModel.parse(faces)})
    else:
        frame, names = placed_dask_frame(out, level)
        points = models.PointsModel.parse(frame, coordinates=dict(zip("xyz", names, strict=False)))
        made = spatialdata.SpatialData(points={"vertices": points})
    made.attrs["zarr_vectors"] = about(out)
    return made


def to_anndata(out: Outgoing) -> Any:
    """`anndata.AnnData`: ``obs``, positions as ``obsm["spatial"]``, edges as ``obsp["connectivities"]``."""
    anndata = library("anndata", extra="cells")
    check_holds(out, "AnnData", CLOUDS | TREES, "level.to_trimesh() and level.to_pyvista() have meshes")
    pandas = library("pandas")
    frames = pandas.concat(list(out.frames()), ignore_index=True)
    positions = frames[list(out.axes)].to_numpy()
    obs = frames.drop(columns=list(out.axes))
    obs.index = obs.index.astype(str)
    edges = None if out.geometry in CLOUDS else dask.compute(out.level.edges)[0]
    pairs = {} if edges is None else {"connectivities": _matrix(out, edges, len(positions), None)}
    return anndata.AnnData(obs=obs, obsm={"spatial": positions}, obsp=pairs, uns={"zarr_vectors": about(out)})


# Meshes


def to_pyvista(out: Outgoing) -> Any:
    """`pyvista.PolyData`: vertices, lines of objects, edges or faces as cells."""
    pyvista, positions = library("pyvista", extra="meshes"), out.positions
    cells: dict[str, Values] = {}
    if out.geometry in PATHS and not out.cut:
        ids, offsets, rows = out.path_rows
        made = pyvista.PolyData(positions, lines=cell_lists(rows, np.diff(offsets)))
        cells = out.of_paths(out.object_attributes) | {OBJECT_ID: ids}
    elif out.geometry in CLOUDS:
        made = pyvista.PolyData(positions)
    else:
        links = out.faces if out.geometry in MESHES else out.edges
        assert links is not None
        joined = cell_lists(links.reshape(-1), np.full(len(links), links.shape[1]))
        given = {"faces" if out.geometry in MESHES else "lines": joined} if len(links) else {}
        made = pyvista.PolyData(positions, **given)
        cells = dict(out.link_attributes) if len(links) else {}
    if len(positions):
        _add(out, made.point_data, with_owners(out, out.attributes))
    if made.n_cells:
        _add(out, made.cell_data, cells)
    made.user_dict["zarr_vectors"] = about(out)
    return told(out, made)


def _add(out: Outgoing, data: Any, arrays: dict[str, Any]) -> None:
    """Add arrays to data of PyVista; VTK has no 16-bit floats, and only ASCII text."""
    for name, values in arrays.items():
        if values.dtype.kind == "U" and not all(map(str.isascii, np.unique(values))):
            out.leave(f"attribute {name} (text beyond ASCII)")
        else:
            data[name] = values.astype(np.float32) if values.dtype == np.float16 else values


def to_trimesh(out: Outgoing) -> Any:
    """`trimesh.Trimesh`, for points a `trimesh.PointCloud`, for lines a `trimesh.path.Path3D`."""
    trimesh, unit = library("trimesh", extra="meshes"), single_unit(out)
    positions = out.positions
    attributes = with_owners(out, out.attributes)
    colours, _ = colours_of(attributes)
    metadata = {"zarr_vectors": about(out), **tables(out)}
    if out.geometry in MESHES:
        faces, values = triangles_of(out, "a Trimesh")
        more = {"vertex_attributes": attributes, "face_attributes": values, "vertex_colors": colours}
        made = trimesh.Trimesh(positions, faces, process=False, metadata=metadata, **more)
    elif out.geometry in CLOUDS:
        made = trimesh.PointCloud(positions, colors=colours, metadata=metadata | {"vertex_attributes": attributes})
    else:
        paths = library("trimesh.path", "trimesh", extra="meshes")
        whole = out.geometry in PATHS and not out.cut
        lines: Any = np.split(out.path_rows[2], out.path_rows[1][1:-1]) if whole else out.edges
        more = {"vertex_attributes": attributes, "edge_attributes": out.link_attributes}
        entities = [paths.entities.Line(rows) for rows in lines if len(rows)]
        made = paths.Path3D(entities, positions, process=False, metadata=metadata | more)
    if unit:
        made.units = unit
    return told(out, made)


# Graphs


def to_networkx(out: Outgoing) -> Any:
    """NetworkX graph: nodes are rows, ``pos`` is the position of each; a multigraph if edges are parallel."""
    networkx = library("networkx", extra="graphs")
    check_holds(out, "NetworkX", TREES | CLOUDS, "level.to_trimesh().vertex_adjacency_graph is the graph of a mesh")
    edges = np.empty((0, 2), np.int64) if out.edges is None else out.edges
    directed = is_directed(out)
    pairs = edges if directed else np.sort(edges, axis=1)
    parallel = len(np.unique(pairs, axis=0)) < len(pairs)
    name = f"{'Multi' if parallel else ''}{'Di' if directed else ''}Graph"
    graph = getattr(networkx, name)(**{**about(out), **tables(out)})
    columns = with_owners(out, dict(out.exact))
    places = map(tuple, out.flat.tolist())
    nodes = rows_of(columns, len(out.flat))
    graph.add_nodes_from(
        (row, {"pos": at, **values}) for row, (at, values) in enumerate(zip(places, nodes, strict=True))
    )
    values = rows_of(out.link_attributes if len(edges) else {}, len(edges))
    graph.add_edges_from((a, b, value) for (a, b), value in zip(edges.tolist(), values, strict=True))
    return graph


def adjacency(level: Any, weight: str | None) -> Any:
    """(N, N) `scipy.sparse.csr_array`: how many edges join two rows, or the sum of a link attribute."""
    out = Outgoing(level, ())
    check_holds(out, "an adjacency matrix", TREES, "a mesh has faces instead, and points have no edges")
    level = type(level)(level.store, sized(level._view))
    weights = None
    if weight is not None:
        named = level.link_attributes if out.geometry == "graph" else level.edge_attributes
        if weight not in named:
            raise NotFoundError.among("link attribute", weight, list(named), where=level.store.url)
        weights = named[weight]
    edges, weights = dask.compute(level.edges, weights)
    if weights is not None and (weights.ndim > 1 or np.ma.is_masked(weights)):
        raise SelectionError(f"weight {weight!r} must be one number for each edge")
    return _matrix(out, edges, level.vertex_count, weights)


def _matrix(out: Outgoing, edges: IntArray, count: int, weights: Values | None) -> Any:
    sparse = library("scipy.sparse", "scipy", extra="graphs")
    values = np.ones(len(edges), np.int64) if weights is None else weights
    if not is_directed(out):
        loops = edges[:, 0] == edges[:, 1]
        edges, values = np.concatenate([edges, edges[~loops, ::-1]]), np.concatenate([values, values[~loops]])
    return sparse.coo_array((values, (edges[:, 0], edges[:, 1])), shape=(count, count)).tocsr()


# Neurons


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """An object of a level.

    Parameters
    ----------
    id
        Id of the object.
    rows
        (n,) its vertices, as rows of the level: along the path, otherwise ascending.
    links
        (m, W) edges or faces whose ends are all in it, as rows of ``rows``.
    """

    id: int
    rows: IntArray
    links: IntArray


def pieces(out: Outgoing, links: IntArray) -> Iterator[Piece]:
    """Objects, each with its edges or faces; a shared vertex is copied to each object.

    In whole paths, edges join each vertex to the one before it, whatever ``links`` has, and a vertex that a path
    visits again is another vertex.
    """
    count = len(out.flat)
    if not out.has_objects:
        yield Piece(0, np.arange(count), links)
        return
    rows, offsets = out.object_rows
    ids = np.asarray(out.level.objects.ids)
    if out.geometry in PATHS and not out.cut:
        for number, (start, stop) in enumerate(pairwise(offsets.tolist())):
            steps = np.arange(1, stop - start)
            yield Piece(int(ids[number]), rows[start:stop], np.column_stack([steps, steps - 1]))
        return
    keys = np.unique(np.repeat(np.arange(len(ids)), np.diff(offsets)) * count + rows)  # object by object
    owners, rows = np.divmod(keys, max(count, 1))
    starts = np.searchsorted(owners, np.arange(len(ids) + 1))
    order = np.argsort(rows, kind="stable")
    first = np.searchsorted(rows[order], links[:, 0])
    shared = np.searchsorted(rows[order], links[:, 0], "right") - first
    link = np.repeat(np.arange(len(links)), shared)
    owner = owners[order][ranges(first, shared)]
    wanted = owner[:, None] * count + links[link]
    at = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    kept = (keys[at] == wanted).all(axis=1) if len(keys) else np.zeros(0, np.bool_)
    owner, local = owner[kept], at[kept] - starts[owner[kept]][:, None]
    by_owner = np.argsort(owner, kind="stable")
    ends = np.searchsorted(owner[by_owner], np.arange(len(ids) + 1))
    local = local[by_owner]
    for number, ((a, b), (c, d)) in enumerate(zip(pairwise(starts.tolist()), pairwise(ends.tolist()), strict=True)):
        yield Piece(int(ids[number]), rows[a:b], local[c:d])


def to_navis(out: Outgoing) -> Any:
    """`navis.NeuronList` with a tree or a mesh for each object."""
    check_holds(out, "navis", TREES | MESHES, "level.to_anndata() or level.to_dask_dataframe() have points")
    navis, unit = library("navis", extra="neurons"), single_unit(out)
    units = None if unit is None else f"1 {unit}"
    details = _details(out, navis.TreeNeuron, navis.MeshNeuron)
    if out.geometry in MESHES:
        without_attributes(out)
        out.triangulate = True
        faces, _ = triangles_of(out, "navis")
        made = [
            navis.MeshNeuron((out.positions[one.rows], one.links), units=units, process=False, **details(one))
            for one in pieces(out, faces)
        ]
        return told(out, navis.NeuronList(made))
    nodes, edges = _nodes(out), _child_parent(out)
    made = []
    for one in pieces(out, edges):
        parents = np.full(len(one.rows), -1)
        parents[one.links[:, 0]] = one.links[:, 1]
        own = nodes.iloc[one.rows].reset_index(drop=True).assign(node_id=np.arange(len(parents)), parent_id=parents)
        made.append(navis.TreeNeuron(own, units=units, **details(one)))
    return told(out, navis.NeuronList(made))


def _details(out: Outgoing, *kinds: type) -> Any:
    """Function that returns the id, the name and the attributes of an object; these hide none of a neuron's own."""
    known = out.object_attributes
    taken = {name: any(hasattr(kind, name) for kind in kinds) for name in known}
    number = {one: at for at, one in enumerate(out.object_ids.tolist())} if out.has_objects else {}
    label = next((name for name in NAMES if name in known), None)

    def details(one: Piece) -> dict[str, Any]:
        at = number.get(one.id)
        if at is None:
            return {"id": one.id}
        own = {f"{name}_of_object" if taken[name] else name: v[at] for name, v in known.items()}
        return {**own, "id": one.id, **({"name": str(known[label][at])} if label else {})}

    return details


def _child_parent(out: Outgoing) -> IntArray:
    """(M, 2) edges as [child, parent]: a path begins at its root, each tree of a graph at its first row."""
    edges = out.edges
    assert edges is not None
    if out.geometry != "graph":
        return edges if out.geometry == "skeleton" else edges[:, ::-1]
    parents = parents_of(edges, len(out.flat))
    depth_first(parents)  # raises if there is a cycle
    children = np.flatnonzero(parents >= 0)
    return np.column_stack([children, parents[children]])


def _radius_and_kind(out: Outgoing) -> tuple[str | None, str | None]:
    """Names of the attributes that are radii, and kinds of compartments."""
    radius, kind = (next((name for name in names if name in out.attributes), None) for names in (RADII, KINDS))
    return radius, kind


def _nodes(out: Outgoing) -> Any:
    """Table of all vertices with navis's columns."""
    radius, kind = _radius_and_kind(out)
    columns: dict[str, Any] = {"node_id": np.arange(len(out.positions)), "parent_id": -1}
    columns |= dict(zip("xyz", out.positions.T, strict=True))
    columns["radius"] = 0.0 if radius is None else out.attributes[radius]
    columns["label"] = 0 if kind is None else out.attributes[kind]
    rest = {name: values for name, values in out.attributes.items() if name not in (radius, kind)}
    return library("pandas").DataFrame(columns | flat_columns(rest, tuple(columns)))


def to_cloudvolume(out: Outgoing) -> dict[int, Any]:
    """CloudVolume's skeletons or meshes by object id, in nanometres."""
    check_holds(out, "CloudVolume", TREES | MESHES, "level.to_dask_dataframe() has points")
    cloudvolume = library("cloudvolume", "cloud-volume", extra="neurons")
    if out.geometry in MESHES:
        without_attributes(out)
        out.triangulate = True
    made: dict[int, Any] = {}
    positions = out.positions * unit_factors((*out.units, *out.units[-1:] * 3)[:3], NANOMETER)
    if out.geometry in MESHES:
        faces, _ = triangles_of(out, "CloudVolume")
        for one in pieces(out, faces):
            corners, rows = positions[one.rows].astype(np.float32), one.links.astype(np.uint32)
            made[one.id] = cloudvolume.Mesh(corners, rows, None, segid=one.id)
        return dict(told(out, made))
    values = {name: v for name, v in out.attributes.items() if v.dtype.kind in "fiu"}
    out.leave(*(f"attribute {name}" for name in out.attribute_names if name not in values))
    radius, kind = _radius_and_kind(out)
    rest = {name: v for name, v in values.items() if name not in (radius, kind)}
    extra = {f"{name}_attribute" if hasattr(cloudvolume.Skeleton, name) else name: v for name, v in rest.items()}
    stated = [
        {"id": name, "data_type": v.dtype.name, "num_components": int(np.prod(v.shape[1:]))}
        for name, v in extra.items()
    ]
    assert out.edges is not None
    for one in pieces(out, out.edges):
        radii = None if radius is None else values[radius][one.rows].astype(np.float32)
        kinds = None if kind is None else values[kind][one.rows]
        at, links = positions[one.rows], one.links.astype(np.uint32)
        made[one.id] = cloudvolume.Skeleton(at, links, radii, kinds, segid=one.id, space="physical")
        made[one.id].extra_attributes += stated  # in addition to radius and kind
        for name, v in extra.items():
            setattr(made[one.id], name, v[one.rows])
    return dict(told(out, made))
