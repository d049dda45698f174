"""A build from its first put to its last: existing levels are unpublished first, and new ones appear at the end."""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from zarr_vectors_lazy.errors import FormatError, SelectionError, StoreError
from zarr_vectors_lazy.format.base import format_delta, parse_deltas
from zarr_vectors_lazy.format.registry import CURRENT
from zarr_vectors_lazy.kernels.bins import Rule
from zarr_vectors_lazy.model.arrays import DenseArray, absent_value
from zarr_vectors_lazy.model.objects import Manifests, ObjectIndex
from zarr_vectors_lazy.model.writing import (
    ArrayDraft,
    CellRecord,
    ChunkRecord,
    CrossStorage,
    LevelDraft,
    LevelRecord,
    LinkFamilyDraft,
)
from zarr_vectors_lazy.plan.blocks import factor_pairs, scale_list
from zarr_vectors_lazy.pyramid.merge import CHUNK, FIRST, FRAGMENT, OWNER, START, STOP, made_parts, read_pieces
from zarr_vectors_lazy.pyramid.step import JOURNAL, Begun, LevelBuild
from zarr_vectors_lazy.read import level as fresh
from zarr_vectors_lazy.read.level import Source
from zarr_vectors_lazy.read.metadata import DOC
from zarr_vectors_lazy.read.objects import read_dense, read_ids
from zarr_vectors_lazy.requests import Delete, Get, ListDir, ListSizes, Put
from zarr_vectors_lazy.storage.base import Backend
from zarr_vectors_lazy.storage.fetch import connect, delete_below, fetch
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import Floats, IntArray, Json
from zarr_vectors_lazy.write.arguments import rules_by_name
from zarr_vectors_lazy.write.in_place import write_consolidated

# A build from its first put to its last: existing levels are unpublished first, and new ones appear together at the
# end.

LAYOUT = 2  # version of a journal; builds by package versions with another one are not continued
_CELL = re.compile(r"/c/([0-9]+)(?:/|$)")


class LevelRequest(NamedTuple):
    """One level as the caller requests it."""

    level: int
    factor: tuple[Any, Any]
    chunk_scale: Any


METHOD: Literal["aggregate"] = "aggregate"
STRATEGY: Literal["hash"] = "hash"
CHECKED = ("cross_level_storage", "cross_level_depth", "min_vertices", "sparsity_seed")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PyramidOptions:
    """What to build, as `zvl.build_pyramid` takes it, checked as far as possible without a store.

    Parameters
    ----------
    source, target
        The existing level, and the one to make; None for levels 1, 2, ..., each from the one before, which replace
        all levels other than 0.
    shift
        How far cells are moved along the first axis, to keys that were not used before.
    build
        Name of the run.

    Raises
    ------
    SelectionError
        If a name or a number is wrong.
    """

    factors: Sequence[Any]
    chunk_scale_factors: Any = None
    method: str = METHOD
    sparsity_strategy: str = STRATEGY
    sparsity_seed: int = 0
    cross_level_depth: int = 1
    cross_level_storage: CrossStorage = "explicit"
    aggregate: Mapping[str, Rule | None] = field(default_factory=dict)
    min_vertices: int = 2
    overwrite: bool = False
    resume: bool = True
    source: int = 0
    target: int | None = None
    shift: int = 0
    build: str = ""

    def __post_init__(self) -> None:
        pairs = factor_pairs(self.factors)
        scales = scale_list(self.chunk_scale_factors, len(pairs))
        for name, only in (("method", METHOD), ("sparsity_strategy", STRATEGY)):
            if getattr(self, name) != only:
                raise SelectionError(f"{name} must be {only!r}, found {getattr(self, name)!r}")
        storage, depth, fewest, seed = (getattr(self, name) for name in CHECKED)
        if storage not in get_args(CrossStorage):
            raise SelectionError(f"cross_level_storage must be one of {get_args(CrossStorage)}, found {storage!r}")
        if not isinstance(depth, int | np.integer) or isinstance(depth, bool) or depth < -1:
            raise SelectionError(f"cross_level_depth must be a whole number of at least -1, found {depth!r}")
        if not isinstance(fewest, int) or fewest < 2:
            raise SelectionError(f"min_vertices must be a whole number of at least 2, found {fewest!r}")
        if not isinstance(seed, int | np.integer):
            raise SelectionError(f"sparsity_seed must be a whole number, found {seed!r}")
        plain = {
            "sparsity_seed": int(seed),
            "cross_level_depth": int(depth),
            "aggregate": rules_by_name(self.aggregate),
        }
        for name, value in {"factors": pairs, "chunk_scale_factors": scales, **plain}.items():
            object.__setattr__(self, name, value)

    @property
    def whole(self) -> bool:
        """Whether a whole pyramid is built."""
        return self.target is None

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels to make."""
        return tuple(range(1, len(self.factors) + 1)) if self.target is None else (self.target,)

    @property
    def asked(self) -> list[LevelRequest]:
        """What is requested of each level."""
        return [*map(LevelRequest, self.levels, self.factors, self.chunk_scale_factors)]

    @property
    def links(self) -> CrossStorage:
        """Which links between levels are stored."""
        return self.cross_level_storage if self.cross_level_depth else "none"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Session:
    """What is needed to begin and publish a build; small.

    Parameters
    ----------
    spec
        The store.
    options
        What to build.
    parameters
        Everything that the result depends on, and a fingerprint of the source; a second run must have the same.
    resumed, published
        Whether an earlier run's journal is continued, and whether only its deletion is left to do.
    replaced
        Existing levels that are replaced, ascending.
    kept
        Existing levels that stay.
    root
        Attributes of the root before the build.
    bins, base
        Bin shapes of the levels above 0 after the build, and of level 0.
    block
        Members of the root's ``zarr_vectors`` to set.
    consolidated
        Whether the root has consolidated metadata, which are then renewed.
    slots
        Tasks that can run at once, which determines the chunks of each task; a second run must use the same.
    summary
        What the caller is told in addition to the levels.
    """

    spec: StoreSpec
    options: PyramidOptions
    parameters: Json
    resumed: bool
    published: bool
    replaced: tuple[int, ...]
    kept: tuple[int, ...]
    root: Json
    bins: dict[int, Floats]
    base: Floats
    block: Json
    consolidated: bool
    slots: int
    summary: Json

    def journal(self, state: Literal["clearing", "building", "published"]) -> list[Put]:
        """Puts that record the state of every level."""
        doc = {
            "state": state,
            "build": self.options.build,
            "shift": self.options.shift,
            "slots": self.slots,
            "consolidated": self.consolidated,
            "parameters": self.parameters,
        }
        data = json.dumps(doc, separators=(",", ":"), sort_keys=True).encode()
        return [Put(journal_key(level), data) for level in self.options.levels]

    def reaches(self, delta: int) -> bool:
        """Whether links across ``delta`` levels are stored."""
        depth = self.options.cross_level_depth
        return self.options.links != "none" and (depth == -1 or delta <= depth)

    @property
    def gone(self) -> set[int]:
        """Levels that are built or removed."""
        return {*self.options.levels, *self.replaced}


def journal_key(level: int) -> str:
    """Key of a level's journal."""
    return f"{JOURNAL}/{level}/journal.json"


def read_journals(backend: Backend) -> dict[int, Json]:
    """Journals of unfinished builds, by level."""
    (names,) = fetch(backend, [ListDir(JOURNAL, required=False)])
    levels = sorted(int(name) for name in names or () if name.isdecimal())
    raws = fetch(backend, [Get(journal_key(level)) for level in levels])
    found: dict[int, Json] = {}
    for level, raw in zip(levels, raws, strict=True):
        try:
            doc = json.loads(bytes(raw)) if raw is not None else {}
        except ValueError:
            doc = {}  # a different journal than ours
        found[level] = doc if isinstance(doc, dict) else {}
    return found


def continues(journals: dict[int, Json], levels: Sequence[int], parameters: Json) -> bool:
    """Whether journals belong to an earlier run of the same build."""
    ours = all(doc.get("parameters") == parameters for doc in journals.values())
    return ours and bool(journals) and set(journals) <= set(levels)


def link_folders(kept: Iterable[int], gone: Iterable[int]) -> list[str]:
    """Folders of the links from levels that stay to those that are built or removed."""
    return [f"{level}/links/{format_delta(other - level)}" for level in kept for other in sorted(gone)]


def find_shift(backend: Backend, kept: Iterable[int], gone: Collection[int]) -> int:
    """First index along the first axis that no cell of levels to be built or removed has, nor of links to them."""
    folders = [*map(str, sorted(gone)), *link_folders(kept, gone)]
    sizes = fetch(backend, [ListSizes(folder) for folder in folders])
    found = [int(match[1]) for keys in sizes for key in keys if (match := _CELL.search(key))]
    return max(found, default=-1) + 1


def begin_build(session: Session) -> Begun:
    """Task: remove what was in the place; if repeated, it changes nothing that has been built since.

    Raises
    ------
    StoreError
        If another build has begun here in the meantime.
    """
    backend = connect(session.spec)
    backend.opened.clear()  # arrays as they were before
    journals = read_journals(backend)
    ours = continues(journals, session.options.levels, session.parameters)
    states = {doc.get("state") for doc in journals.values()}
    mine = {doc.get("build") for doc in journals.values()} == {session.options.build}
    if ours and set(journals) == set(session.options.levels) and states == {"building"} and (mine or session.resumed):
        return Begun(session.options.build, resumed=True)
    if session.resumed and not ours:
        raise StoreError("another build took this place meanwhile; this one is given up", where=session.spec.url)
    for level in sorted(set(journals) - set(session.options.levels)):
        delete_below(backend, f"{JOURNAL}/{level}")
    fetch(backend, session.journal("clearing"))
    _clear(backend, session)
    fetch(backend, session.journal("building"))
    return Begun(session.options.build, resumed=False)


def _clear(backend: Backend, session: Session) -> None:
    if session.replaced:
        bins = {level: shape for level, shape in session.bins.items() if level in session.kept}
        fetch(backend, [CURRENT.root_with_levels(session.root, bins, session.base)])
        for level in sorted(session.replaced, reverse=True):
            fetch(backend, [Delete((f"{level}/{DOC}",))])
    for folder in link_folders(session.kept, session.gone):
        _delete_documents_first(backend, folder)
    for level in session.kept:
        _delete_if_bare(backend, f"{level}/links")
    for level in sorted(session.gone, reverse=True):
        _delete_documents_first(backend, str(level))
    for level in session.options.levels:
        delete_below(backend, f"{JOURNAL}/{level}", keep={journal_key(level)})


def _delete_documents_first(backend: Backend, folder: str) -> None:
    """Delete a folder, documents first, so that no array is left without its cells."""
    (sizes,) = fetch(backend, [ListSizes(folder)])
    documents = tuple(key for key in sizes if key.endswith(f"/{DOC}"))
    if documents:
        fetch(backend, [Delete(documents)])
    if sizes:
        delete_below(backend, folder)


def _delete_if_bare(backend: Backend, folder: str) -> None:
    """Delete a group if it is empty and has no attributes."""
    key = f"{folder}/{DOC}"
    names, raw = fetch(backend, [ListDir(folder, required=False), Get(key)])
    if raw is not None and set(names or ()) == {DOC} and not json.loads(bytes(raw)).get("attributes"):
        fetch(backend, [Delete((key,))])


def publish(session: Session, arrays: Sequence[Put], nodes: Sequence[Put]) -> None:
    """Put the arrays' metadata, then the root, then the node of each level; then renew what is derived from them."""
    backend = connect(session.spec)
    fetch(backend, arrays)
    fetch(backend, [CURRENT.root_with_levels(session.root, session.bins, session.base, session.block)])
    for node in nodes:
        fetch(backend, [node])
    if session.consolidated:
        write_consolidated(session.spec)
    backend.opened.clear()
    fetch(backend, session.journal("published"))
    fresh.replaced()
    _sweep(backend, session.options.levels)


def _sweep(backend: Backend, levels: Sequence[int]) -> None:
    """Delete the journal of published levels, the entry that says so last."""
    for level in levels:
        delete_below(backend, f"{JOURNAL}/{level}", keep={journal_key(level)})
    for level in levels:
        fetch(backend, [Delete((journal_key(level),))])


def finish_build(session: Session, specs: Sequence[Json]) -> Json:
    """Task: finish what an earlier run, which published all levels, left undone."""
    _sweep(connect(session.spec), session.options.levels)
    return {"levels_created": len(specs), "level_specs": list(specs), **session.summary}


def describe_parameters(options: Json, fingerprint: str) -> Json:
    """Parameters as a journal keeps them: plain JSON values."""
    return dict(json.loads(json.dumps({**options, "fingerprint": fingerprint, "journal": LAYOUT}, sort_keys=True)))


# The last task of a build: metadata of everything that was written, from the records of all tasks.

VERTICES = "vertices"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LevelPlan:
    """What is recorded about a level when it is published.

    Parameters
    ----------
    step
        How it is made; of the existing level, what is written for it.
    arrays
        Its own arrays of cells; none for the existing level.
    attributes
        Members of ``zarr_vectors_level``.
    """

    step: LevelBuild
    arrays: tuple[ArrayDraft, ...] = ()
    attributes: Json = field(default_factory=dict)

    @property
    def spec(self) -> Json:
        """What the caller is told about the level, before its size is known."""
        return {
            "level": self.step.level,
            "method": METHOD,
            "preserves_object_ids": self.step.index is not None,
            "shared_fragments": False,
            "bin_shape": self.step.at.bin_shape.tolist(),
            "chunk_shape": self.step.at.chunk_shape.tolist(),
        }


def publish_levels(
    session: Session, plans: Sequence[LevelPlan], records: Iterable[Sequence[ChunkRecord]], objects: Sequence[int]
) -> Json:
    """Task: publish levels from what all tasks wrote; return a summary."""
    cells: dict[int, dict[str, list[CellRecord]]] = {plan.step.level: {} for plan in plans}
    for cell in (cell for group in records for record in group for cell in record.cells):
        cells[cell.level].setdefault(cell.path, []).append(cell)
    arrays: list[Put] = []
    nodes: list[Put] = []
    specs: list[Json] = []
    for plan in plans:
        by_path = cells[plan.step.level]
        *documents, node = level_puts(plan, by_path)
        if plan.arrays:
            nodes.append(node)
            specs.append({**plan.spec, "vertex_count": sum(cell.count for cell in by_path.get(VERTICES, ()))})
        arrays += documents if plan.arrays else _added(session, plan, documents)
    publish(session, arrays, nodes)
    for spec, count in zip(specs, objects, strict=False):
        spec["objects_kept"] = count
    return {"levels_created": len(specs), "level_specs": specs, **session.summary}


def _added(session: Session, plan: LevelPlan, documents: Sequence[Put]) -> list[Put]:
    """Documents to add to an existing level, without that of its group of links if it has one."""
    key = f"{plan.step.level}/links/{DOC}"
    (raw,) = fetch(connect(session.spec), [Get(key)])
    return [put for put in documents if raw is None or put.key != key]


def level_puts(plan: LevelPlan, by_path: Mapping[str, Sequence[CellRecord]]) -> list[Put]:
    """Metadata of a level and all its arrays, from the cells of each path; its own node comes last."""
    step, far = plan.step, np.full(len(plan.step.scale), np.inf)
    empty = np.empty((0, step.rank), np.int64)
    coords = {path: np.asarray([cell.chunk for cell in found], np.int64) for path, found in by_path.items()}
    for array in plan.arrays:
        coords.setdefault(array.path, empty)
    content = {path: sum(cell.content for cell in by_path.get(path, ())) % 2**64 for path in coords}
    record = LevelRecord(
        cells=coords,
        coords=coords.get(VERTICES, empty),
        counts=np.asarray([cell.count for cell in by_path.get(VERTICES, ())], np.int64),
        lo=far,
        hi=-far,
        content=content,
    )
    draft = LevelDraft(
        level=step.level,
        rank=step.rank,
        arrays=plan.arrays,
        families=tuple(_families(plan, by_path)),
        attributes=plan.attributes,
    )
    return CURRENT.level_puts(draft, record, step.grid, step.encoding)


def _families(plan: LevelPlan, by_path: Mapping[str, Sequence[CellRecord]]) -> Iterable[LinkFamilyDraft]:
    counts: dict[int, int] = {}
    for path, found in by_path.items():
        if path.startswith("links/"):
            (delta,) = parse_deltas([path.split("/")[1]])
            counts[delta] = counts.get(delta, 0) + sum(cell.count for cell in found)
    for delta, count in sorted(counts.items()):
        inside = delta == 0
        yield LinkFamilyDraft(
            delta=delta,
            width=plan.step.width if inside else 2,
            directed=plan.step.directed if inside else True,
            count=count,
        )


# What a coarse level records about objects: manifests, shard by shard, attributes and groups.

COPIED = ("groups", "group_attributes")  # folders
FAMILY = "object_attributes"
Shard: TypeAlias = tuple[IntArray, str]
"""(o,) vertices of a shard's objects on the level, and a digest of their manifests."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObjectTables:
    """What the existing level records about objects, to be copied to coarser ones.

    Parameters
    ----------
    source, index
        The level and its object index.
    attributes
        Attributes of its objects.
    """

    source: Source
    index: ObjectIndex
    attributes: dict[str, DenseArray]


def index_shard(step: LevelBuild, shard: int, records: Sequence[Sequence[ChunkRecord]]) -> Shard:
    """Task: write the manifests of the objects of a shard; return their numbers of vertices, 0 if absent, and a digest.

    The result depends only on the set of records: pieces are sorted along paths, or by chunk.
    """
    assert step.index is not None
    backend = connect(step.source.spec)
    total, size = step.index.count, CURRENT.shard_rows
    first, last = shard * size, min((shard + 1) * size, total)
    parts = made_parts(records)
    table = read_pieces(backend, step.level, parts, shard)
    chunks = np.asarray([record.chunk for part in parts for record in part], np.int64).reshape(-1, step.rank)
    span = int(table[FIRST].max(initial=0)) + 1
    order = np.argsort(table[OWNER] * span + table[FIRST], kind="stable")  # without places, chunks stay in order
    owner = table[OWNER] - first
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=last - first))]).astype(np.int64)
    manifests = Manifests(offsets, chunks.take(table[CHUNK].take(order), axis=0), table[FRAGMENT].take(order))
    put = CURRENT.manifest_put(step.level, shard, manifests, total, step.encoding)
    fetch(backend, [put])
    vertices = np.bincount(owner, weights=table[STOP] - table[START], minlength=last - first)
    return vertices.astype(np.int64), CURRENT.digest(put)


def write_object_tables(step: LevelBuild, tables: ObjectTables, shards: Sequence[Shard]) -> int:
    """Write the rest of what a level records about objects; return how many are present."""
    backend = connect(step.source.spec)
    vertices = np.concatenate([np.empty(0, np.int64), *(counts for counts, _ in shards)])
    here = np.asarray(vertices > 0)
    ids = None if tables.index.ids is None else read_ids(tables.source, tables.index)
    count = int(here.sum())
    content = [digest for _, digest in shards]
    puts = CURRENT.object_documents(
        step.level, ids, (len(here), count), content, rank=step.rank, encoding=step.encoding
    )
    puts += _attribute_puts(backend, step, tables, vertices)
    puts += CURRENT.told_puts(step.level, ids, vertices, tables.attributes, step.encoding)
    for folder in COPIED:
        puts += _copied(backend, f"{tables.source.level}/{folder}", f"{step.level}/{folder}")
    fetch(backend, puts)
    return count


def _attribute_puts(backend: Backend, step: LevelBuild, tables: ObjectTables, vertices: IntArray) -> list[Put]:
    """Attributes of the objects: the fill value for absent ones, the rest unchanged, except a count of vertices."""
    puts: list[Put] = []
    here = np.asarray(vertices > 0)
    for name, array in tables.attributes.items():
        values = read_dense(tables.source, array)
        values = values.astype(np.str_) if values.dtype.hasobject else values.copy()
        if len(values) != len(here):
            raise FormatError(f"{array.path} has {len(values)} rows for {len(here)} objects", where=backend.url)
        values[~here] = absent_value(values.dtype)
        made = CURRENT.dense_puts(step.level, FAMILY, CURRENT.recounted({name: values}, vertices), step.encoding)
        (old,) = fetch(backend, [Get(f"{array.path}/{DOC}")])
        puts += [_with_attributes(put, old) if put.key.endswith(f"/{name}/{DOC}") else put for put in made]
    return puts


def _with_attributes(put: Put, old: bytes | None) -> Put:
    """Document with the other attributes of the array that it continues."""
    doc, before = json.loads(bytes(put.data)), json.loads(bytes(old)) if old is not None else {}
    attributes: Json = {**before.get("attributes", {}), **doc["attributes"]}
    return Put(put.key, json.dumps({**doc, "attributes": attributes}, separators=(",", ":")).encode())


def _copied(backend: Backend, old: str, new: str) -> list[Put]:
    (sizes,) = fetch(backend, [ListSizes(old)])
    keys = sorted(sizes)
    raws = fetch(backend, [Get(key) for key in keys])
    return [
        Put(new + key.removeprefix(old), bytes(raw)) for key, raw in zip(keys, raws, strict=True) if raw is not None
    ]
