"""Rows as tables: CSV and Parquet, chunk by chunk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zarr_vectors_lazy.api.level import ZVLevel
from zarr_vectors_lazy.convert.frame_columns import frame_columns, frame_of
from zarr_vectors_lazy.integrations.formats.optional import library


def frames(level: ZVLevel) -> Iterator[Any]:
    """Pandas frames of the chunks of a level, at least one; columns by axis name and attribute."""
    columns = frame_columns(level._view, None, decode=True)
    start = 0
    for _, part in level.iter_chunks():
        frame = frame_of(columns, part, start)
        start += len(frame)
        yield frame
    if not level.chunk_count:
        yield level.to_dask_dataframe().compute()


def save_csv(level: ZVLevel, path: Path) -> int:
    """Write rows as comma-separated text with a line of names."""
    library("pandas", "pandas")
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        for number, frame in enumerate(frames(level)):
            frame.to_csv(file, index=False, header=number == 0)
            count += len(frame)
    return count


def save_parquet(level: ZVLevel, path: Path) -> int:
    """Write rows as Parquet."""
    arrow, parquet = library("pyarrow"), library("pyarrow.parquet", "pyarrow")
    count, writer = 0, None
    try:
        for frame in frames(level):
            table = arrow.Table.from_pandas(frame, preserve_index=False)
            writer = writer or parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
            count += len(frame)
    finally:
        if writer is not None:
            writer.close()
    return count
