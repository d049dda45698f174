"""Skeletons from Dask arrays: the same bytes as a write from memory, and edges that are not trees."""

import dask
import dask.array as da
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.integration.out_of_core import BLOCK, ROWS, SMALL, assert_same_files, lazily, trees, waited, write_trees
from zarr_vectors_lazy.errors import FormatError, SelectionError, StoreError
from zarr_vectors_lazy.storage.requests import counting
from zarr_vectors_lazy.write import scratch

EDGES = 80


@pytest.fixture(autouse=True)
def _several_parts():
    with dask.config.set(SMALL, scheduler="sync"):
        yield


def lazy_trees(given):
    """Nodes and edges in separate blocks."""
    edges = {name: given[name] for name in ("edges", "link_attributes") if name in given}
    return lazily({name: values for name, values in given.items() if name not in edges}) | lazily(edges, EDGES)


def assert_written_alike(folder, given, lazy, **options):
    expected = write_trees(folder / "a" / "x", given, **options)
    assert write_trees(folder / "b" / "x", lazy, **options) == expected
    assert_same_files(folder / "b" / "x", folder / "a" / "x")
    return expected


@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("shards", [None, 2])
def test_a_write_from_memory_puts_the_same_bytes(tmp_path, values, shards):
    given = trees(values)
    done = assert_written_alike(tmp_path, given, lazy_trees(given), shard_shape=shards)
    stored = done["intra_edge_count"] + done["cross_edge_count"]
    assert stored == done["edge_count"] if values else 0 < stored < done["edge_count"]


@pytest.mark.parametrize("values", [False, True])
def test_blocks_of_unknown_size_and_empty_ones(tmp_path, values):
    given = trees(values, seed=1)
    gone = np.arange(ROWS) // BLOCK == 1
    kept = ~gone & np.isin(given["object_ids"], np.unique(given["object_ids"])[::2])
    number, edges = np.cumsum(kept) - 1, given["edges"]
    both = kept[edges].all(axis=1)
    names = ("positions", "object_ids")
    chosen = {name: given[name][kept] for name in names} | {"edges": number[edges[both]]}
    lazy, mask = lazily({name: given[name] for name in names}), da.from_array(kept, chunks=BLOCK)
    masked = {name: lazy[name][mask] for name in names} | {"edges": lazily(number[edges], EDGES)}
    edge_mask = da.from_array(both, chunks=EDGES)
    masked["edges"] = masked["edges"][edge_mask]
    if values:
        chosen["link_attributes"] = {name: of[both] for name, of in given["link_attributes"].items()}
        of_all = lazily(given["link_attributes"], EDGES)
        masked["link_attributes"] = {name: of[edge_mask] for name, of in of_all.items()}
    assert_written_alike(tmp_path, chosen, masked)


def test_one_object_a_long_path_backwards(tmp_path):
    steps = np.arange(ROWS)
    given = {"positions": np.stack([steps / 9, steps % 7], axis=1), "edges": np.stack([steps[:-1], steps[1:]], axis=1)}
    assert_written_alike(tmp_path, given, lazily(given))


def test_nodes_without_edges(tmp_path):
    given = {"positions": trees()["positions"], "edges": np.empty((0, 2), np.int64)}
    assert_written_alike(tmp_path, given, lazily(given))


def spoil(given, case):
    edges, owners = given["edges"], given["object_ids"]
    child, parent = edges[5].tolist()
    match case:
        case "two parents":
            given["edges"] = np.concatenate([edges, [[child, parent]]])
            return f"vertex {child} has 2 parents"
        case "cycle":
            root = int(np.setdiff1d(edges[:, 1], edges[:, 0])[0])
            given["edges"] = np.concatenate([edges, [[root, int(edges[edges[:, 1] == root][0, 0])]]])
            return "is on a cycle, or below one"
        case "two objects":
            other = int(np.flatnonzero(owners != owners[child])[0])
            edges[5, 1] = other
            return f"the edge from vertex {child} to {other} joins two"
    edges[5, 1] = ROWS + 3
    return f"edges name row {ROWS + 3}"


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("case", ["two parents", "cycle", "two objects", "too high"])
def test_what_is_no_tree_is_refused_before_the_first_put(tmp_path, case, lazy):
    given = trees()
    words = spoil(given, case)
    with pytest.raises(SelectionError, match=words):
        write_trees(tmp_path / "x", lazy_trees(given) if lazy else given)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("lost", ["nodes", "ranks", "places", "links"])
def test_a_write_that_fails_is_unfinished(tmp_path, monkeypatch, lost):
    def receive(folder, what, *args):
        found = received(folder, what, *args)
        return found[1:] if what.name.startswith(lost) else found

    received = scratch.receive
    monkeypatch.setattr(scratch, "receive", receive)
    with pytest.raises(StoreError, match=r"lost .*on (the|its|their) way"):
        write_trees(tmp_path / "x", lazy_trees(trees()))
    if lost == "nodes":  # seen before the first put
        assert not (tmp_path / "x").exists()
        return
    with pytest.raises(FormatError, match="unfinished"):
        zvl.open_zv(tmp_path / "x")


def test_one_put_a_cell(tmp_path):
    with counting() as counts:
        write_trees(tmp_path / "x", lazy_trees(trees()))
    cells = [key for key in counts.keys if "/c/" in key]
    assert len(cells) == len(set(cells))
    files = [path for path in (tmp_path / "x").rglob("*") if path.is_file()]
    assert counts.by_kind["put"] == len(files) + 1 + waited(counts)  # and the root that says "writing"
