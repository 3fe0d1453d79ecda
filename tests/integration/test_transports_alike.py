"""What services may rely on, tried on both transports: the one in memory and the one on libp2p."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest
import trio

from p2p.gossip_events import Verdict
from p2p.memory_transport import MemoryNetwork
from p2p.peer_id import PeerId
from p2p.topic_transport import TopicTransport
from p2p.topics import Topic
from tests.support.p2p_nodes import connected_nodes, run


@dataclass(frozen=True, slots=True)
class Member:
    peer: PeerId
    transport: TopicTransport


@asynccontextmanager
async def in_memory() -> AsyncIterator[Sequence[Member]]:
    network = MemoryNetwork()
    names = [PeerId(bytes([number])) for number in range(3)]
    yield [Member(name, network.join(name)) for name in names]


@asynccontextmanager
async def on_libp2p() -> AsyncIterator[Sequence[Member]]:
    async with connected_nodes(3) as nodes:
        yield [Member(node.own_id, node.transport) for node in nodes]


Members = Callable[[], AbstractAsyncContextManager[Sequence[Member]]]
both = pytest.mark.parametrize("members", [in_memory, on_libp2p])


@both
@pytest.mark.parametrize("topic", Topic)
def test_broadcast_reaches_all_others_and_not_its_author(members: Members, topic: Topic) -> None:
    async def main() -> None:
        async with members() as (one, two, three):
            one.transport.broadcast(topic, b"to all")
            for other in (two, three):
                message = await other.transport.receive()
                assert (message.peer, message.topic, message.data) == (one.peer, topic, b"to all")
                other.transport.judge(message, Verdict.ACCEPT)
            two.transport.send(one.peer, topic, b"to the author")
            assert (await one.transport.receive()).data == b"to the author", "its own message did not come first"

    run(main)


@both
@pytest.mark.parametrize("size", [0, 1, 100_001, 2_000_000])
def test_messages_of_every_size_arrive_whole(members: Members, size: int) -> None:
    async def main() -> None:
        async with members() as (one, two, _):
            one.transport.send(two.peer, Topic.BLOCK, b"s" * size)
            assert (await two.transport.receive()).data == b"s" * size
            one.transport.broadcast(Topic.BLOCK, b"b" * size)
            message = await two.transport.receive()
            assert message.data == b"b" * size
            two.transport.judge(message, Verdict.ACCEPT)

    run(main)


@both
@pytest.mark.parametrize("topic", Topic)
def test_whoever_repeats_itself_is_heard_again(members: Members, topic: Topic) -> None:
    async def main() -> None:
        async with members() as (one, two, _):
            for _ in range(3):
                one.transport.broadcast(topic, b"again")
                message = await two.transport.receive()
                assert message.data == b"again"
                two.transport.judge(message, Verdict.IGNORE)

    run(main)


@both
def test_messages_that_wait_are_taken_together_up_to_a_limit(members: Members) -> None:
    async def main() -> None:
        async with members() as (one, two, _):
            assert two.transport.receive_waiting(10) == []
            for number in range(5):
                one.transport.send(two.peer, Topic.VOTE, b"%d" % number)
            found = [await two.transport.receive()]
            while len(found) < 5:
                waiting = two.transport.receive_waiting(2)
                assert len(waiting) <= 2
                found += waiting
                await trio.lowlevel.checkpoint()
            assert [message.data for message in found] == [b"0", b"1", b"2", b"3", b"4"]

    run(main)


@both
def test_message_to_nobody_disturbs_nobody(members: Members) -> None:
    async def main() -> None:
        async with members() as (one, two, _):
            one.transport.send(PeerId(b"nobody"), Topic.VOTE, b"lost")
            one.transport.send(two.peer, Topic.VOTE, b"arrives")
            assert (await two.transport.receive()).data == b"arrives"

    run(main)


@both
def test_every_verdict_may_be_given_on_every_message(members: Members) -> None:
    async def main() -> None:
        async with members() as (one, two, _):
            for number, verdict in enumerate(Verdict):
                one.transport.broadcast(Topic.BLOCK, b"%d" % number)
                message = await two.transport.receive()
                two.transport.judge(message, verdict)
                two.transport.judge(message, verdict)

    run(main)


@both
def test_connected_peers_are_known(members: Members) -> None:
    async def main() -> None:
        async with members() as (one, two, three):
            assert set(one.transport.peers) == {two.peer, three.peer}

    run(main)
