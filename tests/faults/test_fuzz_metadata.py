"""Slightly wrong metadata, in everything that a store offers: values or our errors.

``FUZZ`` says how many documents; without it a few, always the same.
"""

import json
import os
import random
import time

import dask
import pytest
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

import zarr_vectors_lazy as zvl
from tests.bounds import at_most, within
from tests.faults.cases import STORES, contents, every_small_store, unpacked
from tests.faults.mutate import EXAMPLES, hostile
from zarr_vectors_lazy.errors import ZVError

SEED = os.environ.get("SEED", str(time.time_ns()) if EXAMPLES else "7")
PARTS = 4
BUFFER = default_buffer_prototype().buffer


def members(store):
    """What a store gives, as calls that compute it."""
    yield lambda: (repr(store), store._repr_html_(), store.headers)
    for index in store.levels:
        level = store[index]
        yield lambda level=level: (repr(level), level.chunk_bounds)
        yield lambda level=level: level.vertices.compute()
        yield lambda level=level: level.compute_chunk_sizes().vertices.shape
        yield lambda level=level: dask.compute(*[level.attributes[name] for name in level.attribute_names])
        yield lambda level=level: level.edges.compute()
        yield lambda level=level: level.faces.compute()
        yield lambda level=level: dask.compute(*[level.links(delta) for delta in level.deltas])
        yield lambda level=level: dask.compute(*level.link_attributes.values())
        yield lambda level=level: dask.compute(*level.objects.ragged())
        yield lambda level=level: level.objects.attributes.load()
        yield lambda level=level: (dict(level.objects.groups), level.objects.groups.attributes.load())
        yield lambda level=level: level.sel(x=slice(0, 50)).vertices.compute()
        yield lambda level=level: level.sel(objects=level.objects.ids[:2]).vertices.compute()
        yield lambda level=level: str(level.explain("vertices", "attributes"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Objects of small stores, by name."""
    names = every_small_store()
    names = names if EXAMPLES else [name for name in STORES if name in names]
    return {name: contents(path) for name, path in unpacked(tmp_path_factory.mktemp("stores"), names).items()}


def documents(files, part):
    """Stores of which one document was changed, and what was done to it."""
    for number in range((EXAMPLES or 48) // PARTS):
        rng = random.Random(f"{SEED}-{part}-{number}")
        name = rng.choice(sorted(files))
        docs = [key for key in files[name] if key.endswith("zarr.json")]
        high = [key for key in docs if key.count("/") <= 2]
        key = rng.choice(docs if rng.random() < 0.7 else high)
        doc, done = hostile(json.loads(files[name][key]), rng)
        yield {**files[name], key: json.dumps(doc).encode()}, f"{name}/{key}: {done} (seed {SEED}-{part}-{number})"


@pytest.mark.parametrize("part", range(PARTS))
def test_metadata_that_are_nearly_right(files, part):
    with dask.config.set(scheduler="sync"):
        for objects, what in documents(files, part):
            with within(60, what), at_most(256 * 2**20, what):
                try:
                    store = zvl.open_zv(MemoryStore({key: BUFFER.from_bytes(data) for key, data in objects.items()}))
                    calls = list(members(store))
                except ZVError:
                    continue
                for call in calls:
                    try:
                        call()
                    except ZVError:
                        continue
                    except Exception as error:
                        raise AssertionError(what) from error
