"""Graphs and skeletons: GraphML, lists of edges, SWC."""

import ast
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FileError, SelectionError, ZVWarning, counted, listed
from zarr_vectors_lazy.files.loaded import Loaded, LoadOptions, concatenated, library
from zarr_vectors_lazy.files.meshes import Array, fitted, flat_columns, header_of, leave_rest, texts
from zarr_vectors_lazy.files.outgoing import Outgoing
from zarr_vectors_lazy.files.tables import load_csv
from zarr_vectors_lazy.kernels.trees import depth_first, rooted
from zarr_vectors_lazy.plan.selection import OBJECT_ID
from zarr_vectors_lazy.types import IntArray

# Graphs: GraphML, whose nodes have coordinates, and lists of edges, whose nodes are in a separate table.

AXES, ID = ("x", "y", "z"), "id"
WEIGHT = "weight"
BESIDE = ".nodes.csv"
_NO_LITERAL = re.compile(r"(?<=: )(?:nan|(-?)inf)(?=[,}])")  # floats that Python shows but cannot read


def load_graphml(path: Path, asked: LoadOptions) -> Loaded:
    """Read GraphML: nodes with values x, y and perhaps z, in upper or lower case; all others are attributes."""
    graph = library("networkx").read_graphml(str(path), force_multigraph=True)
    names = list(graph.nodes)
    if not names:
        return Loaded(kind="points", positions=np.empty((0, 3)))
    nodes = _columns([data for _, data in graph.nodes(data=True)])
    named = {name.lower(): name for name in sorted(nodes)}  # lower case takes precedence, as it comes last
    axes = [named[axis] for axis in AXES if axis in named]
    if [name.lower() for name in axes] not in (["x", "y"], ["x", "y", "z"]):
        raise FileError(f"expected nodes with the values x, y and z, found {listed(nodes)}")
    columns = [nodes.pop(name) for name in axes]
    if any(isinstance(column, np.ma.MaskedArray) or column.dtype.kind not in "if" for column in columns):
        raise FileError("a node has no coordinates, or one that is not a number")
    row = {name: number for number, name in enumerate(names)}
    edges = np.array([(row[a], row[b]) for a, b in graph.edges()], np.int64).reshape(-1, 2)
    values, left = _of_links(_columns([data for *_, data in graph.edges(data=True)]))
    owners = nodes.pop(OBJECT_ID, None)
    if ID not in nodes:
        nodes[ID] = _column(names) if not all(map(str.isdecimal, names)) else _column([int(name) for name in names])
    return Loaded(
        kind="graph" if len(edges) else "points",
        positions=np.column_stack(columns),
        axes=tuple(name.lower() for name in axes),
        edges=edges if len(edges) else None,
        attributes={name: of for name, of in nodes.items() if of is not None},
        link_attributes=values,
        object_ids=owners if owners is not None and owners.dtype.kind in "iu" else None,
        header={"graphml": {"directed": graph.is_directed()}},
        left_out=tuple(left),
    )


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Columns of values by name, of rows that may lack some of them."""
    names = dict.fromkeys(chain.from_iterable(rows))
    return {str(name): _column([row.get(name) for row in rows]) for name in names}


def _column(values: Sequence[Any]) -> Any:
    """Array of values: integers and booleans masked where missing, floats NaN, text None.

    Integers that do not fit into 64 bits become text.
    """
    kinds = {type(value) for value in values if value is not None}
    missing = np.array([value is None for value in values])
    whole = [value for value in values if type(value) is int]
    lowest, highest = min(whole, default=0), max(whole, default=0)
    dtype = np.dtype(np.int64 if highest < 2**63 else np.uint64)
    fits = np.iinfo(dtype).min <= lowest and highest <= np.iinfo(dtype).max
    if kinds <= {bool} or (kinds == {int} and fits):
        plain = np.array([0 if value is None else value for value in values], bool if kinds == {bool} else dtype)
        return np.ma.MaskedArray(plain, missing) if missing.any() else plain
    if kinds <= {int, float} and float in kinds:
        if max(highest, -lowest) > 2**53:
            raise FileError(
                f"values hold {max(highest, lowest, key=abs)} and fractions, which no type can hold together"
            )
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return np.array([None if value is None else str(value) for value in values], object)


def _of_links(columns: dict[str, Any]) -> tuple[dict[str, Array], list[str]]:
    """Edge values that a store can hold: numbers, and booleans if none is missing."""
    found = {
        name: values
        for name, values in columns.items()
        if values.dtype != object and not (values.dtype == bool and isinstance(values, np.ma.MaskedArray))
    }
    return found, [f"value {name} of edges" for name in columns if name not in found]


def is_directed(out: Outgoing) -> bool:
    """Whether edges have a direction, as those of skeletons do, and of graphs from a file that said so."""
    return out.geometry == "skeleton" or header_of(out, "graphml").get("directed") is True


def save_graphml(out: Outgoing, path: Path) -> int:
    """Write GraphML: nodes with x, y and z, and the values of nodes and edges."""
    networkx = library("networkx")
    directed = is_directed(out)
    graph = networkx.MultiDiGraph() if directed else networkx.MultiGraph()
    attributes = {name: values for name, values in out.exact.items() if values.dtype.kind not in "mMc"}
    names, told = _names(attributes.get(ID), len(out.positions))
    leave_rest(out, {*attributes})
    if told:
        del attributes[ID]
    columns = dict(zip(AXES, out.positions.T, strict=True))
    if out.vertex_object_ids is not None and len(out.object_ids) > 1:
        columns[OBJECT_ID] = out.vertex_object_ids
    columns |= flat_columns(attributes, tuple(columns))
    graph.add_nodes_from(zip(names, rows_of(columns, len(names)), strict=True))
    edges = np.empty((0, 2), np.int64) if out.edges is None else out.edges
    values = flat_columns(out.exact_links) if len(edges) else {}
    ends = ([names[row] for row in column] for column in edges.T.tolist())
    graph.add_edges_from(zip(*ends, range(len(edges)), rows_of(values, len(edges)), strict=True))  # ids are unique
    networkx.write_graphml_xml(graph, str(path), named_key_ids=False)
    return len(names)


def _names(ids: Any, count: int) -> tuple[list[str], bool]:
    """Names of nodes: the attribute ``id`` if it is unique, otherwise rows; and which of these it is."""
    told = ids is not None and ids.ndim == 1 and ids.dtype.kind in "iuU" and len(np.unique(ids)) == count
    return [str(name) for name in (ids.tolist() if told else range(count))], told


def rows_of(columns: Mapping[str, Array], count: int) -> Iterable[dict[str, Any]]:
    """Rows of columns, as Python values; missing ones are left out."""
    lists = [values.tolist() for values in columns.values()]
    for row in zip(*lists, strict=True) if lists else ((),) * count:
        yield {name: value for name, value in zip(columns, row, strict=True) if value is not None}


def load_edgelist(path: Path, asked: LoadOptions) -> Loaded:
    """Read a list of edges: two nodes on each line, followed by numbers or ``{'name': value}``.

    A table NAME.nodes.csv next to it has their coordinates. Its column ``id`` identifies them; without it, they
    are the rows of the table, from 0 on.
    """
    beside = path.with_name(path.name[: -len(path.suffix)] + BESIDE)
    if not beside.is_file():
        needed = f"{beside.name} is needed next to it, with columns id, x, y, z"
        raise FileError(f"a list of edges has no coordinates: {needed}")
    nodes = concatenated(list(load_csv(beside, asked)))
    lines = path.read_bytes().decode("utf-8", "replace").splitlines()
    rows = [row for line in lines if (row := line.partition("#")[0]).strip()]
    rows = [row if "{" in row else row.replace(",", " ") for row in rows]
    parts = [row.split(None, 2) for row in rows]
    short = next((number for number, part in enumerate(parts) if len(part) < 2), None)
    if short is not None:
        raise FileError(f"edge {short + 1} has only one node: {rows[short][:40]!r}")
    ids = nodes.attributes.get(ID)
    names = list(map(str, range(len(nodes.positions)) if ids is None else ids.tolist()))
    number = {name: row for row, name in enumerate(names)}
    unknown = next((name for part in parts for name in part[:2] if name not in number), None)
    if unknown is not None:
        raise FileError(f"node {unknown!r} is not in {beside.name}")
    ends = np.array([[number[name] for name in part[:2]] for part in parts], np.int64).reshape(-1, 2)
    values, left = _of_links(_columns([_data(part[2] if len(part) > 2 else "") for part in parts]))
    return replace(nodes, kind="graph", edges=ends, link_attributes=values, left_out=(*nodes.left_out, *left))


def _data(text: str) -> dict[str, Any]:
    """Values of an edge by name: from a mapping in Python's notation, or numbers."""
    if text.lstrip().startswith("{"):
        found = ast.literal_eval(_literal(text.strip()))
        return {str(name): value for name, value in found.items()}
    words = text.split()
    names = [WEIGHT] if len(words) == 1 else [f"value_{k}" for k in range(len(words))]
    return {name: _number(word) for name, word in zip(names, words, strict=True)}


def _literal(text: str) -> str:
    """Mapping as `ast.literal_eval` reads it, but without NaN, and with infinity as a number too large for floats."""
    return _NO_LITERAL.sub(lambda match: "None" if match[0] == "nan" else f"{match[1]}1e999", text)


def _number(word: str) -> Any:
    return int(word) if word.lstrip("+-").isdecimal() else float(word)


def save_edgelist(out: Outgoing, path: Path) -> int:
    """Write a list of edges with their values; whatever belongs to nodes, positions included, goes into a table."""
    edges = np.empty((0, 2), np.int64) if out.edges is None else out.edges
    names, told = _names(out.attributes.get(ID), len(out.positions))
    table = path.name.removeprefix(".unfinished-").rpartition(".")[0] + BESIDE
    out.leave(f"positions (they are a table's: {table})")
    leave_rest(out, {ID} if told else set())
    values = flat_columns(out.exact_links) if len(edges) else {}
    with path.open("w", encoding="utf-8") as file:
        for (a, b), row in zip(edges.tolist(), rows_of(values, len(edges)), strict=True):
            known = {name: value for name, value in row.items() if value == value}  # noqa: PLR0124  NaN
            text = f" {_literal(str(known))}" if known else ""
            file.write(f"{names[a]} {names[b]}{text}\n")
    return len(names)


# Skeletons in SWC: ``id type x y z radius parent``, a line for each vertex.

FIELDS = {"id": "i8", "type": "i8", "x": "f8", "y": "f8", "z": "f8", "radius": "f8", "parent": "i8"}
WHOLE = ("id", "type", "parent")
ROOT = -1
KINDS = ("type", "label", "compartment")  # attributes that can become SWC's structure identifier
RADII = ("radius", "radii")


def load_swc(path: Path, asked: LoadOptions) -> Loaded:
    """Read SWC: a skeleton with any number of trees, with ``type``, ``radius`` and ``id``; comments become its header.

    Raises
    ------
    FileError
        If an id occurs twice, if a parent does not exist, or if vertices form a cycle.
    """
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("latin-1").splitlines()
    comments = [line.lstrip()[1:].strip() for line in lines if line.lstrip().startswith("#")]
    table, more = _table([row for line in lines if (row := line.partition("#")[0].replace(",", " ").split())])
    ids, parents = table["id"], table["parent"].copy()
    order = np.argsort(ids, kind="stable")
    again = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(again):
        raise FileError(f"id {ids[order][again[0]]} occurs twice")
    zero = (parents == 0) & ~(ids == 0).any()
    if zero.any():
        parents[zero] = ROOT
        warnings.warn(
            f"{path}: {counted(zero.sum(), 'root')} with the parent 0, where SWC has -1", ZVWarning, stacklevel=2
        )
    children = np.flatnonzero(parents >= 0)
    at = np.minimum(np.searchsorted(ids[order], parents[children]), max(len(ids) - 1, 0))
    rows = order[at]
    lost = np.flatnonzero(ids[rows] != parents[children])
    if len(lost):
        child = children[lost[0]]
        raise FileError(f"the parent {parents[child]} of id {ids[child]} does not exist")
    joined = np.full(len(ids), ROOT)
    joined[children] = rows
    try:
        depth_first(joined, ids)
    except SelectionError as error:
        raise FileError(error.message) from error
    return Loaded(
        kind="skeleton",
        positions=np.column_stack([table[axis] for axis in "xyz"]),
        attributes={"id": ids, "type": fitted(table["type"], np.int32, np.int64), "radius": table["radius"]},
        edges=np.column_stack([children, rows]),
        header={"swc": {"comment": comments}} if comments else {},
        left_out=(f"{counted(more, 'column')} beyond the seventh",) if more else (),
    )


def _table(rows: list[list[str]]) -> tuple[dict[str, Any], int]:
    """Fields of the rows, and how many more columns there are."""
    short = next((number for number, row in enumerate(rows) if len(row) < len(FIELDS)), None)
    if short is not None:
        raise FileError(
            f"row {short + 1} has {counted(len(rows[short]), 'number')}, expected 7: id type x y z radius parent"
        )
    table: dict[str, Any] = {}
    for column, (name, dtype) in enumerate(FIELDS.items()):
        words = [row[column] for row in rows]
        try:
            table[name] = np.array(words, dtype)
        except (ValueError, OverflowError) as error:
            table[name] = _whole(words, name, error) if name in WHOLE else _fail(words, name, error)
    return table, max((len(row) for row in rows), default=7) - len(FIELDS)


def _whole(words: list[str], name: str, error: Exception) -> IntArray:
    """Integers that may be written as ``1.0``."""
    try:
        found = np.array(words, np.float64)
    except ValueError:
        _fail(words, name, error)
    if not (np.abs(found) < 2**53).all() or (found != np.rint(found)).any():
        _fail(words, name, error)
    return found.astype(np.int64)


def _fail(words: list[str], name: str, error: Exception) -> Any:
    raise FileError(f"column {name!r}: {error}") from error


def save_swc(out: Outgoing, path: Path) -> int:
    """Write SWC, parents before their children, -1 for roots; ids are the attribute ``id``, or 1, 2, ...

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
    """(N,) parent of each vertex, -1 for roots: from [child, parent] edges, or as seen from the first row of each tree.

    Raises
    ------
    SelectionError
        If edges form a cycle.
    """
    if len(np.unique(edges[:, 0])) != len(edges):
        return rooted(edges, count)
    parents = np.full(count, ROOT, np.int64)
    parents[edges[:, 0]] = edges[:, 1]
    return parents
