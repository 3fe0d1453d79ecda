"""A gossipsub router without I/O: what happens goes in with its time, what is to be done comes out.

It follows gossipsub 1.1 and 1.2 (libp2p/specs, pubsub/gossipsub) with anonymous messages (StrictNoSign), so that
other implementations cannot tell it from their own. It deviates where the specification leaves the choice: own
messages are flooded only while they are small; peer exchange is neither offered nor taken; there is no opportunistic
grafting; and a peer's score is not kept here: each offence is an output, and whoever is too bad gets disconnected.
A message waits for the application's verdict before it goes on, and is delivered once however many send it.

Chance comes from the `random.Random` that is passed in, and no set is iterated, so a run repeats itself from a seed.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final, TypeVar, assert_never

from p2p.gossip_events import (
    MESSAGE_ID_BYTES,
    Deliver,
    GossipOffence,
    GossipVersion,
    Output,
    Penalise,
    Send,
    Verdict,
    message_id_of,
)
from p2p.gossip_memory import Backoffs, MessageCache, Promises, SeenMessages, WaitingMessages
from p2p.gossip_wire import GossipMessage, IHave, Prune, Rpc, Subscription
from p2p.peer_id import PeerId

# The mesh of a topic: how many peers it aims at, below and above which it is mended, how many of them we dialled
# (so that inbound connections alone cannot surround a node), and how many others hear what messages there are.
D: Final = 6
D_LOW: Final = 4
D_HIGH: Final = 12
D_OUT: Final = 2
D_LAZY: Final = 6
LAZY_SHARE: Final = 4
"""Gossip goes to every fourth of the peers outside the mesh, if that is more than D_LAZY."""

HEARTBEAT_MS: Final = 1_000
BACKOFF_S: Final = 60
LEAVE_BACKOFF_S: Final = 10
MAX_BACKOFF_S: Final = 3_600
"""What a peer can impose; a longer one is taken as this."""
FANOUT_TTL_MS: Final = 60_000

MAX_DATA_BYTES: Final = 1_000_000
"""Of one message: with its topic it fits an RPC. What is larger does not go by gossip."""
FLOOD_MAX_BYTES: Final = 16_384
"""Own messages up to this size go to every peer of the topic, larger ones to the mesh."""
IDONTWANT_MIN_BYTES: Final = 4_096
"""For a smaller message its announcement would cost more than a duplicate does."""
IDONTWANT_TTL_MS: Final = 40_000
"""Longer than a message waits and is cached."""

MAX_PEERS: Final = 256
"""Further ones are not taken into the router; the host accepts fewer."""
MAX_TOPICS_OF_A_PEER: Final = 32
"""Further subscriptions of it are passed over, and count against it."""
MAX_OWN_TOPICS: Final = 32
MAX_FANOUT_TOPICS: Final = 32
"""Beyond it the topic that was published to longest ago loses its chosen peers; it gets others next time."""
MAX_UNWANTED_OF_A_PEER: Final = 2_048
"""Ids in IDONTWANT; beyond it the oldest is forgotten."""
MAX_IHAVE_RPCS: Final = 10
MAX_ASKED_IDS: Final = 5_000
MAX_SERVED_BYTES: Final = 4 << 20
MAX_IDONTWANT_IDS: Final = 1_024
"""Of one peer between two heartbeats; what is beyond is passed over."""
MAX_TIMES_SERVED: Final = 3
"""How often one message is sent to one peer that asks for it."""


_Item = TypeVar("_Item")


@dataclass(slots=True)
class _Peer:
    version: GossipVersion
    is_outbound: bool
    topics: dict[str, None] = field(default_factory=dict)
    unwanted: OrderedDict[bytes, int] = field(default_factory=OrderedDict)
    """Ids that it said not to send -> until when that holds."""
    # Since the last heartbeat:
    ihave_rpcs: int = 0
    asked_ids: int = 0
    served_bytes: int = 0
    unwanted_ids: int = 0
    noticed: dict[GossipOffence, None] = field(default_factory=dict)
    """Floods that it has been penalised for."""


@dataclass(slots=True)
class _Fanout:
    peers: dict[PeerId, None]
    published_ms: int


@dataclass(slots=True)
class _Control:
    """What one peer is told at a heartbeat."""

    ihave: list[IHave] = field(default_factory=list)
    graft: list[str] = field(default_factory=list)
    prune: list[Prune] = field(default_factory=list)


class Router:
    """See the module's description. Every input returns what is to be done, in order."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._peers: dict[PeerId, _Peer] = {}
        self._mesh: dict[str, dict[PeerId, None]] = {}
        """Of every topic that we are subscribed to."""
        self._fanout: OrderedDict[str, _Fanout] = OrderedDict()
        """Peers for large own messages in topics that we are not subscribed to."""
        self._seen = SeenMessages()
        self._waiting = WaitingMessages()
        self._cache = MessageCache()
        self._promises = Promises()
        self._backoffs = Backoffs()

    # --- Inputs --------------------------------------------------------------------------------------------------

    def subscribe(self, topic: str) -> list[Output]:
        """Take part in a topic; its mesh forms at the next heartbeat."""
        if topic in self._mesh:
            return []
        if len(self._mesh) >= MAX_OWN_TOPICS:
            raise ValueError(f"topics: expected at most {MAX_OWN_TOPICS}, found another")
        fanout = self._fanout.pop(topic, None)
        self._mesh[topic] = {}
        outputs: list[Output] = [self._announce(peer, topic, subscribes=True) for peer in self._peers]
        for peer in fanout.peers if fanout is not None else ():
            self._mesh[topic][peer] = None
            outputs.append(Send(peer, Rpc(graft=(topic,))))
        return outputs

    def unsubscribe(self, topic: str, now_ms: int) -> list[Output]:
        mesh = self._mesh.pop(topic, None)
        if mesh is None:
            return []
        outputs: list[Output] = []
        for peer in mesh:
            self._backoffs.extend(topic, peer, now_ms + LEAVE_BACKOFF_S * 1000)
            outputs.append(Send(peer, Rpc(prune=(Prune(topic, LEAVE_BACKOFF_S),))))
        return outputs + [self._announce(peer, topic, subscribes=False) for peer in self._peers]

    def peer_connected(self, peer: PeerId, version: GossipVersion, *, is_outbound: bool) -> list[Output]:
        """A stream to the peer is open. One that is known already starts anew."""
        self.peer_disconnected(peer)
        if len(self._peers) >= MAX_PEERS:
            return []
        self._peers[peer] = _Peer(version, is_outbound)
        if not self._mesh:
            return []
        subscriptions = tuple(Subscription(topic, subscribes=True) for topic in self._mesh)
        return [Send(peer, Rpc(subscriptions=subscriptions))]

    def peer_disconnected(self, peer: PeerId) -> None:
        if self._peers.pop(peer, None) is None:
            return
        for mesh in self._mesh.values():
            mesh.pop(peer, None)
        for fanout in self._fanout.values():
            fanout.peers.pop(peer, None)
        self._promises.forget_peer(peer)

    def rpc(self, peer: PeerId, rpc: Rpc, now_ms: int) -> list[Output]:
        """What a peer says; nothing of a peer that is not connected."""
        sender = self._peers.get(peer)
        if sender is None:
            return []
        outputs: list[Output] = []
        self._take_unwanted(sender, rpc.idontwant, now_ms)
        for subscription in rpc.subscriptions:
            outputs += self._take_subscription(peer, sender, subscription)
        for message in rpc.publish:
            outputs += self._take_message(peer, message, now_ms)
        self._take_prunes(peer, rpc.prune, now_ms)
        outputs += self._take_grafts(peer, sender, rpc.graft, now_ms)
        outputs += self._take_ihave(peer, sender, rpc.ihave, now_ms)
        outputs += self._serve(peer, sender, rpc.iwant)
        return outputs

    def publish(self, topic: str, data: bytes, now_ms: int) -> list[Output]:
        """Send an own message. One that is repeated is sent again: who has it drops it, who missed it does not."""
        if len(data) > MAX_DATA_BYTES:
            raise ValueError(f"message: expected at most {MAX_DATA_BYTES} bytes, found {len(data)}")
        message_id = message_id_of(topic, data)
        waiting = self._waiting.take(message_id)
        self._seen.add(message_id, now_ms)
        self._promises.fulfil(message_id)
        self._cache.put(message_id, topic, data, waiting.senders if waiting is not None else ())
        return self._forward(message_id, topic, data, self._own_receivers(topic, len(data), now_ms))

    def verdict(self, message_id: bytes, verdict: Verdict) -> list[Output]:
        """The application's word on a delivered message; one that comes too late changes nothing."""
        waiting = self._waiting.take(message_id)
        if waiting is None:
            return []
        match verdict:
            case Verdict.ACCEPT:
                self._cache.put(message_id, waiting.topic, waiting.data, waiting.senders)
                return self._forward(message_id, waiting.topic, waiting.data, self._mesh.get(waiting.topic, {}))
            case Verdict.IGNORE:
                return []
            case Verdict.REJECT:
                self._seen.mark_invalid(message_id)
                return [Penalise(peer, GossipOffence.INVALID_MESSAGE) for peer in waiting.senders]
            case _:
                assert_never(verdict)

    def heartbeat(self, now_ms: int) -> list[Output]:
        """Mend the meshes, gossip, forget. To be called every HEARTBEAT_MS."""
        outputs: list[Output] = []
        for broken in self._promises.take_broken(now_ms):
            outputs.append(Penalise(broken, GossipOffence.BROKEN_PROMISE))
        controls: dict[PeerId, _Control] = {}
        for topic, mesh in self._mesh.items():
            self._mend(topic, mesh, controls, now_ms)
            self._gossip(topic, mesh, controls)
        self._keep_fanouts(controls, now_ms)
        for peer, control in controls.items():
            outputs.append(
                Send(peer, Rpc(ihave=tuple(control.ihave), graft=tuple(control.graft), prune=tuple(control.prune)))
            )
        self._forget(now_ms)
        return outputs

    # --- What peers say ------------------------------------------------------------------------------------------

    def _take_subscription(self, peer: PeerId, sender: _Peer, subscription: Subscription) -> list[Output]:
        topic = subscription.topic
        if not subscription.subscribes:
            sender.topics.pop(topic, None)
            self._mesh.get(topic, {}).pop(peer, None)
            if topic in self._fanout:
                self._fanout[topic].peers.pop(peer, None)
        elif topic in sender.topics or len(sender.topics) < MAX_TOPICS_OF_A_PEER:
            sender.topics[topic] = None
        else:
            return _notice(peer, sender, GossipOffence.TOPIC_FLOOD)
        return []

    def _take_message(self, peer: PeerId, message: GossipMessage, now_ms: int) -> list[Output]:
        if message.is_authored:
            return [Penalise(peer, GossipOffence.AUTHORED_MESSAGE)]
        topic, data = message.topic, message.data
        if topic not in self._mesh:
            return [Penalise(peer, GossipOffence.UNWANTED_TOPIC)]
        if len(data) > MAX_DATA_BYTES:
            return [Penalise(peer, GossipOffence.OVERSIZED_MESSAGE)]
        message_id = message_id_of(topic, data)
        self._promises.fulfil(message_id)
        waiting = self._waiting.get(message_id)
        if waiting is not None:
            waiting.senders[peer] = None
            return []
        if message_id in self._seen:
            cached = self._cache.get(message_id)
            if cached is not None:
                cached.senders[peer] = None
            is_invalid = self._seen.is_invalid(message_id)
            return [Penalise(peer, GossipOffence.INVALID_MESSAGE)] if is_invalid else []
        if not self._waiting.add(message_id, topic, data, peer, now_ms):
            return []
        self._seen.add(message_id, now_ms)
        outputs: list[Output] = [Deliver(peer, topic, data, message_id)]
        if len(data) >= IDONTWANT_MIN_BYTES:
            outputs += [
                Send(other, Rpc(idontwant=(message_id,)))
                for other in self._mesh[topic]
                if other != peer and self._peers[other].version is GossipVersion.V1_2
            ]
        return outputs

    def _take_unwanted(self, sender: _Peer, message_ids: Iterable[bytes], now_ms: int) -> None:
        for message_id in message_ids:
            if sender.unwanted_ids >= MAX_IDONTWANT_IDS:
                return
            sender.unwanted_ids += 1
            sender.unwanted[message_id] = now_ms + IDONTWANT_TTL_MS
            sender.unwanted.move_to_end(message_id)
            if len(sender.unwanted) > MAX_UNWANTED_OF_A_PEER:
                sender.unwanted.popitem(last=False)

    def _take_ihave(self, peer: PeerId, sender: _Peer, entries: tuple[IHave, ...], now_ms: int) -> list[Output]:
        if not entries:
            return []
        sender.ihave_rpcs += 1
        if sender.ihave_rpcs > MAX_IHAVE_RPCS:
            return _notice(peer, sender, GossipOffence.IHAVE_FLOOD)
        unknown: dict[bytes, None] = {}
        for entry in entries:
            if entry.topic in self._mesh:
                for message_id in entry.message_ids:
                    if len(message_id) == MESSAGE_ID_BYTES and message_id not in self._seen:
                        unknown[message_id] = None
        asked = self._pick(list(unknown), MAX_ASKED_IDS - sender.asked_ids)
        if not asked:
            return []
        sender.asked_ids += len(asked)
        # One promise stands for all that are asked for: a peer that lies about many is caught by any of them.
        self._promises.add(peer, asked[0], now_ms)
        return [Send(peer, Rpc(iwant=tuple(asked)))]

    def _serve(self, peer: PeerId, sender: _Peer, message_ids: tuple[bytes, ...]) -> list[Output]:
        outputs: list[Output] = []
        for message_id in dict.fromkeys(message_ids):
            cached = self._cache.get(message_id)
            if cached is None or peer in cached.senders or message_id in sender.unwanted:
                continue
            times = cached.times_served.get(peer, 0)
            if times >= MAX_TIMES_SERVED:
                outputs += _notice(peer, sender, GossipOffence.IWANT_FLOOD)
                continue
            if sender.served_bytes + len(cached.data) > MAX_SERVED_BYTES:
                continue
            sender.served_bytes += len(cached.data)
            cached.times_served[peer] = times + 1
            outputs.append(Send(peer, Rpc(publish=(GossipMessage(cached.topic, cached.data),))))
        return outputs

    def _take_grafts(self, peer: PeerId, sender: _Peer, topics: tuple[str, ...], now_ms: int) -> list[Output]:
        penalties: list[Output] = []
        refused: list[Prune] = []
        for topic in dict.fromkeys(topics):
            mesh = self._mesh.get(topic)
            # Grafts for unknown topics are passed over: an answer would tell what we know, and could be farmed.
            if mesh is None or peer in mesh:
                continue
            backoff_ms = self._backoffs.until_ms(topic, peer)
            is_early = backoff_ms is not None and now_ms < backoff_ms
            if is_early:
                penalties.append(Penalise(peer, GossipOffence.GRAFT_IN_BACKOFF))
            if is_early or topic not in sender.topics or (len(mesh) >= D_HIGH and not sender.is_outbound):
                self._backoffs.extend(topic, peer, now_ms + BACKOFF_S * 1000)
                refused.append(Prune(topic, BACKOFF_S))
            else:
                mesh[peer] = None
        return [*penalties, Send(peer, Rpc(prune=tuple(refused)))] if refused else penalties

    def _take_prunes(self, peer: PeerId, prunes: tuple[Prune, ...], now_ms: int) -> None:
        for prune in prunes:
            mesh = self._mesh.get(prune.topic)
            if mesh is not None:
                mesh.pop(peer, None)
                backoff_s = BACKOFF_S if prune.backoff_s is None else min(prune.backoff_s, MAX_BACKOFF_S)
                self._backoffs.extend(prune.topic, peer, now_ms + backoff_s * 1000)

    # --- Sending on ----------------------------------------------------------------------------------------------

    def _forward(self, message_id: bytes, topic: str, data: bytes, receivers: Iterable[PeerId]) -> list[Output]:
        """To those of the receivers that are not known to have the message."""
        cached = self._cache.get(message_id)
        senders = cached.senders if cached is not None else {}
        rpc = Rpc(publish=(GossipMessage(topic, data),))
        return [
            Send(peer, rpc)
            for peer in receivers
            if peer not in senders and message_id not in self._peers[peer].unwanted
        ]

    def _own_receivers(self, topic: str, size: int, now_ms: int) -> list[PeerId]:
        subscribed = self.subscribers(topic)
        if size <= FLOOD_MAX_BYTES:
            return subscribed
        if topic in self._mesh:
            chosen = self._mesh[topic]
        else:
            fanout = self._fanout.setdefault(topic, _Fanout({}, now_ms))
            fanout.published_ms = now_ms
            self._fanout.move_to_end(topic)
            if len(self._fanout) > MAX_FANOUT_TOPICS:
                self._fanout.popitem(last=False)
            self._fill(fanout.peers, topic)
            chosen = fanout.peers
        others = [peer for peer in subscribed if peer not in chosen]
        return [*chosen, *self._pick(others, D - len(chosen))]

    # --- Heartbeat -----------------------------------------------------------------------------------------------

    def _mend(self, topic: str, mesh: dict[PeerId, None], controls: dict[PeerId, _Control], now_ms: int) -> None:
        if len(mesh) > D_HIGH:
            self._shrink(topic, mesh, controls, now_ms)
        candidates = [
            peer for peer in self.subscribers(topic) if peer not in mesh and self._is_free(topic, peer, now_ms)
        ]
        grafted = self._pick(candidates, D - len(mesh)) if len(mesh) < D_LOW else []
        outbound = sum(self._peers[peer].is_outbound for peer in (*mesh, *grafted))
        rest = [peer for peer in candidates if peer not in grafted and self._peers[peer].is_outbound]
        for peer in (*grafted, *self._pick(rest, D_OUT - outbound)):
            mesh[peer] = None
            controls.setdefault(peer, _Control()).graft.append(topic)

    def _shrink(self, topic: str, mesh: dict[PeerId, None], controls: dict[PeerId, _Control], now_ms: int) -> None:
        """Down to D peers by chance, among them D_OUT that we dialled if there are so many."""
        outbound = [peer for peer in mesh if self._peers[peer].is_outbound]
        kept = self._pick(outbound, D_OUT)
        kept += self._pick([peer for peer in mesh if peer not in kept], D - len(kept))
        for peer in [peer for peer in mesh if peer not in kept]:
            del mesh[peer]
            self._backoffs.extend(topic, peer, now_ms + BACKOFF_S * 1000)
            controls.setdefault(peer, _Control()).prune.append(Prune(topic, BACKOFF_S))

    def _gossip(self, topic: str, eager: dict[PeerId, None], controls: dict[PeerId, _Control]) -> None:
        """Tell some of those who do not get the topic's messages unasked which there are."""
        message_ids = tuple(self._cache.to_gossip(topic))
        if message_ids:
            others = [peer for peer in self.subscribers(topic) if peer not in eager]
            for peer in self._pick(others, max(D_LAZY, len(others) // LAZY_SHARE)):
                controls.setdefault(peer, _Control()).ihave.append(IHave(topic, message_ids))

    def _keep_fanouts(self, controls: dict[PeerId, _Control], now_ms: int) -> None:
        for topic, fanout in list(self._fanout.items()):
            if fanout.published_ms + FANOUT_TTL_MS <= now_ms:
                del self._fanout[topic]
            else:
                self._fill(fanout.peers, topic)
                self._gossip(topic, fanout.peers, controls)

    def _forget(self, now_ms: int) -> None:
        self._seen.forget_old(now_ms)
        self._waiting.forget_old(now_ms)
        # A peer's clock may run slower: it is grafted again only a heartbeat after its backoff ended here.
        self._backoffs.forget_old(now_ms - HEARTBEAT_MS)
        self._cache.shift()
        for peer in self._peers.values():
            peer.ihave_rpcs = peer.asked_ids = peer.served_bytes = peer.unwanted_ids = 0
            peer.noticed.clear()
            while peer.unwanted and next(iter(peer.unwanted.values())) <= now_ms:
                peer.unwanted.popitem(last=False)

    # --- Choosing ------------------------------------------------------------------------------------------------

    def _is_free(self, topic: str, peer: PeerId, now_ms: int) -> bool:
        until_ms = self._backoffs.until_ms(topic, peer)
        return until_ms is None or now_ms >= until_ms + HEARTBEAT_MS

    def _fill(self, chosen: dict[PeerId, None], topic: str) -> None:
        others = [peer for peer in self.subscribers(topic) if peer not in chosen]
        chosen.update(dict.fromkeys(self._pick(others, D - len(chosen))))

    def _pick(self, candidates: list[_Item], count: int) -> list[_Item]:
        return self._chance.sample(candidates, max(0, min(count, len(candidates))))

    def _announce(self, peer: PeerId, topic: str, *, subscribes: bool) -> Send:
        return Send(peer, Rpc(subscriptions=(Subscription(topic, subscribes),)))

    # --- For whoever watches ---------------------------------------------------------------------------------------

    def subscribers(self, topic: str) -> list[PeerId]:
        """Connected peers that are subscribed to the topic."""
        return [peer for peer, known in self._peers.items() if topic in known.topics]

    def mesh(self, topic: str) -> tuple[PeerId, ...]:
        return tuple(self._mesh.get(topic, ()))

    def has_seen(self, message_id: bytes) -> bool:
        """It came, or was published, in the last two minutes."""
        return message_id in self._seen

    def senders_of(self, message_id: bytes) -> tuple[PeerId, ...]:
        """Of a message that waits for its verdict: everyone who has sent it so far, in order."""
        waiting = self._waiting.get(message_id)
        return () if waiting is None else tuple(waiting.senders)

    def table_sizes(self) -> dict[str, int]:
        """How full each table is, for metrics and for tests of the bounds."""
        peers = self._peers.values()
        return {
            "peers": len(self._peers),
            "topics": len(self._mesh),
            "fanouts": len(self._fanout),
            "seen": len(self._seen),
            "waiting": len(self._waiting),
            "waiting_bytes": self._waiting.total_bytes,
            "cached": len(self._cache),
            "cached_bytes": self._cache.total_bytes,
            "promises": len(self._promises),
            "backoffs": len(self._backoffs),
            "topics_of_a_peer": max((len(peer.topics) for peer in peers), default=0),
            "unwanted_of_a_peer": max((len(peer.unwanted) for peer in peers), default=0),
        }


def _notice(peer: PeerId, sender: _Peer, offence: GossipOffence) -> list[Output]:
    """Penalise a flood once a heartbeat, however long it is."""
    if offence in sender.noticed:
        return []
    sender.noticed[offence] = None
    return [Penalise(peer, offence)]
