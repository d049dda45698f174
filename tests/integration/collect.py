"""Everything that a store offers, as one mapping of arrays, and complete levels for brute force."""

from dataclasses import dataclass

import dask
import numpy as np

from tests.conftest import DATA

LINKED = {"line", "polyline", "streamline", "graph", "skeleton"}


def boxes_of(name, level):
    """The boxes that the expected files ask a level for."""
    (path,) = DATA.glob(f"*/{name}.expected.npz")
    with np.load(path) as expected:
        found = [q for q in range(3) if f"L{level}/bbox{q}/lo" in expected.files]
        return {q: (expected[f"L{level}/bbox{q}/lo"], expected[f"L{level}/bbox{q}/hi"]) for q in found}


def picked(ids, n=6):
    """At most ``n`` of the ids, spread over them."""
    return ids if len(ids) <= n else ids[np.unique(np.linspace(0, len(ids) - 1, n).astype(int))]


def collect(store, name, *, depth="all"):
    """Arrays by name, Dask arrays wherever the store gives them.

    Parameters
    ----------
    depth
        ``"all"``: of all levels. ``"some"``, for servers that take their time: of the finest and the coarsest level,
        with a box and an object of each. ``"few"``: of these the rows, an object, and of a box what joins its rows.
    """
    out = {}
    for index in store.levels if depth == "all" else sorted({store.levels[0], store.levels[-1]}):
        level, boxes = store[index], boxes_of(name, index)
        if depth == "few":
            i = int(level.objects.ids[-1])
            parts = {"vertices": level.vertices, "objects/ids": level.objects.ids, f"object/{i}": level.objects[i]}
            parts |= {f"attr/{name}": array for name, array in level.attributes.items()}
        else:
            parts = collect_level(store, level, 6 if depth == "all" else 1)
        for q in boxes if depth == "all" else (0,):
            parts |= {f"bbox{q}/{key}": a for key, a in collect_rows(store, level.sel(bbox=boxes[q])).items()}
        out |= {f"L{index}/{key}": value for key, value in parts.items()}
    return out


def collect_rows(store, level):
    """Rows, attributes and what joins the rows."""
    out = {"vertices": level.vertices}
    out |= {f"attr/{name}": array for name, array in level.attributes.items()}
    out |= {f"codes/{name}": array for name, array in level.codes.items()}
    if LINKED & set(store.geometry_types):
        out["edges"] = level.edges
    if "mesh" in store.geometry_types:
        out["faces"] = level.faces
    return out


def collect_level(store, level, n_objects):
    """Rows, links, objects, groups of a whole level."""
    out = collect_rows(store, level)
    out |= {f"links/{delta}": level.links(delta) for delta in level.deltas}
    out |= {f"link_attr/{name}": array for name, array in level.link_attributes.items()}
    objects = level.objects
    out |= {"objects/ids": objects.ids, "objects/slots": objects.slots}
    if len(objects):
        out["objects/vertices"], out["objects/offsets"] = objects.ragged()
    out |= {f"object/{i}": objects[i] for i in picked(objects.ids, n_objects).tolist()}
    attributes = objects.attributes
    out |= {f"object_attr/{key}": attributes[key].data for key in attributes.data_vars}  # .values: xarray, classic mode
    if attributes.data_vars:
        out["object_attr_ids"] = attributes["object"].values
    out |= {f"group/{key}": members for key, members in objects.groups.items()}
    out |= {f"group/{key}": objects.groups[key] for key in objects.groups.names}
    out |= {f"group_attr/{key}": values.data for key, values in objects.groups.attributes.items()}
    return out


def compute_apart(members):
    """Compute each array by itself."""
    computed = {key: value.compute() if dask.is_dask_collection(value) else value for key, value in members.items()}
    return {key: np.asarray(value) for key, value in computed.items()}


def compute_together(members):
    """Compute all arrays in one go."""
    return {key: np.asarray(value) for key, value in dask.compute(members)[0].items()}


def differing(found, expected):
    """Names whose dtype, shape or bytes differ from what is expected, or that are not expected."""
    assert found
    return sorted(key for key in found if key not in expected or not same_bytes(found[key], expected[key]))


def same_bytes(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def row_bytes(rows):
    """(n,) the bytes of each row as one value."""
    return np.ascontiguousarray(rows).view(f"V{rows.dtype.itemsize * rows.shape[1]}").ravel()


@dataclass(frozen=True, kw_only=True, eq=False)
class Whole:
    """A level whole and computed; `cut` gives what a selection of some of its rows must give."""

    positions: np.ndarray
    attributes: dict
    edges: np.ndarray | None
    faces: np.ndarray | None
    links: dict
    ids: np.ndarray
    paths: dict

    @classmethod
    def of(cls, level, results, index):
        at = {key.removeprefix(f"L{index}/"): value for key, value in results.items() if key.startswith(f"L{index}/")}
        ids = at["objects/ids"]
        offsets, flat = at.get("objects/offsets", np.zeros(1, int)), at.get("objects/vertices")
        return cls(
            positions=at["vertices"],
            attributes={name: at[f"attr/{name}"] for name in level.attribute_names},
            edges=at.get("edges"),
            faces=at.get("faces"),
            links={delta: at[f"links/{delta}"] for delta in level.deltas},
            ids=ids,
            paths={int(i): flat[offsets[k] : offsets[k + 1]] for k, i in enumerate(ids)},
        )

    def inside(self, lo, hi, points=None):
        """Mask of the points, by default all rows, that lie in a box, both faces inclusive."""
        points = np.asarray(self.positions if points is None else points, np.float64)
        return ((points >= np.asarray(lo, np.float64)) & (points <= np.asarray(hi, np.float64))).all(axis=1)

    def of_objects(self, ids):
        """Mask of the rows of some objects; positions tell rows apart."""
        assert len(np.unique(row_bytes(self.positions))) == len(self.positions)
        wanted = np.concatenate([self.positions[:0], *(self.paths[int(i)] for i in ids)])
        return np.isin(row_bytes(self.positions), row_bytes(wanted))

    def among(self, points, mask):
        """Mask of the points that are rows in a mask."""
        return np.isin(row_bytes(points), row_bytes(self.positions[mask]))

    def cut(self, mask):
        """Rows, attributes, edges, faces and links of the rows in a mask, by the names of `collect_rows`."""
        new = np.where(mask, np.cumsum(mask) - 1, -1)
        out = {"vertices": self.positions[mask]}
        out |= {f"attr/{name}": values[mask] for name, values in self.attributes.items()}
        for key, rows in (("edges", self.edges), ("faces", self.faces), ("links/0", self.links.get(0))):
            if rows is not None:
                out[key] = new[rows[mask[rows].all(axis=1)]]
        for delta, rows in self.links.items():
            if delta:
                kept = rows[mask[rows[:, 0]]]
                out[f"links/{delta}"] = np.column_stack([new[kept[:, 0]], kept[:, 1:]])
        return out
