"""The benchmark of groups of links runs on small data."""

from benchmarks import bench_groups


def test_what_groups_could_save_is_measured(tmp_path):
    found = bench_groups.run(tmp_path, sizes=[20], rounds=2)
    assert 0 < found[20]["find_ms"] < found[20]["all_ms"]
