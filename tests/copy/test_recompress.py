"""Stores copied cell by cell with other codecs: the same store, complete or not at all."""

import json
import shutil

import dask
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.copy.test_shard import assert_same, given, objects, reference_agrees
from zarr_vectors_lazy.errors import CorruptChunkError, FormatError, SelectionError, StoreError
from zarr_vectors_lazy.write.session import WriteSession

RAW = {"compressor": None, "checksum": False}


def documents(path):
    return {file.parent.relative_to(path).as_posix(): json.loads(file.read_text()) for file in path.rglob("zarr.json")}


def without_coding(docs):
    """Documents without what a copy may have otherwise: consolidated ones, how arrays are stored, named attributes."""
    other = {"codecs", "chunk_grid", "chunk_key_encoding", "storage_transformers", "consolidated_metadata"}
    found = {path: {name: value for name, value in doc.items() if name not in other} for path, doc in docs.items()}
    found["."]["attributes"]["zarr_vectors"].pop("attribute_specs", None)
    return found


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("points-gzip", RAW),
        ("points-sharded-blosc", {"compressor": "blosc", "shard_shape": 2}),
        ("graph-sharded", RAW),
        ("paths-by-text", {"shard_shape": 3}),
        ("links-triples-duplicate", {"compressor": "blosc", "checksum": False}),
        ("mesh-quads", {}),
        ("pyramid-objects-anisotropic", RAW),
        ("n093-additive-polylines", {"compressor": None, "shard_shape": 2}),
        ("n094-dense-manifests", RAW),
        ("graph-with-parametric", RAW),
    ],
)
def test_the_copy_is_the_store(variety, tmp_path, name, options):
    where, copy = variety(name), tmp_path / "copy.zv"
    done = zvl.recompress(where, copy, **options)
    assert done["left_out"] == []
    assert without_coding(documents(copy)) == without_coding(documents(where))
    assert_same(given(copy), given(where))
    assert zvl.validate(copy).ok == zvl.validate(where).ok
    array = zvl.open_store(copy).zarr_group["0/vertices"]
    assert (array.shards is None) == ("shard_shape" not in options)
    assert len(array.compressors) == (options.get("compressor", "zstd") is not None) + options.get("checksum", True)
    stored = [file for file in copy.rglob("*") if file.is_file() and file.name != "zarr.json"]
    assert done["object_count"] == len(stored)
    assert done["nbytes"] == sum(file.stat().st_size for file in stored)


def test_the_reference_reads_the_copy(variety, tmp_path):
    where = variety("points-sharded-blosc")
    zvl.recompress(where, tmp_path / "copy.zv", profile="viewer")
    np.testing.assert_array_equal(reference_agrees(tmp_path / "copy.zv"), reference_agrees(where))


def test_there_and_back_is_the_same_to_the_byte(goldens, tmp_path):
    where = goldens["tracts-0.9"].path
    there, again, back = (tmp_path / name for name in ("there.zv", "again.zv", "back.zv"))
    zvl.recompress(where, there)
    zvl.recompress(there, again, compressor="blosc", shard_shape=4)
    zvl.recompress(again, back)
    files = {file.relative_to(there) for file in there.rglob("*") if file.is_file()}
    assert files == {file.relative_to(back) for file in back.rglob("*") if file.is_file()}
    assert all((there / file).read_bytes() == (back / file).read_bytes() for file in files)


def test_consolidated_stays_so(variety, tmp_path):
    where = shutil.copytree(variety("paths-attributes"), tmp_path / "own.zv")
    zvl.consolidate(where)
    zvl.recompress(where, tmp_path / "copy.zv", **RAW)
    inline = documents(tmp_path / "copy.zv")["."]["consolidated_metadata"]["metadata"]
    assert inline == {path: doc for path, doc in documents(tmp_path / "copy.zv").items() if path != "."}
    assert_same(given(tmp_path / "copy.zv"), given(where))


def test_what_is_not_known_goes_along(variety, tmp_path):
    where = shutil.copytree(variety("points-2d"), tmp_path / "own.zv")
    group = zvl.open_store(where, mode="r+").zarr_group
    image = group.create_array("headers/picture", shape=(5, 7), chunks=(2, 3), dtype="f4", shards=(4, 6))
    image[:] = np.arange(35).reshape(5, 7)
    (where / "README.txt").write_text("by hand")
    done = zvl.recompress(where, tmp_path / "copy.zv", **RAW)
    assert done["left_out"] == ["README.txt"]
    copied = zvl.open_store(tmp_path / "copy.zv").zarr_group["headers/picture"]
    np.testing.assert_array_equal(copied[:], image[:])
    assert (copied.shards, copied.compressors) == (None, ())


def test_an_array_of_codecs_that_make_no_bytes_of_ours_goes_as_it_is(variety, tmp_path):
    where = shutil.copytree(variety("points-2d"), tmp_path / "own.zv")
    group = zvl.open_store(where, mode="r+").zarr_group
    texts = group.create_array("headers/v2", shape=(3, 2), chunks=(2, 2), dtype="i4", chunk_key_encoding={"name": "v2"})
    texts[:] = np.arange(6).reshape(3, 2)
    zvl.recompress(where, tmp_path / "copy.zv", **RAW)
    np.testing.assert_array_equal(zvl.open_store(tmp_path / "copy.zv").zarr_group["headers/v2"][:], texts[:])


def test_a_copy_that_is_stopped_is_no_store(goldens, tmp_path, monkeypatch):
    where, copy = goldens["surface-0.9"].path, tmp_path / "copy.zv"
    calls = iter(range(1000))
    put = WriteSession.put

    def stopping(self, puts):
        if next(calls) == 5:
            raise KeyboardInterrupt
        put(self, puts)

    monkeypatch.setattr(WriteSession, "put", stopping)
    with pytest.raises(KeyboardInterrupt), dask.config.set(scheduler="sync"):
        zvl.recompress(where, copy)
    monkeypatch.undo()
    with pytest.raises(FormatError, match="unfinished"):
        zvl.open_zv(copy)
    with pytest.raises(StoreError, match="mode='w' replaces it"):
        zvl.recompress(where, copy)
    zvl.recompress(where, copy, mode="w")
    assert_same(given(copy), given(where))


def test_a_damaged_cell_ends_it(goldens, tmp_path):
    where = tmp_path / "damaged.zv"
    shutil.copytree(goldens["cloud-0.9"].path, where)
    cell = next(file for file in (where / "0/vertices/c").rglob("*") if file.is_file())
    data = cell.read_bytes()
    cell.write_bytes(data[:-9])
    with pytest.raises(CorruptChunkError, match="0/vertices"):
        zvl.recompress(where, tmp_path / "copy.zv")
    cell.unlink()
    with pytest.raises(CorruptChunkError, match="no such object"):
        zvl.recompress(where, tmp_path / "copy.zv", mode="w")


def test_what_is_refused(goldens, tmp_path):
    where = goldens["cloud-0.9"].path
    with pytest.raises(FormatError, match=r"zvl\.migrate"):
        zvl.recompress(goldens["cloud-0.7"].path, tmp_path / "copy.zv")
    with pytest.raises(SelectionError, match="one place"):
        zvl.recompress(where, where)
    with pytest.raises(SelectionError, match="compressor must be"):
        zvl.recompress(where, tmp_path / "copy.zv", compressor="lz4")
    with pytest.raises(SelectionError, match="profile must be"):
        zvl.recompress(where, tmp_path / "copy.zv", profile="view")
    with pytest.raises(SelectionError, match="raw cells"):
        zvl.recompress(where, tmp_path / "copy.zv", profile="viewer", shard_shape=2)
    assert not (tmp_path / "copy.zv").exists()


def test_delayed_and_on_processes(goldens, tmp_path):
    where = goldens["tracts-0.9"].path
    job = zvl.recompress(where, tmp_path / "copy.zv", compute=False, **RAW)
    assert not (tmp_path / "copy.zv").exists()
    done = job.compute(scheduler="sync")
    assert done["cell_count"] == done["object_count"] == objects(tmp_path / "copy.zv") - len(documents(where))
