"""Bars of rich, of tqdm, of neither."""

import importlib.util
import sys

import dask.array as da
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import SelectionError

POINTS = np.arange(12.0).reshape(6, 2)


@pytest.fixture
def without(monkeypatch):
    def hide(*names):
        find_spec = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in names else find_spec(name))
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)
            monkeypatch.setitem(sys.modules, f"{name}.progress", None)

    return hide


@pytest.mark.parametrize("positions", [POINTS, da.from_array(POINTS)], ids=["memory", "dask"])
def test_tqdm_where_there_is_no_rich(tmp_path, without, capsys, positions):
    without("rich")
    zvl.write_points(tmp_path / "x", positions, chunk_shape=4, progress=True)
    assert "writing: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("positions", [POINTS, da.from_array(POINTS)], ids=["memory", "dask"])
def test_neither_is_an_error_before_anything_is_put(tmp_path, without, positions):
    without("rich", "tqdm")
    with pytest.raises(SelectionError, match=r"progress=True needs rich or tqdm: pip install"):
        zvl.write_points(tmp_path / "x", positions, chunk_shape=4, progress=True)
    assert not (tmp_path / "x").exists()
    zvl.write_points(tmp_path / "x", positions, chunk_shape=4)
