"""Records of input blocks in files of this machine, by chunk, until the tasks that write chunks fetch them."""

import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from zarr_vectors_lazy.access.machine import check_worker
from zarr_vectors_lazy.access.write.intake import Intake, Tally, take_block
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.kernels.records import Records
from zarr_vectors_lazy.model.writing import Grid
from zarr_vectors_lazy.settings import temporary_folder
from zarr_vectors_lazy.types import ChunkCoords, IntArray


class SpillFolder:
    """A folder below Dask's ``temporary-directory``, made on first use.

    It goes at the end of a ``with``, or with the object that was made first, not its pickled copies: with the graph
    that names it.
    """

    def __init__(self) -> None:
        self.path = temporary_folder()
        self._gone = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def remove(self) -> None:
        """Delete the files."""
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __reduce__(self) -> tuple[Any, ...]:
        return _copy, (self.path,)

    def __dask_tokenize__(self) -> tuple[str, str]:
        return ("SpillFolder", str(self.path))

    def write(self, number: int, records: Records, coords: ChunkCoords, bounds: IntArray) -> None:
        """Keep the records of an input block; rows ``bounds[i]:bounds[i + 1]`` are those of chunk ``coords[i]``."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        records.tofile(self.path / f"{number}.rows")
        np.save(self.path / f"{number}.npy", np.concatenate([coords, bounds[1:, None]], axis=1))

    def read(self, number: int, grid: Grid, wanted: ChunkCoords, dtype: np.dtype[np.void]) -> Iterator[Records]:
        """Records of the chunks ``wanted``, in lexicographic order, that an input block has."""
        index = np.load(self.path / f"{number}.npy")
        coords, ends = index[:, :-1], index[:, -1]
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        here = np.flatnonzero(np.isin(flat(coords, grid), flat(wanted, grid), assume_unique=True))
        with (self.path / f"{number}.rows").open("rb") as file:
            for run in np.split(here, np.flatnonzero(np.diff(here) != 1) + 1) if len(here) else []:
                start, count = int(starts[run[0]]), int(ends[run[-1]] - starts[run[0]])
                file.seek(start * dtype.itemsize)
                found = np.fromfile(file, dtype, count)
                if len(found) != count:
                    raise StoreError(
                        f"a temporary file is short: {count} rows expected, {len(found)} there", where=file.name
                    )
                yield found


def _copy(path: Path) -> SpillFolder:
    folder = SpillFolder.__new__(SpillFolder)
    folder.path = path
    return folder


def flat(coords: ChunkCoords, grid: Grid) -> IntArray:
    """(n,) number of chunks in the grid, ascending as they are."""
    local = coords - np.asarray(grid.origin, np.int64)
    if not len(local):
        return np.empty(0, np.int64)
    found: IntArray = np.ravel_multi_index(tuple(local.T), grid.shape)
    return found


def spill_block(intake: Intake, folder: SpillFolder, number: int, *parts: Any) -> Tally:
    """Keep an input block's records in a file.

    Raises
    ------
    SelectionError
        As `take_block`.
    StoreError
        If this is a worker of a cluster, whose machine others cannot see.
    """
    check_worker(wanted=False)
    taken = take_block(intake, number, *parts)
    folder.write(number, taken.records, taken.routed.coords, taken.routed.bounds)
    return taken.tally
