"""Files that other libraries ship: ingested and written back, value by value.

Those that are kept here come with their licences, ``data/files/README.md``. ``SAMPLES`` names a folder of others:
``python3 dev.py samples`` fetches the source archives of the libraries, and tries every file in them that we read.
"""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.conftest import DATA
from tests.files.rounds import in_order, link_rows, loaded, vertex_rows
from zarr_vectors_lazy.errors import FileError
from zarr_vectors_lazy.files.formats import BY_SUFFIX, format_of, suffixes

KEPT = DATA / "files/samples.zip"
MORE = os.environ.get("SAMPLES")
COARSE = {
    "TRK": 1e-3,
    "TCK": 1e-3,
    "TRX": 1e-3,
    "LAS": 1e-6,
    "LAZ": 1e-6,
}  # rounded on their way through voxels, or by a scale
REFUSED = {"no_magic_number.tck": "cannot be read as TCK"}


def names():
    if MORE:
        found = sorted(str(path.relative_to(MORE)) for path in Path(MORE).rglob("*") if path.is_file())
    else:
        with zipfile.ZipFile(KEPT) as files:
            found = files.namelist()
    return [name for name in found if name.lower().endswith(tuple(suffixes("reads")))]


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    if MORE:
        return Path(MORE)
    folder = tmp_path_factory.mktemp("samples")
    with zipfile.ZipFile(KEPT) as files:
        files.extractall(folder)
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", names())
def test_a_file_comes_back(samples, tmp_path, name):
    source = samples / name
    wanted = REFUSED.get(source.name)
    if wanted is not None and not MORE:
        with pytest.raises(FileError, match=wanted):
            loaded(source)
        return
    try:
        one = loaded(source, triangulate=True)
    except FileError as error:
        if not MORE:
            raise
        pytest.skip(f"refused: {error}")
    kind, suffix = format_of(source, None, "reads"), "".join(source.suffixes[-2:]).lower()
    suffix = suffix if suffix in BY_SUFFIX else source.suffix.lower()
    if not len(one.positions) and one.offsets is None:
        pytest.skip("there is nothing in it")
    zvl.ingest(source, tmp_path / "a.zarrvectors", triangulate=True)
    level = zvl.open_zv(tmp_path / "a.zarrvectors")[0]
    done = level.to_file(tmp_path / f"b{suffix}", format=kind.name)
    other = loaded(tmp_path / f"b{suffix}")
    slack = COARSE.get(kind.name, 0)
    assert one.kind == other.kind
    left = [text.split()[1] for text in done["left_out"] if text.startswith("attribute ")]
    assert {*one.attributes} - {*left} <= {*other.attributes}, done["left_out"]
    np.testing.assert_allclose(in_order(other.positions), in_order(one.positions), rtol=0, atol=slack)
    if not slack:
        np.testing.assert_array_equal(vertex_rows(other), vertex_rows(one))
    if one.offsets is not None:
        np.testing.assert_array_equal(np.diff(other.offsets), np.diff(one.offsets))
    elif one.links is not None:
        np.testing.assert_array_equal(link_rows(other), link_rows(one))
