"""``zvl read`` and ``zvl export``: a level or a selection into a file, or into files for a viewer."""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from zarr_vectors_lazy.cli import options as given
from zarr_vectors_lazy.convert.precomputed_export import LIMIT
from zarr_vectors_lazy.files.formats import suffixes

OUT = f"File to write ({', '.join(suffixes('writes'))}), or - for standard output, as --format says (csv)."
Out = Annotated[str, typer.Argument(metavar="OUT", help=OUT, show_default=False)]
Named = Annotated[str | None, typer.Option("--format", help="Of the file; else as its suffix says.")]
Columns = Annotated[str | None, typer.Option("--columns", metavar="A,B", help="Attributes wanted; else all.")]
Stored = Annotated[bool, typer.Option("--stored", help="Coordinates as they are stored, not world coordinates.")]
Folder = Annotated[str, typer.Argument(metavar="DIR", help="Folder or URL to write to.", show_default=False)]
Source = Annotated[str, typer.Option("--precomputed", metavar="KIND", help="points, lines, skeletons or mesh.")]
Sharded = Annotated[bool, typer.Option("--sharded", help="Cells and segments share files.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Annotations of a cell, about.")]
Anew = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Replace = Annotated[bool, typer.Option("--overwrite", help="Replace the file that is there.")]


def read(
    store: given.Store,
    out: Out,
    *,
    chosen: given.Chosen,
    format: Named = None,  # noqa: A002  the option's name
    columns: Columns = None,
    stored: Stored = False,
    triangulate: given.Triangulate = False,
    like: given.Like = None,
    reference: given.Reference = None,
    overwrite: Replace = False,
    place: given.Place,
    run: given.Run,
    json: given.AsJson = False,
) -> None:
    """Write a level, or what is selected of it, to a file. Its suffix says the format."""
    part = chosen.of(place.open(store))
    how: dict[str, Any] = {"attributes": given.names(columns), "world": not stored, "triangulate": triangulate}
    how |= {"like": like, "reference": reference}
    wanted = ("vertices", *(how["attributes"] or ["attributes"]))
    with run.computing(lambda: part.explain(*wanted).requests):
        if out == "-":
            to_standard_output(part, format or "csv", how)
            return
        done = part.to_file(out, format=format, overwrite=overwrite, **how)
    given.say_left_out(done["left_out"])
    given.tell(done, json, f"{out}: {done['vertices']:,} vertices of level {part.index}, {done['bytes']:,} bytes")


def to_standard_output(part: Any, name: str, how: dict[str, Any]) -> None:
    """Write a file by way of a scratch folder: some formats are written from their ends."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "out"
        given.say_left_out(part.to_file(file, format=name, **how)["left_out"])
        with file.open("rb") as source:
            shutil.copyfileobj(source, sys.stdout.buffer)
        sys.stdout.buffer.flush()


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
    """Write what is selected as files for Neuroglancer. Any web server or bucket may have them."""
    part = chosen.of(place.open(store))
    with run.computing():
        done = part.to_precomputed(folder, kind, sharded=sharded, limit=limit, overwrite=overwrite)
    text = f"{done['count']:,} {kind} in {done['files']:,} files, {done['bytes']:,} bytes"
    given.tell(done, json, f"{folder}: {text}")
