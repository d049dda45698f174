"""GIfTI and FreeSurfer surfaces, read and written, compared with nibabel's files."""

import nibabel
import numpy as np
import pytest
from nibabel import freesurfer, gifti

import zarr_vectors_lazy as zvl
from tests.files.rounds import assert_same, back, loaded
from zarr_vectors_lazy.errors import FileError

POINTS = np.random.default_rng(0).uniform(-50, 50, (6, 3)).astype(np.float32)
TRIANGLES = np.array([[0, 1, 2], [2, 3, 4], [4, 5, 0]], np.int32)


def surface(path):
    """A surface with an overlay, labels with their table, and an array that is not of its vertices."""
    image = gifti.GiftiImage(meta=gifti.GiftiMetaData({"AnatomicalStructurePrimary": "CortexLeft"}))
    space = gifti.GiftiCoordSystem(1, 3, np.diag([1.0, 2, 3, 1]))
    for data, intent, name, coordsys in (
        (POINTS, "POINTSET", "points", space),
        (TRIANGLES, "TRIANGLE", "triangles", None),
        (np.arange(6, dtype=np.float32), "SHAPE", "curv", None),
        (np.array([0, 7, 7, 0, 7, 0], np.int32), "LABEL", "aparc", None),
        (np.arange(4, dtype=np.float32), "SHAPE", "other", None),
    ):
        meta = gifti.GiftiMetaData({"Name": name})
        image.add_gifti_data_array(
            gifti.GiftiDataArray(data, intent=f"NIFTI_INTENT_{intent}", coordsys=coordsys, meta=meta)
        )
    for key, text in ((0, "unknown"), (7, "insula")):
        label = gifti.GiftiLabel(key, 1.0, 0.5, 0.25, 1.0)
        label.label = text
        image.labeltable.labels.append(label)
    path.write_bytes(image.to_bytes())
    return path


def test_gifti_comes_back(tmp_path):
    one, other, done = back(surface(tmp_path / "lh.surf.gii"), tmp_path / "b.gii", tmp_path)
    assert one.unit == "millimeter"
    assert sorted(one.attributes) == ["aparc", "curv"]
    assert one.left_out == ("array other, whose rows are not the vertices",)
    assert one.header["gifti"]["labels"] == [[0, "unknown", 1.0, 0.5, 0.25, 1.0], [7, "insula", 1.0, 0.5, 0.25, 1.0]]
    assert one.header["gifti"]["points"]["xformspace"] == 3
    assert_same(one, other)
    assert done["left_out"] == []
    image = nibabel.load(tmp_path / "b.gii")
    assert sorted(image.agg_data("pointset").tolist()) == sorted(POINTS.tolist())


def test_gifti_takes_text_as_labels(tmp_path):
    place = tmp_path / "a.zarrvectors"
    attributes = {"region": ["a", "b", "a", "a", "b", ""], "big": np.arange(6) + 2**40}
    zvl.write_mesh(place, POINTS, TRIANGLES, chunk_shape=200, vertex_attributes=attributes, units="millimeter")
    done = zvl.open_zv(place)[0].to_file(tmp_path / "a.gii")
    assert done["left_out"] == ["attribute big"]
    image = nibabel.load(tmp_path / "a.gii")
    names = {
        one.key: getattr(one, "label", "") for one in image.labeltable.labels
    }  # nibabel's have none where it is empty
    (codes,) = [one.data for one in image.get_arrays_from_intent("NIFTI_INTENT_LABEL")]
    assert sorted(names[code] for code in codes) == ["", "a", "a", "a", "b", "b"]
    zvl.ingest(tmp_path / "a.gii", tmp_path / "b.zarrvectors", chunk_shape=200)
    assert sorted(row[1] for row in zvl.open_zv(tmp_path / "b.zarrvectors").headers["gifti"]["labels"]) == [
        "",
        "a",
        "b",
    ]


@pytest.mark.parametrize("name", ["a.gii", "lh.white"])
def test_micrometres_become_millimetres(tmp_path, name):
    zvl.write_mesh(tmp_path / "a.zarrvectors", POINTS, TRIANGLES, chunk_shape=200, units="micrometer")
    zvl.open_zv(tmp_path / "a.zarrvectors")[0].to_file(tmp_path / name)
    found = loaded(tmp_path / name).positions
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(POINTS / 1000, axis=0), rtol=1e-6)


def test_freesurfer_comes_back(tmp_path):
    info = {
        "head": np.array([2, 0, 20]), "valid": "1  # volume info valid", "filename": "orig.mgz",
        "volume": np.array([256, 256, 256]), "voxelsize": np.ones(3), "xras": np.array([-1.0, 0, 0]),
        "yras": np.array([0, 0, -1.0]), "zras": np.array([0, 1.0, 0]), "cras": np.array([1.5, 2, 3]),
    }  # fmt: skip
    freesurfer.write_geometry(tmp_path / "lh.pial", POINTS, TRIANGLES, create_stamp="by hand", volume_info=info)
    one, other, done = back(tmp_path / "lh.pial", tmp_path / "rh.white", tmp_path)
    assert one.header["freesurfer"]["stamp"] == "by hand"
    assert one.header["freesurfer"]["volume_info"]["cras"] == [1.5, 2, 3]
    assert_same(one, other)
    assert done["left_out"] == []
    zvl.ingest(tmp_path / "lh.pial", tmp_path / "a.zarrvectors", format="freesurfer")
    assert zvl.open_zv(tmp_path / "a.zarrvectors").units == ("millimeter",) * 3


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.gii", b"nonsense", r"a\.gii cannot be read as GIfTI"),
        ("a.gii", b"", r"a\.gii cannot be read as GIfTI"),
        ("lh.pial", b"nonsense", r"lh\.pial cannot be read as FreeSurfer"),
        ("lh.pial", b"\xff\xff\xfeby hand\n\n\0\0\0\x09", r"lh\.pial cannot be read as FreeSurfer"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(FileError, match=message):
        loaded(tmp_path / name)


def test_values_without_a_surface_are_refused(tmp_path):
    image = gifti.GiftiImage(darrays=[gifti.GiftiDataArray(np.zeros(3, np.float32), intent="NIFTI_INTENT_SHAPE")])
    (tmp_path / "a.gii").write_bytes(image.to_bytes())
    with pytest.raises(FileError, match="holds values but no surface"):
        loaded(tmp_path / "a.gii")
