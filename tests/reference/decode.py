"""A simple decoder of format 0.9 that uses zarr and NumPy alone: what every array of a store holds, chunk by chunk.

It shares no code with the package, and knows nothing of laziness, selections or speed.
"""

import itertools
import math
import struct

import numpy as np
import zarr


def cells(array):
    """Payload of every listed cell by chunk."""
    origin = array.attrs.get("chunk_grid_origin", [0] * array.ndim)
    found = {}
    for key in array.attrs["nonempty_chunks"]:
        coord = tuple(map(int, key.split(".")))
        at = tuple(slice(c - o, c - o + 1) for c, o in zip(coord, origin, strict=True))
        found[coord] = bytes(array[at].ravel()[0])
    return found


def rows(array, width=None):
    """Rows of every cell: of the stated dtype, and as wide as stated or as ``width`` says."""
    dtype = np.dtype(array.attrs.get("dtype", "float32")).newbyteorder("<")
    shape = (width,) if width else tuple(array.attrs.get("row_shape") or ())
    return {coord: np.frombuffer(payload, dtype).reshape(-1, *shape) for coord, payload in cells(array).items()}


def fragments(blob):
    """Rows that each fragment of a chunk names."""
    magic, _, _, total, ranges = struct.unpack_from("<IHHII", blob)
    assert magic == 0x5A564647
    if not total:
        return []
    at = 16 + (total + 63) // 64 * 8
    bits = np.unpackbits(np.frombuffer(blob, np.uint8, (total + 7) // 8, 16), bitorder="little")[:total].astype(bool)
    table = np.frombuffer(blob, "<i8", 2 * ranges, at).reshape(-1, 2)
    at += 16 * ranges
    offsets = np.frombuffer(blob, "<u4", total - ranges + 1, at)
    listed = np.frombuffer(blob, "<i8", int(offsets[-1]), at + 4 * len(offsets))
    spans, lists = iter(table), iter(range(total - ranges))
    out = []
    for is_range in bits:
        if is_range:
            start, count = next(spans)
            out.append(np.arange(start, start + count))
        else:
            number = next(lists)
            out.append(listed[offsets[number] : offsets[number + 1]])
    return out


def manifest(blob, rank):
    """(chunk, fragment) that an object goes through, in order."""
    entries, at = [], 4
    for _ in range(struct.unpack_from("<I", blob)[0] if blob else 0):
        coord = struct.unpack_from(f"<{rank}q", blob, at)
        at += 8 * rank
        mode, at = blob[at], at + 1
        if mode == 0:
            named, size = struct.unpack_from("<q", blob, at), 8
        elif mode == 1:
            start, count = struct.unpack_from("<2q", blob, at)
            named, size = range(start, start + count), 16
        else:
            (n,) = struct.unpack_from("<I", blob, at)
            named, size = struct.unpack_from(f"<{n}q", blob, at + 4), 4 + 8 * n
        entries += [(coord, fragment) for fragment in named]
        at += size
    return entries


def unranked(code, width):
    """The permutation of a Lehmer code."""
    left, sigma = list(range(width)), []
    for i in range(width):
        digit, code = divmod(code, math.factorial(width - 1 - i))
        sigma.append(left.pop(digit))
    return sigma


def records(array, delta):
    """Records of every cell by the chunk of endpoint 0: rows of the endpoints, and the order they were given in."""
    width, grouped = array.attrs["link_width"], any(any(o) for o in array.attrs["offsets"]) or delta
    columns = width + bool(array.attrs.get("has_perm"))
    dtype = np.dtype(array.attrs.get("dtype", "int64")).newbyteorder("<")
    found = {}
    for coord, payload in cells(array).items():
        if grouped:
            (groups,) = struct.unpack_from("<q", payload)
            starts = [*np.frombuffer(payload, "<i8", groups, 8).tolist(), len(payload) - 8 - 8 * groups]
            data = payload[8 + 8 * groups :]
            table = np.frombuffer(b"".join(data[a:b] for a, b in itertools.pairwise(starts)), dtype)
        else:
            table = np.frombuffer(payload, dtype)
        table = table.reshape(-1, columns)
        orders = table[:, 0].tolist() if columns > width else [0] * len(table)
        found[coord] = [
            (row, unranked(code, width)) for row, code in zip(table[:, -width:].tolist(), orders, strict=True)
        ]
    return found


class Level:
    """One level of a store; members are computed when they are asked for."""

    def __init__(self, group, root, level):
        self.group, self.root, self.level = group, root, level
        self.ndim = len(root.attrs["multiscales"][0]["axes"])
        self.vertices = rows(group["vertices"], self.ndim) if "vertices" in group else {}
        self.chunks = sorted(self.vertices)
        counts = [len(self.vertices[chunk]) for chunk in self.chunks]
        self.starts = dict(zip(self.chunks, np.cumsum([0, *counts]).tolist(), strict=False))

    def positions(self):
        """All rows."""
        dtype = np.dtype(self.group["vertices"].attrs.get("dtype", "float32"))
        return np.concatenate([np.empty((0, self.ndim), dtype), *(self.vertices[chunk] for chunk in self.chunks)])

    def attribute(self, name):
        """All values of an attribute, as stored; wider than stated where the bytes say so."""
        array = self.group["vertex_attributes"][name]
        found = rows(array)
        parts = []
        for chunk in self.chunks:
            values, n = found[chunk], len(self.vertices[chunk])
            if len(values) != n and n and len(values) % n == 0:
                values = values.reshape(n, -1)
            assert len(values) == n
            parts.append(values)
        return np.concatenate(parts)

    def links(self, delta, other):
        """Records as rows of this level and of another, in canonical order; copies left out."""
        family = self.group["links"][f"{delta:+d}" if delta else "0"]
        rank, width = family.attrs["sid_ndim"], family.attrs["link_width"]
        out = [np.empty((0, width), np.int64)]
        for name in sorted(family.array_keys()):
            array = family[name]
            offsets = np.asarray(array.attrs["offsets"], np.int64).reshape(-1, rank)
            if family.attrs.get("store") == "duplicate" and not leads(offsets):
                continue
            found = records(array, delta)
            for key in sorted(found, key=lambda coord: ".".join(map(str, coord))):
                chunks = [key, *(tuple(c) for c in (np.asarray(self.anchor(key, other)) + offsets).tolist())]
                if width == 1:
                    chunks = [key]
                levels = [self, *([other] * (width - 1))]
                table = np.empty((len(found[key]), width), np.int64)
                for at, (row, sigma) in enumerate(found[key]):
                    stored = [of.starts[chunk] + vi for of, chunk, vi in zip(levels, chunks, row, strict=True)]
                    table[at, sigma] = stored
                out.append(table)
        return np.concatenate(out)

    def anchor(self, chunk, other):
        """Chunk of another level below which a chunk lies."""
        if other is self:
            return chunk
        root = np.asarray(self.root.attrs["zarr_vectors"]["chunk_shape"])
        here, there = (np.rint(np.asarray(of.chunk_shape) / root).astype(int) for of in (self, other))
        spatial = np.asarray(chunk[-self.ndim :]) * here // there
        return (*chunk[: -self.ndim], *spatial.tolist())

    @property
    def chunk_shape(self):
        block = self.group.attrs["zarr_vectors_level"]
        return block.get("chunk_shape") or self.root.attrs["zarr_vectors"]["chunk_shape"]

    def objects(self):
        """Vertices of every object that is present, by id."""
        index = self.group["object_index"]
        rank, count = index.attrs["sid_ndim"], index.attrs.get("num_objects")
        blobs = [bytes(blob) for blob in index["manifests"][:]][:count] if "manifests" in index else []
        ids = index["object_ids"][:].tolist() if index.attrs.get("layout") == "vlen_manifests_v2" else range(len(blobs))
        found = {chunk: fragments(blob) for chunk, blob in cells(self.group["vertex_fragments"]).items()}
        out = {}
        for object_id, blob in zip(ids, blobs, strict=False):
            parts = [self.vertices[chunk][found[chunk][fragment]] for chunk, fragment in manifest(blob, rank)]
            if manifest(blob, rank):
                out[object_id] = np.concatenate(parts)
        return out

    def groups(self):
        """Object ids of every group."""
        array = self.group["groups"]
        ranges = array.attrs.get("group_ranges") or {}
        members = [np.frombuffer(bytes(blob), "<i8") for blob in array[:]]
        return {g: np.arange(*ranges[str(g)]) if str(g) in ranges else ids for g, ids in enumerate(members)}


def leads(offsets):
    """Whether records at these offsets are led by their lowest chunk."""
    return all(tuple(offset) >= (0,) * len(offset) for offset in offsets.tolist())


def open_levels(path):
    """Levels of a store by number."""
    root = zarr.open_group(path, mode="r", zarr_format=3)
    return {int(name): Level(group, root, int(name)) for name, group in root.groups() if name.isdecimal()}
