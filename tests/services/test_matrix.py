"""The page on services says what the suite tests, no more and no less."""

import subprocess
import sys
from pathlib import Path

from tests.services.matrix import every, services

ROOT = Path(__file__).parents[2]


def test_the_page_has_the_tables_of_the_suite():
    page = (ROOT / "docs" / "reference" / "services.md").read_text()
    for table in every():
        assert table in page, "python -m tests.services.matrix prints the tables of docs/reference/services.md"


def test_each_cell_is_a_test_that_pytest_collects():
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/services/test_services.py"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120).stdout
    collected = {line.partition("::test_")[2] for line in listed.splitlines() if "::test_" in line}
    cells = {cell.strip("` ") for line in services().splitlines()[2:] for cell in line.split("|") if "[" in cell}
    assert cells == collected
