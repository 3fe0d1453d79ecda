"""Who has been heard of lately, and for whose proposal one therefore waits."""

from collections.abc import Sequence
from dataclasses import replace

from astralink_node.services.presence import (
    OVERDUE_MS,
    OVERDUE_ROUND,
    LastVotes,
    is_silent,
    voters_of,
    votes_are_overdue,
)
from consensus.height_machine import CertificateReceived, HeightState, VoteReceived, begin_height, step
from consensus.params import LATE_CREDIT_HEIGHTS
from consensus.validator_set import ValidatorSet
from tests.support.height_machines import (
    HEIGHT,
    PRECOMMIT,
    V,
    certificate,
    context_of,
    locked_on_v,
    precommit,
    set_of,
    started,
    to_round,
)

MEMBERS = set_of((1, 1, 1, 1)).validators
STRANGER = b"s" * 48
HEIGHTS = (3, 4, 5)


def heard(height: int, voters: Sequence[int]) -> HeightState:
    state = begin_height(replace(context_of(), height=height))
    for index in voters:
        state, _ = step(state, VoteReceived(precommit(index, 0, V, height=height)))
    return state


def silent_ones(*voters: Sequence[int]) -> set[int]:
    """By who voted at each of the heights, the last one being the present."""
    *decided, present = (heard(height, indices) for height, indices in zip(HEIGHTS, voters, strict=True))
    found = {state.context.height: state for state in decided}
    return {index for index, member in enumerate(MEMBERS) if is_silent(member.voting_key, found, present)}


def test_who_did_not_vote_at_two_heights_nor_now_is_silent() -> None:
    assert silent_ones((0, 1, 2), (0, 1, 2), ()) == {3}
    assert silent_ones((0, 1, 2, 3), (0, 1, 2), ()) == set()
    assert silent_ones((0, 1, 2), (0, 1, 2, 3), ()) == set()
    assert silent_ones((0, 1, 2), (0, 1, 2), (3,)) == set(), "it is back"


def test_nobody_is_silent_before_two_heights_were_decided() -> None:
    present = heard(5, ())
    assert not is_silent(MEMBERS[3].voting_key, {}, present)
    assert not is_silent(MEMBERS[3].voting_key, {4: heard(4, (0, 1, 2))}, present)


def test_a_certificate_counts_for_those_who_signed_it() -> None:
    present, _ = step(heard(5, ()), CertificateReceived(certificate(PRECOMMIT, 0, V, by=(0, 1, 3))))
    decided = {3: heard(3, (0, 1, 2)), 4: heard(4, (0, 1, 2))}
    assert not is_silent(MEMBERS[3].voting_key, decided, present)


def test_nothing_is_held_against_somebody_who_was_no_member() -> None:
    decided = {3: heard(3, (0, 1, 2)), 4: heard(4, (0, 1, 2))}
    assert not is_silent(STRANGER, decided, heard(5, ()))


# --- For people ------------------------------------------------------------------------------------------------

FOUR = set_of((1, 1, 1, 1))


def watched(*voters: Sequence[int], first: int = 10, members: ValidatorSet = FOUR) -> LastVotes:
    """Heights that were decided one after the other, by who voted."""
    found = LastVotes()
    for height, indices in enumerate(voters, first):
        found.decided(height, members, indices)
    return found


def away(votes: LastVotes, present: HeightState, *, overdue: bool = False) -> set[int]:
    return {index for index, seen in enumerate(votes.attendance(present, votes_are_overdue=overdue)) if seen.is_away}


def test_who_missed_two_heights_is_away_whatever_the_present_one_has_come_to() -> None:
    votes = watched((0, 1, 2, 3), (0, 1, 2), (0, 1, 2))
    for voters in ((), (0,), (0, 1, 2)):
        assert away(votes, heard(13, voters)) == {3}
    assert [seen.last_height for seen in votes.attendance(heard(13, (0,)), votes_are_overdue=False)] == [13, 12, 12, 10]
    assert away(votes, heard(13, (3,))) == set(), "it is back"


def test_who_missed_one_height_or_came_late_is_not_away() -> None:
    votes = watched((0, 1, 2, 3), (0, 1, 2), (0, 1, 2))
    votes.voted(11, [3])
    assert away(votes, heard(13, ())) == set()
    assert away(watched((0, 1, 2, 3), (0, 1, 2)), heard(12, ())) == set()
    votes.voted(11 - LATE_CREDIT_HEIGHTS, [0])
    assert votes.attendance(heard(13, ()), votes_are_overdue=False)[0].last_height == 12


def test_nobody_is_away_before_two_heights_were_decided_here() -> None:
    assert away(watched((0, 1, 2)), heard(11, ())) == set()
    seen = watched((0, 1, 2), (0, 1, 2)).attendance(heard(12, ()), votes_are_overdue=False)[3]
    assert (seen.last_height, seen.is_away) == (None, True)


def test_a_certificate_in_a_block_is_heard_of_those_who_signed_it() -> None:
    votes = watched((0, 1, 2), (0, 1, 2), (0, 1, 2), first=HEIGHT - 1)
    assert away(votes, heard(HEIGHT + 2, ())) == {3}
    votes.credited(certificate(PRECOMMIT, 0, V, by=(0, 1, 3)))
    assert away(votes, heard(HEIGHT + 2, ())) == set()


def test_a_new_member_has_two_heights_of_its_own_and_one_that_left_is_forgotten() -> None:
    votes = watched((0, 1, 2), (0, 1, 2), members=set_of((1, 1, 1)))
    votes.decided(12, FOUR, (0, 1, 2))
    assert away(votes, heard(13, ())) == set()
    votes.decided(13, FOUR, (0, 1, 2))
    assert away(votes, heard(14, ())) == {3}
    votes.decided(14, set_of((1, 1, 1)), (0, 1, 2))
    votes.decided(15, FOUR, (0, 1, 2))
    assert away(votes, heard(16, ())) == set(), "it is a member anew"


def test_where_votes_are_overdue_everybody_without_one_is_away() -> None:
    votes = watched((0, 1, 2, 3), (0, 1, 2, 3))
    assert away(votes, heard(12, (0, 1)), overdue=True) == {2, 3}
    assert away(votes, heard(12, (0, 1))) == set()


def test_votes_are_overdue_after_long_in_a_voting_step_or_in_a_late_round() -> None:
    proposing, voting = started().state, locked_on_v().state
    assert not votes_are_overdue(proposing, 10 * OVERDUE_MS), "a proposal may take long"
    assert not votes_are_overdue(voting, OVERDUE_MS - 1)
    assert votes_are_overdue(voting, OVERDUE_MS)
    machine = started()
    for round_ in range(1, OVERDUE_ROUND + 1):
        assert not votes_are_overdue(machine.state, 0)
        to_round(machine, round_)
    assert votes_are_overdue(machine.state, 0)


def test_the_voters_of_a_height_are_those_of_its_votes_and_certificates() -> None:
    state, _ = step(heard(HEIGHT, (0,)), CertificateReceived(certificate(PRECOMMIT, 0, V, by=(1, 2, 3))))
    assert voters_of(state) == {0, 1, 2, 3}
    assert voters_of(heard(HEIGHT, ())) == set()
