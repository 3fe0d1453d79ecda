"""Who may talk to the gateway: the Host header, the Origin header, and the CORS answer. Pure.

As geth, so that wallets work without set-up, with one addition: pages that were served from this machine
(a developer's ``http://localhost:3000``) may read answers by default. What is defended against:

* DNS rebinding, by which a foreign page reaches a loopback port under its own name: requests must be addressed
  to an IP address or to a name in ``vhosts``.
* A foreign page that posts without reading the answer: only ``application/json`` is taken, which a page of
  another origin cannot send before a preflight has allowed it.
* A foreign page that opens a WebSocket, which browsers do not preflight: its Origin must be allowed. Browser
  extensions (wallets) are; their origin is not a page's to choose. Programs send no Origin at all.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from astralink_node.gateway.config import LOOPBACK

ANY = "*"
EXTENSION_SCHEMES = frozenset({"chrome-extension", "moz-extension", "safari-web-extension"})
PREFLIGHT_MAX_AGE_S = 600
MAX_HOST_LENGTH = 300
"""A name has 253 characters at most (RFC 1035), a port five."""
HOSTS_REMEMBERED = 256
"""What was found about their text: a client sends the same with each request."""

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    vhosts: frozenset[str]
    origins: frozenset[str]

    def host_allowed(self, host: str | None) -> bool:
        """IP addresses cannot be rebound; a request without a Host header is not a browser's."""
        if host is None or not host or ANY in self.vhosts:
            return True
        if len(host) > MAX_HOST_LENGTH:
            return False
        name, is_address = _read_host(host)
        return is_address or name in self.vhosts

    def origin_allowed(self, origin: str) -> bool:
        """Whether pages of this origin may read answers."""
        if ANY in self.origins or origin.lower() in self.origins:
            return True
        return LOOPBACK in self.origins and is_loopback_origin(origin)

    def websocket_origin_allowed(self, origin: str | None) -> bool:
        if origin is None or self.origin_allowed(origin):
            return True
        return origin.partition("://")[0] in EXTENSION_SCHEMES

    def cors_headers(self, origin: str | None) -> Headers:
        """For an answer to a page; none when the browser is to keep the answer from it."""
        if origin is None or not self.origin_allowed(origin):
            return []
        if ANY in self.origins:
            return [(b"access-control-allow-origin", b"*")]
        return [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]

    def preflight_headers(self, origin: str | None, *, private_network: bool) -> Headers:
        headers = self.cors_headers(origin)
        if not headers:
            return []
        headers += [
            (b"access-control-allow-methods", b"POST, GET, OPTIONS"),
            (b"access-control-allow-headers", b"Content-Type"),
            (b"access-control-max-age", str(PREFLIGHT_MAX_AGE_S).encode("ascii")),
        ]
        if private_network:
            # Browsers ask this before a public page may reach a loopback address.
            headers.append((b"access-control-allow-private-network", b"true"))
        return headers


def access_policy(vhosts: Iterable[str], origins: Iterable[str]) -> AccessPolicy:
    return AccessPolicy(
        vhosts=frozenset(name.lower() for name in vhosts),
        origins=frozenset(origin.lower().rstrip("/") for origin in origins),
    )


def host_name(host: str) -> str | None:
    """The name in a Host header, without port and brackets; None if it is malformed."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return None
    return name.lower().rstrip(".") if name else None


@lru_cache(HOSTS_REMEMBERED)
def _read_host(host: str) -> tuple[str | None, bool]:
    """The name, and whether it is an IP address."""
    name = host_name(host)
    return name, name is not None and _is_ip_address(name)


def is_loopback_origin(origin: str) -> bool:
    try:
        parts = urlsplit(origin)
        name = parts.hostname
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not name:
        return False
    # RFC 6761: every name below localhost is this machine.
    return name == "localhost" or name.endswith(".localhost") or _is_loopback_address(name)


def _is_ip_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback_address(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
