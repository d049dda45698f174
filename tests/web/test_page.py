"""The page of ``zvl view`` in a real browser, compared with a picture of it that was looked at."""

import shutil
import subprocess
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from matplotlib.image import imread

import zarr_vectors_lazy as zvl
from tests.conftest import DATA
from zarr_vectors_lazy.cli.page import view_server

pytestmark = pytest.mark.browser
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PANEL = 115  # rows of pixels that the text takes, in whatever font there is


@pytest.fixture(scope="module")
def browser():
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    assert found, "no Chromium on the PATH: apt-get install chromium, or whatever this system calls it"
    return found


@contextmanager
def page_of(path):
    server = view_server(zvl.open_zv(path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.url
    finally:
        server.close()


@pytest.fixture
def look(browser, tmp_path):
    """Run the browser on a page; give what it prints."""

    def look(url, *words):
        quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={tmp_path}/user"]
        waits = ["--virtual-time-budget=10000", "--window-size=900,640", "--force-device-scale-factor=1"]
        command = [browser, *quiet, *waits, *words, url]
        return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout

    return look


def screenshot(look, url, path):
    look(url, f"--screenshot={path}")
    return imread(path)[PANEL:, :, :3]


def share_that_differs(a, b):
    assert a.shape == b.shape
    return float((np.abs(a - b).max(axis=2) > 0.25).mean())


def test_the_page_looks_as_it_did(look, tracts, tmp_path):
    known = imread(DATA / "pages" / "tracts-0.9-level-0.png")[PANEL:, :, :3]
    with page_of(tracts) as url:
        fine = screenshot(look, f"{url}/#level=0", tmp_path / "fine.png")
        coarse = screenshot(look, f"{url}/#level=2", tmp_path / "coarse.png")
    assert share_that_differs(fine, known) < 0.003  # edges of lines are smoothed differently from version to version
    assert share_that_differs(coarse, known) > 0.01


def test_the_page_says_what_it_draws(look, tracts):
    with page_of(tracts) as url:
        text = look(f"{url}/#level=1", "--dump-dom")
        assert "level 1: 141 vertices" in text
        assert text.count("<button") == 3
        assert 'data-ready="1"' in text


def test_the_page_says_what_went_wrong(look, tracts, tmp_path):
    copy = tmp_path / "damaged.zarrvectors"
    shutil.copytree(tracts, copy)
    next(path for path in (copy / "1" / "vertices" / "c").rglob("*") if path.is_file()).unlink()
    with page_of(copy) as url:
        text = look(f"{url}/#level=1", "--dump-dom")
    assert "there is no such object" in text
    assert "data-ready" not in text
