"""Points from tables: columns ``x``, ``y``, ``z``; the others are attributes, ``object_id`` says the object."""

from pathlib import Path
from typing import Any

import numpy as np

from zarr_vectors_lazy.integrations.formats.loaded import Loaded, wrong
from zarr_vectors_lazy.integrations.formats.optional import library

AXES, OBJECT = ("x", "y", "z", "w"), "object_id"


def load_csv(path: Path) -> Loaded:
    """Read comma-separated text with a line of names."""
    return points_of(path, library("pandas", "pandas").read_csv(path))


def load_parquet(path: Path) -> Loaded:
    """Read Parquet."""
    return points_of(path, library("pandas", "pandas").read_parquet(path))


def points_of(path: Path, frame: Any) -> Loaded:
    """Points of a frame."""
    axes = [name for name in AXES if name in frame.columns]
    if len(axes) < 2 or axes != list(AXES[: len(axes)]):
        raise wrong(path, f"columns x, y, ... are wanted, found {list(frame.columns)}")
    rest = [name for name in frame.columns if name not in (*axes, OBJECT)]
    return Loaded(
        kind="points",
        positions=frame[axes].to_numpy(),
        attributes={str(name): _values(frame[name]) for name in rest},
        object_ids=frame[OBJECT].to_numpy() if OBJECT in frame.columns else None,
    )


def _values(column: Any) -> np.ndarray[Any, Any]:
    if column.dtype.kind in "biuf":
        return np.asarray(column.to_numpy())
    text: np.ndarray[Any, Any] = column.astype(object).where(column.notna(), None).to_numpy()
    return text
