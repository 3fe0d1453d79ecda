"""The log of a height: records that come back as they went, and a replay that goes on where the log was cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.certificate import Certificate, bitmap_of
from consensus.height_machine import (
    BlockBuilt,
    BlockChecked,
    BuildBlock,
    CertificateReceived,
    CheckBlock,
    CommitBlock,
    ProposalReceived,
    ReportEvidence,
    ScheduleTimeout,
    ShareQuorum,
    SignProposal,
    SignVote,
    StartHeight,
    TimeoutElapsed,
    VoteReceived,
    begin_height,
    step,
)
from consensus.messages import NIL
from consensus.params import MAX_HEIGHT, MAX_ROUND, MAX_TIME_MS, MAX_VALIDATORS
from consensus.replay import decode_input, encode_input, replay
from consensus.round_machine import Step, TimeoutKind
from consensus.votes import SignedProposal, SignedVote
from consensus.wire import DecodeError
from tests.support.height_machines import (
    HEIGHT,
    PRECOMMIT,
    PREVOTE,
    TIME_MS,
    V,
    W,
    X,
    bad,
    certificate,
    context_of,
    good,
    precommit,
    prevote,
    proposal,
)

# --- Records -----------------------------------------------------------------------------------------------------

hashes = st.binary(min_size=32, max_size=32)
block_hashes = hashes.filter(lambda value: value != NIL)
signatures = st.binary(min_size=96, max_size=96)
heights = st.integers(1, MAX_HEIGHT)
rounds = st.integers(0, MAX_ROUND)
times = st.integers(0, MAX_TIME_MS)


@st.composite
def words(draw):
    """(type, height, round, block hash, validRound) that somebody may sign."""
    vote_type, round_, block_hash = draw(st.sampled_from([PREVOTE, PRECOMMIT])), draw(rounds), draw(hashes)
    may_rest = vote_type is PREVOTE and block_hash != NIL
    return vote_type, draw(heights), round_, block_hash, draw(st.integers(-1, round_ - 1)) if may_rest else -1


@st.composite
def proposals(draw):
    round_ = draw(rounds)
    return SignedProposal(
        draw(heights), round_, draw(block_hashes), draw(st.integers(-1, round_ - 1)), draw(signatures)
    )


@st.composite
def votes(draw):
    return SignedVote(*draw(words()), draw(st.integers(0, MAX_VALIDATORS - 1)), draw(signatures))


@st.composite
def certificates(draw):
    vote_type, height, round_, block_hash, valid_round = draw(words())
    bitmap = bitmap_of(draw(st.sets(st.integers(0, 99))), 100)
    return Certificate(vote_type, height, round_, valid_round, block_hash, bitmap, draw(signatures))


inputs = st.one_of(
    st.just(StartHeight()),
    st.builds(ProposalReceived, proposals(), times),
    st.builds(VoteReceived, votes()),
    st.builds(CertificateReceived, certificates()),
    st.builds(BlockBuilt, rounds, hashes, times),
    st.builds(BlockChecked, hashes, st.booleans(), st.integers(0, 2**32 - 1), times),
    st.builds(TimeoutElapsed, st.sampled_from(TimeoutKind), rounds),
)


@given(inputs)
def test_a_record_comes_back_as_it_went(event):
    assert decode_input(encode_input(event)) == event


@given(inputs, st.data())
def test_a_record_cut_or_continued_is_refused(event, data):
    record = encode_input(event)
    for wrong in (record + b"\0", record[: data.draw(st.integers(0, len(record) - 1))]):
        with pytest.raises(DecodeError):
            decode_input(wrong)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_decode_canonically_or_not_at_all(data):
    try:
        event = decode_input(data)
    except DecodeError:
        return
    assert encode_input(event) == data


@pytest.mark.parametrize(
    ("event", "size"),
    [
        (StartHeight(), 1),
        (ProposalReceived(proposal(3, V, 1), TIME_MS), 153),
        (VoteReceived(prevote(1, 3, V, 1)), 150),
        (CertificateReceived(certificate(PREVOTE, 3, V, 1)), 149),
        (BlockBuilt(3, V, TIME_MS), 45),
        (good(V), 46),
        (TimeoutElapsed(TimeoutKind.PREVOTE, 3), 6),
    ],
)
def test_records_have_the_sizes_of_the_specification(event, size):
    assert len(encode_input(event)) == size


def test_a_record_is_laid_out_as_specified():
    assert encode_input(StartHeight()) == b"\x01"
    assert encode_input(TimeoutElapsed(TimeoutKind.PRECOMMIT, 258)) == bytes.fromhex("0703") + bytes([0, 0, 1, 2])
    assert encode_input(BlockBuilt(2, V, 5)) == b"\x05" + V + bytes([0, 0, 0, 2]) + bytes(7) + b"\x05"
    assert encode_input(bad(V)) == b"\x06\x00" + V + bytes(12)
    assert encode_input(good(V, 1, 5)) == b"\x06\x01" + V + bytes([0, 0, 0, 1]) + bytes(7) + b"\x05"
    assert encode_input(ProposalReceived(proposal(0, V), 9))[:9] == b"\x02" + bytes(7) + b"\x09"


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (b"", "kind"),
        (b"\x00", "kind"),
        (b"\x08", "kind"),
        (b"\x07\x00" + bytes(4), "timeout"),
        (b"\x07\x04" + bytes(4), "timeout"),
        (b"\x07\x01" + b"\x00\x01\x00\x00", "round"),
        (b"\x06\x02" + bytes(44), "is_valid"),
        (b"\x06\x01" + bytes(36) + b"\xff" * 8, "time_ms"),
        (b"\x05" + bytes(36) + b"\xff" * 8, "time_ms"),
        (b"\x02" + b"\xff" * 8 + bytes(144), "arrived_ms"),
        (b"\x03" + bytes(149), "vote_type"),
        (b"\x04" + bytes(148), "vote_type"),
    ],
)
def test_a_damaged_record_names_its_field(record, field):
    with pytest.raises(DecodeError) as caught:
        decode_input(record)
    assert caught.value.field == field


# --- Replay ------------------------------------------------------------------------------------------------------

A_LONG_HEIGHT = [
    StartHeight(),
    BlockBuilt(0, V, TIME_MS),
    ProposalReceived(proposal(0, V), TIME_MS),
    VoteReceived(prevote(0, 0, V)),
    VoteReceived(prevote(1, 0, V)),
    VoteReceived(prevote(2, 0, V)),
    VoteReceived(precommit(0, 0, V)),
    VoteReceived(precommit(1, 0, NIL)),
    VoteReceived(precommit(2, 0, NIL)),
    VoteReceived(precommit(2, 0, X)),
    TimeoutElapsed(TimeoutKind.PRECOMMIT, 0),
    ProposalReceived(proposal(1, W), TIME_MS),
    good(W, 1),
    VoteReceived(prevote(0, 1, NIL)),
    VoteReceived(prevote(1, 1, W)),
    VoteReceived(prevote(2, 1, NIL)),
    TimeoutElapsed(TimeoutKind.PREVOTE, 1),
    VoteReceived(precommit(0, 1, NIL)),
    VoteReceived(prevote(1, 4, NIL)),
    VoteReceived(prevote(2, 4, NIL)),
    ProposalReceived(proposal(4, V, 0), TIME_MS + 60_000),
    VoteReceived(prevote(0, 4, V, 0)),
    CertificateReceived(certificate(PREVOTE, 4, V, 0, by=(0, 1, 3))),
    VoteReceived(precommit(0, 4, V)),
    VoteReceived(precommit(1, 4, V)),
    VoteReceived(precommit(3, 4, V)),
    VoteReceived(precommit(2, 4, V)),
]
"""By validator 0: its proposal finds a polka, is refused by half, and is decided when it proposes again in round 4."""


def stepped(events):
    state, outputs = begin_height(context_of()), []
    for event in events:
        state, more = step(state, event)
        outputs.append(more)
    return state, outputs


def same(state, other):
    """Contexts are built anew; the rotation of proposers compares by identity."""
    return (state.rounds, state.tally, state.proposals, state.blocks, state.decision) == (
        other.rounds,
        other.tally,
        other.proposals,
        other.blocks,
        other.decision,
    )


def test_the_log_of_this_file_goes_through_everything():
    state, outputs = stepped(A_LONG_HEIGHT)
    assert state.decision is not None
    assert state.decision.block_hash == V
    found = {type(output) for more in outputs for output in more}
    assert found == {
        BuildBlock,
        CheckBlock,
        SignProposal,
        SignVote,
        ShareQuorum,
        ScheduleTimeout,
        ReportEvidence,
        CommitBlock,
    }


@pytest.mark.parametrize("cut", range(len(A_LONG_HEIGHT) + 1))
def test_replay_of_a_cut_log_is_the_state_that_was_left(cut):
    prefix = [decode_input(encode_input(event)) for event in A_LONG_HEIGHT[:cut]]
    state, _ = replay(context_of(), prefix)
    left, _ = stepped(A_LONG_HEIGHT[:cut])
    assert same(state, left)


@pytest.mark.parametrize("cut", range(1, len(A_LONG_HEIGHT) + 1))
def test_wherever_the_log_is_cut_what_the_last_input_asked_is_asked_again(cut):
    """The log may end before anything of the last step was done. What its own result made needless may be left out."""
    _, unfinished = replay(context_of(), A_LONG_HEIGHT[:cut])
    _, outputs = stepped(A_LONG_HEIGHT[:cut])
    for output in outputs[-1]:
        assert output in unfinished


def answers(output, event):
    """Whether an input says that what was asked is done."""
    match output, event:
        case BuildBlock(round_), BlockBuilt(built):
            return round_ == built
        case CheckBlock(block_hash), BlockChecked(checked):
            return block_hash == checked
        case SignProposal(round_), ProposalReceived(received):
            return round_ == received.round_
        case SignVote(vote_type, round_), VoteReceived(vote):
            return (vote_type, round_, 0) == (vote.vote_type, vote.round_, vote.validator_index)
        case ScheduleTimeout(kind, round_), TimeoutElapsed(elapsed, of_round):
            return (kind, round_) == (elapsed, of_round)
    return False


@pytest.mark.parametrize("cut", range(len(A_LONG_HEIGHT) + 1))
def test_nothing_finished_or_outdated_is_asked_again(cut):
    events = A_LONG_HEIGHT[:cut]
    state, unfinished = replay(context_of(), events)
    for output in unfinished:
        assert not any(answers(output, event) for event in events)
        if isinstance(output, BuildBlock | SignProposal | SignVote | ScheduleTimeout):
            assert output.round_ == state.rounds.round_
    if state.decision is not None:
        assert {type(output) for output in unfinished} <= {SignVote, ReportEvidence, CommitBlock}


@pytest.mark.parametrize("cut", range(len(A_LONG_HEIGHT) + 1))
def test_what_was_asked_and_is_not_done_is_asked_again(cut):
    """Everything of the current round that no input answers, unless the decision made it needless."""
    events = A_LONG_HEIGHT[:cut]
    state, unfinished = replay(context_of(), events)
    _, outputs = stepped(events)
    for output in (output for more in outputs for output in more):
        if any(answers(output, event) for event in events):
            continue
        if isinstance(output, ReportEvidence | CommitBlock):
            assert output in unfinished
        elif getattr(output, "round_", state.rounds.round_) == state.rounds.round_:
            assert output in unfinished or state.decision is not None


def test_what_is_asked_again_stands_in_its_old_order():
    _, unfinished = replay(context_of(), A_LONG_HEIGHT[:1])
    assert [type(output) for output in unfinished] == [ScheduleTimeout, BuildBlock]


def test_an_empty_log_begins_the_height():
    state, unfinished = replay(context_of(), [])
    assert unfinished == ()
    assert state.rounds.step is Step.NOT_STARTED
    assert state.height == HEIGHT


def test_a_vote_that_was_not_yet_signed_is_signed_after_the_restart():
    events = A_LONG_HEIGHT[:3]
    _, unfinished = replay(context_of(), events)
    assert SignVote(PREVOTE, 0, V, -1) in unfinished
    _, unfinished = replay(context_of(), [*events, VoteReceived(prevote(0, 0, V))])
    assert not any(isinstance(output, SignVote) for output in unfinished)


def test_the_vote_of_somebody_else_is_not_taken_for_ours():
    _, unfinished = replay(context_of(), [*A_LONG_HEIGHT[:3], VoteReceived(prevote(1, 0, V))])
    assert SignVote(PREVOTE, 0, V, -1) in unfinished


def test_a_block_that_was_being_checked_is_checked_again():
    events = [StartHeight(), ProposalReceived(proposal(0, W), TIME_MS)]
    _, unfinished = replay(context_of(own_index=1), events)
    assert CheckBlock(W) in unfinished
    _, unfinished = replay(context_of(own_index=1), [*events, bad(W)])
    assert CheckBlock(W) not in unfinished


def test_an_own_precommit_is_signed_even_if_the_decision_came_first():
    events = [*A_LONG_HEIGHT[:6], *(VoteReceived(precommit(index, 0, V)) for index in (1, 2, 3))]
    state, unfinished = replay(context_of(), events)
    assert state.decision is not None
    assert [type(output) for output in unfinished] == [SignVote, CommitBlock]
