"""Descriptions of the zarr store objects that users hand over."""

from dataclasses import replace
from typing import Any, TypeAlias

from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, ObjectStore

from zarr_vectors_lazy.storage.backends.fsspec_systems import canonical, system_class
from zarr_vectors_lazy.storage.location import local_path, parse, with_query
from zarr_vectors_lazy.storage.options import Options
from zarr_vectors_lazy.storage.spec import StoreSpec

_SCHEMES = {"S3Store": "s3", "GCSStore": "gs", "AzureStore": "az"}
_NAMES = {"S3Store": "bucket", "GCSStore": "bucket", "AzureStore": "container_name"}
Native: TypeAlias = Any
"""A store of obstore's, whose classes have no common type."""
_OF_THE_LOOP = {"asynchronous", "loop", "skip_instance_cache", "batch_size"}


def described(store: Store) -> StoreSpec:
    """Describe a store so that any process can open it anew; carry the object itself where that cannot be done."""
    # Exactly these classes: what a subclass does, only itself knows.
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
    return StoreSpec("fsspec", url, Options(options))


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
        return StoreSpec("obstore", place.url, Options(with_query(place, options, "")))
    if kind not in _SCHEMES:
        return None
    config = dict(native.config)
    bucket = config.pop(_NAMES[kind], "")
    account = f"{config['account_name']}/" if kind == "AzureStore" else ""
    url = f"{_SCHEMES[kind]}://{account}{bucket}/{native.prefix or ''}".rstrip("/")
    return StoreSpec("obstore", url, Options({**options, **config}))
