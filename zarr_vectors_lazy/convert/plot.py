"""Pictures of levels: points, lines and outlines, projected along the axes."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import dask
import numpy as np

from zarr_vectors_lazy.errors import NotFoundError, SelectionError
from zarr_vectors_lazy.model.levels import StoreMeta
from zarr_vectors_lazy.read.choose import column_of
from zarr_vectors_lazy.read.columns import attribute_array, vertices_array
from zarr_vectors_lazy.read.edges import edges_array, faces_array
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.types import Floats, IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLAIN = "#33638d"
PANEL_INCHES = 4.2
DPI = 120


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawing:
    """What is drawn of a level, computed.

    Parameters
    ----------
    positions
        (N, D), as `World.show` gives them.
    segments
        (E, 2) rows joined by a line; empty where points are drawn.
    values
        (N,) numbers that say the colour, or None.
    labels
        Names of categories that the numbers stand for.
    """

    positions: np.ndarray[Any, Any]
    segments: IntArray
    values: np.ndarray[Any, Any] | None
    labels: tuple[str, ...] = ()


def read_drawing(view: LevelView, color: str | None) -> Drawing:
    """Read what is drawn of a view, in one pass.

    Raises
    ------
    NotFoundError
        If there is no such attribute.
    SelectionError
        If a vertex has several numbers of it.
    """
    if color is not None:
        if not view.data.has_attribute(color):
            raise NotFoundError.among("attribute", color, view.data.attribute_names, where=view.data.url)
        shape = column_of(view, color)[0].row_shape
        if shape:
            raise SelectionError(f"a colour needs one number a vertex, {color!r} has {shape}")
    kinds = set(view.data.store.geometry_types)
    joins = faces_array(view) if "mesh" in kinds else edges_array(view) if kinds - {"point_cloud"} else None
    values = None if color is None else attribute_array(view, color)
    positions, joined, numbers = dask.compute(vertices_array(view), joins, values)
    world = view.data.store.world
    world.warn()
    shown = world.show(positions)
    segments = np.empty((0, 2), np.int64) if joined is None else outlines(joined) if "mesh" in kinds else joined
    if numbers is not None and numbers.dtype.kind == "U":
        labels, numbers = np.unique(numbers, return_inverse=True)
        return Drawing(positions=shown, segments=segments, values=numbers, labels=tuple(labels.tolist()))
    return Drawing(positions=shown, segments=segments, values=numbers)


def outlines(faces: IntArray) -> IntArray:
    """(E, 2) edges of (F, W) faces, each once."""
    edges = np.concatenate([faces[:, [corner, (corner + 1) % faces.shape[1]]] for corner in range(faces.shape[1])])
    return np.unique(np.sort(edges, axis=1), axis=0)


def panels_of(store: StoreMeta, projection: str | Sequence[str] | None) -> list[tuple[int, int]]:
    """Pairs of axes to draw: by default every pair of the first three.

    Parameters
    ----------
    projection
        Names of two axes, ``("x", "z")`` or ``"xz"``.

    Raises
    ------
    SelectionError
        If it does not name two axes.
    """
    axes = list(store.world.shown[1])
    if projection is None:
        return list(combinations(range(min(len(axes), 3)), 2)) or [(0, 0)]
    names = [name if name in axes else name.lower() for name in projection]
    if len(names) != 2 or any(name not in axes for name in names):
        raise SelectionError(f"projection must name two of the axes {axes}, found {projection!r}")
    return [(axes.index(names[0]), axes.index(names[1]))]


def fitting(views: Sequence[LevelView], panels: Sequence[tuple[int, int]], color: str | None) -> LevelView:
    """Return the coarsest view whose bins are no larger than a pixel, else the first.

    Parameters
    ----------
    views
        The same part of levels, the wanted one first, ever coarser.
    """
    wanted = views[0]
    lo, hi = wanted.data.store.bounds
    if wanted.selection.box is not None:
        lo, hi = np.maximum(lo, wanted.selection.box[0]), np.minimum(hi, wanted.selection.box[1])
    columns = wanted.data.store.world.shown[0]
    drawn = sorted({columns[axis] for pair in panels for axis in pair})
    pixel = float((hi - lo)[drawn].max()) / (PANEL_INCHES * DPI)
    fine = [view for view in views if bool((view.data.meta.bin_shape[drawn] <= pixel).all())]
    fine = [view for view in fine if color is None or view.data.has_attribute(color)]
    return fine[-1] if fine else wanted


def plot_view(
    view: LevelView,
    *,
    panels: Sequence[tuple[int, int]],
    color: str | None,
    cmap: str | None,
    size: float | None,
    ax: "Axes | None",
) -> "Figure":
    """Draw a view, a panel a projection; into ``ax`` where it is given, else into a new figure."""
    drawing = read_drawing(view, color)
    _, names, units = view.data.store.world.shown
    figure: Any
    figure, spots = (ax.figure, [ax]) if ax is not None else _new_figure(drawing, panels)
    artists = [_panel(spot, drawing, pair, cmap, size) for spot, pair in zip(spots, panels, strict=True)]
    for spot, pair in zip(spots, panels, strict=True):
        _label(spot, pair, names, units)
    if ax is None:
        title = f"level {view.data.meta.index}: {len(drawing.positions):,} vertices"
        figure.suptitle(title, fontsize=10)
    if drawing.values is not None and len(drawing.positions):
        _colour_bar(figure, artists[-1], list(spots), color or "", drawing.labels)
    found: Figure = figure
    return found


def _new_figure(drawing: Drawing, panels: Sequence[tuple[int, int]]) -> tuple[Any, list[Any]]:
    extent = np.ptp(drawing.positions, axis=0) if len(drawing.positions) else np.ones(drawing.positions.shape[1])
    extent = np.maximum(extent, extent.max() * 0.05 or 1.0)
    widths = [float(extent[pair[0]] / extent.max()) for pair in panels]
    tall = max(float(extent[pair[1]] / extent.max()) for pair in panels)
    inches = (PANEL_INCHES * sum(widths) + 0.8 * len(panels) + 0.9, PANEL_INCHES * tall + 1.0)
    figure = picture(figsize=inches, dpi=DPI, layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, len(panels), width_ratios=widths)))


def picture(**options: Any) -> Any:
    """Return a Matplotlib figure that shows itself in a notebook; no global state of pyplot.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    """
    try:
        figures = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise ImportError("plot() needs Matplotlib: pip install 'zarr-vectors-lazy[plot]'") from error

    return type("Picture", (figures.Figure,), {"_repr_png_": _as_png})(**options)


def _as_png(figure: Any) -> bytes:
    import io  # noqa: PLC0415

    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI * 0.6)  # notebooks keep what they show
    return out.getvalue()


def _panel(spot: Any, drawing: Drawing, pair: tuple[int, int], cmap: str | None, size: float | None) -> Any:
    """Draw one projection, what is nearer last."""
    positions, values = drawing.positions, drawing.values
    flat = positions.shape[1] == 1
    seen = np.column_stack([positions[:, 0], np.zeros(len(positions))]) if flat else positions[:, list(pair)]
    hidden = [axis for axis in range(positions.shape[1]) if axis not in pair]
    shade = {} if values is None else {"cmap": cmap or ("tab10" if drawing.labels else "viridis")}
    if len(drawing.segments):
        artist = _lines(spot, drawing, seen, hidden, size=size, **shade)
    else:
        order = np.argsort(positions[:, hidden[0]], kind="stable") if hidden else np.arange(len(positions))
        colours = {"c": values[order]} if values is not None else {"color": PLAIN}
        points = size or float(np.clip(6000 / max(len(positions), 1), 0.3, 12))
        artist = spot.scatter(*seen[order].T, s=points, linewidths=0, **colours, **shade)
    spot.set_aspect("equal", adjustable="datalim" if flat else "box")
    spot.margins(0.03)
    return artist


def _lines(
    spot: Any, drawing: Drawing, seen: Floats, hidden: list[int], *, size: float | None, cmap: str | None = None
) -> Any:
    collections = importlib.import_module("matplotlib.collections")
    segments = drawing.segments
    if hidden:
        depth = drawing.positions[segments][:, :, hidden[0]].mean(axis=1)
        segments = segments[np.argsort(depth, kind="stable")]
    width = size or float(np.clip(2500 / len(segments), 0.25, 1.2))
    colours = {"color": PLAIN} if drawing.values is None else {"array": drawing.values[segments].mean(axis=1)}
    artist = collections.LineCollection(seen[segments], linewidths=width, capstyle="round", cmap=cmap, **colours)
    spot.add_collection(artist)
    spot.autoscale_view()
    return artist


def _label(spot: Any, pair: tuple[int, int], axes: Sequence[str], units: Sequence[str | None]) -> None:
    names = [f"{axes[axis]} ({units[axis]})" if units[axis] else axes[axis] for axis in pair]
    spot.set_xlabel(names[0])
    if len(axes) == 1:
        spot.set_yticks([])
    else:
        spot.set_ylabel(names[1])
    spot.tick_params(labelsize=8)
    width = float(np.ptp(spot.get_position().intervalx)) * spot.figure.get_figwidth()
    spot.locator_params(axis="x", nbins=max(int(2 * width), 2))


def _colour_bar(figure: Any, artist: Any, spots: list[Any], name: str, labels: tuple[str, ...]) -> None:
    bar = figure.colorbar(artist, ax=spots, label=name, shrink=0.8, pad=0.02)
    if labels:
        bar.set_ticks(range(len(labels)), labels=labels)
