"""Small stores of real data that come with the package: ``zvl.example``. README.md here says whose they are."""

import io
import os
import shutil
import sys
import tarfile
import tempfile
import zlib
from os import PathLike
from pathlib import Path
from typing import overload

from numcodecs import Zstd

from zarr_vectors_lazy.errors import NotFoundError, SelectionError, StoreError

EXAMPLES = {
    "tracts": "110 streamlines of a human brain (mm), in three groups; 3 levels",
    "neuron": "4 skeletons of neurons of a fly, with radius and label; 3 levels",
    "surface": "the left side of a human brain as a mesh (mm), with depth and curvature; 2 levels",
    "cloud": "4,946 synapses of 5 neurons of a fly, as points with attributes; 3 levels",
}


@overload
def example(name: None = None, path: None = None) -> list[str]: ...
@overload
def example(name: str, path: str | PathLike[str] | None = None) -> Path: ...
def example(name: str | None = None, path: str | PathLike[str] | None = None) -> Path | list[str]:
    """Copy a small store of real data that comes with this package; without a name, list those there are.

    ``"tracts"`` has streamlines, ``"neuron"`` skeletons, ``"surface"`` a mesh and ``"cloud"`` points, of 2,562 to 8,515
    vertices; each has coarser levels, and about 100 kB. Nothing is downloaded.

    Parameters
    ----------
    name
        Name of the example.
    path
        Folder that becomes the store. By default one in the user's cache, which all calls share and which is restored
        if it was changed: give a path for a copy that you want to change.

    Returns
    -------
    Path of the store, for `open_zv`; or the list of names if none is given. A folder that already holds this very store
    is left as it is.

    Raises
    ------
    NotFoundError
        If there is no example of that name.
    SelectionError
        If ``path`` is a URL.
    StoreError
        If something else is at ``path``, or nothing can be written there.

    Examples
    --------
    >>> import zarr_vectors_lazy as zvl
    >>> zvl.example()
    ['tracts', 'neuron', 'surface', 'cloud']
    >>> zvl.open_zv(zvl.example("tracts"))[0].vertices.shape
    (5261, 3)
    """
    if name is None:
        if path is not None:
            raise SelectionError(f"name the example to copy to {os.fspath(path)!r}: one of {', '.join(EXAMPLES)}")
        return list(EXAMPLES)
    if name not in list(EXAMPLES):  # a list is not hashable
        raise NotFoundError.among("example", name, EXAMPLES)
    packed = Path(__file__).with_name(f"{name}.tar.zst").read_bytes()
    files = _unpacked(packed)
    try:
        if path is None:
            return _cached(_cache() / f"{zlib.crc32(packed):08x}" / f"{name}.zarrvectors", files)
        return _copied(_folder(path), files)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        wish = "" if path else "; give path= a folder that can be written to"
        raise StoreError(
            f"example {name!r} cannot be copied: {error.strerror}{wish}", where=str(error.filename)
        ) from error


def _unpacked(packed: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(Zstd().decode(packed))) as files:
        return {entry.name: part.read() for entry in files if (part := files.extractfile(entry)) is not None}


def _folder(path: str | PathLike[str]) -> Path:
    if "://" in os.fspath(path):
        raise SelectionError(f"an example can only be copied to a folder on disk, found {os.fspath(path)!r}")
    return Path(path).expanduser()


def _cache() -> Path:
    """The system's folder for files that can be made again."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "zarr-vectors-lazy"


def _cached(store: Path, files: dict[str, bytes]) -> Path:
    if store.exists() and not _same(store, files):
        shutil.rmtree(store)
    return _copied(store, files)


def _copied(store: Path, files: dict[str, bytes]) -> Path:
    """Write all files, or none: an interrupted copy is not a store; of two at once, the first stays."""
    if _same(store, files):
        return store
    if store.exists() and not (store.is_dir() and not any(store.iterdir())):
        raise StoreError("something else is there: give another path", where=str(store))
    store.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store.parent, prefix=".example-") as folder:
        new = Path(folder) / "new"
        for name, content in files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(content)
        try:
            if store.exists():
                store.rmdir()  # empty
            new.rename(store)
        except OSError:
            if not _same(store, files):
                raise
    return store


def _same(store: Path, files: dict[str, bytes]) -> bool:
    return all((store / name).is_file() and (store / name).read_bytes() == content for name, content in files.items())
