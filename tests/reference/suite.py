"""``python -m tests.reference.suite``: run the tests of zarr-vectors 0.9.2, keep their stores, and compare every array.

Makes an environment of its own (in ``benchmarks/.cache``) and fetches the package's source, which ships the tests. Not
part of CI: it takes ten minutes or more; ``--minutes N`` stops the tests after N and compares what they wrote so far.
``--stores DIR`` compares stores that are there already. Prints what does not agree by kind, with how often and where
first, ``--verbose`` every array of it, and counts at the end.
"""

import argparse
import collections
import re
import subprocess
import sys
import tarfile
import warnings
import zipfile
from functools import partial
from pathlib import Path

import dask
import numpy as np

import zarr_vectors_lazy as zvl
from benchmarks.environment import CACHE, clean_environment, reference_python
from tests.reference.decode import open_levels
from zarr_vectors_lazy.errors import ZVError

SOURCE = "zarr-vectors==0.9.2"
AGREE, REFUSED, BROKEN, DIFFERENT = "agree", "refused", "not decodable by the plain decoder", "DIFFERENT"


def keep_stores(folder, minutes):
    """Run the reference's own tests, so long at most; what they write stays below ``folder``."""
    python = reference_python()
    run = [python, "-m", "pip", "install", "--quiet", "pytest", "hypothesis", "pytest-timeout"]
    subprocess.run(run, check=True, env=clean_environment())
    fetched = CACHE / "source"
    fetch = [python, "-m", "pip", "download", "--quiet", "--no-binary", ":all:", "--no-deps", SOURCE, "-d", fetched]
    subprocess.run(fetch, check=True, env=clean_environment())
    (packed,) = fetched.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(fetched, filter="data")
    keep = ["--basetemp", folder, "-o", "tmp_path_retention_policy=all", "--timeout=60", "-p", "no:cacheprovider"]
    tests = packed.with_name(packed.name.removesuffix(".tar.gz"))
    left_out = "--ignore=tests/test_linkml_schema.py"  # writes no store, and waits for a schema from the network
    run = [python, "-m", "pytest", "-q", *keep, left_out, "tests"]
    try:
        subprocess.run(run, cwd=tests, check=False, env=clean_environment(), timeout=minutes and 60 * minutes)
    except subprocess.TimeoutExpired:
        print(f"stopped after {minutes} minutes; what is there is compared", file=sys.stderr)


def find_stores(folder):
    """Roots of stores below a folder; those that are no finished store are left out."""
    for node in sorted(folder.rglob("zarr.json")):
        if '"zv_version"' in node.read_text():
            yield node.parent
    for packed in sorted(folder.rglob("*.zip")):
        if zipfile.is_zipfile(packed):
            print(f"left out: {packed}", file=sys.stderr)


def held(what, right, found):
    """(state, what was said) of one array."""
    try:
        expected = right()
    except Exception as error:  # noqa: BLE001  whatever a plain decoder stumbles over
        expected, stumbled = None, f"{type(error).__name__}: {error}"
    try:
        got = found()
    except ZVError as error:
        return REFUSED, f"{what}: {type(error).__name__}: {error}"
    if expected is None:
        return BROKEN, f"{what}: {stumbled}"
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape:
        return DIFFERENT, f"{what}: shape {got.shape}, expected {expected.shape}"
    if got.dtype != expected.dtype.newbyteorder("="):
        return DIFFERENT, f"{what}: dtype {got.dtype}, expected {expected.dtype}"
    if got.tobytes() != np.ascontiguousarray(expected.astype(got.dtype)).tobytes():
        return DIFFERENT, f"{what}: values differ"
    return AGREE, what


def arrays_of(level, plain, levels):
    """(name, what it must be, what we read) of every array of a level."""
    group, objects = plain.group, level.objects
    yield "vertices", plain.positions, level.vertices.compute
    for name in names(group, "vertex_attributes"):
        coded = group["vertex_attributes"][name].attrs.get("encoding") == "dictionary"
        yield f"attribute {name}", partial(plain.attribute, name), partial(attribute, level, name, coded)
    for delta in level.deltas:
        yield f"links {delta}", partial(plain.links, delta, levels[level.index + delta]), partial(links, level, delta)
    if "object_index" in group:
        yield "object ids", lambda: np.asarray(list(plain.objects()), np.int64), lambda: objects.ids
        yield "objects", lambda: flat(plain.objects()), lambda: flat({i: objects[i].compute() for i in objects})
    for name in names(group, "object_attributes"):
        array = group["object_attributes"][name]
        yield f"object attribute {name}", partial(cut, array, level), partial(object_attribute, level, name)
    if "groups" in group:
        yield "groups", lambda: flat(plain.groups()), lambda: flat(dict(objects.groups))


def names(group, family):
    """Arrays of a folder of a level."""
    return sorted(group[family].array_keys()) if family in group else []


def attribute(level, name, coded):
    """What we read of a vertex attribute: codes where it has a dictionary."""
    return (level.codes if coded else level.attributes)[name].compute()


def links(level, delta):
    """What we read of a link family."""
    return level.links(delta).compute()


def object_attribute(level, name):
    """What we read of an attribute of objects."""
    return level.objects.attributes[name].values


def flat(parts):
    """Rows of several arrays, one after another."""
    return np.concatenate([np.empty(0), *(np.asarray(part, float).ravel() for part in parts.values())])


def cut(array, level):
    """As many rows of an attribute of objects as there are objects."""
    n, values = len(level.objects.slots), array[:]
    return (values if values.dtype.kind in "biufU" else values.astype(str))[:n]


def compare(path):
    """State of every array of a store."""
    try:
        store = zvl.open_zv(path)
    except ZVError as error:
        return [(REFUSED, f"open: {type(error).__name__}: {error}")]
    try:
        levels = open_levels(path)
    except Exception as error:  # noqa: BLE001  whatever a plain decoder stumbles over
        return [(BROKEN, f"{type(error).__name__}: {error}")]
    found = []
    for index in store.levels:
        level, plain = store[index].own, levels[index]
        try:
            found += [held(f"level {index} {what}", *of) for what, *of in arrays_of(level, plain, levels)]
        except ZVError as error:
            found.append((REFUSED, f"level {index}: {type(error).__name__}: {error}"))
    return found


def kind(state, what):
    """What a disagreement has in common with others: numbers, names and places left out."""
    known = re.sub(r"\(at [^)]*\)|'[^']*'|\[[^]]*\]|\([\d, ]*\)", "*", what)
    known = re.sub(r"level \*?\d+, array \*, chunk \*: ", "", re.sub(r"^level \d+ ", "", known))
    known = re.sub(r"(attribute|links) [^\s:]+:", r"\1:", known)
    return f"{state}: {re.sub(r'-?[0-9]+([.][0-9]+)*', 'N', known)}".strip(" *")


def by_kind(named):
    """Lines that tell the kinds of (path, state, what), each with its number and the first of it, most first."""
    kinds = collections.defaultdict(list)
    for path, state, what in named:
        kinds[kind(state, what)].append(f"{path}: {what}")
    ordered = sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0]))
    return [f"{len(found)} x {text}\n      first: {found[0]}" for text, found in ordered]


def main(arguments=None):
    """Exit code 1 if an array differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.reference.suite", description=__doc__)
    parser.add_argument("--stores", type=Path, help="folder with stores, in place of those of the reference's tests")
    parser.add_argument("--minutes", type=float, help="stop the reference's tests after so many, compare what is there")
    parser.add_argument("--verbose", action="store_true", help="name every array that does not agree")
    args = parser.parse_args(arguments)
    folder = args.stores or CACHE / "suite"
    if args.stores is None:
        keep_stores(folder, args.minutes)
    warnings.simplefilter("ignore")
    counts, whole, named = collections.Counter(), collections.Counter(), []
    with dask.config.set(scheduler="sync"):
        for path in find_stores(folder):
            states = compare(path)
            counts.update(state for state, _ in states)
            worst = max((state for state, _ in states), key=[AGREE, REFUSED, BROKEN, DIFFERENT].index, default=AGREE)
            whole[worst] += 1
            named += [(path.relative_to(folder), state, what) for state, what in states if state != AGREE]
    if args.verbose:
        print("\n".join(f"{path}: {state}: {what}" for path, state, what in named))
    print("\n".join(by_kind(named)))
    print(f"{sum(whole.values())} stores: {dict(whole)}; {sum(counts.values())} arrays: {dict(counts)}")
    return int(bool(counts[DIFFERENT]))


if __name__ == "__main__":
    sys.exit(main())
