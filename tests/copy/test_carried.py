"""A copy has everything that a store states, or names what it left out."""

import json

import numpy as np
import pytest
import zarr

import zarr_vectors_lazy as zvl
from tests.integration.generations import copy_of

AXES = ("z", "y", "x")
SAID = {"unit": "1/mm", "description": "what it is", "user_metadata": {"by": "me"}, "unknown": [1, {"a": None}]}
CALIBRATION = np.arange(70.0).reshape(7, 10)


def note(path, node, **said):
    """Add attributes to a node; those of a block are merged."""
    file = path / node / "zarr.json"
    doc = json.loads(file.read_text())
    for name, value in said.items():
        old = doc["attributes"].get(name)
        doc["attributes"][name] = {**old, **value} if isinstance(old, dict) else value
    file.write_text(json.dumps(doc))


def noted(path, node):
    return json.loads((path / node / "zarr.json").read_text())["attributes"]


def points(path):
    rng = np.random.default_rng(0)
    zvl.write_points(
        path,
        rng.uniform(0, 50, (60, 3)),
        chunk_shape=20,
        bin_shape=10,
        axes=AXES,
        units=("um", "um", "nm"),
        vertex_attributes={"fa": rng.random(60).astype("f4"), "rgb": rng.integers(0, 255, (60, 3), dtype="u1")},
        object_ids=np.arange(60) // 6,
        object_attributes={"n": np.arange(10)},
        groups={"AF": [0, 1, 2], "empty": [], "CST": [9]},
        group_attributes={"size": np.array([3.5, 0, 1])},
    )


def lines(path):
    rng = np.random.default_rng(0)
    paths = [np.cumsum(rng.normal(0, 3, (20, 3)), axis=0) for _ in range(10)]
    tables = {"groups": {"AF": [0, 1, 2], "empty": [], "CST": [9]}, "group_attributes": {"size": np.array([3.5, 0, 1])}}
    zvl.write_polylines(
        path,
        paths,
        chunk_shape=20,
        axes=AXES,
        units=("um", "um", "nm"),
        geometry_type="streamline",
        vertex_attributes={"fa": [p[:, 0] for p in paths], "rgb": [p.astype("i2") for p in paths]},
        object_attributes={"n": np.arange(10)},
        **tables,
    )


def graph(path):
    rng = np.random.default_rng(0)
    zvl.write_graph(
        path,
        rng.uniform(0, 50, (60, 3)),
        np.stack([np.arange(59), np.arange(1, 60)], axis=1),
        chunk_shape=20,
        axes=AXES,
        units=("um", "um", "nm"),
        vertex_attributes={"fa": rng.random(60).astype("f4"), "rgb": rng.integers(0, 255, (60, 3), dtype="u1")},
        link_attributes={"weight": np.arange(59.0)},
        object_ids=np.zeros(60, np.int64),
        object_attributes={"n": np.arange(1)},
        groups={"AF": [0], "empty": []},
        group_attributes={"size": np.array([3.5, 0])},
    )


ARRAYS = ("vertices", "vertex_attributes/fa", "object_attributes/n", "groups", "group_attributes/size", "object_index")
KINDS = {"points": points, "lines": lines, "graph": graph}


@pytest.fixture(params=KINDS)
def source(request, tmp_path):
    path = tmp_path / "source.zv"
    KINDS[request.param](path)
    block = {"coordinate_offset": [9000.0, 0, -3], "crs": {"epsg": 1}, "new_field": {"deep": [1]}}
    specs = {"attribute_specs": {"vertex": {"fa": {"dtype": "float32", "unit": "1"}}}}
    note(path, "", zarr_vectors={**block, **specs, "shard_shape": 3}, user_metadata={"subject": "m1"}, other="thing")
    note(path, "0", user_metadata={"level": 0}, zarr_vectors_level={"note": "kept"})
    for array in ARRAYS:
        note(path, f"0/{array}", **SAID)
    note(
        path, "0/vertex_attributes/rgb", channel_names=["red", "green", "blue"], zarr_vectors_lazy={"aggregate": "mean"}
    )
    if request.param == "graph":
        note(path, "0/link_attributes/weight", **SAID)
        for array in (path / "0/link_attributes/weight/0").glob("*/zarr.json"):
            note(path, array.parent.relative_to(path), **SAID)
    doc = json.loads((path / "zarr.json").read_text())
    doc["attributes"]["multiscales"][0]["axes"][0]["long_name"] = "depth"
    doc["attributes"]["multiscales"][0]["name"] = "brain"
    doc["attributes"]["ome"]["nodes"].append({"type": "image", "name": "elsewhere", "path": "../image"})
    doc["attributes"]["ome"]["publisher"] = "us"
    (path / "zarr.json").write_text(json.dumps(doc))
    root = zarr.open_group(path, mode="r+")
    headers = root.create_group("headers")
    headers.create_group("swc", attributes={"SCALE": 1})
    trk = headers.create_group("trk", attributes={"version": 2})
    trk.create_array("calibration", data=CALIBRATION, chunks=(3, 4), attributes={"unit": "mm"})
    sparse = trk.create_array("sparse", shape=(9,), chunks=(2,), dtype="i4", fill_value=-1)
    sparse[5] = 7
    return path


def copies(path):
    level = zvl.open_zv(path)[0]
    yield "rechunk", lambda out: zvl.rechunk(path, out, chunk_shape=30)
    yield "save", level.save
    yield "later", lambda out: level.save(out, compute=False).compute()
    yield "part", lambda out: level.sel(x=(-100, 20)).save(out)
    yield (
        "pyramid",
        lambda out: zvl.rechunk(path, out, chunk_shape=20, pyramid={"factors": [2], "chunk_scale_factors": 2}),
    )


def test_all_that_is_said_is_carried(source, tmp_path):
    old = zvl.open_zv(source)
    for name, copy in copies(source):
        out = tmp_path / name
        assert copy(out)["left_out"] == [], name
        new = zvl.open_zv(out)
        assert (new.axes, new.units, new.crs, new.attrs["user_metadata"]) == (
            *(old.axes, old.units, old.crs), {"subject": "m1"},
        )  # fmt: skip
        assert new.coordinate_offset.tolist() == [9000, 0, -3]
        assert new.attrs["other"] == "thing"
        block, before = new.attrs["zarr_vectors"], old.attrs["zarr_vectors"]
        assert block["new_field"] == {"deep": [1]}
        told, stated = (said["attribute_specs"]["vertex"]["fa"] for said in (block, before))
        assert told["unit"] == stated["unit"]
        assert block["shard_shape"] == 3  # of arrays that are added later
        multiscale, ome = new.attrs["multiscales"][0], new.attrs["ome"]
        assert (multiscale["name"], multiscale["axes"]) == ("brain", old.attrs["multiscales"][0]["axes"])
        assert (ome["publisher"], ome["nodes"][-1]["type"], ome["nodes"][0]) == (
            *("us", "image"), {"type": "zv:level", "name": "0"},
        )  # fmt: skip
        level = noted(out, "0")
        assert (level["user_metadata"], level["zarr_vectors_level"]["note"]) == ({"level": 0}, "kept")
        kept = [*ARRAYS, *(["link_attributes/weight"] if old.geometry_types == ("graph",) else [])]
        for array in kept:
            found = noted(out, f"0/{array}")
            assert {key: found[key] for key in SAID} == SAID, (name, array)
        for array in (out / "0/link_attributes/weight/0").glob("*/zarr.json"):
            found = noted(out, array.parent.relative_to(out))
            assert {key: found[key] for key in SAID} == SAID, (name, array)
        rgb = noted(out, "0/vertex_attributes/rgb")
        assert rgb["channel_names"] == ["red", "green", "blue"]
        assert rgb["zarr_vectors_lazy"]["aggregate"] == "mean"
        assert new.headers == {"swc": {"SCALE": 1}, "trk": {"version": 2}}
        root = zarr.open_group(out, mode="r")
        np.testing.assert_array_equal(root["headers/trk/calibration"][:], CALIBRATION)
        assert root["headers/trk/calibration"].attrs["unit"] == "mm"
        assert root["headers/trk/sparse"][:].tolist() == [-1, -1, -1, -1, -1, 7, -1, -1, -1]
        assert list(new[0].objects.groups.names) == list(old[0].objects.groups.names)
        assert new[0].objects.groups.attributes["size"].values.tolist()[:2] == [3.5, 0]
        assert zvl.validate(out).ok, name


def test_a_copy_of_a_copy_says_the_same(source, tmp_path):
    one, two = tmp_path / "a" / "x", tmp_path / "b" / "x"
    zvl.rechunk(source, one, chunk_shape=30)
    zvl.rechunk(one, two, chunk_shape=30)
    names = sorted(path.relative_to(one) for path in one.rglob("zarr.json"))
    assert names == sorted(path.relative_to(two) for path in two.rglob("zarr.json"))
    for name in names:
        assert json.loads((one / name).read_text()) == json.loads((two / name).read_text()), name


def test_what_is_not_carried_is_named(source, tmp_path):
    zvl.build_pyramid(source, factors=[2])
    root = zarr.open_group(source, mode="r+")
    root.create_group("parametric")
    root.create_group("0/segmentation")
    note(source, "", zarr_vectors={"required_capabilities": ["additive_levels"], "format_capabilities": ["whatever"]})
    if "fragment_attributes" in list(root["0"]):
        root["0"].create_group("fragment_attributes/mine")
    left = ["0/fragment_attributes/mine", "0/segmentation", "1", "parametric"]
    done = zvl.rechunk(source, tmp_path / "new", chunk_shape=30)
    assert (done["left_out"], done["levels_left_out"]) == (left, [1])
    assert zvl.open_zv(source)[0].sel(x=(-100, 20)).save(tmp_path / "part")["left_out"] == left
    made = zvl.rechunk(source, tmp_path / "whole", chunk_shape=40, pyramid=True)
    assert made["left_out"] == [name for name in left if name != "1"]
    assert "required_capabilities" not in zvl.open_zv(tmp_path / "new").attrs["zarr_vectors"]


def test_what_is_no_json_of_the_standard_is_carried_as_zarr_writes_it(tmp_path):
    points(tmp_path / "source.zv")
    root = zarr.open_group(tmp_path / "source.zv", mode="r+")
    root.create_group("headers").create_group("trk", attributes={"noise": float("nan")})
    note(tmp_path / "source.zv", "", user_metadata={"far": float("inf")}, zarr_vectors={"crs": {"x": float("nan")}})
    note(tmp_path / "source.zv", "0/vertex_attributes/fa", noise=float("nan"))
    zvl.rechunk(tmp_path / "source.zv", tmp_path / "new", chunk_shape=30)
    new = zvl.open_zv(tmp_path / "new")
    found = [new.headers["trk"]["noise"], new.crs["x"], noted(tmp_path / "new", "0/vertex_attributes/fa")["noise"]]
    assert np.isnan(found).all()
    assert new.attrs["user_metadata"] == {"far": float("inf")}


@pytest.mark.parametrize("wrong", [{"shape": "wide"}, {"chunk_grid": {}}, {"shape": [10**9, 10**9]}])
def test_arrays_of_headers_that_are_none_are_refused(tmp_path, wrong):
    points(tmp_path / "source.zv")
    root = zarr.open_group(tmp_path / "source.zv", mode="r+")
    root.create_group("headers").create_array("trk", data=CALIBRATION, chunks=(3, 4))
    file = tmp_path / "source.zv" / "headers" / "trk" / "zarr.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | wrong))
    with pytest.raises(zvl.errors.FormatError, match=r"an array of headers has .*headers/trk"):
        zvl.rechunk(tmp_path / "source.zv", tmp_path / "new", chunk_shape=30)


def test_vertices_that_no_path_goes_through_are_named(tmp_path):
    lines(tmp_path / "source.zv")
    note(
        tmp_path / "source.zv", "0/object_index", num_objects=8, num_present=8
    )  # as an append leaves it that was killed
    old = zvl.open_zv(tmp_path / "source.zv")[0]
    assert zvl.rechunk(tmp_path / "source.zv", tmp_path / "new", chunk_shape=30)["left_out"] == [
        "40 vertices without an object"
    ]
    assert old.sel(objects=[0, 3]).save(tmp_path / "part")["left_out"] == []
    assert zvl.open_zv(tmp_path / "new")[0].objects.ids.tolist() == list(range(8))


def test_levels_that_are_built_keep_what_the_root_says(source):
    zvl.build_pyramid(source, factors=[2])
    store = zvl.open_zv(source)
    assert [node["name"] for node in store.attrs["ome"]["nodes"]] == ["0", "1", "elsewhere"]
    assert store.attrs["user_metadata"] == {"subject": "m1"}


def test_a_migrated_store_says_the_same(tmp_path, goldens):
    path = copy_of(goldens["cloud-0.7"], tmp_path).path
    note(path, "", user_metadata={"a": 1}, zarr_vectors={"crs": {"epsg": 1}, "coordinate_offset": [1, 2, 3.0]})
    note(path, "0/vertex_attributes/confidence", unit="1", description="how sure")
    note(path, "0", user_metadata={"level": 0})
    (path / "table").mkdir()
    (path / "table" / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group"}))
    with pytest.warns(zvl.errors.ZVWarning, match="not copied: 'table'"):
        zvl.migrate(path, tmp_path / "new")
    new = zvl.open_zv(tmp_path / "new")
    assert new.attrs["user_metadata"] == {"a": 1}
    assert new.coordinate_offset.tolist() == [1, 2, 3]
    found = noted(tmp_path / "new", "0/vertex_attributes/confidence")
    assert (found["unit"], found["description"]) == ("1", "how sure")
    assert noted(tmp_path / "new", "0")["user_metadata"] == {"level": 0}
