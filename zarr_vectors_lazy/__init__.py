"""Lazy Dask arrays over Zarr Vectors stores."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zarr_vectors_lazy import errors, testing
    from zarr_vectors_lazy.check.report import validate
    from zarr_vectors_lazy.copy.recompress import recompress
    from zarr_vectors_lazy.cost import cors
    from zarr_vectors_lazy.examples import example
    from zarr_vectors_lazy.interchange import ingest, suggest_chunk_shape
    from zarr_vectors_lazy.level import ZVLevel
    from zarr_vectors_lazy.maintenance import consolidate, index, migrate, rechunk, shard
    from zarr_vectors_lazy.pyramid.build import build_pyramid, coarsen_level
    from zarr_vectors_lazy.readers import read_graph, read_lines, read_mesh, read_points, read_polylines
    from zarr_vectors_lazy.store import ZVStore, open_store, open_zv
    from zarr_vectors_lazy.write.writers import write_graph, write_lines, write_mesh, write_points, write_polylines

__version__ = "0.1.0"
__all__ = [
    "ZVLevel",
    "ZVStore",
    "build_pyramid",
    "coarsen_level",
    "consolidate",
    "cors",
    "errors",
    "example",
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
    "recompress",
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
_MODULES = {
    "check.report": "validate",
    "copy.recompress": "recompress",
    "cost": "cors",
    "examples": "example",
    "interchange": "ingest suggest_chunk_shape",
    "level": "ZVLevel",
    "maintenance": "consolidate index migrate rechunk shard",
    "pyramid.build": "build_pyramid coarsen_level",
    "readers": "read_graph read_lines read_mesh read_points read_polylines",
    "store": "ZVStore open_store open_zv",
    "writers": "write_graph write_lines write_mesh write_points write_polylines",
}
_SUBMODULES = ("errors", "testing")
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing the package and starting ``zvl`` are fast."""
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        near = import_module(f"{__name__}.errors").meant(name, __all__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{near}", name=name)
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
