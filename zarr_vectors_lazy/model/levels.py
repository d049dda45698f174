"""The root of a store and its levels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from zarr_vectors_lazy.model.world import World
from zarr_vectors_lazy.types import Floats, Json


@dataclass(frozen=True, kw_only=True, eq=False)
class StoreMeta:
    """The root of a store.

    Parameters
    ----------
    version
        The format version found.
    chunk_shape, bin_shape
        (D,) edge lengths at level 0, in the units of the axes.
    bounds
        (lo, hi), each (D,).
    bins
        Bin edge lengths by level, where the root tells them.
    told
        By name of a vertex attribute the dtype, and the values of a row (None: as many as its bytes make), that its
        user says.
    """

    version: str
    axes: tuple[str, ...]
    axis_types: tuple[str, ...]
    units: tuple[str | None, ...]
    chunk_shape: Floats
    bin_shape: Floats
    bounds: tuple[Floats, Floats]
    geometry_types: tuple[str, ...]
    links_convention: str
    level_names: tuple[int, ...]
    bins: dict[int, Floats]
    crs: Any
    coordinate_offset: Floats | None
    attributes: Json
    told: Mapping[str, tuple[np.dtype[Any], int | None]] = field(default_factory=dict)

    def specified(self, name: str) -> Json:
        """What the root's ``attribute_specs`` say of a vertex attribute."""
        found: Any = self.attributes.get("zarr_vectors", {}).get("attribute_specs")
        for key in ("vertex", name):
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    @property
    def ndim(self) -> int:
        """Number of spatial axes, D."""
        return len(self.axes)

    @cached_property
    def world(self) -> World:
        """How stored coordinates become world coordinates."""
        return World(axes=self.axes, units=self.units, offset=self.coordinate_offset, crs=self.crs)


def content_of(attributes: Json) -> str:
    """Digest of a level's data that its node carries, where it was written here."""
    ours = attributes.get("zarr_vectors_lazy")
    found = ours.get("content") if isinstance(ours, dict) else None
    return found if isinstance(found, str) else ""


@dataclass(frozen=True, kw_only=True, eq=False)
class LevelMeta:
    """One level, without its arrays.

    Parameters
    ----------
    index
        Level number.
    chunk_shape, bin_shape
        (D,) edge lengths at this level.
    vertex_count
        Declared rows, or None.
    chunk_attribute
        Name and values of the attribute that is the first chunk axis, or None.
    chunk_bins
        Name of a first chunk axis that is no attribute; empty where there is none.
    chunk_lost
        Name of an attribute by which chunks were binned, and of which the values were lost; empty where there is none.
    fragments_tile
        Whether fragments, in order, partition the rows of every chunk.
    count_is_sure
        Whether the declared rows can be held against what is read.
    edges_lost
        Why the level does not tell its edges and faces; empty where it does.
    objects_lost
        Why it does not tell its objects; empty where it does.
    strays
        Bin edge lengths, each (D,): rows may lie outside their chunk by as much as these bins reach out of it. None:
        they may lie anywhere.
    deferred
        Whether it is still being written: arrays may list no chunks yet.
    chain
        Levels whose content together is that of this one, it first; empty: it alone.
    link_groups
        Whether groups of link records inside chunks are said to be those of the fragments of vertices.
    """

    index: int
    chunk_shape: Floats
    bin_shape: Floats
    vertex_count: int | None
    chunk_attribute: tuple[str, np.ndarray[Any, Any]] | None
    fragments_tile: bool
    attributes: Json
    count_is_sure: bool = True
    edges_lost: str = ""
    objects_lost: str = ""
    chunk_bins: str = ""
    chunk_lost: str = ""
    deferred: bool = False
    strays: tuple[Floats, ...] | None = ()
    chain: tuple[int, ...] = ()
    link_groups: bool = False

    @property
    def stated_count(self) -> int | None:
        """Rows that the metadata state, right or wrong; None where they do not."""
        count: int | None = self.attributes.get("zarr_vectors_level", {}).get("vertex_count")
        return count

    @property
    def content(self) -> str:
        """What tells the data of the level from others at the same place; empty where the store does not say."""
        return content_of(self.attributes)

    @cached_property
    def bins_tile(self) -> bool:
        """Whether a whole number of bins makes a chunk, per axis."""
        ratio = self.chunk_shape / self.bin_shape
        return bool(np.all(np.abs(ratio - np.round(ratio)) < 1e-6) and np.all(np.round(ratio) >= 1))
