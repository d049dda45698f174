"""The reference package, zarr-vectors 0.9.2; imported in its own environment only.

It is given the URL. Its default backend for s3 is obstore, much the faster of its two: through s3fs ``read_points``
makes one HEAD request more per object, ten at a time, and takes 5 s where obstore takes 0.8 s (10^6 points, 30 ms).
"""

import numpy as np
import zarr_vectors
from zarr_vectors.lazy.store import open_zv
from zarr_vectors.types import points

from benchmarks.readers import Job


def read_points(job: Job) -> np.ndarray:
    """Read eagerly, positions only."""
    return points.read_points(job.url, bbox=corners(job))["positions"]


def select(job: Job) -> np.ndarray:
    """Select and read through the data-oriented API as its documentation shows: with every attribute."""
    return zarr_vectors.open(job.url)[0].select(bbox=corners(job)).read().positions


def select_positions(job: Job) -> np.ndarray:
    """Do the same without attributes, which is what the other readers do."""
    return zarr_vectors.open(job.url)[0].select(bbox=corners(job), attributes=[]).read().positions


def open_lazily(job: Job) -> np.ndarray:
    """Compute its lazy vertices on Dask's threads."""
    return open_zv(job.url)[0].vertices.compute()


def corners(job: Job) -> tuple[np.ndarray, np.ndarray] | None:
    """The box, as the reference expects it."""
    return None if job.box is None else (np.asarray(job.box[0]), np.asarray(job.box[1]))
