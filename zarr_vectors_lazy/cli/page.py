"""The page that draws a store level by level; the server decodes rows through the reader and sends them plain."""

import json
from http import HTTPStatus
from importlib.resources import files
from typing import Any

import dask
import numpy as np

from zarr_vectors_lazy.convert.plot import outlines
from zarr_vectors_lazy.errors import NotFoundError, ZVError
from zarr_vectors_lazy.level import ZVLevel
from zarr_vectors_lazy.store import ZVStore
from zarr_vectors_lazy.web.answers import Answer
from zarr_vectors_lazy.web.server import Server

MOST_VERTICES = 3_000_000
PREFIX = "view/"


def view_server(store: ZVStore, *, host: str = "127.0.0.1", port: int = 0) -> Server:
    """Server of the page and of the rows of a store's levels, which no page of another site gets; beside them objects.

    Parameters
    ----------
    store
        What is drawn.
    host, port
        Where it listens; port 0 takes a free one.
    """

    def answer(path: str) -> Answer | None:
        if path == "":
            page = files("zarr_vectors_lazy.cli").joinpath("page.html").read_bytes()
            return Answer(HTTPStatus.OK, page, "text/html; charset=utf-8")
        if path == f"{PREFIX}store.json":
            return Answer(HTTPStatus.OK, json.dumps(described(store)).encode(), "application/json")
        return rows(store, path.removeprefix(f"{PREFIX}level/")) if path.startswith(f"{PREFIX}level/") else None

    return Server(store._opened.tree.spec, host=host, port=port, extra=answer)


def rows(store: ZVStore, number: str) -> Answer:
    """Answer with the rows of a level; with a reason where it has none, or too many for a page."""
    try:
        if not (number.isdecimal() and number.isascii() and len(number) < 10):
            raise NotFoundError.among("level", number, store.levels)
        body = packed(store[int(number)])
    except NotFoundError as error:
        return Answer(HTTPStatus.NOT_FOUND, str(error).encode())
    except ZVError as error:  # the page shows it
        return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, str(error).encode())
    if body is None:
        reason = f"more than {MOST_VERTICES:,} vertices: too many for a page"
        return Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason.encode())
    return Answer(HTTPStatus.OK, body, "application/octet-stream")


def described(store: ZVStore) -> dict[str, Any]:
    """What the page needs to know of a store; names, units and bounds of world coordinates, filled to three."""
    world = store._opened.meta.world
    lo, hi = (np.pad(corner, (0, 3 - len(corner))).tolist() for corner in world.world_bounds(store.bounds))
    levels = [{"index": level.index, "vertices": level.vertex_count, "chunks": level.chunk_count} for level in store]
    missing = 3 - len(world.names)
    return {
        "url": store.url,
        "format": store.format_version,
        "geometry": ", ".join(store.geometry_types),
        "axes": [*world.names, *[""] * missing],
        "units": [*world.world_units, *[None] * missing],
        "lower": lo,
        "upper": hi,
        "levels": levels,
    }


def packed(level: ZVLevel) -> bytes | None:
    """Rows of a level for the page: counts N and E, then (N, 3) float32, then (E, 2) uint32, little-endian.

    Positions are in world coordinates, as `ZVStore.to_world` gives them; two axes have a third of 0.
    None where there are more vertices than a page can draw.
    """
    if (level.vertex_count or 0) > MOST_VERTICES:
        return None
    kinds = set(level.store.geometry_types)
    joins = level.faces if "mesh" in kinds else level.edges if kinds - {"point_cloud"} else None
    vertices, joined = dask.compute(level.vertices, joins)
    if len(vertices) > MOST_VERTICES:
        return None
    edges = np.empty((0, 2), np.int64) if joined is None else outlines(joined) if "mesh" in kinds else joined
    positions = level.store.to_world(vertices)
    positions = np.pad(positions, ((0, 0), (0, 3 - positions.shape[1])))
    counts = np.array([len(positions), len(edges)], "<u4")
    return counts.tobytes() + positions.astype("<f4").tobytes() + edges.astype("<u4").tobytes()
