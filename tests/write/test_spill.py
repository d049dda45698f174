"""Records of input blocks in files, fetched part by part."""

import pickle

import dask
import numpy as np
import pytest

from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.write.records import SpillFolder

DTYPE = np.dtype([("number", "<i8"), ("x", "<f4"), ("filling", "u1", (4,))])
PARTS = np.asarray([0, 0, 2, 2, 2, 1])  # by chunk along one axis


def part_of(coords):
    return PARTS[coords[:, 0]]


@pytest.fixture
def folder(tmp_path):
    with dask.config.set(temporary_directory=str(tmp_path)), SpillFolder() as folder:
        yield folder


def write(folder, number, chunks, first=0):
    """A block whose row k lies in the chunk ``chunks[k]``, ascending."""
    records = np.zeros(len(chunks), DTYPE)
    records["number"] = number * 100 + first + np.arange(len(chunks))
    coords, counts = np.unique(chunks, return_counts=True)
    bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    folder.write(number, records, np.stack([coords, coords * 0], axis=1).astype(np.int64), bounds)


def numbers(folder, part):
    found = folder.read(part, [0, 1, 2], part_of, DTYPE)
    assert found.dtype == DTYPE
    return found["number"].tolist()


def test_rows_of_each_part(folder):
    write(folder, 0, [0, 0, 1, 3, 5, 5])
    write(folder, 1, [])
    write(folder, 2, [0, 2, 4, 4])
    copy = pickle.loads(pickle.dumps(folder))
    assert [numbers(copy, part) for part in range(4)] == [[0, 1, 2, 200], [4, 5], [3, 201, 202, 203], []]
    (folder.path / "2.rows").unlink()
    assert numbers(folder, 1) == [4, 5]  # blocks that have none of a part's rows are left alone
    write(folder, 2, [0, 5], first=50)  # again, other rows: what was known of the parts is forgotten
    assert [numbers(folder, part) for part in range(3)] == [[0, 1, 2, 250], [4, 5, 251], [3]]
    with (folder.path / "2.rows").open("r+b") as file:
        file.truncate(20)
    with pytest.raises(StoreError, match="a temporary file is short: rows 1 to 2 expected"):
        numbers(folder, 1)
