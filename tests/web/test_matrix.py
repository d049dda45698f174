"""Each geometry with each codec, from disk and from a bucket: the same bytes as a raw store."""

import json
import struct

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.web.served import called
from tests.web.shapes import SHAPES, recoded
from zarr_vectors_lazy.convert.precomputed_level import PrecomputedLevel
from zarr_vectors_lazy.web.neuroglancer import FOLDER, Precomputed
from zarr_vectors_lazy.web.server import StoreApp

pytestmark = pytest.mark.emulator
RAW = {"compressor": None, "checksum": False}
WRITTEN = {"none": RAW, "zstd": {}, "blosc": {"compressor": "blosc"}, "sharded": {"shard_shape": 2}}
SMALL = {"points": 300, "lines": 4, "skeletons": 30, "graph": 30, "mesh": 6}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Raw stores by geometry."""
    where = tmp_path_factory.mktemp("raw")
    for shape, write in SHAPES.items():
        write(where / shape, n=SMALL[shape], chunk=40, **RAW)
    return where


def keys_of(level):
    """Every key of a level's sources that has something."""
    for kind in level.kinds:
        yield f"{kind}/info"
        if kind in {"points", "lines"}:
            for cells in level.cells:
                yield from (f"{kind}/{cells.grid.key}/{'_'.join(map(str, c))}" for c in cells.table.coords.tolist())
            yield from [f"{kind}/by_id/0"] if kind == "points" or level.whole_paths else []
            continue
        for segment in level.segments[1].tolist():
            yield from [f"mesh/{segment}:0", f"mesh/{segment}:0:0"] if kind == "mesh" else [f"{kind}/{segment}"]
        yield from [f"{kind}/props/info"] if level.described else []


def check_raw(app, raw):
    """The tree with codecs undone is the raw store, a cell an object; arrays of cells share one grid."""
    grids, cells = set(), []
    for file in sorted(raw.rglob("zarr.json")):
        stored = json.loads(file.read_text())
        if stored["node_type"] == "group":
            continue
        array = file.parent.relative_to(raw).as_posix()
        doc = json.loads(called(app, f"/raw/{array}/zarr.json")[1])
        same = stored.keys() - {"attributes", "storage_transformers"}
        assert {part: doc[part] for part in same} == {part: stored[part] for part in same}
        listed = doc["attributes"].get("nonempty_chunks")
        if listed is not None:
            assert doc["codecs"] == [{"name": "vlen-bytes", "configuration": {}}]
            grids.add((*doc["shape"], *doc["attributes"].get("chunk_grid_origin", ())))
        pieces = [piece for piece in (file.parent / "c").rglob("*") if piece.is_file()]
        assert listed is None or len(listed) == len(pieces)
        for piece in pieces:
            status, body, _ = called(app, f"/raw/{piece.relative_to(raw).as_posix()}")
            assert (status, body) == (200, piece.read_bytes())
            assert listed is None or struct.unpack_from("<II", body) == (1, len(body) - 8)
        cells += pieces if array == "0/vertices" else []
    assert len(grids) == 1
    cell, body = f"/raw/{cells[0].relative_to(raw).as_posix()}", cells[0].read_bytes()
    assert called(app, cell, "HEAD")[2]["Content-Length"] == str(len(body))
    half = len(body) // 2
    parts = [called(app, cell, Range=f"bytes={span}")[1] for span in (f"0-{half}", f"{half + 1}-")]
    assert b"".join(parts) == body
    assert called(app, "/raw/0/vertices/c/99/0/0")[0] == 404


@pytest.mark.filterwarnings("ignore:Numcodecs codecs")
@pytest.mark.parametrize("place", ["disk", "bucket"])
@pytest.mark.parametrize("codec", [*WRITTEN, "gzip", "zlib"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_byte_that_viewers_get(shape, codec, place, plain, request):
    raw, where, options = plain / shape, plain / f"{shape}-{codec}", {}
    if not where.exists() and codec in WRITTEN:
        SHAPES[shape](where, n=SMALL[shape], chunk=40, **WRITTEN[codec])
    elif not where.exists():
        recoded(raw, where, codec)
    if place == "bucket":
        s3 = request.getfixturevalue("s3")
        s3.upload(where, f"matrix-{shape}-{codec}")
        where, settings = s3.obstore(f"matrix-{shape}-{codec}")
        options = {"backend": "obstore", "storage_options": settings}
    expected = PrecomputedLevel(zvl.open_zv(raw)[0]._view)
    level = PrecomputedLevel(zvl.open_zv(where, **options)[0]._view)
    app = StoreApp(level.view.source.spec, views={FOLDER: Precomputed({0: level})})
    for key in keys_of(expected):
        assert called(app, f"/precomputed/0/{key}")[:2] == (200, expected.get(key)), key
    check_raw(app, raw)


def test_meshes_that_are_draco_streams(variety):
    store = zvl.open_zv(variety("q092-draco-mesh"))
    level = store[0]
    found = PrecomputedLevel(level._view)
    app = StoreApp(found.view.source.spec, views={FOLDER: Precomputed({0: found})})
    segment = int(found.segments[1][0])
    status, body, _ = called(app, f"/precomputed/0/mesh/{segment}:0:0")
    (count,) = struct.unpack_from("<I", body)
    assert status == 200
    part = level.sel(objects=[segment]) if level.objects.ids.size else level
    positions = np.frombuffer(body, "<f4", 3 * count, 4).reshape(-1, 3)
    np.testing.assert_allclose(positions, store.to_world(part.vertices).compute() * found.nanometres, rtol=1e-6)
    assert np.frombuffer(body, "<u4", offset=4 + 12 * count).reshape(-1, 3).tolist() == part.faces.compute().tolist()
    stored = variety("q092-draco-mesh") / "0/vertices"
    piece = next(each for each in (stored / "c").rglob("*") if each.is_file())
    assert called(app, f"/raw/0/vertices/{piece.relative_to(stored).as_posix()}")[0] == 200
