"""Graphs, skeletons and meshes saved out of core: the same bytes as a write from memory, and the cost of each cell."""

from dataclasses import replace

import dask
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.integration.out_of_core import CHUNK, ROWS, SMALL, assert_same_files, cluster, links, trees
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.read import layers
from zarr_vectors_lazy.write import job

LINKS = 260
SELECTIONS = {
    "whole": {},
    "box": {"bbox": ([-4, -5, -6], [5, 4, 3])},
    "objects": {"objects": [0, 5, 15, 40]},
    "where": {"where": {"one": (0.2, 0.9)}},
    "touched": {"bbox": ([-3, -3, -3], [2, 1, 2]), "whole_objects": True},
}
TABLES = {"object_attributes": {"rank": np.arange(12)}, "groups": {"some": [0, 5], "others": [40]}}


@pytest.fixture(autouse=True)
def _several_parts():
    with dask.config.set(SMALL, scheduler="sync"):
        yield


KINDS = ("graph", "mesh", "skeleton", "skeleton with values", "skeleton with gaps")


@pytest.fixture(scope="module", params=KINDS)
def level(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    kind, _, values = request.param.partition(" ")
    given = trees(values=bool(values)) if kind == "skeleton" else links(2 if kind == "graph" else 3, LINKS)
    given["vertex_attributes"]["owner"] = given["object_ids"]
    if kind != "skeleton":
        near = np.random.default_rng(5).permutation(ROWS)[: LINKS * 3 // 4]
        given["edges" if kind == "graph" else "faces"][: len(near)] = near[:, None]  # inside a chunk
    with pytest.MonkeyPatch.context() as patch:
        if values == "with gaps":
            patch.setattr(job, "recorded_links", not_implied)
        write(folder / "x", kind, given, **TABLES)
    return zvl.open_zv(folder / "x")[0]


RECORDED = job.recorded_links


def not_implied(written, *given):
    """Which edges have a record, as if they had no values."""
    return RECORDED(replace(written, link_values={}), *given)


def kind_of(level):
    return level.store.geometry_types[0]


def write(path, kind, given, **options):
    given = dict(given)
    rows, ends = (given.pop(name) for name in (("vertices", "faces") if kind == "mesh" else ("positions", "edges")))
    if kind == "mesh":
        return zvl.write_mesh(path, rows, ends, chunk_shape=CHUNK, **given, **options)
    return zvl.write_graph(path, rows, ends, kind=kind, chunk_shape=CHUNK, **given, **options)


def rows_of(part):
    """Arguments of a writer that give what is selected, in its order."""
    mesh = kind_of(part) == "mesh"
    values, records = dict(part.link_attributes), part.links(0)
    members = (part.vertices, part.faces if mesh else part.edges, dict(part.attributes), values, records)
    rows, ends, attributes, values, records = dask.compute(*members)
    names = ("vertices", "faces") if mesh else ("positions", "edges")
    attributes["text"] = np.where(attributes["text"] == "", None, attributes["text"].astype(object))  # missing
    return dict(zip(names, (rows, ends), strict=True)) | {
        "vertex_attributes": attributes,
        "object_ids": attributes["owner"],
        "link_attributes": by_edge(ends, records, values) if kind_of(part) == "skeleton" else values,
    }


def by_edge(edges, records, values):
    """Values of records by edge; those of the others masked, or NaN."""
    known = {child: row for row, child in enumerate(records[:, 0].tolist())}
    at = np.array([known.get(child, -1) for child in edges[:, 0].tolist()])
    if (at >= 0).all():
        return {name: of[at] for name, of in values.items()}
    found = {name: np.ma.array(of[at], mask=np.ma.getmaskarray(of)[at] | (at < 0)) for name, of in values.items()}
    return {name: of if of.dtype.kind in "iu" else of.filled(np.nan) for name, of in found.items()}


@pytest.mark.parametrize(
    ("level", "case"),
    [
        (kind, case)
        for kind in KINDS
        for case in SELECTIONS
        if kind in ("graph", "skeleton") or case in ("whole", "box")
    ],
    indirect=["level"],
)
def test_a_write_from_memory_puts_the_same_bytes(level, tmp_path, case):
    part = level.sel(**SELECTIONS[case]) if SELECTIONS[case] else level
    given = rows_of(part)
    known = np.unique(given["object_ids"])
    ranks = np.searchsorted(np.unique(level.objects.ids), known)
    tables = {"object_attributes": {"rank": ranks}}
    tables["groups"] = {name: [i for i in ids if i in known] for name, ids in TABLES["groups"].items()}
    expected = write(tmp_path / "a" / "x", kind_of(level), given, **tables, bin_shape=2.0)
    assert part.save(tmp_path / "b" / "x", chunk_shape=CHUNK, bin_shape=2.0) == {**expected, "left_out": []}
    assert_same_files(tmp_path / "b" / "x", tmp_path / "a" / "x")


@pytest.mark.parametrize("boxed", [False, True])
def test_each_cell_is_read_once(level, tmp_path, monkeypatch, boxed):
    read = []
    known = layers.read_batch

    def counted(source, wanted):
        read.extend((want.spec.path, *coord) for want in wanted for coord in want.coords.tolist())
        return known(source, wanted)

    monkeypatch.setattr(layers, "read_batch", counted)
    part = level.sel(**SELECTIONS["box"]) if boxed else level
    part.save(tmp_path / "x")
    assert len(read) == len(set(read)) > len(part.chunk_keys)


def test_values_that_say_missing_are_refused_while_the_old_store_is_there(tmp_path, monkeypatch):
    given = trees(values=True)
    given["link_attributes"] = {"long": np.full(len(given["edges"]), np.iinfo(np.int64).min)}
    with monkeypatch.context() as patch:
        patch.setattr(job, "recorded_links", not_implied)
        write(tmp_path / "x", "skeleton", given)
    write(tmp_path / "y", "skeleton", trees())
    before = zvl.open_zv(tmp_path / "y")[0].vertices.compute()
    with pytest.raises(SelectionError, match="link attribute 'long'"):
        zvl.open_zv(tmp_path / "x")[0].save(tmp_path / "y", chunk_shape=CHUNK, mode="w")
    assert np.array_equal(zvl.open_zv(tmp_path / "y")[0].vertices.compute(), before)
    assert not (tmp_path / "y" / "_scratch").exists()


def test_without_objects_and_links(tmp_path):
    given = {"positions": links(2, 5)["positions"], "edges": np.empty((0, 2), np.int64)}
    write(tmp_path / "x", "graph", given)
    level = zvl.open_zv(tmp_path / "x")[0]
    level.save(tmp_path / "a" / "x", chunk_shape=3)
    zvl.write_graph(tmp_path / "c" / "x", level.vertices.compute(), given["edges"], chunk_shape=3)
    assert_same_files(tmp_path / "a" / "x", tmp_path / "c" / "x")
    with pytest.raises(SelectionError, match="nothing is selected"):
        level.sel(x=slice(50, 60)).save(tmp_path / "y")


def test_rechunk_and_back(level, tmp_path):
    zvl.rechunk(level.store.url, tmp_path / "far" / "x", chunk_shape=6, shard_shape=2)
    zvl.rechunk(tmp_path / "far" / "x", tmp_path / "back" / "x", chunk_shape=CHUNK)
    new = zvl.open_zv(tmp_path / "back" / "x")[0]
    found, expected = rows_of(new), rows_of(level)
    for given in (found, expected):
        rows, ends = (given[name] for name in (("vertices", "faces") if "faces" in given else ("positions", "edges")))
        values = [np.ma.filled(np.ma.asarray(of, float), np.nan) for of in given["link_attributes"].values()]
        columns = [rows[ends].reshape(len(ends), -1), *values]
        given["ends"] = sorted(map(repr, np.column_stack(columns).tolist()))  # NaN is as good as NaN
        given["rows"] = sorted(rows.tolist())
    assert found["ends"] == expected["ends"]
    assert found["rows"] == expected["rows"]


@pytest.mark.distributed
def test_on_a_cluster(tmp_path):
    write(tmp_path / "x", "skeleton", trees(values=True))
    level = zvl.open_zv(tmp_path / "x")[0]
    part = level.sel(**SELECTIONS["box"])
    part.save(tmp_path / "a" / "x")
    with dask.config.set(scheduler=None), cluster(2):
        part.save(tmp_path / "b" / "x")
    assert_same_files(tmp_path / "b" / "x", tmp_path / "a" / "x")
