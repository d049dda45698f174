"""A store of the old format as a new store of the written one."""

import warnings
from collections.abc import Collection, Mapping
from typing import Any

import dask

from zarr_vectors_lazy.access.store import open_tree
from zarr_vectors_lazy.access.write.copied import left_out
from zarr_vectors_lazy.access.write.session import Mode, check_apart, check_mode
from zarr_vectors_lazy.api.keywords import suggesting
from zarr_vectors_lazy.api.progress import computing
from zarr_vectors_lazy.errors import FormatError, ZVWarning, listed
from zarr_vectors_lazy.graph.carry import CarryOptions, carry_store
from zarr_vectors_lazy.model.writing import Compressor, Encoding
from zarr_vectors_lazy.storage.resolve import resolve


@suggesting
def migrate(
    src: Any,
    dst: Any,
    *,
    leave_out: Collection[str] = (),
    compressor: Compressor = "zstd",
    checksum: bool = True,
    mode: Mode = "w-",
    compute: bool = True,
    progress: bool = False,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    dst_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> Any:
    """Write a store of format 0.7 as a new one of format 0.9; the old one is left as it is.

    Carried are every level with its positions, fragments, attributes, links and links between levels, objects, groups
    and their attributes, headers, and what metadata say that is not about layout. Rows keep their order and objects
    their ids. Left out are the link records that the old writer garbled, inside levels of polylines and lines: what
    they say is in the objects.

    Parameters
    ----------
    src, dst
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``; there must be no store at ``dst``.
    leave_out
        Names of attributes that are not to be carried, and ``"parametric"``.
    compressor, checksum
        Of the new store's cells.
    mode
        ``"w-"``: refuse what is at ``dst``; ``"w"``: replace a store.
    compute
        False: return a Delayed that does it.
    progress
        Show a bar.
    backend, storage_options, **backend_kwargs
        As for `open_zv`, of ``src``, and of ``dst`` where ``dst_options`` is None.
    dst_options
        Options of ``dst`` alone, ``backend`` among them.

    Returns
    -------
    dict
        Vertices by level.

    Raises
    ------
    FormatError
        If ``src`` is no store of format 0.7, or has what cannot be carried: the message names it.
    SelectionError
        If ``src`` and ``dst`` are one place, or an argument is malformed.
    StoreError
        If a store cannot be reached, or there is something at ``dst``.

    Warns
    -----
    ZVWarning
        If there are groups or arrays that this package does not know, which are not carried.
    """
    check_mode(mode)
    options = {"backend": backend, "storage_options": storage_options, **backend_kwargs}
    source = resolve(src, **options)
    target = resolve(dst, **(options if dst_options is None else dst_options))
    check_apart(source, target)
    opened = open_tree(source, None)
    if opened.generation.changeable:
        raise FormatError(f"the store is of format {opened.meta.version} already", where=source.url)
    lost = {path for data in opened.levels.values() for path in left_out(data, opened.levels, links=True, objects=True)}
    if lost := lost - set(leave_out):
        warnings.warn(f"not carried: {listed(sorted(lost))}", ZVWarning, stacklevel=2)
    encoding = Encoding(compressor=compressor, checksum=checksum)
    job = carry_store(opened, target, CarryOptions(encoding=encoding, mode=mode, leave_out=frozenset(leave_out)))
    if not compute:
        return job
    with computing("migrate", shown=progress):
        return dask.compute(job)[0]
