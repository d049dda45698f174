"""Names that are typed wrong, and names that Tab completes."""

import copy
import inspect
import io
import pickle
import re

import numpy as np
import pandas as pd
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import FormatError, NotFoundError, SelectionError, StoreError, ZVError, meant
from zarr_vectors_lazy.keywords import Suggesting
from zarr_vectors_lazy.testing import counting


@pytest.fixture
def path(tmp_path):
    """Three objects, one of them in a group."""
    attributes = {"vertex_attributes": {"intensity": [1.0, 2.0, 3.0], "label": np.array(["a", "b", "a"])}}
    attributes |= {"object_attributes": {"weight": [1, 2, 3]}, "groups": {"short": [3]}}
    zvl.write_points(tmp_path / "s", np.eye(3), chunk_shape=5, object_ids=[3, 4, 5], **attributes)
    return tmp_path / "s"


CALLS = {
    "vertex_attributes": lambda path: zvl.write_points(path / "new", np.eye(3), chunk_shape=5, attributes={}),
    "chunks": lambda path: zvl.open_zv(path, chunk="auto"),
    "storage_options": lambda path: zvl.open_zv(path, storage_option={}),
    "bbox": lambda path: zvl.read_points(path, bbbox=((0, 0, 0), (1, 1, 1))),
    "attribute_names": lambda path: zvl.read_points(path, attributes=["intensity"]),
    "factors": lambda path: zvl.build_pyramid(path, factor=[2]),
    "objects": lambda path: zvl.open_zv(path)[0].sel(object=3),
    "where": lambda path: zvl.open_zv(path)[0].sel(wher={"intensity": 1}),
    "resolution": lambda path: zvl.open_zv(path).query(resolutoin=3),
    "bin_shape": lambda path: zvl.write_points(path / "new", np.eye(3), chunk_shape=5, bins=1),
    "attributes": lambda path: zvl.open_zv(path)[0].to_dask_dataframe(columns=["intensity"]),
    "seed": lambda path: zvl.open_zv(path)[0].sample(3, sede=1),
    "mode": lambda path: zvl.write_points(path / "new", np.eye(3), chunk_shape=5, overwrite=True),
    "overwrite": lambda path: zvl.ingest(path / "points.csv", path / "new", mode="w"),
    "link_attributes": lambda path: zvl.write_mesh(
        path / "new", np.eye(3), [[0, 1, 2]], chunk_shape=5, face_attributes={}
    ),
    "color": lambda path: zvl.open_zv(path)[0].plot(colour="intensity"),
}


@pytest.mark.parametrize("right", CALLS)
def test_a_misspelt_keyword_names_the_right_one(path, right):
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(TypeError, match=rf"did you mean .*'{right}'"):
        CALLS[right](path)
    assert sorted(path.parent.rglob("*")) == before


MASKED = np.ma.masked_array([[3, 4, 5]], [[False, True, False]])
WRONG = {  # what a message says -> a call with a value of the wrong kind
    "overwrite must be True or False, found 'no'": lambda path: zvl.build_pyramid(path, factors=[2], overwrite="no"),
    "world must be True or False, found 'mm'": lambda path: level_of(path).sel(x=(0, 1), world="mm"),
    "consolidated must be True or False, found 'no'": lambda path: zvl.open_zv(path, consolidated="no"),
    "attributes must be names, found 3": lambda path: level_of(path).to_geopandas(3),
    "axes must be names of columns, found 3": lambda path: zvl.ingest("a.csv", path / "new", axes=3),
    "files must be paths, found DataFrame": lambda path: zvl.ingest(pd.DataFrame({"x": [1]}), path / "new"),
    "files must be paths, found StringIO": lambda path: zvl.ingest(io.StringIO("x,y,z\n1,2,3\n"), path / "new"),
    "here already; overwrite=True replaces it": lambda path: zvl.ingest(
        level_of(path).to_file(path.parent / "a.csv")["path"], path
    ),
    "files must be paths, found NoneType": lambda path: zvl.ingest(["a.csv", None], path / "new"),
    "path must be the path of a file, found bytes": lambda path: level_of(path).to_file(b"a.csv"),
    "format= must be a name, such as 'csv', found 3": lambda path: level_of(path).to_file("a.csv", format=3),
    "bbox= has NaN": lambda path: level_of(path).sel(np.ma.masked_array([[0.0] * 3, [1] * 3], [[1, 0, 0], [0] * 3])),
    "objects= must be whole numbers, found a Groups": lambda path: level_of(path).sel(
        objects=level_of(path).objects.groups
    ),
    "objects= must be whole numbers, found a Dataset": lambda path: level_of(path).sel(
        objects=level_of(path).objects.attributes
    ),
    "objects= has masked values": lambda path: level_of(path).sel(objects=MASKED[0]),
    "object_ids= has masked values": lambda path: zvl.read_points(path, object_ids=MASKED[0]),
    "no object 18446744073709551615": lambda path: level_of(path).sel(objects=np.uint64([2**64 - 1])),
    "no object 9223372036854775808": lambda path: level_of(path).objects[2**63],
    r"points must be \(n, 3\) finite numbers": lambda path: level_of(path).nearest(MASKED),
    "stored positions have masked values": lambda path: zvl.open_zv(path).to_world(MASKED),
    "world positions have masked values": lambda path: zvl.open_zv(path).from_world(MASKED),
    "no group b'short'": lambda path: level_of(path).sel(groups=b"short"),
    r"cmap must be a colour map .* found 3": lambda path: level_of(path).plot(cmap=3),
    "density must be True or False": lambda path: level_of(path).plot(density="yes"),
    "size must be a positive number, found -1": lambda path: level_of(path).plot(size=-1),
    r"projection must name two of the axes .* found 3": lambda path: level_of(path).plot(projection=3),
    r"aggregate\['intensity'\] must be one of mean, .* found <built-in": lambda path: zvl.build_pyramid(
        path, factors=[2], aggregate={"intensity": max}
    ),
    r"did you mean \(\[0.0, 2.0, 4.0\], \[1.0, 3.0, 5.0\]\)": lambda path: level_of(path).sel(((0, 1), (2, 3), (4, 5))),
    "for some axes alone: x=slice": lambda path: level_of(path).sel({"x": (0, 1)}),
    r"whole numbers, found +a 0 +3 1 +4$": lambda path: level_of(path).sel(objects=pd.DataFrame({"a": [3, 4]})),
    "origins= must be a list of sites": lambda path: zvl.cors("s3", origins=3),
    "aspect must be 3 positive numbers, found 'flat'": lambda path: zvl.suggest_chunk_shape(np.eye(3), aspect="flat"),
    r"expected \(N, D\) positions .* found ZVLevel": lambda path: zvl.suggest_chunk_shape(level_of(path)),
    r"least must be a number of bytes, .* found 'a'": lambda path: zvl.suggest_chunk_shape(np.eye(3), least="a"),
    "did you mean 'intensity'": lambda path: level_of(path).attributes["int"],
}


def level_of(path):
    return zvl.open_zv(path)[0]


@pytest.mark.parametrize("message", WRONG)
def test_a_value_of_the_wrong_kind_is_one_line_that_says_what_was_expected(path, message):
    with pytest.raises(ZVError, match=message) as caught:
        WRONG[message](path)
    assert "\n" not in str(caught.value)


def test_a_message_is_no_dump_of_what_was_given(path):
    with pytest.raises(SelectionError, match=r"whole numbers, found .* [.]{3} ") as caught:
        level_of(path).sel(objects=["3"] * 100_000)
    assert len(str(caught.value)) < 2500


def test_faces_may_be_a_table(tmp_path):
    zvl.write_mesh(tmp_path / "s", np.eye(3), pd.DataFrame([[0, 1, 2]]), chunk_shape=5)
    assert level_of(tmp_path / "s").faces.compute().tolist() == [[0, 1, 2]]


def test_it_is_told_before_anything_is_reached():
    with counting() as counts, pytest.raises(TypeError, match="'bbox'"):
        zvl.read_points("https://127.0.0.1:9/x", bboxx=1)
    assert not counts.requests


def test_every_function_that_takes_options_suggests():
    public = [each for each in (getattr(zvl, name) for name in zvl.__all__) if inspect.isfunction(each)]
    taking = [each for each in public if "backend_kwargs" in inspect.signature(each).parameters]
    assert len(taking) > 15
    assert [each.__name__ for each in taking if not hasattr(each, "__wrapped__")] == []


def test_options_of_a_backend_are_no_misspelt_parameters(path):
    with pytest.raises(StoreError, match="takes no options; found 'profile'"):
        zvl.open_zv(path, profile="x")
    with pytest.raises(TypeError, match=r"no argument 'object_id'; did you mean 'object_ids'"):
        zvl.read_points(path, object_id=[1])  # which Azure has an option of
    with pytest.raises(StoreError, match=r"'regoin'.*did you mean 'region'"):
        zvl.open_zv("s3://bucket/x", backend="obstore", regoin="eu")
    with pytest.raises(StoreError, match=r"'annon'.*did you mean 'anon'"):
        zvl.open_zv("s3://bucket/x", backend="fsspec", annon=True)
    with pytest.raises(StoreError, match="did you mean 'obstore'"):
        zvl.open_zv(path, backend="obstor")


def test_names_that_are_not_there_suggest_what_is(path):
    level = zvl.open_zv(path)[0]
    for call, right in [
        (lambda: level.attributes["intesity"], "intensity"),
        (lambda: level.attributes["Intensity"], "intensity"),
        (lambda: level.codes["labl"], "label"),
        (lambda: level.sel(where={"lable": "a"}), "label"),
        (lambda: level.objects.groups["shrt"], "short"),
        (lambda: level.explain("vertexes"), "vertices"),
    ]:
        with pytest.raises(NotFoundError, match=f"did you mean .*'{right}'"):
            call()
    with pytest.raises(SelectionError, match=r"no axis 'xx'; the axes are 'x', 'y', 'z'; did you mean 'x'\?"):
        level.sel(xx=(0, 1))
    with pytest.raises(AttributeError, match="did you mean 'open_zv'"):
        zvl.open_vz  # noqa: B018


def test_attributes_that_are_not_there_suggest_what_is(path):
    store = zvl.open_zv(path)
    for call, hint in [
        (lambda: store.vertices, "; levels have it: store[0].vertices"),
        (lambda: store.axess, "; did you mean 'axes'?"),
        (lambda: store[0].vertexes, "; did you mean 'vertices' or 'vertex_count'?"),
        (lambda: store.level, "; did you mean store[0]?"),
        (lambda: store[0].points, "; did you mean .vertices?"),
        (lambda: store[0].crs, "; the store has it: .store.crs"),
        (lambda: store[0].y, "; did you mean .vertices[:, 1]?"),
        (lambda: store[0].intensity, "; did you mean .attributes['intensity']?"),
        (lambda: store[0].attributes.intensity, r"; did you mean ['intensity']?"),
        (lambda: store[0].objects.idz, "; did you mean 'ids'?"),
    ]:
        with pytest.raises(AttributeError, match=f"{re.escape(hint)}$"):
            call()
    assert not hasattr(store, "_ipython_display_")
    assert pickle.loads(pickle.dumps(store)).axes == copy.copy(store).axes


def test_a_property_that_fails_says_why():
    class Failing(Suggesting):
        @property
        def broken(self):
            return self.nowhere_else

    with pytest.raises(AttributeError, match="'nowhere_else'"):
        Failing().broken  # noqa: B018


def test_what_is_in_the_wrong_order_or_place_is_told(path, tmp_path):
    level = zvl.open_zv(path)[0]
    for given, said in [
        ("a.csv", r"found str: the path of the store comes first; zvl.ingest\(file, path\)"),
        (level, r"found ZVLevel: save\(\) copies levels.*level.to_xarray\(\)"),
        (level.objects, r"found Objects: save\(\)"),
        ({"positions": np.eye(3)}, "found dict: give one of the arrays in it"),
        (None, "found NoneType: give an array"),
        (iter(np.eye(3)), "found iterator: only polylines can be an iterator"),
    ]:
        with pytest.raises(SelectionError, match=f"positions must be given as arrays, {said}"):
            zvl.write_points(tmp_path / "new", given, chunk_shape=5)
    with pytest.raises(SelectionError, match=r"its rows differ in length$"):
        zvl.write_points(tmp_path / "new", [[1, 2, 3], [4, 5]], chunk_shape=5)
    with pytest.raises(SelectionError, match="did you swap axes and rows"):
        zvl.write_points(tmp_path / "new", np.zeros((3, 50)), chunk_shape=5)
    with pytest.raises(SelectionError, match=r"'intensity' is an attribute, not an axis: where="):
        level.sel(intensity=(0, 1))
    with pytest.raises(SelectionError, match=r"did you mean \(\[0.0, 0.0, 0.0\], \[9.0, 9.0, 9.0\]\)\?"):
        level.sel(bbox=[0, 0, 0, 9, 9, 9])
    with pytest.raises(StoreError, match=r"not ZVLevel; give its .store.url"):
        zvl.validate(level)
    with pytest.raises(SelectionError, match=r"files must be paths, found ndarray; write_points"):
        zvl.ingest(np.eye(3), tmp_path / "new")
    with pytest.raises(SelectionError, match=r"counted from 0"):
        zvl.write_mesh(tmp_path / "new", np.eye(3), [[1, 2, 3]], chunk_shape=5)
    with pytest.raises(SelectionError, match=r"numpy.stack\(\[starts, ends\], axis=1\)"):
        zvl.write_lines(tmp_path / "new", (np.eye(3), np.eye(3)), chunk_shape=5)
    with pytest.raises(SelectionError, match=r"\[array\] is one polyline"):
        zvl.write_polylines(tmp_path / "new", np.eye(3), chunk_shape=5)


def test_values_of_another_kind_are_told_or_do_what_is_meant(path, tmp_path):
    level = zvl.open_zv(path)[0]
    with pytest.raises(SelectionError, match="aggregate must be rules by attribute"):
        zvl.write_points(tmp_path / "new", np.eye(3), chunk_shape=5, aggregate="mean")
    with pytest.raises(SelectionError, match="aggregate must be rules by attribute"):
        zvl.build_pyramid(tmp_path / "new", factors=[2], aggregate="mean")
    (tmp_path / "places.csv").write_text("lon,lat,size\n1,2,3\n")
    assert zvl.ingest(tmp_path / "places.csv", tmp_path / "p", axes="lon, lat", columns="size")["vertex_count"] == 1
    with pytest.raises(SelectionError, match=r"no format 'cvs'.*did you mean '.csv'"):
        zvl.ingest(tmp_path / "places.csv", tmp_path / "p", format="cvs")
    with pytest.raises(SelectionError, match="storage= must be a price"):
        zvl.open_zv(path).cost(storage="cheap")
    assert list(level.to_dask_dataframe("intensity").columns)[:4] == ["x", "y", "z", "intensity"]
    assert level.to_file(tmp_path / "one.csv", attributes="intensity")["vertices"] == level.vertex_count
    with pytest.raises(SelectionError, match=r"several ids use level.sel\(objects="):
        level.objects[[3, 4]]
    (tmp_path / "file.csv").write_text("x,y,z")
    with pytest.raises(FormatError, match=r"nothing is here.*this is a file"):
        zvl.open_zv(tmp_path / "file.csv")
    with pytest.raises(FormatError, match=r"nothing is here.*did you mean 'stores'"):
        zvl.open_zv((path.rename(tmp_path / "stores")).with_name("storez"))
    with pytest.raises(FormatError, match="open the folder above it"):
        zvl.open_zv(tmp_path / "stores" / "0")


def test_nothing_is_suggested_for_what_is_like_nothing():
    assert meant("zzz", ["intensity"]) == meant(3, ["three"]) == meant("", ["a"]) == ""
    assert meant("offset", ["coordinate_offset", "other"]) == "; did you mean 'coordinate_offset'?"


def test_tab_offers_names(path):
    level = zvl.open_zv(path)[0]
    assert level.attributes._ipython_key_completions_() == ["intensity", "label"]
    assert level.codes._ipython_key_completions_() == level.categories._ipython_key_completions_() == ["label"]
    assert level.objects.groups._ipython_key_completions_() == ["short"]
    box = level.sel(x=(0.5, 1))
    with counting() as counts:
        for mapping in (level.objects, level.polylines, level.skeletons, level.meshes):
            assert mapping._ipython_key_completions_() == [3, 4, 5]
        for mapping in (box.objects, box.polylines, box.skeletons, box.meshes):
            assert 3 in mapping._ipython_key_completions_()
    assert not [key for key in counts.keys if "/vertices/c/" in key]


def test_dir_shows_the_public_names():
    assert dir(zvl) == sorted([*zvl.__all__, "__version__"])
    assert all(hasattr(zvl, name) for name in dir(zvl))


def test_what_is_typed_shortly_is_meant(path):
    zvl.build_pyramid(path, factors=[2])
    store = zvl.open_zv(path, chunks={})
    assert (store[-1].index, store[-2].index) == (1, 0)
    with pytest.raises(NotFoundError, match="no level -3"):
        store[-3]
    level = store[0]
    assert level.vertices.numblocks == zvl.open_zv(path)[0].vertices.numblocks
    for ends in ((0.5, 1), [0.5, 1], np.array([0.5, 1]), slice(0.5, 1)):
        assert len(level.sel(x=ends).vertices.compute()) == 1
    assert zvl.read_points(path, object_ids=level.objects.slots > 3)["vertex_count"] == 2
    assert level.sel(objects={3, 5}).objects.ids.tolist() == [3, 5]
    assert level.sel(objects=level.objects.slots > 3).objects.ids.tolist() == [4, 5]
    assert level.sel(objects=level.objects.attributes["weight"] < 2).objects.ids.tolist() == [3]
    with pytest.raises(SelectionError, match=r"one boolean for each of .objects.slots, which has shape"):
        level.sel(objects=[True, False])
