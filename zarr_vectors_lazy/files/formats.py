"""The list of formats, and the one place where their readers and writers are called."""

import gzip
import importlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from io import IOBase
from pathlib import Path
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FileError, SelectionError, ZVError, meant
from zarr_vectors_lazy.files.loaded import Loaded, LoadOptions
from zarr_vectors_lazy.files.outgoing import Outgoing

PATHS = frozenset({"streamline", "polyline", "line"})
TREES = PATHS | {"skeleton", "graph"}
CLOUDS = frozenset({"point_cloud"})
MESHES = frozenset({"mesh"})
SHEETS = MESHES | CLOUDS
ANY = TREES | SHEETS
ROWS = frozenset({"attributes"})
TABLE = ROWS | {"objects"}
SURVEY = ROWS | {"crs"}
LINKED = ROWS | {"objects", "links", "link_attributes"}
NAMED = LINKED | {"object_attributes"}  # what is not written here, the saver names itself
ALL = NAMED | {"groups", "group_attributes", "crs"}
FACES = frozenset({"links", "link_attributes"})
TINTED = ROWS | FACES
TRACT = frozenset({"objects", "links", "crs"})
MM = "millimeter"
SURFACES = (".white", ".pial", ".inflated", ".smoothwm", ".sphere", ".sphere.reg")


@dataclass(frozen=True, slots=True)
class Format:
    """A format of files.

    Parameters
    ----------
    name
        As people call it; the following fields describe it.
    suffixes
        File suffixes, in lower case.
    module
        Its module in this package, imported when a file is read or written.
    word
        Part of its functions' names: ``load_WORD`` takes a path and `LoadOptions`, and returns a `Loaded`, or blocks of
        it; ``save_WORD`` writes an `Outgoing` to a path, and returns the number of vertices.
    holds
        The geometries that it can hold.
    keeps
        What it can keep, in the words of `Outgoing.leave_but`.
    unit
        Unit of its positions; None for any.
    reads, writes
        Whether it has the load and save functions.
    """

    name: str
    suffixes: tuple[str, ...]
    module: str
    word: str
    _: KW_ONLY
    holds: frozenset[str] = ANY
    keeps: frozenset[str] = frozenset()
    unit: str | None = None
    reads: bool = True
    writes: bool = True


FORMATS = (
    Format("CSV", (".csv", ".csv.gz", ".tsv", ".tsv.gz"), "tables", "csv", keeps=TABLE),
    Format("GeoParquet", (".geoparquet",), "tables", "geoparquet", holds=CLOUDS | PATHS, keeps=NAMED | SURVEY),
    Format("FreeSurfer", SURFACES, "meshes", "freesurfer", holds=MESHES, keeps=frozenset({"links"}), unit=MM),
    Format("GIfTI", (".gii", ".gii.gz"), "meshes", "gifti", holds=SHEETS, keeps=ROWS | {"links"}, unit=MM),
    Format("edge list", (".edgelist", ".edges"), "graphs", "edgelist", holds=TREES, keeps=TINTED),
    Format("GraphML", (".graphml",), "graphs", "graphml", holds=TREES | CLOUDS, keeps=LINKED),
    Format("GLB", (".glb",), "glb", "glb", keeps=NAMED),
    Format("h5ad", (".h5ad",), "tables", "h5ad", holds=CLOUDS, keeps=TABLE),
    Format("LAS", (".las",), "las", "las", holds=CLOUDS, keeps=SURVEY),
    Format("LAZ", (".laz",), "las", "laz", holds=CLOUDS, keeps=SURVEY),
    Format("NPZ", (".npz",), "tables", "npz", keeps=ALL),
    Format("OBJ", (".obj",), "obj", "obj", keeps=NAMED),
    Format("Parquet", (".parquet",), "tables", "parquet", keeps=TABLE),
    Format("PLY", (".ply",), "ply", "ply", keeps=LINKED),
    Format("OFF", (".off",), "meshes", "off", holds=SHEETS, keeps=TINTED),
    Format("STL", (".stl",), "meshes", "stl", holds=MESHES, keeps=FACES),
    Format("SWC", (".swc",), "graphs", "swc", holds=TREES, keeps=ROWS | {"links"}),
    Format("TCK", (".tck", ".tck.gz"), "tracts", "tck", holds=PATHS | {"skeleton"}, keeps=TRACT, unit=MM),
    Format("TRK", (".trk", ".trk.gz"), "tracts", "trk", holds=PATHS | {"skeleton"}, keeps=NAMED | SURVEY, unit=MM),
    Format("TRX", (".trx",), "tracts", "trx", holds=PATHS | {"skeleton"}, keeps=ALL, unit=MM),
    Format("VTK", (".vtk",), "vtk", "vtk", keeps=NAMED),
    Format("VTP", (".vtp",), "vtk", "vtp", keeps=NAMED),
)
BY_SUFFIX = {suffix: one for one in FORMATS for suffix in one.suffixes}
BY_NAME = {one.name.lower(): one for one in FORMATS} | {suffix[1:]: one for suffix, one in BY_SUFFIX.items()}


def suffixes(part: str) -> list[str]:
    """Suffixes of the formats that can be read (``"reads"``) or written (``"writes"``)."""
    return sorted(suffix for suffix, one in BY_SUFFIX.items() if getattr(one, part))


def format_of(path: Path, name: str | None, part: str) -> Format:
    """Format that is named, or that the file's suffix implies; raises SelectionError if there is none."""
    if not isinstance(name, str | None):
        raise SelectionError(f"format= must be a name, such as 'csv', found {name!r}")
    lower = path.name.lower()
    ends = [suffix for suffix in BY_SUFFIX if lower.endswith(suffix)]
    found = BY_NAME.get(name.lower().lstrip(".")) if name else BY_SUFFIX[max(ends, key=len)] if ends else None
    if name is None and _is_trx(path):  # a folder of any name may be a TRX file
        found = BY_NAME["trx"]
    if found is None or not getattr(found, part):
        if path.is_dir() and part == "writes":
            raise SelectionError(f"{str(path)!r} is a folder: give the path of a file")
        known = suffixes(part)
        asked = name or path.suffix
        what = f"no format {asked!r} that can be" if asked else f"{path.name!r} has no suffix that says what is to be"
        near = meant(asked if "." in asked else f".{asked}", known)
        raise SelectionError(f"{what} {'read' if part == 'reads' else 'written'}; there is {', '.join(known)}{near}")
    return found


def check_has_space(one: Format) -> None:
    """Raise SelectionError if like= or reference= would have no effect."""
    if one.module != "tracts":
        raise SelectionError(f"like= and reference= are for tractograms, which {one.name} does not hold")


def load(path: Path, name: str | None = None, asked: LoadOptions | None = None) -> Iterator[Loaded]:
    """Load a file as blocks.

    Parameters
    ----------
    path
        The file, or for TRX a folder.
    name
        Name of its format; None to use the suffix.
    asked
        How it is read.

    Raises
    ------
    SelectionError
        If there is no such file, or no such format.
    FileError
        If it is damaged, empty, or not what its suffix says.
    ImportError
        If the library that reads it is not installed.
    """
    one = format_of(path, name, "reads")
    if not path.exists():
        raise SelectionError(f"no file {str(path)!r}")
    if asked is not None and asked.reference is not None:
        check_has_space(one)
    with relayed(path, one, "read"):
        found = _function(one, "load")(path, asked or LoadOptions())
        rows, paths = 0, False
        for block in (found,) if isinstance(found, Loaded) else found:
            rows += len(block.positions)
            paths = block.offsets is not None
            _check(block)
            yield block
        if not rows and not paths:
            raise FileError("it has no vertices")


def _check(block: Loaded) -> None:
    """Raise FileError if the parts of a file do not fit together."""
    rows = len(block.positions)
    if not np.isfinite(np.asarray(block.positions, np.float64)).all():
        raise FileError("some positions are not finite numbers")
    for what in ("edges", "faces"):
        links = getattr(block, what)
        if links is not None and len(links) and (links.ndim != 2 or links.min() < 0 or links.max() >= rows):
            raise FileError(f"{what} refer to vertices {int(links.min())} to {int(links.max())}, but there are {rows}")
    offsets = block.offsets
    if offsets is not None and (
        not len(offsets) or offsets[0] != 0 or offsets[-1] != rows or (np.diff(offsets) < 0).any()
    ):
        raise FileError(f"offsets of paths do not ascend from 0 to its {rows} vertices")
    paths = None if offsets is None else len(offsets) - 1
    counts = {"attribute": (rows, block.attributes)}
    counts["object ids"] = (rows if paths is None else paths, {"": block.object_ids})
    counts["link attribute"] = (0 if block.links is None else len(block.links), block.link_attributes)
    if paths is not None:
        counts["object attribute"] = (paths, block.object_attributes)
    for what, (count, tables) in counts.items():
        for name, values in tables.items():
            if values is not None and (np.ndim(values) not in (1, 2) or len(values) != count):
                raise FileError(f"{what} {name} has shape {np.shape(values)}, expected {count} rows".replace("  ", " "))


def save(level: Outgoing, path: Path, one: Format, name: str | None = None) -> int:
    """Write a level or a selection to a file; returns the number of vertices written.

    The file is written next to its place and moved there when complete. ``name``, the format, if given,
    may be a suffix such as ``csv.gz``, which implies more than the format.

    Raises
    ------
    SelectionError
        If what is selected does not fit the format.
    ImportError
        If the library that writes it is not installed.
    """
    if level.geometry not in one.holds:
        others = ", ".join(each.name for each in FORMATS if each.writes and level.geometry in each.holds)
        held = ", ".join(sorted(one.holds))
        raise SelectionError(
            f"{one.name} holds {held}, but the store is of {level.geometry}; for that there is {others}"
        )
    named = f".{(name or '').lower().lstrip('.')}"
    said_by = tuple(suffix for suffix in one.suffixes if suffix.startswith(named) or named not in one.suffixes)
    said = path.name if path.name.lower().endswith(said_by) else f"{path.name}{named}"
    packed = said.lower().endswith(".gz")
    unfinished = path.with_name(f".unfinished-{said[:-3] if packed else said}")
    whole = path.with_name(f"{unfinished.name}.gz") if packed else unfinished
    try:
        with relayed(path, one, "written"):
            count = int(_function(one, "save")(level, unfinished))
            if packed:
                with unfinished.open("rb") as plain, gzip.open(whole, "wb") as file:
                    shutil.copyfileobj(plain, file)
            whole.replace(path)
    finally:
        for left in {unfinished, whole}:
            if left.exists():  # in a read-only folder, unlinking fails even for what does not exist
                left.unlink()
    level.leave_but(one.keeps)
    return count


def _function(one: Format, verb: str) -> Callable[..., Any]:
    module = importlib.import_module(f"zarr_vectors_lazy.files.{one.module}")
    function: Callable[..., Any] = getattr(module, f"{verb}_{one.word}")
    return function


@contextmanager
def relayed(path: Path, one: Format, done: str) -> Iterator[None]:
    """Turn whatever a reader or writer of files raises into one error that names the file."""
    try:
        yield
    except FileError as error:
        raise error if str(path) in str(error) else FileError(f"{path}: {error}") from error
    except (ZVError, ImportError, Warning):  # warnings are errors if the user has made them so
        raise
    except BaseException as error:
        # A panic of a library in Rust is not an Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        empty = done == "read" and path.is_file() and not path.stat().st_size
        reason = "the file is empty" if empty else str(error) or type(error).__name__
        raise FileError(f"{path} cannot be {done} as {one.name}: {reason}") from error


def found_files(files: Any, name: str | None = None) -> list[Path]:
    """Files that paths, folders and patterns name, in the order given; those of one pattern are sorted.

    Raises
    ------
    SelectionError
        If one names nothing that can be read.
    """
    one = isinstance(files, str | bytes | os.PathLike | Mapping | IOBase) or hasattr(files, "columns")
    given = [files] if one or not isinstance(files, Iterable) else list(files)
    for item in given:
        if not isinstance(item, str | os.PathLike) or not os.fspath(item):  # "" would be the current folder
            kind = repr(item) if isinstance(item, str) else type(item).__name__
            raise SelectionError(
                f"files must be paths, found {kind}; write_points and other writers take arrays and tables"
            )
    found = [path for item in given for path in _expanded(Path(item).expanduser(), name)]
    if not found:
        raise SelectionError("no files are given")
    return found


def _expanded(path: Path, name: str | None) -> Sequence[Path]:
    if path.is_dir() and not _is_trx(path):
        known = tuple(suffixes("reads"))
        seen = [one for one in path.iterdir() if not one.name.startswith(".")]  # others are the system's, as ._a.trk
        parts = sorted(one for one in seen if one.name.lower().endswith(known) or (name and one.is_file()))
        if not parts:
            if (path / "zarr.json").is_file():
                raise SelectionError(f"{str(path)!r} is a store or another Zarr group: files come first, then a store")
            raise SelectionError(f"folder {str(path)!r} has no files that can be read; formats: {', '.join(known)}")
        return parts
    if path.exists() or not any(letter in str(path) for letter in "*?["):
        return [path]
    root = Path(path.anchor) if path.is_absolute() else Path()
    parts = sorted(root.glob(str(path.relative_to(path.anchor) if path.is_absolute() else path)))
    parts = [one for one in parts if not one.name.startswith(".") or path.name.startswith(".")]  # as a shell does
    if not parts:
        raise SelectionError(f"no file matches {str(path)!r}")
    return parts


def names_of(paths: Sequence[Path]) -> list[str]:
    """Names of files; if some are the same, paths below the folder that holds all files."""
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    whole = [path.absolute() for path in paths]
    root = os.path.commonpath([path.parent for path in whole])
    return [path.relative_to(root).as_posix() for path in whole]


def _is_trx(path: Path) -> bool:
    """Whether a folder is an unpacked TRX file."""
    return (path / "header.json").is_file() and any(path.glob("positions.*"))
