"""The interface of a generation of the format, names in a store's tree, and limits of what stored bytes may claim."""

import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.model.arrays import CellArray, DenseArray, LinkFamily, LinkValues
from zarr_vectors_lazy.model.levels import LevelMeta, StoreMeta
from zarr_vectors_lazy.model.objects import GroupIndex, ObjectIndex
from zarr_vectors_lazy.requests import Get, ListSizes
from zarr_vectors_lazy.types import ChunkCoords, Json

# The interface of a generation of the format; everything above uses this, and never a generation by name.
#
# Reading metadata is a conversation too (see ``requests``): a generation yields the nodes and folders that it needs,
# all that can be requested at once, and gets them in the same order.

COMPLETE = "zarr_vectors_lazy"
"""Key in the root's consolidated metadata that says that they name every node of the store."""


@dataclass(frozen=True, slots=True)
class Node:
    """Request a ``zarr.json``; the answer is a `Found` or None."""

    path: str


@dataclass(frozen=True, slots=True)
class Children:
    """Request the names of the nodes below a path; the answer is a tuple of str."""

    path: str


@dataclass(frozen=True, slots=True)
class Found:
    """A node's ``zarr.json``, decoded, and a digest of it."""

    path: str
    doc: Json
    digest: str

    @property
    def attributes(self) -> Json:
        """The node's attributes."""
        attributes = self.doc.get("attributes")
        return attributes if isinstance(attributes, dict) else {}

    @property
    def consolidated(self) -> bool:
        """Whether it has consolidated metadata, as a root may."""
        return self.doc.get("consolidated_metadata") is not None

    @property
    def bare(self) -> dict[str, Any]:
        """Its document without consolidated metadata."""
        return {name: value for name, value in self.doc.items() if name != "consolidated_metadata"}

    @property
    def unfinished(self) -> bool:
        """Whether it only says that its contents are being written."""
        ours = self.attributes.get("zarr_vectors_lazy")
        return isinstance(ours, dict) and ours.get("state") == "writing"


T = TypeVar("T")
MetaSteps: TypeAlias = Generator[Sequence[Node | Children | Get | ListSizes], list[Any], T]
"""A generation's conversation; sizes are None if they cannot be listed."""


LEVEL = re.compile("0|[1-9][0-9]{0,8}")
NAMED = {"vertex_attributes": 2, "fragment_attributes": 2, "object_attributes": 2, "group_attributes": 2, "headers": 2}
"""Folders whose families have names: how many parts of a path form a family."""


class Generation(Protocol):
    """One on-disk generation."""

    name: str
    changeable: bool
    """Whether its stores are changed in place; others are read-only."""
    capabilities: frozenset[str]
    """Capabilities that a store may require of its readers, all supported here."""

    families: Mapping[str, int]
    """By folder, how many parts of a path from it on form a family of arrays; 1 for other folders."""

    def family(self, key: str) -> tuple[int | None, str]:
        """Level and family of an object, by its key; None outside levels, ``""`` for a node's own document."""
        *folders, _ = key.split("/")
        level = int(folders[0]) if folders and LEVEL.fullmatch(folders[0]) else None
        path = folders if level is None else folders[1:]
        return level, "/".join(path[: self.families.get(path[0], 1)]) if path else ""

    def trusts_consolidated(self, consolidated: Json) -> bool:
        """Whether the root's consolidated metadata name every node of the store."""

    def parse_store(self, root: Found, children: tuple[str, ...] | None) -> StoreMeta:
        """Parse the root; ``children`` are the names below it, None if the store cannot list."""

    def level_nodes(self, level: int) -> tuple[str, str]:
        """Paths of a level's own node and of its vertices."""
        return str(level), f"{level}/vertices"

    def parse_level(self, node: Found, store: StoreMeta, level: int) -> LevelMeta:
        """Parse a level's node."""

    def relate(self, levels: dict[int, LevelMeta], store: StoreMeta) -> dict[int, LevelMeta]:
        """Add to each level what its metadata and those of the others say together, if anything."""
        return levels

    def headers(self) -> MetaSteps[dict[str, Json]]:
        """Headers by format name, as stored (spec 0.9, 9; spec 0.7, 6)."""
        (names,) = yield [Children("headers")]
        nodes = yield [Node(f"headers/{name}") for name in names]
        return {name: node.attributes for name, node in zip(names, nodes, strict=True) if node is not None}

    def vertices(self, level: LevelMeta, store: StoreMeta) -> MetaSteps[CellArray]:
        """The positions."""

    def fragments(self, level: LevelMeta, vertices: CellArray) -> MetaSteps[CellArray]:
        """The fragment indexes."""

    def fragment_owners(self, level: LevelMeta, vertices: CellArray) -> MetaSteps[CellArray | None]:
        """Return the id of the object of each fragment; None if it is not stored for all fragments."""

    def attribute_names(self, level: LevelMeta) -> MetaSteps[tuple[str, ...]]:
        """Names of the stored vertex attributes, sorted."""

    def has_attribute(self, level: LevelMeta, name: str) -> MetaSteps[bool]:
        """Whether there is such a stored vertex attribute, without requesting the documents of others."""

    def attribute(self, level: LevelMeta, vertices: CellArray, name: str) -> MetaSteps[CellArray]:
        """A stored vertex attribute."""

    def deltas(self, level: LevelMeta) -> MetaSteps[tuple[int, ...]]:
        """Deltas of the link families, ascending."""

    def links(self, level: LevelMeta, store: StoreMeta, delta: int) -> MetaSteps[LinkFamily | None]:
        """Return a link family; None if there is none."""

    def link_fragments(self, level: LevelMeta, vertices: CellArray) -> MetaSteps[CellArray | None]:
        """The fragment indexes of the links inside chunks; None if there are none."""

    def link_attribute_names(self, level: LevelMeta, delta: int) -> MetaSteps[tuple[str, ...]]:
        """Names of the attributes of a link family, sorted."""

    def link_attribute(self, level: LevelMeta, family: LinkFamily, name: str) -> MetaSteps[LinkValues]:
        """Return an attribute of a link family."""

    def objects(self, level: LevelMeta, vertices: CellArray) -> MetaSteps[ObjectIndex | None]:
        """Where the manifests are; None if the level has no objects."""

    def object_attributes(self, level: LevelMeta) -> MetaSteps[dict[str, DenseArray]]:
        """Arrays over objects, by name."""

    def groups(self, level: LevelMeta) -> MetaSteps[GroupIndex | None]:
        """Where the groups are; None if there are none."""

    def group_attributes(self, level: LevelMeta) -> MetaSteps[dict[str, DenseArray]]:
        """Arrays over groups, by name."""


# How much metadata and stored bytes may claim before memory is allocated.

RATIO = 1032  # deflate's highest ratio; a cell above its limit may be this many times as large as stored
MAX_CELL_NBYTES = 2**32 + 8  # the format states the size of a cell in 32 bits, after 8 bytes of header
MAX_AXES = 32
MAX_ROWS = 2**40  # rows of an array of objects; `Limits.array_nbytes` says how many can be read
MAX_PIECES = 2**20  # stored chunks of such an array
MAX_ITEM_NBYTES = 2**16  # bytes of a dtype: a text of 16384 characters
MAX_ROW_VALUES = 2**20  # values per row of an attribute
MAX_DIMENSIONS = 16


@dataclass(slots=True)
class Limits:
    """Limits that a user may set, for this process.

    Parameters
    ----------
    cell_nbytes
        Decoded size up to which a cell is accepted however few bytes are stored.
    array_nbytes
        Size of an array that is read as a whole (manifests, ids, attributes of objects), of a column of missing values,
        or of the text that dictionary codes stand for.
    """

    cell_nbytes: int = 2**28
    array_nbytes: int = 2**32

    def of_cell(self, stored: int) -> int:
        """Decoded size that a given number of stored bytes may have."""
        return min(MAX_CELL_NBYTES, max(self.cell_nbytes, RATIO * stored))


LIMITS = Limits()


def check_array(nbytes: int, what: str, where: str = "") -> None:
    """Raise FormatError if an array would take more memory than allowed."""
    if nbytes > LIMITS.array_nbytes:
        raise FormatError(
            f"{what} would take {nbytes} bytes, more than the {LIMITS.array_nbytes} allowed by the setting "
            "zarr_vectors_lazy.max-array-bytes",
            where=where,
        )


DOT, NEWLINE, MINUS, ZERO = b".\n-0"
MAX_DIGITS = 18
_DELTA = re.compile(r"0|[+-][1-9][0-9]{0,8}")


def parse_chunk_keys(keys: Sequence[str], rank: int, *, where: str = "") -> ChunkCoords:
    """Coordinates of dotted keys.

    Parameters
    ----------
    keys
        ``"-1.0.12"`` and the like.
    rank
        Number of components that each must have, K.
    where
        Place, for errors.

    Returns
    -------
    (n, K) int64, in the order given.

    Raises
    ------
    FormatError
        If a key is not a dotted coordinate of that rank.
    """
    if not keys:
        return np.empty((0, rank), np.int64)
    try:
        raw = np.frombuffer(("\n".join(keys) + "\n").encode("ascii"), np.uint8)
    except (TypeError, UnicodeEncodeError) as error:
        raise FormatError("chunk keys must be text like '-1.0.12'", where=where) from error
    digit = raw - np.uint8(ZERO)  # wraps for anything but a digit
    minus = raw == MINUS
    separator = (raw == DOT) | (raw == NEWLINE)
    ends = np.flatnonzero(separator)
    lines = np.flatnonzero(raw == NEWLINE)
    starts = np.concatenate([[0], ends[:-1] + 1])
    negative = minus[starts]
    length = ends - starts - negative
    well_formed = (
        len(lines) == len(keys)
        and len(ends) == len(keys) * rank
        and np.array_equal(ends[rank - 1 :: rank], lines)
        and bool(((digit < 10) | minus | separator).all())
        and int(minus.sum()) == int(negative.sum())
        and bool(((length > 0) & (length <= MAX_DIGITS)).all())
    )
    if not well_formed:
        raise FormatError(
            f"chunk keys must be {rank} dotted integers each; {_first_bad(keys, rank)!r} is not", where=where
        )
    values = np.zeros(len(ends), np.int64)
    first = starts + negative
    for k in range(int(length.max())):
        more = length > k
        values = np.where(more, values * 10 + digit[np.minimum(first + k, len(raw) - 1)], values)
    return np.where(negative, -values, values).reshape(-1, rank)


def _first_bad(keys: Sequence[str], rank: int) -> str:
    for key in keys:
        parts = str(key).split(".")
        digits = [part.removeprefix("-") for part in parts]
        if len(parts) != rank or not all(part.isdecimal() and len(part) <= MAX_DIGITS for part in digits):
            return str(key)
    return str(keys[0])


def is_name(name: str) -> bool:
    """Whether a node may have this name: not if it would lead out of the store on some file system."""
    return name not in {"", ".", ".."} and not any(char in name for char in "/\\\0")


def format_delta(delta: int) -> str:
    """Return a delta as a path segment: ``0``, ``+1``, ``-1``."""
    return "0" if delta == 0 else f"{delta:+d}"


def parse_deltas(names: Iterable[str]) -> set[int]:
    """Deltas among the names below a folder of link families."""
    return {int(name) for name in names if _DELTA.fullmatch(name)}


def format_deltas(coords: ChunkCoords) -> list[str]:
    """Chunk offsets as segment names state them: ``"0.0.+1"``."""
    return [".".join(map(format_delta, coord)) for coord in coords.tolist()]
