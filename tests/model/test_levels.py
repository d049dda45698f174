import numpy as np
import pytest

from zarr_vectors_lazy.model.levels import LevelMeta


@pytest.mark.parametrize(
    ("chunk", "bins", "tile"),
    [
        ([10, 10], [10, 10], True),
        ([10, 10], [5, 2.5], True),
        ([0.3, 1.0], [0.1, 0.1], True),
        ([1.0, 1.0], [1 / 3, 1 / 7], True),
        ([10, 10], [4, 5], False),
        ([10, 10], [20, 10], False),
        ([10, 10], [10.1, 10], False),
    ],
)
def test_whether_bins_tile_chunks(chunk, bins, tile):
    level = LevelMeta(
        index=0,
        chunk_shape=np.array(chunk, float),
        bin_shape=np.array(bins, float),
        vertex_count=None,
        chunk_attribute=None,
        fragments_tile=False,
        attributes={},
    )
    assert level.bins_tile == tile
