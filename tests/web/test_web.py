"""A store over HTTP: objects, byte ranges, other sites, folders, and the rows that the page draws."""

import http.server
import json
import os
import socket
import threading
import time
import urllib.parse
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.web.served import asked, running, serving
from zarr_vectors_lazy.cli.server import view_server
from zarr_vectors_lazy.errors import SelectionError, StoreError
from zarr_vectors_lazy.read.metadata import linked_names
from zarr_vectors_lazy.storage.requests import counting
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.web import server as web
from zarr_vectors_lazy.web.server import Server, byte_range

pytestmark = pytest.mark.emulator


@pytest.fixture
def ask():
    return asked


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, (0, 10)),
        ("bytes=2-4", (2, 5)),
        ("bytes=2-", (2, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-30", (0, 10)),
        ("bytes=2-40", (2, 10)),
        ("bytes=10-", None),
        ("bytes=4-2", None),
        ("bytes=-0", None),
        ("bytes=0-1,4-5", (0, 10)),
        ("lines=1-2", (0, 10)),
        ("bytes=-", (0, 10)),
        (f"bytes={'9' * 5000}-", (0, 10)),
        (f"bytes=0-{'9' * 5000}", (0, 10)),
    ],
)
def test_ranges(header, expected):
    assert byte_range(header, 10) == expected


CELL = "/0/vertices/c/0/0/0"


@pytest.fixture
def own(tmp_path):
    where = tmp_path / "own.zarrvectors"
    points = np.random.default_rng(0).uniform(0, 5, (900, 3))
    zvl.write_points(
        where, points, chunk_shape=5, vertex_attributes={"I [a.u.]": np.arange(900)}, object_ids=np.arange(900) // 90
    )
    return where


def test_objects_are_served_whole_and_in_part(own, ask):
    cell = (own / CELL.strip("/")).read_bytes()
    with serving(own) as server:
        status, body, headers = ask(server, CELL)
        assert (status, body) == (200, cell)
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert headers["Accept-Ranges"] == "bytes"
        assert headers["Cache-Control"] == "no-cache"
        assert ask(server, CELL, **{"If-None-Match": headers["ETag"]})[:2] == (304, b"")
        status, body, headers = ask(server, CELL, Range="bytes=5-9")
        assert (status, body, headers["Content-Range"]) == (206, cell[5:10], f"bytes 5-9/{len(cell)}")
        assert ask(server, CELL, Range="bytes=5-9", **{"If-Range": '"old"'})[:2] == (200, cell)
        assert ask(server, CELL, Range=f"bytes={len(cell)}-")[0] == 416
        assert ask(server, CELL, Range=f"bytes={'9' * 5000}-")[0] == 200
        status, body, headers = ask(server, CELL, method="HEAD")
        assert (status, body, headers["Content-Length"]) == (200, b"", str(len(cell)))
        status, _, headers = ask(server, CELL, method="OPTIONS")
        assert (status, headers["Access-Control-Allow-Headers"]) == (204, "*")
        assert ask(server, "/nothing")[0] == 404
        assert ask(server, "/0")[0] == 308
        assert ask(server, f"/{'n' * 300}")[0] == 404
        assert ask(server, CELL, method="PUT")[0] == 405


def test_nothing_outside_the_folder_is_served(tmp_path, ask):
    folder = tmp_path / "store"
    zvl.write_points(folder, np.eye(3), chunk_shape=5)
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    with serving(folder) as server:
        for path in (
            "/../secret",
            "/%2e%2e/secret",
            "//etc/passwd",
            "/link",
            "/a%00b",
            "/..%2fsecret",
            "/%2e%2e/",
            "/%ff",
        ):
            assert ask(server, path)[0] == 404, path


UP = ["..", "%2e%2e", ".%2e", "./..", "0/../..", "/..", "..%5c..", "%252e%252e"]


@pytest.mark.parametrize("where", ["local", "obstore", "fsspec"])
def test_nothing_beside_the_store_is_served(tmp_path, ask, http_host, where):
    for name in ("store", "beside"):
        zvl.write_points(tmp_path / name, np.eye(3), chunk_shape=5)
    if where == "local":
        (tmp_path / "store/away").symlink_to(tmp_path / "beside")
        (tmp_path / "store/round").symlink_to(tmp_path / "store/round")
        spec = resolve(tmp_path / "store")
    else:
        files = [file for file in tmp_path.rglob("*") if file.is_file()]
        http_host.put(where, {file.relative_to(tmp_path).as_posix(): file.read_bytes() for file in files})
        spec = resolve(f"{http_host.url}/{where}/store", backend=where)
    http_host.asked.clear()
    with running(Server(spec)) as server:
        for tree in ("", "/raw"):
            for key in ("zarr.json", "0/vertices/zarr.json", CELL.strip("/"), "0/vertices/c/", ""):
                for path in [*(f"{tree}/{up}/beside/{key}" for up in UP), f"{tree}/away/{key}", f"{tree}/round/{key}"]:
                    assert ask(server, path)[0] == 404, path
            assert ask(server, f"{tree}/a%1b%5b31m%0a")[0] == 404
        assert ask(server, f"/raw{CELL}")[0] == 200
    assert not [one.path for one in http_host.asked if not one.path.startswith(f"{where}/store")]


def test_a_file_that_may_not_be_read(own, ask, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    with serving(own) as server:
        monkeypatch.setattr("pathlib.Path.open", refuse)
        assert ask(server, CELL)[0] == 403


def test_the_address_begins_with_a_token(own, ask):
    with serving(own) as server:
        assert len(urllib.parse.urlsplit(server.url).path) > 12
        base = server.url
        server.url = base.rpartition("/")[0]
        for path in ("/", "/zarr.json", CELL, f"/x{CELL}"):
            assert ask(server, path)[0] == 404
        server.url = base
        assert ask(server, "")[0] == 308
    with serving(own, public=True) as server:
        assert urllib.parse.urlsplit(server.url).path == ""
        assert ask(server, CELL)[0] == 200


def test_a_port_in_use_is_one_line(own):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SelectionError, match="cannot listen on port"):
            Server(resolve(own), port=taken.getsockname()[1])


def test_a_slow_client_holds_nobody(own, ask):
    with serving(own) as server:
        place = urllib.parse.urlsplit(server.url)
        slow = [socket.create_connection((place.hostname, place.port)) for _ in range(30)]
        for one in slow:
            one.send(b"GET /")
        begin = time.monotonic()
        assert ask(server, CELL)[0] == 200
        assert time.monotonic() - begin < 25  # after 30 s the slow ones are given up
        for one in slow:
            one.close()


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "a":
            self.found.append(urllib.parse.unquote(dict(attrs)["href"].removeprefix("./")))


def test_folders_are_listed(own, ask):
    with serving(own) as server:
        status, _, headers = ask(server, "/0/vertex_attributes/I%20%5Ba.u.%5D")
        assert (status, headers["Location"]) == (308, "I%20%5Ba.u.%5D/")
        for folder, _, _ in os.walk(own):
            path = os.path.relpath(folder, own)
            path = "/" if path == "." else f"/{urllib.parse.quote(path)}/"
            status, body, headers = ask(server, path)
            assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
            right = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in os.scandir(folder))
            assert Links(body.decode()).found == right


@pytest.mark.parametrize("name", ["tracts-0.9", "cloud-0.7"])
def test_a_served_store_opens_like_the_store(goldens, name):
    local = zvl.open_zv(goldens[name].path)
    with serving(goldens[name].path) as server:
        served = zvl.open_zv(server.url)
        assert served.levels == local.levels
        assert served[0].attribute_names == local[0].attribute_names
        assert np.array_equal(served[1].vertices.compute(), local[1].vertices.compute())
        assert list(served[0].objects.attributes) == list(local[0].objects.attributes)


def test_consolidated_metadata_are_made_once_for_a_while(own, ask, monkeypatch):
    monkeypatch.setattr(web, "MADE_S", 600.0)
    with serving(own) as server:
        first = ask(server, "/zarr.json")[1]
        assert "consolidated_metadata" in json.loads(first)
        with counting() as counts:
            assert ask(server, "/zarr.json")[1] == first
        assert counts.requests == 0
        level = zvl.open_zv(own)[0]
        level.write_attribute("later", level.vertices[:, 0])
        monkeypatch.setattr(web, "MADE_S", 0.0)
        assert b"vertex_attributes/later" in ask(server, "/zarr.json")[1]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Unlisted(Quiet):
    def list_directory(self, _path):
        self.send_error(404)


@contextmanager
def plain_server(folder, handler=Quiet):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
@pytest.mark.parametrize("tree", ["", "/raw", "plain"])
def test_pages_of_folders_tell_what_consolidated_metadata_would(own, tree, backend):
    local = zvl.open_zv(own)
    with serving(own) as ours, plain_server(own) as plain:
        served = zvl.open_zv(plain if tree == "plain" else ours.url + tree, consolidated=False, backend=backend)
        assert served.levels == local.levels
        assert served[0].attribute_names == local[0].attribute_names
        assert list(served[0].objects.attributes) == list(local[0].objects.attributes)
        assert served.headers == local.headers == {}
        name = local[0].attribute_names[0]
        assert np.array_equal(served[0].attributes[name].compute(), local[0].attributes[name].compute())


def test_without_pages_there_are_no_names(own):
    with plain_server(own, Unlisted) as url:
        served = zvl.open_zv(url)
        assert served[0].vertices.compute().shape == (900, 3)
        with pytest.raises(StoreError, match=r"does not show what is in its folders; .*zvl\.consolidate"):
            _ = served[0].attribute_names


@pytest.mark.parametrize(
    ("page", "names"),
    [
        (b'<!DOCTYPE html><a href="./a%20b/">x</a><A HREF="c?C=M;O=A">y</A><a name="d">', ("a b", "c")),
        (b'<html><a href="../">up</a><a href="/else/">e</a><a href="https://example.org/f/">f</a>', None),
        (b"{}", None),
        (None, None),
    ],
)
def test_names_of_a_page(page, names):
    assert linked_names(page) == names


@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_a_store_in_a_bucket_is_served(s3, own, ask, backend):
    s3.upload(own, f"served-{backend}")
    url, options = s3.options(backend, f"served-{backend}")
    with running(Server(resolve(url, backend=backend, storage_options=options))) as server:
        cell = (own / CELL.strip("/")).read_bytes()
        assert ask(server, CELL)[:2] == (200, cell)
        assert ask(server, CELL, Range="bytes=2-5")[:2] == (206, cell[2:6])
        with counting() as counts:
            status, body, headers = ask(server, CELL, "HEAD")
        assert (status, body, headers["Content-Length"]) == (200, b"", str(len(cell)))
        assert counts.bytes == 0
        assert ask(server, CELL, "HEAD", Range="bytes=2-5")[2]["Content-Length"] == "4"
        assert ask(server, "/0/no", "HEAD")[0] == 404
        assert Links(ask(server, "/0/vertex_attributes/")[1].decode()).found == ["I [a.u.]/", "zarr.json"]
        assert np.array_equal(zvl.open_zv(server.url)[0].vertices.compute(), zvl.open_zv(own)[0].vertices.compute())


def test_rows_are_for_pages_of_this_server_alone(tracts, ask):
    with running(view_server(zvl.open_zv(tracts))) as server:
        place = urllib.parse.urlsplit(server.url)
        origin = f"http://{place.netloc}"
        status, _, headers = ask(server, "/view/level/1")
        assert (status, headers["Access-Control-Allow-Origin"]) == (200, None)
        assert ask(server, "/view/level/1", Origin=origin)[0] == 200
        assert ask(server, "/view/level/1", Origin="https://example.org")[0] == 403
        assert ask(server, "/view/level/1", Host="example.org")[0] == 403
        assert ask(server, "/view/level/1", Host="localhost:me@example.org")[0] == 403
        assert ask(server, "/view/level/1", Host=f"localhost:{place.port}")[0] == 200
        server.url = f"http://{place.netloc}"
        assert ask(server, "/view/level/1")[0] == 404


@pytest.mark.parametrize("name", ["tracts-0.9", "cloud-0.7", "surface-0.9"])
def test_the_page_gets_the_rows_of_a_level(goldens, ask, name):
    level = zvl.open_zv(goldens[name].path)[0]
    with running(view_server(level.store)) as server:
        facts = json.loads(ask(server, "/view/store.json")[1])
        assert [one["index"] for one in facts["levels"]] == level.store.levels
        assert facts["lower"] == level.store.bounds[0].tolist()
        body = ask(server, "/view/level/0")[1]
        n, e = np.frombuffer(body, "<u4", 2)
        points = np.frombuffer(body, "<f4", 3 * n, 8).reshape(-1, 3)
        edges = np.frombuffer(body, "<u4", 2 * e, 8 + 12 * n).reshape(-1, 2)
        assert len(body) == 8 + 12 * n + 8 * e
        middle = (np.array(facts["lower"]) + facts["upper"]) / 2  # positions are told about it
        np.testing.assert_allclose(points + middle, level.vertices.compute(), rtol=1e-6, atol=1e-3)
        if name == "tracts-0.9":
            assert np.array_equal(edges, level.edges.compute())
        else:
            assert (len(edges) > 0) == (name == "surface-0.9")
        assert ask(server, "/view/level/9")[0] == 404
        assert ask(server, "/view/level/x")[0] == 404
        assert ask(server, "/zarr.json")[0] == 200
        assert b"<canvas" in ask(server, "/")[1]


def test_a_level_that_is_too_large_for_a_page_is_refused(tracts, ask, monkeypatch):
    monkeypatch.setattr("zarr_vectors_lazy.cli.server.MOST_VERTICES", 1000)
    with running(view_server(zvl.open_zv(tracts))) as server:
        status, body, _ = ask(server, "/view/level/0")
        assert (status, body) == (413, b"more than 1,000 vertices: too many for a page")
        assert ask(server, "/view/level/1")[0] == 200


def test_the_page_gets_world_coordinates(tmp_path, ask):
    zvl.write_points(tmp_path / "p.zv", [[30.0, 20], [40, 60]], chunk_shape=50, axes=("y", "x"), units="um")
    with running(view_server(zvl.open_zv(tmp_path / "p.zv"))) as server:
        facts = json.loads(ask(server, "/view/store.json")[1])
        found = facts["axes"], facts["units"], facts["lower"], facts["upper"]
        assert found == (["x", "y", ""], ["um", "um", None], [20, 30, 0], [60, 40, 0])
        points = np.frombuffer(ask(server, "/view/level/0")[1], "<f4", 6, 8).reshape(-1, 3)
        assert (points + np.array([40, 35, 0])).tolist() == [[20, 30, 0], [60, 40, 0]]
