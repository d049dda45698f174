"""Progress bars: one line of text, in terminals and in Jupyter, without further packages."""

import io
import sys
from types import SimpleNamespace

import dask
import dask.array as da
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy import progress
from zarr_vectors_lazy.progress import Bar, clock, request_bar

POINTS = np.arange(12.0).reshape(6, 2)


@pytest.mark.parametrize("positions", [POINTS, da.from_array(POINTS)], ids=["memory", "dask"])
def test_a_file_gets_the_last_state_alone(tmp_path, capsys, positions):
    zvl.write_points(tmp_path / "x", positions, chunk_shape=4, progress=True)
    said = capsys.readouterr().err
    assert said.startswith("\rwriting: 100% [########################] ")
    assert said.count("\r") == said.count("\n") == 1


def test_a_terminal_sees_the_rate_and_the_time_left(capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0)
    monkeypatch.setattr(progress, "is_live", lambda: True)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=iter(range(0, 1000, 2)).__next__))
    monkeypatch.setenv("COLUMNS", "100")
    bar = Bar("writing", 4)
    bar.advance(1)
    first = capsys.readouterr().err
    assert first.startswith("\rwriting:  25% [######..................] 1 of 4, ")
    assert first.endswith("/s, 0:12 left")
    bar.show(4, "3 MB/s")
    bar.close()
    last = capsys.readouterr().err.split("\r")[-1]
    assert last.startswith("writing: 100% [########################] 4 of 4, 3 MB/s, 0:")
    assert last.endswith("\n")


def test_a_line_is_no_wider_than_the_terminal_and_wiped_away(capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0)
    monkeypatch.setattr(progress, "is_live", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    bar = Bar("reading, requests", 4, fleeting=True)
    bar.advance(1)
    bar.close()
    lines = capsys.readouterr().err.split("\r")
    assert max(map(len, lines)) == 39
    assert lines[-2:] == [" " * 39, ""]


def test_jupyter_is_live_without_widgets(monkeypatch):
    kernel = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    monkeypatch.setattr(sys, "stderr", kernel())
    assert progress.is_live()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not progress.is_live()


def test_one_bar_counts_the_requests_of_several_computations(tracts):
    level = zvl.open_zv(tracts)[0]
    bar = Bar("reading", level.explain("vertices", "arc_length").requests, fleeting=True)
    with request_bar(bar):
        dask.compute(level.vertices)
        dask.compute(level.attributes["arc_length"])
    assert bar.total == bar._done == 32
    assert bar._rate.endswith("B/s")


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (75, "1:15"), (3700, "1:01:40")])
def test_clock(seconds, text):
    assert clock(seconds) == text
