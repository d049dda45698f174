"""How each vertex attribute is read and joined."""

from collections.abc import Mapping

from zarr_vectors_lazy.access.attributes import Column
from zarr_vectors_lazy.access.level import LevelData
from zarr_vectors_lazy.access.probe import vertex_row_shape
from zarr_vectors_lazy.access.pyramid.step import Aggregated
from zarr_vectors_lazy.errors import FormatError, NotFoundError
from zarr_vectors_lazy.kernels.groups import Rule, check_rule
from zarr_vectors_lazy.model.arrays import CellArray
from zarr_vectors_lazy.types import BoolArray, Json

OURS = "zarr_vectors_lazy"


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
    by = data.chunk_attribute
    names = [name for name in data.attribute_names if name != weight and (by is None or name != by[0])]
    for name in aggregate:
        if name not in names:
            raise NotFoundError.among("attribute", name, names, where=data.url)
    items: list[Aggregated] = []
    missing = {}
    for name in names:
        array = data.attribute(name)
        rule = _rule(array, name, aggregate, data.url)
        if rule is None:
            continue
        absent = array.chunks.find(data.vertices.chunks.coords) < 0
        if absent.any():
            missing[name] = absent
        fill = array.attributes.get("_FillValue") if array.spec.dtype.kind in "iu" else None
        column = _column(data, array, name, bool(absent.any()))
        items.append(Aggregated(name=name, column=column, rule=rule, fill=fill if isinstance(fill, int) else None))
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


def _rule(array: CellArray, name: str, aggregate: Mapping[str, Rule | None], where: str) -> Rule | None:
    """The rule that is asked for, else the one that the attribute states, else the mean of real numbers or the mode."""
    coded, dtype = array.spec.dictionary is not None, array.spec.dtype
    stated = stated_rule(array.attributes)
    rule: Rule | None = "mean" if dtype.kind == "f" and not coded else "mode"
    if name in aggregate:
        rule, what = aggregate[name], f"aggregate[{name!r}]"
    elif stated:
        rule, what = stated["aggregate"], f"the rule that the attribute {name!r} states"
    else:
        return rule
    if rule is not None:
        check_rule(rule, dtype, what, coded=coded)
    return rule


def stated_rule(attributes: Json) -> Json:
    """What is stated of how the values of an attribute's array are joined: ``{"aggregate": rule}``, or nothing."""
    ours = attributes.get(OURS)
    return {"aggregate": ours["aggregate"]} if isinstance(ours, dict) and "aggregate" in ours else {}
