"""Lazy Dask arrays over Zarr Vectors stores."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zarr_vectors_lazy import errors, testing
    from zarr_vectors_lazy.api.cors import cors
    from zarr_vectors_lazy.api.files import ingest
    from zarr_vectors_lazy.api.level import ZVLevel
    from zarr_vectors_lazy.api.migrate import migrate
    from zarr_vectors_lazy.api.plain import open_store
    from zarr_vectors_lazy.api.pyramid import build_pyramid, coarsen_level
    from zarr_vectors_lazy.api.readers import read_graph, read_lines, read_mesh, read_points, read_polylines
    from zarr_vectors_lazy.api.save.rechunk import rechunk
    from zarr_vectors_lazy.api.save.recompress import recompress
    from zarr_vectors_lazy.api.shapes import suggest_chunk_shape
    from zarr_vectors_lazy.api.store import ZVStore, open_zv
    from zarr_vectors_lazy.api.tools import consolidate, index, shard
    from zarr_vectors_lazy.api.validate import validate
    from zarr_vectors_lazy.api.write.linked import write_graph, write_mesh
    from zarr_vectors_lazy.api.write.writers import write_lines, write_points, write_polylines
    from zarr_vectors_lazy.examples import example

__version__ = "0.1.0.dev0"
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
    "api.cors": "cors",
    "api.files": "ingest",
    "api.level": "ZVLevel",
    "api.migrate": "migrate",
    "api.plain": "open_store",
    "api.pyramid": "build_pyramid coarsen_level",
    "api.readers": "read_graph read_lines read_mesh read_points read_polylines",
    "api.save.rechunk": "rechunk",
    "api.save.recompress": "recompress",
    "api.shapes": "suggest_chunk_shape",
    "api.store": "ZVStore open_zv",
    "api.tools": "consolidate index shard",
    "api.validate": "validate",
    "api.write.linked": "write_graph write_mesh",
    "api.write.writers": "write_lines write_points write_polylines",
    "examples": "example",
}
_SUBMODULES = ("errors", "testing")
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Import what is asked for: the package itself is there at once, and the command ``zvl`` with it."""
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
