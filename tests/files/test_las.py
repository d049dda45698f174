"""LAS and LAZ, read and written back: every dimension of the point format, the reference system, extra bytes."""

import laspy
import numpy as np
import pyproj
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import FileError, NotFoundError
from zarr_vectors_lazy.files import las, loaded


def tile(path, *, point_format=6, count=300, epsg=32618, shift=0):
    """A file of points with values of each dimension, some of them zero throughout."""
    header = laspy.LasHeader(point_format=point_format, version="1.4" if point_format > 5 else "1.2")
    header.offsets, header.scales = [440000.5, 4480000.0, 0.0], [0.01, 0.025, 0.001]
    header.system_identifier, header.file_source_id = "a lidar", 7
    if epsg:
        header.add_crs(pyproj.CRS.from_user_input(f"EPSG:{epsg}"))
    header.add_extra_dims([laspy.ExtraBytesParams("height", "f8"), laspy.ExtraBytesParams("normal", "3f4")])
    cloud = laspy.LasData(header)
    random = np.random.default_rng(1)
    cloud.X, cloud.Y, cloud.Z = random.integers(0, 5000, (3, count)) + shift
    cloud.intensity = random.integers(0, 65535, count)
    cloud.return_number = random.integers(1, 5, count)
    cloud.height = random.random(count)
    cloud.normal = random.random((count, 3)).astype(np.float32)
    cloud.gps_time = np.arange(count) / 7
    cloud.write(path)
    return cloud


@pytest.mark.parametrize("suffix", [".las", ".laz", ".LAS"])
@pytest.mark.parametrize("point_format", [3, 6])
def test_las_comes_back(tmp_path, suffix, point_format):
    tile(tmp_path / f"a{suffix}", point_format=point_format)
    done = zvl.ingest(tmp_path / f"a{suffix}", tmp_path / "a.zv", chunk_shape=25)
    store = zvl.open_zv(tmp_path / "a.zv")
    assert (done["left_out"], store.crs["epsg"], store.units) == ([], 32618, ("metre",) * 3)
    assert store[0].to_file(tmp_path / f"b{suffix}")["left_out"] == []
    a, b = laspy.read(tmp_path / f"a{suffix}"), laspy.read(tmp_path / f"b{suffix}")
    assert b.header.parse_crs().to_epsg() == 32618
    assert (b.point_format.id, b.header.system_identifier, b.header.file_source_id) == (point_format, "a lidar", 7)
    assert np.array_equal(b.header.scales, a.header.scales)
    order, back = np.argsort(a.gps_time), np.argsort(b.gps_time)
    np.testing.assert_array_equal(np.asarray(b.xyz)[back], np.asarray(a.xyz)[order])
    for name in a.point_format.dimension_names:
        if name not in ("X", "Y", "Z"):
            np.testing.assert_array_equal(np.asarray(b[name])[back], np.asarray(a[name])[order], err_msg=name)


def test_coarser_levels_have_the_scales_of_the_file(tmp_path):
    tile(tmp_path / "a.las")
    zvl.ingest(tmp_path / "a.las", tmp_path / "a.zv", chunk_shape=50, bin_shape=5)
    zvl.build_pyramid(tmp_path / "a.zv", factors=[2])
    level = zvl.open_zv(tmp_path / "a.zv")[1]
    assert level.to_file(tmp_path / "b.las")["left_out"] == []
    found = laspy.read(tmp_path / "b.las")
    assert found.header.scales.tolist() == [0.01, 0.025, 0.001]
    assert (np.abs(found.xyz - level.vertices.compute()) <= [0.0051, 0.0126, 0.00051]).all()


@pytest.mark.parametrize("limit", [0, loaded.MEMORY_NBYTES])
def test_several_tiles_in_blocks(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(las, "POINTS", 70)
    monkeypatch.setattr(loaded, "MEMORY_NBYTES", limit)
    monkeypatch.setattr(loaded, "BLOCK_NBYTES", 1)
    (tmp_path / "tiles").mkdir()
    tiles = [tile(tmp_path / f"tiles/{name}.las", shift=shift) for name, shift in (("a", 0), ("b", 7000))]
    zvl.ingest(tmp_path / "tiles", tmp_path / "a.zv", chunk_shape=25)
    level = zvl.open_zv(tmp_path / "a.zv")[0]
    assert level.objects.attributes["name"].values.tolist() == ["a.las", "b.las"]
    for object_id, cloud in enumerate(tiles):
        found = level.objects[object_id].compute()
        np.testing.assert_array_equal(
            found[np.lexsort(found.T)], np.asarray(cloud.xyz)[np.lexsort(np.asarray(cloud.xyz).T)]
        )
    heights = np.concatenate([cloud.height for cloud in tiles])
    assert np.array_equal(np.sort(level.attributes["height"].compute()), np.sort(heights))
    assert list(tmp_path.parent.glob("zvl-ingest-*")) == []


def test_attributes_that_las_has_no_place_for(tmp_path):
    zvl.write_points(
        tmp_path / "a.zv",
        np.array([[0, 0, 0.1234567890123], [1, 1, 1e6]]),
        chunk_shape=1e6,
        vertex_attributes={
            "intensity": np.array([0.5, 1]), "four": np.zeros((2, 4)), "t": np.array(["a", "b"]),
            "classification": np.array([1, 40]),
        },
        crs={"space": "atlas"},
    )  # fmt: skip
    left = zvl.open_zv(tmp_path / "a.zv")[0].to_file(tmp_path / "a.las")["left_out"]
    assert left == [
        "digits of z below 0.001",
        "crs",
        "attribute four (LAS holds three numbers of a name)",
        "attribute t (LAS holds numbers)",
        "attribute classification (LAS holds other numbers by this name)",
        "attribute intensity (LAS holds other numbers by this name)",
    ]


def test_a_reference_system_with_heights(tmp_path):
    tile(tmp_path / "a.las", epsg="32618+5703")
    zvl.ingest(tmp_path / "a.las", tmp_path / "a.zv", chunk_shape=25)
    store = zvl.open_zv(tmp_path / "a.zv")
    assert (store.crs["epsg"], store.units) == (32618, ("metre",) * 3)
    store[0].to_file(tmp_path / "b.las")
    assert len(laspy.read(tmp_path / "b.las").header.parse_crs().sub_crs_list) == 2


def test_columns_and_damaged_files(tmp_path):
    tile(tmp_path / "a.las", epsg=None)
    zvl.ingest(tmp_path / "a.las", tmp_path / "a.zv", chunk_shape=25, columns=["intensity"])
    store = zvl.open_zv(tmp_path / "a.zv")
    assert (store[0].attribute_names, store.crs, store.units) == (("intensity",), None, (None,) * 3)
    with pytest.raises(NotFoundError, match="no dimension 'height_'"):
        zvl.ingest(tmp_path / "a.las", tmp_path / "b.zv", chunk_shape=25, columns=["height_"])
    raw = (tmp_path / "a.las").read_bytes()
    for cut in (0, 3, 200, 400, len(raw) - 40, len(raw) - 1):
        (tmp_path / "b.las").write_bytes(raw[:cut])
        with pytest.raises(FileError, match=r"b\.las"):
            zvl.ingest(tmp_path / "b.las", tmp_path / "b.zv", chunk_shape=25)


def test_a_file_without_points_says_so(tmp_path):
    laspy.LasData(laspy.LasHeader(point_format=6, version="1.4")).write(tmp_path / "a.las")
    with pytest.raises(FileError, match=r"a\.las: it has no vertices"):
        zvl.ingest(tmp_path / "a.las", tmp_path / "a.zv")


def test_attributes_called_as_positions_do_not_take_their_place(tmp_path):
    values = {"X": np.arange(3.0), "scales": np.arange(3.0) + 5, "half": np.arange(3, dtype=np.float16)}
    zvl.write_points(tmp_path / "a.zv", np.eye(3), chunk_shape=5, vertex_attributes=values)
    assert zvl.open_zv(tmp_path / "a.zv")[0].to_file(tmp_path / "a.las")["left_out"] == []
    cloud = laspy.read(tmp_path / "a.las")
    assert np.array_equal(cloud.xyz, np.eye(3))
    assert np.array_equal([cloud["X_attribute"], cloud["scales_attribute"], cloud["half"]], list(values.values()))
