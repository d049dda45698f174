"""Graphs and meshes from Dask arrays: the same bytes as a write from memory, wrong input, counts."""

import pickle

import dask
import dask.array as da
import numpy as np
import pytest
from dask._task_spec import DataNode

import zarr_vectors_lazy as zvl
from tests.integration.out_of_core import (
    BLOCK,
    CHUNK,
    ROWS,
    SMALL,
    assert_same_files,
    lazily,
    links,
    waited,
)
from zarr_vectors_lazy.errors import FormatError, SelectionError, StoreError
from zarr_vectors_lazy.storage.requests import counting
from zarr_vectors_lazy.write import scratch

LINKS = 450
CASES = {
    "plain": {},
    "bins": {"bin_shape": 2.0},
    "bounds": {"bounds": ([-9] * 3, [9.5] * 3)},
    "shards": {"shard_shape": 2, "compressor": None},
    "double": {"dtype": "f8", "axes": ("z", "y", "x"), "units": "nm", "crs": "local"},
}


@pytest.fixture(autouse=True)
def _several_parts():
    with dask.config.set(SMALL, scheduler="sync"):
        yield


def write(path, given, **options):
    """Write a graph or a mesh, by the name of its links."""
    rows, ends = (given[name] for name in (("vertices", "faces") if "faces" in given else ("positions", "edges")))
    rest = {name: value for name, value in given.items() if value is not rows and value is not ends}
    writer = zvl.write_mesh if "faces" in given else zvl.write_graph
    return writer(path, rows, ends, chunk_shape=CHUNK, **rest, **options)


def assert_written_alike(folder, given, lazy, **options):
    expected = write(folder / "a" / "x", given, **options)
    assert write(folder / "b" / "x", lazy, **options) == expected
    assert_same_files(folder / "b" / "x", folder / "a" / "x")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("width", [2, 3])
def test_a_write_from_memory_puts_the_same_bytes(tmp_path, case, width):
    given = links(width, LINKS)
    assert_written_alike(tmp_path, given, lazily(given), **CASES[case])


@pytest.mark.parametrize(("width", "ndim"), [(2, 2), (4, 3), (7, 4)])
def test_without_objects_and_attributes(tmp_path, width, ndim):
    given = {name: values for name, values in links(width, 90, ndim=ndim).items() if isinstance(values, np.ndarray)}
    del given["object_ids"]
    lazy = lazily(given, 77)
    tables = {"object_attributes": {"rank": [7]}, "groups": {"all": [0]}, "group_attributes": {"size": [1]}}
    assert_written_alike(tmp_path, given, lazy, **tables)


def test_links_inside_a_chunk_and_to_themselves(tmp_path):
    given = links(2, LINKS)
    given["edges"] = np.sort(given["edges"], axis=0)
    given["edges"][::3, 1] = given["edges"][::3, 0]
    assert_written_alike(tmp_path, given, lazily(given))


def test_blocks_of_unknown_size_and_empty_ones(tmp_path):
    given = links(3, LINKS)
    kept = (given["vertices"][:, 0] > 3) | (np.arange(ROWS) // BLOCK == 2)
    kept &= np.arange(ROWS) // BLOCK != 1
    number = np.cumsum(kept) - 1
    both = kept[given["faces"]].all(axis=1)
    lazy = lazily({**given, "faces": number[given["faces"]]})
    row_mask, link_mask = (da.from_array(mask, chunks=BLOCK) for mask in (kept, both))
    chosen = {
        "vertices": given["vertices"][kept],
        "faces": number[given["faces"]][both],
        "object_ids": given["object_ids"][kept],
        "vertex_attributes": {name: values[kept] for name, values in given["vertex_attributes"].items()},
        "link_attributes": {name: values[both] for name, values in given["link_attributes"].items()},
    }
    masked = {
        "vertices": lazy["vertices"][row_mask],
        "faces": lazy["faces"][link_mask],
        "object_ids": lazy["object_ids"][row_mask],
        "vertex_attributes": {name: values[row_mask] for name, values in lazy["vertex_attributes"].items()},
        "link_attributes": {name: values[link_mask] for name, values in lazy["link_attributes"].items()},
    }
    assert_written_alike(tmp_path, chosen, masked)


@pytest.mark.parametrize("rows", [0, 5])
def test_no_links_at_all(tmp_path, rows):
    given = {"positions": np.zeros((rows, 2), "f4"), "edges": np.empty((0, 2), np.int64)}
    assert_written_alike(tmp_path, given, lazily(given), bounds=([0, 0], [1, 1]))


def test_more_rows_than_a_stripe(tmp_path):
    rng = np.random.default_rng(3)
    given = {"positions": rng.uniform(0, 9, (5_000, 3)), "edges": rng.integers(0, 5_000, (4_000, 2))}
    assert_written_alike(tmp_path, given, lazily(given, 1_100))


BAD = {
    "too high": (rf"edges name row {ROWS}, at row 7 of block 3; there are {ROWS}", {"edges": (3 * BLOCK + 7, ROWS)}),
    "negative": ("edges name row -1; rows are counted from 0", {"edges": (5, -1)}),
    "nan": ("row 1 of block 4 is", {"positions": (4 * BLOCK + 1, np.nan)}),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_leaves_the_old_store(tmp_path, case):
    words, spoiled = BAD[case]
    given = links(2, LINKS)
    write(tmp_path / "x", given)
    before = (tmp_path / "x" / "zarr.json").read_bytes()
    for name, (row, value) in spoiled.items():
        given[name][row, 1] = value
    temporary = tmp_path / "temporary"
    with dask.config.set(temporary_directory=str(temporary)), pytest.raises(SelectionError, match=words):
        write(tmp_path / "x", lazily(given), mode="w")
    assert list(temporary.glob("*")) == []
    assert (tmp_path / "x" / "zarr.json").read_bytes() == before


def test_faces_of_many_corners_have_one_chunk(tmp_path):
    given = links(21, 9)
    write(tmp_path / "x", links(3, 9))
    before = (tmp_path / "x" / "zarr.json").read_bytes()
    with pytest.raises(SelectionError, match="faces with more than 20 ends need a store of one chunk; these have 21"):
        write(tmp_path / "x", lazily(given), mode="w")
    assert (tmp_path / "x" / "zarr.json").read_bytes() == before
    given["vertices"] = np.abs(given["vertices"]) / 2
    assert_written_alike(tmp_path, given, lazily(given))


def test_arguments_that_do_not_go_together(tmp_path):
    given = links(2, LINKS)
    lazy, x = lazily(given), tmp_path / "x"
    weight = lazy["link_attributes"]["weight"]
    unknown = lazy["edges"][lazy["edges"][:, 0] > 3]
    for words, changed in (
        ("edges must be a Dask array, found ndarray: if one.*from_array turns", {"edges": given["edges"]}),
        ("positions must be a Dask array, found ndarray", {"positions": given["positions"]}),
        ("found DataFrame", {"positions": lazy["positions"].to_dask_dataframe()}),
        (rf"\['weight'\] must have {LINKS} rows like edges", {"link_attributes": {"weight": weight[:-1]}}),
        (rf"\['weight'\] must have {LINKS} rows like edges", {"link_attributes": {"weight": lazy["object_ids"]}}),
        ("of unknown sizes: they must be cut alike", {"edges": unknown, "link_attributes": {"weight": weight[:9]}}),
        ("links can only have numbers", {"link_attributes": {"weight": weight.astype(str)}}),
        (r"edges must be \(M, 2\) whole numbers; found", {"edges": lazy["edges"].astype("f8")}),
        (r"edges must be \(M, 2\) whole numbers; found", {"edges": lazy["edges"][:, :1]}),
        ("segment of a path", {"link_attributes": {"a/b": weight}}),
        ("must be in memory here", {"object_attributes": {"a": weight}}),
    ):
        with pytest.raises(SelectionError, match=words):
            write(x, {**lazy, **changed})
    two = da.concatenate([lazy["edges"], lazy["edges"]])
    weights = da.concatenate([weight, weight.map_blocks(np.float32, meta=np.empty(0))])
    with pytest.raises(
        SelectionError, match=r"edges int64 \(2,\), weight float32, the first block edges int64 .* float64"
    ):
        write(x, {**lazy, "edges": two, "link_attributes": {"weight": weights}})
    assert not x.exists()


@pytest.mark.parametrize("lost", ["places", "links"])
def test_a_write_that_fails_is_unfinished(tmp_path, monkeypatch, lost):
    def receive(folder, what, *args):
        found = received(folder, what, *args)
        return found[1:] if what.name.startswith(lost) else found

    received = scratch.receive
    monkeypatch.setattr(scratch, "receive", receive)
    lazy = lazily(links(2, LINKS))
    with pytest.raises(StoreError, match=r"lost .*on the way"):
        write(tmp_path / "x", lazy)
    with pytest.raises(FormatError, match="unfinished"):
        zvl.open_zv(tmp_path / "x")
    monkeypatch.undo()
    write(tmp_path / "x", lazy, mode="w")
    assert zvl.open_zv(tmp_path / "x")[0].edges.shape[1] == 2


@pytest.mark.parametrize("width", [2, 3])
def test_a_lost_task_that_begins_anew_after_the_end_is_told(tmp_path, width):
    given = lazily(links(width, LINKS))
    made = write(tmp_path / "x", given, mode="w", compute=False)
    tasks = dict(made.__dask_graph__())
    lost = {key for key in tasks if str(key).startswith(("zv-begin", "zv-finish"))}
    kept = [key for key in tasks if key not in lost]
    values = zip(kept, dask.get(tasks, [*kept, made.key])[:-1], strict=True)
    zvl.open_zv(tmp_path / "x")
    with pytest.raises(StoreError, match="started this write again after its end; write again"):
        dask.get(tasks | {key: DataNode(key, value) for key, value in values}, made.key)
    with pytest.raises(FormatError, match="unfinished"):
        zvl.open_zv(tmp_path / "x")
    assert dask.get(tasks, made.key) == write(tmp_path / "y", given)  # all of it once more


def test_one_put_a_cell(tmp_path):
    with counting() as counts:
        write(tmp_path / "x", lazily(links(3, LINKS)))
    cells = [key for key in counts.keys if "/c/" in key]
    files = [path for path in (tmp_path / "x").rglob("*") if path.is_file()]
    assert len(cells) == len(set(cells)) == sum("c" in path.parts for path in files)
    assert counts.by_kind["put"] == len(files) + 1 + waited(counts)  # and the root that says "writing"


def test_input_is_computed_once_and_is_not_in_the_graph(tmp_path):
    seen = []

    def once(block, block_info=None):
        seen.append(len(block))
        return block

    given = links(2, LINKS)
    lazy = lazily(given)
    for name in ("positions", "edges"):
        lazy[name] = lazy[name].map_blocks(once, dtype=lazy[name].dtype, meta=np.empty((0, 2)))
    write(tmp_path / "x", lazy)
    assert sum(seen) == ROWS + LINKS


def test_tasks_are_as_many_as_blocks_homes_and_parts(tmp_path):
    def size(blocks):
        rows = da.zeros((2_000, 2), chunks=(2_000 // blocks, 2))
        edges = da.zeros((2_000, 2), chunks=(2_000 // blocks, 2), dtype=int)
        made = zvl.write_graph(tmp_path / "x", rows, edges, chunk_shape=1, compute=False)
        (graph,) = dask.optimize(made)
        tasks = dict(graph.__dask_graph__())
        assert max(len(pickle.dumps(task)) for task in tasks.values()) < 9_000
        return len(tasks)

    assert size(100) - size(50) <= 50 * 6


@pytest.mark.parametrize("known", [True, False])
def test_links_of_unknown_number_spread_over_homes(tmp_path, known):
    edges = da.zeros((30 * LINKS, 2), chunks=(LINKS, 2), dtype=int)
    edges = edges if known else edges[edges[:, 0] == 0]
    made = zvl.write_graph(tmp_path / "x", da.zeros((9, 2)), edges, chunk_shape=1, compute=False)
    resolving = {key for key in dict(made.__dask_graph__()) if str(key[0]).startswith("zv-resolve-0")}
    assert len(resolving) >= 30
