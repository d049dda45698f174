"""A small description of a store, which travels in tasks instead of an open connection."""

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from zarr.abc.store import Store

from zarr_vectors_lazy.storage.carried import Carried, carried
from zarr_vectors_lazy.storage.home import home_of
from zarr_vectors_lazy.storage.options import Options

BackendName: TypeAlias = Literal["local", "obstore", "fsspec", "zarr"]


@dataclass(frozen=True, slots=True, repr=False)
class StoreSpec:
    """Where a store is and how it is reached: frozen, hashable, picklable, without secrets in repr and token.

    Parameters
    ----------
    backend
        What reads it.
    url
        Canonical text: an absolute path for ``"local"``, else a URL without secrets and trailing slash.
    options
        In the backend's own names.
    carried
        The user's store object, for backend ``"zarr"`` alone.
    read_only
        Whether it was given as a store object that is read-only.
    home
        Process that alone has what is written there, as it is in memory; empty: all have.
    """

    backend: BackendName
    url: str
    options: Options = field(default_factory=Options)
    carried: Carried | None = None
    read_only: bool = False
    home: str = ""

    @classmethod
    def of_instance(cls, store: Store) -> "StoreSpec":
        """Describe a store object by itself."""
        item = carried(store)
        return cls("zarr", f"{type(store).__name__.lower()}://{item.token[:8]}", carried=item, home=home_of(store))

    @property
    def instance(self) -> Store | None:
        """The user's store object, for backend ``"zarr"`` alone."""
        return None if self.carried is None else self.carried.value

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        token = "" if self.carried is None else self.carried.token
        return ("zarr_vectors_lazy.StoreSpec", self.backend, self.url, self.options.token(), token)

    def __repr__(self) -> str:
        options = "".join(f", {name}={self.options.shown(name)!r}" for name in self.options)
        return f"StoreSpec({self.backend}, {self.url!r}{options})"
