"""What a reader must give of a level, worked out from what was handed to the writer."""

import json
import zipfile
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Level:
    """One level: rows are those of ``positions``; everything else names them.

    Objects map an id to its rows; ``ordered`` says whether their order is a path. ``edges`` are pairs as given (for
    trees child and parent). ``links`` are the records of delta 0, ``link_attrs`` their values. ``parents`` maps rows to
    rows of the next coarser level, -1 for none; ``crosslevel`` a delta to pairs of rows.
    ``counted`` says whether the writer states how many vertices there are.
    """

    positions: np.ndarray
    chunk_shape: Any
    attrs: dict[str, np.ndarray] = field(default_factory=dict)
    edges: np.ndarray | None = None
    tree: bool = False
    faces: np.ndarray | None = None
    objects: dict[int, np.ndarray] | None = None
    ordered: bool = True
    object_attrs: dict[str, np.ndarray] = field(default_factory=dict)
    groups: dict[int, list[int]] = field(default_factory=dict)
    group_names: tuple[str, ...] = ()
    group_attrs: dict[str, np.ndarray] = field(default_factory=dict)
    links: np.ndarray | None = None
    link_attrs: dict[str, np.ndarray] = field(default_factory=dict)
    chunk_by: str | None = None
    bin_shape: Any = None
    chunks: int | None = None
    counted: bool = True
    parents: np.ndarray | None = None
    crosslevel: dict[int, np.ndarray] = field(default_factory=dict)

    def coords(self):
        """Chunk coordinates of the rows, the attribute that chunks are cut by leading."""
        spatial = np.floor(self.positions.astype("f8") / np.asarray(self.chunk_shape, "f8")).astype("i8")
        if self.chunk_by is None:
            return spatial
        bins = np.unique(self.attrs[self.chunk_by], return_inverse=True)[1].reshape(-1, 1)
        return np.concatenate([bins, spatial], axis=1)


def by_chunk(level, rows):
    """Rows in the order of their chunks, else as given: how writers lay out objects that are no paths."""
    coords = level.coords()[rows]
    return np.asarray(rows)[np.lexsort(coords.T[::-1])]


def sort_rows(positions, *attrs):
    """Order by coordinates, then by attributes."""
    keys = list(np.asarray(positions, "f8").T)
    for values in attrs:
        keys += list(values.reshape(len(values), int(np.prod(values.shape[1:]))).T)
    return np.lexsort(keys[::-1])


def coarsen(level, bin_shape, chunk_shape, kept=None):
    """The next coarser level of ``per_object``: means per bin, and the bins that each object passes through.

    Also returns the level with the parents of its rows.
    """
    points = level.positions.astype("f4")
    objects = level.objects or {0: by_chunk(level, np.arange(len(points)))}
    kept = set(objects if kept is None else kept)
    bins = np.floor(points.astype("f8") / bin_shape).astype("i8")
    named = np.concatenate([objects[i] for i in sorted(kept)]).astype("i8")
    unique, of_named = np.unique(bins[named], axis=0, return_inverse=True)
    of_named = of_named.reshape(-1)
    count = np.bincount(of_named)
    sums = np.stack([np.bincount(of_named, weights=points[named, d].astype("f8")) for d in range(points.shape[1])], 1)
    means = (sums / count[:, None]).astype("f4")
    place = {tuple(key): i for i, key in enumerate(unique.tolist())}
    parents = np.asarray([place.get(tuple(key), -1) for key in bins.tolist()])
    paths = {}
    for i, rows in objects.items():
        path = parents[rows] if i in kept else np.empty(0, "i8")
        paths[i] = path[np.append(True, path[1:] != path[:-1])] if len(path) else path
    upper = Level(
        means, chunk_shape, objects=None if level.objects is None else paths, ordered=level.ordered, bin_shape=bin_shape
    )
    upper.object_attrs = level.object_attrs
    return replace(level, parents=parents), upper


def link_levels(levels, depth, storage):
    """Pairs of linked rows between levels, by level and delta."""
    depth = len(levels) if depth < 0 else depth
    for fine in range(len(levels)):
        rows = np.arange(len(levels[fine].positions))
        up = rows
        for delta in range(1, min(depth, len(levels) - 1 - fine) + 1):
            parents = levels[fine + delta - 1].parents
            up = np.where(up >= 0, parents[up], -1)
            pairs = np.stack([rows, up], 1)[up >= 0]
            levels[fine].crosslevel[delta] = pairs
            if storage == "explicit":
                levels[fine + delta].crosslevel[-delta] = pairs[:, ::-1]


def boxes(level, rng):
    """Three boxes: anywhere, on chunk borders, through vertices."""
    points = level.positions.astype("f8")
    lo, hi = points.min(0), points.max(0)
    shape = np.asarray(level.chunk_shape, "f8")
    corner = lo + (hi - lo) * rng.uniform(0.05, 0.25, len(lo))
    yield corner, corner + (hi - lo) * rng.uniform(0.5, 0.7, len(lo))
    first = np.floor(points[len(points) // 2] / shape)
    yield first * shape, (first + 1) * shape
    a, b = points[len(points) // 3], points[2 * len(points) // 3]
    yield np.minimum(a, b), np.maximum(a, b)


def _smaller_first(pairs):
    flip = np.asarray([tuple(b) < tuple(a) for a, b in pairs], bool)
    out = pairs.copy()
    out[flip] = pairs[flip][:, ::-1]
    return out


def _sorted(records, *values):
    order = sort_rows(records.reshape(len(records), int(np.prod(records.shape[1:]))), *values)
    return records[order], [v[order] for v in values]


def object_arrays(level):
    """Arrays of the objects: in path order, or sorted where the order is not known."""
    if level.objects is None:
        return {}
    key, ids = "objects" if level.ordered else "object_sets", sorted(level.objects)
    rows = [level.objects[i] for i in ids]
    if not level.ordered:
        rows = [np.asarray(r)[sort_rows(level.positions[r])] if len(r) else r for r in rows]
    return {
        f"{key}/ids": np.asarray(ids, "i8"),
        f"{key}/offsets": np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype("i8"),
        f"{key}/vertices": level.positions[np.concatenate(rows).astype("i8")],
    } | {f"object_attr/{n}": values for n, values in level.object_attrs.items()}


def arrays_of(level, index, boxes_of):
    """Arrays of one level for ``<name>.expected.npz``."""
    P = level.positions
    names = sorted(level.attrs)
    order = sort_rows(P, *(level.attrs[n] for n in names))
    out = {"positions": P[order]}
    for n in names:
        out[f"attr/{n}"] = level.attrs[n][order]
    if level.edges is not None:
        ends = P[level.edges] if len(level.edges) else np.empty((0, 2, P.shape[1]), P.dtype)
        out["edges"] = _sorted(_smaller_first(ends))[0]
        if level.tree:
            out["edges_child_parent"] = _sorted(ends)[0]
    if level.faces is not None:
        faces = [np.roll(f, -min(range(len(f)), key=lambda i, f=f: tuple(P[f[i]]))) for f in level.faces]
        out["faces"] = _sorted(P[np.asarray(faces)])[0]
    out |= object_arrays(level)
    for n, values in level.group_attrs.items():
        out[f"group_attr/{n}"] = values
    if level.links is not None:
        names = sorted(level.link_attrs)
        records, values = _sorted(P[level.links], *(level.link_attrs[n] for n in names))
        out["links"] = records
        out |= {f"link_attr/{n}": v for n, v in zip(names, values, strict=True)}
    for q, (lo, hi) in enumerate(boxes_of):
        rows = np.flatnonzero(((P[order] >= lo) & (P[order] <= hi)).all(1))
        out |= {f"bbox{q}/lo": lo, f"bbox{q}/hi": hi, f"bbox{q}/rows": rows, f"bbox{q}/positions": P[order][rows]}
    return {f"L{index}/{key}": value for key, value in out.items()}


def save(store, name, kind, levels, folder):
    """Pack a store beside what a reader must give."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    entries = []
    boxes_of = list(boxes(levels[0], rng))
    for index, level in enumerate(levels):
        arrays |= arrays_of(level, index, boxes_of)
        for delta, pairs in level.crosslevel.items():
            both = np.stack([level.positions[pairs[:, 0]], levels[index + delta].positions[pairs[:, 1]]], 1)
            arrays[f"L{index}/crosslevel/{delta:+d}"] = _sorted(both)[0]
        entry = {
            "level": index,
            "vertex_count": len(level.positions) if level.counted else None,
            "dtype": str(level.positions.dtype),
            "chunks": level.chunks or len(np.unique(level.coords(), axis=0)),
        }
        if level.groups:
            entry["groups"] = {str(g): sorted(map(int, ids)) for g, ids in level.groups.items()}
            entry["group_names"] = list(level.group_names)
        entries.append(entry)
    meta = {"name": name, "kind": kind, "levels": entries}
    (folder / f"{name}.expected.json").write_text(json.dumps(meta) + "\n")
    np.savez_compressed(folder / f"{name}.expected.npz", **arrays)
    pack(Path(store), folder / f"{name}.zarrvectors.zip")


def pack(store, target):
    """Zip with sorted entries and fixed dates, so that the same store gives the same bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as files:
        for path in sorted(p for p in store.rglob("*") if p.is_file()):
            info = zipfile.ZipInfo(str(path.relative_to(store)), (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            files.writestr(info, path.read_bytes())


def objects_of(ids):
    """Rows of each object, from an id a row."""
    out = defaultdict(list)
    for row, i in enumerate(np.asarray(ids).tolist()):
        out[i].append(row)
    return {i: np.asarray(rows) for i, rows in out.items()}
