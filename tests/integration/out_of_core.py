"""The same rows for writes from memory and out of core, and whether both stores are the same."""

import contextlib
from pathlib import Path

import dask
import dask.array as da
import dask.bag as db
import numpy as np
from distributed import Client, LocalCluster

import zarr_vectors_lazy as zvl

CHUNK = 4.0
ROWS = 400
BLOCK = 90
SMALL = {"zarr_vectors_lazy.write-bytes": "4 kB"}  # several tasks write


def files_of(folder):
    folder = Path(folder)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same_files(found, expected):
    found, expected = files_of(found), files_of(expected)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


def points(ndim=3, dtype="f4", seed=0):
    """Arguments of `write_points`, in memory."""
    rng = np.random.default_rng(seed)
    text = rng.choice(np.array(["a", "bb", None, "ünï"], object), ROWS)
    return {
        "positions": rng.uniform(-6, 6, (ROWS, ndim)).astype(dtype),
        "vertex_attributes": {
            "one": rng.random(ROWS),
            "three": rng.integers(0, 100, (ROWS, 3)).astype("u1"),
            "flag": rng.random(ROWS) < 0.5,
            "text": text,
        },
        "object_ids": rng.integers(-3, 9, ROWS) * 5,
    }


def lazily(values, block=BLOCK):
    """The same arguments as Dask arrays."""
    if isinstance(values, dict):
        return {name: lazily(value, block) for name, value in values.items()}
    return da.from_array(values, chunks=(block, *values.shape[1:]))


def links(width, count, ndim=3, seed=0):
    """Arguments of `write_graph` or `write_mesh`, in memory."""
    rng = np.random.default_rng(seed)
    given = points(ndim, seed=seed)
    rows = given.pop("positions")
    names = ("positions", "edges") if width == 2 else ("vertices", "faces")
    given |= dict(zip(names, (rows, rng.integers(0, ROWS, (count, width))), strict=True))
    given["link_attributes"] = {"weight": rng.random(count), "rgb": rng.integers(0, 99, (count, 3)).astype("u1")}
    return given


def trees(values=False, seed=0):
    """Arguments of `write_trees`, in memory: some trees an object, most branches short steps."""
    rng = np.random.default_rng(seed)
    given = points(seed=seed)
    parents, seen = np.full(ROWS, -1), {}
    for row in rng.permutation(ROWS).tolist():
        before = seen.setdefault(given["object_ids"][row], [])
        if before and rng.random() < 0.97:
            parents[row] = before[-1] if rng.random() < 0.8 else rng.choice(before)
            step = given["positions"][parents[row]] + rng.normal(0, 0.7, 3)
            given["positions"][row] = np.clip(step, -6, 6)
        before.append(row)
    children = rng.permutation(np.flatnonzero(parents >= 0))
    given["edges"] = np.stack([children, parents[children]], axis=1)
    if values:
        given["link_attributes"] = {"weight": rng.random(len(children)), "kind": rng.integers(0, 9, len(children))}
    return given


def write_trees(path, given, **options):
    """Write skeletons."""
    given = dict(given)
    rows, edges = given.pop("positions"), given.pop("edges")
    return zvl.write_graph(path, rows, edges, kind="skeleton", chunk_shape=CHUNK, **given, **options)


def write_faces(path, given):
    """Write a mesh."""
    given = dict(given)
    rows, faces = given.pop("vertices"), given.pop("faces")
    return zvl.write_mesh(path, rows, faces, chunk_shape=CHUNK, **given)


def paths(count=60, seed=0):
    rng = np.random.default_rng(seed)
    starts = rng.uniform(-6, 6, (count, 3))
    return [
        (start + np.cumsum(rng.normal(0, 0.7, (n, 3)), axis=0)).astype("f4")
        for start, n in zip(starts, rng.integers(1, 30, count), strict=True)
    ]


def path_blocks(lines, step=17):
    """Blocks of paths, with an attribute: the number of the row in its path."""
    return [
        {"polylines": part, "vertex_attributes": {"row": [np.arange(len(line)) for line in part]}}
        for part in (lines[start : start + step] for start in range(0, len(lines), step))
    ]


def write_examples(folder):
    """Write what every scheduler must write alike: every geometry, shards, and a box of polylines."""
    given = lazily(points())
    kwargs = {"chunk_shape": CHUNK, "shard_shape": 2, "vertex_attributes": given["vertex_attributes"]}
    with dask.config.set(SMALL):
        zvl.write_points(folder / "points", given["positions"], object_ids=given["object_ids"], **kwargs)
        bag = db.from_sequence(path_blocks(paths()), npartitions=3)
        zvl.write_polylines(folder / "paths", bag, chunk_shape=CHUNK)
        save_box(folder)
        write_faces(folder / "mesh", lazily(links(3, 300), 150))
        write_trees(folder / "trees", lazily(trees(), 200), shard_shape=2)


def write_expected(folder):
    """Write the same from memory."""
    given = points()
    zvl.write_points(folder / "points", given.pop("positions"), chunk_shape=CHUNK, shard_shape=2, **given)
    lines = paths()
    rows = {"row": [np.arange(len(line)) for line in lines]}
    zvl.write_polylines(folder / "paths", lines, chunk_shape=CHUNK, vertex_attributes=rows)
    with dask.config.set(scheduler="sync"):
        save_box(folder)
    write_faces(folder / "mesh", links(3, 300))
    write_trees(folder / "trees", trees(), shard_shape=2)


def save_box(folder):
    """Save a box of the polylines, which parts many of them."""
    zvl.open_zv(folder / "paths")[0].sel(([-3.0] * 3, [3.0] * 3)).save(folder / "part")


def waited(counts):
    """Objects in which records waited for the tasks of a write."""
    return len({key for key in counts.keys if key.startswith("_scratch/") and key.count("/") == 3})


@contextlib.contextmanager
def cluster(workers):
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as made,
        Client(made) as client,
    ):
        yield client
