"""Who has been heard of lately, and for whose proposal one therefore waits."""

from collections.abc import Sequence
from dataclasses import replace

from astralink_node.services.presence import is_silent
from consensus.height_machine import CertificateReceived, HeightState, VoteReceived, begin_height, step
from tests.support.height_machines import PRECOMMIT, V, certificate, context_of, precommit, set_of

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
