"""Level 0 of small stores, and what its pyramid must hold, computed one bin at a time."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np


def files(path):
    """Every file below a folder, by relative path."""
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in sorted(Path(path).rglob("*")) if p.is_file()}


@dataclass
class Level:
    """A level, computed whole."""

    positions: np.ndarray
    counts: np.ndarray
    bins: np.ndarray


def computed(store, index):
    """Positions of a level, level-0 vertices of each, and its bin coordinates."""
    level = store[index]
    positions = level.vertices.compute()
    weight = [name for name in level.attribute_names if name in ("count", "zv_count")]
    counts = level.attributes[weight[-1]].compute() if index and weight else np.ones(len(positions), np.int64)
    return Level(positions, counts, np.floor(positions.astype("f8") / level.bin_shape).astype(int))


def by_bin(positions, bin_shape):
    """Rows of the vertices of each bin."""
    found = defaultdict(list)
    for row, key in enumerate(np.floor(positions.astype("f8") / bin_shape).astype(int).tolist()):
        found[tuple(key)].append(row)
    return found


def units_apart(found, exact, dtype):
    """Differences in units of the last place of the stored dtype; exact ones come in float64."""
    exact = np.asarray(exact, "f8")
    return np.abs(np.asarray(found, "f8") - exact) / np.spacing(np.abs(exact).astype(dtype))


def traced(store, fine, coarse):
    """(row of level ``fine``, row of level ``coarse``) of every link between two levels."""
    up = store[fine].links(coarse - fine).compute()
    down = store[coarse].links(fine - coarse).compute()
    assert sorted(map(tuple, up.tolist())) == sorted(map(tuple, down[:, ::-1].tolist()))
    return up
