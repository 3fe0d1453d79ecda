"""Who is connected: bounds on all connections and on one client's, and which of them makes room for a newcomer.

A connection *waits* while its client owes it something: the head of a request or the rest of its body. Opening many
and sending nothing costs a client nothing, so the one that has waited longest goes when a newcomer finds the bound
reached; only where nobody waits is the newcomer turned away. A WebSocket never waits in this sense and is kept; there
are fewer places for them, so that plain requests find some. Plain bookkeeping: the protocols report, nobody polls.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import Protocol

from astralink_node.gateway.config import GatewayLimits

IPV6_CLIENT_BITS = 64
"""A site's network, the least that one client has: single IPv6 addresses cost it nothing."""


class Closable(Protocol):
    """A transport, as far as this module needs one; told apart by identity."""

    def abort(self) -> None: ...


class _Client:
    """What one address has open."""

    def __init__(self) -> None:
        self.open = 0
        self.websockets = 0
        self.waiting: OrderedDict[Closable, None] = OrderedDict()


class Connections:
    """All connections of one server."""

    def __init__(self, limits: GatewayLimits) -> None:
        self._limits = limits
        self._client_of: dict[Closable, str] = {}
        self._clients: dict[str, _Client] = {}
        self._websockets: set[Closable] = set()
        self._waiting: OrderedDict[Closable, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._client_of)

    def opened(self, connection: Closable, address: str) -> bool:
        """A client connected. False: there is no room for it, and it is not counted."""
        key = client_key(address)
        client = self._clients.get(key)
        if client is not None and client.open >= self._limits.connections_per_client:
            if not self._displace(client.waiting):
                return False
        elif len(self._client_of) >= self._limits.connections and not self._displace(self._waiting):
            return False
        self._client_of[connection] = key
        self._clients.setdefault(key, _Client()).open += 1
        self.waits(connection)
        return True

    def waits(self, connection: Closable) -> None:
        """Its client has something to send next. One that waits already keeps its place."""
        key = self._client_of.get(connection)
        if key is not None and connection not in self._websockets:
            self._waiting[connection] = None
            self._clients[key].waiting[connection] = None

    def works(self, connection: Closable) -> None:
        """A whole request is here: it is the server's turn."""
        key = self._client_of.get(connection)
        if key is not None:
            self._waiting.pop(connection, None)
            self._clients[key].waiting.pop(connection, None)

    def becomes_websocket(self, connection: Closable) -> bool:
        """It asked for a WebSocket. False: there are too many, all together or of this client."""
        key = self._client_of.get(connection)
        if key is None:
            return False
        client = self._clients[key]
        if len(self._websockets) >= self._limits.websockets or client.websockets >= self._limits.websockets_per_client:
            return False
        self.works(connection)
        self._websockets.add(connection)
        client.websockets += 1
        return True

    def closed(self, connection: Closable) -> None:
        """It is gone. Telling again changes nothing."""
        key = self._client_of.get(connection)
        if key is None:
            return
        self.works(connection)
        client = self._clients[key]
        if connection in self._websockets:
            self._websockets.remove(connection)
            client.websockets -= 1
        del self._client_of[connection]
        client.open -= 1
        if not client.open:
            del self._clients[key]

    def _displace(self, waiting: OrderedDict[Closable, None]) -> bool:
        """End the one that has waited longest."""
        victim = next(iter(waiting), None)
        if victim is None:
            return False
        self.closed(victim)
        victim.abort()
        return True


def client_key(address: str) -> str:
    """Whose connection it is: an IPv4 address, or an IPv6 network."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, IPV6_CLIENT_BITS), strict=False))
