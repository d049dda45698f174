"""Text and HTML of stores and levels."""

import html
from typing import TYPE_CHECKING

import numpy as np

from zarr_vectors_lazy.api.show.svg import chunks_svg
from zarr_vectors_lazy.errors import printable

if TYPE_CHECKING:
    from zarr_vectors_lazy.api.level import ZVLevel
    from zarr_vectors_lazy.api.store import ZVStore

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
