"""Rows of a level in the blocks that Dask computes, with the objects that go through them.

Attributes come as they are stored: codes with their categories, integers with the one that says missing. A decoded
array could say neither what is missing nor in which order categories are, and would round what float64 does not hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np

from zarr_vectors_lazy.access.tracks import owners_of, taken_rows
from zarr_vectors_lazy.access.write.intake import Block
from zarr_vectors_lazy.access.write.job import Column
from zarr_vectors_lazy.api.write import args
from zarr_vectors_lazy.api.write.blocks import labelled
from zarr_vectors_lazy.api.write.out_of_core import Source, array_source
from zarr_vectors_lazy.format.writing import MISSING, code_dtype, missing_codes
from zarr_vectors_lazy.graph.columns import attribute_array, vertices_array
from zarr_vectors_lazy.graph.tracks import tracks_array
from zarr_vectors_lazy.graph.values import coding_of, has_holes
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.model.arrays import Dictionary

Codings = Mapping[str, Dictionary | None]
"""What stored values of attributes stand for, in the order in which the attributes are read."""
Owners = Literal["none", "one", "tracks"]
TRUTHS = np.array([False, True])


def stored_attributes(view: LevelView) -> tuple[Codings, dict[str, Any]]:
    """What the attributes' stored values stand for; and these, by what errors call the attributes."""
    codings = {name: _coding(view, name) for name in view.data.attribute_names}
    arrays = {
        name: attribute_array(view, name, decode=coding is None or coding.categories is TRUTHS)
        for name, coding in codings.items()
    }
    return codings, labelled(arrays)


def _coding(view: LevelView, name: str) -> Dictionary | None:
    found, by = coding_of(view, name), view.data.chunk_attribute
    if found is None and (by is None or by[0] != name):
        array = view.data.attribute(name)
        if array.spec.dtype.kind == "b" and has_holes(view, array):  # stored, they have no slot for missing
            return Dictionary(categories=TRUTHS)
    return found


def columns_of(codings: Codings, values: Sequence[Any], rows: int) -> dict[str, Column]:
    """Attributes of a block as they are stored; raises FormatError if a code stands for nothing."""
    given = dict(zip(codings, values, strict=True))
    plain = {name: of_rows for name, of_rows in given.items() if codings[name] is None}
    found = args.parse_columns(plain, rows, "vertex_attributes")
    for name, coding in codings.items():
        if coding is not None:
            found[name] = _coded(given[name], coding)
    return {name: found[name] for name in codings}


def _coded(codes: Any, coding: Dictionary) -> Column:
    if codes.dtype.kind == "f":  # chunks without values, of an attribute that has no code for that
        codes = np.where(np.isnan(codes), MISSING, codes).astype(code_dtype(len(coding.categories), missing=True))
        coding = replace(coding, fill=MISSING)
    missing_codes(codes, coding)
    return Column(codes, coding, whole=True)


def owned_rows(view: LevelView, name: str, owners: Owners) -> tuple[dict[str, Any], Any]:
    """Arrays of rows by what errors call them, the positions as ``name``, and what makes a block of them."""
    codings, attributes = stored_attributes(view)
    tracks = {"objects": tracks_array(view, along=False)} if owners == "tracks" else {}
    return {name: vertices_array(view), **attributes, **tracks}, partial(read_owned, codings, name, owners)


def point_rows(view: LevelView) -> Source:
    """Source of points, with their objects where there are any."""
    return array_source(*owned_rows(view, "positions", "none" if view.data.object_index is None else "tracks"))


def path_rows(view: LevelView, *, line: bool) -> Source:
    """Source of the vertices of paths."""
    codings, attributes = stored_attributes(view)
    arrays = {"positions": vertices_array(view), **attributes, "objects": tracks_array(view, along=True, ends=line)}
    return array_source(arrays, partial(read_tracked, codings))


def read_owned(codings: Codings, name: str, owners: Owners, positions: Any, *rest: Any) -> Block:
    """Block of rows; the last array are their tracks where these say the object; else all are of object 0, or none."""
    array, stored = args.parse_positions(positions, None, name)
    ids = None if owners == "none" else np.zeros(len(array), np.int64)
    if owners == "tracks":
        *rest, tracks = rest  # type: ignore[assignment]
        ids = owners_of(tracks, len(array))
    return Block(positions=array, dtype=stored, attributes=columns_of(codings, rest, len(array)), owners=ids)


def read_tracked(codings: Codings, positions: Any, *rest: Any) -> Block:
    """Block of the vertices of paths, each as often as a path goes through it; the last array are their tracks."""
    *values, tracks = rest
    rows = taken_rows(tracks, len(positions))
    array, stored = args.parse_positions(positions[rows], None)
    return Block(
        positions=array,
        dtype=stored,
        attributes=columns_of(codings, [of_rows[rows] for of_rows in values], len(array)),
        owners=tracks[:, 1],
        along=tracks[:, 2],
        left=len(positions) - len(np.unique(rows)),
    )
