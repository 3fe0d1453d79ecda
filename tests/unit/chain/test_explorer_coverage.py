"""Stretches of the explorer index: joined, cut, and what lies between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astralink_node.chain.explorer_coverage import (
    MAX_STRETCHES,
    Coverage,
    Stretch,
    covers,
    decode_coverage,
    encode_coverage,
    extended,
    gaps,
    truncated,
    without_calls,
)
from astralink_node.storage.store import DatabaseDamaged


def stretches(*parts: tuple[int, int, bool]) -> Coverage:
    return tuple(Stretch(first, last, with_calls) for first, last, with_calls in parts)


def test_neighbours_of_one_kind_become_one_stretch() -> None:
    assert extended(stretches((1, 4, True), (8, 9, True)), Stretch(5, 7, with_calls=True)) == stretches((1, 9, True))


def test_neighbours_of_two_kinds_stay_two_stretches() -> None:
    assert extended(stretches((5, 9, True)), Stretch(1, 4, with_calls=False)) == stretches((1, 4, False), (5, 9, True))


def test_gaps_are_what_no_stretch_holds() -> None:
    coverage = stretches((3, 5, True), (6, 7, False), (10, 12, True))
    assert list(gaps(coverage, 1, 15)) == [(1, 2), (8, 9), (13, 15)]
    assert list(gaps(coverage, 4, 7)) == []
    assert list(gaps(coverage, 9, 9)) == [(9, 9)]
    assert list(gaps((), 1, 0)) == []


def test_a_rollback_cuts_the_last_stretch_and_drops_what_lies_above() -> None:
    coverage = stretches((1, 5, True), (8, 9, True))
    assert truncated(coverage, 8) == stretches((1, 5, True), (8, 8, True))
    assert truncated(coverage, 6) == stretches((1, 5, True))
    assert truncated(coverage, 0) == ()


def test_what_was_indexed_without_calls_is_named_within_a_range() -> None:
    coverage = stretches((1, 5, False), (6, 9, True), (12, 20, False))
    assert list(without_calls(coverage, 4, 13)) == [(4, 5), (12, 13)]
    assert list(without_calls(coverage, 6, 9)) == []


def test_beyond_the_most_stretches_the_lowest_is_given_up() -> None:
    coverage: Coverage = ()
    for number in range(MAX_STRETCHES + 1):
        coverage = extended(coverage, Stretch(10 * number, 10 * number, with_calls=True))
    assert len(coverage) == MAX_STRETCHES
    assert not covers(coverage, 0)
    assert covers(coverage, 10)


@given(st.lists(st.tuples(st.integers(0, 60), st.booleans()), unique_by=lambda entry: entry[0]))
def test_coverage_holds_exactly_the_heights_that_were_added(added: list[tuple[int, bool]]) -> None:
    coverage: Coverage = ()
    for height, with_calls in added:
        coverage = extended(coverage, Stretch(height, height, with_calls))
    for height in range(62):
        assert covers(coverage, height) == any(height == one for one, _ in added)
    missing = {height for first, last in gaps(coverage, 0, 61) for height in range(first, last + 1)}
    assert missing == set(range(62)) - {height for height, _ in added}
    assert decode_coverage(encode_coverage(coverage) or b"") == coverage


@pytest.mark.parametrize("raw", [b"\x01", b"\x02" + bytes(16), bytes(18)])
def test_a_damaged_coverage_is_refused(raw: bytes) -> None:
    with pytest.raises(DatabaseDamaged):
        decode_coverage(raw)
