"""Levels and selections saved as new stores, and rechunked stores: both packages read the same geometry."""

import warnings

import dask
import numpy as np
import pytest
from zarr_vectors.validate import validate

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import FormatError, SelectionError, StoreError
from zarr_vectors_lazy.read import layers as batches

LINKED = {"graph", "skeleton"}


def in_order(*columns):
    """Rows of all columns beside one another as text, sorted: attributes are of all kinds."""
    parts = [np.asarray(part).reshape(len(part), int(np.prod(np.shape(part)[1:]))) for part in columns]
    return sorted(zip(*(map(tuple, part.tolist()) for part in parts), strict=True), key=repr)


def content(level):
    """What a level gives, whatever the order of its rows: rows, what joins them, objects by id."""
    kinds = set(level.store.geometry_types)
    joined = level.edges if kinds & LINKED else level.faces if "mesh" in kinds else None
    members = (level.vertices, dict(level.attributes), joined, level.objects.ragged()[0], level.objects.ragged()[1])
    with dask.config.set(scheduler="sync"):
        vertices, attributes, joined, flat, offsets = dask.compute(*members)
    names = sorted(attributes)
    found = {"rows": in_order(vertices, *(attributes[name] for name in names)), "names": names}
    if joined is not None:
        found["joined"] = in_order(vertices[joined])
    ids = level.objects.ids
    paths = np.split(flat, offsets[1:-1]) if len(ids) else []
    ordered = bool(kinds & {"polyline", "streamline", "line"})
    found["objects"] = {i: p.tolist() if ordered else in_order(p) for i, p in zip(ids.tolist(), paths, strict=True)}
    table = level.objects.attributes
    found["table"] = {name: repr(np.asarray(table[name].sel(object=ids)).tolist()) for name in sorted(table)}
    groups = level.objects.groups
    found["groups"] = {g: sorted(set(groups[g].tolist()) & set(ids.tolist())) for g in groups}
    found["group_names"] = groups.names
    found["group_table"] = {n: np.asarray(v).tolist() for n, v in groups.attributes.items()}
    return found


def both_agree(path):
    report = zvl.validate(path)
    assert not report.findings, report
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = validate(str(path), level=5)
    assert found.ok, found.errors


STORES = ["cloud-0.9", "neuron-0.9", "surface-0.9", "tracts-0.9", "tracts-0.7"]
VARIETY = ["lines-across", "points-objects", "points-by-text", "points-sparse-ids", "graph-objects-2d-f64-0.7"]


@pytest.fixture
def place(goldens, variety):
    return lambda name: goldens[name].path if name in goldens else variety(name)


@pytest.mark.parametrize("name", [*STORES, *VARIETY])
def test_whole_level(place, tmp_path, name):
    level = zvl.open_zv(place(name))[0]
    level.save(tmp_path / "new")
    new = zvl.open_zv(tmp_path / "new")
    assert content(new[0]) == content(level)
    assert (new.axes, new.units, new.crs) == (level.store.axes, level.store.units, level.store.crs)
    assert new[0].vertices.dtype == level.vertices.dtype
    np.testing.assert_array_equal(new.chunk_shape, level.chunk_shape)
    both_agree(tmp_path / "new")


@pytest.mark.parametrize("name", ["cloud-0.9", "neuron-0.9", "surface-0.9", "lines-across"])
def test_box(place, tmp_path, name):
    level = zvl.open_zv(place(name))[0]
    lo, hi = np.quantile(level.vertices.compute().astype("f8"), [0.3, 0.7], axis=0)
    part = level.sel((lo, hi), whole_objects=name == "lines-across")
    part.save(tmp_path / "new", compressor=None)
    assert content(zvl.open_zv(tmp_path / "new")[0]) == content(part)
    both_agree(tmp_path / "new")


def edges_of(level):
    with dask.config.set(scheduler="sync"):
        vertices, edges = dask.compute(level.vertices, level.edges)
    return in_order(vertices[edges])


def test_interrupted_paths_become_several_objects(goldens, tmp_path):
    level = zvl.open_zv(goldens["tracts-0.9"].path)[0]
    part = level.sel(objects=range(0, 110, 5), where=lambda index: index % 7 != 3)
    part.save(tmp_path / "new")
    new = zvl.open_zv(tmp_path / "new")[0]
    assert edges_of(new) == edges_of(part)  # nothing joins what the selection parted
    old, ids = content(part), new.objects.ids.tolist()
    assert len(ids) > len(old["objects"]) > 0
    assert set(old["objects"]) <= set(ids)
    found = content(new)
    assert found["rows"] == old["rows"]
    added = sorted(set(ids) - set(old["objects"]))
    assert min(added) > max(level.objects.ids)
    assert sum(map(len, found["objects"].values())) == sum(map(len, old["objects"].values()))
    for group, members in old["groups"].items():
        assert set(members) <= set(found["groups"][group])
    assert sum(map(len, found["groups"].values())) == len(ids)  # each new object is in the group of the old one
    both_agree(tmp_path / "new")


@pytest.mark.parametrize("name", ["tracts-0.9", "points-objects"])
def test_some_objects(place, tmp_path, name):
    level = zvl.open_zv(place(name))[0]
    some = level.objects.ids[1:8:3]
    part = level.sel(objects=some[::-1])
    part.save(tmp_path / "new", chunk_shape=1000.0)
    new = zvl.open_zv(tmp_path / "new")[0]
    assert content(new)["objects"] == content(part)["objects"]
    assert new.objects.ids.tolist() == some.tolist()
    assert new.chunk_count < level.chunk_count


@pytest.mark.parametrize("name", ["cloud-0.9", "tracts-0.7", "mesh-objects"])
def test_rechunk(place, tmp_path, name):
    old = zvl.open_zv(place(name))
    done = zvl.rechunk(place(name), tmp_path / "new", chunk_shape=old.chunk_shape * 2, bin_shape=old.chunk_shape / 2)
    new = zvl.open_zv(tmp_path / "new")
    assert (done["levels_left_out"], new.levels) == (old.levels[1:], [0])
    np.testing.assert_array_equal(new.chunk_shape, old.chunk_shape * 2)
    np.testing.assert_array_equal(new.bin_shape, old.chunk_shape / 2)
    assert new[0].chunk_count < old[0].chunk_count
    assert content(new[0]) == content(old[0])
    both_agree(tmp_path / "new")


def test_coarse_levels_whose_objects_share_vertices(variety, tmp_path):
    store = zvl.open_zv(variety("pyramid-paths"))
    level = store[store.levels[-1]]
    level.save(tmp_path / "new")  # each path has vertices of its own then
    assert content(zvl.open_zv(tmp_path / "new")[0])["objects"] == content(level)["objects"]
    points = zvl.open_zv(variety("pyramid-objects-0.7"))
    with pytest.raises(SelectionError, match="several objects"):
        points[points.levels[-1]].save(tmp_path / "other")


def test_what_is_refused(goldens, variety, tmp_path):
    level = zvl.open_zv(goldens["cloud-0.9"].path)[0]
    with pytest.raises(SelectionError, match="nothing is selected"):
        level.sel(x=slice(1e8, 2e8)).save(tmp_path / "new")
    lines = zvl.open_zv(variety("lines-across"))[0]
    x = float(np.median(lines.vertices.compute()[:, 0]))
    with pytest.raises(SelectionError, match="whole_objects"):
        lines.sel(x=slice(x, None)).save(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(SelectionError, match="one place"):
        zvl.rechunk(goldens["cloud-0.9"].path, goldens["cloud-0.9"].path, chunk_shape=10, mode="w")
    (tmp_path / "link").symlink_to(goldens["cloud-0.9"].path)
    cloud = zvl.open_zv(goldens["cloud-0.9"].path)[0]
    for place in (tmp_path / "link", goldens["cloud-0.9"].path / "0" / "new"):
        with pytest.raises(SelectionError, match="one place, or one lies in the other"):
            cloud.save(place, mode="w")
    level.save(tmp_path / "new")
    with pytest.raises(StoreError, match="is here already"):
        level.save(tmp_path / "new")


@pytest.mark.parametrize("name", ["cloud-0.9", "tracts-0.9"])
@pytest.mark.parametrize("boxed", [False, True])
def test_each_chunk_is_read_once(place, name, boxed, tmp_path, monkeypatch):
    level = zvl.open_zv(place(name))[0]
    part = level.sel(np.quantile(level.vertices.compute().astype("f8"), [0.3, 0.7], axis=0)) if boxed else level
    read = []
    known = batches.read_batch

    def counted(source, wanted):
        read.extend((want.spec.path, *coord) for want in wanted for coord in want.coords.tolist())
        return known(source, wanted)

    monkeypatch.setattr(batches, "read_batch", counted)
    with dask.config.set(scheduler="sync"):
        part.save(tmp_path / "new")
    cells = [cell[1:] for cell in read if cell[0].endswith("vertices")]
    assert len(read) == len(set(read))
    assert sorted(cells) == sorted(part.chunk_keys)


def test_compute_false_writes_nothing_yet(goldens, tmp_path):
    job = zvl.open_zv(goldens["cloud-0.9"].path)[0].save(tmp_path / "new", compute=False)
    with pytest.raises(FormatError, match="nothing is here"):
        zvl.open_zv(tmp_path / "new")
    job.compute()
    both_agree(tmp_path / "new")


@pytest.mark.parametrize("name", ["tracts-0.9", "mesh-objects"])
def test_rechunk_later(place, tmp_path, name):
    old = zvl.open_zv(place(name))
    job = zvl.rechunk(place(name), tmp_path / "new", chunk_shape=old.chunk_shape * 3, compute=False, progress=True)
    assert not (tmp_path / "new").exists()
    assert job.compute()["levels_left_out"] == old.levels[1:]
    assert content(zvl.open_zv(tmp_path / "new")[0]) == content(old[0])
