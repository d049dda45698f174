"""Words for what is done to whole stores, and for the stores that the package ships."""

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from zarr_vectors_lazy.api import tools
from zarr_vectors_lazy.api.cors import cors as cors_rules
from zarr_vectors_lazy.api.validate import validate as validated
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.examples import EXAMPLES
from zarr_vectors_lazy.examples import example as copied
from zarr_vectors_lazy.integrations.cli import options as given
from zarr_vectors_lazy.integrations.cli.output import print_json, print_pairs

Service = Annotated[str, typer.Argument(metavar="SERVICE", help="s3, gcs or azure.", show_default=False)]
Origins = Annotated[list[str] | None, typer.Option("--origin", help="Site that may read; by default any.")]
Shape = Annotated[str | None, typer.Option("--shape", metavar="N,N,N", help="Chunks along each axis in a shard.")]
Unpack = Annotated[bool, typer.Option("--unpack", help="An object for each cell again.")]
Example = Annotated[str | None, typer.Argument(metavar="NAME", help="Which; else all are listed.", show_default=False)]
Target = Annotated[
    str | None, typer.Argument(metavar="STORE", help="Path of the copy; else in the user's cache.", show_default=False)
]
Price = Annotated[float, typer.Option(help="Price, in a currency of your own.")]


def register(app: typer.Typer) -> None:
    """Add the words."""
    for word in (validate, cost, cors, index, consolidate, shard, example):
        app.command(word.__name__)(word)


def consolidate(store: given.Store, backend: given.Backend = None, option: given.Options = None) -> None:
    """Write the metadata of all nodes into the root, so that one request opens the store."""
    tools.consolidate(store, backend=backend, storage_options=given.storage_options(option))
    print(f"{store}: one request opens it now", file=sys.stderr)


def index(
    store: given.Store, backend: given.Backend = None, option: given.Options = None, json: given.AsJson = False
) -> None:
    """Count the vertices of every chunk and stamp the counts into the store, so that every open knows them."""
    counts = tools.index(store, backend=backend, storage_options=given.storage_options(option))
    if json:
        print_json(counts)
    else:
        for level, count in counts.items():
            print(f"level {level}: {count:,} vertices", file=sys.stderr)


def shard(
    store: given.Store,
    shape: Shape = None,
    unpack: Unpack = False,
    backend: given.Backend = None,
    option: given.Options = None,
    scheduler: given.Scheduler = None,
    client: given.Client = None,
    json: given.AsJson = False,
) -> None:
    """Put the cells of every array together into shards, in place: fewer objects, the same bytes."""
    if (shape is None) != unpack:
        raise SelectionError("give --shape N, or one number for each axis, or --unpack")
    sizes = None if shape is None else [whole(part) for part in shape.split(",")]
    with given.computing(scheduler, client):
        done = tools.shard(
            store,
            shard_shape=sizes[0] if sizes is not None and len(sizes) == 1 else sizes,
            backend=backend,
            storage_options=given.storage_options(option),
        )
    if json:
        print_json(done)
    else:
        for array, objects in done.items():
            print(f"{array}: {objects:,} objects", file=sys.stderr)


def whole(text: str) -> int:
    """Whole number of the command line."""
    if not text.strip().isdigit():
        raise SelectionError(f"--shape is whole numbers, found {text!r}")
    return int(text)


def validate(
    store: given.Store,
    backend: given.Backend = None,
    option: given.Options = None,
    scheduler: given.Scheduler = None,
    client: given.Client = None,
    json: given.AsJson = False,
) -> None:
    """Check a whole store; exit 1 where it contradicts the format."""
    with given.computing(scheduler, client):
        report = validated(store, backend=backend, storage_options=given.storage_options(option))
    if json:
        print_json({"url": report.url, "ok": report.ok, "findings": [asdict(one) for one in report.findings]})
    else:
        print(report)
    raise typer.Exit(0 if report.ok else 1)


def cost(
    store: given.Store,
    storage: Price = 0.023,
    put: Price = 0.005,
    get: Price = 0.0004,
    transfer: Price = 0.09,
    backend: given.Backend = None,
    option: given.Options = None,
    json: given.AsJson = False,
) -> None:
    """Count objects and bytes, and price them: a GB and month, 1000 puts and gets, a GB transferred."""
    found = given.opened(store, backend, option).cost(storage=storage, put=put, get=get, transfer=transfer)
    if json:
        totals = {name: getattr(found, name) for name in ("url", "objects", "nbytes", "month", "write", "read")}
        print_json(totals | {"rows": [asdict(row) for row in found.rows]})
    else:
        print(found)


def cors(service: Service, origin: Origins = None) -> None:
    """Print the configuration that lets viewers in a browser read a bucket, as JSON for the service's own tool."""
    print_json(cors_rules(service, origins=origin or ("*",)))  # type: ignore[arg-type]  # it names the services


def example(name: Example = None, store: Target = None) -> None:
    """Copy a small real store that comes with the package, and print where it is; without a name, list them."""
    if name is None:
        print_pairs(EXAMPLES)
    else:
        print(copied(name, store))
