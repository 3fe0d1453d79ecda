"""From bytes off the network to events that the consensus driver may believe: decode, drop repeats, verify.

What `gossip_judge` finds wrong is scored against whoever sent it and goes no further. Votes are checked together, when
enough wait to matter: one pairing product then stands for many. Messages of the next height wait for it; those of
heights further on, or long past, only tell where the sender is. The clock is read once a message, when it arrives.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final, Protocol, assert_never

import trio

from astralink_node.clock import NowMs
from astralink_node.log import Log
from astralink_node.metrics import NodeMetrics
from astralink_node.services.evidence_desk import MAX_WAITING, CannotJudge
from astralink_node.services.gossip_judge import (
    Arrived,
    HeightsView,
    PeerAt,
    PeerCheckpointVote,
    PeerEvent,
    PeerEvidence,
    PeerVotes,
    PeerWantsBlock,
    Work,
    judge,
    named_by,
)
from astralink_node.services.offload import Offload
from astralink_node.services.vote_origins import VoteOrigins
from consensus.certificate import Certificate
from consensus.evidence import Evidence, EvidenceError
from consensus.evidence_forms import AnyEvidence
from consensus.gossip import (
    MAX_BLOCK_BYTES,
    BlockGossip,
    BlockWanted,
    CertificateGossip,
    CheckpointVote,
    DecidedGossip,
    EvidenceGossip,
    GossipMessage,
    HeightGossip,
    ProposalGossip,
    VotesGossip,
    decode_gossip,
)
from consensus.height_machine import HeightState
from consensus.messages import VoteType
from consensus.vote_tally import MAX_ROUNDS_AHEAD
from consensus.votes import SignedVote
from consensus.wire import DecodeError
from p2p.gossip_events import Verdict
from p2p.peer_id import PeerId
from p2p.topic_transport import TopicMessage, TopicTransport

MAX_BATCH: Final = 512
"""Messages that are verified together; more wait for the next batch."""
MAX_BATCHES: Final = 4
"""Batches that wait; beyond them messages stay with the transport, which has a bound of its own."""
MAX_EARLY: Final = 1024
"""Messages of the next height that wait for it; further ones are dropped and will be repeated."""
MAX_EARLY_BODY_BYTES: Final = 4 * MAX_BLOCK_BYTES
"""Bodies among them, together; further proposals wait without theirs, which will be asked for."""
LINGER_S: Final = 0.1
"""How long a vote waits for others that would be verified with it, where it alone can change nothing."""
MAX_HELD: Final = 4096
"""Votes that wait so; at more, all are verified."""
MIN_ROOM_OF_PEER: Final = 64
"""Among them, of one peer: at least so many, else four for each member of the set; whoever repeats what it holds sends
three. Further ones are dropped, and count when they are said again."""
MAX_SUBJECTS: Final = 16
"""Values (of a height, round, type and validRound) that one peer's waiting votes may be for: each costs a hash to the
curve and a pairing. Whoever repeats what it holds speaks of three slots and of few values."""
MAX_SEEN: Final = 16_384
"""Messages of one height that are remembered in order not to verify them again; then the memory begins anew."""
SHUN_AT: Final = 16
"""Each time that a peer has misbehaved so often more ..."""
SHUN_S: Final = 60.0
"""... nothing that it sends is looked at for this long."""
MAX_SCORED: Final = 4096
"""Peers whose misbehaviour is remembered; whoever has the least makes room."""

_log = Log("gossip")


@dataclass(slots=True)
class _Held:
    """Of one peer's votes that wait."""

    count: int = 0
    subjects: set[tuple[object, ...]] = field(default_factory=set)


class PastJudge(Protocol):
    """What looks into the chain's past for evidence: services.evidence_desk."""

    def is_wanted(self, evidence: AnyEvidence) -> bool: ...
    async def check(self, evidence: AnyEvidence) -> None:
        """Raises EvidenceError, or CannotJudge."""


class GossipIngress:
    """See the module's description. `emit` takes the events, in order, and may wait."""

    def __init__(
        self,
        transport: TopicTransport,
        now_ms: NowMs,
        offload: Offload,
        view: Callable[[], HeightsView],
        emit: Callable[[PeerEvent], Awaitable[None]],
        past: PastJudge,
        metrics: NodeMetrics | None = None,
    ) -> None:
        self._metrics = metrics or NodeMetrics()
        self._transport = transport
        self._now_ms = now_ms
        self._offload = offload
        self._view = view
        self._emit = emit
        self._past = past
        self._accusations, self._accused = trio.open_memory_channel[tuple[Arrived, AnyEvidence]](MAX_WAITING)
        self._batches, self._waiting = trio.open_memory_channel[list[Arrived]](MAX_BATCHES)
        self._early: dict[GossipMessage, Arrived] = {}
        self._early_body_bytes = 0
        self._held: list[tuple[Arrived, SignedVote]] = []
        """Votes that are not verified yet."""
        self._held_of: dict[PeerId, _Held] = {}
        self._held_until_s = inf
        self._seen: set[object] = set()
        self._seen_height = 0
        self._named: set[bytes] = set()
        """Blocks of that height whose bodies are of use, the driver knowing of them yet or not."""
        self.misbehaviour: Counter[PeerId] = Counter()
        """Messages of each peer that were malformed, or whose signatures do not hold."""
        self._shunned_until_s: dict[PeerId, float] = {}
        self.origins = VoteOrigins()

    async def run(self) -> None:
        """Take messages in until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive)
            nursery.start_soon(self._judge_the_past)
            while True:
                batch: list[Arrived] = []
                with trio.move_on_at(self._held_until_s):
                    batch = await self._waiting.receive()
                await self._take(batch)

    def height_began(self) -> None:
        """The driver stands at a new height: what waited for it is looked at now."""
        if self._early:
            try:
                self._batches.send_nowait([])
            except trio.WouldBlock:
                return  # a batch waits already, and brings the early ones along

    async def _receive(self) -> None:
        while True:
            received = [await self._transport.receive()]
            received += self._transport.receive_waiting(MAX_BATCH - 1)
            now_ms = self._now_ms()
            batch = [arrived for item in received if (arrived := self._decode(item, now_ms)) is not None]
            if batch:
                await self._batches.send(batch)

    def _decode(self, received: TopicMessage, now_ms: int) -> Arrived | None:
        if trio.current_time() < self._shunned_until_s.get(received.peer, 0.0):
            self._transport.judge(received, Verdict.IGNORE)
            return None
        try:
            return Arrived(received.peer, decode_gossip(received.data), now_ms, received)
        except DecodeError as error:
            self._score(received.peer, f"a malformed message: {error}")
            self._transport.judge(received, Verdict.REJECT)
            return None

    def _score(self, peer: PeerId, what: str) -> None:
        if peer not in self.misbehaviour and len(self.misbehaviour) >= MAX_SCORED:
            least = min(self.misbehaviour, key=self.misbehaviour.__getitem__)
            del self.misbehaviour[least]
            self._shunned_until_s.pop(least, None)
        self.misbehaviour[peer] += 1
        self._metrics.misbehaviour.add()
        times = self.misbehaviour[peer]
        if times & (times - 1) == 0:  # at each doubling: a peer must not be able to fill the log either
            _log.warning("a peer misbehaves", peer=peer.hex(), times=times, what=what)
        if times % SHUN_AT == 0:
            self._shunned_until_s[peer] = trio.current_time() + SHUN_S

    async def _judge_the_past(self) -> None:
        """One piece of evidence after the other, beside all else: execution is asked, and may be at work."""
        async for arrived, evidence in self._accused:
            verdict = await self._verdict_on(arrived, evidence)
            self._transport.judge(arrived.source, verdict)
            if verdict is Verdict.ACCEPT:
                await self._emit(PeerEvidence(evidence))

    async def _verdict_on(self, arrived: Arrived, evidence: AnyEvidence) -> Verdict:
        if not self._past.is_wanted(evidence):
            return Verdict.IGNORE
        try:
            await self._past.check(evidence)
        except CannotJudge:
            return Verdict.IGNORE
        except EvidenceError as error:
            self._score(arrived.peer, f"evidence that convicts nobody: {error}")
            return Verdict.REJECT
        return Verdict.ACCEPT

    # --- A batch ---------------------------------------------------------------------------------------------------

    async def _take(self, batch: list[Arrived]) -> None:
        view = self._view()
        early: list[Arrived] = []
        if view.current.height != self._seen_height:
            self._seen.clear()
            self._named.clear()
            self._seen_height = view.current.height
            early = list(self._early.values())
            self._early, self._early_body_bytes = {}, 0
        work = Work(named=frozenset(self._named))
        for arrived in (*early, *batch):
            self._sort(arrived, view, work)
        work.others += [PeerAt(peer, height, asks=False) for peer, height in work.elsewhere.items()]
        released = self._release_votes(view, work)
        verdict = judge(work, view) if work.is_light else await self._offload(judge, work, view)
        self._note_origins(work, verdict.events, view)
        for arrived, what in verdict.culprits:
            self._score(arrived.peer, what)
        self._tell_transport((*early, *batch, *released), work, verdict.culprits)
        self._seen.difference_update(verdict.refused_votes)  # good ones may be among them
        self._named |= named_by(verdict.events)
        for event in verdict.events:
            await self._emit(event)

    def _note_origins(self, work: Work, events: Iterable[PeerEvent], view: HeightsView) -> None:
        """Of verified votes that came directly and alone."""
        verified = {vote for event in events if isinstance(event, PeerVotes) for vote in event.votes}
        members = view.current.context.validator_set.validators
        for arrived, vote in work.votes.get(view.current.height, ()):
            is_alone = isinstance(arrived.message, VotesGossip) and len(arrived.message.votes) == 1
            if is_alone and arrived.source.gossip_id is None and vote in verified:
                self.origins.note(members[vote.validator_index].voting_key, arrived.peer)

    def _tell_transport(
        self, looked_at: Iterable[Arrived], work: Work, culprits: Iterable[tuple[Arrived, str]]
    ) -> None:
        """What was found to hold goes on to others; what still waits is judged when it has been looked at."""
        bad = {id(arrived.source) for arrived, _ in culprits}
        good = {id(arrived.source) for arrived in work.arrived()}
        waiting = {id(arrived.source) for arrived in (*self._early.values(), *(held for held, _ in self._held))}
        for source in {id(arrived.source): arrived.source for arrived in looked_at}.values():
            if id(source) in bad:
                self._transport.judge(source, Verdict.REJECT)
            elif id(source) in good:
                self._transport.judge(source, Verdict.ACCEPT)
            elif id(source) not in waiting and not any(source is one for one in work.looked_into):
                self._transport.judge(source, Verdict.IGNORE)

    def _sort(self, arrived: Arrived, view: HeightsView, work: Work) -> None:
        """Put a message where it belongs; what is known, or of no use, goes nowhere."""
        message, current = arrived.message, view.current
        match message:
            case VotesGossip(votes):
                self._sort_votes(arrived, votes, view, work)
            case ProposalGossip(proposal, raw_block):
                if not self._is_of_current_height(arrived, proposal.height, view, work):
                    return
                if raw_block and proposal.block_hash not in view.known_blocks:
                    work.blocks.append((arrived, proposal.height, raw_block))
                is_near = proposal.round_ <= current.rounds.round_ + MAX_ROUNDS_AHEAD
                if is_near and proposal.round_ not in current.proposals and self._is_new(proposal):
                    work.proposals.append((arrived, message, current.context.proposers.at(proposal.round_)))
            case CertificateGossip(certificate):
                if self._is_of_current_height(arrived, certificate.height, view, work) and self._is_new(certificate):
                    work.certificates.append((arrived, certificate))
            case DecidedGossip(certificate, raw_block):
                if certificate.vote_type is not VoteType.PRECOMMIT:
                    self._score(arrived.peer, "prevotes that are to decide a block")
                elif _contradicts(view.recent.get(certificate.height), certificate):
                    work.certificates.append((arrived, certificate))
                elif self._is_of_current_height(arrived, certificate.height, view, work):
                    if self._is_new(certificate):
                        work.certificates.append((arrived, certificate))
                    if certificate.block_hash not in view.known_blocks:
                        work.blocks.append((arrived, certificate.height, raw_block))
            case BlockGossip(height, raw_block):
                if height == current.height:
                    work.blocks.append((arrived, height, raw_block))
            case HeightGossip(height):
                work.others.append(PeerAt(arrived.peer, height, asks=True))
            case BlockWanted(height, block_hash):
                work.others.append(PeerWantsBlock(arrived.peer, height, block_hash))
            case CheckpointVote():
                if self._is_new(message):
                    work.others.append(PeerCheckpointVote(message))
            case EvidenceGossip(evidence):
                if not self._is_new(evidence):
                    return
                if isinstance(evidence, Evidence) and view.state_at(evidence.height) is not None:
                    work.evidence.append((arrived, evidence))
                else:
                    self._accuse(arrived, evidence, work)
            case _:
                assert_never(message)

    def _accuse(self, arrived: Arrived, evidence: AnyEvidence, work: Work) -> None:
        """Have it looked into; where too much waits already it is let go."""
        try:
            self._accusations.send_nowait((arrived, evidence))
        except trio.WouldBlock:
            self._seen.discard(evidence)
        else:
            work.looked_into.append(arrived.source)

    def _sort_votes(self, arrived: Arrived, votes: Iterable[SignedVote], view: HeightsView, work: Work) -> None:
        for vote in votes:
            if vote.height in view.recent:
                is_of_use = vote.vote_type is VoteType.PRECOMMIT
            else:
                alone = replace(arrived, message=VotesGossip((vote,)))
                is_of_use = self._is_of_current_height(alone, vote.height, view, work)
            if is_of_use:
                self._hold(arrived, vote, max(MIN_ROOM_OF_PEER, 4 * len(view.current.context.validator_set)))

    def _hold(self, arrived: Arrived, vote: SignedVote, room_of_peer: int) -> None:
        held, subject = self._held_of.setdefault(arrived.peer, _Held()), _subject(vote)
        has_room = held.count < room_of_peer and (subject in held.subjects or len(held.subjects) < MAX_SUBJECTS)
        if has_room and self._is_new(vote):
            held.count += 1
            held.subjects.add(subject)
            self._held.append((arrived, vote))

    def _release_votes(self, view: HeightsView, work: Work) -> list[Arrived]:
        """Verify the held votes of every slot where they can matter now, and all once the oldest has waited."""
        if not self._held:
            return []
        now_s = trio.current_time()
        if now_s >= self._held_until_s or len(self._held) > MAX_HELD:
            released, self._held = self._held, []
        else:
            urgent = _urgent_slots(view.current, [vote for _, vote in self._held])
            released = [entry for entry in self._held if _slot(entry[1]) in urgent]
            self._held = [entry for entry in self._held if _slot(entry[1]) not in urgent]
        for arrived, vote in released:
            if vote.vote_type is VoteType.PREVOTE and vote.height != view.current.height:
                continue  # its height was decided while it waited
            work.votes.setdefault(vote.height, []).append((arrived, vote))
        if released:
            self._held_of = {}
            for arrived, vote in self._held:
                held = self._held_of.setdefault(arrived.peer, _Held())
                held.count += 1
                held.subjects.add(_subject(vote))
        if not self._held:
            self._held_until_s = inf
        elif self._held_until_s == inf:
            self._held_until_s = now_s + LINGER_S
        return [arrived for arrived, _ in released]

    def _is_of_current_height(self, arrived: Arrived, height: int, view: HeightsView, work: Work) -> bool:
        """If not: keep it for the next height, or just note where its sender is."""
        if height == view.current.height:
            return True
        if height == view.current.height + 1:
            self._keep_early(arrived)
        work.elsewhere[arrived.peer] = max(height, work.elsewhere.get(arrived.peer, 0))
        return False

    def _keep_early(self, arrived: Arrived) -> None:
        """Unverified: the set of the next height is not known for sure. Hence each message once, and bounds."""
        message = arrived.message
        body_bytes = len(message.raw_block) if isinstance(message, ProposalGossip | DecidedGossip) else 0
        if self._early_body_bytes + body_bytes > MAX_EARLY_BODY_BYTES:
            if not isinstance(message, ProposalGossip):
                return
            # Its arrival is what counts for its timeliness.
            arrived, body_bytes = replace(arrived, message=ProposalGossip(message.proposal, b"")), 0
        if arrived.message not in self._early and len(self._early) < MAX_EARLY:
            self._early[arrived.message] = arrived
            self._early_body_bytes += body_bytes

    def _is_new(self, item: object) -> bool:
        if item in self._seen:
            return False
        if len(self._seen) >= MAX_SEEN:
            self._seen.clear()
        self._seen.add(item)
        return True


_Slot = tuple[int, int, VoteType]


def _slot(vote: SignedVote) -> _Slot:
    return (vote.height, vote.round_, vote.vote_type)


def _subject(vote: SignedVote) -> tuple[object, ...]:
    """What is signed: votes of the same share a message."""
    return (*_slot(vote), vote.block_hash, vote.valid_round)


def _urgent_slots(state: HeightState, votes: Iterable[SignedVote]) -> frozenset[_Slot]:
    """Where these votes, if they hold, would complete a quorum that is not there yet, or f+1 in a later round."""
    validator_set, tally = state.context.validator_set, state.tally
    waiting: dict[_Slot, set[int]] = {}
    for vote in votes:
        if vote.height == state.height and vote.validator_index < len(validator_set):
            waiting.setdefault(_slot(vote), set()).add(vote.validator_index)
    urgent = set()
    for slot, indices in waiting.items():
        _, round_, vote_type = slot
        ballots = tally.ballots(round_, vote_type)
        power = ballots.power + sum(validator_set.validators[index].power for index in indices - ballots.votes.keys())
        completes = validator_set.has_quorum(power) and next(tally.quorums(round_, vote_type), None) is None
        if completes or (round_ > state.rounds.round_ and validator_set.has_one_correct(power)):
            urgent.add(slot)
    return frozenset(urgent)


def _contradicts(state: HeightState | None, certificate: Certificate) -> bool:
    """Whether the certificate is for another block than the one that this node committed at a recent height."""
    decision = state.decision if state is not None else None
    return decision is not None and decision.block_hash != certificate.block_hash
