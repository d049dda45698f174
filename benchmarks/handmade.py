"""Write a Zarr Vectors 0.9 point cloud with ``json`` and ``struct`` alone.

For what must work without the reference package: the quick test, and stores whose metadata lists far more chunks
than there should be files. The bytes are those that zarr-vectors 0.9.2 writes.
"""

import itertools
import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

EDGE = 100.0  # of a chunk, in the store's units
AXES = ("x", "y", "z")
Chunk = tuple[int, int, int]


def write_store(
    folder: Path, side: int, cells: Mapping[Chunk, bytes], *, vertex_count: int, listed: bool = False
) -> None:
    """Write a store of ``side`` ** 3 chunks: metadata, and the given cells.

    Parameters
    ----------
    folder
        Made by this; must not exist.
    side
        Chunks along each of the three axes; the first is chunk 0.
    cells
        Rows of a chunk's vertices as little-endian float32.
    vertex_count
        What the level says it holds.
    listed
        Whether the metadata lists every chunk of the grid, even those that have no cell here.
    """
    chunks = itertools.product(range(side), repeat=3) if listed else cells
    nonempty = sorted(".".join(map(str, chunk)) for chunk in chunks)
    write_json(folder, group_metadata(root_attributes(side)))
    level = {"level": 0, "vertex_count": vertex_count, "arrays_present": ["vertices"], "fragments_tile": True}
    write_json(folder / "0", group_metadata({"zarr_vectors_level": level}))
    vertices = {"zv_array": "vertices", "dtype": "float32", "encoding": "raw", "nonempty_chunks": nonempty}
    write_json(folder / "0" / "vertices", array_metadata(side, vertices))
    fragments = {"zv_array": "vertex_fragments", "encoding": "fragment_index_v1", "nonempty_chunks": nonempty}
    write_json(folder / "0" / "vertex_fragments", array_metadata(side, fragments))
    for chunk, rows in cells.items():
        write_cell(folder / "0" / "vertices", chunk, rows)
        write_cell(folder / "0" / "vertex_fragments", chunk, one_fragment(len(rows) // 12))


def write_points(folder: Path, positions: np.ndarray, side: int) -> None:
    """Write points, (N, 3) float32 inside the grid of ``side`` ** 3 chunks, each to its chunk."""
    chunks = (positions.astype("float64") // EDGE).astype(int)
    rows: dict[Chunk, list[bytes]] = {}
    for chunk, row in zip(map(tuple, chunks.tolist()), positions.astype("<f4"), strict=True):
        rows.setdefault(chunk, []).append(row.tobytes())
    cells = {chunk: b"".join(rows[chunk]) for chunk in sorted(rows)}
    write_store(folder, side, cells, vertex_count=len(positions))


def write_json(folder: Path, metadata: dict[str, object]) -> None:
    """Write a node's ``zarr.json``, spaced as zarr-python writes it."""
    folder.mkdir(parents=True)
    (folder / "zarr.json").write_text(json.dumps(metadata, indent=2))


def write_cell(array: Path, chunk: Chunk, payload: bytes) -> None:
    """Write a chunk of one variable-length element, without compression."""
    path = array.joinpath("c", *map(str, chunk))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<II", 1, len(payload)) + payload)


def one_fragment(rows: int) -> bytes:
    """Fragment index of a chunk whose rows are one fragment: header, bitmap, range, and offsets without row lists."""
    return struct.pack("<IHHII", 0x5A564647, 1, 0, 1, 1) + struct.pack("<QqqI", 1, 0, rows, 0)


def group_metadata(attributes: dict[str, object]) -> dict[str, object]:
    """``zarr.json`` of a group."""
    return {"attributes": attributes, "zarr_format": 3, "node_type": "group"}


def array_metadata(side: int, attributes: dict[str, object]) -> dict[str, object]:
    """``zarr.json`` of an array with one variable-length element per chunk."""
    return {
        "shape": [side] * 3,
        "data_type": "variable_length_bytes",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 1, 1]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "",
        "codecs": [{"name": "vlen-bytes", "configuration": {}}],
        "attributes": attributes,
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def root_attributes(side: int) -> dict[str, object]:
    """Attributes of the root: grid, bounds, axes, and one level."""
    transforms = [{"type": "scale", "scale": [1.0] * 3}, {"type": "translation", "translation": [EDGE / 2] * 3}]
    return {
        "zarr_vectors": {
            "zv_version": "0.9.2",
            "chunk_shape": [EDGE] * 3,
            "bounds": [[0.0] * 3, [side * EDGE - 0.01] * 3],
            "geometry_types": ["point_cloud"],
            "links_convention": "implicit_sequential",
        },
        "multiscales": [
            {
                "version": "0.4",
                "name": "default",
                "axes": [{"name": name, "type": "space"} for name in AXES],
                "datasets": [{"path": "0", "coordinateTransformations": transforms}],
                "metadata": {"format": "zarr_vectors"},
            }
        ],
    }
