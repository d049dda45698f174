"""What a user selected: boxes, objects and conditions that rows must all meet."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from zarr_vectors_lazy.plan.conditions import Test
from zarr_vectors_lazy.plan.regions import Region
from zarr_vectors_lazy.types import BBox, BoolArray, IntArray


@dataclass(frozen=True, eq=False)
class Condition:
    """A row mask from vertex attributes.

    Parameters
    ----------
    names
        Attributes that it reads.
    test
        What tells the rows of one attribute's values, or a callable of the attributes' rows that gives a mask.
    passes
        (n,) which categories of a dictionary-encoded attribute pass; the test is then one of truth values.
    """

    names: tuple[str, ...]
    test: Test | Callable[..., Any]
    passes: BoolArray | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """Rows meet all of it.

    Parameters
    ----------
    regions
        Boxes that rows lie in: in each of them.
    objects
        Ids of the objects, sorted, or None for all rows whatever their object.
    conditions
        Masks from attributes.
    """

    regions: tuple[Region, ...] = ()
    objects: IntArray | None = None
    conditions: tuple[Condition, ...] = ()

    @property
    def box(self) -> BBox | None:
        """Box in stored coordinates that holds all that is selected, or None where there are no boxes."""
        if not self.regions:
            return None
        lo, hi = zip(*(region.bounds for region in self.regions), strict=True)
        return np.max(lo, axis=0), np.min(hi, axis=0)

    def with_region(self, region: Region) -> "Selection":
        """Intersect with boxes; those that do not meet select nothing."""
        boxes = [part for part in (*self.regions, region) if part.is_box]
        others = [part for part in (*self.regions, region) if not part.is_box]
        return replace(self, regions=(*([reduce(Region.__and__, boxes)] if boxes else ()), *others))

    def with_objects(self, ids: IntArray) -> "Selection":
        """Keep only these objects."""
        ids = np.unique(ids)
        return replace(self, objects=ids if self.objects is None else np.intersect1d(self.objects, ids))

    def token(self) -> tuple[Any, ...]:
        """What tells this selection from another, for Dask's tokenize."""
        return ("selection", self.regions, self.objects, self.conditions)
