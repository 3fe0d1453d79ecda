"""The node's network on loopback, as `open_network` puts it together: who finds whom, topics by the rules in force, and
what an operator reads where a setting, a port or a file does not do."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from astralink_node.clock import now_ms
from astralink_node.config import P2pConfig
from astralink_node.services.data_folder import DataFolder
from astralink_node.services.handshake import ChainIdentity
from astralink_node.services.network import (
    MANY_TURNED_AWAY,
    REPORT_INTERVAL_S,
    Network,
    NetworkPlace,
    UnusableNetwork,
    open_network,
)
from astralink_node.services.peer_exchange import PEERS
from astralink_node.services.peer_heads import PeerHeads
from astralink_node.services.sync_offences import SyncOffence
from astralink_node.services.topic_split import TopicShare
from p2p.addresses import Address, peer_id_text
from p2p.connection_keeper import CUT_OFF
from p2p.identity import Identity, load_or_create_identity
from p2p.peer_id import PeerId
from p2p.topics import Topic
from tests.support.p2p_nodes import run, until

FORK_HEIGHT = 10
IDENTITY = ChainIdentity(b"\x5a" * 32, ((0, "prague"), (FORK_HEIGHT, "osaka")))
STRANGERS = ChainIdentity(b"\xa5" * 32, IDENTITY.forks)
SEEDS = sorted((bytes([number]) * 32 for number in range(1, 4)), key=lambda seed: Identity(seed).peer_id, reverse=True)
KEYS = dict(zip("abc", SEEDS, strict=True))
"""By folder. Of two nodes the one with the lower peer id dials at once: here that is the later one."""
OTHER_PEER = peer_id_text(Identity(bytes(32)).peer_id)


class Node:
    """One network, and where its chain stands."""

    network: Network
    blocks: TopicShare

    def __init__(self, folder: Path, height: int) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = DataFolder(folder)
        if folder.name in KEYS and not self.folder.node_key.exists():
            self.folder.node_key.touch(mode=0o600)
            self.folder.node_key.write_text(KEYS[folder.name].hex())
        self.height = height
        self.heads = PeerHeads()

    @property
    def own_id(self) -> PeerId:
        return self.network.host.own_id

    @property
    def address(self) -> Address:
        return self.network.host.listen_addresses[0]

    @property
    def peers(self) -> set[PeerId]:
        return set(self.network.transport.peers)

    async def open(self, config: P2pConfig, identity: ChainIdentity = IDENTITY) -> None:
        place = NetworkPlace(identity, lambda: (self.height, bytes(32)), "a test")
        self.network = await open_network(config, self.folder, place, self.heads, now_ms)
        self.blocks = self.network.topics.share(Topic.BLOCK)

    def move_to(self, height: int) -> None:
        self.height = height
        self.network.head_moved()


@asynccontextmanager
async def running(
    folder: Path,
    *,
    bootnodes: Sequence[Address] = (),
    height: int = 3,
    identity: ChainIdentity = IDENTITY,
    advertise: tuple[str, ...] = (),
) -> AsyncIterator[Node]:
    node = Node(folder, height)
    texts = tuple(str(address) for address in bootnodes)
    await node.open(P2pConfig(host="127.0.0.1", port=0, bootnodes=texts, advertise=advertise), identity)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.network.run)
        yield node
        nursery.cancel_scope.cancel()


def opening_fails(folder: Path, **settings: object) -> str:
    """What the operator reads."""
    config = P2pConfig(**{"host": "127.0.0.1", "port": 0, **settings})  # type: ignore[arg-type]

    async def main() -> None:
        with pytest.raises(UnusableNetwork) as caught:
            await Node(folder, 0).open(config)
        found.append(str(caught.value))

    found: list[str] = []
    run(main)
    return found[0]


# --- Finding each other --------------------------------------------------------------------------------------------


def test_nodes_connect_through_a_bootnode_and_know_each_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "a", height=8) as ann, running(tmp_path / "b", bootnodes=[ann.address]) as bob:
            await until(lambda: ann.peers == {bob.own_id} and bob.peers == {ann.own_id})
            assert bob.network.handshake.known[ann.own_id].status.head_height == 8
            assert bob.heads.best() == 8
            assert ann.heads.best() == 3
            assert list(bob.network.keeper.validators()) == [ann.own_id]
            assert ann.network.connected_from() == [(bob.own_id, "127.0.0.1")]

    run(main)


def test_a_third_node_finds_the_second_by_what_the_first_knows(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            ann = await stack.enter_async_context(running(tmp_path / "a"))
            bob = await stack.enter_async_context(running(tmp_path / "b", bootnodes=[ann.address]))
            await until(lambda: ann.peers == {bob.own_id})
            cat = await stack.enter_async_context(running(tmp_path / "c", bootnodes=[ann.address]))
            await until(lambda: cat.peers == {ann.own_id, bob.own_id} and bob.peers == {ann.own_id, cat.own_id})

    run(main)


def test_a_node_comes_back_to_whom_its_peer_book_names(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "a") as ann:
            async with running(tmp_path / "b", bootnodes=[ann.address]) as bob:
                await until(lambda: bob.peers == {ann.own_id})
            await until(lambda: not ann.peers)
            assert ann.heads.at_least(0) == [], "its head is forgotten with it"
            async with running(tmp_path / "b") as again:
                assert again.own_id == bob.own_id
                await until(lambda: again.peers == {ann.own_id})

    run(main)


def test_a_node_of_another_chain_is_let_go_and_never_becomes_a_peer(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path / "a") as ann,
            running(tmp_path / "b", bootnodes=[ann.address], identity=STRANGERS) as bob,
        ):
            await until(lambda: bool(ann.network.handshake.refused.newest()))
            (refused,) = ann.network.handshake.refused.newest()
            assert refused.reason.startswith(f"another chain: genesis 0x{STRANGERS.genesis_hash.hex()}, ours is 0x")
            assert not refused.was_sought, "it came by itself"
            await until(lambda: bool(bob.network.handshake.refused.newest()))
            assert bob.network.handshake.refused.newest()[0].was_sought
            await until(lambda: not ann.network.host.connections)
            assert not ann.peers
            assert not bob.peers
            assert not ann.network.handshake.known

    run(main)


def test_a_node_that_is_its_own_bootnode_leaves_itself_out(tmp_path: Path) -> None:
    """One list of bootnodes may serve every node of a network, those in it too."""

    async def main() -> None:
        folder = tmp_path / "new"
        folder.mkdir()
        own = Address("127.0.0.1", 30_400, load_or_create_identity(folder / "node.key").peer_id)
        async with running(tmp_path / "b") as bob, running(folder, bootnodes=[own, bob.address]) as ann:
            assert ann.own_id == own.peer
            assert list(ann.network.keeper.validators()) == [bob.own_id]
            await until(lambda: ann.peers == {bob.own_id})

    run(main)


def test_a_bootnode_that_does_not_answer_is_known_with_the_reason_until_it_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="astralink_node.peers")

    async def main() -> None:
        async with running(tmp_path / "a") as ann:
            name = peer_id_text(ann.own_id)
            wrong = ann.address.with_peer(Identity(bytes(32)).peer_id)
            async with running(tmp_path / "b", bootnodes=[wrong]) as bob:
                await until(lambda: bob.network.keeper.bootnodes()[0][1] is not None)
                ((address, trouble),) = bob.network.keeper.bootnodes()
                assert (address, trouble.reason if trouble else "") == (
                    wrong,
                    f"{ann.address.with_peer(None)}: expected {OTHER_PEER}, found {name}",
                )
                ann.network.keeper._notice(CUT_OFF, bob.own_id, "in a test")
                (said,) = [record for record in caplog.records if record.getMessage() == CUT_OFF]
                assert said.levelname == "WARNING"
            async with running(tmp_path / "b", bootnodes=[ann.address, wrong]) as bob:
                await until(lambda: bob.peers == {ann.own_id})
                await until(lambda: bob.network.keeper.bootnodes()[1][1] is not None)
                assert bob.network.keeper.bootnodes()[0] == (ann.address, None)

    run(main)


def test_what_is_advertised_is_told_instead_of_where_the_node_listens(tmp_path: Path) -> None:
    async def main() -> None:
        public = "/dns/node.example/tcp/30400"
        async with (
            running(tmp_path / "a", advertise=(public,)) as ann,
            running(tmp_path / "b", bootnodes=[ann.address]) as bob,
        ):
            await until(lambda: bool(bob.peers))
            told = bob.network.handshake.known[ann.own_id].status.addresses
            assert told == (f"{public}/p2p/{peer_id_text(ann.own_id)}",)

    run(main)


def test_a_flood_of_connections_that_come_to_nothing_is_one_line_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def warnings() -> list[dict[str, object]]:
        return [record.__dict__["fields"] for record in caplog.records if record.levelname == "WARNING"]

    async def main() -> None:
        async with running(tmp_path / "a") as ann:
            for _ in range(MANY_TURNED_AWAY - 1):
                ann.network.host.turned_away.note_failed("192.0.2.1")
            await trio.sleep(1.5 * REPORT_INTERVAL_S)
            assert not warnings(), "a few are no matter for the log"
            for _ in range(MANY_TURNED_AWAY):
                ann.network.host.turned_away.note_failed("192.0.2.1")
            await trio.sleep(5 * REPORT_INTERVAL_S)
            (fields,) = warnings()
            assert (fields["count"], fields["most_from"]) == (MANY_TURNED_AWAY, "192.0.2.1")

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


# --- Topics --------------------------------------------------------------------------------------------------------


def test_topics_follow_the_rules_in_force(tmp_path: Path) -> None:
    """A node that ran through a fork hears one that was started after it."""

    async def main() -> None:
        async with (
            running(tmp_path / "a", height=FORK_HEIGHT - 1) as ann,
            running(tmp_path / "b", height=FORK_HEIGHT, bootnodes=[ann.address]) as bob,
        ):
            await until(lambda: ann.peers == {bob.own_id})
            ann.move_to(FORK_HEIGHT)
            await until(lambda: all(node.network.transport.ready_peers for node in (ann, bob)))
            for sender, receiver in ((ann, bob), (bob, ann)):
                sender.network.transport.broadcast(Topic.BLOCK, b"under the new rules from " + sender.own_id)
                assert (await receiver.blocks.receive()).data == b"under the new rules from " + sender.own_id

    run(main)


def test_topics_stay_while_the_rules_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with running(tmp_path / "a", height=3) as ann:
            renamed: list[object] = []
            monkeypatch.setattr(ann.network.transport, "rename_topics", renamed.append)
            for height in (4, FORK_HEIGHT - 1, FORK_HEIGHT, FORK_HEIGHT + 1, 5_000):
                ann.move_to(height)
            assert len(renamed) == 1

    run(main)


def test_what_hinders_catching_up_counts_against_the_peer(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "a") as ann, running(tmp_path / "b", bootnodes=[ann.address]) as bob:
            await until(lambda: ann.peers == {bob.own_id})
            for offence in SyncOffence:
                ann.network.report_sync(bob.own_id, offence, "in a test")
            await until(lambda: not ann.network.handshake.known)
            assert not ann.network.host.connections

    run(main)


# --- What an operator reads ----------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_named_with_what_to_do(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "a") as ann:
            with pytest.raises(UnusableNetwork) as caught:
                await Node(tmp_path / "b", 0).open(P2pConfig(host="127.0.0.1", port=ann.address.port))
            assert str(caught.value) == (
                f"cannot listen for other nodes on port {ann.address.port} of 127.0.0.1: Address already in use: "
                "stop what uses it, or choose another one with --p2p-port"
            )

    run(main)


def test_an_address_that_is_not_of_this_machine_is_no_matter_of_the_port(tmp_path: Path) -> None:
    why = opening_fails(tmp_path, host="192.0.2.1")
    assert why.startswith("cannot listen for other nodes on port 0 of 192.0.2.1: Cannot assign requested address")
    assert why.endswith("give an address of this machine with --p2p-host")


@pytest.mark.parametrize(
    ("setting", "text", "complaint"),
    [
        ("bootnodes", "nonsense", "p2p.bootnodes: address: expected /ip4/HOST/tcp/PORT"),
        ("bootnodes", f"/ip4/192.0.2.1/udp/1/p2p/{OTHER_PEER}", "p2p.bootnodes: address: expected /ip4/HOST/tcp/PORT"),
        ("bootnodes", "/ip4/192.0.2.1/tcp/1/p2p/short", "p2p.bootnodes: peer id: expected"),
        ("bootnodes", "/ip4/192.0.2.1/tcp/1", "p2p.bootnodes: expected a port and /p2p/PEER, found '/ip4/192.0.2.1/"),
        ("bootnodes", f"/ip4/192.0.2.1/tcp/0/p2p/{OTHER_PEER}", "p2p.bootnodes: expected a port and /p2p/PEER, found"),
        ("advertise", "/ip4/here/tcp/1", "p2p.advertise: address: expected an ip4 address, found 'here'"),
        ("advertise", "/ip4/192.0.2.1/tcp/0", "p2p.advertise: expected a port that others can dial, found '/ip4/192."),
        ("advertise", f"/dns/{'n' * 70}/tcp/1", "p2p.advertise: expected at most 128 characters with /p2p/ and the"),
    ],
)
def test_a_setting_that_does_not_do_is_named(tmp_path: Path, setting: str, text: str, complaint: str) -> None:
    assert opening_fails(tmp_path, **{setting: (text,)}).startswith(complaint)


def test_the_node_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "new") as ann:
            first = ann.own_id
        key = ann.folder.node_key
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        async with running(tmp_path / "new") as again:
            assert again.own_id == first
        key.chmod(0o640)

    run(main)
    assert opening_fails(tmp_path / "new").startswith(
        f"node key: {tmp_path}/new/node.key: expected mode 600, found 640"
    )


def test_a_damaged_node_key_is_named(tmp_path: Path) -> None:
    key = DataFolder(tmp_path).node_key
    key.write_text("not a key\n")
    key.chmod(0o600)
    assert opening_fails(tmp_path).startswith(f"node key: {key}: expected a node key of 64 hex digits")


def test_a_damaged_peer_book_stops_nobody(tmp_path: Path) -> None:
    DataFolder(tmp_path).peer_book.write_text("{")

    async def main() -> None:
        async with running(tmp_path) as ann:
            assert not ann.peers
        assert DataFolder(tmp_path).peer_book.with_name("peers.json.damaged").exists()

    run(main)


def test_a_peer_book_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    DataFolder(tmp_path).peer_book.mkdir()
    assert opening_fails(tmp_path).startswith("peer book: ")


# --- Addresses that a peer says of itself --------------------------------------------------------------------------


def test_one_that_listens_on_every_address_is_taken_to_be_where_it_came_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="astralink_node.peers")

    async def main() -> None:
        async with running(tmp_path / "a") as ann:
            bob = Node(tmp_path / "b", 3)
            await bob.open(P2pConfig(host="0.0.0.0", port=0, bootnodes=(str(ann.address),)))
            async with trio.open_nursery() as nursery:
                await nursery.start(bob.network.run)
                (said,) = [record for record in caplog.records if hasattr(record, "fields") and "on" in record.fields]
                assert said.__dict__["fields"] == {
                    "on": f"every address of this machine, port {bob.address.port}",
                    "bootnode": f"/ip4/HOST/tcp/{bob.address.port}/p2p/{peer_id_text(bob.own_id)}",
                }
                await until(lambda: ann.peers == {bob.own_id})
                expected = f"/ip4/127.0.0.1/tcp/{bob.address.port}/p2p/{peer_id_text(bob.own_id)}"
                async with running(tmp_path / "c", bootnodes=[ann.address]) as cat:
                    await until(lambda: ann.own_id in cat.peers)
                    told = await cat.network.requests.request(ann.own_id, PEERS, b"")
                    assert told.decode() == expected
                nursery.cancel_scope.cancel()

    run(main)
