"""Writes that are killed at every put, and two writes to one place that meet at every step of the first."""

from concurrent.futures import ThreadPoolExecutor

import dask
import dask.array as da
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.bounds import HANGS_S
from tests.integration.cut import Killed, held, killed_after
from tests.integration.pyramids import files
from zarr_vectors_lazy.errors import FormatError, StoreError
from zarr_vectors_lazy.requests import Delete, Put
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.write.session import begin_write

RANDOM = np.random.default_rng(8)
OLD, NEW, OTHER = (RANDOM.uniform(0, 2, (n, 2)).astype(dtype) for n, dtype in ((12, "f4"), (15, "f8"), (15, "f8")))


def write(path, rows, mode="w", **where):
    """Points of few chunks and objects; old ones have an attribute that new ones have not."""
    values = {"old": np.arange(len(rows))} if rows is OLD else {"new": np.arange(len(rows))}
    ids = np.arange(len(rows)) % 2
    zvl.write_points(path, rows, chunk_shape=1, vertex_attributes=values, object_ids=ids, mode=mode, **where)


def write_lazily(path, rows, mode="w"):
    with dask.config.set(scheduler="sync"):
        zvl.write_points(path, da.from_array(rows, chunks=(8, 2)), chunk_shape=1, mode=mode)


def migrate(goldens, path, mode="w"):
    with dask.config.set(scheduler="sync"):
        zvl.migrate(goldens["cloud-0.7"].path, path, mode=mode)


def state(path, **where):
    """Everything that a new open sees, or why it does not open."""
    try:
        store = zvl.open_zv(path, **where)
    except FormatError as error:
        return next(text for text in ("unfinished write", "nothing is here", "no zarr.json") if text in str(error))
    return [
        [
            level.vertices.compute().tolist(),
            {name: array.compute().tolist() for name, array in level.attributes.items()},
        ]
        for level in store
    ]


def count_puts(path, work):
    with killed_after(resolve(path), 10**9) as left:
        work()
    return 10**9 - left[0]


@pytest.mark.parametrize("before", ["nothing", "old", "unfinished"])
@pytest.mark.parametrize("writer", [write, write_lazily])
def test_killed_at_each_put(tmp_path, writer, before):
    def begin(name):
        path = tmp_path / name / "s"
        if before != "nothing":
            write(path, OLD)
        if before == "unfinished":
            with killed_after(resolve(path), 12), pytest.raises(Killed):
                write(path, OTHER)
        return path, state(path)

    timed, _ = begin("timed")
    asked = []
    with held(resolve(timed), asked.append):
        writer(timed, NEW)
    begun = next(i for i, request in enumerate(asked) if isinstance(request, Put) and request.key == "zarr.json")
    assert all(request.key.startswith("_scratch/") for request in asked[:begun])
    for moment in range(len(asked)):
        path, old = begin(str(moment))
        with killed_after(resolve(path), moment), pytest.raises(Killed):
            writer(path, NEW)
        if before == "nothing" and 0 < moment <= begun:
            old = "no zarr.json"
        assert state(path) == (old if moment <= begun else "unfinished write")
        writer(path, NEW)
        assert files(path) == files(timed)
    assert len(asked) > 12


def test_what_a_killed_write_left_to_wait_goes_with_the_next(tmp_path):
    """Where nothing else is, nothing has to be replaced, and a write from memory sees to it, too."""
    for name, writer in (("memory", write), ("dask", write_lazily)):
        path = tmp_path / name / "s"
        with killed_after(resolve(path), 3), pytest.raises(Killed):
            write_lazily(path, OTHER, mode="w-")
        assert set(files(path))
        writer(path, NEW, mode="w-")
        assert not (path / "_scratch").exists()
        assert state(path)[0][0]


@pytest.mark.stress
@pytest.mark.emulator
@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_killed_at_each_put_in_a_bucket(s3, backend):
    def place(name):
        url, options = s3.options(backend, f"killed-writes-{backend}/{name}/s")
        return url, {"backend": backend, "storage_options": options}

    url, where = place("timed")
    write(url, OLD, **where)
    old = state(url, **where)
    with killed_after(resolve(url, **where), 10**9) as left:
        write(url, NEW, **where)
    new = state(url, **where)
    assert 10**9 - left[0] > 20
    for moment in range(10**9 - left[0]):
        url, where = place(str(moment))
        write(url, OLD, **where)
        with killed_after(resolve(url, **where), moment), pytest.raises(Killed):
            write(url, NEW, **where)
        assert state(url, **where) == (old if moment == 0 else "unfinished write")
        write(url, NEW, **where)
        assert state(url, **where) == new


def test_killed_as_it_migrates(goldens, tmp_path):
    """At the marker, the first and the last cell, between arrays, levels and the root, and while the old store goes."""
    write(tmp_path / "timed", OLD)
    asked = []
    with held(resolve(tmp_path / "timed"), asked.append):
        migrate(goldens, tmp_path / "timed")
    cells = [i for i, request in enumerate(asked) if isinstance(request, Put) and "/c/" in request.key]
    nodes = [
        i
        for i, request in enumerate(asked)
        if isinstance(request, Put) and request.key in ("0/zarr.json", "1/zarr.json")
    ]
    gone = [i for i, request in enumerate(asked) if isinstance(request, Delete)]
    moments = {0, 1, gone[0], gone[len(gone) // 2], gone[-1], gone[-1] + 1, cells[0], cells[-1], cells[-1] + 1}
    moments |= {*nodes, *(node + 1 for node in nodes), len(asked) - 1}
    assert len(nodes) == 2
    assert len(moments) >= 10
    for moment in sorted(moments):
        path = tmp_path / str(moment)
        write(path, OLD)
        old = state(path)
        with killed_after(resolve(path), moment), pytest.raises(Killed):
            migrate(goldens, path)
        assert state(path) == (old if moment == 0 else "unfinished write")
    migrate(goldens, path)
    assert state(path) == state(tmp_path / "timed")


def test_an_attribute_killed_at_each_put(tmp_path):
    def add(path):
        level = zvl.open_zv(path)[0]
        with dask.config.set(scheduler="sync"):
            level.write_attribute("added", np.arange(level.vertex_count))

    write(tmp_path / "timed", OLD)
    old = state(tmp_path / "timed")
    total = count_puts(tmp_path / "timed", lambda: add(tmp_path / "timed"))
    for moment in range(total):
        path = tmp_path / str(moment)
        write(path, OLD)
        with killed_after(resolve(path), moment), pytest.raises(Killed):
            add(path)
        assert state(path) == old
        add(path)
        assert state(path) == state(tmp_path / "timed")
    assert total >= 6


def test_of_two_writes_of_an_attribute_one_is_given_up(tmp_path):
    write(tmp_path / "s", OLD)
    level = zvl.open_zv(tmp_path / "s")[0]
    at_cell = held(resolve(tmp_path / "s"), lambda request: request.key.endswith("added/c/0/0"))
    with at_cell as (reached, released), ThreadPoolExecutor(1) as thread:
        first = thread.submit(level.write_attribute, "added", np.zeros(12))
        assert reached.wait(HANGS_S)
        level.write_attribute("added", np.arange(12.0))
        released.set()
        with pytest.raises(StoreError, match="another write of the attribute 'added' began meanwhile"):
            first.result()
    assert zvl.open_zv(tmp_path / "s")[0].attribute_names == ("added", "old")


def race(path, where):
    """Pause a write at a put, let another one finish, then resume the first; returns how the first ended."""
    with held(resolve(path), where) as (reached, released), ThreadPoolExecutor(1) as thread:
        first = thread.submit(write, path, NEW)
        assert reached.wait(HANGS_S)
        write(path, OTHER)
        released.set()
        return first.exception()


def puts_of(path):
    asked = []
    with held(resolve(path), asked.append):
        write(path, NEW)
    return asked


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What a write of `OTHER` leaves if nobody else writes."""
    path = tmp_path_factory.mktemp("alone") / "s"
    write(path, OTHER)
    return files(path)


@pytest.mark.parametrize("before", ["nothing", "old"])
def test_whoever_is_overtaken_gives_up_and_leaves_the_other_alone(tmp_path, alone, before):
    write(tmp_path / "puts", OLD)
    asked = puts_of(tmp_path / "puts")
    keys = {request.key: request for request in asked if isinstance(request, Put) and request.key != "zarr.json"}
    for number, key in enumerate(keys):
        path = tmp_path / str(number) / "s"
        if before == "old":
            write(path, OLD)
        error = race(path, lambda request, key=key: isinstance(request, Put) and request.key == key)
        assert isinstance(error, StoreError)
        assert "another write took this place meanwhile; this one is given up" in str(error)
        assert files(path) == alone


@pytest.mark.parametrize("number", [0, 1, 2])
def test_overtaken_at_a_root(tmp_path, alone, number):
    """As it takes the place, when it has deleted what was there, and at the very end."""
    path, seen = tmp_path / "s", []
    write(path, OLD)

    def nth_root(request):
        if isinstance(request, Put) and request.key == "zarr.json":
            seen.append(request)
            return len(seen) == number + 1
        return False

    error = race(path, nth_root)
    assert isinstance(error, StoreError)
    assert "took this place" in str(error)
    assert files(path) == alone


def test_overtaken_while_it_deletes(tmp_path, monkeypatch, alone):
    monkeypatch.setattr("zarr_vectors_lazy.storage.fetch.ROUND", 1)
    path, seen = tmp_path / "s", []
    write(path, OLD)

    def third(request):
        seen.append(request) if isinstance(request, Delete) else None
        return len(seen) == 3

    error = race(path, third)
    assert isinstance(error, StoreError)
    missing = set(alone) - set(files(path))
    assert missing <= set(seen[2].keys)  # requests that were in flight; that chunk is an error, not another value
    if any("/vertices/c/" in key for key in missing):
        with pytest.raises(zvl.errors.CorruptChunkError):
            zvl.open_zv(path)[0].vertices.compute()


def is_cell(request):
    return isinstance(request, Put) and "/c/" in request.key


def test_both_at_work_at_once(tmp_path, alone):
    """The second has begun and not yet written what the first puts late: it is replaced."""
    path = tmp_path / "s"
    with ThreadPoolExecutor(2) as threads, held(resolve(path), is_cell) as (reached, released):
        first = threads.submit(write, path, NEW)
        assert reached.wait(HANGS_S)
        with held(resolve(path), is_cell) as (there, go):
            second = threads.submit(write, path, OTHER)
            assert there.wait(HANGS_S)
            released.set()
            assert isinstance(first.exception(), StoreError)
            go.set()
            second.result()
    assert files(path) == alone


def test_an_empty_root_is_an_unfinished_write_unless_something_else_is_there(tmp_path):
    path, other = tmp_path / "s", tmp_path / "other"
    for folder in (path, other):
        folder.mkdir()
        (folder / "zarr.json").touch()
    (other / "mine").write_text("keep")
    assert state(path) == "unfinished write"
    with pytest.raises(StoreError, match="an unfinished write is here already"):
        write(path, NEW, mode="w-")
    write(path, NEW)
    with pytest.raises(StoreError, match="is never replaced: 'mine'"):
        write(other, NEW)
    assert (other / "mine").read_text() == "keep"


def test_the_task_that_begins_runs_again(tmp_path):
    """Killed as it deletes, it deletes the rest; when cells are written, it touches none."""
    path = tmp_path / "s"
    write(path, OLD)
    with killed_after(resolve(path), 3), pytest.raises(Killed):
        begin_write(resolve(path), "w", "id")
    assert len(files(path)) > 1
    session = begin_write(resolve(path), "w", "id")
    assert set(files(path)) == {"zarr.json"}
    session.put([Put("0/vertices/c/0/0", b"cell")])
    session.put([Put("0/vertices/c/0/0", b"cell"), Put("0/vertices/c/0/1", b"other")])
    assert begin_write(resolve(path), "w", "id") == session
    assert set(files(path)) == {"zarr.json", "0/vertices/c/0/0", "0/vertices/c/0/1"}
