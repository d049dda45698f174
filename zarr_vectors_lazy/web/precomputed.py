"""Levels as Neuroglancer's precomputed sources over HTTP, and its viewer on such a server."""

import gzip
import importlib
import threading
import weakref
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from zarr_vectors_lazy.convert.neuroglancer import FOLDER, viewer_state
from zarr_vectors_lazy.convert.precomputed_level import PrecomputedLevel
from zarr_vectors_lazy.errors import ZVError
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.web.answers import Answer, Environ, of_bytes, refusal
from zarr_vectors_lazy.web.server import Server

LARGE = 2**14  # bytes of a document that is sent compressed


class Precomputed:
    """Sources of levels, as `web.answers.Objects`: ``<level>/<kind>/<key>``, computed when asked for.

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
    """Viewer of Neuroglancer's package that shows a view, which a server in this process gives it cell by cell.

    Raises
    ------
    ImportError
        If the package, or the server, is not installed.
    """
    try:
        neuroglancer = importlib.import_module("neuroglancer")
    except ImportError as error:
        raise ImportError("view() needs Neuroglancer: pip install 'zarr-vectors-lazy[view]'") from error
    view.data.store.world.warn()
    level = PrecomputedLevel(view)
    server = Server(view.source.spec, views={FOLDER: Precomputed({level.index: level})})
    threading.Thread(target=server.serve_forever, name="zvl-view", daemon=True).start()
    viewer = neuroglancer.Viewer()
    viewer.set_state(viewer_state(level, server.url))
    weakref.finalize(viewer, server.close)
    return viewer
