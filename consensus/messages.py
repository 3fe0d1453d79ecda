"""The exact bytes that validators sign, and nothing else about messages.

Each begins with a 16-byte purpose tag and the 32-byte genesis hash: chain id alone is no domain, since a reset
network would turn old votes into evidence. All is fixed width and big endian; what is signed is `signing_root`
of these bytes. Layouts: docs/specification.md, "Signed messages".
"""

from dataclasses import dataclass
from enum import IntEnum

from consensus.hashing import keccak256
from consensus.params import MAX_HEIGHT, MAX_ROUND
from consensus.wire import DecodeError, WireReader, encode_signed, encode_unsigned, exact_bytes

PROPOSAL_TAG = b"ALNK:proposal/v1"
VOTE_TAG = b"ALNK:vote/v1\0\0\0\0"
REVEAL_TAG = b"ALNK:reveal/v1\0\0"
CHECKPOINT_TAG = b"ALNK:ckpoint/v1\0"

NIL = bytes(32)
"""The block hash of a vote for no block."""

NO_ROUND = -1
"""A validRound (or locked round) that does not exist."""


class VoteType(IntEnum):
    PREVOTE = 1
    PRECOMMIT = 2


@dataclass(frozen=True, slots=True)
class ProposalMessage:
    genesis_hash: bytes
    height: int
    round_: int
    block_hash: bytes
    valid_round: int
    """The round whose polka this re-proposal rests on; -1 for a fresh value."""


@dataclass(frozen=True, slots=True)
class VoteMessage:
    genesis_hash: bytes
    height: int
    round_: int
    vote_type: VoteType
    block_hash: bytes
    """NIL for no block."""
    valid_round: int
    """In a prevote, the validRound of the proposal that it answers (-1 with NIL); always -1 in a precommit."""


@dataclass(frozen=True, slots=True)
class RevealMessage:
    genesis_hash: bytes
    height: int


@dataclass(frozen=True, slots=True)
class CheckpointMessage:
    genesis_hash: bytes
    epoch: int
    height: int
    block_hash: bytes
    next_set_hash: bytes


SignedMessage = ProposalMessage | VoteMessage | RevealMessage | CheckpointMessage


def proposal_sign_bytes(genesis_hash: bytes, height: int, round_: int, block_hash: bytes, valid_round: int) -> bytes:
    """96 bytes: tag 16, genesis hash 32, height 8, round 4, block hash 32, validRound 4 signed."""
    _check_valid_round(round_, valid_round)
    if block_hash == NIL:
        raise ValueError("block_hash: a proposal names a block")
    return (
        PROPOSAL_TAG
        + exact_bytes(genesis_hash, 32, "genesis_hash")
        + _height(height)
        + _round(round_)
        + exact_bytes(block_hash, 32, "block_hash")
        + encode_signed(valid_round, 4, "valid_round")
    )


def vote_sign_bytes(
    genesis_hash: bytes, height: int, round_: int, vote_type: VoteType, block_hash: bytes, valid_round: int
) -> bytes:
    """97 bytes for a prevote, 93 for a precommit, which carries no validRound (`valid_round` must be -1).

    Tag 16, genesis hash 32, height 8, round 4, type 1, block hash 32 (zero for nil), prevote: validRound 4 signed.
    """
    _check_valid_round(round_, valid_round)
    if valid_round != NO_ROUND and (vote_type is not VoteType.PREVOTE or block_hash == NIL):
        raise ValueError("valid_round: only a prevote for a block carries one")
    common = (
        VOTE_TAG
        + exact_bytes(genesis_hash, 32, "genesis_hash")
        + _height(height)
        + _round(round_)
        + encode_unsigned(vote_type, 1, "vote_type")
        + exact_bytes(block_hash, 32, "block_hash")
    )
    return common + encode_signed(valid_round, 4, "valid_round") if vote_type is VoteType.PREVOTE else common


def reveal_sign_bytes(genesis_hash: bytes, height: int) -> bytes:
    """56 bytes: tag 16, genesis hash 32, height 8. One value a height, whatever the round: nothing to choose."""
    return REVEAL_TAG + exact_bytes(genesis_hash, 32, "genesis_hash") + _height(height)


def checkpoint_sign_bytes(
    genesis_hash: bytes, epoch: int, height: int, block_hash: bytes, next_set_hash: bytes
) -> bytes:
    """128 bytes: tag 16, genesis hash 32, epoch 8, height 8, block hash 32, next set hash 32. Signed with ML-DSA-65."""
    return (
        CHECKPOINT_TAG
        + exact_bytes(genesis_hash, 32, "genesis_hash")
        + encode_unsigned(epoch, 8, "epoch")
        + _height(height)
        + exact_bytes(block_hash, 32, "block_hash")
        + exact_bytes(next_set_hash, 32, "next_set_hash")
    )


def signing_root(sign_bytes: bytes) -> bytes:
    """The 32 bytes that are signed: a contract rebuilds them with one keccak."""
    return keccak256(sign_bytes)


def encode_message(message: SignedMessage) -> bytes:
    """The sign bytes of any message."""
    match message:
        case ProposalMessage(genesis_hash, height, round_, block_hash, valid_round):
            return proposal_sign_bytes(genesis_hash, height, round_, block_hash, valid_round)
        case VoteMessage(genesis_hash, height, round_, vote_type, block_hash, valid_round):
            return vote_sign_bytes(genesis_hash, height, round_, vote_type, block_hash, valid_round)
        case RevealMessage(genesis_hash, height):
            return reveal_sign_bytes(genesis_hash, height)
        case CheckpointMessage(genesis_hash, epoch, height, block_hash, next_set_hash):
            return checkpoint_sign_bytes(genesis_hash, epoch, height, block_hash, next_set_hash)


def decode_message(sign_bytes: bytes) -> SignedMessage:
    """The inverse of `encode_message`; `DecodeError` for anything that it would not write."""
    reader = WireReader(sign_bytes)
    tag = reader.take(16, "tag")
    genesis_hash = reader.take(32, "genesis_hash")
    message: SignedMessage
    if tag == PROPOSAL_TAG:
        message = ProposalMessage(
            genesis_hash,
            reader.unsigned(8, "height", maximum=MAX_HEIGHT),
            reader.unsigned(4, "round", maximum=MAX_ROUND),
            reader.take(32, "block_hash"),
            reader.signed(4, "valid_round"),
        )
    elif tag == VOTE_TAG:
        message = _decode_vote(reader, genesis_hash)
    elif tag == REVEAL_TAG:
        message = RevealMessage(genesis_hash, reader.unsigned(8, "height", maximum=MAX_HEIGHT))
    elif tag == CHECKPOINT_TAG:
        message = CheckpointMessage(
            genesis_hash,
            reader.unsigned(8, "epoch"),
            reader.unsigned(8, "height", maximum=MAX_HEIGHT),
            reader.take(32, "block_hash"),
            reader.take(32, "next_set_hash"),
        )
    else:
        raise DecodeError("tag", "a purpose tag", tag.hex())
    reader.finish()
    try:
        encode_message(message)
    except ValueError as error:
        raise DecodeError("message", "values that may be signed", str(error)) from error
    return message


def _decode_vote(reader: WireReader, genesis_hash: bytes) -> VoteMessage:
    height = reader.unsigned(8, "height", maximum=MAX_HEIGHT)
    round_ = reader.unsigned(4, "round", maximum=MAX_ROUND)
    vote_type = read_vote_type(reader)
    block_hash = reader.take(32, "block_hash")
    valid_round = reader.signed(4, "valid_round") if vote_type is VoteType.PREVOTE else NO_ROUND
    return VoteMessage(genesis_hash, height, round_, vote_type, block_hash, valid_round)


def _height(height: int) -> bytes:
    if not 1 <= height <= MAX_HEIGHT:
        raise ValueError(f"height: expected 1 to {MAX_HEIGHT}, found {height}")
    return height.to_bytes(8, "big")


def _round(round_: int) -> bytes:
    if not 0 <= round_ <= MAX_ROUND:
        raise ValueError(f"round: expected 0 to {MAX_ROUND}, found {round_}")
    return round_.to_bytes(4, "big")


def _check_valid_round(round_: int, valid_round: int) -> None:
    if not NO_ROUND <= valid_round < max(round_, 0):
        raise ValueError(f"valid_round: expected -1 to below round {round_}, found {valid_round}")


def read_vote_type(reader: WireReader) -> VoteType:
    """One byte; raises `DecodeError` for any but 1 and 2."""
    code = reader.unsigned(1, "vote_type")
    try:
        return VoteType(code)
    except ValueError as error:
        raise DecodeError("vote_type", "1 or 2", str(code)) from error
