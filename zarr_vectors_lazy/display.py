"""Stores and levels as text, HTML and drawings."""

import html
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import printable
from zarr_vectors_lazy.types import BBox, BoolArray, ChunkCoords, Floats

if TYPE_CHECKING:
    from zarr_vectors_lazy.level import ZVLevel
    from zarr_vectors_lazy.store import ZVStore

# Drawings of occupied chunks, for HTML representations.

SIDE = 132.0  # pixels of the longer edge of a panel
MOST = 40  # cells drawn along an axis, at most; more are drawn together
GAP = 34.0
REST, CHOSEN, BOX = "#8a94a6", "#2f7ed8", "#e0592a"


def chunks_svg(
    coords: ChunkCoords, chosen: BoolArray, chunk_shape: Floats, axes: Sequence[str], box: BBox | None = None
) -> str:
    """Occupied chunks projected along each axis, those of a selection in another colour, and its box.

    Parameters
    ----------
    coords
        (n, D) coordinates of chunks.
    chosen
        (n,) whether the selection may touch them.
    chunk_shape
        (D,) edge lengths of a chunk.
    axes
        Names of the axes.
    box
        The box of the selection.

    Returns
    -------
    One ``<svg>`` element, or "" where there is nothing to draw.
    """
    if not len(coords):
        return ""
    shown = list(combinations(range(min(len(axes), 3)), 2)) or [(0, 0)]
    panels, left, height = [], 0.0, 0.0
    for pair in shown:
        body, size = _panel(coords[:, list(pair)], chosen, chunk_shape[list(pair)], _part(box, pair), len(axes) == 1)
        names = [html.escape(axes[axis]) for axis in pair]
        label = f"{names[0]} &#8594;" + ("" if len(axes) == 1 else f"&#160; {names[1]} &#8593;")
        text = f"<text x='0' y='{size[1] + 15:.0f}' font-size='11' fill='currentColor'>{label}</text>"
        panels.append(f"<g transform='translate({left + 4:.0f},4)'>{body}{text}</g>")
        left += max(size[0], 60) + GAP
        height = max(height, size[1])
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{left:.0f}' height='{height + 26:.0f}' "
        f"role='img' aria-label='occupied chunks' style='font-family:sans-serif'>{''.join(panels)}</svg>"
    )


def _part(box: BBox | None, pair: tuple[int, int]) -> BBox | None:
    return None if box is None else (box[0][list(pair)], box[1][list(pair)])


def _panel(
    coords: ChunkCoords, chosen: BoolArray, edges: Floats, box: BBox | None, flat: bool
) -> tuple[str, tuple[float, float]]:
    """Squares of one projection, and the size of the panel."""
    coords = np.where([False, flat], 0, coords)
    lo, extent = coords.min(axis=0), np.ptp(coords, axis=0) + 1
    together = int(np.ceil(extent.max() / MOST))
    shape = tuple((-(-extent // together)).tolist())
    at = np.ravel_multi_index(tuple(((coords - lo) // together).T), shape)
    counts, occupied = np.bincount(at), np.flatnonzero(np.bincount(at))
    cells = np.stack(np.unravel_index(occupied, shape), axis=1)
    depth = counts[occupied] / counts.max()
    picked = np.bincount(at, chosen)[occupied] > 0
    scale = SIDE / (extent * edges).max()
    step = together * edges * scale
    if flat:
        step[1] = 14.0
    size = (float(extent[0] * edges[0] * scale), 14.0 if flat else float(extent[1] * edges[1] * scale))
    size_of = f"width='{max(step[0] - 0.6, 0.5):.1f}' height='{max(step[1] - 0.6, 0.5):.1f}'"
    squares = []
    for (x, y), share, mine in zip(cells.tolist(), depth.tolist(), picked.tolist(), strict=True):
        place = f"x='{x * step[0]:.1f}' y='{size[1] - (y + 1) * step[1]:.1f}'"
        paint = f"fill='{CHOSEN if mine else REST}' fill-opacity='{0.25 + 0.6 * share:.2f}'"
        squares.append(f"<rect {place} {size_of} {paint}/>")
    return "".join(squares) + _outline(box, lo * edges, scale, size), size


def _outline(box: BBox | None, origin: Floats, scale: float, size: tuple[float, float]) -> str:
    """Rectangle of a box, cut to the panel."""
    if box is None:
        return ""
    low, high = (np.clip((corner - origin) * scale, 0, size) for corner in box)
    width, height = np.maximum(high - low, 1.5)
    place = f"x='{low[0]:.1f}' y='{size[1] - low[1] - height:.1f}' width='{width:.1f}' height='{height:.1f}'"
    return f"<rect {place} fill='none' stroke='{BOX}' stroke-width='1.5'/>"


# Tables of text, for terminals and for notebooks.

Cells: TypeAlias = Sequence[str]


def text_table(head: Cells, rows: Sequence[Cells], *, left: int = 1) -> str:
    """Lines of aligned columns: the first ``left`` to the left, numbers to the right."""
    head, *rows = ([printable(cell) for cell in cells] for cells in (head, *rows))
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Cells) -> str:
        parts = [
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([line(head), *map(line, rows)])


def html_table(title: str, head: Cells, rows: Sequence[Cells], *, left: int = 1) -> str:
    """Return the same as an HTML table under a title."""

    def row(cells: Cells, tag: str) -> str:
        sides = ["left" if at < left else "right" for at in range(len(cells))]
        parts = [f"<{tag} style='text-align:{s}'>{html.escape(c)}</{tag}>" for c, s in zip(cells, sides, strict=True)]
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    return f"<b>{html.escape(title)}</b><table><thead>{row(head, 'th')}</thead><tbody>{body}</tbody></table>"


def nbytes_text(nbytes: float) -> str:
    """Bytes in the unit that leaves up to four digits, such as ``"12.3 MB"``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if nbytes < 1000 or unit == "TB":
            return f"{nbytes:,.0f} B" if unit == "B" else f"{nbytes:,.1f} {unit}"
        nbytes /= 1000
    raise AssertionError


# Text and HTML of stores and levels.

Rows = list[tuple[str, str]]


def store_text(store: "ZVStore") -> str:
    """Several lines: where, what, and a line a level."""
    levels = [f"  {level.index:>3}  {_count(level)}" for level in store]
    return "\n".join([f"<ZVStore {store.url}>", *_lines(_store_rows(store)), "  levels:", *levels])


def store_html(store: "ZVStore") -> str:
    """Return a table, one of the levels, and a drawing of the chunks of the finest."""
    head = ["level", "vertices", "chunks", "bin shape"]
    levels = [
        [str(level.index), _vertices(level), f"{level.chunk_count:,}", _numbers(level.bin_shape)] for level in store
    ]
    finest = next(iter(store), None)
    drawing = "" if finest is None else _drawing(finest)
    return _page(f"ZVStore {store.url}", _table(_store_rows(store)) + _grid(head, levels), drawing)


def level_text(level: "ZVLevel") -> str:
    """Several lines about a level or a selection."""
    return "\n".join([f"<ZVLevel {level.index} of {level.store.url}>", *_lines(_level_rows(level))])


def level_html(level: "ZVLevel") -> str:
    """Return a table about a level or a selection, and a drawing of its chunks among those of the level.

    Attributes are named where they are known: to show a level asks nothing of the store.
    """
    names = level._view.data.known_attribute_names
    rows = _level_rows(level) + ([] if names is None else [("attributes", ", ".join(names) or "none")])
    return _page(f"ZVLevel {level.index} of {level.store.url}", _table(rows), _drawing(level))


def _store_rows(store: "ZVStore") -> Rows:
    axes = [f"{name} ({unit})" if unit else name for name, unit in zip(store.axes, store.units, strict=True)]
    lo, hi = store.bounds
    return [
        ("format", store.format_version),
        ("backend", store.backend),
        ("geometry", ", ".join(store.geometry_types) or "none stated"),
        ("axes", ", ".join(axes)),
        ("bounds", f"{_numbers(lo)} to {_numbers(hi)}"),
        ("chunk shape", _numbers(store.chunk_shape)),
        ("bin shape", _numbers(store.bin_shape)),
    ]


def _level_rows(level: "ZVLevel") -> Rows:
    lo, hi = level.bounds
    spec = level._view.data.vertices.spec
    return [
        ("vertices", _vertices(level)),
        ("dtype", f"{spec.dtype} ({level.store.ndim} axes)"),
        ("chunks", f"{level.chunk_count:,} of {len(level._view.data.vertices.chunks):,}"),
        ("chunk shape", _numbers(level.chunk_shape)),
        ("bin shape", _numbers(level.bin_shape)),
        ("bounds", f"{_numbers(lo)} to {_numbers(hi)}"),
    ]


def _count(level: "ZVLevel") -> str:
    return f"{_vertices(level)} vertices, bins of {_numbers(level.bin_shape)}"


def _vertices(level: "ZVLevel") -> str:
    return "unknown until computed" if level.vertex_count is None else f"{level.vertex_count:,}"


def _numbers(values: object) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"  # type: ignore[attr-defined]


def _lines(rows: Rows) -> list[str]:
    return [f"  {name + ':':<13} {printable(value)}" for name, value in rows]


def _drawing(level: "ZVLevel") -> str:
    view = level._view
    chunks = view.data.vertices.chunks
    chosen = np.ones(len(chunks), np.bool_)
    if view.rows is not None:
        chosen[:] = False
        chosen[view.rows] = True
    coords = chunks.coords[:, -level.store.ndim :]
    return chunks_svg(coords, chosen, level.chunk_shape, level.store.axes, view.selection.box)


def _table(rows: Rows) -> str:
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in rows
    )
    return f"<table>{cells}</table>"


def _grid(head: list[str], rows: list[list[str]]) -> str:
    titles = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    lines = "".join(f"<tr>{''.join(f'<td>{html.escape(value)}</td>' for value in row)}</tr>" for row in rows)
    return f"<table style='text-align:right'><tr>{titles}</tr>{lines}</table>"


def _page(title: str, tables: str, drawing: str) -> str:
    side = f"<div style='padding-top:4px'>{drawing}</div>" if drawing else ""
    row = "display:flex;flex-wrap:wrap;gap:28px;align-items:flex-start"
    return f"<div><b>{html.escape(title)}</b><div style='{row}'><div>{tables}</div>{side}</div></div>"
