"""A third or more byzantine: forks happen, and what honest validators hold then names the guilty and nobody else."""

import pytest

from consensus.evidence import EvidenceKind, contradiction
from tests.simulation.scenario import fork_scenario
from tests.simulation.simulation import Simulation

SEEDS = range(6)


def forked(actor: str, count: int) -> list[Simulation]:
    """The runs that came to a fork."""
    simulations = [Simulation(fork_scenario(seed, count, actor)) for seed in SEEDS]
    for simulation in simulations:
        simulation.run()
    return [simulation for simulation in simulations if simulation.records.has_fork]


@pytest.mark.parametrize("count", [4, 7, 10])
def test_twins_fork_the_chain_and_their_double_votes_convict_them(count: int) -> None:
    simulations = forked("twins", count)
    assert len(simulations) == len(SEEDS)
    for simulation in simulations:
        guilty = simulation.records.check_fork_is_accounted_for()
        assert guilty <= set(simulation.scenario.byzantine)


@pytest.mark.parametrize("count", [4, 7, 10])
def test_a_fork_without_any_double_vote_convicts_by_amnesia_alone(count: int) -> None:
    simulations = forked("face", count)
    assert simulations
    for simulation in simulations:
        guilty = simulation.records.check_fork_is_accounted_for()
        assert guilty <= set(simulation.scenario.byzantine)
        kinds = {contradiction(item.first, item.second) for item in simulation.records.find_all_evidence()}
        assert kinds == {EvidenceKind.AMNESIA}


@pytest.mark.parametrize("actor", ["twins", "face"])
def test_the_fork_is_real(actor: str) -> None:
    """Two valid certificates of one height for different blocks, each decided by somebody honest."""
    simulation = forked(actor, 4)[0]
    height, blocks = next((h, b) for h, b in simulation.records.decisions.items() if len(b) > 1)
    for block_hash, decided in blocks.items():
        assert simulation.setting.is_final(decided.certificate, height, block_hash)
