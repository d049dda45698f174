"""What users type (paths, URLs, store objects, options) -> a description of the store."""

import os
from typing import Any

from zarr.abc.store import Store

from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage.spec import StoreSpec


def resolve(
    path: str | os.PathLike[str] | Store,
    *,
    backend: str | None = None,
    storage_options: dict[str, Any] | None = None,
    **backend_kwargs: Any,
) -> StoreSpec:
    """Describe the store at ``path``."""
    if isinstance(path, Store):
        return StoreSpec.of_instance(path)
    if "://" in os.fspath(path):
        raise StoreError("not yet")
    return StoreSpec("local", os.path.abspath(path))
