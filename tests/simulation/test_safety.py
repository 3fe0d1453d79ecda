"""Less than a third byzantine and every fault: no fork, no honest double sign or amnesia, nobody honest accused.

A thousand heights here; `make simulation` runs twenty thousand.
"""

import pytest

from tests.simulation.campaign import run_campaign
from tests.simulation.network import Links
from tests.simulation.scenario import ACTORS, Scenario, random_scenario
from tests.simulation.simulation import Simulation

SEED = 20_000


@pytest.mark.parametrize(("count", "heights"), [(4, 500), (7, 300), (10, 200)])
def test_a_thousand_heights_of_random_networks_keep_every_promise(count: int, heights: int) -> None:
    figures = run_campaign(heights, SEED, [count])
    assert figures.heights >= heights
    assert figures.worst_share_of_bound <= 1
    assert figures.highest_round > 5
    assert figures.re_proposals > 0
    assert figures.reports > 0
    assert figures.crashes.keys() == {"restart", "wipe", "tear"}


@pytest.mark.parametrize("count", [1, 4, 7, 10])
def test_without_faults_every_height_takes_one_round(count: int) -> None:
    simulation = Simulation(Scenario(seed=1, powers=(1,) * count, heights=20))
    outcome = simulation.run()
    assert outcome.common_height >= 20
    assert outcome.highest_round == 0
    assert outcome.refusals == outcome.reports == 0


@pytest.mark.parametrize("actor", ACTORS)
def test_each_kind_of_byzantine_validator_is_borne(actor: str) -> None:
    for seed, count in enumerate((4, 7, 10)):
        liars = dict.fromkeys(range((count - 1) // 3), actor)
        links = Links(stable_from_ms=8_000, unstable_delay_ms=1_500, loss=0.1, deafness=0.2)
        scenario = Scenario(seed=seed, powers=(1,) * count, heights=6, byzantine=liars, links=links)
        assert Simulation(scenario).run().common_height >= 6


def test_an_equivocator_and_a_forger_are_noticed() -> None:
    base = random_scenario(3, 4, 6)
    for actor, noticed in (("equivocator", "reports"), ("forger", "refusals")):
        scenario = Scenario(seed=5, powers=base.powers, heights=6, byzantine={0: actor}, relays=True)
        assert scenario.is_tolerable
        assert getattr(Simulation(scenario).run(), noticed) > 0, actor
