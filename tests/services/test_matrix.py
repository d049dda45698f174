"""The page on services states what the suite tests, no more and no less."""

import subprocess
import sys
from pathlib import Path

from tests.services import test_services, test_writers
from tests.services.matrix import every, services

ROOT = Path(__file__).parents[2]


def test_the_page_has_the_tables_of_the_suite():
    page = (ROOT / "docs" / "reference" / "services.md").read_text()
    for table in every():
        assert table in page, "python -m tests.services.matrix prints the tables of docs/reference/services.md"


def test_each_cell_is_a_test_that_pytest_collects():
    modules = [test_services, test_writers]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *(module.__file__ for module in modules)]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120).stdout
    collected = {line.partition("::test_")[2] for line in listed.splitlines() if "::test_" in line}
    cells = set()
    for module in modules:
        head, _, *rows = ([cell.strip("` ") for cell in line.split("|")] for line in services(module).splitlines())
        cells |= {
            f"{test.replace(' ', '_')}[{row[3]}]"
            for row in rows
            for tests, runs in zip(head, row, strict=True)
            for test in tests.split(", ")
            if runs == "yes"
        }
    assert cells == collected
