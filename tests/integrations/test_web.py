"""A store over HTTP: objects, byte ranges, other sites, and the rows that the page draws."""

import http.client
import json
import threading
import urllib.parse
from contextlib import contextmanager

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.integrations.web.objects import Server, byte_range
from zarr_vectors_lazy.integrations.web.view import ViewServer

pytestmark = pytest.mark.emulator


@contextmanager
def running(server):
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def ask():
    def ask(server, path, method="GET", **headers):
        place = urllib.parse.urlsplit(server.url)
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=20)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    return ask


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
    ],
)
def test_ranges(header, expected):
    assert byte_range(header, 10) == expected


def test_objects_are_served_whole_and_in_part(tracts, ask):
    root = (tracts / "zarr.json").read_bytes()
    with running(Server(tracts)) as server:
        status, body, headers = ask(server, "/zarr.json")
        assert (status, body) == (200, root)
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert headers["Accept-Ranges"] == "bytes"
        status, body, headers = ask(server, "/zarr.json", Range="bytes=5-9")
        assert (status, body, headers["Content-Range"]) == (206, root[5:10], f"bytes 5-9/{len(root)}")
        assert ask(server, "/zarr.json", Range=f"bytes={len(root)}-")[0] == 416
        status, body, headers = ask(server, "/zarr.json", method="HEAD")
        assert (status, body, headers["Content-Length"]) == (200, b"", str(len(root)))
        status, _, headers = ask(server, "/zarr.json", method="OPTIONS")
        assert (status, headers["Access-Control-Allow-Headers"]) == (204, "*")
        assert ask(server, "/nothing")[0] == 404
        assert ask(server, "/0")[0] == 404
        assert ask(server, "/zarr.json", method="PUT")[0] == 501


def test_nothing_outside_the_folder_is_served(tracts, tmp_path, ask):
    folder = tmp_path / "store"
    folder.mkdir()
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    with running(Server(folder)) as server:
        for path in ("/../secret", "/%2e%2e/secret", "//etc/passwd", "/link", "/a%00b", "/..%2fsecret"):
            assert ask(server, path)[0] == 404, path


def test_a_served_store_opens_like_the_store(tracts):
    with running(Server(tracts)) as server:
        served = zvl.open_zv(server.url)[1]
        assert np.array_equal(served.vertices.compute(), zvl.open_zv(tracts)[1].vertices.compute())


@pytest.mark.parametrize("name", ["tracts-0.9", "cloud-0.7", "surface-0.9"])
def test_the_page_gets_the_rows_of_a_level(goldens, ask, name):
    level = zvl.open_zv(goldens[name].path)[0]
    with running(ViewServer(level.store)) as server:
        facts = json.loads(ask(server, "/view/store.json")[1])
        assert [one["index"] for one in facts["levels"]] == level.store.levels
        assert facts["lower"] == level.store.bounds[0].tolist()
        body = ask(server, "/view/level/0")[1]
        n, e = np.frombuffer(body, "<u4", 2)
        points = np.frombuffer(body, "<f4", 3 * n, 8).reshape(-1, 3)
        edges = np.frombuffer(body, "<u4", 2 * e, 8 + 12 * n).reshape(-1, 2)
        assert len(body) == 8 + 12 * n + 8 * e
        assert np.array_equal(points, level.vertices.compute().astype(np.float32))
        if name == "tracts-0.9":
            assert np.array_equal(edges, level.edges.compute())
        else:
            assert (len(edges) > 0) == (name == "surface-0.9")
        assert ask(server, "/view/level/9")[0] == 404
        assert ask(server, "/view/level/x")[0] == 404
        assert ask(server, "/zarr.json")[0] == 200
        assert b"<canvas" in ask(server, "/")[1]


def test_a_level_that_is_too_large_for_a_page_is_refused(tracts, ask, monkeypatch):
    monkeypatch.setattr("zarr_vectors_lazy.integrations.web.view.MOST_VERTICES", 1000)
    with running(ViewServer(zvl.open_zv(tracts))) as server:
        status, body, _ = ask(server, "/view/level/0")
        assert (status, body) == (413, b"more than 1,000 vertices: too many for a page")
        assert ask(server, "/view/level/1")[0] == 200


def test_the_page_gets_world_coordinates(tmp_path, ask):
    zvl.write_points(tmp_path / "p.zv", [[30.0, 20], [40, 60]], chunk_shape=50, axes=("y", "x"), units="um")
    with running(ViewServer(zvl.open_zv(tmp_path / "p.zv"))) as server:
        facts = json.loads(ask(server, "/view/store.json")[1])
        found = facts["axes"], facts["units"], facts["lower"], facts["upper"]
        assert found == (["x", "y", ""], ["um", "um", None], [20, 30, 0], [60, 40, 0])
        points = np.frombuffer(ask(server, "/view/level/0")[1], "<f4", 6, 8).reshape(-1, 3)
        assert points.tolist() == [[20, 30, 0], [60, 40, 0]]
