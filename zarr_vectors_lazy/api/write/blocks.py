"""What writers take out of core: Dask arrays, and blocks of polylines, each as a `Source`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from dask.bag import Bag

from zarr_vectors_lazy.access.write.intake import Block
from zarr_vectors_lazy.api.write import args
from zarr_vectors_lazy.api.write.out_of_core import Source, array_source
from zarr_vectors_lazy.api.write.paths import check_lines, flat_attributes, flat_lines, flat_paths
from zarr_vectors_lazy.errors import SelectionError, listed
from zarr_vectors_lazy.graph.write.spilled import Blocks, optimized
from zarr_vectors_lazy.kernels.rows import joined

NAN = float("nan")
BLOCK_NBYTES = 32 * 1024**2
PARTS = ("polylines", "vertex_attributes", "object_ids")


def points_source(positions: Any, attributes: Mapping[str, Any] | None, object_ids: Any, dtype: Any) -> Source:
    """Source of points in Dask arrays."""
    if isinstance(positions, da.Array):  # before a block without rows is looked at, whose shape tells nobody anything
        args.check_positions(positions, "positions")
    arrays = {"positions": positions, **labelled(attributes)}
    if object_ids is not None:
        arrays["object_ids"] = object_ids
    return array_source(arrays, partial(read_points, tuple(attributes or ()), dtype, object_ids is not None))


def labelled(attributes: Mapping[str, Any] | None, what: str = "vertex_attributes") -> dict[str, Any]:
    """Attributes by what errors call them."""
    for name in attributes or {}:
        args.check_name(name, what)
    return {f"{what}[{name!r}]": value for name, value in (attributes or {}).items()}


def read_points(
    names: Sequence[str], dtype: Any, owned: bool, positions: Any, *rest: Any, name: str = "positions"
) -> Block:
    """Block of points: positions, attributes in the order of ``names``, object ids where ``owned``."""
    array, stored = args.parse_positions(positions, dtype, name)
    columns = args.parse_columns(dict(zip(names, rest, strict=False)), len(array), "vertex_attributes")
    owners = args.parse_ids(rest[-1], len(array)) if owned else None
    return Block(positions=array, dtype=stored, attributes=columns, owners=owners)


def lines_source(endpoints: Any, attributes: Mapping[str, Any] | None, object_ids: Any, dtype: Any) -> Source:
    """Source of lines in Dask arrays."""
    if isinstance(endpoints, da.Array):
        check_lines(endpoints)
    arrays = {"endpoints": endpoints, **labelled(attributes)}
    if object_ids is not None:
        arrays["object_ids"] = object_ids
    return array_source(arrays, partial(read_lines, tuple(attributes or ()), dtype, object_ids is not None))


def read_lines(names: Sequence[str], dtype: Any, owned: bool, endpoints: Any, *rest: Any) -> Block:
    """Block of lines: ends, attributes in the order of ``names``, object ids where ``owned``."""
    positions, lengths = flat_lines(endpoints)
    flat = flat_attributes(dict(zip(names, rest, strict=False)), lengths, width=2)
    return _paths_block(positions, lengths, flat, ids=rest[-1] if owned else None, dtype=dtype, name="endpoints")


def bag_source(bag: Any, dtype: Any) -> Source:
    """Source of paths in a Dask bag whose items are those of `read_paths`.

    The first partition that has any is computed, for its dtypes.

    Raises
    ------
    SelectionError
        If there are none, or it is no bag.
    """
    if not isinstance(bag, Bag):
        raise SelectionError(f"polylines must be a Dask bag of blocks of polylines, found {type(bag).__name__}")
    (computed,) = optimized(bag)
    read = partial(read_paths, dtype)
    for part in bag.to_delayed():
        sample = read(part.compute())
        if sample is not None:
            keys = [(key,) for key in computed.__dask_keys__()]
            return Source(blocks=Blocks(keys, [computed]), read=read, sample=sample, nbytes=NAN)
    raise SelectionError("there are no polylines: their number of axes is not known")


def streamed(items: Iterator[Any]) -> Iterator[list[Any]]:
    """Lists of items, each a block; single paths gathered up to `BLOCK_NBYTES`."""
    single: list[Any] = []
    nbytes = 0
    for item in items:
        path = is_path(item)
        if single and (not path or nbytes > BLOCK_NBYTES):
            yield single
            single, nbytes = [], 0
        if path:
            single.append(item)
            nbytes += item.nbytes
        else:
            yield [_held(item)]
    if single:
        yield single


def _held(item: Any) -> Any:
    """A block without iterators: it may be read twice."""
    if isinstance(item, Iterator):
        return list(item)
    return {name: _held(part) for name, part in item.items()} if isinstance(item, Mapping) else item


def read_paths(dtype: Any, items: Iterable[Any]) -> Block | None:
    """Block of paths from (n, D) arrays, or from blocks of such; None if there are none.

    Parameters
    ----------
    items
        Each an (n, D) array; or a sequence of such; or ``((N, D), (O + 1,) offsets)``; or a mapping with one of the
        last two as ``"polylines"``, and ``"vertex_attributes"`` by name and ``"object_ids"`` where there are any.

    Raises
    ------
    SelectionError
        If an item is none of these, or they do not go together.
    """
    parts = [_flat_block(item) for item in map(_parts_of, _grouped(items)) if len(item["polylines"])]
    if not parts:
        return None
    names = {tuple(sorted(flat)) for _, _, flat, _ in parts}
    if len(names) > 1 or len({ids is None for *_, ids in parts}) > 1:
        raise SelectionError(f"blocks of polylines must have the same attributes, and object_ids all or none: {names}")
    positions, lengths, flat, ids = zip(*parts, strict=True)
    columns = {name: joined([of_block[name] for of_block in flat]) for name in flat[0]}
    owners = None if ids[0] is None else np.concatenate(ids)
    return _paths_block(
        np.concatenate(positions), np.concatenate(lengths), columns, ids=owners, dtype=dtype, name="polylines"
    )


def _grouped(items: Iterable[Any]) -> Iterator[Any]:
    """Blocks; single arrays that follow each other are one."""
    single: list[Any] = []
    for item in items:
        if is_path(item):
            single.append(item)
            continue
        if single:
            yield single
            single = []
        yield item
    if single:
        yield single


def is_path(item: Any) -> bool:
    """Whether it is one path and no block of them."""
    return isinstance(item, np.ndarray) and item.ndim == 2


def _parts_of(item: Any) -> Mapping[str, Any]:
    """Parts of a block by name."""
    item = _held(item)
    parts = item if isinstance(item, Mapping) else {"polylines": item}
    unknown = [name for name in parts if name not in PARTS]
    if unknown or "polylines" not in parts:
        raise SelectionError(f"a block of polylines has {listed(PARTS)}, found {listed(parts)}")
    if not isinstance(parts["polylines"], Sized):
        raise SelectionError(f"a block of polylines is a sequence of (n, D) arrays, found {parts['polylines']!r}")
    return parts


def _flat_block(parts: Mapping[str, Any]) -> tuple[Any, Any, dict[str, Any], Any]:
    positions, lengths = flat_paths(parts["polylines"])
    ids = parts.get("object_ids")
    return (
        positions,
        lengths,
        flat_attributes(parts.get("vertex_attributes"), lengths),
        None if ids is None else args.parse_ids(ids, len(lengths)),
    )


def _paths_block(positions: Any, lengths: Any, flat: Mapping[str, Any], *, ids: Any, dtype: Any, name: str) -> Block:
    array, stored = args.parse_positions(positions, dtype, name)
    return Block(
        positions=array,
        dtype=stored,
        attributes=args.parse_columns(flat, len(array), "vertex_attributes"),
        owners=np.repeat(np.arange(len(lengths)), lengths),
        paths=len(lengths),
        ids=None if ids is None else args.parse_ids(ids, len(lengths)),
    )
