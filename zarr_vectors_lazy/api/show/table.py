"""Tables of text, for terminals and for notebooks."""

import html
from collections.abc import Sequence
from typing import TypeAlias

from zarr_vectors_lazy.errors import printable

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
