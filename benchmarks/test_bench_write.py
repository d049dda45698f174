"""The benchmark of writers runs, small."""

from benchmarks import bench_compress, bench_write


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


def test_compressors_are_measured(capsys):
    bench_compress.main(["--rows", "500", "--rounds", "1"])
    sizes = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(sizes) == 2 * len(bench_compress.ENCODINGS)
    plain, zstd = (float(row[3]) for row in sizes[6:9:2])
    assert 0 < zstd < plain
