"""Pictures of levels: points, lines and outlines, projected along the axes; and their colours."""

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, TypeAlias

import dask
import dask.array as da
import numpy as np

from zarr_vectors_lazy.convert.xarray import object_dataset, told_attrs
from zarr_vectors_lazy.display import naturally
from zarr_vectors_lazy.errors import NotFoundError, SelectionError, counted, listed, optional
from zarr_vectors_lazy.model.levels import StoreMeta
from zarr_vectors_lazy.plan.selection import OBJECT_ID, missing_in
from zarr_vectors_lazy.read.columns import attribute_array, coding_of, column_of, vertices_array
from zarr_vectors_lazy.read.links import edges_array, faces_array
from zarr_vectors_lazy.read.paths import owners_array
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.types import BoolArray, Floats, IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Color: TypeAlias = Any  # str, or an array with a row for each vertex
PLAIN, NONE = "#33638d", "#c4c4c4"
PANEL_INCHES = 4.2
LEFT, RIGHT, BOTTOM, TOP = 0.8, 0.2, 0.55, 0.6  # inches around a panel
BAR, CHARACTER = 1.8, 0.085  # inches: the least height of a colour bar, the width of a character of the title
DPI = 120
MOST_CLASSES = 20  # integers with more distinct values are quantities
MOST_LABELS = 24  # most entries of a legend
DENSE = 100_000  # points of one colour from which they are counted instead of drawn over each other
RGB = ((3,), (4,))  # numbers of a row that is a colour
CHANNELS = "red,green,blue"  # attributes that are a colour together, as in point clouds and meshes
MANY = 20_000  # marks above which a vector drawing holds them as pixels

# Reading what is drawn: positions, lines, and the values or categories that determine the colour.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shade:
    """What determines the colour of vertices.

    Parameters
    ----------
    name
        Name of the attribute, with its unit.
    values
        (N,) float64: quantities, or indices of the labels; NaN for no value. Or (N, 4): true colours from 0 to 1.
    labels
        Names of categories; None for quantities.
    dates
        Whether quantities are days since 1970.
    """

    name: str
    values: Floats
    labels: tuple[str, ...] | None = None
    dates: bool = False

    @property
    def true(self) -> bool:
        """Whether the values are colours already."""
        return self.values.ndim == 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawing:
    """What is drawn of a level, computed.

    Parameters
    ----------
    positions
        (N, D), as `World.show` returns them.
    segments
        (E, 2) rows joined by a line, which has the colour of the first; empty if points are drawn.
    shade
        What determines the colour, or None.
    """

    positions: Floats
    segments: IntArray
    shade: Shade | None


def has_color(view: LevelView, color: Color) -> bool:
    """Whether a level has what should determine the colour: a vertex attribute, objects, or an attribute of these."""
    data = view.data
    if not isinstance(color, str) or data.has_attribute(color):
        return True
    objects = data.object_index is not None and (color == OBJECT_ID or color in data.object_attributes)
    return objects or bool(_channels(view, color))


def _channels(view: LevelView, color: str) -> list[str]:
    """Names of the attributes in ``"red,green,blue"``, if it is that, and three or four of them exist."""
    names = [name.strip() for name in color.split(",")]
    return names if len(names) in (3, 4) and all(map(view.data.has_attribute, names)) else []


def color_names(view: LevelView) -> list[str]:
    """What can determine the colour: vertex attributes that are numbers or colours, objects, and their attributes."""
    data = view.data
    data.load_attributes()
    columns = {name: column_of(view, name)[0] for name in data.attribute_names}
    kinds = {name: (column.row_shape, column.dtype.kind) for name, column in columns.items()}
    found = [
        name for name, (shape, kind) in kinds.items() if (shape in RGB and kind == "u") or (not shape and kind != "c")
    ]
    found += [CHANNELS] if _channels(view, CHANNELS) else []
    if data.object_index is not None:
        arrays = data.object_attributes
        found += [OBJECT_ID, *(name for name, array in arrays.items() if len(array.shape) == 1 and name not in columns)]
    return found


def read_shade(view: LevelView, color: Color) -> Shade:
    """Read what determines the colour of the rows of a view; raises as `read_drawing` does."""
    values, owners = dask.compute(*_said(view, color))
    return _shade(view, color, values, owners)


def read_drawing(view: LevelView, color: Color | None) -> Drawing:
    """Read what is drawn of a view, in one pass.

    Raises
    ------
    NotFoundError
        If there is no such attribute.
    SelectionError
        If a vertex has several numbers that are no colour, or an array has not a row for each vertex.
    """
    said = None if color is None else _said(view, color)
    kinds = set(view.data.store.geometry_types)
    joins = faces_array(view) if "mesh" in kinds else edges_array(view) if kinds - {"point_cloud"} else None
    positions, joined, found = dask.compute(vertices_array(view), joins, said)
    world = view.data.store.world
    world.warn()
    segments = np.empty((0, 2), np.int64) if joined is None else outlines(joined) if "mesh" in kinds else joined
    shade = None if color is None else _shade(view, color, *found)
    if shade is not None and len(shade.values) != len(positions):
        raise SelectionError(
            f"color= has {counted(len(shade.values), 'row')}, but {counted(len(positions), 'vertex')} to colour"
        )
    return Drawing(positions=world.show(positions), segments=segments, shade=shade)


def _said(view: LevelView, color: Color) -> tuple[Any, Any]:
    """Arrays that determine the colour: values of the vertices, or their objects and the values of these."""
    data, owners, values = view.data, None, None
    if not isinstance(color, str):
        values = color if isinstance(color, da.Array | np.ma.MaskedArray) else _plain(color)
        shape, color = values.shape[1:], "color="
        if not values.ndim:
            raise SelectionError(f"color= names an attribute, or is an array with a row for each vertex: {values}")
    elif not has_color(view, color):
        known = [*data.attribute_names, *([OBJECT_ID, *data.object_attributes] if data.object_index else [])]
        raise NotFoundError.among("attribute of vertices or objects", color, known, where=data.url)
    elif data.has_attribute(color):
        shape, values = column_of(view, color)[0].row_shape, attribute_array(view, color)
    elif names := _channels(view, color):
        values = da.stack([attribute_array(view, name) for name in names], axis=1)
        shape = values.shape[1:]
    else:
        owners, shape = owners_array(view), ()
        if color != OBJECT_ID:
            array = data.object_attributes[color]
            dataset = object_dataset(view.source, {"of": array}, view.object_ids, None)
            values, shape = dataset["of"].data, array.shape[1:]
    if shape and shape not in RGB:
        raise SelectionError(
            f"a colour needs one number for each vertex, or 3 or 4 (RGB, RGBA), but {color!r} has {shape}"
        )
    return values, owners


def _plain(given: Any) -> np.ndarray[Any, Any]:
    """An array; Python's objects as text, in which None and NaN are missing."""
    values = np.asarray(given)
    if values.dtype.kind not in "OT":
        return values
    texts = ["" if str(value) in ("None", "nan", "NaT", "<NA>") else str(value) for value in values.ravel().tolist()]
    return np.array(texts, np.str_).reshape(values.shape)


def _shade(view: LevelView, color: Color, values: np.ndarray[Any, Any] | None, owners: IntArray | None) -> Shade:
    if owners is None:
        assert values is not None
        missing = missing_in(np.asarray(values)) | np.ma.getmaskarray(values)
        values = np.asarray(values)
        if not isinstance(color, str) or values.ndim == 2:
            return shaded(color if isinstance(color, str) else "", values, missing)
        coding, units = coding_of(view, color), told_attrs(view, color).get("units")
        named = coding is not None and not coding.plain
        if coding is not None and coding.categories.dtype.kind == "b":  # floats if some are missing
            values = np.where(missing, 0, values).astype(np.bool_)
        return shaded(color, values, missing, units=units, named=named, whole=coding is not None)
    assert isinstance(color, str)
    if values is None:
        return shaded(color, owners, owners < 0, named=True)
    ids = view.object_ids
    order = np.argsort(ids, kind="stable")
    rows = order[np.minimum(np.searchsorted(ids, owners, sorter=order), max(len(ids) - 1, 0))]
    units = view.data.object_attributes[color].attributes.get("unit")
    found = np.asarray(values)[rows]
    missing = missing_in(found)
    missing[owners < 0] = True
    return shaded(color, found, missing, units=units)


def shaded(
    name: str,
    values: np.ndarray[Any, Any],
    missing: np.ndarray[Any, Any],
    *,
    units: Any = None,
    named: bool = False,
    whole: bool = False,
) -> Shade:
    """Distinguish categories, which are text, booleans and integers with few values, from quantities.

    Parameters
    ----------
    values, missing
        (N,) of any dtype, and whether each is missing; or (N, 3) or (N, 4), which are true colours.
    units
        Unit of a quantity, if it is known.
    named
        Whether they are categories, whatever their dtype.
    whole
        Whether they are whole numbers, stored as floats because some are missing.
    """
    kind = values.dtype.kind
    if values.ndim == 2:
        return Shade(name=name, values=true_colours(name, values, missing))
    if kind == "c":
        raise SelectionError(f"a colour needs one real number for each vertex, but {name!r} is of {values.dtype}")
    found = np.full(len(values), np.nan)
    if named or whole or kind in "OUbiu":
        known, codes = np.unique(values[~missing], return_inverse=True)
        if kind in "OU":
            order = naturally(known.tolist())
            known, codes = known[order], np.argsort(order)[codes]
        if named or kind in "OUb" or len(known) <= MOST_CLASSES:
            found[~missing] = codes
            integers = kind == "f" and bool((known == np.floor(known)).all())
            return Shade(name=name, values=found, labels=tuple(str(int(v) if integers else v) for v in known.tolist()))
    if kind == "m":
        values, units = values / np.timedelta64(1, "s"), "s"
    elif kind == "M":
        values = (values - np.datetime64(0, "D")) / np.timedelta64(1, "D")
    found[~missing] = values[~missing]
    found[np.isinf(found)] = np.nan
    return Shade(name=f"{name} ({units})" if units else name, values=found, dates=kind == "M")


def true_colours(name: str, values: np.ndarray[Any, Any], missing: BoolArray) -> Floats:
    """(N, 4) colours from 0 to 1, of (N, 3) or (N, 4) numbers from 0 to 1, or to 255, or 16-bit integers."""
    missing = np.asarray(missing.any(axis=1))
    known, kind = values[~missing], values.dtype.kind
    lo, hi = (known.min(), known.max()) if known.size and kind in "iuf" else (0, 0)
    most = 1 if kind == "f" and hi <= 1 else 255 if hi <= 255 else 65_535
    if kind not in "iuf" or lo < 0 or (hi > 255 and values.dtype != np.uint16):
        has = f"numbers from {lo:g} to {hi:g}" if kind in "iuf" else f"values of {values.dtype}"
        text = "a colour needs one number for each vertex, or 3 or 4 from 0 to 1, 0 to 255 or as uint16"
        raise SelectionError(f"{text}, but {repr(name) if name else 'color='} has {has}")
    found = np.ones((len(values), 4))
    found[:, : values.shape[1]] = np.where(missing[:, None], 0, values) / most
    found[missing] = [int(NONE[at : at + 2], 16) / 255 for at in (1, 3, 5)] + [1]
    return found


def outlines(faces: IntArray) -> IntArray:
    """(E, 2) edges of (F, W) faces, each only once."""
    edges = np.concatenate([faces[:, [corner, (corner + 1) % faces.shape[1]]] for corner in range(faces.shape[1])])
    return np.unique(np.sort(edges, axis=1), axis=0)


def panels_of(store: StoreMeta, projection: str | Sequence[str] | None) -> list[tuple[int, int]]:
    """Pairs of axes to draw: by default every pair of the first three.

    Parameters
    ----------
    projection
        Names of two axes, ``("x", "z")``, ``"x,z"`` or ``"xz"``.

    Raises
    ------
    SelectionError
        If it does not name two axes.
    """
    axes = list(store.world.shown[1])
    if projection is None:
        return list(combinations(range(min(len(axes), 3)), 2)) or [(0, 0)]
    parts: Any = projection.split(",") if isinstance(projection, str) and "," in projection else projection
    names = [name if name in axes else str(name).lower() for name in (parts if isinstance(parts, Iterable) else ())]
    if len(names) != 2 or any(name not in axes for name in names):
        pair = f", such as {','.join(axes[:2])}"
        raise SelectionError(f"projection must name two of the axes {listed(axes)}{pair}; found {projection!r}")
    return [(axes.index(names[0]), axes.index(names[1]))]


def fitting(views: Sequence[LevelView], panels: Sequence[tuple[int, int]], color: Color | None) -> LevelView:
    """Return the coarsest view whose bins are no larger than a pixel, or else the first.

    Parameters
    ----------
    views
        The same part of several levels: the requested one first, then coarser and coarser.
    """
    wanted = views[0]
    lo, hi = wanted.data.store.bounds
    if wanted.selection.box is not None:
        lo, hi = np.maximum(lo, wanted.selection.box[0]), np.minimum(hi, wanted.selection.box[1])
    columns = wanted.data.store.world.shown[0]
    drawn = sorted({columns[axis] for pair in panels for axis in pair})
    pixel = float((hi - lo)[drawn].max()) / (PANEL_INCHES * DPI)
    fine = [view for view in views if bool((view.data.meta.bin_shape[drawn] <= pixel).all())]
    fine = [view for view in fine if color is None or has_color(view, color)]
    return fine[-1] if fine else wanted


# The part that uses Matplotlib.


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How it is drawn; see `ZVLevel.plot`."""

    cmap: Any = None
    size: float | None = None
    robust: bool = False
    density: bool | None = None


def plot_view(
    view: LevelView, *, panels: Sequence[tuple[int, int]], color: Color | None, style: Style, ax: "Axes | None"
) -> "Figure":
    """Draw a view, a panel for each projection; into ``ax`` if given, otherwise into a new figure."""
    drawing = read_drawing(view, color)
    shade, store = drawing.shade, view.data.store
    if style.density and shade is not None and shade.labels is not None:
        raise SelectionError(f"density= counts vertices or averages a quantity, but {shade.name!r} has categories")
    if shade is not None and shade.true and (style.density or style.robust or style.cmap is not None):
        raise SelectionError("density=, robust= and cmap= are for numbers, but color= gives red, green and blue")
    _, names, units = store.world.shown
    lo, hi = _extent(drawing, store)
    figure: Any
    dense = style.density
    if dense is None:
        dense = shade is None and not len(drawing.segments) and len(drawing.positions) > DENSE
    style = replace(style, density=dense and len(drawing.positions) > 0)
    told = None if shade is not None and shade.true else shade  # true colours need no legend
    words = [] if told is None else [told.name, *(told.labels or ())]
    barred = bool(style.density) or (told is not None and told.labels is None)
    figure, spots = (ax.figure, [ax]) if ax is not None else _new_figure(lo, hi, panels, words, barred=barred)
    colours = _colours(shade, style)
    pairs = list(zip(spots, panels, strict=True))
    artists = [_panel(spot, drawing, pair, colours, style) for spot, pair in pairs]
    for spot, pair in pairs:
        _frame(spot, lo, hi, pair, own=ax is None)
    for spot, pair in pairs:
        _label(spot, pair, names, units)
        if units[pair[0]] == units[pair[1]]:
            _scale_bar(spot, min(float(np.ptp(each.get_xlim())) for each in spots) / 4, units[pair[0]])
        if not len(drawing.positions):
            spot.text(0.5, 0.5, "no vertices", transform=spot.transAxes, ha="center", va="center", color="#777777")
    if ax is None:
        url = view.data.tree.url  # the store may be inside an archive or a bucket
        name = url.rstrip("/").rpartition("/")[2] or url
        count = figure.vertex_count = len(drawing.positions)
        about = f", level {view.data.meta.index}: {counted(count, 'vertex')}"
        room = max(int(figure.get_figwidth() / CHARACTER) - len(about), 9)
        title = (name if len(name) <= room else f"{name[: room // 2 - 2]}...{name[-(room // 2 - 1) :]}") + about
        figure.suptitle(title, fontsize=10, y=1 - 0.08 / figure.get_figheight(), va="top")
    if told is not None or style.density:
        _tell_colours(spots, artists, drawing, colours, style, own=ax is None)
    found: Figure = figure
    return found


def _extent(drawing: Drawing, store: StoreMeta) -> tuple[Floats, Floats]:
    """Corners of what is drawn, or of the store if nothing is; no edge is too short beside the longest."""
    shown = drawing.positions[np.isfinite(drawing.positions).all(axis=1)]
    if not len(shown):
        columns = store.world.shown[0]
        shown = np.stack(store.bounds)[:, list(columns)].astype(np.float64)
        shown = shown if np.isfinite(shown).all() else np.stack([np.zeros(len(columns)), np.ones(len(columns))])
    lo, hi = shown.min(axis=0), shown.max(axis=0)
    edges = hi - lo
    least = 0.15 * edges.max() if edges.max() > 0 else max(1.0, float(np.abs(lo).max()) * 1e-3)
    middle, half = (lo + hi) / 2, np.maximum(edges, least) / 2 * 1.06
    return middle - half, middle + half


def _new_figure(
    lo: Floats, hi: Floats, panels: Sequence[tuple[int, int]], words: Sequence[str], *, barred: bool
) -> tuple[Any, list[Any]]:
    """Figure with panels, all to one scale, with room for a colour bar or a legend."""
    edges = hi - lo
    scale = PANEL_INCHES / max(float(edges[axis]) for pair in panels for axis in pair)
    sizes = [(edges[a] * scale, 0.5 if a == b else edges[b] * scale) for a, b in panels]
    tall = max(height for _, height in sizes)
    right = RIGHT
    if barred:
        right, tall = 1.05, max(tall, BAR)
    elif words:
        more = ["and 1,000 more"] if len(words) > MOST_LABELS + 1 else ["none"]
        right = 0.6 + 0.075 * min(max(map(len, [*words, *more])), 40)
        tall = max(tall, 0.185 * (min(len(words), MOST_LABELS + 2) + 2) - BOTTOM)
    width, height = sum(w for w, _ in sizes) + LEFT * len(panels) + right, tall + BOTTOM + TOP
    figure = picture(figsize=(width, height), dpi=DPI)
    left, spots = LEFT, []
    for w, h in sizes:
        spots.append(figure.add_axes((left / width, (BOTTOM + tall - h) / height, w / width, h / height)))
        left += w + LEFT
    return figure, spots


def picture(**options: Any) -> Any:
    """Return a Matplotlib figure that shows itself in a notebook, without pyplot's global state.

    `plot_view` adds ``vertex_count``, the number of vertices in the picture.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    """
    return type("Picture", (_part("figure").Figure,), {"_repr_png_": _as_png})(**options)


def _part(name: str) -> Any:
    """A module of Matplotlib, or ``""``: Matplotlib itself."""
    return optional(f"matplotlib.{name}".rstrip("."), "plot() needs Matplotlib", "plot")


def _as_png(figure: Any) -> bytes:
    import io  # noqa: PLC0415

    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI * 0.75)  # notebooks display figures through this
    return out.getvalue()


def _colours(shade: Shade | None, style: Style) -> dict[str, Any]:
    """Colour map and limits, the same for every panel: ``cmap`` and ``clim``."""
    maps = _part("").colormaps
    if not (isinstance(style.cmap, str | None) or hasattr(style.cmap, "with_extremes")):
        raise SelectionError(f"cmap must be a colour map of Matplotlib, or the name of one; found {style.cmap!r}")
    if isinstance(style.cmap, str) and style.cmap not in maps:
        raise NotFoundError.among("colour map", style.cmap, maps)
    if shade is not None and shade.true:
        return {}
    if shade is None or shade.labels is None:
        given = maps[style.cmap or "viridis"] if isinstance(style.cmap or "", str) else style.cmap
        finite = np.empty(0) if shade is None else shade.values[np.isfinite(shade.values)]
        limits = np.percentile(finite, [2, 98] if style.robust else [0, 100]) if len(finite) else (0, 1)
        return {"cmap": given.with_extremes(bad=NONE), "clim": tuple(limits)}
    colours = category_colours(len(shade.labels), style.cmap)
    listed = _part("colors").ListedColormap(colours or [NONE]).with_extremes(bad=NONE)
    return {"cmap": listed, "clim": (-0.5, max(len(colours), 1) - 0.5)}


def category_colours(count: int, cmap: Any = None) -> list[str]:
    """Distinct colours of categories: tab10 or tab20 without their greys, which mean none, or else turbo.

    A colour map with few colours contributes its first ones; any other is sampled evenly.
    """
    maps, to_hex = _part("").colormaps, _part("colors").to_hex
    if cmap is None:
        greys = {"#7f7f7f", "#c7c7c7"}
        few = ([c for c in map(to_hex, maps[name].colors) if c not in greys] for name in ("tab10", "tab20"))
        chosen = next((colours for colours in few if len(colours) >= count), None)
        if chosen is not None:
            return chosen[:count]
    found = maps["turbo" if cmap is None else cmap] if isinstance(cmap, str | None) else cmap
    if count <= found.N < 256:
        return [to_hex(found(at)) for at in range(count)]
    return [to_hex(found(at)) for at in np.linspace(0.02, 0.98, count)]


def _panel(spot: Any, drawing: Drawing, pair: tuple[int, int], colours: dict[str, Any], style: Style) -> Any:
    """Draw one projection, nearer things last; return what has the colours."""
    positions, shade = drawing.positions, drawing.shade
    flat = positions.shape[1] == 1
    seen = np.column_stack([positions[:, 0], np.zeros(len(positions))]) if flat else positions[:, list(pair)]
    hidden = [axis for axis in range(positions.shape[1]) if axis not in pair]
    if style.density:
        return _hexagons(spot, seen, shade, colours["cmap"])
    lone = np.ones(len(positions), np.bool_)
    lone[drawing.segments] = False
    rows = np.flatnonzero(lone) if len(drawing.segments) else np.arange(len(positions))
    if hidden:
        rows = rows[np.argsort(positions[rows, hidden[0]], kind="stable")]
    artist = _points(spot, seen[rows], None if shade is None else shade.values[rows], style) if len(rows) else None
    if len(drawing.segments):
        artist = _lines(spot, drawing, seen, hidden, style)
    if artist is not None and shade is not None:
        for drawn in spot.collections:
            drawn.set(**colours)
    return artist


def _points(spot: Any, seen: Floats, values: Floats | None, style: Style) -> Any:
    said: dict[str, Any] = {"color": PLAIN if values is None else values}
    if values is not None and values.ndim == 1:
        said = {"c": values, "plotnonfinite": True}
    area = style.size or float(np.clip(6000 / len(seen), 0.3, 30))
    return spot.scatter(*seen.T, s=area, linewidths=0, rasterized=len(seen) > MANY, **said)


def _hexagons(spot: Any, seen: Floats, shade: Shade | None, cmap: Any) -> Any:
    """Vertices counted in hexagons, or the mean of their values."""
    edges = np.maximum(np.ptp(seen, axis=0), np.ptp(seen, axis=0).max() * 0.02 or 1.0)
    across = np.maximum((PANEL_INCHES * DPI / 4 * edges / edges.max()).astype(int), 4)
    known = np.ones(len(seen), np.bool_) if shade is None else np.isfinite(shade.values)
    values = {} if shade is None else {"C": shade.values[known]}
    grid = (int(across[0]), max(int(across[1] / np.sqrt(3)), 2))
    return spot.hexbin(*seen[known].T, gridsize=grid, mincnt=1, linewidths=0.1, cmap=cmap, rasterized=True, **values)


def _lines(spot: Any, drawing: Drawing, seen: Floats, hidden: list[int], style: Style) -> Any:
    segments = drawing.segments
    if hidden:
        depth = drawing.positions[segments][:, :, hidden[0]].mean(axis=1)
        segments = segments[np.argsort(depth, kind="stable")]
    width = style.size or float(np.clip(2500 / len(segments), 0.25, 1.2))
    shade = drawing.shade
    # An edge of a skeleton is [child, parent], and has its child's colour.
    values = None if shade is None else shade.values[segments[:, 0]]
    said: dict[str, Any] = {"color": PLAIN if values is None else values}
    if values is not None and values.ndim == 1:
        said = {"array": np.ma.masked_invalid(values)}
    options = {"linewidths": width, "capstyle": "round", "rasterized": len(segments) > MANY}
    artist = _part("collections").LineCollection(seen[segments], **options, **said)
    spot.add_collection(artist)
    return artist


def _frame(spot: Any, lo: Floats, hi: Floats, pair: tuple[int, int], *, own: bool) -> None:
    """Set limits and aspect; axes that were given keep showing what they show."""
    flat = len(lo) == 1
    spot.set_aspect("auto" if flat and own else "equal", adjustable="datalim" if flat else "box")
    if own:
        spot.set_xlim(lo[pair[0]], hi[pair[0]])
        spot.set_ylim(*((-1, 1) if flat else (lo[pair[1]], hi[pair[1]])))
    else:
        spot.margins(0.03)
        spot.autoscale_view()


def _label(spot: Any, pair: tuple[int, int], axes: Sequence[str], units: Sequence[str | None]) -> None:
    names = [f"{axes[axis]} ({units[axis]})" if units[axis] else axes[axis] for axis in pair]
    spot.set_xlabel(names[0], fontsize=9)
    if len(axes) == 1:
        spot.set_yticks([])
    else:
        spot.set_ylabel(names[1], fontsize=9)
    spot.tick_params(labelsize=8)
    spot.ticklabel_format(useOffset=False, scilimits=(-4, 8))  # map coordinates written out
    for axis, part in (("x", "width"), ("y", "height")):
        inches = getattr(spot.get_position(), part) * getattr(spot.figure, f"get_fig{part}")()
        if len(axes) > 1 or axis == "x":
            spot.locator_params(axis=axis, nbins=max(int(2 * inches), 2))


def _scale_bar(spot: Any, most: float, unit: str | None) -> None:
    """A bar of 1, 2 or 5 units times a power of ten, above the upper right corner."""
    length = nice_length(most)
    bars = importlib.import_module("mpl_toolkits.axes_grid1.anchored_artists")
    height = float(np.ptp(spot.get_ylim())) * 0.03 / max(spot.get_position().height * spot.figure.get_figheight(), 0.1)
    place = {"bbox_to_anchor": (1, 1), "bbox_transform": spot.transAxes, "loc": "lower right", "label_top": True}
    look = {"frameon": False, "pad": 0.1, "borderpad": 0.2, "sep": 2, "size_vertical": height, "color": "#444444"}
    font = _part("font_manager").FontProperties(size=8)
    number = f"{length:,.0f}" if length >= 1 else f"{length:g}"
    label = f"{number} {unit}" if unit else number
    spot.add_artist(bars.AnchoredSizeBar(spot.transData, length, label, fontproperties=font, **place, **look))


def nice_length(most: float) -> float:
    """Largest of 1, 2 and 5 times a power of ten that is not larger."""
    power = float(10.0 ** np.floor(np.log10(most)))
    return next(step * power for step in (5, 2, 1) if step * power <= most * (1 + 1e-9))


def _tell_colours(
    spots: list[Any], artists: list[Any], drawing: Drawing, colours: dict[str, Any], style: Style, *, own: bool
) -> None:
    """Add a legend of categories, or a colour bar of quantities or counts, beside the last panel."""
    shade, spot, figure = drawing.shade, spots[-1], spots[-1].figure
    if not len(drawing.positions):
        return
    if style.density:
        found = np.concatenate([np.ma.compressed(artist.get_array()) for artist in artists])
        limits = np.percentile(found, [2, 98] if style.robust else [0, 100]) if len(found) else (0, 1)
        norm = _part("colors").LogNorm(1, max(float(found.max()), 2)) if shade is None else None
        for artist in artists:
            artist.set(**({"norm": norm} if norm else {"clim": tuple(limits)}))
    none = shade is not None and not np.isfinite(shade.values).all()
    patch = _part("patches").Patch
    if shade is not None and shade.labels is not None:
        counts = np.bincount(shade.values[np.isfinite(shade.values)].astype(int), minlength=len(shade.labels))
        told = np.sort(np.argsort(-counts, kind="stable")[:MOST_LABELS])
        handles = [patch(color=colours["cmap"](int(at)), label=shade.labels[at]) for at in told]
        rest = len(shade.labels) - len(told)
        handles += [patch(color=NONE, label="none")] if none else []
        handles += [patch(alpha=0, label=f"and {rest:,} more")] if rest else []
        place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.5, "frameon": False}
        spot.legend(handles=handles, title=shade.name, fontsize=8, title_fontsize=9, handlelength=1.1, **place)
        return
    name = "vertices in a hexagon" if shade is None else shade.name
    dated = shade is not None and shade.dates
    ticks = _part("dates").AutoDateLocator() if dated else None
    said = {"ticks": ticks, "format": _part("dates").ConciseDateFormatter(ticks)} if dated else {}
    extend = "both" if style.robust and shade is not None else "neither"
    bar = figure.colorbar(artists[-1], **_beside(spot, own=own), extend=extend, **said)
    bar.set_label(name, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.ax.yaxis.get_offset_text().set(ha="left", fontsize=8)
    if none:
        place = {"loc": "upper left", "bbox_to_anchor": (0, -0.02), "frameon": False, "borderaxespad": 0}
        bar.ax.legend(handles=[patch(color=NONE, label="none")], fontsize=8, handlelength=1.1, **place)


def _beside(spot: Any, *, own: bool) -> dict[str, Any]:
    """Place of a colour bar: taken from axes that were given, otherwise right of a panel."""
    if not own:
        return {"ax": spot, "pad": 0.02}
    place, figure = spot.get_position(), spot.figure
    inch, up = 1 / figure.get_figwidth(), 1 / figure.get_figheight()
    height = min(max(place.height, BAR * up), place.y1 - BOTTOM * up)
    return {"cax": figure.add_axes((place.x1 + 0.15 * inch, place.y1 - height, 0.14 * inch, height))}
