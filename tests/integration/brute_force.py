"""Compare a selection with the rows of a mask over the complete, computed level."""

import dask
import numpy as np

from tests.integration.collect import collect_rows, compute_together, differing, picked, same_bytes


def part_of(level, store):
    """Everything of a selection that `Whole.cut` knows."""
    return collect_rows(store, level) | {f"links/{delta}": level.links(delta) for delta in level.deltas}


def check(store, level, data, mask):
    """Compare a selection with the rows of a mask: rows, attributes, edges, faces, links; same order, same bytes."""
    found = compute_together({key: a for key, a in part_of(level, store).items() if not key.startswith("codes/")})
    expected = data.cut(mask)
    assert set(found) == set(expected)
    assert not differing(found, expected)


def check_objects(part, known, mask):
    """Objects of a selection: those with a selected vertex, each cut to the rows of a mask."""
    cut = {int(i): known.paths[int(i)][mask(known.paths[int(i)])] for i in known.ids}
    cut = {i: path for i, path in cut.items() if len(path)}
    ids = part.objects.ids
    assert ids.dtype == np.int64
    assert ids.tolist() == [int(i) for i in known.ids if int(i) in cut]
    assert part.objects.slots.tolist() == ids.tolist()
    assert all(i in part.objects for i in cut)
    assert len(part.objects) == len(cut)
    vertices, offsets = dask.compute(*part.objects.ragged())
    assert offsets[0] == 0
    assert np.array_equal(np.diff(offsets), [len(path) for path in cut.values()])
    assert same_bytes(vertices, np.concatenate([known.positions[:0], *cut.values()]))
    for i in picked(ids, 2).tolist():
        assert same_bytes(part.objects[i].compute(), cut[i])
