"""Whole validators of a chain with staking, in virtual time: who joins, leaves, rotates or contradicts itself."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from astralink_node.chain.consensus_messages import Decided
from astralink_node.chain.messages import Candidate
from astralink_node.crypto import bls
from astralink_node.evm.blocks import decode_block, decode_header, encode_block
from astralink_node.services.consensus_log import ConsensusLog
from astralink_node.services.evidence_desk import EvidenceUnwelcome
from astralink_node.types import Address, Hash32
from consensus.certificate import signer_indices
from consensus.evidence_forms import decode_any_evidence, encode_any_evidence, evidence_hash
from consensus.forged_header import ForgedHeader
from consensus.gossip import DecidedGossip, EvidenceGossip, encode_gossip
from consensus.messages import VoteMessage
from consensus.params import ConsensusParams
from consensus.payload import ConsensusPayload, decode_payload
from consensus.staking_params import StakingParams
from genesis.dev_accounts import DEVNET_ACCOUNTS
from p2p.memory_transport import MemoryNetwork
from p2p.peer_id import PeerId
from p2p.topics import Topic
from tests.support.chains import voting_secret
from tests.support.memory_nodes import MemoryNode
from tests.support.staking_chains import BWT, StakingChain, operator_of, staking_genesis

EPOCH_LENGTH = 10
GENESIS = staking_genesis(epoch_length=EPOCH_LENGTH, params=StakingParams(downtime_window=8, downtime_jail_ms=1_000))
JOINER = 5
"""The developer's account of that number is its operator."""
PATIENCE_S = 300


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here needs a real sync; and every life reads one genesis."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setattr(bls, "verify_possession", cache(bls.verify_possession))


class Network:
    """Four validators of genesis, and whoever is added; `submit` puts transactions into everybody's next block."""

    def __init__(self, folder: Path, nursery: trio.Nursery) -> None:
        self.net = MemoryNetwork()
        self.folder = folder
        self.scribe = StakingChain(genesis=GENESIS)
        """Writes transactions and crimes; its chain stays at genesis."""
        self._waiting: dict[int, tuple[Candidate, ...]] = {}
        self._nursery = nursery
        self.nodes = [self.new_node(number) for number in range(4)]

    def new_node(self, number: int, **options: int) -> MemoryNode:
        return MemoryNode(
            number,
            self.folder / f"node-{number}",
            self.net,
            GENESIS,
            ConsensusParams(),
            EPOCH_LENGTH,
            make_transactions=lambda height: self._waiting.get(height, ()),
            **options,
        )

    def submit(self, after_height: int, *candidates: Candidate) -> None:
        self._waiting[after_height] = candidates

    def start(self, *nodes: MemoryNode) -> None:
        for node in nodes:
            node.ended = trio.Event()
            self._nursery.start_soon(node.live)

    async def reach(self, height: int, *nodes: MemoryNode) -> None:
        with trio.fail_after(PATIENCE_S):
            for node in nodes or self.nodes:
                await node.reach(height)

    def payloads(self) -> dict[int, ConsensusPayload]:
        first = self.nodes[0]
        return {height: decode_payload(block.raw_payload) for height, block in first.blocks.items()}

    def signers(self, height: int) -> set[bytes]:
        """Voting keys whose precommits the next block names."""
        certificate = self.payloads()[height + 1].parent_certificate
        assert certificate is not None
        members = self.nodes[0].chain.execution.context.voting_set_at(height).validators
        return {members[index].voting_key for index in signer_indices(certificate.signers)}

    def members(self, height: int) -> set[Address]:
        found = self.nodes[0].chain.execution.context.voting_set_at(height).validators
        return {Address(member.operator) for member in found}

    def check_agreement(self) -> None:
        for node in self.nodes[1:]:
            for height in node.blocks.keys() & self.nodes[0].blocks.keys():
                assert node.blocks[height] == self.nodes[0].blocks[height]


def run(folder: Path, scenario: Callable[[Network], Awaitable[None]]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            network = Network(folder, nursery)
            nursery.start_soon(network.net.run)
            await scenario(network)
            network.check_agreement()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def key(number: int) -> bytes:
    return bls.public_key(voting_secret(number))


def test_a_follower_whose_key_is_elected_votes_and_proposes_from_the_epochs_first_height(tmp_path: Path) -> None:
    async def scenario(network: Network) -> None:
        joiner = network.new_node(JOINER)
        network.nodes.append(joiner)
        network.submit(1, network.scribe.registration(JOINER, 0, JOINER, 60 * BWT))
        network.start(*network.nodes)
        await network.reach(EPOCH_LENGTH - 1)
        assert not any(isinstance(message, VoteMessage) for message in joiner.released)
        await network.reach(2 * EPOCH_LENGTH + 2)
        assert DEVNET_ACCOUNTS[JOINER].address not in network.members(EPOCH_LENGTH - 1)
        for height in range(EPOCH_LENGTH, 2 * EPOCH_LENGTH):
            assert DEVNET_ACCOUNTS[JOINER].address in network.members(height)
            assert key(JOINER) in network.signers(height)
        proposed = {
            network.nodes[0].chain.execution.context.voting_set_at(height).validators[payload.proposer_index].voting_key
            for height, payload in network.payloads().items()
            if height >= EPOCH_LENGTH
        }
        assert key(JOINER) in proposed

    run(tmp_path, scenario)


def test_a_node_goes_on_with_its_next_keys_once_their_operator_has_rotated(tmp_path: Path) -> None:
    async def scenario(network: Network) -> None:
        joiner = network.new_node(JOINER, next_number=6)
        network.nodes.append(joiner)
        network.submit(1, network.scribe.registration(JOINER, 0, JOINER, 60 * BWT))
        network.submit(EPOCH_LENGTH + 1, network.scribe.rotation(JOINER, 1, 6))
        network.start(*network.nodes)
        await network.reach(3 * EPOCH_LENGTH + 2)
        for height in range(EPOCH_LENGTH, 2 * EPOCH_LENGTH):
            assert key(JOINER) in network.signers(height)
        for height in range(2 * EPOCH_LENGTH, 3 * EPOCH_LENGTH):
            assert key(6) in network.signers(height)
            assert key(JOINER) not in network.signers(height)

    run(tmp_path, scenario)


def test_gossiped_evidence_is_carried_once_by_whoever_proposes_next_and_the_guilty_leave(tmp_path: Path) -> None:
    async def scenario(network: Network) -> None:
        network.start(*network.nodes)
        await network.reach(3)
        witness = network.net.join(PeerId(b"witness"))
        crime = network.scribe.double_precommit(3, 2)
        witness.broadcast(Topic.EVIDENCE, encode_gossip(EvidenceGossip(crime)))
        height = max(node.height for node in network.nodes)
        await network.reach(2 * EPOCH_LENGTH)
        carried = [at for at, payload in network.payloads().items() if payload.evidence]
        assert len(carried) == 1
        assert height < carried[0] <= height + 3
        assert operator_of(3) in network.members(EPOCH_LENGTH - 1)
        assert operator_of(3) not in network.members(EPOCH_LENGTH)
        assert all(node.driver is not None and not node.driver.evidence.held for node in network.nodes)
        # The guilty node follows the chain, and signs nothing more.
        votes = [message for message in network.nodes[3].released if isinstance(message, VoteMessage)]
        assert max(vote.height for vote in votes) < EPOCH_LENGTH

    run(tmp_path, scenario)


def test_checkpoints_go_on_over_changes_of_the_set(tmp_path: Path) -> None:
    async def scenario(network: Network) -> None:
        network.nodes.append(network.new_node(JOINER))
        network.submit(1, network.scribe.registration(JOINER, 0, JOINER, 60 * BWT))
        network.start(*network.nodes)
        await network.reach(4 * EPOCH_LENGTH)
        epochs = [height for height, payload in network.payloads().items() if payload.checkpoint]
        assert len(epochs) >= 2

    run(tmp_path, scenario)


def test_evidence_that_no_block_carried_yet_survives_the_death_of_everybody(tmp_path: Path) -> None:
    async def scenario(network: Network) -> None:
        network.start(*network.nodes)
        await network.reach(3)
        witness = network.net.join(PeerId(b"witness"))
        crime = network.scribe.double_precommit(3, 2)
        witness.broadcast(Topic.EVIDENCE, encode_gossip(EvidenceGossip(crime)))
        await trio.sleep(0.05)
        assert not any(payload.evidence for payload in network.payloads().values())
        for node in network.nodes:
            assert node.driver is not None
            assert node.driver.evidence.held == (crime,)
            node.kill()
        for node in network.nodes:
            await node.ended.wait()
        height = max(node.height for node in network.nodes)
        network.start(*network.nodes)
        await network.reach(height + 5)
        carried = [at for at, payload in network.payloads().items() if payload.evidence]
        assert len(carried) == 1
        assert height < carried[0]
        assert network.nodes[0].chain.execution.context.height > carried[0]

    run(tmp_path, scenario)


# --- Forged headers ----------------------------------------------------------------------------------------------


def forged_by(network: Network, height: int, *numbers: int, parent_hash: bytes = b"f" * 32) -> ForgedHeader:
    """A header of that height, as the first node's chain has it but for its parent."""
    header = decode_header(network.nodes[0].blocks[height].raw_header)
    return network.scribe.signed_header(replace(header, parent_hash=Hash32(parent_hash)), numbers)


def carried(network: Network) -> list[int]:
    return [at for at, payload in network.payloads().items() if payload.evidence]


def frozen(node: MemoryNode) -> set[Address]:
    chain = StakingChain(node.store, genesis=GENESIS)
    return {operator_of(number) for number in range(4) if chain.view("is_frozen", operator_of(number))}


def test_a_forged_header_is_verified_by_everybody_gossiped_and_carried_once(tmp_path: Path) -> None:
    async def scenario(network: Network) -> None:
        network.start(*network.nodes)
        await network.reach(EPOCH_LENGTH + 3)
        # One node hears of it, and of a height whose late votes nobody waits for any more.
        witness = network.net.join(PeerId(b"witness"))
        forged = forged_by(network, 2, 3)
        witness.send(network.nodes[1].peer_id, Topic.EVIDENCE, encode_gossip(EvidenceGossip(forged)))
        height = max(node.height for node in network.nodes)
        await network.reach(height + 4)
        assert len(carried(network)) == 1
        assert height < carried(network)[0] <= height + 3
        assert [frozen(node) for node in network.nodes] == [{operator_of(3)}] * 4
        await network.reach(2 * EPOCH_LENGTH + 2)
        assert operator_of(3) in network.members(2 * EPOCH_LENGTH - 1)
        assert operator_of(3) not in network.members(2 * EPOCH_LENGTH)
        assert len(carried(network)) == 1
        assert all(node.driver is not None and not node.driver.evidence.held for node in network.nodes)

    run(tmp_path, scenario)


def test_headers_that_forge_nothing_go_no_further_and_their_sender_is_scored(tmp_path: Path) -> None:
    async def scenario(network: Network) -> None:
        network.start(*network.nodes)
        await network.reach(5)
        liar = PeerId(b"liar")
        transport = network.net.join(liar)
        block = network.nodes[0].blocks[3]
        honest = network.scribe.signed_header(decode_header(block.raw_header), range(4))
        unsigned = forged_by(network, 3, 1, 2)
        unsigned = replace(unsigned, certificate=replace(unsigned.certificate, signature=honest.certificate.signature))
        for evidence in (honest, unsigned):
            transport.send(network.nodes[1].peer_id, Topic.EVIDENCE, encode_gossip(EvidenceGossip(evidence)))
        # Of a height that is not there yet nobody can say anything.
        ahead = replace(decode_header(block.raw_header), number=5_000)
        early = replace(unsigned, certificate=replace(unsigned.certificate, height=5_000, block_hash=ahead.hash))
        transport.send(network.nodes[1].peer_id, Topic.EVIDENCE, encode_gossip(EvidenceGossip(early)))
        await network.reach(10)
        driver = network.nodes[1].driver
        assert driver is not None
        assert driver._ingress.misbehaviour == {liar: 2}
        assert carried(network) == []
        assert [frozen(node) for node in network.nodes] == [set()] * 4

    run(tmp_path, scenario)


def test_what_a_light_clients_operator_hands_in_is_gossiped_and_carried(tmp_path: Path) -> None:
    async def scenario(network: Network) -> None:
        network.start(*network.nodes)
        await network.reach(5)
        driver = network.nodes[2].driver
        assert driver is not None
        forged = forged_by(network, 4, 0)
        assert await driver.submit_evidence(encode_any_evidence(forged)) == evidence_hash(forged)
        await network.reach(10)
        assert len(carried(network)) == 1
        assert [frozen(node) for node in network.nodes] == [{operator_of(0)}] * 4
        old_crime = network.scribe.double_precommit(3, 1)
        await driver.submit_evidence(encode_any_evidence(old_crime))
        await network.reach(14)
        assert len(carried(network)) == 2
        honest = network.scribe.signed_header(decode_header(network.nodes[0].blocks[3].raw_header), [1])
        for encoded, why in {
            b"": "malformed evidence: form: expected 1 bytes, found 0",
            b"\7": "malformed evidence: form: expected 1 or 2, found 7",
            encode_any_evidence(honest): "evidence that names nobody: parent: ",
            encode_any_evidence(forged): "already known",
        }.items():
            with pytest.raises(EvidenceUnwelcome, match=why):
                await driver.submit_evidence(encoded)

    run(tmp_path, scenario)


def test_a_forged_header_that_no_block_carried_yet_survives_the_death_of_everybody(tmp_path: Path) -> None:
    async def scenario(network: Network) -> None:
        network.start(*network.nodes)
        await network.reach(3)
        witness = network.net.join(PeerId(b"witness"))
        forged = forged_by(network, 2, 3)
        witness.broadcast(Topic.EVIDENCE, encode_gossip(EvidenceGossip(forged)))
        await trio.sleep(0.05)
        assert carried(network) == []
        for node in network.nodes:
            assert node.driver is not None
            assert node.driver.evidence.held == (forged,)
            node.kill()
        for node in network.nodes:
            await node.ended.wait()
        height = max(node.height for node in network.nodes)
        network.start(*network.nodes)
        await network.reach(height + 5)
        assert len(carried(network)) == 1
        assert frozen(network.nodes[0]) == {operator_of(3)}

    run(tmp_path, scenario)


def test_a_node_that_meets_a_fork_on_another_parent_tells_of_it_and_halts(tmp_path: Path) -> None:
    async def scenario(network: Network) -> None:
        network.start(*network.nodes)
        await network.reach(4)
        first, halted = network.nodes[0], network.nodes[3]
        height = halted.height - 1
        decided = first.chain.execution.decided(height)
        assert isinstance(decided, Decided)
        sealed = decode_block(decided.raw_block)
        header = replace(sealed.block.header, parent_hash=Hash32(b"f" * 32))
        forged = network.scribe.signed_header(header, [0, 1, 2])
        raw_block = encode_block(replace(sealed, block=replace(sealed.block, header=header)))
        network.net.join(PeerId(b"fork")).send(
            halted.peer_id, Topic.BLOCK, encode_gossip(DecidedGossip(forged.certificate, raw_block))
        )
        others = network.nodes[:3]
        # At the epoch's end they leave the set, and only the one that halted would be left in it.
        await network.reach(EPOCH_LENGTH - 1, *others)
        assert halted.halted is not None
        assert "the chain has forked" in str(halted.halted)
        log = ConsensusLog(halted.folder / "consensus")
        assert [decode_any_evidence(record[8:]) for record in log.load_evidence()] == [forged]
        log.close()
        # The others carry it. Whether these three are to blame is for governance to say.
        assert len(carried(network)) == 1
        assert [frozen(node) for node in others] == [{operator_of(0), operator_of(1), operator_of(2)}] * 3

    run(tmp_path, scenario)
