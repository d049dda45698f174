"""Commands of ``zvl`` that read a store: what is in it, what is wrong, what it costs; rows into files and pictures."""

import shutil
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from zarr_vectors_lazy.check.report import validate as validated
from zarr_vectors_lazy.cli import options as given
from zarr_vectors_lazy.cli.options import print_json, print_pairs, print_table
from zarr_vectors_lazy.convert.plot import picture
from zarr_vectors_lazy.convert.precomputed_export import LIMIT
from zarr_vectors_lazy.errors import NO_STORE, FormatError, SelectionError, counted, in_line, meant
from zarr_vectors_lazy.files.formats import suffixes
from zarr_vectors_lazy.level import ZVLevel
from zarr_vectors_lazy.store import ZVStore

# ``zvl info``, ``ls``, ``explain``, ``validate``, ``cost``: what is there, what is wrong, what reading would fetch.

SHADES = " ░▒▓█"
WIDTH = 56
StoragePrice = Annotated[float, typer.Option("--storage", metavar="PRICE", help="Price of a GB for a month.")]
PutPrice = Annotated[float, typer.Option("--put", metavar="PRICE", help="Price of 1000 requests that write.")]
GetPrice = Annotated[float, typer.Option("--get", metavar="PRICE", help="Price of 1000 requests that read.")]
OutPrice = Annotated[float, typer.Option("--transfer", metavar="PRICE", help="Price of a GB that leaves the store.")]
Currency = Annotated[str, typer.Option("--currency", metavar="NAME", help="Currency of the prices.")]


def info(store: given.Store, *, place: given.Place, json: given.AsJson = False) -> None:
    """Describe a store. Reads metadata only: geometry, levels, attributes, occupied chunks."""
    found = place.open(store)
    facts = description(found)
    if json:
        print_json(facts)
        return
    levels = facts.pop("levels")
    units = [f" {in_line(unit)}" if unit else "" for unit in found.units]
    along = zip(map(in_line, found.axes), *map(_digits, found.bounds), units, strict=True)
    facts |= {"bounds": "\n".join(f"{axis}  {lo} to {hi}{unit}" for axis, lo, hi, unit in along)}
    facts |= {name: _lengths(facts[name], units) for name in ("chunk_shape", "bin_shape")}
    facts |= {"crs": _system(found.crs)}
    facts |= {"geometry_types": ", ".join(found.geometry_types), "axes": None, "units": None}
    print_pairs({name.replace("_", " "): value for name, value in facts.items() if value is not None})
    given.say()
    rows = []
    for level in levels:
        counts = [str(level["level"]), _count(level["vertices"]), f"{level['chunks']:,}"]
        rows.append([*counts, _lengths(level["bin_shape"], units), ", ".join(level["attributes"]) or "-"])
    print_table(["level", "vertices", "chunks", "bin shape", "attributes"], rows, right=(1, 2))
    if len(found):
        given.say(f"\n{sketch(found[found.levels[0]])}")


def description(store: ZVStore) -> dict[str, Any]:
    """What the metadata say about a store."""
    of_level = {"level": "index", "vertices": "vertex_count", "chunks": "chunk_count"}
    of_level |= {"chunk_shape": "chunk_shape", "bin_shape": "bin_shape", "attributes": "attribute_names"}
    levels = [{name: getattr(level, member) for name, member in of_level.items()} for level in store]
    members = ("backend", "geometry_types", "axes", "units", "bounds", "chunk_shape", "bin_shape", "crs")
    own = {name: getattr(store, name) for name in members}
    return {"url": store.url, "format": store.format_version, **own, "levels": levels}


def _system(crs: Any) -> str | None:
    """Reference system in a few words: its name and EPSG code if it has them, otherwise all that is stated, wrapped."""
    if isinstance(crs, Mapping) and crs.get("name"):
        return in_line(f"{crs['name']}, EPSG {crs['epsg']}" if crs.get("epsg") else str(crs["name"]))
    stated = ", ".join(f"{name} {value}" for name, value in crs.items()) if isinstance(crs, Mapping) else crs
    return "\n".join(textwrap.wrap(in_line(str(stated)), 62)) if crs else None


def sketch(level: ZVLevel) -> str:
    """Lines that show which parts of the level are occupied: the first two axes, darker where there are more chunks."""
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
    """List the arrays, objects and groups of a level."""
    found = place.open(store).query(level=level)
    arrays = arrays_of(found).items()
    members = {name: ([_known(size) for size in array.shape], str(array.dtype)) for name, array in arrays}
    objects = found.objects
    groups = {str(name): len(objects.groups[name]) for name in (objects.groups.names or list(objects.groups))}
    if json:
        shown = {name: {"shape": shape, "dtype": dtype} for name, (shape, dtype) in members.items()}
        print_json({"level": found.index, "arrays": shown, "objects": len(objects), "groups": groups})
        return
    rows = [[name, dtype, " x ".join(map(_count, shape))] for name, (shape, dtype) in members.items()]
    print_table(["array", "dtype", "shape"], rows, right=(2,))
    given.say(f"\n{counted(len(objects), 'object')}")
    if groups:
        print_table(["group", "objects"], [[name, f"{count:,}"] for name, count in groups.items()], right=(1,))


def arrays_of(level: ZVLevel) -> dict[str, Any]:
    """Arrays of a level, by their names in Python."""
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
    """Say what reading would fetch, without fetching it."""
    part = chosen.of(place.open(store))
    plan = part.explain(*members or ())
    if json:
        print_json({name: getattr(plan, name) for name in plan.__slots__})
    else:
        given.say(plan)


def validate(store: given.Store, *, place: given.Place, run: given.Run, json: given.AsJson = False) -> None:
    """Check a whole store. The exit code is 1 if it contradicts its format."""
    with run.computing():
        report = validated(store, **place.keywords())
    if report.errors and report.errors[0].message.startswith(NO_STORE):  # no store that something is wrong with
        raise FormatError(report.errors[0].message, where=report.url)
    if json:
        print_json({"url": report.url, "ok": report.ok, "findings": [asdict(one) for one in report.findings]})
    else:
        given.say(report)
    raise typer.Exit(0 if report.ok else 1)


def cost(
    store: given.Store,
    *,
    storage: StoragePrice = 0.023,
    put: PutPrice = 0.005,
    get: GetPrice = 0.0004,
    transfer: OutPrice = 0.09,
    currency: Currency = "USD",
    place: given.Place,
    json: given.AsJson = False,
) -> None:
    """Count objects and bytes, and price them. The default prices are list prices of S3."""
    prices = {"storage": storage, "put": put, "get": get, "transfer": transfer}
    found = place.open(store).cost(**prices, currency=currency)
    if json:
        totals = {name: getattr(found, name) for name in ("url", "objects", "nbytes", "month", "write", "read")}
        print_json(totals | {"currency": currency} | {"rows": [asdict(row) for row in found.rows]})
    else:
        given.say(found)


def _known(size: Any) -> int | None:
    return None if np.isnan(size) else int(size)


def _count(size: int | None) -> str:
    return "?" if size is None else f"{size:,}"


def _digits(values: Any) -> list[str]:
    """Numbers with as many digits as map coordinates need: 4212345.75, not 4.21235e+06."""
    return [f"{value + 0.0:.10g}" for value in values]  # 0, not -0


def _lengths(values: Any, units: list[str]) -> str:
    """Lengths along the axes, with their unit once if all have the same."""
    if len(set(units)) == 1:
        return ", ".join(_digits(values)) + units[0]
    return ", ".join(f"{length}{unit}" for length, unit in zip(_digits(values), units, strict=True))


# ``zvl read`` and ``zvl export``: a level or a selection into a file, or into files for a viewer.

OUT = f"File to write ({', '.join(suffixes('writes'))}), or - for standard output, as --format says (csv)."
Out = Annotated[str, typer.Argument(metavar="OUT", help=OUT, show_default=False)]
Named = Annotated[str | None, typer.Option("--format", help="Format of the file; by default from its suffix.")]
Stored = Annotated[bool, typer.Option("--stored", help="Leave coordinates as stored, instead of world coordinates.")]
Folder = Annotated[str, typer.Argument(metavar="DIR", help="Folder or URL to write to.", show_default=False)]
Source = Annotated[str, typer.Option("--precomputed", metavar="KIND", help="points, lines, skeletons or mesh.")]
Sharded = Annotated[bool, typer.Option("--sharded", help="Put many cells and segments into one file.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Approximate number of annotations in a cell.")]
Anew = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
Replace = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]


def read(
    store: given.Store,
    out: Out,
    *,
    chosen: given.Chosen,
    format: Named = None,  # noqa: A002  the option's name
    columns: given.Columns = None,
    stored: Stored = False,
    triangulate: given.Triangulate = False,
    like: given.Like = None,
    reference: given.Reference = None,
    overwrite: Replace = False,
    place: given.Place,
    run: given.Run,
    json: given.AsJson = False,
) -> None:
    """Write a level, or a selection of it, to a file. The suffix gives the format."""
    part = chosen.of(place.open(store))
    how: dict[str, Any] = {"attributes": given.names(columns), "world": not stored, "triangulate": triangulate}
    how |= {"like": like, "reference": reference}
    wanted = ("vertices", *(how["attributes"] or ["attributes"]))
    with run.computing(lambda: part.explain(*wanted).requests):
        if out == "-":
            to_standard_output(part, format or "csv", how)
            return
        done = part.to_file(out, format=format, overwrite=overwrite, **how)
    say_done(done)
    rows = counted(done["vertices"], "vertex")
    given.tell(done, json, f"{out}: {rows} of level {part.index}, {counted(done['bytes'], 'byte')}")


def to_standard_output(part: Any, name: str, how: dict[str, Any]) -> None:
    """Write a file by way of a scratch folder, because some formats are written from their ends."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "out"
        say_done(part.to_file(file, format=name, **how))
        with file.open("rb") as source:
            shutil.copyfileobj(source, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def say_done(done: dict[str, Any]) -> None:
    """Warn about what a file cannot hold, and about a file without vertices."""
    given.say_left_out(done["left_out"])
    if not done["vertices"]:
        given.say_nothing()


def export(
    store: given.Store,
    folder: Folder,
    kind: Source,
    *,
    chosen: given.Chosen,
    sharded: Sharded = False,
    limit: Limit = LIMIT,
    overwrite: Anew = False,
    place: given.Place,
    run: given.Run,
    json: given.AsJson = False,
) -> None:
    """Write files for Neuroglancer. Any web server or bucket can serve them."""
    part = chosen.of(place.open(store))
    with run.computing():
        done = part.to_precomputed(folder, kind, sharded=sharded, limit=limit, overwrite=overwrite)
    text = f"{done['count']:,} {kind} in {counted(done['files'], 'file')}, {counted(done['bytes'], 'byte')}"
    given.tell(done, json, f"{folder}: {text}")


# ``zvl plot``: a picture of a level.

Picture = Annotated[Path, typer.Argument(metavar="OUT", help="Picture to write: .png, .svg, .pdf.", show_default=False)]
Color = Annotated[
    str | None, typer.Option("--color", "-c", help="Attribute of vertices or objects, object_id, or red,green,blue.")
]
Projection = Annotated[
    str | None, typer.Option("--projection", "-p", help="Two axes, such as xz or lon,lat; by default all pairs.")
]

Robust = Annotated[bool, typer.Option("--robust", help="Spread colours from the 2nd to the 98th percentile.")]
Density = Annotated[bool, typer.Option("--density", help="Count vertices in hexagons.")]
ReplacePicture = Annotated[bool, typer.Option("--overwrite", help="Replace an existing picture.")]


def plot(
    store: given.Store,
    out: Picture,
    *,
    color: Color = None,
    projection: Projection = None,
    robust: Robust = False,
    density: Density = False,
    chosen: given.Chosen,
    place: given.Place,
    run: given.Run,
    overwrite: ReplacePicture = False,
) -> None:
    """Draw a level, or a selection of it. If it is finer than the pixels, a coarser level is drawn."""
    check_out(out, overwrite)
    part = chosen.of(place.open(store))
    with run.computing():
        figure: Any = part.plot(
            color=color, projection=projection, robust=robust, density=density or None, exact=chosen.level is not None
        )
    try:
        figure.savefig(out)
    except OSError as error:
        raise SelectionError(f"{out} cannot be written: {error.strerror}") from error
    if not figure.vertex_count:
        given.say_nothing()
    given.say(f"{out}: {figure.get_suptitle()}", error=True)


def check_out(out: Path, overwrite: bool) -> None:
    """Raise SelectionError if no picture can be written, before one is drawn."""
    kinds = sorted(picture().canvas.get_supported_filetypes())
    kind = out.suffix.removeprefix(".").lower()
    if kind not in kinds:
        raise SelectionError(f"{out}: a picture must be one of .{', .'.join(kinds)}{meant(kind, kinds)}")
    if not out.parent.is_dir():
        raise SelectionError(f"no folder {str(out.parent)!r}")
    if out.exists() and not overwrite:
        raise SelectionError(f"{str(out)!r} already exists: --overwrite replaces it")
