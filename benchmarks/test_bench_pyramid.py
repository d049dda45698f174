"""The benchmark of pyramids runs on small data."""

import pytest

from benchmarks import all_linked, bench_pyramid


@pytest.mark.parametrize("more", ["", "--delay-ms 1"])
def test_builders_are_measured(tmp_path, capsys, monkeypatch, more):
    monkeypatch.setattr(bench_pyramid, "SIDE", 2)
    bench_pyramid.main(
        [*f"--points 2000 --polylines --rounds 1 --folder {tmp_path} {more} --builders".split(), "ours, 1 worker"]
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[:3] for line in lines[2:3]] == [["| points", "2000", "ours, 1 worker"]]
    requests = lines[2].split(" | ")[7]
    assert int(requests) > 20, "two levels are read and written"


def test_stores(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_pyramid, "SIDE", 2)
    for work in ("points", *bench_pyramid.WALKED):
        assert (bench_pyramid.ensure(work, 500, tmp_path) / "0" / "zarr.json").exists()


def test_verdicts_tell_what_passes():
    def row(work, builder, seconds, rows=800):
        return {
            "work": work,
            "rows": rows,
            "builder": builder,
            "samples": [{"seconds": seconds, "cpu_seconds": seconds}],
        }

    found = bench_pyramid.verdicts(
        [
            row("walked points", "ours, 1 worker", 0.1, 100),
            row("walked points", "ours, 1 worker", 1.0),
            row("polylines", "ours, 1 worker", 1.9),
            row("polylines", "reference", 9.5),
            row("mesh", "ours, 1 worker", 6.0),
            row("points", "ours, 1 worker", 3.0),
            row("points", "ours, 2 threads", 3.1),
            row("points", "ours, cluster of 1", 3.6),
            row("points", "ours, cluster of 2", 2.4),
            row("points", bench_pyramid.KEPT, 6.0),
        ]
    )
    told = [[cell.strip() for cell in line.split("|")[2:5]] for line in found.splitlines()[2:]]
    assert told == [
        ["10.00", "<= 10", "passes"],
        ["1.90", "<= 2", "passes"],
        ["5.00", ">= 8", "FAILS"],
        ["6.00", "<= 5", "FAILS"],
        ["0.97", ">= 1", "FAILS"],
        ["1.50", ">= 1.5", "passes"],
        ["2.00", ">= 1.3", "passes"],
    ]


def test_tables_go_where_the_page_names_them(tmp_path, capsys, monkeypatch):
    sample = dict.fromkeys(("seconds", "cpu_seconds", "peak_mb", "requests"), 1.0)
    monkeypatch.setattr(bench_pyramid, "_apart", lambda *_: sample)
    page = tmp_path / "page.md"
    page.write_text(all_linked.PAGE.read_text())
    for name in ("disk", "s3", "growth", "anchors", "large", *all_linked.pyramids(tmp_path, None, 1, 1.0)):
        page.write_text(all_linked.put(page.read_text(), name, f"table of {name}"))
        assert f"<!-- table {name} -->\n\ntable of {name}\n\n<!-- end -->" in page.read_text()
    with pytest.raises(ValueError, match="no place"):
        all_linked.put(page.read_text(), "other", "")
    options = ["--scale", "0.002", "--rounds", "1", "--page", str(page), "--folder", str(tmp_path)]
    all_linked.main(["--only", "pyramids", *options])
    assert capsys.readouterr().out.removeprefix("### pyramids\n\n").strip() in page.read_text()
