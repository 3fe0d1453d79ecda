"""From bytes off the network to events that the consensus driver may believe: decode, drop repeats, verify.

Signatures are checked here against the set of their height; what does not hold is scored against whoever sent it and
goes no further. Votes are checked together, when enough wait to matter: one pairing product then stands for many.
Messages of the next height wait for it; those of heights further on, or long past, only tell where the sender is.
The clock is read once a message, when it arrives.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final, assert_never

import trio

from astralink_node.clock import NowMs
from astralink_node.crypto import bls
from astralink_node.evm.blocks import MalformedBlock, SealedBlock, decode_block, encode_withdrawal
from astralink_node.log import Log
from astralink_node.services.offload import Offload
from astralink_node.state.trie import ordered_root
from consensus.admission import admit_proposal, admit_votes
from consensus.certificate import Certificate, CertificateError, verify_certificate
from consensus.gossip import (
    MAX_BLOCK_BYTES,
    BlockGossip,
    BlockWanted,
    CertificateGossip,
    CheckpointVote,
    DecidedGossip,
    GossipMessage,
    HeightGossip,
    ProposalGossip,
    VotesGossip,
    decode_gossip,
)
from consensus.height_machine import HeightState
from consensus.messages import NIL, VoteType
from consensus.payload import decode_payload, payload_root
from consensus.vote_tally import MAX_ROUNDS_AHEAD
from consensus.votes import SignedProposal, SignedVote
from consensus.wire import DecodeError
from p2p.transport import PeerId, Received, Transport

MAX_BATCH: Final = 512
"""Messages that are verified together; more wait for the next batch."""
MAX_BATCHES: Final = 4
"""Batches that wait; beyond them messages stay with the transport, which has a bound of its own."""
MAX_EARLY: Final = 1024
"""Messages of the next height that wait for it; further ones are dropped and will be repeated."""
MAX_EARLY_BODY_BYTES: Final = 4 * MAX_BLOCK_BYTES
"""Bodies among them, together; further proposals wait without theirs, which will be asked for."""
LINGER_S: Final = 0.05
"""How long a vote waits for others that would be verified with it, where it alone can change nothing."""
MAX_HELD: Final = 4096
"""Votes that wait so; at more, all are verified."""
MAX_SEEN: Final = 16_384
"""Messages of one height that are remembered in order not to verify them again; then the memory begins anew."""
MAX_SCORED: Final = 4096
"""Peers whose misbehaviour is remembered; whoever has the least makes room."""

_log = Log("gossip")


# --- What the driver is told -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PeerProposal:
    peer: PeerId
    proposal: SignedProposal
    arrived_ms: int


@dataclass(frozen=True, slots=True)
class PeerVotes:
    votes: tuple[SignedVote, ...]


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """Of the current height, or a commit of a recent one that names another block than was committed."""

    peer: PeerId
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class PeerBlock:
    """A body of the current height, with its hash recomputed, which stands for all of it; nothing else is verified."""

    height: int
    block_hash: bytes
    raw_block: bytes


@dataclass(frozen=True, slots=True)
class PeerWantsBlock:
    peer: PeerId
    height: int
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class PeerAt:
    """Where a peer's messages show it to be."""

    peer: PeerId
    height: int
    asks: bool
    """It said so itself, in order to be told what it lacks."""


@dataclass(frozen=True, slots=True)
class PeerCheckpointVote:
    """Not verified: the driver's checkpoints know what it must say."""

    vote: CheckpointVote


PeerEvent = PeerProposal | PeerVotes | PeerCertificate | PeerBlock | PeerWantsBlock | PeerAt | PeerCheckpointVote


@dataclass(frozen=True, slots=True)
class HeightsView:
    """What the driver stands at when a batch is verified. Values only: they go to another thread."""

    current: HeightState
    recent: Mapping[int, HeightState]
    """Decided heights of which late precommits are still of use."""
    known_blocks: frozenset[bytes]
    """Hashes of the bodies that are here already."""
    genesis_hash: bytes

    def state_at(self, height: int) -> HeightState | None:
        return self.current if height == self.current.height else self.recent.get(height)


# --- Taking in -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Arrived:
    peer: PeerId
    message: GossipMessage
    at_ms: int


@dataclass(slots=True)
class _Work:
    """A batch sorted by what there is to verify."""

    proposals: list[tuple[_Arrived, ProposalGossip, int]] = field(default_factory=list)
    """With the index of the round's proposer."""
    certificates: list[tuple[_Arrived, Certificate]] = field(default_factory=list)
    blocks: list[tuple[_Arrived, int, bytes]] = field(default_factory=list)
    """(from whom, height, body)"""
    votes: dict[int, list[tuple[PeerId, SignedVote]]] = field(default_factory=dict)
    """By height."""
    others: list[PeerEvent] = field(default_factory=list)
    elsewhere: dict[PeerId, int] = field(default_factory=dict)
    """The greatest height, of those not worked at here, that each peer's messages are of."""


class GossipIngress:
    """See the module's description. `emit` takes the events, in order, and may wait."""

    def __init__(
        self,
        transport: Transport,
        now_ms: NowMs,
        offload: Offload,
        view: Callable[[], HeightsView],
        emit: Callable[[PeerEvent], Awaitable[None]],
    ) -> None:
        self._transport = transport
        self._now_ms = now_ms
        self._offload = offload
        self._view = view
        self._emit = emit
        self._batches, self._waiting = trio.open_memory_channel[list[_Arrived]](MAX_BATCHES)
        self._early: dict[GossipMessage, _Arrived] = {}
        self._early_body_bytes = 0
        self._held: list[tuple[PeerId, SignedVote]] = []
        """Votes that are not verified yet."""
        self._held_until_s = inf
        self._seen: set[object] = set()
        self._seen_height = 0
        self.misbehaviour: Counter[PeerId] = Counter()
        """Messages of each peer that were malformed, or whose signatures do not hold."""

    async def run(self) -> None:
        """Take messages in until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive)
            while True:
                batch: list[_Arrived] = []
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

    def _decode(self, received: Received, now_ms: int) -> _Arrived | None:
        try:
            return _Arrived(received.peer, decode_gossip(received.data), now_ms)
        except DecodeError as error:
            self._score(received.peer, f"a malformed message: {error}")
            return None

    def _score(self, peer: PeerId, what: str) -> None:
        if peer not in self.misbehaviour and len(self.misbehaviour) >= MAX_SCORED:
            del self.misbehaviour[min(self.misbehaviour, key=self.misbehaviour.__getitem__)]
        self.misbehaviour[peer] += 1
        times = self.misbehaviour[peer]
        if times & (times - 1) == 0:  # at each doubling: a peer must not be able to fill the log either
            _log.warning("a peer misbehaves", peer=peer.hex(), times=times, what=what)

    # --- A batch ---------------------------------------------------------------------------------------------------

    async def _take(self, batch: list[_Arrived]) -> None:
        view = self._view()
        early: list[_Arrived] = []
        if view.current.height != self._seen_height:
            self._seen.clear()
            self._seen_height = view.current.height
            early = list(self._early.values())
            self._early, self._early_body_bytes = {}, 0
        work = _Work()
        for arrived in (*early, *batch):
            self._sort(arrived, view, work)
        work.others += [PeerAt(peer, height, asks=False) for peer, height in work.elsewhere.items()]
        self._release_votes(view, work)
        events, culprits = await self._offload(_judge, work, view)
        for peer, what in culprits:
            self._score(peer, what)
        for event in events:
            await self._emit(event)

    def _sort(self, arrived: _Arrived, view: HeightsView, work: _Work) -> None:
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
            case _:
                assert_never(message)

    def _sort_votes(self, arrived: _Arrived, votes: Iterable[SignedVote], view: HeightsView, work: _Work) -> None:
        for vote in votes:
            if vote.height in view.recent:
                is_of_use = vote.vote_type is VoteType.PRECOMMIT
            else:
                alone = _Arrived(arrived.peer, VotesGossip((vote,)), arrived.at_ms)
                is_of_use = self._is_of_current_height(alone, vote.height, view, work)
            if is_of_use and self._is_new(vote):
                self._held.append((arrived.peer, vote))

    def _release_votes(self, view: HeightsView, work: _Work) -> None:
        """Verify the held votes of every slot where they can matter now, and all once the oldest has waited."""
        if not self._held:
            return
        now_s = trio.current_time()
        if now_s >= self._held_until_s or len(self._held) > MAX_HELD:
            released, self._held = self._held, []
        else:
            urgent = _urgent_slots(view.current, [vote for _, vote in self._held])
            released = [entry for entry in self._held if _slot(entry[1]) in urgent]
            self._held = [entry for entry in self._held if _slot(entry[1]) not in urgent]
        for peer, vote in released:
            if vote.vote_type is VoteType.PREVOTE and vote.height != view.current.height:
                continue  # its height was decided while it waited
            work.votes.setdefault(vote.height, []).append((peer, vote))
        if not self._held:
            self._held_until_s = inf
        elif self._held_until_s == inf:
            self._held_until_s = now_s + LINGER_S

    def _is_of_current_height(self, arrived: _Arrived, height: int, view: HeightsView, work: _Work) -> bool:
        """If not: keep it for the next height, or just note where its sender is."""
        if height == view.current.height:
            return True
        if height == view.current.height + 1:
            self._keep_early(arrived)
        work.elsewhere[arrived.peer] = max(height, work.elsewhere.get(arrived.peer, 0))
        return False

    def _keep_early(self, arrived: _Arrived) -> None:
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


# --- Judging: in a worker thread, on values alone ----------------------------------------------------------------


def _judge(work: _Work, view: HeightsView) -> tuple[list[PeerEvent], list[tuple[PeerId, str]]]:
    """What holds, as events, and who sent the rest. Blocks come after what names them, votes last."""
    events: list[PeerEvent] = []
    culprits: list[tuple[PeerId, str]] = []
    for arrived, message, proposer_index in work.proposals:
        proposal, validator_set = message.proposal, view.current.context.validator_set
        if admit_proposal(proposal, proposer_index, validator_set, view.genesis_hash, bls.verify):
            events.append(PeerProposal(arrived.peer, proposal, arrived.at_ms))
        else:
            culprits.append((arrived.peer, f"a proposal of round {proposal.round_} that its proposer did not sign"))
    for arrived, certificate in work.certificates:
        problem = _problem_of(certificate, view)
        if problem:
            culprits.append((arrived.peer, problem))
        else:
            events.append(PeerCertificate(arrived.peer, certificate))
    for arrived, height, raw_block in work.blocks:
        try:
            sealed = decode_block(raw_block)
        except MalformedBlock as error:
            culprits.append((arrived.peer, f"a malformed block: {error}"))
            continue
        foreign_part = _foreign_part(sealed)
        if foreign_part:
            culprits.append((arrived.peer, f"a block whose header is of other {foreign_part}"))
        else:
            events.append(PeerBlock(height, sealed.block.header.hash, raw_block))
    for height, sent in work.votes.items():
        state = view.state_at(height)
        if state is None:
            continue
        votes = [vote for _, vote in sent]
        admission = admit_votes(votes, state.context.validator_set, view.genesis_hash, bls.batch_verify)
        if admission.admitted:
            events.append(PeerVotes(admission.admitted))
        refused = set(admission.refused)
        culprits += [(peer, "a vote whose signature does not hold") for peer, vote in sent if vote in refused]
    return events + work.others, culprits


def _foreign_part(sealed: SealedBlock) -> str:
    """What of a body its header does not commit to; empty if the hash stands for all of it.

    A verdict on a block is kept by its hash: with another body under a true header, anybody could have a good block
    held for invalid here, for good.
    """
    header = sealed.block.header
    try:
        found_root = payload_root(decode_payload(sealed.raw_payload))
    except DecodeError:
        return "payload"
    if found_root != header.parent_beacon_block_root:
        return "payload"
    if ordered_root(sealed.block.raw_transactions) != header.transactions_root:
        return "transactions"
    if ordered_root([encode_withdrawal(item) for item in sealed.block.withdrawals]) != header.withdrawals_root:
        return "withdrawals"
    return ""


def _problem_of(certificate: Certificate, view: HeightsView) -> str:
    """Why the certificate is not to be believed; empty if it is."""
    state = view.state_at(certificate.height)
    if state is None:
        return "a certificate of another height"
    if certificate.block_hash == NIL:
        return "a certificate for no block"
    try:
        verify_certificate(certificate, state.context.validator_set, view.genesis_hash, bls.fast_aggregate_verify)
    except CertificateError as error:
        return f"a certificate that does not hold: {error}"
    return ""
