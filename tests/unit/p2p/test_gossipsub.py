"""The gossip router rule by rule: each input with its time, and the outputs that it must and must not give."""

from __future__ import annotations

from random import Random

import pytest

from p2p import gossip_memory, gossipsub
from p2p.gossip_events import (
    Deliver,
    GossipOffence,
    GossipVersion,
    Output,
    Penalise,
    Send,
    Verdict,
    message_id_of,
)
from p2p.gossip_memory import (
    HISTORY_WINDOWS,
    MAX_WAITING,
    MAX_WAITING_OF_A_PEER,
    PROMISE_MS,
    SEEN_TTL_MS,
    WAITING_TTL_MS,
)
from p2p.gossip_wire import GossipMessage, IHave, Prune, Rpc, Subscription
from p2p.gossipsub import (
    BACKOFF_S,
    D_HIGH,
    D_LAZY,
    D_LOW,
    D_OUT,
    FANOUT_TTL_MS,
    FLOOD_MAX_BYTES,
    HEARTBEAT_MS,
    IDONTWANT_MIN_BYTES,
    LEAVE_BACKOFF_S,
    MAX_BACKOFF_S,
    MAX_DATA_BYTES,
    MAX_IDONTWANT_IDS,
    MAX_IHAVE_RPCS,
    MAX_OWN_TOPICS,
    MAX_PEERS,
    MAX_TIMES_SERVED,
    MAX_TOPICS_OF_A_PEER,
    D,
    Router,
)
from p2p.peer_id import PeerId

TOPIC = "/a1b2c3d4/00000000/vote"
OTHER = "/a1b2c3d4/00000000/block"
SMALL = b"a small message"
LARGE = b"L" * (FLOOD_MAX_BYTES + 1)


def peer_of(number: int) -> PeerId:
    return PeerId(number.to_bytes(4, "big"))


A, B, C = map(peer_of, range(3))


def rpc_of(*messages: bytes, topic: str = TOPIC) -> Rpc:
    return Rpc(publish=tuple(GossipMessage(topic, data) for data in messages))


def sent_to(outputs: list[Output], peer: PeerId) -> list[Rpc]:
    return [output.rpc for output in outputs if isinstance(output, Send) and output.peer == peer]


def receivers_of(outputs: list[Output], data: bytes) -> set[PeerId]:
    return {
        output.peer
        for output in outputs
        if isinstance(output, Send) and any(message.data == data for message in output.rpc.publish)
    }


def offences(outputs: list[Output]) -> list[tuple[PeerId, GossipOffence]]:
    return [(output.peer, output.offence) for output in outputs if isinstance(output, Penalise)]


def deliveries(outputs: list[Output]) -> list[bytes]:
    return [output.data for output in outputs if isinstance(output, Deliver)]


def router_with(
    peers: int,
    *,
    topic: str = TOPIC,
    outbound: int = 0,
    version: GossipVersion = GossipVersion.V1_2,
    subscribed: bool = True,
) -> Router:
    """Subscribed, and connected to that many peers that are too; the first `outbound` of them were dialled."""
    router = Router(Random(1))
    if subscribed:
        router.subscribe(topic)
    for number in range(peers):
        router.peer_connected(peer_of(number), version, is_outbound=number < outbound)
        router.rpc(peer_of(number), Rpc(subscriptions=(Subscription(topic, subscribes=True),)), 0)
    return router


def grafted(router: Router, *peers: PeerId, now_ms: int = 0) -> Router:
    for peer in peers:
        assert router.rpc(peer, Rpc(graft=(TOPIC,)), now_ms) == []
    return router


# --- Subscriptions -------------------------------------------------------------------------------------------------


def test_peer_that_connects_is_told_the_subscriptions() -> None:
    router = Router(Random(1))
    assert router.peer_connected(A, GossipVersion.V1_2, is_outbound=True) == []
    assert router.subscribe(TOPIC) == [Send(A, Rpc(subscriptions=(Subscription(TOPIC, True),)))]
    assert router.subscribe(TOPIC) == []
    router.subscribe(OTHER)
    both = (Subscription(TOPIC, True), Subscription(OTHER, True))
    assert router.peer_connected(B, GossipVersion.V1_1, is_outbound=False) == [Send(B, Rpc(subscriptions=both))]


def test_leaving_a_topic_prunes_its_mesh_and_tells_everyone() -> None:
    router = grafted(router_with(2), A)
    outputs = router.unsubscribe(TOPIC, 0)
    assert sent_to(outputs, A) == [
        Rpc(prune=(Prune(TOPIC, LEAVE_BACKOFF_S),)),
        Rpc(subscriptions=(Subscription(TOPIC, False),)),
    ]
    assert sent_to(outputs, B) == [Rpc(subscriptions=(Subscription(TOPIC, False),))]
    assert router.unsubscribe(TOPIC, 0) == []
    assert router.mesh(TOPIC) == ()


def test_peer_that_leaves_a_topic_gets_its_messages_no_more() -> None:
    router = grafted(router_with(2), A, B)
    router.rpc(A, Rpc(subscriptions=(Subscription(TOPIC, False),)), 0)
    assert router.mesh(TOPIC) == (B,)
    assert receivers_of(router.publish(TOPIC, SMALL, 0), SMALL) == {B}


def test_own_topics_have_a_bound() -> None:
    router = Router(Random(1))
    for number in range(MAX_OWN_TOPICS):
        router.subscribe(str(number))
    with pytest.raises(ValueError, match=f"at most {MAX_OWN_TOPICS}"):
        router.subscribe(TOPIC)


def test_garbage_topics_of_a_peer_have_a_bound_and_are_penalised_once_a_heartbeat() -> None:
    router = router_with(1)
    garbage = tuple(Subscription(f"garbage {number}", True) for number in range(100))
    assert offences(router.rpc(A, Rpc(subscriptions=garbage), 0)) == [(A, GossipOffence.TOPIC_FLOOD)]
    assert router.rpc(A, Rpc(subscriptions=garbage), 0) == []
    assert router.table_sizes()["topics_of_a_peer"] == MAX_TOPICS_OF_A_PEER
    router.heartbeat(HEARTBEAT_MS)
    assert offences(router.rpc(A, Rpc(subscriptions=garbage), 0)) == [(A, GossipOffence.TOPIC_FLOOD)]


def test_peers_beyond_the_bound_are_not_taken_in() -> None:
    router = router_with(MAX_PEERS)
    extra = peer_of(MAX_PEERS)
    assert router.peer_connected(extra, GossipVersion.V1_2, is_outbound=True) == []
    assert router.rpc(extra, rpc_of(SMALL), 0) == []
    assert router.table_sizes()["peers"] == MAX_PEERS
    assert router.peer_connected(A, GossipVersion.V1_2, is_outbound=True) != [], "one that is known may come again"


def test_nothing_goes_to_or_comes_from_a_peer_that_disconnected() -> None:
    router = grafted(router_with(2), A, B)
    router.peer_disconnected(A)
    router.peer_disconnected(A)
    assert router.mesh(TOPIC) == (B,)
    assert router.rpc(A, rpc_of(SMALL), 0) == []
    assert receivers_of(router.publish(TOPIC, SMALL, 0), SMALL) == {B}


# --- Messages and verdicts -----------------------------------------------------------------------------------------


def test_message_id_is_the_start_of_the_hash_of_topic_and_data() -> None:
    assert message_id_of("ab", b"cd").hex() == "88d4266fd4e6338d13b845fcf289579d209c8978"


def test_message_goes_on_to_the_mesh_only_after_it_is_accepted() -> None:
    router = grafted(router_with(3), A, B, C)
    message_id = message_id_of(TOPIC, SMALL)
    assert router.rpc(A, rpc_of(SMALL), 0) == [Deliver(A, TOPIC, SMALL, message_id)]
    assert receivers_of(router.verdict(message_id, Verdict.ACCEPT), SMALL) == {B, C}
    assert router.verdict(message_id, Verdict.ACCEPT) == []


def test_ignored_message_goes_nowhere_and_blames_nobody() -> None:
    router = grafted(router_with(3), A, B, C)
    router.rpc(A, rpc_of(SMALL), 0)
    assert router.verdict(message_id_of(TOPIC, SMALL), Verdict.IGNORE) == []
    assert router.rpc(B, rpc_of(SMALL), 0) == []
    assert router.rpc(B, Rpc(iwant=(message_id_of(TOPIC, SMALL),)), 0) == []


def test_rejected_message_blames_everyone_who_sent_it_before_and_after() -> None:
    router = grafted(router_with(3), A, B, C)
    router.rpc(A, rpc_of(SMALL), 0)
    assert router.rpc(B, rpc_of(SMALL), 0) == []
    outputs = router.verdict(message_id_of(TOPIC, SMALL), Verdict.REJECT)
    assert outputs == [Penalise(A, GossipOffence.INVALID_MESSAGE), Penalise(B, GossipOffence.INVALID_MESSAGE)]
    assert router.rpc(C, rpc_of(SMALL), 0) == [Penalise(C, GossipOffence.INVALID_MESSAGE)]


def test_duplicate_is_delivered_once_and_never_sent_back_to_who_has_it() -> None:
    router = grafted(router_with(3), A, B, C)
    assert deliveries(router.rpc(A, rpc_of(SMALL, SMALL), 0)) == [SMALL]
    assert router.rpc(B, rpc_of(SMALL), 0) == []
    outputs = router.verdict(message_id_of(TOPIC, SMALL), Verdict.ACCEPT)
    assert receivers_of(outputs, SMALL) == {C}
    assert router.rpc(C, rpc_of(SMALL), 0) == []


def test_message_is_known_for_two_minutes() -> None:
    router = grafted(router_with(2), A, B)
    router.rpc(A, rpc_of(SMALL), 0)
    router.verdict(message_id_of(TOPIC, SMALL), Verdict.IGNORE)
    router.heartbeat(SEEN_TTL_MS - 1)
    assert router.rpc(A, rpc_of(SMALL), SEEN_TTL_MS - 1) == []
    router.heartbeat(SEEN_TTL_MS)
    assert deliveries(router.rpc(A, rpc_of(SMALL), SEEN_TTL_MS)) == [SMALL]


def test_message_without_a_verdict_is_dropped_in_the_end() -> None:
    router = grafted(router_with(2), A, B)
    router.rpc(A, rpc_of(SMALL), 0)
    router.heartbeat(WAITING_TTL_MS)
    assert router.verdict(message_id_of(TOPIC, SMALL), Verdict.ACCEPT) == []


def test_messages_that_wait_have_a_bound_for_each_peer_and_what_is_beyond_may_come_again() -> None:
    router = grafted(router_with(2), A, B)
    flood = [b"%d" % number for number in range(MAX_WAITING_OF_A_PEER + 1)]
    assert deliveries(router.rpc(A, rpc_of(*flood), 0)) == flood[:-1]
    assert deliveries(router.rpc(B, rpc_of(flood[-1]), 0)) == [flood[-1]], "another peer has room of its own"
    router.verdict(message_id_of(TOPIC, flood[0]), Verdict.IGNORE)
    assert deliveries(router.rpc(A, rpc_of(b"later"), 0)) == [b"later"]


def test_messages_that_wait_have_a_bound_together() -> None:
    peers = MAX_WAITING // MAX_WAITING_OF_A_PEER + 1
    router = router_with(peers)
    for number in range(peers):
        flood = [b"%d %d" % (number, index) for index in range(MAX_WAITING_OF_A_PEER)]
        router.rpc(peer_of(number), rpc_of(*flood), 0)
    assert router.table_sizes()["waiting"] == MAX_WAITING
    assert router.rpc(peer_of(peers - 1), rpc_of(b"no room"), 0) == []


def test_large_messages_that_wait_have_a_bound_in_bytes() -> None:
    router = router_with(6)
    for number in range(6):
        large = [b"%d" % number + bytes([index]) + bytes(MAX_DATA_BYTES - 2) for index in range(10)]
        router.rpc(peer_of(number), rpc_of(*large), 0)
    sizes = router.table_sizes()
    assert sizes["waiting"] == 4 * 8 + 1, "8 of each peer, and the first of the fifth"
    assert sizes["waiting_bytes"] <= gossip_memory.MAX_WAITING_BYTES


def test_message_with_an_author_is_refused() -> None:
    router = router_with(1)
    authored = Rpc(publish=(GossipMessage(TOPIC, SMALL, is_authored=True),))
    assert router.rpc(A, authored, 0) == [Penalise(A, GossipOffence.AUTHORED_MESSAGE)]
    assert deliveries(router.rpc(A, rpc_of(SMALL), 0)) == [SMALL], "the same without an author is another matter"


def test_message_of_another_topic_is_refused() -> None:
    router = router_with(1)
    assert router.rpc(A, rpc_of(SMALL, topic=OTHER), 0) == [Penalise(A, GossipOffence.UNWANTED_TOPIC)]


def test_oversized_message_is_refused() -> None:
    router = router_with(1)
    assert deliveries(router.rpc(A, rpc_of(bytes(MAX_DATA_BYTES)), 0)) == [bytes(MAX_DATA_BYTES)]
    oversized = rpc_of(bytes(MAX_DATA_BYTES + 1))
    assert router.rpc(A, oversized, 0) == [Penalise(A, GossipOffence.OVERSIZED_MESSAGE)]
    with pytest.raises(ValueError, match="at most 1000000 bytes, found 1000001"):
        router.publish(TOPIC, bytes(MAX_DATA_BYTES + 1), 0)


# --- Publishing ----------------------------------------------------------------------------------------------------


def test_small_own_message_goes_to_every_peer_of_the_topic() -> None:
    router = router_with(20)
    router.rpc(A, Rpc(subscriptions=(Subscription(TOPIC, False),)), 0)
    assert receivers_of(router.publish(TOPIC, SMALL, 0), SMALL) == {peer_of(number) for number in range(1, 20)}


def test_large_own_message_goes_to_the_mesh() -> None:
    router = grafted(router_with(20), *map(peer_of, range(8)))
    assert receivers_of(router.publish(TOPIC, LARGE, 0), LARGE) == set(map(peer_of, range(8)))


def test_large_own_message_goes_to_others_while_the_mesh_is_too_small() -> None:
    router = grafted(router_with(20), A)
    receivers = receivers_of(router.publish(TOPIC, LARGE, 0), LARGE)
    assert A in receivers
    assert len(receivers) == D


def test_own_message_is_not_delivered_to_its_author_when_it_comes_back() -> None:
    router = grafted(router_with(2), A, B)
    router.publish(TOPIC, SMALL, 0)
    assert router.rpc(A, rpc_of(SMALL), 0) == []


def test_own_message_that_is_repeated_is_sent_again_to_those_who_may_lack_it() -> None:
    router = grafted(router_with(3), A, B, C)
    router.publish(TOPIC, SMALL, 0)
    router.rpc(A, rpc_of(SMALL), 0)
    assert receivers_of(router.publish(TOPIC, SMALL, 0), SMALL) == {B, C}


def test_message_that_the_application_publishes_while_it_waits_counts_as_accepted() -> None:
    router = grafted(router_with(3), A, B, C)
    router.rpc(A, rpc_of(SMALL), 0)
    assert receivers_of(router.publish(TOPIC, SMALL, 0), SMALL) == {B, C}
    assert router.verdict(message_id_of(TOPIC, SMALL), Verdict.REJECT) == []


def test_large_messages_of_a_topic_that_is_not_subscribed_keep_to_the_same_peers() -> None:
    router = router_with(20, subscribed=False)
    first = receivers_of(router.publish(TOPIC, LARGE, 0), LARGE)
    assert len(first) == D
    router.heartbeat(HEARTBEAT_MS)
    assert receivers_of(router.publish(TOPIC, LARGE + b"2", 1), LARGE + b"2") == first
    gone = min(first)
    router.peer_disconnected(gone)
    router.heartbeat(2 * HEARTBEAT_MS)
    mended = receivers_of(router.publish(TOPIC, LARGE + b"3", 1), LARGE + b"3")
    assert len(mended) == D
    assert first - {gone} < mended
    outputs = router.subscribe(TOPIC)
    assert {output.peer for output in outputs if isinstance(output, Send) and output.rpc.graft} == mended
    assert set(router.mesh(TOPIC)) == mended


def test_chosen_peers_are_forgotten_a_minute_after_the_last_message() -> None:
    router = router_with(20, subscribed=False)
    router.publish(TOPIC, LARGE, 0)
    router.heartbeat(FANOUT_TTL_MS - 1)
    assert router.table_sizes()["fanouts"] == 1
    router.heartbeat(FANOUT_TTL_MS)
    assert router.table_sizes()["fanouts"] == 0


def test_topics_with_chosen_peers_have_a_bound() -> None:
    router = router_with(1, subscribed=False)
    for number in range(gossipsub.MAX_FANOUT_TOPICS + 1):
        router.publish(str(number), LARGE, number)
    assert router.table_sizes()["fanouts"] == gossipsub.MAX_FANOUT_TOPICS


# --- IDONTWANT -----------------------------------------------------------------------------------------------------


def test_large_message_is_declined_at_once_to_the_rest_of_the_mesh() -> None:
    router = grafted(router_with(3), A, B)
    router.peer_connected(C, GossipVersion.V1_1, is_outbound=False)
    router.rpc(C, Rpc(subscriptions=(Subscription(TOPIC, True),), graft=(TOPIC,)), 0)
    large = bytes(IDONTWANT_MIN_BYTES)
    outputs = router.rpc(A, rpc_of(large), 0)
    message_id = message_id_of(TOPIC, large)
    assert outputs == [Deliver(A, TOPIC, large, message_id), Send(B, Rpc(idontwant=(message_id,)))]
    assert router.rpc(B, rpc_of(large), 0) == []


def test_small_message_is_not_declined() -> None:
    router = grafted(router_with(2), A, B)
    assert sent_to(router.rpc(A, rpc_of(bytes(IDONTWANT_MIN_BYTES - 1)), 0), B) == []


def test_message_is_never_sent_to_a_peer_that_declined_it() -> None:
    router = grafted(router_with(3), A, B, C)
    message_id = message_id_of(TOPIC, SMALL)
    router.rpc(B, Rpc(idontwant=(message_id,)), 0)
    router.rpc(A, rpc_of(SMALL), 0)
    assert receivers_of(router.verdict(message_id, Verdict.ACCEPT), SMALL) == {C}
    assert router.rpc(B, Rpc(iwant=(message_id,)), 0) == []
    assert receivers_of(router.publish(TOPIC, SMALL, 0), SMALL) == {C}


def test_declined_ids_have_a_bound_between_heartbeats_and_are_forgotten() -> None:
    router = router_with(1)
    ids = tuple(number.to_bytes(20, "big") for number in range(MAX_IDONTWANT_IDS + 1))
    router.rpc(A, Rpc(idontwant=ids), 0)
    assert router.table_sizes()["unwanted_of_a_peer"] == MAX_IDONTWANT_IDS
    router.heartbeat(gossipsub.IDONTWANT_TTL_MS)
    assert router.table_sizes()["unwanted_of_a_peer"] == 0


# --- IHAVE and IWANT -----------------------------------------------------------------------------------------------


def test_peers_outside_the_mesh_hear_what_messages_there_are() -> None:
    router = grafted(router_with(20), *map(peer_of, range(6)))
    router.publish(TOPIC, LARGE, 0)
    outputs = router.heartbeat(HEARTBEAT_MS)
    told = {output.peer for output in outputs if isinstance(output, Send) and output.rpc.ihave}
    assert len(told) == D_LAZY
    assert told.isdisjoint(map(peer_of, range(6)))
    (rpc,) = sent_to(outputs, min(told))
    assert rpc.ihave == (IHave(TOPIC, (message_id_of(TOPIC, LARGE),)),)


def test_messages_are_told_of_for_three_heartbeats_and_served_for_five() -> None:
    router = grafted(router_with(8), *map(peer_of, range(6)))
    router.publish(TOPIC, LARGE, 0)
    message_id = message_id_of(TOPIC, LARGE)
    told = []
    for beat in range(1, 7):
        told.append(any(isinstance(output, Send) and output.rpc.ihave for output in router.heartbeat(beat * 1000)))
        served = router.rpc(peer_of(7), Rpc(iwant=(message_id,)), beat * 1000)
        router.peer_connected(peer_of(7), GossipVersion.V1_2, is_outbound=False)
        router.rpc(peer_of(7), Rpc(subscriptions=(Subscription(TOPIC, True),)), 0)
        if beat < MAX_TIMES_SERVED:
            assert receivers_of(served, LARGE) == {peer_of(7)}
        if beat >= HISTORY_WINDOWS:
            assert served == []
    assert told == [True, True, True, False, False, False]


def test_unknown_messages_are_asked_for_and_known_ones_are_not() -> None:
    router = router_with(2)
    router.rpc(B, rpc_of(SMALL), 0)
    unknown = message_id_of(TOPIC, b"unknown")
    ihave = IHave(TOPIC, (message_id_of(TOPIC, SMALL), unknown, b"too short for an id"))
    assert router.rpc(A, Rpc(ihave=(ihave,)), 0) == [Send(A, Rpc(iwant=(unknown,)))]
    assert router.rpc(A, Rpc(ihave=(IHave(OTHER, (unknown,)),)), 0) == [], "of a topic that is not subscribed"


def test_ihave_flood_is_passed_over_and_penalised() -> None:
    router = router_with(1)
    for number in range(MAX_IHAVE_RPCS):
        assert sent_to(router.rpc(A, Rpc(ihave=(IHave(TOPIC, (bytes(19) + bytes([number]),)),)), 0), A)
    flood = Rpc(ihave=(IHave(TOPIC, (bytes(18) + b"\1\1",)),))
    assert router.rpc(A, flood, 0) == [Penalise(A, GossipOffence.IHAVE_FLOOD)]
    assert router.rpc(A, flood, 0) == []
    router.heartbeat(HEARTBEAT_MS)
    assert sent_to(router.rpc(A, flood, HEARTBEAT_MS), A)


def test_ids_asked_of_a_peer_have_a_bound_between_heartbeats() -> None:
    router = router_with(1)
    asked = 0
    for first in range(0, 12_000, 4_000):
        ids = tuple(number.to_bytes(20, "big") for number in range(first, first + 4_000))
        asked += sum(len(rpc.iwant) for rpc in sent_to(router.rpc(A, Rpc(ihave=(IHave(TOPIC, ids),)), 0), A))
    assert asked == gossipsub.MAX_ASKED_IDS


def test_peer_that_does_not_send_what_it_has_is_penalised() -> None:
    router = router_with(2)
    promised = Rpc(ihave=(IHave(TOPIC, (message_id_of(TOPIC, SMALL),)),))
    router.rpc(A, promised, 0)
    assert offences(router.heartbeat(PROMISE_MS - 1)) == []
    assert offences(router.heartbeat(PROMISE_MS)) == [(A, GossipOffence.BROKEN_PROMISE)]
    assert offences(router.heartbeat(PROMISE_MS + 1)) == []


@pytest.mark.parametrize("how", ["it comes", "it comes from another", "the peer goes", "it is our own"])
def test_promise_ends_when(how: str) -> None:
    router = router_with(2)
    router.rpc(A, Rpc(ihave=(IHave(TOPIC, (message_id_of(TOPIC, SMALL),)),)), 0)
    match how:
        case "it comes":
            router.rpc(A, rpc_of(SMALL), 1)
        case "it comes from another":
            router.rpc(B, rpc_of(SMALL), 1)
        case "the peer goes":
            router.peer_disconnected(A)
        case "it is our own":
            router.publish(TOPIC, SMALL, 1)
    assert offences(router.heartbeat(PROMISE_MS)) == []


def test_one_message_is_served_to_one_peer_three_times() -> None:
    router = router_with(2)
    router.publish(TOPIC, SMALL, 0)
    ask = Rpc(iwant=(message_id_of(TOPIC, SMALL),) * 5)
    for _ in range(MAX_TIMES_SERVED):
        assert router.rpc(A, ask, 0) == [Send(A, rpc_of(SMALL))], "ids that are repeated in one RPC count once"
    assert router.rpc(A, ask, 0) == [Penalise(A, GossipOffence.IWANT_FLOOD)]
    assert router.rpc(A, ask, 0) == []
    assert router.rpc(B, ask, 0) == [Send(B, rpc_of(SMALL))]


def test_bytes_served_to_a_peer_have_a_bound_between_heartbeats() -> None:
    router = router_with(1)
    messages = [bytes([number]) * MAX_DATA_BYTES for number in range(6)]
    for data in messages:
        router.publish(TOPIC, data, 0)
    ask = Rpc(iwant=tuple(message_id_of(TOPIC, data) for data in messages))
    served = router.rpc(A, ask, 0)
    assert len(served) == gossipsub.MAX_SERVED_BYTES // MAX_DATA_BYTES == 4
    assert offences(served) == []
    router.heartbeat(HEARTBEAT_MS)
    assert len(router.rpc(A, ask, 0)) == 4


def test_message_is_not_served_to_the_peer_that_sent_it() -> None:
    router = router_with(1)
    router.rpc(A, rpc_of(SMALL), 0)
    router.verdict(message_id_of(TOPIC, SMALL), Verdict.ACCEPT)
    assert router.rpc(A, Rpc(iwant=(message_id_of(TOPIC, SMALL),)), 0) == []


# --- The mesh ------------------------------------------------------------------------------------------------------


def grafts(outputs: list[Output]) -> list[PeerId]:
    return [output.peer for output in outputs if isinstance(output, Send) and TOPIC in output.rpc.graft]


def prunes(outputs: list[Output]) -> list[PeerId]:
    return [output.peer for output in outputs if isinstance(output, Send) and Prune(TOPIC, 60) in output.rpc.prune]


@pytest.mark.parametrize(("before", "grafted_now"), [(0, D), (D_LOW - 1, D - D_LOW + 1), (D_LOW, 0)])
def test_mesh_that_is_too_small_is_filled_at_the_heartbeat(before: int, grafted_now: int) -> None:
    router = grafted(router_with(20), *map(peer_of, range(before)))
    new = grafts(router.heartbeat(HEARTBEAT_MS))
    assert len(new) == grafted_now
    assert len(router.mesh(TOPIC)) == before + grafted_now


def test_mesh_takes_what_peers_there_are() -> None:
    router = router_with(3)
    assert sorted(grafts(router.heartbeat(HEARTBEAT_MS))) == [A, B, C]


def test_mesh_that_is_too_large_is_cut_down_and_keeps_outbound_peers() -> None:
    router = router_with(D_HIGH + 2, outbound=2)
    inbound = [peer_of(number) for number in range(2, D_HIGH + 2)]
    grafted(router, *inbound, A, B)
    outputs = router.heartbeat(HEARTBEAT_MS)
    pruned = prunes(outputs)
    assert len(pruned) == D_HIGH + 2 - D
    assert {A, B} <= set(router.mesh(TOPIC))
    assert len(router.mesh(TOPIC)) == D
    assert grafts(router.heartbeat(2 * HEARTBEAT_MS)) == []


def test_graft_into_a_full_mesh_is_refused_unless_we_dialled() -> None:
    router = router_with(D_HIGH + 2, outbound=1)
    grafted(router, *(peer_of(number) for number in range(1, D_HIGH + 1)))
    late = peer_of(D_HIGH + 1)
    assert router.rpc(late, Rpc(graft=(TOPIC,)), 0) == [Send(late, Rpc(prune=(Prune(TOPIC, BACKOFF_S),)))]
    assert router.rpc(A, Rpc(graft=(TOPIC,)), 0) == []
    assert A in router.mesh(TOPIC)
    assert late not in router.mesh(TOPIC)


def test_outbound_peers_are_grafted_when_the_mesh_has_too_few_of_them() -> None:
    router = router_with(12, outbound=3)
    grafted(router, *(peer_of(number) for number in range(3, 9)))
    new = grafts(router.heartbeat(HEARTBEAT_MS))
    assert len(new) == D_OUT
    assert set(new) <= {A, B, C}


def test_graft_within_the_backoff_is_refused_penalised_and_extends_it() -> None:
    router = router_with(1)
    router.rpc(A, Rpc(prune=(Prune(TOPIC, 10),)), 0)
    outputs = router.rpc(A, Rpc(graft=(TOPIC, TOPIC)), 9_999)
    assert outputs == [
        Penalise(A, GossipOffence.GRAFT_IN_BACKOFF),
        Send(A, Rpc(prune=(Prune(TOPIC, BACKOFF_S),))),
    ]
    assert offences(router.rpc(A, Rpc(graft=(TOPIC,)), 9_999 + BACKOFF_S * 1000 - 1)) != []


def test_graft_after_the_backoff_is_taken() -> None:
    router = router_with(1)
    router.rpc(A, Rpc(prune=(Prune(TOPIC, 10),)), 0)
    assert router.rpc(A, Rpc(graft=(TOPIC,)), 10_000) == []
    assert router.mesh(TOPIC) == (A,)


@pytest.mark.parametrize(
    ("said_s", "kept_s"), [(None, BACKOFF_S), (10, 10), (0, 0), (2**64 - 1, MAX_BACKOFF_S)], ids=str
)
def test_pruned_peer_is_grafted_again_a_heartbeat_after_its_backoff(said_s: int | None, kept_s: int) -> None:
    router = grafted(router_with(1), A)
    router.rpc(A, Rpc(prune=(Prune(TOPIC, said_s),)), 0)
    assert router.mesh(TOPIC) == ()
    assert grafts(router.heartbeat(kept_s * 1000 + HEARTBEAT_MS - 1)) == []
    assert grafts(router.heartbeat(kept_s * 1000 + HEARTBEAT_MS)) == [A]


def test_backoff_outlives_the_connection() -> None:
    router = grafted(router_with(1), A)
    router.rpc(A, Rpc(prune=(Prune(TOPIC, 60),)), 0)
    router.peer_connected(A, GossipVersion.V1_2, is_outbound=False)
    router.rpc(A, Rpc(subscriptions=(Subscription(TOPIC, True),)), 1)
    assert grafts(router.heartbeat(HEARTBEAT_MS)) == []
    assert offences(router.rpc(A, Rpc(graft=(TOPIC,)), 2)) == [(A, GossipOffence.GRAFT_IN_BACKOFF)]


def test_graft_of_an_unknown_topic_gets_no_answer() -> None:
    router = router_with(1)
    assert router.rpc(A, Rpc(graft=tuple(f"garbage {number}" for number in range(100))), 0) == []


def test_graft_of_a_peer_that_is_not_subscribed_is_refused() -> None:
    router = Router(Random(1))
    router.subscribe(TOPIC)
    router.peer_connected(A, GossipVersion.V1_2, is_outbound=False)
    assert router.rpc(A, Rpc(graft=(TOPIC,)), 0) == [Send(A, Rpc(prune=(Prune(TOPIC, BACKOFF_S),)))]


def test_everything_for_one_peer_goes_in_one_rpc_at_the_heartbeat() -> None:
    router = Router(Random(1))
    both = (Subscription(TOPIC, True), Subscription(OTHER, True))
    for subscription in both:
        router.subscribe(subscription.topic)
    for number in range(20):
        router.peer_connected(peer_of(number), GossipVersion.V1_2, is_outbound=False)
        router.rpc(peer_of(number), Rpc(subscriptions=both), 0)
    router.publish(TOPIC, SMALL, 0)
    outputs = router.heartbeat(HEARTBEAT_MS)
    receivers = [output.peer for output in outputs if isinstance(output, Send)]
    assert len(receivers) == len(set(receivers))


def test_the_same_seed_gives_the_same_outputs() -> None:
    def run(seed: int) -> list[Output]:
        router = Router(Random(seed))
        outputs = router.subscribe(TOPIC)
        for number in range(40):
            outputs += router.peer_connected(peer_of(number), GossipVersion.V1_2, is_outbound=number % 3 == 0)
            outputs += router.rpc(peer_of(number), Rpc(subscriptions=(Subscription(TOPIC, True),)), 0)
        outputs += router.publish(TOPIC, LARGE, 1)
        for beat in range(1, 5):
            outputs += router.heartbeat(beat * HEARTBEAT_MS)
        return outputs

    assert run(7) == run(7)
    assert run(7) != run(8)
