"""Objects, groups and conditions select the same as brute force over the complete, computed level."""

import numpy as np
import pytest

from tests.integration.brute_force import check, check_objects
from tests.integration.collect import boxes_of, picked, same_bytes
from zarr_vectors_lazy.errors import SelectionError


def test_objects(golden, open_at, whole):
    store = open_at(golden.name)
    for level in store:
        known = whole(golden.name, level.index)
        chosen = picked(known.ids, 3)
        check(store, level.sel(objects=chosen), known, known.of_objects(chosen))
        check(store, level.sel(objects=int(chosen[0])), known, known.of_objects(chosen[:1]))
        check(store, level.sel(objects=[]), known, known.of_objects([]))
        part = level.sel(objects=chosen)
        assert part.objects.ids.tolist() == chosen.tolist()
        assert same_bytes(part.objects[int(chosen[-1])].compute(), known.paths[int(chosen[-1])])


def test_groups(golden, open_at, whole):
    level = open_at(golden.name)[0]
    known = whole(golden.name, 0)
    groups = level.objects.groups
    for key in [*groups, *groups.names]:
        check(level.store, level.sel(groups=key), known, known.of_objects(groups[key]))
    if len(groups) > 1:
        both = np.union1d(groups[0], groups[1])
        first = groups.names[0] if groups.names else 0
        check(level.store, level.sel(groups=[first, 1]), known, known.of_objects(both))
        one = groups[0][:1]
        check(level.store, level.sel(groups=0, objects=[*one, *groups[1]]), known, known.of_objects(one))


def test_objects_in_a_box(golden, open_at, whole):
    store = open_at(golden.name)
    for level in store:
        known = whole(golden.name, level.index)
        chosen = picked(known.ids, 4)
        lo, hi = boxes_of(golden.name, level.index)[1]
        mask = known.of_objects(chosen) & known.inside(lo, hi)
        check(store, level.sel(bbox=(lo, hi), objects=chosen), known, mask)
        assert same_bytes(level.sel(objects=chosen).sel(bbox=(lo, hi)).vertices.compute(), known.positions[mask])
        part = level.sel(bbox=(lo, hi)).sel(objects=chosen)
        assert same_bytes(part.vertices.compute(), known.positions[mask])
        assert part.objects.ids.tolist() == [i for i in chosen.tolist() if known.inside(lo, hi, known.paths[i]).any()]


@pytest.mark.parametrize("q", [0, 2])
def test_whole_objects(golden, open_at, whole, q):
    store = open_at(golden.name)
    for level in store:
        known = whole(golden.name, level.index)
        lo, hi = boxes_of(golden.name, level.index)[q]
        touching = [int(i) for i in known.ids if known.inside(lo, hi, known.paths[int(i)]).any()]
        mask = known.of_objects(touching)
        part = level.sel(bbox=(lo, hi), whole_objects=True)
        check(store, part, known, mask)
        # A vertex that several objects share on a coarse level is selected with any of them, but not the others.
        assert part.objects.ids.tolist() == touching
        few = picked(known.ids, 3)
        narrow = level.sel(bbox=(lo, hi), whole_objects=True, objects=few)
        assert same_bytes(
            narrow.vertices.compute(), known.positions[known.of_objects([i for i in few.tolist() if i in touching])]
        )
        if level.index == 0 and q == 0:
            check_objects(part, known, lambda path, kept=mask, known=known: known.among(path, kept))


@pytest.fixture(params=["range", "open", "callable", "two", "strict"])
def condition(request, golden, whole):
    """(where=, mask of the rows that meet it) of level 0."""
    values = {name: array for name, array in whole(golden.name, 0).attributes.items() if array.ndim == 1}
    a, b = min(values), max(values)
    first, second = values[a], values[b]
    lo, hi = np.percentile(first, [25, 75]).astype(first.dtype)
    middle = np.median(second)
    if request.param == "range":
        return {a: (lo, hi)}, (first >= lo) & (first <= hi)
    if request.param == "open":
        return {a: (None, hi)}, first <= hi
    if request.param == "two":
        return {a: (lo, None), b: (None, middle)}, (first >= lo) & (second <= middle)
    namespace = {"middle": middle, "lo": lo}
    code = f"lambda {a}, {b}: ({b} > middle) & ({a} != lo)" if a != b else f"lambda {a}: {a} > middle"
    mask = (second > middle) & (first != lo) if a != b else first > middle
    if request.param == "strict":
        return {a: (first[0], first[0])}, first == first[0]
    return eval(code, namespace), mask  # parameters are named as the store's attributes are


def test_where(golden, open_at, whole, condition):
    where, mask = condition
    level, known = open_at(golden.name)[0], whole(golden.name, 0)
    check(level.store, level.sel(where=where), known, mask)
    lo, hi = boxes_of(golden.name, 0)[1]
    check(level.store, level.sel(bbox=(lo, hi), where=where), known, mask & known.inside(lo, hi))
    chosen = picked(known.ids, 2)
    found = level.sel(where=where).sel(objects=chosen).vertices.compute()
    assert same_bytes(found, known.positions[mask & known.of_objects(chosen)])


def test_where_on_a_vector(open_at, whole):
    level, known = open_at("tracts-0.9")[0], whole("tracts-0.9", 0)
    part = level.sel(where=lambda tangent: tangent[:, 2] > 0)
    check(level.store, part, known, known.attributes["tangent"][:, 2] > 0)


def test_where_must_give_a_mask(open_at):
    level = open_at("tracts-0.9")[0]
    for wrong in (lambda index: index, lambda index: index[:1] > 0, lambda index: True):
        with pytest.raises(SelectionError, match="mask"):
            level.sel(where=wrong).vertices.compute()
