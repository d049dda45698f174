"""Opening a store: its root, its levels' nodes, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from zarr_vectors_lazy.access import fresh
from zarr_vectors_lazy.access.chain import ChainData
from zarr_vectors_lazy.access.level import LevelData
from zarr_vectors_lazy.access.metadata import MetaTree
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Found, Generation
from zarr_vectors_lazy.format.registry import generation_of
from zarr_vectors_lazy.model.levels import LevelMeta, StoreMeta
from zarr_vectors_lazy.storage.spec import StoreSpec

Told: TypeAlias = Mapping[str, tuple[np.dtype[Any], int | None]]
"""Dtype of attributes by name, and how many values a row has."""
MOST_LEVELS = 256  # each at least twice as coarse as the one below


@dataclass(frozen=True, eq=False)
class OpenStore:
    """What opening gives.

    Parameters
    ----------
    tree, generation, meta
        The store's nodes, what reads them, the parsed root.
    levels
        The levels whose groups are there, by index, each as it is stored.
    digest
        Changes when the root does.
    """

    tree: MetaTree
    generation: Generation
    meta: StoreMeta
    levels: dict[int, LevelData]
    digest: str

    @cached_property
    def complete(self) -> dict[int, LevelData]:
        """The levels as they are read: those that refine others with all that these store (spec next, 4)."""
        return {
            level: ChainData([self.levels[index] for index in data.meta.chain]) if data.meta.chain else data
            for level, data in self.levels.items()
        }

    def refuse_deferred(self) -> None:
        """Raise FormatError if a level is still being written."""
        writing = sorted(level for level, data in self.levels.items() if data.meta.deferred)
        if writing:
            raise FormatError(f"levels {writing} are still being written: wait for the end", where=self.tree.url)

    def refuse_additive(self, what: str) -> None:
        """Raise FormatError if a level refines others: what is made of it, or without them, would be a part."""
        adding = sorted(level for level, data in self.levels.items() if data.meta.chain)
        if adding:
            raise FormatError(
                f"{what} would break levels {adding}, each of which holds only what the next coarser one does not "
                "(refinement 'add')",
                where=self.tree.url,
            )


def open_tree(spec: StoreSpec, consolidated: bool | None, told: Told | None = None) -> OpenStore:
    """Open a store; reads metadata only. ``told``: what its user says of its attributes.

    One request where the root carries consolidated metadata; else the root, then a listing of it and the nodes of its
    levels, concurrently.

    Raises
    ------
    FormatError
        If it is no finished Zarr Vectors store of a known generation.
    StoreError
        If it cannot be reached.
    """
    tree = MetaTree(spec)
    root = tree.read_root()
    generation = generation_of(root, where=tree.url)
    tree.use_consolidated(root, wanted=consolidated, trusted=generation.trusts_consolidated)
    store = _parse(tree, root, told or {}, {})
    fresh.opened(data.source for data in store.levels.values() if data.content)
    return store


def reopen(tree: MetaTree, told: Told | None = None, contents: Mapping[int, str] | None = None) -> OpenStore:
    """Open again from a tree that travelled; reads only what did not.

    ``contents``: what the levels' nodes told of their data, which may have been replaced since.
    """
    root = tree.node("")
    if root is None:
        raise FormatError("the root is gone", where=tree.url)
    return _parse(tree, root, told or {}, contents or {})


def _parse(tree: MetaTree, root: Found, told: Told, contents: Mapping[int, str]) -> OpenStore:
    generation = generation_of(root, where=tree.url)
    meta = _placed(tree, root, generation, None)
    nodes = _there(tree, {level: generation.level_nodes(level) for level in meta.level_names})
    if tree.complete and any(node[0] not in tree.known for node in nodes.values()):
        tree.check_consolidated([node[0] for node in nodes.values()])
    tree.prefetch([path for node in nodes.values() for path in node], folder="")
    meta = replace(_placed(tree, root, generation, tree.children("", required=False)), told=told)
    nodes = _there(tree, {level: generation.level_nodes(level) for level in meta.level_names})
    tree.prefetch([path for node in nodes.values() for path in node])
    parsed: dict[int, LevelMeta] = {}
    digests: dict[int, str] = {}
    for level, (path, _) in nodes.items():
        found = tree.node(path)
        if found is not None:
            try:
                parsed[level] = generation.parse_level(found, meta, level)
            except FormatError as error:
                raise type(error)(error.message, where=f"{tree.url}/{path}") from error
            digests[level] = root.digest + found.digest
    try:
        related = generation.relate(parsed, meta)
    except FormatError as error:
        raise type(error)(error.message, where=f"{tree.url}/{error.where}") from error
    levels = {
        level: LevelData(tree, generation, meta, one, digests[level], contents.get(level))
        for level, one in related.items()
    }
    return OpenStore(tree, generation, meta, levels, root.digest)


def _there(tree: MetaTree, nodes: dict[int, tuple[str, ...]]) -> dict[int, tuple[str, ...]]:
    """Nodes of levels, of more than can all be meant only those that a listing shows: no request for each."""
    unknown = [level for level, (path, *_) in nodes.items() if path not in tree.known]
    if len(unknown) <= MOST_LEVELS:
        return nodes
    names = tree.listed("")
    if names is None:
        raise FormatError(f"the root names {len(nodes)} levels, and the store cannot be listed", where=tree.url)
    there = {level: node for level, node in nodes.items() if node[0] in tree.known or node[0].split("/")[0] in names}
    if len(there) > MOST_LEVELS:
        raise FormatError(f"the root names {len(there)} levels; more than {MOST_LEVELS} are not read", where=tree.url)
    return there


def _placed(tree: MetaTree, root: Found, generation: Generation, children: tuple[str, ...] | None) -> StoreMeta:
    try:
        return generation.parse_store(root, children)
    except FormatError as error:
        raise type(error)(error.message, where=tree.url) from error
