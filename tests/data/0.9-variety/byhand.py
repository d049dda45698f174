"""Stores that the high-level writers do not make."""

import itertools
import struct

import numpy as np
import zarr
from expect import Level, objects_of
from paths import paths
from points import plain
from shapes import cloud, trees, walks
from zarr_vectors.core.arrays import (
    create_links_array,
    create_object_index_array,
    write_chunk_fragments,
    write_link_attributes,
    write_links,
    write_object_attributes,
    write_object_index,
)
from zarr_vectors.core.store import get_resolution_level, open_store
from zarr_vectors.types.graphs import write_graph
from zarr_vectors.types.skeletons import (
    finalize_skeleton_store,
    init_skeleton_store,
    write_skeleton_chunk,
    write_skeleton_cross_chunk_links,
)


def opened(path, level=0):
    """A level's group of the writer's, for changes."""
    return get_resolution_level(open_store(str(path), mode="r+"), level)


def stored_rows(level):
    """Chunk and chunk-local row of each vertex of a store that was written without objects and bins."""
    coords = [tuple(c) for c in level.coords().tolist()]
    seen: dict = {}
    out = []
    for coord in coords:
        seen[coord] = seen.get(coord, -1) + 1
        out.append((coord, seen[coord]))
    return out


def linked(path, seed, width, *, local=False, attrs=True, append=False, **family):
    """Points with a family of link records."""
    points = cloud(seed, 60, 2)
    _, (level,) = plain(path, points, (40.0, 20.0))
    rng = np.random.default_rng(seed)
    rows = stored_rows(level)
    if local:
        records = np.asarray([r for r in itertools.combinations(range(60), width) if len({rows[i][0] for i in r}) == 1])
        records = records[:: 7 * width]
    else:
        records = np.stack([rng.permutation(60)[:width] for _ in range(9)])
    group = opened(path)
    create_links_array(group, link_width=width, delta=0, sid_ndim=2, **family)
    n = len(records)
    values = {"w": rng.normal(size=n), "v": rng.integers(0, 99, (n, 2)).astype("i4")} if attrs else {}
    parts = np.array_split(np.arange(len(records)), 2) if append else [np.arange(len(records))]
    for k, part in enumerate(parts):
        mode = "append" if k else "replace"
        partition = write_links(
            group, [[rows[i] for i in records[r]] for r in part], 2, delta=0, link_width=width, mode=mode, **family
        )
        for name, v in values.items():
            write_link_attributes(group, name, v[part], num_links=int(part[-1]) + 1, partition=partition, mode=mode)
    level.links, level.link_attrs = records, values
    if width == 2:
        level.edges = records
    return "links", [level]


def store_links_self(path):
    return linked(path, 200, 1)


def store_links_pairs_directed(path):
    return linked(path, 201, 2, directed=True)


def store_links_pairs_duplicate(path):
    return linked(path, 202, 2, store="duplicate")


def store_links_pairs_directed_duplicate(path):
    return linked(path, 203, 2, directed=True, store="duplicate")


def store_links_pairs_int32(path):
    return linked(path, 204, 2, dtype="int32")


def store_links_triples(path):
    return linked(path, 205, 3)


def store_links_triples_duplicate(path):
    return linked(path, 206, 3, store="duplicate")


def store_links_triples_directed(path):
    return linked(path, 207, 3, directed=True)


def store_links_fours_duplicate(path):
    return linked(path, 208, 4, store="duplicate", attrs=False)


def store_links_local(path):
    return linked(path, 209, 2, local=True)


def store_links_appended(path):
    return linked(path, 210, 2, append=True)


def store_links_appended_directed(path):
    return linked(path, 211, 3, append=True, directed=True)


def store_fragments_explicit(path):
    """Objects out of explicit, overlapping, empty and ranged fragments, in any order; rows that no fragment names."""
    points = cloud(220, 80, 2)
    _, (level,) = plain(path, points, (20.0, 20.0))
    rng = np.random.default_rng(220)
    rows = stored_rows(level)
    cells: dict = {}
    for i, (coord, _) in enumerate(rows):
        cells.setdefault(coord, []).append(i)
    group = opened(path)
    fragments, manifests, objects = {}, {k: [] for k in range(6)}, {k: [] for k in range(6)}
    for coord, members in cells.items():
        n = len(members)
        half = np.arange(n // 2)
        picks = [rng.permutation(n)[: n // 2], half, rng.integers(0, n, 3), np.empty(0, "i8"), np.arange(1, n)]
        named = [picks[0].astype("i8"), (0, len(half)), picks[2].astype("i8"), np.empty(0, "i8"), (1, n - 1)]
        fragments[coord] = [np.asarray(members)[p] for p in picks]
        write_chunk_fragments(group, coord, named)
    entries = [(coord, f) for coord in cells for f in range(5)]
    for k in range(5):
        for e in rng.permutation(len(entries))[: 3 + k]:
            manifests[k].append(entries[e])
            objects[k] += fragments[entries[e][0]][entries[e][1]].tolist()
    create_object_index_array(group)
    write_object_index(group, manifests, 2, total_objects=6)
    level.objects = {k: np.asarray(v, "i8") for k, v in objects.items()}
    return "point_cloud", [level]


def set_manifests(path, blobs):
    array = zarr.open_array(str(path), path="0/object_index/manifests", mode="r+")
    values = np.empty(len(blobs), object)
    values[:] = blobs
    array[:] = values


def blob(blocks):
    """A manifest of blocks (chunk, fragments, mode)."""
    out = [struct.pack("<I", len(blocks))]
    for coord, fragments, mode in blocks:
        out.append(struct.pack(f"<{len(coord)}qB", *coord, mode))
        if mode == 0:
            out.append(struct.pack("<q", *fragments))
        elif mode == 1:
            out.append(struct.pack("<qq", fragments[0] if fragments else 0, len(fragments)))
        else:
            out.append(struct.pack(f"<I{len(fragments)}q", len(fragments), *fragments))
    return b"".join(out)


def store_manifest_modes(path):
    """Fragments are the bins of a point cloud; objects take them one by one, as ranges and as lists."""
    points = cloud(230, 150, 2)
    _, (level,) = plain(path, points, (20.0, 20.0), (5.0, 10.0))
    coords, bins = level.coords(), np.floor(points.astype("f8") / [5.0, 10.0]).astype("i8")
    local = bins - coords * [4, 2]
    fragment = local[:, 0] * 2 + local[:, 1]

    def rows(coord, f):
        return np.flatnonzero((coords == coord).all(1) & (fragment == f)).tolist()

    cells = sorted(set(map(tuple, coords.tolist())))
    a, b, c = cells[0], cells[1], cells[-1]
    objects = [
        [(a, [3], 0), (b, [0, 1, 2, 3, 4], 1), (a, [7, 0, 7, 2], 2), (c, [5], 0)],
        [],
        [(c, [2, 3], 1), (b, [6], 2), (c, [], 2), (c, [4, 5, 6, 7], 1), (c, [], 1)],
        [(a, [0, 1, 2, 3, 4, 5, 6, 7], 1)],
        [(b, [5], 0), (a, [5], 0)],
    ]
    create_object_index_array(opened(path))
    write_object_index(opened(path), {i: [(a, 0)] for i in range(5)}, 2, total_objects=5)
    set_manifests(path, [blob(o) for o in objects])
    index = zarr.open_group(str(path), mode="r+")["0/object_index"]
    index.attrs["num_present"] = 4
    named = [[r for x, f, _ in blocks for k in f for r in rows(x, k)] for blocks in objects]
    level.objects = {i: np.asarray(found, "i8") for i, found in enumerate(named)}
    level.object_attrs = {"v": np.arange(5) * 1.5}
    write_object_attributes(opened(path), "v", np.arange(5) * 1.5)
    return "point_cloud", [level]


def store_object_index_v1(path):
    """The older layout: an id is a row."""
    kind, levels = paths(path, walks(231, [20, 10, 2, 15], 2), (12.0, 12.0))
    root = zarr.open_group(str(path), mode="r+")
    index = root["0/object_index"]
    attributes = dict(index.attrs)
    attributes["layout"] = "vlen_manifests_v1"
    attributes.pop("object_ids_sorted", None)
    index.attrs.put(attributes)
    if "object_ids" in index:
        del index["object_ids"]
    return kind, levels


def store_skeleton_explicit(path):
    """All edges of a forest as records, children first."""
    positions, edges, ids = trees(240, [40, 30], 2)
    positions = positions.astype("f4")
    write_graph(str(path), positions, edges, chunk_shape=(12.0, 12.0), object_ids=ids)
    root = zarr.open_group(str(path), mode="r+")
    root.attrs["zarr_vectors"] = dict(root.attrs["zarr_vectors"]) | {"geometry_types": ["skeleton"]}
    return "skeleton", [Level(positions, (12.0, 12.0), edges=edges, tree=True, objects=objects_of(ids), ordered=False)]


def store_skeleton_streaming(path):
    """Fragments are paths, branches records, borders records with the parent first."""
    positions, edges, ids = trees(241, [35, 30, 3])
    positions, shape = positions.astype("f4"), (14.0,) * 3
    level = Level(
        positions,
        shape,
        {"radius": np.arange(len(positions)).astype("f4")},
        edges=edges,
        tree=True,
        objects=objects_of(ids),
        ordered=False,
    )
    coords = [tuple(c) for c in level.coords().tolist()]
    parent = dict(edges.tolist())
    root, group = init_skeleton_store(
        str(path),
        chunk_shape=shape,
        ndim=3,
        attribute_dtypes={"radius": "float32"},
        bounds=(positions.min(0).tolist(), positions.max(0).tolist()),
        coordinate_offset=(100.0, 0.0, -5.0),
    )
    top = {}
    for i in range(len(positions)):
        top[i] = top[parent[i]] if i in parent and coords[parent[i]] == coords[i] else i
    segment_ids = np.asarray([11, 700, 2**40])
    records, places = [], {}
    for coord in sorted(set(coords)):
        pieces = []
        for first in sorted({top[i] for i in top if coords[i] == coord}):
            members = [i for i in top if top[i] == first]
            at = {i: k for k, i in enumerate(members)}
            inner = [(at[i], at[parent[i]]) for i in members if i != first]
            pieces.append(
                {
                    "segment_id": int(segment_ids[ids[first]]),
                    "positions": positions[members],
                    "edges": np.asarray(inner, "i8").reshape(-1, 2),
                    "attributes": {"radius": level.attrs["radius"][members]},
                    "anchors": {i: at[i] for i in members},
                }
            )
        found, anchors = write_skeleton_chunk(group, coord, pieces)
        records += found
        places |= anchors
    crossing = [(places[p], places[c]) for c, p in edges.tolist() if coords[p] != coords[c]]
    write_skeleton_cross_chunk_links(group, crossing, ndim=3)
    number = {int(s): k for k, s in enumerate(segment_ids)}
    manifests = {k: [] for k in range(3)}
    for segment, coord, fragment in records:
        manifests[number[segment]].append((coord, fragment))
    write_object_index(group, manifests, 3, total_objects=3)
    write_object_attributes(group, "segment_id", segment_ids.astype("u8"))
    finalize_skeleton_store(root)
    level.counted = False
    level.object_attrs = {"segment_id": segment_ids.astype("u8")}
    return "skeleton", [level]


def store_attribute_of_some_chunks(path):
    """An attribute that only some chunks have: missing values are NaN."""
    points = cloud(250, 100, 2)
    values = np.arange(100.0).astype("f4")
    kind, (level,) = plain(path, points, (20.0, 20.0), attrs={"v": values, "n": np.arange(100)})
    coords = level.coords()
    for name in ("v", "n"):
        node = zarr.open_array(str(path), path=f"0/vertex_attributes/{name}", mode="r+")
        listed = sorted(node.attrs["nonempty_chunks"])
        node.attrs["nonempty_chunks"] = listed[::2]
        keep = np.isin([".".join(map(str, c)) for c in coords.tolist()], listed[::2])
        level.attrs[name] = np.where(keep, level.attrs[name], np.nan).astype("f4" if name == "v" else "f8")
    return kind, [level]
