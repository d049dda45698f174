import pickle
from dataclasses import replace

import fsspec
import obstore
import pytest
from zarr.storage import FsspecStore, LocalStore, MemoryStore, ObjectStore, ZipStore

from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage.fetch import connect, delete_below, fetch
from zarr_vectors_lazy.storage.requests import Delete, Get, ListDir, ListSizes, Put, counting
from zarr_vectors_lazy.storage.resolve import resolve

WRITABLE = ["local", "obstore-file", "fsspec-file", "obstore-s3", "fsspec-s3", "memory", "zarr"]


@pytest.fixture(params=WRITABLE)
def backend(request, tmp_path):
    name, _, where = request.param.partition("-")
    folder = request.node.name.replace("[", "-").strip("]")
    if where == "s3":
        url, options = request.getfixturevalue("s3").options(name, f"written/{folder}")
        return connect(resolve(url, backend=name, storage_options=options))
    if where == "file":
        return connect(resolve(tmp_path.as_uri(), backend=name))
    return connect(resolve({"local": tmp_path, "memory": f"memory://write/{folder}", "zarr": MemoryStore()}[name]))


def test_put_replaces(backend):
    assert fetch(backend, [Put("a/b", b"one"), Put("a/c", memoryview(b"two"))]) == [True, True]
    with counting() as counts:
        fetch(backend, [Put("a/b", b"three")])
    assert counts.by_kind == {"put": 1}
    assert [bytes(data) for data in fetch(backend, [Get("a/b"), Get("a/c")])] == [b"three", b"two"]


def test_create_only(backend):
    assert fetch(backend, [Put("a/b", b"one", create=True)]) == [True]
    assert fetch(backend, [Put("a/b", b"two", create=True)]) == [False]
    assert bytes(fetch(backend, [Get("a/b")])[0]) == b"one"
    assert fetch(backend, [ListDir("a")]) == [("b",)]


def test_delete(backend):
    fetch(backend, [Put(f"a/{i}/x", b"x") for i in range(5)])
    assert fetch(backend, [Delete(("a/0/x",)), Delete(("a/1/x", "a/none"))]) == [None, None]
    assert set(fetch(backend, [ListSizes("")])[0]) == {"a/2/x", "a/3/x", "a/4/x"}
    assert fetch(backend, [Get("a/0/x")]) == [None]


def test_delete_below(backend):
    fetch(backend, [Put("zarr.json", b"root"), Put("0/a/x", b"x"), Put("0/b", b"x"), Put("01/b", b"x")])
    assert delete_below(backend, "0") == 2
    assert set(fetch(backend, [ListSizes("")])[0]) == {"zarr.json", "01/b"}
    assert delete_below(backend, keep={"zarr.json"}) == 1
    assert fetch(backend, [ListDir("")]) == [("zarr.json",)]  # no empty folders


def test_read_only_stores_refuse():
    store = MemoryStore()
    for spec in (
        resolve("https://example.com/x", backend="obstore"),
        resolve("https://example.com/x", backend="fsspec"),
    ):
        for request in (Put("a", b""), Delete(("a",))):
            with pytest.raises(StoreError, match="'a' refused: plain HTTP is read-only"):
                fetch(connect(spec), [request])
    with pytest.raises(StoreError, match="writing 'a' refused: the zarr store object is read-only"):
        fetch(connect(resolve(store.with_read_only(read_only=True))), [Put("a", b"")])


def test_store_objects_that_we_open_ourselves_stay_read_only(tmp_path):
    for store in (
        LocalStore(tmp_path, read_only=True),
        ObjectStore(obstore.store.LocalStore(tmp_path), read_only=True),
        FsspecStore.from_url("s3://bucket/path", storage_options={"anon": True}, read_only=True),
    ):
        spec = resolve(store)
        assert spec.instance is None
        with pytest.raises(StoreError, match="writing 'a' refused: the zarr store object is read-only"):
            fetch(connect(spec), [Put("a", b"")])
    assert list(tmp_path.iterdir()) == []


def test_a_zip_store_need_not_be_open(tmp_path):
    store = ZipStore(tmp_path / "x.zip", mode="w")
    fetch(connect(resolve(store)), [Put("a", b"1"), Put("b", b"2")])
    store.close()
    assert fetch(connect(resolve(ZipStore(tmp_path / "x.zip"))), [Get("a"), ListDir("")]) == [b"1", ("a", "b")]
    (tmp_path / "y.zip").write_bytes(b"no zip")
    with pytest.raises(StoreError, match="reading 'a' failed: File is not a zip file"):
        fetch(connect(resolve(ZipStore(tmp_path / "y.zip"))), [Get("a")])


def test_local_leaves_no_part_behind(tmp_path):
    backend = connect(resolve(tmp_path / "store"))
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a").mkdir()
    with pytest.raises(StoreError, match="writing 'a' failed"):
        fetch(backend, [Put("a", b"data")])
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["a"]


def test_local_without_links(tmp_path, monkeypatch):
    def link(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr("os.link", link)
    backend = connect(resolve(tmp_path))
    assert fetch(backend, [Put("a", b"one", create=True), Put("a", b"two", create=True)]) == [True, False]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_memory_of_fsspec_is_seen_by_others():
    fetch(connect(resolve("memory://write/seen")), [Put("x", b"1")])
    assert fsspec.filesystem("memory").cat("/write/seen/x") == b"1"


def test_local_unread_objects_are_written_in_place(tmp_path, monkeypatch):
    backend = connect(resolve(tmp_path / "store"))
    monkeypatch.setattr("os.replace", None)  # no rename
    assert fetch(backend, [Put("a/b/c", b"new", unread=True)]) == [True]
    monkeypatch.undo()
    (tmp_path / "store" / "a" / "part").write_bytes(b"xxxxxxxxxxx")  # of a write that was killed
    inode = (tmp_path / "store" / "a" / "part").stat().st_ino
    assert fetch(backend, [Put("a/part", b"whole", unread=True)]) == [True]
    assert (tmp_path / "store" / "a" / "part").read_bytes() == b"whole"
    assert (tmp_path / "store" / "a" / "part").stat().st_ino != inode  # replaced at once, not written over
    assert sorted(path.name for path in (tmp_path / "store" / "a").iterdir()) == ["b", "part"]


@pytest.mark.parametrize("path", ["memory://write/home", MemoryStore()])
def test_memory_is_not_written_to_from_another_process(path):
    spec = resolve(path)
    assert fetch(connect(pickle.loads(pickle.dumps(spec))), [Put("a", b"here")]) == [True]
    if spec.carried is not None:
        spec.carried.memo.clear()  # as where it arrives
    away = connect(replace(spec, home="another process"))
    for request in (Put("a", b"lost"), Delete(("a",))):
        with pytest.raises(StoreError, match="in the memory of another process"):
            fetch(away, [request])
    assert [bytes(data) for data in fetch(away, [Get("a")])] == [b"here"]
