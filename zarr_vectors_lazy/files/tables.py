"""Rows as tables: CSV, Parquet, and NumPy archives."""

from pathlib import Path
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FileError
from zarr_vectors_lazy.files.loaded import Asked, Kind, Loaded, library
from zarr_vectors_lazy.files.outgoing import Outgoing

AXES, OBJECT = ("x", "y", "z", "w"), "object_id"


def load_csv(path: Path, asked: Asked) -> Loaded:
    """Read comma-separated text with a line of names."""
    return points_of(library("pandas", "pandas").read_csv(path), asked)


def load_parquet(path: Path, asked: Asked) -> Loaded:
    """Read Parquet."""
    return points_of(library("pandas", "pandas").read_parquet(path), asked)


def points_of(frame: Any, asked: Asked) -> Loaded:
    """Points of a frame."""
    axes = [name for name in AXES if name in frame.columns]
    if len(axes) < 2 or axes != list(AXES[: len(axes)]):
        raise FileError(f"columns x, y, ... are wanted, found {list(frame.columns)}")
    rest = [name for name in frame.columns if name not in (*axes, OBJECT)]
    return Loaded(
        kind="points",
        positions=frame[axes].to_numpy(),
        attributes={str(name): _values(frame[name]) for name in asked.columns or rest},
        object_ids=frame[OBJECT].to_numpy() if OBJECT in frame.columns else None,
    )


def _values(column: Any) -> np.ndarray[Any, Any]:
    if column.dtype.kind in "biuf":
        return np.asarray(column.to_numpy())
    text: np.ndarray[Any, Any] = column.astype(object).where(column.notna(), None).to_numpy()
    return text


def save_csv(out: Outgoing, path: Path) -> int:
    """Write rows as comma-separated text with a line of names."""
    library("pandas", "pandas")
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        for number, frame in enumerate(out.frames()):
            frame.to_csv(file, index=False, header=number == 0)
            count += len(frame)
    return count


def save_parquet(out: Outgoing, path: Path) -> int:
    """Write rows as Parquet."""
    arrow, parquet = library("pyarrow"), library("pyarrow.parquet", "pyarrow")
    count, writer = 0, None
    try:
        for frame in out.frames():
            table = arrow.Table.from_pandas(frame, preserve_index=False)
            writer = writer or parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
            count += len(frame)
    finally:
        if writer is not None:
            writer.close()
    return count


def load_npz(path: Path, asked: Asked) -> Loaded:
    """Read what `save_npz` writes: ``vertices``, ``edges`` or ``faces``, ``attribute:NAME``."""
    with np.load(path) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    if "vertices" not in found:
        raise FileError(f"an array 'vertices' is wanted, found {sorted(found)}")
    kind: Kind = "mesh" if "faces" in found else "graph" if "edges" in found else "points"
    prefix = "attribute:"
    attributes = {name.removeprefix(prefix): values for name, values in found.items() if name.startswith(prefix)}
    edges = None if kind == "mesh" else found.get("edges")
    return Loaded(kind=kind, positions=found["vertices"], attributes=attributes, faces=found.get("faces"), edges=edges)


def save_npz(out: Outgoing, path: Path) -> int:
    """Write a compressed NumPy archive: ``vertices``, ``edges`` or ``faces``, and ``attribute:NAME``."""
    arrays: dict[str, Any] = {"vertices": out.positions} | {
        f"attribute:{name}": values for name, values in out.attributes.items()
    }
    arrays |= {name: values for name in ("edges", "faces") if (values := getattr(out, name)) is not None}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return len(out.positions)
