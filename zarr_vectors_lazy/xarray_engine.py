"""``xr.open_dataset(..., engine="zarr_vectors")`` and ``xr.open_datatree``."""

import os
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import xarray as xr
from xarray.backends import BackendEntrypoint

from zarr_vectors_lazy.convert.xarray import lazy_level_dataset, root_dataset
from zarr_vectors_lazy.errors import NotFoundError, SelectionError
from zarr_vectors_lazy.store import ZVStore, open_zv

SUFFIXES = (".zarrvectors", ".zv")


class ZarrVectorsEntrypoint(BackendEntrypoint):
    """Opens Zarr Vectors stores; reads metadata only."""

    description = "Zarr Vectors stores: point clouds, streamlines, skeletons, graphs, meshes"
    open_dataset_parameters: ClassVar[tuple[str, ...]] = (
        "filename_or_obj",
        "drop_variables",
        "level",
        "group",
        "objects",
        "edges",
        "backend",
        "consolidated",
        "storage_options",
    )
    supports_groups = True

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether the name ends in ``.zarrvectors`` or ``.zv``."""
        named = isinstance(filename_or_obj, str | os.PathLike)
        return named and os.fspath(filename_or_obj).rstrip("/").endswith(SUFFIXES)

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        level: int | str | None = None,
        group: str | None = None,
        objects: bool = False,
        edges: bool = False,
        backend: str | None = None,
        consolidated: bool | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> xr.Dataset:
        """Open one level, by default the finest.

        Parameters
        ----------
        filename_or_obj
            URL or path, or a ``zarr.abc.store.Store``.
        drop_variables
            Names of variables to leave out.
        level, group
            The number of the level (negative ones count from the coarsest, -1), or its name as a node of
            `open_datatree`, such as ``"1"``; give only one of them.
        objects, edges
            Whether to include objects as a CF ragged index, and edges or faces; this reads whatever is needed to count
            them.
        backend, consolidated, storage_options
            As for `open_zv`.
        """
        store = open_zv(filename_or_obj, backend=backend, consolidated=consolidated, storage_options=storage_options)
        view = store[_level(level, group)]._view
        return lazy_level_dataset(view, objects=objects, edges=edges, drop=_names(drop_variables))

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        objects: bool = False,
        edges: bool = False,
        backend: str | None = None,
        consolidated: bool | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> dict[str, xr.Dataset]:
        """Open all levels by number, below a root that describes the store; parameters as for `open_dataset`."""
        store = open_zv(filename_or_obj, backend=backend, consolidated=consolidated, storage_options=storage_options)
        return _nodes(store, objects=objects, edges=edges, drop=_names(drop_variables))

    def open_datatree(self, filename_or_obj: Any, **options: Any) -> xr.DataTree:
        """Open the tree of `open_groups_as_dict`."""
        return xr.DataTree.from_dict(self.open_groups_as_dict(filename_or_obj, **options))


def _nodes(store: ZVStore, *, objects: bool, edges: bool, drop: frozenset[str]) -> dict[str, xr.Dataset]:
    nodes = {"/": root_dataset(store._opened.meta)}
    for level in store:
        nodes[f"/{level.index}"] = lazy_level_dataset(level._view, objects=objects, edges=edges, drop=drop)
    return nodes


def _level(level: int | str | None, group: str | None) -> int:
    named = group.strip("/") if isinstance(group, str) else None
    if level is not None and named is not None and str(level) != named:
        raise SelectionError(f"level={level!r} and group={group!r} name two levels: give only one of them")
    wanted = named if level is None else str(level)
    if wanted is not None and not (wanted if level is None else wanted.removeprefix("-")).isdecimal():
        raise NotFoundError(f"no level {wanted!r}; levels are numbers, and groups are named by them")
    return int(wanted or 0)


def _names(drop: str | Iterable[str] | None) -> frozenset[str]:
    return frozenset() if drop is None else frozenset([drop] if isinstance(drop, str) else drop)
