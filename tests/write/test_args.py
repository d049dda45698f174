"""Wrong input is refused before the first byte is written."""

import dask
import dask.array as da
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import SelectionError, StoreError, ZVWarning
from zarr_vectors_lazy.testing import counting

POINTS = np.random.default_rng(0).uniform(-5, 5, (20, 3))
EDGES = np.array([[0, 1], [1, 2]])
NAN = np.where(np.arange(60).reshape(20, 3) == 31, np.nan, POINTS)


def points(path, **options):
    return zvl.write_points(path, options.pop("positions", POINTS), **{"chunk_shape": 5, **options})


def graph(path, **options):
    return zvl.write_graph(path, POINTS, options.pop("edges", EDGES), chunk_shape=5, **options)


def mesh(path, **options):
    return zvl.write_mesh(path, POINTS, options.pop("faces", [[0, 1, 2]]), chunk_shape=5, **options)


def lines(path, **options):
    return zvl.write_lines(path, options.pop("endpoints", POINTS.reshape(10, 2, 3)), chunk_shape=5, **options)


def polylines(path, **options):
    return zvl.write_polylines(path, options.pop("polylines", [POINTS[:4], POINTS[4:]]), chunk_shape=5, **options)


@pytest.mark.parametrize(
    ("write", "options", "message"),
    [
        (points, {"positions": NAN}, "positions must be finite as float64; row 10 is"),
        (points, {"positions": np.where(np.isnan(NAN), np.inf, NAN)}, "finite as float64; row 10"),
        (points, {"positions": POINTS * 1e300, "dtype": "float32"}, "finite as float32; row 0"),
        (points, {"positions": POINTS[:, 0]}, r"must be \(N, D\) numbers, D from 2 to 4; found shape \(20,\)"),
        (points, {"positions": POINTS[:, :1]}, "D from 2 to 4"),
        (points, {"positions": np.zeros((3, 5))}, "D from 2 to 4"),
        (points, {"positions": np.array([["a", "b"]])}, "numbers"),
        (points, {"positions": [[1, 2], [3]]}, "positions must be one array"),
        (points, {"positions": np.ma.masked_greater(POINTS, 1)}, "positions has masked values"),
        (polylines, {"polylines": [np.ma.masked_greater(POINTS, 1)]}, "polylines has masked values"),
        (points, {"object_ids": np.ma.masked_equal(np.arange(20), 3)}, "object_ids has masked values"),
        (points, {"vertex_attributes": np.arange(20)}, "vertex_attributes must be arrays by name, found ndarray"),
        (polylines, {"vertex_attributes": [POINTS]}, "vertex_attributes must be arrays by name, found list"),
        (points, {"checksum": "no"}, "checksum must be True or False, found 'no'"),
        (points, {"positions": np.empty((0, 3))}, r"there are no positions: give bounds"),
        (points, {"dtype": "int32"}, "dtype must be 'float32' or 'float64', found 'int32'"),
        (points, {"dtype": "no dtype"}, "dtype must be"),
        (points, {"chunk_shape": (5, 5)}, r"chunk_shape must be 3 positive numbers, found \(5, 5\)"),
        (points, {"chunk_shape": (5, 5, 0)}, "chunk_shape must be 3 positive"),
        (points, {"chunk_shape": (5, 5, np.nan)}, "chunk_shape must be 3 positive"),
        (points, {"chunk_shape": 1e-300}, "absurdly small"),
        (points, {"bin_shape": 2}, r"bin_shape must divide chunk_shape"),
        (points, {"bin_shape": 10}, r"bin_shape must divide chunk_shape"),
        (points, {"bin_shape": 0.02}, "makes 15625000 bins in each chunk"),
        (points, {"bounds": ([0, 0, 0], [5, 5, 5])}, "bounds leave data out: on axis 0"),
        (points, {"bounds": ([0, 0], [5, 5])}, r"bounds must be \(lo, hi\)"),
        (points, {"bounds": ([5, 5, 5], [0, 0, 0])}, "lo <= hi"),
        (points, {"bounds": 7}, "bounds must be"),
        (points, {"axes": ("x", "y")}, "axes must be 3 different names"),
        (points, {"axes": ("x", "y", "x")}, "3 different names"),
        (points, {"axes": 7}, "axes must be 3 different names; found 7"),
        (points, {"units": 7}, "units must be one name, or 3 names or None; found 7"),
        (points, {"chunk_shape": "5"}, "chunk_shape must be 3 positive numbers, found '5'"),
        (points, {"chunk_shape": True}, "chunk_shape must be 3 positive numbers, found True"),
        (points, {"vertex_attributes": {"a": [1, "x"] * 10}}, "all text, found 1"),
        (points, {"units": ("m", "m")}, "units must be one name, or 3"),
        (points, {"crs": {1: object()}}, "crs must be something that can be stored as JSON"),
        (points, {"crs": float("nan")}, "crs must be something that can be stored as JSON"),
        (points, {"compressor": "lz4"}, "compressor must be 'zstd', 'blosc' or None, found 'lz4'"),
        (points, {"shard_shape": (2, 2)}, "shard_shape must be 3 whole numbers"),
        (points, {"shard_shape": 0}, "shard_shape must be 3 whole numbers"),
        (points, {"shard_shape": 1000}, "absurd number of chunks"),
        (points, {"mode": "a"}, "mode must be 'w-'"),
        (points, {"vertex_attributes": {"a/b": np.zeros(20)}}, "a name must be a segment of a path"),
        (points, {"vertex_attributes": {"": np.zeros(20)}}, "a name must be a segment"),
        (points, {"vertex_attributes": {"..": np.zeros(20)}}, "a name must be a segment"),
        (points, {"vertex_attributes": {7: np.zeros(20)}}, "a name must be a segment"),
        (points, {"vertex_attributes": {"a" * 201: np.zeros(20)}}, "of at most 200 bytes"),
        (points, {"vertex_attributes": {"a": np.zeros(19)}}, r"must be \(20,\) or \(20, C\), found shape \(19,\)"),
        (points, {"vertex_attributes": {"a": np.zeros((20, 2, 2))}}, r"found shape \(20, 2, 2\)"),
        (points, {"vertex_attributes": {"a": np.zeros((20, 0))}}, r"found shape \(20, 0\)"),
        (points, {"vertex_attributes": {"a": np.zeros(20, "M8")}}, "dtype datetime64; only"),
        (points, {"vertex_attributes": {"a": np.full((20, 2), "x")}}, "it has shape .* one value per row"),
        (points, {"vertex_attributes": {"a": np.array([1, "x"] * 10, object)}}, "all text, found 1"),
        (points, {"object_ids": np.arange(19)}, r"object_ids must be \(20,\) whole numbers"),
        (points, {"object_ids": np.arange(20.0)}, r"whole numbers, found shape \(20,\) of float64"),
        (points, {"object_ids": np.full(20, 2**63, "u8")}, r"below 2\*\*63"),
        (points, {"object_attributes": {"a": [1]}}, "need object_ids"),
        (points, {"object_ids": np.arange(20), "object_attributes": {"a": [1]}}, r"must be \(20,\)"),
        (
            points,
            {"object_ids": np.arange(20), "object_attributes": {"a": [None] * 20}},
            "cannot distinguish from empty text",
        ),
        (points, {"object_ids": np.arange(20), "groups": {0: [99]}}, r"objects that do not exist: 99"),
        (points, {"object_ids": np.arange(20), "groups": {1: [0]}}, "by number starting at 0"),
        (points, {"object_ids": np.arange(20), "groups": {"a": [0], 0: [1]}}, "by name, or by number"),
        (points, {"object_ids": np.arange(20), "object_attributes": {"a": [0, "b"] * 10}}, "found 0 of type int"),
        (points, {"object_ids": np.arange(20), "groups": {"a": 3}}, r"groups\['a'\] must be object ids, found 3"),
        (points, {"object_ids": np.arange(20), "groups": {"a": "xy"}}, "must be object ids, found 'xy'"),
        (points, {"object_ids": np.arange(20), "groups": [[0], [1]]}, "by group name or number, found list"),
        (points, {"object_ids": [[0, 1], [2]] * 10}, "object_ids must be one array"),
        (points, {"object_ids": np.arange(20), "group_attributes": {"a": [1]}}, r"must be \(0,\)"),
        (points, {"link_attributes": {"a": [1]}}, "points have no links"),
        (lines, {"endpoints": POINTS}, r"endpoints must be \(N, 2, D\), found shape \(20, 3\)"),
        (lines, {"object_ids": [1] * 10}, "object_ids has 1 twice"),
        (lines, {"vertex_attributes": {"a": np.zeros(20)}}, r"must be \(10, 2\) or \(10, 2, C\)"),
        (polylines, {"polylines": []}, r"there are no polylines.*give \(np.empty\(\(0, D\)\), \[0\]\) and bounds"),
        (polylines, {"polylines": POINTS}, r"must be \(n, D\) arrays, one for each; number 0 has shape \(3,\)"),
        (polylines, {"polylines": 7}, "must be a sequence of .* found int"),
        (polylines, {"polylines": [POINTS, POINTS[:, :2]]}, r"D 3 like the first; number 1 has shape \(20, 2\)"),
        (polylines, {"polylines": (POINTS, np.array([0, 5, 4, 20]))}, "offsets must ascend from 0 to the 20"),
        (polylines, {"polylines": (POINTS, np.array([0, 5]))}, "offsets must ascend"),
        (polylines, {"geometry_type": "graph"}, "geometry_type must be"),
        (polylines, {"vertex_attributes": {"a": [np.zeros(4), np.zeros(15)]}}, "no. 1 does not fit"),
        (polylines, {"vertex_attributes": {"a": [np.zeros(4), np.zeros((16, 2))]}}, "rows of several shapes"),
        (polylines, {"vertex_attributes": {"a": 5}}, "must be an array for each polyline, found 5"),
        (
            polylines,
            {"vertex_attributes": {"a": [np.ma.masked_equal([-(2**63), 3], 3), np.arange(18)]}},
            r"vertex_attributes\['a'\] must have an array for each",
        ),
        (graph, {"edges": [[0, 20]]}, "edges name row 20; there are 20"),
        (graph, {"edges": [[0, -1]]}, "edges name row -1"),
        (graph, {"edges": [[0, 1, 2]]}, r"edges must be \(M, 2\) whole numbers"),
        (graph, {"edges": [[0.0, 1.0]]}, "whole numbers"),
        (graph, {"kind": "tree"}, "kind must be"),
        (graph, {"kind": "skeleton", "edges": [[0, 1], [0, 2]]}, "vertex 0 has 2 parents"),
        (graph, {"kind": "skeleton", "edges": [[0, 1], [1, 2], [2, 0]]}, "vertex 0 is on a cycle"),
        (graph, {"link_attributes": {"a": [1]}}, r"must be \(2,\) or \(2, C\)"),
        (graph, {"link_attributes": {"a": ["x", "y"]}}, "links can only have numbers and bool"),
        (mesh, {"faces": [[0, 1]]}, r"faces must be \(M, L\) whole numbers, L 3 to 64"),
        (mesh, {"faces": [[0, 1, 99]]}, "faces name row 99"),
        (mesh, {"faces": [[0, 1, 2], [3, 4, 5, 6]]}, "faces must be one array"),
        (mesh, {"faces": [[*range(20), 0]]}, "1 links of 21 ends lie in several chunks"),
    ],
)
def test_refused(tmp_path, write, options, message):
    with counting() as counts, pytest.raises(SelectionError, match=message):
        write(tmp_path / "x", **options)
    assert counts.requests == 0
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("compute", [True, False])
def test_dask_collections_are_not_computed_silently(tmp_path, compute):
    lazy = da.from_array(POINTS)
    for options in ({"vertex_attributes": {"a": lazy[:, 0]}}, {"object_ids": lazy[:, 0]}):
        with pytest.raises(SelectionError, match="must be a Dask array, found ndarray"):
            points(tmp_path / "x", compute=compute, **options)
    with pytest.raises(SelectionError, match="positions must be a Dask array, found Delayed"):
        points(tmp_path / "x", compute=compute, positions=dask.delayed(POINTS))
    with pytest.raises(SelectionError, match="is a Dask collection, and must be in memory here"):
        points(tmp_path / "x", compute=compute, object_ids=[0] * len(POINTS), object_attributes={"a": lazy[:, 0]})


def test_a_misspelt_unit_is_a_warning_and_units_of_other_kinds_are_not(tmp_path):
    points = np.random.default_rng(0).random((20, 3))
    zvl.write_points(tmp_path / "s", points, chunk_shape=1, units=["pixel", "microsecond", "s"])
    lines = points.reshape(10, 2, 3)
    for write, given in (
        (zvl.write_points, da.from_array(points)),
        (zvl.write_lines, lines),
        (zvl.write_points, points),
    ):
        with pytest.warns(ZVWarning, match="'millimetr' is not a known unit of length; did you mean 'milli") as said:
            write(tmp_path / "s", given, chunk_shape=1, units="millimetr", mode="w")
        assert [one.filename for one in said] == [__file__]
    assert zvl.open_zv(tmp_path / "s").units == ("millimetr",) * 3


def test_wrong_backends(tmp_path):
    with pytest.raises(StoreError, match="unknown backend 'nfs'"):
        points(tmp_path / "x", backend="nfs")
    with pytest.raises(StoreError, match="takes no options"):
        points(tmp_path / "x", storage_options={"anon": True})
    with pytest.raises(StoreError, match="storage_options must be options by name, found list"):
        points(tmp_path / "x", storage_options=["anon"])


def test_a_failed_put_raises_and_the_write_stays_unfinished(tmp_path, monkeypatch):
    from zarr_vectors_lazy.storage.backends import local  # noqa: PLC0415

    write_file = local._write_file

    def full(path, data):
        if "/vertices/c/" in path:
            raise OSError(28, "No space left on device")
        write_file(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(local, "_write_file", full)
        with pytest.raises(StoreError, match=r"writing '0/vertices/c/.*No space left"):
            points(tmp_path / "x")
    with pytest.raises(zvl.errors.FormatError, match="unfinished write"):
        zvl.open_zv(tmp_path / "x")
    points(tmp_path / "x", mode="w")
    assert zvl.open_zv(tmp_path / "x")[0].vertex_count == 20
