"""Selections of polylines, streamlines and lines saved as new stores, compared with writes from memory.

The expected selection is computed from complete reads: a mask over the vertices along all objects, cut into runs.
"""

import dask
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.integration.out_of_core import SMALL, assert_same_files
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.read import layers, paths

BOX = ([-2.0, -3.0], [4.0, 3.0])


class Known:
    """Positions, attributes and owners of the vertices along all objects of a level, from a whole read."""

    def __init__(self, path, level=0):
        found = zvl.read_polylines(path, level=level)
        self.positions = np.concatenate([piece for pieces in found["polylines"] for piece in pieces])
        self.owners = np.repeat(found["object_ids"], [sum(map(len, pieces)) for pieces in found["polylines"]])
        self.attributes = found["vertex_attributes"]

    def inside(self, box):
        return ((self.positions >= box[0]) & (self.positions <= box[1])).all(axis=1)

    def touching(self, box):
        return np.isin(self.owners, self.owners[self.inside(box)])

    def middle(self):
        """A box around half of the vertices along each axis."""
        return np.quantile(self.positions.astype("f8"), [0.25, 0.75], axis=0)

    def begins(self, mask):
        """Whether a run of selected vertices begins at each."""
        first = np.diff(self.owners, prepend=self.owners[0] - 1) != 0
        return mask & (first | ~np.concatenate([[False], mask[:-1]]))

    def write(self, path, level, mask, **options):
        """Write the runs of a mask from memory."""
        begins = self.begins(mask)
        cuts = np.flatnonzero(np.diff(np.cumsum(begins)[mask])) + 1
        of = self.owners[begins].tolist()
        new = iter(range(int(level.objects.slots.max()) + 1, 10**9))
        ids = [next(new) if owner in of[:k] else owner for k, owner in enumerate(of)]
        table, groups = level.objects.attributes, level.objects.groups
        return zvl.write_polylines(
            path,
            np.split(self.positions[mask], cuts),
            vertex_attributes={name: np.split(values[mask], cuts) for name, values in self.attributes.items()},
            object_ids=ids,
            object_attributes={name: np.asarray(table[name].sel(object=of)) for name in table},
            groups={
                name: [i for member in groups[name].tolist() for i, o in zip(ids, of, strict=True) if o == member]
                for name in groups.names or groups
            },
            group_attributes={name: np.asarray(values) for name, values in groups.attributes.items()},
            geometry_type=level.store.geometry_types[0],
            axes=level.store.axes,
            units=level.store.units,
            **options,
        )


@pytest.fixture(scope="module", params=[None, 2], ids=["cells", "shards"])
def made(tmp_path_factory, request):
    """Paths that cross the box again and again, with all that objects have, their ids sparse and in no order."""
    rng = np.random.default_rng(5)
    lengths = [40, 1, 30, 2, 25, 17, 60, 9]
    lines = [rng.normal(0, 5, (n, 2)).astype("f4") for n in lengths]
    ids = [70, 3, 12, 41, 5, 33, 8, 90]
    path = tmp_path_factory.mktemp("made") / "paths"
    zvl.write_polylines(
        path,
        lines,
        chunk_shape=5.0,
        shard_shape=request.param,
        vertex_attributes={
            "t": [np.arange(n, dtype="f8") for n in lengths],
            "word": [np.asarray(["a", "bb", "ccc"])[np.arange(n) % 3] for n in lengths],
            "pair": [rng.integers(0, 9, (n, 2)) for n in lengths],
        },
        object_ids=ids,
        object_attributes={"w": rng.random(8), "name": np.asarray([f"o{i}" for i in ids])},
        groups={"left": [8, 70, 3], "none": [], "right": [90, 5, 70]},
        group_attributes={"size": np.asarray([3, 0, 3])},
    )
    return path, Known(path)


SELECTIONS = {
    "whole": (lambda level: level, lambda known: known.owners >= 0),
    "box": (lambda level: level.sel(BOX), lambda known: known.inside(BOX)),
    "where": (lambda level: level.sel(where=lambda t: t % 5 != 3), lambda known: known.attributes["t"] % 5 != 3),
    "box and where": (
        lambda level: level.sel(BOX, where={"t": (3, 30)}),
        lambda known: known.inside(BOX) & (known.attributes["t"] >= 3) & (known.attributes["t"] <= 30),
    ),
    "objects": (lambda level: level.sel(objects=[8, 70, 3]), lambda known: np.isin(known.owners, [8, 70, 3])),
    "box of a group": (
        lambda level: level.sel(BOX, groups=["right"]),
        lambda known: known.inside(BOX) & np.isin(known.owners, [90, 5, 70]),
    ),
    "whole objects": (
        lambda level: level.sel(([3, 3], [6, 8]), whole_objects=True),
        lambda known: known.touching(([3, 3], [6, 8])),
    ),
    "box of whole objects": (
        lambda level: level.sel(([3, 3], [6, 8]), whole_objects=True).sel(BOX),
        lambda known: known.touching(([3, 3], [6, 8])) & known.inside(BOX),
    ),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_selections(made, tmp_path, name):
    path, known = made
    select, mask_of = SELECTIONS[name]
    level, mask = zvl.open_zv(path, chunks=3)[0], mask_of(known)
    assert mask.any()
    interrupted = known.begins(mask).sum() > len(np.unique(known.owners[mask]))
    assert interrupted == (name not in {"whole", "objects", "whole objects"})
    with dask.config.set(SMALL):  # several tasks write
        summary = select(level).save(tmp_path / "new" / "store", chunk_shape=7.0, shard_shape=2)
    expected = known.write(tmp_path / "hand" / "store", level, mask, chunk_shape=7.0, shard_shape=2)
    assert summary == {**expected, "left_out": []}
    assert_same_files(tmp_path / "new", tmp_path / "hand")


# Stores of other writers state no sizes; in the last three, paths use a vertex twice, or share it with others.
ELSEWHERE = [
    ("tracts-0.9", 0),
    ("tracts-0.7", 0),
    ("paths-attributes-0.7", 0),
    ("paths-single-vertices", 0),
    ("paths-there-and-back", 0),
    ("paths-repeated-vertices", 0),
    ("pyramid-paths", 1),
    ("pyramid-paths", 2),
]


@pytest.mark.parametrize(("name", "index"), ELSEWHERE)
def test_boxes_of_stores_of_others(goldens, variety, tmp_path, name, index):
    path = goldens[name].path if name in goldens else variety(name)
    store, known = zvl.open_zv(path, chunks="auto"), Known(path, index)
    level, box = store[index], known.middle()
    options = {"chunk_shape": level.chunk_shape * 2}
    level.sel(box).save(tmp_path / "new" / "box", **options)
    known.write(tmp_path / "hand" / "box", level, known.inside(box), **options)
    level.sel(box, whole_objects=True).save(tmp_path / "new" / "objects", **options)
    known.write(tmp_path / "hand" / "objects", level, known.touching(box), **options)
    assert_same_files(tmp_path / "new", tmp_path / "hand")


def test_what_a_box_reads(made, tmp_path, monkeypatch):
    level = zvl.open_zv(made[0])[0]
    cells = []

    def counted(read):
        def reading(source, wanted):
            cells.extend(
                (want.spec.path.rpartition("/")[2], *coord) for want in wanted for coord in want.coords.tolist()
            )
            return read(source, wanted)

        return reading

    monkeypatch.setattr(layers, "read_batch", counted(layers.read_batch))
    monkeypatch.setattr(paths, "read_batch", counted(paths.read_batch))
    part = level.sel(BOX)
    with dask.config.set(scheduler="sync"):
        part.save(tmp_path / "new")
    touched = {tuple(key) for key in part.chunk_keys}
    assert len(touched) < level.chunk_count
    assert {cell[1:] for cell in cells} == touched
    # Fragment indexes are read once more first: only then is the place of a vertex along its path known.
    twice = {cell for cell in cells if cells.count(cell) > 1}
    assert {cell[0] for cell in twice} == {"vertex_fragments"}
    assert len(cells) == len(set(cells)) + len(touched)


def test_ids_that_cannot_be_had(tmp_path):
    line, last = np.asarray([[0, 0], [0, 5], [0, 1.0]]), 2**63 - 1
    zvl.write_polylines(tmp_path / "old", [line], chunk_shape=1.0, object_ids=[last])
    level = zvl.open_zv(tmp_path / "old")[0]
    level.save(tmp_path / "whole")
    assert zvl.open_zv(tmp_path / "whole")[0].objects.ids.tolist() == [last]
    with pytest.raises(SelectionError, match="need new ids, but there are none above 9223372036854775807"):
        level.sel(y=slice(0, 3)).save(tmp_path / "new")


def lines_by_hand(path, level, source, lines):
    ends = np.stack([source.positions[source.owners == i] for i in lines])
    return zvl.write_lines(path, ends, object_ids=lines, chunk_shape=level.chunk_shape, axes=level.store.axes)


def test_lines_with_both_ends(variety, tmp_path):
    path = variety("lines-across")
    level, known = zvl.open_zv(path)[0], Known(path)
    box = known.middle()
    lines = np.unique(known.owners[known.touching(box)])
    level.sel(box, whole_objects=True).save(tmp_path / "new" / "lines", bin_shape=level.chunk_shape)
    lines_by_hand(tmp_path / "hand" / "lines", level, known, lines)
    assert_same_files(tmp_path / "new", tmp_path / "hand")
    cut = len(lines) - np.isin(lines, [i for i in lines if known.inside(box)[known.owners == i].all()]).sum()
    assert cut
    with pytest.raises(
        SelectionError, match=f"{cut} lines? with only one selected end; select with whole_objects=True"
    ):
        level.sel(box).save(tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


def test_lines_that_have_not_two_vertices(variety, tmp_path):
    path = variety("pyramid-lines")
    level, known = zvl.open_zv(path)[1], Known(path, 1)
    ids, counts = np.unique(known.owners, return_counts=True)
    (odd,) = ids[counts != 2]
    for part in (level, level.sel(objects=[odd]), level.sel(known.middle(), whole_objects=True)):
        with pytest.raises(SelectionError, match="1 line without two vertices, which write_lines needs"):
            part.save(tmp_path / "other")
    even = np.setdiff1d(ids, odd)
    level.sel(objects=even).save(tmp_path / "new" / "lines", chunk_shape=level.chunk_shape)
    lines_by_hand(tmp_path / "hand" / "lines", level, known, even)
    assert_same_files(tmp_path / "new", tmp_path / "hand")
