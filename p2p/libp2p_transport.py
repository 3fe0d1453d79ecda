"""The transport of a real network: the gossip router on libp2p streams, direct streams, large messages in parts.

What is broadcast goes by gossip. Votes go directly to every validator as well, or instead where that reaches everyone:
it is quicker, and gossip would take a vote that is repeated for a duplicate, which is why whatever is repeated goes
directly too. Messages over MAX_WHOLE_BYTES are announced by the hashes of their parts and fetched by who lacks them.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Final, assert_never

import trio

from p2p.envelopes import (
    MAX_FRAME_BYTES,
    MAX_WHOLE_BYTES,
    EnvelopeError,
    decode_direct,
    decode_envelope,
    encode_announced,
    encode_direct,
    encode_whole,
)
from p2p.gossip_events import Deliver, GossipOffence, GossipVersion, Output, Penalise, Send, Verdict, message_id_of
from p2p.gossip_wire import MAX_RPC_BYTES, GossipWireError, Rpc, decode_rpc, encode_rpc
from p2p.gossipsub import HEARTBEAT_MS, Router
from p2p.libp2p_host import Host
from p2p.part_exchange import Exchanges, FetchFailed, PartExchange
from p2p.parts import Announcement
from p2p.peer_id import PeerId
from p2p.peer_links import PeerLinks, StreamKind
from p2p.queues import Inbox
from p2p.reputation import Offence
from p2p.streams import Connection
from p2p.topic_transport import TopicMessage
from p2p.topics import Topic, TopicNames

DIRECT_PROTOCOL: Final = "/astralink/direct/1"
MAX_FETCHES: Final = 32
MAX_FETCHES_OF_A_PEER: Final = 2
"""Large messages on their way, by who announced them first; further announcements are passed over."""
MAX_FETCHED_ROOTS: Final = 256
"""Fetched messages that wait for a verdict; beyond, the oldest is not given to others."""
MAX_DIRECT_PEERS: Final = 32
"""As long as no more are connected, what goes directly goes to all of them; then to validators alone."""

Report = Callable[[PeerId, Offence | GossipOffence], None]
Validators = Callable[[], Collection[PeerId]]
"""The peers of all other validators, whether connected or not; empty where they are not known."""


@dataclass(slots=True, eq=False)
class _Fetch:
    announcer: PeerId
    is_over: trio.Event = field(default_factory=trio.Event)


class Libp2pTransport:
    """See the module's description, and p2p.topic_transport. `run` must run while it is used; who keeps connections
    says who has come and gone."""

    def __init__(
        self,
        host: Host,
        requests: Exchanges,
        names: TopicNames,
        *,
        report: Report,
        validators: Validators,
        chance: Random,
    ) -> None:
        self._report = report
        self._validators = validators
        self._names = names
        self._router = Router(chance)
        self._parts = PartExchange(requests, report)
        self._inbox = Inbox()
        self._fetching: dict[bytes, _Fetch] = {}
        """Large messages on their way, by their roots."""
        self._fetched: OrderedDict[bytes, bytes] = OrderedDict()
        """Gossip ids of large messages that wait for a verdict -> their roots."""
        self._routed: dict[PeerId, Connection] = {}
        """On which connection the router knows a peer."""
        self._nursery: trio.Nursery | None = None
        self._gossip = StreamKind(
            tuple(version.value for version in GossipVersion),
            MAX_RPC_BYTES,
            received=self._take_rpc,
            too_long=lambda peer: report(peer, GossipOffence.OVERSIZED_MESSAGE),
            flooded=lambda peer: report(peer, GossipOffence.MESSAGE_FLOOD),
            unread=lambda peer: report(peer, GossipOffence.NOT_READING),
            opened=self._gossip_opened,
            lost=self._gossip_lost,
        )
        self._direct = StreamKind(
            (DIRECT_PROTOCOL,),
            MAX_FRAME_BYTES,
            received=self._take_direct,
            too_long=lambda peer: report(peer, Offence.PROTOCOL_VIOLATION),
            flooded=lambda peer: report(peer, GossipOffence.MESSAGE_FLOOD),
            unread=lambda peer: report(peer, GossipOffence.NOT_READING),
        )
        self._links = PeerLinks(host, (self._gossip, self._direct))

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self._links.run)
            for topic in Topic:
                self._act(self._router.subscribe(self._names.name(topic)))
            nursery.start_soon(self._beat)
            task_status.started()

    # --- Who is there ----------------------------------------------------------------------------------------------

    def connected(self, connection: Connection) -> None:
        """The peer is welcome: talk to it."""
        self._links.connected(connection)

    def disconnected(self, connection: Connection) -> None:
        self._links.disconnected(connection)

    @property
    def peers(self) -> Collection[PeerId]:
        return self._links.peers

    @property
    def ready_peers(self) -> Collection[PeerId]:
        """With whom gossip flows in both directions: our stream is open, and the peer has said what it wants."""
        return self._router.subscribers(self._names.name(Topic.VOTE))

    def mesh(self, topic: Topic) -> Collection[PeerId]:
        """With whom the topic's messages are exchanged unasked."""
        return self._router.mesh(self._names.name(topic))

    def rename_topics(self, names: TopicNames) -> None:
        """The rules change: leave the topics of the old ones, and enter those of the new."""
        for topic in Topic:
            self._act(self._router.unsubscribe(self._names.name(topic), _now_ms()))
        self._names = names
        for topic in Topic:
            self._act(self._router.subscribe(names.name(topic)))

    # --- Out -----------------------------------------------------------------------------------------------------

    def broadcast(self, topic: Topic, data: bytes) -> None:
        envelope = self._envelope(data)
        name = self._names.name(topic)
        goes_directly = topic is Topic.VOTE or self._router.has_seen(message_id_of(name, envelope))
        receivers = self._direct_receivers() if goes_directly else []
        frame = encode_direct(topic, envelope)
        for peer in receivers:
            self._links.put(peer, self._direct, frame)
        if not self._reaches_everyone(receivers):
            self._act(self._router.publish(name, envelope, _now_ms()))

    def send(self, peer: PeerId, topic: Topic, data: bytes) -> None:
        if self._links.speaks(peer, self._direct):
            self._links.put(peer, self._direct, encode_direct(topic, self._envelope(data)))

    def _envelope(self, data: bytes) -> bytes:
        if len(data) <= MAX_WHOLE_BYTES:
            return encode_whole(data)
        return encode_announced(self._parts.offer(data))

    def _direct_receivers(self) -> list[PeerId]:
        peers = [peer for peer in self._links.peers if self._links.speaks(peer, self._direct)]
        if len(peers) <= MAX_DIRECT_PEERS:
            return peers
        validators = frozenset(self._validators())
        return [peer for peer in peers if peer in validators] or peers[:MAX_DIRECT_PEERS]

    def _reaches_everyone(self, receivers: Sequence[PeerId]) -> bool:
        """No peer is left out, and no validator that others would have to reach."""
        reached = frozenset(receivers)
        validators = self._validators()
        return bool(validators) and reached.issuperset(validators) and reached.issuperset(self._links.peers)

    # --- In ------------------------------------------------------------------------------------------------------

    async def receive(self) -> TopicMessage:
        return await self._inbox.get()

    def receive_waiting(self, limit: int) -> list[TopicMessage]:
        return self._inbox.get_waiting(limit)

    def judge(self, message: TopicMessage, verdict: Verdict) -> None:
        if message.gossip_id is None:
            if verdict is Verdict.REJECT:
                self._report(message.peer, GossipOffence.INVALID_MESSAGE)
            return
        root = self._fetched.pop(message.gossip_id, None)
        if root is not None and verdict is Verdict.ACCEPT:
            self._parts.offer_held(root)
        self._act(self._router.verdict(message.gossip_id, verdict))

    async def _take_rpc(self, peer: PeerId, frame: bytes) -> None:
        try:
            rpc = decode_rpc(frame)
        except GossipWireError:
            self._report(peer, Offence.PROTOCOL_VIOLATION)
            return
        self._act(self._router.rpc(peer, rpc, _now_ms()))

    async def _take_direct(self, peer: PeerId, frame: bytes) -> None:
        try:
            topic, content = decode_direct(frame)
        except EnvelopeError:
            self._report(peer, Offence.PROTOCOL_VIOLATION)
            return
        if isinstance(content, Announcement):
            self._start_fetch(peer, topic, content, None)
        else:
            await self._inbox.put(TopicMessage(peer, topic, content, None))

    def _take_gossip(self, peer: PeerId, name: str, envelope: bytes, gossip_id: bytes) -> None:
        """Whatever becomes of it, the router hears a verdict."""
        topic = self._names.topic(name)
        if topic is None:
            self._act(self._router.verdict(gossip_id, Verdict.IGNORE))
            return
        try:
            content = decode_envelope(envelope)
        except EnvelopeError:
            self._act(self._router.verdict(gossip_id, Verdict.REJECT))
            return
        if isinstance(content, Announcement):
            is_taken = self._start_fetch(peer, topic, content, gossip_id)
        else:
            is_taken = self._inbox.put_nowait(TopicMessage(peer, topic, content, gossip_id))
        if not is_taken:
            self._act(self._router.verdict(gossip_id, Verdict.IGNORE))

    # --- Large messages ------------------------------------------------------------------------------------------

    def _start_fetch(self, peer: PeerId, topic: Topic, announcement: Announcement, gossip_id: bytes | None) -> bool:
        """False: nothing will come of it."""
        assert self._nursery is not None, "streams are read only while `run` runs"
        root = announcement.root
        if root in self._fetching:
            # What was gossiped is to go on from here, so it comes once more under its id; a direct copy need not.
            if gossip_id is not None:
                self._nursery.start_soon(self._fetch_again, peer, topic, announcement, gossip_id)
            return gossip_id is not None
        of_peer = sum(fetch.announcer == peer for fetch in self._fetching.values())
        if len(self._fetching) >= MAX_FETCHES or of_peer >= MAX_FETCHES_OF_A_PEER:
            return False
        self._fetching[root] = _Fetch(peer)
        self._nursery.start_soon(self._fetch, peer, topic, announcement, gossip_id)
        return True

    async def _fetch(self, peer: PeerId, topic: Topic, announcement: Announcement, gossip_id: bytes | None) -> None:
        try:
            await self._fetch_and_deliver(peer, topic, announcement, gossip_id)
        finally:
            self._fetching.pop(announcement.root).is_over.set()

    async def _fetch_again(self, peer: PeerId, topic: Topic, announcement: Announcement, gossip_id: bytes) -> None:
        while (fetch := self._fetching.get(announcement.root)) is not None:
            await fetch.is_over.wait()
        await self._fetch_and_deliver(peer, topic, announcement, gossip_id)

    async def _fetch_and_deliver(
        self, peer: PeerId, topic: Topic, announcement: Announcement, gossip_id: bytes | None
    ) -> None:
        try:
            data = await self._parts.fetch(announcement, partial(self._announcers, peer, gossip_id))
        except FetchFailed:
            self._report(peer, GossipOffence.BROKEN_PROMISE)
            if gossip_id is not None:
                self._act(self._router.verdict(gossip_id, Verdict.IGNORE))
            return
        if gossip_id is not None:
            self._fetched[gossip_id] = announcement.root
            if len(self._fetched) > MAX_FETCHED_ROOTS:
                self._fetched.popitem(last=False)
        await self._inbox.put(TopicMessage(peer, topic, data, gossip_id))

    def _announcers(self, peer: PeerId, gossip_id: bytes | None) -> Sequence[PeerId]:
        """Who has the message: the first who said so, then the others."""
        others = () if gossip_id is None else self._router.senders_of(gossip_id)
        return [other for other in dict.fromkeys((peer, *others)) if other in self._links.peers]

    # --- The router ----------------------------------------------------------------------------------------------

    def _gossip_opened(self, connection: Connection, protocol: str) -> None:
        self._routed[connection.peer] = connection
        outputs = self._router.peer_connected(connection.peer, GossipVersion(protocol), is_outbound=connection.outbound)
        self._act(outputs)

    def _gossip_lost(self, connection: Connection) -> None:
        if self._routed.get(connection.peer) is connection:
            del self._routed[connection.peer]
            self._router.peer_disconnected(connection.peer)

    async def _beat(self) -> None:
        while True:
            await trio.sleep(HEARTBEAT_MS / 1000)
            self._act(self._router.heartbeat(_now_ms()))

    def _act(self, outputs: Sequence[Output]) -> None:
        last_rpc: Rpc | None = None
        encoded = b""
        for output in outputs:
            match output:
                case Send(peer, rpc):
                    if rpc is not last_rpc:  # one message to many peers is encoded once
                        last_rpc, encoded = rpc, encode_rpc(rpc)
                    self._links.put(peer, self._gossip, encoded)
                case Deliver(peer, name, data, message_id):
                    self._take_gossip(peer, name, data, message_id)
                case Penalise(peer, offence):
                    self._report(peer, offence)
                case _:
                    assert_never(output)


def _now_ms() -> int:
    return int(trio.current_time() * 1000)
