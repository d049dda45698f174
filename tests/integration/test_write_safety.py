"""What an interrupted write leaves, what a flipped bit does, and writes to every kind of place."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore

import zarr_vectors_lazy as zvl
from tests.integration.killed import ROWS, write
from zarr_vectors_lazy.errors import FormatError, StoreError
from zarr_vectors_lazy.read import objects
from zarr_vectors_lazy.testing import counting

KILLED = Path(__file__).with_name("killed.py")


def kill(folder, count, seed, kind="memory"):
    """Kill writes in a separate process; returns what was known about each."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment["DASK_TEMPORARY_DIRECTORY"] = str(folder / "temporary")
    command = [sys.executable, str(KILLED), str(folder), str(count), str(seed), kind]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_killed(outcome):
    """The place holds the old store, the new one, nothing, or what says that it is unfinished; never a mixture."""
    path = outcome["path"]
    try:
        level, reason = zvl.open_zv(path)[0], ""
    except FormatError as error:
        level, reason = None, str(error)
    if level is None:
        assert "unfinished write" in reason or (not outcome["before"] and "zarr.json" in reason)
        assert not outcome["done"]
    else:
        rows = level.vertex_count
        assert rows == ROWS["new"] or (outcome["before"] and rows == ROWS["old"])
        assert sorted(level.attributes["n"].compute().tolist()) == list(range(rows))
        assert len(level.vertices.compute()) == rows
    try:
        write(path, "new", "w")
    except StoreError as error:
        pytest.fail(f"it cannot be written over: {error}")
    assert zvl.open_zv(path)[0].vertex_count == ROWS["new"]


@pytest.mark.parametrize(("kind", "count"), [("memory", 3), ("dask", 1)])
def test_killed_writes(tmp_path, kind, count):
    for outcome in kill(tmp_path, count, 1, kind):
        check_killed(outcome)


@pytest.mark.stress
@pytest.mark.parametrize("kind", ["memory", "dask"])
def test_many_killed_writes(tmp_path, kind):
    outcomes = kill(tmp_path, 50, 2, kind)
    assert any(outcome["done"] for outcome in outcomes)
    assert not all(outcome["done"] for outcome in outcomes)
    for outcome in outcomes:
        check_killed(outcome)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A graph with everything that a store can have."""
    path = tmp_path_factory.mktemp("everything") / "graph"
    random_ = np.random.default_rng(0)
    zvl.write_graph(
        path,
        random_.uniform(-10, 10, (400, 2)),
        random_.integers(0, 400, (500, 2)),
        chunk_shape=5,
        vertex_attributes={"n": np.arange(400), "t": np.array(list("ab"))[np.arange(400) % 2]},
        object_ids=np.arange(400) % 7 * 2,
        object_attributes={"w": np.arange(7.0)},
        link_attributes={"e": np.arange(500)},
        groups={"some": [0, 2]},
        group_attributes={"g": [1]},
    )
    return path


def read_array(path):
    """What any Zarr reader does."""
    np.asarray(zarr.open_array(path, mode="r", zarr_format=3)[...])


def read_member(root, array):
    """Read what an array holds with our own reader; False if it is for other programs."""
    objects._kept.clear()
    objects._kept_ids.clear()
    level = zvl.open_zv(root)[0]
    family, _, name = array.removeprefix("0/").partition("/")
    match family:
        case "vertices":
            level.vertices.compute()
        case "vertex_attributes":
            level.attributes[name].compute()
        case "links":
            level.links(0).compute()
        case "link_attributes":
            level.link_attributes[name.partition("/")[0]].compute()
        case "object_index" | "vertex_fragments":
            level.objects.ragged()[0].compute()
            level.objects.ids  # noqa: B018
        case "object_attributes":
            level.objects.attributes[name].values  # noqa: B018
        case "groups":
            level.objects.groups["some"]
        case "group_attributes":
            level.objects.groups.attributes[name].values  # noqa: B018
        case "fragment_attributes":
            data = level._view.data
            objects.read_owners(data.source, data.fragment_owners, level._view.table.coords)
        case _:
            return False
    return True


# For other programs; ours read `objects.ids`.
UNREAD = {"0/link_fragments", "0/object_attributes/segment_id", "0/object_attributes/vertex_count"}


def check_flips(root, count, seed):
    """Flip a random bit in a random cell, and put it right again."""
    picks = random.Random(seed)
    cells = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "zarr.json")
    families = set()
    for _ in range(count):
        cell = picks.choice(cells)
        before = cell.read_bytes()
        at = picks.randrange(8 * len(before))
        flipped = bytearray(before)
        flipped[at // 8] ^= 1 << at % 8
        cell.write_bytes(flipped)
        array = cell.relative_to(root).as_posix().partition("/c/")[0]
        families.add(array.split("/")[1])
        with pytest.raises(ValueError, match="checksum"):
            read_array(root / array)
        if array not in UNREAD:
            with pytest.raises(FormatError, match=r"crc32c|checksum"):
                read_member(root, array)
        cell.write_bytes(before)
    return families


def test_every_member_reads_and_zarr_too(everything):
    for document in everything.rglob("zarr.json"):
        if json.loads(document.read_bytes())["node_type"] == "array":
            read_array(document.parent)
            array = document.parent.relative_to(everything).as_posix()
            assert array in UNREAD or read_member(everything, array)


def test_flipped_bits_are_reported(everything):
    check_flips(everything, 50, 0)


@pytest.mark.stress
def test_a_thousand_flipped_bits(everything):
    assert len(check_flips(everything, 1000, 1)) >= 9


POINTS = np.random.default_rng(3).uniform(-3, 3, (300, 2))


@pytest.fixture(params=["local", "obstore-s3", "fsspec-s3", "memory", "zarr"])
def place(request, tmp_path):
    """``(path, options)`` of a place that can be written."""
    name, _, where = request.param.partition("-")
    if where:
        url, options = request.getfixturevalue("s3").options(name, f"written/{request.node.name}")
        return url, {"backend": name, "storage_options": options}
    return {"local": tmp_path / "x", "memory": f"memory:/{tmp_path}/x", "zarr": MemoryStore()}[name], {}


def test_on_every_backend(place):
    path, options = place
    with counting() as counts:
        values = {"vertex_attributes": {"n": np.arange(300)}, "object_ids": np.arange(300) % 3}
        zvl.write_points(path, POINTS, chunk_shape=1, **values, **options)
    level = zvl.open_zv(path, **options)[0]
    assert np.array_equal(level.vertices.compute(), POINTS[level.attributes["n"].compute()])
    assert len(level.objects.ids) == 3
    # A put for each chunk of 4 arrays, their documents and those of groups, the root twice, and manifests and counts of
    # objects' vertices, each with its document.
    assert counts.by_kind["put"] == 4 * level.chunk_count + 4 + 5 + 2 + 2 + 2
    # The place is checked and listed, and its root is read with each of three batches of puts and for the last one.
    assert counts.by_kind.total() - counts.by_kind["put"] == 2 + 1 + 2 + 1
    with pytest.raises(StoreError, match="a Zarr Vectors store is here already"):
        zvl.write_points(path, POINTS, chunk_shape=1, **options)
    zvl.write_points(path, POINTS[:9], chunk_shape=1, mode="w", **options)
    store = zvl.open_zv(path, **options)
    assert store[0].vertex_count == 9
    assert store[0].objects.groups == {}
    assert list(store[0].attribute_names) == []
