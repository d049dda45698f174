"""``zvl serve`` and ``zvl view``: a store over HTTP, and the page that draws it."""

import webbrowser
from collections.abc import Mapping
from typing import Annotated

import typer

from zarr_vectors_lazy.cli import options as given
from zarr_vectors_lazy.cli.page import view_server
from zarr_vectors_lazy.convert.neuroglancer import FOLDER, shown_level, source_url, state_link
from zarr_vectors_lazy.convert.precomputed_level import PrecomputedLevel
from zarr_vectors_lazy.errors import SelectionError, ZVError
from zarr_vectors_lazy.web.precomputed import Precomputed
from zarr_vectors_lazy.web.server import Server

Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Only say where the page is.")]


def serve(
    store: given.Store,
    *,
    host: Host = "127.0.0.1",
    port: Port = 0,
    public: Annotated[bool, typer.Option("--public", help="No token in the address.")] = False,
    place: given.Place,
) -> None:
    """Serve a store over HTTP, for viewers. Served are its objects, and what Neuroglancer draws; Ctrl-C ends it."""
    opened = place.open(store)
    levels = {level.index: PrecomputedLevel(level._view) for level in opened}
    views = {FOLDER: Precomputed(levels)}
    server = Server(opened._opened.tree.spec, host=host, port=port, public=public, views=views)
    given.say(server.url)
    given.say(f"raw cells: {server.url}/raw/")
    say_links(levels, server.url)
    server.serve_forever()
    given.say("stopped", error=True)


def say_links(levels: Mapping[int, PrecomputedLevel], url: str) -> None:
    """Print what Neuroglancer is given: a link that shows a level, and the sources of every level."""
    shown = shown_level(levels)
    if shown is None:
        return
    try:
        lines = [f"\nNeuroglancer, level {shown.index}: {state_link(shown, url)}"]
        lines += [
            f"level {index}, {kind}: {source_url(url, index, kind)}"
            for index, level in levels.items()
            for kind in level.kinds
        ]
    except ZVError as error:  # the objects are served all the same
        given.say(f"zvl: warning: nothing for Neuroglancer: {error}", error=True)
        return
    given.say("\n".join(lines))
    if shown.unitless:
        given.say("the store states no unit of length: 1 is shown as 1 nm", error=True)


def view(
    store: given.Store,
    *,
    host: Host = "127.0.0.1",
    port: Port = 0,
    no_browser: NoBrowser = False,
    place: given.Place,
) -> None:
    """Open a page that draws a store level by level. A local store's objects are served too; Ctrl-C ends it."""
    opened = place.open(store)
    if not len(opened):
        raise SelectionError(f"{opened.url} has no levels to draw")
    server = view_server(opened, host=host, port=port)
    if not no_browser:
        webbrowser.open(f"{server.url}/")
    run(server)


def run(server: Server) -> None:
    """Say where it is, and serve until Ctrl-C."""
    given.say(server.url)
    server.serve_forever()
    given.say("stopped", error=True)
