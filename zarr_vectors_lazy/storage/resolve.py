"""From what users type (paths, URLs, store objects, options) to a description of the store."""

import importlib.util
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any, TypeAlias

from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, ObjectStore

from zarr_vectors_lazy.errors import StoreError, meant
from zarr_vectors_lazy.storage.backends import fsspec_systems as systems
from zarr_vectors_lazy.storage.backends.fsspec_systems import canonical, system_class
from zarr_vectors_lazy.storage.options import CLIENT, RETRY, for_fsspec, for_obstore
from zarr_vectors_lazy.storage.spec import (
    CLOUD,
    StorageOptions,
    StoreSpec,
    check_slashes,
    local_path,
    parse,
    scheme_of,
    this_process,
    with_query,
)

# Descriptions of zarr store objects that users pass.

_SCHEMES = {"S3Store": "s3", "GCSStore": "gs", "AzureStore": "az"}
_NAMES = {"S3Store": "bucket", "GCSStore": "bucket", "AzureStore": "container_name"}
Native: TypeAlias = Any
"""One of obstore's stores, whose classes have no common type."""
_OF_THE_LOOP = {"asynchronous", "loop", "skip_instance_cache", "batch_size"}


def described(store: Store) -> StoreSpec:
    """Describe a store so that any process can open it; carry the object itself if that is impossible."""
    # Exactly these classes, because a subclass may behave differently.
    spec = None
    if type(store) is LocalStore:
        spec = StoreSpec("local", local_path(str(store.root)))
    elif type(store) is FsspecStore:
        spec = _of_fsspec(store)
    elif type(store) is ObjectStore:
        spec = _of_obstore(store.store)
    return StoreSpec.of_instance(store) if spec is None else replace(spec, read_only=store.read_only)


def _of_fsspec(store: FsspecStore) -> StoreSpec | None:
    fs: Any = store.fs
    if not type(fs).async_impl or fs.storage_args:
        return None
    scheme = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    if type(fs) is not system_class(scheme):  # a wrapper around another file system
        return None
    options = {name: value for name, value in fs.storage_options.items() if name not in _OF_THE_LOOP}
    url, options = canonical(fs.unstrip_protocol(store.path), options)
    return StoreSpec("fsspec", url, StorageOptions(options))


def _of_obstore(native: Native) -> StoreSpec | None:
    kind = type(native).__name__
    if kind == "LocalStore":
        return StoreSpec("local", local_path(str(native.prefix))) if native.prefix is not None else None
    options = {
        name: value
        for name in ("client_options", "retry_config", "credential_provider")
        if (value := getattr(native, name, None)) is not None
    }
    if kind == "HTTPStore":
        place = parse(native.url, {})
        return StoreSpec("obstore", place.url, StorageOptions(with_query(place, options, "")))
    if kind not in _SCHEMES:
        return None
    config = dict(native.config)
    bucket = config.pop(_NAMES[kind], "")
    account = f"{config['account_name']}/" if kind == "AzureStore" else ""
    url = f"{_SCHEMES[kind]}://{account}{bucket}/{native.prefix or ''}".rstrip("/")
    return StoreSpec("obstore", url, StorageOptions({**options, **config}))


# From what users type (paths, URLs, store objects, options) to a description of the store.

VARIABLE = "ZARR_VECTORS_BACKEND"
BACKENDS = ("obstore", "fsspec", "local")


def resolve(
    path: str | os.PathLike[str] | Store,
    *,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> StoreSpec:
    """Describe the store at ``path``, without using the network.

    Parameters
    ----------
    path
        URL or path, or a zarr store object.
    backend
        ``"obstore"``, ``"fsspec"`` or ``"local"``; by default the one that the variable ``ZARR_VECTORS_BACKEND`` names,
        or one that suits the URL.
    storage_options, backend_kwargs
        Options by the backend's own names, or the other's if both have an equivalent; the keywords take precedence.

    Raises
    ------
    StoreError
        For an unknown backend or option, a URL that the backend cannot serve, or a package that is not installed.
    """
    if storage_options is not None and not isinstance(storage_options, Mapping):
        raise StoreError(f"storage_options must be options by name, found {type(storage_options).__name__}")
    options = {**(storage_options or {}), **backend_kwargs}
    if isinstance(path, Store):
        return _of_object(path, backend, options)
    url = _text(path)
    match _chosen(url, backend):
        case "local":
            return _local(url, options)
        case "obstore":
            from zarr_vectors_lazy.storage.backends import obstore_backend as stores  # noqa: PLC0415  optional

            url, options = stores.canonical(url, for_obstore(scheme_of(url), options))
            spec = StoreSpec("obstore", url, StorageOptions(options))
            stores.build(spec)  # unknown options are refused now, not in some task
            return spec
        case _:
            url, options = systems.canonical(url, for_fsspec(scheme_of(url), options))
            systems.check_options(scheme_of(url), options)
            home = this_process() if scheme_of(url) == "memory" else ""
            return StoreSpec("fsspec", url, StorageOptions(options), home=home)


@cache
def is_option(name: str) -> bool:
    """Whether an installed backend knows an option of this name, for any cloud."""
    for scheme in ("s3", "gs", "az"):
        with suppress(StoreError):  # it is not installed
            if name in systems.option_names(scheme):
                return True
    if name in CLIENT | RETRY or not importlib.util.find_spec("obstore"):
        return name in CLIENT | RETRY
    from zarr_vectors_lazy.storage.backends.obstore_backend import takes  # noqa: PLC0415  optional

    return takes(name)


def _text(path: object) -> str:
    if not isinstance(path, str | os.PathLike):
        kind = type(path)
        hint = "; give its .url" if hasattr(kind, "url") else "; give its .store.url" if hasattr(kind, "store") else ""
        raise StoreError(f"a store must be a path, a URL or a zarr store object, not {kind.__name__}{hint}")
    text = os.fspath(path)
    if not isinstance(text, str) or not text:
        raise StoreError(f"a store must be a path, a URL or a zarr store object, not {text!r}")
    check_slashes(text)
    return text


def _chosen(url: str, backend: str | None) -> str:
    name = backend or os.environ.get(VARIABLE)
    source = "backend" if backend else VARIABLE
    if name:
        if name not in BACKENDS:
            raise StoreError(
                f"unknown {source} {name!r}; there is {', '.join(map(repr, BACKENDS))}{meant(name, BACKENDS)}"
            )
        return name
    scheme = scheme_of(url)
    if scheme in {"", "file"}:
        return "local"
    if scheme in CLOUD:
        return _for_cloud(scheme)
    return "fsspec"


def _for_cloud(scheme: str) -> str:
    if importlib.util.find_spec("obstore"):
        return "obstore"
    try:
        systems.system_class(scheme)
    except StoreError as error:
        raise StoreError(
            f"neither obstore nor fsspec's driver for {scheme}:// is installed; "
            "pip install 'zarr_vectors_lazy[obstore]' (or [cloud])"
        ) from error
    return "fsspec"


def _local(url: str, options: Mapping[str, Any]) -> StoreSpec:
    if scheme_of(url) not in {"", "file"}:
        raise StoreError(f"the backend 'local' cannot serve {scheme_of(url)}:// URLs, only paths and file://")
    if options:
        found = ", ".join(map(repr, options))
        raise StoreError(f"a local folder takes no options; found {found} (arguments of other names go to the backend)")
    return StoreSpec("local", local_path(url))


def _of_object(store: Store, backend: str | None, options: Mapping[str, Any]) -> StoreSpec:
    if backend is not None or options:
        given = [*(["backend"] if backend is not None else []), *options]
        raise StoreError(f"a store object does not take {', '.join(map(repr, given))}: it has its own")
    return described(store)
