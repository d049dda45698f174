"""Consolidated metadata that we write: complete, in one put, and readable by Zarr."""

import json
import warnings

import numpy as np
import pytest
import zarr

import zarr_vectors_lazy as zvl
from tests.integration.collect import collect, compute_together, differing
from tests.integration.generations import copy_of
from tests.servers import file_server
from zarr_vectors_lazy.errors import FormatError, StoreError
from zarr_vectors_lazy.storage.requests import counting
from zarr_vectors_lazy.write import in_place


@pytest.fixture
def copy(golden, tmp_path):
    return copy_of(golden, tmp_path)


def test_one_request_opens_the_store_and_gives_the_same(copy, golden, results):
    before = copy.read()
    with counting() as counts:
        zvl.consolidate(copy.path)
    assert counts.by_kind["put"] == 1
    assert not [key for key in counts.keys if "/c/" in key]
    after = copy.read()
    assert {**after, "consolidated_metadata": None} == {**before, "consolidated_metadata": None}
    with counting() as counts:
        store = zvl.open_zv(copy.path, consolidated=True)
    assert counts.keys == ["zarr.json"]
    assert not differing(compute_together(collect(store, golden.name, depth="some")), results(golden.name))
    assert not [file for file in copy.path.iterdir() if file.name.startswith(".")]


def test_zarr_reads_them(copy):
    zvl.open_zv(copy.path).consolidate()
    group = zarr.open_consolidated(copy.path, mode="r")
    nodes = set(copy.read()["consolidated_metadata"]["metadata"])
    folders = {file.parent.relative_to(copy.path).as_posix() for file in copy.path.rglob("zarr.json")} - {"."}
    assert folders <= nodes
    assert {path for path, _ in group.members(max_depth=None)} == nodes


@pytest.fixture
def cloud(tmp_path):
    """A store of ours with consolidated metadata."""
    positions = np.random.default_rng(3).random((200, 3)) * 30
    path = tmp_path / "cloud.zarrvectors"
    zvl.write_points(path, positions, chunk_shape=(10.0,) * 3, vertex_attributes={"a": np.arange(200)})
    zvl.consolidate(path)
    return path


def opened_before(path):
    """Write an attribute of a level that was opened when there were no consolidated metadata yet."""
    root = path / "zarr.json"
    consolidated = root.read_bytes()
    bare = {name: value for name, value in json.loads(consolidated).items() if name != "consolidated_metadata"}
    root.write_text(json.dumps(bare))
    level = zvl.open_zv(path)[0]
    root.write_bytes(consolidated)
    level.write_attribute("late", np.arange(200))


@pytest.mark.parametrize(
    "change",
    [
        lambda path: zvl.open_zv(path)[0].write_attribute("b", np.arange(200)),
        opened_before,
        zvl.index,
        lambda path: zvl.shard(path, shard_shape=2),
        lambda path: zvl.build_pyramid(path, factors=[(2, 1), (2, 1)]),
        lambda path: [zvl.build_pyramid(path, factors=[(4, 1)] * n, overwrite=True) for n in (2, 1)],
        lambda path: zvl.coarsen_level(path, 0, 2, 4.0),
        lambda path: zvl.write_points(path, np.ones((3, 3)), chunk_shape=(10.0,) * 3, mode="w"),
        lambda path: zvl.rechunk(path, path.with_name("dst"), chunk_shape=(15.0,) * 3),
    ],
    ids=["attribute", "late", "index", "shard", "pyramid", "rebuilt", "coarsen", "anew", "rechunk"],
)
def test_what_changes_a_store_leaves_none_that_are_stale(cloud, change):
    change(cloud)
    root = json.loads((cloud / "zarr.json").read_text())
    said = zvl.open_zv(cloud), zvl.open_zv(cloud, consolidated=False)
    assert ("consolidated_metadata" in root) == (said[0][0].vertex_count == 200)
    assert said[0].levels == said[1].levels
    for levels in zip(*said, strict=True):
        assert levels[0].attribute_names == levels[1].attribute_names
    assert not [finding for finding in zvl.validate(cloud).findings if "consolidated" in finding.message]


def test_validate_finds_those_that_are_stale(copy):
    zvl.consolidate(copy.path)
    assert zvl.validate(copy.path).ok

    def found():
        return [finding for finding in zvl.validate(copy.path).findings if "consolidated" in finding.message]

    assert not found()
    inline = copy.read()
    nodes = inline["consolidated_metadata"]["metadata"]
    nodes["0"]["attributes"]["note"] = "old"
    nodes["0/gone"] = nodes["0"]
    last = max(path for path in nodes if path.startswith("0/vert") and path != "0/gone")
    del nodes[last]
    copy.write(inline)
    findings = {finding.where: finding for finding in found()}
    assert findings.keys() == {"0", "0/gone", last}
    assert {finding.severity for finding in findings.values()} == {"error"}
    assert all("consolidate updates them" in finding.message for finding in findings.values())
    zvl.consolidate(copy.path)
    assert not found()


def test_zarrs_own_are_none_that_are_stale(copy):
    before = zvl.validate(copy.path).findings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(copy.path)
    assert zvl.validate(copy.path).findings == before


def test_again_is_the_same(copy):
    zvl.consolidate(copy.path)
    first = copy.read()
    zvl.consolidate(copy.path)
    assert copy.read() == first


@pytest.mark.emulator
@pytest.mark.parametrize("kind", ["obstore", "fsspec"])
def test_in_a_bucket(goldens, s3, results, kind):
    prefix = f"consolidated/{kind}"
    s3.upload(goldens["neuron-0.7"].path, prefix)
    url, options = s3.options(kind, prefix)
    zvl.consolidate(url, backend=kind, storage_options=options)
    store = zvl.open_zv(url, backend=kind, storage_options=options, consolidated=True)
    assert not differing(compute_together(collect(store, "neuron-0.7", depth="few")), results("neuron-0.7"))


@pytest.mark.parametrize("backend", ["memory", "zarr"])
def test_on_other_backends(place, backend):
    path, options = place("cloud-0.9", backend)
    zvl.consolidate(path, **options)
    with counting() as counts:
        assert zvl.open_zv(path, **options).levels == [0, 1, 2]
    assert counts.requests == 1


def test_what_is_no_store_is_left_alone(tmp_path):
    zarr.create_group(tmp_path / "plain", attributes={"colour": "blue"})
    before = (tmp_path / "plain" / "zarr.json").read_bytes()
    with pytest.raises(FormatError, match="plain Zarr"):
        zvl.consolidate(tmp_path / "plain")
    assert (tmp_path / "plain" / "zarr.json").read_bytes() == before


def test_a_root_that_changes_meanwhile_is_left_alone(copy, monkeypatch):
    def change(tree):
        copy.edit(lambda doc: doc["attributes"].update(touched=True))
        return {}

    monkeypatch.setattr(in_place, "read_nodes", change)
    with pytest.raises(FormatError, match="changed"):
        zvl.consolidate(copy.path)
    assert copy.read()["attributes"]["touched"]
    assert not copy.read().get("consolidated_metadata")


def test_a_large_root_is_warned_of(copy, monkeypatch):
    monkeypatch.setattr(in_place, "LARGE_NBYTES", 1000)
    with pytest.warns(UserWarning, match="MB"):
        zvl.consolidate(copy.path)


def test_a_failed_put_is_an_error(copy, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    before = copy.read()
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StoreError, match=r"writing 'zarr\.json'.*No space"):
        zvl.consolidate(copy.path)
    monkeypatch.undo()
    assert copy.read() == before
    assert not [file for file in copy.path.iterdir() if file.name.startswith(".")]


@pytest.mark.emulator
def test_plain_http_cannot(copy):
    with file_server(copy.path.parent) as (url, _), pytest.raises(StoreError, match="cannot be listed"):
        zvl.consolidate(
            f"{url}/{copy.path.name}", backend="obstore", storage_options={"client_options": {"allow_http": True}}
        )


def test_the_root_stays_json(copy):
    zvl.consolidate(copy.path)
    inline = json.loads((copy.path / "zarr.json").read_text())["consolidated_metadata"]
    assert inline["kind"] == "inline"
    assert inline["must_understand"] is False
    assert list(inline["metadata"]) == sorted(inline["metadata"])
