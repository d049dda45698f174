"""Libraries that are installed with the extra ``formats``."""

import importlib
from typing import Any


def library(name: str, package: str = "") -> Any:
    """Import a library.

    Raises
    ------
    ImportError
        If it is not installed; says how it is.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        wanted = package or name.partition(".")[0]
        raise ImportError(f"this format needs {wanted}: pip install 'zarr-vectors-lazy[formats]'") from error
