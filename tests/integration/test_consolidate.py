"""Consolidated metadata as we write them: complete, in one put, and Zarr reads them too."""

import json

import pytest
import zarr

import zarr_vectors_lazy as zvl
from tests.integration.collect import collect, compute_together, differing
from tests.integration.generations import copy_of
from tests.servers import file_server
from zarr_vectors_lazy.access.upkeep import consolidate
from zarr_vectors_lazy.errors import FormatError, StoreError
from zarr_vectors_lazy.storage.counters import counting


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

    monkeypatch.setattr(consolidate, "read_nodes", change)
    with pytest.raises(FormatError, match="changed"):
        zvl.consolidate(copy.path)
    assert copy.read()["attributes"]["touched"]
    assert not copy.read().get("consolidated_metadata")


def test_a_large_root_is_warned_of(copy, monkeypatch):
    monkeypatch.setattr(consolidate, "LARGE_NBYTES", 1000)
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
