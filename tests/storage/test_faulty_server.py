"""What each backend does when a server misbehaves: the right bytes, or a StoreError that says where."""

import dask
import pytest

from tests.bounds import comes_true
from tests.faults.server import LASTING, SILENT, TRANSIENT, Rule, fault_server
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.requests import Get, ListDir
from zarr_vectors_lazy.storage.resolve import resolve

pytestmark = [pytest.mark.emulator, pytest.mark.filterwarnings("ignore:no answer from")]
HOWS = ["obstore-s3", "fsspec-s3", "obstore-http", "fsspec-http"]
DATA = bytes(range(256)) * 40
RETRIES = 3  # on a busy machine, an answer may take longer than the limit of silence once or twice
LIMITS = {"patient": "60 s", "impatient": "0.5 s"}
GETS = [Get("a/0"), Get("a/0", 100, 600), Get("a/0", 9000), Get("a/0", -700)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faulty")
    for name in LIMITS:
        (folder / name / "a").mkdir(parents=True)
        (folder / name / "a" / "0").write_bytes(DATA)
    with fault_server(folder) as running:
        yield running


@pytest.fixture(params=HOWS)
def backend(server, request):
    """A connection that gives up soon, at once where the server will be silent; each limit has a store of its own."""
    server.rules.clear()
    name = "impatient" if request.node.callspec.params.get("kind") in SILENT else "patient"
    url, options = server.at(request.param, name)
    limits = {"retries": RETRIES, "retry-timeout": "120 s", "read-timeout": LIMITS[name]}
    with dask.config.set({f"zarr_vectors_lazy.{name}": value for name, value in limits.items()}):
        yield connect(resolve(url, **options))
    server.rules.clear()


def right(get):
    start = get.start or 0
    return DATA[start : get.stop]


@pytest.mark.parametrize("kind", [kind for kind in TRANSIENT if kind != "503 after"])
def test_a_fault_that_passes_is_not_seen(server, backend, kind):
    server.rules.append(Rule(kind, times=2))
    assert [bytes(data) for data in fetch(backend, GETS[:2])] == [right(get) for get in GETS[:2]]
    assert not server.rules[0].times


@pytest.mark.parametrize("kind", ["500", *SILENT])
def test_a_fault_that_stays_is_an_error_after_the_last_retry(server, backend, kind):
    server.rules.append(Rule(kind, times=100))
    with pytest.raises(StoreError, match="a/0") as caught:
        fetch(backend, [GETS[0]])
    assert comes_true(lambda: 100 - server.rules[0].times >= 1 + RETRIES)  # it may be late
    assert 100 - server.rules[0].times == 1 + RETRIES
    assert backend.url in str(caught.value)


@pytest.mark.parametrize("kind", SILENT)
def test_a_server_that_is_silent_for_a_while(server, backend, kind):
    server.rules.append(Rule(kind, times=1))
    assert bytes(fetch(backend, [GETS[0]])[0]) == DATA


@pytest.mark.parametrize("get", GETS, ids=str)
@pytest.mark.parametrize("kind", ["whole", "other range"])
def test_a_range_that_was_not_asked_for(server, backend, kind, get):
    server.rules.append(Rule(kind))
    try:
        (found,) = fetch(backend, [get])
    except StoreError:
        assert kind == "other range"
    else:
        assert bytes(found) == right(get)


@pytest.mark.parametrize("get", GETS[1:], ids=str)
def test_a_range_that_is_cut_short(server, backend, get):
    server.rules.append(Rule("short"))
    try:
        (found,) = fetch(backend, [get])
    except StoreError:
        return
    assert bytes(found) == right(get)[: len(found)]  # its reader knows how many it asked for
    assert len(found) < len(right(get))


def test_refused(server, backend):
    server.rules.append(Rule("denied"))
    with pytest.raises(StoreError, match="a/0"):
        fetch(backend, [GETS[0]])
    assert set(LASTING) & {"denied"}


def test_a_listing_that_fails_at_first(server, backend):
    if not backend.listable:
        return
    server.rules.append(Rule("503", times=2))
    assert fetch(backend, [ListDir("a")]) == [("0",)]


def test_limits_of_the_user_win(server):
    url, options = server.at("obstore-s3", "patient")
    server.rules[:] = [Rule("500", times=1)]
    options["storage_options"] |= {"retry_config": {"max_retries": 0}}
    with pytest.raises(StoreError):
        fetch(connect(resolve(url, **options)), [GETS[0]])
