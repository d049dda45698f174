"""All figures for linked geometry and pyramids, with their limits: ``python -m benchmarks.all_linked``.

It prints every table of `bench_linked` and `bench_pyramid` and puts them into docs/operations/benchmarks.md, between
the comments that name them. It takes about half an hour on a quiet machine; ``--only NAME ...`` makes some of the
tables, ``--scale 0.01`` those of pyramids from a hundredth of the vertices, ``--no-write`` leaves the page as it is.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import bench_linked, bench_pyramid
from benchmarks.environment import CACHE, ROOT, reference_python

PAGE = ROOT / "docs" / "operations" / "benchmarks.md"
ONE = "ours, 1 worker"


def pyramids(folder: Path, peer: Path | None, rounds: int, scale: float) -> dict[str, Callable[[], str]]:
    """Functions that make the tables of pyramids: times of points, against the reference, by workers and threads."""

    def of(works: list[tuple[str, int, int]], builders: list[str]) -> str:
        pythons = {name: Path(sys.executable) for name in builders}
        if "reference" in builders:
            pythons["reference"] = peer or reference_python()
        rows: list[dict[str, Any]] = bench_pyramid.run(works, rounds=rounds, folder=folder, pythons=pythons)
        return f"{bench_pyramid.table(rows)}\n\n{bench_pyramid.verdicts(rows)}"

    def side(along: int) -> int:
        return max(2, round(along * scale ** (1 / 3)))

    million, most = int(1_000_000 * scale), int(30_000_000 * scale)
    ours = [name for name in bench_pyramid.BUILDERS if name != "reference"]
    return {
        "pyramids": lambda: of(
            bench_pyramid.linked_works([bench_pyramid.FULL * side(8) ** 3], side(8), growth=True), [ONE]
        ),
        "pyramids-reference": lambda: of([(w, million, side(8)) for w in ("points", "polylines")], ["reference", ONE]),
        "pyramids-workers": lambda: of([("points", most, side(20))], [*ours, bench_pyramid.KEPT]),
    }


def put(page: str, name: str, table: str) -> str:
    """Put a table between the comments that name it."""
    found, count = re.subn(
        rf"(<!-- table {name} -->\n).*?(<!-- end -->)", lambda at: f"{at[1]}\n{table}\n\n{at[2]}", page, flags=re.S
    )
    if count != 1:
        raise ValueError(f"{PAGE} has no place <!-- table {name} --> ... <!-- end -->, or several")
    return found


def main(arguments: list[str] | None = None) -> None:
    """Make the tables; print each and write it to the page as soon as it is there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.all_linked", description=__doc__)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="disk s3 growth anchors large pyramids ...")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the stores of pyramids (default: 1)")
    parser.add_argument("--no-write", action="store_true", help="print only")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--reference-python", type=Path, help="an environment that has the reference package")
    parser.add_argument("--folder", type=Path, default=CACHE)
    args = parser.parse_args(arguments)
    folder = args.folder.resolve()
    peer = args.reference_python
    tables = pyramids(folder / "pyramid", peer, args.rounds, args.scale)
    if not args.only or set(args.only) - set(tables):
        bench = bench_linked.Bench(folder / "linked", peer or reference_python(), args.rounds)
        tables = bench_linked.tables_of(bench) | tables
    for name in args.only or tables:
        table = tables[name]()
        print(f"### {name}\n\n{table}\n", flush=True)
        if not args.no_write:
            args.page.write_text(put(args.page.read_text(), name, table))


if __name__ == "__main__":
    main()
