"""Neuroglancer's precomputed formats: arrays to bytes and documents, without I/O.

Annotations (v1), skeletons, legacy meshes, segment properties, and the shards of all of them; little-endian throughout.
"""

import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.kernels.rows import hash_ids
from zarr_vectors_lazy.model.objects import ranges
from zarr_vectors_lazy.types import Floats, IntArray

Kind: TypeAlias = Literal["point", "line", "polyline"]
Array: TypeAlias = np.ndarray[Any, Any]
SMALL = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32")
WORDS = re.compile(
    "attribute|bool|break|const|continue|discard|do|double|else|false|float|for|if|in|inout|int|invariant|lowp|mat[234]|"
    "mediump|out|precision|return|sampler2d|struct|tangent|true|uint|uniform|varying|vec[234]|void|while"
)
"""Reserved words of the shader's language, which no property may have as a name, and ``tangent``."""
MOST_TAGS = 65_535


@dataclass(frozen=True, slots=True)
class Property:
    """A property of annotations, or a vertex attribute of skeletons.

    Parameters
    ----------
    id
        Name in the viewer, see `property_ids`.
    dtype
        One of `SMALL`.
    name
        Name in the store, which is the viewer's description.
    labels
        Names of the values 0, 1, ...; empty if there are none.
    components
        How many numbers each vertex of a skeleton has.
    """

    id: str
    dtype: np.dtype[Any]
    name: str = ""
    labels: tuple[str, ...] = ()
    components: int = 1

    def annotation(self) -> dict[str, Any]:
        """Its entry in the ``info`` of annotations."""
        out: dict[str, Any] = {"id": self.id, "type": self.dtype.name, "description": self.name}
        labels = {"enum_values": list(range(len(self.labels))), "enum_labels": list(self.labels)}
        return out | (labels if self.labels else {})

    def attribute(self) -> dict[str, Any]:
        """Its entry in the ``info`` of skeletons."""
        return {"id": self.id, "data_type": self.dtype.name, "num_components": self.components}


def small_dtype(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """Dtype in which the viewer takes values: float32 for 64-bit ones, None for anything but numbers."""
    if dtype.kind == "b":
        return np.dtype("u1")
    if dtype.kind not in "iuf":
        return None
    found = dtype.newbyteorder("=")
    return found.newbyteorder("<") if found.name in SMALL else np.dtype("<f4")


def property_ids(names: Sequence[str]) -> list[str]:
    """Distinct names that shaders can use, ``^[a-z][a-zA-Z0-9_]*$``."""
    out: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
        plain = plain[:1].lower() + plain[1:]
        if not plain[:1].islower() or WORDS.fullmatch(plain):
            plain = f"p_{plain}"
        number = 1
        while (found := plain if number == 1 else f"{plain}_{number}") in out:
            number += 1
        out.append(found)
    return out


def dump(document: Mapping[str, Any]) -> bytes:
    """Bytes of a JSON document."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


# ---- annotations


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A level of a spatial index.

    Parameters
    ----------
    key
        Its folder.
    shape
        (D,) cells along each axis.
    size
        (D,) edge lengths of a cell.
    limit
        Approximate number of annotations in the fullest cell.
    sharding
        How its cells are sharded, or None.
    """

    key: str
    shape: tuple[int, ...]
    size: Floats
    limit: int
    sharding: "Sharding | None" = None

    def info(self) -> dict[str, Any]:
        """Its entry in the ``info``."""
        out = {"key": self.key, "grid_shape": list(self.shape), "chunk_size": self.size.tolist(), "limit": self.limit}
        return out if self.sharding is None else out | {"sharding": self.sharding.info()}

    def cells(self, positions: Floats, lower: Floats) -> IntArray:
        """(N, D) cell of each of (N, D) positions; those outside belong to the nearest cell."""
        at = np.floor((positions - lower) / self.size)
        found: IntArray = np.clip(np.nan_to_num(at), 0, np.asarray(self.shape) - 1).astype(np.int64)
        return found

    def morton(self, cells: IntArray) -> IntArray:
        """Compressed Morton codes of cells, (n, D), which identify them in shards: the bits of all axes interleaved."""
        bits = [max(n - 1, 0).bit_length() for n in self.shape]
        if sum(bits) > 63:
            raise SelectionError(f"a grid of {self.shape} cells is too large for shards")
        out, place = np.zeros(len(cells), np.int64), 0
        for bit in range(max(bits, default=0)):
            for axis, wide in enumerate(bits):
                if bit < wide:
                    out |= ((cells[:, axis] >> bit) & 1) << place
                    place += 1
        return out


def cell_key(cell: Sequence[int]) -> str:
    """Name of a cell's file."""
    return "_".join(map(str, cell))


def annotation_info(
    kind: Kind,
    dimensions: Mapping[str, tuple[float, str]],
    bounds: tuple[Floats, Floats],
    grids: Sequence[Grid],
    *,
    properties: Sequence[Property] = (),
    relationships: Sequence[str] = (),
    index: "Sharding | None" = None,
) -> dict[str, Any]:
    """The ``info`` document of annotations.

    Parameters
    ----------
    dimensions
        Scale and unit of each axis.
    bounds
        (lo, hi) of the grids.
    grids
        Levels of the spatial index, the coarsest first; each annotation is in one of them.
    properties
        In the order of `packing_order`.
    relationships
        Names; the index of each is a folder of the same name.
    index
        How single annotations, and those of segments, are sharded, or None.
    """
    lower, upper = bounds
    sharded = {} if index is None else {"sharding": index.info()}
    return {
        "@type": "neuroglancer_annotations_v1",
        "dimensions": {name: list(scale) for name, scale in dimensions.items()},
        "lower_bound": lower.tolist(),
        "upper_bound": upper.tolist(),
        "annotation_type": kind,
        "properties": [each.annotation() for each in properties],
        "relationships": [{"id": name, "key": name, **sharded} for name in relationships],
        "by_id": {"key": "by_id", **sharded},
        "spatial": [grid.info() for grid in grids],
    }


def packing_order(properties: Sequence[Property]) -> list[Property]:
    """Properties in the order of records: those of four bytes first, then of two, then of one."""
    return sorted(properties, key=lambda each: -each.dtype.itemsize)


def pack_properties(values: Sequence[Array], count: int) -> Array:
    """(N, w) uint32 words: the properties of N annotations, in the order of `packing_order`, padded."""
    size = sum(each.dtype.itemsize for each in values)
    words = -(-size // 4)
    out = np.zeros((count, 4 * words), np.uint8)
    at = 0
    for each in values:
        width = each.dtype.itemsize
        plain = np.ascontiguousarray(each.astype(each.dtype.newbyteorder("<")))
        out[:, at : at + width] = plain.view(np.uint8).reshape(count, width)
        at += width
    return out.view("<u4")


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """Encoded annotations, one after another.

    Parameters
    ----------
    words
        Records, as uint32.
    offsets
        (N + 1,) words of annotation k are ``offsets[k]:offsets[k + 1]``.
    ids
        (N,) int64, not negative.
    width
        Words of each, if all have as many; otherwise 0.
    """

    words: Array
    offsets: IntArray
    ids: IntArray
    width: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: IntArray) -> "Annotations":
        """Some of them, in the order given."""
        if self.width:
            words = self.words.reshape(-1, self.width)[rows].reshape(-1)
            return Annotations(words, np.arange(len(rows) + 1) * self.width, self.ids[rows], self.width)
        counts = np.diff(self.offsets)[rows]
        words = self.words[ranges(self.offsets[:-1][rows], counts)]
        return Annotations(words, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), self.ids[rows])

    def cell(self) -> bytes:
        """Bytes of a cell: how many, the records, the ids."""
        return b"".join([struct.pack("<Q", len(self)), self.words.data, self.ids.astype("<i8", copy=False).data])

    def shuffled(self, seed: int) -> "Annotations":
        """Return the same in random order: if the viewer does not draw all, it draws the first ones."""
        return self.take(np.random.default_rng(seed).permutation(len(self)))

    def singles(self, *, related: bool) -> tuple[bytes, IntArray]:
        """Bytes of each annotation by itself, one after another, and (N,) lengths.

        Parameters
        ----------
        related
            Whether there is a relationship, by which each belongs to the segment with its own id.
        """
        ids = self.ids.astype("<u8").view("<u4").reshape(-1, 2)
        after = np.concatenate([np.ones((len(ids), 1), "<u4"), ids], axis=1) if related else ids[:, :0]
        return self._framed(ids[:, :0], after)

    def cells(self) -> tuple[bytes, IntArray]:
        """Bytes of cells with one annotation each, one after another, and (N,) lengths."""
        ids = self.ids.astype("<u8").view("<u4").reshape(-1, 2)
        return self._framed(np.tile(np.array([1, 0], "<u4"), (len(self), 1)), ids)

    def _framed(self, before: Array, after: Array) -> tuple[bytes, IntArray]:
        """Records with (N, a) words before and (N, b) after each."""
        counts = np.diff(self.offsets)
        sizes = counts + before.shape[1] + after.shape[1]
        ends = np.cumsum(sizes)
        out = np.empty(int(sizes.sum()), "<u4")
        out[(ends - sizes)[:, None] + np.arange(before.shape[1])] = before
        out[ranges(ends - sizes + before.shape[1], counts)] = self.words
        out[ends[:, None] - after.shape[1] + np.arange(after.shape[1])] = after
        return out.tobytes(), 4 * sizes


def encode_shapes(coordinates: Floats, ids: IntArray, properties: Sequence[Array] = ()) -> Annotations:
    """Encode points, (N, D), or lines, (N, 2 D), with both ends.

    Parameters
    ----------
    properties
        (N,) values of each, of a dtype of `SMALL`, in the order of `packing_order`.
    """
    count = len(ids)
    geometry = np.ascontiguousarray(coordinates, "<f4").view("<u4").reshape(count, coordinates.shape[1])
    words = np.concatenate([geometry, pack_properties(properties, count)], axis=1) if properties else geometry
    width = words.shape[1]
    return Annotations(words.reshape(-1), np.arange(count + 1) * width, ids, width)


def encode_polylines(
    positions: Floats, counts: IntArray, ids: IntArray, properties: Sequence[Array] = ()
) -> Annotations:
    """Encode polylines; ``positions``, (M, D), holds one polyline after another, with (N,) vertices each."""
    rank, packed = positions.shape[1], pack_properties(properties, len(ids))
    points = np.ascontiguousarray(positions, "<f4").view("<u4").reshape(-1)
    sizes = 1 + counts * rank + packed.shape[1]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    out = np.empty(int(offsets[-1]), "<u4")
    is_point = np.ones(len(out), np.bool_)
    behind = offsets[1:, None] - packed.shape[1] + np.arange(packed.shape[1])
    for at, words in ((offsets[:-1], counts), (behind, packed)):
        out[at], is_point[at] = words, False
    out[is_point] = points
    return Annotations(out, offsets, ids)


# ---- skeletons, meshes, properties of segments


def skeleton_info(
    scales: Sequence[float], properties: Sequence[Property], sharding: "Sharding | None" = None, described: bool = True
) -> dict[str, Any]:
    """The ``info`` document of skeletons; nanometres for a unit of each of three axes."""
    transform = [*(scales[0], 0, 0, 0), *(0, scales[1], 0, 0), *(0, 0, scales[2], 0)]
    out: dict[str, Any] = {"@type": "neuroglancer_skeletons", "transform": transform}
    out["vertex_attributes"] = [each.attribute() for each in properties]
    out |= {"segment_properties": "props"} if described else {}
    return out if sharding is None else out | {"sharding": sharding.info()}


def encode_skeleton(positions: Floats, edges: IntArray, attributes: Sequence[Array] = ()) -> bytes:
    """Encode (N, 3) positions, (E, 2) rows, and (N,) or (N, C) values of each attribute."""
    head = np.array([len(positions), len(edges)], "<u4").tobytes()
    parts = [head, np.asarray(positions, "<f4").tobytes(), np.asarray(edges, "<u4").tobytes()]
    parts += [each.astype(each.dtype.newbyteorder("<"), copy=False).tobytes() for each in attributes]
    return b"".join(parts)


def mesh_info(described: bool = True) -> dict[str, Any]:
    """The ``info`` document of legacy meshes, whose vertices are in nanometres."""
    return {"@type": "neuroglancer_legacy_mesh"} | ({"segment_properties": "props"} if described else {})


def encode_mesh(positions: Floats, faces: IntArray) -> bytes:
    """Encode (N, 3) positions in nanometres, and (F, W) corners of faces, which are cut into triangles."""
    head = np.array([len(positions)], "<u4").tobytes() + np.asarray(positions, "<f4").tobytes()
    return head + triangles(faces).astype("<u4").tobytes()


def triangles(faces: IntArray) -> IntArray:
    """(F (W - 2), 3) triangles of (F, W) faces, as fans from the first corner; repeated corners are dropped."""
    if faces.shape[1] == 3:
        return faces
    fans = np.stack([faces[:, [0, corner, corner + 1]] for corner in range(1, faces.shape[1] - 1)], axis=1)
    found = fans.reshape(-1, 3)
    real = (found >= 0).all(axis=1) & (found[:, 0] != found[:, 1]) & (found[:, 1] != found[:, 2])
    out: IntArray = found[real & (found[:, 0] != found[:, 2])]
    return out


def properties_info(
    ids: IntArray, values: Mapping[str, Array], groups: Mapping[str, IntArray], *, labels: str = ""
) -> dict[str, Any]:
    """The ``info`` document of the properties of segments.

    Parameters
    ----------
    ids
        (n,) segments.
    values
        (n,) by name: numbers stay numbers if the viewer has their dtype, or float32 holds all of them.
    groups
        Segments by name of a group, which become tags.
    labels
        The one of ``values`` that names segments; empty for none.
    """
    found: list[dict[str, Any]] = []
    for name, each in values.items():
        dtype = small_dtype(each.dtype)
        about = {"id": name, "description": name}
        whole = dtype is not None and dtype.kind == "f" and each.dtype.kind in "iu"
        lost = whole and bool((np.abs(each.astype(np.float64)) > 2**24).any())
        if name == labels or dtype is None or lost or not np.isfinite(each.astype(dtype)).all():
            found.append({**about, "type": "label" if name == labels else "string", "values": [_text(v) for v in each]})
        else:
            found.append({**about, "type": "number", "data_type": dtype.name, "values": each.astype(dtype).tolist()})
    if groups:
        tags = sorted(groups)[:MOST_TAGS]
        member = np.stack([np.isin(ids, groups[tag]) for tag in tags])
        rows, at = np.nonzero(member.T)
        parts = np.split(at, np.searchsorted(rows, np.arange(1, len(ids))))
        plain = [re.sub(r"\s+", "_", tag) for tag in tags]
        found.append({"id": "groups", "type": "tags", "tags": plain, "values": [part.tolist() for part in parts]})
    inline = {"ids": [str(each) for each in ids.tolist()], "properties": found}
    return {"@type": "neuroglancer_segment_properties", "inline": inline}


def _text(value: Any) -> str:
    return "" if value is None or (isinstance(value, float | np.floating) and math.isnan(value)) else str(value)


# ---- shards


@dataclass(frozen=True, slots=True)
class Sharding:
    """How keys are sharded: ``neuroglancer_uint64_sharded_v1``, identity hash, no compression.

    A key's lowest ``preshift`` bits are dropped, the next ``minishard_bits`` give its minishard, the next
    ``shard_bits`` its shard.
    """

    preshift: int
    minishard_bits: int
    shard_bits: int

    @classmethod
    def of(cls, largest: int, count: int, a_minishard: int = 64, minishards: int = 64) -> "Sharding":
        """Sharding of ``count`` keys up to ``largest``, with suitable numbers of minishards, and keys in each."""
        bits = max(int(largest), 1).bit_length()
        shards = max(-(-count // (a_minishard * minishards)) - 1, 0).bit_length()
        mini = max(-(-min(count, a_minishard * minishards) // a_minishard) - 1, 0).bit_length()
        shards = min(shards, bits)
        mini = min(mini, bits - shards)
        return cls(bits - shards - mini, mini, shards)

    def info(self) -> dict[str, Any]:
        """Its JSON document."""
        return {
            "@type": "neuroglancer_uint64_sharded_v1",
            "preshift_bits": self.preshift,
            "hash": "identity",
            "minishard_bits": self.minishard_bits,
            "shard_bits": self.shard_bits,
            "minishard_index_encoding": "raw",
            "data_encoding": "raw",
        }

    def shards(self, keys: IntArray) -> IntArray:
        """Shard of each key."""
        return (keys >> (self.preshift + self.minishard_bits)) & ((1 << self.shard_bits) - 1)

    def span(self, shard: int) -> tuple[int, int]:
        """First and last key that a shard may hold."""
        bits = self.preshift + self.minishard_bits
        return shard << bits, ((shard + 1) << bits) - 1

    def name(self, shard: int) -> str:
        """Name of a shard's file."""
        return f"{shard:0{-(-self.shard_bits // 4)}x}.shard" if self.shard_bits else "0.shard"

    def encode(self, keys: IntArray, data: bytes, sizes: IntArray) -> bytes:
        """Bytes of a shard.

        Parameters
        ----------
        keys
            (n,) its keys, ascending.
        data, sizes
            What is stored for each, one after another, and (n,) lengths.
        """
        mini = (keys >> self.preshift) & ((1 << self.minishard_bits) - 1)
        order = np.argsort(mini, kind="stable")
        bounds = np.searchsorted(mini[order], np.arange((1 << self.minishard_bits) + 1))
        starts = np.cumsum(sizes) - sizes
        indexes, places, at = [], np.zeros((1 << self.minishard_bits, 2), "<u8"), len(data)
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            rows = order[bounds[number] : bounds[number + 1]]
            # Keys and starts are stored as differences: starts from the end of what comes before.
            ends = starts[rows] + sizes[rows]
            steps = np.diff(keys[rows], prepend=0), starts[rows] - np.concatenate([[0], ends[:-1]]), sizes[rows]
            index = np.stack(steps).astype("<u8")
            indexes.append(index.tobytes())
            places[number] = at, at + index.nbytes
            at += index.nbytes
        return places.tobytes() + data + b"".join(indexes)


# ---- the additive rule


def thresholds(counts: Sequence[IntArray], limit: int) -> Floats:
    """(L,) random numbers up to which annotations belong to each level, in [0, 1), the coarsest first; the last is 1.

    A level takes as many of the annotations that coarser ones do not have as fill its fullest cell to ``limit``, with
    the same share everywhere, so that each level is a random sample.

    Parameters
    ----------
    counts
        By level, the number of all annotations in each cell.
    """
    left, out = 1.0, []
    for of_level in counts:
        fullest = float(of_level.max(initial=0)) * left
        left -= left * min(1.0, limit / fullest if fullest else 1.0)
        out.append(1.0 - left)
    return np.asarray([*out[:-1], 1.0])


def uniform(ids: IntArray) -> Floats:
    """(N,) a random number in [0, 1) for each id, always the same."""
    return (hash_ids(0, ids) >> np.uint64(11)).astype(np.float64) / 2.0**53
