"""World coordinates: each rule alone, compared with a plain implementation."""

import pickle
import warnings

import numpy as np
import pytest

from zarr_vectors_lazy.errors import SelectionError, ZVWarning
from zarr_vectors_lazy.model.world import World, metres, unit_factors

OBLIQUE = np.array([[1.2, 0.3, 0, -90], [-0.2, 0.9, 0.4, -126], [0.1, -0.5, 2.0, -72], [0, 0, 0, 1]])


def world(axes="xyz", **parts):
    return World(axes=tuple(axes), **{"units": (None,) * len(axes), **parts})


@pytest.mark.parametrize(
    ("axes", "names", "row"),
    [
        (("z", "y", "x"), ("x", "y", "z"), [30, 20, 10]),
        (("Z", "Y", "X"), ("x", "y", "z"), [30, 20, 10]),
        (("t", "z", "y", "x"), ("x", "y", "z"), [40, 30, 20]),
        (("x", "y", "z", "w"), ("x", "y", "z"), [10, 20, 30]),
        (("y", "x"), ("x", "y"), [20, 10]),
        (("t", "y", "x"), ("x", "y", "t"), [30, 20, 10]),
        (("b", "a", "c"), ("b", "a", "c"), [10, 20, 30]),
        (("a", "b", "c", "d"), ("a", "b", "c"), [10, 20, 30]),
        (("x",), ("x",), [10]),
    ],
)
def test_axes_go_by_their_names(axes, names, row):
    found = world(axes)
    stored = np.array([[10, 20, 30, 40][: len(axes)]], np.int32)
    assert found.names == names
    out = found.to_world(stored)
    assert out.dtype == np.float64
    assert out.tolist() == [row]
    if len(axes) <= 3:
        assert found.from_world(out).tolist() == stored.tolist()
    else:
        with pytest.raises(SelectionError, match="do not include the store's axes"):
            found.from_world(out)


def test_world_is_stored_and_offset():
    found = world("zyx", offset=np.array([100.0, 200, 300]))
    assert found.to_world([[1, 2, 3]]).tolist() == [[303, 202, 101]]
    assert found.to_world([1.0, 2, 3]).tolist() == [303, 202, 101]
    assert found.from_world([[303, 202, 101]]).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("space", ["voxmm", "VoxMM", "VOXMM"])
@pytest.mark.parametrize("affine", [OBLIQUE.tolist(), OBLIQUE.ravel().tolist()], ids=["rows", "flat"])
def test_the_affine_of_trackvis_is_applied(space, affine):
    positions = np.random.default_rng(0).uniform(0, 200, (50, 3))
    edges = np.linalg.norm(OBLIQUE[:3, :3], axis=0)
    right = (positions / edges - 0.5) @ OBLIQUE[:3, :3].T + OBLIQUE[:3, 3]
    found = world("zyx", crs={"input_space": space, "affine": affine})
    assert not found.problem
    out = found.to_world(positions[:, ::-1])
    np.testing.assert_allclose(out, right, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.from_world(out), positions[:, ::-1], rtol=0, atol=1e-9)
    assert found.world_units == ("mm",) * 3
    assert np.array_equal(found.to_world(positions[7:8, ::-1])[0], out[7])  # a row is the same whatever is beside it
    assert np.array_equal(pickle.loads(pickle.dumps(found)).to_world(positions[:, ::-1]), out)


@pytest.mark.parametrize("space", ["rasmm", "RASMM"])
def test_ras_millimetres_stay(space):
    found = world(crs={"input_space": space, "affine": OBLIQUE.tolist()}, units=("um", None, None))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found.warn()
    assert found.to_world([[1, 2, 3]]).tolist() == [[1, 2, 3]]
    assert found.world_units == ("um", "mm", "mm")


@pytest.mark.parametrize(
    "crs",
    [
        {"input_space": "vox", "affine": OBLIQUE.tolist()},
        {"input_space": "lpsmm"},
        {"input_space": 7},
        {"affine": OBLIQUE.tolist()},
        {"input_space": "voxmm"},
        {"input_space": "voxmm", "affine": [1, 2, 3]},
        {"input_space": "voxmm", "affine": np.zeros((4, 4)).tolist()},
        {"input_space": "voxmm", "affine": "none"},
    ],
)
def test_a_space_that_is_not_known_is_a_warning(crs):
    found = world(crs=crs)
    with pytest.warns(ZVWarning, match="coordinates stay as they are stored"):
        found.warn()
    assert found.to_world([[1, 2, 3]]).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("crs", [None, "EPSG:32618", {"epsg": 32618, "wkt": "..."}, ["a"]])
def test_other_reference_systems_say_nothing_of_it(crs):
    found = world(crs=crs)
    assert not found.problem
    assert found.plain


@pytest.mark.parametrize("positions", [[[1, 2]], [], 5, [["a", "b", "c"]], np.zeros((2, 4))])
def test_positions_have_a_column_for_each_axis(positions):
    with pytest.raises(SelectionError, match=r"\(N, 3\) numbers \(z, y, x\)"):
        world("zyx").to_world(positions)


def test_ragged_positions_are_refused():
    with pytest.raises(SelectionError, match=r"world positions must be \(N, 2\) numbers"):
        world("yx").from_world([[1, 2], [1]])


@pytest.mark.parametrize("crs", [None, {"input_space": "voxmm", "affine": OBLIQUE.tolist()}], ids=["plain", "oblique"])
def test_stored_boxes_hold_all_of_the_world_box(crs):
    rng = np.random.default_rng(1)
    found = world("tzyx", offset=np.array([0.0, 1e6, -3, 0.1]), crs=crs)
    stored = rng.uniform(-50, 50, (5000, 4))
    out = found.to_world(stored)
    for _ in range(20):
        lo, hi = np.sort(out[rng.integers(0, len(out), 2)], axis=0)  # its corners are on vertices
        if rng.random() < 0.3:
            lo[rng.integers(3)] = -np.inf
        inside = ((out >= lo) & (out <= hi)).all(axis=1)
        (low,), (high,) = found.stored_boxes(lo[None], hi[None])
        assert ((stored >= low) & (stored <= high)).all(axis=1)[inside].all()
        assert np.isinf([low[0], high[0]]).all()
    assert np.isinf(found.stored_boxes(np.full((1, 3), -np.inf), np.full((1, 3), np.inf))).all()


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("micrometer", 1e-3),
        ("micrometre", 1e-3), ("Micrometers", 1e-3), ("um", 1e-3), ("\u00b5m", 1e-3), ("\u03bcm", 1e-3),
        ("micron", 1e-3), ("microns", 1e-3), ("nanometer", 1e-6), ("nm", 1e-6),
        ("mm", 1.0), ("MM", 1.0), ("millimetre", 1.0),
        ("m", 1e3),
        ("meter", 1e3), ("metres", 1e3), ("cm", 10.0), ("centimeter", 10.0), ("km", 1e6), ("angstrom", 1e-7),
        ("\u00c5", 1e-7), ("\u212b", 1e-7), ("pm", 1e-9),
        ("foot", 304.8), ("US_survey_foot", 1200 / 3.937), ("inch", 25.4),
    ],
)  # fmt: skip
def test_units_of_length(unit, factor):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert unit_factors([unit], "mm").tolist() == [factor]


@pytest.mark.parametrize("unit", [None, "", "pixel", "second", "furlongs", "s", "xm"])
def test_an_unknown_unit_is_a_warning(unit):
    assert metres(unit) is None
    with pytest.warns(ZVWarning, match="taken as mm") as said:
        assert unit_factors(["um", unit], "mm").tolist() == [1e-3, 1.0]
    assert len(said) == 1
