"""From what a caller asks to a session and planned levels: refuses what cannot be, and writes nothing."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from zarr_vectors_lazy.errors import NotFoundError, StoreError
from zarr_vectors_lazy.format.keys import format_delta
from zarr_vectors_lazy.format.registry import CURRENT
from zarr_vectors_lazy.kernels.groups import Rule
from zarr_vectors_lazy.model.writing import CrossStorage
from zarr_vectors_lazy.pyramid.planning import Asked, Options, PlannedLevel, plan_first, plan_next, settle_scales
from zarr_vectors_lazy.pyramid.session import (
    LevelPlan,
    Session,
    continues,
    describe_parameters,
    find_shift,
    is_published,
    read_journals,
)
from zarr_vectors_lazy.pyramid.step import Step
from zarr_vectors_lazy.read.level import LevelData
from zarr_vectors_lazy.read.store import OpenStore
from zarr_vectors_lazy.requests import ListDir
from zarr_vectors_lazy.storage.base import Backend
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.types import Json

METHOD: Literal["aggregate"] = "aggregate"
STRATEGY: Literal["hash"] = "hash"
OURS = ("preserved_object_ids", "shared_fragments", "multiscale_links")
CHUNKING = ("chunk_dims", "chunk_attribute_name", "chunk_attribute_values")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """What is to be built, checked as far as that needs no store.

    Parameters
    ----------
    source, levels
        The level that is there, and those to be made, each from the one before.
    factors, scales
        Of each of these.
    whole
        Whether these levels are to be all that there are beside level 0.
    """

    source: int
    levels: tuple[int, ...]
    factors: Sequence[tuple[Any, Any]]
    scales: Sequence[Any]
    whole: bool
    seed: int
    depth: int
    storage: CrossStorage
    aggregate: Mapping[str, Rule | None]
    min_vertices: int
    overwrite: bool
    resume: bool

    @property
    def asked(self) -> list[Asked]:
        """What is asked of each level."""
        return [
            Asked(level=level, factor=factor, chunk_scale=scale)
            for level, factor, scale in zip(self.levels, self.factors, self.scales, strict=True)
        ]


def prepare(opened: OpenStore, request: Request, slots: int) -> tuple[Session, list[PlannedLevel], list[LevelPlan]]:
    """Plan a build for ``slots`` tasks at once.

    Raises
    ------
    StoreError
        If the store is of a generation that is not written, or levels or another build are in the way.
    NotFoundError, SelectionError, FormatError
        If levels cannot be built as asked.
    """
    if opened.generation.name != CURRENT.name:
        raise StoreError(
            f"stores of format {opened.meta.version} are not written to; migrate it first: zvl.migrate(src, dst)",
            where=opened.tree.url,
        )
    opened.refuse_additive("a pyramid")
    opened.refuse_deferred()
    data = opened.levels.get(request.source)
    if data is None:
        raise NotFoundError.among("level", request.source, sorted(opened.levels), where=opened.tree.url)
    backend = opened.tree.backend
    request = replace(request, scales=settle_scales(opened, data, request.asked))
    parameters = describe_parameters(_stated(request), fingerprint(opened, data))
    journals = read_journals(backend)
    resumed = bool(journals) and continues(journals, request.levels, parameters) and request.resume
    replaced = tuple(sorted(level for level in opened.levels if level in request.levels or (request.whole and level)))
    if not resumed:
        _refuse(opened, request, journals, replaced)
    kept = tuple(level for level in sorted(opened.levels) if level not in replaced)
    journal = next(iter(journals.values())) if resumed else {}
    shift = int(journal.get("shift", 0)) if resumed else _shift(backend, request, kept, replaced)
    build = uuid.uuid4().hex
    levels = plan_levels(opened, data, request, shift, build)
    root = opened.tree.node("")
    assert root is not None
    session = Session(
        spec=opened.tree.spec,
        build=build,
        source=request.source,
        levels=request.levels,
        parameters=parameters,
        resumed=resumed,
        published=resumed and is_published(journals),
        replaced=replaced,
        kept=kept,
        root=root.attributes,
        bins={level: opened.levels[level].meta.bin_shape for level in kept if level}
        | {planned.step.level: planned.step.bin_shape for planned in levels},
        base=opened.levels[0].meta.bin_shape if 0 in opened.levels else opened.meta.bin_shape,
        block=_block(opened, request, levels),
        consolidated=bool(journal.get("consolidated")) or root.doc.get("consolidated_metadata") is not None,
        shift=shift,
        depth=request.depth if request.storage != "none" else 0,
        slots=int(journal.get("slots", slots)),
        summary={
            "method": METHOD,
            "cross_level_depth": request.depth,
            "cross_level_storage": request.storage,
            "left_out": left_out(data, levels[0].step),
        },
    )
    return session, levels, _plans(opened, data, request, levels)


def left_out(data: LevelData, step: Step) -> list[str]:
    """What coarse levels do not get from the level that is there: paths below it, of attributes, links and groups."""
    level, joined = data.meta.index, {item.name for item in step.attributes}
    by = data.chunk_attribute
    gone = joined | {step.weight if step.weights is not None else None, None if by is None else by[0]}
    found = [f"vertex_attributes/{name}" for name in data.attribute_names if name not in gone]
    fragments = data.tree.children(f"{level}/fragment_attributes", required=False) or ()
    owned = CURRENT.owner_names if step.owners is not None else ()
    found += [f"fragment_attributes/{name}" for name in fragments if name not in owned]
    found += [f"link_attributes/{name}" for name in data.link_attribute_names]
    return found


def fingerprint(opened: OpenStore, data: LevelData) -> str:
    """Digest of the metadata of all that a build reads; they change when the source is written anew."""
    block = {
        name: value
        for name, value in opened.meta.attributes["zarr_vectors"].items()
        if not name.startswith("cross_level") and name != "format_capabilities"
    }
    parts = [repr(sorted(block.items())), data.vertices.digest]
    parts += [data.attribute(name).digest for name in data.attribute_names if _is_stored(data, name)]
    parts += [] if data.object_index is None else [data.object_index.digest]
    family = data.links(0)
    parts += [] if family is None else [segment.array.digest for segment in family.segments]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _is_stored(data: LevelData, name: str) -> bool:
    return data.chunk_attribute is None or data.chunk_attribute[0] != name


def _stated(request: Request) -> Json:
    names = ("source", "levels", "scales", "whole", "seed", "depth", "storage", "min_vertices")
    factors = [[np.asarray(value, np.float64).tolist() for value in pair] for pair in request.factors]
    scales = [None if scale is None else np.asarray(scale).tolist() for scale in request.scales]
    stated = {name: getattr(request, name) for name in names}
    return {**stated, "factors": factors, "scales": scales, "aggregate": dict(request.aggregate)}


def _refuse(opened: OpenStore, request: Request, journals: dict[int, Json], replaced: tuple[int, ...]) -> None:
    """Refuse to take a place that is not free."""
    if request.overwrite:
        return
    if journals:
        raise StoreError(
            f"levels {sorted(journals)} are being built, or their build was interrupted, with other parameters or from "
            "another source; overwrite=True gives that up",
            where=opened.tree.url,
        )
    if replaced:
        raise StoreError(
            f"levels {', '.join(map(str, replaced))} are there; overwrite=True replaces them", where=opened.tree.url
        )
    folders = fetch(opened.tree.backend, [ListDir(str(level), required=False) for level in request.levels])
    left = [level for level, names in zip(request.levels, folders, strict=True) if names]
    if left:
        raise StoreError(f"folders {left} hold files of no level; overwrite=True deletes them", where=opened.tree.url)


def _shift(backend: Backend, request: Request, kept: tuple[int, ...], replaced: tuple[int, ...]) -> int:
    gone = sorted({*request.levels, *replaced})
    folders = [str(level) for level in gone]
    folders += [f"{level}/links/{format_delta(other - level)}" for level in kept for other in gone]
    return find_shift(backend, folders) if request.overwrite else 0


def plan_levels(opened: OpenStore, data: LevelData, request: Request, shift: int, build: str) -> list[PlannedLevel]:
    """Plan all levels, each from the one before."""
    options = Options(
        seed=request.seed,
        storage=request.storage if request.depth else "none",
        aggregate=request.aggregate,
        least=request.min_vertices,
        shift=shift,
        build=build,
    )
    first, *others = request.asked
    planned = [plan_first(opened, data, first, options)]
    for item in others:
        planned.append(plan_next(opened, planned[-1], item, options))
    return planned


def _block(opened: OpenStore, request: Request, levels: Sequence[PlannedLevel]) -> Json:
    known = opened.meta.attributes["zarr_vectors"].get("format_capabilities") or []
    capabilities = [name for name in known if name not in OURS or not request.whole]
    if levels[0].step.index is not None:
        capabilities.append("preserved_object_ids")
    if request.storage != "none" and request.depth:
        capabilities.append("multiscale_links")
    found: Json = {"format_capabilities": list(dict.fromkeys(capabilities))}
    return found | (
        {"cross_level_depth": request.depth, "cross_level_storage": request.storage} if request.whole else {}
    )


def _plans(opened: OpenStore, data: LevelData, request: Request, levels: Sequence[PlannedLevel]) -> list[LevelPlan]:
    first = levels[0].step
    ndim = opened.meta.ndim
    plans = [LevelPlan(level=request.source, ndim=ndim, arrays=(), grid=first.fine_grid, encoding=first.encoding)]
    for planned in levels:
        step = planned.step
        plans.append(
            LevelPlan(
                level=step.level,
                ndim=ndim,
                arrays=planned.arrays,
                grid=step.grid,
                encoding=step.encoding,
                width=step.width,
                directed=step.directed,
                attributes=_level_attributes(opened, data, request, planned),
                summary={
                    "method": METHOD,
                    "preserves_object_ids": step.index is not None,
                    "shared_fragments": False,
                    "bin_shape": step.bin_shape.tolist(),
                    "chunk_shape": step.chunk_shape.tolist(),
                },
            )
        )
    return plans


def _level_attributes(opened: OpenStore, data: LevelData, request: Request, planned: PlannedLevel) -> Json:
    step = planned.step
    found: Json = {"parent_level": step.source.level, "fragments_tile": True}
    found |= {"coarsening_method": METHOD, "object_sparsity": planned.scale.keep}
    rules: Json = {"aggregate": dict(request.aggregate)} if request.aggregate else {}
    rules |= {"min_vertices": request.min_vertices} if request.min_vertices > 2 else {}
    found["zarr_vectors_lazy"] = {"weight": step.weight, **rules, **_sparsity_rule(request, planned)}
    if not np.array_equal(step.chunk_shape, opened.meta.chunk_shape):
        found["chunk_shape"] = step.chunk_shape.tolist()
    if step.index is not None:
        found |= {"preserves_object_ids": True, "inherited_num_objects": step.index.count}
        found["arrays_present"] = ["object_index", "object_attributes"]
    block = data.meta.attributes.get("zarr_vectors_level", {})
    return found | {name: block[name] for name in CHUNKING if name in block}


def _sparsity_rule(request: Request, planned: PlannedLevel) -> Json:
    if planned.scale.keep >= 1:
        return {}
    of = "objects" if planned.step.index is not None else "vertices"
    return {"sparsity": {"strategy": STRATEGY, "seed": request.seed, "of": of, "nested": of == "objects"}}
