"""One level's arrays: what the store's metadata say, read on first use, and whether they are still up to date."""

import math
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np

from zarr_vectors_lazy.errors import CorruptChunkError, FormatError, SelectionError
from zarr_vectors_lazy.format.base import LIMITS, Found, Generation, MetaSteps
from zarr_vectors_lazy.format.codecs import LOST, draco_links, is_draco
from zarr_vectors_lazy.format.metadata import check_rank, parse_dtype, parse_json
from zarr_vectors_lazy.model.arrays import UNTOLD, CellArray, DenseArray, LinkFamily, LinkValues
from zarr_vectors_lazy.model.levels import LevelMeta, StoreMeta, content_of, dotted
from zarr_vectors_lazy.model.objects import GroupIndex, ObjectIndex
from zarr_vectors_lazy.plan.selection import Placement
from zarr_vectors_lazy.read.metadata import DOC, MetaTree
from zarr_vectors_lazy.requests import Elements, Get, Request, Steps, converse, together
from zarr_vectors_lazy.settings import Recent, nbytes_setting
from zarr_vectors_lazy.storage.base import Backend
from zarr_vectors_lazy.storage.fetch import connect, fetch, zarr_array
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import Array

# The limits of this process, from its settings.


def adopt_limits() -> None:
    """Apply the current settings to the code that decodes."""
    LIMITS.cell_nbytes = nbytes_setting("max-cell-bytes")
    LIMITS.array_nbytes = nbytes_setting("max-array-bytes")


# Connects code that knows a layout with a store that answers.

T = TypeVar("T")
IDENTITY = "the root states 'identity': the fragments of the only chunk are the objects, which is not supported"


def drive(backend: Backend, steps: Sequence[Steps[T]]) -> list[T]:
    """Run several conversations at once; each round of all of them is one concurrent fetch.

    Returns
    -------
    The results, in the order of ``steps``.

    Raises
    ------
    StoreError
        If a request fails.
    """
    adopt_limits()
    return converse(together(steps), partial(_answers, backend))


def _answers(backend: Backend, requests: list[Request | Elements]) -> list[Any]:
    several = [request for request in requests if not isinstance(request, Elements)]
    found = fetch(backend, several)
    if len(several) == len(requests):
        return found
    plain = iter(found)
    return [_elements(backend, request) if isinstance(request, Elements) else next(plain) for request in requests]


def _elements(backend: Backend, request: Elements) -> Any:
    try:
        return zarr_array(backend, request.path, 0, None)
    except FormatError as error:
        return error


# One level's arrays: what the store's metadata say, read on first use.


@dataclass(frozen=True, slots=True)
class Source:
    """What a task needs to reach one level's bytes.

    Parameters
    ----------
    spec
        The store.
    level
        The level.
    content
        Digest of its data in its node when it was opened (`read_level`); empty if it has none.
    """

    spec: StoreSpec
    level: int
    content: str = ""


class LevelData:
    """Metadata of one level, each part read once.

    Parameters
    ----------
    tree, generation, store, meta
        The store's nodes, the generation that reads them, and what was read at opening.
    digest
        Changes when the metadata of store or level change.
    content
        Digest of its data when it was opened, if that was in another process; otherwise the present one.
    """

    def __init__(
        self,
        tree: MetaTree,
        generation: Generation,
        store: StoreMeta,
        meta: LevelMeta,
        digest: str,
        content: str | None = None,
    ) -> None:
        self.tree = tree
        self.generation = generation
        self.store = store
        self.meta = meta
        self.digest = digest
        self.content = meta.content if content is None else content
        self._attributes: dict[str, CellArray] = {}
        self._families: dict[int, LinkFamily | None] = {}
        self._link_attributes: dict[str, LinkValues] = {}
        self._lock = threading.RLock()
        self.row_shapes: dict[str, tuple[int, ...]] = {}  # widths of attributes by path, if cells had to show them

    def _once(self, cache: dict, key: object, make: Callable[[], T]) -> T:  # type: ignore[type-arg]
        with self._lock:  # parsing the chunks of an array takes long if there are many
            if key not in cache:
                cache[key] = make()
        value: T = cache[key]
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        return LevelData, (self.tree, self.generation, self.store, self.meta, self.digest, self.content)

    @property
    def source(self) -> Source:
        """What tasks need."""
        return Source(self.tree.spec, self.meta.index, self.content)

    @property
    def url(self) -> str:
        """The store's URL and the level, for errors."""
        return f"{self.tree.url}/{self.meta.index}"

    @property
    def row_count(self) -> int | None:
        """Rows by the metadata; None if these do not state them, as after streaming: a listed chunk has rows."""
        stated = self.meta.vertex_count or 0
        if self.meta.deferred:
            return None
        if stated and not self.meta.count_is_sure:
            return stated
        chunks = len(self.vertices.chunks)
        return (stated if stated >= chunks else None) if chunks else 0

    @cached_property
    def vertices(self) -> CellArray:
        """The positions."""
        array = self.tree.run(self.generation.vertices(self.meta, self.store))
        stated = self.meta.vertex_count if self.meta.count_is_sure else None
        if array.counts is not None and stated not in (None, 0, int(array.counts.sum())):
            raise FormatError(
                f"vertex_counts sum to {int(array.counts.sum())}, but the level states {stated}; run zvl.index",
                where=self.url,
            )
        return array

    @cached_property
    def fragments(self) -> CellArray:
        """The fragment indexes."""
        return self.tree.run(self.generation.fragments(self.meta, self.vertices))

    @cached_property
    def fragment_owners(self) -> CellArray | None:
        """The object of each fragment, if the store states it."""
        return self.tree.run(self.generation.fragment_owners(self.meta, self.vertices))

    @cached_property
    def attribute_names(self) -> tuple[str, ...]:
        """Stored vertex attributes, and the one by which chunks are cut."""
        names = set(self.tree.run(self.generation.attribute_names(self.meta)))
        if self.chunk_attribute is not None:
            names.add(self.chunk_attribute[0])
        return tuple(sorted(names))

    def cuts_chunks(self, name: str) -> bool:
        """Whether chunks are cut by an attribute: then it has no cells."""
        return self.chunk_attribute is not None and self.chunk_attribute[0] == name

    @property
    def stored_names(self) -> list[str]:
        """Names of the vertex attributes that have cells, sorted."""
        return [name for name in self.attribute_names if not self.cuts_chunks(name)]

    @cached_property
    def chunk_attribute(self) -> tuple[str, Array] | None:
        """Name of the attribute by which chunks are cut, and its values by first component of a chunk.

        If chunks are cut by something that is not an attribute: the number of the bin (spec next, 16).
        """
        meta, chunks = self.meta, self.vertices.chunks
        if chunks.rank == self.store.ndim or not len(chunks):
            return meta.chunk_attribute if not len(chunks) else None
        bins = int(chunks.coords[:, 0].max()) + 1
        if meta.chunk_attribute is not None:
            return meta.chunk_attribute if bins <= len(meta.chunk_attribute[1]) else None
        known = not meta.chunk_bins or meta.chunk_bins in self.tree.run(self.generation.attribute_names(meta))
        if known or chunks.coords[:, 0].min() < 0:
            return None
        return meta.chunk_bins, np.arange(bins, dtype=np.int64)

    @property
    def known_attribute_names(self) -> tuple[str, ...] | None:
        """The same if known without a request, otherwise None."""
        return self.attribute_names if self.tree.complete or "attribute_names" in self.__dict__ else None

    def has_attribute(self, name: str) -> bool:
        """Whether ``name`` is one of `attribute_names`, without reading the documents of the others.

        Raises
        ------
        FormatError
            If chunks were binned by it, and its values are lost.
        """
        meta = self.meta
        by = self.chunk_attribute if meta.chunk_attribute is not None or meta.chunk_bins else None
        lost = meta.chunk_lost or ("" if by or meta.chunk_attribute is None else meta.chunk_attribute[0])
        if lost and name == lost:
            text = f"chunks are binned by {name!r}, but the limits of the bins were not stored, so it has no values"
            raise FormatError(text, where=self.url)
        if "attribute_names" in self.__dict__:
            return name in self.attribute_names
        return (by is not None and by[0] == name) or self.tree.run(self.generation.has_attribute(meta, name))

    def attribute(self, name: str) -> CellArray:
        """Return a stored vertex attribute."""
        return self._once(self._attributes, name, lambda: self._read_attribute(name))

    def _read_attribute(self, name: str) -> CellArray:
        array = self.tree.run(self.generation.attribute(self.meta, self.vertices, name))
        if is_draco(self.vertices):
            raise FormatError(f"{LOST}values of {name!r} can no longer be matched to vertices", where=array.spec.path)
        given = self.store.told.get(name)
        if array.spec.dtype == UNTOLD:
            return self._told(name, array)
        if given is not None and given[0] != array.spec.dtype:
            text = f"attribute {name!r} states dtype {array.spec.dtype}, but attribute_dtypes= says {given[0]}"
            raise SelectionError(text, where=self.url)
        return array

    def _told(self, name: str, array: CellArray) -> CellArray:
        """The array of an attribute that states no dtype, with the dtype from the root or the user (spec next, 13).

        Raises
        ------
        FormatError
            If neither gives a dtype.
        """
        width = self._row_nbytes(array)
        given, values = self.store.told.get(name, (None, None))
        dtype = self._specified(name, width, given)
        if dtype is None:
            cells = "" if width is None else f"; its cells have {width:g} bytes per row"
            raise FormatError(
                f"attribute {name!r} states no dtype{cells}. Pass attribute_dtypes={{{name!r}: ...}} to open_zv: what "
                "it is, such as 'int32', or ('float32', 3) for vectors",
                where=array.spec.path,
            )
        if width is not None and (width % dtype.itemsize or values not in (None, width // dtype.itemsize)):
            of = str(dtype) if values is None else f"{values} of {dtype}"
            text = f"attribute {name!r} has {width:g} bytes per row, which is not {of}: change attribute_dtypes="
            raise FormatError(text, where=array.spec.path)
        if values is None and width is not None:
            values = int(width // dtype.itemsize)
        shape = None if values is None else () if values == 1 else (values,)
        digest = f"{array.digest}:{dtype}:{values}"
        return replace(array, spec=replace(array.spec, dtype=dtype, row_shape=shape), digest=digest, told=True)

    def _specified(self, name: str, width: float | None, given: np.dtype[Any] | None) -> np.dtype[Any] | None:
        """Dtype that the root states for an attribute, if it fits rows of ``width`` bytes; otherwise the user's."""
        stated = self.store.specified(name).get("dtype")
        try:
            dtype = None if stated is None else parse_dtype(stated, self.url)
        except FormatError:
            if given is None:
                raise
            dtype = None
        if dtype is None or (width is not None and width % dtype.itemsize):
            return given
        if given not in (None, dtype):
            text = f"attribute_specs of the root say that {name!r} is {dtype}, but attribute_dtypes= says {given}"
            raise SelectionError(text, where=self.url)
        return dtype

    def _row_nbytes(self, array: CellArray) -> float | None:
        """Bytes per row of the first cell of an attribute, if the heads of cells show them.

        Raises
        ------
        CorruptChunkError
            If they are not a whole number.
        """
        both = np.flatnonzero(self.vertices.chunks.find(array.chunks.coords) >= 0)[:1]
        if not len(both) or not (array.spec.layout.direct and self.vertices.spec.layout.direct):
            return None
        coords, nbytes = array.chunks.coords[both], []
        steps = []
        for one in (array, self.vertices):
            places = None if one.places is None else one.places.take(one.chunks.find(coords))
            steps.append(one.spec.layout.fetch_heads(coords, places))
        for one, (head,) in zip((array, self.vertices), drive(self.tree.backend, steps), strict=True):
            if head is None or isinstance(head, Exception):
                return None
            nbytes.append(one.spec.layout.head_nbytes(head))
        row = self.vertices.spec.dtype.itemsize * math.prod(self.vertices.spec.row_shape or ())
        if not nbytes[0] or not nbytes[1]:
            return None
        width, chunk = nbytes[0] / (nbytes[1] / row), dotted(coords[0].tolist())
        if width != int(width):
            reason = f"the cell has {width:g} bytes for each vertex of its chunk"
            raise CorruptChunkError(
                reason, level=self.meta.index, array=array.spec.path, chunk=chunk, url=self.tree.url
            )
        return width

    def load_attributes(self) -> None:
        """Read the metadata of all vertex attributes, concurrently."""
        names = [name for name in self.stored_names if name not in self._attributes]
        if len(names) > 1:
            self.tree.anticipate([self.generation.attribute(self.meta, self.vertices, name) for name in names])

    def load_paths(self, *, owners: bool, names: bool) -> None:
        """Read the metadata of objects and fragments concurrently, of fragments' owners and attributes if requested."""
        meta, vertices, made = self.meta, self.vertices, self.generation
        asked: list[MetaSteps[Any]] = [made.objects(meta, vertices), made.fragments(meta, vertices)]
        asked += [made.fragment_owners(meta, vertices)] if owners else []
        self.tree.anticipate([*asked, made.attribute_names(meta)] if names else asked)

    @cached_property
    def deltas(self) -> tuple[int, ...]:
        """Deltas of the link families."""
        return self.tree.run(self.generation.deltas(self.meta))

    def links(self, delta: int) -> LinkFamily | None:
        """Return a link family; None if there is none."""
        return self._once(self._families, delta, lambda: self._read_links(delta))

    def _read_links(self, delta: int) -> LinkFamily | None:
        family = self.tree.run(self.generation.links(self.meta, self.store, delta))
        for segment in () if family is None else family.segments:
            check_rank(segment.array, self.vertices.chunks.rank)
        return draco_links(self.vertices, family) if is_draco(self.vertices) and not delta else family

    @cached_property
    def link_fragments(self) -> CellArray | None:
        """The fragment indexes of the links inside chunks; None if there are none."""
        return self.tree.run(self.generation.link_fragments(self.meta, self.vertices))

    @cached_property
    def link_attribute_names(self) -> tuple[str, ...]:
        """Attributes of the links inside this level."""
        return self.tree.run(self.generation.link_attribute_names(self.meta, 0))

    def link_attribute(self, family: LinkFamily, name: str) -> LinkValues:
        """Return an attribute of the links inside this level."""
        return self._once(self._link_attributes, name, lambda: self._read_link_attribute(family, name))

    def _read_link_attribute(self, family: LinkFamily, name: str) -> LinkValues:
        values = self.tree.run(self.generation.link_attribute(self.meta, family, name))
        for array in values.cells.values():
            if array.spec.dtype == UNTOLD:
                text = "it states no dtype, so its bytes cannot be interpreted: add 'dtype' to its attributes"
                raise FormatError(text, where=array.spec.path)
        return values

    @cached_property
    def object_index(self) -> ObjectIndex | None:
        """Where the manifests are."""
        index = self.tree.run(self.generation.objects(self.meta, self.vertices))
        convention: Any = self.store.attributes.get("zarr_vectors", {}).get("object_index_convention")
        if index is None and convention == "identity":
            return ObjectIndex(count=0, rank=self.vertices.chunks.rank, manifests=None, ids=None, lost=IDENTITY)
        return replace(index, exclusive=True) if index is not None and is_draco(self.vertices) else index

    @cached_property
    def object_arrays(self) -> dict[str, DenseArray]:
        """Arrays over objects as they are stored, including those that repeat what manifests say."""
        return self.tree.run(self.generation.object_attributes(self.meta))

    @cached_property
    def object_attributes(self) -> dict[str, DenseArray]:
        """Arrays over objects, a row for each; without an object index, as many rows as the longest array has."""
        arrays = {name: array for name, array in self.object_arrays.items() if not array.repeats}
        index = self.object_index
        rows = max((array.shape[0] for array in arrays.values()), default=0) if index is None else index.count
        return {name: array.fit(rows) for name, array in arrays.items()}

    @property
    def object_rows(self) -> int:
        """Rows of arrays over objects on a level without an object index (spec next, 17)."""
        return next((array.shape[0] for array in self.object_attributes.values()), 0)

    @cached_property
    def group_index(self) -> GroupIndex | None:
        """Where the groups are."""
        return self.tree.run(self.generation.groups(self.meta))

    @cached_property
    def group_attributes(self) -> dict[str, DenseArray]:
        """Arrays over groups."""
        return self.tree.run(self.generation.group_attributes(self.meta))

    @property
    def state(self) -> str:
        """Text to add to an error about missing cells."""
        return ": the level is still being written" if self.meta.deferred else ""

    @cached_property
    def placement(self) -> Placement:
        """Where the vertices of a chunk may lie.

        Level 0 is cut by bins, and bins that do not tile chunks break the rule there. Pyramid builders place the
        vertices of coarser levels only by chunk.
        """
        meta = self.meta
        tiles = meta.index > 0 or meta.bins_tile or bool(np.all(meta.bin_shape >= meta.chunk_shape))
        return Placement(
            chunk_shape=meta.chunk_shape,
            bin_shape=meta.bin_shape if meta.bins_tile else meta.chunk_shape,
            strays=meta.strays or (),
            # Draco rounds positions, even out of their chunk; only its streams show by how much.
            known=tiles and meta.strays is not None and not is_draco(self.vertices),
        )


# Whether a level is still what it was when opened: a store may be replaced while a level of it is open.
#
# The node of a level that we write states its content: a digest of everything that was written for it. A process that
# reads the level requests the node again with its first requests after a pause: once per computation, without an extra
# round trip. In use without a pause, it is requested every `LONGEST`, and a file as soon as it changes. Levels of
# other writers state nothing, and cost nothing.

PAUSE = 2.0  # seconds without a read after which another computation may have begun
LONGEST = 60.0  # seconds
KEPT = 4096  # levels

_seen: Recent[Any, tuple[float, float, Hashable]] = Recent(KEPT)  # when each was last checked and last read; its stamp


def opened(sources: Iterable[Source]) -> None:
    """Note that the nodes of levels were read just now."""
    now = time.monotonic()
    for source in sources:
        _seen.put(_key(source), (now, now, _stamp(source)))


def replaced() -> None:
    """Check every level again before more of it is read, because this process has changed a store."""
    _seen.clear()


def read_level(source: Source, steps: Sequence[Steps[T]]) -> list[T]:
    """Run conversations about what a level stores (see `drive`), and if it is due, one about its node.

    Raises
    ------
    FormatError
        If the level has been replaced since it was opened.
    StoreError
        If a request fails.
    """
    backend = connect(source.spec)
    if not source.content:
        return drive(backend, steps)
    look = [_look(source)] if _is_due(source) else []
    try:
        found: list[Any] = drive(backend, [*look, *steps])
    except BaseException:
        if look:
            _seen.drop(_key(source))
        raise
    with _seen.lock:
        if (seen := _seen.get(_key(source))) is not None:
            _seen.put(_key(source), (seen[0], time.monotonic(), seen[2]))
    return found[len(look) :]


def _is_due(source: Source) -> bool:
    """Whether the node is due to be read; the caller then reads it, and others need not."""
    now, stamp = time.monotonic(), _stamp(source)
    with _seen.lock:
        looked, read, before = _seen.get(_key(source)) or (-math.inf, -math.inf, None)
        due = now - read > PAUSE or now - looked > LONGEST or stamp != before
        _seen.put(_key(source), (now if due else looked, now, stamp))
    return due


def _stamp(source: Source) -> Hashable:
    return connect(source.spec).stamp(_node(source))


def _node(source: Source) -> str:
    return f"{source.level}/{DOC}"


def _key(source: Source) -> Any:
    carried = source.spec.carried  # an object of the user, which must not be kept alive here
    return source.spec if carried is None else carried.token, source.level, source.content


def _look(source: Source) -> Steps[Any]:
    (raw,) = yield [Get(_node(source))]
    where = f"{source.spec.url}/{source.level}"
    if raw is None:
        text = "the level was deleted after it was opened, or is being replaced; open the store again"
        raise FormatError(text, where=where)
    if content_of(Found("", parse_json(bytes(raw), where), "").attributes) != source.content:
        raise FormatError(
            "the level was replaced after it was opened, and now has other data: open the store again (if that does "
            "not help, consolidated metadata are older than the level: run zvl.consolidate)",
            where=where,
        )
