"""Lazy Dask arrays over Zarr Vectors stores."""

from zarr_vectors_lazy import errors, testing
from zarr_vectors_lazy.api.level import ZVLevel
from zarr_vectors_lazy.api.store import ZVStore, open_zv

__all__ = ["ZVLevel", "ZVStore", "errors", "open_zv", "testing"]
