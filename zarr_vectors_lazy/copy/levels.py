"""Carrying a store's levels into another store of the written format, as a Dask graph from one to the other."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.delayed import delayed

from zarr_vectors_lazy.copy.cells import (
    FRAGMENTS,
    VERTICES,
    CopiedAttribute,
    CopiedFamily,
    CopyPlan,
    Finish,
    RootDraft,
    commit_store,
    copy_chunks,
    finish_level,
    place_table,
    split_owners,
    split_table,
)
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.registry import CURRENT, root_attributes, root_with_notes
from zarr_vectors_lazy.model.arrays import CellArray, LinkFamily
from zarr_vectors_lazy.model.writing import ArrayDraft, Encoding, Grid, LevelDraft, LinkFamilyDraft, Notes, StoreDraft
from zarr_vectors_lazy.plan.selection import Selection
from zarr_vectors_lazy.pyramid.merge import stated_rule
from zarr_vectors_lazy.read.batches import chunk_runs, requested_of
from zarr_vectors_lazy.read.cells import link_row_shape, vertex_row_shape
from zarr_vectors_lazy.read.choose import PATHS
from zarr_vectors_lazy.read.level import LevelData
from zarr_vectors_lazy.read.rows import read_text_width
from zarr_vectors_lazy.read.store import OpenStore
from zarr_vectors_lazy.read.tracks import Tracker
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import IntArray, Json
from zarr_vectors_lazy.write.part import LevelWriter
from zarr_vectors_lazy.write.session import Mode, begin_write, read_copied

CARRIED = (
    "object_sparsity",
    "coarsening_method",
    "parent_level",
    "chunk_shape",
    "chunk_dims",
    "chunk_attribute_name",
    "chunk_attribute_values",
    "preserves_object_ids",
    "inherited_num_objects",
    "shared_fragments",
)
"""Members of a level's block that stay true (spec 0.9, 3.4)."""
ROOT = ("format_capabilities", "cross_level_depth", "cross_level_storage", "reduction_factor", "base_bin_shape")
UNSURE = PATHS | {"line"}  # their records inside a level say what the manifests say, or nonsense (spec 0.7, 7.2)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CopyOptions:
    """How the new store is written, and what is not carried.

    Parameters
    ----------
    encoding
        Of cells.
    mode
        Over what.
    leave_out
        Names of attributes and of ``"parametric"``.
    """

    encoding: Encoding
    mode: Mode
    leave_out: Collection[str] = ()


def copy_store(opened: OpenStore, spec: StoreSpec, options: CopyOptions) -> Any:
    """Delayed vertices by level of a store that is carried whole.

    Raises
    ------
    FormatError
        If something in it cannot be carried and is not left out.
    """
    if "parametric" in (opened.tree.children("") or ()) and "parametric" not in options.leave_out:
        raise FormatError(
            "the store has parametric objects, which are not carried; leave_out=['parametric'] goes without them",
            where=opened.tree.url,
        )
    opened.refuse_additive("a copy without what they refine")
    copied = read_copied(opened.tree, opened.meta, opened.levels)
    plans = [_LevelPlanner(opened, data, spec, options) for _, data in sorted(opened.levels.items())]
    root = RootDraft(
        attributes=_root(opened, spec, copied.notes, plans[0].drafts if plans else ()),
        bins={data.meta.index: data.meta.bin_shape for data in opened.levels.values()},
        copied=copied,
    )
    session = delayed(begin_write, pure=False)(spec, options.mode)
    records = {plan.data.meta.index: plan.delayed(session, copied.notes) for plan in plans}
    return delayed(commit_store, pure=False)(session, root, records)


def _root(opened: OpenStore, spec: StoreSpec, notes: Notes, arrays: Sequence[ArrayDraft]) -> Json:
    meta = opened.meta
    made = root_attributes(
        StoreDraft(
            chunk_shape=meta.chunk_shape,
            bin_shape=meta.bin_shape,
            bounds=meta.bounds,
            geometry_types=meta.geometry_types,
            links_convention=meta.links_convention,
            axes=meta.axes,
            units=meta.units,
            crs=meta.crs,
            bins_apart=True,
            name=spec.url.rpartition("/")[2],
        ),
        arrays,
    )
    block = meta.attributes["zarr_vectors"]
    true = {name: block[name] for name in ROOT if block.get(name) is not None}
    return root_with_notes({**made, "zarr_vectors": {**made["zarr_vectors"], **true}}, notes)


class _LevelPlanner:
    """What is carried of one level."""

    def __init__(self, opened: OpenStore, data: LevelData, spec: StoreSpec, options: CopyOptions) -> None:
        self.opened, self.data, self.options = opened, data, options
        self.view = LevelView(data, Selection(), None)
        self.level = data.meta.index
        self.rank = data.vertices.chunks.rank
        self.arrays: list[tuple[str, CellArray]] = [(VERTICES, data.vertices), (FRAGMENTS, data.fragments)]
        self.drafts: list[ArrayDraft] = [CURRENT.vertices(data.vertices.spec.dtype), CURRENT.fragments()]
        self.owners = self._owners()
        self._check_rank()
        self.writer = LevelWriter(spec=spec, level=self.level, grid=self._grid(), encoding=options.encoding)
        self.attributes = [
            self._attribute(name) for name in data.attribute_names if name not in options.leave_out and self._own(name)
        ]
        self.families: list[tuple[CopiedFamily, LinkFamilyDraft, LinkFamily]] = []
        for delta in data.deltas:
            self._family(delta)

    def _check_rank(self) -> None:
        by, coords = self.data.chunk_attribute, self.data.vertices.chunks.coords
        if self.rank != self.data.store.ndim + (by is not None) or (by is not None and (coords[:, 0] < 0).any()):
            raise FormatError(
                "its chunks are cut by groups without values, which the written format cannot say", where=self.data.url
            )

    def _owners(self) -> Tracker | None:
        """Where the object of each fragment is found, if it may have but one."""
        index = self.data.object_index
        shared = self.data.meta.attributes.get("zarr_vectors_level", {}).get("shared_fragments")
        if index is None or shared:
            return None
        self.drafts.append(CURRENT.fragment_owners(self._object_names()))
        return Tracker(source=self.data.source, index=index, coords=self.view.table.coords, whole=False)

    def _object_names(self) -> list[str]:
        return [name for name in self.data.object_attributes if name not in self.options.leave_out]

    def _own(self, name: str) -> bool:
        by = self.data.chunk_attribute
        return by is None or by[0] != name

    def _grid(self) -> Grid:
        coords = self.data.vertices.chunks.coords
        if not len(coords):
            return Grid(origin=(0,) * self.rank, shape=(1,) * self.rank)
        lo, hi = coords.min(axis=0), coords.max(axis=0)
        if self.data.chunk_attribute is not None:
            lo[0], hi[0] = 0, len(self.data.chunk_attribute[1]) - 1
        return Grid(origin=tuple(lo.tolist()), shape=tuple((hi - lo + 1).tolist()))

    def _attribute(self, name: str) -> CopiedAttribute:
        array = self.data.attribute(name)
        spec, member = array.spec, f"attribute:{name}"
        loose = spec.dtype.kind == "U" and spec.dictionary is None
        row_shape = spec.row_shape or () if loose else vertex_row_shape(self.data, array)
        dtype = np.dtype(f"<U{read_text_width(self.data, array, row_shape)}") if loose else spec.dtype
        self.arrays.append((member, array))
        draft = CURRENT.attribute(
            name, dtype, row_shape, dictionary=spec.dictionary, ours=stated_rule(array.attributes)
        )
        self.drafts.append(draft)
        return CopiedAttribute(member=member, path=draft.path, spec=spec, row_shape=row_shape, dtype=dtype)

    def _family(self, delta: int) -> None:
        data = self.data
        if delta == 0 and UNSURE & set(data.store.geometry_types):
            return
        family = data.links(delta)
        if family is None or (delta and self.level + delta not in self.opened.levels):
            return
        member = f"links:{delta}"
        segment = family.segments[0] if family.segments else None
        if segment is not None:
            self.arrays.append((member, segment.array))
        values = self._link_values(family) if delta == 0 else {}
        stated = {name: self.data.link_attribute(family, name).fill for name in values}
        fills = {name: fill for name, fill in stated.items() if fill is not None}
        carried = CopiedFamily(
            delta=delta,
            member=member,
            spec=None if segment is None else segment.array.spec,
            coding=None if segment is None else segment.coding,
            values={name: (f"link:{name}", array.spec) for name, (array, _) in values.items() if array is not None},
            scale=self._scale(delta) if delta else None,
        )
        draft = LinkFamilyDraft(
            delta=delta,
            width=family.width,
            directed=delta != 0,
            count=0,
            values={name: kind for name, (_, kind) in values.items()},
            fills=fills,
        )
        self.families.append((carried, draft, family))

    def _link_values(
        self, family: LinkFamily
    ) -> dict[str, tuple[CellArray | None, tuple[np.dtype[Any], tuple[int, ...]]]]:
        found: dict[str, tuple[CellArray | None, tuple[np.dtype[Any], tuple[int, ...]]]] = {}
        for name in self.data.link_attribute_names:
            if name in self.options.leave_out:
                continue
            values = self.data.link_attribute(family, name)
            array = next(iter(values.cells.values()), None)
            dtype = array.spec.dtype if array is not None else values.table.dtype if values.table is not None else None
            if dtype is None:
                continue
            if array is not None:
                self.arrays.append((f"link:{name}", array))
            found[name] = array, (dtype, link_row_shape(self.data, family, values))
        return found

    def _scale(self, delta: int) -> tuple[IntArray, IntArray]:
        root = self.data.store.chunk_shape
        metas = (self.data.meta, self.opened.levels[self.level + delta].meta)
        first = np.ones(self.rank - len(root), np.int64)
        here, there = (np.concatenate([first, np.rint(m.chunk_shape / root).astype(np.int64)]) for m in metas)
        return here, there

    def _draft(self) -> LevelDraft:
        block = self.data.meta.attributes.get("zarr_vectors_level", {})
        attributes = {name: block[name] for name in CARRIED if block.get(name) is not None}
        present = {
            "object_index": self.data.object_index,
            "groups": self.data.group_index,
            "object_attributes": self.data.object_attributes or self.data.object_index,
            "group_attributes": self.data.group_attributes,
        }
        attributes["arrays_present"] = [name for name, value in present.items() if value]
        families = tuple(draft for _, draft, _ in self.families)
        return LevelDraft(
            level=self.level, rank=self.rank, arrays=tuple(self.drafts), families=families, attributes=attributes
        )

    def delayed(self, session: Any, notes: Notes) -> Any:
        """Delayed record of the level."""
        runs = chunk_runs(self.view, self.arrays, self._shards())
        tables = [self._tables(carried, family, runs) for carried, _, family in self.families]
        owners = None if self.owners is None else delayed(split_owners, pure=False)(self.owners, runs)
        carry = CopyPlan(
            source=self.data.source,
            writer=self.writer,
            vertices=self.data.vertices.spec,
            fragments=self.data.fragments.spec,
            attributes=tuple(self.attributes),
            families=tuple(carried for carried, _, _ in self.families),
            owners=CURRENT.fragment_owners(self._object_names()).path,
            owned=self.data.object_index is not None,
        )
        finish = Finish(
            carry=carry,
            draft=self._draft(),
            objects=self.data.object_index,
            groups=self.data.group_index,
            dense={
                family: tuple(array for name, array in arrays.items() if name not in self.options.leave_out)
                for family, arrays in (
                    ("object_attributes", self.data.object_attributes),
                    ("group_attributes", self.data.group_attributes),
                )
            },
            notes=notes,
        )
        task = delayed(copy_chunks, pure=False)
        done = [
            task(
                carry,
                wanted,
                [None if table is None else table[run] for table in tables],
                None if owners is None else owners[run],
                session,
            )
            for run, wanted in enumerate(requested_of(self.view, self.arrays, runs))
        ]
        return delayed(finish_level, pure=False)(finish, done, session)

    def _shards(self) -> IntArray | None:
        shape = self.options.encoding.shard_shape
        if shape is None or not len(self.view):
            return None
        index = (self.view.table.coords - np.asarray(self.writer.grid.origin)) // np.asarray(shape)
        return np.unique(index, axis=0, return_inverse=True)[1].reshape(-1)

    def _tables(self, carried: CopiedFamily, family: LinkFamily, runs: Sequence[IntArray]) -> Any:
        if family.table is None:
            return None
        coords, records = self.view.table.coords, family.table.records
        if carried.delta:
            return delayed(split_table, pure=True)(self.data.source, records, coords, runs)
        names = self.data.link_attribute_names
        values = {name: self.data.link_attribute(family, name).table for name in names}
        return delayed(place_table, pure=True)(self.data.source, records, coords, _there(values), runs)


def _there(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
