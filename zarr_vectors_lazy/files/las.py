"""Points in LAS and LAZ."""

from pathlib import Path

import numpy as np

from zarr_vectors_lazy.files.loaded import Asked, Loaded, library


def load_las(path: Path, asked: Asked) -> Loaded:
    """Read LAS or LAZ: scaled coordinates in float64, and every other dimension of the point format."""
    laspy = library("laspy")
    cloud = laspy.read(path)
    names = [name for name in cloud.point_format.dimension_names if name not in ("X", "Y", "Z")]
    values = {name: np.asarray(cloud[name]) for name in names if asked.columns is None or name in asked.columns}
    return Loaded(kind="points", positions=np.asarray(cloud.xyz), attributes=values)
