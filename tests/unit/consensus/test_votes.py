"""Votes and proposals as they travel: fixed sizes, one spelling, and nothing that could not have been signed."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.messages import NIL, VoteType
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
from consensus.wire import DecodeError

GENESIS, BLOCK, SIGNATURE = b"g" * 32, b"b" * 32, b"s" * 96
PREVOTE = SignedVote(VoteType.PREVOTE, 5, 3, BLOCK, 1, 7, SIGNATURE)
PRECOMMIT = replace(PREVOTE, vote_type=VoteType.PRECOMMIT, valid_round=-1)
PROPOSAL = SignedProposal(5, 3, BLOCK, 1, SIGNATURE)


@pytest.mark.parametrize(
    "vote",
    [
        PREVOTE,
        PRECOMMIT,
        replace(PREVOTE, block_hash=NIL, valid_round=-1),
        replace(PRECOMMIT, block_hash=NIL),
        replace(PREVOTE, height=2**63 - 1, round_=65_535, valid_round=65_534, validator_index=511),
    ],
)
def test_a_vote_comes_back_from_its_149_bytes(vote):
    encoded = encode_vote(vote)
    assert len(encoded) == VOTE_BYTES == 149
    assert decode_vote(encoded) == vote
    assert vote.message(GENESIS).genesis_hash == GENESIS


def test_a_proposal_comes_back_from_its_144_bytes():
    for proposal in (PROPOSAL, replace(PROPOSAL, round_=0, valid_round=-1)):
        encoded = encode_proposal(proposal)
        assert len(encoded) == PROPOSAL_BYTES == 144
        assert decode_proposal(encoded) == proposal
        assert proposal.message(GENESIS).block_hash == BLOCK


@pytest.mark.parametrize(
    "vote",
    [
        replace(PREVOTE, height=0),
        replace(PREVOTE, height=2**63),
        replace(PREVOTE, round_=65_536),
        replace(PREVOTE, valid_round=3),
        replace(PREVOTE, valid_round=-2),
        replace(PREVOTE, block_hash=NIL),
        replace(PRECOMMIT, valid_round=1),
        replace(PREVOTE, validator_index=512),
    ],
)
def test_a_vote_that_nobody_may_sign_is_not_decoded(vote):
    with pytest.raises(DecodeError):
        decode_vote(encode_vote(vote))


@pytest.mark.parametrize(
    "proposal",
    [
        replace(PROPOSAL, height=0),
        replace(PROPOSAL, round_=65_536),
        replace(PROPOSAL, valid_round=3),
        replace(PROPOSAL, valid_round=-2),
        replace(PROPOSAL, block_hash=NIL),
    ],
)
def test_a_proposal_that_nobody_may_sign_is_not_decoded(proposal):
    with pytest.raises(DecodeError):
        decode_proposal(encode_proposal(proposal))


def test_a_vote_of_no_known_type_is_not_decoded():
    for code in (0, 3):
        with pytest.raises(DecodeError, match="vote_type"):
            decode_vote(bytes([code]) + encode_vote(PREVOTE)[1:])


@pytest.mark.parametrize(
    ("encoded", "decode"), [(encode_vote(PREVOTE), decode_vote), (encode_proposal(PROPOSAL), decode_proposal)]
)
def test_bytes_too_many_or_too_few_are_refused(encoded, decode):
    for data in (encoded + b"\0", encoded[:-1], b""):
        with pytest.raises(DecodeError):
            decode(data)


@given(
    st.sampled_from(
        [
            (encode_vote(PREVOTE), encode_vote, decode_vote),
            (encode_proposal(PROPOSAL), encode_proposal, decode_proposal),
        ]
    ),
    st.integers(0, 148),
    st.binary(min_size=1, max_size=4),
)
def test_whatever_decodes_has_no_second_spelling(codec, at, overwriting):
    encoded, encode, decode = codec
    changed = encoded[:at] + overwriting + encoded[at + len(overwriting) :]
    try:
        decoded = decode(changed)
    except DecodeError:
        return
    assert encode(decoded) == changed
