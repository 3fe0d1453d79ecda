"""A network inside one process: for tests, for simulation of whole nodes, and for a validator that is alone.

Each link may delay, lose or double what it carries, as `conditions` says at the moment of sending. Without
conditions a message is in the receiver's queue when `send` returns.
"""

from collections.abc import Callable, Collection, Sequence
from math import inf

import trio

from p2p.gossip_events import Verdict
from p2p.peer_id import PeerId
from p2p.topic_transport import TopicMessage
from p2p.topics import Topic

MAX_QUEUED = 4096
"""Messages that wait for one receiver; further ones are lost."""

Conditions = Callable[[PeerId, PeerId], Sequence[float]]
"""(from, to) -> after how many seconds each copy of a message arrives; no copies: it is lost."""


class MemoryNetwork:
    """Joins transports. With `conditions`, `run` must be running in a nursery: it carries what is on its way."""

    def __init__(self, conditions: Conditions | None = None) -> None:
        self.conditions = conditions
        self._members: dict[PeerId, MemoryTransport] = {}
        self._on_the_way: trio.MemorySendChannel[tuple[float, PeerId, TopicMessage]] | None = None

    def join(self, own_id: PeerId) -> "MemoryTransport":
        """A transport for `own_id`; one that had the name before is cut off, as after a restart."""
        transport = MemoryTransport(self, own_id)
        self._members[own_id] = transport
        return transport

    def leave(self, own_id: PeerId) -> None:
        self._members.pop(own_id, None)

    async def run(self) -> None:
        """Deliver delayed messages until cancelled."""
        self._on_the_way, arriving = trio.open_memory_channel[tuple[float, PeerId, TopicMessage]](inf)
        try:
            async with trio.open_nursery() as nursery:
                async for delay_s, peer, received in arriving:
                    nursery.start_soon(self._deliver_later, delay_s, peer, received)
        finally:
            self._on_the_way = None

    def carry(self, sender: PeerId, receiver: PeerId, topic: Topic, data: bytes) -> None:
        received = TopicMessage(sender, topic, data, None)
        if self.conditions is None:
            self._deliver(receiver, received)
            return
        for delay_s in self.conditions(sender, receiver):
            if delay_s <= 0 or self._on_the_way is None:
                self._deliver(receiver, received)
            else:
                self._on_the_way.send_nowait((delay_s, receiver, received))

    def has(self, transport: "MemoryTransport") -> bool:
        """Whether it is the one that goes by its name now."""
        return self._members.get(transport.own_id) is transport

    def others(self, own_id: PeerId) -> list[PeerId]:
        return [peer for peer in self._members if peer != own_id]

    async def _deliver_later(self, delay_s: float, peer: PeerId, received: TopicMessage) -> None:
        await trio.sleep(delay_s)
        self._deliver(peer, received)

    def _deliver(self, peer: PeerId, received: TopicMessage) -> None:
        member = self._members.get(peer)
        if member is not None:
            member.deliver(received)


class MemoryTransport:
    """One member's end; see `p2p.topic_transport`. Everything goes directly, so there is nothing to judge."""

    def __init__(self, network: MemoryNetwork, own_id: PeerId) -> None:
        self._network = network
        self.own_id = own_id
        self._queue, self._arrived = trio.open_memory_channel[TopicMessage](MAX_QUEUED)

    def broadcast(self, topic: Topic, data: bytes) -> None:
        for peer in self._network.others(self.own_id):
            self.send(peer, topic, data)

    def send(self, peer: PeerId, topic: Topic, data: bytes) -> None:
        if self._network.has(self):
            self._network.carry(self.own_id, peer, topic, data)

    def judge(self, message: TopicMessage, verdict: Verdict) -> None:
        """Nothing is passed on, and nobody keeps a score."""

    @property
    def peers(self) -> Collection[PeerId]:
        return self._network.others(self.own_id)

    async def receive(self) -> TopicMessage:
        return await self._arrived.receive()

    def receive_waiting(self, limit: int) -> list[TopicMessage]:
        found: list[TopicMessage] = []
        while len(found) < limit:
            try:
                found.append(self._arrived.receive_nowait())
            except trio.WouldBlock:
                break
        return found

    def deliver(self, received: TopicMessage) -> None:
        try:
            self._queue.send_nowait(received)
        except trio.WouldBlock:
            return  # its queue is full: lost, as the protocol says
