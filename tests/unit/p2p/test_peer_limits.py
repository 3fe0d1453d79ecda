"""Buckets of tokens: what they let through over time, and that thousands of peers do not fill the memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.peer_limits import PeerBuckets, TokenBucket


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=2, burst=5)
    assert [bucket.take(1, 0) for _ in range(6)] == [True] * 5 + [False]
    assert not bucket.take(1, 0.4)
    assert bucket.take(1, 0.5)
    assert bucket.take(5, 100)
    assert not bucket.take(1, 100)


def test_borrowing_says_how_long_the_debt_lasts() -> None:
    bucket = TokenBucket(rate=2, burst=5)
    assert bucket.borrow(5, 0) == 0
    assert bucket.borrow(6, 0) == 3
    assert not bucket.take(1, 3)
    assert bucket.take(1, 3.5)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(rate=1, burst=1)
    assert bucket.take(1, 10)
    assert not bucket.take(1, 5)
    assert not bucket.take(1, 10.5)
    assert bucket.take(1, 11)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5)), max_size=50))
def test_a_bucket_never_gives_more_than_burst_and_rate_allow(steps: list[tuple[float, float]]) -> None:
    bucket = TokenBucket(rate=3, burst=7)
    now = given_so_far = 0.0
    for pause, count in steps:
        now += pause
        if bucket.take(count, now):
            given_so_far += count
        assert given_so_far <= 7 + 3 * now + 1e-6


def test_peers_have_a_bucket_each_and_reconnecting_does_not_fill_it() -> None:
    buckets: PeerBuckets[bytes] = PeerBuckets(rate=1, burst=2)
    assert buckets.take(b"a", 2, 5)
    assert not buckets.take(b"a", 1, 5)
    assert buckets.take(b"b", 2, 5)
    assert buckets.take(b"a", 1, 6)


def test_the_bucket_unused_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PeerBuckets, "MAX_BUCKETS", 3)
    buckets: PeerBuckets[bytes] = PeerBuckets(rate=1, burst=1)
    for name in (b"a", b"b", b"c", b"a", b"d"):
        buckets.take(name, 1, 0)
    assert len(buckets) == 3
    assert not buckets.take(b"a", 1, 0), "it was used lately, so its debt is remembered"
    assert buckets.take(b"b", 1, 0), "forgotten"
