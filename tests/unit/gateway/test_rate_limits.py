"""Token buckets: so many requests a second of one connection and of one address, and a wait that is kept to."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.rate_limits import BURST_S, MAX_CLIENTS, Allowance, RateLimits, TooManyRequests

ALICE, BOB = "192.0.2.1", "192.0.2.2"


class Bench:
    def __init__(self, per_second: int = 0, per_client: int = 0) -> None:
        self.now_s = 1000.0
        limits = GatewayLimits(requests_per_second=per_second, client_requests_per_second=per_client)
        self.rates = RateLimits(limits, lambda: self.now_s)

    def connection(self, address: str = ALICE) -> Allowance:
        return self.rates.connection_from(address)


def refusal(allowance: Allowance, count: int = 1) -> TooManyRequests:
    with pytest.raises(TooManyRequests) as caught:
        allowance.take(count)
    return caught.value


def test_without_limits_everything_passes() -> None:
    allowance = Bench().connection()
    for _ in range(1000):
        allowance.take(1000)


def test_a_burst_passes_and_what_follows_waits_for_its_turn() -> None:
    bench = Bench(per_second=10)
    allowance = bench.connection()
    for _ in range(10 * BURST_S):
        allowance.take(1)
    assert refusal(allowance).retry_after_ms == 101
    bench.now_s += 0.1001
    allowance.take(1)
    refusal(allowance)


def test_what_is_refused_costs_nothing() -> None:
    bench = Bench(per_second=10)
    allowance = bench.connection()
    allowance.take(20)
    waits = {refusal(allowance, 5).retry_after_ms for _ in range(100)}
    assert waits == {501}
    bench.now_s += 0.501
    allowance.take(5)


def test_a_batch_larger_than_the_bucket_passes_when_it_is_full_and_is_paid_off() -> None:
    bench = Bench(per_second=10)
    allowance = bench.connection()
    allowance.take(100)
    assert refusal(allowance).retry_after_ms == pytest.approx(8101, abs=1)
    bench.now_s += 8.2
    allowance.take(1)


def test_connections_have_buckets_of_their_own_and_an_address_has_one() -> None:
    alone = Bench(per_second=1)
    alone.connection().take(2)
    alone.connection().take(2)
    shared = Bench(per_client=1)
    first, second, other = shared.connection(), shared.connection(), shared.connection(BOB)
    first.take(2)
    assert refusal(second).whose == "address"
    assert refusal(shared.connection()).whose == "address", "connecting anew fills nothing"
    other.take(2)


def test_the_refusal_names_the_limit_that_lasts_longest() -> None:
    bench = Bench(per_second=10, per_client=1)
    allowance = bench.connection()
    allowance.take(20)
    found = refusal(allowance)
    assert (found.whose, found.per_second) == ("address", 1)


def test_an_ipv6_site_is_one_client() -> None:
    bench = Bench(per_client=1)
    bench.connection("2001:db8:1:2::3").take(2)
    refusal(bench.connection("2001:db8:1:2:ffff::1"))
    bench.connection("2001:db8:1:3::1").take(1)


def test_addresses_are_remembered_within_bounds() -> None:
    bench = Bench(per_client=1)
    bench.connection(BOB).take(2)
    for number in range(MAX_CLIENTS):
        bench.connection(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    bench.connection(BOB).take(2)


@given(
    st.integers(1, 1000),
    st.lists(st.tuples(st.integers(1, 50), st.floats(0, 3, allow_nan=False)), max_size=60),
)
def test_never_more_than_the_rate_and_a_burst_and_who_waits_as_told_gets_in(
    per_second: int, steps: list[tuple[int, float]]
) -> None:
    bench = Bench(per_second=per_second)
    allowance = bench.connection()
    taken, largest = 0, 0
    for count, pause_s in steps:
        bench.now_s += pause_s
        try:
            allowance.take(count)
        except TooManyRequests as error:
            bench.now_s += error.retry_after_ms / 1000
            allowance.take(count)
        taken += count
        largest = max(largest, count)
        assert taken <= math.ceil(per_second * (BURST_S + bench.now_s - 1000)) + largest
