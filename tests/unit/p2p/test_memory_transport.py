"""The in-memory network: who gets what, when, and what is lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio
from trio.testing import MockClock

from p2p.memory_transport import MAX_QUEUED, MemoryNetwork, MemoryTransport
from p2p.peer_id import PeerId
from p2p.topic_transport import TopicMessage
from p2p.topics import Topic

ANN, BOB, CAROL = PeerId(b"ann"), PeerId(b"bob"), PeerId(b"carol")


def everything(transport: MemoryTransport) -> list[tuple[bytes, bytes]]:
    return [(received.peer, received.data) for received in transport.receive_waiting(MAX_QUEUED)]


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    trio.run(scenario, clock=MockClock(autojump_threshold=0))


def test_a_broadcast_reaches_everybody_else_and_a_message_one() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        ann, bob, carol = (network.join(peer) for peer in (ANN, BOB, CAROL))
        ann.broadcast(Topic.VOTE, b"all")
        bob.send(CAROL, Topic.VOTE, b"one")
        assert everything(ann) == []
        assert everything(bob) == [(ANN, b"all")]
        assert everything(carol) == [(ANN, b"all"), (BOB, b"one")]

    run(scenario)


def test_what_a_member_sends_itself_it_gets() -> None:
    async def scenario() -> None:
        ann = MemoryNetwork().join(ANN)
        ann.send(ANN, Topic.VOTE, b"note")
        assert await ann.receive() == TopicMessage(ANN, Topic.VOTE, b"note", None)

    run(scenario)


def test_nothing_happens_where_there_is_no_such_peer() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        ann, _ = network.join(ANN), network.join(BOB)
        network.leave(BOB)
        network.leave(CAROL)
        ann.send(BOB, Topic.VOTE, b"gone")
        ann.send(CAROL, Topic.VOTE, b"never was")
        ann.broadcast(Topic.VOTE, b"anybody?")
        assert everything(ann) == []

    run(scenario)


def test_whoever_left_or_was_replaced_neither_hears_nor_speaks() -> None:
    """As after a restart: the earlier life is over, even where one of its tasks is not yet."""

    async def scenario() -> None:
        network = MemoryNetwork()
        ann, earlier = network.join(ANN), network.join(BOB)
        bob = network.join(BOB)
        ann.broadcast(Topic.VOTE, b"hello")
        earlier.send(ANN, Topic.VOTE, b"from the grave")
        earlier.broadcast(Topic.VOTE, b"from the grave")
        assert everything(earlier) == everything(ann) == []
        assert everything(bob) == [(ANN, b"hello")]
        network.leave(BOB)
        bob.send(ANN, Topic.VOTE, b"from the grave")
        assert everything(ann) == []

    run(scenario)


def test_a_full_queue_loses_what_is_new_and_the_sender_does_not_wait() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        ann, bob = network.join(ANN), network.join(BOB)
        for number in range(MAX_QUEUED + 5):
            ann.send(BOB, Topic.VOTE, number.to_bytes(4, "big"))
        got = everything(bob)
        assert [int.from_bytes(data, "big") for _, data in got] == list(range(MAX_QUEUED))
        ann.send(BOB, Topic.VOTE, b"again")
        assert everything(bob) == [(ANN, b"again")]

    run(scenario)


def test_waiting_messages_are_taken_no_more_than_asked_for_and_in_order() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        ann, bob = network.join(ANN), network.join(BOB)
        for number in range(5):
            ann.send(BOB, Topic.VOTE, bytes([number]))
        assert [received.data[0] for received in bob.receive_waiting(3)] == [0, 1, 2]
        assert bob.receive_waiting(0) == []
        assert (await bob.receive()).data[0] == 3
        assert [received.data[0] for received in bob.receive_waiting(3)] == [4]

    run(scenario)


def test_conditions_delay_double_and_lose() -> None:
    def conditions(sender: PeerId, receiver: PeerId) -> Sequence[float]:
        return {BOB: (2.0, 1.0), CAROL: ()}[receiver]

    async def scenario() -> None:
        network = MemoryNetwork(conditions)
        ann, bob, carol = (network.join(peer) for peer in (ANN, BOB, CAROL))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(network.run)
            await trio.testing.wait_all_tasks_blocked()
            ann.broadcast(Topic.VOTE, b"x")
            for moment in (1.0, 2.0):
                assert await bob.receive() == TopicMessage(ANN, Topic.VOTE, b"x", None)
                assert trio.current_time() == moment
            await trio.sleep(10)
            assert everything(bob) == everything(carol) == []
            nursery.cancel_scope.cancel()

    run(scenario)


def test_what_is_on_its_way_reaches_the_next_life_of_its_receiver_and_nobody_who_left() -> None:
    async def scenario() -> None:
        network = MemoryNetwork(lambda sender, receiver: (1.0,))
        ann, _, carol = (network.join(peer) for peer in (ANN, BOB, CAROL))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(network.run)
            await trio.testing.wait_all_tasks_blocked()
            ann.broadcast(Topic.VOTE, b"x")
            bob = network.join(BOB)
            network.leave(CAROL)
            await trio.sleep(2)
            assert everything(bob) == [(ANN, b"x")]
            assert everything(carol) == []
            nursery.cancel_scope.cancel()

    run(scenario)


def test_conditions_that_change_hold_for_what_is_sent_afterwards_and_none_means_at_once() -> None:
    async def scenario() -> None:
        network = MemoryNetwork(lambda sender, receiver: ())
        ann, bob = network.join(ANN), network.join(BOB)
        ann.send(BOB, Topic.VOTE, b"lost")
        network.conditions = None
        ann.send(BOB, Topic.VOTE, b"kept")
        assert everything(bob) == [(ANN, b"kept")]

    run(scenario)


def test_a_network_whose_carrier_stopped_delivers_at_once_and_gathers_nothing() -> None:
    async def scenario() -> None:
        network = MemoryNetwork(lambda sender, receiver: (1.0,))
        ann, bob = network.join(ANN), network.join(BOB)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(network.run)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        ann.send(BOB, Topic.VOTE, b"x")
        assert everything(bob) == [(ANN, b"x")]

    run(scenario)
