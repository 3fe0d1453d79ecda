"""One height at work, with a real log, signer and execution: what is written before what is said, and what ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from astralink_node.chain.client import InProcessExecution
from astralink_node.chain.messages import CannotBuild
from astralink_node.config import BlocksConfig
from astralink_node.crypto.ml_dsa import Seed
from astralink_node.services.consensus_log import ConsensusLog
from astralink_node.services.height_run import (
    BuildDone,
    CheckDone,
    ConsensusHalted,
    HeightEvent,
    HeightRun,
    Surroundings,
    TimerFired,
    TurnCame,
)
from astralink_node.services.offload import inline
from astralink_node.services.own_validator import OwnValidator
from astralink_node.services.peer_talk import PeerTalk
from astralink_node.services.proposer import Carried, Head, Proposer
from astralink_node.types import Address
from astralink_node.validator.history_file import HistoryFile
from astralink_node.validator.keys import keys_of
from astralink_node.validator.local_signer import LocalSigner, RefusedToSign, SignerUnavailable
from astralink_node.validator.signing_history import create_history, history_path, open_history
from consensus.evidence import Evidence
from consensus.gossip import (
    BlockWanted,
    CertificateGossip,
    GossipMessage,
    ProposalGossip,
    VotesGossip,
    decode_gossip,
)
from consensus.height_machine import (
    CertificateReceived,
    HeightContext,
    ProposalReceived,
    StartHeight,
    TimeoutElapsed,
    VoteReceived,
)
from consensus.messages import NIL
from consensus.params import ConsensusParams
from consensus.proposer_selection import ProposerRotation
from consensus.round_machine import Step, TimeoutKind
from p2p.memory_transport import MemoryNetwork
from p2p.peer_id import PeerId
from tests.support.chains import GENESIS_TIMESTAMP, LocalChain
from tests.support.signed_messages import BLOCK, PRECOMMIT, PREVOTE, SignedSet

START_MS = 1_000 * GENESIS_TIMESTAMP + 5_000
PARAMS = ConsensusParams(min_block_interval_ms=200)


class NoTransactions:
    def candidates(self, *, long_run: bool = True) -> tuple[()]:
        return ()

    def known_senders(self, raw_transactions: Sequence[bytes]) -> tuple[bytes, ...]:
        return (b"",) * len(raw_transactions)

    async def wait_for_payable(self) -> None:
        await trio.sleep_forever()


class Bench:
    """Height 1 of four validators' chain; this one is `index`, or a follower."""

    def __init__(self, folder: Path, *, index: int | None, is_logged: bool = True, is_alone: bool = False) -> None:
        self.did: list[str] = []
        """In order: what was recorded, synced, signed and said."""
        self.index, self.is_alone, self.is_logged = index, is_alone, is_logged
        self.chain = LocalChain(validators=4)
        status = self.chain.execution.status()
        self.members = SignedSet(4, status.genesis_hash)
        self.head = Head(0, status.head_hash, status.head_time_ms, b"")
        self.log = ConsensusLog(folder / "consensus")
        self.evidence: list[Evidence] = []
        self.forgotten: list[bytes] = []
        network = MemoryNetwork()
        self.transport, self.peer = network.join(PeerId(b"own")), network.join(PeerId(b"peer"))
        self.signer = None if index is None else self._open_signer(folder, index)
        self.refusal: Exception | None = None
        self.silent: set[bytes] = set()

    def _open_signer(self, folder: Path, index: int) -> LocalSigner:
        number = self.members.numbers[index]
        keys = keys_of(self.chain.secrets[index], Seed(bytes([number + 1]) * 32), None)
        storage = HistoryFile(history_path(folder, keys.public.voting_key))
        create_history(storage, keys.public.voting_key, key_is_new=True)
        storage.close()
        self.history = open_history(folder, keys.public.voting_key)
        return LocalSigner(keys, self.history, self.members.genesis_hash)

    def close(self) -> None:
        self.log.close()
        if self.signer is not None:
            self.history.close()

    def now_ms(self) -> int:
        return START_MS + int(trio.current_time() * 1000)

    def _watch(self, owner: object, name: str, said: str) -> None:
        """Note every call, and let it happen."""
        plain = getattr(owner, name)

        def noting(*arguments: object) -> object:
            if said == "sign" and self.refusal is not None:
                raise self.refusal
            self.did.append(said)
            return plain(*arguments)

        setattr(owner, name, noting)

    def run(self, scenario: Callable[[HeightRun], Awaitable[None]]) -> None:
        async def main() -> None:
            execution = InProcessExecution(self.chain.execution)
            peers = PeerTalk(self.transport, execution)
            for owner, name, said in (
                (self.log, "record", "record"),
                (self.log, "record_block", "record"),
                (self.log, "sync", "sync"),
                (self.signer, "sign_vote", "sign"),
                (self.signer, "sign_proposal", "sign"),
                (peers, "tell", "tell"),
            ):
                if owner is not None:
                    self._watch(owner, name, said)
            own = None if self.signer is None else OwnValidator(self.signer, Address(bytes(20)), inline)
            inbox, self.events = trio.open_memory_channel[HeightEvent](4)
            around = Surroundings(
                execution=execution,
                own=own,
                proposer=Proposer(execution, NoTransactions(), PARAMS, BlocksConfig(), self.now_ms, inline),  # type: ignore[arg-type]
                log=self.log,
                peers=peers,
                now_ms=self.now_ms,
                offload=inline,
                events=inbox,
                carried=lambda: Carried({}, {}, b""),
                keep_evidence=self.evidence.append,
                is_silent=lambda voting_key: voting_key in self.silent,
                forget_evidence=self.forgotten.extend,
            )
            context = self.chain.execution.context
            async with trio.open_nursery() as nursery:
                height = HeightContext(
                    1,
                    context.voting_set,
                    ProposerRotation(context.priorities, context.voting_set),
                    self.index,
                    PARAMS,
                )
                run = HeightRun(around, nursery, height, self.head, is_logged=self.is_logged, is_alone=self.is_alone)
                await scenario(run)
                nursery.cancel_scope.cancel()

        trio.run(main, clock=MockClock(autojump_threshold=0))

    def heard(self) -> list[GossipMessage]:
        return [decode_gossip(received.data) for received in self.peer.receive_waiting(100)]

    async def next_event(self, kind: type[HeightEvent]) -> HeightEvent:
        """Of that kind; others are forgotten."""
        while not isinstance(event := await self.events.receive(), kind):
            pass
        return event

    async def propose(self, run: HeightRun, body: bytes | None = None) -> bytes:
        """A valid block of round 0's proposer arrives, its body too, and is found valid. Returns its hash."""
        built = self.chain.build(time_ms=self.now_ms())
        await run.start()
        proposal = self.members.proposal(run.state.context.proposers.at(0), built.block_hash, height=1)
        await run.feed(ProposalReceived(proposal, self.now_ms()))
        run.take_body(built.block_hash, built.raw_block if body is None else body)
        await run.take(await self.next_event(CheckDone))
        return built.block_hash


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def build(**options: object) -> Bench:
        made.append(Bench(tmp_path, **options))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for bench in made:
        bench.close()


def proposer_index() -> int:
    """Of height 1, round 0."""
    context = LocalChain(validators=4).execution.context
    return ProposerRotation(context.priorities, context.voting_set).at(0)


OTHER = (proposer_index() + 1) % 4
"""Somebody who does not propose in round 0."""


# --- Order -----------------------------------------------------------------------------------------------------


def test_a_vote_is_said_after_log_and_history_are_on_disk(make: Callable[..., Bench]) -> None:
    bench = make(index=OTHER)

    async def scenario(run: HeightRun) -> None:
        await run.begin()
        block_hash = await bench.propose(run)
        assert bench.did == [
            "record",  # the height's start
            "record",  # the proposal
            "record",  # its body
            "record",  # the verdict
            "sync",
            "sign",
            "tell",
            "record",  # the own vote
        ]
        logged = bench.log.load()
        assert logged is not None
        assert logged.raw_blocks == (run.bodies[block_hash],)
        (said,) = bench.heard()
        assert said == VotesGossip((bench.members.vote(OTHER, PREVOTE, block_hash, height=1),))

    bench.run(scenario)


def test_an_own_proposal_is_said_with_its_body_and_after_it_is_on_disk(make: Callable[..., Bench]) -> None:
    bench = make(index=proposer_index())

    async def scenario(run: HeightRun) -> None:
        await run.begin()
        await run.start()
        await run.take(await bench.next_event(BuildDone))
        assert bench.did == [
            *("record", "record", "record", "sync", "sign", "tell", "record"),  # start, body, built; proposal
            *("sync", "sign", "tell", "record"),  # the prevote for it
        ]
        proposed, voted = bench.heard()
        assert isinstance(proposed, ProposalGossip)
        assert run.bodies[proposed.proposal.block_hash] == proposed.raw_block
        assert isinstance(voted, VotesGossip)

    bench.run(scenario)


def test_below_a_log_that_is_kept_nothing_is_recorded(make: Callable[..., Bench]) -> None:
    bench = make(index=None, is_logged=False)

    async def scenario(run: HeightRun) -> None:
        await run.begin()
        await bench.propose(run)
        assert bench.did == []
        assert bench.log.load() is None

    bench.run(scenario)


def test_a_restart_goes_on_where_the_log_ends_and_says_the_same_again(make: Callable[..., Bench]) -> None:
    bench = make(index=OTHER)
    said: list[GossipMessage] = []

    async def first(run: HeightRun) -> None:
        await run.begin()
        await bench.propose(run)
        said.extend(bench.heard())

    async def second(run: HeightRun) -> None:
        await run.begin()
        assert run.state.rounds.step is Step.PREVOTE
        assert run.bodies.keys() == run.state.blocks.keys()
        await run.repeat()
        proposed, voted = bench.heard()
        assert isinstance(proposed, ProposalGossip)
        assert proposed.raw_block == run.bodies[proposed.proposal.block_hash]
        assert [voted] == said

    bench.run(first)
    bench.run(second)


# --- Bodies ----------------------------------------------------------------------------------------------------


def test_a_body_that_nobody_asked_for_is_not_kept(make: Callable[..., Bench]) -> None:
    bench = make(index=OTHER)

    async def scenario(run: HeightRun) -> None:
        await run.begin()
        built = bench.chain.build()
        run.take_body(built.block_hash, built.raw_block)
        await run.start()
        run.take_body(built.block_hash, built.raw_block)
        assert run.bodies == {}
        assert bench.did == ["record"]

    bench.run(scenario)


def test_a_body_is_taken_once(make: Callable[..., Bench]) -> None:
    bench = make(index=OTHER)

    async def scenario(run: HeightRun) -> None:
        await run.begin()
        block_hash = await bench.propose(run)
        before = list(bench.did)
        run.take_body(block_hash, run.bodies[block_hash])
        assert bench.did == before

    bench.run(scenario)


# --- Repeating -------------------------------------------------------------------------------------------------


def test_whoever_has_not_begun_has_nothing_to_repeat(make: Callable[..., Bench]) -> None:
    for index in (OTHER, None):
        bench = make(index=index)

        async def scenario(run: HeightRun, bench: Bench = bench) -> None:
            await run.repeat()  # not even begun
            await run.begin()
            await run.repeat()
            assert bench.heard() == []
            assert bench.evidence == []

        bench.run(scenario)
        bench.log.cut()


def test_votes_of_others_and_wanted_blocks_are_repeated_too(make: Callable[..., Bench]) -> None:
    bench = make(index=None)

    async def scenario(run: HeightRun) -> None:
        await run.begin()
        await run.start()
        polka = bench.members.certificate(vote_type=PREVOTE, height=1)
        await run.feed(CertificateReceived(polka))
        vote = bench.members.vote(3, PREVOTE, NIL, height=1)
        await run.feed(VoteReceived(vote))
        await run.repeat()
        assert bench.heard() == [VotesGossip((vote,)), BlockWanted(1, BLOCK)]

    bench.run(scenario)


def test_the_polka_behind_a_valid_value_is_repeated(make: Callable[..., Bench]) -> None:
    bench = make(index=None)

    async def scenario(run: HeightRun) -> None:
        await run.begin()
        block_hash = await bench.propose(run)
        await run.feed(TimeoutElapsed(TimeoutKind.PROPOSE, 0))
        for by in range(3):
            await run.feed(VoteReceived(bench.members.vote(by, PREVOTE, block_hash, height=1)))
        assert run.state.rounds.valid_hash == block_hash
        await run.repeat()
        polka = bench.members.certificate(vote_type=PREVOTE, block_hash=block_hash, height=1)
        assert bench.heard()[0] == CertificateGossip(polka)

    bench.run(scenario)


# --- Signers ---------------------------------------------------------------------------------------------------


def test_a_refusal_among_several_leaves_us_silent_and_nothing_else(make: Callable[..., Bench]) -> None:
    bench = make(index=OTHER)

    async def scenario(run: HeightRun) -> None:
        bench.refusal = RefusedToSign("other bytes were signed for this step")
        await run.begin()
        await bench.propose(run)
        assert (run.state.rounds.round_, run.state.rounds.step) == (0, Step.PREVOTE)
        bench.refusal = None
        await run.repeat()
        assert [type(message) for message in bench.heard()] == [ProposalGossip], "it is not asked again"

    bench.run(scenario)


def test_what_a_signer_out_of_reach_owes_is_asked_for_again_while_its_round_lasts(make: Callable[..., Bench]) -> None:
    bench = make(index=OTHER)

    async def scenario(run: HeightRun) -> None:
        bench.refusal = SignerUnavailable("no answer")
        await run.begin()
        block_hash = await bench.propose(run)
        await run.repeat()
        assert [type(message) for message in bench.heard()] == [ProposalGossip]
        bench.refusal = None
        await run.repeat()
        own = bench.members.vote(OTHER, PREVOTE, block_hash, height=1)
        assert bench.heard()[0] == VotesGossip((own,))
        assert run.state.tally.ballots(0, PREVOTE).votes == {OTHER: own}

    bench.run(scenario)


def test_what_it_owes_of_a_round_that_is_over_is_not_asked_for(make: Callable[..., Bench]) -> None:
    bench = make(index=OTHER)

    async def scenario(run: HeightRun) -> None:
        bench.refusal = SignerUnavailable("no answer")
        await run.begin()
        await bench.propose(run)
        others = [index for index in range(4) if index != OTHER][:2]
        for by in others:
            await run.feed(VoteReceived(bench.members.vote(by, PRECOMMIT, NIL, height=1, round_=1)))
        assert run.state.rounds.round_ == 1
        bench.refusal = None
        bench.did.clear()
        await run.repeat()
        assert "sign" not in bench.did

    bench.run(scenario)


def test_a_build_that_fails_ends_nothing_among_several(make: Callable[..., Bench]) -> None:
    bench = make(index=OTHER)

    async def scenario(run: HeightRun) -> None:
        await run.begin()
        await run.start()
        for answer in (RefusedToSign("below the floor"), SignerUnavailable("no answer"), CannotBuild("out of luck")):
            await run.take(BuildDone(1, 0, answer))
        assert run.state.rounds.step is Step.PROPOSE

    bench.run(scenario)


def test_a_lone_validator_that_cannot_build_stops_and_says_why(make: Callable[..., Bench]) -> None:
    bench = make(index=OTHER, is_alone=True)

    async def scenario(run: HeightRun) -> None:
        await run.begin()
        await run.start()
        with pytest.raises(ConsensusHalted, match="block 1 cannot be built: out of luck"):
            await run.take(BuildDone(1, 0, CannotBuild("out of luck")))

    bench.run(scenario)


# --- Followers, ends -------------------------------------------------------------------------------------------


def test_a_follower_without_keys_decides_with_the_others_and_signs_nothing(make: Callable[..., Bench]) -> None:
    bench = make(index=None)

    async def scenario(run: HeightRun) -> None:
        await run.begin()
        block_hash = await bench.propose(run)
        for by in range(3):
            await run.feed(VoteReceived(bench.members.vote(by, PREVOTE, block_hash, height=1)))
            await run.feed(VoteReceived(bench.members.vote(by, PRECOMMIT, block_hash, height=1)))
        assert run.state.decision is not None
        assert run.state.decision.block_hash == block_hash
        assert {"sync", "sign", "tell"}.isdisjoint(bench.did)

    bench.run(scenario)


def test_after_its_end_a_height_reports_nothing_even_where_it_waited_to(make: Callable[..., Bench]) -> None:
    bench = make(index=proposer_index())

    async def scenario(run: HeightRun) -> None:
        await run.begin()
        await run.feed(StartHeight())
        assert isinstance(await bench.events.receive(), BuildDone | TurnCame)
        for round_ in range(20):  # more timers than the driver has room for
            run._start_task(run._fire_timer, TimeoutKind.PROPOSE, round_, 10)
        await trio.sleep(1)
        run.end()
        await wait_all_tasks_blocked()
        while bench.events.statistics().current_buffer_used:
            assert isinstance(bench.events.receive_nowait(), TimerFired | TurnCame | BuildDone)
        await trio.sleep(60)
        assert bench.events.statistics().current_buffer_used == 0
        assert bench.events.statistics().tasks_waiting_send == 0
        assert run._tasks == set()
        run.end()

    bench.run(scenario)


@pytest.mark.parametrize(
    ("is_silent", "patience_ms"), [(False, PARAMS.propose_timeout_ms), (True, PARAMS.prevote_timeout_ms)]
)
def test_less_is_waited_for_the_proposal_of_somebody_who_is_away(
    make: Callable[..., Bench], *, is_silent: bool, patience_ms: int
) -> None:
    bench = make(index=None)
    if is_silent:
        members = bench.chain.execution.context.voting_set.validators
        bench.silent = {members[proposer_index()].voting_key}

    async def scenario(run: HeightRun) -> None:
        await run.feed(StartHeight())
        began = trio.current_time()
        fired = await bench.next_event(TimerFired)
        assert fired == TimerFired(1, TimeoutKind.PROPOSE, 0)
        assert trio.current_time() - began == pytest.approx(patience_ms / 1000)

    bench.run(scenario)


def test_work_that_was_to_begin_when_the_height_ended_does_not(make: Callable[..., Bench]) -> None:
    bench = make(index=proposer_index())

    async def scenario(run: HeightRun) -> None:
        await run.begin()
        await run.feed(StartHeight())
        run.end()
        await trio.sleep(60)
        assert bench.events.statistics().current_buffer_used == 0
        assert bench.signer is not None
        assert bench.signer.history_state().height == 0, "not even a reveal was signed"

    bench.run(scenario)
