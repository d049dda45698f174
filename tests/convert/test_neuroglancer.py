"""Levels in Neuroglancer: the state that the viewer is given, and that its sources answer."""

import json
import urllib.request

import neuroglancer
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.bounds import HANGS_S

pytestmark = pytest.mark.emulator  # the viewer is a server


@pytest.fixture
def stopped():
    yield
    neuroglancer.stop()


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("tracts-0.9", ["lines", "skeletons"]),
        ("neuron-0.9", ["lines", "skeletons"]),
        ("surface-0.9", ["mesh"]),
        ("cloud-0.9", ["points"]),
    ],
)
def test_the_viewer_is_given_sources_that_answer(goldens, name, kinds):
    level = zvl.open_zv(goldens[name].path)[0]
    viewer = level.view()
    state = viewer.state.to_json()
    assert [layer["name"].split()[0] for layer in state["layers"]] == kinds
    assert state["layout"] == "3d"
    assert np.allclose(state["position"], level.store.to_world(np.mean(level.bounds, axis=0)))
    for layer in state["layers"]:
        url = layer["source"].removeprefix("precomputed://")
        with urllib.request.urlopen(f"{url}/info", timeout=HANGS_S) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert json.load(answer)["@type"].startswith("neuroglancer_")


@pytest.mark.usefixtures("stopped")
def test_what_is_selected_is_what_is_seen(tracts):
    part = zvl.open_zv(tracts)[0].sel(bbox=([84, 100, 78], [92, 112, 88]))
    position = np.array(part.view().state.to_json()["position"])
    assert (position > [72, 84, 60]).all()
    assert (position < [108, 120, 96]).all()
