"""Commands of ``zvl`` that write stores, or change them in place: from ``ingest`` and ``pyramid`` to ``shard``."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from zarr_vectors_lazy import examples, maintenance
from zarr_vectors_lazy.cli import options as given
from zarr_vectors_lazy.copy.recompress import recompress as recompressed
from zarr_vectors_lazy.display import nbytes_text
from zarr_vectors_lazy.errors import FileError, SelectionError, counted
from zarr_vectors_lazy.files.formats import format_of, suffixes
from zarr_vectors_lazy.interchange import ingest as ingested
from zarr_vectors_lazy.maintenance import rechunk as rechunked
from zarr_vectors_lazy.pyramid.build import build_pyramid

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILES... STORE",
        help=f"Files, folders, patterns ({', '.join(suffixes('reads'))}), or - for standard input, as --format says; "
        "then the path or URL of the new store.",
    ),
]
Named = Annotated[str | None, typer.Option("--format", help="Format of the files; by default from their suffixes.")]
Axes = Annotated[str | None, typer.Option("--axes", metavar="X,Y,Z", help="Columns of positions, or names of axes.")]
Owner = Annotated[
    str | None, typer.Option("--object-ids", metavar="COLUMN", help="Column with the object of each row.")
]
New = Annotated[str, typer.Argument(metavar="STORE", help="URL or path of the new store.", show_default=False)]
Old = Annotated[str, typer.Argument(metavar="OLD", help="Store of format 0.7.", show_default=False)]
Source = Annotated[str, typer.Argument(metavar="OLD", help="URL or path of a store.", show_default=False)]
NewEdges = Annotated[str, typer.Option("--chunk-shape", metavar="X,Y,Z", help="Edges of a chunk of the new store.")]
Edges = Annotated[
    str | None, typer.Option("--chunk-shape", metavar="X,Y,Z", help="Edges of a chunk; by default chosen for you.")
]
Kept = Annotated[
    str | None, typer.Option("--chunk-shape", metavar="X,Y,Z", help="Edges of a chunk; by default unchanged.")
]
Bins = Annotated[str | None, typer.Option("--bin-shape", metavar="X,Y,Z", help="Edges of a bin, a part of a chunk.")]
Units = Annotated[str | None, typer.Option("--unit", help="Unit of the coordinates.")]
Replace = Annotated[bool, typer.Option("--overwrite", help="Replace an existing Zarr Vectors store.")]
Factors = Annotated[
    list[str],
    typer.Option("--factor", "-f", metavar="COARSENING[:SPARSITY]", help="Factors of a level; repeat for each level."),
]
Scales = Annotated[
    list[str] | None,
    typer.Option(
        "--chunk-scale",
        metavar="N",
        help="How much chunks grow from level to level: once for all, or repeated; 1 keeps them; by default like bins.",
    ),
]
Rules = Annotated[
    list[str] | None,
    typer.Option("--aggregate", metavar="NAME=RULE", help="mean, min, max, sum, mode, first, or none to leave it out."),
]
Sparsity = Annotated[str, typer.Option(metavar="N", help="Keep one in N at each level whose factor has no sparsity.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the hash that chooses what is kept.")]
Links = Annotated[
    Literal["none", "implicit", "explicit"],
    typer.Option(help="Links between levels: from the finer one (implicit), or both ways (explicit)."),
]
Depth = Annotated[int, typer.Option(help="Levels that links reach across; -1 for all.")]
Shape = Annotated[str | None, typer.Option("--shape", metavar="N,N,N", help="Chunks along each axis in a shard.")]
Unpack = Annotated[bool, typer.Option("--unpack", help="Take cells out of shards again.")]
Example = Annotated[
    str | None, typer.Argument(metavar="NAME", help="Which one; by default all are listed.", show_default=False)
]
Target = Annotated[
    str | None, typer.Argument(metavar="STORE", help="Path of the copy; by default in your cache.", show_default=False)
]
Codec = Annotated[Literal["zstd", "blosc", "none"], typer.Option("--codec", help="Compression of cells.")]
NoChecksum = Annotated[bool, typer.Option("--no-checksum", help="Leave out the crc32c checksum of cells.")]
Shards = Annotated[
    str | None, typer.Option("--shape", "--shard", metavar="N,N,N", help="Chunks in a shard; by default none.")
]
Profiles = Annotated[
    Literal["viewer"] | None, typer.Option("--profile", help="viewer: no codec, no checksum, no shards.")
]
Levels = Annotated[bool, typer.Option("--pyramid", help="Rebuild the coarser levels, like those of OLD.")]
Anew = Annotated[bool, typer.Option("--overwrite", help="Replace existing levels.")]


def ingest(
    files: Files,
    *,
    format: Named = None,  # noqa: A002  the option's name
    chunk_shape: Edges = None,
    bin_shape: Bins = None,
    axes: Axes = None,
    unit: Units = None,
    columns: given.Columns = None,
    object_ids: Owner = None,
    like: given.Like = None,
    reference: given.Reference = None,
    triangulate: given.Triangulate = False,
    overwrite: Replace = False,
    place: given.Place,
    run: given.Run,
    json: given.AsJson = False,
) -> None:
    """Write files as a new store. With several files, each becomes an object with its name."""
    *sources, store = files
    if not sources:
        raise SelectionError(f"give one or more files and then the store to write, found only {store!r}")
    with run.writing(store, **place.keywords()), with_standard_input(sources, format) as paths:
        done = ingested(
            paths,
            store,
            format=format,
            chunk_shape=numbers(chunk_shape, "--chunk-shape"),
            bin_shape=numbers(bin_shape, "--bin-shape"),
            axes=given.names(axes),
            unit=unit,
            columns=given.names(columns),
            object_ids=object_ids,
            like=like,
            reference=reference,
            triangulate=triangulate,
            overwrite=overwrite,
            **place.keywords(),
        )
    given.say_left_out(done["left_out"])
    given.say_left_out([f"{name} is {text}" for name, text in done["renamed"].items()], "renamed")
    what = f"{counted(done['vertex_count'], 'vertex')} ({done['kind']})"
    given.tell(done, json, f"{store}: {what} in {counted(done['chunk_count'], 'chunk')}")


@contextmanager
def with_standard_input(sources: list[str], name: str | None) -> Iterator[list[str]]:
    """Paths of files; for ``-`` that of a copy of standard input, as many formats are read from their ends."""
    if "-" not in sources:
        yield sources
        return
    if name is None:
        raise SelectionError("- is standard input, which has no suffix: say what it is, such as --format csv")
    suffixes_of = format_of(Path("-"), name, "reads").suffixes
    suffix = f".{name.lower().lstrip('.')}"
    if sys.stdin.isatty():
        raise SelectionError("- is standard input, which is a terminal: send a file to it, as in zvl ingest - < FILE")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"stdin{suffix if suffix in suffixes_of else suffixes_of[0]}"
        with copy.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            yield [str(copy) if source == "-" else source for source in sources]
        except FileError as error:
            raise FileError(error.message.replace(str(copy), "standard input")) from error


def pyramid(
    store: given.Store,
    *,
    factor: Factors,
    chunk_scale: Scales = None,
    aggregate: Rules = None,
    sparsity: Sparsity = "1",
    seed: Seed = 0,
    links: Links = "explicit",
    depth: Depth = 1,
    overwrite: Anew = False,
    place: given.Place,
    run: given.Run,
    json: given.AsJson = False,
) -> None:
    """Build coarser levels, each from the one before. An interrupted build continues where it stopped."""
    with given.leaving(f"{store} opens, with its finished levels; run this again to continue", run.computing()):
        done = build_pyramid(
            store,
            factors=[parse_factor(text, sparsity) for text in factor],
            chunk_scale_factors=parse_scales(chunk_scale),
            aggregate=dict(map(parse_rule, aggregate or ())),
            sparsity_seed=seed,
            cross_level_storage=links,
            cross_level_depth=depth,
            overwrite=overwrite,
            **place.keywords(),
        )
    assert isinstance(done, dict)
    given.say_left_out(done["left_out"])
    made = [counted(spec["vertex_count"], "vertex") for spec in done["level_specs"] if "vertex_count" in spec]
    given.tell(done, json, f"{store}: {counted(done['levels_created'], 'level')} of {' and '.join(made)}")


def rechunk(
    old: Source,
    store: New,
    *,
    chunk_shape: NewEdges,
    bin_shape: Bins = None,
    level: given.Level = None,
    pyramid: Levels = False,
    overwrite: Replace = False,
    place: given.NewPlace,
    run: given.Run,
    json: given.AsJson = False,
) -> None:
    """Write a level as a new store with other chunks and bins."""
    edges, new = numbers(chunk_shape, "--chunk-shape"), place.new(old, store)
    assert edges is not None
    with run.writing(store, **new):
        done = rechunked(
            old,
            store,
            chunk_shape=edges,
            bin_shape=numbers(bin_shape, "--bin-shape"),
            level=level or 0,
            pyramid={"method": "aggregate"} if pyramid else False,  # whatever method built the old levels
            mode="w" if overwrite else "w-",
            dst_options=new,
            **place.keywords(),
        )
    levels = list(map(str, done["levels_left_out"]))
    given.say_left_out([name for name in done["left_out"] if name not in levels])
    built = f"; {counted(done['pyramid']['levels_created'], 'level')} built" if "pyramid" in done else ""
    said = f"{store}: {counted(done['chunk_count'], 'chunk')}"
    given.tell(done, json, f"{said}{not_carried(levels, '--pyramid') or built}")


def save(
    old: Source,
    store: New,
    *,
    chosen: given.Chosen,
    chunk_shape: Kept = None,
    bin_shape: Bins = None,
    overwrite: Replace = False,
    place: given.NewPlace,
    run: given.Run,
    json: given.AsJson = False,
) -> None:
    """Write a level, or a selection of it, as a new store."""
    part, new = chosen.of(place.open(old)), place.new(old, store)
    with run.writing(store, **new):
        done = part.save(
            store,
            chunk_shape=numbers(chunk_shape, "--chunk-shape"),
            bin_shape=numbers(bin_shape, "--bin-shape"),
            mode="w" if overwrite else "w-",
            **new,
        )
    levels = [name for name in done["left_out"] if name.isdigit()]
    given.say_left_out([name for name in done["left_out"] if name not in levels])
    rows = {"vertex_count": "vertex", "node_count": "vertex", "line_count": "line"}
    name = next(name for name in rows if name in done)  # each geometry counts in its own way
    said = f"{store}: {counted(done[name], rows[name])} in {counted(done['chunk_count'], 'chunk')}"
    given.tell(done, json, f"{said}{not_carried(levels, 'zvl pyramid')}")


def not_carried(levels: list[str], builder: str) -> str:
    """End of a sentence that says which levels are not in the new store."""
    return f"; coarser levels ({', '.join(levels)}) are not copied; {builder} builds them" if levels else ""


def recompress(
    old: Source,
    store: New,
    *,
    codec: Codec = "zstd",
    no_checksum: NoChecksum = False,
    shard: Shards = None,
    profile: Profiles = None,
    overwrite: Replace = False,
    place: given.NewPlace,
    run: given.Run,
    json: given.AsJson = False,
) -> None:
    """Copy a store with another codec, with or without shards. The contents stay the same."""
    new = place.new(old, store)
    with run.writing(store, **new):
        done = recompressed(
            old,
            store,
            compressor=None if codec == "none" else codec,
            checksum=not no_checksum,
            shard_shape=given.shard_shape(shard),
            profile=profile,
            mode="w" if overwrite else "w-",
            dst_options=new,
            **place.keywords(),
        )
    given.say_left_out(done["left_out"])
    sizes = f"{nbytes_text(done['source_nbytes'])} became {nbytes_text(done['nbytes'])}"
    said = f"{counted(done['cell_count'], 'cell')} in {counted(done['object_count'], 'object')}"
    given.tell(done, json, f"{store}: {said}, {sizes}")


def migrate(
    old: Old,
    store: New,
    *,
    overwrite: Replace = False,
    place: given.NewPlace,
    run: given.Run,
    json: given.AsJson = False,
) -> None:
    """Write a store of format 0.7 as a new one of format 0.9. The old one stays as it is."""
    new = place.new(old, store)
    with run.writing(store, **new):
        counts = maintenance.migrate(old, store, mode="w" if overwrite else "w-", dst_options=new, **place.keywords())
    given.tell_counts(counts, json)


def shard(
    store: given.Store,
    *,
    shape: Shape = None,
    unpack: Unpack = False,
    place: given.Place,
    run: given.Run,
    json: given.AsJson = False,
) -> None:
    """Put the cells of every array into shards, in place. Fewer files, the same bytes."""
    if (shape is None) != unpack:
        raise SelectionError("give --shape N, or one number for each axis, or --unpack")
    left = f"{store} is intact, with the cells of some arrays in shards; run the command again to finish"
    with given.leaving(left, run.computing()):
        done = maintenance.shard(store, shard_shape=given.shard_shape(shape), **place.keywords())
    objects = counted(sum(done.values()), "object")
    given.tell(done, json, f"{store}: the cells of {counted(len(done), 'array')} are now {objects}")


def index(store: given.Store, *, place: given.Place, json: given.AsJson = False) -> None:
    """Store the vertex count of every chunk. Opening then shows it."""
    with given.leaving(f"{store} opens as before, perhaps with the counts of some levels; run this again to finish"):
        counts = maintenance.index(store, **place.keywords())
    given.tell_counts(counts, json)


def consolidate(store: given.Store, *, place: given.Place) -> None:
    """Write all metadata into the root. One request then opens the store."""
    with given.leaving(f"{store} is either unchanged or finished; run the command again to be sure"):
        maintenance.consolidate(store, **place.keywords())
    given.say(f"{store} can now be opened with one request", error=True)


def example(name: Example = None, store: Target = None) -> None:
    """Copy one of the example stores. They are small, real, and come with the package."""
    if name is None:
        given.print_pairs(examples.EXAMPLES)
    else:
        given.say(examples.example(name, store))


def numbers(text: str | None, name: str) -> list[float] | float | None:
    """Edges from ``"10,10,10"``, or from ``"10"`` for all axes."""
    if text is None:
        return None
    try:
        found = [int(part) if part.strip().isdecimal() else float(part) for part in text.split(",")]
    except ValueError as error:
        raise SelectionError(f"{name} must be a number, or one for each axis, found {text!r}") from error
    return found[0] if len(found) == 1 else found


def parse_factor(text: str, sparsity: str = "1") -> tuple[list[float] | float, float]:
    """Pair (coarsening, sparsity) from ``"2"``, ``"2:4"`` or ``"2,2,1:4"``."""
    coarsening, _, own = text.partition(":")
    found = numbers(coarsening, "--factor")
    kept = numbers(own or sparsity, "--sparsity, or a sparsity in --factor COARSENING:SPARSITY,")
    assert found is not None
    assert kept is not None
    if isinstance(kept, list):
        raise SelectionError(f"a sparsity must be one number, found {own or sparsity!r}")
    return found, kept


def parse_scales(texts: list[str] | None) -> Any:
    """Chunk scale of all levels, or of each; each may be one number or one for each axis."""
    found = [numbers(text, "--chunk-scale") for text in texts or ()]
    return None if not found else found[0] if len(found) == 1 and not isinstance(found[0], list) else found


def parse_rule(text: str) -> tuple[str, Any]:
    """Attribute and rule from ``"name=rule"``."""
    name, equals, rule = text.rpartition("=")
    if not equals:
        raise SelectionError(f"--aggregate must be NAME=RULE, found {text!r}")
    return name, None if rule == "none" else rule
