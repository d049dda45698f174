"""Text and HTML of stores and levels."""

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zarr_vectors_lazy.api.level import ZVLevel
    from zarr_vectors_lazy.api.store import ZVStore

Rows = list[tuple[str, str]]


def store_text(store: "ZVStore") -> str:
    """Several lines: where, what, and a line a level."""
    levels = [f"  {level.index:>3}  {_count(level)}" for level in store]
    return "\n".join([f"<ZVStore {store.url}>", *_lines(_store_rows(store)), "  levels:", *levels])


def store_html(store: "ZVStore") -> str:
    """Return a table, and one of the levels."""
    levels: Rows = [(f"level {level.index}", _count(level)) for level in store]
    return _table(f"ZVStore {store.url}", [*_store_rows(store), *levels])


def level_text(level: "ZVLevel") -> str:
    """Several lines about a level or a selection."""
    return "\n".join([f"<ZVLevel {level.index} of {level.store.url}>", *_lines(_level_rows(level))])


def level_html(level: "ZVLevel") -> str:
    """Return a table about a level or a selection."""
    return _table(f"ZVLevel {level.index} of {level.store.url}", _level_rows(level))


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
    return [f"  {name + ':':<13} {value}" for name, value in rows]


def _table(title: str, rows: Rows) -> str:
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in rows
    )
    return f"<b>{html.escape(title)}</b><table>{cells}</table>"
