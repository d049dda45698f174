"""What Neuroglancer is told to show of a level, its sources being served somewhere."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from zarr_vectors_lazy.convert.precomputed_level import PrecomputedLevel

FOLDER = "precomputed"  # of a server
CLIENT = "https://neuroglancer-demo.appspot.com/"
MOST_SEGMENTS = 100  # that are shown to begin with, of what shows nothing else
MOST_VERTICES = 1_000_000  # of a level that is shown to begin with, if there is such
SHADERS = {
    "points": "void main() {\n  setColor(defaultColor());\n  setPointMarkerSize(3.0);\n"
    "  setPointMarkerBorderWidth(0.0);\n}\n",
    "lines": "void main() {\n  setColor(defaultColor());\n  setLineWidth(1.0);\n  setEndpointMarkerSize(0.0);\n"
    "  setEndpointMarkerBorderWidth(0.0);\n}\n",
}
SPACING = 0.1  # pixels: what was fetched is drawn
COLOURS = {"points": "#8cc7ff", "lines": "#ffc04c"}


def source_url(url: str, level: int, kind: str) -> str:
    """What Neuroglancer calls a source of a level, of a store that is served at ``url``."""
    return f"precomputed://{url}/{FOLDER}/{level}/{kind}"


def shown_level(levels: Mapping[int, PrecomputedLevel]) -> PrecomputedLevel | None:
    """Finest level that a viewer shows quickly, else the coarsest; None of none."""
    every = [levels[index] for index in sorted(levels)]
    light = (level for level in every if (level.data.meta.vertex_count or 0) <= MOST_VERTICES)
    return next(light, every[-1] if every else None)


def viewer_state(level: PrecomputedLevel, url: str) -> dict[str, Any]:
    """State of a viewer that shows a level: what it draws of it, seen whole."""
    lo, hi = level.seen
    return {
        "dimensions": {name: list(scale) for name, scale in level.dimensions.items()},
        "position": ((lo + hi) / 2).tolist(),
        "projectionScale": float((hi - lo)[:3].max() * 1.3) or 1.0,
        "layers": [_layer(level, url, kind) for kind in level.kinds if kind != "points" or level.kinds[0] == "points"],
        "layout": "3d" if len(lo) > 2 else "xy",
        "showSlices": False,
    }


def _layer(level: PrecomputedLevel, url: str, kind: str) -> dict[str, Any]:
    layer: dict[str, Any] = {"name": f"{kind} of level {level.index}", "source": source_url(url, level.index, kind)}
    if kind in SHADERS:
        layer |= {"annotationColor": COLOURS[kind], "projectionAnnotationSpacing": SPACING}
        return {**layer, "type": "annotation", "shader": SHADERS[kind]}
    chosen = level.segments[1][:MOST_SEGMENTS].tolist() if level.kinds[0] == kind else []
    return {**layer, "type": "segmentation", "segments": list(map(str, chosen))}


def state_link(level: PrecomputedLevel, url: str) -> str:
    """Link that opens the public viewer on a level."""
    return f"{CLIENT}#!{quote(json.dumps(viewer_state(level, url), separators=(',', ':')))}"
