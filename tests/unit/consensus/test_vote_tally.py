"""Counting votes: by power, per (block hash, validRound), the first of each validator, within bounds."""

from fractions import Fraction
from itertools import permutations

import pytest

from consensus.evidence import Evidence, accused
from consensus.messages import NIL
from consensus.vote_tally import (
    MAX_ROUNDS_AHEAD,
    MAX_ROUNDS_KEPT,
    VoteTally,
    add_certificate,
    add_vote,
    forget_old_rounds,
)
from tests.support.height_machines import (
    EQUAL,
    HEIGHT,
    PRECOMMIT,
    PREVOTE,
    V,
    W,
    certificate,
    precommit,
    prevote,
    set_of,
    with_signature,
)

UNEVEN = (1, 2, 3, 10)
"""Of 16: a quorum is 11, one correct is 6."""


def tally_of(votes, powers=EQUAL, current_round=0):
    tally = VoteTally(HEIGHT, set_of(powers))
    for vote in votes:
        tally, _ = add_vote(tally, vote, current_round)
    return tally


def with_certificates(tally, *certificates):
    for each in certificates:
        tally, _ = add_certificate(tally, each)
    return tally


def choices(tally, round_=0, vote_type=PREVOTE):
    return set(tally.quorums(round_, vote_type))


def evidence_in(votes, powers=EQUAL):
    """What came out, vote by vote."""
    tally, found = VoteTally(HEIGHT, set_of(powers)), []
    for vote in votes:
        tally, evidence = add_vote(tally, vote, 0)
        if evidence is not None:
            found.append(evidence)
    return found


# --- Quorums -----------------------------------------------------------------------------------------------------


def test_three_of_four_are_a_quorum_and_two_are_none():
    assert choices(tally_of([prevote(0, 0, V), prevote(1, 0, V)])) == set()
    assert choices(tally_of([prevote(index, 0, V) for index in range(3)])) == {(V, -1)}


def test_exactly_two_thirds_are_no_quorum():
    powers = (1, 1, 1)
    assert choices(tally_of([prevote(0, 0, V), prevote(1, 0, V)], powers)) == set()
    tally = tally_of([prevote(0, 0, V), prevote(1, 0, W)], powers)
    assert not tally.has_quorum_of_any(0, PREVOTE)


@pytest.mark.parametrize("voters", [(), (0,), (3,), (0, 1, 2), (0, 3), (1, 3), (2, 3), (0, 1, 3), (0, 1, 2, 3)])
def test_power_counts_and_not_heads(voters):
    power = Fraction(sum(UNEVEN[index] for index in voters), sum(UNEVEN))
    tally = tally_of([prevote(index, 0, V) for index in voters], UNEVEN)
    assert bool(choices(tally)) is (power > Fraction(2, 3))
    assert tally.has_quorum(0, PREVOTE, V) is (power > Fraction(2, 3))
    assert tally.has_quorum_of_any(0, PREVOTE) is (power > Fraction(2, 3))
    assert tally.one_correct_is_at(0) is (power > Fraction(1, 3))


def test_prevotes_count_for_each_valid_round_apart():
    split = [prevote(0, 2, V, 0), prevote(1, 2, V, 0), prevote(2, 2, V, 1), prevote(3, 2, V)]
    tally = tally_of(split)
    assert choices(tally, 2) == set()
    assert not tally.has_quorum(2, PREVOTE, V)
    assert tally.has_quorum_of_any(2, PREVOTE)
    assert choices(tally_of([*split[:2], prevote(2, 2, V, 0)]), 2) == {(V, 0)}


def test_votes_for_different_things_are_a_quorum_of_any_only():
    tally = tally_of([precommit(0, 0, V), precommit(1, 0, NIL), precommit(2, 0, W)])
    assert choices(tally, 0, PRECOMMIT) == set()
    assert tally.has_quorum_of_any(0, PRECOMMIT)


def test_a_nil_quorum_is_a_quorum():
    assert choices(tally_of([prevote(index, 0, NIL) for index in range(3)])) == {(NIL, -1)}


def test_rounds_and_types_are_counted_apart():
    tally = tally_of([prevote(0, 0, V), prevote(1, 0, V), precommit(2, 0, V), prevote(2, 1, V)])
    for round_ in (0, 1, 2):
        for vote_type in (PREVOTE, PRECOMMIT):
            assert not tally.has_quorum_of_any(round_, vote_type)


def test_a_quorum_holds_its_votes_in_the_order_of_the_set_and_all_of_them():
    votes = [precommit(index, 1, V) for index in (3, 0, 2, 1)]
    quorum = tally_of(votes, current_round=1).quorum(1, PRECOMMIT, (V, -1))
    assert [vote.validator_index for vote in quorum.votes] == [0, 1, 2, 3]
    assert (quorum.vote_type, quorum.height, quorum.round_, quorum.block_hash, quorum.valid_round) == (
        PRECOMMIT,
        HEIGHT,
        1,
        V,
        -1,
    )
    assert quorum.certificate is None


def test_a_quorum_leaves_out_who_voted_for_something_else():
    votes = [prevote(0, 2, V, 1), prevote(1, 2, V, 0), prevote(2, 2, V, 1), prevote(3, 2, V, 1)]
    quorum = tally_of(votes).quorum(2, PREVOTE, (V, 1))
    assert [vote.validator_index for vote in quorum.votes] == [0, 2, 3]
    assert quorum.valid_round == 1


# --- One vote a validator ----------------------------------------------------------------------------------------


def test_the_first_vote_counts_and_the_second_is_evidence():
    first, second = prevote(0, 0, V), prevote(0, 0, W)
    tally, evidence = add_vote(tally_of([first]), second, 0)
    assert evidence == Evidence(first, second)
    assert tally.ballots(0, PREVOTE).votes == {0: first}
    assert tally.ballots(0, PREVOTE).power == 1


def test_nobody_votes_its_power_twice():
    votes = [prevote(0, 0, V), prevote(0, 0, V), prevote(1, 0, W), prevote(1, 0, V), prevote(2, 0, V)]
    tally = tally_of(votes)
    assert choices(tally) == set()
    assert tally.ballots(0, PREVOTE).power == 3


def test_the_same_vote_again_changes_nothing():
    tally = tally_of([prevote(0, 0, V)])
    for again in (prevote(0, 0, V), with_signature(prevote(0, 0, V), b"z" * 96)):
        after, evidence = add_vote(tally, again, 0)
        assert after is tally
        assert evidence is None


def test_another_valid_round_alone_is_another_vote():
    first, second = prevote(0, 2, V, 0), prevote(0, 2, V, 1)
    assert evidence_in([first, second]) == [Evidence(first, second)]


def test_votes_of_two_rounds_types_or_validators_are_no_evidence_by_themselves():
    votes = [prevote(0, 0, V), precommit(0, 0, NIL), prevote(0, 1, W), precommit(0, 1, W), prevote(1, 0, W)]
    assert evidence_in(votes) == []


@pytest.mark.parametrize("votes", list(permutations([precommit(0, 0, V), prevote(0, 1, W), prevote(1, 1, W)])))
def test_an_amnesiac_is_found_in_whatever_order_its_votes_come(votes):
    """Also where its vote is the first of a new round."""
    assert evidence_in(votes) == [Evidence(precommit(0, 0, V), prevote(0, 1, W))]


def test_an_amnesiac_is_found_by_two_votes_alone():
    lock, prevoted = precommit(0, 0, V), prevote(0, 1, W)
    assert evidence_in([lock, prevoted]) == evidence_in([prevoted, lock]) == [Evidence(lock, prevoted)]


def test_a_vote_is_held_against_certificates_that_its_sender_signed():
    """In whatever order they come."""
    commit = certificate(PRECOMMIT, 0, V, by=(0, 1, 2))
    guilty, innocent = prevote(0, 1, W), prevote(3, 1, W)
    tally = with_certificates(tally_of([]), commit)
    tally, evidence = add_vote(tally, innocent, 0)
    assert evidence is None
    _, evidence = add_vote(tally, guilty, 0)
    assert evidence == Evidence(commit, guilty)
    _, found = add_certificate(tally_of([guilty, innocent]), commit)
    assert found == (Evidence(commit, guilty),)
    _, evidence = add_vote(tally, precommit(1, 0, W), 0)
    assert evidence == Evidence(commit, precommit(1, 0, W))


def test_certificates_are_held_against_each_other():
    commit, polka = certificate(PRECOMMIT, 0, V, by=(0, 1, 2)), certificate(PREVOTE, 1, W, by=(1, 2, 3))
    tally = with_certificates(tally_of([]), commit)
    _, found = add_certificate(tally, polka)
    assert found == (Evidence(commit, polka),)
    assert accused(found[0]) == (1, 2)
    _, found = add_certificate(tally, certificate(PREVOTE, 1, V, 0, by=(1, 2, 3)))
    assert found == ()


# --- Certificates ------------------------------------------------------------------------------------------------


def test_a_certificate_counts_as_the_quorum_that_it_proves():
    polka = certificate(PREVOTE, 2, V, 1)
    tally = with_certificates(tally_of([prevote(0, 2, V, 1)]), polka)
    assert choices(tally, 2) == {(V, 1)}
    assert tally.has_quorum_of_any(2, PREVOTE)
    assert tally.one_correct_is_at(2)
    assert not tally.has_quorum_of_any(2, PRECOMMIT)
    quorum = tally.quorum(2, PREVOTE, (V, 1))
    assert (quorum.votes, quorum.certificate) == ((), polka)


def test_a_quorum_of_single_votes_is_preferred_to_a_certificate_and_named_once():
    votes = [precommit(index, 0, V) for index in range(4)]
    tally = with_certificates(tally_of(votes), certificate(PRECOMMIT, 0, V))
    assert list(tally.quorums(0, PRECOMMIT)) == [(V, -1)]
    quorum = tally.quorum(0, PRECOMMIT, (V, -1))
    assert quorum.votes == tuple(votes)
    assert quorum.certificate is None


def test_a_second_certificate_of_the_same_choice_changes_nothing():
    tally = with_certificates(tally_of([]), certificate(PREVOTE, 0, V))
    after, found = add_certificate(tally, certificate(PREVOTE, 0, V, by=(1, 2, 3)))
    assert after is tally
    assert found == ()


def test_votes_still_count_beside_a_certificate():
    tally = with_certificates(tally_of([]), certificate(PRECOMMIT, 0, V))
    for index in range(4):
        tally, _ = add_vote(tally, precommit(index, 0, V), 0)
    assert len(tally.quorum(0, PRECOMMIT, (V, -1)).votes) == 4


# --- Line 55 -----------------------------------------------------------------------------------------------------


def test_one_correct_is_at_a_round_where_more_than_a_third_spoke():
    assert not tally_of([prevote(0, 3, V)]).one_correct_is_at(3)
    assert tally_of([prevote(0, 3, V), prevote(1, 3, NIL)]).one_correct_is_at(3)


def test_exactly_a_third_may_all_be_faulty():
    powers = (1, 1, 1)
    assert not tally_of([prevote(0, 3, V)], powers).one_correct_is_at(3)
    assert tally_of([prevote(0, 3, V), prevote(1, 3, V)], powers).one_correct_is_at(3)


def test_prevote_and_precommit_of_one_validator_count_once():
    assert not tally_of([prevote(0, 3, V), precommit(0, 3, V)]).one_correct_is_at(3)
    assert tally_of([prevote(0, 3, V), precommit(1, 3, V)]).one_correct_is_at(3)


def test_messages_of_different_rounds_do_not_add_up():
    tally = tally_of([prevote(0, 3, V), prevote(1, 4, V)])
    assert not tally.one_correct_is_at(3)
    assert not tally.one_correct_is_at(4)


# --- Bounds ------------------------------------------------------------------------------------------------------


def rounds_of(tally, index):
    return sorted({vote.round_ for vote in tally.votes_of(index)})


def test_a_validators_lowest_round_ahead_makes_room_for_its_highest():
    tally = tally_of([prevote(0, round_, V) for round_ in range(1, MAX_ROUNDS_AHEAD + 1)])
    assert rounds_of(tally, 0) == list(range(1, MAX_ROUNDS_AHEAD + 1))
    tally, _ = add_vote(tally, prevote(0, 1000, V), 0)
    assert rounds_of(tally, 0) == [*range(2, MAX_ROUNDS_AHEAD + 1), 1000]
    assert 1 not in tally.rounds


def test_nobody_fills_the_memory_of_others():
    tally = tally_of([vote(0, round_, NIL) for round_ in range(1, 200) for vote in (prevote, precommit)])
    assert len(tally.rounds) == MAX_ROUNDS_AHEAD
    assert len(list(tally.votes_of(0))) == 2 * MAX_ROUNDS_AHEAD


def test_making_room_leaves_the_votes_of_others_and_takes_back_the_power():
    tally = tally_of([prevote(1, 1, V), prevote(2, 1, V), precommit(0, 1, V), prevote(0, 1, V)])
    assert choices(tally, 1) == {(V, -1)}
    for round_ in range(2, MAX_ROUNDS_AHEAD + 2):
        tally, _ = add_vote(tally, prevote(0, round_, V), 0)
    assert choices(tally, 1) == set()
    assert tally.ballots(1, PREVOTE).power == 2
    assert tally.ballots(1, PRECOMMIT).power == 0
    assert rounds_of(tally, 1) == rounds_of(tally, 2) == [1]
    other, _ = add_vote(tally, prevote(3, 1, NIL), 0)
    assert choices(other, 1) == set()
    tally, evidence = add_vote(tally, prevote(3, 1, V), 0)
    assert evidence is None
    assert choices(tally, 1) == {(V, -1)}


def test_making_room_leaves_certificates():
    tally = with_certificates(tally_of([prevote(0, 1, V)]), certificate(PREVOTE, 1, V))
    for round_ in range(2, MAX_ROUNDS_AHEAD + 2):
        tally, _ = add_vote(tally, prevote(0, round_, V), 0)
    assert choices(tally, 1) == {(V, -1)}


def test_rounds_up_to_the_current_one_need_no_room():
    votes = [prevote(0, round_, NIL) for round_ in range(MAX_ROUNDS_AHEAD + 20)]
    tally = tally_of(votes, current_round=MAX_ROUNDS_AHEAD + 19)
    assert rounds_of(tally, 0) == list(range(MAX_ROUNDS_AHEAD + 20))


def test_a_vote_of_a_round_too_old_is_not_taken():
    tally = tally_of([])
    after, evidence = add_vote(tally, prevote(0, 9, V), MAX_ROUNDS_KEPT + 10)
    assert after is tally
    assert evidence is None
    after, _ = add_vote(tally, prevote(0, 10, V), MAX_ROUNDS_KEPT + 10)
    assert rounds_of(after, 0) == [10]


def test_old_rounds_are_forgotten_and_the_rest_is_kept():
    tally = tally_of(
        [prevote(0, 0, V), prevote(1, 1, V), prevote(2, MAX_ROUNDS_KEPT, V)], current_round=MAX_ROUNDS_KEPT
    )
    assert forget_old_rounds(tally, MAX_ROUNDS_KEPT, -1) is tally
    after = forget_old_rounds(tally, MAX_ROUNDS_KEPT + 1, -1)
    assert sorted(after.rounds) == [1, MAX_ROUNDS_KEPT]


def test_the_round_of_the_valid_value_is_never_forgotten():
    """Its polka is what a re-proposal rests on: without it a lock could never be resolved."""
    tally = tally_of([prevote(index, round_, V) for index in range(3) for round_ in (0, 1)])
    after = forget_old_rounds(tally, 1_000, 1)
    assert sorted(after.rounds) == [1]
    assert choices(after, 1) == {(V, -1)}


def test_certificates_of_old_rounds_are_kept():
    """They are few, since each took a quorum, and the re-proposal that rests on one may be on its way."""
    tally = with_certificates(tally_of([prevote(0, 0, V), prevote(0, 1, V)]), certificate(PREVOTE, 0, V))
    after = forget_old_rounds(tally, 1_000, -1)
    assert sorted(after.rounds) == [0]
    assert choices(after, 0) == {(V, -1)}
    assert list(after.votes_of(0)) == []
    assert forget_old_rounds(after, 1_001, -1) == after
