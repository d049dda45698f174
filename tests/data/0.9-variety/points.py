"""Stores of points."""

import numpy as np
import zarr_vectors
from expect import Level, by_chunk, coarsen, link_levels, objects_of
from shapes import cloud
from zarr_vectors.core.arrays import object_ids_for_rows, object_present_mask
from zarr_vectors.core.store import get_resolution_level, open_store
from zarr_vectors.multiresolution.coarsen import build_pyramid
from zarr_vectors.sharding.io import shard_store
from zarr_vectors.types.points import write_points


def kept_ids(path, level):
    """Ids of the objects that the writer kept at a level: what its seed gave."""
    group = get_resolution_level(open_store(str(path)), level)
    return np.asarray(object_ids_for_rows(group))[np.asarray(object_present_mask(group))].tolist()


def pyramid(path, level, bins, factors, *, scales=None, depth=1, storage="explicit", links=True):
    """Build a pyramid and work out what it holds."""
    build_pyramid(
        str(path),
        factors=factors,
        chunk_scale_factors=scales,
        sparsity_seed=3,
        cross_level_depth=depth,
        cross_level_storage=storage,
    )
    levels, bins = [level], np.asarray(bins, "f8")
    for i, (coarse, _) in enumerate(factors):
        bins = bins * coarse
        shape = np.asarray(levels[-1].chunk_shape, "f8") * (1 if scales is None else np.asarray(scales[i]))
        kept = kept_ids(path, i + 1) if level.objects is not None else None
        levels[-1], upper = coarsen(levels[-1], bins, shape, kept)
        levels.append(upper)
    if links and storage != "none":
        link_levels(levels, depth, storage)
    return levels


def plain(path, points, chunk, bins=None, **more):
    """Write points without objects."""
    attrs = more.pop("attrs", {})
    write_points(str(path), points, chunk_shape=chunk, bin_shape=bins, vertex_attributes=attrs or None, **more)
    return "point_cloud", [Level(points, chunk, attrs)]


def store_points_2d(path):
    return plain(path, cloud(1, 200, 2), (16.0, 16.0), dtype="float32")


def store_points_2d_bins(path):
    return plain(path, cloud(2, 200, 2), (16.0, 16.0), (4.0, 8.0))


def store_points_3d_bins_f64(path):
    points = cloud(3, 250, 3, (1e7, 1e7 + 30), "f8")
    return plain(path, points, (15.0, 15.0, 30.0), (5.0, 7.5, 10.0), dtype="float64")


def store_points_4d(path):
    rng = np.random.default_rng(4)
    return plain(path, cloud(4, 120, 4), (20.0,) * 4, attrs={"t": rng.normal(size=120)})


def store_points_decimal_bins(path):
    """Positions on the borders of bins whose width no binary fraction is: 0.3 / 0.1 is less than 3."""
    rng = np.random.default_rng(6)
    points = np.concatenate([rng.integers(-9, 12, (150, 2)) * 0.1, rng.integers(-3, 4, (100, 2)) * 0.3])
    kind, levels = plain(path, points, (0.3, 0.3), (0.1, 0.1), dtype="float64")
    levels[0].chunks = len(np.unique(np.floor(points / 0.1) // 3, axis=0))
    return kind, levels


def store_points_decimal_chunks(path):
    rng = np.random.default_rng(7)
    points = (rng.integers(-9, 12, (200, 3)) * 0.1).astype("f4")
    return plain(path, points, (0.7, 0.3, 1.1))


def store_points_on_borders(path):
    rng = np.random.default_rng(8)
    points = rng.integers(-4, 5, (200, 3)).astype("f4") * 4
    return plain(path, points, (8.0, 8.0, 8.0), (4.0, 4.0, 8.0))


def store_points_one_chunk(path):
    return plain(path, cloud(9, 50), (1000.0,) * 3, attrs={"v": np.arange(50, dtype="i2")})


def store_points_one(path):
    return plain(path, np.asarray([[-3.5, 2.25]], "f4"), (4.0, 4.0))


def store_points_attributes(path):
    rng = np.random.default_rng(10)
    n = 220
    words = np.asarray(["ab", "", "längere Wörter", "z"])[rng.integers(0, 4, n)]
    missing = np.asarray([None, "left", "right"], object)[rng.integers(0, 3, n)]
    attrs = {
        "i1": rng.integers(-128, 128, n).astype("i1"),
        "i4": rng.integers(-(2**31), 2**31, n).astype("i4"),
        "i8": rng.integers(-(2**62), 2**62, n),
        "u1": rng.integers(0, 256, n).astype("u1"),
        "u8": rng.integers(0, 2**63, n).astype("u8") * 2,
        "f2": rng.normal(size=n).astype("f2"),
        "f8": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
        "flag": rng.random(n) < 0.5,
        "rgb": rng.integers(0, 256, (n, 3)).astype("u1"),
        "pair": rng.normal(size=(n, 2)),
        "single": rng.normal(size=(n, 1)).astype("f4"),
        "word": words,
        "side": missing,
    }
    kind, levels = plain(path, cloud(10, n), (20.0, 40.0, 40.0), attrs=attrs)
    levels[0].attrs = attrs | {"side": np.where(missing == None, "", missing).astype(str)}  # noqa: E711
    return kind, levels


def store_points_attributes_bins(path):
    rng = np.random.default_rng(11)
    n = 220
    attrs = {"rgb": rng.integers(0, 256, (n, 3)).astype("u1"), "word": np.asarray(["a", "bcd"])[rng.integers(0, 2, n)]}
    return plain(path, cloud(11, n), (20.0,) * 3, (5.0, 10.0, 20.0), attrs=attrs, compressor="blosc")


def grouped(path, seed, ids_from, n=240, **more):
    """Write points with objects."""
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(ids_from, n)) if more.pop("sort", False) else rng.choice(ids_from, n)
    points = cloud(seed, n, more.pop("ndim", 3), dtype=more.get("dtype", "f4"))
    unique = np.unique(ids)
    chunk = more.pop("chunk", (25.0, 40.0, 40.0)[: points.shape[1]])
    attrs = {"v": rng.normal(size=n).astype("f4"), "w": rng.integers(0, 9, (n, 2)).astype("u2")}
    dense = int(unique.max()) == len(unique) - 1
    object_attrs = {"size": rng.normal(size=len(unique)), "pair": rng.integers(0, 9, (len(unique), 2))} if dense else {}
    write_points(
        str(path),
        points,
        chunk_shape=chunk,
        object_ids=ids,
        vertex_attributes=attrs,
        object_attributes=object_attrs or None,
        **more,
    )
    level = Level(points, chunk, attrs, objects=objects_of(ids), object_attrs=object_attrs)
    level.objects = {i: by_chunk(level, rows) for i, rows in level.objects.items()}
    return level


def store_points_objects(path):
    level = grouped(
        path,
        20,
        np.arange(7),
        bin_shape=(5.0, 5.0, 10.0),
        groups={0: [0, 2], 1: [], 2: [1, 3, 5]},
        group_attributes={"rank": np.asarray([3, 1, 2])},
    )
    zarr_vectors.open(str(path), mode="r+").level(0).groups.name_rows(["first", "nobody", "third"])
    level.groups, level.group_names = {0: [0, 2], 1: [], 2: [1, 3, 5]}, ("first", "nobody", "third")
    level.group_attrs = {"rank": np.asarray([3, 1, 2])}
    return "point_cloud", [level]


def store_points_sparse_ids(path):
    return "point_cloud", [grouped(path, 21, np.asarray([3, 70, 71, 5_000_000_000, 12]))]


def store_points_one_object_each(path):
    rng = np.random.default_rng(22)
    points = cloud(22, 60)
    write_points(
        str(path),
        points,
        chunk_shape=(20.0,) * 3,
        object_attributes={"v": rng.normal(size=60)},
        groups={0: range(10, 20), 1: [4, 2]},
    )
    level = Level(points, (20.0,) * 3, objects={i: np.asarray([i]) for i in range(60)})
    level.groups = {0: range(10, 20), 1: [2, 4]}
    return "point_cloud", [level]


def store_points_by_int(path):
    rng = np.random.default_rng(23)
    attrs = {"gene": rng.integers(-3, 3, 200), "v": rng.normal(size=200).astype("f4")}
    points = cloud(23, 200)
    write_points(str(path), points, chunk_shape=(40.0,) * 3, vertex_attributes=attrs, chunk_by_attribute="gene")
    level = Level(points, (40.0,) * 3, attrs, chunk_by="gene", objects={i: np.asarray([i]) for i in range(200)})
    return "point_cloud", [level]


def store_points_by_text(path):
    rng = np.random.default_rng(24)
    attrs = {"gene": np.asarray(["Aqp4", "Gad1", "b"])[rng.integers(0, 3, 150)], "v": rng.normal(size=150)}
    points = cloud(24, 150, 2)
    ids = rng.integers(0, 6, 150)
    write_points(
        str(path),
        points,
        chunk_shape=(20.0,) * 2,
        vertex_attributes=attrs,
        chunk_by_attribute="gene",
        object_ids=ids,
        compressor="zstd",
    )
    level = Level(points, (20.0,) * 2, attrs, chunk_by="gene", objects=objects_of(ids))
    level.objects = {i: by_chunk(level, rows) for i, rows in level.objects.items()}
    return "point_cloud", [level]


def store_points_by_flag(path):
    rng = np.random.default_rng(25)
    attrs = {"flag": rng.random(100) < 0.4}
    points = cloud(25, 100, 2)
    write_points(str(path), points, chunk_shape=(20.0,) * 2, vertex_attributes=attrs, chunk_by_attribute="flag")
    level = Level(points, (20.0,) * 2, attrs, chunk_by="flag", objects={i: np.asarray([i]) for i in range(100)})
    return "point_cloud", [level]


def store_points_sharded(path):
    return plain(path, cloud(30, 200), (10.0,) * 3, shard_shape=2, attrs={"v": np.arange(200.0)})


def store_points_sharded_blosc(path):
    return plain(path, cloud(31, 200), (10.0,) * 3, shard_shape=(3, 2, 1), compressor="blosc", dtype="float32")


def store_points_sharded_zstd_objects(path):
    return "point_cloud", [grouped(path, 32, np.arange(5), shard_shape=3, compressor="zstd")]


def store_points_shard_store(path):
    level = grouped(path, 33, np.arange(5), compressor="zstd")
    shard_store(str(path), shard_shape=2)
    return "point_cloud", [level]


def store_points_gzip(path):
    gzip = [{"name": "gzip", "configuration": {"level": 5}}, {"name": "crc32c"}]
    return plain(path, cloud(34, 100), (20.0,) * 3, compressor=gzip)


def store_points_zstd_checksum(path):
    zstd = [{"name": "zstd", "configuration": {"level": 3, "checksum": True}}]
    return plain(path, cloud(35, 100), (20.0,) * 3, compressor=zstd)


def store_points_bounds(path):
    return plain(path, cloud(36, 100), (20.0,) * 3, bounds=([-100.0] * 3, [100.0] * 3))


def store_pyramid_points(path):
    points = cloud(40, 70)
    plain(path, points, (15.0,) * 3, (5.0,) * 3)
    return "point_cloud", pyramid(
        path, Level(points, (15.0,) * 3), (5.0,) * 3, [(2, 1), (2, 1)], scales=[2, 2], depth=2
    )


def store_pyramid_points_implicit(path):
    points = cloud(41, 120, 2)
    plain(path, points, (10.0,) * 2, (5.0,) * 2)
    return "point_cloud", pyramid(
        path, Level(points, (10.0,) * 2), (5.0,) * 2, [(2, 1), (2, 1)], depth=-1, storage="implicit"
    )


def store_pyramid_objects_anisotropic(path):
    level = grouped(path, 42, np.arange(8), n=110, bin_shape=(5.0, 5.0, 10.0), chunk=(20.0, 20.0, 40.0))
    return "point_cloud", pyramid(
        path, level, (5.0, 5.0, 10.0), [(2, 2), (2, 1)], scales=[(2, 1, 1), (1, 2, 2)], depth=-1
    )


def store_pyramid_sparse_ids(path):
    level = grouped(path, 43, np.asarray([4, 9, 100, 7]), n=120, bin_shape=(5.0,) * 3)
    return "point_cloud", pyramid(path, level, (5.0,) * 3, [(2, 2)])


def store_pyramid_no_links(path):
    level = grouped(path, 44, np.arange(4), bin_shape=(5.0,) * 2, ndim=2)
    return "point_cloud", pyramid(path, level, (5.0,) * 2, [(1, 2), (4, 1)], depth=0, storage="none")


def store_pyramid_f64(path):
    """Coarse levels are float32 and its links wrong (bug 2 of the writer): only the vertices are expected."""
    points = cloud(45, 120, 2, (1000, 1040), "f8")
    plain(path, points, (10.0,) * 2, (5.0,) * 2, dtype="float64")
    return "point_cloud", pyramid(path, Level(points, (10.0,) * 2), (5.0,) * 2, [(2, 1), (2, 1)], links=False)


def store_pyramid_f64_far(path):
    """At 1e7 a float32 cannot tell two bins apart: coarse vertices leave the chunks of the fine ones."""
    points = cloud(46, 200, 2, (1e7, 1e7 + 30), "f8")
    plain(path, points, (10.0,) * 2, (2.5,) * 2, dtype="float64", bounds=([1e7 - 20] * 2, [1e7 + 60] * 2))
    return "point_cloud", pyramid(path, Level(points, (10.0,) * 2), (2.5,) * 2, [(2, 1)], links=False)


def store_pyramid_by_int(path):
    rng = np.random.default_rng(47)
    attrs = {"gene": rng.integers(0, 3, 90)}
    points = cloud(47, 90, 2)
    write_points(
        str(path),
        points,
        chunk_shape=(10.0,) * 2,
        bin_shape=(5.0,) * 2,
        vertex_attributes=attrs,
        chunk_by_attribute="gene",
    )
    level = Level(points, (10.0,) * 2, attrs, chunk_by="gene", objects={i: np.asarray([i]) for i in range(90)})
    return "point_cloud", pyramid(path, level, (5.0,) * 2, [(2, 1)], depth=0, storage="none")
