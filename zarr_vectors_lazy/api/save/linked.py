"""Graphs, skeletons and meshes of a level written as a store of their own without ever being in memory.

Links name the chunk and the row in it that each end has, not rows counted from chunk to chunk: then none has to wait
until it is known how many rows of all chunks are selected.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.sizes import read_row_counts
from zarr_vectors_lazy.access.write.linked import LinkBlock, link_layout
from zarr_vectors_lazy.api.save.rows import Owners, owned_rows
from zarr_vectors_lazy.api.write.lazy_linked import EDGE_WIDTHS, FACE_WIDTHS, read_links
from zarr_vectors_lazy.api.write.out_of_core import LinkSource, Source, aligned, block_keys, empty_rows, source_of
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.graph.edges import edges_array, faces_array
from zarr_vectors_lazy.graph.links import link_attribute_array, links_array
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.graph.write.spilled import Blocks, optimized
from zarr_vectors_lazy.model.arrays import float64_holds


def linked_level(view: LevelView, kind: str) -> tuple[Source, LinkSource]:
    """Sources of the rows and of the edges or faces of a level."""
    counts = view.stored_counts
    view = view.with_chunking(None).with_rows_apart(read_row_counts(view.data, view.rows) if counts is None else counts)
    owners: Owners = "one" if view.data.object_index is None else "tracks"
    rows, read = owned_rows(view, "vertices" if kind == "mesh" else "positions", owners)
    links, values = _links(view, kind)
    arrays = aligned(rows)
    computed = iter(optimized(*arrays, *links.values(), *values.values()))
    of_rows, of_links, of_values = (list(islice(computed, len(some))) for some in (arrays, links, values))
    source = source_of(of_rows, read)
    blocks = Blocks(source.blocks.keys, [*of_rows, *of_links, *of_values])
    family, total = view.data.links(0), view.data.meta.vertex_count
    stated = 0 if family is None else family.stated
    link_source = _link_source(of_links, tuple(links), len(view), most=total if kind == "skeleton" else stated)
    if values:
        link_source = replace(link_source, values=_link_source(of_values, tuple(values), len(view), most=stated))
    return replace(source, blocks=blocks), link_source


def _links(view: LevelView, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Links and their attributes by name, in the same blocks; and stored records that have the values of some links.

    The edges of a skeleton are not its records, some of which they imply: values then come with records.
    """
    joined = {"faces": faces_array(view)} if kind == "mesh" else {"edges": edges_array(view)}
    family = view.data.links(0)
    if family is None or not view.data.link_attribute_names:
        return joined, {}
    values = {
        name: _unmasked(link_attribute_array(view, family, view.data.link_attribute(family, name), name), name)
        for name in view.data.link_attribute_names
    }
    return (joined, {"links": links_array(view, family), **values}) if kind == "skeleton" else (joined | values, {})


def _unmasked(array: Any, name: str) -> Any:
    """Values some of which were never stored as floats, which have NaN."""
    return array.map_blocks(_floats, name, dtype=np.float64) if isinstance(array._meta, np.ma.MaskedArray) else array


def _floats(values: Any, name: str) -> Any:
    if not float64_holds(np.ma.compressed(values)):
        raise SelectionError(
            f"the link attribute {name!r} has whole numbers that float64 does not hold, and some were never stored, "
            "for which the format has no place beside whole numbers: it cannot be saved"
        )
    return np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan)


def _link_source(computed: Sequence[Any], names: Sequence[str], blocks: int, *, most: int | None) -> LinkSource:
    """Cells gathered into about as many blocks as there are of rows; ``most`` links in all, None if not known."""
    name, *attributes = names
    widths = FACE_WIDTHS if name == "faces" else EDGE_WIDTHS
    cells = block_keys(computed)
    size = max(-(-len(cells) // max(blocks, 1)), 1)
    read = partial(read_cells, tuple(attributes), widths, name)
    sample = read(*empty_rows(computed))
    return LinkSource(
        keys=[tuple(key for cell in cells[at : at + size] for key in cell) for at in range(0, len(cells), size)],
        read=read,
        name=name,
        sample=sample,
        nbytes=float("nan") if most is None else float(most * link_layout(sample).itemsize),
        apart=True,
    )


def read_cells(names: Sequence[str], widths: Sequence[int], name: str, *parts: Any) -> LinkBlock:
    """Block of links from some cells: of each the links, then its values in the order of ``names``."""
    each = len(names) + 1
    return read_links(names, widths, name, *(np.concatenate(parts[at::each]) for at in range(each)))
