"""The stores that the suite runs on, and how tests change copies of them. A new generation is one more entry here."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from tests.conftest import STORES

CELLS = "c"


@dataclass(frozen=True)
class Copy:
    """A store of format 0.9 in a folder that a test may change."""

    path: Path
    requests_per_cell: ClassVar[int] = 1
    lists_chunks: ClassVar[bool] = True
    head_nbytes: ClassVar[int] = 32

    @classmethod
    def of(cls, golden, where):
        """Copy the metadata; folders of cells are links to the golden store's until one of them changes."""
        path = where / golden.path.name
        shutil.copytree(golden.path, path, ignore=lambda _folder, names: [name for name in names if name == CELLS])
        for cells in golden.path.rglob(CELLS):
            (path / cells.relative_to(golden.path)).symlink_to(cells, target_is_directory=True)
        return cls(path)

    def own(self, key):
        """Path of an object that may be changed, whose folder of cells is now a copy instead of a link."""
        array, _, cell = key.partition(f"/{CELLS}/")
        folder = self.path / array / CELLS
        if cell and folder.is_symlink():
            golden = folder.resolve()
            folder.unlink()
            shutil.copytree(golden, folder)
        return self.path / key

    def put(self, key, data):
        """Replace an object."""
        file = self.own(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def remove(self, key):
        """Delete an object."""
        self.own(key).unlink()

    def read(self, node=""):
        return json.loads((self.path / node / "zarr.json").read_text())

    def write(self, doc, node=""):
        self.put(f"{node}/zarr.json" if node else "zarr.json", json.dumps(doc).encode())

    def edit(self, change, node=""):
        """Apply ``change`` to the document of a node, in place."""
        doc = self.read(node)
        change(doc)
        self.write(doc, node)

    def listed(self, array):
        """Dotted coordinates of the cells that an array lists."""
        return self.read(array)["attributes"]["nonempty_chunks"]

    def key(self, array, dotted):
        """Object key of a cell."""
        origin = self.read(array)["attributes"].get("chunk_grid_origin", [0] * len(dotted.split(".")))
        return "/".join([array, "c", *(str(int(c) - o) for c, o in zip(dotted.split("."), origin, strict=True))])

    def cell(self, array, dotted):
        return self.path / self.key(array, dotted)

    def keys(self, array, chunks):
        """Object keys of the cells of chunks."""
        return {self.key(array, ".".join(map(str, chunk))) for chunk in chunks}

    def counts(self, array="0/vertices"):
        """Vertices of each listed chunk, in listed order; 3 axes of float32, uncompressed."""
        return [(self.cell(array, dotted).stat().st_size - 8) // 12 for dotted in self.listed(array)]

    def stamp(self, counts, array="0/vertices"):
        """Add the counts that our own writers store to an array."""
        self.edit(lambda doc: doc["attributes"].update(zarr_vectors_lazy={"vertex_counts": counts}), array)

    def consolidate(self, keep=lambda _path: True):
        """Write the root's consolidated metadata, from the nodes that there are."""
        paths = sorted(node.parent.relative_to(self.path).as_posix() for node in self.path.glob("**/zarr.json"))
        nodes = {path: self.read(path) for path in paths if path != "." and keep(path)}
        inline = {"kind": "inline", "must_understand": False, "metadata": nodes}
        self.edit(lambda doc: doc.update(consolidated_metadata=inline))
        return self


class Copy07(Copy):
    """A store of generation 0.7: each cell is an array of its own, below the group of its family."""

    requests_per_cell = 2
    lists_chunks = False
    head_nbytes = 1024  # the metadata of a cell

    @classmethod
    def of(cls, golden, where):
        """Copy all of it."""
        path = where / golden.path.name
        shutil.copytree(golden.path, path)
        return cls(path)

    def own(self, key):
        return self.path / key

    def listed(self, array):
        return sorted(node.parent.name for node in (self.path / array).glob("*/zarr.json"))

    def key(self, array, dotted):
        return f"{array}/{dotted}/c/0"

    def counts(self, array="0/vertices"):
        return [self.read(f"{array}/{dotted}")["shape"][0] // 12 for dotted in self.listed(array)]

    def stamp(self, counts, array="0/vertices"):
        raise NotImplementedError("0.7 stores carry no counts")

    def consolidate(self, keep=lambda _path: True):
        """As `zvl.consolidate` does it: every node, groups that Zarr wants above them, and the mark that says so."""
        super().consolidate(keep)
        self.edit(lambda doc: complete(doc["consolidated_metadata"]))
        return self


def complete(inline):
    """Add the groups above nodes, without which Zarr does not open the store, and the mark of completeness."""
    nodes = inline["metadata"]
    for path in list(nodes):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            nodes.setdefault("/".join(parts[:depth]), {"zarr_format": 3, "node_type": "group", "attributes": {}})
    inline["metadata"] = dict(sorted(nodes.items()))  # Zarr needs a group before its contents
    inline["zarr_vectors_lazy"] = {"complete": True}


GENERATIONS = {"0.9": Copy, "0.7": Copy07}
GOLDEN = [name for name in STORES if name.rpartition("-")[2] in GENERATIONS]
COPIES_07 = [name for name in GOLDEN if name.endswith("-0.7")]
STAMPED = [name for name in GOLDEN if name.endswith("-0.9")]  # stores that may have counts


def copy_of(golden, where):
    """A copy that the test may change, of any generation."""
    return GENERATIONS[golden.name.rpartition("-")[2]].of(golden, where)


def write_grid_store(path, extent):
    """Metadata alone of a store that lists ``extent ** 3`` chunks, each 10 units wide."""
    chunks = np.stack(np.meshgrid(*[np.arange(extent)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    copy = Copy(path)
    transforms = [{"type": "scale", "scale": [1.0] * 3}, {"type": "translation", "translation": [5.0] * 3}]
    block = {
        "zv_version": "0.9.2",
        "chunk_shape": [10.0] * 3,
        "bounds": [[0.0] * 3, [10.0 * extent] * 3],
        "geometry_types": ["point_cloud"],
    }
    multiscale = {
        "version": "0.4",
        "name": "default",
        "axes": [{"name": name, "type": "space"} for name in "xyz"],
        "datasets": [{"path": "0", "coordinateTransformations": transforms}],
        "metadata": {"format": "zarr_vectors"},
    }
    group = {"zarr_format": 3, "node_type": "group"}
    copy.write({**group, "attributes": {"zarr_vectors": block, "multiscales": [multiscale]}})
    level = {"level": 0, "vertex_count": 100 * len(chunks), "arrays_present": ["vertices", "vertex_fragments"]}
    copy.write({**group, "attributes": {"zarr_vectors_level": level}}, "0")
    for name in ("vertices", "vertex_fragments"):
        attributes = {
            "zv_array": name,
            "nonempty_chunks": sorted(".".join(map(str, chunk)) for chunk in chunks.tolist()),
            **({"dtype": "float32", "encoding": "raw"} if name == "vertices" else {}),
        }
        array = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [extent] * 3,
            "data_type": "variable_length_bytes",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 1, 1]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": "",
            "codecs": [{"name": "vlen-bytes", "configuration": {}}],
            "attributes": attributes,
        }
        copy.write(array, f"0/{name}")
    return path
