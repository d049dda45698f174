"""``zvl serve`` and ``zvl view``: a store over HTTP, and the page that draws it."""

import json
import webbrowser
from collections.abc import Callable, Mapping
from http import HTTPStatus
from importlib.resources import files
from typing import Annotated, Any, Literal

import numpy as np
import typer

from zarr_vectors_lazy.cli import options as given
from zarr_vectors_lazy.convert.plot import color_names, read_drawing, read_shade
from zarr_vectors_lazy.convert.precomputed_level import PrecomputedLevel
from zarr_vectors_lazy.cost import cors as cors_rules
from zarr_vectors_lazy.errors import NotFoundError, SelectionError, ZVError
from zarr_vectors_lazy.level import ZVLevel
from zarr_vectors_lazy.store import ZVStore
from zarr_vectors_lazy.web.neuroglancer import FOLDER, Precomputed, shown_level, source_url, state_link
from zarr_vectors_lazy.web.server import Answer, Server

# The page that draws a store level by level; the server decodes rows and sends them uncompressed.

MOST_VERTICES = 3_000_000
PREFIX = "view/"


def view_server(store: ZVStore, *, host: str = "127.0.0.1", port: int = 0) -> Server:
    """Server of the page, and of a store's levels as rows, which pages of other sites cannot get; also serves objects.

    Parameters
    ----------
    store
        What is drawn.
    host, port
        Where it listens; port 0 picks a free one.
    """

    def answer(path: str) -> Answer | None:
        if path == "":
            page = files("zarr_vectors_lazy.cli").joinpath("page.html").read_bytes()
            return Answer(HTTPStatus.OK, page, "text/html; charset=utf-8")
        if path == f"{PREFIX}store.json":
            return Answer(HTTPStatus.OK, json.dumps(described(store)).encode(), "application/json")
        if path.startswith(f"{PREFIX}level/"):
            return answered(lambda: packed(asked_level(store, path.removeprefix(f"{PREFIX}level/"))))
        if path.startswith(f"{PREFIX}color/"):
            number, _, color = path.removeprefix(f"{PREFIX}color/").partition("/")
            return answered(lambda: packed_shade(asked_level(store, number), color))
        return None

    return Server(store._opened.tree.spec, host=host, port=port, extra=answer)


def answered(make: Callable[[], bytes | None]) -> Answer:
    """Answer with something made from a level; with a reason if that fails, or if a page cannot show so many rows."""
    try:
        body = make()
    except NotFoundError as error:
        return Answer(HTTPStatus.NOT_FOUND, str(error).encode())
    except ZVError as error:  # the page displays it
        return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, str(error).encode())
    if body is None:
        reason = f"more than {MOST_VERTICES:,} vertices: too many for a page"
        return Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason.encode())
    return Answer(HTTPStatus.OK, body, "application/octet-stream")


def asked_level(store: ZVStore, number: str) -> ZVLevel:
    """Return the level that a path names."""
    if not (number.isdecimal() and number.isascii() and len(number) < 10):
        raise NotFoundError.among("level", number, store.levels)
    return store[int(number)]


def described(store: ZVStore) -> dict[str, Any]:
    """What the page needs to know about a store; names, units and bounds of world coordinates, padded to three axes."""
    world = store._opened.meta.world
    lo, hi = (np.pad(corner, (0, 3 - len(corner))).tolist() for corner in world.world_bounds(store.bounds))
    levels = []
    for level in store:
        size, colors = float(level.bin_shape.max()), color_names(level._view)
        levels.append({"index": level.index, "vertices": level.vertex_count, "bin": size, "colors": colors})
    missing = 3 - len(world.names)
    about: dict[str, Any] = {
        "url": store.url,
        "format": store.format_version,
        "geometry": ", ".join(store.geometry_types),
    }
    about |= {"axes": [*world.names, *[""] * missing], "units": [*world.world_units, *[None] * missing]}
    return about | {"lower": lo, "upper": hi, "most": MOST_VERTICES, "levels": levels}


def packed(level: ZVLevel) -> bytes | None:
    """Rows of a level for the page: counts N and E, then (N, 3) float32, then (E, 2) uint32, little-endian.

    Positions are world coordinates relative to the middle of the store, so that float32 holds them; a missing third
    axis is 0. An edge begins with the vertex that has its colour. None if the page cannot draw so many vertices.
    """
    if (level.vertex_count or 0) > MOST_VERTICES:
        return None
    drawing = read_drawing(level._view, None)
    if len(drawing.positions) > MOST_VERTICES:
        return None
    world = level._view.data.store.world
    positions = drawing.positions[:, : len(world.names)] - np.mean(world.world_bounds(level.store.bounds), axis=0)
    positions = np.pad(positions, ((0, 0), (0, 3 - positions.shape[1])))
    counts = np.array([len(positions), len(drawing.segments)], "<u4")
    return counts.tobytes() + positions.astype("<f4").tobytes() + drawing.segments.astype("<u4").tobytes()


def packed_shade(level: ZVLevel, color: str) -> bytes:
    """Colour values of the rows: length of a JSON text, uint32, the text, then (N,) float32, little-endian.

    Numbers are quantities, or indices into ``labels``; NaN means no value. If ``true``, (N, 4) bytes are the colours.
    """
    shade = read_shade(level._view, color)
    about = {"name": shade.name, "labels": shade.labels, "dates": shade.dates, "true": shade.true}
    text = json.dumps(about).encode()
    text += b" " * (-len(text) % 4)
    values = np.rint(shade.values * 255).astype(np.uint8) if shade.true else shade.values.astype("<f4")
    return len(text).to_bytes(4, "little") + text + values.tobytes()


# ``zvl serve`` and ``zvl view``: a store over HTTP, and the page that draws it.

Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 admits other machines.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Only print the address of the page.")]

Service = Annotated[
    Literal["s3", "gcs", "azure"], typer.Argument(metavar="SERVICE", help="s3, gcs or azure.", show_default=False)
]
Origins = Annotated[list[str] | None, typer.Option("--origin", help="Site that may read the bucket; by default any.")]


def serve(
    store: given.Store,
    *,
    host: Host = "127.0.0.1",
    port: Port = 0,
    public: Annotated[bool, typer.Option("--public", help="Leave the token out of the address.")] = False,
    place: given.Place,
) -> None:
    """Serve a store over HTTP to viewers. They get its files, and sources for Neuroglancer; Ctrl-C stops it."""
    opened = place.open(store)
    levels = {level.index: PrecomputedLevel(level._view) for level in opened}
    views = {FOLDER: Precomputed(levels)}
    server = Server(opened._opened.tree.spec, host=host, port=port, public=public, views=views)
    given.say(server.url)
    given.say(f"raw cells: {server.url}/raw/")
    say_links(levels, server.url)
    run(server)


def say_links(levels: Mapping[int, PrecomputedLevel], url: str) -> None:
    """Print what Neuroglancer needs: a link that shows a level, and the sources of every level."""
    shown = shown_level(levels)
    if shown is None:
        return
    try:
        lines = [f"\nNeuroglancer, level {shown.index}: {state_link(shown, url)}"]
        kinds = [(index, kind) for index, level in levels.items() for kind in level.kinds]
        lines += [f"level {index}, {kind}: {source_url(url, index, kind)}" for index, kind in kinds]
    except ZVError as error:  # objects are served anyway
        given.say(f"zvl: warning: there is nothing to show in Neuroglancer: {error}", error=True)
        return
    given.say("\n".join(lines))
    if shown.unitless:
        given.say("the store states no unit of length: 1 is shown as 1 nm", error=True)


def view(
    store: given.Store, *, host: Host = "127.0.0.1", port: Port = 0, no_browser: NoBrowser = False, place: given.Place
) -> None:
    """Open a page that draws a store level by level. Ctrl-C stops it."""
    opened = place.open(store)
    if not len(opened):
        raise SelectionError(f"{opened.url} has no levels to draw")
    server = view_server(opened, host=host, port=port)
    if not no_browser:
        webbrowser.open(f"{server.url}/")
    given.say(server.url)
    run(server)


def run(server: Server) -> None:
    """Serve until Ctrl-C."""
    server.serve_forever()
    given.say("stopped", error=True)


def cors(service: Service, origin: Origins = None) -> None:
    """Print rules that let a browser read a bucket. They are JSON for the service's own tool."""
    given.print_json(cors_rules(service, origins=origin or ("*",)))
    given.say("the bucket must also let anybody read and list it: viewers cannot find attributes otherwise", error=True)
