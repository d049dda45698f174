"""What the writers of zarr-vectors 0.2.0 do not make and its format allows; bytes are made by its encoders."""

import shutil
from pathlib import Path

import numpy as np
import zarr
from expect import Level
from joined import graph
from shapes import path_level, walks
from written import paths
from zarr_vectors.core.arrays import (
    list_chunk_keys,
    read_chunk_vertices,
    read_cross_chunk_links,
    write_cross_chunk_link_attributes,
)
from zarr_vectors.core.store import get_resolution_level, open_store
from zarr_vectors.encoding.fragments import encode_fragments, encode_object_manifest_blocks
from zarr_vectors.types.points import write_points
from zarr_vectors.types.polylines import write_polylines


def finest(path):
    return get_resolution_level(open_store(str(path), mode="r+"), 0)


def store_index_without_layout(path):
    """Manifests as two blobs."""
    kind, levels = paths(path, walks(70, [40, 2, 30, 25], 2), (12.0, 12.0))
    group = zarr.open_group(str(path), mode="r+")["0/object_index"]
    blobs = [bytes(blob) for blob in group["manifests"][:]]
    attributes = {name: value for name, value in group.attrs.items() if name != "layout"}
    shutil.rmtree(path / "0" / "object_index" / "manifests")
    group.attrs.clear()
    group.attrs.update(attributes)
    starts = np.cumsum([0, *map(len, blobs[:-1])]).astype("<i8")
    finest(path).write_bytes("object_index", "data", b"".join(blobs))
    finest(path).write_bytes("object_index", "offsets", starts.tobytes())
    return kind, levels


def store_manifest_modes(path):
    """One chunk of 6 fragments, two of them explicit; objects name a range, a list, one twice, and none."""
    lines = walks(71, [4, 3, 5, 2, 6, 1], 2, step=0.1)
    write_polylines(str(path), lines, chunk_shape=(500.0, 500.0), bounds=([-400.0] * 2, [400.0] * 2))
    level = path_level(lines, (500.0, 500.0))
    coords = np.unique(level.coords(), axis=0)
    assert len(coords) <= 4
    group = finest(path)
    rows = {}
    vlen = zarr.open_group(str(path), mode="r+")["0/object_index/manifests"]
    blobs = [bytes(blob) for blob in vlen[:]]
    key = max(list_chunk_keys(group), key=lambda key: len(np.concatenate(read_chunk_vertices(group, key, ndim=2))))
    here = np.flatnonzero((level.coords() == np.asarray(key)).all(1))
    n = len(here)
    fragments = [np.asarray([4, 1]), (0, 2), (2, 0), np.asarray([3, 3, 0]), (n - 2, 2), (2, 3)]
    local = [np.arange(f[0], sum(f)) if isinstance(f, tuple) else f for f in fragments]
    group.write_bytes("vertex_fragments", ".".join(map(str, key)), encode_fragments(fragments, force_explicit=True))
    named = {0: [(key, (1, 3))], 1: [(key, np.asarray([5, 0, 3]))], 2: [(key, 4), (key, 0), (key, 4)], 3: []}
    of = {0: [1, 2, 3], 1: [5, 0, 3], 2: [4, 0, 4], 3: []}
    for number in range(len(blobs)):
        blobs[number] = encode_object_manifest_blocks(named.get(number, []), 2)
        parts = [here[local[f]] for f in of.get(number, [])]
        rows[number] = np.concatenate([np.empty(0, "i8"), *parts])
    vlen[:] = np.asarray(blobs, object)
    level.objects, level.edges = rows, None
    return "streamline", [level]


def store_graph_values_across(path):
    """Values of links across chunks, which the format defines and no writer writes."""
    level = graph(path, 72, np.zeros(80, "i8"), link_attributes={"sum": np.zeros(100)})
    group = finest(path)
    sums = level.positions[level.edges].astype("f8").sum(axis=(1, 2))
    records = read_cross_chunk_links(group)
    rows = {key: np.concatenate(read_chunk_vertices(group, key)) for key in list_chunk_keys(group)}
    across = [sum(float(rows[tuple(key)][row].astype("f8").sum()) for key, row in record) for record in records]
    write_cross_chunk_link_attributes(group, "sum", np.asarray(across), num_links=len(records))
    coords = level.coords()
    cut = (coords[level.edges[:, 0]] != coords[level.edges[:, 1]]).any(1)
    level.link_attrs = {"sum": np.where(cut, np.round(sums, 6), 0.0)}
    group.write_bytes("cross_chunk_link_attributes/sum/0", "data", np.round(np.asarray(across), 6).tobytes())
    return "graph", [level]


def store_zeros(path):
    """All-zero cells that zarr left out, and an empty cell."""
    points = np.concatenate([np.zeros((5, 2)), np.full((3, 2), 7.0)]).astype("f4")
    values = np.zeros(8, "i4")
    write_points(str(path), points, chunk_shape=(5.0, 5.0), vertex_attributes={"v": values})
    group = finest(path)
    for array, data in (("vertices", points[:5]), ("vertex_attributes/v", values[:5])):
        shutil.rmtree(path / "0" / array / "0.0")
        group.write_bytes(array, "0.0", data.tobytes())
        assert not Path(path, "0", array, "0.0", "c").exists()
    group.write_bytes("vertices", "-3.2", b"")
    group.write_bytes("vertex_attributes/v", "-3.2", b"")
    group.write_bytes("vertex_fragments", "-3.2", encode_fragments([]))
    return "point_cloud", [Level(points, (5.0, 5.0), {"v": values}, chunks=3)]
