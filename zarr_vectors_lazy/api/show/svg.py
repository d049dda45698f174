"""Drawings of occupied chunks, for HTML representations."""

import html
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from zarr_vectors_lazy.types import BBox, BoolArray, ChunkCoords, Floats

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
