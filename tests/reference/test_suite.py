"""The comparison of `tests.reference.suite`: what agrees, what is refused, what differs, and how each is reported."""

import zipfile

import pytest

from tests.conftest import DATA
from tests.reference import suite

NAMES = ("n0917-later-patch", "q092-links-without-vertices", "q092-dtypeless-attributes")


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        with zipfile.ZipFile(DATA / "0.9-by-others" / "stores" / f"{name}.zarrvectors.zip") as files:
            files.extractall(tmp_path / name)
    return tmp_path


def test_disagreements_are_told_by_kind(folder, capsys):
    assert suite.main(["--stores", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "9 x refused: attribute: FormatError: attribute * states no dtype" in said
    assert "first: q092-dtypeless-attributes: level 0 attribute bool: " in said
    assert "1 x refused: links: CorruptChunkError: links refer to rows of chunk N, which has no vertices\n" in said
    assert said.splitlines()[-1].startswith("3 stores: {'agree': 1, 'refused': 2}; ")


def test_what_differs_is_named(folder, capsys, monkeypatch):
    monkeypatch.setattr(suite, "attribute", lambda level, name, coded: level.attributes[name].compute()[::-1])
    assert suite.main(["--stores", str(folder / NAMES[0])]) == 1
    assert f"1 x {suite.DIFFERENT}: attribute: values differ" in capsys.readouterr().out
