"""Direct reads of chunks equal the arrays of a view: complete, in a box, chunk by chunk and object by object."""

import json

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import CorruptChunkError
from zarr_vectors_lazy.read.direct import ChunkReader

STORES = (
    *("graph", "graph-sharded", "graph-2d-f64", "graph-values-across-0.7", "links-self", "links-triples-directed"),
    *("skeleton", "skeleton-explicit", "skeleton-gaps-0.7", "packed-skeleton-0.7", "mesh", "mesh-quads-0.7"),
    *("mesh-objects", "lines-across", "paths-sharded", "paths-there-and-back", "n093-additive-polylines"),
)


def ordered(rows):
    return rows[np.lexsort(rows.T)] if rows.size else rows


@pytest.mark.parametrize("joins", ["edges", "faces"])
@pytest.mark.parametrize("name", STORES)
def test_rows_and_what_joins_them(variety, name, joins):
    level = zvl.open_zv(variety(name))[0]
    lo, hi = level.bounds
    for part in (level, level.sel(bbox=(lo, lo + 0.6 * (hi - lo)))):
        view = part._view
        reader, chunks = ChunkReader(view, joins), np.arange(len(view))
        read = reader.read(chunks)
        read = read.take(read.selected)
        assert np.array_equal(read.vertices, part.vertices.compute())
        assert read.joins.tolist() == getattr(part, joins).compute().tolist()
        wide, found = reader.width * read.vertices.shape[1], []
        for chunk in chunks.tolist():
            own = np.array([chunk])
            near = reader.reaches.around(own)
            ends = reader.reaches.ends[reader.reaches.near(own)]
            assert near.tolist() == sorted({chunk, *ends[ends >= 0].tolist()})
            one = reader.read(near, own=own)
            one = one.take(one.selected)
            found.append(one.vertices[one.joins].reshape(-1, wide))
        assert np.array_equal(ordered(np.concatenate(found)), ordered(read.vertices[read.joins].reshape(-1, wide)))


@pytest.mark.parametrize("kind", ["graph", "skeleton"])
def test_links_to_a_chunk_that_is_not_listed_are_refused_as_by_the_graph(tmp_path, kind):
    path, points = tmp_path / "s", np.array([[1, 1], [2, 2], [11, 1]], "f4")
    zvl.write_graph(path, points, np.array([[0, 1], [1, 2]]), kind=kind, chunk_shape=10.0, bin_shape=10.0)
    for name in ("vertices", "vertex_fragments"):
        document = path / "0" / name / "zarr.json"
        stated = json.loads(document.read_text())
        stated["attributes"].pop("zarr_vectors_lazy", None)
        stated["attributes"]["nonempty_chunks"].remove("1.0")
        document.write_text(json.dumps(stated))
    level = zvl.open_zv(path)[0]
    with pytest.raises(CorruptChunkError, match="refers to a chunk that the level does not list") as of_graph:
        level.edges.compute()
    with pytest.raises(CorruptChunkError) as direct:
        ChunkReader(level._view, "edges").read(np.arange(len(level._view)))
    assert str(direct.value) == str(of_graph.value)
