"""Intact stores pass; each kind of damage is found by the right check, at the right place."""

import json
import shutil
import struct
import zipfile

import dask
import numpy as np
import pytest
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

import zarr_vectors_lazy as zvl
from tests.conftest import DATA
from tests.format.encode import fragment_index, manifest
from tests.integration.generations import copy_of
from zarr_vectors_lazy.storage.requests import counting

WARNED = {"attribute-of-some-chunks", "manifest-modes-0.7", "paths-attributes", "skeleton-streaming", "zeros-0.7"}
PACKED = [path for path in sorted(DATA.glob("**/*.zarrvectors.zip")) if "0.9-by-others" not in path.parts]
STORES = {path.name.removesuffix(".zarrvectors.zip"): path for path in PACKED}
SAMPLE = [name for at, name in enumerate(STORES) if at % 6 == 0 or name in WARNED]


@pytest.fixture
def tamper(goldens, tmp_path):
    return lambda name: copy_of(goldens[name], tmp_path)


def cell(payload):
    return struct.pack("<II", 1, len(payload)) + payload


def validated(path):
    with dask.config.set(scheduler="sync"):
        return zvl.validate(path)


@pytest.mark.parametrize(
    "name", [*SAMPLE, *(pytest.param(name, marks=pytest.mark.stress) for name in STORES if name not in SAMPLE)]
)
def test_sound_stores_pass(name):
    buffer = default_buffer_prototype().buffer
    with zipfile.ZipFile(STORES[name]) as files:
        store = MemoryStore({key: buffer.from_bytes(files.read(key)) for key in files.namelist()})
    report = validated(store)
    assert report.ok, report
    assert bool(report.warnings) == (name in WARNED), report


@pytest.mark.parametrize("name", ["tracts-0.9", "tracts-0.7"])
def test_each_chunk_is_read_once(goldens, name):
    with counting() as counts:
        report = validated(goldens[name].path)
    cells = [key for key in counts.keys if "/c/" in key and "manifests" not in key and "_attributes/" not in key]
    assert report.ok
    assert len(cells) == len(set(cells))
    store = zvl.open_zv(goldens[name].path)
    assert len([key for key in cells if key.startswith("0/vertices/")]) == store[0].chunk_count


def first(copy, array="0/vertices"):
    return copy.listed(array)[0]


def remove(array):
    return lambda copy: copy.remove(copy.key(array, first(copy, array)))


def put(array, data):
    return lambda copy: copy.put(copy.key(array, first(copy, array)), data)


def edit(node, change):
    return lambda copy: copy.edit(lambda doc: change(doc["attributes"]), node)


def shorten(array):
    def do(copy):
        key = copy.key(array, first(copy, array))
        payload = (copy.path / key).read_bytes()[8:]
        copy.put(key, cell(payload[: len(payload) // 2 // 24 * 24]))

    return do


def move_vertex(copy):
    key = copy.key("0/vertices", first(copy))
    payload = bytearray((copy.path / key).read_bytes()[8:])
    payload[:4] = np.float32(1e6).tobytes()
    copy.put(key, cell(bytes(payload)))


def nan_vertex(copy):
    key = copy.key("0/vertices", first(copy))
    payload = bytearray((copy.path / key).read_bytes()[8:])
    payload[:4] = np.float32(np.nan).tobytes()
    copy.put(key, cell(bytes(payload)))


def far_link(copy):
    (array,) = [a for a in ("0/links/0/0.0.0", "0/links/+1/0.0.0") if (copy.path / a).exists()][:1]
    key = copy.key(array, first(copy, array))
    payload = bytearray((copy.path / key).read_bytes()[8:])
    payload[-8:] = struct.pack("<q", 10**6)
    copy.put(key, cell(bytes(payload)))


def unlist(array):
    return edit(array, lambda attributes: attributes["nonempty_chunks"].pop())


def stamp(copy):
    counts = copy.counts()
    copy.stamp([counts[0] + 1, counts[1] - 1, *counts[2:]])


def manifests(copy):
    """One object whose manifest names a fragment that is not there."""
    doc = copy.read("0/object_index/manifests")
    rank = 3
    doc |= {"shape": [1], "codecs": [{"name": "vlen-bytes", "configuration": {}}]}
    doc["chunk_grid"]["configuration"]["chunk_shape"] = [1]
    copy.write(doc, "0/object_index/manifests")
    copy.edit(lambda doc: doc["attributes"].update(num_objects=1), "0/object_index")
    chunk = tuple(map(int, first(copy).split(".")))
    blob = manifest([(chunk, 10**6)])
    assert len(chunk) == rank
    copy.put("0/object_index/manifests/c/0", struct.pack("<II", 1, len(blob)) + blob)
    for name in ("object_attributes", "groups", "group_attributes"):
        if (copy.path / "0" / name).exists():
            shutil.rmtree(copy.path / "0" / name)
    for node in ("0/object_index/object_ids",):
        if (copy.path / node).exists():
            ids = copy.read(node)
            ids["shape"] = [1]
            copy.write(ids, node)


def break_table(copy):
    node = copy.path / "0/cross_chunk_links/0/data"
    doc = json.loads((node / "zarr.json").read_text())
    doc["codecs"] = [{"name": "bytes"}]
    (node / "zarr.json").write_text(json.dumps(doc))
    (node / "c/0").write_bytes(np.full(doc["shape"][0] // 8, 10**5, "<i8").tobytes())


DAMAGE = {
    "a cell that is gone": ("cloud-0.9", remove("0/vertices"), "structure", "no such object"),
    "a truncated cell": ("cloud-0.9", put("0/vertices", b"\1\0\0\0\x20\0\0\0ab"), "structure", "truncated or too long"),
    "a vertex in another chunk": ("cloud-0.9", move_vertex, "structure", "outside the chunk"),
    "a vertex that is no number": ("cloud-0.9", nan_vertex, "structure", "not finite"),
    "fewer vertices than stated": ("cloud-0.9", shorten("0/vertices"), "counts", "vertex_count states 4946"),
    "a wrong vertex_count": (
        "cloud-0.9", edit("0", lambda a: a["zarr_vectors_level"].update(vertex_count=9)), "counts", "states 9"),
    "wrong stamped counts": ("cloud-0.9", stamp, "counts", "zvl.index"),
    "an attribute of other length": (
        "cloud-0.9", put("0/vertex_attributes/confidence", cell(b"\0" * 4)), "counts", "1 row of values for 3"),
    "codes without a category": (
        "cloud-0.9",
        edit("0/vertex_attributes/type", lambda a: a.update(encoding="dictionary", categories=[])),
        "counts", "no category",
    ),
    "an encoding that is not known": (
        "cloud-0.9",
        edit("0/vertex_attributes/type", lambda a: a.update(encoding="delta")),
        "metadata", "encoding 'delta' cannot be read",
    ),
    "categories without encoding": (
        "cloud-0.9",
        edit("0/vertex_attributes/type", lambda a: a.update(categories=["a"])),
        "metadata", "categories are stated without an encoding",
    ),
    "names of other groups": (
        "tracts-0.9", edit("0/groups", lambda a: a.update(group_names=["a"])), "counts", "1 group_names for"),
    "a level that the root does not name": (
        "cloud-0.9",
        edit("", lambda a: a["multiscales"][0].update(datasets=a["multiscales"][0]["datasets"][:-1])),
        "metadata", "does not name the level",
    ),
    "fragments beyond the rows": (
        "cloud-0.9", put("0/vertex_fragments", cell(fragment_index([(0, 10**6)]))), "fragments", "refer to row 999999"),
    "a fragment index that is none": (
        "cloud-0.9", put("0/vertex_fragments", cell(b"x" * 40)), "fragments", "starts with"),
    "fragments that do not tile": (
        "cloud-0.9",
        lambda copy: (
            edit("0", lambda a: a["zarr_vectors_level"].update(fragments_tile=True))(copy),
            put("0/vertex_fragments", cell(fragment_index([(0, 1)])))(copy),
        ),
        "fragments", "do not partition",
    ),
    "a fragment index that is not listed": ("cloud-0.9", unlist("0/vertex_fragments"), "structure", "no cell here"),
    "a cell that is not listed": ("cloud-0.9", unlist("0/vertices"), "structure", "stored cells are not listed"),
    "a link to a row that is not there": ("neuron-0.9", far_link, "links", "names row 1000000"),
    "links that are no records": (
        "neuron-0.9", put("0/links/0/0.0.0", cell(b"x" * 9)), "links", "whole number of rows"),
    "another number of links": (
        "neuron-0.9", edit("0/links/0", lambda a: a.update(num_links=1)), "counts", "num_links"),
    "a family that cannot be parsed": (
        "neuron-0.9", edit("0/links/0", lambda a: a.update(link_width=0)), "metadata", "link_width"),
    "a manifest to no fragment": ("tracts-0.9", manifests, "manifests", "1000000 of chunk"),
    "another number of objects": (
        "tracts-0.9", edit("0/object_index", lambda a: a.update(num_present=3)), "counts", "num_present states 3"),
    "an array without its node": (
        "cloud-0.9", lambda copy: (copy.path / "0/vertex_fragments/zarr.json").unlink(), "structure", "no array"),
    "bounds that are no box": (
        "cloud-0.9", edit("", lambda a: a["zarr_vectors"].update(bounds=[[1] * 3, [0] * 3])), "metadata", "not a box"),
    "a convention that is none": (
        "cloud-0.9", edit("", lambda a: a["zarr_vectors"].update(links_convention="x")), "metadata", "not one of"),
    "a cell of 0.7 that is gone": (
        "cloud-0.7", lambda copy: copy.remove(copy.key("0/vertices", first(copy))), "structure", "no such object"),
    "a link table of 0.7 that leads nowhere": (
        "neuron-0.7", break_table, "links", "chunks that do not exist"),
}  # fmt: skip
LEGAL = {
    "a cell that is not listed",
    "categories without encoding",
    "a level that the root does not name",
    "a wrong vertex_count",  # what edits leave: only counts that we write are trusted
    "fewer vertices than stated",
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_damage_is_found(tamper, damage):
    name, do, check, message = DAMAGE[damage]
    copy = tamper(name)
    do(copy)
    report = validated(copy.path)
    hits = [finding for finding in report.findings if finding.check == check and message in finding.message]
    assert hits, report
    assert not report.ok or damage in LEGAL
    assert all((finding.severity == "warning") is (damage in LEGAL) for finding in hits)


def test_what_is_no_store_is_a_finding(tmp_path):
    report = validated(tmp_path)
    assert not report.ok
    assert str(report.errors[0]).startswith("error in structure: nothing is here")


def test_a_level_that_the_root_alone_names_is_a_warning(tamper):
    copy = tamper("cloud-0.9")
    (copy.path / "2/zarr.json").unlink()
    report = validated(copy.path)
    assert report.ok
    assert any("does not exist" in finding.message for finding in report.warnings)


def test_report_prints(tamper):
    copy = tamper("cloud-0.9")
    remove("0/vertices")(copy)
    report = validated(copy.path)
    text, html = repr(report), report._repr_html_()
    assert "not ok" in text
    assert "error in structure, 0/vertices chunk" in text
    assert "<td" in html
    assert "0/vertices chunk" in html
    assert "ok>" in repr(validated(copy.path / "..").__class__("x", ()))


@pytest.mark.parametrize("array", ["object_attributes/size", "group_attributes/weight", "object_index/manifests"])
def test_arrays_of_objects_are_read_anew(tmp_path, array):
    zvl.write_points(
        tmp_path / "x",
        np.zeros((4, 2)),
        chunk_shape=1,
        object_ids=np.arange(4),
        object_attributes={"size": np.arange(4)},
        groups={"all": range(4)},
        group_attributes={"weight": [1.0]},
    )
    assert zvl.open_zv(tmp_path / "x")[0].objects.ids.tolist() == [0, 1, 2, 3]  # manifests are kept now
    assert not validated(tmp_path / "x").findings
    cell = tmp_path / "x" / "0" / array / "c" / "0"
    cell.write_bytes(cell.read_bytes()[:-1] + b"x")
    report = validated(tmp_path / "x")
    assert any("checksum" in finding.message for finding in report.errors), report


def test_it_is_a_graph(goldens):
    report = zvl.validate(goldens["cloud-0.9"].path, compute=False)
    assert dask.is_dask_collection(report)
    assert report.compute(scheduler="sync").ok


def test_progress_shows_a_bar(goldens, capsys):
    assert zvl.validate(goldens["cloud-0.9"].path, progress=True).ok
    assert "100%" in capsys.readouterr().err


@pytest.mark.parametrize(("change", "check", "message"), [
    (lambda ids: ids[:-1], "fragments", "object ids for"),
    (lambda ids: ids[::-1] + 1, "manifests", "of another object than that whose manifest"),
])  # fmt: skip
def test_object_ids_of_fragments(tmp_path, change, check, message):
    points = np.random.default_rng(0).uniform(0, 20, (200, 3))
    zvl.write_points(tmp_path, points, chunk_shape=10, object_ids=np.arange(200) % 7, compressor=None, checksum=False)
    assert not validated(tmp_path).findings
    path = tmp_path / "0/fragment_attributes/segment_id/c/0/0/0"
    ids = np.frombuffer(path.read_bytes()[8:], "<i8")
    path.write_bytes(cell(np.ascontiguousarray(change(ids)).tobytes()))
    report = validated(tmp_path)
    assert [finding.check for finding in report.errors] == [check]
    assert message in report.errors[0].message
