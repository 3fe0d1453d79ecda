"""The node's network, built by hand: host, connections, transport, handshake, exchange of addresses, requests.

Everything here lives in one nursery. Consensus lives in another, which nothing that happens on the network cancels.
"""

import errno
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import Final

import trio

from astralink_node.clock import NowMs
from astralink_node.config import P2pConfig
from astralink_node.errors import UserError
from astralink_node.log import Log
from astralink_node.services.data_folder import DataFolder
from astralink_node.services.handshake import STATUS, ChainIdentity, Handshake
from astralink_node.services.peer_exchange import PEERS, PeerExchange
from astralink_node.services.peer_heads import PeerHeads
from astralink_node.services.refused_peers import RefusedPeers
from astralink_node.services.sync_offences import SAYS, SyncOffence
from astralink_node.services.topic_split import TopicSplit
from consensus.peer_status import MAX_ADDRESS_BYTES
from p2p.addresses import Address, BadAddress, parse_address, peer_id_text
from p2p.connection_keeper import CUT_OFF, ConnectionKeeper
from p2p.dialer import Dialer
from p2p.gossip_events import GossipOffence
from p2p.identity import Identity, UnusableNodeKey, load_or_create_identity
from p2p.libp2p_host import Host
from p2p.libp2p_transport import Libp2pTransport
from p2p.peer_book import BanGate, PeerBook, load_peer_book
from p2p.peer_id import PeerId
from p2p.reputation import Offence
from p2p.requests import Requests
from p2p.streams import Connection
from p2p.topics import TopicNames

REPORT_INTERVAL_S: Final = 60
MANY_TURNED_AWAY: Final = 20
"""In one interval: fewer are a stranger's mistakes, and no matter for the log."""
MAX_CANDIDATES: Final = 64
"""Of the peer book, for others that ask whom else there is."""

_log = Log("peers")


class UnusableNetwork(UserError):
    """The settings, the node key or the port do not allow to connect."""


@dataclass(frozen=True, slots=True)
class NetworkPlace:
    """Where this node stands, for the handshake."""

    identity: ChainIdentity
    head: Callable[[], tuple[int, bytes]]
    client: str

    def topic_names(self) -> TopicNames:
        return TopicNames(self.identity.genesis_hash, self.identity.digest_at(self.head()[0]))


class Network:
    """See the module's description. Made by `open_network`; `run` must be running."""

    def __init__(
        self,
        host: Host,
        keeper: ConnectionKeeper,
        transport: Libp2pTransport,
        requests: Requests,
        handshake: Handshake,
        exchange: PeerExchange,
        place: NetworkPlace,
    ) -> None:
        self.host = host
        self.keeper = keeper
        self.transport = transport
        self.requests = requests
        self.handshake = handshake
        self.topics = TopicSplit(transport)
        self._exchange = exchange
        self._place = place
        self._names = place.topic_names()

    def report_sync(self, peer: PeerId, offence: SyncOffence, facts: str) -> None:
        """What a peer did wrong while it helped to catch up."""
        _log.warning("a peer did not help to catch up", peer=peer_id_text(peer), offence=offence.value, facts=facts)
        self.keeper.report(peer, SAYS[offence])

    def head_moved(self) -> None:
        """Gossip goes on under the names of the rules that are in force at the head."""
        names = self._place.topic_names()
        if names != self._names:
            self._names = names
            self.transport.rename_topics(names)

    # As the connection keeper's listener.

    def connected(self, connection: Connection) -> None:
        known = self.handshake.known.get(connection.peer)
        if known is not None:
            self.keeper.learn(connection.peer, _addresses_said(known.status.addresses, connection))
        self.transport.connected(connection)

    def disconnected(self, connection: Connection) -> None:
        if connection.peer not in self.host.connections:
            self.handshake.forget(connection.peer)
            self.requests.forget(connection.peer)
        self.transport.disconnected(connection)

    def connected_from(self) -> list[tuple[PeerId, str]]:
        """Peers, each with the IP address of the connection's other end."""
        return [(peer, connection.address.host) for peer, connection in self.host.connections.items()]

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.host.run)
            await nursery.start(self.transport.run)
            await nursery.start(self.keeper.run, self)
            nursery.start_soon(self.handshake.run)
            nursery.start_soon(self._exchange.run)
            nursery.start_soon(self.topics.run)
            nursery.start_soon(self._report_turned_away)
            for address in self.host.listen_addresses:
                if address.is_every:
                    where = f"every address of this machine, port {address.port}"
                    bootnode = f"/ip4/HOST/tcp/{address.port}/p2p/{peer_id_text(self.host.own_id)}"
                    _log.info("listening for other nodes", on=where, bootnode=bootnode)
                else:
                    _log.info("listening for other nodes", address=str(address))
            task_status.started()

    async def _report_turned_away(self) -> None:
        """A flood is one line a minute."""
        while True:
            await trio.sleep(REPORT_INTERVAL_S)
            lately = self.host.turned_away.lately()
            if lately.count >= MANY_TURNED_AWAY:
                _log.warning(
                    "many connections of others came to nothing",
                    count=lately.count,
                    within_s=REPORT_INTERVAL_S,
                    most_from=lately.most_from,
                    of_these=lately.most,
                )


async def open_network(
    config: P2pConfig, folder: DataFolder, place: NetworkPlace, heads: PeerHeads, now_ms: NowMs
) -> Network:
    """Listens from now on. Raises UnusableNetwork."""
    identity = _node_key(folder)
    bootnodes = _bootnodes(config.bootnodes, identity.peer_id)
    advertised = _advertised(config.advertise, identity.peer_id)
    book = _peer_book(folder)
    chance: Random = SystemRandom()
    dialer = Dialer(identity.peer_id, chance.random)

    def report(peer: PeerId, offence: Offence | GossipOffence) -> None:
        keeper.report(peer, offence)

    def is_needed(peer: PeerId) -> bool:
        return peer in keeper.validators()

    def was_sought(peer: PeerId) -> bool:
        connection = host.connections.get(peer)
        is_bootnode = any(address.peer == peer for address in bootnodes)
        return is_bootnode or (connection is not None and connection.outbound)

    def own_addresses() -> Iterable[str]:
        return [str(address) for address in advertised or host.listen_addresses]

    def known_addresses() -> Iterable[Address]:
        yield from advertised
        for peer in host.connections:
            known = book.get(peer)
            if known is not None:
                yield from (address.with_peer(peer) for address in known.addresses[:1])
        for candidate in book.candidates(int(time.time()), MAX_CANDIDATES):
            yield from (address.with_peer(candidate.peer) for address in candidate.addresses[:1])

    def learn(peer: PeerId, addresses: Iterable[Address]) -> None:
        if peer != identity.peer_id:
            keeper.learn(peer, addresses)

    def connected_peers() -> Collection[tuple[PeerId, str]]:
        return [(peer, connection.address.host) for peer, connection in host.connections.items()]

    try:
        host = await Host.open(
            identity,
            [Address(config.host, config.port)],
            gate=BanGate(book, time.time),
            is_needed=is_needed,
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            advice = "stop what uses it, or choose another one with --p2p-port"
        else:
            advice = "choose another port with --p2p-port, or give an address of this machine with --p2p-host"
        raise UnusableNetwork(
            f"cannot listen for other nodes on port {config.port} of {config.host}: {error.strerror}: {advice}"
        ) from error
    requests = Requests(host, report)
    handshake = Handshake(
        requests,
        place.identity,
        place.head,
        heads,
        now_ms,
        place.client,
        own_addresses,
        host.close_peer,
        RefusedPeers(now_ms, was_sought),
    )
    keeper = ConnectionKeeper(
        host,
        book,
        dialer,
        time.time,
        bootnodes=bootnodes,
        greet=handshake.greet,
        notice=_notice,
        book_path=folder.peer_book,
    )
    transport = Libp2pTransport(
        host, requests, place.topic_names(), report=report, validators=keeper.validators, chance=chance
    )
    exchange = PeerExchange(requests, connected_peers, known_addresses, learn)
    requests.serve(STATUS, handshake.answer)
    requests.serve(PEERS, exchange.answer)
    # Whoever the operator names is dialled as insistently as a validator.
    keeper.set_validators({address.peer: [address] for address in bootnodes if address.peer is not None})
    return Network(host, keeper, transport, requests, handshake, exchange, place)


def _node_key(folder: DataFolder) -> Identity:
    try:
        return load_or_create_identity(folder.node_key)
    except (UnusableNodeKey, OSError) as error:
        raise UnusableNetwork(f"node key: {error}") from error


def _peer_book(folder: DataFolder) -> PeerBook:
    try:
        book, warning = load_peer_book(folder.peer_book)
    except OSError as error:
        raise UnusableNetwork(f"peer book: {error}") from error
    if warning:
        _log.warning("the peer book cannot be used; it begins anew", why=warning)
    return book


def _bootnodes(texts: Sequence[str], own_id: PeerId) -> list[Address]:
    """Without this node itself: one list may serve every node of a network."""
    found = _parse_all("p2p.bootnodes", texts)
    for address in found:
        if address.peer is None or not address.port:
            raise UnusableNetwork(f"p2p.bootnodes: expected a port and /p2p/PEER, found '{address}'")
    return [address for address in found if address.peer != own_id]


def _advertised(texts: Sequence[str], own_id: PeerId) -> list[Address]:
    """As others are told of them."""
    found = [address.with_peer(own_id) for address in _parse_all("p2p.advertise", texts)]
    for address in found:
        if not address.port:
            raise UnusableNetwork(f"p2p.advertise: expected a port that others can dial, found '{address}'")
        if len(str(address)) > MAX_ADDRESS_BYTES:
            raise UnusableNetwork(
                f"p2p.advertise: expected at most {MAX_ADDRESS_BYTES} characters with /p2p/ and the peer id of this "
                f"node, found '{address}'"
            )
    return found


def _parse_all(setting: str, texts: Sequence[str]) -> list[Address]:
    try:
        return [parse_address(text) for text in texts]
    except BadAddress as error:
        raise UnusableNetwork(f"{setting}: {error}") from error


def _addresses_said(texts: Iterable[str], connection: Connection) -> list[Address]:
    """What a peer says of itself, as far as it is understood and not of another peer.

    One that listens on every address of its machine is taken to listen on the one that it came from.
    """
    found = []
    for text in texts:
        try:
            address = parse_address(text)
        except BadAddress:
            continue
        if address.is_every:
            address = Address(connection.address.host, address.port)
        if address.peer in (None, connection.peer) and address.port:
            found.append(address.with_peer(connection.peer))
    return found


def _notice(what: str, peer: PeerId, why: str) -> None:
    say = _log.warning if what == CUT_OFF else _log.info
    say(what, peer=peer_id_text(peer), why=why)
