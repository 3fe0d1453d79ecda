"""Gossip routers joined by links that delay and lose, in simulated time: what the router's simulation tests run on.

Every RPC crosses a link as bytes, so the wire format is part of what is simulated. One seed decides everything.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random

from p2p.gossip_events import Deliver, GossipOffence, GossipVersion, Output, Penalise, Send, Verdict
from p2p.gossip_wire import Rpc, decode_rpc, encode_rpc
from p2p.gossipsub import HEARTBEAT_MS, Router
from p2p.peer_id import PeerId

Attack = Callable[["GossipNetwork", PeerId, int], None]
"""(network, own id, now_ms): what a malicious member does at each of its heartbeats."""


@dataclass(slots=True)
class Arrival:
    at_ms: int
    hops: int


@dataclass(slots=True)
class Member:
    router: Router
    version: GossipVersion
    arrivals: dict[bytes, Arrival] = field(default_factory=dict)
    """data -> when it was delivered, and over how many links it had come."""
    deliveries: Counter[bytes] = field(default_factory=Counter)
    offences: Counter[tuple[PeerId, GossipOffence]] = field(default_factory=Counter)
    largest: Counter[str] = field(default_factory=Counter)
    """The largest that each table has been."""


class GossipNetwork:
    def __init__(
        self, seed: int, *, latency_ms: tuple[int, int] = (5, 60), loss: float = 0.0, verdict_ms: int = 2
    ) -> None:
        self.chance = Random(seed)
        self.now_ms = 0
        self.members: dict[PeerId, Member] = {}
        self.attackers: dict[PeerId, Attack] = {}
        self.links: dict[PeerId, dict[PeerId, None]] = defaultdict(dict)
        self.sent_messages: Counter[bytes] = Counter()
        """data -> how often it crossed a link."""
        self.verdict_of: Callable[[bytes], Verdict] = lambda data: Verdict.ACCEPT
        self._latency_ms = latency_ms
        self._loss = loss
        self._verdict_ms = verdict_ms
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()

    # --- Building ------------------------------------------------------------------------------------------------

    def add(self, topic: str, *, version: GossipVersion = GossipVersion.V1_2) -> PeerId:
        peer = self._next_id()
        member = Member(Router(Random(self.chance.random())), version)
        self.members[peer] = member
        self.act(peer, member.router.subscribe(topic))
        self._later(self.chance.randrange(HEARTBEAT_MS), lambda: self._beat(peer))
        return peer

    def add_attacker(self, attack: Attack) -> PeerId:
        peer = self._next_id()
        self.attackers[peer] = attack
        self._later(self.chance.randrange(HEARTBEAT_MS), lambda: self._attack(peer))
        return peer

    def link(self, dialler: PeerId, listener: PeerId) -> None:
        if dialler == listener or listener in self.links[dialler]:
            return
        for own, other, is_outbound in ((dialler, listener, True), (listener, dialler, False)):
            self.links[own][other] = None
            if own in self.members:
                version = self.members[other].version if other in self.members else GossipVersion.V1_2
                self.act(own, self.members[own].router.peer_connected(other, version, is_outbound=is_outbound))

    def link_at_random(self, links_each: int) -> None:
        """Each dials a few others: a network in which few know all."""
        everyone = [*self.members, *self.attackers]
        for peer in everyone:
            for other in self.chance.sample(everyone, min(links_each, len(everyone))):
                self.link(peer, other)

    def cut(self, one: PeerId, other: PeerId) -> None:
        for own, lost in ((one, other), (other, one)):
            self.links[own].pop(lost, None)
            if own in self.members:
                self.members[own].router.peer_disconnected(lost)

    # --- Running -------------------------------------------------------------------------------------------------

    def run(self, until_ms: int) -> None:
        while self._events and self._events[0][0] <= until_ms:
            self.now_ms, _, action = heapq.heappop(self._events)
            action()
        self.now_ms = until_ms

    def publish(self, peer: PeerId, topic: str, data: bytes) -> None:
        member = self.members[peer]
        member.arrivals[data] = Arrival(self.now_ms, 0)
        self.act(peer, member.router.publish(topic, data, self.now_ms))

    def send(self, sender: PeerId, receiver: PeerId, rpc: Rpc) -> None:
        """Over the link between the two, if there is one that does not lose it."""
        for message in rpc.publish:
            self.sent_messages[message.data] += 1
        if receiver not in self.links[sender] or self.chance.random() < self._loss:
            return
        encoded = encode_rpc(rpc)
        hops = {
            message.data: self.members[sender].arrivals[message.data].hops
            for message in rpc.publish
            if sender in self.members and message.data in self.members[sender].arrivals
        }
        self._later(self.chance.randint(*self._latency_ms), lambda: self._arrive(sender, receiver, encoded, hops))

    def act(self, peer: PeerId, outputs: list[Output]) -> None:
        member = self.members[peer]
        for output in outputs:
            match output:
                case Send(receiver, rpc):
                    self.send(peer, receiver, rpc)
                case Deliver(_, _, data, message_id):
                    member.deliveries[data] += 1
                    self._later(self._verdict_ms, lambda data=data, id_=message_id: self._judge(peer, data, id_))
                case Penalise(culprit, offence):
                    member.offences[culprit, offence] += 1

    def reached(self, data: bytes) -> list[Arrival]:
        return [member.arrivals[data] for member in self.members.values() if data in member.arrivals]

    def _arrive(self, sender: PeerId, receiver: PeerId, encoded: bytes, hops: dict[bytes, int]) -> None:
        member = self.members.get(receiver)
        if member is None or receiver not in self.links[sender]:
            return
        rpc = decode_rpc(encoded)
        for message in rpc.publish:
            member.arrivals.setdefault(message.data, Arrival(self.now_ms, hops.get(message.data, 0) + 1))
        self.act(receiver, member.router.rpc(sender, rpc, self.now_ms))

    def _judge(self, peer: PeerId, data: bytes, message_id: bytes) -> None:
        self.act(peer, self.members[peer].router.verdict(message_id, self.verdict_of(data)))

    def _beat(self, peer: PeerId) -> None:
        member = self.members[peer]
        for table, size in member.router.table_sizes().items():
            member.largest[table] = max(member.largest[table], size)
        self.act(peer, self.members[peer].router.heartbeat(self.now_ms))
        self._later(HEARTBEAT_MS, lambda: self._beat(peer))

    def _attack(self, peer: PeerId) -> None:
        self.attackers[peer](self, peer, self.now_ms)
        self._later(HEARTBEAT_MS, lambda: self._attack(peer))

    def _later(self, delay_ms: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_ms + delay_ms, next(self._order), action))

    def _next_id(self) -> PeerId:
        return PeerId((len(self.members) + len(self.attackers)).to_bytes(4, "big"))
