"""``zvl serve`` and ``zvl view``: a store over HTTP, and the page that draws it."""

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.integrations.cli import options as given
from zarr_vectors_lazy.integrations.web.objects import Server
from zarr_vectors_lazy.integrations.web.view import ViewServer

Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Only say where the page is.")]


def register(app: typer.Typer) -> None:
    """Add the words."""
    app.command("serve")(serve)
    app.command("view")(view)


def serve(store: given.Store, host: Host = "127.0.0.1", port: Port = 0) -> None:
    """Serve a local store's objects over HTTP, byte ranges and other sites allowed, for viewers; Ctrl-C ends it."""
    folder = given.opened(store, "local", None).url
    run(Server(Path(folder), host=host, port=port))


def view(
    store: given.Store,
    host: Host = "127.0.0.1",
    port: Port = 0,
    no_browser: NoBrowser = False,
    backend: given.Backend = None,
    option: given.Options = None,
) -> None:
    """Open a page that draws a store level by level; a local store's objects are served too. Ctrl-C ends it."""
    opened = given.opened(store, backend, option)
    if not len(opened):
        raise SelectionError(f"{opened.url} has no levels to draw")
    server = ViewServer(opened, host=host, port=port)
    if not no_browser:
        webbrowser.open(server.url)
    run(server)


def run(server: Server) -> None:
    """Say where it is, and serve until it is stopped."""
    print(server.url, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    finally:
        server.server_close()
