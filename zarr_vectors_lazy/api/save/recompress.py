"""A store with other codecs, or in other objects."""

from collections.abc import Mapping
from typing import Any

import dask

from zarr_vectors_lazy.access.store import open_tree
from zarr_vectors_lazy.access.upkeep.recode import Recoded
from zarr_vectors_lazy.access.write.session import Mode, check_apart, check_mode
from zarr_vectors_lazy.api.keywords import suggesting
from zarr_vectors_lazy.api.progress import computing
from zarr_vectors_lazy.api.write.args import Profile, parse_encoding
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.graph.recompress import recompress_store
from zarr_vectors_lazy.model.writing import Compressor
from zarr_vectors_lazy.storage.resolve import resolve


@suggesting
def recompress(
    src: Any,
    dst: Any,
    *,
    compressor: Compressor = "zstd",
    checksum: bool = True,
    shard_shape: Any = None,
    profile: Profile = None,
    mode: Mode = "w-",
    compute: bool = True,
    progress: bool = False,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    dst_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> Any:
    """Copy a store of format 0.9 cell by cell, encoded otherwise: other codecs, in shards or out of them.

    What is in a cell is not looked into, so everything is the same: every level, links, objects, groups, headers, and
    what this package does not know. `rechunk` is for other chunks, `shard` for other objects in place.

    Parameters
    ----------
    src, dst
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    compressor, checksum, shard_shape
        Of the copy, as for `write_points`: by default each cell is an object, in zstd with a checksum. Rows of objects
        and groups are never in shards.
    profile
        ``"viewer"``: ``compressor=None, checksum=False, shard_shape=None``, for viewers that read raw cells.
    mode, compute, progress
        As for `write_points`.
    backend, storage_options, **backend_kwargs
        As for `open_zv`, of ``src``, and of ``dst`` where ``dst_options`` is None.
    dst_options
        Options of ``dst`` alone, ``backend`` among them.

    Returns
    -------
    dict
        ``cell_count``: stored pieces of arrays; ``object_count``: objects that they are in now; ``source_nbytes`` and
        ``nbytes``: their bytes there and here; ``left_out``: paths of what is no part of a Zarr tree, or was being
        written.

    Raises
    ------
    SelectionError
        If ``src`` and ``dst`` are one place, or an argument is malformed.
    FormatError
        If there is no store, it is of format 0.7 (`migrate` takes ``compressor=`` too), or levels are being written.
    CorruptChunkError
        If a listed cell is missing, or one cannot be decoded; there is no store at ``dst`` then.
    StoreError
        If a store cannot be reached, or there is something at ``dst``.

    Examples
    --------
    >>> import tempfile
    >>> import zarr_vectors_lazy as zvl
    >>> folder = tempfile.mkdtemp()
    >>> _ = zvl.write_points(f"{folder}/a.zarrvectors", [[1.0, 2.0], [3.0, 4.0]], chunk_shape=10)
    >>> done = zvl.recompress(f"{folder}/a.zarrvectors", f"{folder}/b.zarrvectors", compressor="blosc")
    >>> done["cell_count"], done["left_out"]
    (2, [])
    """
    check_mode(mode)
    options = {"backend": backend, "storage_options": storage_options, **backend_kwargs}
    source = resolve(src, **options)
    target = resolve(dst, **(options if dst_options is None else dst_options))
    check_apart(source, target)
    opened = open_tree(source, None)
    encoding = parse_encoding(compressor, checksum, shard_shape, opened.meta.ndim, profile)
    if not opened.generation.changeable:
        raise FormatError(
            f"stores of format {opened.meta.version} are not recompressed: zvl.migrate, which takes compressor= and "
            "checksum= too, makes a new store of one",
            where=source.url,
        )
    opened.refuse_deferred()
    made = recompress_store(opened, target, encoding, mode)
    if not compute:
        return dask.delayed(_summary, pure=False, name="recompress")(made.job, made.left_out)
    with computing("recompress", shown=progress):
        return _summary(dask.compute(made.job)[0], made.left_out)


def _summary(done: Recoded, left_out: list[str]) -> dict[str, Any]:
    return {
        "cell_count": done.pieces,
        "object_count": done.objects,
        "source_nbytes": done.before,
        "nbytes": done.nbytes,
        "left_out": left_out,
    }
