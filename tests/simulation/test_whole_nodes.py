"""Whole validators in virtual time: real execution, BLS and files, an in-memory network that may be as bad as asked.

Every scenario ends with `WholeNetwork.check`: no fork, and no key contradicted itself. What chance decides comes from
the seed in the test's name.
"""

from collections import Counter
from pathlib import Path
from random import Random

import pytest
import trio

from astralink_node.crypto import bls, ml_dsa
from astralink_node.evm.blocks import decode_header
from astralink_node.services.consensus_driver import REPEAT_INTERVAL_MS
from astralink_node.services.consensus_view import consensus_state
from consensus.beacon import next_prev_randao
from consensus.certificate import signer_indices
from consensus.checkpoint import decode_checkpoint, verify_checkpoint
from consensus.epoch import last_height
from consensus.evidence import accused, verify_evidence
from consensus.gossip import VotesGossip, encode_gossip
from consensus.messages import NO_ROUND, VoteMessage, VoteType
from consensus.payload import EMPTY_REVEAL
from consensus.votes import SignedVote
from p2p.transport import PeerId
from tests.simulation.whole_nodes import EPOCH_LENGTH, WholeNetwork, run_network
from tests.support.chains import voting_secret
from tests.support.kill_points import KillPoint
from tests.support.memory_nodes import MemoryNode

REPEAT_S = REPEAT_INTERVAL_MS / 1000


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Power failures are acted (`tear_log`), so nothing here needs a real sync."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


async def votes_again(network: WholeNetwork, node: MemoryNode) -> None:
    """Until a block names it among those who signed its parent, at a height that is yet to come; soon."""
    await network.reach(network.height + 3)
    last = max(network.blocks())
    certificate = network.blocks()[last].parent_certificate
    assert certificate is not None
    assert network.index_of(node) in signer_indices(certificate.signers)


# --- Restarts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_all_four_killed_at_once_go_on_by_themselves_whatever_their_logs_lost(tmp_path: Path, seed: int) -> None:
    chance = Random(seed)

    async def scenario(network: WholeNetwork) -> None:
        network.start()
        await network.reach(2)
        await trio.sleep(chance.random())
        height, soon_s = network.height, network.recovery_s
        await network.kill()
        if seed:  # the power failed
            for node in network.nodes:
                node.tear_log(chance)
        network.start()
        await network.reach(height + 1, within_s=soon_s)
        await network.reach(height + 2, within_s=network.recovery_s)

    run_network(tmp_path, scenario)


def test_three_go_on_without_the_fourth_which_catches_up_and_votes_again(tmp_path: Path) -> None:
    async def scenario(network: WholeNetwork) -> None:
        *three, fourth = network.nodes
        network.start()
        await network.reach(2)
        await network.kill(fourth)
        await network.reach(8, *three)
        assert network.height - fourth.height >= 5
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


def test_an_old_copy_of_the_chain_data_signs_nothing_it_signed_before_and_recovers(tmp_path: Path) -> None:
    async def scenario(network: WholeNetwork) -> None:
        first, second, third, fourth = network.nodes
        network.start()
        await network.reach(3)
        await network.kill(fourth)
        copy = fourth.back_up()
        network.start(fourth)
        await network.reach(7)
        await network.kill(fourth)
        fourth.put_back(copy)
        # With the third one down as well, nothing moves until the fourth is back where it signs.
        await network.kill(third)
        height = network.height
        network.start(fourth)
        await network.reach(height + 2, first, second, fourth)

    run_network(tmp_path, scenario)


def test_a_log_ahead_of_the_database_keeps_its_validator_silent_until_it_has_caught_up(tmp_path: Path) -> None:
    async def scenario(network: WholeNetwork) -> None:
        *three, fourth = network.nodes
        network.start()
        await network.reach(2)
        await network.kill(fourth)
        copy = fourth.back_up()
        network.start(fourth)
        await network.reach(6)
        await network.kill(fourth)
        fourth.put_back(copy, with_log=False)
        released = set(fourth.released)
        network.links.split(three, [fourth])
        network.start(fourth)
        await trio.sleep(3)
        assert set(fourth.released) == released
        network.links.heal()
        await network.reach(network.height, fourth, within_s=2 * REPEAT_S)
        await votes_again(network, fourth)

    run_network(tmp_path, scenario)


@pytest.mark.parametrize("seed", range(2))
def test_a_node_killed_around_any_write_signature_or_commit_goes_on(tmp_path: Path, seed: int) -> None:
    chance = Random(seed)

    async def scenario(network: WholeNetwork) -> None:
        *three, fourth = network.nodes
        if seed % 2:  # the others need it
            three = three[:2]
        network.start(*three)
        for _ in range(5):
            fourth.kill_point = KillPoint(chance.randint(1, 70))
            network.start(fourth)
            with trio.fail_after(60):
                await fourth.ended.wait()
            fourth.tear_log(chance)
        network.start(fourth)
        await network.reach(network.height + 2, *three, fourth, within_s=2 * network.recovery_s)

    run_network(tmp_path, scenario)


# --- Links -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_two_against_two_halt_without_a_fork_and_go_on_when_the_partition_heals(tmp_path: Path, seed: int) -> None:
    chance = Random(seed)

    async def scenario(network: WholeNetwork) -> None:
        network.start()
        await network.reach(2)
        await trio.sleep(chance.random())
        members = chance.sample(network.nodes, 4)
        network.links.split(members[:2], members[2:])
        await trio.sleep(1)
        height = network.height
        await trio.sleep(60 + 10 * chance.random())
        assert network.height == height
        network.links.heal()
        await network.reach(height + 1, within_s=network.recovery_s)
        await network.reach(height + 3, within_s=2 * network.recovery_s)

    run_network(tmp_path, scenario)


def test_three_against_one_go_on_and_the_one_is_back_when_the_partition_heals(tmp_path: Path) -> None:
    async def scenario(network: WholeNetwork) -> None:
        *three, fourth = network.nodes
        network.start()
        await network.reach(2)
        network.links.split(three, [fourth])
        await network.reach(6, *three)
        assert fourth.height <= 3
        network.links.heal()
        await network.reach(network.height, fourth, within_s=2 * REPEAT_S)
        await votes_again(network, fourth)

    run_network(tmp_path, scenario)


@pytest.mark.parametrize("seed", range(2))
def test_links_that_lose_delay_and_double_stop_nobody_for_longer_than_they_last(tmp_path: Path, seed: int) -> None:
    async def scenario(network: WholeNetwork) -> None:
        network.links.chance = Random(seed)
        network.start()
        await trio.sleep(25)
        network.links.heal()
        height, soon_s = network.height, network.links.longest_s + network.recovery_s
        await network.reach(height + 1, within_s=soon_s)
        await network.reach(height + 3, within_s=2 * network.recovery_s)

    run_network(tmp_path, scenario)


def test_a_slow_validators_precommits_are_credited_in_later_blocks(tmp_path: Path) -> None:
    async def scenario(network: WholeNetwork) -> None:
        slow = network.nodes[3]
        network.links.slow[slow.peer_id] = 0.9
        network.start()
        await network.reach(7)

    network = run_network(tmp_path, scenario)
    slow = network.index_of(network.nodes[3])
    credited = {
        credit.height
        for payload in network.blocks().values()
        for credit in payload.late_credits
        if slow in signer_indices(credit.signers)
    }
    assert credited
    for payload in network.blocks().values():
        certificate = payload.parent_certificate
        if certificate is not None and certificate.height in credited:
            assert slow not in signer_indices(certificate.signers)
    assert all(len(signer_indices(credit.signers)) == 1 for p in network.blocks().values() for credit in p.late_credits)


# --- One key, two nodes ----------------------------------------------------------------------------------------


def test_two_drivers_that_share_one_signer_never_contradict_each_other(tmp_path: Path) -> None:
    async def scenario(network: WholeNetwork) -> None:
        first, second, _, fourth = network.nodes
        with fourth.signer() as signer:
            twin = network.new_node(3, "twin", shared_signer=signer)
            fourth.shared_signer = signer
            network.others.append(twin)
            # Without the third, the shared key is needed for every block.
            network.start(first, second, fourth, twin)
            await network.reach(8, first, second, fourth, twin)
            await network.kill(first, second, fourth, twin)
        assert fourth.halted is None
        assert twin.halted is None

    network = run_network(tmp_path, scenario)
    together = {**network.nodes[3].released, **network.others[0].released}
    slots = Counter(
        (message.vote_type, message.height, message.round_) for message in together if isinstance(message, VoteMessage)
    )
    assert set(slots.values()) == {1}


def test_a_node_halts_when_a_copy_of_its_key_signs_elsewhere(tmp_path: Path) -> None:
    async def scenario(network: WholeNetwork) -> None:
        *_, fourth = network.nodes
        network.start()
        await network.reach(2)
        copy = network.new_node(3, "copy")
        network.others.append(copy)
        network.start(copy)
        with trio.fail_after(60):
            await fourth.ended.wait()
        assert fourth.halted is not None
        assert f"another node signs with this validator's key 0x{fourth.voting_key.hex()}" in str(fourth.halted)
        await network.kill(copy)
        await network.reach(network.height + 2, *network.nodes[:3])

    run_network(tmp_path, scenario, guilty=[3])
