"""The benchmark of writers runs, small."""

from benchmarks import bench_write


def test_writers_are_measured(tmp_path, capsys):
    bench_write.main(
        f"--work points --rows 2500 --rounds 1 --no-reference --compressor zstd --folder {tmp_path}".split()
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| points"] * 2
    assert (tmp_path / "out" / "ours" / "zarr.json").exists()


def test_inputs(tmp_path):
    for work in bench_write.WORKS:
        for path in bench_write.ensure(work, 2500, tmp_path):
            assert path.exists()
