"""Streamlines, read and written back: positions, values, groups and the space of the image, for TRK, TCK and TRX."""

import json
import shutil
import zipfile

import nibabel.streamlines
import numpy as np
import pytest
import trx.trx_file_memmap
from nibabel.streamlines import TckFile, Tractogram, TrkFile

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import FileError, SelectionError, ZVWarning
from zarr_vectors_lazy.files import loaded, tracts

AFFINE = np.array([[-1.25, 0, 0, 90], [0, 1.25, 0, -126], [0, 0, 1.25, -72], [0, 0, 0, 1.0]])
LINES = [np.array([[1, 2, 3], [4, 5, 6], [7, 8, 10.0]], "f4"), np.array([[0, 0, 0], [10, 0, 0.0]], "f4")]


@pytest.fixture
def trk(tmp_path):
    """A TRK file with a header of its own, and values of points and streamlines, one of several columns."""
    header = {"voxel_sizes": (1.25,) * 3, "dimensions": (145, 174, 145), "voxel_to_rasmm": AFFINE, "voxel_order": "LAS"}
    tractogram = Tractogram(
        LINES,
        data_per_streamline={"weight": np.array([[0.5], [2]], "f4"), "ends": np.array([[1, 2], [3, 4]], "f4")},
        data_per_point={"fa": [np.array([[0.1], [0.2], [0.3]], "f4"), np.array([[0.4], [0.5]], "f4")]},
        affine_to_rasmm=np.eye(4),
    )
    TrkFile(tractogram, header).save(str(tmp_path / "a.trk"))
    return tmp_path / "a.trk"


@pytest.fixture
def grouped(tmp_path):
    """A store of streamlines with groups, their attributes, and values of vertices and objects."""
    zvl.write_polylines(
        tmp_path / "g.zv",
        [np.array([[0, 0, 0], [1, 1, 1.0]]), np.array([[2, 2, 2], [3, 3, 3.0]]), np.array([[5, 5, 5.0], [9, 9, 9]])],
        chunk_shape=4,
        units="millimeter",
        groups={"AF": [0, 2], "CST": [1]},
        group_attributes={"volume": np.array([1.5, 2.5]), "colour": np.array([[1, 2, 3], [4, 5, 6]], np.uint8)},
        object_attributes={"w": np.array([1.0, 2, 3]), "id": np.array([2**53 + 1, 5, 6])},
        vertex_attributes={
            "fa": np.arange(6, dtype="f4"),
            "label": np.arange(6) + 2**40,
            "side": np.array(list("lrlrlr")),
        },
    )
    return zvl.open_zv(tmp_path / "g.zv")[0]


def back(level, name, **options):
    """Write a level to a file and that as a store; what is left out, and the level of that store."""
    path = level.store.url.rpartition("/")[0].removeprefix("file://")
    done = level.to_file(f"{path}/{name}")
    zvl.ingest(f"{path}/{name}", f"{path}/back.zv", chunk_shape=5, overwrite=True, **options)
    return done["left_out"], zvl.open_zv(f"{path}/back.zv")[0]


@pytest.mark.parametrize("suffix", [".trk", ".trk.gz", ".TRK"])
def test_trk_comes_back_as_it_went_in(trk, tmp_path, suffix):
    done = zvl.ingest(trk, tmp_path / "a.zv", chunk_shape=5)
    store = zvl.open_zv(tmp_path / "a.zv")
    assert (done["left_out"], store.units, store.crs["dimensions"]) == ([], ("millimeter",) * 3, [145, 174, 145])
    assert store[0].to_file(tmp_path / f"b{suffix}")["left_out"] == []
    a, b = nibabel.streamlines.load(trk), TrkFile.load(str(tmp_path / f"b{suffix}"))
    for one, other in zip(a.streamlines, b.streamlines, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5)
    for part in ("data_per_streamline", "data_per_point"):
        one, other = getattr(a.tractogram, part), getattr(b.tractogram, part)
        assert sorted(one) == sorted(other)
        for name in one:
            assert all(np.array_equal(x, y) for x, y in zip(one[name], other[name], strict=True)), name
    for name in ("dimensions", "voxel_sizes", "voxel_order", "voxel_to_rasmm"):
        assert np.array_equal(a.header[name], b.header[name]), name


@pytest.mark.parametrize("order", ["LAS", "RAS", "LPI"])
def test_a_voxel_order_that_is_not_the_affines(tmp_path, order):
    header = {"voxel_sizes": (2,) * 3, "dimensions": (9, 8, 7), "voxel_to_rasmm": AFFINE, "voxel_order": order}
    TrkFile(Tractogram(LINES, affine_to_rasmm=np.eye(4)), header).save(str(tmp_path / "a.trk"))
    zvl.ingest(tmp_path / "a.trk", tmp_path / "a.zv", chunk_shape=5)
    zvl.open_zv(tmp_path / "a.zv")[0].to_file(tmp_path / "b.trk")
    assert (tmp_path / "a.trk").read_bytes()[:1000] == (tmp_path / "b.trk").read_bytes()[:1000]
    found = nibabel.streamlines.load(tmp_path / "b.trk").streamlines
    assert all(np.allclose(x, y, atol=1e-4) for x, y in zip(found, LINES, strict=True))


def test_lines_longer_than_a_file_can_count_voxels_of_a_millimetre(tmp_path):
    zvl.write_polylines(tmp_path / "l.zv", [[[0, 0, 0], [9000, 0.004, 0.005]]], chunk_shape=1e3, units="m")
    for name in ("o.trk", "o.trx"):
        zvl.open_zv(tmp_path / "l.zv")[0].to_file(tmp_path / name)
        zvl.ingest(tmp_path / name, tmp_path / f"{name}.zv", chunk_shape=1e6)
        found = zvl.open_zv(tmp_path / f"{name}.zv")[0].vertices.compute()
        assert np.allclose(found[found[:, 0].argsort()], [[0, 0, 0], [9e6, 4, 5]], atol=1)


def test_trx_keeps_groups_and_values(grouped):
    left, found = back(grouped, "a.trx")
    assert left == ["attribute side (TRX holds numbers)"]
    stored = trx.trx_file_memmap.load(grouped.store.url.replace("g.zv", "a.trx").removeprefix("file://"))
    try:
        assert {name: lines.tolist() for name, lines in stored.groups.items()} == {"AF": [0, 2], "CST": [1]}
        assert stored.data_per_streamline["id"].ravel().tolist() == [2**53 + 1, 5, 6]
        assert stored.data_per_group["CST"]["colour"].tolist() == [[4, 5, 6]]
        assert np.array_equal(np.asarray(stored.streamlines[2]), [[5, 5, 5], [9, 9, 9]])
    finally:
        stored.close()
    assert {name: found.objects.groups[name].tolist() for name in found.objects.groups.names} == {
        "AF": [0, 2],
        "CST": [1],
    }
    groups, objects = found.objects.groups.attributes, found.objects.attributes
    assert (groups["volume"].values.tolist(), groups["colour"].values.tolist()) == ([1.5, 2.5], [[1, 2, 3], [4, 5, 6]])
    assert objects["id"].values.tolist() == [2**53 + 1, 5, 6]
    order = np.argsort(found.attributes["fa"].compute())
    assert found.attributes["label"].compute()[order].tolist() == (np.arange(6) + 2**40).tolist()


def test_names_with_dots_are_none_of_trx(tmp_path):
    zvl.write_polylines(
        tmp_path / "g.zv",
        [np.eye(3), 2 * np.eye(3)],
        chunk_shape=5,
        units="millimeter",
        groups={"AF.trk": [0], "cluster.2": [1], "cluster_2": [0, 1]},
        group_attributes={"a.3": [1.0, 2, 3]},
        object_attributes={"w.2": [1.0, 2]},
        vertex_attributes={"fa.x": np.arange(6.0)},
    )
    left, found = back(zvl.open_zv(tmp_path / "g.zv")[0], "a.trx")
    stored = trx.trx_file_memmap.load(str(tmp_path / "a.trx"))
    try:
        assert {name: lines.tolist() for name, lines in stored.groups.items()} == {
            "AF_trk": [0],
            "cluster_2": [1],
            "cluster_2_1": [0, 1],
        }
        assert (list(stored.data_per_streamline), list(stored.data_per_vertex)) == (["w_2"], ["fa_x"])
        assert stored.data_per_group["cluster_2_1"]["a_3"].ravel().tolist() == [3]
    finally:
        stored.close()
    assert (left, found.objects.groups.names) == ([], ("AF_trk", "cluster_2", "cluster_2_1"))


def test_trx_folders_float16_and_members_that_no_store_has(grouped, tmp_path):
    grouped.to_file(tmp_path / "a.trx")
    shutil.unpack_archive(tmp_path / "a.trx", tmp_path / "b.trx", "zip")
    half = np.fromfile(tmp_path / "b.trx/positions.3.float64", np.float64).astype(np.float16)
    (tmp_path / "b.trx/positions.3.float64").unlink()
    half.tofile(tmp_path / "b.trx/positions.3.float16")
    (tmp_path / "b.trx/extra").mkdir()
    (tmp_path / "b.trx/extra/note.uint8").write_bytes(b"1")
    done = zvl.ingest(tmp_path / "b.trx", tmp_path / "b.zv", chunk_shape=5)
    found = zvl.open_zv(tmp_path / "b.zv")[0]
    assert done["left_out"] == ["member extra/note.uint8"]
    assert (found.vertices.dtype, found.objects[1].compute().tolist()) == (np.float32, [[2, 2, 2], [3, 3, 3]])
    shutil.rmtree(tmp_path / "b.trx/dpg")
    shutil.copytree(tmp_path / "b.trx", tmp_path / "folder")  # of any name
    assert zvl.ingest(tmp_path / "folder", tmp_path / "d.zv", chunk_shape=5)["kind"] == "streamlines"
    zvl.ingest([tmp_path / "a.trx", tmp_path / "b.trx"], tmp_path / "c.zv", chunk_shape=5)
    two = zvl.open_zv(tmp_path / "c.zv")[0]
    groups = {name: two.objects.groups[name].tolist() for name in two.objects.groups.names}
    assert groups == {"AF": [0, 2, 3, 5], "CST": [1, 4], "a.trx": [0, 1, 2], "b.trx": [3, 4, 5]}


def test_trk_says_what_it_has_no_place_for(grouped, tmp_path):
    left, found = back(grouped, "a.trk")
    assert left == [
        "attribute label (TRK holds whole numbers up to 2**24)",
        "attribute side (TRK holds numbers)",
        "object attribute id (TRK holds whole numbers up to 2**24)",
        "groups",
        "group attribute colour",
        "group attribute volume",
    ]
    assert (found.attribute_names, list(found.objects.attributes)) == (("fa",), ["w"])
    some = grouped.sel(objects=[1, 2]).to_file(tmp_path / "b.tck")
    assert "object ids" in some["left_out"]
    assert len(nibabel.streamlines.load(tmp_path / "b.tck").streamlines) == 2


def test_a_branching_skeleton_is_a_line_a_branch(tmp_path):
    y = np.array([[0, 0, 0], [1, 0, 0], [2, 1, 0], [3, 2, 0], [2, -1, 0], [3, -2, 0.0], [9, 9, 9]])
    edges = [[1, 0], [2, 1], [3, 2], [4, 1], [5, 4]]
    zvl.write_graph(
        tmp_path / "y.zv", y, edges, kind="skeleton", chunk_shape=2, units="mm", vertex_attributes={"r": np.arange(7.0)}
    )
    zvl.open_zv(tmp_path / "y.zv")[0].to_file(tmp_path / "y.trk")
    found = nibabel.streamlines.load(tmp_path / "y.trk")
    radii = sorted(np.ravel(values).tolist() for values in found.tractogram.data_per_point["r"])
    assert radii == [[0, 1], [1, 2, 3], [1, 4, 5], [6]]
    assert max(np.abs(np.diff(line, axis=0)).max(initial=0) for line in found.streamlines) <= 1


def test_units_are_those_of_the_file(tmp_path):
    zvl.write_polylines(tmp_path / "a.zv", [np.array([[1000, 0, 0], [2000, 0, 0.0]])], chunk_shape=1e4, units="um")
    level = zvl.open_zv(tmp_path / "a.zv")[0]
    level.to_file(tmp_path / "a.tck")
    level.to_file(tmp_path / "stored.tck", world=False)
    assert nibabel.streamlines.load(tmp_path / "a.tck").streamlines[0].tolist() == [[1, 0, 0], [2, 0, 0]]
    assert nibabel.streamlines.load(tmp_path / "stored.tck").streamlines[0][0].tolist() == [1000, 0, 0]
    zvl.write_polylines(tmp_path / "b.zv", [np.eye(3)], chunk_shape=5)
    with pytest.warns(ZVWarning, match="unit of the store: none"):
        zvl.open_zv(tmp_path / "b.zv")[0].to_file(tmp_path / "b.tck")


@pytest.mark.parametrize("suffix", [".trk", ".tck", ".trx"])
def test_an_empty_tractogram_is_a_store(tmp_path, suffix):
    TrkFile(Tractogram([], affine_to_rasmm=np.eye(4))).save(str(tmp_path / "a.trk"))
    zvl.ingest(tmp_path / "a.trk", tmp_path / "a.zv")
    assert len(zvl.open_zv(tmp_path / "a.zv")[0].objects) == 0
    zvl.open_zv(tmp_path / "a.zv")[0].to_file(tmp_path / f"b{suffix}")
    zvl.ingest(tmp_path / f"b{suffix}", tmp_path / "b.zv")
    assert zvl.open_zv(tmp_path / "b.zv")[0].vertex_count in (0, None)


def test_a_space_from_another_file(trk, tmp_path):
    TckFile(Tractogram(LINES, affine_to_rasmm=np.eye(4))).save(str(tmp_path / "a.tck"))
    nibabel.save(nibabel.Nifti1Image(np.zeros((145, 174, 145), np.uint8), AFFINE), tmp_path / "a.nii")
    zvl.ingest(tmp_path / "a.tck", tmp_path / "a.zv", chunk_shape=5)
    level = zvl.open_zv(tmp_path / "a.zv")[0]
    assert "affine" not in level.store.crs
    for name, options in (("b.trk", {"like": trk}), ("c.trk", {"reference": tmp_path / "a.nii"}), ("d.trk", {})):
        level.to_file(tmp_path / name, **options)
        found = nibabel.streamlines.load(tmp_path / name)
        assert all(np.allclose(x, y, atol=1e-4) for x, y in zip(found.streamlines, LINES, strict=True))
        voxels = np.linalg.inv(found.header["voxel_to_rasmm"]) @ np.c_[np.concatenate(LINES), np.ones(5)].T
        assert ((voxels[:3] >= -0.5) & (voxels[:3] < found.header["dimensions"][:, None] - 0.5)).all()
        assert options == {} or np.allclose(found.header["voxel_to_rasmm"], AFFINE)
    zvl.ingest(tmp_path / "a.tck", tmp_path / "b.zv", chunk_shape=5, reference=tmp_path / "a.nii")
    assert zvl.open_zv(tmp_path / "b.zv").crs["dimensions"] == [145, 174, 145]
    with pytest.raises(SelectionError, match="no space of streamlines in"):
        level.to_file(tmp_path / "e.trk", reference=tmp_path / "a.tck")
    with pytest.raises(SelectionError, match=r"no file '.*none.trk'"):
        level.to_file(tmp_path / "e.trk", like=tmp_path / "none.trk")
    with pytest.raises(SelectionError, match="written whole: give whole_objects=True with a box"):
        level.sel(x=(0, 1)).to_file(tmp_path / "e.trk")


@pytest.mark.parametrize("kind", [TrkFile, TckFile])
def test_blocks_that_wait_on_disk(tmp_path, monkeypatch, kind):
    for module, name, value in (
        (loaded, "MEMORY_NBYTES", 0), (loaded, "BLOCK_NBYTES", 2000), (tracts, "BLOCK_NBYTES", 1000),
        (tracts, "BLOCK_ROWS", 50),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    random = np.random.default_rng(0)
    lines = [random.uniform(0, 50, (int(n), 3)).astype("f4") for n in random.integers(1, 20, 60)]
    weights, order = np.arange(60, dtype="f4")[:, None], [np.arange(len(line), dtype="f4")[:, None] for line in lines]
    given = {"data_per_streamline": {"w": weights}, "data_per_point": {"k": order}} if kind is TrkFile else {}
    kind(Tractogram(lines, **given, affine_to_rasmm=np.eye(4))).save(str(tmp_path / "a.t"))
    zvl.ingest(tmp_path / "a.t", tmp_path / "a.zv", chunk_shape=25, format="trk" if given else "tck")
    level = zvl.open_zv(tmp_path / "a.zv")[0]
    level.to_file(tmp_path / "b.trx")
    zvl.ingest(tmp_path / "b.trx", tmp_path / "b.zv", chunk_shape=25)
    for found in (level, zvl.open_zv(tmp_path / "b.zv")[0]):
        for number, line in enumerate(lines):
            np.testing.assert_allclose(found.objects[number].compute(), line, rtol=0, atol=1e-5)
        assert not given or found.objects.attributes["w"].values.tolist() == list(range(60))


def test_damaged_tractograms_are_named(trk, grouped, tmp_path):
    raw = trk.read_bytes()
    for cut in (0, 3, 999, 1000, 1010, len(raw) - 30, len(raw) - 4):
        (tmp_path / "cut.trk").write_bytes(raw[:cut])
        with pytest.raises(FileError, match=r"cut\.trk"):
            zvl.ingest(tmp_path / "cut.trk", tmp_path / "cut.zv", chunk_shape=5)
    grouped.to_file(tmp_path / "a.trx")
    with zipfile.ZipFile(tmp_path / "a.trx") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(members["header.json"])
    for change in (
        {"header.json": b"{}"},
        {"header.json": json.dumps({**header, "NB_VERTICES": 7}).encode()},
        {"header.json": json.dumps({**header, "NB_STREAMLINES": -1}).encode()},
        {"offsets.uint32": np.array([0, 9, 1, 6], "u4").tobytes()},
        {"groups/AF.uint32": np.array([7], "u4").tobytes()},
        {"dpv/fa.float32": b"123"},
    ):
        with zipfile.ZipFile(tmp_path / "bad.trx", "w") as archive:
            for name, content in {**members, **change}.items():
                archive.writestr(name, content)
        with pytest.raises(FileError, match=r"bad\.trx"):
            zvl.ingest(tmp_path / "bad.trx", tmp_path / "bad.zv", chunk_shape=5)
    assert not (tmp_path / "bad.zv").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("suffix", [".trk", ".trx"])
@pytest.mark.parametrize("bare", [False, True])
def test_dipy_loads_what_is_written_with_its_defaults(trk, tmp_path, suffix, bare):
    from dipy.io.streamline import load_tractogram  # noqa: PLC0415  it takes a second

    if bare:
        zvl.write_polylines(tmp_path / "a.zv", LINES, chunk_shape=5, units="mm", geometry_type="streamline")
    else:
        zvl.ingest(trk, tmp_path / "a.zv")
    zvl.open_zv(tmp_path / "a.zv")[0].to_file(tmp_path / f"b{suffix}")
    found = load_tractogram(str(tmp_path / f"b{suffix}"), "same")
    assert all(np.allclose(x, y, atol=1e-4) for x, y in zip(found.streamlines, LINES, strict=True))
    if not bare:
        source = load_tractogram(str(trk), "same")
        assert found.data_per_point.keys() == source.data_per_point.keys()
        assert np.allclose(found.affine, source.affine)
        assert found.dimensions.tolist() == source.dimensions.tolist()


def test_a_whole_tck_file_may_say_another_number(tmp_path):
    nibabel.streamlines.save(Tractogram(LINES, affine_to_rasmm=np.eye(4)), str(tmp_path / "a.tck"))
    whole = (tmp_path / "a.tck").read_bytes()
    (tmp_path / "a.tck").write_bytes(whole.replace(b"count: 0000000002", b"count: 0000615000"))
    with pytest.warns(ZVWarning, match=r"a\.tck: its header says 615,000 streamlines, but there are 2"):
        zvl.ingest(tmp_path / "a.tck", tmp_path / "a.zv")
    assert len(zvl.open_zv(tmp_path / "a.zv")[0].objects) == 2
    (tmp_path / "a.tck").write_bytes(whole[:-12])
    with pytest.raises(FileError, match="end-of-file marker"):
        zvl.ingest(tmp_path / "a.tck", tmp_path / "b.zv")


def test_tck_keeps_headers_of_mrtrix(tmp_path):
    """Its keys repeat (one for each region), and its commands and times have colons."""
    own = ["command_history: tckgen a:b c", "command_history: tckedit", "roi: seed a.mif", "roi: include b:c", "e: "]
    nibabel.streamlines.save(Tractogram(LINES, affine_to_rasmm=np.eye(4)), str(tmp_path / "a.tck"))
    head, _, body = (tmp_path / "a.tck").read_bytes().partition(b"END\n")
    keys = [line for line in head.decode().splitlines() if not line.startswith("file")]
    text = "\n".join([*keys, *own, "file: . 400", "END\n"]).encode()
    (tmp_path / "a.tck").write_bytes(text.ljust(400, b"\0") + body)
    zvl.ingest(tmp_path / "a.tck", tmp_path / "a.zv", chunk_shape=5)
    for name in ("b.tck", "c.tck.gz"):
        zvl.open_zv(tmp_path / "a.zv")[0].to_file(tmp_path / name)
        found = nibabel.streamlines.load(tmp_path / name)
        assert all(np.array_equal(x, y) for x, y in zip(found.streamlines, LINES, strict=True))
        assert found.header["nb_streamlines"] == len(LINES)
    head = (tmp_path / "b.tck").read_bytes().partition(b"END\n")[0].decode().splitlines()
    assert [line for line in head if line in own] == own
