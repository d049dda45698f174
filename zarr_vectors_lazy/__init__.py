"""Lazy Dask arrays over Zarr Vectors stores."""

from zarr_vectors_lazy import errors, testing
from zarr_vectors_lazy.api.level import ZVLevel
from zarr_vectors_lazy.api.store import ZVStore, open_zv
from zarr_vectors_lazy.api.tools import consolidate

__all__ = ["ZVLevel", "ZVStore", "consolidate", "errors", "open_zv", "testing"]
