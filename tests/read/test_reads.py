import pickle
from dataclasses import dataclass

import dask
import numpy as np
import pytest
from dask.highlevelgraph import HighLevelGraph
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.format.encode import cell, modest
from zarr_vectors_lazy.format.codecs import Pipeline
from zarr_vectors_lazy.format.v09.arrays import GridLayout
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.read.cells import read_batch
from zarr_vectors_lazy.read.layers import (
    List,
    Member,
    ReadLayer,
    Reads,
    RecipeLayer,
    Task,
    TaskRef,
    UnfusedTask,
    cell_name,
    read_graph,
    shared_reads,
)
from zarr_vectors_lazy.read.level import Source
from zarr_vectors_lazy.storage.spec import StoreSpec

N = 40
COORDS = np.stack([np.arange(N), np.arange(N) % 7 - 3], axis=1)
NBYTES = {"vertices": 1000, "heads": 32, "attribute:a": 300}
NAME = "zv-reads-abc"


def spec_of(path):
    layout = GridLayout(path=path, origin=(0, -3), separator="/", pipeline=Pipeline(()), shards=None)
    return CellSpec(path=path, dtype=np.dtype("f4"), row_shape=(2,), layout=layout)


def make_reads(url="/nowhere", missing=()):
    reads = Reads(NAME, Source(StoreSpec("local", str(url)), 0), COORDS)
    vertices = spec_of("0/vertices")
    present = np.ones(N, np.bool_)
    reads.members["vertices"] = Member(spec=vertices, present=present, nbytes=NBYTES["vertices"])
    reads.members["heads"] = Member(spec=vertices, present=present, nbytes=NBYTES["heads"], head=True)
    some = present.copy()
    some[list(missing)] = False
    reads.members["attribute:a"] = Member(spec=spec_of("0/vertex_attributes/a"), present=some, nbytes=300)
    return reads


def key_of(member, chunk, *stop):
    return (cell_name(NAME, member), chunk, *stop)


def batches_of(tasks):
    """Batches as lists of (member, chunk)."""
    found = [task for task in tasks.values() if task.func is read_batch]
    assert all(type(task) is UnfusedTask for task in found)
    return [[(want.member, row) for want in task.args[1] for row in want.rows] for task in found]


def limits(*, chunks=128, nbytes="64 MiB", workers=1):
    names = {"batch-chunks": chunks, "batch-bytes": nbytes, "workers": workers}
    return dask.config.set({f"zarr_vectors_lazy.{name}": value for name, value in names.items()})


wanted_cells = st.sets(st.tuples(st.sampled_from(sorted(NBYTES)), st.integers(0, N - 1)), min_size=1)


@settings(modest, max_examples=150)
@given(wanted_cells, st.integers(1, 50), st.integers(1, 5000), st.integers(1, 60))
def test_batches_hold_exactly_the_wanted_cells_within_their_bounds(cells, most, nbytes, workers):
    # A head is not fetched separately if its whole cell is wanted anyway.
    fetched = {(member, chunk) for member, chunk in cells if member != "heads" or ("vertices", chunk) not in cells}
    with limits(chunks=most, nbytes=nbytes, workers=workers):
        tasks = ReadLayer(make_reads()).wanted([key_of(*c) for c in cells])
    batches = batches_of(tasks)
    assert sorted(c for batch in batches for c in batch) == sorted(fetched)
    assert max(map(len, batches)) <= min(most, -(-len(fetched) // workers))
    assert all(len(batch) == 1 or sum(NBYTES[member] for member, _ in batch) <= nbytes for batch in batches)
    assert all(key_of(*c) in tasks for c in cells)


@pytest.mark.parametrize(("workers", "sizes"), [(1, [40]), (3, [14, 14, 12]), (7, [6] * 6 + [4]), (40, [1] * 40)])
def test_work_is_spread_evenly_over_the_slots(workers, sizes):
    keys = [key_of("vertices", chunk) for chunk in range(N)]
    with limits(workers=workers):
        assert sorted(map(len, batches_of(ReadLayer(make_reads()).wanted(keys))), reverse=True) == sizes
    with limits(workers=99):
        assert len(batches_of(ReadLayer(make_reads(), slots=workers).wanted(keys))) == len(sizes)


def test_batches_are_runs_of_neighbouring_chunks_of_all_members():
    keys = [key_of(member, chunk) for member in ("vertices", "attribute:a") for chunk in range(N)]
    with limits(workers=4):
        batches = batches_of(ReadLayer(make_reads()).wanted(keys))
    chunks = [sorted({chunk for _, chunk in batch}) for batch in batches]
    assert sorted(chunks) == [list(range(start, start + 10)) for start in range(0, N, 10)]
    assert all({member for member, _ in batch} == {"vertices", "attribute:a"} for batch in batches)


def test_a_batch_says_how_and_where_its_cells_are():
    with limits():
        tasks = ReadLayer(make_reads()).wanted([key_of("heads", 3), key_of("attribute:a", 5), key_of("heads", 9)])
    (task,) = [task for task in tasks.values() if task.func is read_batch]
    wants = {want.member: want for want in task.args[1]}
    assert wants["heads"].rows == (3, 9)
    assert wants["heads"].coords.tolist() == COORDS[[3, 9]].tolist()
    assert wants["heads"].head
    assert not wants["attribute:a"].head
    assert wants["heads"].spec.path == "0/vertices"
    assert task.args[0] == make_reads().source


def test_equal_wishes_have_equal_batches_and_others_do_not():
    def names(chunks):
        tasks = ReadLayer(make_reads()).wanted([key_of("vertices", chunk) for chunk in chunks])
        return {key for key, task in tasks.items() if task.func is read_batch}

    with limits():
        assert names([1, 2, 3]) == names([3, 2, 1])
        assert not names([1, 2, 3]) & names([1, 2])


def test_keys_are_the_cells_that_are_present():
    keys = ReadLayer(make_reads(missing=(2, 5))).get_output_keys()
    assert key_of("attribute:a", 2) not in keys
    assert keys == {
        key_of(m, c) for m in NBYTES for c in range(N) if (m, c) not in {("attribute:a", 2), ("attribute:a", 5)}
    }


def test_nothing_is_wanted():
    layer = ReadLayer(make_reads())
    assert layer.wanted([]) == {}
    assert layer.wanted([("other", 1), "x", 3]) == {}
    culled, needed = layer.cull(set(), set())
    assert (len(culled), needed) == (0, {})


def payload(member, chunk):
    return cell(f"{member} {chunk}".encode() * 9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Cells of a store, uncompressed: their bytes are what a pick gives."""
    root = tmp_path_factory.mktemp("cells")
    for member, path in {"vertices": "0/vertices", "attribute:a": "0/vertex_attributes/a"}.items():
        for chunk, (x, y) in enumerate(COORDS.tolist()):
            file = root / path / "c" / str(x) / str(y + 3)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(payload(member, chunk))
    return root


@dataclass(frozen=True)
class Joined:
    """Block b is a list of the bytes of some cells, given by member, and start and stop within ten chunks."""

    wishes: tuple[tuple[str, int, int], ...]

    def task(self, key, block):
        refs = []
        for member, start, stop in self.wishes:
            first = 10 * block
            run = (first + start, first + stop) if stop > start + 1 else (first + start,)
            refs.append(TaskRef(key_of(member, *run)))
        return Task(key, flat, List(*refs))


def flat(parts):
    return [bytes(raw) for part in parts for raw in (part if isinstance(part, list) else [part])]


def graph_of(reads, wishes):
    layers = {"out": RecipeLayer("out", Joined(tuple(wishes)), N // 10), NAME: ReadLayer(reads)}
    return HighLevelGraph(layers, {"out": {NAME}, NAME: set()})


run = st.tuples(st.integers(0, 9), st.integers(1, 10)).filter(lambda ends: ends[0] < ends[1])
wish = st.tuples(st.sampled_from(["vertices", "attribute:a", "heads"]), run).map(lambda w: (w[0], *w[1]))


@settings(modest, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(wish, min_size=1, max_size=4), st.sets(st.integers(0, N // 10 - 1), min_size=1), st.integers(1, 30))
def test_tasks_pick_their_cells_from_batches(folder, wishes, blocks, most):
    keys = [("out", block) for block in sorted(blocks)]
    with limits(chunks=most):
        tasks = graph_of(make_reads(folder), wishes).cull(set(keys)).to_dict()
    # Picking is part of the requesting tasks: only those and the batches remain.
    assert {key for key, task in tasks.items() if task.func is not read_batch} == set(keys)
    results = dask.get(tasks, keys)
    for block, found in zip(sorted(blocks), results, strict=True):
        expected = [(m, 10 * block + c) for m, start, stop in wishes for c in range(start, stop)]
        assert len(found) == len(expected)
        for raw, (member, chunk) in zip(found, expected, strict=True):
            stored = payload("vertices" if member == "heads" else member, chunk)
            assert raw == stored or (member == "heads" and raw == stored[:32])


def test_heads_are_picked_from_whole_cells(folder):
    with limits():
        tasks = graph_of(make_reads(folder), [("heads", 0, 5), ("vertices", 2, 4)]).cull({("out", 0)}).to_dict()
    (batch,) = batches_of(tasks)
    assert sorted(batch) == [("heads", 0), ("heads", 1), ("heads", 4), ("vertices", 2), ("vertices", 3)]
    found = dask.get(tasks, ("out", 0))
    assert [len(raw) for raw in found[:5]] == [32, 32, len(payload("vertices", 2)), len(payload("vertices", 3)), 32]


def test_cells_that_are_asked_for_themselves_keep_their_keys(folder):
    with limits():
        keys = {key_of("vertices", 3), key_of("vertices", 4, 7)}
        tasks = read_graph(make_reads(folder)).cull(keys).to_dict()
    assert bytes(dask.get(tasks, key_of("vertices", 3))) == payload("vertices", 3)
    assert [bytes(raw) for raw in dask.get(tasks, key_of("vertices", 4, 7))] == [
        payload("vertices", c) for c in (4, 5, 6)
    ]


def test_graphs_that_are_not_culled_give_the_same(folder):
    with limits(chunks=7):
        tasks = graph_of(make_reads(folder), [("vertices", 3, 4), ("heads", 5, 6)]).to_dict()
    assert dask.get(tasks, ("out", 2)) == [payload("vertices", 23), payload("vertices", 25)]


def test_members_that_join_later_have_keys_too():
    reads = make_reads()
    layer = ReadLayer(reads)
    before = len(layer)
    reads.members["attribute:b"] = Member(spec=spec_of("0/b"), present=np.ones(N, np.bool_), nbytes=1)
    assert len(layer) > before
    assert key_of("attribute:b", 1) in layer


def test_a_name_stands_for_one_object_in_a_process():
    source = Source(StoreSpec("local", "/nowhere"), 0)
    one = shared_reads("zv-reads-one", source, COORDS)
    assert shared_reads("zv-reads-one", source, COORDS) is one
    assert shared_reads("zv-reads-two", source, COORDS) is not one
    assert pickle.loads(pickle.dumps(one)) is one


def test_reads_that_arrive_bring_their_members():
    source = Source(StoreSpec("local", "/nowhere"), 0)
    sender = shared_reads("zv-reads-sent", source, COORDS)
    sender.members.update(make_reads().members)
    raw = pickle.dumps(sender)
    del sender
    here = shared_reads("zv-reads-sent", source, COORDS)
    here.members["other"] = Member(spec=spec_of("o"), present=np.ones(N, np.bool_), nbytes=1)
    assert pickle.loads(raw) is here
    assert here.members.keys() == {*NBYTES, "other"}
    # Heads are still served by whole cells: both members have one spec.
    assert here.members["heads"].spec is here.members["vertices"].spec


@pytest.mark.parametrize("reach", [1, 127, 128, 129, 40_000, 2**40])
def test_coordinates_travel_small_and_whole(reach):
    coords = np.array([[-reach, 0], [reach, 1]])
    reads = shared_reads(f"zv-reads-{reach}", Source(StoreSpec("local", "/nowhere"), 0), coords)
    assert reads.coords.tolist() == coords.tolist()
    assert reads.coords.itemsize == (1 if reach <= 127 else 2 if reach < 2**15 else 4 if reach < 2**31 else 8)


def test_layers_pickle_with_the_slots_of_where_they_were_made():
    layer = ReadLayer(make_reads())
    layer.annotations = {"priority": 1}
    with limits(workers=4):
        raw = pickle.dumps(layer)
    with limits(workers=40):
        copy = pickle.loads(raw)
        keys = [key_of("vertices", chunk) for chunk in range(N)]
        assert len(batches_of(copy.wanted(keys))) == 4
    assert copy.annotations == {"priority": 1}
    assert copy.name == NAME
