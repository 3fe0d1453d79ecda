"""Measures of how evenly voting power is spread."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from astralink_node.economics.decentralisation import gini_coefficient, largest_share, nakamoto_coefficient

THIRD = Fraction(1, 3)
powers = st.lists(st.integers(0, 10**12), min_size=1, max_size=50).filter(any)


def test_exactly_a_third_cannot_stop_the_chain() -> None:
    assert nakamoto_coefficient([1, 1, 1], THIRD) == 2
    assert nakamoto_coefficient([2, 1, 1], THIRD) == 1


def test_two_thirds_of_equal_parties_are_not_enough_to_finalise() -> None:
    assert nakamoto_coefficient([10] * 9, Fraction(2, 3)) == 7


def test_the_largest_are_counted_first() -> None:
    assert nakamoto_coefficient([1, 1, 1, 1, 1, 4], THIRD) == 1


def test_no_power_has_no_measure() -> None:
    assert nakamoto_coefficient([], THIRD) == nakamoto_coefficient([0, 0], THIRD) == 0
    assert gini_coefficient([]) == largest_share([]) == 0


def test_gini_of_known_spreads() -> None:
    assert gini_coefficient([5, 5, 5, 5]) == 0
    assert gini_coefficient([0, 0, 0, 8]) == Fraction(3, 4)
    assert gini_coefficient([1, 3]) == Fraction(1, 4)


def test_largest_share_is_of_all_power() -> None:
    assert largest_share([1, 2, 5]) == Fraction(5, 8)


@given(powers)
def test_gini_is_the_mean_difference_over_twice_the_mean(values: list[int]) -> None:
    differences = sum(abs(left - right) for left in values for right in values)
    assert gini_coefficient(values) == Fraction(differences, 2 * len(values) * sum(values))


@given(powers)
def test_one_party_fewer_does_not_reach_the_share(values: list[int]) -> None:
    count = nakamoto_coefficient(values, THIRD)
    largest = sorted(values, reverse=True)
    assert 3 * sum(largest[:count]) > sum(values) >= 3 * sum(largest[: count - 1])
