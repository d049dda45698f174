import numpy as np

from zarr_vectors_lazy.access import paths
from zarr_vectors_lazy.access.paths import PathBlock, trace_paths
from zarr_vectors_lazy.model.objects import Manifests


def test_objects_of_which_no_chunk_is_in_the_view(monkeypatch):
    manifests = Manifests(np.asarray([0, 2]), np.asarray([[0, 1], [3, 4]]), np.asarray([0, 7]))
    monkeypatch.setattr(paths, "read_manifests", lambda source, index, objects: manifests)
    block = PathBlock(
        source=None,
        index=None,
        fragments=None,
        vertices=None,
        objects=range(1),
        chunks=np.empty(0, np.int64),
        coords=np.empty((0, 2), np.int64),
        whole=False,
    )
    found = trace_paths(block, [])
    assert len(found.rows) == len(found.owners) == 0
