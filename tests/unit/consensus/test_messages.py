"""What may be signed at all: the encoders refuse everything else, and the decoder mirrors them."""

import pytest

from consensus.messages import (
    CHECKPOINT_TAG,
    NIL,
    PROPOSAL_TAG,
    REVEAL_TAG,
    VOTE_TAG,
    VoteType,
    checkpoint_sign_bytes,
    decode_message,
    proposal_sign_bytes,
    reveal_sign_bytes,
    vote_sign_bytes,
)
from consensus.params import MAX_HEIGHT, MAX_ROUND
from consensus.proposer_selection import PRIORITIES_TAG
from consensus.validator_set import SET_TAG
from consensus.wire import DecodeError

G, A = b"g" * 32, b"a" * 32
PREVOTE, PRECOMMIT = VoteType.PREVOTE, VoteType.PRECOMMIT


def test_every_purpose_has_its_own_tag_of_16_bytes():
    tags = {PROPOSAL_TAG, VOTE_TAG, REVEAL_TAG, CHECKPOINT_TAG, SET_TAG, PRIORITIES_TAG}
    assert len(tags) == 6
    assert {len(tag) for tag in tags} == {16}


def test_widths_are_fixed_by_the_kind_alone():
    for height, round_ in ((1, 0), (MAX_HEIGHT, MAX_ROUND)):
        assert len(proposal_sign_bytes(G, height, round_, A, -1)) == 96
        assert len(vote_sign_bytes(G, height, round_, PREVOTE, A, round_ - 1)) == 97
        assert len(vote_sign_bytes(G, height, round_, PRECOMMIT, A, -1)) == 93
        assert len(reveal_sign_bytes(G, height)) == 56
        assert len(checkpoint_sign_bytes(G, 2**64 - 1, height, A, A)) == 128


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((G[1:], 1, 0, PREVOTE, A, -1), "genesis_hash"),
        ((G, 0, 0, PREVOTE, A, -1), "height"),
        ((G, MAX_HEIGHT + 1, 0, PREVOTE, A, -1), "height"),
        ((G, 1, -1, PREVOTE, A, -1), "round"),
        ((G, 1, MAX_ROUND + 1, PREVOTE, A, -1), "round"),
        ((G, 1, 0, PREVOTE, A + b"\0", -1), "block_hash"),
        ((G, 1, 2, PREVOTE, A, 2), "valid_round"),
        ((G, 1, 2, PREVOTE, A, -2), "valid_round"),
        ((G, 1, 2, PREVOTE, NIL, 1), "valid_round"),
        ((G, 1, 2, PRECOMMIT, A, 1), "valid_round"),
    ],
)
def test_a_vote_that_nobody_may_cast_has_no_sign_bytes(arguments, field):
    with pytest.raises(ValueError, match=field):
        vote_sign_bytes(*arguments)


def test_a_proposal_of_nil_or_of_a_later_polka_has_no_sign_bytes():
    with pytest.raises(ValueError, match="block_hash"):
        proposal_sign_bytes(G, 1, 0, NIL, -1)
    with pytest.raises(ValueError, match="valid_round"):
        proposal_sign_bytes(G, 1, 3, A, 3)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ALNK:unknown/v1\0" + bytes(80),
        VOTE_TAG + G + bytes(8) + bytes(4) + b"\x01" + A + b"\xff" * 4,  # height 0
        VOTE_TAG + G + bytes(7) + b"\x01" + bytes(4) + b"\x03" + A,  # no such vote
        VOTE_TAG + G + bytes(7) + b"\x01" + bytes(4) + b"\x01" + A,  # a prevote without its validRound
        VOTE_TAG + G + bytes(7) + b"\x01" + bytes(4) + b"\x02" + A + b"\xff" * 4,  # a precommit with one
        VOTE_TAG + G + bytes(7) + b"\x01" + bytes(4) + b"\x01" + NIL + bytes(4),  # nil resting on a round
        PROPOSAL_TAG + G + bytes(7) + b"\x01" + bytes(4) + NIL + b"\xff" * 4,
        PROPOSAL_TAG + G + bytes(7) + b"\x01" + b"\0\x01\0\0" + A + b"\xff" * 4,  # round 65,536
        reveal_sign_bytes(G, 5) + b"\0",
    ],
)
def test_bytes_that_nobody_may_sign_do_not_decode(data):
    with pytest.raises(DecodeError):
        decode_message(data)
