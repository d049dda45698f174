"""The main job in a minute, on real tractography: a store, its pyramid, an exact box, requests, a picture.

``python -m zarr_vectors_lazy.demo [STORE] [PICTURE]``; without a store, one is written from the streamlines of
``zvl.example("tracts")``.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.testing import counting

try:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure
except ImportError as error:
    sys.exit(f"the demo draws: pip install 'zarr-vectors-lazy[obstore,plot]' ({error})")

OUT = Path("demo-out")
FACTORS = [(2, 1), (2, 2)]
"""One entry for each level: bins twice as large; the last keeps half of the streamlines."""
SHOWN = 3  # number of levels, the finest ones
SHARE = 0.3  # part of the extent along each axis that the box covers
BACKGROUND = "#0c0f14"
BOX = "#f2c14e"
VIEW = np.array([[0.82, -0.20], [-0.57, -0.29], [0.0, 0.94]])
"""(3, 2): projects coordinates to the picture, in parallel, from the side and slightly above."""

Floats = npt.NDArray[np.floating[Any]]
Box = tuple[Floats, Floats]
log = logging.getLogger("zarr_vectors_lazy.demo")


def example_store() -> Path:
    """Write the streamlines of the example as a store, build its pyramid, and return its path."""
    path = OUT / "tracts.zarrvectors"
    streamlines = dask.compute(*zvl.open_zv(zvl.example("tracts"))[0].objects.ragged())
    written = zvl.write_polylines(path, streamlines, chunk_shape=12.0, bin_shape=1.5, units="mm", mode="w")
    zvl.build_pyramid(path, factors=FACTORS)
    log.info("%d streamlines written, %d levels built", written["polyline_count"], len(FACTORS))
    return path


def describe(store: zvl.ZVStore) -> None:
    """Log what the metadata say about each level."""
    log.info("%s\n%s %s, %d axes", store.url, store.format_version, ", ".join(store.geometry_types), store.ndim)
    log.info("\n%5s %9s %7s %8s  %s", "level", "vertices", "chunks", "objects", "bin")
    for level in store:
        objects = len(level.objects.ids)
        log.info("%5d %9s %7d %8d  %s", level.index, level.vertex_count, level.chunk_count, objects, level.bin_shape)


def middle(vertices: Floats) -> Box:
    """Return a box around the vertex nearest to the median of all."""
    away = np.linalg.norm(vertices - np.median(vertices, axis=0), axis=1)
    centre = vertices[away.argmin()].astype(np.float64)
    half = SHARE / 2 * np.ptp(vertices, axis=0)
    return centre - half, centre + half


def read(what: str, level: zvl.ZVLevel) -> tuple[Floats, int]:
    """Compute the level's vertices and log the cost; return them and the number of requests."""
    with counting() as counts:
        vertices: Floats = level.vertices.compute()
    log.info("%-16s%6d vertices %4d requests %8d bytes", what, len(vertices), counts.requests, counts.bytes)
    return vertices, counts.requests


def segments(level: zvl.ZVLevel) -> Floats:
    """(E, 2, D) ends of the level's edges; each vertex twice if it has none."""
    vertices, edges = dask.compute(level.vertices, level.edges)
    ends: Floats = vertices[edges] if len(edges) else vertices[:, None].repeat(2, axis=1)
    return ends


def draw(panels: Sequence[tuple[str, Floats, float]], box: Box, picture: Path) -> None:
    """Draw a panel for each (title, segments, line width), coloured by direction: |x| red, |y| green, |z| blue."""
    figure = Figure(figsize=(4.4 * len(panels), 4.9), facecolor=BACKGROUND)
    axes = figure.subplots(1, len(panels))
    for axis, (title, ends, width) in zip(axes, panels, strict=True):
        add_segments(axis, ends, box, width)
        axis.set_title(title, color="#e8eaed", fontsize=13, pad=10)
        axis.autoscale_view()
        axis.set_aspect("equal", adjustable="datalim")
        axis.set_axis_off()
    figure.text(0.5, 0.03, "colour is direction: x red, y green, z blue", color="#8b929c", fontsize=10, ha="center")
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=130, facecolor=BACKGROUND)


def add_segments(axis: Axes, ends: Floats, box: Box, width: float) -> None:
    """Draw segments, the nearest last and those outside the box faint, and the box."""
    depth = np.cross(VIEW[:, 0], VIEW[:, 1])
    ends = ends[np.argsort(ends.mean(axis=1) @ depth)]
    along = np.abs(ends[:, 1] - ends[:, 0])
    length = np.linalg.norm(along, axis=1, keepdims=True)
    colour = np.divide(along, length, out=np.full_like(along, 0.8), where=length > 0)
    inside = ((ends >= box[0]) & (ends <= box[1])).all(axis=(1, 2))
    opacity = np.where(inside, 0.95, 0.4)[:, None]
    seen, colours = ends @ VIEW, np.hstack([colour, opacity])
    if along.any():
        axis.add_collection(LineCollection(seen, colors=colours, linewidths=width))
    else:
        axis.scatter(seen[:, 0, 0], seen[:, 0, 1], s=4 * width, c=colours, linewidths=0)
    corners = np.array(np.meshgrid(*zip(*box, strict=True), indexing="ij")).reshape(3, 8).T
    rims = [(a, b) for a in range(8) for b in range(a) if (a ^ b) in {1, 2, 4}]
    axis.add_collection(LineCollection(corners[rims] @ VIEW, colors=BOX, linewidths=1.1))


def show(url: str, picture: Path) -> None:
    """Run the demonstration on one store, and save the picture."""
    store = zvl.open_zv(url)
    describe(store)
    fine, *coarser = list(store)[:SHOWN]
    coarse = coarser[0] if coarser else fine
    vertices, _ = read(f"level {coarse.index}", coarse)
    box = middle(vertices)
    cut = fine.sel(bbox=box)
    log.info("\nWhat the box would fetch, before anything is fetched:\n%s\n", cut.explain())
    found, made = read(f"box on level {fine.index}", cut)
    everything, whole = read(f"level {fine.index}", fine)
    log.info("%d requests made for the box, %d avoided", made, whole - made)
    if store.ndim != 3:
        return
    panels = [(f"level {level.index}: {level.vertex_count:,} vertices", segments(level), 1.1) for level in coarser]
    panels = [
        *reversed(panels),
        (f"level {fine.index}: {len(everything):,} vertices", segments(fine), 0.8),
        (f"box on level {fine.index}: {len(found):,} vertices", segments(cut), 1.3),
    ]
    draw(panels, box, picture)
    log.info("picture: %s", picture)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description="The main job of zarr_vectors_lazy in a minute.")
    parser.add_argument("store", nargs="?", help="URL or path; by default the streamlines of zvl.example")
    parser.add_argument("picture", nargs="?", type=Path, default=OUT / "levels.png", help="PNG to write")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    show(given.store or str(example_store()), given.picture)


if __name__ == "__main__":
    main()
