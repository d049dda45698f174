"""Levels as Neuroglancer sources over HTTP, the viewer states that show them, and a viewer on such a server."""

import gzip
import json
import threading
import weakref
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import numpy as np

from zarr_vectors_lazy.convert.precomputed_level import PrecomputedLevel
from zarr_vectors_lazy.errors import ZVError, optional
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.web.server import Answer, Environ, Server, of_bytes, refusal

FOLDER = "precomputed"  # of one server
CLIENT = "https://neuroglancer-demo.appspot.com/"
MOST_SEGMENTS = 100  # most vertices of a level shown at first, if it shows nothing coarser
MOST_VERTICES = 1_000_000  # of a level that is shown to begin with, if there is such
SHADERS = {
    "points": "void main() {\n  setColor(defaultColor());\n  setPointMarkerSize(3.0);\n"
    "  setPointMarkerBorderWidth(0.0);\n}\n",
    "lines": "void main() {\n  setColor(defaultColor());\n  setLineWidth(1.0);\n  setEndpointMarkerSize(0.0);\n"
    "  setEndpointMarkerBorderWidth(0.0);\n}\n",
}
HEIGHT = 500  # approximate pixels of a view
SPACING = 0.1  # pixels: what was fetched is drawn
COLOURS = {"points": "#8cc7ff", "lines": "#ffc04c"}


def source_url(url: str, level: int, kind: str) -> str:
    """Source of a level in Neuroglancer's notation, for a store served at ``url``."""
    return f"precomputed://{url}/{FOLDER}/{level}/{kind}"


def shown_level(levels: Mapping[int, PrecomputedLevel]) -> PrecomputedLevel | None:
    """The finest level that a viewer shows quickly, or else the coarsest; None if there is none."""
    every = [levels[index] for index in sorted(levels)]
    light = (level for level in every if (level.data.meta.vertex_count or 0) <= MOST_VERTICES)
    return next(light, every[-1] if every else None)


def viewer_state(level: PrecomputedLevel, url: str) -> dict[str, Any]:
    """Viewer state that shows a level: its layers, with the whole level in view."""
    lo, hi = level.seen
    scales = np.asarray([scale for scale, _ in level.dimensions.values()])[:3]
    seen = float(((hi - lo)[:3] * scales / scales.min()).max() * 1.3) or 1.0  # in the finest of the units
    return {
        "dimensions": {name: list(scale) for name, scale in level.dimensions.items()},
        "position": ((lo + hi) / 2).tolist(),
        "projectionScale": seen,
        "crossSectionScale": seen / HEIGHT,
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


LARGE = 2**14  # bytes from which a document is sent compressed


class Precomputed:
    """Sources of levels, as `web.server.Objects`: ``<level>/<kind>/<key>``, computed on request.

    Parameters
    ----------
    levels
        By number.
    """

    def __init__(self, levels: Mapping[int, PrecomputedLevel]) -> None:
        self.levels = {str(index): level for index, level in levels.items()}

    def get(self, key: str, environ: Environ) -> Answer:  # noqa: D102  inherited
        number, _, path = key.partition("/")
        level = self.levels.get(number)
        try:
            found = None if level is None else level.get(path)
        except ZVError as error:
            return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        if found is None:
            return refusal(HTTPStatus.NOT_FOUND, "no such key")
        is_document = path.endswith("info")
        packs = is_document and len(found) > LARGE and "gzip" in environ.get("HTTP_ACCEPT_ENCODING", "")
        answer = of_bytes(gzip.compress(found, 1) if packs else found, "x.json" if is_document else "x", environ)
        if packs:
            answer.headers["Content-Encoding"] = "gzip"
        return answer

    def names(self, folder: str) -> list[str] | None:  # noqa: D102  inherited
        number, _, kind = folder.strip("/").partition("/")
        if not number:
            return [f"{each}/" for each in self.levels]
        level = self.levels.get(number)
        if level is None or (kind and kind not in level.kinds):
            return None
        return ["info"] if kind else [f"{each}/" for each in level.kinds]


def open_viewer(view: LevelView) -> Any:
    """Neuroglancer's viewer object showing a view, which a server in this process provides cell by cell.

    Raises
    ------
    ImportError
        If the package, or the server, is not installed.
    """
    neuroglancer = optional("neuroglancer", "view() needs Neuroglancer", "view")
    view.data.store.world.warn()
    level = PrecomputedLevel(view)
    server = Server(view.source.spec, views={FOLDER: Precomputed({level.index: level})})
    threading.Thread(target=server.serve_forever, name="zvl-view", daemon=True).start()
    viewer = neuroglancer.Viewer()
    viewer.set_state(viewer_state(level, server.url))
    weakref.finalize(viewer, server.close)
    return viewer
