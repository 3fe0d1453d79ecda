"""The desk of evidence on a real chain: what is good, what names nobody, what it cannot say, what it passes on."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from astralink_node.chain.client import InProcessExecution
from astralink_node.chain.ledger import Ledger
from astralink_node.metrics import NodeMetrics
from astralink_node.services import evidence_keeper
from astralink_node.services.consensus_log import ConsensusLog
from astralink_node.services.evidence_desk import CannotJudge, EvidenceDesk, EvidenceUnwelcome
from astralink_node.services.offload import inline
from astralink_node.services.peer_talk import PeerTalk
from astralink_node.services.proposer import Head
from astralink_node.types import Hash32
from consensus.evidence import EvidenceError
from consensus.evidence_forms import AnyEvidence, encode_any_evidence
from consensus.forged_header import ForgedHeader
from consensus.gossip import EvidenceGossip, encode_gossip
from consensus.params import ConsensusParams
from p2p.memory_transport import MemoryNetwork
from p2p.peer_id import PeerId
from tests.support.staking_chains import EPOCH_LENGTH, StakingChain, imported

HEIGHT = EPOCH_LENGTH + 4
PARAMS = ConsensusParams()


@cache
def chain_at_height() -> StakingChain:
    """Shared: only what is looked into differs."""
    chain = StakingChain()
    chain.advance_to(HEIGHT)
    return chain


class Bench:
    """A desk of a node at `HEIGHT`, and a peer that hears what it passes on."""

    def __init__(self, folder: Path, params: ConsensusParams = PARAMS) -> None:
        self.chain = chain_at_height()
        self.network = MemoryNetwork()
        self.log = ConsensusLog(folder)
        transport = self.network.join(PeerId(b"own"))
        self.peer = self.network.join(PeerId(b"peer"))
        execution = InProcessExecution(self.chain.execution)
        self.params = params
        self.peers = PeerTalk(transport, execution)
        self.desk = self.new_desk(execution)

    def new_desk(self, execution: InProcessExecution) -> EvidenceDesk:
        genesis_hash = self.chain.execution.context.genesis_hash
        return EvidenceDesk(
            execution, genesis_hash, self.params, self.head, self.peers, self.log, inline, NodeMetrics()
        )

    def head(self) -> Head:
        parent = self.chain.execution.context.parent
        return Head(parent.number, parent.hash, 1_000, b"")

    def next_header(self, signer: int, parent_hash: bytes) -> ForgedHeader:
        header = Ledger(self.chain.store).header(HEIGHT)
        return self.chain.signed_header(replace(header, number=HEIGHT + 1, parent_hash=Hash32(parent_hash)), [signer])

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.network.run)
                await scenario()
                nursery.cancel_scope.cancel()

        trio.run(main)
        self.log.close()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_evidence_of_any_height_of_the_chain_is_found_good(bench: Bench) -> None:
    async def scenario() -> None:
        for height in (1, 2, EPOCH_LENGTH, HEIGHT - 1, HEIGHT):
            await bench.desk.check(bench.chain.forged_header([1, 3], height))
            await bench.desk.check(bench.chain.double_precommit(1, height))
        await bench.desk.check(bench.next_header(2, b"f" * 32))

    bench.run(scenario)


def test_the_chains_own_headers_name_nobody_at_any_height(bench: Bench) -> None:
    async def scenario() -> None:
        for height in range(1, HEIGHT + 1):
            honest = bench.chain.signed_header(Ledger(bench.chain.store).header(height), [0, 1, 2, 3])
            with pytest.raises(EvidenceError) as caught:
                await bench.desk.check(honest)
            assert caught.value.rule == "parent"
        with pytest.raises(EvidenceError) as caught:
            await bench.desk.check(bench.next_header(2, bench.head().block_hash))
        assert caught.value.rule == "parent"

    bench.run(scenario)


def test_what_the_node_does_not_know_it_cannot_judge(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cannot(evidence: AnyEvidence, why: str) -> None:
        with pytest.raises(CannotJudge, match=why):
            await bench.desk.check(evidence)

    async def scenario() -> None:
        ahead = bench.next_header(1, b"f" * 32)
        await cannot(replace(ahead, certificate=replace(ahead.certificate, height=HEIGHT + 2)), f"stands at {HEIGHT}")
        await cannot(replace(ahead, certificate=replace(ahead.certificate, height=0)), f"stands at {HEIGHT}")
        monkeypatch.setattr("consensus.forged_header.HISTORY_HEIGHTS", 6)
        await bench.desk.check(bench.chain.forged_header([1], HEIGHT - 4))
        await cannot(bench.chain.forged_header([1], HEIGHT - 5), "too old")
        await bench.desk.check(bench.chain.double_precommit(1, HEIGHT - 5))

    bench.run(scenario)


def test_evidence_past_its_age_in_blocks_is_not_looked_into(tmp_path: Path) -> None:
    bench = Bench(tmp_path, replace(PARAMS, evidence_max_age_blocks=5))

    async def scenario() -> None:
        await bench.desk.check(bench.chain.double_precommit(1, HEIGHT - 5))
        with pytest.raises(CannotJudge, match="too old"):
            await bench.desk.check(bench.chain.double_precommit(1, HEIGHT - 6))

    bench.run(scenario)


def test_a_node_that_joined_by_a_snapshot_judges_what_came_after_and_says_so_of_the_rest(bench: Bench) -> None:
    async def scenario() -> None:
        bench.chain = StakingChain()
        bench.chain.advance_to(2 * EPOCH_LENGTH - 1)
        joined = bench.new_desk(InProcessExecution(imported(bench.chain, 2 * EPOCH_LENGTH - 1)))
        await joined.check(bench.chain.forged_header([1], 2 * EPOCH_LENGTH - 1))
        with pytest.raises(CannotJudge, match="does not know who voted"):
            await joined.check(bench.chain.forged_header([1], 2))

    bench.run(scenario)


def test_what_is_kept_is_passed_on_once_and_durable(bench: Bench) -> None:
    async def scenario() -> None:
        forged = bench.chain.forged_header([1], 3)
        await bench.desk.keep_forgery(forged.raw_header, forged.certificate)
        await bench.desk.keep_forgery(forged.raw_header, forged.certificate)
        await bench.desk.keep_forgery(b"", forged.certificate)
        honest = bench.chain.signed_header(Ledger(bench.chain.store).header(3), [2])
        await bench.desk.keep_forgery(honest.raw_header, honest.certificate)
        await wait_all_tasks_blocked()
        assert bench.desk.keeper.held == (forged,)
        assert [message.data for message in bench.peer.receive_waiting(10)] == [encode_gossip(EvidenceGossip(forged))]
        restarted = bench.new_desk(InProcessExecution(bench.chain.execution))
        await restarted.restore()
        assert restarted.keeper.held == (forged,)

    bench.run(scenario)


def test_what_is_handed_in_is_checked_and_refused_in_words(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(encoded: bytes, why: str) -> None:
        with pytest.raises(EvidenceUnwelcome, match=why):
            await bench.desk.read(encoded)

    async def scenario() -> None:
        forged, crime = bench.chain.forged_header([1], 3), bench.chain.double_precommit(2, 3)
        for evidence in (forged, crime):
            assert await bench.desk.read(encode_any_evidence(evidence)) == evidence
        bench.desk.keep(forged)
        await refused(encode_any_evidence(forged), "already known")
        await refused(b"", "malformed evidence: form")
        unsigned = replace(crime.first, signature=crime.second.signature)
        await refused(encode_any_evidence(replace(crime, first=unsigned)), "names nobody: signature")
        ahead = bench.next_header(1, b"f" * 32)
        ahead = replace(ahead, certificate=replace(ahead.certificate, height=HEIGHT + 2))
        await refused(encode_any_evidence(ahead), f"stands at {HEIGHT}")
        monkeypatch.setattr(evidence_keeper, "MAX_FORGERIES", 1)
        await refused(encode_any_evidence(bench.chain.forged_header([2], 3)), "holds as much evidence as it may")

    bench.run(scenario)
