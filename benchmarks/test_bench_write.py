"""The benchmark of writers runs on small data."""

import numpy as np

from benchmarks import bench_compress, bench_write, real_like


def test_writers_are_measured(tmp_path, capsys):
    bench_write.main(
        f"--work points --rows 2500 --rounds 1 --no-reference --compressor zstd --folder {tmp_path}".split()
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| points"] * 2
    assert all(float(line.split(" | ")[4]) > 0 for line in lines[2:])


def test_inputs(tmp_path):
    for work in bench_write.WORKS:
        for path in bench_write.ensure(work, 2500, tmp_path):
            assert path.exists()


def test_compressors_are_measured(capsys):
    bench_compress.main(["--rows", "9000", "--rounds", "1", "--places", "disk"])
    bench_compress.main(["--rows", "500", "--rounds", "1", "--data", "random-points", "--delay-ms", "0"])
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if "---" not in line]
    rows = [row for row in rows if row[0] != "data"]
    names = [kind for kind in (*bench_compress.KINDS, "random-points") for _ in bench_compress.ENCODINGS]
    assert [row[0] for row in rows] == names
    assert [len(row) for row in rows] == [6] * 30 + [8] * 6
    plain, zstd = (float(rows[i][3]) for i in (6, 9))
    assert 0 < zstd < plain


def test_copies_lie_beside_each_other():
    positions = np.array([[0, 5, 2], [3.5, 1, 1]], "f4")
    tiled, copies, edge = real_like.tile(positions, 16)
    assert (tiled.dtype, copies.tolist()) == (np.float32, np.repeat(np.arange(8), 2).tolist())
    chunks = np.floor(tiled / edge).reshape(8, 2, 3)
    assert (chunks[:, 0] == chunks[:, 1]).all()
    assert len(np.unique(chunks[:, 0], axis=0)) == 8
    assert (tiled[::2] == np.round(tiled[::2])).all()
