"""A build from its first put to its last: what is there is unpublished first, and levels appear at once at the end."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zarr_vectors_lazy.access import fresh
from zarr_vectors_lazy.access.metadata import DOC
from zarr_vectors_lazy.access.pyramid.cells import JOURNAL
from zarr_vectors_lazy.access.pyramid.tasks import Begun
from zarr_vectors_lazy.access.upkeep.consolidate import write_consolidated
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.format.keys import format_delta
from zarr_vectors_lazy.format.writing import CURRENT
from zarr_vectors_lazy.requests import Delete, Get, ListDir, ListSizes, Put
from zarr_vectors_lazy.storage.base import Backend
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.storage.fetch import delete_below, fetch
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import Floats, Json

_CELL = re.compile(r"/c/([0-9]+)(?:/|$)")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Session:
    """What beginning and publishing a build need; small.

    Parameters
    ----------
    spec
        The store.
    build
        Names this run.
    source, levels
        The level that is there, and those to be built from it.
    parameters
        All that the result depends on, and a fingerprint of the source; what a second run must agree with.
    resumed, published
        Whether an earlier run's journal is continued, and whether all is done but to delete it.
    replaced
        Levels that are there and go, ascending.
    kept
        Levels that are there and stay.
    root
        Attributes of the root, as they are before.
    bins, base
        Bin shapes of the levels above 0 when all is done, and of level 0.
    block
        Members of the root's ``zarr_vectors`` to set.
    consolidated
        Whether the root carries consolidated metadata, which are then renewed.
    shift
        How far cells are moved along the first axis, to keys that no earlier cell had.
    depth
        Levels that links reach across, -1 for all; 0 where none is stored.
    slots
        Tasks that can run at once, by which chunks are dealt out to tasks; a second run deals them out alike.
    summary
        What the caller is told beside the levels.
    """

    spec: StoreSpec
    build: str
    source: int
    levels: tuple[int, ...]
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
    shift: int
    depth: int
    slots: int
    summary: Json

    def journal(self, state: Literal["clearing", "building", "published"]) -> list[Put]:
        """Puts that note the state of every level."""
        doc = {
            "state": state,
            "build": self.build,
            "shift": self.shift,
            "slots": self.slots,
            "consolidated": self.consolidated,
            "parameters": self.parameters,
        }
        data = json.dumps(doc, separators=(",", ":"), sort_keys=True).encode()
        return [Put(journal_key(level), data) for level in self.levels]

    def reaches(self, delta: int) -> bool:
        """Whether links across ``delta`` levels are stored."""
        return self.depth == -1 or delta <= self.depth

    def families(self) -> list[str]:
        """Folders of the links from levels that stay to those that are built or go."""
        gone = {*self.levels, *self.replaced}
        return [f"{level}/links/{format_delta(other - level)}" for level in self.kept for other in sorted(gone)]


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
            doc = {}  # another journal than ours
        found[level] = doc if isinstance(doc, dict) else {}
    return found


def continues(journals: dict[int, Json], levels: Sequence[int], parameters: Json) -> bool:
    """Whether journals are those of an earlier run of the same build."""
    ours = all(doc.get("parameters") == parameters for doc in journals.values())
    return ours and bool(journals) and set(journals) <= set(levels)


def is_published(journals: dict[int, Json]) -> bool:
    """Whether an earlier run has published all levels, and only its journal is left."""
    return any(doc.get("state") == "published" for doc in journals.values())


def find_shift(backend: Backend, folders: Sequence[str]) -> int:
    """First index along the first axis that no cell below some folders has."""
    sizes = fetch(backend, [ListSizes(folder) for folder in folders])
    found = [int(match[1]) for keys in sizes for key in keys if (match := _CELL.search(key))]
    return max(found, default=-1) + 1


def begin_build(session: Session) -> Begun:
    """Task: take the place of what was there; done again, it changes nothing that has been built since.

    Raises
    ------
    StoreError
        If another build has begun here meanwhile.
    """
    backend = connect(session.spec)
    backend.opened.clear()  # arrays as they were before
    journals = read_journals(backend)
    ours = continues(journals, session.levels, session.parameters)
    states = {doc.get("state") for doc in journals.values()}
    mine = {doc.get("build") for doc in journals.values()} == {session.build}
    if ours and set(journals) == set(session.levels) and states == {"building"} and (mine or session.resumed):
        return Begun(session.build, resumed=True)
    if session.resumed and not ours:
        raise StoreError("another build took this place meanwhile; this one is given up", where=session.spec.url)
    for level in sorted(set(journals) - set(session.levels)):
        delete_below(backend, f"{JOURNAL}/{level}")
    fetch(backend, session.journal("clearing"))
    _clear(backend, session)
    fetch(backend, session.journal("building"))
    return Begun(session.build, resumed=False)


def _clear(backend: Backend, session: Session) -> None:
    if session.replaced:
        bins = {level: shape for level, shape in session.bins.items() if level in session.kept}
        fetch(backend, [CURRENT.root_with_levels(session.root, bins, session.base)])
        for level in sorted(session.replaced, reverse=True):
            fetch(backend, [Delete((f"{level}/{DOC}",))])
    for folder in session.families():
        _delete_documents_first(backend, folder)
    for level in session.kept:
        _delete_if_bare(backend, f"{level}/links")
    for level in sorted({*session.replaced, *session.levels}, reverse=True):
        _delete_documents_first(backend, str(level))
    for level in session.levels:
        delete_below(backend, f"{JOURNAL}/{level}", keep={journal_key(level)})


def _delete_documents_first(backend: Backend, folder: str) -> None:
    """Delete a folder; no array is left whose cells are gone."""
    (sizes,) = fetch(backend, [ListSizes(folder)])
    documents = tuple(key for key in sizes if key.endswith(f"/{DOC}"))
    if documents:
        fetch(backend, [Delete(documents)])
    if sizes:
        delete_below(backend, folder)


def _delete_if_bare(backend: Backend, folder: str) -> None:
    """Delete a group in which nothing is left, and of which nothing is said."""
    key = f"{folder}/{DOC}"
    names, raw = fetch(backend, [ListDir(folder, required=False), Get(key)])
    if raw is not None and set(names or ()) == {DOC} and not json.loads(bytes(raw)).get("attributes"):
        fetch(backend, [Delete((key,))])


def publish(session: Session, arrays: Sequence[Put], nodes: Sequence[Put]) -> None:
    """Put arrays' metadata, then the root, then the node of each level; then renew what is derived from them."""
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
    _sweep(backend, session.levels)


def _sweep(backend: Backend, levels: Sequence[int]) -> None:
    """Delete the journal of levels that are published, what says so last."""
    for level in levels:
        delete_below(backend, f"{JOURNAL}/{level}", keep={journal_key(level)})
    for level in levels:
        fetch(backend, [Delete((journal_key(level),))])


def finish_build(session: Session, specs: Sequence[Json]) -> Json:
    """Task: do what an earlier run, which published all levels, left undone."""
    _sweep(connect(session.spec), session.levels)
    return {"levels_created": len(specs), "level_specs": list(specs), **session.summary}


def describe_parameters(options: Json, fingerprint: str) -> Json:
    """Parameters as a journal keeps them: plain JSON values."""
    plain: Any = json.loads(json.dumps({**options, "fingerprint": fingerprint}, sort_keys=True))
    found: Json = plain
    return found
