"""Bytes of Neuroglancer's precomputed formats, checked against the specification and the reader, without a viewer."""

import json
import re
import struct

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.integration.test_additive import WRITE, stacked
from tests.integration.test_additive import cloud as cloud_of
from zarr_vectors_lazy.convert import precomputed as pc
from zarr_vectors_lazy.convert.precomputed_level import PrecomputedLevel
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.read import direct
from zarr_vectors_lazy.testing import counting
from zarr_vectors_lazy.web.neuroglancer import shown_level, viewer_state

SIZES = {"uint8": 1, "int8": 1, "uint16": 2, "int16": 2}


def sources(level):
    return PrecomputedLevel(level._view)


def document(level, path):
    return json.loads(level.get(path))


def record_words(info):
    """Words of the properties of a record, by the rule: each of its size, the whole padded to four bytes."""
    return -(-sum(SIZES.get(each["type"], 4) for each in info["properties"]) // 4)


def parsed(info, cell):
    """Geometry, property words and ids of a cell, read as a viewer does."""
    rank, words = len(info["dimensions"]), record_words(info)
    (count,) = struct.unpack_from("<Q", cell)
    body = np.frombuffer(cell, "<u4", (len(cell) - 8 * count - 8) // 4, 8)
    ids = np.frombuffer(cell, "<u8", count, len(cell) - 8 * count) if count else np.empty(0, "<u8")
    if info["annotation_type"] != "polyline":
        size = rank * (1 if info["annotation_type"] == "point" else 2)
        assert len(cell) == 8 + count * (4 * (size + words) + 8)
        rows = body.reshape(count, size + words)
        return rows[:, :size].copy().view("<f4"), rows[:, size:], ids
    shapes, properties, at = [], [], 0
    for _ in range(count):
        points = int(body[at])
        shapes.append(body[at + 1 : at + 1 + points * rank].view("<f4").reshape(points, rank))
        properties.append(body[at + 1 + points * rank : at + 1 + points * rank + words])
        at += 1 + points * rank + words
    assert len(cell) == 8 + 4 * at + 8 * count
    return shapes, np.array(properties), ids


def cells_of(level, kind):
    """Every cell of every level of the spatial index that has something, with its box."""
    info = document(level, f"{kind}/info")
    known = level.sizes is not None
    lower, upper = np.array(info["lower_bound"]), np.array(info["upper_bound"])
    for grid in info["spatial"]:
        size, shape = np.array(grid["chunk_size"]), np.array(grid["grid_shape"])
        assert np.allclose(shape * size, upper - lower)
        for cell in np.ndindex(*shape):
            found = parsed(info, level.get(f"{kind}/{grid['key']}/{'_'.join(map(str, cell))}"))
            assert len(found[2]) <= grid["limit"] or kind == "lines" or not known
            yield info, lower + cell * size, lower + (np.array(cell) + 1) * size, found


def test_names_of_properties_are_such_as_shaders_take():
    names = pc.property_ids(["FA", "fA", "mean-fa", "2nd", "_x", "tangent", "vec3", "é", ""])
    assert all(re.fullmatch("[a-z][a-zA-Z0-9_]*", name) for name in names)
    assert len(set(names)) == len(names)
    assert names[:4] == ["fA", "fA_2", "mean_fa", "p_2nd"]
    assert {"tangent", "vec3"}.isdisjoint(names)


def test_records_of_every_size_are_padded_to_four_bytes():
    order = [pc.Property(name, np.dtype(name)) for name in ("uint8", "float32", "int16", "int8", "uint32")]
    packed = pc.packing_order(order)
    assert [each.dtype.itemsize for each in packed] == [4, 4, 2, 1, 1]
    words = pc.pack_properties([np.array([3, 4], each.dtype) for each in packed], 2)
    assert words.shape == (2, 3)
    assert words.tobytes()[:12] == struct.pack("<fIhBb", 3, 3, 3, 3, 3)
    assert pc.pack_properties([np.array([1], "u1")], 1).tobytes() == b"\1\0\0\0"


def test_a_polyline_is_its_length_its_points_its_properties():
    points = np.arange(15.0).reshape(5, 3)
    found = pc.encode_polylines(points, np.array([2, 3]), np.array([7, 9]), [np.array([1, 2], "<u2")])
    expected = struct.pack("<I6fHxx", 2, *range(6), 1) + struct.pack("<I9fHxx", 3, *range(6, 15), 2)
    assert found.cell() == struct.pack("<Q", 2) + expected + struct.pack("<2Q", 7, 9)
    assert found.take(np.array([1])).singles(related=True)[0] == expected[32:] + struct.pack("<IQ", 1, 9)
    data, sizes = found.singles(related=False)
    assert (data, sizes.tolist()) == (expected, [32, 44])
    one, other = (found.take(np.array([row])).cell() for row in (0, 1))
    assert found.cells()[0] == one + other
    assert found.take(np.array([1])).words.tobytes() == expected[32:]


def test_cells_of_points_hold_every_vertex_once(cloud):
    level = zvl.open_zv(cloud)[0]
    found = sources(level)
    vertices, ids = [], []
    for _, lo, hi, (positions, _, numbers) in cells_of(found, "points"):
        assert ((positions >= lo.astype("f4")) & (positions <= hi.astype("f4"))).all()
        vertices.append(positions)
        ids.append(numbers)
    ids, stored = np.concatenate(ids), level.vertices.compute().astype("f4")
    assert sorted(ids.tolist()) == list(range(level.vertex_count))
    assert np.array_equal(np.concatenate(vertices), stored[ids.astype(int)])
    single = found.get(f"points/by_id/{ids[5]}")
    assert np.array_equal(np.frombuffer(single, "<f4", 3), stored[int(ids[5])])


def test_a_prefix_of_a_cell_is_spread_over_it(tmp_path):
    points = np.sort(np.random.default_rng(0).uniform(0, 10, (3000, 3)), axis=0)
    zvl.write_points(tmp_path / "p.zv", points, chunk_shape=10)
    level = sources(zvl.open_zv(tmp_path / "p.zv")[0])
    positions, _, _ = parsed(document(level, "points/info"), level.get("points/cells/0_0_0"))
    ranks = np.argsort(np.argsort(positions[:, 0]))
    assert abs(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1]) < 0.1


def test_attributes_become_properties(tmp_path):
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 20, (500, 3))
    attributes = {
        "Depth": np.arange(500, dtype="i8"),
        "flag": rng.integers(0, 2, 500).astype(bool),
        "kind": np.array(["axon", "dendrite"])[rng.integers(0, 2, 500)],
        "normal": rng.normal(size=(500, 2)).astype("f4"),
    }
    zvl.write_points(tmp_path / "p.zv", points, chunk_shape=10, vertex_attributes=attributes)
    level = zvl.open_zv(tmp_path / "p.zv")[0]
    found = sources(level)
    info = document(found, "points/info")
    types = {each["id"]: each["type"] for each in info["properties"]}
    assert types == {"depth": "float32", "normal_0": "float32", "normal_1": "float32", "flag": "uint8", "kind": "uint8"}
    kind = next(each for each in info["properties"] if each["id"] == "kind")
    assert kind["enum_labels"] == ["axon", "dendrite", "(none)"]
    stored = {name: values.compute() for name, values in level.attributes.items()}
    for _, _, _, (_, words, ids) in cells_of(found, "points"):
        rows = ids.astype(int)
        assert np.array_equal(words[:, 0].copy().view("<f4"), stored["Depth"][rows])
        assert np.array_equal(words[:, 1:3].copy().view("<f4"), stored["normal"][rows])
        small = words[:, 3:].copy().view("u1")
        assert np.array_equal(small[:, 0], stored["flag"][rows])
        assert np.array_equal(np.array(kind["enum_labels"])[small[:, 1]], stored["kind"][rows])
        assert not small[:, 2:].any()


def edges_drawn(shapes):
    ends = [np.stack([shape[:-1], shape[1:]], axis=1).reshape(-1, 6) for shape in shapes]
    return np.concatenate([np.empty((0, 6), "f4"), *ends])


def as_set(ends):
    return sorted(map(tuple, np.sort(ends.reshape(-1, 2, 3), axis=1).round(4).reshape(-1, 6).tolist()))


def test_cells_without_rows_are_empty_whatever_attributes_there_are(tmp_path):
    ends = np.array([[1, 1, 1], [25, 1, 1]], "f4")
    missing = np.ma.masked_array([1, 2], [False, True])
    given = {"text": ["a", "b"], "yes": [True, False], "some": missing, "row": np.eye(2, dtype="f4")}
    zvl.write_points(tmp_path / "s", ends, chunk_shape=10.0, vertex_attributes=given)
    level = sources(zvl.open_zv(tmp_path / "s")[0])
    info = document(level, "points/info")
    assert len(info["properties"]) == 5
    assert [len(parsed(info, level.get(f"points/cells/{i}_0_0"))[2]) for i in range(3)] == [1, 0, 1]


@pytest.mark.parametrize("name", ["tracts-0.9", "neuron-0.9", "tracts-0.7", "neuron-0.7"])
def test_lines_are_all_edges_each_once(goldens, name):
    for level in zvl.open_zv(goldens[name].path):
        drawn = []
        for info, _, _, (shapes, _, _) in cells_of(sources(level), "lines"):
            drawn += [edges_drawn(shapes)] if info["annotation_type"] == "polyline" else [np.reshape(shapes, (-1, 6))]
        vertices, edges = level.vertices.compute().astype("f4"), level.edges.compute()
        assert as_set(np.concatenate(drawn)) == as_set(vertices[edges].reshape(-1, 6))


def test_a_line_by_its_id_is_the_whole_object(tracts):
    level = zvl.open_zv(tracts)[0]
    found = sources(level)
    path = level.objects[5].compute().astype("f4")
    alone = found.get("lines/by_id/5")
    assert alone[: 4 + path.nbytes] == struct.pack("<I", len(path)) + path.tobytes()
    assert alone[-12:] == struct.pack("<IQ", 1, 5)
    shapes, _, ids = parsed(document(found, "lines/info"), found.get("lines/object/5"))
    assert ids.tolist() == [5]
    assert np.array_equal(shapes[0], path)


def parsed_skeleton(info, data):
    vertices, edges = np.frombuffer(data, "<u4", 2).tolist()
    sizes = [4 * each["num_components"] for each in info["vertex_attributes"]]
    assert {each["data_type"] for each in info["vertex_attributes"]} <= {"float32"}
    assert len(data) == 8 + 12 * vertices + 8 * edges + vertices * sum(sizes)
    positions = np.frombuffer(data, "<f4", 3 * vertices, 8).reshape(-1, 3)
    joined = np.frombuffer(data, "<u4", 2 * edges, 8 + 12 * vertices).reshape(-1, 2)
    assert not edges or joined.max() < vertices
    return positions, joined, np.frombuffer(data, "<f4", offset=8 + 12 * vertices + 8 * edges)


def test_skeletons_of_streamlines_are_their_paths(tracts):
    level = zvl.open_zv(tracts)[0]
    found = sources(level)
    info = document(found, "skeletons/info")
    for number in level.objects.ids[:5].tolist():
        positions, edges, values = parsed_skeleton(info, found.get(f"skeletons/{number}"))
        path = level.objects[number].compute()
        assert np.array_equal(positions, path.astype("f4"))
        assert np.array_equal(edges, np.stack([np.arange(len(path) - 1), np.arange(1, len(path))], axis=1))
        arc = level.objects.attributes_of(number)["arc_length"].compute()
        assert np.array_equal(values[: len(path)], arc.astype("f4"))
    assert found.get("skeletons/123456") is None
    assert found.get("skeletons/05") is None


def test_skeletons_and_meshes_are_those_of_the_reader(neuron, surface):
    level = zvl.open_zv(neuron)[0]
    found = sources(level)
    number = level.objects.ids.tolist()[0]
    positions, edges, _ = parsed_skeleton(document(found, "skeletons/info"), found.get(f"skeletons/{number}"))
    skeleton = level.skeletons[number]
    assert np.array_equal(positions, skeleton.vertices.compute().astype("f4"))
    assert np.array_equal(edges, skeleton.edges.compute())
    level = zvl.open_zv(surface)[0]
    found = sources(level)
    number = found.segments[1].tolist()[0]
    (fragment,) = document(found, f"mesh/{number}:0")["fragments"]
    data = found.get(f"mesh/{fragment}")
    (vertices,) = np.frombuffer(data, "<u4", 1).tolist()
    assert (len(data) - 4 - 12 * vertices) % 12 == 0
    faces = np.frombuffer(data, "<u4", offset=4 + 12 * vertices).reshape(-1, 3)
    assert vertices == level.vertex_count
    assert np.array_equal(faces, level.faces.compute())


AFFINES = {
    "straight": [[-2, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]],
    "oblique": [[1.5, -0.5, 0, 9], [0.5, 1.5, 0.2, -12], [0, -0.2, 2, 7], [0, 0, 0, 1]],
}


@pytest.mark.parametrize("affine", AFFINES)
def test_all_is_in_world_coordinates_and_units(tmp_path, affine):
    points = np.random.default_rng(2).uniform(0, 60, (800, 3))
    crs = {"input_space": "voxmm", "affine": AFFINES[affine]}
    zvl.write_points(tmp_path / "p.zv", points, chunk_shape=20, axes=("z", "y", "x"), crs=crs)
    store = zvl.open_zv(tmp_path / "p.zv")
    level = sources(store[0])
    world, seen = store.to_world(store[0].vertices).compute().astype("f4"), []
    for info, lo, hi, (positions, _, ids) in cells_of(level, "points"):
        assert info["dimensions"] == {"x": [0.001, "m"], "y": [0.001, "m"], "z": [0.001, "m"]}
        if len(ids):
            assert (positions >= lo - 1e-4).all()
            assert (positions <= hi + 1e-4).all()
            assert np.array_equal(positions, world[ids.astype(int)])
            seen += ids.tolist()
    assert sorted(seen) == list(range(800))
    state = viewer_state(level, "http://here")
    assert np.allclose(state["position"], (np.array(level.seen[0]) + level.seen[1]) / 2)
    near = sources(store[0].sel(x=slice(0, 6), z=slice(2, 9)))  # in chunks of 20
    lo, hi = store.bounds
    corners = zvl.open_zv(tmp_path / "p.zv").to_world(np.stack([[2, lo[1], lo[2]], [9, hi[1], 6]]))
    if affine == "straight":
        assert np.allclose(np.sort(near.seen, axis=0), np.sort(corners, axis=0))


@pytest.mark.parametrize(
    ("unit", "metres"), [("mm", 1e-3), ("um", 1e-6), ("nm", 1e-9), ("micrometer", 1e-6), (None, 1e-9)]
)
def test_units_are_nanometres_for_segments(tmp_path, unit, metres):
    paths = [np.array([[1.0, 2, 3], [4, 5, 6]])]
    zvl.write_polylines(tmp_path / "l.zv", paths, chunk_shape=10, units=unit and [unit] * 3, geometry_type="streamline")
    level = sources(zvl.open_zv(tmp_path / "l.zv")[0])
    assert level.unitless == (unit is None)
    assert np.allclose(document(level, "skeletons/info")["transform"][::5], metres * 1e9, rtol=1e-12)
    assert document(level, "lines/info")["dimensions"]["y"] == [metres, "m"]


def test_segments_are_ids_with_attributes_and_groups(tmp_path):
    paths = [np.random.default_rng(i).uniform(0, 30, (4, 3)) for i in range(3)]
    zvl.write_polylines(
        tmp_path / "l.zv",
        paths,
        chunk_shape=10,
        object_ids=[40, 10**11, 7],
        object_attributes={"length": np.array([1.5, np.nan, 2.5]), "big": np.array([1, 2**40 + 1, 3])},
        groups={"left side": [40, 7]},
    )
    level = sources(zvl.open_zv(tmp_path / "l.zv")[0])
    inline = document(level, "skeletons/props/info")["inline"]
    assert sorted(inline["ids"], key=int) == ["7", "40", str(10**11)]
    columns = {each["id"]: each for each in inline["properties"]}
    at = [inline["ids"].index(str(each)) for each in (40, 10**11, 7)]
    assert [columns["big"]["values"][i] for i in at] == ["1", str(2**40 + 1), "3"]
    assert [columns["length"]["values"][i] for i in at] == ["1.5", "", "2.5"]
    assert columns["groups"]["tags"] == ["left_side"]
    assert [columns["groups"]["values"][i] for i in at] == [[0], [], [0]]
    assert {int(number) for _, _, _, (_, _, ids) in cells_of(level, "lines") for number in ids} == {7, 40, 10**11}


def test_negative_ids_are_refused(tmp_path):
    paths = [np.array([[1.0, 2, 3], [4, 5, 6]])]
    zvl.write_polylines(tmp_path / "l.zv", paths, chunk_shape=10, object_ids=[-4])
    with pytest.raises(FormatError, match="object -4 cannot be shown"):
        sources(zvl.open_zv(tmp_path / "l.zv")[0]).get("skeletons/1")


def test_a_selection_shows_what_it_selects(tracts, cloud):
    level = zvl.open_zv(cloud)[0]
    lo, hi = level.bounds
    part = level.sel(bbox=(lo, (lo + hi) / 2))
    drawn = np.concatenate([np.reshape(p, (-1, 3)) for _, _, _, (p, _, _) in cells_of(sources(part), "points")])
    assert sorted(map(tuple, drawn)) == sorted(map(tuple, part.vertices.compute().astype("f4")))
    level = zvl.open_zv(tracts)[0]
    part = level.sel(bbox=([84, 100, 78], [92, 112, 88]))
    drawn = np.concatenate([np.reshape(p, (-1, 6)) for _, _, _, (p, _, _) in cells_of(sources(part), "lines")])
    assert as_set(drawn) == as_set(part.vertices.compute().astype("f4")[part.edges.compute()].reshape(-1, 6))
    chosen = sources(level.sel(objects=[3, 5]))
    assert {int(i) for _, _, _, (_, _, ids) in cells_of(chosen, "lines") for i in ids} == {3, 5}
    assert chosen.get("skeletons/4") is None


def test_keys_that_are_none_have_nothing(cloud):
    level = sources(zvl.open_zv(cloud)[0])
    shape = document(level, "points/info")["spatial"][0]["grid_shape"]
    for key in ("", "points", "points/", "points/cells/0_0", "points/cells/0_0_x", "points/by_id/-1", "lines/info"):
        assert level.get(key) is None
    assert level.get(f"points/cells/{shape[0]}_0_0") is None
    assert level.get("points/by_id/99999999") is None


def test_the_level_that_is_shown_first_is_light(cloud, monkeypatch):
    monkeypatch.setattr("zarr_vectors_lazy.web.neuroglancer.MOST_VERTICES", 1000)
    levels = {level.index: sources(level) for level in zvl.open_zv(cloud)}
    assert shown_level(levels).index == 1
    assert shown_level({}) is None


def read_shard(shard, sharding, key):
    """What a shard stores of a key; None where that is nothing."""
    mini = (key >> sharding.preshift) & ((1 << sharding.minishard_bits) - 1)
    base = 16 << sharding.minishard_bits
    start, stop = np.frombuffer(shard, "<u8", 2, 16 * mini).tolist()
    index = np.frombuffer(shard[base + start : base + stop], "<u8").reshape(3, -1).astype(np.int64)
    found = np.flatnonzero(np.cumsum(index[0]) == key)
    if not len(found):
        return None
    at = int(found[0])
    first = base + int(index[1, : at + 1].sum() + index[2, :at].sum())
    return shard[first : first + int(index[2, at])]


@pytest.mark.parametrize("largest", [1, 500, 40_000, 2**40])
def test_shards_give_back_what_was_put_in(largest):
    rng = np.random.default_rng(3)
    keys = np.unique(rng.integers(0, largest + 1, 300))
    sharding = pc.Sharding.of(largest, len(keys), 8, 4)
    info = sharding.info()
    assert info["preshift_bits"] + info["minishard_bits"] + info["shard_bits"] >= int(largest).bit_length()
    for shard in np.unique(sharding.shards(keys)).tolist():
        mine = keys[sharding.shards(keys) == shard]
        values = [b"x" * int(key % 7) + str(key).encode() for key in mine]
        packed = sharding.encode(mine, b"".join(values), np.array(list(map(len, values))))
        assert [read_shard(packed, sharding, int(key)) for key in mine] == values
        assert re.fullmatch("[0-9a-f]+[.]shard", sharding.name(shard))
        assert read_shard(packed, sharding, int(mine[0]) ^ 1) in (None, *values)


def test_each_level_of_the_additive_rule_fills_its_fullest_cell():
    rng = np.random.default_rng(4)
    x = rng.exponential(1.0, 100_000).clip(0, 15.99)
    counts = [np.bincount((x / 16 * n).astype(int), minlength=n) for n in (1, 4, 16, 64, 256)]
    ends = pc.thresholds(counts, 500)
    level = np.searchsorted(ends, pc.uniform(np.arange(len(x))), "right")
    for number, n in enumerate((1, 4, 16, 64)):
        most = np.bincount((x[level == number] / 16 * n).astype(int), minlength=n).max()
        assert abs(most - 500) < 5 * np.sqrt(500)
    assert ends[-1] == 1
    assert level.max() == 4


def keeps_nothing(monkeypatch):
    monkeypatch.setattr(direct.ChunkReader, "_keep", lambda _reader, _wanted, found: found)


def test_a_key_costs_the_cells_that_it_needs(tmp_path, monkeypatch):
    keeps_nothing(monkeypatch)
    points = np.random.default_rng(0).uniform(0, 40, (4000, 3))
    depth = {"depth": points[:, 2].copy()}
    zvl.write_points(tmp_path / "p.zv", points, chunk_shape=10, vertex_attributes=depth)
    level = sources(zvl.open_zv(tmp_path / "p.zv")[0])
    level.get("points/info")
    with counting() as counts:
        level.get("points/cells/1_1_1")
    assert counts.requests == 2  # positions and an attribute
    path = np.stack([np.linspace(1, 39, 100), np.full(100, 5.0), np.full(100, 5.0)], axis=1)
    zvl.write_polylines(tmp_path / "l.zv", [path] * 3, chunk_shape=10, geometry_type="streamline")
    level = sources(zvl.open_zv(tmp_path / "l.zv")[0])
    level.get("lines/info"), level.get("skeletons/info"), level.get("skeletons/0")
    for key, requests in (
        ("skeletons/1", 8),
        ("lines/cells/0_0_0", 4),
        ("lines/cells/1_0_0", 4),
        ("lines/cells/0_0_0", 2),
    ):
        with counting() as counts:
            assert level.get(key)
        assert counts.requests == requests  # of each chunk positions and fragments; of the next one once


def test_a_key_of_linked_rows_costs_the_chunks_that_it_reaches(tmp_path, monkeypatch):
    """Of each chunk positions, of objects and trees fragments, and the links between those chunks; nothing else."""
    keeps_nothing(monkeypatch)
    row = np.stack([np.linspace(1, 39, 40), np.full(40, 5.0), np.full(40, 5.0)], axis=1)
    vertices, along = np.concatenate([row, row + np.array([0, 20, 0])]), np.arange(39)
    steps = np.concatenate([np.stack([along, along + 1], axis=1) + start for start in (0, 40)])
    rows = {"object_ids": np.repeat([1, 2], 40), "chunk_shape": 10}
    zvl.write_graph(tmp_path / "graph.zv", vertices, steps, **rows)
    zvl.write_graph(tmp_path / "trees.zv", vertices, steps[:, ::-1], kind="skeleton", **rows)
    faces = np.stack([along, along + 1, along + 40], axis=1)
    zvl.write_mesh(tmp_path / "mesh.zv", vertices[:, :3], faces, chunk_shape=40, object_ids=np.full(80, 7))
    for name, keys in {
        "graph": {"lines/cells/1_0_0": 3 + 3, "skeletons/1": 8 + 7},
        "trees": {"lines/cells/1_0_0": 3 + 1 + 2, "skeletons/1": 8 + 3},
        "mesh": {"mesh/7:0:0": 2 + 1},
    }.items():
        level = sources(zvl.open_zv(tmp_path / f"{name}.zv")[0])
        for key, requests in keys.items():
            level.get(f"{key.partition('/')[0]}/info"), level.get(key)
            with counting() as counts:
                assert level.get(key)
            assert counts.requests == requests, (name, key)
    monkeypatch.undo()
    for name, requests in (("graph", [3 + 3, 1 + 2, 0]), ("trees", [3 + 1 + 2, 1 + 1 + 1, 0])):  # neighbours are kept
        level = sources(zvl.open_zv(tmp_path / f"{name}.zv")[0])
        level.get("lines/cells/0_2_0")
        for cell, expected in zip((1, 2, 1), requests, strict=True):
            with counting() as counts:
                assert level.get(f"lines/cells/{cell}_0_0")
            assert counts.requests == expected, (name, cell)


def test_objects_together_are_the_same_as_each_alone(variety):
    for name in ("skeleton", "graph-sparse-ids", "mesh-objects", "mesh-objects-0.7"):
        level = zvl.open_zv(variety(name))[0]
        found = sources(level)
        rows, _ = found.segments
        for joins in ("edges", "faces"):
            together = found._objects(rows, joins, found.attributes)
            for row, (vertices, values, joined) in zip(rows.tolist(), together, strict=True):
                part = level.sel(objects=[int(level.objects.ids[row])])
                assert np.array_equal(vertices, part.vertices.compute())
                assert joined.tolist() == getattr(part, joins).compute().tolist()
                assert all(len(each) == len(vertices) for each in values)


@pytest.mark.parametrize(
    "codec", [{"compressor": None, "checksum": False}, {"compressor": "blosc"}, {"shard_shape": 4}]
)
def test_every_codec_gives_the_same_bytes(tmp_path, codec):
    paths = [np.random.default_rng(i).uniform(0, 40, (20, 3)) for i in range(9)]
    zvl.write_polylines(tmp_path / "a.zv", paths, chunk_shape=10, geometry_type="streamline")
    zvl.write_polylines(tmp_path / "b.zv", paths, chunk_shape=10, geometry_type="streamline", **codec)
    one, other = (sources(zvl.open_zv(tmp_path / name)[0]) for name in ("a.zv", "b.zv"))
    keys = [f"{kind}/cells/{i}_{j}_{k}" for kind in ("points", "lines") for i, j, k in np.ndindex(4, 4, 4)]
    for key in [*keys, "skeletons/3", "points/info", "lines/info", "skeletons/props/info", "lines/by_id/7"]:
        assert one.get(key) == other.get(key)


def test_levels_that_refine_others_are_levels_of_the_index(tmp_path):
    rng = np.random.default_rng(7)
    parts = [cloud_of(rng, n) for n in (400, 60)]
    for number, points in enumerate(parts):
        zvl.write_points(tmp_path / f"{number}.zv", points, **WRITE)
    level = zvl.open_zv(stacked(tmp_path, [tmp_path / "0.zv", tmp_path / "1.zv"]))[0]
    found = sources(level)
    assert [grid["key"] for grid in document(found, "points/info")["spatial"]] == ["cells1", "cells0"]
    drawn = [positions for _, _, _, (positions, _, _) in cells_of(found, "points")]
    assert sorted(map(tuple, np.concatenate(drawn))) == sorted(map(tuple, np.concatenate(parts)))


def test_axes_of_several_units_are_seen_whole(tmp_path):
    corners = np.array([[0, 0, 0], [10, 20, 3.0]])
    zvl.write_points(tmp_path / "p.zv", corners, chunk_shape=50, units=["nm", "nm", "um"])
    assert viewer_state(sources(zvl.open_zv(tmp_path / "p.zv")[0]), "")["projectionScale"] == pytest.approx(3900)


def test_graphs_of_two_axes_are_flat_lines(tmp_path):
    rng = np.random.default_rng(8)
    vertices, edges = rng.uniform(0, 40, (60, 2)), rng.integers(0, 60, (80, 2))
    edges = edges[edges[:, 0] != edges[:, 1]]
    zvl.write_graph(tmp_path / "g.zv", vertices, edges, chunk_shape=10, axes=("x", "y"))
    level = zvl.open_zv(tmp_path / "g.zv")[0]
    found = sources(level)
    assert found.kinds[0] == "lines"
    state = viewer_state(found, "http://here")
    assert state["layout"] == "xy"
    assert state["crossSectionScale"] * 500 == pytest.approx(1.3 * np.ptp(vertices, axis=0).max())
    drawn = np.concatenate([np.reshape(shapes, (-1, 4)) for _, _, _, (shapes, _, _) in cells_of(found, "lines")])
    expected = level.vertices.compute().astype("f4")[level.edges.compute()].reshape(-1, 4)
    assert sorted(map(tuple, np.sort(drawn.view("f4")))) == sorted(map(tuple, np.sort(expected)))
    number = next(int(ids[0]) for _, _, _, (_, _, ids) in cells_of(found, "lines") if len(ids))
    assert len(found.get(f"lines/by_id/{number}")) == 16
