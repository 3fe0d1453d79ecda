"""Who is elected, and with what power (docs/staking.md, 5)."""

import pytest

from consensus.election import POWER_UNIT_WEI, Candidate, elect
from consensus.params import MAX_TOTAL_POWER


def candidate(number: int, tokens_wei: int) -> Candidate:
    return Candidate(bytes([number]) * 20, bytes([number]) * 48, bytes([number]) * 32, tokens_wei)


def elected(candidates: list[Candidate], seats: int) -> list[tuple[int, int]]:
    """(number, power) of each member, in the set's order."""
    return [(member.operator[0], member.power) for member in elect(candidates, seats)]


def test_seats_go_to_the_most_tokens_and_the_set_is_listed_by_voting_key() -> None:
    found = elected([candidate(3, 40 * 10**18), candidate(1, 50 * 10**18), candidate(2, 60 * 10**18)], 2)
    assert found == [(1, 50), (2, 60)]


def test_one_wei_more_decides_a_seat_though_power_is_equal() -> None:
    assert elected([candidate(1, 40 * 10**18), candidate(2, 40 * 10**18 + 1)], 1) == [(2, 40)]


def test_equal_tokens_are_ordered_by_voting_key() -> None:
    assert elected([candidate(9, 10**18), candidate(4, 10**18), candidate(7, 10**18)], 2) == [(4, 1), (7, 1)]


def test_power_is_whole_bwt_rounded_down_and_less_than_one_does_not_sit() -> None:
    assert elected([candidate(1, 2 * POWER_UNIT_WEI - 1), candidate(2, POWER_UNIT_WEI - 1)], 5) == [(1, 1)]


def test_nobody_is_elected_from_nobody() -> None:
    assert elect([], 64) == ()


def test_total_power_at_the_limit_is_not_shifted() -> None:
    half = MAX_TOTAL_POWER // 2
    found = elected([candidate(1, half * 10**18), candidate(2, (half + 1) * 10**18)], 2)
    assert found == [(1, half), (2, half + 1)]
    assert sum(power for _, power in found) == MAX_TOTAL_POWER


def test_total_power_above_the_limit_is_halved_and_who_has_none_left_drops_out() -> None:
    found = elected([candidate(1, MAX_TOTAL_POWER * 10**18), candidate(2, 10**18), candidate(3, 7 * 10**18)], 3)
    assert found == [(1, MAX_TOTAL_POWER >> 1), (3, 3)]


def test_powers_are_halved_until_they_fit() -> None:
    found = elected([candidate(1, 5 * MAX_TOTAL_POWER * 10**18)], 1)
    assert found == [(1, 5 * MAX_TOTAL_POWER >> 3)]


@pytest.mark.parametrize("seats", [0, -1, 513])
def test_impossible_number_of_seats_is_refused(seats: int) -> None:
    with pytest.raises(ValueError, match="max_validators"):
        elect([candidate(1, 10**18)], seats)
