"""The page of ``zvl view`` in a real browser, compared with a checked picture."""

import html
import json
import re
import shutil
import subprocess
import threading
from contextlib import contextmanager
from importlib.resources import files
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.image import imread

import zarr_vectors_lazy as zvl
from tests.conftest import DATA
from zarr_vectors_lazy.cli import server as page
from zarr_vectors_lazy.cli.server import view_server

pytestmark = pytest.mark.browser
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PICTURE = slice(215, 590)  # rows of pixels without text, in any font


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
        drawn = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--enable-logging=stderr"]
        quiet = ["--headless", "--no-sandbox", *drawn, "--hide-scrollbars", f"--user-data-dir={tmp_path}/user"]
        waits = ["--virtual-time-budget=10000", "--window-size=900,640", "--force-device-scale-factor=1"]
        command = [browser, *quiet, *waits, *words, url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
        assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]  # nothing missing, no error
        return done.stdout

    return look


def screenshot(look, url, path):
    look(url, f"--screenshot={path}")
    return imread(path)[PICTURE, :, :3]


def share_that_differs(a, b):
    assert a.shape == b.shape
    return float((np.abs(a - b).max(axis=2) > 0.25).mean())


def test_the_page_looks_as_it_did(look, tracts, tmp_path):
    known = imread(DATA / "pages" / "tracts-0.9-level-0.png")[PICTURE, :, :3]
    with page_of(tracts) as url:
        fine = screenshot(look, f"{url}/#level=0", tmp_path / "fine.png")
        coarse = screenshot(look, f"{url}/#level=2", tmp_path / "coarse.png")
    assert share_that_differs(fine, known) < 0.003  # edges of lines are smoothed differently from version to version
    assert share_that_differs(coarse, known) > 0.01


def test_the_page_says_what_it_draws(look, tracts):
    with page_of(tracts) as url:
        text = look(f"{url}/#level=1", "--dump-dom")
        assert "level 1: 141 vertices" in text
        assert text.count("<button") == 4  # level by zoom, and three levels
        assert 'data-ready="1"' in text


def test_the_page_says_what_went_wrong(look, tracts, tmp_path):
    copy = tmp_path / "damaged.zarrvectors"
    shutil.copytree(tracts, copy)
    next(path for path in (copy / "1" / "vertices" / "c").rglob("*") if path.is_file()).unlink()
    with page_of(copy) as url:
        text = look(f"{url}/#level=1", "--dump-dom")
    assert "there is no such object" in text
    assert "data-ready" not in text


@pytest.fixture
def acting(look, monkeypatch):
    """Open the page of a store, let a script do what hands do, and give what it leaves as ``data-found``."""

    def acting(path, script, fragment="", *words):
        plain = files("zarr_vectors_lazy.cli").joinpath("page.html").read_text()
        wait = "const wait = ms => new Promise(done => setTimeout(done, ms));"
        ready = "while (!document.body.dataset.ready) await wait(50); await wait(400);"
        keep = "document.body.dataset.found = JSON.stringify(found);"
        acts = f"const found = await (async () => {{ {script} }})(); {keep}"
        added = f"<script>(async () => {{ {wait} {ready} {acts} }})()</script>"
        changed = SimpleNamespace(joinpath=lambda _: SimpleNamespace(read_bytes=(plain + added).encode))
        monkeypatch.setattr(page, "files", lambda _: changed)
        with page_of(path) as url:
            text = look(f"{url}/{fragment}", "--dump-dom", *words)
        return json.loads(html.unescape(re.search('data-found="([^"]*)"', text)[1]))

    return acting


def test_the_wheel_zooms_to_the_pointer_and_asks_for_the_level_that_fits(acting, tracts):
    script = """
      const before = shown.index, middle = [innerWidth / 2, innerHeight / 2];
      const where = [600, 200].map((p, d) => (p - middle[d] - pan[d]) / scale());
      for (let k = 0; k < 9; k++)
        canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: 200, clientX: 600, clientY: 200, cancelable: true }));
      await wait(600);
      const far = shown.index;
      for (let k = 0; k < 16; k++)
        canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: -200, clientX: 600, clientY: 200, cancelable: true }));
      await wait(600);
      const after = where.map((p, d) => middle[d] + pan[d] + p * scale());
      render(performance.now());
      return { before, far, near: shown.index, after, bar: $("scale").textContent };
    """
    found = acting(tracts, script)
    assert np.allclose(found["after"], [600, 200], atol=0.01)
    assert (found["before"], found["far"], found["near"]) == (0, 2, 0)
    assert found["bar"].strip() == "1"


def test_the_page_tells_the_object_under_the_pointer(acting, tracts):
    script = """
      const [a, b] = rows(), p = shown.points.slice(3 * 40, 3 * 41);
      const dot = r => r[0] * p[0] + r[1] * p[1] + r[2] * p[2];
      tell(innerWidth / 2 + pan[0] + dot(a) * scale(), innerHeight / 2 + pan[1] - dot(b) * scale());
      return { tip: $("tip").textContent, hidden: $("tip").hidden, legend: $("legend").textContent };
    """
    found = acting(tracts, script, "#level=0&color=length")
    assert not found["hidden"]
    assert re.search(r"object \d+\nlength: [\d.]+\nx [\d.]+\ny [\d.]+\nz [\d.]+", found["tip"])
    assert found["legend"].startswith("length")


def test_hands_turn_move_and_show_all(acting, tracts):
    script = """
      const drag = (options, dx, dy) => {
        const at = { pointerId: 1, pointerType: "mouse", clientX: 400, clientY: 300, ...options };
        canvas.setPointerCapture = () => {};
        canvas.dispatchEvent(new PointerEvent("pointerdown", at));
        canvas.dispatchEvent(new PointerEvent("pointermove", { ...at, clientX: 400 + dx, clientY: 300 + dy }));
        canvas.dispatchEvent(new PointerEvent("pointerup", at));
      };
      const was = turn;
      drag({ buttons: 1 }, 100, 0);
      const turned = turn - was;
      drag({ buttons: 2 }, 30, -20);
      const moved = [...pan];
      canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "+", cancelable: true }));
      const larger = zoom;
      canvas.dispatchEvent(new MouseEvent("dblclick"));
      return { turned, moved, larger, zoom, pan };
    """
    found = acting(tracts, script)
    assert found == {"turned": pytest.approx(0.8), "moved": [30, -20], "larger": 1.25, "zoom": 1, "pan": [0, 0]}


def test_a_store_of_two_axes_is_seen_from_above(acting, tmp_path):
    zvl.write_points(tmp_path / "s", np.eye(2) * 900, chunk_shape=1000, axes=("x", "y"), units="micrometer")
    script = "return [...rows().flat(), $('scale').offsetHeight]"
    *rows, height = acting(tmp_path / "s", script, "", "--window-size=390,780")
    assert rows == pytest.approx([1, 0, 0, 0, 1, 0, 0, 0, -1])
    assert height < 24, "the length and its unit are one line"


def test_nothing_lies_beside_a_narrow_page(acting, tracts):
    script = """
      const ids = ["panel", "legend", "scale"].map(id => $(id).getBoundingClientRect());
      return ids.map(box => box.left >= 0 && box.right <= innerWidth && box.bottom <= innerHeight);
    """
    assert all(acting(tracts, script, "#color=object_id", "--window-size=390,780"))


def test_fingers_move_zoom_and_ask(acting, tracts):
    script = """
      canvas.setPointerCapture = () => {};
      const touch = (kind, pointerId, clientX, clientY) => canvas.dispatchEvent(
        new PointerEvent(`pointer${kind}`, { pointerId, pointerType: "touch", clientX, clientY, buttons: 1 }));
      touch("down", 1, 300, 300), touch("down", 2, 400, 300);
      for (let y = 302; y <= 350; y += 2) touch("move", 1, 300, y), touch("move", 2, 400, y);
      const moved = [zoom, ...pan];
      touch("move", 2, 500, 350);
      const larger = zoom / moved[0];
      touch("up", 1, 300, 350), touch("up", 2, 500, 350);
      all();
      const [a, b] = rows(), p = shown.points.slice(0, 3), dot = r => r[0] * p[0] + r[1] * p[1] + r[2] * p[2];
      const at = [innerWidth / 2 + dot(a) * scale(), innerHeight / 2 - dot(b) * scale()];
      touch("down", 3, ...at), touch("up", 3, ...at);
      return { moved, larger, tip: $("tip").textContent };
    """
    found = acting(tracts, script)
    assert found["moved"] == pytest.approx([1, 0, 50], abs=0.2)
    assert found["larger"] == pytest.approx(2, rel=1e-3)
    assert found["tip"].startswith("object ")


def test_true_colours_are_drawn_without_a_legend(acting, tmp_path):
    colours = {"rgb": np.full((9, 3), [200, 30, 60], "u1")}
    zvl.write_points(tmp_path / "s", np.eye(9, 3) * 9, chunk_shape=10, vertex_attributes=colours)
    script = """
      const pixels = new Uint8Array(4 * canvas.width * canvas.height);
      render(performance.now());
      gl.readPixels(0, 0, canvas.width, canvas.height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
      let red = 0;
      for (let i = 0; i < pixels.length; i += 4) red += pixels[i] > 150 && pixels[i + 1] < 160 && pixels[i + 2] < 170;
      return { red, hidden: $("legend").hidden };
    """
    found = acting(tmp_path / "s", script, "#color=rgb")
    assert found["red"] > 20
    assert found["hidden"]
