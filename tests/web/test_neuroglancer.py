"""The viewer of Neuroglancer's package in a real browser draws what a server of ours gives it."""

import shutil
import subprocess
import threading

import pytest

pytestmark = pytest.mark.browser
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1000,700", "--force-device-scale-factor=1"),
)
PATIENCE = 60  # seconds: a layer whose source fails never is drawn


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
