"""Graphs and meshes written out of core."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.write.intake import Block
from zarr_vectors_lazy.access.write.linked import LinkBlock, link_layout
from zarr_vectors_lazy.api.write import args, summaries
from zarr_vectors_lazy.api.write.blocks import labelled, read_points
from zarr_vectors_lazy.api.write.job import Options, Shape
from zarr_vectors_lazy.api.write.out_of_core import (
    LinkSource,
    Source,
    Tables,
    aligned,
    block_keys,
    empty_rows,
    source_of,
    write_source,
)
from zarr_vectors_lazy.graph.write.spilled import Blocks, optimized

EDGE_WIDTHS = (2,)
FACE_WIDTHS = range(3, 65)
Attributes = Mapping[str, Mapping[str, Any] | None]
"""Attributes of the ``"vertex"`` and of the ``"link"``, as given."""


def write_lazy_graph(
    path: Any,
    positions: Any,
    edges: Any,
    *,
    kind: str,
    attributes: Attributes,
    object_ids: Any,
    tables: Tables,
    options: Options,
) -> Any:
    """`write_graph` of Dask arrays."""
    rows = {"positions": positions, **labelled(attributes["vertex"])}
    links = {"edges": edges, **labelled(attributes["link"], "link_attributes")}
    source, link_source = linked_sources(
        rows, links, attributes=attributes, object_ids=object_ids, dtype=options.dtype, widths=EDGE_WIDTHS
    )
    shape = Shape(geometry=kind, kind="trees" if kind == "skeleton" else "objects")
    return write_source(path, source, shape, options, tables, summarise=summaries.of_graph, links=link_source)


def write_lazy_mesh(
    path: Any,
    vertices: Any,
    faces: Any,
    *,
    attributes: Attributes,
    object_ids: Any,
    tables: Tables,
    options: Options,
) -> Any:
    """`write_mesh` of Dask arrays."""
    rows = {"vertices": vertices, **labelled(attributes["vertex"])}
    links = {"faces": faces, **labelled(attributes["link"], "link_attributes")}
    source, link_source = linked_sources(
        rows, links, attributes=attributes, object_ids=object_ids, dtype=options.dtype, widths=FACE_WIDTHS
    )
    shape = Shape(geometry="mesh", kind="objects", name="vertices")
    return write_source(path, source, shape, options, tables, summarise=summaries.of_mesh, links=link_source)


def linked_sources(
    rows: Mapping[str, Any],
    links: Mapping[str, Any],
    *,
    attributes: Attributes,
    object_ids: Any,
    dtype: Any,
    widths: Sequence[int],
) -> tuple[Source, LinkSource]:
    """Sources of rows and of their links in Dask arrays, optimized together: what both need is computed once.

    Parameters
    ----------
    rows, links
        By the name of the argument, the first the positions and the ends.
    widths
        Ends that a link may have.

    Raises
    ------
    SelectionError
        If one is no Dask array, or they do not go together.
    """
    owned = {} if object_ids is None else {"object_ids": object_ids}
    row_arrays, link_arrays = aligned({**rows, **owned}), aligned(links)
    computed = optimized(*row_arrays, *link_arrays)
    of_rows, of_links = computed[: len(row_arrays)], computed[len(row_arrays) :]
    name, link_name = next(iter(rows)), next(iter(links))
    names, link_names = (tuple(attributes[of] or ()) for of in ("vertex", "link"))
    source = source_of(of_rows, partial(read_owned_rows, names, dtype, object_ids is not None, name))
    read = partial(read_links, link_names, widths, link_name)
    sample = read(*empty_rows(of_links))
    return (
        Source(
            blocks=Blocks(source.blocks.keys, computed), read=source.read, sample=source.sample, nbytes=source.nbytes
        ),
        LinkSource(
            keys=block_keys(of_links),
            read=read,
            name=link_name,
            sample=sample,
            nbytes=float(link_layout(sample).itemsize * of_links[0].shape[0]),
            sizes=None if np.isnan(of_rows[0].shape[0]) else np.asarray(of_rows[0].chunks[0], np.int64),
        ),
    )


def read_owned_rows(names: Sequence[str], dtype: Any, owned: bool, name: str, positions: Any, *rest: Any) -> Block:
    """Block of rows; without object ids all belong to object 0."""
    ids = [] if owned else [np.zeros(len(positions), np.int64)]
    return read_points(names, dtype, True, positions, *rest, *ids, name=name)


def read_links(names: Sequence[str], widths: Sequence[int], name: str, links: Any, *values: Any) -> LinkBlock:
    """Block of links: rows, and attributes in the order of ``names``."""
    array = args.parse_links(links, widths, None, name)
    numbers = args.parse_numbers(dict(zip(names, values, strict=True)), len(array), "link_attributes")
    return LinkBlock(links=array, values=numbers)
