"""What waits for clients is framed once, bounded for each and for all, and whoever lets it pile up is told why."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.outbox import Outbox, SendQueues, answer_parcel, event_parcel, text_frame_head
from astralink_node.gateway.subscriptions import new_id
from tests.support.asynchronous import run
from tests.support.wires import MemoryWire, messages_of


def outbox_of(wire: MemoryWire, **limits: int) -> Outbox:
    return Outbox(wire, SendQueues(GatewayLimits(**limits)))


def test_messages_leave_at_once_while_the_client_reads() -> None:
    async def main() -> None:
        wire = MemoryWire()
        outbox = outbox_of(wire)
        for message in (b"a", b"b", b"c"):
            outbox.put(answer_parcel(message))
        assert (wire.writes, outbox.waiting_bytes) == (3, 0)
        assert [await wire.get(), await wire.get(), await wire.get()] == [b"a", b"b", b"c"]

    run(main)


def test_what_waited_leaves_in_its_order_before_what_comes_later() -> None:
    async def main() -> None:
        wire = MemoryWire()
        outbox = outbox_of(wire)
        wire.is_ready = False
        for message in (b"a", b"b"):
            outbox.put(answer_parcel(message))
        wire.is_ready = True
        outbox.put(answer_parcel(b"c"))
        assert wire.arrived == 0
        wire.read_again()
        outbox.put(answer_parcel(b"d"))
        assert [await wire.get() for _ in range(4)] == [b"a", b"b", b"c", b"d"]
        assert outbox.waiting_bytes == 0

    run(main)


def test_a_client_that_stops_amid_the_queue_gets_the_rest_later() -> None:
    async def main() -> None:
        wire = MemoryWire()
        outbox = outbox_of(wire)
        wire.is_ready = False
        for message in (b"a", b"b"):
            outbox.put(answer_parcel(message))
        write = wire.write

        def write_one(frames: bytes) -> None:
            write(frames)
            wire.is_ready = False

        wire.write = write_one  # type: ignore[method-assign]
        wire.read_again()
        assert wire.arrived == 1
        wire.read_again()
        assert [await wire.get(), await wire.get()] == [b"a", b"b"]

    run(main)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"send_queue_messages": 2}, "too slow: more than 2 messages wait for you"),
        ({"send_queue_bytes": 10}, "too slow: more than 10 bytes wait for you"),
        ({"send_queues_bytes": 10}, "too slow: 10 bytes wait for all clients, most of them for you"),
    ],
)
def test_who_lets_too_much_wait_is_dropped_for_good_and_told_the_bound(limits: dict[str, int], reason: str) -> None:
    async def main() -> None:
        wire = MemoryWire()
        outbox = outbox_of(wire, **limits)
        wire.is_ready = False
        for _ in range(2):
            outbox.put(answer_parcel(b"123"))
        assert (wire.dropped, outbox.waiting_bytes) == ("", 10)
        outbox.put(answer_parcel(b"4"))
        assert (wire.dropped, outbox.waiting_bytes) == (reason, 0)
        assert len(reason.encode()) <= 123, "what a close frame has room for"
        wire.is_ready = True
        outbox.put(answer_parcel(b"5"))
        assert wire.writes == 0

    run(main)


def test_the_bound_of_all_takes_the_one_that_has_most_waiting() -> None:
    async def main() -> None:
        queues = SendQueues(GatewayLimits(send_queues_bytes=100))
        slow, slower, quick = MemoryWire(), MemoryWire(), MemoryWire()
        slow.is_ready = slower.is_ready = False
        first, second, third = (Outbox(wire, queues) for wire in (slow, slower, quick))
        second.put(answer_parcel(b"x" * 60))
        for _ in range(10):
            third.put(answer_parcel(b"x" * 60))
        first.put(answer_parcel(b"x" * 50))
        assert (slow.dropped, bool(slower.dropped), quick.dropped) == ("", True, "")
        slow.read_again()
        assert slow.arrived == 1
        slow.is_ready = False
        first.put(answer_parcel(b"x" * 90))
        assert slow.dropped == "", "what left, or was dropped, counts no more"

    run(main)


def test_one_message_may_be_larger_than_its_bounds() -> None:
    async def main() -> None:
        wire = MemoryWire()
        outbox = outbox_of(wire, send_queue_bytes=10, send_queue_messages=1)
        wire.is_ready = False
        outbox.put(event_parcel([b"1" * 100, b"2"]), new_id().encode())
        assert not wire.dropped
        wire.read_again()
        assert wire.arrived == 2

    run(main)


@given(st.lists(st.integers(0, 100_000).map(lambda size: orjson.dumps("x" * size)), min_size=1, max_size=4))
def test_events_are_framed_once_for_any_subscription(results: list[bytes]) -> None:
    parcel = event_parcel(results)
    for subscription_id in (new_id(), new_id()):
        frames = parcel.frames_for(subscription_id.encode())
        assert (len(frames), parcel.messages) == (parcel.size_bytes, len(results))
        assert [orjson.loads(message) for message in messages_of(frames)] == [
            {
                "jsonrpc": "2.0",
                "method": "eth_subscription",
                "params": {"subscription": subscription_id, "result": orjson.loads(result)},
            }
            for result in results
        ]


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 5_000_000])
def test_frame_heads_name_the_length_as_short_as_can_be(length: int) -> None:
    head = text_frame_head(length)
    assert len(head) == 2 + (0 if length < 126 else 2 if length < 65_536 else 8)
    assert [len(message) for message in messages_of(head + b"x" * length)] == [length]
