"""Every reader of files on slightly wrong bytes: the result is a store, or our error that names the file.

``FUZZ`` says how many of each; without it a few, always the same.
"""

import random
import re
import warnings

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.bounds import at_most, within
from tests.faults.mutate import EXAMPLES, changed
from tests.files.rounds import loaded
from zarr_vectors_lazy.errors import ZVError
from zarr_vectors_lazy.files.formats import FORMATS

READ = {one.name: one for one in FORMATS if one.reads}
LARGE = ("LAS", "LAZ", "TRX")  # memory is allocated for what a header states, before that turns out to be wrong
MIB = 2**20
WORDS = (b"", b"nan", b"-1", b"0", b"1e400", b"99999999999", b"99999999999999999999", b"0x1", b"1/2/3", b"{}", b"''")
TEXTS = {
    "OBJ": "o a|v 0 0 0 1 0 0|v 1 0 0 0 1 0|v 0 1 0 0 0 1|vt 0 0|vn 0 0 1|f 1/1/1 2/1/1 \\| 3/1/1|f -1 -2 -3",
    "OFF": "COFF|3 1 0|0 0 0 255 0 0|1 0 0 0 255 0|0 1 0 0 0 255|3 0 1 2 1 0 0",
    "PLY": "ply|format ascii 1.0|element vertex 3|property float x|property float y|property uchar q|property float z|"
    "element face 2|property list uchar int vertex_index|end_header|0 0 7 0|1 0 8 0|0 1 9 0|3 0 1 2|4 0 1 2 0",
    "STL": "solid a|facet normal 0 0 1|outer loop|vertex 0 0 0|vertex 1 0 0|vertex 0 1 0|endloop|endfacet|endsolid a",
    "SWC": "# a|1 1 0 0 0 1 -1|2 3 1 0 0 1 1|3 3 2 0 0 .5 2",
    "VTK": "# vtk DataFile Version 5.1|a|ASCII|DATASET POLYDATA|POINTS 3 float|0 0 0 1 0 0 0 1 0|POLYGONS 2 3|"
    "OFFSETS vtktypeint64|0 3|CONNECTIVITY vtktypeint64|0 1 2|CELL_DATA 1|FIELD F 1|a 1 1 int|7",
    "edge list": "0 1 {'w': 0.5}|1 2 {'w': 2}",
}


@pytest.fixture(scope="module")
def samples(tmp_path_factory, goldens):
    """A small file or two of each format, by its name."""
    folder, found = tmp_path_factory.mktemp("samples"), {name: [] for name in READ}
    for name, text in TEXTS.items():
        found[name].append(text.replace("|", "\n").encode())
    at = np.random.default_rng(0).uniform(0, 9, (6, 3)).astype(np.float32)
    given = {"chunk_shape": 5, "vertex_attributes": {"a": np.arange(6), "b": np.arange(6) / 7}}
    zvl.write_points(folder / "points", at, object_ids=[0, 0, 0, 1, 1, 1], **given)
    zvl.write_mesh(folder / "mesh", at, [[0, 1, 2], [3, 4, 5]], link_attributes={"q": [1, 2]}, **given)
    zvl.write_graph(folder / "tree", at, [[1, 0], [2, 1], [3, 1]], kind="skeleton", **given)
    zvl.write_polylines(folder / "lines", (at, [0, 2, 6]), units="mm", **given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in READ.values():
            for store in ("points", "mesh", "tree", "lines"):
                level, path = zvl.open_zv(folder / store)[0], folder / f"{store}{one.suffixes[0]}"
                if one.writes and level.store.geometry_types[0] in one.holds and one.name != "edge list":
                    level.to_file(path, format=one.name, overwrite=True)
                    found[one.name].append(path.read_bytes())
    return found


def reworded(data, seed):
    """Text of which a word or two are others."""
    rng = random.Random(seed)
    words = re.split(rb"([ \n\t,;<>=\"]+)", data)
    for _ in range(rng.choice((1, 2))):
        words[rng.randrange(len(words))] = rng.choice(WORDS)
    return b"".join(words)


@pytest.mark.parametrize("name", sorted(READ))
def test_what_is_nearly_a_file(samples, tmp_path, name):
    (tmp_path / "a.nodes.csv").write_text("x,y,z\n0,0,0\n1,0,0\n2,0,0\n")
    path = tmp_path / f"a{READ[name].suffixes[0]}"
    for seed in range(EXAMPLES or 40):
        data = samples[name][seed % len(samples[name])]
        data = reworded(data, seed) if seed % 3 == 0 else changed(data, seed, 1 + seed % 3)
        path.write_bytes(data)
        with (
            within(20, (name, seed)),
            at_most(MIB * (4096 if name in LARGE else 256), (name, seed)),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            try:
                found = loaded(path)
                assert len(found.positions) >= 0
                if seed % 20 == 0:
                    zvl.ingest(path, tmp_path / "a.zarrvectors", overwrite=True)
            except ZVError as error:
                assert str(error)  # noqa: PT017  most are, not all
