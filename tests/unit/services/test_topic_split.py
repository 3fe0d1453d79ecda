"""One transport shared out by topic: each service gets its own messages in order, and neither a slow service nor a
flooding peer takes anything from another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from astralink_node.services.topic_split import TopicSplit
from p2p import queues
from p2p.gossip_events import Verdict
from p2p.memory_transport import MemoryNetwork
from p2p.peer_id import PeerId
from p2p.topics import Topic
from tests.support.judged_transport import JudgedTransport

OWN, ANN, BOB = PeerId(b"own"), PeerId(b"ann"), PeerId(b"bob")


class Bench:
    def __init__(self) -> None:
        network = MemoryNetwork()
        self.transport = JudgedTransport(network.join(OWN))
        self.ann, self.bob = network.join(ANN), network.join(BOB)
        self.split = TopicSplit(self.transport)

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        """With the split running."""

        async def main() -> None:
            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.split.run)
                    await scenario()
                    nursery.cancel_scope.cancel()

        trio.run(main)


def numbered(number: int) -> bytes:
    return number.to_bytes(4, "big")


def test_each_service_gets_its_topics_in_the_order_of_arrival() -> None:
    bench = Bench()
    both, single = bench.split.share(Topic.VOTE, Topic.BLOCK), bench.split.share(Topic.TRANSACTION)

    async def scenario() -> None:
        for number in range(30):
            bench.ann.send(OWN, (Topic.VOTE, Topic.TRANSACTION, Topic.BLOCK)[number % 3], numbered(number))
        received = [await both.receive() for _ in range(20)]
        assert [message.data for message in received] == [numbered(n) for n in range(30) if n % 3 != 1]
        assert [message.topic for message in received[:2]] == [Topic.VOTE, Topic.BLOCK]
        assert [message.data for message in single.receive_waiting(4)] == [numbered(n) for n in (1, 4, 7, 10)]
        assert [message.data for message in single.receive_waiting(100)] == [numbered(n) for n in range(13, 30, 3)]
        assert single.receive_waiting(1) == []
        assert bench.transport.verdicts == []

    bench.run(scenario)


def test_a_topic_that_no_service_has_is_ignored_and_judged() -> None:
    bench = Bench()
    share = bench.split.share(Topic.VOTE)

    async def scenario() -> None:
        bench.ann.send(OWN, Topic.EVIDENCE, b"unwanted")
        bench.ann.send(OWN, Topic.VOTE, b"wanted")
        assert (await share.receive()).data == b"wanted"
        assert bench.transport.verdicts == [(ANN, b"unwanted", Verdict.IGNORE)]

    bench.run(scenario)


def test_a_topic_is_shared_out_once() -> None:
    bench = Bench()
    bench.split.share(Topic.VOTE)
    with pytest.raises(ValueError, match="the topic vote is shared out already"):
        bench.split.share(Topic.BLOCK, Topic.VOTE)


def test_a_slow_service_loses_its_own_messages_alone_and_they_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "MAX_INCOMING_ITEMS_OF_A_PEER", 5)
    bench = Bench()
    slow, quick = bench.split.share(Topic.TRANSACTION), bench.split.share(Topic.VOTE)

    async def scenario() -> None:
        for number in range(8):
            bench.ann.send(OWN, Topic.TRANSACTION, numbered(number))
        bench.ann.send(OWN, Topic.VOTE, b"a vote")
        assert (await quick.receive()).data == b"a vote"
        assert bench.transport.verdicts == [(ANN, numbered(n), Verdict.IGNORE) for n in (5, 6, 7)]
        assert [message.data for message in slow.receive_waiting(9)] == [numbered(n) for n in range(5)]

    bench.run(scenario)


def test_one_peers_flood_keeps_no_other_peer_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "MAX_INCOMING_ITEMS", 100)
    bench = Bench()
    share = bench.split.share(Topic.VOTE)

    async def scenario() -> None:
        for number in range(3_000):
            bench.ann.send(OWN, Topic.VOTE, numbered(number))
        bench.bob.send(OWN, Topic.VOTE, b"bob's only one")
        await wait_all_tasks_blocked()
        waiting = share.receive_waiting(10_000)
        assert len(waiting) == 101
        assert waiting[-1].data == b"bob's only one"

    bench.run(scenario)


def test_what_waits_for_a_service_is_bounded_in_bytes() -> None:
    bench = Bench()
    share = bench.split.share(Topic.TRANSACTION)
    large = bytes(8 << 20)

    async def scenario() -> None:
        for _ in range(10):
            bench.ann.send(OWN, Topic.TRANSACTION, large)
        await wait_all_tasks_blocked()
        assert len(share.receive_waiting(10)) == queues.MAX_INCOMING_BYTES_OF_A_PEER // len(large)
        assert len(bench.transport.verdicts) == 7

    bench.run(scenario)


def test_a_share_sends_by_the_one_transport() -> None:
    bench = Bench()
    share = bench.split.share(Topic.VOTE)

    async def scenario() -> None:
        assert set(share.peers) == {ANN, BOB}
        share.broadcast(Topic.VOTE, b"to all")
        share.send(BOB, Topic.VOTE, b"to bob")
        assert [message.data for message in bench.ann.receive_waiting(9)] == [b"to all"]
        assert [message.data for message in bench.bob.receive_waiting(9)] == [b"to all", b"to bob"]
        bench.ann.send(OWN, Topic.VOTE, b"judge me")
        message = await share.receive()
        share.judge(message, Verdict.REJECT)
        assert bench.transport.verdicts == [(ANN, b"judge me", Verdict.REJECT)]

    bench.run(scenario)
