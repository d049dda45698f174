"""Names of columns that attributes become: one rule for data frames, xarray and files."""

from collections.abc import Collection, Container, Iterator, Mapping
from itertools import count

OBJECT_ID = "object_id"


def column_names(
    widths: Mapping[str, int | None], taken: Collection[str], known: Container[str] = (), suffix: str = "attribute"
) -> dict[str, tuple[str, ...]]:
    """Names of the columns of each attribute, no two alike.

    An attribute of one value a row keeps its own name, unless that is taken: then it has ``_attribute`` (the suffix)
    behind it. A vector's columns are ``name_0``, ``name_1``, ... What is made up so gives way to the names that
    attributes have, and to what came before it: with as many ``_`` behind it as it takes. So names depend neither on
    the order in which a store lists its attributes nor, but where two made-up names meet, on which of them are asked
    for.

    Parameters
    ----------
    widths
        By attribute the number of its columns; None for one value a row.
    taken
        Names that no attribute may have: of the axes, ``object_id`` where there are objects, of dimensions.
    known
        Names of attributes that are there and not among ``widths``.

    Examples
    --------
    >>> column_names({"rgb": 2, "rgb_0": None, "x": None}, ("x", "y"))
    {'rgb': ('rgb_0_', 'rgb_1'), 'rgb_0': ('rgb_0',), 'x': ('x_attribute',)}
    """
    used = {*taken, *widths}
    found: dict[str, tuple[str, ...]] = dict.fromkeys(widths, ())
    for name in sorted(widths):
        columns: list[str] = []
        for wanted in _wanted(name, widths[name], taken, suffix):
            free = (text for k in count() if (text := wanted + "_" * k) not in used and text not in known)
            columns.append(wanted if wanted == name else next(free))
            used.add(columns[-1])
        found[name] = tuple(columns)
    return found


def _wanted(name: str, width: int | None, taken: Collection[str], suffix: str) -> Iterator[str]:
    if width is None:
        yield f"{name}_{suffix}" if name in taken else name
    for column in range(width or 0):
        yield f"{name}_{column}"
