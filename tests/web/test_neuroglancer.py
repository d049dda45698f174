"""The viewer of Neuroglancer's package, in a real browser, draws what our server sends.

The pictures are kept where ``PICTURES`` names a folder, to be looked at.
"""

import io
import os
import shutil
import subprocess
import threading
from pathlib import Path

import neuroglancer
import pytest
from matplotlib.image import imread

import zarr_vectors_lazy as zvl
from tests.web.served import serving
from tests.web.shapes import SHAPES, recoded
from tests.web.test_page import BROWSERS
from zarr_vectors_lazy.convert.precomputed_level import PrecomputedLevel
from zarr_vectors_lazy.web.neuroglancer import viewer_state

pytestmark = pytest.mark.browser
FLAGS = (
    *("--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1000,700", "--force-device-scale-factor=1"),
)
PATIENCE = 60  # seconds: a layer whose source fails is never drawn
LEAST = 1000  # pixels that are not black
CODECS = [{}, {"compressor": "blosc"}, {"compressor": None, "checksum": False}, {"shard_shape": 4}]
PACKED = ["zlib", "gzip"]  # by others: cells are packed again
KINDS = {"graph": "lines"}  # the option that shows a shape, if it differs from its name
SEGMENTS = {"skeletons": ["4", "5", "6"], "mesh": ["1", "2"]}


def screenshot(viewer, folder, patience=PATIENCE):
    """PNG of a viewer in a browser that is started for it, once all is drawn."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    assert found, "no Chromium on the PATH: apt-get install chromium, or whatever this system calls it"
    with viewer.config_state.txn() as state:
        state.show_ui_controls = False
    command = [found, *FLAGS, f"--user-data-dir={folder}", viewer.get_viewer_url()]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        drawn, answers = threading.Event(), []
        viewer.async_screenshot(lambda answer: (answers.append(answer), drawn.set()))
        assert drawn.wait(patience), "not drawn: a source failed, or the browser did"
    finally:
        child.terminate()
        child.wait(20)
    return answers[0].screenshot.image


def look_at(picture, name):
    """Pixels of a picture that are not black."""
    if folder := os.environ.get("PICTURES"):
        Path(folder, f"{name}.png").write_bytes(picture)
    return int((imread(io.BytesIO(picture))[..., :3].max(axis=2) > 40 / 255).sum())


@pytest.fixture(scope="module", autouse=True)
def on_loopback():
    neuroglancer.set_server_bind_address("127.0.0.1", 0)
    yield
    neuroglancer.stop()


@pytest.mark.filterwarnings("ignore:Numcodecs codecs")
@pytest.mark.parametrize("place", ["disk", "bucket"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_viewer_draws_a_store(shape, place, tmp_path, s3):
    """Each shape from disk and from a bucket, with another codec."""
    number, kind = 2 * list(SHAPES).index(shape) + (place == "bucket"), KINDS.get(shape, shape)
    path = tmp_path / f"{shape}.zv"
    if number < len(CODECS) + 4:
        SHAPES[shape](path, **CODECS[number % len(CODECS)])
    else:
        SHAPES[shape](tmp_path / "raw.zv", **CODECS[2])
        recoded(tmp_path / "raw.zv", path, PACKED[number % len(PACKED)])
    if place == "bucket":
        s3.upload(path, f"neuroglancer/{shape}.zv")
        url, options = s3.obstore(f"neuroglancer/{shape}.zv")
        level = zvl.open_zv(url, backend="obstore", storage_options=options)[0]
    else:
        level = zvl.open_zv(path)[0]
    viewer = level.view()
    state = viewer.state.to_json()
    state["layers"] = [layer for layer in state["layers"] if layer["name"].startswith(kind)]
    if kind in SEGMENTS:
        state["layers"][0]["segments"] = SEGMENTS[kind]
    viewer.set_state(state)
    assert look_at(screenshot(viewer, tmp_path / "browser"), f"{shape}-{place}") > LEAST


@pytest.mark.parametrize("kind", [shape for shape in SHAPES if shape not in KINDS])
def test_the_viewer_draws_an_export(kind, tmp_path):
    SHAPES[kind](tmp_path / "store.zv")
    level = zvl.open_zv(tmp_path / "store.zv")[0]
    level.to_precomputed(tmp_path / "out", kind, sharded=kind != "mesh", **({"limit": 500} if kind == "points" else {}))
    source = PrecomputedLevel(level._view)
    with serving(tmp_path / "out") as server:
        state = viewer_state(source, "")
        (layer,) = (layer for layer in state["layers"] if layer["name"].startswith(kind))
        layer["source"] = f"precomputed://{server.url}"
        if kind in SEGMENTS:
            layer["segments"] = SEGMENTS[kind]
        viewer = neuroglancer.Viewer()
        viewer.set_state({**state, "layers": [layer]})
        assert look_at(screenshot(viewer, tmp_path / "browser"), f"{kind}-export") > LEAST
