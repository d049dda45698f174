"""Objects as awkward arrays."""

import awkward
import numpy as np

import zarr_vectors_lazy as zvl


def test_objects_are_lists_of_positions(tracts):
    objects = zvl.open_zv(tracts)[0].objects
    found = objects.to_awkward()
    assert str(found.type) == "110 * var * 3 * float32"
    for number in (0, 57, 109):
        assert np.array_equal(found[number], objects[int(objects.ids[number])].compute())
    assert awkward.num(found, axis=1).to_list() == np.diff(objects.ragged()[1].compute()).tolist()
