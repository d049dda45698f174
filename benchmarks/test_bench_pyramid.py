"""The benchmark of pyramids runs, small."""

from benchmarks import bench_pyramid


def test_builders_are_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench_pyramid, "SIDE", 2)
    bench_pyramid.main(
        [*f"--points 2000 --polylines --rounds 1 --folder {tmp_path} --builders".split(), "ours, 1 worker"]
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[:3] for line in lines[2:]] == [["| points", "2000", "ours, 1 worker"]]
    assert (tmp_path / "out" / "store" / "2" / "zarr.json").exists()


def test_stores(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_pyramid, "SIDE", 2)
    for work in ("points", *bench_pyramid.WALKED):
        assert (bench_pyramid.ensure(work, 500, tmp_path) / "0" / "zarr.json").exists()
