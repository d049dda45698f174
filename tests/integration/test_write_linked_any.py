"""Any rows and links, in any blocks: a write out of core gives the same bytes as one from memory."""

import tempfile
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarr_vectors_lazy as zvl
from tests.integration import written
from tests.integration.out_of_core import assert_same_files, lazily


@st.composite
def writes(draw):
    """Arguments of `write_graph` or `write_mesh`, sizes of blocks of rows and links, and whether these are known."""
    kind = draw(st.sampled_from(["graph", "mesh", "skeleton"]))
    rows, ndim = draw(st.integers(1, 40)), draw(st.integers(2, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    owners = rng.integers(0, draw(st.integers(1, 4)), rows) * 7 - 3
    width = {"graph": 2, "skeleton": 2, "mesh": draw(st.integers(3, 4))}[kind]
    links = rng.integers(0, rows, (draw(st.integers(0, 60)), width))
    if kind == "skeleton":
        order, children = rng.permutation(rows), np.flatnonzero(rng.random(rows) < 0.9)
        above = [np.flatnonzero((owners == owners[c]) & (order < order[c])) for c in children]
        pairs = [(c, rng.choice(some)) for c, some in zip(children, above, strict=True) if len(some)]
        links = rng.permutation(np.array(pairs, np.int64).reshape(-1, 2))
    given = {
        "rows": rng.integers(-6, 6, (rows, ndim)) * draw(st.sampled_from([1.0, 0.37])),
        "links": links,
        "kind": kind,
        "object_ids": owners,
        "vertex_attributes": {"text": rng.choice(np.array(["a", "bb", None], object), rows)},
    }
    if draw(st.booleans()):
        given["link_attributes"] = {"w": rng.random(len(links)), "n": rng.integers(0, 9, (len(links), 2)).astype("u1")}
    cuts = [draw(st.lists(st.integers(0, size), max_size=4)) for size in (rows, len(links))]
    blocks = [
        tuple(np.diff([0, *sorted(cut), size]).tolist()) for cut, size in zip(cuts, (rows, len(links)), strict=True)
    ]
    options = {
        "chunk_shape": draw(st.sampled_from([2.0, 5.0, 100.0])),
        "shard_shape": draw(st.sampled_from([None, 2])),
        "dtype": draw(st.sampled_from([None, "f4"])),
    }
    return given, blocks, draw(st.booleans()), options, draw(st.sampled_from(["300 B", "2 kB"]))


def cut(values, blocks, known):
    """Dask arrays of blocks."""
    if isinstance(values, dict):
        return {name: cut(value, blocks, known) for name, value in values.items()}
    array = da.from_array(values, chunks=(blocks, *values.shape[1:]))
    if known:
        return array
    # Not by a mask: if a block is empty, Dask 2026.8 returns the others twice.
    return da.Array(array.dask, array.name, ((np.nan,) * len(blocks), *array.chunks[1:]), array.dtype)


def write(path, given, **options):
    given = dict(given)
    rows, links, kind = given.pop("rows"), given.pop("links"), given.pop("kind")
    if kind == "mesh":
        return zvl.write_mesh(path, rows, links, **given, **options)
    return zvl.write_graph(path, rows, links, kind=kind, **given, **options)


def check(case):
    given, (row_blocks, link_blocks), known, options, nbytes = case
    of_links = {name: cut(given[name], link_blocks, known) for name in ("links", "link_attributes") if name in given}
    of_rows = {name: cut(given[name], row_blocks, known) for name in ("rows", "object_ids", "vertex_attributes")}
    with (
        tempfile.TemporaryDirectory() as folder,
        dask.config.set({"zarr_vectors_lazy.write-bytes": nbytes, "scheduler": "sync"}),
    ):
        expected = write(Path(folder) / "a" / "x", given, **options)
        assert write(Path(folder) / "b" / "x", {"kind": given["kind"]} | of_rows | of_links, **options) == expected
        assert_same_files(Path(folder) / "b" / "x", Path(folder) / "a" / "x")


@settings(max_examples=8)
@given(case=writes())
def test_any(case):
    check(case)


@pytest.mark.stress
@settings(max_examples=300, derandomize=False)
@given(case=writes())
def test_any_of_many(case):
    check(case)


@pytest.mark.parametrize("geometry", ["graph", "mesh", "skeleton"])
def test_the_reference_reads_them(tmp_path, monkeypatch, geometry):
    def lazy(writer):
        def wrote(path, rows, links, **options):
            for name in ("vertex_attributes", "link_attributes", "object_ids"):
                if name in options:
                    options[name] = lazily(options[name], 13)
            return writer(path, lazily(rows, 13), lazily(links, 13), **options)

        return wrote

    for name in ("write_graph", "write_mesh"):
        monkeypatch.setattr(zvl, name, lazy(getattr(zvl, name)))
    with dask.config.set(scheduler="sync"):
        written.GEOMETRIES[geometry](tmp_path / "x", "f4", 3)
    written.check_reference(tmp_path / "x")
