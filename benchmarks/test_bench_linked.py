"""The benchmark of linked geometry runs on small data, and requests no more from a bucket than it needs."""

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from benchmarks import bench_linked
from benchmarks.s3_server import running


def small(kind):
    """Arrays of a store of a few chunks."""
    random = np.random.default_rng(0)
    if kind == "lines":
        walks = random.random((220, 1, 3)) * 150 + np.cumsum(random.normal(0, 4, (220, 9, 3)), axis=1)
        return {"paths": np.clip(walks, 0, 199).astype("f4")}
    if kind in {"mesh", "surface"}:
        u, v = np.meshgrid(np.linspace(0, 199, 20), np.linspace(0, 199, 20), indexing="ij")
        return {"positions": np.stack([u, v, 100 + u / 9], axis=-1)}
    if kind == "skeletons":
        return bench_linked._skeletons(random, 2, 200.0)
    positions = random.random((300, 3)).astype("f4") * 200
    return {"positions": positions, "edges": np.stack([np.arange(299), np.arange(1, 300)], axis=1)}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("linked")
    for kind in {kind for kind, _ in bench_linked.TABLE.values()}:
        bench_linked.write(kind, str(folder / kind), small(kind), "ours")
    return folder


@pytest.mark.parametrize("work", bench_linked.TABLE)
def test_both_readers_are_called(stores, work):
    kind, _ = bench_linked.TABLE[work]
    job = {"work": work, "url": str(stores / kind), "calls": 1, "chunks": "auto"}
    found = [bench_linked.measure(job | {"reader": reader}) for reader in ("ours", "reference")]
    assert all(result["result"] > 0 and result["seconds"] > 0 for result in found)
    if work.startswith("read_") and work != "read_polylines":
        assert found[0]["result"] == found[1]["result"]


@pytest.mark.parametrize("work", bench_linked.BEHIND)
def test_requests_are_for_the_cells_needed_and_metadata(stores, work, monkeypatch):
    kind, _ = bench_linked.TABLE[work]
    level = zvl.open_zv(stores / kind)[0]
    families = {"lines": ["vertices", "vertex_fragments"], "skeletons": ["vertices", "vertex_fragments", "links"]}
    names = families.get(kind, ["vertices", "links"])
    cells = sum(
        path.is_file() for name in names for path in (stores / kind / "0" / name).rglob("*") if "c" in path.parts
    )
    cells += len(list((stores / kind / "0" / "object_index" / "manifests" / "c").glob("*"))) if kind == "lines" else 0
    assert cells > level.chunk_count
    documents = len(list((stores / kind).rglob("zarr.json")))
    with running(stores, delay_ms=0) as server:
        for name, value in server.client_env().items():
            monkeypatch.setenv(name, value)
        bench_linked.ours(work, server.url(kind))()
        assert server.counts()["requests"] <= cells + documents + 12  # listings of the folders, without consolidation


def test_table_beside_the_reference(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_linked, "TABLE", {"read_graph": ("graph", 0.3)})
    bench = bench_linked.Bench(tmp_path, bench_linked.Path(bench_linked.sys.executable), 1)
    bench_linked.write("graph", str(tmp_path / "graph-1-reference.zarrvectors"), small("graph"), "ours")
    lines = bench_linked.beside(bench, ("read_graph",)).splitlines()
    assert lines[2].startswith("| read_graph | ")
    assert lines[2].endswith((" | 0.3 | passes |", " | 0.3 | FAILS |"))
