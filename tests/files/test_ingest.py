"""Common files ingested as stores: the store holds what the file holds."""

import laspy
import nibabel.streamlines
import numpy as np
import pytest
from nibabel.streamlines import Tractogram
from pyarrow import csv, parquet

import zarr_vectors_lazy as zvl
from tests.integration.collect import row_bytes
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.files import loaded


@pytest.fixture
def there_and_back(tmp_path):
    """Write a level to a file with some suffix, and that file to a store; return its level."""

    def go(level, suffix, **shape):
        level.to_file(tmp_path / f"a{suffix}")
        zvl.ingest(tmp_path / f"a{suffix}", tmp_path / "back.zarrvectors", **shape)
        return zvl.open_zv(tmp_path / "back.zarrvectors")[0]

    return go


def same_rows(a, b):
    """Rows of two arrays are the same, in whatever order."""
    return np.array_equal(np.sort(row_bytes(a)), np.sort(row_bytes(b)))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_points_from_tables(cloud, there_and_back, suffix):
    level = zvl.open_zv(cloud)[0]
    found = there_and_back(level, suffix, chunk_shape=3000, bin_shape=500)
    vertices, again = level.vertices.compute(), found.vertices.compute()
    assert found.store.geometry_types == ("point_cloud",)
    assert same_rows(again.astype(np.float32), vertices)
    assert "confidence" in found.attribute_names
    order, back = np.lexsort(vertices.T), np.lexsort(again.astype(np.float32).T)
    confidence = level.attributes["confidence"].compute()
    np.testing.assert_array_equal(found.attributes["confidence"].compute()[back].astype(np.float32), confidence[order])


def test_object_ids_and_text_of_a_table(tmp_path):
    lines = ["x,y,object_id,kind", "0,0,7,a", "1,2,7,", "5,5,9,b"]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    zvl.ingest(tmp_path / "a.csv", tmp_path / "a.zarrvectors", chunk_shape=10)
    level = zvl.open_zv(tmp_path / "a.zarrvectors")[0]
    assert level.store.axes == ("x", "y")
    assert level.objects.ids.tolist() == [7, 9]
    assert level.objects[7].compute().tolist() == [[0, 0], [1, 2]]
    assert sorted(level.attributes["kind"].compute().tolist()) == ["", "a", "b"]


def test_points_from_las(tmp_path):
    header = laspy.LasHeader(point_format=3, version="1.2")
    header.offsets, header.scales = [1000.0, 2000.0, 0.0], [0.01, 0.01, 0.01]
    cloud = laspy.LasData(header)
    generator = np.random.default_rng(0)
    points = np.round(generator.uniform([1000, 2000, 0], [1050, 2050, 50], (200, 3)), 2)
    cloud.x, cloud.y, cloud.z = points.T
    cloud.intensity = np.arange(200, dtype=np.uint16)
    cloud.write(tmp_path / "a.las")
    zvl.ingest(tmp_path / "a.las", tmp_path / "a.zarrvectors", chunk_shape=20)
    level = zvl.open_zv(tmp_path / "a.zarrvectors")[0]
    vertices, intensity = level.vertices.compute(), level.attributes["intensity"].compute()
    assert {"intensity", "classification", "gps_time", "red"} <= set(level.attribute_names)  # though most are zero
    np.testing.assert_allclose(vertices[np.argsort(intensity)], points, rtol=0, atol=1e-9)


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".npz"])
def test_a_mesh(surface, there_and_back, suffix):
    level = zvl.open_zv(surface)[0].sel(z=slice(None, 0))
    found = there_and_back(level, suffix)
    vertices, faces = level.vertices.compute(), level.faces.compute()
    corners = found.vertices.compute().astype(np.float32)[found.faces.compute()].reshape(-1, 9)
    assert found.store.geometry_types == ("mesh",)
    # A face keeps its winding, not its first corner.
    assert same_rows(turned(corners), turned(vertices[faces].reshape(-1, 9)))
    if suffix != ".obj":
        assert found.attribute_names == level.attribute_names


def turned(corners):
    """Triangles that begin at their least corner."""
    rows = corners.reshape(-1, 3, 3)
    first = np.array([min(range(3), key=lambda k, row=row: tuple(row[k])) for row in rows])
    return np.ascontiguousarray(rows[np.arange(len(rows))[:, None], (first[:, None] + np.arange(3)) % 3].reshape(-1, 9))


def test_a_skeleton(neuron, there_and_back):
    level = zvl.open_zv(neuron)[0]
    found = there_and_back(level, ".swc", chunk_shape=5000, bin_shape=500)
    assert found.store.geometry_types == ("skeleton",)
    pairs = [one.vertices.compute()[one.edges.compute()].reshape(-1, 6).astype(np.float32) for one in (level, found)]
    assert same_rows(*pairs)
    radii = [np.sort(one.attributes["radius"].compute().astype(np.float32)) for one in (level, found)]
    assert np.array_equal(*radii)


@pytest.mark.filterwarnings("ignore:unit of the store. none")
@pytest.mark.parametrize("suffix", [".trk", ".tck", ".trx"])
def test_streamlines(tracts, there_and_back, suffix):
    level = zvl.open_zv(tracts)[0]
    found = there_and_back(level, suffix, chunk_shape=12)
    (flat, offsets), (again, ends) = level.objects.ragged(), found.objects.ragged()
    assert np.array_equal(offsets.compute(), ends.compute())
    np.testing.assert_allclose(again.compute(), flat.compute(), rtol=0, atol=1e-5)
    assert found.store.geometry_types == ("streamline",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.xyz", "", r"no format '\.xyz'"),
        ("missing.csv", None, "no file"),
        ("a.csv", "a,b\n1,2\n", "columns x, y"),
        ("a.csv", "x,y\n", "no vertices"),
        ("a.swc", "1 0 0 0 0 1 -1\n2 0 1 0 0 1 7\n", "the parent 7 of id 2 does not exist"),
        ("a.swc", "1 0 0 0\n", r"a\.swc"),
        ("a.ply", "nonsense", r"a\.ply"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 1 1 0\nf 1 2 3\nf 1 2 3 4\n", "faces of"),
        ("a.trk", "nonsense", r"a\.trk"),
        ("a.las", "nonsense", r"a\.las"),
    ],
)
def test_what_is_not_what_its_suffix_says_is_named(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(SelectionError, match=message):
        zvl.ingest(tmp_path / name, tmp_path / "a.zarrvectors")
    assert not (tmp_path / "a.zarrvectors").exists()


@pytest.mark.parametrize("limit", [None, 1])
def test_whole_numbers_and_others_of_several_files_are_one_type_where_it_holds_both(tmp_path, monkeypatch, limit):
    if limit:
        monkeypatch.setattr(loaded, "MEMORY_NBYTES", limit)
        monkeypatch.setattr(loaded, "BLOCK_NBYTES", limit)
    for name, value in ("a", "4"), ("b", "8.5"), ("c", str(2**53 + 1)), ("d", ""):
        (tmp_path / f"{name}.csv").write_text(f"x,y,v,i\n1,2,{value},5\n3,4,{value},\n")
    zvl.ingest([tmp_path / f"{name}.csv" for name in "abd"], tmp_path / "a.zv", chunk_shape=50)
    level = zvl.open_zv(tmp_path / "a.zv")[0]
    found = level.attributes["v"].compute()
    np.testing.assert_array_equal(found, [4, 4, 8.5, 8.5, np.nan, np.nan])
    with pytest.raises(SelectionError, match=r"'v' is of '.*', which no single type can hold exactly"):
        zvl.ingest([tmp_path / f"{name}.csv" for name in "bc"], tmp_path / "b.zv", chunk_shape=50)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("limit", [None, 1])
def test_a_column_that_is_empty_in_a_file_has_the_type_of_the_others(tmp_path, monkeypatch, limit, suffix):
    if limit:
        monkeypatch.setattr(loaded, "MEMORY_NBYTES", limit)
        monkeypatch.setattr(loaded, "BLOCK_NBYTES", limit)
    root = 720575940631797753
    rows = {"a": "0,0,,,,", "b": f"1,1,{root},x,true,2020-01-01", "c": "2,2,,,,"}
    for name, row in rows.items():
        (tmp_path / f"{name}.csv").write_text(f"x,y,root,text,flag,day\n{row}\n")
        if suffix == "parquet":  # where such a column has Arrow's type null
            parquet.write_table(csv.read_csv(tmp_path / f"{name}.csv"), tmp_path / f"{name}.parquet")
    zvl.ingest(tmp_path / f"*.{suffix}", tmp_path / "a.zv", chunk_shape=50)
    found = zvl.open_zv(tmp_path / "a.zv")[0].to_dask_dataframe().compute().sort_values("x")
    for name, value in ("root", root), ("text", "x"), ("flag", True), ("day", np.datetime64("2020-01-01")):
        assert found[name].isna().tolist() == [True, False, True], name
        assert found[name].iloc[1] == value


def test_files_of_one_name_in_several_folders_keep_apart(tmp_path):
    for number, folder in enumerate(("sub-01", "sub-02"), 1):
        (tmp_path / folder).mkdir()
        lines = [np.eye(3, dtype="f4")] * number
        nibabel.streamlines.save(Tractogram(lines, affine_to_rasmm=np.eye(4)), str(tmp_path / folder / "AF.tck"))
        (tmp_path / folder / "n.swc").write_text(f"1 1 {number} 0 0 1 -1\n")
    zvl.ingest([tmp_path / "sub-01/AF.tck", tmp_path / "sub-02/AF.tck"], tmp_path / "a.zv", chunk_shape=5)
    groups = zvl.open_zv(tmp_path / "a.zv")[0].objects.groups
    assert {name: groups[name].tolist() for name in groups.names} == {"sub-01/AF.tck": [0], "sub-02/AF.tck": [1, 2]}
    zvl.ingest(tmp_path / "*/n.swc", tmp_path / "b.zv", chunk_shape=5)
    assert zvl.open_zv(tmp_path / "b.zv")[0].objects.attributes["name"].values.tolist() == [
        "sub-01/n.swc",
        "sub-02/n.swc",
    ]


def test_hidden_files_are_skipped(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "._a.csv").write_bytes(b"\0\5\x16\7")
    for number, files in enumerate((tmp_path, tmp_path / "*.csv")):
        assert zvl.ingest(files, tmp_path / f"{number}.zv", chunk_shape=5)["files"] == [str(tmp_path / "a.csv")]


def test_files_with_and_without_object_ids_are_not_alike(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.csv").write_text("x,y,object_id\n1,2,7\n")
    with pytest.raises(SelectionError, match=r"b\.csv has object ids, the files before it no object ids"):
        zvl.ingest(tmp_path / "*.csv", tmp_path / "b.zv", chunk_shape=50)


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_an_empty_tractogram_beside_others_tells_no_attributes(tmp_path, names):
    lines = [np.eye(3, dtype="f4")]
    full = Tractogram(lines, data_per_point={"fa": [np.ones((3, 1), "f4")]}, affine_to_rasmm=np.eye(4))
    for name, tractogram in ("a", full), ("b", Tractogram([], affine_to_rasmm=np.eye(4))):
        nibabel.streamlines.save(tractogram, tmp_path / f"{name}.trk")
    zvl.ingest([tmp_path / f"{name}.trk" for name in names], tmp_path / "a.zv", chunk_shape=50)
    level = zvl.open_zv(tmp_path / "a.zv")[0]
    assert level.attributes["fa"].compute().tolist() == [1, 1, 1]
    assert {name: level.objects.groups[name].tolist() for name in ("a.trk", "b.trk")} == {"a.trk": [0], "b.trk": []}


@pytest.mark.parametrize("shape", ["chunk_shape", "bin_shape"])
@pytest.mark.parametrize("value", [(1, 2), "a", 0, float("nan"), (1, 2, 3, 4)])
def test_shapes_that_are_none_are_named(tmp_path, shape, value):
    (tmp_path / "a.csv").write_text("x,y,z\n1,2,3\n4,5,6\n")
    with pytest.raises(SelectionError, match=f"{shape}=? must be 3 positive numbers"):
        zvl.ingest(tmp_path / "a.csv", tmp_path / "a.zv", **{shape: value})
