"""Which formats there are, and the one place where their readers and writers are called."""

import gzip
import importlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FileError, SelectionError, ZVError, listed
from zarr_vectors_lazy.files.loaded import Asked, Loaded
from zarr_vectors_lazy.files.outgoing import Outgoing

TRACTS = frozenset({"streamline", "polyline", "line", "skeleton"})
TREES = frozenset({"skeleton", "graph", "polyline", "streamline", "line"})
MESHES = frozenset({"mesh"})
SHEETS = frozenset({"mesh", "point_cloud"})
WIRED = frozenset({"mesh", "graph", "skeleton", "polyline", "streamline", "line", "point_cloud"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format of files.

    Parameters
    ----------
    name
        As people call it.
    suffixes
        Of its files, in small letters.
    module
        Below this package; it is imported when a file is read or written.
    load
        Its function that takes a path and an `Asked`, and gives a `Loaded` or an iterator of its blocks; ``""``: none.
    save
        Its function that takes an `Outgoing` and a path, and writes; gives the number of vertices; ``""``: none.
    holds
        Geometries of stores that it can hold.
    keeps
        What it has a place for, as `Outgoing.leave_but` names it.
    unit
        Of positions in it; None: any.
    """

    name: str
    suffixes: tuple[str, ...]
    module: str
    load: str = ""
    save: str = ""
    holds: frozenset[str] = WIRED
    keeps: frozenset[str] = frozenset()
    unit: str | None = None


ROWS = frozenset({"attributes"})
LINKED = frozenset({"attributes", "objects", "link_attributes"})
TINTED = frozenset({"attributes", "link_attributes"})
FACES = frozenset({"link_attributes"})
NAMED = LINKED | {"object_attributes"}  # those that are not written the saver names itself
ALL = frozenset({"attributes", "objects", "link_attributes", "object_attributes", "groups", "group_attributes", "crs"})
FORMATS = (
    Format(name="CSV", suffixes=(".csv", ".csv.gz"), module="tables", load="load_csv", save="save_csv", keeps=ROWS),
    Format(
        name="FreeSurfer",
        suffixes=(".white", ".pial", ".inflated", ".smoothwm", ".sphere", ".sphere.reg"),
        module="surfaces",
        load="load_freesurfer",
        save="save_freesurfer",
        holds=MESHES,
        unit="millimeter",
    ),
    Format(
        name="GIfTI",
        suffixes=(".gii", ".gii.gz"),
        module="surfaces",
        load="load_gifti",
        save="save_gifti",
        holds=SHEETS,
        keeps=ROWS,
        unit="millimeter",
    ),
    Format(
        name="GLB",
        suffixes=(".glb",),
        module="glb",
        load="load_glb",
        save="save_glb",
        keeps=NAMED,
    ),
    Format(name="LAS", suffixes=(".las", ".laz"), module="las", load="load_las"),
    Format(name="NPZ", suffixes=(".npz",), module="tables", load="load_npz", save="save_npz", keeps=ROWS),
    Format(name="OBJ", suffixes=(".obj",), module="obj", load="load_obj", save="save_obj", keeps=NAMED),
    Format(
        name="Parquet",
        suffixes=(".parquet",),
        module="tables",
        load="load_parquet",
        save="save_parquet",
        keeps=ROWS,
    ),
    Format(name="PLY", suffixes=(".ply",), module="ply", load="load_ply", save="save_ply", keeps=LINKED),
    Format(
        name="OFF", suffixes=(".off",), module="meshes", load="load_off", save="save_off", holds=SHEETS, keeps=TINTED
    ),
    Format(
        name="STL", suffixes=(".stl",), module="meshes", load="load_stl", save="save_stl", holds=MESHES, keeps=FACES
    ),
    Format(name="SWC", suffixes=(".swc",), module="swc", load="load_swc", save="save_swc", holds=TREES, keeps=ROWS),
    Format(
        name="TCK",
        suffixes=(".tck", ".tck.gz"),
        module="tracts",
        load="load_tck",
        save="save_tck",
        holds=TRACTS,
        keeps=frozenset({"objects"}),
        unit="millimeter",
    ),
    Format(
        name="TRK",
        suffixes=(".trk", ".trk.gz"),
        module="tracts",
        load="load_trk",
        save="save_trk",
        holds=TRACTS,
        keeps=frozenset({"attributes", "objects", "object_attributes", "crs"}),
        unit="millimeter",
    ),
    Format(
        name="TRX",
        suffixes=(".trx",),
        module="tracts",
        load="load_trx",
        save="save_trx",
        holds=TRACTS,
        keeps=frozenset({"attributes", "objects", "object_attributes", "groups", "group_attributes", "crs"}),
        unit="millimeter",
    ),
)
BY_SUFFIX = {suffix: one for one in FORMATS for suffix in one.suffixes}
BY_NAME = {one.name.lower(): one for one in FORMATS} | {suffix[1:]: one for suffix, one in BY_SUFFIX.items()}


def suffixes(part: str) -> list[str]:
    """Suffixes of the formats that can be read (``"load"``) or written (``"save"``)."""
    return sorted(suffix for suffix, one in BY_SUFFIX.items() if getattr(one, part))


def format_of(path: Path, name: str | None, part: str) -> Format:
    """Format that a file's suffix says, or that is named; raises SelectionError if there is none."""
    lower = path.name.lower()
    ends = [suffix for suffix in BY_SUFFIX if lower.endswith(suffix)]
    found = BY_NAME.get(name.lower().lstrip(".")) if name else BY_SUFFIX[max(ends, key=len)] if ends else None
    if found is None or not getattr(found, part):
        what = f"format {name or path.suffix!r} for {path.name!r}"
        raise SelectionError(
            f"no {what} that can be {'read' if part == 'load' else 'written'}; there is {listed(suffixes(part))}"
        )
    return found


def load(path: Path, name: str | None = None, asked: Asked | None = None) -> Iterator[Loaded]:
    """Blocks of a file of the field.

    Parameters
    ----------
    path
        The file; of TRX a folder too.
    name
        Of its format; None: as its suffix says.
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
    one = format_of(path, name, "load")
    if not path.exists():
        raise SelectionError(f"no file {str(path)!r}")
    with relayed(path, one, "read"):
        found = _function(one, one.load)(path, asked or Asked())
        for block in (found,) if isinstance(found, Loaded) else found:
            if not np.isfinite(np.asarray(block.positions, np.float64)).all():
                raise FileError("some positions are not finite numbers")
            yield block


def save(level: Outgoing, path: Path, one: Format) -> int:
    """Write a level or a selection to a file; returns the number of vertices written.

    The file is written beside its place and moved there when it is whole.

    Raises
    ------
    SelectionError
        If what is selected does not fit the format.
    ImportError
        If the library that writes it is not installed.
    """
    if level.geometry not in one.holds:
        raise SelectionError(f"{one.name} holds {', '.join(sorted(one.holds))}; the store is of {level.geometry}")
    packed = path.name.lower().endswith(".gz")
    unfinished = path.with_name(f".unfinished-{path.name[:-3] if packed else path.name}")
    whole = path.with_name(f"{unfinished.name}.gz") if packed else unfinished
    try:
        with relayed(path, one, "written"):
            count = int(_function(one, one.save)(level, unfinished))
        if packed:
            with unfinished.open("rb") as plain, gzip.open(whole, "wb") as file:
                shutil.copyfileobj(plain, file)
        whole.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
        whole.unlink(missing_ok=True)
    level.leave_but(one.keeps)
    return count


def _function(one: Format, name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(importlib.import_module(f"zarr_vectors_lazy.files.{one.module}"), name)
    return function


@contextmanager
def relayed(path: Path, one: Format, done: str) -> Iterator[None]:
    """Relay whatever a reader or writer of files raises as one error that names the file."""
    try:
        yield
    except FileError as error:
        raise error if str(path) in str(error) else FileError(f"{path}: {error}") from error
    except (ZVError, ImportError, MemoryError, Warning):  # warnings are errors where they are made so
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise FileError(f"{path} cannot be {done} as {one.name}: {reason}") from error


def found_files(files: Any, name: str | None = None) -> list[Path]:
    """Files that paths, folders and patterns name, in the order given, those of each sorted.

    Raises
    ------
    SelectionError
        If one names nothing that can be read.
    """
    given: Iterable[Any] = [files] if isinstance(files, str | Path) or not isinstance(files, Iterable) else files
    found = [path for item in given for path in _expanded(Path(item).expanduser(), name)]
    if not found:
        raise SelectionError("no files are given")
    return found


def _expanded(path: Path, name: str | None) -> Sequence[Path]:
    if path.is_dir() and not _is_trx(path):
        known = tuple(suffixes("load"))
        parts = sorted(one for one in path.iterdir() if one.name.lower().endswith(known) or (name and one.is_file()))
        if not parts:
            raise SelectionError(f"no files that can be read in folder {str(path)!r}; there is {listed(known)}")
        return parts
    if path.exists() or not any(letter in str(path) for letter in "*?["):
        return [path]
    root = Path(path.anchor) if path.is_absolute() else Path()
    parts = sorted(root.glob(str(path.relative_to(path.anchor) if path.is_absolute() else path)))
    if not parts:
        raise SelectionError(f"no file matches {str(path)!r}")
    return parts


def _is_trx(path: Path) -> bool:
    """Whether a folder is a TRX file unpacked."""
    return (path / "header.json").is_file() and any(path.glob("positions.*"))
