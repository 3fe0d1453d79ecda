"""What of peers' messages the consensus driver may believe, and who sent the rest.

Values in, values out, for a worker thread: signatures are checked against the set of their height, bodies are decoded
and their hashes computed. `gossip_ingress` decides what is looked at, and when.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from astralink_node.crypto import bls
from astralink_node.evm import rlp
from astralink_node.evm.blocks import (
    MAX_HEADER_BYTES,
    MalformedBlock,
    SealedBlock,
    decode_block,
    encode_withdrawal,
)
from astralink_node.evm.transactions import TX_BASE_GAS
from astralink_node.state.trie import ordered_root
from consensus.admission import Admission, admit_proposal, admit_votes
from consensus.certificate import Certificate, CertificateError, verify_certificate
from consensus.evidence import Evidence, EvidenceError, verify_evidence
from consensus.evidence_forms import AnyEvidence
from consensus.gossip import CheckpointVote, DecidedGossip, GossipMessage, ProposalGossip
from consensus.hashing import keccak256
from consensus.height_machine import HeightState
from consensus.messages import NIL
from consensus.payload import decode_payload, payload_root
from consensus.validator_set import ValidatorSet
from consensus.votes import SignedProposal, SignedVote
from consensus.wire import DecodeError
from p2p.peer_id import PeerId
from p2p.topic_transport import TopicMessage

MAX_FAILED_CHECKS: Final = 16
"""How often a search among one peer's votes for bad ones may fail: enough to find one among all that it may have
here. What it could not clear is dropped, and counted against the peer. Without a bound each forged vote costs some
twenty checks, and a stranger's one message of them most of a minute."""

MARKS_OF_A_BODY: Final = 16
"""A body that is not its header's counts as so many bad signatures: looking into it may take seconds."""

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
    raw_header: bytes = b""
    """Of the block that it came with, if it did; whether it is that certificate's is not looked at."""


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


@dataclass(frozen=True, slots=True)
class PeerEvidence:
    """That convicts somebody."""

    evidence: AnyEvidence


PeerEvent = (
    PeerProposal | PeerVotes | PeerCertificate | PeerBlock | PeerWantsBlock | PeerAt | PeerCheckpointVote | PeerEvidence
)


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


# --- Judging -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrived:
    peer: PeerId
    message: GossipMessage
    at_ms: int
    source: TopicMessage
    """What the transport waits for a verdict on."""


@dataclass(slots=True)
class Work:
    """A batch sorted by what there is to verify."""

    proposals: list[tuple[Arrived, ProposalGossip, int]] = field(default_factory=list)
    """With the index of the round's proposer."""
    certificates: list[tuple[Arrived, Certificate]] = field(default_factory=list)
    blocks: list[tuple[Arrived, int, bytes]] = field(default_factory=list)
    """(from whom, height, body)"""
    named: frozenset[bytes] = frozenset()
    """Blocks that proposals and certificates name which were believed lately: their bodies are looked into."""
    votes: dict[int, list[tuple[Arrived, SignedVote]]] = field(default_factory=dict)
    """By height."""
    evidence: list[tuple[Arrived, Evidence]] = field(default_factory=list)
    """Of the current height or a recent one: for these the sets are at hand."""
    looked_into: list[TopicMessage] = field(default_factory=list)
    """What is judged beside this batch, and has its verdict then."""
    others: list[PeerEvent] = field(default_factory=list)
    elsewhere: dict[PeerId, int] = field(default_factory=dict)
    """The greatest height, of those not worked at here, that each peer's messages are of."""

    @property
    def is_light(self) -> bool:
        """There is nothing to verify or decode: a worker thread would cost more than the judging."""
        return not (self.proposals or self.certificates or self.blocks or self.votes or self.evidence)

    def arrived(self) -> Iterator[Arrived]:
        """Everything that is verified here, whatever its kind."""
        yield from (arrived for arrived, *_ in self.proposals)
        yield from (arrived for arrived, _ in self.certificates)
        yield from (arrived for arrived, *_ in self.blocks)
        yield from (arrived for arrived, _ in self.evidence)
        yield from (arrived for sent in self.votes.values() for arrived, _ in sent)


@dataclass(frozen=True, slots=True)
class Verdict:
    events: list[PeerEvent]
    culprits: list[tuple[Arrived, str]]
    """What does not hold, and why; what weighs more is there more than once."""
    refused_votes: set[SignedVote]


def judge(work: Work, view: HeightsView) -> Verdict:
    """What holds, as events, and who sent the rest. Blocks come after what names them, votes last."""
    events: list[PeerEvent] = []
    culprits: list[tuple[Arrived, str]] = []
    refused_votes: set[SignedVote] = set()
    for arrived, message, proposer_index in work.proposals:
        proposal, validator_set = message.proposal, view.current.context.validator_set
        if admit_proposal(proposal, proposer_index, validator_set, view.genesis_hash, bls.verify):
            events.append(PeerProposal(arrived.peer, proposal, arrived.at_ms))
        else:
            culprits.append((arrived, f"a proposal of round {proposal.round_} that its proposer did not sign"))
    for arrived, certificate in work.certificates:
        problem = _problem_of(certificate, view)
        if problem:
            culprits.append((arrived, problem))
        else:
            events.append(PeerCertificate(arrived.peer, certificate, _header_of_fork(arrived.message, view)))
    wanted = work.named | named_by(events) | {hash_ for hash_, known in view.current.blocks.items() if known is None}
    for arrived, height, raw_block in work.blocks:
        block_hash = _header_hash(raw_block)
        if block_hash is None:
            culprits.append((arrived, "a block without a header"))
        elif block_hash in wanted:  # anybody may make a block that is long to decode
            problem = _problem_of_body(raw_block)
            if problem:
                culprits += [(arrived, problem)] * MARKS_OF_A_BODY
            else:
                events.append(PeerBlock(height, block_hash, raw_block))
    for height, sent in work.votes.items():
        state = view.state_at(height)
        if state is None:
            continue
        admission = _admit(sent, state.context.validator_set, view.genesis_hash)
        if admission.admitted:
            events.append(PeerVotes(admission.admitted))
        refused_votes.update(admission.refused)
        culprits += [
            (arrived, "a vote whose signature does not hold") for arrived, vote in sent if vote in refused_votes
        ]
    for arrived, evidence in work.evidence:
        state = view.state_at(evidence.height)
        if state is None:
            continue
        try:
            verify_evidence(evidence, state.context.validator_set, view.genesis_hash, bls.fast_aggregate_verify)
        except EvidenceError as error:
            culprits.append((arrived, f"evidence that convicts nobody: {error}"))
        else:
            events.append(PeerEvidence(evidence))
    return Verdict(events + work.others, culprits, refused_votes)


def _admit(sent: Sequence[tuple[Arrived, SignedVote]], validator_set: ValidatorSet, genesis_hash: bytes) -> Admission:
    """All together, as it mostly goes well; else by sender, so that nobody pays for others' forgeries."""
    votes = [vote for _, vote in sent]
    check = _PatientCheck(failures=1)
    together = admit_votes(votes, validator_set, genesis_hash, check)
    if not check.is_exhausted:
        return together
    of_peer: dict[PeerId, list[SignedVote]] = {}
    for arrived, vote in sent:
        of_peer.setdefault(arrived.peer, []).append(vote)
    admitted: set[SignedVote] = set()
    for theirs in of_peer.values():
        check = _PatientCheck(failures=MAX_FAILED_CHECKS)
        admitted.update(admit_votes(theirs, validator_set, genesis_hash, check).admitted)
    return Admission(
        admitted=tuple(vote for vote in votes if vote in admitted),
        refused=tuple(vote for vote in votes if vote not in admitted),
    )


class _PatientCheck:
    """bls.batch_verify that gives up: after so many failures everything fails, without being looked at."""

    def __init__(self, failures: int) -> None:
        self._failures_left = failures

    @property
    def is_exhausted(self) -> bool:
        return self._failures_left == 0

    def __call__(self, keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]) -> bool:
        if self._failures_left == 0:
            return False
        holds = bls.batch_verify(keys, messages, signatures)
        self._failures_left -= not holds
        return holds


def named_by(events: Iterable[PeerEvent]) -> set[bytes]:
    """Hashes of blocks whose bodies are of use, as these say."""
    found = set()
    for event in events:
        if isinstance(event, PeerProposal):
            found.add(event.proposal.block_hash)
        elif isinstance(event, PeerCertificate):
            found.add(event.certificate.block_hash)
    return found


def _header_hash(raw_block: bytes) -> bytes | None:
    """The keccak of what stands where an encoded block has its header, and of nothing else; None if nothing does."""
    raw_header = _raw_header(raw_block)
    return None if raw_header is None else keccak256(raw_header)


def _header_of_fork(message: GossipMessage, view: HeightsView) -> bytes:
    """What came with a commit of a height that is decided here: it is another block's, or nobody would look at it."""
    if not isinstance(message, DecidedGossip) or message.certificate.height == view.current.height:
        return b""
    return _raw_header(message.raw_block) or b""


def _raw_header(raw_block: bytes) -> bytes | None:
    try:
        _, start, _ = rlp.item_bounds(raw_block, 0, len(raw_block))
        is_list, _, end = rlp.item_bounds(raw_block, start, len(raw_block))
    except rlp.MalformedRlp:
        return None
    return raw_block[start:end] if is_list and end - start <= MAX_HEADER_BYTES else None


def _problem_of_body(raw_block: bytes) -> str:
    """Why it is no block, or not the one whose header it bears; empty if it is."""
    try:
        sealed = decode_block(raw_block)
    except MalformedBlock as error:
        return f"a malformed block: {error}"
    foreign = foreign_part(sealed)
    return f"a block whose header is of other {foreign}" if foreign else ""


def foreign_part(sealed: SealedBlock) -> str:
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
    has_room = len(sealed.block.raw_transactions) <= header.gas_limit // TX_BASE_GAS
    if not has_room or ordered_root(sealed.block.raw_transactions) != header.transactions_root:
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
