"""The benchmarks run on small data, and their server behaves like S3."""

import json
import re
import threading
import urllib.error
import urllib.request
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks import __main__ as command
from benchmarks import bench_graph
from benchmarks.case import measure
from benchmarks.datasets import Dataset, ensure_by_hand, keys
from benchmarks.handmade import EDGE, one_fragment
from benchmarks.readers import Job
from benchmarks.s3_server import Server, running

SMALL = Dataset(points=3000, side=4)
OBJECTS = {"a.txt": b"0123456789", "d/1": b"1", "d/2": b"22", "d/e/3": b"333", "d/e/4": b"", "z": b"last"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bucket")
    for key, body in OBJECTS.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(body)
    with running(folder, delay_ms=0) as started:
        yield started


def ask(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(f"{server.endpoint}/{path}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, dict(answer.headers), answer.read()


def names(listing: bytes, tag: str) -> list[str]:
    return re.findall(f"<{tag}>(.*?)</{tag}>", listing.decode())


@pytest.mark.parametrize("key", OBJECTS)
def test_object_is_served_whole(server, key):
    status, headers, body = ask(server, f"bench/{key}")
    assert (status, body) == (200, OBJECTS[key])
    assert headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize(
    ("wanted", "body", "told"),
    [
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
        ("bytes=0-0", b"0", "bytes 0-0/10"),
    ],
)
def test_byte_range(server, wanted, body, told):
    status, headers, got = ask(server, "bench/a.txt", Range=wanted)
    assert (status, got, headers["Content-Range"]) == (206, body, told)


def test_range_outside_the_object_is_refused(server):
    assert ask(server, "bench/a.txt", Range="bytes=10-12")[0] == 416


def test_head_tells_the_size_and_sends_nothing(server):
    status, headers, body = ask(server, "bench/a.txt", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "10", b"")


@pytest.mark.parametrize(("path", "code"), [("bench/none", "NoSuchKey"), ("other/a.txt", "NoSuchBucket")])
def test_what_is_not_there_is_told_in_xml(server, path, code):
    status, headers, body = ask(server, path)
    assert (status, headers["Content-Type"]) == (404, "application/xml")
    assert names(body, "Code") == [code]


def test_writing_is_refused(server):
    assert ask(server, "bench/new", "PUT")[0] == 405


def test_signed_requests_are_answered_like_unsigned_ones(server):
    assert ask(server, "bench/z", Authorization="AWS4-HMAC-SHA256 Credential=x")[2] == b"last"


def test_listing_folds_at_the_delimiter(server):
    _, _, body = ask(server, "bench?list-type=2&prefix=d%2F&delimiter=%2F")
    assert names(body, "Key") == ["d/1", "d/2"]
    assert names(body, "Prefix") == ["d/", "d/e/"]  # the requested one, and the usual one


@pytest.mark.parametrize("delimiter", ["", "&delimiter=%2F"])
def test_pages_of_a_listing_make_the_whole(server, delimiter):
    found, token = [], ""
    while True:
        _, _, body = ask(server, f"bench?list-type=2&max-keys=1{delimiter}{token}")
        found += names(body, "Key") + names(body, "Prefix")[1:]
        if names(body, "IsTruncated") == ["false"]:
            break
        token = f"&continuation-token={names(body, 'NextContinuationToken')[0]}"
    assert found == (["a.txt", "d/", "z"] if delimiter else sorted(OBJECTS))


def test_requests_and_bytes_are_counted_until_reset(server):
    server.counts(reset=True)
    ask(server, "bench/a.txt")
    ask(server, "bench/a.txt", Range="bytes=0-1")
    ask(server, "bench/a.txt", "HEAD")
    missed = len(ask(server, "bench/none")[2])
    listed = len(ask(server, "bench?list-type=2")[2])
    counts = server.counts(reset=True)
    assert counts["methods"] == {"GET": 3, "HEAD": 1, "LIST": 1}
    assert (counts["requests"], counts["ranged"], counts["missing"], counts["failed"]) == (5, 1, 1, 0)
    assert counts["nbytes"] == 10 + 2 + missed + listed
    assert server.counts()["requests"] == 0


def test_a_connection_is_kept(server):
    connection = HTTPConnection(urlsplit(server.endpoint).netloc)
    for body in (OBJECTS["a.txt"], OBJECTS["z"]):
        connection.request("GET", "/bench/a.txt" if body == OBJECTS["a.txt"] else "/bench/z")
        assert connection.getresponse().read() == body
    connection.close()


def test_delays_overlap(tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    with running(tmp_path, delay_ms=400) as slow:
        threads = [threading.Thread(target=ask, args=(slow, "bench/x")) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert slow.counts()["most"] > 1


def test_box_touches_eight_chunks_of_the_grid():
    lo, hi = SMALL.box
    near = range(int(lo[0] // EDGE), int(hi[0] // EDGE) + 1)
    assert SMALL.box_chunks() == {f"{i}.{j}.{k}" for i in near for j in near for k in near}
    assert len(SMALL.box_chunks()) == 8


def test_fragment_index_is_that_of_the_reference():
    """Bytes of a chunk of 2000 points that zarr-vectors 0.9.2 wrote."""
    written = "4746565a 01000000 01000000 01000000 0100000000000000 0000000000000000 d007000000000000 00000000"
    assert one_fragment(2000) == bytes.fromhex(written)


def test_a_measurement_reads_every_row(tmp_path):
    path = ensure_by_hand(SMALL, tmp_path)
    found = measure(Job("ours", url=str(path), folder=str(path)))
    assert found["rows"] == SMALL.points
    assert found["own_requests"] >= SMALL.side**3
    assert len(keys(path)[1]) == SMALL.side**3


def test_benchmark_runs_and_counts_only_what_is_needed(tmp_path, capsys):
    pytest.importorskip("obstore")
    small = ["--points", str(SMALL.points), "--side", str(SMALL.side), "--rounds", "1", "--delay-ms", "1"]
    kept = ["--folder", str(tmp_path / "data"), "--json", str(tmp_path / "results.json")]
    assert command.main([*small, *kept, "--places", "s3", "--in-flight", "64", "--no-reference", "--no-graph"]) == 0
    shown = capsys.readouterr().out
    assert "8-chunk box: 8 chunks needed" in shown
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    ours = {row["work"]: row["samples"][0] for row in rows if row["reader"] == "ours"}
    metadata = {work: sample["server"]["requests"] - {"full": 64, "box": 8}[work] for work, sample in ours.items()}
    assert 0 < metadata["full"] <= 12
    assert metadata["box"] == metadata["full"]
    assert all(sample["own_requests"] == sample["server"]["requests"] for sample in ours.values())


def test_graph_benchmark_runs(tmp_path):
    found = bench_graph.run(rounds=1, side=6, folder=tmp_path)
    assert found["box: blocks"] == [27]
    assert found["box: rows"] == [225]  # of 270: the box leaves out the outer tenth of its chunks
    assert found["whole: blocks"] == [216]
    assert "open + cut" in bench_graph.table(found)


@pytest.mark.reference
def test_readers_agree_with_the_reference(tmp_path, capsys):
    """The run itself compares checksums, and fails if they differ."""
    small = ["--points", str(SMALL.points), "--side", str(SMALL.side), "--rounds", "1", "--places", "disk"]
    kept = ["--folder", str(tmp_path / "data"), "--json", str(tmp_path / "results.json")]
    assert command.main([*small, *kept, "--no-graph"]) == 0
    assert "| reference open_zv |" in capsys.readouterr().out


def test_readme_names_every_option():
    source = Path(command.__file__).read_text()
    readme = Path(command.__file__).with_name("README.md").read_text()
    assert [option for option in re.findall(r'"(--[a-z-]+)"', source) if f"`{option}" not in readme] == []
