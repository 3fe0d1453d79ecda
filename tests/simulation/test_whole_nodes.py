"""Whole validators in virtual time: real execution, BLS and files, an in-memory network that may be as bad as asked.

Every scenario ends with `WholeNetwork.check`: no fork, and no key contradicted itself.
"""

from pathlib import Path
from random import Random

import pytest
import trio

from astralink_node.services.consensus_driver import REPEAT_INTERVAL_MS
from consensus.certificate import signer_indices
from tests.simulation.whole_nodes import INTERVAL_MS, WholeNetwork, run_network
from tests.support.memory_nodes import MemoryNode

REPEAT_S = REPEAT_INTERVAL_MS / 1000


# --- Restarts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_all_four_killed_at_once_go_on_by_themselves_whatever_their_logs_lost(tmp_path: Path, seed: int) -> None:
    chance = Random(seed)

    async def scenario(network: WholeNetwork) -> None:
        network.start()
        await network.reach(2)
        await trio.sleep(chance.random())
        await network.kill()
        if seed:  # the power failed
            for node in network.nodes:
                node.tear_log(chance)
        height = network.height
        network.start()
        await trio.sleep(0)
        await network.reach(height + 1, within_s=network.recovery_s)
        await network.reach(height + 2, within_s=network.recovery_s)

    run_network(tmp_path, scenario)


def test_three_go_on_without_the_fourth_which_catches_up_and_votes_again(tmp_path: Path) -> None:
    async def scenario(network: WholeNetwork) -> None:
        *three, fourth = network.nodes
        network.start()
        await network.reach(2)
        await network.kill(fourth)
        await network.reach(8, *three)
        missed = network.height - fourth.height
        assert missed >= 5
        network.start(fourth)
        # Each missed block is asked for as soon as the one before is committed.
        await network.reach(network.height, fourth, within_s=2 * REPEAT_S)
        await votes_again(network, fourth)

    run_network(tmp_path, scenario)


def test_a_wiped_validator_syncs_from_the_first_block_and_votes_again(tmp_path: Path) -> None:
    async def scenario(network: WholeNetwork) -> None:
        *_, fourth = network.nodes
        network.start()
        await network.reach(6)
        await network.kill(fourth)
        fourth.wipe()
        network.start(fourth)
        await votes_again(network, fourth)

    run_network(tmp_path, scenario)


async def votes_again(network: WholeNetwork, node: MemoryNode) -> None:
    """Until blocks name it among those who signed their parents, at heights that are yet to come."""
    await network.reach(network.height + 3)
    last = max(network.blocks())
    certificate = network.blocks()[last].parent_certificate
    assert certificate is not None
    assert network.index_of(node) in signer_indices(certificate.signers)
