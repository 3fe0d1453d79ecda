"""One seed, one run: in this process, in another one, and with other string hashes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.scenario import ACTORS, decode_scenario, encode_scenario, fork_scenario, random_scenario
from tests.simulation.simulation import Outcome, Simulation

ROOT = Path(__file__).parents[2]
HEIGHTS = 4
SEEDS = range(12)


def run(seed: int) -> Outcome:
    return Simulation(random_scenario(seed, (4, 7, 10)[seed % 3], HEIGHTS)).run()


def digests() -> list[str]:
    return [run(seed).digest for seed in SEEDS]


def test_the_same_seeds_give_the_same_events() -> None:
    assert [run(seed) for seed in SEEDS] == [run(seed) for seed in SEEDS]


def test_different_seeds_give_different_events() -> None:
    assert len(set(digests())) == len(SEEDS)


@pytest.mark.parametrize("hash_seed", ["1", "4294967295"])
def test_another_process_with_other_hashes_gives_the_same_events(hash_seed: str) -> None:
    script = "from tests.simulation.test_determinism import digests; print(*digests())"
    answer = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.split() == digests()


def test_a_scenario_survives_its_way_through_json() -> None:
    for seed in range(50):
        for scenario in (random_scenario(seed, 7, HEIGHTS), fork_scenario(seed, 7, "face")):
            assert decode_scenario(encode_scenario(scenario)) == scenario


def test_seeds_bring_every_actor_and_every_fault() -> None:
    scenarios = [random_scenario(seed, 10, HEIGHTS) for seed in range(200)]
    assert {actor for scenario in scenarios for actor in scenario.byzantine.values()} == set(ACTORS)
    assert {crash.kind for scenario in scenarios for crash in scenario.crashes} == {"restart", "wipe", "tear"}
    for fault in ("loss", "duplication", "deafness", "partitions"):
        assert any(getattr(scenario.links, fault) for scenario in scenarios), fault
    assert any(scenario.late for scenario in scenarios)
    assert any(scenario.relays for scenario in scenarios)
    assert any(len(set(scenario.skews_ms)) > 1 for scenario in scenarios)
    assert all(scenario.is_tolerable for scenario in scenarios)
