"""Filters are bounded, expire when nobody polls them, and keep a bounded list of pending hashes."""

import pytest

from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.filters import BlockPoll, Filters, FullPendingPoll, PendingPoll
from astralink_node.gateway.link_messages import SubmittedTransaction
from astralink_node.gateway.rpc_errors import LIMIT_EXCEEDED, RpcError


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_filter_that_nobody_polls_expires_and_a_polled_one_does_not() -> None:
    clock = Clock()
    filters = Filters(GatewayLimits(filter_idle_ms=300_000), clock)
    idle, polled = filters.add(BlockPoll(1)), filters.add(BlockPoll(1))
    clock.seconds = 200
    filters.get(polled)
    clock.seconds = 301
    with pytest.raises(RpcError, match="filter not found"):
        filters.get(idle)
    assert isinstance(filters.get(polled), BlockPoll)


def test_filters_are_bounded_and_room_comes_back() -> None:
    clock = Clock()
    filters = Filters(GatewayLimits(filters=2), clock)
    first = filters.add(BlockPoll(1))
    filters.add(BlockPoll(1))
    with pytest.raises(RpcError) as refusal:
        filters.add(BlockPoll(1))
    assert refusal.value.code == LIMIT_EXCEEDED
    assert filters.remove(first)
    assert not filters.remove(first)
    filters.add(BlockPoll(1))
    clock.seconds = 10_000
    filters.add(BlockPoll(1))


def test_when_all_places_are_taken_the_filter_polled_longest_ago_goes_unless_it_is_in_use() -> None:
    clock = Clock()
    filters = Filters(GatewayLimits(filters=2, filter_kept_ms=60_000), clock)
    polled, idle = filters.add(BlockPoll(1)), filters.add(BlockPoll(1))
    clock.seconds = 30
    filters.get(polled)
    clock.seconds = 60
    with pytest.raises(RpcError, match="too many filters"):
        filters.add(BlockPoll(1))
    clock.seconds = 61
    new = filters.add(BlockPoll(1))
    with pytest.raises(RpcError, match="filter not found"):
        filters.get(idle)
    for filter_id in (polled, new):
        assert isinstance(filters.get(filter_id), BlockPoll)
    with pytest.raises(RpcError, match="too many filters"):
        filters.add(BlockPoll(1))


def test_pending_hashes_are_bounded_and_the_oldest_go_first() -> None:
    filters = Filters(GatewayLimits(filter_hashes=3), Clock())
    filter_id = filters.add(filters.pending_poll())
    filters.note_pending([SubmittedTransaction(bytes([n]), b"") for n in range(5)])
    poll = filters.get(filter_id)
    assert isinstance(poll, PendingPoll)
    assert len(poll.hashes) == 3


@pytest.mark.parametrize(
    ("bounds", "kept"),
    [
        (GatewayLimits(filter_transactions=3), [2, 3, 4]),
        (GatewayLimits(filter_transaction_bytes=25), [3, 4]),
        (GatewayLimits(filter_transaction_bytes=9), []),
    ],
    ids=["by number", "by bytes", "none fits"],
)
def test_whole_pending_transactions_are_bounded_and_told_once(bounds: GatewayLimits, kept: list[int]) -> None:
    filters = Filters(bounds, Clock())
    filter_id = filters.add(filters.full_pending_poll())
    for number in range(5):
        filters.note_pending([SubmittedTransaction(bytes([number]) * 10, b"")])
    poll = filters.get(filter_id)
    assert isinstance(poll, FullPendingPoll)
    assert [each.raw_transaction[0] for each in poll.take()] == kept
    assert poll.take() == ()
    filters.note_pending([SubmittedTransaction(b"\x07", b"")])
    assert [each.raw_transaction for each in poll.take()] == [b"\x07"]
