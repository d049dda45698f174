"""Records that tasks send each other, and what remains of them."""

import pickle

import dask
import numpy as np
import pytest
from zarr.storage import MemoryStore, ZipStore

from zarr_vectors_lazy.errors import SelectionError, StoreError
from zarr_vectors_lazy.storage.fetch import connect
from zarr_vectors_lazy.storage.requests import ListSizes, counting
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.write import scratch as scratches
from zarr_vectors_lazy.write.scratch import (
    Exchange,
    RecordBatch,
    Relays,
    Runs,
    Scratch,
    Step,
    guarded,
    index_runs,
    receive,
    run_step,
    send,
)

DTYPE = np.dtype([("number", "<i8"), ("x", "<f4"), ("filling", "u1", (4,))])
MAIL = Exchange(name="mail", dtype=DTYPE, receivers=4)


@pytest.fixture(params=["folder", "memory", "zarr", "zip", "elsewhere"])
def scratch(request, tmp_path):
    place = {
        "memory": f"memory:/{tmp_path}/x",
        "zarr": MemoryStore(),
        "zip": ZipStore(tmp_path / "x.zip", mode="w"),
    }.get(request.param, tmp_path / "x")
    options = {"temporary_directory": str(tmp_path / "temporary")}
    if request.param == "elsewhere":
        options["zarr_vectors_lazy.scratch"] = str(tmp_path / "elsewhere")
    with dask.config.set(options):
        yield Scratch.of(resolve(place), "one")


def records(*numbers):
    found = np.zeros(len(numbers), DTYPE)
    found["number"] = numbers
    return found


def sent(scratch, sender, to):
    batch = RecordBatch(records(*(sender * 100 + np.arange(len(to)))), np.asarray(to, np.int64))
    send(scratch, MAIL, sender, batch.runs(MAIL.receivers))


def index(scratch, senders=3):
    index_runs(scratch, MAIL, range(senders))


def received(scratch, receiver):
    found = receive(scratch, MAIL, receiver)
    assert found.dtype == DTYPE
    return found["number"].tolist()


def left(scratch):
    (sizes,) = connect(scratch.spec).fetch([ListSizes("")])
    return sorted(sizes)


def test_each_gets_its_own_in_the_order_of_the_senders(scratch):
    for sender, to in enumerate([[0, 2, 0, 1], [], [2, 2, 0]]):
        sent(scratch, sender, to)
    copy = scratch if scratch.spec.home else pickle.loads(pickle.dumps(scratch))
    index(copy)
    assert [received(copy, i) for i in range(4)] == [[0, 2, 202], [3], [1, 200, 201], []]
    sent(scratch, 2, [2, 2, 0])  # a task that runs twice puts the same twice
    assert received(copy, 2) == [1, 200, 201]
    scratch.remove()
    assert left(scratch) == []
    with pytest.raises(StoreError, match=r"mail/index is gone: another write took this place .* given up"):
        received(scratch, 0)


def test_runs_of_more_numbers_than_receivers(scratch):
    rows = Exchange(name="rows", dtype=DTYPE, receivers=2)
    send(scratch, rows, 0, Runs(records(*range(6)), np.asarray([[0, 0, 2], [0, 1, 3], [7, 0, 5], [7, 1, 6]])))
    index_runs(scratch, rows, [0], receivers_of=lambda chunks: chunks[:, 1], width=2)
    assert [receive(scratch, rows, i)["number"].tolist() for i in (0, 1)] == [[0, 1, 3, 4], [2, 5]]


def test_what_one_sends_to_one_is_not_copied(scratch):
    batch = RecordBatch(records(7, 8, 9), np.asarray([2, 2, 2]))
    runs = batch.runs(MAIL.receivers)
    assert runs.records is batch.records
    send(scratch, MAIL, 0, runs)
    index(scratch, 1)
    found = receive(scratch, MAIL, 2)
    assert found["number"].tolist() == [7, 8, 9]
    assert found.base is not None


def test_what_is_short_is_told(scratch):
    sent(scratch, 0, [1, 1])
    index(scratch, 1)
    sent(scratch, 0, [1])
    with pytest.raises(StoreError, match="mail/0 is short"):
        received(scratch, 1)


def test_requests_of_a_receiver(scratch):
    for sender in range(9):
        sent(scratch, sender, [0, sender % 2])
    index(scratch, 9)
    with counting() as counts:
        assert len(received(scratch, 1)) == 4
    assert counts.requests == 2 + 4  # the index twice, and each run


def test_a_failure_leaves_nothing_and_lets_nothing_more_in(scratch):
    sent(scratch, 0, [1])
    with pytest.raises(ZeroDivisionError), scratch:
        1 / 0  # noqa: B018
    assert left(scratch) == []
    sent(scratch, 1, [1])  # a thread that was at it
    assert left(scratch) == []
    scratches._closed.discard(scratch.prefix)


def test_a_task_that_refuses_the_write_leaves_nothing(scratch):
    def refuse(why):
        raise SelectionError(why)

    sent(scratch, 0, [1])
    with pytest.raises(SelectionError, match="why"):
        guarded(scratch, refuse, "why")
    assert left(scratch) == []
    assert guarded(scratch, len, "four") == 4


def test_what_others_left_elsewhere_goes(scratch):
    other = Scratch(scratch.spec, scratch.folder, "other")
    for each in (scratch, other):
        sent(each, 0, [1])
    scratch.remove_others()
    assert any("/other/" in key for key in left(scratch)) is (scratch.folder == scratches.SCRATCH)
    index(scratch, 1)
    assert received(scratch, 1) == [0]


def test_a_step_receives_works_and_sends(scratch):
    def work(found, factor):
        return (RecordBatch(records(*found["number"] * factor), np.zeros(len(found), np.int64)),), len(found)

    sent(scratch, 0, [3, 3])
    index(scratch, 1)
    onward = Exchange(name="onward", dtype=DTYPE, receivers=1)
    step = Step(scratch=scratch, work=work, number=3, takes=[MAIL], sends=[onward])
    assert run_step(step, None, 10) == 2
    assert "onward/3" in " ".join(left(scratch))


@pytest.mark.parametrize("senders", [1, 2, 5, 10, 17, 31])
def test_each_gets_the_same_by_way_of_others(scratch, senders, monkeypatch):
    monkeypatch.setattr(scratches, "MOST_RUNS", 3)
    random = np.random.default_rng(senders)
    for sender in range(senders):
        sent(scratch, sender, random.integers(0, 4, 5))
    index(scratch, senders)
    relays = Relays.of(MAIL, senders)
    assert [each for group in range(relays.groups) for each in relays.group(group)] == list(range(senders))
    for group in range(relays.groups if relays.groups > 1 else 0):
        index_runs(scratch, MAIL, relays.group(group), name=f"index-{group}")
        for span in range(relays.spans):
            relays.join(scratch, group, span)
    for span in range(relays.spans):
        index_runs(scratch, relays.to(span), range(relays.groups if relays.groups > 1 else senders))
    for receiver in range(4):
        found = receive(scratch, relays.to_receiver(receiver), receiver)
        assert found["number"].tolist() == received(scratch, receiver)


@pytest.mark.parametrize(("senders", "receivers", "most"), [(1_000, 1_000, 10**6), (10_000, 60_000, 1.3e7)])
def test_requests_of_a_large_write(senders, receivers, most):
    relays = Relays.of(Exchange(name="mail", dtype=DTYPE, receivers=receivers), senders)
    asked = receivers * relays.groups + relays.spans * senders if relays.groups > 1 else receivers * senders
    assert asked <= most
    assert relays.spans * relays.groups <= 1.1 * receivers  # a task that joins has as much data as one that receives
