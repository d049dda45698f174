"""Rows of a level in the blocks that Dask computes, with the objects that go through them."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from zarr_vectors_lazy.access.tracks import owners_of, taken_rows
from zarr_vectors_lazy.access.write.intake import Block
from zarr_vectors_lazy.api.write import args
from zarr_vectors_lazy.api.write.blocks import labelled, points_source, read_points
from zarr_vectors_lazy.api.write.out_of_core import Source, array_source
from zarr_vectors_lazy.graph.columns import attribute_array, vertices_array
from zarr_vectors_lazy.graph.tracks import tracks_array
from zarr_vectors_lazy.graph.view import LevelView


def attribute_arrays(view: LevelView) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Names of the attributes, and their arrays by what errors call them."""
    attributes = _attributes(view)
    return tuple(attributes), labelled(attributes)


def _attributes(view: LevelView) -> dict[str, Any]:
    return {name: attribute_array(view, name) for name in view.data.attribute_names}


def point_rows(view: LevelView) -> Source:
    """Source of points, with their objects where there are any."""
    if view.data.object_index is None:
        return points_source(vertices_array(view), _attributes(view), None, None)
    names, arrays = _arrays(view, tracks_array(view, along=False))
    return array_source(arrays, partial(read_owned, names))


def path_rows(view: LevelView, *, line: bool) -> Source:
    """Source of the vertices of paths."""
    names, arrays = _arrays(view, tracks_array(view, along=True, ends=line))
    return array_source(arrays, partial(read_tracked, names))


def _arrays(view: LevelView, tracks: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    names, attributes = attribute_arrays(view)
    return names, {"positions": vertices_array(view), **attributes, "objects": tracks}


def read_owned(names: Sequence[str], positions: Any, *rest: Any, name: str = "positions") -> Block:
    """Block of rows of objects; the last array are the tracks of its rows."""
    return read_points(names, None, True, positions, *rest[:-1], owners_of(rest[-1], len(positions)), name=name)


def read_tracked(names: Sequence[str], positions: Any, *rest: Any) -> Block:
    """Block of the vertices of paths, each as often as a path goes through it; the last array are their tracks."""
    tracks = rest[-1]
    rows = taken_rows(tracks, len(positions))
    array, stored = args.parse_positions(positions[rows], None)
    values = {name: of_rows[rows] for name, of_rows in zip(names, rest[:-1], strict=True)}
    return Block(
        positions=array,
        dtype=stored,
        attributes=args.parse_columns(values, len(array), "vertex_attributes"),
        owners=tracks[:, 1],
        along=tracks[:, 2],
    )
