"""The viewer of Neuroglancer's package in a real browser draws what a server of ours gives it.

The pictures are kept where ``PICTURES`` names a folder, to be looked at.
"""

import io
import os
import shutil
import subprocess
import threading
from pathlib import Path

import neuroglancer
import numpy as np
import pytest
from matplotlib.image import imread

import zarr_vectors_lazy as zvl
from tests.web.served import serving
from tests.web.test_page import BROWSERS
from zarr_vectors_lazy.convert.neuroglancer import viewer_state
from zarr_vectors_lazy.convert.precomputed_level import PrecomputedLevel

pytestmark = pytest.mark.browser
FLAGS = (
    *("--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1000,700", "--force-device-scale-factor=1"),
)
PATIENCE = 60  # seconds: a layer whose source fails never is drawn
LEAST = 1000  # pixels that are not black
CODECS = [{}, {"compressor": "blosc"}, {"compressor": None, "checksum": False}, {"shard_shape": 4}]


def screenshot(viewer, folder):
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
        assert drawn.wait(PATIENCE), "not drawn: a source failed, or the browser did"
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


def spiral(turns, n):
    t = np.linspace(0, turns * 2 * np.pi, n)
    return np.stack([40 + 30 * np.cos(t), 40 + 30 * np.sin(t), np.linspace(5, 75, n)], axis=1)


def write_cloud(path, **codec):
    points = np.random.default_rng(0).normal(40, 12, (20_000, 3)).clip(0, 80).astype("f4")
    zvl.write_points(
        path, points, chunk_shape=20, vertex_attributes={"depth": points[:, 2].copy()}, units="um", **codec
    )


def write_paths(path, **codec):
    rng = np.random.default_rng(1)
    paths = [spiral(2, 200) + rng.normal(0, 3, 3) for _ in range(60)]
    values = {"length": np.arange(60, dtype="f4")}
    zvl.write_polylines(
        path, paths, chunk_shape=20, geometry_type="streamline", object_attributes=values, units="um", **codec
    )


def write_trees(path, **codec):
    branch = spiral(1, 100)
    trees = [branch * scale for scale in (1, 0.95, 0.8)]
    vertices = np.concatenate(trees)
    rows = np.arange(len(vertices)).reshape(3, 100)
    edges = np.concatenate([np.stack([row[1:], row[:-1]], axis=1) for row in rows])
    ids = np.repeat([4, 5, 6], 100)
    zvl.write_graph(path, vertices, edges, chunk_shape=20, object_ids=ids, kind="skeleton", units="um", **codec)


def write_balls(path, **codec):
    u, v = np.meshgrid(np.linspace(0, np.pi, 25), np.linspace(0, 2 * np.pi, 50), indexing="ij")
    ball = np.stack([np.sin(u) * np.cos(v), np.sin(u) * np.sin(v), np.cos(u)], axis=-1).reshape(-1, 3)
    corner = (np.arange(24)[:, None] * 50 + np.arange(49)).reshape(-1)
    faces = np.concatenate(
        [np.stack([corner, corner + 50, corner + 51], 1), np.stack([corner, corner + 51, corner + 1], 1)]
    )
    vertices = np.concatenate([ball * 12 + centre for centre in ([20, 20, 20], [55, 55, 40])])
    ids = np.repeat([1, 2], len(ball))
    both = np.concatenate([faces, faces + len(ball)])
    zvl.write_mesh(path, vertices, both, chunk_shape=20, object_ids=ids, units="um", **codec)


SHAPES = {"points": write_cloud, "lines": write_paths, "skeletons": write_trees, "mesh": write_balls}


@pytest.mark.parametrize("place", ["disk", "bucket"])
@pytest.mark.parametrize("kind", SHAPES)
def test_the_viewer_draws_a_store(kind, place, tmp_path, s3):
    codec = CODECS[(list(SHAPES).index(kind) + (place == "bucket")) % len(CODECS)]
    path = tmp_path / f"{kind}.zv"
    SHAPES[kind](path, **codec)
    if place == "bucket":
        s3.upload(path, f"neuroglancer/{kind}.zv")
        url, options = s3.obstore(f"neuroglancer/{kind}.zv")
        level = zvl.open_zv(url, backend="obstore", storage_options=options)[0]
    else:
        level = zvl.open_zv(path)[0]
    viewer = level.view()
    state = viewer.state.to_json()
    state["layers"] = [layer for layer in state["layers"] if layer["name"].startswith(kind)]
    if kind == "skeletons":
        state["layers"][0]["segments"] = ["4", "5", "6"]
    viewer.set_state(state)
    assert look_at(screenshot(viewer, tmp_path / "browser"), f"{kind}-{place}") > LEAST


@pytest.mark.parametrize("kind", SHAPES)
def test_the_viewer_draws_an_export(kind, tmp_path):
    SHAPES[kind](tmp_path / "store.zv")
    level = zvl.open_zv(tmp_path / "store.zv")[0]
    level.to_precomputed(tmp_path / "out", kind, sharded=kind != "mesh", **({"limit": 500} if kind == "points" else {}))
    source = PrecomputedLevel(level._view)
    with serving(tmp_path / "out") as server:
        state = viewer_state(source, "")
        (layer,) = (layer for layer in state["layers"] if layer["name"].startswith(kind))
        layer["source"] = f"precomputed://{server.url}"
        if kind == "skeletons":
            layer["segments"] = ["4", "5", "6"]
        viewer = neuroglancer.Viewer()
        viewer.set_state({**state, "layers": [layer]})
        assert look_at(screenshot(viewer, tmp_path / "browser"), f"{kind}-export") > LEAST
