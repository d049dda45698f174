"""The command ``zvl``: its subcommands, and how errors end it."""

import functools
import os
import re
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

from zarr_vectors_lazy import __version__
from zarr_vectors_lazy.cli import STOPPED, Stopped, run
from zarr_vectors_lazy.errors import (
    NO_STORE,
    FormatError,
    NotFoundError,
    SelectionError,
    StoreError,
    ZVError,
    near,
    printable,
)

try:
    import typer
except ImportError as error:  # the script comes with the package, its libraries with an extra
    sys.exit(f"zvl needs more packages: pip install 'zarr-vectors-lazy[cli]' ({error})")


EXITS = "Exit codes: 0 done, 1 the store is damaged, 2 wrong arguments, 3 the store cannot be reached or written."
WORDS = {  # subcommands by module, in the order of the help; only the module of the one that is called is imported
    **dict.fromkeys(("info", "ls", "explain", "read", "export", "plot"), "read"),
    **dict.fromkeys(("ingest", "pyramid", "save", "rechunk", "recompress", "migrate"), "make"),
    "validate": "read",
    "cost": "read",
    "cors": "server",
    **dict.fromkeys(("index", "consolidate", "shard", "example"), "make"),
    "serve": "server",
    "view": "server",
}
WrongUse: Any = typer.BadParameter.__mro__[2]  # ClickException, of click itself or of typer's own copy
SAME = (
    "aggregate", "axes", "backend", "bbox", "bin_shape", "chunk_shape", "color", "columns", "format", "get", "level",
    "like", "object_ids", "overwrite", "projection", "put", "pyramid", "reference", "resolution", "storage", "transfer",
    "triangulate", "unit", "where", "whole_objects",
)  # fmt: skip
OPTIONS = {  # options of the command line, by the Python keyword that a message names
    **{name: f"--{name.replace('_', '-')}" for name in SAME},
    "chunk_scale_factors": "--chunk-scale",
    "cross_level_depth": "--depth",
    "cross_level_storage": "--links",
    "factors": "--factor",
    "groups": "--group",
    "objects": "--object",
    "origins": "--origin",
    "shard_shape": "--shape",
}
_KEYWORD = re.compile(rf"(?<![^\s(,])({'|'.join(OPTIONS)})=(?:True\b|'([^']*)'|)(?=(.?))")
_SHORT = re.compile(r"^(-[a-z])=")  # -b=-1,... is like --bbox=-1,...; click would take the = as part of the value
_BARE = re.compile(rf"\b({'|'.join(name for name in OPTIONS if '_' in name)})\b")
_RULE = re.compile(r"aggregate\['([^']*)'\]")
PLAIN = {  # replaces what typer says about an argument
    "Value error, ": "",
    "Input should be a valid integer, unable to parse string as an integer": "it must be a whole number",
    "Input should be a valid number, unable to parse string as a number": "it must be a number",
    "Input should be": "it must be",
}


def application(first: str = "") -> typer.Typer:
    """The command line with one subcommand, or with all if ``first`` is not one of them."""
    app = typer.Typer(
        name="zvl",
        help=f"Look at Zarr Vectors stores, on disk or in a bucket. {EXITS}",
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(about)
    for word in [first] if first in WORDS else () if first == "--version" else WORDS:
        words, options = (import_module(f"zarr_vectors_lazy.cli.{name}") for name in (WORDS[word], "options"))
        app.command(word)(options.with_options(getattr(words, word)))
    return app


def about(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Options without a subcommand."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; our errors, wrong arguments and warnings are one line each on standard error."""
    typed = sys.argv[1:] if arguments is None else arguments
    given = [_SHORT.sub(r"\1", word) for word in typed] or ["--help"]
    if given == ["--version"]:
        print(f"zvl {__version__}")
        sys.exit(0)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = say
            code = application(given[0])(given, prog_name="zvl", standalone_mode=False)
    except WrongUse as error:
        fail(misused(error), 2)
    except Stopped as stop:
        fail(f"stopped: {stop}", STOPPED)
    except (typer.Abort, KeyboardInterrupt):  # while modules are imported, too
        fail("stopped: nothing was written", STOPPED)
    except ZVError as error:
        text = spoken("; ".join([str(error), *getattr(error, "__notes__", ())]))
        fail(
            _BARE.sub(lambda name: OPTIONS[name[1]], text) if isinstance(error, SelectionError) else text,
            exit_code(error),
        )
    except ImportError as error:
        fail(str(error), 2)
    except (SystemExit, OSError) as error:
        end_output(error)
    else:
        if code == STOPPED:
            fail("stopped: nothing was written", STOPPED)
        sys.exit(code if isinstance(code, int) else 0)


def end_output(error: BaseException) -> None:
    """End if standard output takes no more: quietly if its reader has closed it, which typer turns into SystemExit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, SystemExit | BrokenPipeError):
        sys.exit(0)
    fail(spoken(str(error)), 3)


def misused(error: Any) -> str:
    """Say plainly what typer says about wrong arguments."""
    path = error.ctx.command_path if getattr(error, "ctx", None) else "zvl"
    if hasattr(error, "possibilities"):  # typer's guesses go far, because of the dashes
        bare = error.option_name.lstrip("-")
        error.possibilities = [one for one in error.possibilities or () if near(bare, [one.lstrip("-")])]
    said = functools.reduce(lambda text, name: text.replace(name, PLAIN[name]), PLAIN, error.format_message())
    return f"{said} ({path} -h lists the choices)"


def spoken(message: str) -> str:
    """Replace the Python keywords in a message by options of the command line."""

    def option(found: re.Match[str]) -> str:
        value = f" {found[2]}" if found[2] else " " if re.match(r"[\w\[{(-]", found[3]) else ""
        return f"{OPTIONS[found[1]]}{value}"

    message, call, rest = message.partition("zvl.build_pyramid(")  # something to type in Python, left as it is
    message = re.sub(r"\[Errno \d+\] ", "", message)
    text = _KEYWORD.sub(option, _RULE.sub(r"--aggregate \1=", message.replace("mode='w'", "--overwrite")))
    return re.sub(r"(--[a-z-]+) \(\1\)", r"\1", text) + call + rest


def say(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning in one line."""
    text = _BARE.sub(lambda name: OPTIONS[name[1]], spoken(str(message)))
    print(printable(f"zvl: warning: {' '.join(text.split())}"), file=sys.stderr)


def fail(message: str, code: int) -> None:
    """Print what is wrong in one line, and exit."""
    print(printable(f"zvl: {' '.join(message.split())}"), file=sys.stderr)
    sys.exit(code)


def exit_code(error: ZVError) -> int:
    """Exit code of an error."""
    if isinstance(error, StoreError):
        return 3
    if isinstance(error, NotFoundError | SelectionError) or error.message.startswith(NO_STORE):
        return 2
    assert isinstance(error, FormatError) or type(error) is ZVError
    return 1


if __name__ == "__main__":
    run()
