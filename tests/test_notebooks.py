"""Notebooks run from top to bottom in a new kernel, on data of the tests or data that they make."""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

from tests.bounds import HANGS_S

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def name(path):
    return path.stem


@pytest.mark.emulator
@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook_runs(path, tmp_path, monkeypatch):
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    patience = {"timeout": 600, "startup_timeout": HANGS_S}
    with TemporaryDirectory(dir="/tmp") as short:  # sockets, of which the path must be short: a port may be taken
        sockets = Config(KernelManager={"transport": "ipc", "ip": f"{short}/kernel"})
        NotebookClient(notebook, kernel_name="python3", resources=place, config=sockets, **patience).execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook_is_small_and_was_run_in_order(path):
    text = path.read_text()
    notebook = json.loads(text)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(notebook["cells"]) <= 15
    assert len(text) < 500_000
    assert notebook["cells"][0]["source"][0].startswith("# ")
    assert notebook["cells"][0]["source"][0].rstrip().endswith("?")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert "version" in "".join(code[-1]["source"])
    said = [output for cell in code for output in cell["outputs"] if output.get("name") == "stderr"]
    assert said == []
    assert not re.search(r"(/tmp/|/home/|/root/|/work/)", text)


def test_every_notebook_is_listed():
    listed = (ROOT / "notebooks" / "README.md").read_text()
    assert [path.name for path in NOTEBOOKS if path.name not in listed] == []
