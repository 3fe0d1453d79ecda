"""Gossip ingress with the real curve: what bytes of peers become, when they are verified, and who is scored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
import trio
from py_arkworks_bls12381 import G2Point
from trio.testing import MockClock, wait_all_tasks_blocked

from astralink_node.crypto import bls
from astralink_node.evm.blocks import decode_block, encode_block, encode_header
from astralink_node.services import gossip_ingress
from astralink_node.services.evidence_desk import MAX_WAITING, CannotJudge
from astralink_node.services.gossip_ingress import (
    LINGER_S,
    MAX_BATCH,
    MAX_SUBJECTS,
    SHUN_AT,
    SHUN_S,
    GossipIngress,
)
from astralink_node.services.gossip_judge import (
    MARKS_OF_A_BODY,
    Arrived,
    HeightsView,
    PeerAt,
    PeerBlock,
    PeerCertificate,
    PeerCheckpointVote,
    PeerEvent,
    PeerEvidence,
    PeerProposal,
    PeerVotes,
    PeerWantsBlock,
)
from astralink_node.services.offload import inline
from consensus.checkpoint_tally import CheckpointSubject
from consensus.evidence import Evidence, EvidenceError
from consensus.evidence_forms import AnyEvidence
from consensus.forged_header import ForgedHeader
from consensus.gossip import (
    BlockGossip,
    BlockWanted,
    CertificateGossip,
    DecidedGossip,
    EvidenceGossip,
    GossipMessage,
    HeightGossip,
    ProposalGossip,
    VotesGossip,
    encode_gossip,
)
from consensus.height_machine import (
    CertificateReceived,
    HeightState,
    ProposalReceived,
    StartHeight,
    VoteReceived,
    step,
)
from consensus.messages import NIL
from consensus.params import MAX_HEIGHT, MAX_ROUND
from consensus.vote_tally import MAX_ROUNDS_AHEAD
from consensus.votes import SignedVote
from p2p.gossip_events import Verdict
from p2p.memory_transport import MemoryNetwork, MemoryTransport
from p2p.peer_id import PeerId
from p2p.topic_transport import TopicMessage
from p2p.topics import Topic
from tests.support.chains import LocalChain
from tests.support.signed_messages import BLOCK, GENESIS, OTHER_BLOCK, PRECOMMIT, PREVOTE, SignedSet

SET = SignedSet(4)
OWN, ANN, BOB = PeerId(b"own"), PeerId(b"ann"), PeerId(b"bob")
HEIGHT = 5
NOW_MS = 1_700_000_000_000


class Past:
    """What the chain's past says: nothing of any evidence, but for what a test tells."""

    def __init__(self) -> None:
        self.good: set[AnyEvidence] = set()
        self.bad: set[AnyEvidence] = set()
        self.unwanted: set[AnyEvidence] = set()
        self.checked: list[AnyEvidence] = []
        self.may_answer = trio.Event()
        self.may_answer.set()

    def is_wanted(self, evidence: AnyEvidence) -> bool:
        return evidence not in self.unwanted

    async def check(self, evidence: AnyEvidence) -> None:
        self.checked.append(evidence)
        await self.may_answer.wait()
        if evidence in self.bad:
            raise EvidenceError("parent", "another", "the chain's own")
        if evidence not in self.good:
            raise CannotJudge("of a height that nobody knows")


class Bench:
    """An ingress on a network; `view` is where its driver stands."""

    def __init__(self) -> None:
        self.clock = MockClock()
        self.network = MemoryNetwork()
        self.view = HeightsView(SET.state(HEIGHT), {}, frozenset(), GENESIS)
        self.events: list[PeerEvent] = []
        self.checked: list[int] = []
        """How many votes each batch check was asked about."""
        self.past = Past()
        self.ingress = self.new_ingress(self.network.join(OWN))
        self.peers = {peer: self.network.join(peer) for peer in (ANN, BOB)}

    def new_ingress(self, transport: MemoryTransport) -> GossipIngress:
        return GossipIngress(transport, lambda: NOW_MS, inline, lambda: self.view, self._emit, self.past)

    async def _emit(self, event: PeerEvent) -> None:
        await trio.lowlevel.checkpoint()
        self.events.append(event)

    def send(self, *messages: GossipMessage, peer: PeerId = ANN) -> None:
        for message in messages:
            self.peers[peer].send(OWN, Topic.VOTE, encode_gossip(message))

    def send_votes(self, *votes: SignedVote, peer: PeerId = ANN) -> None:
        """Each in a message of its own, as they are cast."""
        self.send(*(VotesGossip((vote,)) for vote in votes), peer=peer)

    async def take(self) -> list[PeerEvent]:
        """What comes of all that was sent, until the ingress waits for more."""
        await wait_all_tasks_blocked()
        events, self.events = self.events, []
        return events

    async def linger(self) -> list[PeerEvent]:
        self.clock.jump(LINGER_S)
        return await self.take()

    def step_to(self, state: HeightState, *recent: HeightState) -> None:
        """The driver goes on to a height."""
        self.view = replace(self.view, current=state, recent={one.height: one for one in recent})
        self.ingress.height_began()

    def run(self, scenario: Callable[[Bench], Awaitable[None]]) -> None:
        async def main() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.ingress.run)
                await scenario(self)
                nursery.cancel_scope.cancel()

        trio.run(main, clock=self.clock)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """One whose checks of votes are counted; each is done all the same."""
    made = Bench()
    real = bls.batch_verify

    def counting(keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]) -> bool:
        made.checked.append(len(keys))
        return real(keys, messages, signatures)

    monkeypatch.setattr(bls, "batch_verify", counting)
    return made


def started(state: HeightState) -> HeightState:
    return step(state, StartHeight())[0]


def with_votes(state: HeightState, *votes: SignedVote) -> HeightState:
    for vote in votes:
        state, _ = step(state, VoteReceived(vote))
    return state


def decided(block_hash: bytes = BLOCK, height: int = HEIGHT - 1) -> HeightState:
    """A height at which that block is final."""
    certificate = SET.certificate(block_hash=block_hash, height=height)
    state, _ = step(started(SET.state(height)), CertificateReceived(certificate))
    choice = (block_hash, -1)
    return replace(state, decision=state.tally.quorum(0, PRECOMMIT, choice))


def votes_of(events: list[PeerEvent]) -> list[SignedVote]:
    return [vote for event in events if isinstance(event, PeerVotes) for vote in event.votes]


def shifted(signed: SignedVote, difference: G2Point) -> SignedVote:
    point = G2Point.from_compressed_bytes(signed.signature) + difference
    return replace(signed, signature=bytes(point.to_compressed_bytes()))


BUILT = LocalChain().build()


@pytest.fixture
def raw_block() -> bytes:
    return BUILT.raw_block


# --- Malformed bytes -------------------------------------------------------------------------------------------


def test_malformed_bytes_are_scored_and_stop_nothing(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        for data in (b"", b"\x00", b"\x09", b"\x02", bytes([2]) + bytes(149), bytes([3]), b"\x08" + bytes(100)):
            bench.peers[ANN].send(OWN, Topic.VOTE, data)
        bench.send(HeightGossip(3, 0), peer=BOB)
        assert await bench.take() == [PeerAt(BOB, 3, asks=True)]
        assert bench.ingress.misbehaviour == {ANN: 7}
        assert bench.ingress._metrics.misbehaviour.value == 7

    bench.run(scenario)


def test_a_body_that_is_no_block_is_scored(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        bench.send(
            BlockGossip(HEIGHT, b"\xc3\x01\x02\x03"), BlockGossip(HEIGHT, b""), BlockGossip(HEIGHT, b"\xff" * 40)
        )
        assert await bench.take() == []
        assert bench.ingress.misbehaviour == {ANN: 3}

    bench.run(scenario)


# --- Votes -----------------------------------------------------------------------------------------------------


def test_a_bad_signature_is_scored_against_its_sender_and_goes_no_further(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        forged = SET.vote(2, signer=3)
        bench.send_votes(SET.vote(0), SET.vote(1), peer=BOB)
        bench.send_votes(forged)
        assert votes_of(await bench.take()) == [SET.vote(0), SET.vote(1)]
        assert bench.ingress.misbehaviour == {ANN: 1}

    bench.run(scenario)


def test_a_vote_in_the_name_of_nobody_is_refused(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        bench.send_votes(replace(SET.vote(0), validator_index=4))
        await bench.take()
        assert votes_of(await bench.linger()) == []
        assert bench.checked == []
        assert bench.ingress.misbehaviour == {ANN: 1}

    bench.run(scenario)


def test_two_votes_whose_errors_cancel_are_both_refused_and_only_their_senders_scored(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        error = G2Point() + G2Point()
        good, one, other = SET.vote(0), shifted(SET.vote(1), error), shifted(SET.vote(2), -error)
        summed = bls.aggregate([vote.signature for vote in (good, one, other)])
        assert summed == SET.certificate(vote_type=PREVOTE).signature, "a plain sum does not see it"
        carol = PeerId(b"carol")
        bench.peers[carol] = bench.network.join(carol)
        bench.send_votes(good, peer=carol)
        bench.send_votes(one, peer=ANN)
        bench.send_votes(other, peer=BOB)
        assert votes_of(await bench.take()) == [good]
        assert bench.ingress.misbehaviour == {ANN: 1, BOB: 1}

    bench.run(scenario)


def test_what_was_seen_is_not_verified_again_whoever_sends_it(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        votes = tuple(SET.vote(index) for index in range(3))
        bench.send_votes(*votes)
        assert votes_of(await bench.take()) == list(votes)
        bench.send_votes(*votes, peer=BOB)
        bench.send(VotesGossip(votes), peer=BOB)
        await bench.take()
        assert votes_of(await bench.linger()) == []
        assert bench.checked == [3]

    bench.run(scenario)


def test_a_refused_copy_of_a_vote_does_not_stand_in_the_way_of_the_real_one(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        bench.send_votes(SET.vote(0, signer=1))
        await bench.linger()
        bench.send_votes(SET.vote(0), peer=BOB)
        await bench.take()
        assert votes_of(await bench.linger()) == [SET.vote(0)]

    bench.run(scenario)


def test_a_vote_that_changes_nothing_alone_waits_for_others_but_not_longer_than_it_may(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        bench.send_votes(SET.vote(0))
        assert await bench.take() == []
        bench.clock.jump(LINGER_S / 2)
        bench.send_votes(SET.vote(1))
        assert await bench.take() == []
        bench.clock.jump(LINGER_S / 2)  # the oldest has waited long enough; the younger one comes along
        assert votes_of(await bench.take()) == [SET.vote(0), SET.vote(1)]
        assert bench.checked == [2]

    bench.run(scenario)


def test_votes_are_released_at_once_when_they_could_complete_a_quorum(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        bench.view = replace(bench.view, current=with_votes(started(SET.state()), SET.vote(3)))
        bench.send_votes(SET.vote(0), SET.vote(0, PRECOMMIT))
        assert await bench.take() == []
        bench.send_votes(SET.vote(1))
        assert votes_of(await bench.take()) == [SET.vote(0), SET.vote(1)]
        assert votes_of(await bench.linger()) == [SET.vote(0, PRECOMMIT)]
        assert bench.checked == [2, 1]

    bench.run(scenario)


def test_a_vote_for_something_else_completes_a_quorum_of_any(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        bench.send_votes(SET.vote(0), SET.vote(1, block_hash=NIL), SET.vote(2, block_hash=OTHER_BLOCK))
        assert len(votes_of(await bench.take())) == 3

    bench.run(scenario)


def test_copies_of_one_validators_votes_complete_nothing(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        bench.send_votes(SET.vote(0), SET.vote(0, block_hash=NIL), SET.vote(0, block_hash=OTHER_BLOCK))
        assert await bench.take() == []

    bench.run(scenario)


def test_votes_beyond_a_quorum_that_stands_wait_again(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        state = with_votes(started(SET.state()), *(SET.vote(index) for index in range(3)))
        bench.view = replace(bench.view, current=state)
        bench.send_votes(SET.vote(3))
        assert await bench.take() == []
        assert votes_of(await bench.linger()) == [SET.vote(3)]

    bench.run(scenario)


def test_votes_of_a_third_in_a_later_round_are_released_at_once(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        bench.view = replace(bench.view, current=started(SET.state()))
        later = [SET.vote(index, block_hash=NIL, round_=7) for index in range(2)]
        bench.send_votes(later[0], SET.vote(0), SET.vote(1))
        assert await bench.take() == [], "two votes of this round are not enough for anything"
        bench.send_votes(later[1])
        assert votes_of(await bench.take()) == later

    bench.run(scenario)


def test_too_many_votes_that_wait_are_all_verified(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip_ingress, "MAX_HELD", 3)

    async def scenario(bench: Bench) -> None:
        votes = [SET.vote(0, round_=round_) for round_ in range(4)]
        bench.send_votes(*votes[:3])
        assert await bench.take() == []
        bench.send_votes(votes[3])
        assert votes_of(await bench.take()) == votes

    bench.run(scenario)


def test_prevotes_of_a_height_that_ended_while_they_waited_are_dropped_and_its_precommits_are_not(
    bench: Bench,
) -> None:
    async def scenario(bench: Bench) -> None:
        bench.send_votes(SET.vote(3), SET.vote(3, PRECOMMIT))
        assert await bench.take() == []
        bench.step_to(SET.state(HEIGHT + 1), decided(height=HEIGHT))
        assert votes_of(await bench.linger()) == [SET.vote(3, PRECOMMIT)]
        bench.send_votes(SET.vote(2), SET.vote(2, PRECOMMIT))
        await bench.take()
        assert votes_of(await bench.linger()) == [SET.vote(2, PRECOMMIT)]

    bench.run(scenario)


def test_the_memory_of_what_was_seen_begins_anew_when_it_is_full(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip_ingress, "MAX_SEEN", 2)

    async def scenario(bench: Bench) -> None:
        votes = [SET.vote(index) for index in range(3)]
        bench.send_votes(*votes)
        assert votes_of(await bench.take()) == votes
        bench.send_votes(votes[0])
        await bench.take()
        assert votes_of(await bench.linger()) == [votes[0]], "verified again: dear, not wrong"

    bench.run(scenario)


def test_a_batch_holds_no_more_messages_than_it_may(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        sizes: list[int] = []
        plain = bench.ingress._take

        async def noting(batch: list[Arrived]) -> None:
            sizes.append(len(batch))
            await plain(batch)

        bench.ingress._take = noting  # type: ignore[method-assign]
        for _ in range(MAX_BATCH + 1):
            bench.send(HeightGossip(1, 0))
        await bench.take()
        assert sum(sizes) == MAX_BATCH + 1
        assert max(sizes) <= MAX_BATCH

    bench.run(scenario)


# --- Floods ----------------------------------------------------------------------------------------------------


def forged(count: int) -> tuple[SignedVote, ...]:
    """Votes that nobody cast, in the names of members 0 to 3, each of them another one."""
    return tuple(
        replace(SET.vote(index % 4, block_hash=index.to_bytes(32, "big")), signature=SET.vote(0).signature)
        for index in range(1, count + 1)
    )


def test_many_forged_votes_cost_few_checks_and_stand_in_nobodys_way(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        bench.send(VotesGossip(forged(MAX_SUBJECTS)))
        good = [SET.vote(index) for index in range(3)]
        bench.send_votes(*good, peer=BOB)
        assert votes_of(await bench.take()) == good
        # Together, then by sender, then towards the first bad one: each time half as many.
        assert sum(bench.checked) <= 5 * (MAX_SUBJECTS + len(good))
        assert bench.ingress.misbehaviour == {ANN: MAX_SUBJECTS}

    bench.run(scenario)


def test_good_votes_among_many_forged_ones_count_when_somebody_else_brings_them(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        good = [SET.vote(index) for index in range(3)]
        bench.send(VotesGossip((*good, *forged(MAX_SUBJECTS - 1))))
        found = votes_of(await bench.take())
        bench.send_votes(*good, peer=BOB)
        assert {*found, *votes_of(await bench.take())} == set(good)

    bench.run(scenario)


def test_one_bad_vote_among_many_of_a_peer_is_found_and_the_others_count(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        good = [SET.vote(index, round_=round_) for round_ in range(5) for index in range(4)]
        bench.send(VotesGossip((*good, SET.vote(3, round_=9, signer=2))))
        assert set(votes_of([*await bench.take(), *await bench.linger()])) == set(good)
        assert bench.ingress.misbehaviour == {ANN: 1}

    bench.run(scenario)


def test_votes_of_one_peer_for_too_many_things_at_once_are_dropped(bench: Bench) -> None:
    """Each costs a hash to the curve and a pairing; a peer that repeats what it holds speaks of a few."""

    async def scenario(bench: Bench) -> None:
        bench.send(VotesGossip(tuple(SET.vote(0, round_=round_) for round_ in range(MAX_SUBJECTS + 4))))
        await bench.take()
        assert len(votes_of(await bench.linger())) == MAX_SUBJECTS
        assert bench.ingress.misbehaviour == {}
        last = SET.vote(0, round_=MAX_SUBJECTS + 3)
        bench.send_votes(last)
        await bench.take()
        assert votes_of(await bench.linger()) == [last], "but not forgotten for good"

    bench.run(scenario)


def test_of_one_peers_votes_no_more_wait_than_it_could_mean(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip_ingress, "MIN_ROOM_OF_PEER", 1)

    async def scenario(bench: Bench) -> None:
        votes = [SET.vote(index, round_=round_) for round_ in range(5) for index in range(4)]
        bench.send_votes(*votes)
        bench.send_votes(SET.vote(0, PRECOMMIT), peer=BOB)
        found = votes_of([*await bench.take(), *await bench.linger()])
        assert set(found) == {*votes[: 4 * len(SET.set)], SET.vote(0, PRECOMMIT)}
        bench.send_votes(*votes)
        assert set(votes_of([*await bench.take(), *await bench.linger()])) == set(votes[4 * len(SET.set) :])

    bench.run(scenario)


def test_whoever_misbehaves_again_and_again_is_not_listened_to_for_a_while(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        for _ in range(SHUN_AT):
            bench.peers[ANN].send(OWN, Topic.VOTE, b"")
        await bench.take()
        bench.send(HeightGossip(3, 0))
        bench.peers[ANN].send(OWN, Topic.VOTE, b"")
        assert await bench.take() == []
        assert bench.ingress.misbehaviour == {ANN: SHUN_AT}
        bench.clock.jump(SHUN_S)
        bench.send(HeightGossip(3, 0))
        assert await bench.take() == [PeerAt(ANN, 3, asks=True)]

    bench.run(scenario)


# --- Other heights ---------------------------------------------------------------------------------------------


def test_messages_of_the_next_height_wait_for_it(bench: Bench, raw_block: bytes) -> None:
    async def scenario(bench: Bench) -> None:
        early = [SET.vote(index, height=HEIGHT + 1) for index in range(3)]
        proposal = SET.proposal(0, BUILT.block_hash, height=HEIGHT + 1)
        bench.send(ProposalGossip(proposal, raw_block))
        bench.send_votes(*early)
        assert await bench.take() == [PeerAt(ANN, HEIGHT + 1, asks=False)]
        assert bench.checked == []
        bench.step_to(SET.state(HEIGHT + 1), decided(height=HEIGHT))
        events = await bench.take()
        assert [type(event) for event in events] == [PeerProposal, PeerBlock, PeerVotes]
        assert events[0] == PeerProposal(ANN, proposal, NOW_MS)
        assert votes_of(events) == early

    bench.run(scenario)


def test_what_waits_for_the_next_height_is_told_of_once_however_much_comes_meanwhile(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        bench.send_votes(*(SET.vote(index, height=HEIGHT + 1) for index in range(3)))
        await bench.take()
        for round_ in range(3):
            bench.send_votes(SET.vote(0, round_=round_), peer=BOB)
            assert await bench.take() == []

    bench.run(scenario)


def test_a_message_of_the_next_height_waits_once_however_often_it_comes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gossip_ingress, "MAX_EARLY", 2)

    async def scenario(bench: Bench) -> None:
        votes = [SET.vote(index, height=HEIGHT + 1) for index in range(2)]
        for _ in range(3):
            bench.send_votes(votes[0])
        bench.send_votes(votes[1], SET.vote(2, height=HEIGHT + 1), peer=BOB)  # the last is one too many
        await bench.take()
        bench.step_to(SET.state(HEIGHT + 1))
        await bench.take()
        assert votes_of(await bench.linger()) == votes

    bench.run(scenario)


def test_bodies_that_wait_for_the_next_height_are_bounded_together(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, raw_block: bytes
) -> None:
    monkeypatch.setattr(gossip_ingress, "MAX_EARLY_BODY_BYTES", len(raw_block))

    async def scenario(bench: Bench) -> None:
        first, second = (
            SET.proposal(round_, BUILT.block_hash, height=HEIGHT + 1, round_=round_) for round_ in range(2)
        )
        bench.send(ProposalGossip(first, raw_block), ProposalGossip(second, raw_block))
        await bench.take()
        bench.step_to(SET.state(HEIGHT + 1))
        events = await bench.take()
        assert events[:2] == [PeerProposal(ANN, first, NOW_MS), PeerProposal(ANN, second, NOW_MS)]
        assert [type(event) for event in events[2:]] == [PeerBlock]

    bench.run(scenario)


def test_other_heights_only_tell_where_the_sender_is(bench: Bench, raw_block: bytes) -> None:
    async def scenario(bench: Bench) -> None:
        far = HEIGHT + 2
        bench.send_votes(*(SET.vote(index, height=far + index) for index in range(2)))
        bench.send(
            ProposalGossip(SET.proposal(0, height=far), raw_block), CertificateGossip(SET.certificate(height=far))
        )
        bench.send(DecidedGossip(SET.certificate(height=far), raw_block), BlockGossip(far, raw_block))
        bench.send_votes(SET.vote(0, height=2), peer=BOB)
        assert await bench.take() == [PeerAt(ANN, far + 1, asks=False), PeerAt(BOB, 2, asks=False)]
        bench.step_to(SET.state(far))
        assert await bench.linger() == []
        assert bench.checked == []

    bench.run(scenario)


def test_a_height_that_a_peer_tells_and_what_it_wants_are_passed_on(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        bench.send(HeightGossip(MAX_HEIGHT, MAX_ROUND), BlockWanted(HEIGHT, BLOCK))
        assert await bench.take() == [PeerAt(ANN, MAX_HEIGHT, asks=True), PeerWantsBlock(ANN, HEIGHT, BLOCK)]

    bench.run(scenario)


# --- Proposals -------------------------------------------------------------------------------------------------


def test_a_proposal_comes_with_its_arrival_and_before_its_body(bench: Bench, raw_block: bytes) -> None:
    async def scenario(bench: Bench) -> None:
        bench.send(ProposalGossip(SET.proposal(0, BUILT.block_hash), raw_block))
        proposed, body = await bench.take()
        assert proposed == PeerProposal(ANN, SET.proposal(0, BUILT.block_hash), NOW_MS)
        assert isinstance(body, PeerBlock)
        assert (body.height, body.raw_block) == (HEIGHT, raw_block)

    bench.run(scenario)


def test_a_proposal_by_another_member_than_the_rounds_proposer_is_refused(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        bench.send(ProposalGossip(SET.proposal(1), b""), ProposalGossip(SET.proposal(0, round_=1), b""))
        assert await bench.take() == []
        assert bench.ingress.misbehaviour == {ANN: 2}
        bench.send(ProposalGossip(SET.proposal(1, round_=1), b""), peer=BOB)
        assert await bench.take() == [PeerProposal(BOB, SET.proposal(1, round_=1), NOW_MS)]

    bench.run(scenario)


def test_a_proposal_of_a_round_far_ahead_is_dropped_before_its_proposer_is_computed(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        last = MAX_ROUNDS_AHEAD
        bench.send(ProposalGossip(SET.proposal(0, round_=MAX_ROUND), b""))
        bench.send(ProposalGossip(SET.proposal(last % 4, round_=last), b""))
        assert [event.proposal.round_ for event in await bench.take() if isinstance(event, PeerProposal)] == [last]
        assert len(bench.view.current.context.proposers._winners) == last + 1
        assert not bench.ingress.misbehaviour

    bench.run(scenario)


def test_bodies_that_are_here_are_not_decoded_again(bench: Bench, raw_block: bytes) -> None:
    async def scenario(bench: Bench) -> None:
        hash_ = BUILT.block_hash
        bench.view = replace(bench.view, known_blocks=frozenset([hash_]))
        bench.send(ProposalGossip(SET.proposal(0, hash_), raw_block))
        bench.send(DecidedGossip(SET.certificate(block_hash=hash_), raw_block))
        assert [type(event) for event in await bench.take()] == [PeerProposal, PeerCertificate]

    bench.run(scenario)


def test_a_body_that_nothing_names_is_not_looked_into(bench: Bench, raw_block: bytes) -> None:
    """One of millions of transactions takes minutes, and anybody may make it."""

    async def scenario(bench: Bench) -> None:
        bench.send(BlockGossip(HEIGHT, raw_block), ProposalGossip(SET.proposal(0), raw_block))
        assert await bench.take() == [PeerProposal(ANN, SET.proposal(0), NOW_MS)]
        assert bench.ingress.misbehaviour == {}

    bench.run(scenario)


def test_a_body_is_taken_also_where_the_driver_has_not_heard_of_its_proposal_yet(
    bench: Bench, raw_block: bytes
) -> None:
    async def scenario(bench: Bench) -> None:
        proposal = SET.proposal(0, BUILT.block_hash)
        bench.send(ProposalGossip(proposal, b""))
        assert [type(event) for event in await bench.take()] == [PeerProposal]
        bench.send(ProposalGossip(proposal, raw_block), peer=BOB)
        assert await bench.take() == [PeerBlock(HEIGHT, BUILT.block_hash, raw_block)]

    bench.run(scenario)


def test_a_body_that_the_machine_waits_for_is_taken_and_no_other_under_its_header(
    bench: Bench, raw_block: bytes
) -> None:
    async def scenario(bench: Bench) -> None:
        waiting = ProposalReceived(SET.proposal(0, BUILT.block_hash), NOW_MS)
        bench.view = replace(bench.view, current=step(started(SET.state()), waiting)[0])
        bench.send(BlockGossip(HEIGHT, raw_block[:-1] + b"\xff"))
        assert await bench.take() == []
        assert bench.ingress.misbehaviour == {ANN: MARKS_OF_A_BODY}
        bench.send(HeightGossip(1, 0))
        assert await bench.take() == [], "it is not listened to for a while"
        bench.send(BlockGossip(HEIGHT, raw_block), peer=BOB)
        assert await bench.take() == [PeerBlock(HEIGHT, BUILT.block_hash, raw_block)]

    bench.run(scenario)


# --- Certificates ----------------------------------------------------------------------------------------------


def test_a_polka_and_a_commit_of_the_current_height_are_passed_on_once(bench: Bench, raw_block: bytes) -> None:
    async def scenario(bench: Bench) -> None:
        polka, commit = SET.certificate(vote_type=PREVOTE), SET.certificate()
        for _ in range(2):
            bench.send(CertificateGossip(polka), DecidedGossip(commit, raw_block))
        events = await bench.take()
        assert [event for event in events if isinstance(event, PeerCertificate)] == [
            PeerCertificate(ANN, polka),
            PeerCertificate(ANN, commit),
        ]
        assert bench.ingress.misbehaviour == {}

    bench.run(scenario)


def test_certificates_that_do_not_hold_are_scored(bench: Bench, raw_block: bytes) -> None:
    async def scenario(bench: Bench) -> None:
        other_set = SignedSet(7).certificate(range(7))
        bad = [
            SET.certificate(block_hash=NIL),
            SET.certificate((0, 1)),  # no quorum
            replace(SET.certificate(), signature=SET.certificate(block_hash=OTHER_BLOCK).signature),
            replace(SET.certificate(), signers=b"\x0f"),  # one more than signed
            replace(SET.certificate(), signers=b"\xff"),  # bits beyond the set
            replace(SET.certificate(), signers=b"\x07\x00"),
            replace(SET.certificate(), signature=bytes(96)),
            other_set,
        ]
        for certificate in bad:
            bench.send(CertificateGossip(certificate))
        assert [event for event in await bench.take() if isinstance(event, PeerCertificate)] == []
        assert bench.ingress.misbehaviour == {ANN: len(bad)}

    bench.run(scenario)


def test_prevotes_decide_nothing(bench: Bench, raw_block: bytes) -> None:
    async def scenario(bench: Bench) -> None:
        bench.send(DecidedGossip(SET.certificate(vote_type=PREVOTE), raw_block))
        assert await bench.take() == []
        assert bench.ingress.misbehaviour == {ANN: 1}

    bench.run(scenario)


def test_a_certificate_for_another_block_at_a_final_height_tells_of_a_fork(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        bench.step_to(SET.state(HEIGHT), decided(BLOCK, HEIGHT - 1))
        same, other = (SET.certificate(block_hash=block, height=HEIGHT - 1) for block in (BLOCK, OTHER_BLOCK))
        bench.send(DecidedGossip(same, b""))
        assert [event for event in await bench.take() if isinstance(event, PeerCertificate)] == []
        bench.send(DecidedGossip(replace(other, signature=same.signature), b""), peer=BOB)
        assert [event for event in await bench.take() if isinstance(event, PeerCertificate)] == []
        assert bench.ingress.misbehaviour == {BOB: 1}
        bench.send(DecidedGossip(other, b""))
        assert await bench.take() == [PeerCertificate(ANN, other)]
        # With a block, the header that may be a forged one comes along.
        sealed = decode_block(LocalChain().build().raw_block)
        bench.send(DecidedGossip(other, encode_block(sealed)))
        assert await bench.take() == [PeerCertificate(ANN, other, encode_header(sealed.block.header))]

    bench.run(scenario)


# --- Checkpoints -----------------------------------------------------------------------------------------------


def test_a_checkpoint_vote_is_passed_on_once_and_unverified(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        vote = SET.checkpoint_vote(0, CheckpointSubject(0, 4, BLOCK, OTHER_BLOCK))
        bench.send(vote, vote)
        assert await bench.take() == [PeerCheckpointVote(vote)]

    bench.run(scenario)


# --- Scores ----------------------------------------------------------------------------------------------------


def test_scores_of_more_peers_than_are_remembered_make_room(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip_ingress, "MAX_SCORED", 2)

    async def scenario(bench: Bench) -> None:
        for _ in range(2):
            bench.peers[ANN].send(OWN, Topic.VOTE, b"")
        await bench.take()
        for name in (b"x", b"y", b"z"):
            bench.network.join(PeerId(name)).send(OWN, Topic.VOTE, b"")
            await bench.take()
        assert bench.ingress.misbehaviour == {ANN: 2, PeerId(b"z"): 1}, "the least of them is forgotten"

    bench.run(scenario)


def test_who_casts_votes_is_told_from_who_passes_them_on(bench: Bench) -> None:
    own, others = SET.vote(1), [SET.vote(0), SET.vote(2)]
    keys = [member.voting_key for member in bench.view.current.context.validator_set.validators]

    async def scenario(bench: Bench) -> None:
        bench.send_votes(own)
        bench.send(VotesGossip(tuple(others)), peer=BOB)
        await bench.take()
        await bench.linger()
        assert bench.ingress.origins.nodes_of(keys) == {ANN: keys[1]}
        bench.send_votes(own, peer=BOB)
        await bench.take()
        await bench.linger()
        assert bench.ingress.origins.nodes_of(keys) == {ANN: keys[1]}

    bench.run(scenario)


def test_votes_that_do_not_hold_say_nothing_about_who_cast_them(bench: Bench) -> None:
    forged = replace(SET.vote(1), block_hash=OTHER_BLOCK)
    keys = [member.voting_key for member in bench.view.current.context.validator_set.validators]

    async def scenario(bench: Bench) -> None:
        bench.send_votes(forged)
        await bench.take()
        await bench.linger()
        assert bench.ingress.origins.nodes_of(keys) == {}

    bench.run(scenario)


# --- Evidence --------------------------------------------------------------------------------------------------


def test_evidence_that_convicts_is_passed_on_once_and_what_does_not_is_scored(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        proof = Evidence(SET.vote(1, PREVOTE, BLOCK), SET.vote(1, PREVOTE, OTHER_BLOCK))
        harmless = Evidence(SET.vote(1, PREVOTE, BLOCK), SET.vote(1, PRECOMMIT, BLOCK))
        forged = Evidence(SET.vote(2, PREVOTE, BLOCK), SET.vote(2, PREVOTE, OTHER_BLOCK, signer=3))
        far = Evidence(SET.vote(1, PREVOTE, BLOCK, height=90), SET.vote(1, PREVOTE, OTHER_BLOCK, height=90))
        bench.send(EvidenceGossip(proof), EvidenceGossip(proof), EvidenceGossip(far))
        assert await bench.take() == [PeerEvidence(proof)]
        bench.send(EvidenceGossip(harmless), EvidenceGossip(forged), peer=BOB)
        assert await bench.take() == []
        assert bench.ingress.misbehaviour == {BOB: 2}

    bench.run(scenario)


def forgery(height: int, by: int = 1) -> ForgedHeader:
    return ForgedHeader(b"a header", SET.certificate((by,), height=height))


def test_forged_headers_and_crimes_of_the_past_are_looked_into_beside_all_else(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        old = Evidence(SET.vote(1, PREVOTE, BLOCK, height=1), SET.vote(1, PREVOTE, OTHER_BLOCK, height=1))
        good, bad, unwanted, unknown = (forgery(HEIGHT - 1, by) for by in range(4))
        bench.past.good = {good, old}
        bench.past.bad = {bad}
        bench.past.unwanted = {unwanted}
        bench.past.may_answer = trio.Event()
        bench.send(*map(EvidenceGossip, (old, good, good, unwanted, unknown)))
        bench.send(EvidenceGossip(bad), peer=BOB)
        assert await bench.take() == []
        # Execution is at work, and the height goes on.
        polka = SET.certificate(vote_type=PREVOTE)
        bench.send(CertificateGossip(polka))
        assert await bench.take() == [PeerCertificate(ANN, polka)]
        bench.past.may_answer.set()
        assert await bench.take() == [PeerEvidence(old), PeerEvidence(good)]
        assert bench.past.checked == [old, good, unknown, bad]
        assert bench.ingress.misbehaviour == {BOB: 1}

    bench.run(scenario)


def test_beyond_its_bound_evidence_about_the_past_is_let_go_and_may_come_again(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        sent = [forgery(height) for height in range(1, MAX_WAITING + 3)]
        bench.past.good = set(sent)
        bench.past.may_answer = trio.Event()
        bench.send(EvidenceGossip(sent[0]))
        await bench.take()
        bench.send(*map(EvidenceGossip, sent[1:]))
        await bench.take()
        bench.past.may_answer.set()
        assert await bench.take() == [PeerEvidence(one) for one in sent[:-1]]
        bench.send(EvidenceGossip(sent[-1]))
        assert await bench.take() == [PeerEvidence(sent[-1])]
        assert bench.ingress.misbehaviour == {}

    bench.run(scenario)


# --- What goes on to others ------------------------------------------------------------------------------------


class JudgedTransport(MemoryTransport):
    """One whose messages were gossiped: each waits for a verdict."""

    def __init__(self, network: MemoryNetwork, own_id: PeerId) -> None:
        super().__init__(network, own_id)
        self.verdicts: dict[bytes, Verdict] = {}

    def gossip(self, peer: PeerId, message: bytes, gossip_id: bytes) -> None:
        self.deliver(TopicMessage(peer, Topic.VOTE, message, gossip_id))

    def judge(self, message: TopicMessage, verdict: Verdict) -> None:
        if message.gossip_id is not None:
            assert message.gossip_id not in self.verdicts, "judged twice"
            self.verdicts[message.gossip_id] = verdict


def test_only_what_was_verified_goes_on_to_others(bench: Bench) -> None:
    transport = JudgedTransport(bench.network, OWN)
    bench.ingress = bench.new_ingress(transport)

    async def scenario(bench: Bench) -> None:
        good, forged = SET.vote(0), SET.vote(1, signer=2)
        for gossip_id, message in {
            b"good": VotesGossip((good,)),
            b"forged": VotesGossip((forged,)),
            b"where": HeightGossip(3, 0),
        }.items():
            transport.gossip(ANN, encode_gossip(message), gossip_id)
        transport.gossip(ANN, b"\xff nonsense", b"nonsense")
        await bench.take()
        assert transport.verdicts == {b"nonsense": Verdict.REJECT, b"where": Verdict.IGNORE}
        await bench.linger()
        assert transport.verdicts[b"good"] is Verdict.ACCEPT
        assert transport.verdicts[b"forged"] is Verdict.REJECT
        transport.gossip(BOB, encode_gossip(VotesGossip((good,))), b"again")
        await bench.take()
        assert transport.verdicts[b"again"] is Verdict.IGNORE

    bench.run(scenario)


def test_what_waits_for_the_next_height_is_judged_there(bench: Bench) -> None:
    transport = JudgedTransport(bench.network, OWN)
    bench.ingress = bench.new_ingress(transport)

    async def scenario(bench: Bench) -> None:
        transport.gossip(ANN, encode_gossip(VotesGossip((SET.vote(0, height=HEIGHT + 1),))), b"early")
        await bench.take()
        assert transport.verdicts == {}
        bench.step_to(SET.state(HEIGHT + 1))
        await bench.take()
        await bench.linger()
        assert transport.verdicts == {b"early": Verdict.ACCEPT}

    bench.run(scenario)


def test_evidence_about_the_past_has_its_verdict_when_it_was_looked_into(bench: Bench) -> None:
    transport = JudgedTransport(bench.network, OWN)
    bench.ingress = bench.new_ingress(transport)

    async def scenario(bench: Bench) -> None:
        good, bad, unknown, unwanted = (forgery(HEIGHT - 1, by) for by in range(4))
        bench.past.good, bench.past.bad, bench.past.unwanted = {good}, {bad}, {unwanted}
        bench.past.may_answer = trio.Event()
        for gossip_id, evidence in {b"good": good, b"bad": bad, b"unknown": unknown, b"unwanted": unwanted}.items():
            transport.gossip(ANN, encode_gossip(EvidenceGossip(evidence)), gossip_id)
        await bench.take()
        assert transport.verdicts == {}
        bench.past.may_answer.set()
        await bench.take()
        assert transport.verdicts == {
            b"good": Verdict.ACCEPT,
            b"bad": Verdict.REJECT,
            b"unknown": Verdict.IGNORE,
            b"unwanted": Verdict.IGNORE,
        }

    bench.run(scenario)
