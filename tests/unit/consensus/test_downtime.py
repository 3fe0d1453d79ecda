"""Downtime windows, absentees and offenders (docs/staking.md, 3)."""

import pytest

from consensus.downtime import absentees, is_in_window, offenders, window_that_ends
from consensus.validator_set import Validator


def member(number: int) -> Validator:
    return Validator(bytes([number]) * 48, bytes(32), 10, bytes([number]) * 20)


def test_windows_tile_an_epoch_from_its_first_height() -> None:
    ends = [height for height in range(500) if window_that_ends(height, 250, 100)]
    assert ends == [99, 199, 349, 449]
    assert window_that_ends(349, 250, 100) == range(250, 350)


def test_remainder_of_an_epoch_is_no_window() -> None:
    assert [height for height in range(240, 255) if is_in_window(height, 250, 100)] == list(range(250, 255))
    assert window_that_ends(249, 250, 100) is None


def test_nobody_is_absent_at_genesis() -> None:
    assert [height for height in range(3) if is_in_window(height, 100, 100)] == [1, 2]


def test_window_longer_than_the_epoch_never_ends() -> None:
    assert all(window_that_ends(height, 50, 51) is None and not is_in_window(height, 50, 51) for height in range(200))


def test_window_as_long_as_the_epoch_ends_with_it() -> None:
    assert [height for height in range(300) if window_that_ends(height, 100, 100)] == [99, 199, 299]


def test_absentees_are_the_members_whose_bit_is_missing() -> None:
    assert absentees(0b1011, 5) == (2, 4)
    assert absentees(2**256 - 1, 128) == ()
    assert absentees(0, 3) == (0, 1, 2)


def test_bits_beyond_the_members_say_nothing() -> None:
    assert absentees(0b11100, 2) == (0, 1)


def test_negative_bitmap_is_refused() -> None:
    with pytest.raises(ValueError, match="bitmap"):
        absentees(-1, 3)


def test_who_signed_exactly_the_minimum_is_no_offender() -> None:
    members = [member(1), member(2)]
    assert offenders(members, [50, 51], window=100, min_signed_bps=5_000, room=5) == (members[1],)


def test_worst_offenders_come_first_and_ties_go_by_voting_key() -> None:
    members = [member(4), member(2), member(3), member(1)]
    found = offenders(members, [90, 70, 90, 70], window=100, min_signed_bps=5_000, room=3)
    assert [offender.operator[0] for offender in found] == [3, 4, 1]


@pytest.mark.parametrize("room", [0, -1])
def test_no_room_punishes_nobody(room: int) -> None:
    assert offenders([member(1)], [100], window=100, min_signed_bps=5_000, room=room) == ()


def test_missed_must_match_the_members() -> None:
    with pytest.raises(ValueError):
        offenders([member(1)], [1, 2], window=100, min_signed_bps=5_000, room=1)


@pytest.mark.parametrize("function", [is_in_window, window_that_ends])
def test_window_of_nothing_is_refused(function: object) -> None:
    with pytest.raises(ValueError, match="window"):
        function(1, 100, 0)  # type: ignore[operator]
