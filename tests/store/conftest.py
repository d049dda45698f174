"""Stores of the varieties, unpacked when a test asks for one."""

import zipfile
from functools import cache

import pytest

from tests.conftest import DATA


@pytest.fixture(scope="session")
def variety(tmp_path_factory):
    """Give the path of a store of the varieties, by name."""
    where = tmp_path_factory.mktemp("variety")

    @cache
    def unpacked(name):
        (packed,) = DATA.glob(f"*-variety/stores/{name}.zarrvectors.zip")
        with zipfile.ZipFile(packed) as files:
            files.extractall(where / name)
        return where / name

    return unpacked
