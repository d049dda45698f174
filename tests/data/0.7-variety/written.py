"""Stores of points, lines and polylines that the writers of zarr-vectors 0.2.0 make."""

import numpy as np
from expect import Level, by_chunk, coarsen, link_levels, objects_of
from shapes import cloud, lines_level, path_level, segments, walks
from zarr_vectors.core.arrays import list_chunk_keys, read_all_object_manifests, read_chunk_vertices
from zarr_vectors.core.store import get_resolution_level, open_store
from zarr_vectors.headers.registry import HeaderRegistry
from zarr_vectors.multiresolution.coarsen import build_pyramid
from zarr_vectors.sharding.io import shard_store
from zarr_vectors.sharding.layout import ShardLayout
from zarr_vectors.types.lines import write_lines
from zarr_vectors.types.points import write_points
from zarr_vectors.types.polylines import write_polylines


def pyramid(path, level, bins, factors, *, scales=None, depth=1, storage="explicit", attributes=False):
    """Build a pyramid and work out what it holds; factors do not accumulate."""
    build_pyramid(
        str(path),
        factors=factors,
        chunk_scale_factors=scales,
        sparsity_seed=3,
        cross_level_depth=depth,
        cross_level_storage=storage,
    )
    levels = [level]
    for i, (coarse, _) in enumerate(factors):
        shape = np.asarray(levels[-1].chunk_shape, "f8") * (1 if scales is None else np.asarray(scales[i]))
        kept = None
        if level.objects is not None:
            manifests = read_all_object_manifests(get_resolution_level(open_store(str(path)), i + 1))
            kept = [number for number, blocks in enumerate(manifests) if blocks]
        levels[-1], upper = coarsen(levels[-1], np.asarray(bins, "f8") * coarse, shape, kept)
        upper.object_attrs = upper.object_attrs if attributes else {}
        upper.positions = rounded(upper.positions, get_resolution_level(open_store(str(path)), i + 1))
        levels.append(upper)
    if storage != "none":
        link_levels(levels, depth, storage)
    return levels


def rounded(means, group):
    """The means as the writer rounded them: it adds in float32; no mean may be further from a stored vertex."""
    ndim = means.shape[1]
    chunks = [read_chunk_vertices(group, key, ndim=ndim) for key in list_chunk_keys(group)]
    stored = np.concatenate([np.concatenate(fragments) for fragments in chunks])
    distance = np.abs(means[:, None].astype("f8") - stored[None].astype("f8")).max(axis=2)
    nearest = distance.argmin(axis=1)
    assert len(stored) == len(means) == len(set(nearest.tolist()))
    assert distance.min(axis=1).max() < 1e-5
    return stored[nearest]


def plain(path, points, chunk, bins=None, **more):
    """Write points without objects."""
    attrs = more.pop("attrs", {})
    write_points(str(path), points, chunk_shape=chunk, bin_shape=bins, vertex_attributes=attrs or None, **more)
    return "point_cloud", [Level(points, chunk, attrs, chunks=None)]


def store_points_2d(path):
    return plain(path, cloud(1, 150, 2), (16.0, 16.0))


def store_points_bins_f64(path):
    points = cloud(2, 150, 3, (1e7, 1e7 + 30), "f8")
    return plain(path, points, (15.0, 15.0, 30.0), (5.0, 7.5, 10.0), dtype="float64")


def store_points_4d(path):
    return plain(path, cloud(3, 80, 4), (20.0,) * 4, attrs={"t": np.arange(80.0)})


def store_points_decimal(path):
    rng = np.random.default_rng(4)
    points = np.concatenate([rng.integers(-9, 12, (80, 2)) * 0.1, rng.integers(-3, 4, (40, 2)) * 0.3])
    kind, levels = plain(path, points, (0.3, 0.3), (0.1, 0.1), dtype="float64")
    levels[0].chunks = len(np.unique(np.floor(points / 0.1) // 3, axis=0))
    return kind, levels


def store_points_attributes(path):
    rng = np.random.default_rng(5)
    n = 150
    missing = np.asarray([None, "left", "right"], object)[rng.integers(0, 3, n)]
    attrs = {
        "i1": rng.integers(-128, 128, n).astype("i1"),
        "i8": rng.integers(-(2**62), 2**62, n),
        "u1": rng.integers(0, 256, n).astype("u1"),
        "f8": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
        "zero": np.zeros(n, "f4"),
        "rgb": rng.integers(0, 256, (n, 3)).astype("u1"),
        "pair": rng.normal(size=(n, 2)),
        "word": np.asarray(["ab", "", "längere Wörter", "z"])[rng.integers(0, 4, n)],
        "side": missing,
    }
    kind, levels = plain(path, cloud(5, n), (20.0, 40.0, 40.0), attrs=attrs)
    levels[0].attrs = attrs | {"side": np.where(missing == None, "", missing).astype(str)}  # noqa: E711
    return kind, levels


def grouped(path, seed, ids, *, ndim=3, chunk=(25.0, 40.0, 40.0), **more):
    """Write points with objects."""
    rng = np.random.default_rng(seed)
    points = cloud(seed, len(ids), ndim)
    slots = int(ids.max()) + 1
    attrs = {"v": rng.normal(size=len(ids)).astype("f4"), "w": rng.integers(0, 9, (len(ids), 2)).astype("u2")}
    values = {"size": rng.normal(size=slots), "pair": rng.integers(0, 9, (slots, 2)), "zero": np.zeros(slots, "i4")}
    write_points(
        str(path),
        points,
        chunk_shape=chunk[:ndim],
        object_ids=ids,
        vertex_attributes=attrs,
        object_attributes=values,
        **more,
    )
    level = Level(points, chunk[:ndim], attrs, objects=dict.fromkeys(range(slots), np.empty(0, "i8")))
    level.objects |= objects_of(ids)
    level.objects = {i: by_chunk(level, rows) for i, rows in level.objects.items()}
    level.object_attrs = values
    return level


def store_points_objects(path):
    ids = np.random.default_rng(6).choice([0, 1, 2, 4, 6], 150)
    groups, values = {0: [0, 2], 1: [1, 4, 6]}, {"rank": np.asarray([3, 1])}
    level = grouped(path, 6, ids, bin_shape=(5.0, 5.0, 10.0), groups=groups, group_attributes=values)
    level.groups, level.group_attrs = groups, values
    return "point_cloud", [level]


def store_points_kinds(path):
    """Kinds of values that the others lack, and a group without members."""
    rng = np.random.default_rng(10)
    points, ids = cloud(10, 90, 2, dtype="f8"), rng.choice([0, 2, 3], 90)
    attrs = {"flag": rng.random(90) < 0.5, "half": rng.normal(size=90).astype("f2")}
    values = {"name": np.asarray(["a", "", "längere", "z"]), "flag": np.asarray([True, False, True, False])}
    groups = {0: [0, 3], 1: [], 2: [2]}
    write_points(
        str(path),
        points,
        chunk_shape=(20.0,) * 2,
        object_ids=ids,
        vertex_attributes=attrs,
        object_attributes=values,
        groups=groups,
        dtype="float64",
    )
    level = Level(points, (20.0,) * 2, attrs, object_attrs=values, groups=groups)
    level.objects = dict.fromkeys(range(4), np.empty(0, "i8")) | objects_of(ids)
    level.objects = {i: by_chunk(level, rows) for i, rows in level.objects.items()}
    return "point_cloud", [level]


def store_points_by_int(path):
    rng = np.random.default_rng(7)
    attrs = {"gene": rng.integers(-3, 3, 120), "v": rng.normal(size=120).astype("f4")}
    points = cloud(7, 120)
    write_points(str(path), points, chunk_shape=(40.0,) * 3, vertex_attributes=attrs, chunk_by_attribute="gene")
    level = Level(points, (40.0,) * 3, attrs, chunk_by="gene", objects={i: np.asarray([i]) for i in range(120)})
    return "point_cloud", [level]


def store_points_by_text(path):
    rng = np.random.default_rng(8)
    attrs = {"gene": np.asarray(["Aqp4", "Gad1", "b"])[rng.integers(0, 3, 100)], "v": rng.normal(size=100)}
    points, ids = cloud(8, 100, 2), rng.integers(0, 6, 100)
    write_points(
        str(path), points, chunk_shape=(20.0,) * 2, vertex_attributes=attrs, chunk_by_attribute="gene", object_ids=ids
    )
    level = Level(points, (20.0,) * 2, attrs, chunk_by="gene", objects=objects_of(ids))
    level.objects = {i: by_chunk(level, rows) for i, rows in level.objects.items()}
    return "point_cloud", [level]


def packed(path, layout, size):
    ids = np.random.default_rng(9).integers(0, 4, 200)
    level = grouped(path, 9, ids, chunk=(10.0, 10.0, 20.0), bin_shape=(5.0, 5.0, 10.0))
    levels = pyramid(path, level, (5.0, 5.0, 10.0), [(2, 1)], attributes=True)
    shard_store(str(path), ShardLayout(layout), size)
    return "point_cloud", levels


def store_packed_octree(path):
    return packed(path, "octree", 8)


def store_packed_snake(path):
    return packed(path, "snake", 5)


def store_packed_index_table(path):
    return packed(path, "index_table", 7)


def paths(path, lines, chunk, attrs=None, *, level=None, geometry="polyline", **more):
    """Write polylines."""
    write_polylines(str(path), lines, chunk_shape=chunk, vertex_attributes=attrs, geometry_type=geometry, **more)
    return geometry, [path_level(lines, chunk, attrs, **(level or {}))]


def store_paths_2d(path):
    out = paths(path, walks(20, [40, 2, 30, 1, 25], 2), (12.0, 12.0))
    HeaderRegistry(str(path)).add("trk", {"voxel": [1, 2, 3], "nested": {"a": None}})
    return out


def store_paths_attributes(path):
    rng = np.random.default_rng(21)
    lines = walks(21, [40, 1, 2, 30])
    attrs = {
        "f8": [rng.normal(size=len(line)) for line in lines],
        "tangent": [rng.normal(size=(len(line), 3)) for line in lines],
        "two": [rng.integers(0, 99, (len(line), 2)).astype("u2") for line in lines],
    }
    values = {"length": rng.normal(size=4), "ends": rng.normal(size=(4, 6)).astype("f4"), "n": np.arange(4, dtype="u1")}
    groups, of_groups = {0: [0, 3], 1: [1, 2]}, {"size": np.asarray([2, 2])}
    return paths(
        path,
        lines,
        (25.0,) * 3,
        attrs,
        object_attributes=values,
        groups=groups,
        group_attributes=of_groups,
        bin_shape=(5.0, 5.0, 12.5),
        geometry="streamline",
        level={"object_attrs": values, "groups": groups, "group_attrs": of_groups},
    )


def store_paths_f64_far(path):
    lines = walks(22, [30, 20, 2], dtype="f8", start=1e7)
    return paths(path, lines, (15.0,) * 3, {"t": [np.arange(len(line)) * 1.0 for line in lines]}, dtype="float64")


def store_paths_by_int(path):
    rng = np.random.default_rng(23)
    lines = walks(23, [30, 25, 1, 2])
    attrs = {
        "kind": [rng.integers(0, 3, len(line)) for line in lines],
        "v": [rng.normal(size=len(line)) for line in lines],
    }
    return paths(path, lines, (20.0,) * 3, attrs, chunk_by_attribute="kind", level={"chunk_by": "kind"})


def path_pyramid(*args, **more):
    levels = pyramid(*args, **more)
    for level in levels[1:]:
        parts = [np.stack([r[:-1], r[1:]], 1) for r in level.objects.values() if len(r) > 1]
        level.edges = np.concatenate([np.empty((0, 2), "i8"), *parts])
    return levels


def store_pyramid_paths(path):
    lines = walks(24, [30, 25, 2, 20, 1, 15])
    kind, levels = paths(path, lines, (30.0,) * 3, bin_shape=(5.0,) * 3)
    return kind, path_pyramid(path, levels[0], (5.0,) * 3, [(2, 1), (4, 2)], scales=[2, 1], depth=2)


def store_pyramid_paths_implicit(path):
    lines = walks(25, [60, 50, 2, 40], 2)
    kind, levels = paths(path, lines, (10.0, 20.0), bin_shape=(5.0, 5.0), geometry="streamline")
    return kind, path_pyramid(
        path, levels[0], (5.0,) * 2, [(2, 2), (4, 1)], scales=[(2, 1), (3, 3)], depth=-1, storage="implicit"
    )


def store_lines(path):
    ends, rng = segments(26, 36, 3, 8.0), np.random.default_rng(26)
    values = {"w": rng.normal(size=36).astype("f4"), "id": np.arange(36)}
    write_lines(str(path), ends, chunk_shape=(25.0,) * 3, object_attributes=values)
    return "line", [lines_level(ends, (25.0,) * 3, {}, object_attrs=values)]


def store_lines_2d_f64(path):
    ends = segments(27, 30, 2, 8.0, "f8")
    write_lines(str(path), ends, chunk_shape=(10.0,) * 2, bin_shape=(5.0,) * 2, dtype="float64")
    return "line", [lines_level(ends, (10.0,) * 2, {})]


def store_lines_by_int(path):
    ends, kind = segments(28, 30, 3, 8.0), np.random.default_rng(28).integers(0, 3, 30)
    attrs = {"kind": np.stack([kind, kind], 1)}
    write_lines(str(path), ends, chunk_shape=(20.0,) * 3, vertex_attributes=attrs, chunk_by_attribute="kind")
    return "line", [lines_level(ends, (20.0,) * 3, attrs, chunk_by="kind")]


def store_paths_4d(path):
    return paths(path, walks(29, [30, 20, 2], 4, dtype="f8"), (20.0,) * 4, bin_shape=(10.0,) * 4, dtype="float64")


def store_pyramid_lines(path):
    ends = segments(30, 30, 2, 8.0)
    write_lines(str(path), ends, chunk_shape=(20.0,) * 2, bin_shape=(5.0,) * 2)
    return "line", path_pyramid(path, lines_level(ends, (20.0,) * 2, {}), (5.0,) * 2, [(2, 1), (3, 2)], depth=2)


def store_pyramid_points(path):
    points = cloud(60, 70)
    plain(path, points, (15.0,) * 3, (5.0,) * 3)
    return "point_cloud", pyramid(
        path, Level(points, (15.0,) * 3), (5.0,) * 3, [(2, 1), (3, 1)], scales=[3, 1], depth=2
    )


def store_pyramid_objects(path):
    ids = np.random.default_rng(61).integers(0, 8, 110)
    level = grouped(path, 61, ids, chunk=(20.0, 20.0, 40.0), bin_shape=(5.0, 5.0, 10.0))
    return "point_cloud", pyramid(
        path, level, (5.0, 5.0, 10.0), [(2, 2), (4, 1)], scales=[(2, 1, 1), (1, 2, 2)], depth=-1, attributes=True
    )


def store_pyramid_no_links(path):
    ids = np.random.default_rng(62).integers(0, 4, 90)
    level = grouped(path, 62, ids, ndim=2, bin_shape=(5.0,) * 2)
    return "point_cloud", pyramid(path, level, (5.0,) * 2, [(1, 2)], depth=0, storage="none", attributes=True)
