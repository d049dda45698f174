"""Cells and columns of several levels as one: the content of a level that refines others (spec next, 4).

A chunk of such a level has the number of the level that stores it before its own coordinate, so that the code that
orders, selects and joins chunks needs to know nothing about it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.model.arrays import CellArray, CellSpec, Dictionary, Layout, Places
from zarr_vectors_lazy.model.levels import ChunkTable
from zarr_vectors_lazy.requests import Elements, Steps, together
from zarr_vectors_lazy.types import Array, Blob, Buffer, ChunkCoords, IntArray, Raw


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The cells of one level among those of several.

    Parameters
    ----------
    level
        First component of their chunks.
    spec
        How they are read.
    recode
        The code here of each dictionary code there; None if they are the same.
    """

    level: int
    spec: CellSpec
    recode: IntArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ChainLayout(Layout):
    """Cells of several levels; what it fetches is already decoded.

    Parameters
    ----------
    parts
        In the order of their levels.
    dtype
        Dtype of the payloads that it returns.
    """

    parts: tuple[Part, ...]
    dtype: np.dtype[Any]

    @property
    def direct(self) -> bool:
        """Whether all codecs are known here."""
        return all(part.spec.layout.direct for part in self.parts)

    def fetch(self, coords: ChunkCoords, places: Places | None = None) -> Steps[list[Raw]]:
        """Payloads of cells; None if there is no object, an error if one cannot be decoded."""
        found = yield from self._of_parts(coords, heads=False)
        return [raw if raw is None or isinstance(raw, Exception) else self._payload(part, raw) for part, raw in found]

    def fetch_heads(self, coords: ChunkCoords, places: Places | None = None) -> Steps[list[Raw]]:
        """Sizes of the payloads of cells."""
        found = yield from self._of_parts(coords, heads=True)
        out: list[Raw] = [
            raw if raw is None or isinstance(raw, Exception) else self._head(part, raw) for part, raw in found
        ]
        vague = np.asarray([at for at, raw in enumerate(out) if isinstance(raw, Blob) and raw.nbytes < 0], np.int64)
        if len(vague):
            whole = yield from self.fetch(coords[vague])
            for at, raw in zip(vague.tolist(), whole, strict=True):
                out[at] = (
                    raw if raw is None or isinstance(raw, Exception | Blob) else Blob(len(raw), len(raw), (), None)
                )
        return out

    def decode(self, raw: Buffer | Blob) -> Buffer:
        """Return a payload as it was fetched."""
        assert not isinstance(raw, Blob)
        return raw

    def head_nbytes(self, raw: Buffer | Blob) -> int | None:
        """Size of a payload."""
        return raw.nbytes if isinstance(raw, Blob) else len(raw)

    def object_keys(self, coords: ChunkCoords) -> set[str] | None:
        """Keys of the objects that store cells, if metadata list the cells."""
        found = [part.spec.layout.object_keys(coords[at, 1:]) for part, at in self._split(coords)]
        return set().union(*(keys or () for keys in found)) if None not in found else None

    def requests(self, coords: ChunkCoords, places: Places | None = None, *, head: bool = False) -> int:
        """Sum of those of the parts."""
        return sum(part.spec.layout.requests(coords[at, 1:], head=head) for part, at in self._split(coords))

    def place(self, coord: Sequence[int]) -> tuple[int, str, tuple[int, ...]]:
        """Level, array and chunk of a cell as they are stored."""
        spec = next((part.spec for part in self.parts if part.level == coord[0]), self.parts[0].spec)
        return coord[0], spec.path, tuple(coord[1:])

    def _split(self, coords: ChunkCoords) -> list[tuple[Part, IntArray]]:
        split = [(part, np.flatnonzero(coords[:, 0] == part.level)) for part in self.parts]
        return [(part, at) for part, at in split if len(at)]

    def _of_parts(self, coords: ChunkCoords, *, heads: bool) -> Steps[list[tuple[Part, Raw]]]:
        split = self._split(coords)
        asked = [
            (part.spec.layout.fetch_heads if heads else part.spec.layout.fetch)(coords[at, 1:]) for part, at in split
        ]
        answers = yield from together(asked)
        out: list[tuple[Part, Raw]] = [(self.parts[0], None)] * len(coords)
        for (part, at), raws in zip(split, answers, strict=True):
            for row, raw in zip(at.tolist(), raws, strict=True):
                out[row] = part, raw
        return out

    def _payload(self, part: Part, raw: Buffer | Blob) -> Raw:
        try:
            payload = part.spec.layout.decode(raw)
        except FormatError as error:
            return error
        if part.spec.dtype == self.dtype and part.recode is None:
            return payload
        if len(payload) % part.spec.dtype.itemsize:
            return FormatError(f"{len(payload)} bytes are not a whole number of {part.spec.dtype} values")
        values = np.frombuffer(payload, part.spec.dtype)
        if part.recode is not None:
            if len(values) and not 0 <= values.astype(np.int64).min() <= values.max() < len(part.recode):
                return FormatError(f"a code is not one of the {len(part.recode)} categories")
            values = part.recode[values.astype(np.int64)]
        return values.astype(self.dtype).tobytes()

    def _head(self, part: Part, raw: Buffer | Blob) -> Raw:
        nbytes = part.spec.layout.head_nbytes(raw)
        nbytes = -1 if nbytes is None else nbytes // part.spec.dtype.itemsize * self.dtype.itemsize
        return Blob(nbytes, nbytes, (), None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChainColumn:
    """A column of rows for objects, each from the level that stores the object.

    Parameters
    ----------
    paths
        Path of the column on each level.
    part, row
        (O,) which path has the row of each object, -1 for none, and the number of that row.
    shape, dtype, missing
        Shape and dtype of the whole column; value of rows that are not stored.
    """

    paths: tuple[str, ...]
    part: IntArray
    row: IntArray
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    missing: Any

    @property
    def requests(self) -> int:
        """At least one for each level."""
        return len(self.paths)

    def read(self) -> Steps[Array]:
        """The whole column."""
        parts = yield [Elements(path) for path in self.paths]
        out = np.full(self.shape, self.missing, self.dtype)
        for number, values in enumerate(parts):
            if isinstance(values, FormatError):
                raise values
            at = np.flatnonzero((self.part == number) & (self.row < len(values)))
            out[at] = values[self.row[at]]
        return out


@dataclass(frozen=True, slots=True, eq=False)
class FixedColumn:
    """A column that is already known."""

    values: Array

    @property
    def requests(self) -> int:
        """None."""
        return 0

    def read(self) -> Steps[Array]:
        """Return it."""
        yield from ()
        return self.values


def chain_cells(parts: Sequence[tuple[int, CellArray]]) -> CellArray:
    """Arrays of several levels as one.

    Raises
    ------
    FormatError
        If their values are of incompatible kinds.
    """
    first = parts[0][1]
    path = first.spec.path
    if len({array.chunks.rank for _, array in parts}) > 1:
        raise FormatError("levels that refine each other have chunks of different ranks", where=path)
    shapes = {array.spec.row_shape for _, array in parts} - {None}
    if len(shapes) > 1:
        raise FormatError(f"levels that refine each other have rows of shapes {sorted(map(str, shapes))}", where=path)
    dictionary, recodes = _joined_dictionary([array.spec.dictionary for _, array in parts], path)
    dtypes = {array.spec.dtype for _, array in parts}
    if len(dtypes) > 1 and any(dtype.kind == "U" for dtype in dtypes):
        raise FormatError(f"levels that refine each other have text of {sorted(map(str, dtypes))}", where=path)
    dtype = np.dtype(np.int64) if any(code is not None for code in recodes) else np.result_type(*dtypes)
    layout = ChainLayout(
        tuple(Part(level, array.spec, code) for (level, array), code in zip(parts, recodes, strict=True)), dtype
    )
    if not layout.direct:
        raise FormatError("levels that refine each other have codecs that are not supported here", where=path)
    row_shape = next(iter(shapes)) if None not in {array.spec.row_shape for _, array in parts} else None
    counts = [array.counts for _, array in parts]
    return CellArray(
        spec=CellSpec(path=path, dtype=dtype, row_shape=row_shape, layout=layout, dictionary=dictionary),
        chunks=ChunkTable(np.concatenate([with_level(array.chunks.coords, level) for level, array in parts])),
        counts=None if any(count is None for count in counts) else np.concatenate([c for c in counts if c is not None]),
        digest="".join(array.digest for _, array in parts),
        attributes=first.attributes,
    )


def with_level(coords: ChunkCoords, level: int) -> ChunkCoords:
    """(n, K + 1) chunks with the number of their level first."""
    return np.insert(coords, 0, level, axis=1)


def _joined_dictionary(
    dictionaries: Sequence[Dictionary | None], where: str
) -> tuple[Dictionary | None, list[IntArray | None]]:
    """One dictionary for several, and its code for each of their codes."""
    known = [one for one in dictionaries if one is not None]
    if not known:
        return None, [None] * len(dictionaries)
    if len(known) < len(dictionaries) or len({one.categories.dtype.kind for one in known}) > 1:
        raise FormatError("levels that refine each other have values of different encodings", where=where)
    if all(np.array_equal(one.categories, known[0].categories) and one.fill == known[0].fill for one in known):
        return known[0], [None] * len(dictionaries)
    if any(one.fill is not None for one in known):
        raise FormatError("levels that refine each other encode missing values differently", where=where)
    categories = np.unique(np.concatenate([one.categories for one in known]))
    recodes: list[IntArray | None] = [np.searchsorted(categories, one.categories) for one in known]
    return Dictionary(categories=categories), recodes
