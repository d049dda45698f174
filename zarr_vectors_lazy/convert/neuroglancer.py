"""Levels in Neuroglancer, through its Python package."""

import importlib
from collections.abc import Sequence
from typing import Any

from zarr_vectors_lazy.convert.plot import read_drawing
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.model.world import metres

MOST_SHAPES = 200_000
SECONDS = ("s", "second", "seconds")
SHADER = """
void main() {
  setColor(vec3(0.55, 0.78, 1.0));
  setPointMarkerSize(3.0);
  setPointMarkerBorderWidth(0.0);
  setEndpointMarkerSize(0.0);
  setEndpointMarkerBorderWidth(0.0);
}
"""


def view_in_neuroglancer(view: LevelView) -> Any:
    """Viewer with the points of a view, or with the lines that join its vertices.

    Raises
    ------
    SelectionError
        If there are more than a viewer takes.
    ImportError
        If Neuroglancer's package is not installed.
    """
    try:
        neuroglancer = importlib.import_module("neuroglancer")
    except ImportError as error:
        raise ImportError("view() needs Neuroglancer: pip install 'zarr-vectors-lazy[view]'") from error
    drawing = read_drawing(view, None)
    positions, segments = drawing.positions, drawing.segments
    shapes = len(segments) or len(positions)
    if shapes > MOST_SHAPES:
        raise SelectionError(f"{shapes:,} shapes are too many for a viewer: select a box, or take a coarser level")
    _, names, units = view.data.store.world.shown
    space = coordinate_space(neuroglancer, names, units)
    if len(segments):
        ends = positions[segments].tolist()
        marks = [neuroglancer.LineAnnotation(id=str(i), point_a=a, point_b=b) for i, (a, b) in enumerate(ends)]
    else:
        marks = [neuroglancer.PointAnnotation(id=str(i), point=point) for i, point in enumerate(positions.tolist())]
    viewer = neuroglancer.Viewer()
    with viewer.txn() as state:
        state.dimensions = space
        state.layers[f"level {view.data.meta.index}"] = neuroglancer.LocalAnnotationLayer(
            space, annotations=marks, shader=SHADER
        )
        state.layout = "3d" if positions.shape[1] > 2 else "xy"
        state.show_slices = False
        if len(positions):
            lo, hi = positions.min(axis=0), positions.max(axis=0)
            state.position = ((lo + hi) / 2).tolist()
            state.projection_scale = float((hi - lo).max() * 1.3) or 1.0
    return viewer


def coordinate_space(neuroglancer: Any, axes: Sequence[str], units: Sequence[str | None]) -> Any:
    """Neuroglancer's space of the store's axes; units that it does not know are left out."""
    lengths = [metres(unit) for unit in units]
    known = [
        ("m", float(length)) if length else ("s" if unit in SECONDS else "", 1.0)
        for unit, length in zip(units, lengths, strict=True)
    ]
    return neuroglancer.CoordinateSpace(
        names=list(axes), units=[unit for unit, _ in known], scales=[scale for _, scale in known]
    )
