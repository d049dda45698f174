"""A new attribute for existing data: aligned with the vertices, read by both packages, visible only when complete."""

import json
import shutil
import warnings

import dask.array as da
import numpy as np
import pytest
from zarr_vectors.types.points import read_points
from zarr_vectors.validate import validate

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import FormatError, NotFoundError, SelectionError
from zarr_vectors_lazy.storage.requests import counting


@pytest.fixture
def path(goldens, tmp_path):
    return shutil.copytree(goldens["cloud-0.9"].path, tmp_path / "cloud")


def by_reference(path, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert validate(str(path), level=5).ok
        return read_points(str(path), attribute_names=[name])["vertex_attributes"][name]


def read(path, name, level=0):
    return zvl.open_zv(path)[level].attributes[name].compute()


@pytest.mark.parametrize(
    "values",
    [
        np.arange,
        lambda n: np.linspace(0, 1, n).astype("f4"),
        lambda n: np.arange(n) % 3 == 0,
        lambda n: np.arange(2 * n).reshape(n, 2).astype("u2"),
        lambda n: np.array(["a", "longer", ""])[np.arange(n) % 3],
        lambda n: da.arange(n, chunks=777),
    ],
    ids=["integers", "floats", "flags", "vectors", "text", "dask"],
)
def test_values(path, values):
    level = zvl.open_zv(path)[0]
    made = values(level.vertex_count)
    assert level.write_attribute("new", made) == level.chunk_count
    expected = np.asarray(made)
    np.testing.assert_array_equal(read(path, "new"), expected, strict=True)
    np.testing.assert_array_equal(by_reference(path, "new"), expected)
    assert not zvl.validate(path).findings


def test_missing_text(path):
    level = zvl.open_zv(path)[0]
    values = np.array(["b", None, "a"], object)[np.arange(level.vertex_count) % 3]
    level.write_attribute("new", values)
    np.testing.assert_array_equal(read(path, "new"), np.where(values == None, "", values).astype(str))  # noqa: E711
    assert zvl.open_zv(path)[0].categories["new"].tolist() == ["a", "b"]


def test_computed_from_the_level_itself_block_by_block(path):
    level = zvl.open_zv(path)[0]
    assert np.isnan(level.vertices.shape[0])
    with counting() as counts:
        level.write_attribute("height", level.vertices[:, 2] * 2)
    assert counts.by_kind["put"] == level.chunk_count + 2  # its document twice
    np.testing.assert_array_equal(read(path, "height"), level.vertices.compute()[:, 2] * 2, strict=True)


def test_into_shards(path):
    zvl.shard(path, shard_shape=2)
    level = zvl.open_zv(path)[0]
    level.write_attribute("new", np.arange(level.vertex_count))
    arrays = zvl.open_store(path).zarr_group
    assert arrays["0/vertex_attributes/new"].shards == (2, 2, 2)
    np.testing.assert_array_equal(read(path, "new"), np.arange(level.vertex_count))
    assert not zvl.validate(path).findings


def test_the_first_attribute_of_a_level_and_consolidated_metadata(path):
    zvl.consolidate(path)
    level = zvl.open_zv(path)[1]
    assert level.attribute_names == ()
    level.write_attribute("first", np.arange(level.vertex_count))
    assert zvl.open_zv(path, consolidated=True)[1].attribute_names == ("first",)
    assert len(read(path, "first", 1)) == level.vertex_count


def test_the_root_names_it_where_it_names_the_others(tmp_path, path):
    def specs(store):
        block = json.loads((store / "zarr.json").read_bytes())["attributes"]["zarr_vectors"]
        return block.get("attribute_specs", {}).get("vertex")

    made = tmp_path / "made"
    zvl.write_points(made, np.arange(60.0).reshape(20, 3), chunk_shape=30)
    zvl.consolidate(made)
    for name, dtype in (("a", "float32"), ("b", "int64")):
        zvl.open_zv(made)[0].write_attribute(name, np.arange(20, dtype=dtype))
    assert specs(made) == {"a": {"dtype": "float32"}, "b": {"dtype": "int64"}}
    assert zvl.open_zv(made, consolidated=True)[0].attribute_names == ("a", "b")
    assert not zvl.validate(made).findings
    assert specs(path) is None
    assert zvl.open_zv(path)[0].attribute_names
    zvl.open_zv(path)[0].write_attribute("new", np.arange(zvl.open_zv(path)[0].vertex_count))
    assert specs(path) is None


def test_blocks_of_another_length_leave_nothing_visible(path):
    level = zvl.open_zv(path)[0]
    cut = level.vertices[level.vertices[:, 0] > 0][:, 0]  # unknown sizes, one block per chunk, fewer rows
    with pytest.raises(SelectionError, match="it has 1 vertex"):
        level.write_attribute("new", cut)
    with pytest.raises(NotFoundError):
        read(path, "new")


def test_what_is_refused(path, goldens):
    level = zvl.open_zv(path)[0]
    n = level.vertex_count
    for name, values, message in (
        ("type", np.arange(n), "already"),
        ("a/b", np.arange(n), "segment of a path"),
        ("new", np.arange(n - 1), f"{n - 1:,} rows"),
        ("new", np.zeros((n, 1, 1)), "dimensions"),
        ("new", np.zeros(n, "M8"), "found datetime64"),
        ("new", np.zeros((n, 2), "U1"), "found <U1"),
        ("new", np.array([1, "a"], object)[np.arange(n) % 2], "text"),
    ):
        with pytest.raises(SelectionError, match=message):
            level.write_attribute(name, values)
    with pytest.raises(SelectionError, match="selection"):
        level.sel(x=slice(0, 1)).write_attribute("new", np.arange(n))
    with pytest.raises(FormatError, match=r"zvl\.migrate"):
        zvl.open_zv(goldens["cloud-0.7"].path)[0].write_attribute("new", np.arange(n))


def test_compute_false_writes_nothing_yet(path):
    level = zvl.open_zv(path)[0]
    job = level.write_attribute("new", np.arange(level.vertex_count), compute=False)
    assert "new" not in zvl.open_zv(path)[0].attribute_names
    job.compute()
    assert "new" in zvl.open_zv(path)[0].attribute_names
