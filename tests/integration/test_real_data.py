"""The real data of the golden stores, written by us in another order, read back as expected."""

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.integration.written import check_reference

CASES = {"cloud-0.9": {}, "neuron-0.9": {"compressor": "blosc"}, "surface-0.9": {}, "tracts-0.9": {"shard_shape": 2}}


def canonical(*values):
    """Rows of all tables side by side, sorted."""
    table = np.concatenate([np.asarray(v, "f8").reshape(len(v), -1) for v in values], axis=1)
    return table[np.lexsort(table.T[::-1])]


def turned(faces):
    """(F, L, D) corners, each face turned so that its smallest corner comes first: its winding stays."""
    _, rank = np.unique(faces.reshape(-1, faces.shape[2]), axis=0, return_inverse=True)
    first = rank.reshape(faces.shape[:2]).argmin(axis=1)[:, None]
    at = (first + np.arange(faces.shape[1])) % faces.shape[1]
    return np.take_along_axis(faces, at[:, :, None], axis=1)


class Input:
    """Level 0 of a golden store as arrays for a writer, rows shuffled."""

    def __init__(self, level):
        self.order = np.random.default_rng(1).permutation(level.vertex_count)
        self.place = np.argsort(self.order)
        self.positions = level.vertices.compute()[self.order]
        self.attributes = {name: level.attributes[name].compute()[self.order] for name in level.attribute_names}
        place_of = {tuple(p): row for row, p in enumerate(self.positions.tolist())}
        self.objects = {}
        self.ids = np.zeros(level.vertex_count, np.int64)
        for i in level.objects.ids.tolist() if len(place_of) == level.vertex_count else []:
            rows = np.array([place_of[tuple(p)] for p in level.objects[i].compute().tolist()])
            self.objects[i] = rows
            self.ids[rows] = i

    def write(self, path, level, options):
        options = {"chunk_shape": level.chunk_shape, "bounds": level.store.bounds, **options}
        dense = {name: array.values for name, array in level.objects.attributes.items()}
        (geometry,) = level.store.geometry_types
        if geometry == "streamline":
            parts = list(self.objects.values())
            values = {name: [array[rows] for rows in parts] for name, array in self.attributes.items()}
            lines = [self.positions[rows] for rows in parts]
            zvl.write_polylines(path, lines, vertex_attributes=values, object_attributes=dense, **options)
            return
        options |= {"vertex_attributes": self.attributes}
        if self.objects:
            options |= {"object_ids": self.ids, "object_attributes": dense}
        match geometry:
            case "point_cloud":
                zvl.write_points(path, self.positions, **options)
            case "skeleton":
                zvl.write_graph(path, self.positions, self.place[level.edges.compute()], kind="skeleton", **options)
            case "mesh":
                zvl.write_mesh(path, self.positions, self.place[level.faces.compute()], **options)


@pytest.mark.parametrize("name", CASES)
def test_written_by_us(goldens, tmp_path, name):
    golden, expected = zvl.open_zv(goldens[name].path)[0], goldens[name].expected
    given = Input(golden)
    assert given.objects or name == "surface-0.9"
    given.write(tmp_path / "x", golden, CASES[name])
    check_reference(tmp_path / "x")
    level = zvl.open_zv(tmp_path / "x")[0]
    positions = level.vertices.compute()
    names = sorted(level.attribute_names)
    assert [f"L0/attr/{n}" for n in names] == sorted(key for key in expected if key.startswith("L0/attr/"))
    found = canonical(positions, *(level.attributes[n].compute() for n in names))
    assert np.array_equal(found, canonical(expected["L0/positions"], *(expected[f"L0/attr/{n}"] for n in names)))
    if "L0/edges_child_parent" in expected:
        pairs = positions[level.edges.compute()].reshape(-1, 6)
        assert np.array_equal(canonical(pairs), canonical(expected["L0/edges_child_parent"].reshape(-1, 6)))
    if "L0/faces" in expected:
        faces = turned(positions[level.faces.compute()])
        assert np.array_equal(canonical(faces), canonical(turned(expected["L0/faces"])))
    offsets = expected["L0/objects/offsets"]
    for at, i in enumerate(expected["L0/objects/ids"].tolist() if given.objects else []):
        path = level.objects[i].compute()
        wanted = expected["L0/objects/vertices"][offsets[at] : offsets[at + 1]]
        ordered = level.store.geometry_types == ("streamline",)
        assert np.array_equal(path, wanted) if ordered else np.array_equal(canonical(path), canonical(wanted))
    for key, values in level.objects.attributes.items():
        assert np.array_equal(values, expected[f"L0/object_attr/{key}"])
