import asyncio
import pickle

import pytest
from zarr.abc.store import OffsetByteRequest, RangeByteRequest
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.testing import KINDS, Fault, FaultyStore, kinds_happened

PROTOTYPE = default_buffer_prototype()
DATA = bytes(range(100))


def store(*faults, data=DATA):
    return FaultyStore(MemoryStore({"a/b": PROTOTYPE.buffer.from_bytes(data)}), faults)


def get(store, key="a/b", byte_range=None):
    found = asyncio.run(store.get(key, PROTOTYPE, byte_range))
    return None if found is None else found.to_bytes()


def test_without_faults_it_is_the_other_store():
    assert get(store()) == DATA
    assert get(store(), byte_range=RangeByteRequest(3, 7)) == DATA[3:7]
    assert get(store(), "nothing") is None


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(kind="slow"), DATA),
        (Fault(kind="missing"), None),
        (Fault(kind="empty"), b""),
        (Fault(kind="truncated", at=0.3), DATA[:30]),
        (Fault(kind="shifted"), DATA[1:]),
        (Fault(kind="whole"), DATA),
        (Fault(kind="error", key="c"), DATA),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_what_each_does(fault, expected):
    assert get(store(fault)) == expected


def test_a_flip_is_of_one_bit():
    found = get(store(Fault(kind="flipped", at=0.25)))
    assert sum((a ^ b).bit_count() for a, b in zip(found, DATA, strict=True)) == 1
    assert found[25] != DATA[25]
    assert get(store(Fault(kind="flipped"), data=b"")) == b""


def test_garbage_is_the_same_every_time():
    found = {get(store(Fault(kind="garbage", at=0.1))) for _ in range(3)}
    assert len(found) == 1
    assert len(*found) == len(DATA)
    assert DATA not in found


@pytest.mark.parametrize(("kind", "error"), [("error", OSError), ("denied", PermissionError)])
def test_what_is_raised(kind, error):
    with pytest.raises(error, match="a/b"):
        get(store(Fault(kind=kind)))


def test_the_whole_for_a_range():
    assert get(store(Fault(kind="whole")), byte_range=OffsetByteRequest(90)) == DATA


def test_so_many_times_and_no_more():
    faulty = store(Fault(kind="missing", times=2), Fault(kind="empty", times=1))
    assert [get(faulty) for _ in range(4)] == [None, None, b"", DATA]
    assert faulty.happened == [("missing", "a/b"), ("missing", "a/b"), ("empty", "a/b")]
    assert {kind: n for kind, n in kinds_happened([faulty]).items() if n} == {"missing": 2, "empty": 1}
    assert set(kinds_happened([])) == set(KINDS)


def test_it_travels_with_its_faults():
    again = pickle.loads(pickle.dumps(store(Fault(kind="empty"))))
    assert get(again) == b""
    assert not again.faults[0].key


def test_a_store_that_is_read_through_it(tracts):
    files = {f.relative_to(tracts).as_posix(): f.read_bytes() for f in tracts.rglob("*") if f.is_file()}
    memory = MemoryStore({key: PROTOTYPE.buffer.from_bytes(data) for key, data in files.items()})
    faulty = FaultyStore(memory, [Fault(kind="denied", key="vertices/c/", times=1)])
    level = zvl.open_zv(faulty)[0]
    with pytest.raises(StoreError, match="may not be read"):
        level.vertices.compute()
    assert len(level.vertices.compute()) == level.vertex_count
