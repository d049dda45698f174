"""The command ``zvl``: its words, and how errors end it."""

import os
import sys
import warnings
from typing import Any

try:
    import typer
except ImportError as error:  # the script is installed with the package, its libraries with an extra
    sys.exit(f"zvl needs its libraries: pip install 'zarr-vectors-lazy[cli]' ({error})")

from zarr_vectors_lazy.errors import FormatError, NotFoundError, SelectionError, StoreError, ZVError, printable
from zarr_vectors_lazy.integrations.cli import inspect, make, picture, read, server, tools

EXITS = "Exits: 0 done, 1 the store is not as it should be, 2 wrong arguments, 3 the store cannot be reached."

app = typer.Typer(
    name="zvl",
    help=f"Look at Zarr Vectors stores, on disk or in a bucket. {EXITS}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (inspect, read, make, tools, picture, server):
    module.register(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; an error of ours, and a warning, is one line on standard error."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = say
            app(arguments, prog_name="zvl")
    except ZVError as error:
        fail("; ".join([str(error), *getattr(error, "__notes__", ())]), exit_code(error))
    except ImportError as error:
        fail(str(error), 2)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(message: Warning | str, *_: Any, **__: Any) -> None:
    """Say a warning in one line."""
    print(f"zvl: warning: {' '.join(str(message).split())}", file=sys.stderr)


def fail(message: str, code: int) -> None:
    """Say what is wrong in one line, and end."""
    print(printable(f"zvl: {' '.join(message.split())}"), file=sys.stderr)
    sys.exit(code)


def exit_code(error: ZVError) -> int:
    """Exit code of an error."""
    if isinstance(error, StoreError):
        return 3
    if isinstance(error, NotFoundError | SelectionError):
        return 2
    assert isinstance(error, FormatError) or type(error) is ZVError
    return 1


if __name__ == "__main__":
    main()
