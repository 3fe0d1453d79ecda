"""Whole p2p nodes on loopback for one test: host, requests, keeper and transport, as a node puts them together."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import trio

from p2p.addresses import Address
from p2p.connection_keeper import ConnectionKeeper, Greet, welcome_everyone
from p2p.dialer import Dialer
from p2p.gossip_events import GossipOffence, Verdict
from p2p.identity import Identity, new_identity
from p2p.libp2p_host import Host
from p2p.libp2p_transport import Libp2pTransport
from p2p.peer_book import BanGate, PeerBook, load_peer_book
from p2p.peer_id import PeerId
from p2p.reputation import Offence
from p2p.requests import Requests
from p2p.topic_transport import TopicMessage
from p2p.topics import Topic, TopicNames

NAMES = TopicNames(bytes(range(32)), b"\x00\x00\x00\x01")
LOOPBACK = Address("127.0.0.1", 0)


@dataclass(slots=True)
class P2pNode:
    host: Host
    requests: Requests
    keeper: ConnectionKeeper
    transport: Libp2pTransport
    book: PeerBook
    offences: Counter[tuple[PeerId, Offence | GossipOffence]]
    notices: list[tuple[str, PeerId, str]] = field(default_factory=list)

    @property
    def own_id(self) -> PeerId:
        return self.host.own_id

    @property
    def address(self) -> Address:
        return self.host.listen_addresses[0]

    async def next(self, topic: Topic | None = None, verdict: Verdict = Verdict.ACCEPT) -> TopicMessage:
        """The next message (of the topic), judged; others are accepted on the way."""
        while True:
            message = await self.transport.receive()
            wanted = topic is None or message.topic is topic
            self.transport.judge(message, verdict if wanted else Verdict.ACCEPT)
            if wanted:
                return message


@asynccontextmanager
async def running_node(
    *,
    identity: Identity | None = None,
    listen: Address = LOOPBACK,
    names: TopicNames = NAMES,
    bootnodes: Sequence[Address] = (),
    greet: Greet = welcome_everyone,
    book_path: Path | None = None,
) -> AsyncIterator[P2pNode]:
    book = PeerBook() if book_path is None else load_peer_book(book_path)[0]
    host = await Host.open(identity or new_identity(), [listen], gate=BanGate(book, time.time))
    offences: Counter[tuple[PeerId, Offence | GossipOffence]] = Counter()
    notices: list[tuple[str, PeerId, str]] = []
    chance = Random(host.own_id)
    keeper = ConnectionKeeper(
        host,
        book,
        Dialer(host.own_id, chance.random),
        time.time,
        bootnodes=bootnodes,
        greet=greet,
        notice=lambda *notice: notices.append(notice),
        book_path=book_path,
    )

    def report(peer: PeerId, offence: Offence | GossipOffence) -> None:
        offences[peer, offence] += 1
        keeper.report(peer, offence)

    requests = Requests(host, report)
    transport = Libp2pTransport(host, requests, names, report=report, validators=keeper.validators, chance=chance)
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        await nursery.start(transport.run)
        await nursery.start(keeper.run, transport)
        yield P2pNode(host, requests, keeper, transport, book, offences, notices)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected_nodes(count: int, *, as_validators: bool = True) -> AsyncIterator[list[P2pNode]]:
    """A full mesh, each ready to gossip with each."""
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(running_node()) for _ in range(count)]
        for node in nodes:
            others = {other.own_id: [other.address] for other in nodes if other is not node}
            if as_validators:
                node.keeper.set_validators(others)
            else:
                for other in nodes:
                    if node.own_id < other.own_id:
                        await node.host.dial([other.address])
        await until(lambda: all(len(node.transport.ready_peers) == count - 1 for node in nodes))
        yield nodes


async def until(condition: Callable[[], bool]) -> None:
    """Looks again every few milliseconds; the test's own time limit bounds it."""
    while not condition():  # noqa: ASYNC110 - what is waited for is another node's state, which tells nobody
        await trio.sleep(0.005)


def run(main: Callable[[], Awaitable[None]], timeout_s: float = 60) -> None:
    """The body of a test, bounded in time."""

    async def bounded() -> None:
        with trio.fail_after(timeout_s):
            await main()

    trio.run(bounded)
