"""Gossip among 20 to 50 routers: everyone gets everything within a few hops, whatever links lose and peers pretend."""

from __future__ import annotations

import pytest

from p2p import gossip_memory, gossipsub
from p2p.gossip_events import GossipOffence, GossipVersion, Verdict
from p2p.gossip_wire import GossipMessage, IHave, Prune, Rpc, Subscription
from p2p.gossipsub import D_HIGH, HEARTBEAT_MS, D
from p2p.peer_id import PeerId
from tests.support.gossip_network import Attack, GossipNetwork

TOPIC = "/a1b2c3d4/00000000/vote"
SEEDS = range(3)
LARGE_BYTES = 20_000
LATENCY_MS = (5, 60)
VERDICT_MS = 2

BOUNDS = {
    "peers": gossipsub.MAX_PEERS,
    "topics": 1,
    "fanouts": 0,
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


def network_of(size: int, seed: int, *, links_each: int = 10, loss: float = 0.0) -> GossipNetwork:
    network = GossipNetwork(seed, latency_ms=LATENCY_MS, loss=loss, verdict_ms=VERDICT_MS)
    for _ in range(size):
        network.add(TOPIC)
    network.link_at_random(links_each)
    return network


def publish_some(network: GossipNetwork, count: int, size: int, *, every_ms: int = 100) -> list[bytes]:
    """From members by chance, one after the other; then wait for what gossip repairs."""
    published = []
    for number in range(count):
        data = b"%d " % number + network.chance.randbytes(size)
        network.publish(network.chance.choice(list(network.members)), TOPIC, data)
        published.append(data)
        network.run(network.now_ms + every_ms)
    network.run(network.now_ms + 8 * HEARTBEAT_MS)
    return published


def assert_everyone_has(network: GossipNetwork, published: list[bytes]) -> None:
    for data in published:
        assert len(network.reached(data)) == len(network.members)
    for member in network.members.values():
        assert max(member.deliveries.values(), default=0) == 1, "each was delivered once"


@pytest.mark.parametrize("size", [20, 50])
@pytest.mark.parametrize("seed", SEEDS)
def test_everyone_gets_everything_within_few_hops(seed: int, size: int) -> None:
    network = network_of(size, seed)
    network.run(3 * HEARTBEAT_MS)
    published = publish_some(network, 30, LARGE_BYTES)
    assert_everyone_has(network, published)
    for data in published:
        arrivals = network.reached(data)
        sent_ms = min(arrival.at_ms for arrival in arrivals)
        assert max(arrival.at_ms for arrival in arrivals) - sent_ms <= 4 * (LATENCY_MS[1] + VERDICT_MS), (
            "four slow links"
        )
        assert sum(arrival.hops for arrival in arrivals) / len(arrivals) < 4, "quick links are worth a detour"
    assert not any(member.offences for member in network.members.values())
    copies = sum(network.sent_messages[data] for data in published) / len(published) / size
    assert copies < D_HIGH / 2, "copies of a message that a member sends"
    for member in network.members.values():
        assert D - 2 <= len(member.router.mesh(TOPIC)) <= D_HIGH


@pytest.mark.parametrize("seed", SEEDS)
def test_small_messages_of_a_full_mesh_take_no_longer_than_one_link(seed: int) -> None:
    network = network_of(20, seed, links_each=20)
    network.run(HEARTBEAT_MS)
    published = publish_some(network, 30, 200)
    assert_everyone_has(network, published)
    for data in published:
        at_ms = [arrival.at_ms for arrival in network.reached(data)]
        assert max(at_ms) - min(at_ms) <= LATENCY_MS[1]


@pytest.mark.parametrize("seed", SEEDS)
def test_gossip_repairs_what_lossy_links_lose(seed: int) -> None:
    network = network_of(30, seed, loss=0.2)
    network.run(5 * HEARTBEAT_MS)
    published = publish_some(network, 30, LARGE_BYTES)
    reached = sum(len(network.reached(data)) for data in published)
    assert reached == 30 * len(published)


@pytest.mark.parametrize("seed", SEEDS)
def test_members_of_the_older_version_take_part(seed: int) -> None:
    network = GossipNetwork(seed)
    for number in range(20):
        network.add(TOPIC, version=GossipVersion.V1_1 if number % 2 else GossipVersion.V1_2)
    network.link_at_random(10)
    network.run(3 * HEARTBEAT_MS)
    assert_everyone_has(network, publish_some(network, 20, LARGE_BYTES))


@pytest.mark.parametrize("seed", SEEDS)
def test_mesh_heals_after_links_are_cut(seed: int) -> None:
    network = network_of(30, seed)
    network.run(3 * HEARTBEAT_MS)
    for peer in list(network.members):
        for other in list(network.links[peer])[::2]:
            network.cut(peer, other)
    network.link_at_random(4)
    network.run(network.now_ms + 2 * HEARTBEAT_MS)
    assert_everyone_has(network, publish_some(network, 20, LARGE_BYTES))


@pytest.mark.parametrize("seed", SEEDS)
def test_invalid_messages_stop_at_the_first_member_and_cost_their_sender(seed: int) -> None:
    def spam(network: GossipNetwork, own_id: PeerId, now_ms: int) -> None:
        for peer in network.links[own_id]:
            invalid = b"invalid " + network.chance.randbytes(100)
            network.send(
                own_id, peer, Rpc((Subscription(TOPIC, True),), (GossipMessage(TOPIC, invalid),), graft=(TOPIC,))
            )

    network = network_of(20, seed)
    spammer = network.add_attacker(spam)
    for peer in network.members:
        network.link(spammer, peer)
    network.verdict_of = lambda data: Verdict.REJECT if data.startswith(b"invalid") else Verdict.ACCEPT
    published = publish_some(network, 20, LARGE_BYTES)
    for data in published:
        assert len(network.reached(data)) == 20
    for member in network.members.values():
        assert member.offences[spammer, GossipOffence.INVALID_MESSAGE] >= 5
        assert {culprit for culprit, _ in member.offences} == {spammer}
        assert sum(data.startswith(b"invalid") for data in member.deliveries) <= 12, "only what it sent itself"


# --- Floods --------------------------------------------------------------------------------------------------------


def spam_ihave(network: GossipNetwork, own_id: PeerId, now_ms: int) -> None:
    for peer in network.links[own_id]:
        for _ in range(12):
            ids = tuple(network.chance.randbytes(20) for _ in range(20))
            network.send(own_id, peer, Rpc((Subscription(TOPIC, True),), ihave=(IHave(TOPIC, ids),)))


def flood_graft(network: GossipNetwork, own_id: PeerId, now_ms: int) -> None:
    for peer in network.links[own_id]:
        network.send(own_id, peer, Rpc((Subscription(TOPIC, True),)))
        for _ in range(5):
            network.send(own_id, peer, Rpc(graft=(TOPIC, "garbage")))
            network.send(own_id, peer, Rpc(prune=(Prune(TOPIC, 60),)))
            network.send(own_id, peer, Rpc((Subscription(TOPIC, False), Subscription(TOPIC, True))))


def flood_iwant(network: GossipNetwork, own_id: PeerId, now_ms: int) -> None:
    known = [gossipsub.message_id_of(TOPIC, data) for data in network.sent_messages]
    for peer in network.links[own_id]:
        for _ in range(5):
            network.send(own_id, peer, Rpc(iwant=tuple(known[-20:])))


def spam_topics(network: GossipNetwork, own_id: PeerId, now_ms: int) -> None:
    for peer in network.links[own_id]:
        names = [network.chance.randbytes(8).hex() for _ in range(100)]
        subscriptions = tuple(Subscription(name, True) for name in names)
        messages = tuple(GossipMessage(name, b"garbage") for name in names[:5])
        network.send(own_id, peer, Rpc(subscriptions, messages, graft=tuple(names)))


def spam_idontwant(network: GossipNetwork, own_id: PeerId, now_ms: int) -> None:
    for peer in network.links[own_id]:
        network.send(own_id, peer, Rpc(idontwant=tuple(network.chance.randbytes(20) for _ in range(1_100))))


ATTACKS: dict[str, tuple[Attack, GossipOffence | None]] = {
    "ihave": (spam_ihave, GossipOffence.BROKEN_PROMISE),
    "graft": (flood_graft, GossipOffence.GRAFT_IN_BACKOFF),
    "iwant": (flood_iwant, GossipOffence.IWANT_FLOOD),
    "topics": (spam_topics, GossipOffence.TOPIC_FLOOD),
    "idontwant": (spam_idontwant, None),
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("seed", SEEDS[:2])
def test_flood_of_a_fifth_of_the_peers_stops_nothing_and_fills_nothing(seed: int, name: str) -> None:
    attack, offence = ATTACKS[name]
    network = network_of(20, seed)
    attackers = [network.add_attacker(attack) for _ in range(5)]
    for attacker in attackers:
        for peer in network.members:
            network.link(attacker, peer)
    network.run(3 * HEARTBEAT_MS)
    published = publish_some(network, 20, LARGE_BYTES)
    assert_everyone_has(network, published)
    for member in network.members.values():
        assert {table: size for table, size in member.largest.items() if size > BOUNDS[table]} == {}
        assert {culprit for culprit, _ in member.offences} <= set(attackers), "the honest are not blamed"
        if offence is not None:
            assert all(member.offences[attacker, offence] for attacker in attackers)


def test_the_same_seed_gives_the_same_run() -> None:
    def run(seed: int) -> list[tuple[bytes, int, int]]:
        network = network_of(20, seed, loss=0.1)
        published = publish_some(network, 10, LARGE_BYTES)
        return [(data, arrival.at_ms, arrival.hops) for data in published for arrival in network.reached(data)]

    assert run(3) == run(3)
