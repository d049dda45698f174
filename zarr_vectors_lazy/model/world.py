"""World coordinates of a store: its axes by name, its offset, the affine in its ``crs``; and units of length.

All positions that leave a store go through `World`: files, viewers, pictures, boxes in world coordinates.
"""

import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import SelectionError, ZVWarning, listed, near
from zarr_vectors_lazy.types import Array, BBox, Floats

NAMES = ("x", "y", "z")
VOXEL_MM, RAS_MM = "voxmm", "rasmm"
PREFIXES = {
    "": 0, "deca": 1, "hecto": 2, "kilo": 3, "mega": 6, "deci": -1, "centi": -2, "milli": -3, "micro": -6, "nano": -9,
    "pico": -12, "femto": -15,
}  # fmt: skip
SYMBOLS = {"": 0, "k": 3, "d": -1, "c": -2, "m": -3, "u": -6, "\u03bc": -6, "n": -9, "p": -12, "f": -15}
OTHERS = {
    "micron": Fraction(1, 10**6), "angstrom": Fraction(1, 10**10), "\u00c5": Fraction(1, 10**10),
    "inch": Fraction(254, 10**4), "in": Fraction(254, 10**4), "foot": Fraction(3048, 10**4),
    "feet": Fraction(3048, 10**4), "ft": Fraction(3048, 10**4), "US_survey_foot": Fraction(1200, 3937),
}  # fmt: skip
"""Metres in units that are not a metre with a prefix."""
NAMED = [*(f"{prefix}meter" for prefix in PREFIXES), *(name for name in OTHERS if len(name) > 2)]
LENGTH = re.compile(rf"({'|'.join(PREFIXES)})met(?:er|re)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """How stored coordinates become world coordinates, and back.

    Columns are x, y, z if axes have these names (in upper or lower case), then the other axes in order; three at most.
    World is stored + ``offset``; if ``crs`` states a TrackVis space (``input_space`` voxmm), RAS millimetres are
    ``affine @ (p / v - 0.5)``, where v is the lengths of the affine's columns.

    Parameters
    ----------
    axes, units
        Names and units of the axes, in stored order.
    offset
        (D,), or None.
    crs
        As the store states it.
    """

    axes: tuple[str, ...]
    units: tuple[str | None, ...]
    offset: Floats | None = None
    crs: Any = None

    @cached_property
    def columns(self) -> tuple[int, ...]:
        """Stored column of each world column."""
        last = len(NAMES)
        rank = [NAMES.index(name.lower()) if name.lower() in NAMES else last for name in self.axes]
        return tuple(sorted(range(len(self.axes)), key=lambda axis: (rank[axis], axis))[:last])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the world columns; x, y and z in lower case."""
        chosen = (self.axes[axis] for axis in self.columns)
        return tuple(name.lower() if name.lower() in NAMES else name for name in chosen)

    @property
    def world_units(self) -> tuple[str | None, ...]:
        """Units of the world columns."""
        if self.affine is not None:
            return ("mm",) * len(self.columns)
        units = tuple(self.units[axis] for axis in self.columns)
        return tuple(unit or "mm" for unit in units) if self._space == RAS_MM else units

    @cached_property
    def shown(self) -> tuple[tuple[int, ...], tuple[str, ...], tuple[str | None, ...]]:
        """Stored column, name and unit of what viewers and pictures show: the world's, then the other axes."""
        rest = tuple(axis for axis in range(len(self.axes)) if axis not in self.columns)
        units = (*self.world_units, *(self.units[axis] for axis in rest))
        return (*self.columns, *rest), (*self.names, *(self.axes[axis] for axis in rest)), units

    def show(self, positions: Array) -> Floats:
        """(N, D) stored positions as world positions, followed by the coordinates that these do not include."""
        rest = list(self.shown[0][len(self.columns) :])
        if not rest:
            return self.to_world(positions)
        return np.concatenate([self.to_world(positions), positions[:, rest].astype(np.float64)], axis=1)

    def world_bounds(self, bounds: BBox) -> BBox:
        """World box, (C,) corners, around the corners of a stored box, (D,) each."""
        columns = list(self.columns)
        corners = np.tile(bounds[0], (2 ** len(columns), 1))
        corners[:, columns] = list(product(*zip(*(corner[columns] for corner in bounds), strict=True)))
        moved = self.to_world(corners)
        return moved.min(axis=0), moved.max(axis=0)

    @property
    def plain(self) -> bool:
        """Whether world coordinates are the stored ones."""
        return self.affine is None and self.offset is None and self.columns == tuple(range(len(self.axes)))

    @cached_property
    def _space(self) -> str | None:
        """The space of stored coordinates that ``crs`` names, in lower case; None if it names none."""
        stated = self.crs.get("input_space") if isinstance(self.crs, dict) else None
        if stated is not None:
            return str(stated).strip().lower()
        return "" if isinstance(self.crs, dict) and self.crs.get("affine") is not None else None

    @cached_property
    def affine(self) -> Floats | None:
        """(4, 4) affine of voxels to RAS millimetres that is applied, or None."""
        if self._space != VOXEL_MM or len(self.columns) != 3:
            return None
        try:
            affine = np.asarray(self.crs.get("affine"), np.float64).reshape(4, 4)
        except (TypeError, ValueError, OverflowError):
            return None
        return affine if np.isfinite(affine).all() and np.linalg.matrix_rank(affine[:3, :3]) == 3 else None

    @property
    def problem(self) -> str:
        """Why the space in ``crs`` is not applied; empty if it is, or if there is none."""
        if self._space in (None, RAS_MM) or self.affine is not None:
            return ""
        if self._space == VOXEL_MM:
            return (
                f"crs says input_space 'voxmm', but its affine is not 4 x 4 of three axes: {self.crs.get('affine')!r}"
            )
        stated = self.crs.get("input_space")
        return f"crs says input_space {stated!r}, which is neither 'voxmm' nor 'rasmm'"

    def warn(self, *, stacklevel: int = 2) -> None:
        """Warn if the space in ``crs`` is not applied."""
        if self.problem:
            message = f"{self.problem}: coordinates stay as they are stored"
            warnings.warn(message, ZVWarning, stacklevel=stacklevel + 1)

    def to_world(self, positions: Any) -> Floats:
        """(..., D) stored positions as (..., C) float64 world positions, C at most 3; each row independently.

        Raises
        ------
        SelectionError
            If positions do not have a column for each axis of the store.
        """
        given = _columns(positions, len(self.axes), "stored", self.axes)
        if self.plain:
            return given.astype(np.float64)
        columns = [given[..., axis].astype(np.float64) for axis in self.columns]
        if self.offset is not None:
            columns = [column + self.offset[axis] for column, axis in zip(columns, self.columns, strict=True)]
        if self.affine is not None:
            halves = [column / edge - 0.5 for column, edge in zip(columns, self._edges, strict=True)]
            columns = [_dot(row, halves) + row[3] for row in self.affine[:3]]
        return np.stack(columns, axis=-1)

    def from_world(self, positions: Any) -> Floats:
        """(..., C) world positions as (..., D) float64 stored positions.

        Raises
        ------
        SelectionError
            If the store has axes that the world does not include, or positions have the wrong number of columns.
        """
        if len(self.columns) < len(self.axes):
            left = [name for axis, name in enumerate(self.axes) if axis not in self.columns]
            raise SelectionError(f"world coordinates do not include the store's axes {left}: give stored coordinates")
        given = _columns(positions, len(self.columns), "world", self.names)
        columns = [given[..., column].astype(np.float64) for column in range(len(self.columns))]
        if self.affine is not None:
            moved = [column - shift for column, shift in zip(columns, self.affine[:3, 3], strict=True)]
            voxels = [_dot(row, moved) for row in self._inverse]
            columns = [(voxel + 0.5) * edge for voxel, edge in zip(voxels, self._edges, strict=True)]
        found = np.empty((*given.shape[:-1], len(self.axes)))
        for column, axis in zip(columns, self.columns, strict=True):
            found[..., axis] = column if self.offset is None else column - self.offset[axis]
        return found

    def stored_boxes(self, lo: Floats, hi: Floats) -> BBox:
        """(n, D) corners of stored boxes that hold everything in world boxes, (n, C) corners; ends may be infinite.

        They enclose the rotated boxes, and are wider by what rounding may move a vertex.
        """
        centre, factors = np.zeros(len(self.columns)), np.eye(len(self.columns))
        if self.affine is not None:
            centre = (self._inverse @ -self.affine[:3, 3] + 0.5) * self._edges
            factors = self._inverse * self._edges[:, None]
        with np.errstate(invalid="ignore"):
            ends = np.stack([np.where(factors == 0, 0.0, factors * corner[:, None, :]) for corner in (lo, hi)])
            first, last = ends.min(axis=0).sum(axis=2) + centre, ends.max(axis=0).sum(axis=2) + centre
        columns = list(self.columns)
        shift = np.zeros(len(columns)) if self.offset is None else self.offset[columns]
        sizes = np.abs(np.where(np.isfinite(ends), ends, 0.0)).sum(axis=(0, 3))
        slack = 1e-12 * (sizes + np.abs(centre) + np.abs(shift))
        low, high = np.full((len(lo), len(self.axes)), -np.inf), np.full((len(lo), len(self.axes)), np.inf)
        low[:, columns] = np.nan_to_num(first - shift - slack, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        high[:, columns] = np.nan_to_num(last - shift + slack, nan=np.inf, posinf=np.inf, neginf=-np.inf)
        return low, high

    @cached_property
    def _edges(self) -> Floats:
        """(3,) edges of a voxel."""
        assert self.affine is not None
        return np.asarray(np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)), np.float64)

    @cached_property
    def _inverse(self) -> Floats:
        assert self.affine is not None
        return np.asarray(np.linalg.inv(self.affine[:3, :3]), np.float64)


def _dot(row: Floats, columns: Sequence[Floats]) -> Floats:
    """Sum of products, column by column: unlike a matrix product, the same for a row whatever is next to it."""
    return np.asarray(columns[0] * row[0] + columns[1] * row[1] + columns[2] * row[2])


def by_axes(value: Any, axes: Sequence[str]) -> Any:
    """Columns of a table with the names of axes, in lower or upper case, in their order; others unchanged."""
    of = next((name for name in ("column_names", "columns") if hasattr(type(value), name)), None)
    names = [] if of is None else list(getattr(value, of))
    place = {name.lower(): name for name in names if isinstance(name, str)}
    if not place:
        return value
    if len(place) != len(names) or place.keys() != {axis.lower() for axis in axes}:
        raise SelectionError(f"a table of positions must have columns {listed(axes)}, found {listed(names)}")
    return np.stack([np.asarray(value[place[axis.lower()]]) for axis in axes], axis=1)


def _columns(positions: Any, count: int, kind: str, names: Sequence[str]) -> Array:
    positions = by_axes(positions, names)
    try:
        given = np.asanyarray(positions)
    except ValueError as error:
        raise SelectionError(f"{kind} positions must be (N, {count}) numbers: {error}") from error
    if given.ndim == 0 or given.shape[-1] != count or given.dtype.kind not in "iufb":
        raise SelectionError(
            f"{kind} positions must be (N, {count}) numbers ({', '.join(names)}), "
            f"found shape {given.shape}, dtype {given.dtype}"
        )
    if np.ma.is_masked(given):
        raise SelectionError(f"{kind} positions have masked values")
    return np.asarray(given)


def metres(unit: str | None) -> Fraction | None:
    """Metres in a unit of length, by its name or symbol in UDUNITS; None if it is not a known unit."""
    text = unicodedata.normalize("NFKC", unit or "").strip()  # one form of each letter: micro and angstrom have two
    for name in (text, text.removesuffix("s"), text.lower()):
        found = LENGTH.fullmatch(name)
        if found is not None:
            return Fraction(10) ** PREFIXES[found[1].lower()]
        if name.endswith("m") and name[:-1] in SYMBOLS:
            return Fraction(10) ** SYMBOLS[name[:-1]]
        if name in OTHERS:
            return OTHERS[name]
    return None


def meant_unit(unit: str) -> list[str]:
    """Units of length that are spelt like an unknown one; none if it is known, or of another kind."""
    return near(unit, NAMED, cutoff=0.75) if metres(unit) is None else []


def unit_factors(units: Sequence[str | None], to: str, *, stacklevel: int = 2) -> Floats:
    """(n,) factors that convert lengths from some units to another; 1, with a warning, if a unit is unknown.

    Parameters
    ----------
    units
        Such as `World.world_units`; None if the store does not say.
    to
        Unit of the file, such as ``"mm"``.
    """
    goal, found = metres(to), [metres(unit) for unit in units]
    unknown = sorted(
        {"none" if unit is None else repr(unit) for unit, size in zip(units, found, strict=True) if not size}
    )
    if unknown:
        message = f"unit of the store: {', '.join(unknown)}; its coordinates are taken as {to}"
        warnings.warn(message, ZVWarning, stacklevel=stacklevel + 1)
    assert goal is not None
    return np.array([1.0 if size is None else float(size / goal) for size in found])
