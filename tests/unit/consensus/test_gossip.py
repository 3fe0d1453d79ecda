"""Gossip messages: their layout, their bounds, and what is refused."""

from __future__ import annotations

import pytest

from consensus.certificate import MAX_BITMAP_BYTES, Certificate, encode_certificate
from consensus.gossip import (
    MAX_BLOCK_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_VOTES,
    BlockGossip,
    BlockWanted,
    CertificateGossip,
    CheckpointVote,
    DecidedGossip,
    HeightGossip,
    ProposalGossip,
    VotesGossip,
    decode_gossip,
    encode_gossip,
)
from consensus.messages import NIL, NO_ROUND, VoteType
from consensus.params import MAX_HEIGHT, MAX_ROUND, MAX_VALIDATORS
from consensus.votes import SignedProposal, SignedVote, encode_proposal, encode_vote
from consensus.wire import DecodeError

HASH = b"h" * 32
VOTE = SignedVote(VoteType.PREVOTE, 5, 2, HASH, 1, 3, b"s" * 96)
PROPOSAL = SignedProposal(5, 2, HASH, NO_ROUND, b"s" * 96)
CERTIFICATE = Certificate(VoteType.PRECOMMIT, 5, 2, NO_ROUND, HASH, b"\x07", b"s" * 96)
CHECKPOINT_VOTE = CheckpointVote(1, 199, HASH, b"n" * 32, 3, b"k" * 1952, b"s" * 3309)


def refused(data: bytes) -> str:
    """The field that is at fault."""
    with pytest.raises(DecodeError) as error:
        decode_gossip(data)
    return error.value.field


def test_each_kind_is_one_byte_and_its_fields() -> None:
    height = (5).to_bytes(8, "big")
    assert encode_gossip(ProposalGossip(PROPOSAL, b"body")) == b"\x01" + encode_proposal(PROPOSAL) + b"body"
    assert encode_gossip(VotesGossip((VOTE, VOTE))) == b"\x02" + 2 * encode_vote(VOTE)
    certificate = encode_certificate(CERTIFICATE)
    assert encode_gossip(CertificateGossip(CERTIFICATE)) == b"\x03" + certificate
    assert encode_gossip(HeightGossip(5, 2)) == b"\x04" + height + b"\0\0\0\x02"
    length = len(certificate).to_bytes(2, "big")
    assert encode_gossip(DecidedGossip(CERTIFICATE, b"body")) == b"\x05" + length + certificate + b"body"
    assert encode_gossip(BlockWanted(5, HASH)) == b"\x06" + height + HASH
    assert encode_gossip(BlockGossip(5, b"body")) == b"\x07" + height + b"body"
    encoded = encode_gossip(CHECKPOINT_VOTE)
    assert encoded[0] == 8
    assert len(encoded) == 1 + 8 + 8 + 32 + 32 + 4 + 1952 + 3309


def test_a_message_of_no_kind_is_refused() -> None:
    assert refused(b"") == "kind"
    assert refused(b"\x00") == "kind"
    assert refused(b"\x0a" + bytes(200)) == "header"
    assert refused(b"\x0b" + bytes(200)) == "kind"


def test_no_votes_half_a_vote_and_too_many_votes_are_refused() -> None:
    assert refused(b"\x02") == "votes"
    assert refused(b"\x02" + encode_vote(VOTE)[:-1]) == "votes"
    assert refused(b"\x02" + encode_vote(VOTE) + b"\0") == "votes"
    many = VotesGossip((VOTE,) * MAX_VOTES)
    assert decode_gossip(encode_gossip(many)) == many
    assert refused(b"\x02" + (MAX_VOTES + 1) * encode_vote(VOTE)) == "votes"


def test_one_bad_vote_spoils_the_message() -> None:
    assert refused(b"\x02" + encode_vote(VOTE) + b"\x03" + encode_vote(VOTE)[1:]) == "vote_type"


def test_what_nobody_may_sign_is_refused() -> None:
    prevote = encode_vote(VOTE)
    assert refused(b"\x02\x02" + prevote[1:]) == "message", "a precommit carries no validRound"
    assert refused(b"\x02" + prevote[:13] + NIL + prevote[45:]) == "message", "nor does a prevote for nil"
    height_zero = encode_proposal(PROPOSAL)[8:]
    assert refused(b"\x01" + bytes(8) + height_zero) == "message"
    proposal = encode_proposal(PROPOSAL)
    assert refused(b"\x01" + proposal[:12] + NIL + proposal[44:]) == "message", "a proposal names a block"
    certificate = encode_certificate(CERTIFICATE)
    assert refused(b"\x03" + certificate[:13] + b"\0\0\0\x01" + certificate[17:]) == "certificate"


def test_numbers_beyond_their_bounds_are_refused() -> None:
    beyond = (MAX_HEIGHT + 1).to_bytes(8, "big")
    assert refused(b"\x04" + beyond + bytes(4)) == "height"
    assert refused(b"\x04" + bytes(8) + (MAX_ROUND + 1).to_bytes(4, "big")) == "round"
    assert refused(b"\x06" + beyond + HASH) == "height"
    assert refused(b"\x07" + beyond) == "height"
    encoded = encode_gossip(CHECKPOINT_VOTE)
    assert refused(encoded[:9] + beyond + encoded[17:]) == "height"
    assert refused(encoded[:81] + MAX_VALIDATORS.to_bytes(4, "big") + encoded[85:]) == "validator_index"
    assert refused(b"\x03" + encode_certificate(CERTIFICATE)[:49] + b"\xff\xff" + bytes(200)) == "bitmap_length"


def test_bytes_left_over_are_refused() -> None:
    for message in (HeightGossip(5, 2), BlockWanted(5, HASH), CertificateGossip(CERTIFICATE), CHECKPOINT_VOTE):
        assert refused(encode_gossip(message) + b"\0") == "end"


def test_a_decided_certificate_of_another_length_than_is_said_is_refused() -> None:
    encoded = encode_gossip(DecidedGossip(CERTIFICATE, b"body"))
    length = int.from_bytes(encoded[1:3], "big")
    assert refused(b"\x05" + (length + 1).to_bytes(2, "big") + encoded[3:]) == "end"
    assert refused(b"\x05" + (length - 1).to_bytes(2, "big") + encoded[3:]) == "signature"
    assert refused(b"\x05\xff\xff" + encoded[3:]) == "certificate"
    assert refused(b"\x05\x00\x00" + encoded[3:]) == "vote_type"


def test_bodies_are_bounded_and_the_longest_message_fits_its_own_bound() -> None:
    body = bytes(MAX_BLOCK_BYTES)
    widest = Certificate(VoteType.PRECOMMIT, 5, 2, NO_ROUND, HASH, b"\xff" * MAX_BITMAP_BYTES, b"s" * 96)
    for message in (ProposalGossip(PROPOSAL, body), DecidedGossip(widest, body), BlockGossip(5, body)):
        encoded = encode_gossip(message)
        assert len(encoded) <= MAX_MESSAGE_BYTES
        assert decode_gossip(encoded) == message
        assert refused(encoded + b"\0") == "block"
    assert refused(bytes(MAX_MESSAGE_BYTES + 1)) == "message"


def test_values_that_do_not_fit_are_not_encoded() -> None:
    with pytest.raises(ValueError, match="height"):
        encode_gossip(HeightGossip(2**64, 0))
    with pytest.raises(ValueError, match="round"):
        encode_gossip(HeightGossip(1, -1))
    with pytest.raises(ValueError, match="block_hash"):
        encode_gossip(BlockWanted(1, b"short"))
