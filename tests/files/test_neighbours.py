"""Levels as objects of other libraries: each geometry with everything that it has, in world coordinates."""

import importlib
import warnings

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import NotFoundError, SelectionError, ZVWarning
from zarr_vectors_lazy.files.neighbours import pieces
from zarr_vectors_lazy.files.outgoing import Outgoing
from zarr_vectors_lazy.storage.requests import counting

RNG = np.random.default_rng(0)
POINTS = RNG.uniform(0, 100, (300, 3))
ROWS = np.arange(300)
OWNERS = ROWS // 100 + 4
PAIRS = np.unique(np.sort(RNG.integers(0, 300, (400, 2)), axis=1), axis=0)
PAIRS = PAIRS[PAIRS[:, 0] != PAIRS[:, 1]]
PARENTS = np.where(ROWS % 100, ROWS - 1, -1)
PARENTS[50] = 10  # a fork
CHILDREN = np.flatnonzero(PARENTS >= 0)
TREES = np.column_stack([CHILDREN, PARENTS[CHILDREN]])
FACES = np.array([[row, row + 1, row + 2] for row in ROWS if row % 100 < 98])
LINES = ("line", "streamline", "skeleton", "graph")
GEOMETRIES = ("point_cloud", *LINES, "mesh")
MOVED = {"offset": [1000.0, 0.0, -5.0]}
WORLD = POINTS + MOVED["offset"]


def write(path, geometry, **more):
    options = {"chunk_shape": 50, "units": "micrometer", **more}
    attributes = {"i": ROWS, "radius": POINTS[:, 0], "type": np.full(300, 3)}
    of_objects = {"object_attributes": {"name": ["a", "b", "c"], "volume": [1.5, 2.5, 3.5]}}
    if geometry == "point_cloud":
        attributes = {
            **attributes,
            "gene": np.array(["p", "q", None] * 100, object),
            "count": np.ma.masked_less(ROWS, 9),
            "v": POINTS[:, :2],
        }
        zvl.write_points(path, POINTS, vertex_attributes=attributes, object_ids=OWNERS, **of_objects, **options)
    elif geometry == "line":
        ends = {"i": ROWS.reshape(-1, 2)}
        zvl.write_lines(path, POINTS.reshape(-1, 2, 3), vertex_attributes=ends, **options)
    elif geometry == "streamline":
        parts = (POINTS, [0, 100, 101, 300])
        zvl.write_polylines(
            path,
            parts,
            vertex_attributes=attributes,
            object_ids=[4, 5, 6],
            groups={"left": [4, 6]},
            **of_objects,
            **options,
        )
    elif geometry == "graph":
        zvl.write_graph(
            path,
            POINTS,
            PAIRS,
            vertex_attributes=attributes,
            link_attributes={"w": np.arange(len(PAIRS)) * 1.0},
            **options,
        )
    elif geometry == "skeleton":
        zvl.write_graph(
            path,
            POINTS,
            TREES,
            kind="skeleton",
            vertex_attributes=attributes,
            object_ids=OWNERS,
            **of_objects,
            **options,
        )
    else:
        more = {"link_attributes": {"f": np.arange(len(FACES)) * 1.0}, "object_ids": OWNERS, **of_objects}
        zvl.write_mesh(path, POINTS, FACES, vertex_attributes=attributes, **more, **options)


def moved(path):
    """Set a transformation to world coordinates."""
    root = zvl.open_store(path, mode="r+").zarr_group
    root.attrs["zarr_vectors"] = {**root.attrs["zarr_vectors"], "coordinate_offset": MOVED["offset"]}
    return path


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    where = tmp_path_factory.mktemp("neighbours")
    for geometry in GEOMETRIES:
        write(where / geometry, geometry)
        zvl.consolidate(moved(where / geometry))
    return where


@pytest.fixture
def level(paths):
    return lambda geometry: zvl.open_zv(paths / geometry)[0]


HEAVY = ("cloudvolume", "navis", "spatialdata")


def library(name):
    """A neighbour; those that CI does not install are tried by ``dev.py neighbours``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if name not in HEAVY or error.name != name:  # CI installs it, or it is installed and does not work
            raise
        pytest.skip(f"no {name}")


def same_vertices(positions, numbers):
    """Whether positions are where the points of those numbers are in the world."""
    np.testing.assert_allclose(positions, WORLD[np.asarray(numbers, int)], atol=1e-4)


# Arrow


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_arrow_table(level, geometry):
    arrow = library("pyarrow")
    table = level(geometry).to_arrow()
    assert table.num_rows == 300
    assert table.column_names[:3] == ["x", "y", "z"]
    assert table.schema.field("x").metadata == {b"units": b"micrometer"}
    same_vertices(np.column_stack([table[name] for name in "xyz"]), table["i"])
    assert "object_id" in table.column_names
    stored = level(geometry).to_arrow(["i", "object_id"], world=False)
    assert set(stored.column_names) == {"x", "y", "z", "i", "object_id"}
    assert np.isclose(np.asarray(stored["x"]).min(), POINTS[:, 0].min())
    streamed = arrow.RecordBatchReader.from_stream(level(geometry)).read_all()
    assert streamed.equals(table)


def test_arrow_keeps_what_is_missing_and_categories(level):
    table = level("point_cloud").to_arrow()
    assert library("pyarrow").types.is_dictionary(table.schema.field("gene").type)
    assert table["gene"].null_count == 100
    assert table["count"].null_count == 9
    assert {"v_0", "v_1"} <= set(table.column_names)
    assert np.array_equal(np.asarray(table["object_id"]), OWNERS[np.asarray(table["i"])])
    frame = library("polars").DataFrame(level("point_cloud"))
    assert frame["count"].null_count() == 9


def test_arrow_reads_as_it_goes(level):
    reader = library("pyarrow").RecordBatchReader.from_stream(level("graph").sel(x=slice(0, 40)))
    with counting() as counts:
        assert reader.read_all().num_rows == (POINTS[:, 0] <= 40).sum()
    assert len({key for key in counts.keys if "/vertices/c/" in key}) <= 4  # of 8


# GeoArrow, GeoPandas, GeoParquet


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_geopandas_frame(level, geometry):
    library("geopandas")
    shapely = library("shapely")
    found = level(geometry).to_geopandas()
    assert found.attrs["units"] == ["micrometer"] * 3
    assert found.has_z.all()
    kinds = {"point_cloud": "Point", "mesh": "Polygon", "skeleton": "MultiLineString"}
    assert set(found.geom_type) == {kinds.get(geometry, "LineString")}
    coordinates, row = shapely.get_coordinates(found.geometry, include_z=True, return_index=True)
    if geometry == "point_cloud":
        same_vertices(coordinates, found["i"])
        assert np.array_equal(found["object_id"], OWNERS[found["i"]])
        assert found["gene"].isna().sum() == 100
        assert found["count"].isna().sum() == 9
    elif geometry in ("line", "streamline", "skeleton"):
        numbers = np.concatenate(found["i"].tolist())
        same_vertices(coordinates, numbers)
        assert found["object_id"].is_unique
        assert len(found) == (150 if geometry == "line" else 3)
        if geometry != "line":
            assert found.set_index("object_id").loc[6, ["name", "volume"]].tolist() == ["c", 3.5]
        if geometry == "skeleton":
            assert np.array_equal(OWNERS[numbers], found["object_id"].to_numpy()[row])
            assert shapely.get_num_geometries(found.geometry.to_numpy()).sum() == 5  # a fork makes three of one
    elif geometry == "graph":
        ends = WORLD[PAIRS[found["w"].astype(int)]]
        np.testing.assert_allclose(np.sort(coordinates.reshape(-1, 2, 3), axis=1), np.sort(ends, axis=1), atol=1e-4)
    else:
        corners = WORLD[FACES[found["f"].astype(int)]]
        np.testing.assert_allclose(
            np.sort(coordinates.reshape(-1, 4, 3)[:, :3], axis=1), np.sort(corners, axis=1), atol=1e-4
        )
        assert np.array_equal(found["object_id"], OWNERS[FACES[found["f"].astype(int), 0]])


def test_a_line_of_one_vertex(level):
    library("geopandas")
    found = level("streamline").sel(objects=[5]).to_geopandas()
    assert found.geometry[0].coords[0] == found.geometry[0].coords[1]
    assert [list(values) for values in found["i"]] == [[100, 100]]


@pytest.mark.parametrize("geometry", LINES)
def test_edges_are_what_a_box_leaves_of_lines(level, geometry):
    library("geopandas")
    part = level(geometry).sel(x=slice(0, 50))
    found = part.to_geopandas()
    assert len(found) == len(part.edges.compute())
    assert set(found.geom_type) <= {"LineString"}
    np.testing.assert_allclose(found.length.sum(), found.to_crs(None).length.sum() if found.crs else found.length.sum())


def test_geoarrow_names_and_reference_system(tmp_path):
    pyproj = library("pyproj")
    zvl.write_points(tmp_path / "a.zv", POINTS[:, :2], chunk_shape=50, crs={"epsg": 32633}, units="metre")
    level = zvl.open_zv(tmp_path / "a.zv")[0]
    field = level.to_arrow(geometry=True).schema.field("geometry")
    assert field.metadata[b"ARROW:extension:name"] == b"geoarrow.point"
    assert b"WGS 84 / UTM zone 33N" in field.metadata[b"ARROW:extension:metadata"]
    frame = level.to_geopandas()
    assert frame.crs == pyproj.CRS.from_epsg(32633)
    assert not frame.has_z.any()
    assert level.to_dask_geopandas().crs == frame.crs
    for word in ("line", "streamline", "graph", "skeleton", "mesh"):
        write(tmp_path / word, word, crs={"epsg": 32633})
        assert zvl.open_zv(tmp_path / word)[0].to_geopandas().crs == frame.crs


@pytest.mark.parametrize("geometry", ["point_cloud", "line", "streamline", "skeleton"])
def test_dask_geopandas_prunes_by_chunks(level, geometry):
    dask_geopandas = library("dask_geopandas")
    whole = level(geometry).to_geopandas()
    frame = level(geometry).to_dask_geopandas()
    assert isinstance(frame, dask_geopandas.GeoDataFrame)
    assert frame.npartitions == (8 if geometry == "point_cloud" else 1)
    computed = frame.compute()
    assert sorted(computed.columns) == sorted(whole.columns)
    assert np.isclose(computed.total_bounds, whole.total_bounds).all()
    assert np.allclose(frame.spatial_partitions.total_bounds, [1000, 0, 1100, 100])
    if geometry == "point_cloud":
        with counting() as counts:
            near = frame.cx[1000:1040, 0:40].compute()
        assert len({key for key in counts.keys if "/vertices/c/" in key}) == 2  # chunks, of 8
        assert sorted(near["i"]) == np.flatnonzero((POINTS[:, :2] <= 40).all(axis=1)).tolist()
        assert sorted(frame["i"].compute()) == ROWS.tolist()
    else:
        assert sorted(computed["object_id"]) == sorted(whole["object_id"])
        assert [list(each) for each in computed["i"]] == [list(each) for each in whole["i"]]


def test_dask_geopandas_of_blocks_of_chunks(paths):
    library("dask_geopandas")
    frame = zvl.open_zv(paths / "point_cloud", chunks=3)[0].to_dask_geopandas(["i"], world=False)
    assert frame.npartitions == 3
    assert frame.spatial_partitions.iloc[0].bounds == (0, 0, 50, 100)
    assert sorted(frame.columns) == ["geometry", "i", "object_id"]


@pytest.mark.parametrize("geometry", ["point_cloud", "streamline"])
def test_geoparquet_has_bounds(level, tmp_path, geometry):
    geopandas, parquet = library("geopandas"), library("pyarrow.parquet")
    level(geometry).to_file(tmp_path / "a.geoparquet")
    stored = parquet.read_metadata(tmp_path / "a.geoparquet").metadata[b"geo"]
    assert b'"bbox"' in stored
    whole = geopandas.read_parquet(tmp_path / "a.geoparquet")
    assert np.allclose(whole.total_bounds, [*WORLD.min(axis=0)[:2], *WORLD.max(axis=0)[:2]])
    part = geopandas.read_parquet(tmp_path / "a.geoparquet", bbox=(1000, 0, 1020, 20))
    if geometry == "point_cloud":
        assert sorted(part["i"]) == np.flatnonzero((POINTS[:, :2] <= 20).all(axis=1)).tolist()
    assert "bbox" not in whole.columns


# Cells


def test_anndata_of_points(level):
    library("anndata")
    made = level("point_cloud").to_anndata()
    same_vertices(made.obsm["spatial"], made.obs["i"])
    assert made.obs["gene"].cat.categories.tolist() == ["p", "q"]
    assert np.array_equal(made.obs["object_id"], OWNERS[made.obs["i"]])
    assert made.uns["zarr_vectors"]["units"] == ["micrometer"] * 3
    assert made.shape == (300, 0)


@pytest.mark.parametrize("geometry", LINES)
def test_anndata_has_edges(level, geometry):
    library("anndata")
    made = level(geometry).to_anndata()
    assert (made.obsp["connectivities"] != level(geometry).adjacency()).nnz == 0


@pytest.mark.parametrize("geometry", ["point_cloud", "mesh"])
def test_spatialdata(level, geometry):
    library("spatialdata")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of shapes with three axes, and its own
        made = level(geometry).to_spatialdata()
    assert made.attrs["zarr_vectors"]["units"] == ["micrometer"] * 3
    if geometry == "mesh":
        assert len(made.shapes["faces"]) == len(FACES)
    else:
        frame = made.points["vertices"].compute()
        same_vertices(frame[["x", "y", "z"]], frame["i"])


# Meshes


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_pyvista(level, geometry):
    library("pyvista")
    made = level(geometry).to_pyvista()
    same_vertices(made.points, made.point_data["i"])
    assert made.user_dict["zarr_vectors"]["units"] == ["micrometer"] * 3
    joined = {"mesh": made.n_faces, "point_cloud": 0}.get(geometry, made.n_lines)
    assert (
        joined
        == {"point_cloud": 0, "line": 150, "streamline": 3, "skeleton": 297, "graph": len(PAIRS), "mesh": 294}[geometry]
    )
    if geometry == "mesh":
        corners = made.point_data["i"][made.regular_faces]
        assert np.array_equal(np.sort(corners), np.sort(FACES[made.cell_data["f"].astype(int)]))
    if geometry == "streamline":
        assert dict(zip(made.cell_data["object_id"].tolist(), made.cell_data["name"].tolist(), strict=True))[6] == "c"
    if geometry == "graph":
        ends = made.point_data["i"][made.lines.reshape(-1, 3)[:, 1:]]
        assert np.array_equal(np.sort(ends), PAIRS[made.cell_data["w"].astype(int)])


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_trimesh(level, geometry):
    trimesh = library("trimesh")
    made = level(geometry).to_trimesh()
    assert made.units == "micrometer"
    attributes = made.vertex_attributes if geometry == "mesh" else made.metadata["vertex_attributes"]
    same_vertices(made.vertices, attributes["i"])
    assert made.metadata["zarr_vectors"]["axes"] == ["x", "y", "z"]
    if geometry == "mesh":
        assert isinstance(made, trimesh.Trimesh)
        assert np.array_equal(attributes["i"][made.faces], FACES[made.face_attributes["f"].astype(int)])
        assert made.metadata["objects"]["name"].tolist() == ["a", "b", "c"]
    elif geometry == "point_cloud":
        assert isinstance(made, trimesh.PointCloud)
    else:
        found = [attributes["i"][line.points] for line in made.entities]
        wanted = {
            "line": [[k, k + 1] for k in range(0, 300, 2)],
            "streamline": [list(range(100)), [100], list(range(101, 300))],
            "graph": PAIRS.tolist(),
            "skeleton": TREES.tolist(),
        }[geometry]
        kept = sorted if geometry != "graph" else lambda lines: sorted(map(sorted, lines))
        assert kept([line.tolist() for line in found]) == kept(wanted)


def test_trimesh_of_larger_faces(tmp_path):
    trimesh = library("trimesh")
    zvl.write_mesh(tmp_path / "a.zv", POINTS[:4], [[0, 1, 2, 3]], chunk_shape=200)
    level = zvl.open_zv(tmp_path / "a.zv")[0]
    with pytest.raises(SelectionError, match="triangulate=True"):
        level.to_trimesh()
    assert isinstance(level.to_trimesh(triangulate=True), trimesh.Trimesh)
    assert len(level.to_trimesh(triangulate=True).faces) == 2


# Graphs


@pytest.mark.parametrize("geometry", ["point_cloud", *LINES])
def test_networkx(level, geometry):
    networkx = library("networkx")
    graph = level(geometry).to_networkx()
    number = {node: data["i"] for node, data in graph.nodes(data=True)}
    same_vertices([graph.nodes[node]["pos"] for node in graph], list(number.values()))
    assert list(graph) == list(range(300))
    assert graph.graph["units"] == ["micrometer"] * 3
    assert graph.is_directed() is (geometry == "skeleton")
    assert type(graph) is (networkx.DiGraph if geometry == "skeleton" else networkx.Graph)
    found = {(number[a], number[b]) for a, b in graph.edges}
    if geometry == "skeleton":
        assert found == {(a, b) for a, b in TREES.tolist()}
        assert networkx.is_forest(graph)
    elif geometry == "graph":
        assert {tuple(sorted(pair)) for pair in found} == set(map(tuple, PAIRS.tolist()))
        assert all(sorted([number[a], number[b]]) == PAIRS[int(w)].tolist() for a, b, w in graph.edges(data="w"))
    elif geometry == "point_cloud":
        assert not found
        assert ["gene" in data for _, data in graph.nodes(data=True)].count(False) == 100
    else:
        assert len(found) == (150 if geometry == "line" else 297)
    if geometry != "point_cloud":
        matrix = networkx.to_scipy_sparse_array(graph, weight=None, format="csr")
        assert (matrix != level(geometry).adjacency()).nnz == 0


def test_parallel_edges_and_loops(tmp_path):
    networkx = library("networkx")
    edges = [[0, 1], [1, 0], [2, 2], [1, 2]]
    zvl.write_graph(tmp_path / "a.zv", POINTS[:3], edges, chunk_shape=200, link_attributes={"w": [1.0, 2.0, 4.0, 8.0]})
    level = zvl.open_zv(tmp_path / "a.zv")[0]
    graph = level.to_networkx()
    assert isinstance(graph, networkx.MultiGraph)
    assert sorted(w for *_, w in graph.edges(data="w")) == [1, 2, 4, 8]
    for weight in (None, "w"):
        found, wanted = level.adjacency(weight), networkx.to_scipy_sparse_array(graph, weight=weight)
        assert np.array_equal(found.toarray(), wanted.toarray())
    with pytest.raises(NotFoundError, match="'w'"):
        level.adjacency("weight")


def test_adjacency_reads_edges_alone(level):
    with counting() as counts:
        found = level("graph").adjacency("w")
    assert found.shape == (300, 300)
    assert not [key for key in counts.keys if "vertex_attributes" in key]
    part = level("graph").sel(x=slice(0, 50))
    assert part.adjacency().nnz == 2 * len(part.edges.compute())


# Neurons


@pytest.mark.parametrize("geometry", ["line", "streamline", "skeleton"])
def test_navis_trees(level, geometry):
    navis = library("navis")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = level(geometry).objects.to_navis()
    assert isinstance(made, navis.NeuronList)
    assert [one.id for one in made] == level(geometry).objects.ids.tolist()
    one = made[-1]
    same_vertices(one.nodes[["x", "y", "z"]], one.nodes["i"])
    assert str(one.units) == "1 micrometer"
    if geometry != "line":
        assert np.allclose(one.nodes["radius"], POINTS[one.nodes["i"], 0])
        assert (one.name, one.volume_of_object) == ("c", 3.5)
    for each in made:
        number = each.nodes.set_index("node_id")["i"]
        joined = each.nodes[each.nodes["parent_id"] >= 0]
        found = np.column_stack([joined["i"], number.loc[joined["parent_id"]]])
        step = found[:, 0] - found[:, 1]
        wanted = PARENTS[found[:, 0]] == found[:, 1] if geometry == "skeleton" else step == 1
        assert wanted.all()
        assert (each.nodes["parent_id"] < 0).sum() == 1


@pytest.mark.parametrize("geometry", ["skeleton", "mesh", "graph", "streamline"])
def test_cloudvolume(level, geometry):
    cloudvolume = library("cloudvolume")
    made = level(geometry).objects.to_cloudvolume()
    kind = cloudvolume.Mesh if geometry == "mesh" else cloudvolume.Skeleton
    assert all(isinstance(one, kind) for one in made.values())
    assert list(made) == level(geometry).objects.ids.tolist()
    assert sum(len(one.vertices) for one in made.values()) == 300
    if geometry == "mesh":
        assert sum(len(one.faces) for one in made.values()) == 294
        corners = np.concatenate([one.vertices[one.faces].reshape(-1, 3) for one in made.values()])
        wanted = WORLD[FACES.reshape(-1)] * 1000
        assert np.allclose(np.sort(corners, axis=0), np.sort(wanted, axis=0), rtol=1e-5)
        return
    for number, one in made.items():
        np.testing.assert_allclose(one.vertices, WORLD[one.i] * 1000, rtol=1e-5)
        assert np.allclose(one.radius, POINTS[one.i, 0])
        assert one.space == "physical"
        ends = {tuple(sorted(pair)) for pair in one.i[one.edges].tolist()}
        pairs = {"skeleton": TREES[OWNERS[TREES[:, 0]] == number], "graph": PAIRS}.get(geometry)
        assert pairs is None or ends == {tuple(sorted(pair)) for pair in pairs.tolist()}


def test_navis_meshes(level):
    navis = library("navis")
    made = level("mesh").objects.to_navis()
    assert all(isinstance(one, navis.MeshNeuron) for one in made)
    assert [one.id for one in made] == [4, 5, 6]
    assert sum(len(one.faces) for one in made) == 294
    with pytest.raises(SelectionError, match="cycle"):
        level("graph").objects.to_navis()


def test_objects_that_share_vertices(tracts):
    """On a coarse level lines share vertices: each has all of its own."""
    level = zvl.open_zv(tracts)[2]
    out = Outgoing(level)
    found = list(pieces(out, out.edges))
    vertices = level.vertices.compute()
    flat, offsets = (each.compute() for each in level.objects.ragged())
    assert [one.id for one in found] == level.objects.ids.tolist()
    assert sum(len(one.rows) for one in found) > len(vertices)
    for one, path in zip(found, np.split(flat, offsets[1:-1]), strict=True):
        assert np.array_equal(np.unique(vertices[one.rows], axis=0), np.unique(path, axis=0))
        steps = {tuple(map(tuple, sorted(pair.tolist()))) for pair in np.stack([path[:-1], path[1:]], axis=1)}
        joined = {tuple(map(tuple, sorted(pair.tolist()))) for pair in vertices[one.rows][one.links]}
        assert steps <= joined


# DLPack


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_dlpack(level, geometry):
    found = np.from_dlpack(level(geometry))
    assert np.array_equal(found, level(geometry).store.to_world(level(geometry).vertices.compute()))


# What is refused, and what is empty


REFUSED = {
    "to_dask_geopandas": ("graph", "mesh"),
    "to_spatialdata": LINES,
    "to_anndata": ("mesh",),
    "to_networkx": ("mesh",),
    "adjacency": ("mesh", "point_cloud"),
    "to_navis": ("point_cloud",),
    "to_cloudvolume": ("point_cloud",),
}
LIBRARY = {"adjacency": "scipy", "to_arrow": "pyarrow", "to_cloudvolume": "cloudvolume"}
METHODS = ("to_arrow", "to_geopandas", "to_pyvista", "to_trimesh", *REFUSED)


def call(level, method):
    return getattr(level if hasattr(level, method) else level.objects, method)


@pytest.mark.parametrize(("method", "geometry"), [(name, kind) for name, kinds in REFUSED.items() for kind in kinds])
def test_geometries_that_have_no_place(level, method, geometry):
    library(LIBRARY.get(method, method.removeprefix("to_")))
    with pytest.raises(SelectionError, match=f"no place for a {geometry}"):
        call(level(geometry), method)()


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("method", [name for name in METHODS if name != "to_spatialdata"])
def test_nothing_selected(level, method, geometry):
    library(LIBRARY.get(method, method.removeprefix("to_")))
    if geometry in REFUSED.get(method, ()):
        return
    made = call(level(geometry).sel(x=slice(500, 600)), method)()
    assert made is not None


@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_installed_is_named(level, method, monkeypatch):
    names = {"to_navis": "navis", "to_spatialdata": "spatialdata", "to_cloudvolume": "cloudvolume"}
    missing = names.get(method) or LIBRARY.get(method, method.removeprefix("to_"))
    real = importlib.import_module

    def lacking(name, *given):
        if name.split(".")[0] == missing:
            raise ImportError(f"No module named {name!r}")
        return real(name, *given)

    monkeypatch.setattr(importlib, "import_module", lacking)
    kind = "mesh" if method in ("to_trimesh", "to_pyvista") else "skeleton"
    kind = "point_cloud" if method in ("to_spatialdata", "to_arrow") else kind
    with pytest.raises(ImportError, match=r"pip install 'zarr-vectors-lazy\["):
        call(level(kind), method)()


def test_an_attribute_that_is_not_there(level):
    for method in ("to_arrow", "to_networkx", "to_pyvista"):
        library(LIBRARY.get(method, method.removeprefix("to_")))
        with pytest.raises(NotFoundError, match="'speed'"):
            call(level("graph"), method)(["speed"])
    with pytest.raises(TypeError, match="attributes"):
        level("graph").to_networkx(attribute=["i"])


def test_values_without_a_place_are_told(tmp_path):
    library("trimesh")
    zvl.write_points(tmp_path / "a.zv", POINTS, chunk_shape=50, vertex_attributes={"when": ROWS.astype("M8[s]")})
    with pytest.warns(ZVWarning, match="no place for attribute when"):
        zvl.open_zv(tmp_path / "a.zv")[0].to_trimesh()


def test_axes_of_other_names_and_more(tmp_path):
    points = np.column_stack([POINTS[:, ::-1], ROWS])
    zvl.write_points(
        tmp_path / "a.zv", points, chunk_shape=200, axes=("z", "y", "x", "t"), vertex_attributes={"i": ROWS}
    )
    level = zvl.open_zv(tmp_path / "a.zv")[0]
    table = level.to_arrow()
    assert table.column_names[:4] == ["x", "y", "z", "t"]
    assert np.array_equal(np.column_stack([table[name] for name in "xyz"]), POINTS[np.asarray(table["i"])])
    library("geopandas")
    frame = level.to_geopandas()
    assert np.array_equal(frame["t"], frame["i"])
    assert np.array_equal(frame.geometry.z, POINTS[frame["i"], 2])
    library("dask_geopandas")
    lazy = level.to_dask_geopandas().compute()
    assert np.array_equal(lazy.geometry.z, frame.geometry.z)
    assert np.array_equal(np.from_dlpack(level)[:, 3], ROWS[frame["i"]])


def test_units_that_differ(tmp_path):
    library("trimesh")
    zvl.write_mesh(tmp_path / "a.zv", POINTS, FACES, chunk_shape=50, units=["nm", "nm", "um"])
    level = zvl.open_zv(tmp_path / "a.zv")[0]
    mesh = level.to_trimesh()
    assert mesh.units == "nm"
    assert np.isclose(np.ptp(mesh.vertices[:, 2]), 1000 * np.ptp(POINTS[:, 2]))
    assert level.to_trimesh(world=False).units in (None, "none")
    assert np.isclose(np.ptp(level.to_trimesh(world=False).vertices[:, 2]), np.ptp(POINTS[:, 2]))


def test_attributes_called_as_our_columns(tmp_path):
    geopandas = library("geopandas")
    names = ("geometry", "bbox", "object_id", "x")
    values = {name: ROWS + 1000 * at for at, name in enumerate(names)}
    zvl.write_points(tmp_path / "a.zv", POINTS, chunk_shape=50, vertex_attributes=values, object_ids=OWNERS)
    level = zvl.open_zv(tmp_path / "a.zv")[0]
    level.to_file(tmp_path / "a.geoparquet")
    library("dask_geopandas")
    for frame in (level.to_geopandas(), level.to_dask_geopandas().compute()):
        assert np.array_equal(frame["geometry_attribute"], frame["bbox"] - 1000)
        assert np.array_equal(frame["object_id_attribute"], frame["bbox"] + 1000)
        assert np.array_equal(frame["object_id"], OWNERS[frame["geometry_attribute"]])
        assert frame.geometry.name == "geometry"
    frame = geopandas.read_parquet(tmp_path / "a.geoparquet", bbox=(0, 0, 20, 20))
    assert frame.geometry.name == "geometry_"
    assert np.array_equal(frame["geometry"], frame["bbox"] - 1000)
    zvl.ingest(tmp_path / "a.geoparquet", tmp_path / "b.zv", chunk_shape=50)
    again = zvl.open_zv(tmp_path / "b.zv")[0]
    assert set(again.attribute_names) == {"geometry", "bbox", "object_id_attribute", "x_attribute"}


def test_only_what_is_kept_is_read(level):
    library("geopandas")
    for geometry, read in (
        ("mesh", lambda level: level.to_geopandas()),
        ("graph", lambda level: level.to_geopandas()),
        ("graph", lambda level: level.adjacency()),
        ("mesh", np.from_dlpack),
        ("streamline", np.from_dlpack),
    ):
        with counting() as counts:
            read(level(geometry))
        assert not [key for key in counts.keys if "/vertex_attributes/" in key and "/c/" in key]
    assert not [key for key in counts.keys if "/c/" in key and "/vertices/" not in key]
    with counting() as counts:
        level("streamline").to_dask_geopandas()
    assert len({key for key in counts.keys if "/vertices/c/" in key}) <= 1  # which tells how wide an attribute is
    with pytest.warns(ZVWarning, match="no place for attribute i"):
        level("mesh").to_geopandas(["i"])


def test_cloudvolume_precomputed(level):
    cloudvolume = library("cloudvolume")
    one = level("skeleton").objects.to_cloudvolume()[4]
    again = cloudvolume.Skeleton.from_precomputed(one.to_precomputed(), segid=4, vertex_attributes=one.extra_attributes)
    assert np.allclose(again.vertices, one.vertices, rtol=1e-6)
    assert np.allclose(again.radius, POINTS[one.i, 0])
    assert np.array_equal(again.i, one.i)
    assert one.cable_length() == pytest.approx(again.cable_length(), rel=1e-4)


def test_vtk_has_no_half_floats_and_ascii_alone(tmp_path):
    library("pyvista")
    values = {
        "half": POINTS[:, 0].astype("f2"),
        "plain": np.array(["a", "b", ""] * 100),
        "greek": np.array(["\N{GREEK SMALL LETTER BETA}"] * 300),
    }
    zvl.write_points(tmp_path / "a.zv", POINTS, chunk_shape=50, vertex_attributes=values)
    with pytest.warns(ZVWarning, match="no place for attribute greek"):
        made = zvl.open_zv(tmp_path / "a.zv")[0].to_pyvista()
    assert np.array_equal(made.point_data["half"], made.points[:, 0].astype("f2").astype("f4"))
    assert set(made.point_data.keys()) == {"half", "plain"}


def test_neurons_of_larger_faces(tmp_path):
    zvl.write_mesh(tmp_path / "a.zv", POINTS[:4], [[0, 1, 2, 3]], chunk_shape=200, units="nm")
    objects = zvl.open_zv(tmp_path / "a.zv")[0].objects
    library("cloudvolume")
    assert len(objects.to_cloudvolume()[0].faces) == 2
    library("navis")
    assert len(objects.to_navis()[0].faces) == 2


def test_neurons_of_lines_that_share_vertices(tracts):
    navis = library("navis")
    objects = zvl.open_zv(tracts)[2].objects
    flat, offsets = (each.compute() for each in objects.ragged())
    made = objects.to_navis()
    assert isinstance(made, navis.NeuronList)
    for one, path in zip(made, np.split(flat, offsets[1:-1]), strict=True):
        assert np.array_equal(one.nodes[["x", "y", "z"]].to_numpy(np.float32), path)
        assert one.nodes["parent_id"].tolist() == [-1, *range(len(path) - 1)]


def test_times_along_lines_are_kept(tmp_path):
    library("geopandas")
    when = ROWS.astype("M8[s]")
    zvl.write_polylines(tmp_path / "a.zv", (POINTS, [0, 100, 300]), chunk_shape=50, vertex_attributes={"when": when})
    found = zvl.open_zv(tmp_path / "a.zv")[0].to_geopandas()
    assert np.concatenate(found["when"].tolist()).astype("M8[s]").tolist() == when.tolist()
