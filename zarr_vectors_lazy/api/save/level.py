"""What a level gives, whole or selected, as a store of its own."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from zarr_vectors_lazy.api.save.lazy import GEOMETRIES, save_lazily
from zarr_vectors_lazy.errors import SelectionError, listed

if TYPE_CHECKING:
    from zarr_vectors_lazy.api.level import ZVLevel


def save_level(level: "ZVLevel", path: Any, arguments: Mapping[str, Any], remade: Iterable[int] = ()) -> Any:
    """Write a level as a new store; return what the writer of its geometry returns, or a Delayed of it.

    ``left_out`` in it names what the store has and the new one does not have.

    Parameters
    ----------
    arguments
        Of the writer, ``compute`` and ``progress`` among them.
    remade
        Other levels that are made anew.

    Raises
    ------
    SelectionError
        If nothing is selected, objects share vertices or are cut in a way that the format cannot say, or the store has
        several geometries, or one that has no writer.
    """
    store = level.store
    kinds = set(store.geometry_types)
    if len(kinds) != 1:
        raise SelectionError(f"a level of one geometry can be saved, this has {sorted(kinds) or 'none'}")
    (kind,) = kinds
    if kind not in GEOMETRIES:
        raise SelectionError(f"a level of {kind!r} cannot be saved; there are writers of {listed(GEOMETRIES)}")
    common = {"axes": store.axes, "units": store.units, "crs": None, **arguments}  # it is carried as it stands
    return save_lazily(level, path, kind, common, remade)
