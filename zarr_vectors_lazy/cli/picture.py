"""``zvl plot``: a picture of a level."""

from pathlib import Path
from typing import Annotated

import typer

from zarr_vectors_lazy.cli import options as given
from zarr_vectors_lazy.errors import SelectionError, meant

Picture = Annotated[Path, typer.Argument(metavar="OUT", help="Picture to write: .png, .svg, .pdf.", show_default=False)]
Color = Annotated[str | None, typer.Option("--color", "-c", help="Attribute of vertices or objects, or object_id.")]
Projection = Annotated[
    str | None, typer.Option("--projection", "-p", help="Two axes, such as xz; by default all pairs.")
]

Robust = Annotated[bool, typer.Option("--robust", help="Colours from the 2nd to the 98th percentile.")]
Density = Annotated[bool, typer.Option("--density", help="Count vertices in hexagons.")]
Replace = Annotated[bool, typer.Option("--overwrite", help="Replace the picture that is there.")]


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
    overwrite: Replace = False,
) -> None:
    """Draw a level, or what is selected of it. A level finer than pixels is drawn from a coarser one."""
    check_out(out, overwrite)
    part = chosen.of(place.open(store))
    with run.computing():
        figure = part.plot(
            color=color, projection=projection, robust=robust, density=density or None, exact=chosen.level is not None
        )
    try:
        figure.savefig(out)
    except OSError as error:
        raise SelectionError(f"{out} cannot be written: {error.strerror}") from error
    given.say(f"{out}: {figure.get_suptitle()}", error=True)


def check_out(out: Path, overwrite: bool) -> None:
    """Raise SelectionError where no picture can be written, before one is drawn."""
    from matplotlib.backend_bases import FigureCanvasBase  # noqa: PLC0415  optional

    kinds = sorted(FigureCanvasBase.get_supported_filetypes())
    kind = out.suffix.removeprefix(".").lower()
    if kind not in kinds:
        raise SelectionError(f"{out}: a picture is one of .{', .'.join(kinds)}{meant(kind, kinds)}")
    if not out.parent.is_dir():
        raise SelectionError(f"no folder {str(out.parent)!r}")
    if out.exists() and not overwrite:
        raise SelectionError(f"{str(out)!r} is there: --overwrite replaces it")
