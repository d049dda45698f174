import asyncio
import gc
import pickle
from concurrent.futures import ThreadPoolExecutor

import dask
import numpy as np
import obstore.store
import pytest
from dask.sizeof import sizeof
from fsspec.implementations.local import LocalFileSystem

from tests.servers import file_server
from tests.storage.conftest import OBJECTS, UNLISTABLE
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.requests import Get, ListDir, ListSizes, Size, counting
from zarr_vectors_lazy.storage.resolve import resolve

BIG = "0/a/c/0/0"
EMPTY = "0/a/c/0/1"
WHOLE = OBJECTS[BIG]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Get("zarr.json"), OBJECTS["zarr.json"]),
        (Get(BIG), WHOLE),
        (Get(EMPTY), b""),
        (Get("0/b c/zarr.json"), b"blank"),
        (Get("nothing/here"), None),
        (Get("zarr.json/below"), None),
        (Get("0/a"), None),
        (Get(BIG, 10, 20), WHOLE[10:20]),
        (Get(BIG, 0, 1), WHOLE[:1]),
        (Get(BIG, 0, 0), b""),
        (Get(BIG, 250, 300), WHOLE[250:]),
        (Get(BIG, 300, 310), b""),
        (Get(BIG, 200), WHOLE[200:]),
        (Get(BIG, -5), WHOLE[-5:]),
        (Get(BIG, -500), WHOLE),
        (Get(EMPTY, -5), b""),
        (Get(EMPTY, 0, 5), b""),
        (Get("nothing/here", 0, 5), None),
        (Get("nothing/here", -5), None),
    ],
    ids=str,
)
def test_get(backend, request_, expected):
    (found,) = fetch(backend, [request_])
    if expected is None:
        assert found is None
    else:
        assert bytes(found) == expected
        assert np.frombuffer(found, np.uint8).tobytes() == expected
        assert bytes(pickle.loads(pickle.dumps(found))) == expected


def test_order_is_that_of_the_requests(backend):
    keys = [f"many/{i:04d}" for i in range(0, 1203, 4)]
    assert [bytes(data) for data in fetch(backend, [Get(key) for key in keys])] == [OBJECTS[key] for key in keys]
    assert fetch(backend, []) == []


def test_the_size_of_an_object(backend, kind):
    if kind in UNLISTABLE:  # web servers need not know HEAD
        return
    with counting() as counts:
        assert fetch(backend, [Size(BIG), Size(EMPTY), Size("many/0001"), Size("no/such"), Size("many")]) == [
            len(WHOLE),
            0,
            1,
            None,
            None,
        ]
    assert counts.by_kind == {"head": 5}
    assert counts.bytes == 0


def test_listing_is_paged_and_sorted(backend, kind):
    if kind in UNLISTABLE:
        assert fetch(backend, [ListDir("", required=False)]) == [None]
        for request in (ListDir("0"), ListSizes("")):
            with pytest.raises(StoreError, match="plain HTTP cannot list"):
                fetch(backend, [request])
        assert not backend.listable
        return
    root, level, many, nothing = fetch(backend, [ListDir(""), ListDir("0"), ListDir("many"), ListDir("no/such")])
    assert root == ("0", "many", "zarr.json")
    assert level == ("a", "b c")
    assert many == tuple(f"{i:04d}" for i in range(1203))
    assert nothing == ()


def test_sizes(backend, kind):
    if kind in UNLISTABLE:
        return
    whole, part, nothing = fetch(backend, [ListSizes(""), ListSizes("0/a"), ListSizes("no/such")])
    assert whole == {key: len(data) for key, data in OBJECTS.items()}
    assert part == {key: len(data) for key, data in OBJECTS.items() if key.startswith("0/a/")}
    assert nothing == {}


def test_one_request_an_object(spec, backend):
    with counting() as counts:
        fetch(backend, [Get(BIG), Get("many/0001"), Get("nothing")])
    assert counts.by_kind == {"get": 3}
    assert counts.bytes == len(WHOLE) + 1
    assert sorted(counts.keys) == [BIG, "many/0001", "nothing"]


def test_from_a_running_event_loop(backend):
    async def notebook_cell():
        return fetch(backend, [Get(BIG)])

    (found,) = asyncio.run(notebook_cell())
    assert bytes(found) == WHOLE


def test_from_many_threads_at_once(backend):
    keys = [f"many/{i:04d}" for i in range(160)]

    def read(part):
        return [bytes(data) for data in fetch(backend, [Get(key) for key in keys[part::16]])]

    with ThreadPoolExecutor(16) as threads:
        parts = list(threads.map(read, range(16)))
    assert parts == [[OBJECTS[key] for key in keys[part::16]] for part in range(16)]


@pytest.mark.parametrize("name", ["obstore", "fsspec"])
def test_requests_in_flight_are_limited_over_all_threads(tmp_path, name):
    (tmp_path / "x").write_bytes(b"x")
    with file_server(tmp_path, delay_s=0.05) as (url, seen), dask.config.set({"zarr_vectors_lazy.max-requests": 5}):
        backend = connect(resolve(url, backend=name))
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(lambda _: fetch(backend, [Get("x")] * 10), range(6)))
    assert seen.most == 5
    assert [command for command, *_ in seen.requests] == ["GET"] * 60


def test_s3fs_sends_no_heads_and_obstore_neither(tmp_path):
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "x").write_bytes(b"x" * 100)
    for name, option in {"obstore": "endpoint", "fsspec": "endpoint_url"}.items():
        with file_server(tmp_path, headers={"ETag": '"1"'}) as (url, seen):
            backend = connect(resolve("s3://bucket", backend=name, **{option: url}))
            assert bytes(fetch(backend, [Get("x")])[0]) == b"x" * 100
        assert [command for command, *_ in seen.requests] == ["GET"]


def test_a_failure_cancels_the_rest(tmp_path):
    def status(path, _):
        return 400 if path.endswith("bad") else None

    (tmp_path / "x").write_bytes(b"x")
    for name in ("obstore", "fsspec"):
        with (
            file_server(tmp_path, delay_s=0.01, status=status) as (url, seen),
            dask.config.set({"zarr_vectors_lazy.max-requests": 2}),
        ):
            backend = connect(resolve(url, backend=name))
            with pytest.raises(StoreError, match="reading 'bad'") as caught:
                fetch(backend, [Get("bad"), *[Get("x")] * 200])
            assert caught.value.__cause__ is not None
            assert len(seen.requests) < 100


def test_a_dead_server_is_a_store_error():
    url = "http://127.0.0.1:9"
    dead = [
        resolve("s3://b/p", backend="obstore", endpoint=url, skip_signature=True, retry_config={"max_retries": 0}),
        resolve(
            "s3://b/p", backend="fsspec", endpoint_url=url, anon=True, config_kwargs={"retries": {"max_attempts": 1}}
        ),
        resolve(f"{url}/p", backend="obstore", max_retries=0),
        resolve(f"{url}/p", backend="fsspec"),
    ]
    with dask.config.set({"zarr_vectors_lazy.retries": 1}):
        for spec in dead:
            with pytest.raises(StoreError, match="reading 'k/e/y'") as caught:
                fetch(connect(spec), [Get("k/e/y")])
            assert spec.url in str(caught.value)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["obstore", "fsspec"])
def test_a_missing_bucket_is_not_a_missing_object(s3, name):
    url, options = s3.options(name, "x")
    backend = connect(resolve(url.replace(s3.bucket, "no-such-bucket"), backend=name, **options))
    for request in (Get("zarr.json"), ListDir("")):
        with pytest.raises(StoreError, match=r"(?i)bucket"):
            fetch(backend, [request])


def test_connections_beyond_the_last_32_are_closed_without_complaint(http, caplog):
    specs = [resolve(http, backend="fsspec", headers={"x": f"{i}"}) for i in range(40)]
    for spec in specs:
        fetch(connect(spec), [Get(BIG)])
    gc.collect()
    assert bytes(fetch(connect(specs[0]), [Get(BIG)])[0]) == WHOLE
    assert "Unclosed" not in caplog.text


def test_dask_knows_the_size_of_what_obstore_gives():
    connect(resolve("http://127.0.0.1:9/nothing", backend="obstore"))  # if obstore is used, its bytes are recognised
    bucket = obstore.store.MemoryStore()
    bucket.put("a", bytes(100_000))
    assert sizeof({("vertices", 0): bucket.get("a").bytes()}) >= 100_000


@pytest.mark.parametrize("prefix", ["", "0"])
def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(tmp_path, monkeypatch, prefix):
    (tmp_path / "0" / "a" / "c").mkdir(parents=True)
    (tmp_path / "0" / "a" / "c" / "0").write_bytes(b"cell")
    there, ls = connect(resolve(str(tmp_path), backend="fsspec")), LocalFileSystem.ls
    assert fetch(there, [ListSizes(prefix)]) == [{"0/a/c/0": 4}]

    def refused(system, path, **options):
        if path.endswith("/c"):
            raise PermissionError(13, "Permission denied", path)
        return ls(system, path, **options)

    monkeypatch.setattr(LocalFileSystem, "ls", refused)
    with pytest.raises(StoreError, match=r"listing '.*' failed: .*Permission denied"):
        fetch(there, [ListSizes(prefix)])
