"""``zvl serve`` and ``zvl view``: a store over HTTP, and the page that draws it."""

import sys
import webbrowser
from typing import Annotated

import typer

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.integrations.cli import options as given
from zarr_vectors_lazy.integrations.web.server import Server
from zarr_vectors_lazy.integrations.web.view import view_server

Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Only say where the page is.")]


def register(app: typer.Typer) -> None:
    """Add the words."""
    app.command("serve")(serve)
    app.command("view")(view)


def serve(
    store: given.Store,
    host: Host = "127.0.0.1",
    port: Port = 0,
    public: Annotated[bool, typer.Option("--public", help="No token in the address.")] = False,
    backend: given.Backend = None,
    option: given.Options = None,
) -> None:
    """Serve a store's objects over HTTP, for viewers. Byte ranges and other sites are allowed; Ctrl-C ends it."""
    opened = given.opened(store, backend, option)
    run(Server(opened._opened.tree.spec, host=host, port=port, public=public))


def view(
    store: given.Store,
    host: Host = "127.0.0.1",
    port: Port = 0,
    no_browser: NoBrowser = False,
    backend: given.Backend = None,
    option: given.Options = None,
) -> None:
    """Open a page that draws a store level by level. A local store's objects are served too; Ctrl-C ends it."""
    opened = given.opened(store, backend, option)
    if not len(opened):
        raise SelectionError(f"{opened.url} has no levels to draw")
    server = view_server(opened, host=host, port=port)
    if not no_browser:
        webbrowser.open(f"{server.url}/")
    run(server)


def run(server: Server) -> None:
    """Say where it is, and serve until Ctrl-C."""
    print(server.url, flush=True)
    server.serve_forever()
    print("stopped", file=sys.stderr)
