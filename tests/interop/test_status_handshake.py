"""The status handshake against a second implementation of it (status_peer.mjs): welcome on the same chain and rules,
and refused by both sides, with the reason in words, on another genesis or under other rules."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from astralink_node.clock import now_ms
from astralink_node.config import P2pConfig
from astralink_node.services import network as network_module
from astralink_node.services.data_folder import DataFolder
from astralink_node.services.handshake import ChainIdentity
from astralink_node.services.network import Network, NetworkPlace, open_network
from astralink_node.services.peer_heads import PeerHeads
from consensus.hashing import keccak256
from p2p.peer_id import PeerId
from tests.support.p2p_nodes import run, until

HERE = Path(__file__).parent
NODE_BINARY = HERE / "node_modules/.bin/node"
GENESIS, OTHER_GENESIS = bytes(range(32)), bytes(range(1, 33))
FORKS = ((0, "prague"), (10, "osaka"))
OUR_HEAD = (20, b"\xee" * 32)
PEER_HEIGHT = 7
"""Below the fork, as of one that still catches up."""

Notices = list[tuple[str, PeerId, str]]


class StatusPeer:
    """The process, and what it says line by line."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._lines = b""

    async def event(self, kind: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\n" not in self._lines:
            piece = await self._process.stdout.receive_some()
            if not piece:
                pytest.fail(f"the JavaScript peer ended with {await self._process.wait()}")
            self._lines += piece
        line, _, self._lines = self._lines.partition(b"\n")
        event: dict[str, Any] = json.loads(line)
        assert event["event"] == kind, event
        return event


@asynccontextmanager
async def running_network(folder: Path) -> AsyncIterator[tuple[Network, PeerHeads]]:
    """As a node has it."""
    heads = PeerHeads()
    place = NetworkPlace(ChainIdentity(GENESIS, FORKS), lambda: OUR_HEAD, "ours")
    network = await open_network(P2pConfig(host="127.0.0.1", port=0), DataFolder(folder), place, heads, now_ms)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        yield network, heads
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def status_peer_of(
    network: Network, genesis: bytes, forks: tuple[tuple[int, str], ...] = FORKS, height: int = PEER_HEIGHT
) -> AsyncIterator[StatusPeer]:
    if not NODE_BINARY.exists():
        pytest.fail("the client packages are not installed: run `make clients-setup` first", pytrace=False)
    chain = json.dumps({"genesis": genesis.hex(), "forks": forks, "height": height})
    command = [str(NODE_BINARY), "status_peer.mjs", str(network.host.listen_addresses[0]), chain]
    async with trio.open_nursery() as nursery:
        start = partial(trio.run_process, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE, check=False)
        yield StatusPeer(await nursery.start(start))
        nursery.cancel_scope.cancel()


@pytest.fixture
def notices(monkeypatch: pytest.MonkeyPatch) -> Notices:
    """What the node logs of its peers."""
    noted: Notices = []
    monkeypatch.setattr(network_module, "_notice", lambda *notice: noted.append(notice))
    return noted


def refusals(notices: Notices) -> list[str]:
    return [why for what, _, why in notices if what == "a peer is not welcome"]


def test_a_second_implementation_is_welcome_on_our_genesis_and_finds_us_welcome(
    tmp_path: Path, notices: Notices
) -> None:
    async def main() -> None:
        began_ms = now_ms()
        async with running_network(tmp_path) as (network, heads), status_peer_of(network, GENESIS) as peer:
            judged = await peer.event("judged")
            assert (judged["welcome"], judged["why"]) == (True, "")
            told = judged["status"]
            assert (told["genesis"], told["height"], told["head"]) == (GENESIS.hex(), OUR_HEAD[0], OUR_HEAD[1].hex())
            assert told["client"] == "ours"
            assert told["addresses"] == [str(network.host.listen_addresses[0])]
            assert began_ms <= told["timeMs"] <= now_ms()
            assert (await peer.event("shown"))["welcome"]
            await until(lambda: bool(network.handshake.known) and bool(network.transport.peers))
            (known,) = network.handshake.known.values()
            assert (known.status.client, known.status.head_height) == ("status_peer.mjs", PEER_HEIGHT)
            assert known.status.head_hash == keccak256(b"a head")
            assert known.status.addresses == ("/ip4/192.0.2.7/tcp/30400",)
            assert abs(known.skew_ms) <= known.round_trip_ms // 2 + 1, "the clock is the same"
            assert heads.best() == PEER_HEIGHT
            assert not refusals(notices)

    run(main)


def test_a_second_implementation_on_another_genesis_is_refused_and_refuses(tmp_path: Path, notices: Notices) -> None:
    async def main() -> None:
        async with running_network(tmp_path) as (network, heads), status_peer_of(network, OTHER_GENESIS) as peer:
            judged = await peer.event("judged")
            assert judged["welcome"] is False
            assert judged["why"] == f"its genesis is {GENESIS.hex()}, mine is {OTHER_GENESIS.hex()}"
            assert (await peer.event("shown"))["why"] == judged["why"]
            await peer.event("closed")
            expected = f"another chain: genesis 0x{OTHER_GENESIS.hex()}, ours is 0x{GENESIS.hex()}"
            assert refusals(notices) == [expected]
            assert not network.handshake.known
            assert not network.transport.peers
            assert heads.at_least(0) == []

    run(main)


def test_a_second_implementation_under_other_rules_is_refused_once_they_are_in_force(
    tmp_path: Path, notices: Notices
) -> None:
    async def main() -> None:
        later = ((0, "prague"), (12, "osaka"))
        async with running_network(tmp_path) as (network, _), status_peer_of(network, GENESIS, later, 11) as peer:
            judged = await peer.event("judged")
            assert judged["why"].startswith("its rules are ")
            await peer.event("shown")
            await peer.event("closed")
            (why,) = refusals(notices)
            assert why.startswith("other rules: fork digest 0x")
            assert " at height 11, by this node's genesis it is 0x" in why
            assert not network.handshake.known

    run(main)
