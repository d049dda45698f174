"""Precomputed sources over HTTP, and the links that ``zvl serve`` prints."""

import gzip
import json
from urllib.parse import unquote

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.web.served import asked, running
from zarr_vectors_lazy.cli.server import say_links
from zarr_vectors_lazy.convert.precomputed_level import PrecomputedLevel
from zarr_vectors_lazy.web.neuroglancer import FOLDER, Precomputed
from zarr_vectors_lazy.web.server import Server

pytestmark = pytest.mark.emulator


def levels_of(path):
    store = zvl.open_zv(path)
    return {level.index: PrecomputedLevel(level._view) for level in store}


def serving(path):
    levels = levels_of(path)
    return running(Server(levels[0].view.source.spec, views={FOLDER: Precomputed(levels)}))


def test_keys_are_served_to_pages_of_other_sites(tracts):
    with serving(tracts) as server:
        status, body, headers = asked(server, "/precomputed/0/lines/info", Origin="https://else.where")
        assert (status, headers["Access-Control-Allow-Origin"]) == (200, "*")
        assert headers["Content-Type"] == "application/json"
        assert json.loads(body)["annotation_type"] == "polyline"
        _, skeleton, _ = asked(server, "/precomputed/0/skeletons/5")
        status, part, headers = asked(server, "/precomputed/0/skeletons/5", Range="bytes=0-7")
        assert (status, part) == (206, skeleton[:8])
        assert asked(server, "/precomputed/0/skeletons/5", "HEAD")[2]["Content-Length"] == str(len(skeleton))
        assert asked(server, "/precomputed/0/skeletons/5", **{"If-None-Match": headers["ETag"]})[0] == 304
        for nothing in ("0/skeletons/99999", "0/mesh/info", "7/lines/info", "x/lines/info", "0/lines/cells/9_9_9"):
            assert asked(server, f"/precomputed/{nothing}")[0] == 404
        assert b'href="./1/"' in asked(server, "/precomputed/")[1]
        assert b'href="./skeletons/"' in asked(server, "/precomputed/1/")[1]


def test_long_documents_are_sent_compressed(tmp_path):
    paths = np.random.default_rng(0).uniform(0, 30, (4000, 2, 3))
    zvl.write_polylines(tmp_path / "l.zv", list(paths), chunk_shape=10, object_attributes={"n": np.arange(4000)})
    with serving(tmp_path / "l.zv") as server:
        place = "/precomputed/0/skeletons/props/info"
        _, packed, headers = asked(server, place, **{"Accept-Encoding": "gzip"})
        _, plain, _ = asked(server, place)
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed) == plain
    assert len(packed) < len(plain) / 2


def test_what_cannot_be_read_is_told(tracts, tmp_path):
    paths = [np.array([[1.0, 2, 3], [4, 5, 6]])]
    zvl.write_polylines(tmp_path / "l.zv", paths, chunk_shape=10, object_ids=[-4])
    with serving(tmp_path / "l.zv") as server:
        status, body, _ = asked(server, "/precomputed/0/skeletons/1")
    assert status == 500
    assert b"object -4 cannot be shown" in body


def test_links_are_printed_for_every_level(tracts, surface, tmp_path, capsys):
    say_links(levels_of(tracts), "http://here/token")
    out, err = capsys.readouterr()
    link, *others = out.strip().splitlines()
    assert link.startswith("Neuroglancer, level 0: https://neuroglancer-demo.appspot.com/#!")
    state = json.loads(unquote(link.partition("#!")[2]))
    assert [layer["source"] for layer in state["layers"]] == [
        f"precomputed://http://here/token/precomputed/0/{kind}" for kind in ("lines", "skeletons")
    ]
    assert "level 2, points: precomputed://http://here/token/precomputed/2/points" in others
    assert "1 is shown as 1 nm" in err
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.0]])
    zvl.write_mesh(tmp_path / "m.zv", corners, [[0, 1, 2]], chunk_shape=10, object_ids=[-1, -1, -1], units="um")
    say_links(levels_of(tmp_path / "m.zv"), "http://here")
    assert "there is nothing to show in Neuroglancer: object -1 cannot be shown" in capsys.readouterr().err
    say_links({}, "http://here")
    assert capsys.readouterr().out == ""


def test_files_go_to_a_bucket_too(tracts, s3, tmp_path):
    level = zvl.open_zv(tracts)[0]
    url, options = s3.obstore("precomputed/tracts")
    done = level.to_precomputed(url, "lines", sharded=True, limit=40, backend="obstore", storage_options=options)
    assert level.to_precomputed(tmp_path / "out", "lines", sharded=True, limit=40) == done
    files = {path.relative_to(tmp_path / "out"): path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    store = s3.native()
    keys = {meta["path"] for batch in store.list("precomputed/tracts") for meta in batch}
    assert keys == {f"precomputed/tracts/{name.as_posix()}" for name in files}
    for name, path in files.items():
        assert bytes(store.get(f"precomputed/tracts/{name.as_posix()}").bytes()) == path.read_bytes()
