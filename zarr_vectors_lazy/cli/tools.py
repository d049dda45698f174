"""Words for what is done to whole stores, and for the stores that the package ships."""

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from zarr_vectors_lazy import maintenance
from zarr_vectors_lazy.check.report import validate as validated
from zarr_vectors_lazy.cli import options as given
from zarr_vectors_lazy.cli.options import print_json, print_pairs
from zarr_vectors_lazy.cost import cors as cors_rules
from zarr_vectors_lazy.errors import NOTHING, FormatError, SelectionError
from zarr_vectors_lazy.examples import EXAMPLES
from zarr_vectors_lazy.examples import example as copied

Service = Annotated[
    Literal["s3", "gcs", "azure"], typer.Argument(metavar="SERVICE", help="s3, gcs or azure.", show_default=False)
]
Origins = Annotated[list[str] | None, typer.Option("--origin", help="Site that may read the bucket; by default any.")]
Shape = Annotated[str | None, typer.Option("--shape", metavar="N,N,N", help="Chunks along each axis in a shard.")]
Unpack = Annotated[bool, typer.Option("--unpack", help="Take cells out of shards again.")]
Example = Annotated[
    str | None, typer.Argument(metavar="NAME", help="Which one; by default all are listed.", show_default=False)
]
Target = Annotated[
    str | None, typer.Argument(metavar="STORE", help="Path of the copy; by default in your cache.", show_default=False)
]
StoragePrice = Annotated[float, typer.Option("--storage", metavar="PRICE", help="Price of a GB for a month.")]
PutPrice = Annotated[float, typer.Option("--put", metavar="PRICE", help="Price of 1000 requests that write.")]
GetPrice = Annotated[float, typer.Option("--get", metavar="PRICE", help="Price of 1000 requests that read.")]
OutPrice = Annotated[float, typer.Option("--transfer", metavar="PRICE", help="Price of a GB that leaves the store.")]
Currency = Annotated[str, typer.Option("--currency", metavar="NAME", help="Currency of the prices.")]


def consolidate(store: given.Store, *, place: given.Place) -> None:
    """Write all metadata into the root. One request then opens the store."""
    with given.leaving(f"{store} is either unchanged or finished; run the command again to be sure"):
        maintenance.consolidate(store, **place.keywords())
    given.say(f"{store} can now be opened with one request", error=True)


def index(store: given.Store, *, place: given.Place, json: given.AsJson = False) -> None:
    """Store the vertex count of every chunk. Opening then shows it."""
    with given.leaving(f"{store} opens as before, perhaps with the counts of some levels; run this again to finish"):
        counts = maintenance.index(store, **place.keywords())
    given.tell_counts(counts, json)


def shard(
    store: given.Store,
    *,
    shape: Shape = None,
    unpack: Unpack = False,
    place: given.Place,
    run: given.Run,
    json: given.AsJson = False,
) -> None:
    """Put the cells of every array into shards, in place. Fewer files, the same bytes."""
    if (shape is None) != unpack:
        raise SelectionError("give --shape N, or one number for each axis, or --unpack")
    left = f"{store} is intact, with the cells of some arrays in shards; run the command again to finish"
    with given.leaving(left, run.computing()):
        done = maintenance.shard(store, shard_shape=given.shard_shape(shape, "--shape"), **place.keywords())
    given.tell(done, json, *(f"{array}: {given.counted(objects, 'object')}" for array, objects in done.items()))


def validate(store: given.Store, *, place: given.Place, run: given.Run, json: given.AsJson = False) -> None:
    """Check a whole store. The exit code is 1 if it contradicts its format."""
    with run.computing():
        report = validated(store, **place.keywords())
    if report.errors and report.errors[0].message.startswith(NOTHING):  # no store that something is wrong with
        raise FormatError(report.errors[0].message, where=report.url)
    if json:
        print_json({"url": report.url, "ok": report.ok, "findings": [asdict(one) for one in report.findings]})
    else:
        given.say(report)
    raise typer.Exit(0 if report.ok else 1)


def cost(
    store: given.Store,
    *,
    storage: StoragePrice = 0.023,
    put: PutPrice = 0.005,
    get: GetPrice = 0.0004,
    transfer: OutPrice = 0.09,
    currency: Currency = "USD",
    place: given.Place,
    json: given.AsJson = False,
) -> None:
    """Count objects and bytes, and price them. The default prices are list prices of S3."""
    prices = {"storage": storage, "put": put, "get": get, "transfer": transfer}
    found = place.open(store).cost(**prices, currency=currency)
    if json:
        totals = {name: getattr(found, name) for name in ("url", "objects", "nbytes", "month", "write", "read")}
        print_json(totals | {"currency": currency} | {"rows": [asdict(row) for row in found.rows]})
    else:
        given.say(found)


def cors(service: Service, origin: Origins = None) -> None:
    """Print rules that let a browser read a bucket. They are JSON for the service's own tool."""
    print_json(cors_rules(service, origins=origin or ("*",)))
    given.say("the bucket must also let anybody read and list it: viewers cannot find attributes otherwise", error=True)


def example(name: Example = None, store: Target = None) -> None:
    """Copy one of the example stores. They are small, real, and come with the package."""
    if name is None:
        print_pairs(EXAMPLES)
    else:
        given.say(copied(name, store))
