"""Records of input blocks in files of this machine, by chunk, until the tasks that write chunks fetch them."""

import shutil
import threading
import uuid
import weakref
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np

from zarr_vectors_lazy.access.machine import check_worker
from zarr_vectors_lazy.access.write.intake import Intake, Tally, take_block
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.kernels.records import Records
from zarr_vectors_lazy.model.writing import Grid
from zarr_vectors_lazy.settings import temporary_folder
from zarr_vectors_lazy.types import ChunkCoords, IntArray

RUNS = "runs.npy"
PartOf: TypeAlias = Callable[[ChunkCoords], IntArray]
_lock = threading.Lock()


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
        (self.path / RUNS).unlink(missing_ok=True)  # of a computation that failed
        records.tofile(self.path / f"{number}.rows")
        np.save(self.path / f"{number}.npy", np.concatenate([coords, bounds[1:, None]], axis=1))

    def read(self, part: int, blocks: Sequence[int], part_of: PartOf, dtype: np.dtype[np.void]) -> Records:
        """Records of the chunks of a part, an input block after another, in lexicographic order in each.

        Parameters
        ----------
        blocks
            All input blocks, in their order.
        part_of
            Gives (n,) the part of each of (n, D) chunks.
        """
        runs = self._runs(part, blocks, part_of)
        found = np.empty(int((runs[2] - runs[1]).sum()), dtype)
        raw, at = found.view(np.uint8).data, 0
        for block, of_block in groupby(runs.T.tolist(), itemgetter(0)):
            with (self.path / f"{block}.rows").open("rb") as file:
                for _, start, stop in of_block:
                    file.seek(start * dtype.itemsize)
                    nbytes = (stop - start) * dtype.itemsize
                    if file.readinto(raw[at : at + nbytes]) != nbytes:
                        raise StoreError(f"a temporary file is short: rows {start} to {stop} expected", where=file.name)
                    at += nbytes
        return found

    def _runs(self, part: int, blocks: Sequence[int], part_of: PartOf) -> IntArray:
        """(3, R) block, first row and one past the last row of the runs of rows that a part has."""
        index = self.path / RUNS
        with _lock:
            if not index.exists():
                self._write_runs(index, blocks, part_of)
        found = np.load(index, mmap_mode="r")
        first, last = np.searchsorted(found[0], [part, part + 1])
        return np.array(found[1:, first:last])

    def _write_runs(self, index: Path, blocks: Sequence[int], part_of: PartOf) -> None:
        """Join what the blocks have of each part, so that a part need not look into all of them."""
        found = [np.empty((4, 0), np.int64)]
        for block in blocks:
            known = np.load(self.path / f"{block}.npy")
            parts = part_of(known[:, :-1])
            last = np.flatnonzero(np.diff(parts, append=-1))
            stops = known[last, -1]
            starts = np.concatenate([[0], stops])[:-1]
            found.append(np.stack([parts[last], np.full(len(last), block), starts, stops]))
        runs = np.concatenate(found, axis=1)
        new = index.with_name(f"{uuid.uuid4().hex}.npy")  # other processes may be at it, too
        np.save(new, runs[:, np.argsort(runs[0], kind="stable")])
        new.replace(index)


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
