"""What validators tell each other about a height, as bytes. Nothing in here is believed before it is verified.

A message is its kind in one byte and its fields. Bodies of blocks are opaque here. Bounds are the receiver's
protection: a longer message is refused before it is looked at.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import assert_never

from consensus.certificate import MAX_CERTIFICATE_BYTES, Certificate, decode_certificate, encode_certificate
from consensus.checkpoint import ML_DSA_KEY_BYTES, ML_DSA_SIGNATURE_BYTES
from consensus.evidence import Evidence, decode_evidence, encode_evidence
from consensus.evidence_forms import AnyEvidence
from consensus.forged_header import ForgedHeader, encode_forged_header, take_forged_header
from consensus.messages import CheckpointMessage
from consensus.params import MAX_HEIGHT, MAX_ROUND, MAX_VALIDATORS
from consensus.votes import (
    PROPOSAL_BYTES,
    VOTE_BYTES,
    SignedProposal,
    SignedVote,
    decode_proposal,
    decode_vote,
    encode_proposal,
    encode_vote,
)
from consensus.wire import DecodeError, WireReader, encode_unsigned, exact_bytes

MAX_BLOCK_BYTES = 16_777_216
"""A block with its payload: 8 MiB of Ethereum block and 5 MiB of payload, with room."""

MAX_MESSAGE_BYTES = MAX_BLOCK_BYTES + MAX_CERTIFICATE_BYTES + 1024


@dataclass(frozen=True, slots=True)
class ProposalGossip:
    proposal: SignedProposal
    raw_block: bytes
    """The body; empty when only the proposal is passed on."""


@dataclass(frozen=True, slots=True)
class VotesGossip:
    votes: tuple[SignedVote, ...]
    """One a moment as they are cast; many when they are repeated."""


@dataclass(frozen=True, slots=True)
class CertificateGossip:
    """A polka that a re-proposal rests on."""

    certificate: Certificate


@dataclass(frozen=True, slots=True)
class HeightGossip:
    """Where the sender is. Whoever is further answers with what was decided at that height."""

    height: int
    round_: int


@dataclass(frozen=True, slots=True)
class DecidedGossip:
    """A final block with the certificate that makes it so, for a peer that lags."""

    certificate: Certificate
    raw_block: bytes


@dataclass(frozen=True, slots=True)
class BlockWanted:
    """A quorum or a proposal names a block whose body never came."""

    height: int
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class BlockGossip:
    height: int
    raw_block: bytes


@dataclass(frozen=True, slots=True)
class CheckpointVote:
    """One validator's ML-DSA-65 signature under an epoch's checkpoint."""

    epoch: int
    height: int
    block_hash: bytes
    next_set_hash: bytes
    validator_index: int
    key: bytes
    signature: bytes

    def message(self, genesis_hash: bytes) -> CheckpointMessage:
        return CheckpointMessage(genesis_hash, self.epoch, self.height, self.block_hash, self.next_set_hash)


@dataclass(frozen=True, slots=True)
class EvidenceGossip:
    """What proves that a validator contradicted itself, or signed a forged header: a kind of its own for each."""

    evidence: AnyEvidence


GossipMessage = (
    ProposalGossip
    | VotesGossip
    | CertificateGossip
    | HeightGossip
    | DecidedGossip
    | BlockWanted
    | BlockGossip
    | CheckpointVote
    | EvidenceGossip
)

MAX_VOTES = 3 * MAX_VALIDATORS
"""In one message: what a validator repeats of its round and the one before."""


class _Kind(IntEnum):
    PROPOSAL = 1
    VOTES = 2
    CERTIFICATE = 3
    HEIGHT = 4
    DECIDED = 5
    BLOCK_WANTED = 6
    BLOCK = 7
    CHECKPOINT = 8
    EVIDENCE = 9
    FORGED_HEADER = 10


def encode_gossip(message: GossipMessage) -> bytes:
    match message:
        case VotesGossip(votes):
            return bytes([_Kind.VOTES]) + b"".join(map(encode_vote, votes))
        case ProposalGossip(proposal, raw_block):
            return bytes([_Kind.PROPOSAL]) + encode_proposal(proposal) + raw_block
        case CertificateGossip(certificate):
            return bytes([_Kind.CERTIFICATE]) + encode_certificate(certificate)
        case HeightGossip(height, round_):
            return bytes([_Kind.HEIGHT]) + encode_unsigned(height, 8, "height") + encode_unsigned(round_, 4, "round")
        case DecidedGossip(certificate, raw_block):
            encoded = encode_certificate(certificate)
            return bytes([_Kind.DECIDED]) + len(encoded).to_bytes(2, "big") + encoded + raw_block
        case BlockWanted(height, block_hash):
            return (
                bytes([_Kind.BLOCK_WANTED])
                + encode_unsigned(height, 8, "height")
                + exact_bytes(block_hash, 32, "block_hash")
            )
        case BlockGossip(height, raw_block):
            return bytes([_Kind.BLOCK]) + encode_unsigned(height, 8, "height") + raw_block
        case EvidenceGossip(evidence):
            return _encode_evidence(evidence)
        case CheckpointVote():
            return bytes([_Kind.CHECKPOINT]) + _encode_checkpoint_vote(message)
        case _:
            assert_never(message)


def _encode_evidence(evidence: AnyEvidence) -> bytes:
    match evidence:
        case Evidence():
            return bytes([_Kind.EVIDENCE]) + encode_evidence(evidence)
        case ForgedHeader():
            return bytes([_Kind.FORGED_HEADER]) + encode_forged_header(evidence)


def decode_gossip(data: bytes) -> GossipMessage:
    """The inverse of `encode_gossip`; `DecodeError` for anything else."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise DecodeError("message", f"at most {MAX_MESSAGE_BYTES} bytes", str(len(data)))
    reader = WireReader(data)
    code = reader.unsigned(1, "kind")
    try:
        kind = _Kind(code)
    except ValueError as error:
        raise DecodeError("kind", f"1 to {max(_Kind)}", str(code)) from error
    message = _take(reader, kind)
    reader.finish()
    return message


def _take(reader: WireReader, kind: _Kind) -> GossipMessage:
    match kind:
        case _Kind.VOTES:
            return _take_votes(reader.rest())
        case _Kind.PROPOSAL:
            return ProposalGossip(decode_proposal(reader.take(PROPOSAL_BYTES, "proposal")), _take_body(reader))
        case _Kind.CERTIFICATE:
            return CertificateGossip(decode_certificate(reader.rest()))
        case _Kind.HEIGHT:
            height = reader.unsigned(8, "height", maximum=MAX_HEIGHT)
            return HeightGossip(height, reader.unsigned(4, "round", maximum=MAX_ROUND))
        case _Kind.DECIDED:
            length = reader.unsigned(2, "certificate", maximum=MAX_CERTIFICATE_BYTES)
            certificate = decode_certificate(reader.take(length, "certificate"))
            return DecidedGossip(certificate, _take_body(reader))
        case _Kind.BLOCK_WANTED:
            height = reader.unsigned(8, "height", maximum=MAX_HEIGHT)
            return BlockWanted(height, reader.take(32, "block_hash"))
        case _Kind.BLOCK:
            return BlockGossip(reader.unsigned(8, "height", maximum=MAX_HEIGHT), _take_body(reader))
        case _Kind.CHECKPOINT:
            return _take_checkpoint_vote(reader)
        case _Kind.EVIDENCE:
            return EvidenceGossip(decode_evidence(reader.rest()))
        case _Kind.FORGED_HEADER:
            return EvidenceGossip(take_forged_header(reader))


def _take_votes(data: bytes) -> VotesGossip:
    count, left = divmod(len(data), VOTE_BYTES)
    if left or not 1 <= count <= MAX_VOTES:
        raise DecodeError("votes", f"1 to {MAX_VOTES} times {VOTE_BYTES} bytes", str(len(data)))
    return VotesGossip(tuple(decode_vote(data[at : at + VOTE_BYTES]) for at in range(0, len(data), VOTE_BYTES)))


def _take_body(reader: WireReader) -> bytes:
    body = reader.rest()
    if len(body) > MAX_BLOCK_BYTES:
        raise DecodeError("block", f"at most {MAX_BLOCK_BYTES} bytes", str(len(body)))
    return body


def _encode_checkpoint_vote(vote: CheckpointVote) -> bytes:
    """Epoch 8, height 8, block hash 32, next set hash 32, validator index 4, key 1,952, signature 3,309."""
    return (
        encode_unsigned(vote.epoch, 8, "epoch")
        + encode_unsigned(vote.height, 8, "height")
        + exact_bytes(vote.block_hash, 32, "block_hash")
        + exact_bytes(vote.next_set_hash, 32, "next_set_hash")
        + encode_unsigned(vote.validator_index, 4, "validator_index")
        + exact_bytes(vote.key, ML_DSA_KEY_BYTES, "key")
        + exact_bytes(vote.signature, ML_DSA_SIGNATURE_BYTES, "signature")
    )


def _take_checkpoint_vote(reader: WireReader) -> CheckpointVote:
    return CheckpointVote(
        epoch=reader.unsigned(8, "epoch"),
        height=reader.unsigned(8, "height", maximum=MAX_HEIGHT),
        block_hash=reader.take(32, "block_hash"),
        next_set_hash=reader.take(32, "next_set_hash"),
        validator_index=reader.unsigned(4, "validator_index", maximum=MAX_VALIDATORS - 1),
        key=reader.take(ML_DSA_KEY_BYTES, "key"),
        signature=reader.take(ML_DSA_SIGNATURE_BYTES, "signature"),
    )
