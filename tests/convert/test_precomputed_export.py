"""Levels as precomputed files: every byte is where a viewer looks for it."""

import json
import struct
from itertools import pairwise

import dask
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.convert.test_precomputed import as_set, edges_drawn, parsed, parsed_skeleton, read_shard, sources
from zarr_vectors_lazy.convert import precomputed as pc
from zarr_vectors_lazy.convert import precomputed_export
from zarr_vectors_lazy.errors import SelectionError, StoreError


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="sync"):
        yield


def sharding_of(document):
    return pc.Sharding(*(document["sharding"][f"{name}_bits"] for name in ("preshift", "minishard", "shard")))


def stored(folder, document, key, name):
    """What an export has under a key: in a file of that name, or in a shard."""
    if "sharding" not in document:
        path = folder / name
        return path.read_bytes() if path.exists() else None
    sharding = sharding_of(document)
    path = folder / sharding.name(int(sharding.shards(np.array([key]))[0]))
    return read_shard(path.read_bytes(), sharding, key) if path.exists() else None


def cells_in(folder):
    """Level, box and content of every cell of an export."""
    info = json.loads((folder / "info").read_text())
    lower, upper = np.array(info["lower_bound"]), np.array(info["upper_bound"])
    sizes = [np.array(level["chunk_size"]) for level in info["spatial"]]
    assert all(np.allclose(np.rint(a / b), a / b) for a, b in pairwise(sizes))
    for number, level in enumerate(info["spatial"]):
        assert np.allclose(level["grid_shape"] * sizes[number], upper - lower)
        grid = pc.Grid(level["key"], tuple(level["grid_shape"]), sizes[number], level["limit"])
        for cell in np.ndindex(*grid.shape):
            code = int(grid.morton(np.array([cell]))[0])
            found = stored(folder / grid.key, level, code, pc.cell_key(cell))
            if found is not None:
                yield info, number, lower + cell * grid.size, lower + (np.array(cell) + 1) * grid.size, found


@pytest.mark.parametrize("sharded", [False, True])
def test_points_are_spread_over_levels_that_add_up(tmp_path, sharded):
    points = np.random.default_rng(0).normal(50, 9, (20_000, 3)).clip(0, 100).astype("f4")
    values = {"depth": points[:, 2].copy(), "small": np.arange(20_000).astype("u2")}
    zvl.write_points(tmp_path / "p.zv", points, chunk_shape=20, vertex_attributes=values)
    level = zvl.open_zv(tmp_path / "p.zv")[0]
    done = level.to_precomputed(tmp_path / "out", "points", sharded=sharded, limit=400)
    assert done["count"] == 20_000
    assert done["files"] == sum(path.is_file() for path in (tmp_path / "out").rglob("*"))
    vertices, small = level.vertices.compute(), level.attributes["small"].compute()
    seen = []
    for info, number, lo, hi, cell in cells_in(tmp_path / "out"):
        positions, words, ids = parsed(info, cell)
        rows = ids.astype(int)
        assert np.array_equal(positions, vertices[rows])
        assert np.array_equal(words[:, 1].astype("u2"), small[rows])
        assert ((positions >= lo - 1e-3) & (positions <= hi + 1e-3)).all()
        assert len(ids) <= 400 + 5 * np.sqrt(400) or number == done["levels"] - 1
        seen += rows.tolist()
    assert sorted(seen) == list(range(20_000))
    info = json.loads((tmp_path / "out" / "info").read_text())
    for row in (0, 777, 19_999):
        single = stored(tmp_path / "out" / "by_id", info["by_id"], row, str(row))
        assert np.array_equal(np.frombuffer(single, "<f4", 3), vertices[row])
    assert not (tmp_path / "out" / "scratch").exists()


def test_what_waits_is_deleted_if_the_export_fails(tmp_path, monkeypatch):
    zvl.write_points(tmp_path / "p.zv", np.random.default_rng(0).random((100, 3)), chunk_shape=1)

    def fails(*_):
        assert any((tmp_path / "out" / "scratch").rglob("*/*/*"))
        raise StoreError("the disk is full")

    monkeypatch.setattr(precomputed_export, "gather_cells", fails)
    with pytest.raises(StoreError, match="the disk is full"):
        zvl.open_zv(tmp_path / "p.zv")[0].to_precomputed(tmp_path / "out", "points")
    assert not any((tmp_path / "out" / "scratch").rglob("*/*/*"))


def test_prefixes_of_cells_are_spread_over_them(tmp_path):
    points = np.sort(np.random.default_rng(0).uniform(0, 10, (3000, 3)), axis=0)
    zvl.write_points(tmp_path / "p.zv", points, chunk_shape=5)
    zvl.open_zv(tmp_path / "p.zv")[0].to_precomputed(tmp_path / "out", "points")
    ((info, *_, cell),) = cells_in(tmp_path / "out")
    positions, _, _ = parsed(info, cell)
    ranks = np.argsort(np.argsort(positions[:, 0]))
    assert abs(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1]) < 0.1


@pytest.mark.parametrize("sharded", [False, True])
def test_paths_are_whole_in_every_cell_that_they_cross(tracts, tmp_path, sharded):
    level = zvl.open_zv(tracts)[0]
    done = level.to_precomputed(tmp_path / "out", "lines", sharded=sharded, limit=20)
    assert done["count"] == len(level.objects)
    paths = {number: level.objects[number].compute().astype("f4") for number in level.objects.ids.tolist()}
    found = {}
    for info, number, lo, hi, cell in cells_in(tmp_path / "out"):
        shapes, _, ids = parsed(info, cell)
        for shape, one in zip(shapes, ids.tolist(), strict=True):
            assert np.array_equal(shape, paths[one])
            assert ((shape >= lo - 1e-3) & (shape <= hi + 1e-3)).all(axis=1).any()
            found.setdefault(one, set()).add(number)
    assert found.keys() == paths.keys()
    assert all(len(levels) == 1 for levels in found.values())
    info = json.loads((tmp_path / "out" / "info").read_text())
    alone = stored(tmp_path / "out" / "by_id", info["by_id"], 5, "5")
    assert alone[4 : 4 + paths[5].nbytes] == paths[5].tobytes()
    assert alone[-12:] == struct.pack("<IQ", 1, 5)
    of_object = stored(tmp_path / "out" / "object", info["relationships"][0], 5, "5")
    assert parsed(info, of_object)[2].tolist() == [5]


def test_edges_are_lines_each_once(neuron, tmp_path):
    level = zvl.open_zv(neuron)[0]
    level.to_precomputed(tmp_path / "out", "lines", limit=2000)
    drawn = [
        edges_drawn(np.reshape(parsed(info, cell)[0], (-1, 2, 3))) for info, *_, cell in cells_in(tmp_path / "out")
    ]
    vertices = level.vertices.compute().astype("f4")
    assert as_set(np.concatenate(drawn)) == as_set(vertices[level.edges.compute()].reshape(-1, 6))


@pytest.mark.parametrize("sharded", [False, True])
def test_skeletons_are_those_that_are_served(tracts, tmp_path, sharded):
    level = zvl.open_zv(tracts)[0]
    done = level.to_precomputed(tmp_path / "out", "skeletons", sharded=sharded)
    info = json.loads((tmp_path / "out" / "info").read_text())
    served = sources(level)
    for number in level.objects.ids.tolist():
        data = stored(tmp_path / "out", info, number, str(number))
        assert data == served.get(f"skeletons/{number}")
        parsed_skeleton(info, data)
    assert (tmp_path / "out" / "props" / "info").read_bytes() == served.get("skeletons/props/info")
    assert done["files"] == (3 if sharded else 112)


def test_ids_far_apart_share_shards(tmp_path):
    ids = [3, 10**6, 10**12, 10**12 + 1]
    paths = [np.array([[1.0, 2, 3], [4, 5, 6 + i]]) for i in range(4)]
    zvl.write_polylines(tmp_path / "l.zv", paths, chunk_shape=10, object_ids=ids)
    level = zvl.open_zv(tmp_path / "l.zv")[0]
    done = level.to_precomputed(tmp_path / "out", "skeletons", sharded=True)
    info = json.loads((tmp_path / "out" / "info").read_text())
    assert done["files"] == 3
    for number in ids:
        assert stored(tmp_path / "out", info, number, "") == sources(level).get(f"skeletons/{number}")


def test_meshes_are_those_that_are_served(surface, tmp_path):
    level = zvl.open_zv(surface)[0]
    done = level.to_precomputed(tmp_path / "out", "mesh")
    number = sources(level).segments[1].tolist()[0]
    (fragment,) = json.loads((tmp_path / "out" / f"{number}:0").read_text())["fragments"]
    assert (tmp_path / "out" / fragment).read_bytes() == sources(level).get(f"mesh/{number}:0:0")
    assert done["count"] == 1
    with pytest.raises(SelectionError, match="meshes cannot be sharded"):
        level.to_precomputed(tmp_path / "other", "mesh", sharded=True)


def test_what_is_there_is_replaced_whole_or_not_at_all(tracts, tmp_path):
    level = zvl.open_zv(tracts)[0]
    with pytest.raises(SelectionError, match="level 0 has no mesh: it has lines, skeletons, points"):
        level.to_precomputed(tmp_path / "out", "mesh")
    level.to_precomputed(tmp_path / "out", "skeletons", sharded=True)
    with pytest.raises(SelectionError, match="already has an info"):
        level.to_precomputed(tmp_path / "out", "skeletons")
    level.sel(objects=[3, 5]).to_precomputed(tmp_path / "out", "skeletons", overwrite=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["3", "5", "info", "props"]
    (tmp_path / "out" / "info").write_text("my notes")
    with pytest.raises(SelectionError, match="is not such an export"):
        level.to_precomputed(tmp_path / "out", "skeletons", overwrite=True)
    with pytest.raises(SelectionError, match="limit must be"):
        level.to_precomputed(tmp_path / "other", "lines", limit=0)


def test_it_is_the_same_on_every_scheduler(cloud, tmp_path):
    level = zvl.open_zv(cloud)[0]
    level.to_precomputed(tmp_path / "a", "points", limit=300)
    with dask.config.set(scheduler="threads"):
        level.to_precomputed(tmp_path / "b", "points", limit=300)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


@pytest.mark.parametrize("kind", ["skeletons", "mesh"])
def test_many_objects_at_once_are_each_as_alone(tmp_path, kind):
    rng = np.random.default_rng(5)
    ids = np.repeat([9, 2, 70], 12)
    vertices, depth = rng.uniform(0, 40, (36, 3)), {"depth": np.arange(36, dtype="f4")}
    rows = np.arange(36).reshape(3, 12)
    if kind == "mesh":
        faces = np.concatenate([np.stack([row[:-2], row[1:-1], row[2:]], 1) for row in rows])
        zvl.write_mesh(tmp_path / "s.zv", vertices, faces, chunk_shape=10, object_ids=ids)
    else:
        edges = np.concatenate([np.stack([row[1:], row[:-1]], 1) for row in rows])
        zvl.write_graph(
            *(tmp_path / "s.zv", vertices, edges),
            chunk_shape=10,
            object_ids=ids,
            kind="skeleton",
            vertex_attributes=depth,
        )
    level = zvl.open_zv(tmp_path / "s.zv")[0]
    level.to_precomputed(tmp_path / "out", kind)
    for number in (9, 2, 70):
        key = f"{number}:0:0" if kind == "mesh" else f"{number}"
        assert (tmp_path / "out" / key).read_bytes() == sources(level).get(f"{kind}/{key}")


@pytest.mark.parametrize("kind", ["points", "lines", "skeletons"])
def test_nothing_is_exported_as_nothing(tracts, tmp_path, kind):
    nothing = zvl.open_zv(tracts)[0].sel(bbox=([0, 0, 0], [1, 1, 1]))
    done = nothing.to_precomputed(tmp_path / "out", kind, sharded=True)
    assert done["count"] == 0
    assert json.loads((tmp_path / "out" / "info").read_text())["@type"].startswith("neuroglancer_")
    assert sources(nothing).get(f"{kind}/info")
