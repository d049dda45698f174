"""Arguments that several words of ``zvl`` share, and what they become."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import dask
import typer

from zarr_vectors_lazy.api.level import ZVLevel
from zarr_vectors_lazy.api.store import ZVStore, open_zv
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.integrations.cli.output import task_bar

Store = Annotated[str, typer.Argument(metavar="STORE", help="URL or path of a store.", show_default=False)]
Backend = Annotated[str | None, typer.Option("--backend", help="obstore, fsspec or local.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", metavar="KEY=VALUE", help="Option of the storage backend; may be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Level = Annotated[int | None, typer.Option("--level", "-l", help="Level; by default the finest.")]
Resolution = Annotated[
    float | None, typer.Option("--resolution", "-r", help="The coarsest level whose bins are no larger than this.")
]
Box = Annotated[
    str | None,
    typer.Option("--bbox", "-b", metavar="LO,LO,LO,HI,HI,HI", help="Box, both faces inclusive; as -b=-1,0,0,... too."),
]
Objects = Annotated[list[int] | None, typer.Option("--object", help="Object id; may be repeated.")]
Groups = Annotated[list[str] | None, typer.Option("--group", help="Group, by name or id; may be repeated.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="NAME=LO:HI", help="Range of an attribute, inclusive; an end may be left out."),
]
Whole = Annotated[bool, typer.Option("--whole-objects", help="All of every object with a vertex in the box.")]
Scheduler = Annotated[str | None, typer.Option("--scheduler", help="Dask's threads, processes or sync.")]
Client = Annotated[str | None, typer.Option("--client", metavar="ADDRESS", help="Dask cluster to compute on.")]


def opened(store: str, backend: str | None, options: Sequence[str] | None, chunks: Any = None) -> ZVStore:
    """Open what the command line names."""
    return open_zv(store, backend=backend, storage_options=storage_options(options), chunks=chunks)


def storage_options(options: Sequence[str] | None) -> dict[str, Any]:
    """Mapping of ``KEY=VALUE``; a value that is JSON (true, 3, {...}) is taken as such."""
    found: dict[str, Any] = {}
    for option in options or ():
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise SelectionError(f"an option is KEY=VALUE, found {option.partition('=')[0]!r}")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value
    return found


def selected(
    store: ZVStore,
    *,
    level: int | None = None,
    resolution: float | None = None,
    bbox: str | None = None,
    objects: Sequence[int] | None = None,
    groups: Sequence[str] | None = None,
    where: Sequence[str] | None = None,
    whole_objects: bool = False,
) -> ZVLevel:
    """Select what the command line describes."""
    chosen = store.query(resolution=resolution, level=level)
    box = None if bbox is None else parse_corners(bbox, store.ndim)
    if box is None and not (objects or groups or where or whole_objects):
        return chosen
    named = [int(group) if group.lstrip("-").isdigit() else group for group in groups or ()]
    return chosen.sel(
        box,
        objects=list(objects) if objects else None,
        groups=named or None,
        where=dict(map(parse_range, where)) if where else None,
        whole_objects=whole_objects,
    )


def parse_corners(text: str, ndim: int) -> tuple[list[float], list[float]]:
    """(lo, hi) of ``"0,0,0,10,10,10"``."""
    try:
        numbers = [float(number) for number in text.replace(":", ",").split(",")]
    except ValueError as error:
        raise SelectionError(f"--bbox is {2 * ndim} numbers, found {text!r}") from error
    if len(numbers) != 2 * ndim:
        raise SelectionError(f"--bbox is {2 * ndim} numbers, lower corner first, found {len(numbers)}: {text!r}")
    return numbers[:ndim], numbers[ndim:]


def parse_range(text: str) -> tuple[str, tuple[float | None, float | None]]:
    """Name and (lo, hi) of ``"intensity=3:7"``."""
    name, equals, ends = text.partition("=")
    lo, colon, hi = ends.partition(":")
    if not equals or not colon:
        raise SelectionError(f"--where is NAME=LO:HI, found {text!r}")
    try:
        return name, (float(lo) if lo else None, float(hi) if hi else None)
    except ValueError as error:
        raise SelectionError(f"--where is NAME=LO:HI with numbers, found {text!r}") from error


@contextmanager
def computing(scheduler: str | None, client: str | None) -> Iterator[None]:
    """Compute on a scheduler or a cluster, with a bar of the tasks on a terminal."""
    if client is not None:
        try:
            from distributed import Client as Cluster  # noqa: PLC0415  optional
        except ImportError as error:
            raise ImportError("--client needs: pip install 'zarr-vectors-lazy[distributed]'") from error
        try:
            connected = Cluster(client, timeout="20s")
        except (OSError, ValueError) as error:
            raise SelectionError(f"no Dask cluster answers at {client!r}: {error}") from error
        with connected:
            yield
        return
    if scheduler not in {None, "threads", "processes", "sync"}:
        raise SelectionError(f"--scheduler is threads, processes or sync, found {scheduler!r}")
    with dask.config.set({"scheduler": scheduler} if scheduler else {}), task_bar():
        yield
