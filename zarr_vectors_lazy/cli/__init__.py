"""The command ``zvl``."""

import os
import signal
import sys
import threading
from contextlib import suppress
from importlib import import_module
from typing import Any

STOPPED = 130  # the exit code of a shell for a process that SIGINT has ended
AGAIN_S = 0.05


class Stopped(Exception):
    """The user has stopped a command; the message says what is left."""


def run() -> None:
    """Run ``zvl`` as a program that Ctrl-C ends at once, even while modules are imported."""
    sys.unraisablehook = interrupt_again
    known = ": nothing was written"
    try:
        main = import_module("zarr_vectors_lazy.cli.main").main
        known = ""  # main itself says what is left, unless it is interrupted again
        main()
    except KeyboardInterrupt:
        sys.stderr.write(f"zvl: stopped{known}\n")
        end(STOPPED)
    except SystemExit as stop:
        if isinstance(stop.code, int) and stop.code:
            end(stop.code)
        raise


def interrupt_again(ignored: Any) -> None:
    """Repeat an interruption that came in a callback or in ``__del__``, where Python drops exceptions."""
    if ignored.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(ignored)
        return
    again = threading.Timer(AGAIN_S, os.kill, (os.getpid(), signal.SIGINT))
    again.daemon = True
    again.start()


def end(code: int) -> None:
    """End the process without waiting for requests under way, which may be repeated for a long time."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)
