"""``zvl info``, ``ls`` and ``explain``: what there is, and what reading it would fetch."""

from typing import Annotated, Any

import numpy as np
import typer

from zarr_vectors_lazy.cli import options as given
from zarr_vectors_lazy.cli.options import print_json, print_pairs, print_table
from zarr_vectors_lazy.errors import in_line
from zarr_vectors_lazy.level import ZVLevel
from zarr_vectors_lazy.store import ZVStore

SHADES = " ░▒▓█"
WIDTH = 56


def info(store: given.Store, *, place: given.Place, json: given.AsJson = False) -> None:
    """Tell what a store is. Reads metadata only: geometry, levels, attributes, where it is occupied."""
    found = place.open(store)
    if json:
        print_json(description(found))
        return
    facts = description(found)
    levels = facts.pop("levels")
    units = [f" {in_line(unit)}" if unit else "" for unit in found.units]
    along = zip(map(in_line, found.axes), *map(_digits, found.bounds), units, strict=True)
    facts |= {"bounds": "\n".join(f"{axis}  {lo} to {hi}{unit}" for axis, lo, hi, unit in along)}
    facts |= {name: _lengths(facts[name], units) for name in ("chunk_shape", "bin_shape")}
    facts |= {"geometry_types": ", ".join(found.geometry_types), "axes": None, "units": None}
    print_pairs({name.replace("_", " "): value for name, value in facts.items() if value is not None})
    given.say()
    rows = [
        [
            str(level["level"]),
            _count(level["vertices"]),
            f"{level['chunks']:,}",
            _lengths(level["bin_shape"], units),
            ", ".join(level["attributes"]) or "-",
        ]
        for level in levels
    ]
    print_table(["level", "vertices", "chunks", "bin shape", "attributes"], rows, right=(1, 2))
    if len(found):
        given.say(f"\n{sketch(found[found.levels[0]])}")


def description(store: ZVStore) -> dict[str, Any]:
    """What the metadata tell of a store."""
    levels = [
        {
            "level": level.index,
            "vertices": level.vertex_count,
            "chunks": level.chunk_count,
            "chunk_shape": level.chunk_shape,
            "bin_shape": level.bin_shape,
            "attributes": level.attribute_names,
        }
        for level in store
    ]
    return {
        "url": store.url,
        "format": store.format_version,
        "backend": store.backend,
        "geometry_types": store.geometry_types,
        "axes": store.axes,
        "units": store.units,
        "bounds": store.bounds,
        "chunk_shape": store.chunk_shape,
        "bin_shape": store.bin_shape,
        "crs": store.crs,
        "levels": levels,
    }


def sketch(level: ZVLevel) -> str:
    """Lines that show where the level is occupied: the first two axes, darker where more chunks lie behind."""
    if not level.chunk_count:
        return "no chunks"
    spatial = np.asarray(level.chunk_keys, np.int64)[:, -level.store.ndim :]
    flat = spatial[:, [0, min(1, spatial.shape[1] - 1)]]
    if spatial.shape[1] == 1:
        flat[:, 1] = 0
    extent = np.ptp(flat, axis=0) + 1
    together = -(-int(extent[0]) // WIDTH)
    at = (flat - flat.min(axis=0)) // together
    grid = np.zeros(tuple(at.max(axis=0) + 1), np.int64)
    np.add.at(grid, tuple(at.T), 1)
    shade = np.ceil(grid / grid.max() * (len(SHADES) - 1)).astype(int)
    lines = ["".join(SHADES[cell] * 2 for cell in column) for column in shade.T[::-1].tolist()]
    axes = [in_line(name) for name in level.store.axes]
    legend = f"occupied chunks: {axes[0]} to the right" + (f", {axes[1]} up" if len(axes) > 1 else "")
    return "\n".join([*lines, legend])


def ls(store: given.Store, *, level: given.Level = None, place: given.Place, json: given.AsJson = False) -> None:
    """List a level's arrays, with shape and dtype, objects, groups."""
    found = place.open(store).query(level=level)
    members = {name: (array.shape, array.dtype) for name, array in arrays_of(found).items()}
    objects = found.objects
    groups = {str(name): len(objects.groups[name]) for name in (objects.groups.names or list(objects.groups))}
    if json:
        shown = {
            name: {"shape": [_known(n) for n in shape], "dtype": str(dtype)} for name, (shape, dtype) in members.items()
        }
        print_json({"level": found.index, "arrays": shown, "objects": len(objects), "groups": groups})
        return
    rows = [
        [name, str(dtype), " x ".join(_count(_known(n)) for n in shape)] for name, (shape, dtype) in members.items()
    ]
    print_table(["array", "dtype", "shape"], rows, right=(2,))
    given.say(f"\n{len(objects):,} objects")
    if groups:
        print_table(["group", "objects"], [[name, f"{count:,}"] for name, count in groups.items()], right=(1,))


def arrays_of(level: ZVLevel) -> dict[str, Any]:
    """Arrays of a level by the names by which Python reaches them."""
    out: dict[str, Any] = {"vertices": level.vertices}
    out |= {f"attributes[{name!r}]": array for name, array in level.attributes.items()}
    kinds = set(level.store.geometry_types)
    if kinds - {"point_cloud", "mesh"}:
        out["edges"] = level.edges
    if "mesh" in kinds:
        out["faces"] = level.faces
    out |= {f"links({delta})": level.links(delta) for delta in level.deltas if delta}
    attributes = level.objects.attributes
    return out | {f"objects.attributes[{name!r}]": attributes[name] for name in map(str, attributes.data_vars)}


def explain(
    store: given.Store,
    members: Annotated[list[str] | None, typer.Argument(help="vertices, edges, faces, an attribute, ...")] = None,
    *,
    chosen: given.Chosen,
    place: given.Place,
    json: given.AsJson = False,
) -> None:
    """Tell what reading would fetch, before anything is fetched."""
    part = chosen.of(place.open(store))
    plan = part.explain(*members or ())
    if json:
        print_json({name: getattr(plan, name) for name in plan.__slots__})
    else:
        given.say(plan)


def _known(size: Any) -> int | None:
    return None if np.isnan(size) else int(size)


def _count(size: int | None) -> str:
    return "?" if size is None else f"{size:,}"


def _digits(values: Any) -> list[str]:
    """Numbers with the digits that a map grid needs: 4212345.75, not 4.21235e+06."""
    return [f"{value:.10g}" for value in values]


def _lengths(values: Any, units: list[str]) -> str:
    """Lengths along the axes, with their unit once where they have one in common."""
    if len(set(units)) == 1:
        return ", ".join(_digits(values)) + units[0]
    return ", ".join(f"{length}{unit}" for length, unit in zip(_digits(values), units, strict=True))
