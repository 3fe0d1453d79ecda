"""The schedule of dials: who dials whom, when again, and in which order."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from p2p import dialer
from p2p.addresses import Address
from p2p.dialer import HIGHER_ID_DELAY_S, MAX_RETRY_S, MAX_URGENT_RETRY_S, Dial, Dialer
from p2p.peer_id import PeerId
from p2p.peer_limits import CONNECT_TIMEOUT_S

LOW, OWN, HIGH, HIGHER = (PeerId(bytes([index])) for index in range(4))
ADDRESSES = (Address("192.0.2.1", 30303),)


def new() -> Dialer:
    return Dialer(OWN, chance=lambda: 0.0)


def test_the_lower_id_dials_at_once_and_the_other_a_little_later() -> None:
    schedule = new()
    schedule.want(HIGH, ADDRESSES, 0)
    schedule.want(LOW, ADDRESSES, 0)
    assert schedule.due(0, 9) == [Dial(HIGH, ADDRESSES)]
    assert schedule.next_due() == HIGHER_ID_DELAY_S
    assert schedule.due(HIGHER_ID_DELAY_S, 9) == [Dial(LOW, ADDRESSES)]
    assert schedule.next_due() is None


def test_a_node_does_not_dial_itself_nor_what_has_no_address() -> None:
    schedule = new()
    schedule.want(OWN, ADDRESSES, 0)
    schedule.want(HIGH, (), 0)
    assert schedule.due(9, 9) == []
    schedule.want(HIGH, ADDRESSES, 9)
    assert schedule.due(9, 9) == [Dial(HIGH, ADDRESSES)]


def retries(*, is_urgent: bool, count: int) -> list[float]:
    schedule, now = new(), 0.0
    schedule.want(HIGH, ADDRESSES, now, is_urgent=is_urgent)
    waits = []
    for _ in range(count):
        assert schedule.due(now, 9) == [Dial(HIGH, ADDRESSES)]
        schedule.failed(HIGH, now)
        due = schedule.next_due()
        assert due is not None
        assert schedule.due(due - 0.001, 9) == []
        waits.append(due - now)
        now = due
    return waits


def test_failures_are_tried_again_ever_later() -> None:
    assert retries(is_urgent=False, count=8) == [0.5, 1, 2, 4, 8, 16, MAX_RETRY_S, MAX_RETRY_S]


def test_validators_are_tried_again_within_three_seconds_for_ever() -> None:
    assert retries(is_urgent=True, count=6) == [0.5, 1, 2, 3, 3, 3]


def test_the_time_that_a_dial_takes_is_part_of_the_wait() -> None:
    """Where a cable is cut nobody answers: a validator there is dialled every three seconds all the same."""
    schedule, now = new(), 0.0
    schedule.want(HIGH, ADDRESSES, now, is_urgent=True)
    begun = []
    for _ in range(8):
        assert schedule.due(now, 9) == [Dial(HIGH, ADDRESSES)]
        begun.append(now)
        took_s = min(MAX_URGENT_RETRY_S, CONNECT_TIMEOUT_S)
        schedule.failed(HIGH, now + took_s)
        due = schedule.next_due()
        assert due is not None
        now = max(now + took_s, due)
    assert [after - before for before, after in pairwise(begun)] == [MAX_URGENT_RETRY_S] * 7


def test_jitter_only_shortens_a_wait() -> None:
    random = Random(7)
    schedule = Dialer(OWN, random.random)
    schedule.want(HIGH, ADDRESSES, 0, is_urgent=True)
    for _ in range(50):
        schedule.due(1e9, 9)
        schedule.failed(HIGH, 1e9)
    due = schedule.next_due()
    assert due is not None
    assert 0.8 * MAX_URGENT_RETRY_S <= due - 1e9 < MAX_URGENT_RETRY_S


def test_a_peer_being_dialled_or_connected_is_not_dialled() -> None:
    schedule = new()
    schedule.want(HIGH, ADDRESSES, 0)
    assert schedule.due(0, 9) == [Dial(HIGH, ADDRESSES)]
    assert schedule.due(99, 9) == []
    schedule.connected(HIGH, 99)
    assert schedule.due(999, 9) == []


def test_who_came_by_itself_is_not_dialled() -> None:
    schedule = new()
    schedule.want(HIGH, ADDRESSES, 0)
    schedule.connected(HIGH, 0)
    assert schedule.due(0, 9) == []


def test_a_lost_connection_is_redialled_soon_if_it_had_lasted() -> None:
    schedule = new()
    schedule.want(HIGH, ADDRESSES, 0)
    for number in range(6):
        schedule.due(1e6, 9)
        assert schedule.failed(HIGH, 1e6) == number + 1
    schedule.connected(HIGH, 2e6)
    schedule.disconnected(HIGH, 2e6 + 60)
    assert schedule.next_due() == 2e6 + 60.5


def test_a_peer_that_hangs_up_at_once_is_dialled_ever_later() -> None:
    schedule, now = new(), 0.0
    schedule.want(HIGH, ADDRESSES, now)
    waits = []
    for _ in range(8):
        assert schedule.due(now, 9) == [Dial(HIGH, ADDRESSES)]
        schedule.connected(HIGH, now)
        schedule.disconnected(HIGH, now + 0.1)
        due = schedule.next_due()
        assert due is not None
        waits.append(round(due - now - 0.1, 6))
        now = due
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize("failures", range(6))
def test_the_higher_id_too_redials_a_validator_within_three_seconds(failures: int) -> None:
    schedule = new()
    schedule.want(LOW, ADDRESSES, 0, is_urgent=True)
    for _ in range(failures):
        schedule.due(50, 9)
        schedule.failed(LOW, 50)
    schedule.connected(LOW, 100)
    schedule.disconnected(LOW, 101)
    due = schedule.next_due()
    assert due is not None
    assert HIGHER_ID_DELAY_S < due - 101 <= MAX_URGENT_RETRY_S


def test_validators_come_first_and_then_who_waits_longest() -> None:
    schedule = new()
    schedule.want(HIGH, ADDRESSES, 1)
    schedule.want(HIGHER, ADDRESSES, 0)
    schedule.want(LOW, ADDRESSES, 2, is_urgent=True)
    assert [dial.peer for dial in schedule.due(10, 2)] == [LOW, HIGHER]
    assert [dial.peer for dial in schedule.due(10, 2)] == [HIGH]


def test_a_peer_that_becomes_a_validator_is_tried_sooner() -> None:
    schedule = new()
    schedule.want(HIGH, ADDRESSES, 0)
    for _ in range(9):
        schedule.due(100, 9)
        schedule.failed(HIGH, 100)
    assert schedule.next_due() == 130
    schedule.want(HIGH, ADDRESSES, 101, is_urgent=True)
    assert schedule.next_due() == 104


def test_who_is_not_wanted_any_more_is_not_dialled_and_nobody_minds_the_news() -> None:
    schedule = new()
    schedule.want(HIGH, ADDRESSES, 0)
    schedule.due(0, 9)
    schedule.unwant(HIGH)
    schedule.failed(HIGH, 0)
    schedule.connected(HIGH, 0)
    schedule.disconnected(HIGH, 0)
    assert schedule.due(99, 9) == []


def test_targets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer, "MAX_TARGETS", 2)
    schedule = new()
    for peer in (HIGH, HIGHER, LOW):
        schedule.want(peer, ADDRESSES, 0)
    assert len(schedule.due(99, 9)) == 2
