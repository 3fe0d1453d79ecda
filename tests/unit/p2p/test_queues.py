"""Queues to and from peers: their order, their bounds, and what happens at them."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from p2p import queues
from p2p.peer_id import PeerId
from p2p.queues import Inbox, OutgoingQueue
from p2p.topic_transport import TopicMessage
from p2p.topics import Topic
from tests.support.p2p_nodes import run

A, B = PeerId(b"a"), PeerId(b"b")


def message(peer: PeerId, data: bytes) -> TopicMessage:
    return TopicMessage(peer, Topic.VOTE, data, None)


# --- Out -----------------------------------------------------------------------------------------------------------


def test_frames_go_out_in_order_and_a_reader_waits_for_the_next() -> None:
    async def main() -> None:
        queue, found = OutgoingQueue(), []

        async def read() -> None:
            found.extend([await queue.get() for _ in range(3)])

        async with trio.open_nursery() as nursery:
            queue.put(b"1")
            queue.put(b"2")
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            assert queue.total_bytes == 0
            queue.put(b"3")
        assert found == [b"1", b"2", b"3"]

    run(main)


def test_oldest_frames_are_dropped_where_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "MAX_OUTGOING_ITEMS", 3)

    async def main() -> None:
        queue = OutgoingQueue()
        for number in range(5):
            queue.put(b"%d" % number)
        assert (len(queue), queue.dropped) == (3, 2)
        assert [await queue.get() for _ in range(3)] == [b"2", b"3", b"4"]

    run(main)


def test_oldest_frames_are_dropped_where_too_many_bytes_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "MAX_OUTGOING_BYTES", 100)

    async def main() -> None:
        queue = OutgoingQueue()
        for _ in range(3):
            queue.put(bytes(40))
        assert (len(queue), queue.total_bytes, queue.dropped) == (2, 80, 1)
        queue.put(bytes(500))
        assert len(queue) == 1, "the newest is kept, however large"
        assert len(await queue.get()) == 500

    run(main)


def test_queue_whose_reader_is_gone_is_emptied() -> None:
    queue = OutgoingQueue()
    queue.put(b"1")
    queue.put(b"2")
    queue.clear()
    assert (len(queue), queue.total_bytes, queue.dropped) == (0, 0, 2)


# --- In ------------------------------------------------------------------------------------------------------------


def test_messages_come_in_order_singly_and_many_at_once() -> None:
    async def main() -> None:
        inbox = Inbox()
        for number in range(5):
            assert inbox.put_nowait(message(A, b"%d" % number))
        assert (await inbox.get()).data == b"0"
        assert [found.data for found in inbox.get_waiting(3)] == [b"1", b"2", b"3"]
        assert [found.data for found in inbox.get_waiting(3)] == [b"4"]
        assert inbox.get_waiting(3) == []

    run(main)


@pytest.mark.parametrize(
    ("bound", "value"),
    [("MAX_INCOMING_ITEMS", 3), ("MAX_INCOMING_ITEMS_OF_A_PEER", 3), ("MAX_INCOMING_BYTES_OF_A_PEER", 30)],
)
def test_who_may_wait_waits_for_room_and_who_may_not_is_refused(
    monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    monkeypatch.setattr(queues, bound, value)

    async def main() -> None:
        inbox, done = Inbox(), []

        async def put() -> None:
            await inbox.put(message(A, b"waited    "))
            done.append(True)

        for _ in range(3):
            assert inbox.put_nowait(message(A, b"0123456789"))
        assert not inbox.put_nowait(message(A, b"0123456789"))
        assert inbox.put_nowait(message(B, b"0123456789")), "one peer's flood keeps nobody else out"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put)
            await trio.testing.wait_all_tasks_blocked()
            assert done == []
            inbox.get_waiting(2)
        assert done == [True]
        assert len(inbox) == 3

    run(main)


def test_one_message_always_has_room_however_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "MAX_INCOMING_BYTES_OF_A_PEER", 30)
    inbox = Inbox()
    assert inbox.put_nowait(message(A, bytes(100)))
    assert not inbox.put_nowait(message(A, b""))
