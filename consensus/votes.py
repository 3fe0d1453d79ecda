"""A validator's signed proposal and signed vote, as they travel, are logged, tallied and used as evidence.

Only what the signature covers and who made it: a block's body goes beside its proposal. The holder of
`validator_index` in the height's set is the signer, and the same entry gives its key and its power. The proposer
is not named: it follows from height and round.
"""

from dataclasses import dataclass

from consensus.messages import (
    ProposalMessage,
    VoteMessage,
    VoteType,
    proposal_sign_bytes,
    read_vote_type,
    vote_sign_bytes,
)
from consensus.params import MAX_HEIGHT, MAX_ROUND, MAX_VALIDATORS
from consensus.wire import DecodeError, WireReader, encode_signed, encode_unsigned, exact_bytes

PROPOSAL_BYTES = 8 + 4 + 32 + 4 + 96
VOTE_BYTES = 1 + 8 + 4 + 32 + 4 + 4 + 96


@dataclass(frozen=True, slots=True)
class SignedProposal:
    height: int
    round_: int
    block_hash: bytes
    valid_round: int
    """The round whose polka this re-proposal rests on; -1 for a fresh value."""
    signature: bytes
    """96 bytes, by the proposer of that height and round."""

    def message(self, genesis_hash: bytes) -> ProposalMessage:
        return ProposalMessage(genesis_hash, self.height, self.round_, self.block_hash, self.valid_round)

    def sign_bytes(self, genesis_hash: bytes) -> bytes:
        return proposal_sign_bytes(genesis_hash, self.height, self.round_, self.block_hash, self.valid_round)


@dataclass(frozen=True, slots=True)
class SignedVote:
    vote_type: VoteType
    height: int
    round_: int
    block_hash: bytes
    """`consensus.messages.NIL` for no block."""
    valid_round: int
    """In a prevote for a block, the validRound of the proposal that it answers; else -1."""
    validator_index: int
    """Who voted: the index in the set that votes at `height`."""
    signature: bytes
    """96 bytes."""

    def message(self, genesis_hash: bytes) -> VoteMessage:
        return VoteMessage(genesis_hash, self.height, self.round_, self.vote_type, self.block_hash, self.valid_round)

    def sign_bytes(self, genesis_hash: bytes) -> bytes:
        return vote_sign_bytes(
            genesis_hash, self.height, self.round_, self.vote_type, self.block_hash, self.valid_round
        )


def encode_proposal(proposal: SignedProposal) -> bytes:
    """144 bytes: height 8, round 4, block hash 32, validRound 4 signed, signature 96."""
    return (
        encode_unsigned(proposal.height, 8, "height")
        + encode_unsigned(proposal.round_, 4, "round")
        + exact_bytes(proposal.block_hash, 32, "block_hash")
        + encode_signed(proposal.valid_round, 4, "valid_round")
        + exact_bytes(proposal.signature, 96, "signature")
    )


def decode_proposal(data: bytes) -> SignedProposal:
    """The inverse of `encode_proposal`; `DecodeError` for anything that could not have been signed."""
    reader = WireReader(data)
    proposal = SignedProposal(
        reader.unsigned(8, "height", maximum=MAX_HEIGHT),
        reader.unsigned(4, "round", maximum=MAX_ROUND),
        reader.take(32, "block_hash"),
        reader.signed(4, "valid_round"),
        reader.take(96, "signature"),
    )
    reader.finish()
    _check_signable(proposal)
    return proposal


def encode_vote(vote: SignedVote) -> bytes:
    """149 bytes: type 1, height 8, round 4, block hash 32, validRound 4 signed, validator index 4, signature 96."""
    return (
        encode_unsigned(vote.vote_type, 1, "vote_type")
        + encode_unsigned(vote.height, 8, "height")
        + encode_unsigned(vote.round_, 4, "round")
        + exact_bytes(vote.block_hash, 32, "block_hash")
        + encode_signed(vote.valid_round, 4, "valid_round")
        + encode_unsigned(vote.validator_index, 4, "validator_index")
        + exact_bytes(vote.signature, 96, "signature")
    )


def decode_vote(data: bytes) -> SignedVote:
    """The inverse of `encode_vote`; `DecodeError` for anything that could not have been signed."""
    reader = WireReader(data)
    vote_type = read_vote_type(reader)
    vote = SignedVote(
        vote_type,
        reader.unsigned(8, "height", maximum=MAX_HEIGHT),
        reader.unsigned(4, "round", maximum=MAX_ROUND),
        reader.take(32, "block_hash"),
        reader.signed(4, "valid_round"),
        reader.unsigned(4, "validator_index", maximum=MAX_VALIDATORS - 1),
        reader.take(96, "signature"),
    )
    reader.finish()
    _check_signable(vote)
    return vote


def _check_signable(signed: SignedProposal | SignedVote) -> None:
    try:
        signed.sign_bytes(bytes(32))
    except ValueError as error:
        raise DecodeError("message", "values that may be signed", str(error)) from error
