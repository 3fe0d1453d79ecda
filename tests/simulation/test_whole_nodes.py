"""Whole validators in virtual time: real execution, BLS and files, an in-memory network that may be as bad as asked.

Every scenario ends with `WholeNetwork.check`: no fork, and no key contradicted itself. What chance decides comes from
the seed in the test's name.
"""

from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random

import pytest
import trio

from astralink_node.crypto import bls, ml_dsa
from astralink_node.evm.blocks import Withdrawal, decode_block, decode_header, encode_block
from astralink_node.services.consensus_driver import REPEAT_INTERVAL_MS
from astralink_node.services.consensus_view import consensus_state
from astralink_node.services.own_validator import DOPPELGANGER_WAIT_MS
from astralink_node.types import Address
from consensus.beacon import next_prev_randao
from consensus.certificate import Certificate, signer_indices
from consensus.checkpoint import decode_checkpoint, verify_checkpoint
from consensus.epoch import last_height
from consensus.evidence import accused, verify_evidence
from consensus.gossip import (
    CertificateGossip,
    DecidedGossip,
    HeightGossip,
    ProposalGossip,
    VotesGossip,
    decode_gossip,
    encode_gossip,
)
from consensus.messages import NO_ROUND, VoteMessage, VoteType, encode_message, signing_root
from consensus.payload import EMPTY_REVEAL
from consensus.votes import VOTE_BYTES, SignedVote
from p2p.peer_id import PeerId
from p2p.topics import Topic
from tests.simulation.whole_nodes import EPOCH_LENGTH, WholeNetwork, run_network
from tests.support.chains import voting_secret
from tests.support.kill_points import KillPoint
from tests.support.memory_nodes import MemoryNode

REPEAT_S = REPEAT_INTERVAL_MS / 1000

verify_possession_once = cache(bls.verify_possession)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Power failures are acted (`tear_log`), so nothing here needs a real sync; and every life reads one genesis."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setattr(bls, "verify_possession", verify_possession_once)


async def votes_again(network: WholeNetwork, node: MemoryNode) -> None:
    """Until a block names it among those who signed its parent, at a height that is yet to come; soon."""
    await network.reach(network.height + 3)
    last = max(network.blocks())
    certificate = network.blocks()[last].parent_certificate
    assert certificate is not None
    assert network.index_of(node) in signer_indices(certificate.signers)


# --- Restarts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_all_four_killed_at_once_go_on_by_themselves_whatever_their_logs_lost(tmp_path: Path, seed: int) -> None:
    """At any step of one of them: in the midst of a round, with messages on their way."""
    chance = Random(seed)

    async def scenario(network: WholeNetwork) -> None:
        network.links.delay_s = 0.05
        first = network.nodes[0]
        first.kill_point = KillPoint(chance.randint(30, 90))
        network.start()
        with trio.fail_after(60):
            await first.ended.wait()
        height = network.height
        await network.kill()
        if seed:  # the power failed
            for node in network.nodes:
                node.tear_log(chance)
        network.start()
        # Everybody knows what it said, so no round is lost: it takes one repetition.
        await network.reach(height + 1, within_s=2 * REPEAT_S)
        await network.reach(height + 2, within_s=2 * REPEAT_S)

    run_network(tmp_path, scenario, seed=seed)


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
        await network.reach(network.height + 2)
        assert [away_from(node) for node in network.nodes] == [set()] * len(network.nodes), "it is back"

    run_network(tmp_path, scenario)


def test_a_node_whose_key_votes_nowhere_follows_the_chain_in_silence(tmp_path: Path) -> None:
    async def scenario(network: WholeNetwork) -> None:
        network.start()
        await network.reach(3)
        observer = network.new_node(9)
        network.others.append(observer)
        network.start(observer)
        await network.reach(6, observer)
        assert not observer.released
        assert network.height <= observer.height + 1

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


@pytest.mark.parametrize("is_wiped", [False, True])
def test_a_lost_signing_history_silences_its_validator_until_nothing_old_can_be_contradicted(
    tmp_path: Path, is_wiped: bool
) -> None:
    async def scenario(network: WholeNetwork) -> None:
        *_, fourth = network.nodes
        for node in network.nodes:
            node.interval_ms = 5_000
        network.start()
        await network.reach(2)
        await network.kill(fourth)
        fourth.lose_history()
        if is_wiped:
            fourth.wipe()
        before = set(fourth.released)
        network.start(fourth)
        await trio.sleep(DOPPELGANGER_WAIT_MS / 1000)
        assert set(fourth.released) == before
        height = network.height
        await network.reach(height + 4)
        votes = [message for message in fourth.released if message not in before and isinstance(message, VoteMessage)]
        assert min(vote.height for vote in votes) >= height + 2
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


def test_all_four_killed_at_an_epochs_end_still_make_its_checkpoint(tmp_path: Path) -> None:
    async def scenario(network: WholeNetwork) -> None:
        end = last_height(0, EPOCH_LENGTH)
        network.start()
        await network.reach(end)
        await network.kill()
        assert network.height == end
        network.start()
        await network.reach(end + 3)

    network = run_network(tmp_path, scenario)
    carried = [payload.checkpoint for payload in network.blocks().values() if payload.checkpoint]
    assert [decode_checkpoint(raw).epoch for raw in carried] == [0]


# --- Links -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_two_against_two_halt_without_a_fork_and_go_on_when_the_partition_heals(tmp_path: Path, seed: int) -> None:
    chance = Random(seed)

    async def scenario(network: WholeNetwork) -> None:
        network.links.delay_s = 0.1
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


# --- Byzantine peers -------------------------------------------------------------------------------------------


def test_garbage_forged_votes_and_forged_certificates_stop_nobody_and_are_counted(tmp_path: Path) -> None:
    liar = PeerId(b"liar")

    async def scenario(network: WholeNetwork) -> None:
        chance = Random(13)
        transport = network.net.join(liar)
        secret = voting_secret(99)
        network.start()
        await network.reach(1)
        with trio.move_on_after(2):
            while True:
                height = network.height + 1
                block_hash = chance.randbytes(32)
                vote = VoteMessage(network.genesis_hash, height, 0, VoteType.PRECOMMIT, block_hash, NO_ROUND)
                signature = bls.sign(secret, signing_root(encode_message(vote)))
                next_height = SignedVote(VoteType.PREVOTE, height + 1, 0, block_hash, NO_ROUND, 0, signature)
                transport.broadcast(Topic.VOTE, encode_gossip(VotesGossip((next_height,))))
                forged = Certificate(VoteType.PRECOMMIT, height, 0, NO_ROUND, block_hash, b"\x0f", signature)
                transport.broadcast(Topic.VOTE, chance.randbytes(chance.randint(0, 300)))
                transport.broadcast(
                    Topic.VOTE,
                    encode_gossip(
                        VotesGossip(
                            tuple(
                                SignedVote(VoteType.PRECOMMIT, height, 0, block_hash, NO_ROUND, index, signature)
                                for index in range(4)
                            )
                        )
                    ),
                )
                transport.broadcast(Topic.VOTE, encode_gossip(CertificateGossip(forged)))
                transport.broadcast(Topic.VOTE, encode_gossip(DecidedGossip(forged, chance.randbytes(100))))
                await trio.sleep(0.2)
        assert network.height >= 4
        for node in network.nodes:
            assert node.driver is not None
            assert node.driver._ingress.misbehaviour[liar] > 10
            assert set(node.driver._ingress.misbehaviour) == {liar}

    network = run_network(tmp_path, scenario)
    assert {payload.build_round for payload in network.blocks().values()} == {0}


def test_a_true_header_over_a_wrong_body_condemns_its_sender_and_not_the_block(tmp_path: Path) -> None:
    """A block that came to be held for invalid could never be committed, though everybody else did."""
    liar = PeerId(b"liar")

    async def scenario(network: WholeNetwork) -> None:
        transport = network.net.join(liar)

        def liar_is_quicker(sender: PeerId, receiver: PeerId) -> tuple[float, ...]:
            return (0.0 if liar in (sender, receiver) else 0.1,)

        async def spoil() -> None:
            while True:
                message = decode_gossip((await transport.receive()).data)
                if isinstance(message, ProposalGossip):
                    sealed = decode_block(message.raw_block)
                    wrong_payload = replace(sealed, raw_payload=sealed.raw_payload[:-1] + b"\x01")
                    wrong_list = replace(sealed, block=replace(sealed.block, raw_transactions=(b"\x02\xc0",)))
                    gift = Withdrawal(index=0, validator_index=0, address=Address(bytes(20)), amount_gwei=1)
                    wrong_withdrawals = replace(sealed, block=replace(sealed.block, withdrawals=(gift,)))
                    for wrong in (wrong_payload, wrong_list, wrong_withdrawals):
                        transport.broadcast(
                            Topic.VOTE, encode_gossip(ProposalGossip(message.proposal, encode_block(wrong)))
                        )

        network.net.conditions = liar_is_quicker
        async with trio.open_nursery() as nursery:
            nursery.start_soon(spoil)
            network.start()
            await network.reach(4, within_s=10)
            nursery.cancel_scope.cancel()
        for node in network.nodes:
            assert node.driver is not None
            assert set(node.driver._ingress.misbehaviour) == {liar}

    network = run_network(tmp_path, scenario)
    assert {payload.build_round for payload in network.blocks().values()} == {0}


def test_a_peer_that_boasts_of_its_height_does_not_keep_others_from_catching_up(tmp_path: Path) -> None:
    liar = PeerId(b"liar")

    async def scenario(network: WholeNetwork) -> None:
        transport = network.net.join(liar)
        *three, fourth = network.nodes
        network.start(*three)
        await network.reach(8, *three)
        network.start(fourth)
        with trio.move_on_after(3):
            while True:
                transport.broadcast(Topic.VOTE, encode_gossip(HeightGossip(10**9, 0)))
                await trio.sleep(0.01)
        await votes_again(network, fourth)

    run_network(tmp_path, scenario)


def test_evidence_that_one_node_has_reaches_the_others(tmp_path: Path) -> None:
    equivocator = 3

    async def scenario(network: WholeNetwork) -> None:
        transport = network.net.join(PeerId(b"two-faced"))
        *three, absent = network.nodes
        index = network.index_of(absent)
        network.start(*three)
        await network.reach(2, *three)
        height = network.height + 1
        for lie in range(2):
            block_hash = bytes([lie + 1]) * 32
            vote = VoteMessage(network.genesis_hash, height, 0, VoteType.PREVOTE, block_hash, NO_ROUND)
            signature = bls.sign(voting_secret(equivocator), signing_root(encode_message(vote)))
            signed = SignedVote(VoteType.PREVOTE, height, 0, block_hash, NO_ROUND, index, signature)
            transport.send(three[0].peer_id, Topic.VOTE, encode_gossip(VotesGossip((signed,))))
        await network.reach(height + 1, *three)
        for node in three:
            assert node.driver is not None
            assert [accused(evidence) for evidence in node.driver.evidence.held] == [(index,)]

    run_network(tmp_path, scenario)


def test_a_validator_that_contradicts_itself_is_named_once_by_evidence_that_holds(tmp_path: Path) -> None:
    """Once, however often it does: it shall fill neither the log nor the room for evidence against others."""
    equivocator = 3

    async def scenario(network: WholeNetwork) -> None:
        transport = network.net.join(PeerId(b"two-faced"))
        *three, absent = network.nodes
        index = network.index_of(absent)
        network.start(*three)
        await network.reach(2, *three)
        height = network.height + 1
        sizes = [node.wal_path.stat().st_size for node in three]
        for lie in range(60):
            block_hash = bytes([lie + 1]) * 32
            vote = VoteMessage(network.genesis_hash, height, 0, VoteType.PREVOTE, block_hash, NO_ROUND)
            signature = bls.sign(voting_secret(equivocator), signing_root(encode_message(vote)))
            signed = SignedVote(VoteType.PREVOTE, height, 0, block_hash, NO_ROUND, index, signature)
            transport.broadcast(Topic.VOTE, encode_gossip(VotesGossip((signed,))))
        await trio.sleep(0.2)
        assert network.height < height
        grown = [node.wal_path.stat().st_size - size for node, size in zip(three, sizes, strict=True)]
        assert max(grown) < 10 * VOTE_BYTES
        await network.reach(height + 1, *three)
        for node in three:
            assert node.driver is not None
            (evidence,) = node.driver.evidence.held
            convicted = verify_evidence(
                evidence, network.validator_set, network.genesis_hash, bls.fast_aggregate_verify
            )
            assert convicted == accused(evidence) == (index,)
            assert evidence.height == height

    run_network(tmp_path, scenario)


# --- What the chain carries ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> WholeNetwork:
    """Sixteen heights of four validators whose powers differ, while nothing goes wrong."""

    async def scenario(network: WholeNetwork) -> None:
        network.start()
        await network.reach(16)

    return run_network(tmp_path_factory.mktemp("healthy"), scenario, stakes_bwt=(40, 60, 80, 100))


def test_every_epochs_checkpoint_is_carried_by_a_block_and_verifies(healthy: WholeNetwork) -> None:
    carried = {}
    for height, payload in healthy.blocks().items():
        if payload.checkpoint:
            checkpoint = decode_checkpoint(payload.checkpoint)
            verify_checkpoint(checkpoint, healthy.validator_set, healthy.genesis_hash, ml_dsa.verify)
            assert checkpoint.height == last_height(checkpoint.epoch, EPOCH_LENGTH) < height
            assert checkpoint.block_hash == healthy.nodes[0].blocks[checkpoint.height].block_hash
            assert checkpoint.next_set_hash == healthy.validator_set.hash
            carried[checkpoint.epoch] = height
    assert list(carried) == [0, 1, 2]
    assert all(height <= last_height(epoch, EPOCH_LENGTH) + 2 for epoch, height in carried.items())


def test_every_blocks_randomness_follows_from_its_parents_reveal(healthy: WholeNetwork) -> None:
    value, reveal = bytes(32), EMPTY_REVEAL
    seen = {value}
    for height, payload in healthy.blocks().items():
        value = next_prev_randao(value, reveal)
        assert decode_header(healthy.nodes[0].blocks[height].raw_header).prev_randao == value
        seen.add(value)
        reveal = payload.reveal
    assert len(seen) == 17


def test_validators_propose_as_often_as_their_power_says(healthy: WholeNetwork) -> None:
    """Powers are 2, 3, 4 and 5 of 14, so that in 14 heights everybody has exactly that many turns."""
    turns = Counter(payload.proposer_index for height, payload in healthy.blocks().items() if height <= 14)
    members = healthy.validator_set.validators
    assert {index: members[index].power for index in turns} == {index: 20 * count for index, count in turns.items()}
    assert sorted(turns.values()) == [2, 3, 4, 5]


def away_from(node: MemoryNode) -> set[int]:
    """Who is away, as that node's operator sees it now."""
    assert node.driver is not None
    view = consensus_state(node.driver, node.now_ms())
    assert view is not None
    return {index for index, member in enumerate(view.members) if member.is_away}


def test_who_is_away_is_seen_at_every_moment_and_nobody_else_is(tmp_path: Path) -> None:
    async def scenario(network: WholeNetwork) -> None:
        *present, absent = network.nodes
        network.start()
        await network.reach(4)
        for _ in range(100):
            assert [away_from(node) for node in network.nodes] == [set()] * len(network.nodes)
            await trio.sleep(0.05)
        await network.kill(absent)
        await network.reach(network.height + 4, *present)
        for _ in range(100):
            for node in present:
                assert away_from(node) == {network.index_of(absent)}
            await trio.sleep(0.05)

    run_network(tmp_path, scenario)


def test_the_consensus_view_shows_who_is_missing_while_the_chain_stands_still(tmp_path: Path) -> None:
    async def scenario(network: WholeNetwork) -> None:
        present, absent = network.nodes[:2], network.nodes[2:]
        network.start()
        await network.reach(2)
        await network.kill(*absent)
        await trio.sleep(30)
        for node in present:
            assert node.driver is not None
            view = consensus_state(node.driver, node.now_ms())
            assert view is not None
            assert view.height == network.height + 1
            assert view.is_validator
            assert view.is_signing
            assert view.waiting_since_ms < node.now_ms() - 10_000
            (votes,) = [shown for shown in view.rounds if shown.round_ == view.round_]
            voters = {index for choice in votes.prevotes for index in signer_indices(choice.voters)}
            missing = set(range(4)) - voters
            assert missing == {network.index_of(other) for other in absent}
            assert away_from(node) == missing, "nothing was decided without them, but this height stands still"
            assert 3 * sum(choice.power for choice in votes.prevotes) <= 2 * view.total_power

    run_network(tmp_path, scenario)
