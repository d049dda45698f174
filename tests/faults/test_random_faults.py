"""Whatever fails, a read returns correct values or one of our errors: never less, no other exception, no hang."""

import os
import time

import pytest

from tests.faults.cases import HOWS, Bench, Tally, every_small_store
from tests.faults.server import fault_server

SEED = 7


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    yield from served(Bench(tmp_path_factory.mktemp("bench")))


@pytest.fixture(scope="module")
def large_bench(tmp_path_factory):
    yield from served(Bench(tmp_path_factory.mktemp("bench"), every_small_store()))


def served(bench):
    """The test bench with a server for its stores."""
    with fault_server(bench.folder) as bench.server:  # it keeps what is there now
        yield bench


def test_a_sample_over_a_store_object(bench):
    tally = Tally()
    for number in range(100):
        bench.try_case(bench.draw(f"{SEED}-{number}", HOWS[:1]), tally)
    assert tally.faults > 80


@pytest.mark.emulator
def test_a_sample_over_a_server(bench):
    tally = Tally()
    for number in range(60):
        bench.try_case(bench.draw(f"{SEED}-{number}", HOWS[1:]), tally)
    assert tally.faults > 50


@pytest.mark.stress
@pytest.mark.parametrize("how", HOWS)
def test_ten_thousand_faults(large_bench, how, capsys):
    """``FAULTS`` says how many of them (10,000 over all ways), ``SEED`` which."""
    wanted, seed = int(os.environ.get("FAULTS", "10000")) // len(HOWS), os.environ.get("SEED", str(time.time_ns()))
    tally, number = Tally(), 0
    while tally.faults < wanted:
        large_bench.try_case(large_bench.draw(f"{seed}-{number}", (how,)), tally)
        number += 1
    with capsys.disabled():
        print(f"\n{how}, seed {seed}: {tally.faults} faults\n{tally}")
