"""The transport on real hosts over loopback: gossip, direct messages, large ones in parts, reconnection, bad peers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2p import connection_keeper, peer_limits, peer_links
from p2p.addresses import Address
from p2p.envelopes import MAX_WHOLE_BYTES, encode_announced, encode_whole
from p2p.gossip_events import GossipOffence, GossipVersion, Verdict
from p2p.gossip_wire import GossipMessage, Rpc, Subscription, encode_rpc
from p2p.identity import new_identity
from p2p.libp2p_host import Host
from p2p.libp2p_transport import DIRECT_PROTOCOL
from p2p.part_exchange import PARTS_PROTOCOL
from p2p.parts import announce
from p2p.peer_id import PeerId
from p2p.reputation import Offence
from p2p.streams import Connected, Stream, StreamFailed
from p2p.topics import Topic, TopicNames
from tests.support.p2p_nodes import LOOPBACK, NAMES, P2pNode, connected_nodes, run, running_node, until


def test_message_reaches_every_node_on_its_topic() -> None:
    async def main() -> None:
        async with connected_nodes(4) as nodes:
            for topic in Topic:
                data = topic.short_name.encode() * 10
                nodes[0].transport.broadcast(topic, data)
                for node in nodes[1:]:
                    message = await node.next(topic)
                    assert message.data == data
                    assert message.topic is topic

    run(main)


def test_large_messages_reach_every_node_in_parts() -> None:
    async def main() -> None:
        async with connected_nodes(4) as nodes:
            for size in (MAX_WHOLE_BYTES, MAX_WHOLE_BYTES + 1, 300_000, 5_000_000):
                data = bytes([size % 251]) * size
                nodes[1].transport.broadcast(Topic.BLOCK, data)
                for node in (nodes[0], *nodes[2:]):
                    assert (await node.next(Topic.BLOCK)).data == data
            assert not any(node.offences for node in nodes)

    run(main)


def test_large_message_is_fetched_from_those_who_accepted_it_where_its_author_is_not_connected() -> None:
    async def main() -> None:
        async with running_node() as one, running_node() as two, running_node() as three:
            await one.host.dial([two.address])
            await two.host.dial([three.address])
            await until(lambda: len(two.transport.ready_peers) == 2)
            await until(lambda: bool(one.transport.ready_peers and three.transport.ready_peers))
            await trio.sleep(1.1)  # a heartbeat: what two accepts goes on over its mesh
            data = bytes(range(256)) * 2000
            one.transport.broadcast(Topic.BLOCK, data)
            at_two = await two.transport.receive()
            assert at_two.data == data
            with trio.move_on_after(0.3) as too_early:
                await three.transport.receive()
            assert too_early.cancelled_caught, "nothing goes on before it is accepted"
            two.transport.judge(at_two, Verdict.ACCEPT)
            at_three = await three.next(Topic.BLOCK)
            assert at_three.data == data
            assert at_three.peer == two.own_id

    run(main)


def test_direct_messages_of_any_size_reach_one_peer_alone() -> None:
    async def main() -> None:
        async with connected_nodes(3) as (one, two, three):
            for size in (0, 1, MAX_WHOLE_BYTES, MAX_WHOLE_BYTES + 1, 1_000_000):
                one.transport.send(two.own_id, Topic.VOTE, b"d" * size)
                message = await two.next()
                assert (message.peer, message.topic, message.data) == (one.own_id, Topic.VOTE, b"d" * size)
                assert message.gossip_id is None
            assert three.transport.receive_waiting(10) == []
            one.transport.send(new_identity().peer_id, Topic.VOTE, b"to nobody")

    run(main)


def test_repeated_broadcast_reaches_the_application_again() -> None:
    async def main() -> None:
        async with connected_nodes(3) as nodes:
            for topic in (Topic.BLOCK, Topic.VOTE):
                for _ in range(3):
                    nodes[0].transport.broadcast(topic, b"the same")
                    for node in nodes[1:]:
                        assert (await node.next(topic)).data == b"the same"

    run(main)


def test_vote_takes_one_way_where_that_reaches_everyone() -> None:
    async def main() -> None:
        async with connected_nodes(3) as nodes:
            nodes[0].transport.broadcast(Topic.VOTE, b"a vote")
            for node in nodes[1:]:
                assert (await node.next()).gossip_id is None
            nodes[0].transport.send(nodes[1].own_id, Topic.VOTE, b"last")
            assert (await nodes[1].next()).data == b"last", "no second copy came in between"

    run(main)


def test_vote_is_gossiped_as_well_where_a_validator_is_out_of_reach() -> None:
    async def main() -> None:
        async with running_node() as one, running_node() as two, running_node() as three:
            everyone = [one, two, three]
            for node in (one, three):
                await node.host.dial([two.address])
            await until(lambda: len(two.transport.ready_peers) == 2)
            await until(lambda: bool(one.transport.ready_peers and three.transport.ready_peers))
            for node in everyone:
                node.keeper.set_validators({other.own_id: [] for other in everyone if other is not node})
            await trio.sleep(1.1)  # a heartbeat: the mesh is there
            one.transport.broadcast(Topic.VOTE, b"a vote")
            copies = {(await two.next()).gossip_id is None, (await two.next()).gossip_id is None}
            assert copies == {True, False}
            assert (await three.next()).data == b"a vote"

    run(main)


def test_two_thousand_votes_a_peer_arrive_in_order() -> None:
    async def main() -> None:
        async with connected_nodes(4) as nodes:
            for number in range(2_000):
                nodes[0].transport.broadcast(Topic.VOTE, number.to_bytes(4, "big") + bytes(196))
                if number % 100 == 0:
                    await trio.lowlevel.checkpoint()
            for node in nodes[1:]:
                found = [int.from_bytes((await node.next()).data[:4], "big") for _ in range(2_000)]
                assert found == list(range(2_000))

    run(main)


# --- Connections -----------------------------------------------------------------------------------------------------


def test_bootnode_is_dialled_and_dialled_again_when_it_returns() -> None:
    async def main() -> None:
        identity = new_identity()
        async with running_node(identity=identity) as boot:
            address = boot.address
        async with running_node(bootnodes=[address]) as node:
            for restart in range(2):
                async with running_node(identity=identity, listen=address.with_peer(None)) as boot:
                    await until(lambda: address.peer in node.transport.ready_peers)
                    await until(lambda there=boot: node.own_id in there.transport.ready_peers)
                    node.transport.broadcast(Topic.TRANSACTION, b"after restart %d" % restart)
                    assert (await boot.next()).data == b"after restart %d" % restart
                await until(lambda: not node.transport.peers)

    run(main)


def test_peers_of_the_book_are_dialled_while_too_few_are_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_keeper, "TARGET_OUTBOUND", 2)

    async def main() -> None:
        async with running_node() as one, running_node() as two, running_node() as three, running_node() as node:
            for other in (one, two, three):
                node.keeper.learn(other.own_id, [other.address])
            node.keeper.learn(new_identity().peer_id, [Address("127.0.0.1", 9)])
            await until(lambda: len(node.transport.ready_peers) == 2)
            connected = set(node.transport.peers)
            for other in (one, two, three):
                if other.own_id in connected:
                    node.keeper.report(other.own_id, Offence.LIED)
            await until(lambda: not connected & node.host.connections.keys())
            await until(lambda: len(node.transport.ready_peers) == 1)

    run(main)


def test_stranger_is_told_goodbye_and_reaches_nothing() -> None:
    async def main() -> None:
        async def refuse(peer: PeerId) -> str:
            return "another genesis"

        async with running_node(greet=refuse) as strict, running_node() as stranger:
            await stranger.host.dial([strict.address])
            await until(lambda: ("a peer is not welcome", stranger.own_id, "another genesis") in strict.notices)
            await until(lambda: not stranger.host.connections)
            assert list(strict.transport.peers) == []

    run(main)


def test_greeting_without_an_answer_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_keeper, "GREETING_TIMEOUT_S", 0.2)

    async def main() -> None:
        async def never(peer: PeerId) -> str:
            await trio.sleep_forever()
            return ""

        async with running_node(greet=never) as strict, running_node() as silent:
            await silent.host.dial([strict.address])
            await until(lambda: ("a peer is not welcome", silent.own_id, "no status in time") in strict.notices)
            await until(lambda: not silent.host.connections)

    run(main)


def test_peers_are_found_again_by_the_book_alone_and_bans_last(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "peers.json"
        async with running_node() as good, running_node() as bad:
            async with running_node(book_path=path) as node:
                for other in (good, bad):
                    await node.host.dial([other.address])
                await until(lambda: len(node.transport.ready_peers) == 2)
                node.keeper.report(bad.own_id, Offence.LIED)
                await until(lambda: bad.own_id not in node.host.connections)
            async with running_node(book_path=path) as node:
                await until(lambda: good.own_id in node.transport.ready_peers)
                assert bad.own_id in node.book.bans(time.time())
                assert bad.own_id not in node.host.connections

    run(main)


def test_a_book_that_the_disk_does_not_take_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_keeper, "SAVE_INTERVAL_S", 0.01)

    async def main() -> None:
        async with running_node() as peer, running_node(book_path=tmp_path / "gone" / "peers.json") as node:
            await until(lambda: any("was not saved" in what for what, _, _ in node.notices))
            await node.host.dial([peer.address])
            await until(lambda: peer.own_id in node.transport.ready_peers)

    run(main)


def test_validators_that_leave_the_set_are_dialled_no_more() -> None:
    async def main() -> None:
        async with running_node() as node:
            async with running_node() as validator:
                node.keeper.set_validators({validator.own_id: [validator.address]})
                await until(lambda: validator.own_id in node.transport.ready_peers)
                assert list(node.keeper.validators()) == [validator.own_id]
            node.keeper.set_validators({})
            await until(lambda: not node.transport.peers)
            assert list(node.keeper.validators()) == []

    run(main)


def test_handler_that_fails_is_noticed_and_charged_and_nothing_else_happens() -> None:
    async def main() -> None:
        async def fail(stream: Stream) -> None:
            raise ZeroDivisionError("a bug")

        async with connected_nodes(2) as (one, two):
            one.host.handle("/bug/1", fail)
            await two.host.open_stream(one.own_id, "/bug/1")
            expected = ("serving a peer failed", two.own_id, "/bug/1: ZeroDivisionError('a bug')")
            await until(lambda: expected in one.notices)
            assert one.keeper.points(two.own_id) > 0
            two.transport.broadcast(Topic.BLOCK, b"still here")
            assert (await one.next()).data == b"still here"

    run(main)


def test_peers_that_come_and_go_leave_nothing_behind() -> None:
    async def main() -> None:
        async with running_node() as node:
            before = trio.lowlevel.current_statistics().tasks_living
            for number in range(20):
                async with running_node() as guest:
                    await guest.host.dial([node.address])
                    await until(lambda there=guest: node.own_id in there.transport.ready_peers)
                    guest.transport.broadcast(Topic.BLOCK, b"%d" % number)
                    assert (await node.next()).data == b"%d" % number
                await until(lambda: not node.transport.peers)
            await until(lambda: trio.lowlevel.current_statistics().tasks_living <= before)
            assert list(node.transport.ready_peers) == []

    run(main)


def test_nodes_of_another_fork_share_no_topics() -> None:
    async def main() -> None:
        async with running_node() as one, running_node(names=TopicNames(bytes(range(32)), b"\0\0\0\2")) as two:
            await one.host.dial([two.address])
            await until(lambda: bool(one.transport.peers and two.transport.peers))
            one.transport.broadcast(Topic.BLOCK, b"of the old fork")
            one.transport.rename_topics(TopicNames(bytes(range(32)), b"\0\0\0\2"))
            await until(lambda: bool(one.transport.ready_peers and two.transport.ready_peers))
            one.transport.broadcast(Topic.BLOCK, b"of the new fork")
            assert (await two.next()).data == b"of the new fork"

    run(main)


# --- Peers that misbehave --------------------------------------------------------------------------------------------


@asynccontextmanager
async def stranger_at(node: P2pNode, *, reads: bool = True) -> AsyncIterator[Host]:
    """A bare host that is connected to the node, takes its streams, and says only what the test makes it say."""

    async def swallow(stream: Stream) -> None:
        while reads and await stream.read():
            pass
        await trio.sleep_forever()

    host = await Host.open(new_identity(), [LOOPBACK])
    for protocol in (*(version.value for version in GossipVersion), DIRECT_PROTOCOL):
        host.handle(protocol, swallow)
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        await host.dial([node.address])
        assert isinstance(await host.events.receive(), Connected)
        await until(lambda: host.own_id in node.transport.peers)
        yield host
        nursery.cancel_scope.cancel()


async def write_for_ever(stream: Stream, frame: bytes) -> None:
    while True:
        await stream.write_message(frame)
        await trio.lowlevel.checkpoint()


BLOCK_NAME = NAMES.name(Topic.BLOCK)


def frame_of(envelope: bytes) -> bytes:
    return encode_rpc(Rpc(publish=(GossipMessage(BLOCK_NAME, envelope),)))


BAD_FRAMES = {
    "gossip that is no protobuf": (GossipVersion.V1_2.value, b"\xff" * 20, Offence.PROTOCOL_VIOLATION),
    "gossip without an envelope": (GossipVersion.V1_1.value, frame_of(b""), GossipOffence.INVALID_MESSAGE),
    "gossip in an unknown envelope": (GossipVersion.V1_2.value, frame_of(b"\x07x"), GossipOffence.INVALID_MESSAGE),
    "a damaged announcement": (GossipVersion.V1_2.value, frame_of(b"\x01\0\0\0\1"), GossipOffence.INVALID_MESSAGE),
    "an announcement of nothing": (
        GossipVersion.V1_2.value,
        frame_of(encode_announced(announce(b"not given to anybody"))),
        GossipOffence.BROKEN_PROMISE,
    ),
    "a direct frame without a topic": (DIRECT_PROTOCOL, b"", Offence.PROTOCOL_VIOLATION),
    "a direct frame of an unknown topic": (DIRECT_PROTOCOL, b"\x09\x00x", Offence.PROTOCOL_VIOLATION),
    "a direct frame in an unknown envelope": (DIRECT_PROTOCOL, b"\x01\x05x", Offence.PROTOCOL_VIOLATION),
    "a direct frame beyond the limit": (DIRECT_PROTOCOL, bytes(MAX_WHOLE_BYTES + 3), Offence.PROTOCOL_VIOLATION),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_bad_frame_costs_its_sender_and_disturbs_nobody(name: str) -> None:
    protocol, frame, offence = BAD_FRAMES[name]

    async def main() -> None:
        async with connected_nodes(2) as (one, two), stranger_at(one) as bad:
            stream = await bad.open_stream(one.own_id, protocol)
            await stream.write_message(frame)
            await until(lambda: one.offences[bad.own_id, offence] > 0)
            two.transport.broadcast(Topic.BLOCK, b"as if nothing had happened")
            assert (await one.next()).data == b"as if nothing had happened"

    run(main)


def test_peer_that_goes_on_is_banned_closed_and_kept_out() -> None:
    async def main() -> None:
        async with connected_nodes(2) as (one, two), stranger_at(one) as bad:
            stream = await bad.open_stream(one.own_id, DIRECT_PROTOCOL)
            with pytest.raises(StreamFailed):
                await write_for_ever(stream, b"garbage")
            await until(lambda: bad.own_id not in one.host.connections)
            assert any(what == "a peer is banned" and peer == bad.own_id for what, peer, _ in one.notices)
            await until(lambda: not bad.connections)
            await bad.dial([one.address])
            await until(lambda: not bad.connections)
            two.transport.broadcast(Topic.BLOCK, b"still here")
            assert (await one.next()).data == b"still here"

    run(main)


def test_rejected_message_costs_its_sender_whichever_way_it_came() -> None:
    async def main() -> None:
        async with connected_nodes(2) as (one, two):
            two.transport.send(one.own_id, Topic.VOTE, b"invalid")
            await one.next(verdict=Verdict.REJECT)
            two.transport.broadcast(Topic.BLOCK, b"invalid")
            await one.next(verdict=Verdict.REJECT)
            assert one.offences == {(two.own_id, GossipOffence.INVALID_MESSAGE): 2}

    run(main)


def test_wrong_part_convicts_its_sender_and_the_message_comes_from_another() -> None:
    async def main() -> None:
        data = bytes(range(256)) * 2000
        envelope = encode_announced(announce(data))

        async def lie(stream: Stream) -> None:
            while await stream.read_message(100) is not None:
                await stream.write_message(b"\0" + bytes(65_536))

        async with connected_nodes(2) as (one, two), stranger_at(one) as bad:
            bad.handle(PARTS_PROTOCOL.name, lie)
            stream = await bad.open_stream(one.own_id, GossipVersion.V1_2.value)
            await stream.write_message(
                encode_rpc(Rpc((Subscription(BLOCK_NAME, True),), (GossipMessage(BLOCK_NAME, envelope),)))
            )
            two.transport.broadcast(Topic.BLOCK, data)
            assert (await one.next()).data == data
            assert one.offences[bad.own_id, Offence.BAD_ANSWER] > 0
            assert not any(peer == two.own_id for peer, _ in one.offences)

    run(main)


@pytest.mark.parametrize("protocol", [DIRECT_PROTOCOL, GossipVersion.V1_2.value])
def test_flood_is_slowed_down_delays_nobody_and_is_banned_in_the_end(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_links, "BYTES_BURST", 4.0 * (1 << 20))
    monkeypatch.setattr(peer_links, "FLOOD_S", 0.2)
    # Valid and always the same: nobody could reject it, and gossip takes it for a duplicate.
    frame = b"\x03\x00" + bytes(50_000) if protocol == DIRECT_PROTOCOL else frame_of(encode_whole(bytes(50_000)))

    async def main() -> None:
        async with connected_nodes(2) as (one, two), stranger_at(one) as bad:
            stream = await bad.open_stream(one.own_id, protocol)

            async def flood() -> None:
                with pytest.raises(StreamFailed):
                    await write_for_ever(stream, frame)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(flood)
                await until(lambda: one.offences[bad.own_id, GossipOffence.MESSAGE_FLOOD] > 0)
                two.transport.broadcast(Topic.BLOCK, b"in between")
                with trio.fail_after(5):
                    while (await one.next()).data != b"in between":
                        pass
                nursery.start_soon(accept_everything, one)
                await until(lambda: bad.own_id not in one.host.connections)
                nursery.cancel_scope.cancel()
            assert not any(peer == two.own_id for peer, _ in one.offences)

    run(main)


async def accept_everything(node: P2pNode) -> None:
    while True:
        await node.next()


def test_peer_that_does_not_read_delays_nobody_and_is_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_limits, "STALL_TIMEOUT_S", 0.3)

    async def main() -> None:
        async with connected_nodes(2) as (one, two), stranger_at(one, reads=False) as bad:
            for number in range(200):
                one.transport.broadcast(Topic.VOTE, bytes([number]) * 50_000)
                assert (await two.next(Topic.VOTE)).data == bytes([number]) * 50_000
            await until(lambda: one.offences[bad.own_id, GossipOffence.NOT_READING] > 0)

    run(main)


def test_gossip_of_other_sizes_than_ours_is_taken() -> None:
    """Other implementations gossip whole what this node would announce."""

    async def main() -> None:
        async with running_node() as one, stranger_at(one) as other:
            stream = await other.open_stream(one.own_id, GossipVersion.V1_1.value)
            await stream.write_message(frame_of(encode_whole(bytes(300_000))))
            assert (await one.next()).data == bytes(300_000)

    run(main)


def test_newer_stream_of_a_peer_replaces_the_older() -> None:
    async def main() -> None:
        async with running_node() as one, stranger_at(one) as other:
            streams = [await other.open_stream(one.own_id, GossipVersion.V1_2.value) for _ in range(5)]
            for number, stream in enumerate(streams):
                try:
                    await stream.write_message(frame_of(encode_whole(bytes([number]))))
                except StreamFailed:
                    continue
            assert (await one.next()).data
            await streams[-1].write_message(frame_of(encode_whole(b"newest")))
            while (await one.next()).data != b"newest":
                pass

    run(main)
