"""Arguments that several commands of ``zvl`` share, and printing."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, Literal, cast

import dask
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from zarr_vectors_lazy.cli import Stopped
from zarr_vectors_lazy.errors import (
    NOTHING,
    FormatError,
    SelectionError,
    StoreError,
    counted,
    in_line,
    optional,
    printable,
)
from zarr_vectors_lazy.level import ZVLevel
from zarr_vectors_lazy.objects import value_dtype
from zarr_vectors_lazy.progress import Bar, request_bar, task_bar
from zarr_vectors_lazy.store import ZVStore, open_zv

# What ``zvl`` prints: tables and JSON on standard output, bars on standard error.


def console(least: int) -> Console:
    """Standard output; plain if it is not a terminal, and then at least ``least`` wide unless COLUMNS is set."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(highlight=False, markup=False, emoji=False, width=max(80, least) if piped else None)


def print_json(value: Any) -> None:
    """Print a value as JSON, arrays as lists."""
    text = json.dumps(value, indent=2, default=_plain, ensure_ascii=False)
    shown = (letter if letter.isprintable() or letter == "\n" else json.dumps(letter)[1:-1] for letter in text)
    say(text if text.isprintable() else "".join(shown))


def say(text: object = "", *, error: bool = False) -> None:
    """Print text that may contain names, control characters made visible; on standard error if it is no result."""
    print(printable(str(text)), file=sys.stderr if error else None, flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def print_pairs(pairs: Mapping[str, Any]) -> None:
    """Print names and values, one per line; further lines of a value are printed below its first."""
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        say(f"{name:<{width}}  {value}".replace("\n", f"\n{'':{width}}  "))


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int]) -> None:
    """Print a table, the columns ``right`` aligned right; a last column that is too wide is wrapped."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number in right else "left", no_wrap=number < len(head) - 1)
    least = [len(name) for name in head]
    for row in rows:
        cells = [in_line(cell) for cell in row]
        table.add_row(*cells)
        words = [max(map(len, cell.split()), default=0) for cell in cells[-1:]]
        least = [max(pair) for pair in zip(least, [*map(len, cells[:-1]), *words], strict=True)]
    console(sum(least) + 2 * len(least)).print(table)


# Arguments that several commands of ``zvl`` share, and what they become.

Store = Annotated[str, typer.Argument(metavar="STORE", help="URL or path of a store.", show_default=False)]
Backend = Annotated[
    Literal["obstore", "fsspec", "local"] | None, typer.Option("--backend", help="By default one that suits the URL.")
]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", metavar="KEY=VALUE", help="Option of the storage backend; may be repeated."),
]
NewOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--new-option",
        metavar="KEY=VALUE",
        help="Option of the new store's backend; by default those of -o, if both URLs are of the same kind.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Level = Annotated[int | None, typer.Option("--level", "-l", help="Number of the level; by default the finest.")]
Resolution = Annotated[
    float | None, typer.Option("--resolution", "-r", help="The coarsest level whose bins are no larger than this.")
]
Box = Annotated[
    str | None,
    typer.Option(
        "--bbox", "-b", metavar="LO,LO,LO,HI,HI,HI", help="Box: lower, then upper corner; or LO:HI,LO:HI,LO:HI."
    ),
]
Objects = Annotated[list[str] | None, typer.Option("--object", metavar="ID,ID", help="Object ids; may be repeated.")]
Groups = Annotated[list[str] | None, typer.Option("--group", help="Group, by name or id; may be repeated.")]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="NAME=LO:HI",
        help="Values of an attribute: a range, both ends included (LO: or :HI leaves one open), NAME=VALUE, "
        "NAME=VALUE,VALUE, NAME=null for missing values; a value with a comma or colon as JSON: "
        """'NAME=["a,b"]'. May be repeated.""",
    ),
]
Whole = Annotated[bool, typer.Option("--whole-objects", help="Keep every object with a vertex in the box, in full.")]
Columns = Annotated[str | None, typer.Option("--columns", metavar="A,B", help="Attributes to write; by default all.")]
Triangulate = Annotated[bool, typer.Option("--triangulate", help="Cut larger faces into triangles.")]
Like = Annotated[str | None, typer.Option("--like", metavar="FILE", help="Tractogram whose image space to use.")]
Reference = Annotated[str | None, typer.Option("--reference", metavar="IMAGE", help="Image whose space to use.")]
Scheduler = Annotated[
    Literal["threads", "processes", "sync"] | None,
    typer.Option("--scheduler", help="Dask's scheduler; by default threads."),
]
Client = Annotated[str | None, typer.Option("--client", metavar="ADDRESS", help="Dask cluster to compute on.")]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Options for reaching a store."""

    backend: Backend = None
    option: Options = None

    def keywords(self) -> dict[str, Any]:
        """The options as keywords of functions on stores."""
        return {"backend": self.backend, "storage_options": storage_options(self.option)}

    def open(self, store: str) -> ZVStore:
        """Open the store that the command line names."""
        return open_zv(store, **self.keywords())


@dataclass(frozen=True, kw_only=True)
class NewPlace(Place):
    """The same for a new store, with its chunks and encoding."""

    new_option: NewOptions = None

    def new(self, old: str, new: str) -> dict[str, Any]:
        """Backend and options of the new store: its own, or those of the old one if both URLs have the same scheme."""
        if self.new_option:
            return {"storage_options": storage_options(self.new_option)}
        here, there = (url.partition("://")[0] if "://" in url else "" for url in (old, new))
        return self.keywords() if here == there else {}


@dataclass(frozen=True, kw_only=True)
class Run:
    """Options for computing."""

    scheduler: Scheduler = None
    client: Client = None

    @contextmanager
    def computing(self, requests: Callable[[], int | None] = lambda: None) -> Iterator[None]:
        """Compute on a scheduler or a cluster, with one bar on a terminal: of requests if their number is given."""
        if self.client is not None:
            with _cluster(self.client):
                yield
            return
        with dask.config.set({"scheduler": self.scheduler} if self.scheduler else {}):
            if not sys.stderr.isatty():
                yield
            elif total := requests():
                with request_bar(Bar("reading, requests", total, fleeting=True)):
                    yield
            else:
                with task_bar(Bar("computing, tasks", fleeting=True)):
                    yield

    def writing(self, store: str, **options: Any) -> AbstractContextManager[None]:
        """Compute a new store; an interruption reports what it left behind."""
        return leaving(new_store(store, **options), self.computing())


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Options for selecting."""

    level: Level = None
    resolution: Resolution = None
    bbox: Box = None
    objects: Objects = None
    group: Groups = None
    where: Where = None
    whole_objects: Whole = False

    def of(self, store: ZVStore) -> ZVLevel:
        """Select what the command line describes."""
        chosen = store.query(resolution=self.resolution, level=self.level)
        box = None if self.bbox is None else parse_corners(self.bbox, store.ndim)
        if box is None and not (self.objects or self.group or self.where or self.whole_objects):
            return chosen
        groups = [int(group) if group.lstrip("-").isdigit() else group for group in self.group or ()] or None
        part = chosen.sel(box, objects=object_ids(self.objects), groups=groups, whole_objects=self.whole_objects)
        for text in self.where or ():
            wanted = parse_where(part, text)
            try:
                part = part.sel(where=wanted)
            except SelectionError as error:
                said = error.message.partition("}: ")[2] or error.message
                raise SelectionError(f"--where {text}: {said.replace('use None', 'use null')}") from error
        return part


def with_options(word: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the groups among its parameters, in place of each group."""
    parameters: list[Parameter] = []
    groups: dict[str, type[Any]] = {}
    for one in signature(word).parameters.values():
        if is_dataclass(one.annotation):
            groups[one.name] = cast("type[Any]", one.annotation)
            every = [(option.name, option.default, option.type) for option in fields(one.annotation)]
        else:
            every = [(one.name, one.default, one.annotation)]
        parameters += [
            Parameter(name, Parameter.KEYWORD_ONLY, default=given, annotation=of) for name, given, of in every
        ]

    @wraps(word)
    def run(**given: Any) -> None:
        made = {
            name: group(**{one.name: given.pop(one.name) for one in fields(group)}) for name, group in groups.items()
        }
        word(**given, **made)

    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def shard_shape(text: str | None) -> int | list[int] | None:
    """Chunks of a shard, from ``"4"`` or ``"4,4,1"``."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise SelectionError(f"--shape must be whole numbers, found {text!r}")
    return int(parts[0]) if len(parts) == 1 else list(map(int, parts))


def storage_options(options: Sequence[str] | None) -> dict[str, Any]:
    """Mapping from ``KEY=VALUE``; a value that is JSON (true, 3, {...}) is parsed."""
    found: dict[str, Any] = {}
    for option in options or ():
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise SelectionError(f"an option must be KEY=VALUE, found {option.partition('=')[0]!r}")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value
    return found


@contextmanager
def leaving(left: str | Callable[[], str], within: AbstractContextManager[None] | None = None) -> Iterator[None]:
    """Let an interruption report what it left behind; ``left`` is called then."""
    try:
        with within or nullcontext():
            yield
    except KeyboardInterrupt as stop:  # which typer would turn into an exit code without a message
        raise Stopped(left if isinstance(left, str) else left()) from stop


def new_store(store: str, **options: Any) -> Callable[[], str]:
    """Report what an interrupted write of a new store left in its place."""

    def left() -> str:
        try:
            levels = open_zv(store, **options).levels
        except FormatError as error:
            if error.message.startswith(NOTHING):
                return f"nothing was written to {store}"
            return f"{store} is unfinished and cannot be opened: run the command again with --overwrite, or delete it"
        except StoreError as error:
            return f"it is not known what was written to {store}: {error}"
        return f"{store} opens, with level{'s' * (len(levels) != 1)} {', '.join(map(str, levels))}"

    return left


def object_ids(texts: Sequence[str] | None) -> list[int] | None:
    """Ids from ``["4,5", "7"]``; None if there are none."""
    try:
        return [int(part) for text in texts or () for part in text.split(",")] or None
    except ValueError as error:
        raise SelectionError(f"--object must be whole numbers, found {' '.join(texts or ())!r}") from error


def names(text: str | None) -> list[str] | None:
    """Names from ``"a,b"``."""
    return None if text is None else [name.strip() for name in text.split(",")]


def say_nothing() -> None:
    """Warn that a selection is empty."""
    say("zvl: warning: nothing is selected; zvl info shows the bounds of the store", error=True)


def tell_counts(counts: Mapping[int, int], json: bool) -> None:
    """Print the number of vertices by level."""
    tell(counts, json, *(f"level {level}: {counted(count, 'vertex')}" for level, count in counts.items()))


def tell(done: Any, json: bool, *lines: str) -> None:
    """Report what was done: as JSON, or in words on standard error."""
    if json:
        print_json(done)
    elif lines:
        say("\n".join(lines), error=True)


def say_left_out(left_out: Sequence[str], done: str = "left out") -> None:
    """Warn in one line about what was left out."""
    if left_out:
        say(f"zvl: warning: {done}: {', '.join(left_out)}", error=True)


def parse_corners(text: str, ndim: int) -> tuple[list[float], list[float]]:
    """(lo, hi) from ``"0,0,0,10,10,10"`` or ``"0:10,0:10,0:10"``."""
    parts = [part.split(":") for part in re.split(r"[\s,;()\[\]]+", text.strip(" ()[]"))]
    if len(parts) == ndim and all(len(part) == 2 for part in parts):
        parts = list(zip(*parts, strict=True))
    try:
        numbers = [float(number) for part in parts for number in part]
    except ValueError as error:
        raise SelectionError(f"--bbox must be {counted(2 * ndim, 'number')}, found {text!r}") from error
    if len(numbers) != 2 * ndim:
        hint = "; put commas between them" if len(numbers) == 1 else ""
        raise SelectionError(
            f"--bbox must be {counted(2 * ndim, 'number')}, lower corner first, found {len(numbers)}: {text!r}{hint}"
        )
    return numbers[:ndim], numbers[ndim:]


def parse_where(level: ZVLevel, text: str) -> dict[str, Any]:
    """Values by name, as `ZVLevel.sel` takes them, from ``"fa=0.2:0.5"``, ``"type=L4,Sst"``, ``"id=7"``, ``"id=null"``.

    A value that begins with ``[`` or ``"`` is JSON. Numbers of a text attribute are text.
    """
    name, _, value = text.partition("=")
    if not name or not value:
        raise SelectionError(f"--where must be NAME=LO:HI, NAME=VALUE or NAME=VALUE,VALUE; found {text!r}")
    if value[0] in '["':
        try:
            return {name: json.loads(value)}
        except json.JSONDecodeError as error:
            raise SelectionError(f"--where {text}: a value starting with {value[0]} must be JSON: {error}") from error
    if value == "null":
        return {name: None}
    is_text = value_dtype(level._view, name).kind in "UmM"
    lo, colon, hi = value.partition(":")
    if not colon:
        values = [part if is_text else _number(part, text) for part in value.split(",")]
        return {name: values if len(values) > 1 else values[0]}
    if ":" in hi or "," in value:
        raise SelectionError(f"--where {text}: a value with comma or colon must be JSON: {name}={json.dumps([value])}")
    first, last = (None if not end else end if is_text else _number(end, text) for end in (lo, hi))
    if first is not None and last is not None and first > last:  # type: ignore[operator]  # both text or both numbers
        raise SelectionError(f"--where {text}: the range ends before it begins")
    return {name: (first, last)}


def _number(value: str, text: str) -> int | float | bool:
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    raise SelectionError(f"--where {text}: expected numbers, true or false, found {value!r}")


def _cluster(address: str) -> Any:
    distributed = optional("distributed", "--client needs", "distributed")
    try:
        return distributed.Client(address, timeout="20s")
    except (OSError, ValueError) as error:
        raise SelectionError(f"no Dask cluster can be reached at {address!r}: {error}") from error
