"""Stores of polylines, streamlines and lines."""

import numpy as np
from points import pyramid
from shapes import lines_level, path_level, segments, walks
from zarr_vectors.headers.registry import HeaderRegistry
from zarr_vectors.types.lines import write_lines
from zarr_vectors.types.polylines import write_polylines


def paths(path, lines, chunk, attrs=None, *, level=None, geometry="polyline", **more):
    """Write polylines."""
    write_polylines(str(path), lines, chunk_shape=chunk, vertex_attributes=attrs, geometry_type=geometry, **more)
    return geometry, [path_level(lines, chunk, attrs, **(level or {}))]


def store_paths_2d(path):
    return paths(path, walks(100, [40, 2, 30, 1, 25], 2), (12.0, 12.0))


def store_paths_attributes(path):
    rng = np.random.default_rng(101)
    lines = walks(101, [40, 1, 2, 30, 50])
    attrs = {
        "f8": [rng.normal(size=len(line)) for line in lines],
        "tangent": [rng.normal(size=(len(line), 3)) for line in lines],
        "two": [rng.integers(0, 99, (len(line), 2)).astype("u2") for line in lines],
        "i8": [rng.integers(-9, 9, len(line)) for line in lines],
        "flag": [rng.random(len(line)) < 0.5 for line in lines],
        "word": [np.asarray(["ab", "cd", "xy"])[rng.integers(0, 3, len(line))] for line in lines],
    }
    values = {"length": rng.normal(size=5), "ends": rng.normal(size=(5, 6)).astype("f4"), "n": np.arange(5, dtype="u1")}
    groups = {0: [0, 3], 1: range(1, 4), 2: []}
    return paths(
        path,
        lines,
        (25.0,) * 3,
        attrs,
        object_attributes=values,
        groups=groups,
        group_attributes={"size": np.asarray([2, 3, 0])},
        bin_shape=(3.0, 6.0, 12.0),
        level={"object_attrs": values, "groups": groups, "group_attrs": {"size": np.asarray([2, 3, 0])}},
    )


def store_paths_f64_far(path):
    lines = walks(102, [30, 20, 2], dtype="f8", start=1e7)
    return paths(path, lines, (15.0,) * 3, {"t": [np.arange(len(line)) * 1.0 for line in lines]}, dtype="float64")


def store_paths_4d(path):
    return paths(path, walks(103, [30, 20], 4, step=1.0), (20.0,) * 4, geometry="streamline")


def store_paths_single_vertices(path):
    return paths(path, walks(104, [1] * 12, 2), (10.0,) * 2)


def store_paths_repeated_vertices(path):
    line = np.asarray([[0, 0], [0, 0], [9, 0], [0, 0], [9, 0], [9, 0]], "f4")
    return paths(path, [line, line[:2], line + 1], (5.0, 5.0))


def store_paths_there_and_back(path):
    """Every step crosses a border: as many fragments as vertices."""
    x = np.tile([1.0, 9.0], 20)
    line = np.stack([x, np.linspace(0, 7, 40)], 1).astype("f4")
    return paths(path, [line, line[::-1].copy()], (5.0, 8.0))


def store_paths_on_borders(path):
    rng = np.random.default_rng(105)
    lines = [rng.integers(-3, 4, (n, 3)).astype("f4") * 5 for n in (12, 8, 1)]
    return paths(path, lines, (5.0, 10.0, 5.0))


def store_paths_by_int(path):
    rng = np.random.default_rng(106)
    lines = walks(106, [30, 25, 1, 2])
    attrs = {
        "kind": [rng.integers(0, 3, len(line)) for line in lines],
        "v": [rng.normal(size=len(line)) for line in lines],
    }
    return paths(path, lines, (20.0,) * 3, attrs, chunk_by_attribute="kind", level={"chunk_by": "kind"})


def store_paths_by_text(path):
    lines = walks(107, [30, 25, 12], 2)
    names = np.asarray(["axon", "dendrite", "soma"])
    attrs = {"kind": [names[(np.arange(len(line)) // 7) % 3] for line in lines]}
    return paths(
        path, lines, (20.0,) * 2, attrs, chunk_by_attribute="kind", level={"chunk_by": "kind"}, compressor="zstd"
    )


def store_paths_sharded(path):
    return paths(path, walks(108, [30, 30, 10]), (10.0,) * 3, shard_shape=4, compressor="zstd")


def store_paths_fragment_attributes(path):
    line = np.asarray([[1, 1], [2, 2], [8, 2], [9, 3], [2, 4]], "f4")
    values = {"owner": {(0, 0): np.asarray([7, 8]), (1, 0): np.asarray([9])}}
    out = paths(path, [line], (5.0, 5.0), fragment_attributes=values)
    HeaderRegistry(str(path)).add("trk", {"voxel": [1, 2, 3], "nested": {"a": None}})
    return out


def store_pyramid_paths(path):
    lines = walks(110, [30, 25, 2, 20, 1, 15])
    rng = np.random.default_rng(110)
    values = {"weight": rng.normal(size=6), "code": rng.integers(0, 9, 6), "name": rng.integers(0, 9, 6).astype("u1")}
    kind, levels = paths(
        path, lines, (30.0,) * 3, bin_shape=(5.0,) * 3, object_attributes=values, level={"object_attrs": values}
    )
    return kind, path_pyramid(path, levels[0], (5.0,) * 3, [(2, 1), (2, 2)], scales=[2, 1], depth=2)


def store_pyramid_paths_anisotropic(path):
    lines = walks(111, [60, 50, 2, 40], 2)
    kind, levels = paths(path, lines, (10.0, 20.0), bin_shape=(5.0, 5.0), geometry="streamline")
    return kind, path_pyramid(
        path, levels[0], (5.0,) * 2, [(2, 2), (2, 1)], scales=[(2, 1), (1, 2)], depth=-1, storage="implicit"
    )


def path_pyramid(*args, **more):
    levels = pyramid(*args, **more)
    for level in levels[1:]:
        parts = [np.stack([r[:-1], r[1:]], 1) for r in level.objects.values() if len(r) > 1]
        level.edges = np.concatenate([np.empty((0, 2), "i8"), *parts])
    return levels


def store_lines(path):
    rng = np.random.default_rng(120)
    ends = segments(120, 36, 3, 8.0)
    attrs = {"v": rng.normal(size=(36, 2)), "rgb": rng.integers(0, 255, (36, 2, 3)).astype("u1")}
    values = {"w": rng.normal(size=36).astype("f4"), "id": np.arange(36)}
    write_lines(str(path), ends, chunk_shape=(25.0,) * 3, vertex_attributes=attrs, object_attributes=values)
    return "line", [lines_level(ends, (25.0,) * 3, attrs, object_attrs=values)]


def store_lines_within(path):
    rng = np.random.default_rng(121)
    first = rng.integers(-3, 3, (40, 2)) * 10.0 + rng.uniform(1, 5, (40, 2))
    ends = np.stack([first, first + rng.uniform(0, 4, (40, 2))], 1)
    write_lines(str(path), ends, chunk_shape=(10.0,) * 2, dtype="float64")
    return "line", [lines_level(ends, (10.0,) * 2, {})]


def store_lines_across(path):
    rng = np.random.default_rng(122)
    first = rng.integers(-3, 3, (40, 2)) * 10.0 + rng.uniform(1, 9, (40, 2))
    ends = np.stack([first, first + np.asarray([10.0, 20.0])], 1).astype("f4")
    write_lines(str(path), ends, chunk_shape=(10.0,) * 2, shard_shape=2)
    return "line", [lines_level(ends, (10.0,) * 2, {})]


def store_lines_by_text(path):
    rng = np.random.default_rng(123)
    ends = segments(123, 40, 2, 6.0)
    names = np.asarray(["a", "bb", "c"])[rng.integers(0, 3, 40)]
    write_lines(
        str(path),
        ends,
        chunk_shape=(25.0,) * 2,
        vertex_attributes={"kind": np.stack([names, names], 1)},
        chunk_by_attribute="kind",
    )
    return "line", [lines_level(ends, (25.0,) * 2, {"kind": np.stack([names, names], 1)}, chunk_by="kind")]


def store_pyramid_lines(path):
    ends = segments(124, 30, 2, 8.0)
    write_lines(str(path), ends, chunk_shape=(20.0,) * 2, bin_shape=(5.0,) * 2)
    return "line", path_pyramid(path, lines_level(ends, (20.0,) * 2, {}), (5.0,) * 2, [(2, 2), (2, 1)])


def store_paths_text_widths(path):
    """Each chunk has text as wide as that of the first polyline in it; longer text was cut by the writer."""
    rng = np.random.default_rng(125)
    lines = walks(125, [30, 25, 20, 2], 2)
    words = [["a", "longer", "bb"], ["x", "yyyy"], ["", "nine char"], ["z"]]
    attrs = {"s": [np.asarray(w)[rng.integers(0, len(w), len(line))] for w, line in zip(words, lines, strict=True)]}
    kind, (level,) = paths(path, lines, (12.0, 12.0), attrs)
    widths: dict = {}
    cut = []
    texts = [(str(v), part.dtype.itemsize // 4) for part in attrs["s"] for v in part]
    for coord, (text, width) in zip(map(tuple, level.coords().tolist()), texts, strict=True):
        cut.append(text[: widths.setdefault(coord, width)])
    level.attrs["s"] = np.asarray(cut)
    return kind, [level]
