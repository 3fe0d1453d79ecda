"""The gossip router against whatever peers say and the application does, in any order: what never happens."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from p2p import gossip_memory, gossipsub
from p2p.gossip_events import Deliver, GossipVersion, Output, Penalise, Send, Verdict, message_id_of
from p2p.gossip_wire import GossipMessage, IHave, Prune, Rpc, Subscription
from p2p.gossipsub import HEARTBEAT_MS, Router
from p2p.peer_id import PeerId

PEERS = [PeerId(bytes([number])) for number in range(4)]
TOPICS = ["a", "b"]
LARGE_BYTES = 100
"""From here on the machine's router takes messages for large."""
DATA = [b"small 1", b"small 2", b"L" * LARGE_BYTES]

BOUNDS = {
    "peers": gossipsub.MAX_PEERS,
    "topics": gossipsub.MAX_OWN_TOPICS,
    "fanouts": gossipsub.MAX_FANOUT_TOPICS,
    "seen": gossip_memory.MAX_SEEN,
    "waiting": gossip_memory.MAX_WAITING,
    "waiting_bytes": gossip_memory.MAX_WAITING_BYTES,
    "cached": gossip_memory.MAX_CACHED,
    "cached_bytes": gossip_memory.MAX_CACHED_BYTES,
    "promises": gossip_memory.MAX_PROMISES,
    "backoffs": gossip_memory.MAX_BACKOFFS,
    "topics_of_a_peer": gossipsub.MAX_TOPICS_OF_A_PEER,
    "unwanted_of_a_peer": gossipsub.MAX_UNWANTED_OF_A_PEER,
}

peers = st.sampled_from(PEERS)
topics = st.sampled_from(TOPICS)
ids = st.lists(st.builds(message_id_of, topics, st.sampled_from(DATA)), max_size=4).map(tuple)
messages = st.lists(st.builds(GossipMessage, topics, st.sampled_from(DATA)), min_size=1, max_size=3).map(tuple)
rpcs = st.builds(Rpc, publish=messages) | st.builds(
    Rpc,
    subscriptions=st.lists(st.builds(Subscription, topics, st.booleans()), max_size=2).map(tuple),
    publish=st.just(()) | messages,
    ihave=st.lists(st.builds(IHave, topics, ids), max_size=2).map(tuple),
    iwant=ids,
    graft=st.lists(topics, max_size=2).map(tuple),
    prune=st.lists(st.builds(Prune, topics, st.none() | st.integers(0, 2**64 - 1)), max_size=1).map(tuple),
    idontwant=ids,
)


class AnyPeersAnyApplication(RuleBasedStateMachine):
    """A model of who has, or declined, which message stands beside the router; the outputs are held against it."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(gossipsub, "FLOOD_MAX_BYTES", LARGE_BYTES - 1)
        self.patch.setattr(gossipsub, "IDONTWANT_MIN_BYTES", LARGE_BYTES)
        self.router = Router(Random(0))
        self.now_ms = 0
        self.connected: dict[PeerId, set[bytes]] = {}
        """peer -> ids that it declined on this connection."""
        self.subscribed: set[str] = set()
        self.senders: dict[bytes, set[PeerId]] = {}
        """id -> who sent the message, as long as the router keeps it."""
        self.waiting: dict[bytes, None] = {}
        self.accepted: set[bytes] = set()
        self.published: set[bytes] = set()
        self.beats = 0
        self.kept_until: dict[bytes, int] = {}
        """id -> the heartbeat at which the message leaves the cache."""

    @initialize()
    def form_a_mesh(self) -> None:
        """Where most begins; the rules take it apart again."""
        for topic in TOPICS:
            self.subscribe(topic)
        for peer in PEERS:
            self.connect(peer, GossipVersion.V1_2, is_outbound=False)
            subscriptions = tuple(Subscription(topic, subscribes=True) for topic in TOPICS)
            self.hear(peer, Rpc(subscriptions, graft=tuple(TOPICS)))

    def teardown(self) -> None:
        self.patch.undo()

    def take(self, outputs: list[Output], *, new_from: PeerId | None = None) -> None:
        for output in outputs:
            match output:
                case Send(peer, rpc):
                    assert peer in self.connected, "nothing goes to a peer that is not there"
                    assert rpc != Rpc(), "nothing empty goes out"
                    for message in rpc.publish:
                        message_id = message_id_of(message.topic, message.data)
                        assert message_id in self.accepted | self.published, "nothing goes out without a verdict"
                        assert message_id not in self.connected[peer], "nothing that the peer declined"
                        assert peer not in self.senders.get(message_id, set()), "nothing back to who sent it"
                    assert set(rpc.graft) <= self.subscribed
                case Deliver(peer, topic, data, message_id):
                    assert peer == new_from
                    assert topic in self.subscribed
                    assert message_id == message_id_of(topic, data)
                    assert message_id not in self.waiting, "nothing is delivered twice"
                    assert message_id not in self.accepted | self.published
                    self.waiting[message_id] = None
                case Penalise(peer, _):
                    assert peer in PEERS

    @rule(topic=topics)
    def subscribe(self, topic: str) -> None:
        self.subscribed.add(topic)
        self.take(self.router.subscribe(topic))

    @rule(topic=topics)
    def unsubscribe(self, topic: str) -> None:
        self.take(self.router.unsubscribe(topic, self.now_ms))
        self.subscribed.discard(topic)

    @rule(peer=peers, version=st.sampled_from(GossipVersion), is_outbound=st.booleans())
    def connect(self, peer: PeerId, version: GossipVersion, *, is_outbound: bool) -> None:
        self.connected[peer] = set()
        self.take(self.router.peer_connected(peer, version, is_outbound=is_outbound))

    @rule(peer=peers)
    def disconnect(self, peer: PeerId) -> None:
        self.connected.pop(peer, None)
        self.router.peer_disconnected(peer)

    @rule(peer=peers, rpc=rpcs)
    def hear(self, peer: PeerId, rpc: Rpc) -> None:
        if peer in self.connected:
            self.connected[peer] |= set(rpc.idontwant)
            for message in rpc.publish:
                message_id = message_id_of(message.topic, message.data)
                is_gone = self.kept_until.get(message_id, self.beats + 1) <= self.beats
                if message.topic in self.subscribed and not is_gone:
                    self.senders.setdefault(message_id, set()).add(peer)
        self.take(self.router.rpc(peer, rpc, self.now_ms), new_from=peer)

    @rule(topic=topics, data=st.sampled_from(DATA))
    def publish(self, topic: str, data: bytes) -> None:
        message_id = message_id_of(topic, data)
        self.published.add(message_id)
        self.waiting.pop(message_id, None)
        self.keep(message_id)
        self.take(self.router.publish(topic, data, self.now_ms))

    @precondition(lambda self: self.waiting)
    @rule(choice=st.data(), verdict=st.sampled_from(Verdict))
    def judge(self, choice: st.DataObject, verdict: Verdict) -> None:
        message_id = choice.draw(st.sampled_from(list(self.waiting)))
        del self.waiting[message_id]
        if verdict is Verdict.ACCEPT:
            self.accepted.add(message_id)
            self.keep(message_id)
        else:
            self.kept_until[message_id] = self.beats
            self.senders.pop(message_id)
        self.take(self.router.verdict(message_id, verdict))

    @rule(after_ms=st.integers(0, 2 * HEARTBEAT_MS))
    def heartbeat(self, after_ms: int) -> None:
        # Below the time for which the router remembers what it has seen: this model forgets nothing.
        self.now_ms = min(self.now_ms + after_ms, gossip_memory.WAITING_TTL_MS - 1)
        self.take(self.router.heartbeat(self.now_ms))
        self.beats += 1
        for message_id in [message_id for message_id, beat in self.kept_until.items() if beat <= self.beats]:
            self.senders.pop(message_id, None)

    def keep(self, message_id: bytes) -> None:
        """As the cache does: until it leaves, however often it is put in again."""
        if self.kept_until.get(message_id, 0) <= self.beats:
            self.kept_until[message_id] = self.beats + gossip_memory.HISTORY_WINDOWS

    @invariant()
    def meshes_hold_only_peers_that_are_there(self) -> None:
        for topic in TOPICS:
            assert set(self.router.mesh(topic)) <= self.connected.keys()
            assert topic in self.subscribed or self.router.mesh(topic) == ()

    @invariant()
    def tables_keep_their_bounds(self) -> None:
        assert {table: size for table, size in self.router.table_sizes().items() if size > BOUNDS[table]} == {}


TestAnyPeersAnyApplication = AnyPeersAnyApplication.TestCase
TestAnyPeersAnyApplication.settings = settings(max_examples=100, stateful_step_count=40)


# --- Growth --------------------------------------------------------------------------------------------------------


SMALL_BOUNDS = {
    (gossip_memory, "MAX_SEEN"): 64,
    (gossip_memory, "MAX_WAITING"): 24,
    (gossip_memory, "MAX_WAITING_BYTES"): 100_000,
    (gossip_memory, "MAX_WAITING_OF_A_PEER"): 8,
    (gossip_memory, "MAX_WAITING_BYTES_OF_A_PEER"): 50_000,
    (gossip_memory, "MAX_CACHED"): 16,
    (gossip_memory, "MAX_CACHED_BYTES"): 200_000,
    (gossip_memory, "MAX_PROMISES"): 16,
    (gossip_memory, "MAX_BACKOFFS"): 16,
    (gossipsub, "MAX_PEERS"): 10,
    (gossipsub, "MAX_OWN_TOPICS"): 3,
    (gossipsub, "MAX_FANOUT_TOPICS"): 4,
    (gossipsub, "MAX_TOPICS_OF_A_PEER"): 5,
    (gossipsub, "MAX_UNWANTED_OF_A_PEER"): 20,
}
TABLE_OF = {
    "MAX_SEEN": "seen",
    "MAX_WAITING": "waiting",
    "MAX_WAITING_BYTES": "waiting_bytes",
    "MAX_CACHED": "cached",
    "MAX_CACHED_BYTES": "cached_bytes",
    "MAX_PROMISES": "promises",
    "MAX_BACKOFFS": "backoffs",
    "MAX_PEERS": "peers",
    "MAX_OWN_TOPICS": "topics",
    "MAX_FANOUT_TOPICS": "fanouts",
    "MAX_TOPICS_OF_A_PEER": "topics_of_a_peer",
    "MAX_UNWANTED_OF_A_PEER": "unwanted_of_a_peer",
}


@given(st.integers(0, 2**32))
@settings(max_examples=15)
def test_random_attackers_fill_every_table_to_its_bound_and_no_further(seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), value in SMALL_BOUNDS.items():
            patch.setattr(module, name, value)
        largest = attack(Random(seed), steps=1_500)
    for (_, name), bound in SMALL_BOUNDS.items():
        if name in TABLE_OF:
            assert largest[TABLE_OF[name]] <= bound, name
            if "BYTES" not in name:
                assert largest[TABLE_OF[name]] == bound, f"{name} was never reached, so that nothing was shown"


def attack(chance: Random, steps: int) -> dict[str, int]:
    """Identities without end, each saying anything, to a router whose application judges one message in three."""
    router = Router(Random(0))
    own_topics = ["a", "b", "c"]
    for topic in own_topics:
        router.subscribe(topic)
    largest = dict.fromkeys(router.table_sizes(), 0)
    identities: list[PeerId] = []
    now_ms = 0
    for step in range(steps):
        if step % 5 == 0:
            identities.append(PeerId(chance.randbytes(8)))
            router.peer_connected(identities[-1], GossipVersion.V1_2, is_outbound=chance.random() < 0.2)
        if step % 11 == 0:
            router.peer_disconnected(identities.pop(chance.randrange(len(identities))))
        if identities:
            for output in router.rpc(chance.choice(identities), random_rpc(chance, own_topics), now_ms):
                if isinstance(output, Deliver) and chance.random() < 0.3:
                    router.verdict(output.message_id, chance.choice(list(Verdict)))
        if step % 7 == 0:
            router.publish(
                chance.choice([*own_topics, chance.randbytes(2).hex()]),
                chance.randbytes(chance.choice([20, 17_000])),
                now_ms,
            )
        if step % 100 == 0:
            now_ms += HEARTBEAT_MS
            router.heartbeat(now_ms)
        for table, size in router.table_sizes().items():
            largest[table] = max(largest[table], size)
    return largest


def random_rpc(chance: Random, own_topics: list[str]) -> Rpc:
    def some_ids() -> tuple[bytes, ...]:
        return tuple(chance.randbytes(20) for _ in range(chance.randrange(6)))

    topic = chance.choice([*own_topics, chance.randbytes(2).hex()])
    return Rpc(
        subscriptions=(Subscription(topic, chance.random() < 0.9),),
        publish=(GossipMessage(topic, chance.randbytes(chance.choice([10, 5_000]))),),
        ihave=(IHave(topic, some_ids()),),
        iwant=some_ids(),
        graft=(topic,),
        prune=(Prune(topic, chance.randrange(100)),) if chance.random() < 0.3 else (),
        idontwant=some_ids(),
    )
