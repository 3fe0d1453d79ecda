"""One height, input by input: what comes out, what is remembered, and what is never asked twice."""

from dataclasses import replace

import pytest

from consensus.evidence import Evidence
from consensus.height_machine import (
    BlockBuilt,
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
    VoteReceived,
    is_timely,
    what_to_repeat,
)
from consensus.messages import NIL
from consensus.params import MAX_ROUND, ConsensusParams
from consensus.round_machine import Step, TimeoutKind
from consensus.vote_tally import MAX_ROUNDS_AHEAD, MAX_ROUNDS_KEPT
from tests.support.height_machines import (
    EQUAL,
    HEIGHT,
    PRECOMMIT,
    PREVOTE,
    TIME_MS,
    Machine,
    V,
    W,
    X,
    bad,
    certificate,
    context_of,
    good,
    locked_on_v,
    precommit,
    prevote,
    proposal,
    started,
    to_round,
)

PARAMS = ConsensusParams()


def propose_timeout(round_):
    return ScheduleTimeout(TimeoutKind.PROPOSE, round_, PARAMS.propose_timeout_at(round_))


def kinds(outputs):
    return [type(output) for output in outputs]


def only(kind, outputs):
    return [output for output in outputs if isinstance(output, kind)]


# --- Start and messages before it --------------------------------------------------------------------------------


def test_the_first_proposer_builds():
    machine = Machine(context_of(own_index=0))
    assert machine.start() == [propose_timeout(0), BuildBlock(0)]


def test_the_others_wait_for_the_proposal():
    assert Machine(context_of(own_index=1)).start() == [propose_timeout(0)]


def test_a_second_start_does_nothing():
    machine = started(own_index=0)
    before = machine.state
    assert machine.start() == []
    assert machine.state is before


def test_nothing_is_voted_before_the_start_and_what_came_early_counts_after_it():
    machine = Machine(context_of(own_index=3))
    assert machine.proposal(0, V) == [CheckBlock(V)]
    assert machine.checked(good(V)) == []
    assert machine.prevotes((0, 1, 2), 0, V) == []
    outputs = machine.start()
    assert only(SignVote, outputs) == [SignVote(PREVOTE, 0, V, -1), SignVote(PRECOMMIT, 0, V, -1)]


def test_a_commit_that_came_before_the_start_decides_at_the_start():
    machine = Machine(context_of(own_index=3))
    machine.proposal(0, V)
    machine.checked(good(V))
    machine.precommits((0, 1, 2), 0, V)
    assert machine.decided is None
    assert kinds(machine.start()) == [ScheduleTimeout, CommitBlock]
    assert machine.decided == V


def test_a_timeout_before_the_start_does_nothing():
    machine = Machine(context_of(own_index=3))
    for kind in TimeoutKind:
        assert machine.elapse(kind, 0) == []
    assert machine.step is Step.NOT_STARTED


@pytest.mark.parametrize(
    "event",
    [
        VoteReceived(prevote(0, 0, V, height=HEIGHT + 1)),
        VoteReceived(precommit(0, 0, V, height=HEIGHT - 1)),
        ProposalReceived(proposal(0, V, height=HEIGHT + 1), TIME_MS),
        CertificateReceived(replace(certificate(PREVOTE, 0, V), height=HEIGHT - 1)),
    ],
)
def test_a_message_of_another_height_is_the_callers_mistake(event):
    machine = started()
    before = machine.state
    with pytest.raises(ValueError, match="expected a message of height 5"):
        machine.feed(event)
    assert machine.state is before


# --- Blocks ------------------------------------------------------------------------------------------------------


def test_a_built_block_is_proposed_as_a_fresh_value():
    machine = started(own_index=0)
    assert machine.built(0, V) == [SignProposal(0, V, -1)]
    assert machine.proposal(0, V) == [SignVote(PREVOTE, 0, V, -1)]


def test_a_block_built_too_late_is_not_proposed():
    machine = started(own_index=0)
    assert machine.elapse(TimeoutKind.PROPOSE, 0) == [SignVote(PREVOTE, 0, NIL, -1)]
    assert machine.built(0, V) == []


def test_a_block_built_for_a_round_that_is_over_is_not_proposed():
    machine = started(own_index=0)
    to_round(machine, 4, (1, 2))
    assert machine.built(0, V) == []
    assert machine.built(4, W) == [SignProposal(4, W, -1)]


def test_a_block_built_after_the_decision_is_not_proposed():
    machine = started(own_index=0)
    machine.certificate(certificate(PRECOMMIT, 0, W, by=(1, 2, 3)))
    machine.checked(good(W))
    assert machine.decided == W
    assert machine.built(0, V) == []


def test_an_own_block_needs_no_check():
    machine = started(own_index=0)
    machine.built(0, V)
    assert only(CheckBlock, machine.proposal(0, V)) == []
    assert only(CheckBlock, machine.prevotes((1, 2, 3), 0, V)) == []


def test_a_proposals_block_is_asked_for_once():
    machine = started()
    assert machine.proposal(0, V) == [CheckBlock(V)]
    assert machine.proposal(0, V) == []
    assert machine.proposal(1, V, 0) == []
    assert only(CheckBlock, machine.precommits((0, 1, 2), 0, V)) == []
    machine.checked(good(V))
    assert only(CheckBlock, machine.said) == [CheckBlock(V)]


def test_the_first_proposal_of_a_round_is_the_one_that_counts():
    machine = started()
    machine.proposal(0, V)
    assert machine.proposal(0, W) == []
    assert machine.checked(good(W)) == []
    assert machine.checked(good(V)) == [SignVote(PREVOTE, 0, V, -1)]


@pytest.mark.parametrize("vote_type", [PREVOTE, PRECOMMIT])
def test_a_quorum_for_an_unknown_block_asks_for_it_once(vote_type):
    machine = started()
    machine.elapse(TimeoutKind.PROPOSE, 0)
    vote = {PREVOTE: prevote, PRECOMMIT: precommit}[vote_type]
    assert only(CheckBlock, machine.votes(vote(0, 0, V), vote(1, 0, V))) == []
    assert only(CheckBlock, machine.votes(vote(2, 0, V))) == [CheckBlock(V)]
    assert only(CheckBlock, machine.votes(vote(3, 0, V))) == []


def test_a_commit_of_another_round_asks_for_its_block():
    machine = started()
    to_round(machine, 3)
    assert machine.precommits((0, 1, 2), 1, V) == [CheckBlock(V)]
    assert kinds(machine.checked(good(V))) == [CommitBlock]


def test_a_missed_polka_of_an_earlier_round_asks_for_its_block_and_becomes_the_valid_value():
    machine = started()
    to_round(machine, 3)
    assert machine.prevotes((0, 1, 2), 1, V) == [CheckBlock(V)]
    assert machine.checked(good(V)) == []
    assert (machine.state.rounds.valid_round, machine.state.rounds.valid_hash) == (1, V)
    assert machine.lock == (-1, NIL)


def test_a_missed_polka_counts_only_for_a_block_that_turned_out_valid():
    machine = started()
    to_round(machine, 3)
    machine.prevotes((0, 1, 2), 1, V)
    assert machine.valid == (-1, NIL)
    machine.checked(bad(V))
    assert machine.valid == (-1, NIL)


def test_an_invalid_reproposal_is_prevoted_nil():
    machine = started()
    to_round(machine, 1)
    machine.certificate(certificate(PREVOTE, 0, V))
    machine.proposal(1, V, 0)
    assert machine.checked(bad(V)) == [SignVote(PREVOTE, 1, NIL, -1)]


def test_a_polka_older_than_the_valid_value_asks_for_nothing():
    machine = started()
    to_round(machine, 3)
    machine.prevotes((0, 1, 2), 1, V)
    machine.checked(good(V))
    assert machine.prevotes((0, 1, 2), 0, W) == []
    assert machine.state.rounds.valid_round == 1


def test_a_nil_quorum_asks_for_nothing():
    machine = started()
    assert only(CheckBlock, machine.prevotes((0, 1, 2), 0, NIL)) == []
    assert only(CheckBlock, machine.precommits((0, 1, 2), 0, NIL)) == []


def test_a_certificate_that_brings_us_to_its_round_asks_for_its_block_at_once():
    machine = started()
    assert machine.certificate(certificate(PREVOTE, 4, V)) == [CheckBlock(V), propose_timeout(4)]


def test_a_block_whose_check_fails_is_prevoted_nil_and_never_committed():
    machine = started()
    machine.proposal(0, V)
    assert machine.checked(bad(V)) == [SignVote(PREVOTE, 0, NIL, -1)]
    machine.prevotes((0, 1, 2), 0, V)
    assert machine.lock == (-1, NIL)
    machine.precommits((0, 1, 2), 0, V)
    assert machine.decided is None


def test_a_proposal_far_ahead_is_not_kept():
    machine = started()
    assert machine.proposal(MAX_ROUNDS_AHEAD + 1, W) == []
    assert machine.proposal(MAX_ROUNDS_AHEAD, V) == [CheckBlock(V)]


def test_a_proposal_of_the_next_round_is_answered_there():
    machine = started()
    machine.proposal(1, V)
    machine.checked(good(V, build_round=1))
    assert SignVote(PREVOTE, 1, V, -1) in to_round(machine, 1)


# --- Votes -------------------------------------------------------------------------------------------------------


def test_a_height_runs_from_proposal_to_commit():
    machine = started(own_index=1)
    assert machine.proposal(0, V) == [CheckBlock(V)]
    assert machine.checked(good(V)) == [SignVote(PREVOTE, 0, V, -1)]
    assert machine.prevotes((0, 1), 0, V) == []
    assert machine.prevotes((2,), 0, V) == [SignVote(PRECOMMIT, 0, V, -1)]
    assert machine.precommits((0, 1), 0, V) == []
    (commit, *rest) = machine.precommits((2,), 0, V)
    assert rest == []
    assert isinstance(commit, CommitBlock)
    assert commit.quorum == machine.state.decision
    assert (commit.quorum.round_, commit.quorum.block_hash) == (0, V)
    assert [vote.validator_index for vote in commit.quorum.votes] == [0, 1, 2]


def test_late_precommits_are_still_tallied_after_the_decision():
    """The next proposer's certificate includes every precommit that it has."""
    machine = started(own_index=1)
    machine.good_proposal(0, V)
    machine.precommits((0, 1, 2), 0, V)
    assert machine.decided == V
    assert machine.precommits((3,), 0, V) == []
    quorum = machine.state.tally.quorum(0, PRECOMMIT, (V, -1))
    assert [vote.validator_index for vote in quorum.votes] == [0, 1, 2, 3]


def test_after_the_decision_nothing_more_is_asked_but_evidence():
    machine = started(own_index=0)
    machine.precommits((0, 1, 2), 0, V)
    assert kinds(machine.checked(good(V))) == [CommitBlock]
    for kind in TimeoutKind:
        assert machine.elapse(kind, 0) == []
    assert machine.proposal(1, W) == []
    assert machine.prevotes((1, 2, 3), 0, W) == []
    assert to_round(machine, 4, (1, 2, 3)) == []
    assert machine.certificate(certificate(PREVOTE, 6, X, 0)) == []
    assert machine.precommits((1,), 0, W) == [ReportEvidence(Evidence(precommit(1, 0, V), precommit(1, 0, W)))]
    assert machine.round_ == 0
    assert machine.decided == V


def test_a_commit_of_an_earlier_round_decides_with_that_rounds_votes():
    machine = started(own_index=1)
    machine.good_proposal(0, V)
    machine.precommits((0, 2), 0, V)
    to_round(machine, 2, (0, 2, 3))
    (commit,) = machine.precommits((3,), 0, V)
    assert commit.quorum.round_ == 0
    assert [vote.validator_index for vote in commit.quorum.votes] == [0, 2, 3]


def test_a_commit_certificate_decides():
    machine = started()
    received = certificate(PRECOMMIT, 1, V)
    assert CheckBlock(V) in machine.certificate(received)
    (commit,) = machine.checked(good(V, build_round=1))
    assert commit.quorum.certificate == received
    assert commit.quorum.votes == ()


def test_a_commit_of_nil_decides_nothing():
    machine = started()
    machine.precommits((0, 1, 2), 0, NIL)
    machine.certificate(certificate(PRECOMMIT, 0, NIL))
    assert machine.decided is None


def test_a_quorum_of_prevotes_decides_nothing():
    machine = started()
    machine.good_proposal(0, V)
    machine.prevotes((0, 1, 2, 3), 0, V)
    assert machine.decided is None


def test_a_double_vote_is_reported():
    machine = started()
    machine.prevotes((2,), 0, V)
    assert machine.prevotes((2,), 0, W) == [ReportEvidence(Evidence(prevote(2, 0, V), prevote(2, 0, W)))]


def test_what_a_certificate_proves_is_reported():
    machine = started()
    machine.precommits((2,), 0, V)
    polka = certificate(PREVOTE, 1, W, by=(0, 1, 2))
    assert ReportEvidence(Evidence(precommit(2, 0, V), polka)) in machine.certificate(polka)


# --- Timeouts ----------------------------------------------------------------------------------------------------


def test_each_timeout_has_the_duration_of_its_kind_and_round():
    params = ConsensusParams(100, 10, 2_000, 20, 30_000, 30)
    machine = started(params=params)
    machine.elapse(TimeoutKind.PROPOSE, 0)
    machine.prevotes((0, 1), 0, NIL)
    machine.prevotes((2,), 0, V)
    machine.elapse(TimeoutKind.PREVOTE, 0)
    machine.precommits((0, 1, 2), 0, NIL)
    machine.elapse(TimeoutKind.PRECOMMIT, 0)
    to_round(machine, 2)
    assert only(ScheduleTimeout, machine.said) == [
        ScheduleTimeout(TimeoutKind.PROPOSE, 0, 100),
        ScheduleTimeout(TimeoutKind.PREVOTE, 0, 2_000),
        ScheduleTimeout(TimeoutKind.PRECOMMIT, 0, 30_000),
        ScheduleTimeout(TimeoutKind.PROPOSE, 1, 110),
        ScheduleTimeout(TimeoutKind.PROPOSE, 2, 120),
    ]


def test_a_network_that_hears_nothing_goes_through_a_round_of_nils():
    machine = started()
    assert machine.elapse(TimeoutKind.PROPOSE, 0) == [SignVote(PREVOTE, 0, NIL, -1)]
    assert machine.prevotes((0, 1, 3), 0, NIL) == [SignVote(PRECOMMIT, 0, NIL, -1)]
    assert kinds(machine.precommits((0, 1, 3), 0, NIL)) == [ScheduleTimeout]
    assert machine.elapse(TimeoutKind.PRECOMMIT, 0) == [propose_timeout(1)]


def test_the_last_round_stays():
    machine = started(own_index=None)
    machine.certificate(certificate(PREVOTE, MAX_ROUND, NIL))
    assert machine.round_ == MAX_ROUND
    assert machine.elapse(TimeoutKind.PRECOMMIT, MAX_ROUND) == []
    assert machine.round_ == MAX_ROUND


# --- Proposing again ---------------------------------------------------------------------------------------------


def test_a_reproposal_goes_out_after_the_polka_that_it_rests_on():
    machine = locked_on_v()
    timeout, shared, again = to_round(machine, 3)
    assert timeout == propose_timeout(3)
    assert again == SignProposal(3, V, 0)
    assert isinstance(shared, ShareQuorum)
    assert (shared.quorum.vote_type, shared.quorum.round_, shared.quorum.block_hash) == (PREVOTE, 0, V)
    assert [vote.validator_index for vote in shared.quorum.votes] == [0, 1, 3]


def test_a_polka_known_by_certificate_alone_is_shared_as_that():
    machine = started()
    machine.good_proposal(0, V)
    polka = certificate(PREVOTE, 0, V)
    machine.certificate(polka)
    shared = only(ShareQuorum, to_round(machine, 3))
    assert [each.quorum.certificate for each in shared] == [polka]


def test_the_polka_of_a_lock_is_shared_however_old_it_is():
    machine = locked_on_v()
    for round_ in (70, 140, 211):
        to_round(machine, round_)
    assert machine.round_ > 2 * MAX_ROUNDS_KEPT
    (shared,) = only(ShareQuorum, machine.said)
    assert shared.quorum.round_ == 0
    assert machine.said[-1] == SignProposal(211, V, 0)


def test_an_old_polka_that_arrives_before_its_reproposal_is_still_there_rounds_later():
    machine = started()
    to_round(machine, 200)
    machine.certificate(certificate(PREVOTE, 0, V))
    to_round(machine, 201)
    machine.proposal(201, V, 0)
    assert machine.checked(good(V)) == [SignVote(PREVOTE, 201, V, 0)]


def test_single_votes_of_old_rounds_are_forgotten():
    machine = started()
    machine.precommits((0, 1), 0, V)
    to_round(machine, MAX_ROUNDS_KEPT + 1)
    assert 0 not in machine.state.tally.rounds


# --- One that only follows ---------------------------------------------------------------------------------------


def test_who_is_not_in_the_set_signs_nothing_and_decides_all_the_same():
    machine = started(own_index=None)
    machine.good_proposal(0, V)
    machine.elapse(TimeoutKind.PROPOSE, 0)
    machine.prevotes((0, 1, 2), 0, V)
    machine.precommits((0, 1), 0, V)
    for round_ in range(1, 5):
        to_round(machine, round_)
        machine.elapse(TimeoutKind.PROPOSE, round_)
    machine.precommits((2,), 0, V)
    assert machine.decided == V
    assert set(kinds(machine.said)) == {ScheduleTimeout, CheckBlock, CommitBlock}


# --- Timely proposals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offset", "is_timely_"), [(-2_500, True), (-2_501, False), (500, True), (501, False)])
def test_a_time_is_timely_within_its_bounds(offset, is_timely_):
    assert is_timely(PARAMS, 0, TIME_MS + offset, TIME_MS) is is_timely_


def test_a_proposal_checked_after_a_long_time_is_judged_by_its_arrival():
    machine = started()
    machine.proposal(0, V, arrived_ms=TIME_MS + 2_500)
    assert machine.checked(good(V, time_ms=TIME_MS)) == [SignVote(PREVOTE, 0, V, -1)]
    late = started()
    late.proposal(0, V, arrived_ms=TIME_MS + 2_501)
    assert late.checked(good(V, time_ms=TIME_MS)) == [SignVote(PREVOTE, 0, NIL, -1)]


# --- Saying it again ---------------------------------------------------------------------------------------------


def test_before_anything_happened_there_is_nothing_to_repeat():
    assert what_to_repeat(Machine(context_of()).state) == (None, (), None)


def test_the_proposal_and_all_votes_of_the_round_are_repeated():
    machine = started()
    machine.good_proposal(0, V)
    machine.prevotes((2, 0), 0, V)
    machine.precommits((1,), 0, NIL)
    repeated, votes, polka = what_to_repeat(machine.state)
    assert repeated == proposal(0, V)
    assert votes == (prevote(0, 0, V), prevote(2, 0, V), precommit(1, 0, NIL))
    assert polka is None


def test_the_precommits_of_the_round_before_are_repeated_too_but_no_prevotes():
    machine = started()
    machine.prevotes((0,), 0, V)
    machine.precommits((0, 1, 2), 0, NIL)
    machine.elapse(TimeoutKind.PRECOMMIT, 0)
    machine.prevotes((1,), 1, NIL)
    _, votes, _ = what_to_repeat(machine.state)
    assert votes == (*(precommit(index, 0, NIL) for index in range(3)), prevote(1, 1, NIL))


def test_the_polka_of_the_valid_value_is_repeated_in_every_round():
    machine = locked_on_v()
    for round_ in (1, 2, 100):
        to_round(machine, round_)
        _, _, polka = what_to_repeat(machine.state)
        assert polka is not None
        assert (polka.round_, polka.block_hash) == (0, V)


def test_a_repeated_message_changes_nothing():
    machine = locked_on_v()
    repeated, votes, _ = what_to_repeat(machine.state)
    before = machine.state
    assert machine.feed(ProposalReceived(repeated, TIME_MS + 9_000)) == []
    assert machine.votes(*votes) == []
    assert machine.state is before


# --- Power -------------------------------------------------------------------------------------------------------


def test_one_strong_validator_decides_where_many_weak_ones_cannot():
    powers = (10, 1, 1, 1)
    machine = started(powers)
    machine.good_proposal(0, V)
    machine.precommits((1, 2, 3), 0, V)
    assert machine.decided is None
    machine.precommits((0,), 0, V)
    assert machine.decided == V


def test_a_lone_validator_decides_by_itself():
    machine = Machine(context_of((1,), 0))
    assert kinds(machine.start()) == [ScheduleTimeout, BuildBlock]
    assert machine.feed(BlockBuilt(0, V, TIME_MS)) == [SignProposal(0, V, -1)]
    assert machine.proposal(0, V) == [SignVote(PREVOTE, 0, V, -1)]
    assert only(SignVote, machine.prevotes((0,), 0, V)) == [SignVote(PRECOMMIT, 0, V, -1)]
    assert kinds(machine.precommits((0,), 0, V)) == [CommitBlock]


def test_the_start_alone_is_an_input_like_any_other():
    assert Machine(context_of(EQUAL, 0)).feed(StartHeight()) == [propose_timeout(0), BuildBlock(0)]
