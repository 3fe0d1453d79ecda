"""Properties of the gossip codec: one spelling for each message, and nothing that a stranger sends raises anything
but DecodeError; what decodes can be judged by the ingress without an exception."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astralink_node.services.gossip_judge import Arrived, HeightsView, PeerBlock, Work, judge
from consensus.certificate import Certificate
from consensus.checkpoint import ML_DSA_KEY_BYTES, ML_DSA_SIGNATURE_BYTES
from consensus.evidence import Evidence
from consensus.forged_header import MAX_HEADER_BYTES, ForgedHeader
from consensus.gossip import (
    BlockGossip,
    BlockWanted,
    CertificateGossip,
    CheckpointVote,
    DecidedGossip,
    EvidenceGossip,
    HeightGossip,
    ProposalGossip,
    VotesGossip,
    decode_gossip,
    encode_gossip,
)
from consensus.messages import NIL, VoteType
from consensus.params import MAX_HEIGHT, MAX_ROUND, MAX_VALIDATORS
from consensus.votes import VOTE_BYTES, SignedProposal, SignedVote
from consensus.wire import DecodeError
from p2p.peer_id import PeerId
from p2p.topic_transport import TopicMessage
from p2p.topics import Topic
from tests.support.chains import LocalChain, candidate
from tests.support.signed_messages import GENESIS, SignedSet

hashes = st.binary(min_size=32, max_size=32)
values = hashes.filter(lambda value: value != NIL)
signatures = st.binary(min_size=96, max_size=96)
heights = st.integers(1, MAX_HEIGHT)
bodies = st.binary(max_size=80)
SET = SignedSet(4)


@st.composite
def rounds(draw, *, may_rest=True):
    """(round, validRound)"""
    round_ = draw(st.integers(0, MAX_ROUND))
    return round_, draw(st.integers(-1, round_ - 1)) if may_rest else -1


@st.composite
def votes(draw, height=heights) -> SignedVote:
    vote_type, block_hash = draw(st.sampled_from(VoteType)), draw(hashes | st.just(NIL))
    round_, valid_round = draw(rounds(may_rest=vote_type is VoteType.PREVOTE and block_hash != NIL))
    index = draw(st.integers(0, MAX_VALIDATORS - 1) | st.integers(0, 5))
    return SignedVote(vote_type, draw(height), round_, block_hash, valid_round, index, draw(signatures))


@st.composite
def proposals(draw, height=heights) -> SignedProposal:
    round_, valid_round = draw(rounds())
    return SignedProposal(draw(height), round_, draw(values), valid_round, draw(signatures))


@st.composite
def certificates(draw, height=heights) -> Certificate:
    vote = draw(votes(height))
    bitmap = draw(st.binary(min_size=1, max_size=64))
    return Certificate(
        vote.vote_type, vote.height, vote.round_, vote.valid_round, vote.block_hash, bitmap, vote.signature
    )


checkpoint_votes = st.builds(
    CheckpointVote,
    epoch=st.integers(0, 2**64 - 1),
    height=st.integers(0, MAX_HEIGHT),
    block_hash=hashes,
    next_set_hash=hashes,
    validator_index=st.integers(0, MAX_VALIDATORS - 1),
    key=st.binary(min_size=8, max_size=8).map(lambda part: part * (ML_DSA_KEY_BYTES // 8)),
    signature=st.binary(min_size=3, max_size=3).map(lambda part: part * (ML_DSA_SIGNATURE_BYTES // 3)),
)

evidences = (
    st.tuples(st.one_of(votes(), certificates()), st.one_of(votes(), certificates()))
    .filter(lambda pair: pair[0] != pair[1])
    .map(lambda pair: EvidenceGossip(Evidence(*pair)))
)

forged_headers = st.builds(ForgedHeader, st.binary(min_size=1, max_size=MAX_HEADER_BYTES), certificates()).map(
    EvidenceGossip
)

messages = st.one_of(
    st.builds(ProposalGossip, proposals(), bodies),
    st.lists(votes(), min_size=1, max_size=5).map(lambda found: VotesGossip(tuple(found))),
    st.builds(CertificateGossip, certificates()),
    st.builds(HeightGossip, st.integers(0, MAX_HEIGHT), st.integers(0, MAX_ROUND)),
    st.builds(DecidedGossip, certificates(), bodies),
    st.builds(BlockWanted, st.integers(0, MAX_HEIGHT), hashes),
    st.builds(BlockGossip, st.integers(0, MAX_HEIGHT), bodies),
    checkpoint_votes,
    evidences,
    forged_headers,
)


@given(messages)
def test_a_message_round_trips(message):
    assert decode_gossip(encode_gossip(message)) == message


@given(messages, st.data())
def test_a_changed_byte_gives_another_message_or_none(message, data):
    encoded = bytearray(encode_gossip(message))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    try:
        changed = decode_gossip(bytes(encoded))
    except DecodeError:
        return
    assert changed != message
    assert encode_gossip(changed) == encoded


@given(messages.filter(lambda message: not hasattr(message, "raw_block")), st.data())
def test_a_message_cut_or_continued_is_refused(message, data):
    encoded = encode_gossip(message)
    with pytest.raises(DecodeError):
        decode_gossip(encoded + b"\0")
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
    if isinstance(message, VotesGossip) and len(cut) % VOTE_BYTES == 1:
        cut = cut[:-1]  # whole votes are a message
    with pytest.raises(DecodeError):
        decode_gossip(cut)


@given(st.binary(max_size=300) | st.builds(lambda kind, rest: bytes([kind]) + rest, st.integers(0, 9), st.binary()))
def test_arbitrary_bytes_decode_canonically_or_not_at_all(data):
    try:
        message = decode_gossip(data)
    except DecodeError:
        return
    assert encode_gossip(message) == data


# --- Judging ---------------------------------------------------------------------------------------------------

PEER = PeerId(b"peer")
SOURCE = TopicMessage(PEER, Topic.VOTE, b"", None)
VIEW = HeightsView(SET.state(5), {4: SET.state(4)}, frozenset(), GENESIS)
here = st.sampled_from([4, 5])


@given(
    st.lists(proposals(here), max_size=3),
    st.lists(certificates(here), max_size=3),
    st.lists(bodies, max_size=3),
    st.lists(votes(here), max_size=8),
)
@settings(max_examples=40)
def test_whatever_decodes_is_judged_and_nothing_forged_holds(found_proposals, found_certificates, found_bodies, cast):
    work = Work()
    for index, proposal in enumerate(found_proposals):
        message = ProposalGossip(proposal, b"")
        work.proposals.append((Arrived(PEER, message, 0, SOURCE), message, index))
    for certificate in found_certificates:
        work.certificates.append((Arrived(PEER, CertificateGossip(certificate), 0, SOURCE), certificate))
    for body in found_bodies:
        work.blocks.append((Arrived(PEER, BlockGossip(5, body), 0, SOURCE), 5, body))
    for vote in cast:
        arrived = Arrived(PEER, VotesGossip((vote,)), 0, SOURCE)
        work.votes.setdefault(vote.height, []).append((arrived, vote))
    verdict = judge(work, VIEW)
    assert verdict.events == []
    assert verdict.refused_votes == set(cast)
    signed = len(found_proposals) + len(found_certificates) + len(cast)
    assert signed <= len(verdict.culprits) <= signed + len(found_bodies)


BUILT = LocalChain().build([candidate(0, 0), candidate(0, 1)])


@given(
    st.lists(st.tuples(st.integers(0, len(BUILT.raw_block) - 1), st.integers(0, 255)), max_size=3),
    st.binary(max_size=2),
)
def test_a_body_that_differs_in_a_byte_is_not_taken(changes, tail):
    """Two bodies of one hash would let whoever sends the bad one first have the good one refused."""
    body = bytearray(BUILT.raw_block)
    for position, value in changes:
        body[position] = value
    raw_block = bytes(body) + tail
    arrived = (Arrived(PEER, BlockGossip(5, raw_block), 0, SOURCE), 5, raw_block)
    verdict = judge(Work(blocks=[arrived], named=frozenset([BUILT.block_hash])), VIEW)
    taken = [PeerBlock(5, BUILT.block_hash, raw_block)] if raw_block == BUILT.raw_block else []
    assert verdict.events == taken
