"""Levels that refine coarser ones, made from several of our stores: each is read in full."""

import json
import pickle
import shutil

import dask
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.integration.test_by_others import by_place, corners_of, ends_of, same
from zarr_vectors_lazy.errors import FormatError, SelectionError

WRITE = {"chunk_shape": 20.0, "bin_shape": 20.0, "bounds": ([0, 0, 0], [100, 100, 100])}


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="sync"):
        yield


def edited(node, change):
    doc = json.loads(node.read_text())
    change(doc)
    node.write_text(json.dumps(doc))


def stacked(folder, stores, *, chunk_scale=1):
    """Level 0 of each store as a level of one, each refining the next."""
    root = folder / "stacked"
    shutil.copytree(stores[0], root)
    for level, store in enumerate(stores[1:], 1):
        shutil.copytree(store / "0", root / str(level))

    def declare(doc):
        block = doc["attributes"]["zarr_vectors"]
        block["format_capabilities"] = block["required_capabilities"] = ["additive_levels"]
        (first,) = doc["attributes"]["multiscales"][0]["datasets"]
        doc["attributes"]["multiscales"][0]["datasets"] = [
            {**first, "path": str(level)} for level in range(len(stores))
        ]

    edited(root / "zarr.json", declare)
    for level in range(len(stores)):

        def place(doc, level=level):
            block = doc["attributes"]["zarr_vectors_level"]
            block |= {"level": level, "parent_level": level - 1 if level else None, "coarsening_method": "manual"}
            if level + 1 < len(stores):
                block["refinement"] = "add"

        edited(root / str(level) / "zarr.json", place)
    return root


def cloud(random, n, dtype=np.float32):
    return random.uniform(0, 100, (n, 3)).astype(dtype)


def test_points_with_objects_and_attributes(tmp_path):
    random, parts = np.random.default_rng(3), []
    for number, (n, dtype, kinds) in enumerate([(90, "f4", ["b", "a"]), (60, "f8", ["c", "b"]), (30, "f4", ["a"])]):
        positions = cloud(random, n, dtype)
        ids = random.choice([[7, 100, 2**40], [8, 9], [5]][number], n)
        attributes = {
            "value": random.integers(0, 99, n).astype(["i4", "i8", "i2"][number]),
            "kind": np.asarray(kinds)[random.integers(0, len(kinds), n)],
            **({"only": np.zeros(n)} if number == 0 else {}),
        }
        known = np.unique(ids)
        zvl.write_points(
            tmp_path / str(number),
            positions,
            object_ids=ids,
            vertex_attributes=attributes,
            object_attributes={"size": known.astype("f8") * 10, "name": [f"o{i}" for i in known]},
            groups={f"g{number}": known[:1]},
            **WRITE,
        )
        parts.append((positions, ids, attributes))
    root = stacked(tmp_path, [tmp_path / str(number) for number in range(3)])
    store = zvl.open_zv(root)
    for first in range(3):
        level = store[first]
        positions = np.concatenate([part[0] for part in parts[first:]])
        ids = np.concatenate([part[1] for part in parts[first:]])
        found = level.vertices.compute()
        assert found.dtype == (np.float64 if first < 2 else np.float32)
        order, right = by_place(found), by_place(positions)
        same(found[order], positions[right], "positions")
        assert level.vertex_count == len(positions)
        assert level.attribute_names == ("kind", "value")[: 2 if first < 2 else None]
        for name in ("value", "kind"):
            values = np.concatenate([part[2][name] for part in parts[first:]])
            same(level.attributes[name].compute()[order], values[right], name)
        check_selections(level, positions, ids)
        where = level.sel(where={"kind": "a"}).vertices.compute()
        kinds = np.concatenate([part[2]["kind"] for part in parts[first:]])
        assert len(where) == (kinds == "a").sum()
        assert level.objects.slots.tolist() == [7, 100, 2**40, 8, 9, 5][[0, 3, 5][first] :]
        table = level.objects.attributes
        assert table["size"].values.tolist() == [10.0 * i for i in level.objects.slots]
        assert table["name"].values.tolist() == [f"o{i}" for i in level.objects.slots]
        assert level.objects.groups.names == (f"g{first}",)
        assert level.own.compute_chunk_sizes().vertex_count == len(parts[first][0])
        assert pickle.loads(pickle.dumps(level)).vertices.compute().tolist() == found.tolist()


def check_selections(level, positions, ids):
    box = ([10, 20, 0], [55, 90, 70])
    inside = ((positions >= box[0]) & (positions <= box[1])).all(axis=1)
    part = level.sel(bbox=box)
    cut = part.vertices.compute()
    same(cut[by_place(cut)], positions[inside][by_place(positions[inside])], "box")
    assert set(part.objects.ids) == set(ids[inside])
    for object_id in np.unique(ids).tolist():
        mine = level.objects[object_id].compute()
        same(mine[by_place(mine)], positions[ids == object_id][by_place(positions[ids == object_id])], object_id)
        only = level.sel(objects=[object_id])
        assert only.compute_chunk_sizes().vertex_count == (ids == object_id).sum()
    whole = level.sel(bbox=box, whole_objects=True)
    assert whole.compute_chunk_sizes().vertex_count == np.isin(ids, np.unique(ids[inside])).sum()


def test_rows_come_finest_first_and_blocks_may_be_cut_anyhow(tmp_path):
    random = np.random.default_rng(4)
    for number in range(2):
        zvl.write_points(tmp_path / str(number), cloud(random, 40), **WRITE)
    root = stacked(tmp_path, [tmp_path / "0", tmp_path / "1"])
    parts = [zvl.open_zv(tmp_path / str(number))[0].vertices.compute() for number in range(2)]
    level = zvl.open_zv(root)[0]
    same(level.vertices.compute(), np.concatenate(parts), "rows")
    assert {key[0] for key in level.chunk_keys} == {0, 1}
    for chunks in ("auto", 7):
        same(zvl.open_zv(root, chunks=chunks)[0].vertices.compute(), np.concatenate(parts), chunks)
    assert sum(len(rows["vertices"]) for _, rows in level.iter_chunks()) == 80
    assert level.explain().requests <= level.chunk_count


def graphs(random, n, ids):
    edges = np.stack([np.arange(n - 1), np.arange(1, n)], axis=1)
    edges = edges[random.permutation(n - 1)][: n // 2]
    owners = np.asarray(ids)[np.arange(n) * len(ids) // n]
    return edges[owners[edges[:, 0]] == owners[edges[:, 1]]], owners


@pytest.mark.parametrize("kind", ["graph", "skeleton"])
def test_edges_are_counted_on(tmp_path, kind):
    random, positions, edges, weights, start = np.random.default_rng(5), [], [], [], 0
    for number, ids in enumerate([[1, 2], [3], [4, 5]]):
        n = 50 - 10 * number
        points = cloud(random, n)
        pairs, owners = graphs(random, n, ids)
        if kind == "skeleton":
            pairs = pairs[:, ::-1]  # child, parent
        values = random.uniform(0, 1, len(pairs))
        more = {"link_attributes": {"w": values}} if kind == "graph" else {}
        zvl.write_graph(tmp_path / str(number), points, pairs, kind=kind, object_ids=owners, **more, **WRITE)
        positions.append(points)
        edges.append(pairs + start)
        weights.append(values)
        start += n
    level = zvl.open_zv(stacked(tmp_path, [tmp_path / str(number) for number in range(3)]))[0]
    all_positions, all_edges = np.concatenate(positions), np.concatenate(edges)
    rows = level.vertices.compute()
    same(ends_of(rows, level.edges.compute()), ends_of(all_positions, all_edges), "edges")
    assert level.deltas == (0,)
    box = ([0, 0, 0], [100, 60, 100])
    inside = ((all_positions >= box[0]) & (all_positions <= box[1])).all(axis=1)
    both = inside[all_edges].all(axis=1)
    part = level.sel(bbox=box)
    same(ends_of(part.vertices.compute(), part.edges.compute()), ends_of(all_positions, all_edges[both]), "box")
    if kind == "graph":
        links, values = dask.compute(level.links(), level.link_attributes["w"])
        assert sorted(values) == sorted(np.concatenate(weights))
        assert len(links) == len(values) == len(all_edges)


def test_faces_and_paths(tmp_path):
    random = np.random.default_rng(6)
    positions, faces = [], []
    for number in range(2):
        points = cloud(random, 30)
        corners = np.arange(30).reshape(10, 3)
        zvl.write_mesh(tmp_path / f"m{number}", points, corners, **WRITE)
        positions.append(points)
        faces.append(corners + 30 * number)
    level = zvl.open_zv(stacked(tmp_path, [tmp_path / "m0", tmp_path / "m1"]))[0]
    found = corners_of(level.vertices.compute(), level.faces.compute())
    same(found, corners_of(np.concatenate(positions), np.concatenate(faces)), "faces")
    shutil.rmtree(tmp_path / "stacked")
    lines = {}
    for number, ids in enumerate([[3, 4], [1]]):
        mine = [cloud(random, 12) for _ in ids]
        zvl.write_polylines(tmp_path / f"p{number}", mine, object_ids=ids, **WRITE)
        lines |= dict(zip(ids, mine, strict=True))
    root = stacked(tmp_path, [tmp_path / "p0", tmp_path / "p1"])
    level = zvl.open_zv(root)[0]
    assert level.objects.ids.tolist() == [3, 4, 1]
    for object_id, line in lines.items():
        same(level.polylines[object_id].compute(), line, object_id)
    assert len(level.edges.compute()) == 33
    assert zvl.read_polylines(root)["object_ids"] == [3, 4, 1]


def test_what_would_break_it_is_refused(tmp_path):
    random = np.random.default_rng(7)
    for number in range(2):
        zvl.write_points(tmp_path / str(number), cloud(random, 40), **WRITE)
    root = stacked(tmp_path, [tmp_path / "0", tmp_path / "1"])
    for change in (
        lambda: zvl.build_pyramid(root, factors=[(2, 1)]),
        lambda: zvl.coarsen_level(root, 1, 2, 2.0),
        lambda: zvl.rechunk(root, tmp_path / "other", chunk_shape=50),
    ):
        with pytest.raises(FormatError, match=r"would break levels \[0\]"):
            change()
    level = zvl.open_zv(root)[0]
    with pytest.raises(SelectionError, match=r"level\.own"):
        level.write_attribute("a", np.zeros(80))
    level.own.write_attribute("a", np.zeros(40))
    assert zvl.index(root) == {0: 40, 1: 40}
    zvl.consolidate(root)
    assert len(zvl.open_zv(root)[0].vertices.compute()) == 80
    assert zvl.validate(root).ok


def test_an_interrupted_conversion_is_found(tmp_path):
    random = np.random.default_rng(9)
    points, ids = cloud(random, 20), np.arange(20) % 3
    zvl.write_points(tmp_path / "0", points, object_ids=ids, **WRITE)
    zvl.write_points(tmp_path / "1", points[ids == 1], object_ids=ids[ids == 1], **WRITE)
    root = stacked(tmp_path, [tmp_path / "0", tmp_path / "1"])
    report = zvl.validate(root)
    assert "objects 1 are stored both here and on a level that this one refines" in report.errors[0].message
    level = zvl.open_zv(root)[0]
    assert level.objects[1].compute().shape == (7, 3)
    assert sum(level.compute_chunk_sizes().vertices.chunks[0]) == 27
    edited(root / "zarr.json", lambda doc: doc["attributes"]["zarr_vectors"].pop("required_capabilities"))
    assert any("requires no 'additive_levels'" in finding.message for finding in zvl.validate(root).errors)


@pytest.mark.parametrize("refinement", ["sub", None, 1])
def test_a_refinement_that_is_none(tmp_path, refinement):
    zvl.write_points(tmp_path / "0", cloud(np.random.default_rng(8), 10), **WRITE)
    edited(
        tmp_path / "0/0/zarr.json", lambda doc: doc["attributes"]["zarr_vectors_level"].update(refinement=refinement)
    )
    with pytest.raises(FormatError, match="refinement must be 'replace' or 'add'"):
        zvl.open_zv(tmp_path / "0")
    edited(tmp_path / "0/0/zarr.json", lambda doc: doc["attributes"]["zarr_vectors_level"].update(refinement="add"))
    with pytest.raises(FormatError, match="level 0 refines level 1, which does not exist"):
        zvl.open_zv(tmp_path / "0")
