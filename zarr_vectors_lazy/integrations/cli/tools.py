"""Words for what is done to whole stores."""

import sys

import typer

from zarr_vectors_lazy.api import tools
from zarr_vectors_lazy.integrations.cli import options as given


def register(app: typer.Typer) -> None:
    """Add the words."""
    app.command("consolidate")(consolidate)


def consolidate(store: given.Store, backend: given.Backend = None, option: given.Options = None) -> None:
    """Write the metadata of all nodes into the root, so that one request opens the store."""
    tools.consolidate(store, backend=backend, storage_options=given.storage_options(option))
    print(f"{store}: one request opens it now", file=sys.stderr)
