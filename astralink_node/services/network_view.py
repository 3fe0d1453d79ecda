"""The node's place on the network as operators see it, put together when they ask: a look, nothing is kept but who was
turned away and where catching up began."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from astralink_node.clock import NowMs
from astralink_node.gateway.link_messages import BootnodeView, NetworkView, PeerView, SyncProgress, ValidatorPeer
from astralink_node.services.handshake import ChainIdentity, KnownStatus
from astralink_node.services.peer_heads import PeerHeads
from astralink_node.services.refused_peers import RefusedPeers
from p2p.addresses import Address, peer_id_text
from p2p.connection_keeper import Trouble
from p2p.peer_id import PeerId
from p2p.streams import Connection
from p2p.turned_away import TurnedAway

if TYPE_CHECKING:
    from astralink_node.services.network import Network  # and with it libp2p, which takes a second to load


@dataclass(frozen=True, slots=True)
class NetworkParts:
    """What a view is put together from; each is asked anew."""

    peer_id: PeerId
    listen_addresses: tuple[Address, ...]
    identity: ChainIdentity
    connections: Callable[[], Mapping[PeerId, Connection]]
    known: Callable[[], Mapping[PeerId, KnownStatus]]
    """Of those that are welcome."""
    points: Callable[[PeerId], float]
    turned_away: TurnedAway
    bootnodes: Callable[[], Sequence[tuple[Address, Trouble | None]]]
    advertised: Callable[[], tuple[str, ...]]
    validators: Callable[[], Mapping[PeerId, bytes]]
    """Voting keys of the present set's other members, by the nodes that run them, as far as they are known."""
    head_height: Callable[[], int]
    best_height: Callable[[], int]
    """The furthest that a peer says to be."""
    is_syncing: Callable[[], bool]
    clock_precision_ms: int


def parts_of(
    network: "Network",
    identity: ChainIdentity,
    heads: PeerHeads,
    *,
    head_height: Callable[[], int],
    is_syncing: Callable[[], bool],
    validators: Callable[[], Mapping[PeerId, bytes]],
    clock_precision_ms: int,
) -> NetworkParts:
    """Of a running node's network."""
    return NetworkParts(
        peer_id=network.host.own_id,
        listen_addresses=network.host.listen_addresses,
        identity=identity,
        connections=lambda: network.host.connections,
        known=lambda: network.handshake.known,
        points=network.keeper.points,
        turned_away=network.host.turned_away,
        bootnodes=network.keeper.bootnodes,
        advertised=lambda: network.handshake.own_status().addresses,
        validators=validators,
        head_height=head_height,
        best_height=heads.best,
        is_syncing=is_syncing,
        clock_precision_ms=clock_precision_ms,
    )


class NetworkObserver:
    """`view` is what GatewayLink takes as its `network`."""

    def __init__(self, parts: NetworkParts, refused: RefusedPeers, now_ms: NowMs) -> None:
        self._parts = parts
        self._refused = refused
        self._now_ms = now_ms
        self._sync_began_at: int | None = None

    def view(self) -> NetworkView:
        parts = self._parts
        known, connections = parts.known(), parts.connections()
        return NetworkView(
            is_listening=bool(parts.listen_addresses),
            peer_id=peer_id_text(parts.peer_id),
            listen_addresses=tuple(str(address.with_peer(None)) for address in parts.listen_addresses),
            advertised_addresses=parts.advertised(),
            peers=tuple(
                self._peer(connection, known[peer]) for peer, connection in connections.items() if peer in known
            ),
            refused=self._refused.newest(),
            validators=tuple(ValidatorPeer(key, peer_id_text(peer)) for peer, key in parts.validators().items()),
            sync=self._sync(),
            clock_precision_ms=parts.clock_precision_ms,
            bootnodes=tuple(
                BootnodeView(
                    str(address),
                    address.peer in known,
                    "" if trouble is None else trouble.reason,
                    0 if trouble is None else int(1000 * trouble.at_s),
                )
                for address, trouble in parts.bootnodes()
            ),
            connections_refused=parts.turned_away.refused,
            handshakes_failed=parts.turned_away.failed,
        )

    def _peer(self, connection: Connection, known: KnownStatus) -> PeerView:
        status, identity = known.status, self._parts.identity
        connected_ms = int(1000 * (trio.current_time() - connection.opened))
        return PeerView(
            peer_id=peer_id_text(connection.peer),
            addresses=(str(connection.address.with_peer(None)), *status.addresses),
            is_outbound=connection.outbound,
            connected_since_ms=self._now_ms() - connected_ms,
            head_height=status.head_height,
            genesis_matches=status.genesis_hash == identity.genesis_hash,
            forks_match=status.fork_digest == identity.digest_at(status.head_height),
            clock_skew_ms=known.skew_ms,
            client=status.client,
            points=int(self._parts.points(connection.peer)),
            round_trip_ms=known.round_trip_ms,
        )

    def _sync(self) -> SyncProgress | None:
        if not self._parts.is_syncing():
            self._sync_began_at = None
            return None
        current = self._parts.head_height()
        if self._sync_began_at is None:
            self._sync_began_at = current
        return SyncProgress(self._sync_began_at, current, max(current, self._parts.best_height()))
