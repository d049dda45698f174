"""Writers with Dask input: the same bytes as a write from memory, wrong input, counts."""

import itertools

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from zarr.storage import MemoryStore

import zarr_vectors_lazy as zvl
from tests.integration.out_of_core import (
    BLOCK,
    CHUNK,
    ROWS,
    SMALL,
    assert_same_files,
    lazily,
    path_blocks,
    paths,
    points,
)
from zarr_vectors_lazy.errors import FormatError, NotFoundError, SelectionError, StoreError
from zarr_vectors_lazy.storage.requests import counting
from zarr_vectors_lazy.write import job as jobs
from zarr_vectors_lazy.write import part as parts

CASES = {
    "plain": {},
    "bins": {"bin_shape": 1.0},
    "bounds": {"bounds": ([-9] * 3, [9.5] * 3)},
    "shards": {"shard_shape": 2, "compressor": None},
    "double": {"dtype": "f8", "axes": ("z", "y", "x"), "units": "nm", "crs": "local"},
}

WAITING = 2 * -(-ROWS // BLOCK) + 1  # puts of waiting data: rows and a table for each block, and an index


@pytest.fixture(autouse=True)
def _several_parts():
    with dask.config.set(SMALL):
        yield


@pytest.mark.parametrize("case", CASES)
def test_points(tmp_path, case):
    given, options = points(), CASES[case]
    del given["object_ids"]
    lazy = lazily(given)
    expected = zvl.write_points(tmp_path / "a" / "x", **given, chunk_shape=CHUNK, **options)
    assert zvl.write_points(tmp_path / "b" / "x", **lazy, chunk_shape=CHUNK, **options) == expected
    assert_same_files(tmp_path / "b" / "x", tmp_path / "a" / "x")


@pytest.mark.parametrize(("ndim", "dtype"), [(2, "f8"), (4, "f4"), (3, "i2")])
def test_points_with_objects(tmp_path, ndim, dtype):
    given = points(ndim, dtype)
    known = len(np.unique(given["object_ids"]))
    tables = {
        "object_attributes": {"rank": np.arange(known), "name": [f"n{i}" for i in range(known)]},
        "groups": {"all": np.unique(given["object_ids"]).tolist()},
        "group_attributes": {"size": [known]},
        "chunk_shape": CHUNK,
        "bin_shape": CHUNK / 2,
    }
    expected = zvl.write_points(tmp_path / "a" / "x", **given, **tables)
    assert zvl.write_points(tmp_path / "b" / "x", **lazily(given, 77), **tables) == expected
    assert_same_files(tmp_path / "b" / "x", tmp_path / "a" / "x")


def test_blocks_of_unknown_size(tmp_path):
    given = points()
    kept = given["positions"][:, 0] > 3
    lazy = lazily(given)
    mask = lazy["positions"][:, 0] > 3
    names = ("positions", "object_ids")
    zvl.write_points(tmp_path / "a" / "x", **{name: given[name][kept] for name in names}, chunk_shape=CHUNK)
    zvl.write_points(tmp_path / "b" / "x", **{name: lazy[name][mask] for name in names}, chunk_shape=CHUNK)
    assert_same_files(tmp_path / "b" / "x", tmp_path / "a" / "x")


def test_blocks_cut_apart_are_cut_alike(tmp_path):
    given = points()
    lazy = da.from_array(given["positions"], chunks=(110, 2))
    one = da.from_array(given["vertex_attributes"]["one"], chunks=33)
    expected = {"one": given["vertex_attributes"]["one"]}
    zvl.write_points(tmp_path / "a" / "x", given["positions"], chunk_shape=CHUNK, vertex_attributes=expected)
    zvl.write_points(tmp_path / "b" / "x", lazy, chunk_shape=CHUNK, vertex_attributes={"one": one})
    assert_same_files(tmp_path / "b" / "x", tmp_path / "a" / "x")


def test_rows_none_at_all(tmp_path):
    none = np.empty((0, 3), "f4")
    zvl.write_points(tmp_path / "a" / "x", none, chunk_shape=1, bounds=([0] * 3, [1] * 3))
    zvl.write_points(tmp_path / "b" / "x", da.from_array(none), chunk_shape=1, bounds=([0] * 3, [1] * 3))
    assert_same_files(tmp_path / "b" / "x", tmp_path / "a" / "x")
    with pytest.raises(SelectionError, match="there are no positions"):
        zvl.write_points(tmp_path / "c", da.from_array(none), chunk_shape=1)


def frame():
    given = points()
    columns = dict(zip("xyz", given["positions"].T, strict=True))
    one, text = given["vertex_attributes"]["one"], given["vertex_attributes"]["text"]
    columns |= {"one": one, "text": text, "kind": pd.Categorical(text), "id": given["object_ids"]}
    columns["whole"] = pd.array(np.arange(ROWS), dtype="Int32")
    return given, pd.DataFrame(columns)


def test_a_data_frame(tmp_path):
    given, made = frame()
    text = given["vertex_attributes"]["text"]
    attributes = {"one": given["vertex_attributes"]["one"], "text": text, "kind": text}
    attributes["whole"] = np.arange(ROWS, dtype="i4")
    zvl.write_points(
        tmp_path / "a" / "x",
        given["positions"],
        chunk_shape=CHUNK,
        vertex_attributes=attributes,
        object_ids=given["object_ids"],
    )
    lazy = dd.from_pandas(made.rename(columns={"one": "two"}), npartitions=4)
    lazy = lazy.rename(columns={"two": "one"})[list(made.columns)].repartition(npartitions=3)
    zvl.write_points(tmp_path / "b" / "x", lazy[lazy.x < 50], chunk_shape=CHUNK, object_ids="id")
    assert_same_files(tmp_path / "b" / "x", tmp_path / "a" / "x")


def test_axes_of_a_data_frame(tmp_path):
    _, made = frame()
    lazy = dd.from_pandas(made[["z", "x", "y"]], npartitions=2)
    zvl.write_points(tmp_path / "a", lazy, chunk_shape=CHUNK, axes=("z", "x"))
    store = zvl.open_zv(tmp_path / "a")
    assert store.axes == ("z", "x")
    assert store[0].attribute_names == ("y",)
    for words, error, options in (
        ("no column 'q'", NotFoundError, {"axes": ("q", "x")}),
        ("no column 'q'", NotFoundError, {"object_ids": "q"}),
        ("other columns", SelectionError, {"vertex_attributes": {"y": lazy["y"]}}),
    ):
        with pytest.raises(error, match=words):
            zvl.write_points(tmp_path / "b", lazy, chunk_shape=CHUNK, **options)
    with pytest.raises(SelectionError, match="no axes among the columns 'z'"):
        zvl.write_points(tmp_path / "b", lazy[["z"]], chunk_shape=CHUNK)


def test_lines(tmp_path):
    rng = np.random.default_rng(0)
    given = {"endpoints": rng.uniform(-6, 6, (50, 2, 3)), "vertex_attributes": {"w": rng.random((50, 2))}}
    given["object_ids"] = rng.permutation(50)
    expected = zvl.write_lines(tmp_path / "a" / "x", **given, chunk_shape=CHUNK)
    assert zvl.write_lines(tmp_path / "b" / "x", **lazily(given, 13), chunk_shape=CHUNK) == expected
    assert_same_files(tmp_path / "b" / "x", tmp_path / "a" / "x")


@pytest.mark.parametrize("shards", [None, 2])
def test_polylines(tmp_path, shards):
    lines = paths()
    blocks = path_blocks(lines)
    options = {
        "chunk_shape": CHUNK,
        "shard_shape": shards,
        "object_ids": np.random.default_rng(1).permutation(len(lines)) * 3,
        "object_attributes": {"length": [len(line) for line in lines]},
        "groups": {"some": [0, 3]},
    }
    rows = {"row": [np.arange(len(line)) for line in lines]}
    expected = zvl.write_polylines(tmp_path / "a" / "x", lines, vertex_attributes=rows, **options)
    for name, lazy in {
        "iterator": iter(blocks),
        "bag": db.from_sequence(blocks, npartitions=2),
        "holes": db.from_sequence([[], *itertools.chain.from_iterable([block, []] for block in blocks)], npartitions=6),
    }.items():
        assert zvl.write_polylines(tmp_path / name / "x", lazy, **options) == expected
        assert_same_files(tmp_path / name / "x", tmp_path / "a" / "x")


def test_polylines_one_by_one(tmp_path):
    lines = paths()
    zvl.write_polylines(tmp_path / "a" / "x", lines, chunk_shape=CHUNK)
    numbered = [
        {"polylines": lines[:9], "object_ids": np.arange(9)},
        {"polylines": lines[9:], "object_ids": range(9, 60)},
    ]
    for name, lazy in {
        "iterator": iter(lines),
        "bag": db.from_sequence(lines, npartitions=7),
        "flat": iter([(np.concatenate(lines), np.cumsum([0, *map(len, lines)]))]),
        "numbered": iter(numbered),
    }.items():
        zvl.write_polylines(tmp_path / name / "x", lazy, chunk_shape=CHUNK)
        assert_same_files(tmp_path / name / "x", tmp_path / "a" / "x")


def test_nothing_is_put_before_compute(tmp_path):
    lazy = lazily(points())
    write = zvl.write_points(tmp_path / "x", lazy["positions"], chunk_shape=CHUNK, compute=False)
    assert not (tmp_path / "x").exists()
    assert write.compute()["vertex_count"] == ROWS
    waits = {str(key): str(task.dependencies) for key, task in dict(write.__dask_graph__()).items()}
    (index,) = (needed for key, needed in waits.items() if "index-rows" in key)
    assert "begin" in index  # what is refused deletes what the index is made of
    with pytest.raises(StoreError, match="a Zarr Vectors store is here already"):
        write.compute()
    assert zvl.open_zv(tmp_path / "x")[0].vertex_count == ROWS


def test_the_place_is_looked_at_before_the_input(tmp_path):
    zvl.write_points(tmp_path / "x", np.zeros((1, 2)), chunk_shape=1)
    dear = da.from_delayed(dask.delayed(pytest.fail)("computed"), shape=(5, 2), dtype="f8")
    with pytest.raises(StoreError, match="is here already"):
        zvl.write_points(tmp_path / "x", dear, chunk_shape=1)


BAD = {
    "nan": ("row 1 of block 4 is", lambda x: x[361].fill(np.nan), {}),
    "infinite as stored": ("must be finite as float32", lambda x: x[0].fill(1e300), {"dtype": "f4"}),
    "outside": ("bounds leave data out: on axis 0", lambda x: x[9].fill(50), {"bounds": ([-9] * 3, [9] * 3)}),
    "absurd": ("absurdly small", lambda x: x[9].fill(1e30), {}),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows_leave_the_old_store(tmp_path, case):
    words, spoil, options = BAD[case]
    positions = points(dtype="f8")["positions"]
    zvl.write_points(tmp_path / "x", positions, chunk_shape=CHUNK)
    before = (tmp_path / "x" / "zarr.json").read_bytes()
    spoil(positions)
    temporary = tmp_path / "temporary"
    with dask.config.set(temporary_directory=str(temporary), scheduler="sync"):
        with pytest.raises(SelectionError, match=words):
            zvl.write_points(tmp_path / "x", lazily(positions), chunk_shape=CHUNK, mode="w", **options)
        assert list(temporary.glob("*")) == []
    assert (tmp_path / "x" / "zarr.json").read_bytes() == before


def test_a_cell_of_4_gib_is_refused_before_the_first_put(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "MAX_PAYLOAD_NBYTES", 60)
    for positions in (points()["positions"], lazily(points()["positions"])):
        with pytest.raises(SelectionError, match=r"chunk \[.*\] has \d+ rows, \d+ bytes of vertices"):
            zvl.write_points(tmp_path / "x", positions, chunk_shape=CHUNK)
        assert not (tmp_path / "x").exists()


def test_a_write_that_fails_is_unfinished(tmp_path, monkeypatch):
    def lose(plan, records, begun):
        return wrote(plan, records[1:], begun)

    wrote = parts.write_part
    monkeypatch.setattr(parts, "write_part", lose)
    lazy = lazily(points()["positions"])
    with pytest.raises(StoreError, match=r"rows, but \d+ arrived"):
        zvl.write_points(tmp_path / "x", lazy, chunk_shape=CHUNK)
    with pytest.raises(FormatError, match="unfinished"):
        zvl.open_zv(tmp_path / "x")
    monkeypatch.undo()
    zvl.write_points(tmp_path / "x", lazy, chunk_shape=CHUNK, mode="w")
    assert zvl.open_zv(tmp_path / "x")[0].vertex_count == ROWS


def test_arguments_that_do_not_go_together(tmp_path):
    lazy, x = lazily(points()), tmp_path / "x"
    positions, one = lazy["positions"], lazy["vertex_attributes"]["one"]
    unknown = positions[positions[:, 0] > 0]
    for words, options in (
        ("must be a Dask array, found ndarray", {"vertex_attributes": {"a": np.zeros(ROWS)}}),
        (f"must have {ROWS} rows", {"vertex_attributes": {"a": one[:-1]}}),
        ("segment of a path", {"vertex_attributes": {"a/b": one}}),
        ("no links", {"link_attributes": {"a": one}}),
        ("need object_ids", {"groups": {"a": [1]}}),
        ("must be in memory here", {"object_ids": lazy["object_ids"], "object_attributes": {"a": one}}),
        ("whole numbers", {"object_ids": one}),
        ("bounds must be", {"bounds": (1, 2)}),
    ):
        with pytest.raises(SelectionError, match=words):
            zvl.write_points(x, positions, chunk_shape=CHUNK, **options)
    with pytest.raises(SelectionError, match="of unknown sizes: they must be cut alike"):
        zvl.write_points(x, unknown, chunk_shape=CHUNK, vertex_attributes={"a": one[:BLOCK]})
    with pytest.raises(SelectionError, match=r"found shape \(500, 5\), float64"):
        zvl.write_points(x, da.zeros((500, 5)), chunk_shape=CHUNK)
    with pytest.raises(SelectionError, match=r"block \d+: vertex_attributes\['a'\] must be \(\d+,\)"):
        zvl.write_points(x, unknown, chunk_shape=CHUNK, vertex_attributes={"a": one})
    with pytest.raises(SelectionError, match="positions must be a Dask array"):
        zvl.write_points(x, np.zeros((ROWS, 3)), chunk_shape=CHUNK, vertex_attributes={"a": one})
    assert not x.exists()


def test_blocks_may_be_iterators_and_empty(tmp_path):
    lines = paths()
    blocks = [
        {"polylines": iter(lines[:2]), "vertex_attributes": {"a": (np.zeros(len(line)) for line in lines[:2])}},
        {"polylines": [], "vertex_attributes": {"a": []}},
        {"polylines": lines[2:], "vertex_attributes": {"a": [np.zeros(len(line)) for line in lines[2:]]}},
    ]
    attributes = {"a": [np.zeros(len(line)) for line in lines]}
    zvl.write_polylines(tmp_path / "a" / "x", lines, vertex_attributes=attributes, chunk_shape=CHUNK)
    zvl.write_polylines(tmp_path / "b" / "x", iter(blocks), chunk_shape=CHUNK)
    assert_same_files(tmp_path / "b" / "x", tmp_path / "a" / "x")
    zvl.write_polylines(tmp_path / "c" / "x", lines, chunk_shape=CHUNK)
    zvl.write_polylines(tmp_path / "d" / "x", (iter(block) for block in (lines[:3], lines[3:])), chunk_shape=CHUNK)
    assert_same_files(tmp_path / "d" / "x", tmp_path / "c" / "x")


def test_polylines_that_do_not_go_together(tmp_path):
    lines, x = paths(), tmp_path / "x"
    for words, lazy, options in (
        ("come with the blocks", iter(lines), {"vertex_attributes": {"a": [0]}}),
        ("can only be read right away", iter(lines), {"compute": False}),
        ("there are no polylines", iter([]), {}),
        ("there are no polylines", db.from_sequence([[], []]), {}),
        ("must be a Dask bag", da.zeros((4, 3)), {}),
        ("object_ids is a Dask collection", iter(lines), {"object_ids": da.zeros(60)}),
        ("object_ids is a Dask collection", lines, {"object_ids": da.zeros(60)}),
        ("a block of polylines has", iter([{"lines": lines}]), {}),
        (
            r"block 1 has positions float64 \(3,\), the first block positions float32 \(3,\); give all blocks the same",
            iter([lines, [lines[0].astype("f8")]]),
            {},
        ),
        ("a block of polylines must be a sequence of .* found 7", iter([7]), {}),
        ("found Delayed", dask.delayed(lines), {}),
        ("polylines is a Dask collection, and must be in memory", [da.zeros((4, 3))], {}),
        ("found dict", {"a": lines[0]}, {}),
        (r"\(60,\) whole numbers", iter(lines), {"object_ids": range(59)}),
        ("twice", iter(lines), {"object_ids": [1] * 60}),
        (
            "object_ids all or none",
            db.from_sequence([{"polylines": lines, "object_ids": range(60)}, lines], npartitions=1),
            {},
        ),
        ("with all blocks or with none", iter([{"polylines": lines, "object_ids": range(60)}, lines]), {}),
    ):
        with pytest.raises(SelectionError, match=words):
            zvl.write_polylines(x, lazy, chunk_shape=CHUNK, **options)
    assert not x.exists()


def test_one_put_a_chunk_and_array(tmp_path):
    given = lazily(points())
    with counting() as counts:
        done = zvl.write_points(
            tmp_path / "x", given["positions"], chunk_shape=CHUNK, vertex_attributes=given["vertex_attributes"]
        )
    cells = [key for key in counts.keys if "/c/" in key]
    assert len(cells) == len(set(cells)) == done["chunk_count"] * 6  # vertices, fragments, four attributes
    nodes = [key for key in counts.keys if key.endswith("zarr.json")]
    assert counts.by_kind["put"] == len(cells) + 10 + WAITING  # two roots, level, group of attributes, six arrays
    assert set(nodes) >= {"zarr.json", "0/zarr.json", "0/vertices/zarr.json"}


def test_input_is_computed_once(tmp_path):
    seen = []

    def once(block):
        seen.append(len(block))
        return block

    lazy = lazily(points()["positions"]).map_blocks(once, dtype="f4", meta=np.empty((0, 3), "f4"))
    zvl.write_points(tmp_path / "x", lazy, chunk_shape=CHUNK)
    assert sum(seen) == ROWS


def test_a_bar_is_shown(tmp_path, capsys):
    zvl.write_points(tmp_path / "x", lazily(points()["positions"]), chunk_shape=CHUNK, progress=True)
    zvl.write_polylines(tmp_path / "y", iter(paths()), chunk_shape=CHUNK, progress=True)
    assert capsys.readouterr().err.count("100%") == 2


def test_into_a_zarr_store_object():
    store, given = MemoryStore(), points()
    zvl.write_points(store, lazily(given["positions"]), chunk_shape=CHUNK)
    assert zvl.open_zv(store)[0].vertex_count == ROWS


@pytest.mark.emulator
@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_into_a_bucket(s3, tmp_path, backend):
    url, options = s3.options(backend, f"out-of-core-{backend}/x")
    given = lazily(points())
    expected = points()
    kwargs = {"chunk_shape": CHUNK, "shard_shape": 2}
    zvl.write_points(tmp_path / "x", expected["positions"], object_ids=expected["object_ids"], **kwargs)
    with counting() as counts:
        zvl.write_points(
            url,
            given["positions"],
            object_ids=given["object_ids"],
            **kwargs,
            backend=backend,
            storage_options=options,
        )
    puts = len([path for path in (tmp_path / "x").rglob("*") if path.is_file()])
    assert counts.by_kind["put"] == puts + 1 + WAITING  # and the root that says "writing"
    found, local = (
        zvl.open_zv(path, **more)[0]
        for path, more in ((url, {"backend": backend, "storage_options": options}), (tmp_path / "x", {}))
    )
    assert np.array_equal(found.vertices.compute(), local.vertices.compute())
    assert np.array_equal(found.objects.ids, local.objects.ids)
