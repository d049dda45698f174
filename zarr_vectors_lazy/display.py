"""Stores and levels as text, HTML and drawings."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import counted, in_line
from zarr_vectors_lazy.plan.selection import AnyOf, Area, Between, Condition, Near, Picks
from zarr_vectors_lazy.types import BBox, BoolArray, ChunkCoords, Floats

if TYPE_CHECKING:
    from zarr_vectors_lazy.level import ZVLevel
    from zarr_vectors_lazy.read.view import LevelView
    from zarr_vectors_lazy.store import ZVStore

# Drawings of occupied chunks, for HTML representations.

SIDE = 132.0  # pixels of the longer edge of a panel
MOST = 40  # most cells drawn along an axis; if there are more, several are drawn as one
GAP, MARGIN = 14.0, 40.0
REST, CHOSEN, BOX = "#8a94a6", "#2f7ed8", "#e0592a"


def chunks_svg(
    coords: ChunkCoords, chosen: BoolArray, chunk_shape: Floats, axes: Sequence[str], box: BBox | None = None
) -> str:
    """Draw occupied chunks, projected along each axis; those of a selection have another colour, and its box is drawn.

    Parameters
    ----------
    coords
        (n, D) coordinates of chunks.
    chosen
        (n,) whether the selection may touch each.
    chunk_shape
        (D,) edge lengths of a chunk.
    axes
        Names of the axes.
    box
        The box of the selection.

    Returns
    -------
    An ``<svg>`` element for each panel, so that they wrap on a phone, or "" if there is nothing to draw.
    """
    if not len(coords):
        return ""
    shown = list(combinations(range(min(len(axes), 3)), 2)) or [(0, 0)]
    drawn = sorted({axis for pair in shown for axis in pair})
    scale = SIDE / float(((np.ptp(coords, axis=0) + 1) * chunk_shape)[drawn].max())
    panels = ""
    for pair in shown:
        cells, edges, flat = coords[:, list(pair)], chunk_shape[list(pair)], len(axes) == 1
        body, size = _panel(cells, chosen, edges, _part(box, pair), scale, flat=flat)
        ends = np.stack([cells.min(axis=0), cells.max(axis=0) + 1]) * edges
        ticks = _ticks([axes[axis] for axis in pair], ends, size, flat=flat)
        margin = max(MARGIN, 6 + 5.5 * max(map(len, _upright(ends, size[1]))))
        width, height = margin + max(size[0], 60) + GAP, size[1] + 40
        panels += (
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{width:.0f}' height='{height:.0f}' "
            f"viewBox='0 0 {width:.0f} {height:.0f}' role='img' aria-label='occupied chunks' "
            "style='font-family:sans-serif;vertical-align:top;max-width:100%;height:auto'>"
            f"<g transform='translate({margin:.0f},6)'>{body}{ticks}</g></svg>"
        )
    return panels


def _upright(ends: Floats, height: float) -> list[str]:
    """Labels of the upright axis: both ends, or one text if there is no room for two."""
    texts = [f"{end:.10g}" for end in ends[:, 1].tolist()]
    return texts if height >= 18 else [" to ".join(texts)]


def _ticks(names: Sequence[str], ends: Floats, size: tuple[float, float], *, flat: bool) -> str:
    """Labels for both ends of a panel's axes, and their names."""
    x0, x1 = (f"{end:.10g}" for end in ends[:, 0].tolist())
    width, height, label = size[0], size[1], escaped(names[0])
    wide = width >= 7 * (len(x0) + len(x1))
    marks = [(0.0, height + 12, "start", x0 if wide else f"{x0} to {x1}")]
    marks += [(width, height + 12, "end", x1)] if wide else []
    if not flat:
        marks += [(-4, y, "end", text) for y, text in zip((max(height, 8), 8), _upright(ends, height), strict=False)]
        label += f" &#8594;&#160; {escaped(names[1])} &#8593;"
    lines = f"<path d='M0 0V{height:.1f}H{width:.1f}' fill='none' stroke='currentColor' stroke-opacity='0.5'/>"
    texts = [f"<text x='{x:.0f}' y='{y:.0f}' text-anchor='{anchor}'>{text}</text>" for x, y, anchor, text in marks]
    name = f"<text x='0' y='{height + 28:.0f}' font-size='11'>{label}</text>"
    return f"{lines}<g font-size='9' fill='currentColor'>{''.join(texts)}{name}</g>"


def _part(box: BBox | None, pair: tuple[int, int]) -> BBox | None:
    return None if box is None else (box[0][list(pair)], box[1][list(pair)])


def _panel(
    coords: ChunkCoords, chosen: BoolArray, edges: Floats, box: BBox | None, scale: float, *, flat: bool
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
BREAKING = "overflow-wrap:anywhere"  # a long address, on a phone


def escaped(text: str) -> str:
    """Escape text for HTML; control characters are made visible, and so are those that change the writing direction."""
    return html.escape(in_line(text))


def text_table(head: Cells, rows: Sequence[Cells], *, left: int = 1) -> str:
    """Lines of aligned columns: the first ``left`` columns to the left, the others to the right."""
    head, *rows = ([in_line(cell) for cell in cells] for cells in (head, *rows))
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Cells) -> str:
        parts = [
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([line(head), *map(line, rows)])


def html_table(title: str, head: Cells, rows: Sequence[Cells], *, left: int = 1) -> str:
    """Return the same rows as an HTML table below a title."""

    def row(cells: Cells, tag: str) -> str:
        sides = ["left" if at < left else "right;white-space:nowrap" for at in range(len(cells))]
        parts = [f"<{tag} style='text-align:{s}'>{escaped(c)}</{tag}>" for c, s in zip(cells, sides, strict=True)]
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    table = f"<table><thead>{row(head, 'th')}</thead><tbody>{body}</tbody></table>"
    return f"<b style='{BREAKING}'>{escaped(title)}</b>{table}"


def naturally(texts: Sequence[str]) -> list[int]:
    """Order in which people list names: "type 2" comes before "type 10"; indices into the texts."""

    def key(at: int) -> list[object]:
        parts = enumerate(re.split(r"(\d+)", texts[at]))
        return [(len(part.lstrip("0")), part.lstrip("0")) if place % 2 else part for place, part in parts]

    return sorted(range(len(texts)), key=key)


def in_order(values: list[Any]) -> list[Any]:
    """Values, naturally ordered if they are text."""
    return [values[at] for at in naturally(values)] if values and isinstance(values[0], str) else values


MOST_ROWS = 50  # rows of a table; the rest are only counted


def some(values: Sequence[object], most: int = 6) -> str:
    """Text of the first values, and how many there are if some are not shown."""
    more = f", ... ({len(values):,} in total)" if len(values) > most else ""
    return ", ".join(map(str, values[:most])) + more


def _array_cells(arrays: Mapping[str, Any], extra: Mapping[str, Mapping[str, str]]) -> tuple[list[str], list[Cells]]:
    """Head and rows of a table of arrays: shape, dtype and bytes of each, and further columns by name."""
    rows: list[Cells] = []
    for name, array in list(arrays.items())[:MOST_ROWS]:
        known = not any(np.isnan(side) for side in array.shape)
        shape = " x ".join("n" if np.isnan(side) else f"{side:,}" for side in array.shape)
        size = nbytes_text(array.nbytes) if known else ""
        rows.append([name, shape, str(array.dtype), size, *(told[name] for told in extra.values())])
    return ["name", "shape", "dtype", "bytes", *extra], rows


def arrays_text(title: str, arrays: Mapping[str, Any]) -> str:
    """Return a line for each array: name, shape, dtype and bytes."""
    head, rows = _array_cells(arrays, {})
    return f"<{in_line(title)}>\n" + text_table(head, rows)


def arrays_html(title: str, arrays: Mapping[str, Any], extra: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """Return the same as an HTML table, with further columns by array name; n is known only after computing."""
    extra = {name: told for name, told in (extra or {}).items() if any(told.values())}
    count = len(arrays)
    more = f", {count:,} of them" if count > MOST_ROWS else ""
    return html_table(title + more, *_array_cells(arrays, extra)) if count else f"<b>{escaped(title)}</b>: none"


def nbytes_text(nbytes: float) -> str:
    """Bytes in the unit that needs at most four digits, such as ``"12.3 MB"``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if nbytes < 1000 or unit == "TB":
            return f"{nbytes:,.0f} B" if unit == "B" else f"{nbytes:,.1f} {unit}"
        nbytes /= 1000
    raise AssertionError


# Text and HTML of stores and levels.

Rows = list[tuple[str, str]]


def store_text(store: "ZVStore") -> str:
    """Several lines: where the store is, what it holds, and a line for each level."""
    levels = [f"  {level.index:>3}  {_count(level)}" for level in store]
    return "\n".join([f"<ZVStore {in_line(store.url)}>", *_lines(_store_rows(store)), "  levels:", *levels])


def store_html(store: "ZVStore") -> str:
    """Return a table about the store, one of its levels, and a drawing of the chunks of the finest."""
    head = ["level", "vertices", "chunks", "bin shape"]
    levels = [
        [str(level.index), _vertices(level), f"{level.chunk_count:,}", _numbers(level.bin_shape)] for level in store
    ]
    finest = next(iter(store), None)
    drawing = "" if finest is None else _drawing(finest)
    return _page(f"ZVStore {store.url}", pairs_html(_store_rows(store)) + _grid(head, levels), drawing)


def level_text(level: "ZVLevel") -> str:
    """Several lines about a level or a selection."""
    return "\n".join([f"<ZVLevel {level.index} of {in_line(level.store.url)}>", *_lines(_level_rows(level))])


def level_html(level: "ZVLevel") -> str:
    """Return a table about a level or a selection, and a drawing of its chunks among those of the level."""
    return _page(f"ZVLevel {level.index} of {level.store.url}", pairs_html(_level_rows(level)), _drawing(level))


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


def objects_text(level: "ZVLevel", kind: str) -> str:
    """One line that says which objects these are."""
    return in_line(f"<{kind} of level {level.index} of {level.store.url}: {_object_count(level)}>")


def objects_html(level: "ZVLevel", kind: str) -> str:
    """Return a table with the number of objects, their ids, attributes and groups; no chunk is read."""
    data = level._view.data
    rows: Rows = [("of", f"level {level.index} of {level.store.url}"), ("count", _object_count(level))]
    if level._view.rows is None and data.object_index is not None:
        rows.append(("ids", some(level.objects.ids.tolist())))
    rows += _selected(level._view)
    specs = [f"{name} ({array.dtype})" for name, array in data.object_attributes.items()]
    rows.append(("attributes", ", ".join(specs) or "none"))
    groups = data.group_index
    names = () if groups is None else groups.names
    rows.append(("groups", some(names) or ("none" if groups is None else "not named")))
    return _page(kind, pairs_html(rows), "")


def _object_count(level: "ZVLevel") -> str:
    """How many objects there are; for a selection, the most there can be."""
    data = level._view.data
    if level._view.rows is None:
        return f"{len(level.objects.slots if data.object_index is None else level.objects.ids):,}"
    chosen = level._view.selection.objects
    return "selected" if chosen is None else f"at most {len(chosen):,}"


def _selected(view: "LevelView") -> Rows:
    """The conditions that the rows of a selection meet."""
    selection = view.selection
    rows: Rows = [("selected box", _region_text(region)) for region in selection.regions]
    rows += [("objects in", _region_text(part.selection.regions[-1])) for part in view.touched]
    if selection.objects is not None:  # if they must touch a box, the graph finds which do
        rows.append(("objects", ("of " if view.touched else "") + (some(selection.objects.tolist()) or "none")))
    return rows + [("where", _condition_text(view, condition)) for condition in selection.conditions]


def _region_text(region: Area) -> str:
    if isinstance(region, Near):
        return f"within {region.radius:g} of {len(region.points):,} point{'s'[: len(region.points) != 1]}"
    where = " in world coordinates" if region.world is not None else ""
    if not region.is_box:
        return f"any of {counted(len(region.lo), 'box')}{where}"
    return f"{_numbers(region.lo[0])} to {_numbers(region.hi[0])}{where}"


def _condition_text(view: "LevelView", condition: Condition) -> str:
    """A condition as a person would write it: ``0 <= radius <= 3``."""
    test, names = condition.test, ", ".join(condition.names)
    if condition.passes is not None:
        coding = view.data.attribute(condition.names[0]).spec.dictionary
        assert coding is not None
        return _one_of(names, coding.categories[condition.passes].tolist(), test)
    if isinstance(test, Between):
        ends = (f"{test.lo} <= " if test.lo is not None else "", f" <= {test.hi}" if test.hi is not None else "")
        return f"{ends[0]}{names}{ends[1]}" if any(ends) else f"{names} is there"
    if isinstance(test, AnyOf):
        return _one_of(names, test.values.tolist(), test)
    if isinstance(test, Picks):
        return f"{counted(len(test.rows), 'row')}"
    return f"{getattr(test, '__name__', 'function').replace('<lambda>', 'function')}({names})"


def _one_of(name: str, values: list[Any], test: object) -> str:
    values, missing = in_order(values), isinstance(test, AnyOf) and test.missing
    if not values:
        return f"{name} is missing" if missing else f"{name} has no such value"
    text = f"{name} = {values[0]}" if len(values) == 1 else f"{name} in [{some(values)}]"
    return f"{text} or missing" if missing else text


def _level_rows(level: "ZVLevel") -> Rows:
    """What a level is; attributes are listed only if they are known: showing a level makes no request."""
    lo, hi = level.bounds
    spec = level._view.data.vertices.spec
    names = level._view.data.known_attribute_names
    return [
        *_selected(level._view),
        ("vertices", _vertices(level)),
        ("dtype", f"{spec.dtype} ({counted(level.store.ndim, 'axis')})"),
        ("chunks", f"{level.chunk_count:,} of {len(level._view.data.vertices.chunks):,}"),
        ("chunk shape", _numbers(level.chunk_shape)),
        ("bin shape", _numbers(level.bin_shape)),
        ("bounds", f"{_numbers(lo)} to {_numbers(hi)}"),
        *([] if names is None else [("attributes", ", ".join(names) or "none")]),
    ]


def _count(level: "ZVLevel") -> str:
    count = level.vertex_count
    known = f"vertices {_vertices(level)}" if count is None else counted(count, "vertex")
    return f"{known}, bins of {_numbers(level.bin_shape)}"


def _vertices(level: "ZVLevel") -> str:
    if level.vertex_count is not None:
        return f"{level.vertex_count:,}"
    counts = level._view.stored_counts
    return "counted when computed" if counts is None else f"at most {int(counts.sum()):,}"


def _numbers(values: Iterable[float]) -> str:
    """Numbers with six digits, or ten if they are as large as map coordinates."""
    return "(" + ", ".join(f"{value:.10g}" if abs(value) >= 1e5 else f"{value:g}" for value in values) + ")"


def _lines(rows: Rows) -> list[str]:
    return [f"  {name + ':':<13} {in_line(value)}" for name, value in rows]


def _drawing(level: "ZVLevel") -> str:
    view = level._view
    chunks = view.data.vertices.chunks
    chosen = np.ones(len(chunks), np.bool_)
    if view.rows is not None:
        chosen[:] = False
        chosen[view.rows] = True
    coords = chunks.coords[:, -level.store.ndim :]
    return chunks_svg(coords, chosen, level.chunk_shape, level.store.axes, view.selection.box)


def pairs_html(rows: Rows) -> str:
    """Return names and values as an HTML table."""
    cells = "".join(
        f"<tr><th style='text-align:left;white-space:nowrap'>{escaped(name)}</th>"
        f"<td style='text-align:left;{BREAKING}'>{escaped(value)}</td></tr>"
        for name, value in rows
    )
    return f"<table>{cells}</table>"


def _grid(head: list[str], rows: list[list[str]]) -> str:
    titles = "".join(f"<th>{escaped(title)}</th>" for title in head)
    lines = "".join(f"<tr>{''.join(f'<td>{escaped(value)}</td>' for value in row)}</tr>" for row in rows)
    return f"<table style='text-align:right'><tr>{titles}</tr>{lines}</table>"


def _page(title: str, tables: str, drawing: str) -> str:
    side = f"<div style='padding-top:4px'>{drawing}</div>" if drawing else ""
    row = "display:flex;flex-wrap:wrap;gap:28px;align-items:flex-start"
    return f"<div><b style='{BREAKING}'>{escaped(title)}</b><div style='{row}'><div>{tables}</div>{side}</div></div>"
