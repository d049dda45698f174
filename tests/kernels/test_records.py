import numpy as np

from zarr_vectors_lazy.kernels.rows import attribute_field, block_of, pack, record_dtype, row_numbers


def test_records_hold_what_was_packed_and_are_whole_words():
    attributes = {"number": (np.dtype("u1"), (3,)), "c": (np.dtype("c8"), ())}
    dtype = record_dtype((np.dtype("f4"), 3), attributes, owned=True)
    assert dtype.itemsize % 8 == 0
    values = {"owner": np.arange(5), "positions": np.arange(15.0).reshape(5, 3)}
    values |= {attribute_field("number"): np.arange(15).reshape(5, 3), attribute_field("c"): np.arange(5) * 1j}
    records = pack(dtype, {"number": row_numbers(2, 5), **values}, 5)
    for name, given in values.items():
        assert np.array_equal(records[name], given)
    assert block_of(records["number"]).tolist() == [2] * 5


def test_row_numbers_ascend_as_the_input():
    numbers = np.concatenate([row_numbers(block, 1000) for block in range(5)])
    assert (np.diff(numbers) > 0).all()
