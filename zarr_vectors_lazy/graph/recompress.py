"""A store's arrays copied piece by piece with other codecs, as a Dask graph: nothing is decoded further than that."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dask.delayed import delayed

from zarr_vectors_lazy.access.metadata import MetaTree
from zarr_vectors_lazy.access.store import OpenStore
from zarr_vectors_lazy.access.upkeep.consolidate import read_nodes, with_nodes
from zarr_vectors_lazy.access.upkeep.recode import copy_pieces, copy_whole, put_documents
from zarr_vectors_lazy.access.write.session import Mode, begin_write
from zarr_vectors_lazy.format.base import Found
from zarr_vectors_lazy.format.recode import parse_stored, recoded, with_specs
from zarr_vectors_lazy.graph.shard import shape_of_shards, shard_runs
from zarr_vectors_lazy.model.writing import Encoding
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import Json


@dataclass(frozen=True, slots=True, eq=False)
class Recompression:
    """A copy to be.

    Parameters
    ----------
    job
        Delayed sum of what its tasks copied.
    left_out
        Paths of what is no array or group of the store, or is being written.
    """

    job: Any
    left_out: list[str]


def recompress_store(opened: OpenStore, target: StoreSpec, encoding: Encoding, mode: Mode) -> Recompression:
    """Copy every node of a store, the pieces of its arrays encoded anew.

    Parameters
    ----------
    encoding
        Of pieces; its shards are chunks along each axis of positions.

    Raises
    ------
    SelectionError
        If the shape of shards has another number of axes than an array.
    FormatError
        If an array's document is none.
    """
    tree, spec = opened.tree, opened.tree.spec
    nodes = read_nodes(tree)
    session = delayed(begin_write, pure=False)(target, mode)
    pieces, whole = delayed(copy_pieces, pure=False), delayed(copy_whole, pure=False)
    done, docs = [], dict(nodes)
    for path, doc in nodes.items():
        node = Found(path, doc, "")
        if node.unfinished:
            del docs[path]
        elif doc.get("node_type") == "array":
            array = parse_stored(node)
            if array is None:
                done.append(whole(spec, path, doc, session))
                continue
            wanted = encoding.shard_shape if array.is_cells else None
            shape = shape_of_shards(wanted, len(array.shape), opened.meta.ndim, path)
            made = replace(encoding, shard_shape=shape)
            copy = recoded(array, made)
            docs[path] = copy.doc
            runs = shard_runs(array.indices(), copy.layout)
            done += [pieces(spec, array, copy, made, indices, session) for indices in runs]
    root = tree.node("")
    assert root is not None
    bare = with_specs({name: value for name, value in root.doc.items() if name != "consolidated_metadata"}, docs)
    consolidated = root.doc.get("consolidated_metadata") is not None
    finish = delayed(put_documents, pure=False)
    job = finish(session, with_nodes(bare, docs) if consolidated else bare, docs, done)
    return Recompression(job, _left_out(tree, docs, list(opened.levels)))


def _left_out(tree: MetaTree, docs: Mapping[str, Json], levels: list[int]) -> list[str]:
    """Paths of what lies in the root, or in a level, and is not copied."""
    found = [f"{folder}/{name}".lstrip("/") for folder in ("", *map(str, levels)) for name in tree.listed(folder) or ()]
    return sorted(path for path in found if path not in docs)
