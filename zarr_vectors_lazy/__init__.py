"""Lazy Dask arrays over Zarr Vectors stores."""

from zarr_vectors_lazy import errors, testing
from zarr_vectors_lazy.api.cors import cors
from zarr_vectors_lazy.api.files import ingest
from zarr_vectors_lazy.api.level import ZVLevel
from zarr_vectors_lazy.api.migrate import migrate
from zarr_vectors_lazy.api.plain import open_store
from zarr_vectors_lazy.api.pyramid import build_pyramid, coarsen_level
from zarr_vectors_lazy.api.readers import read_graph, read_lines, read_mesh, read_points, read_polylines
from zarr_vectors_lazy.api.save.rechunk import rechunk
from zarr_vectors_lazy.api.shapes import suggest_chunk_shape
from zarr_vectors_lazy.api.store import ZVStore, open_zv
from zarr_vectors_lazy.api.tools import consolidate, index, shard
from zarr_vectors_lazy.api.validate import validate
from zarr_vectors_lazy.api.write.linked import write_graph, write_mesh
from zarr_vectors_lazy.api.write.writers import write_lines, write_points, write_polylines

__all__ = [
    "ZVLevel",
    "ZVStore",
    "build_pyramid",
    "coarsen_level",
    "consolidate",
    "cors",
    "errors",
    "index",
    "ingest",
    "migrate",
    "open_store",
    "open_zv",
    "read_graph",
    "read_lines",
    "read_mesh",
    "read_points",
    "read_polylines",
    "rechunk",
    "shard",
    "suggest_chunk_shape",
    "testing",
    "validate",
    "write_graph",
    "write_lines",
    "write_mesh",
    "write_points",
    "write_polylines",
]
