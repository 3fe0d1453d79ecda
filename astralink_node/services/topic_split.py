"""Gives each service the topics it is for: one transport, one reader, a bounded inbox for each service.

A service that is slow loses its own messages, never another's; a peer that floods loses its own, never another peer's.
"""

from collections.abc import Collection

from p2p.gossip_events import Verdict
from p2p.peer_id import PeerId
from p2p.queues import Inbox
from p2p.topic_transport import TopicMessage, TopicTransport
from p2p.topics import Topic


class TopicSplit:
    """See the module's description. `run` must be running for anything to arrive."""

    def __init__(self, transport: TopicTransport) -> None:
        self._transport = transport
        self._inboxes: dict[Topic, Inbox] = {}

    def share(self, *topics: Topic) -> "TopicShare":
        """A transport of these topics alone. Each topic is shared out once, before `run`."""
        inbox = Inbox()
        for topic in topics:
            if topic in self._inboxes:
                raise ValueError(f"the topic {topic.short_name} is shared out already")
        self._inboxes |= dict.fromkeys(topics, inbox)
        return TopicShare(self._transport, inbox)

    async def run(self) -> None:
        """Until cancelled. What is for nobody, or finds its inbox full, is passed over."""
        while True:
            message = await self._transport.receive()
            inbox = self._inboxes.get(message.topic)
            if inbox is None or not inbox.put_nowait(message):
                self._transport.judge(message, Verdict.IGNORE)


class TopicShare:
    """One service's end; see `p2p.topic_transport`."""

    def __init__(self, transport: TopicTransport, inbox: Inbox) -> None:
        self._transport = transport
        self._inbox = inbox

    def broadcast(self, topic: Topic, data: bytes) -> None:
        self._transport.broadcast(topic, data)

    def send(self, peer: PeerId, topic: Topic, data: bytes) -> None:
        self._transport.send(peer, topic, data)

    def judge(self, message: TopicMessage, verdict: Verdict) -> None:
        self._transport.judge(message, verdict)

    @property
    def peers(self) -> Collection[PeerId]:
        return self._transport.peers

    async def receive(self) -> TopicMessage:
        return await self._inbox.get()

    def receive_waiting(self, limit: int) -> list[TopicMessage]:
        return self._inbox.get_waiting(limit)
