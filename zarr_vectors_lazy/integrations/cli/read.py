"""``zvl read``: a level or a selection into a file."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from zarr_vectors_lazy.integrations.cli import options as given
from zarr_vectors_lazy.integrations.cli.output import print_json
from zarr_vectors_lazy.integrations.formats.save import SAVERS, save

Out = Annotated[Path, typer.Argument(metavar="OUT", help=f"File to write: {', '.join(SAVERS)}.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the word."""
    app.command("read")(read)


def read(
    store: given.Store,
    out: Out,
    level: given.Level = None,
    resolution: given.Resolution = None,
    bbox: given.Box = None,
    objects: given.Objects = None,
    group: given.Groups = None,
    where: given.Where = None,
    whole_objects: given.Whole = False,
    backend: given.Backend = None,
    option: given.Options = None,
    scheduler: given.Scheduler = None,
    client: given.Client = None,
    json: given.AsJson = False,
) -> None:
    """Write a level, or what is selected of it, to a file whose suffix says the format."""
    part = given.selected(
        given.opened(store, backend, option),
        level=level,
        resolution=resolution,
        bbox=bbox,
        objects=objects,
        groups=group,
        where=where,
        whole_objects=whole_objects,
    )
    with given.computing(scheduler, client):
        count = save(part, out)
    if json:
        print_json({"path": out, "level": part.index, "vertices": count, "bytes": out.stat().st_size})
    else:
        print(f"{out}: {count:,} vertices of level {part.index}, {out.stat().st_size:,} bytes", file=sys.stderr)
