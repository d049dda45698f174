"""The stores that are measured: uniform random points in 8 x 8 x 8 chunks, written once with a fixed seed.

python -m benchmarks.datasets            make those of the benchmark
"""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.environment import CACHE, ROOT, clean_environment, reference_python
from benchmarks.handmade import EDGE, write_points

FOLDER = CACHE / "data"
SEED = 20250101


@dataclass(frozen=True)
class Dataset:
    """A cube of chunks with edges of 100 units and uniform float32 points in it."""

    points: int
    side: int = 8  # chunks along an axis

    @property
    def name(self) -> str:
        """Folder of the store."""
        return f"points-{self.points}-in-{self.side**3}-chunks.zarrvectors"

    @property
    def box(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """A box that cuts each of the 2 x 2 x 2 chunks in the middle and touches no other."""
        middle = self.side // 2 * EDGE
        return (middle - 0.9 * EDGE,) * 3, (middle + 0.9 * EDGE,) * 3

    def box_chunks(self) -> set[str]:
        """Dotted coordinates of the eight chunks of `box`."""
        near = (self.side // 2 - 1, self.side // 2)
        return {f"{i}.{j}.{k}" for i in near for j in near for k in near}


STANDARD = (Dataset(1_000_000), Dataset(10_000_000))


def ensure(dataset: Dataset, folder: Path = FOLDER, *, python: Path | None = None) -> Path:
    """Return the store, written by the reference package if it is not there yet.

    Parameters
    ----------
    dataset
        What to write.
    folder
        Where stores are kept.
    python
        An environment with the reference package (default: the benchmark's own).
    """
    path = folder / dataset.name
    if not path.exists():
        print(f"writing {path.name} (once)", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = CACHE / f"unfinished-{dataset.name}"
        shutil.rmtree(unfinished, ignore_errors=True)
        command = [python or reference_python(), "-m", "benchmarks.write_reference", str(unfinished)]
        subprocess.run([*command, json.dumps(asdict(dataset))], check=True, cwd=ROOT, env=clean_environment())
        unfinished.rename(path)
    return path


def ensure_by_hand(dataset: Dataset, folder: Path) -> Path:
    """Return a store of the same layout, positions only, written without the reference package: for small ones."""
    path = folder / dataset.name
    if not path.exists():
        write_points(path, random_points(dataset)[0], dataset.side)
    return path


def random_points(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Positions (N, 3) and one attribute (N,), float32."""
    random = np.random.default_rng(SEED)
    positions = random.random((dataset.points, 3), dtype=np.float32) * np.float32(dataset.side * EDGE)
    return positions, random.random(dataset.points, dtype=np.float32)


def keys(path: Path, chunks: set[str] | None = None) -> tuple[list[str], list[str]]:
    """Objects that reading vertices needs, relative to the store: metadata, then the cells of ``chunks`` (or all)."""
    metadata = ["zarr.json", "0/zarr.json", "0/vertices/zarr.json"]
    cells = sorted(file.relative_to(path).as_posix() for file in (path / "0/vertices/c").rglob("*") if file.is_file())
    return metadata, [cell for cell in cells if chunks is None or ".".join(cell.split("/")[3:]) in chunks]


if __name__ == "__main__":
    for standard in STANDARD:
        print(ensure(standard))
