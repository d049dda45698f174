"""The benchmark of requests from viewers runs on small data."""

from benchmarks import bench_precomputed


def test_every_kind_of_key_is_measured(tmp_path):
    found = bench_precomputed.run(tmp_path, points=3000, paths=30, objects=2, rounds=1)
    assert found["cell of points"]["requests"] == 2
    assert all(row["bytes"] > 8 and row["cpu_ms"] >= row["rest_ms"] for row in found.values())
