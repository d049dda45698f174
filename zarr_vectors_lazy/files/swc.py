"""Skeletons in SWC: ``id type x y z radius parent``, a line for each vertex."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FileError, SelectionError, ZVWarning
from zarr_vectors_lazy.files.loaded import Asked, Loaded
from zarr_vectors_lazy.files.outgoing import Outgoing
from zarr_vectors_lazy.files.polygons import header_of, leave_rest, texts
from zarr_vectors_lazy.kernels.trees import depth_first, rooted
from zarr_vectors_lazy.types import IntArray

FIELDS = {"id": "i8", "type": "i8", "x": "f8", "y": "f8", "z": "f8", "radius": "f8", "parent": "i8"}
WHOLE = ("id", "type", "parent")
ROOT = -1
KINDS = ("type", "label", "compartment")  # attributes that SWC's structure identifier is taken from
RADII = ("radius", "radii")


def load_swc(path: Path, asked: Asked) -> Loaded:
    """Read SWC: one skeleton of any number of trees, with ``type``, ``radius`` and ``id``; comments are its header.

    Raises
    ------
    FileError
        If an id is there twice, the parent of one is not there, or vertices are joined to a cycle.
    """
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("latin-1").splitlines()
    comments = [line.lstrip()[1:].strip() for line in lines if line.lstrip().startswith("#")]
    table, more = _table([row for line in lines if (row := line.partition("#")[0].replace(",", " ").split())])
    ids, parents = table["id"], table["parent"].copy()
    order = np.argsort(ids, kind="stable")
    again = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(again):
        raise FileError(f"id {ids[order][again[0]]} is there twice")
    zero = (parents == 0) & ~(ids == 0).any()
    if zero.any():
        parents[zero] = ROOT
        warnings.warn(f"{path}: the parent of {zero.sum()} roots is 0, not -1 as in SWC", ZVWarning, stacklevel=2)
    children = np.flatnonzero(parents >= 0)
    at = np.minimum(np.searchsorted(ids[order], parents[children]), max(len(ids) - 1, 0))
    rows = order[at]
    lost = np.flatnonzero(ids[rows] != parents[children])
    if len(lost):
        child = children[lost[0]]
        raise FileError(f"the parent {parents[child]} of id {ids[child]} is not there")
    joined = np.full(len(ids), ROOT)
    joined[children] = rows
    try:
        depth_first(joined, ids)
    except SelectionError as error:
        raise FileError(error.message) from error
    return Loaded(
        kind="skeleton",
        positions=np.column_stack([table[axis] for axis in "xyz"]),
        attributes={"id": ids, "type": _narrow(table["type"]), "radius": table["radius"]},
        edges=np.column_stack([children, rows]),
        header={"swc": {"comment": comments}} if comments else {},
        left_out=(f"{more} columns beyond the seventh",) if more else (),
    )


def _table(rows: list[list[str]]) -> tuple[dict[str, Any], int]:
    """Fields of the rows, and how many columns there are beside them."""
    short = next((number for number, row in enumerate(rows) if len(row) < len(FIELDS)), None)
    if short is not None:
        raise FileError(f"row {short + 1} has {len(rows[short])} numbers, 7 are wanted: id type x y z radius parent")
    table: dict[str, Any] = {}
    for column, (name, dtype) in enumerate(FIELDS.items()):
        words = [row[column] for row in rows]
        try:
            table[name] = np.array(words, dtype)
        except (ValueError, OverflowError) as error:
            table[name] = _whole(words, name, error) if name in WHOLE else _fail(words, name, error)
    return table, max((len(row) for row in rows), default=7) - len(FIELDS)


def _whole(words: list[str], name: str, error: Exception) -> IntArray:
    """Whole numbers that are written as ``1.0``."""
    try:
        found = np.array(words, np.float64)
    except ValueError:
        _fail(words, name, error)
    if not (np.abs(found) < 2**53).all() or (found != np.rint(found)).any():
        _fail(words, name, error)
    return found.astype(np.int64)


def _fail(words: list[str], name: str, error: Exception) -> Any:
    raise FileError(f"column {name!r}: {error}") from error


def _narrow(values: IntArray) -> IntArray:
    small = not len(values) or (values.min() >= -(2**31) and values.max() < 2**31)
    return values.astype(np.int32) if small else values


def save_swc(out: Outgoing, path: Path) -> int:
    """Write SWC, parents before their children, -1 for roots; ids are those of the attribute ``id``, or 1, 2, ...

    Raises
    ------
    SelectionError
        If vertices are joined to a cycle.
    """
    positions, edges, attributes = out.positions, out.edges, out.attributes
    assert edges is not None
    if out.geometry not in ("skeleton", "graph"):  # a path begins at its root
        edges = edges[:, ::-1]
    parents = parents_of(edges, len(positions))
    order = np.empty(len(parents), np.int64)
    order[depth_first(parents)] = np.arange(len(parents))
    kinds = next((name for name in KINDS if name in attributes and _is_whole(attributes[name])), None)
    radii = next((name for name in RADII if name in attributes and attributes[name].ndim == 1), None)
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(1, len(order) + 1)
    own = attributes.get("id")
    if own is not None and _is_whole(own) and (own >= 0).all() and len(np.unique(own)) == len(own):
        number = own
    written = {name for name in (kinds, radii) if name} | ({"id"} if own is number else set())
    columns = [
        number,
        np.zeros(len(order), np.int64) if kinds is None else attributes[kinds],
        positions,
        np.ones(len(order), np.int64) if radii is None else attributes[radii],
        np.where(parents >= 0, number[parents], ROOT),
    ]
    leave_rest(out, written)
    with path.open("w", encoding="latin-1", errors="replace") as file:
        file.writelines(f"# {line}\n" for line in header_of(out, "swc").get("comment", ["id type x y z radius parent"]))
        file.writelines(f"{row}\n" for row in texts([column[order] for column in columns]))
    return len(positions)


def _is_whole(values: Any) -> bool:
    return bool(values.ndim == 1 and values.dtype.kind in "iu")


def parents_of(edges: IntArray, count: int) -> IntArray:
    """(N,) parent of each vertex, -1 for roots: as [child, parent] edges say, or seen from the least row of each tree.

    Raises
    ------
    SelectionError
        If edges make a cycle.
    """
    if len(np.unique(edges[:, 0])) != len(edges):
        return rooted(edges, count)
    parents = np.full(count, ROOT, np.int64)
    parents[edges[:, 0]] = edges[:, 1]
    return parents
