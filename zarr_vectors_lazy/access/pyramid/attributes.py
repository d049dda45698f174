"""How each vertex attribute is read and joined."""

from collections.abc import Mapping

from zarr_vectors_lazy.access.attributes import Column
from zarr_vectors_lazy.access.level import LevelData
from zarr_vectors_lazy.access.probe import vertex_row_shape
from zarr_vectors_lazy.access.pyramid.step import Aggregated
from zarr_vectors_lazy.errors import FormatError, NotFoundError, SelectionError
from zarr_vectors_lazy.kernels.groups import RULES, Rule
from zarr_vectors_lazy.model.arrays import CellArray
from zarr_vectors_lazy.types import BoolArray

NUMBERS = ("mean", "min", "max", "sum")


def plan_attributes(
    data: LevelData, aggregate: Mapping[str, Rule | None], weight: str | None
) -> tuple[list[Aggregated], dict[str, BoolArray]]:
    """Attributes to be joined, and which chunks have no values of some.

    Raises
    ------
    NotFoundError
        If ``aggregate`` names an attribute that the level does not have.
    SelectionError
        If a rule does not suit its attribute.
    """
    by = data.meta.chunk_attribute
    names = [name for name in data.attribute_names if name != weight and (by is None or name != by[0])]
    for name in aggregate:
        if name not in names:
            raise NotFoundError.among("attribute", name, names, where=data.url)
    items: list[Aggregated] = []
    missing = {}
    for name in names:
        array = data.attribute(name)
        rule = aggregate.get(name, _default_rule(array))
        if rule is None:
            continue
        _check_rule(name, array, rule, data.url)
        absent = array.chunks.find(data.vertices.chunks.coords) < 0
        if absent.any():
            missing[name] = absent
        items.append(Aggregated(name=name, column=_column(data, array, name, bool(absent.any())), rule=rule))
    return items, missing


def _column(data: LevelData, array: CellArray, name: str, holes: bool) -> Column:
    spec = array.spec
    if holes and (spec.dtype.kind in "iub" or spec.dictionary is not None):
        raise FormatError(
            f"attribute {name!r} has no values in some chunks, and {spec.dtype} cannot say so: leave it out with "
            f"aggregate={{{name!r}: None}}",
            where=data.url,
        )
    loose = spec.dtype.kind == "U" and spec.dictionary is None
    return Column(
        source=data.source,
        spec=spec,
        vertices=data.vertices.spec,
        row_shape=(spec.row_shape or ()) if loose else vertex_row_shape(data, array),
        dtype=spec.dtype,
        decode=False,
        loose=loose,
    )


def _default_rule(array: CellArray) -> Rule:
    return "mean" if array.spec.dtype.kind == "f" and array.spec.dictionary is None else "mode"


def _check_rule(name: str, array: CellArray, rule: object, where: str) -> None:
    if rule not in RULES:
        rules = ", ".join(RULES)
        raise SelectionError(f"aggregate[{name!r}] must be None or one of {rules}, found {rule!r}", where=where)
    kinds = "iufb" if rule in ("min", "max") else "iuf"
    if rule in NUMBERS and (array.spec.dictionary is not None or array.spec.dtype.kind not in kinds):
        raise SelectionError(
            f"aggregate[{name!r}] is {rule!r}, and its values are no numbers: 'mode' or 'first'", where=where
        )
