"""A level into a store: attributes beside its data, and what is selected as a store of its own."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import dask

from zarr_vectors_lazy.access.write.session import Mode, check_apart
from zarr_vectors_lazy.api.keywords import suggesting
from zarr_vectors_lazy.api.progress import computing
from zarr_vectors_lazy.api.save.level import save_level
from zarr_vectors_lazy.api.write.args import check_name
from zarr_vectors_lazy.api.write.values import attribute_values
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.graph.write.attribute import add_attribute
from zarr_vectors_lazy.kernels.groups import Rule
from zarr_vectors_lazy.model.writing import Compressor
from zarr_vectors_lazy.storage.resolve import resolve

if TYPE_CHECKING:
    from zarr_vectors_lazy.api.level import ZVLevel
    from zarr_vectors_lazy.api.store import ZVStore


class Stored:
    """What a level writes; `ZVLevel` has these methods."""

    _store: "ZVStore"
    _view: LevelView

    def write_attribute(
        self,
        name: str,
        values: Any,
        *,
        aggregate: Rule | None = None,
        compute: bool = True,
        progress: bool = False,
    ) -> Any:
        """Write a new vertex attribute beside the data of a level, chunk by chunk; open the store anew to read it.

        Parameters
        ----------
        name
            Of the attribute; the level has none of that name.
        values
            (N,) or (N, C) NumPy or Dask array aligned with `vertices`, such as one computed from them and other
            attributes, or a pandas or Arrow column: numbers, truth values, times, or (N,) text, which is
            dictionary-encoded. What is masked or None is missing. Where chunk sizes are unknown it has a block for each
            chunk.
        aggregate
            How `build_pyramid` is to join the values, ``"mean"`` for instance; it is kept with the attribute. None: by
            default.
        compute
            False: return a Delayed that does it.
        progress
            Show a bar.

        Returns
        -------
        int
            How many chunks have values.

        Raises
        ------
        SelectionError
            If the level is a selection, has such an attribute, or the values are not aligned with it.
        FormatError
            If the store is of format 0.7 (`migrate` it first).
        StoreError
            If a put fails, or another write of the attribute began meanwhile; it is not there then, for readers and
            for the next write of it.
        """
        check_name(name, "attribute")
        values = values if dask.is_dask_collection(values) else attribute_values(values, "values")
        job = add_attribute(self._view, name, values, aggregate)
        if not compute:
            return job
        with computing(f"write {name}", shown=progress):
            return dask.compute(job)[0]

    @suggesting
    def save(
        self,
        path: Any,
        *,
        chunk_shape: Any = None,
        bin_shape: Any = None,
        compressor: Compressor = "zstd",
        checksum: bool = True,
        shard_shape: Any = None,
        mode: Mode = "w-",
        compute: bool = True,
        progress: bool = False,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        **backend_kwargs: Any,
    ) -> Any:
        """Write what is selected as a new store of format 0.9, as its level 0.

        Carried are positions, attributes, edges or faces and their attributes, objects, their attributes and groups;
        axes, units, reference system and offset; headers; ``user_metadata``, units and descriptions of attributes, and
        whatever else metadata say that is not about layout. ``left_out`` in what is returned names what is not.

        All is written out of core: as a Dask graph that reads each chunk once, whose memory is that of the geometry's
        writer from Dask arrays, and beside it that of all manifests. The fragment indexes of paths are read twice;
        chunk sizes of graphs, skeletons and meshes that the store does not state are read before this returns, with
        ``compute=False`` too.

        A path that the selection interrupts becomes several objects: the first run keeps the id, further ones get new
        ids, and the attributes and groups of the object are theirs too. So no edge joins what was not joined.

        Parameters
        ----------
        path
            Where to; URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
        chunk_shape, bin_shape
            Of the new store; by default those of the level.
        compressor, checksum, shard_shape, mode, compute, progress
            As `write_points`.
        backend, storage_options, **backend_kwargs
            Of the new store, as for `open_zv`.

        Returns
        -------
        dict
            What the writer of the geometry returns, and ``left_out``: paths in the store of what the new one does not
            have, such as other levels, parametric objects, and arrays that this package does not know.

        Raises
        ------
        SelectionError
            If ``path`` is the store's own place or lies in it, nothing is selected, vertices belong to several objects
            (coarse levels of the reference), a line is cut in two, or an argument is malformed.
        StoreError
            If there is something at ``path``, or a put fails.
        """
        options = {"backend": backend, "storage_options": storage_options, **backend_kwargs}
        check_apart(self._view.data.tree.spec, resolve(path, **options))
        arguments = {
            "chunk_shape": self._view.data.meta.chunk_shape if chunk_shape is None else chunk_shape,
            "bin_shape": bin_shape,
            "compressor": compressor,
            "checksum": checksum,
            "shard_shape": shard_shape,
            "mode": mode,
            "compute": compute,
            "progress": progress,
            **options,
        }
        if bin_shape is None and chunk_shape is None and self._view.data.meta.bins_tile:
            arguments["bin_shape"] = self._view.data.meta.bin_shape
        return save_level(cast("ZVLevel", self), path, arguments)
