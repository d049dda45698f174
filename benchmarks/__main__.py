"""``python -m benchmarks``: compare readers, print the tables and save the numbers."""

import argparse
import datetime as dt
import sys
from pathlib import Path

from benchmarks import bench_graph, bench_read, datasets, report
from benchmarks.environment import CACHE, ROOT, machine, reference_python

RESULTS = ROOT / "benchmarks" / "RESULTS.md"
INTRODUCTION = """# Results

Written by `python -m benchmarks --write`; [README.md](README.md) says how to read it. Cold open, warm page cache.

"""


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; the exit code is 1 if a reader failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="timed turns of each reader (default: 15)")
    parser.add_argument("--points", type=int, nargs="+", default=[1_000_000, 10_000_000], help="sizes of the stores")
    parser.add_argument("--side", type=int, default=8, help="chunks along an axis (default: 8, that is 512 chunks)")
    parser.add_argument("--places", nargs="+", choices=["disk", "s3"], default=["disk", "s3"])
    parser.add_argument("--work", nargs="+", choices=["full", "box"], default=["full", "box"])
    parser.add_argument("--delay-ms", type=float, default=30, help="of the S3 server (default: 30)")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 128, 256], help="of the raw fetch")
    parser.add_argument("--no-reference", action="store_true", help="neither its environment nor its stores and times")
    parser.add_argument("--cold-memory", action="store_true", help="do not touch memory before the clock starts")
    parser.add_argument("--no-graph", action="store_true", help="leave out the graph of 10^6 chunks")
    parser.add_argument("--folder", type=Path, default=None, help="of the stores (default: benchmarks/.cache/data)")
    parser.add_argument("--json", type=Path, default=CACHE / "results.json", help="where every number goes")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    args = parser.parse_args(arguments)

    memory = "cold" if args.cold_memory else "warm"
    about = {"measured": f"{dt.date.today()}, {args.rounds} rounds, {memory} memory", **machine()}
    rows = bench_read.run(prepare(args))
    text = report.markdown(rows, about | report.versions(rows))
    if not args.no_graph:
        text += "\n\n" + bench_graph.table(bench_graph.run(rounds=args.rounds))
    print(text)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(report.as_json(rows, about))
    if args.write:
        RESULTS.write_text(f"{INTRODUCTION}{text}\n")
    return int(any(row.failure for row in rows))


def prepare(args: argparse.Namespace) -> bench_read.Options:
    """Set up what is measured: the reference's environment, and the stores."""
    reference = None if args.no_reference else reference_python()
    folder = args.folder or (CACHE / "by-hand" if args.no_reference else datasets.FOLDER)
    wanted = tuple(datasets.Dataset(points, args.side) for points in args.points)
    for dataset in wanted:
        if reference:
            datasets.ensure(dataset, folder, python=reference)
        else:
            datasets.ensure_by_hand(dataset, folder)
    return bench_read.Options(
        stores=wanted,
        folder=folder.resolve(),
        rounds=args.rounds,
        delay_ms=args.delay_ms,
        places=tuple(args.places),
        works=tuple(args.work),
        warm_memory=not args.cold_memory,
        in_flight=tuple(args.in_flight),
        reference=reference,
    )


if __name__ == "__main__":
    sys.exit(main())
