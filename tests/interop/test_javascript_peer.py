"""js-libp2p 3 with its own gossipsub, unchanged, on this network: messages of every kind in both directions."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trio

from p2p.addresses import parse_peer_id
from p2p.peer_id import PeerId
from p2p.topics import Topic
from tests.support.p2p_nodes import NAMES, P2pNode, run, running_node, until

HERE = Path(__file__).parent
NODE_BINARY = HERE / "node_modules/.bin/node"
PREFIX = NAMES.name(Topic.BLOCK).removesuffix(Topic.BLOCK.short_name)
LARGE_BYTES = 300_000
SIZES = [LARGE_BYTES, *(1 + number * 173 for number in range(24))]
"""Of the 25 messages in each direction."""


class JavascriptPeer:
    """The process, and what it says line by line."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._lines = b""

    async def tell(self, **command: Any) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps(command).encode() + b"\n")

    async def event(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\n" not in self._lines:
            piece = await self._process.stdout.receive_some()
            if not piece:
                pytest.fail(f"the JavaScript peer ended with {await self._process.wait()}")
            self._lines += piece
        line, _, self._lines = self._lines.partition(b"\n")
        event: dict[str, Any] = json.loads(line)
        return event

    async def events(self, count: int) -> list[dict[str, Any]]:
        return [await self.event() for _ in range(count)]


@asynccontextmanager
async def javascript_peer_of(node: P2pNode) -> AsyncIterator[tuple[JavascriptPeer, PeerId]]:
    """A js-libp2p node that has dialled ours, when gossip flows in both directions."""
    if not NODE_BINARY.exists():
        pytest.fail("the client packages are not installed: run `make clients-setup` first", pytrace=False)
    command = [str(NODE_BINARY), "gossip_peer.mjs", str(node.address), PREFIX]
    async with trio.open_nursery() as nursery:
        start = partial(trio.run_process, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE, check=False)
        process = await nursery.start(start)
        peer = JavascriptPeer(process)
        ready = await peer.event()
        assert ready["event"] == "ready"
        peer_id = parse_peer_id(ready["peer"])
        await until(lambda: peer_id in node.transport.ready_peers)
        yield peer, peer_id
        nursery.cancel_scope.cancel()


def data_of(size: int, fill: int) -> bytes:
    return bytes([fill]) * size


def told(size: int, fill: int) -> tuple[int, str]:
    return size, sha256(data_of(size, fill)).hexdigest()


def test_messages_of_ours_reach_the_javascript_peer() -> None:
    async def main() -> None:
        async with running_node() as node, javascript_peer_of(node) as (peer, _):
            for fill, size in enumerate(SIZES):
                node.transport.broadcast(Topic.TRANSACTION, data_of(size, fill))
            events = await peer.events(len(SIZES))
            assert {event["topic"] for event in events} == {"tx"}
            found = sorted((event["size"], event["sha256"]) for event in events)
            assert found == sorted(told(size, fill) for fill, size in enumerate(SIZES))
            assert [event["size"] for event in events if event["announced"]] == [LARGE_BYTES], "fetched in parts"
            assert not node.offences

    run(main)


def test_messages_of_the_javascript_peer_reach_us() -> None:
    async def main() -> None:
        async with running_node() as node, javascript_peer_of(node) as (peer, peer_id):
            for fill, size in enumerate(SIZES):
                await peer.tell(publish="block", size=size, fill=fill)
            received = [await node.next() for _ in SIZES]
            assert {(message.peer, message.topic) for message in received} == {(peer_id, Topic.BLOCK)}
            assert sorted(message.data for message in received) == sorted(map(data_of, SIZES, range(len(SIZES))))
            assert not node.offences

    run(main)


def test_accepted_messages_pass_through_us_between_the_javascript_peer_and_others() -> None:
    async def main() -> None:
        async with running_node() as middle, running_node() as far:
            await far.host.dial([middle.address])
            await until(lambda: bool(middle.transport.ready_peers and far.transport.ready_peers))
            async with javascript_peer_of(middle) as (peer, _), trio.open_nursery() as nursery:
                nursery.start_soon(accept_everything, middle)
                await until(lambda: len(middle.transport.mesh(Topic.EVIDENCE)) == 2)
                for fill, size in enumerate(SIZES[:5]):
                    await peer.tell(publish="evidence", size=size, fill=fill)
                    assert (await far.next(Topic.EVIDENCE)).data == data_of(size, fill)
                    far.transport.broadcast(Topic.EVIDENCE, data_of(size, 100 + fill))
                    event = await peer.event()
                    assert (event["size"], event["sha256"]) == told(size, 100 + fill)
                nursery.cancel_scope.cancel()
            assert not middle.offences
            assert not far.offences

    run(main)


async def accept_everything(node: P2pNode) -> None:
    while True:
        await node.next()


def test_direct_streams_carry_messages_both_ways() -> None:
    async def main() -> None:
        async with running_node() as node, javascript_peer_of(node) as (peer, peer_id):
            for fill, size in enumerate((0, 1, 100_000)):
                await peer.tell(direct=Topic.VOTE.value, size=size, fill=fill)
                message = await node.next()
                assert (message.peer, message.topic, message.data) == (peer_id, Topic.VOTE, data_of(size, fill))
            for fill, size in enumerate((0, 1, 100_000, LARGE_BYTES)):
                node.transport.send(peer_id, Topic.BLOCK, data_of(size, fill))
                event = await peer.event()
                assert (event["event"], event["topic"]) == ("direct", Topic.BLOCK.value)
                assert (event["size"], event["sha256"]) == told(size, fill)

    run(main)


def test_vote_reaches_the_javascript_peer_directly_and_by_gossip() -> None:
    async def main() -> None:
        async with running_node() as node, javascript_peer_of(node) as (peer, _):
            node.transport.broadcast(Topic.VOTE, data_of(200, 1))
            assert {event["event"] for event in await peer.events(2)} == {"direct", "message"}

    run(main)
