"""Graphs and meshes saved out of core: the bytes of a write from memory, and what each cell costs."""

import dask
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.integration.out_of_core import CHUNK, ROWS, SMALL, assert_same_files, cluster, links
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.graph import reads

LINKS = 900
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


def write(path, given, **options):
    mesh, given = "faces" in given, dict(given)
    rows, ends = (given.pop(name) for name in (("vertices", "faces") if mesh else ("positions", "edges")))
    writer = zvl.write_mesh if mesh else zvl.write_graph
    return writer(path, rows, ends, chunk_shape=CHUNK, **given, **options)


@pytest.fixture(scope="module", params=[2, 3], ids=["graph", "mesh"])
def level(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    given = links(request.param, LINKS)
    given["vertex_attributes"]["owner"] = given["object_ids"]
    near = np.random.default_rng(5).permutation(ROWS)[: ROWS // 2]
    ends = given["edges" if request.param == 2 else "faces"]
    ends[: len(near)] = near[:, None]  # inside a chunk
    write(folder / "x", given, **TABLES)
    return zvl.open_zv(folder / "x")[0]


def rows_of(part, mesh):
    """Arguments of a writer that give what is selected, in its order."""
    members = (part.vertices, part.faces if mesh else part.edges, dict(part.attributes), dict(part.link_attributes))
    rows, ends, attributes, values = dask.compute(*members)
    names = ("vertices", "faces") if mesh else ("positions", "edges")
    return dict(zip(names, (rows, ends), strict=True)) | {
        "vertex_attributes": attributes,
        "object_ids": attributes["owner"],
        "link_attributes": values,
    }


@pytest.mark.parametrize("case", SELECTIONS)
def test_a_write_from_memory_puts_the_same_bytes(level, tmp_path, case):
    part = level.sel(**SELECTIONS[case]) if SELECTIONS[case] else level
    given = rows_of(part, "mesh" in level.store.geometry_types)
    known = np.unique(given["object_ids"])
    ranks = np.searchsorted(np.unique(level.objects.ids), known)
    tables = {"object_attributes": {"rank": ranks}}
    tables["groups"] = {name: [i for i in ids if i in known] for name, ids in TABLES["groups"].items()}
    expected = write(tmp_path / "a" / "x", given, **tables, bin_shape=2.0)
    assert part.save(tmp_path / "b" / "x", chunk_shape=CHUNK, bin_shape=2.0) == expected
    assert_same_files(tmp_path / "b" / "x", tmp_path / "a" / "x")


@pytest.mark.parametrize("boxed", [False, True])
def test_each_cell_is_read_once(level, tmp_path, monkeypatch, boxed):
    read = []
    known = reads.read_batch

    def counted(source, wanted):
        read.extend((want.spec.path, *coord) for want in wanted for coord in want.coords.tolist())
        return known(source, wanted)

    monkeypatch.setattr(reads, "read_batch", counted)
    part = level.sel(**SELECTIONS["box"]) if boxed else level
    part.save(tmp_path / "x")
    assert len(read) == len(set(read)) > len(part.chunk_keys)


def test_without_objects_and_links(tmp_path):
    given = {"positions": links(2, 5)["positions"], "edges": np.empty((0, 2), np.int64)}
    write(tmp_path / "x", given)
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
    mesh = "mesh" in level.store.geometry_types
    found, expected = rows_of(new, mesh), rows_of(level, mesh)
    for given in (found, expected):
        rows, ends = (given[name] for name in (("vertices", "faces") if mesh else ("positions", "edges")))
        given["ends"] = sorted(rows[ends].reshape(len(ends), -1).tolist())
        given["rows"] = sorted(rows.tolist())
    assert found["ends"] == expected["ends"]
    assert found["rows"] == expected["rows"]


@pytest.mark.distributed
def test_on_a_cluster(level, tmp_path):
    part = level.sel(**SELECTIONS["box"])
    part.save(tmp_path / "a" / "x")
    with dask.config.set(scheduler=None), cluster(2):
        part.save(tmp_path / "b" / "x")
    assert_same_files(tmp_path / "b" / "x", tmp_path / "a" / "x")
