"""Two nodes' networks on loopback: each sees the other as it is, and has itself dialled back; and whom one refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import trio

from astralink_node.clock import now_ms
from astralink_node.config import P2pConfig
from astralink_node.gateway.link_messages import SyncProgress
from astralink_node.services.data_folder import DataFolder
from astralink_node.services.dial_back import DialBack, dial_once
from astralink_node.services.handshake import ChainIdentity
from astralink_node.services.network import Network, NetworkPlace, open_network
from astralink_node.services.network_view import NetworkObserver, parts_of
from astralink_node.services.peer_heads import PeerHeads
from astralink_node.services.refused_peers import MAX_REFUSED, REFUSED_FOR_MS, RefusedPeers
from p2p.addresses import peer_id_text
from p2p.peer_id import PeerId

IDENTITY = ChainIdentity(b"\xab" * 32, ())
TIMEOUT_S = 30


class Node:
    def __init__(self, network: Network, heads: PeerHeads) -> None:
        self.network = network
        self.refused = RefusedPeers(now_ms, lambda _: True)
        self.syncing = False
        self.validators: dict[PeerId, bytes] = {}
        self.parts = parts_of(
            network,
            IDENTITY,
            heads,
            head_height=lambda: 7,
            is_syncing=lambda: self.syncing,
            validators=lambda: self.validators,
            clock_precision_ms=500,
        )
        self.observer = NetworkObserver(self.parts, self.refused, now_ms)

    @property
    def name(self) -> str:
        return peer_id_text(self.network.host.own_id)

    def dial_back(self, advertised: tuple[str, ...] | None = None) -> DialBack:
        def peers() -> list[tuple[PeerId, str]]:
            return [(peer, link.address.host) for peer, link in self.network.host.connections.items()]

        return DialBack(
            self.network.requests, peers, self.parts.advertised if advertised is None else lambda: advertised, dial_once
        )


@asynccontextmanager
async def running(folder: Path, height: int, bootnodes: tuple[str, ...] = ()) -> AsyncIterator[Node]:
    heads = PeerHeads()
    place = NetworkPlace(IDENTITY, lambda: (height, bytes(32)), f"client {height}")
    config = P2pConfig(host="127.0.0.1", port=0, bootnodes=bootnodes)
    network = await open_network(config, DataFolder(folder), place, heads, now_ms)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        yield Node(network, heads)
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Connections come without an event that the view would give."""
    while not condition():  # noqa: ASYNC110 - a look is all there is
        await trio.sleep(0.01)


def test_peers_are_seen_as_they_are_and_dial_each_other_back(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

    async def main() -> None:
        with trio.fail_after(TIMEOUT_S):
            async with running(tmp_path / "a", 7) as first:
                bootnode = str(first.network.host.listen_addresses[0])
                async with running(tmp_path / "b", 900, (bootnode,)) as second:
                    await until(lambda: bool(first.observer.view().peers and second.observer.view().peers))
                    check_view(first, second)
                    await check_dial_back(first, second)
                await until(lambda: not first.observer.view().peers)

    trio.run(main)


def check_view(first: Node, second: Node) -> None:
    view = first.observer.view()
    assert (view.is_listening, view.peer_id) == (True, first.name)
    (peer,) = view.peers
    assert (peer.peer_id, peer.client, peer.head_height) == (second.name, "client 900", 900)
    assert (peer.is_outbound, second.observer.view().peers[0].is_outbound) == (False, True)
    assert (peer.genesis_matches, peer.forks_match, peer.points) == (True, True, 0)
    assert peer.addresses[1] == str(second.network.host.listen_addresses[0])
    assert peer.clock_skew_ms is not None
    assert abs(peer.clock_skew_ms) < 5_000
    assert 0 <= now_ms() - peer.connected_since_ms < 1000 * TIMEOUT_S
    assert view.validators_connected == 0
    first.validators = {second.network.host.own_id: b"\xa1" * 48, PeerId(b"elsewhere"): b"\xa2" * 48}
    view = first.observer.view()
    assert (view.validators_connected, len(view.validators)) == (1, 2)
    assert view.sync is None
    first.syncing = True
    assert first.observer.view().sync == SyncProgress(7, 7, 900)
    stranger = replace(first.parts, identity=ChainIdentity(b"\xcd" * 32, ()))
    (mismatch,) = NetworkObserver(stranger, first.refused, now_ms).view().peers
    assert (mismatch.genesis_matches, mismatch.forks_match) == (False, False)


async def check_dial_back(first: Node, second: Node) -> None:
    second.dial_back()
    own = str(first.network.host.listen_addresses[0])
    closed = str(first.network.host.listen_addresses[0].with_peer(None)).rpartition("/")[0] + "/1"
    reached, failed = await first.dial_back((own, closed)).check()
    assert (reached.peer_id, reached.address, reached.outcome, reached.detail) == (second.name, own, "reached", "")
    assert (failed.address, failed.outcome) == (closed, "failed")
    assert "refused" in failed.detail.lower()
    # Somebody else's port is not this node's, whoever listens there.
    other = str(second.network.host.listen_addresses[0].with_peer(None))
    (impostor,) = await first.dial_back((other,)).check()
    assert impostor.outcome == "failed"
    # The connection that carried the questions is still there.
    assert len(first.observer.view().peers) == len(second.observer.view().peers) == 1


def test_the_refused_are_remembered_for_ten_minutes_and_the_newest_only() -> None:
    clock_ms = 1_000
    refused = RefusedPeers(lambda: clock_ms, lambda _: False)
    for number in range(MAX_REFUSED + 4):
        refused.note(PeerId(bytes([number])), f"reason {number}")
    refused.note(PeerId(bytes([MAX_REFUSED])), "another reason")
    shown = refused.newest()
    assert len(shown) == MAX_REFUSED
    assert (shown[0].reason, shown[-1].reason) == ("reason 4", "another reason")
    clock_ms += REFUSED_FOR_MS + 1
    assert refused.newest() == ()


def test_strangers_push_no_bootnode_out_of_the_refused() -> None:
    bootnode = PeerId(b"bootnode")
    refused = RefusedPeers(lambda: 1_000, lambda peer: peer == bootnode)
    refused.note(bootnode, "another chain")
    for number in range(2 * MAX_REFUSED):
        refused.note(PeerId(bytes([number])), "another chain")
    shown = refused.newest()
    assert (len(shown), shown[0].peer_id) == (MAX_REFUSED, peer_id_text(bootnode))
    assert [each.was_sought for each in shown] == [True] + [False] * (MAX_REFUSED - 1)
