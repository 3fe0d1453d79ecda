"""Where a peer listens: the TCP part of multiaddresses (/ip4/192.0.2.1/tcp/30303/p2p/12D3Koo...), and peer ids as text.

Other transports' addresses are refused by name. https://github.com/multiformats/multiaddr, libp2p specs/addressing.
"""

import ipaddress
from dataclasses import dataclass, replace
from typing import Final

import base58

from p2p.peer_id import PeerId

MAX_ADDRESS_LENGTH: Final = 400
MAX_PEER_ID_LENGTH: Final = 64
_HOST_KINDS: Final = ("ip4", "ip6", "dns", "dns4", "dns6")
_EVERY_HOST: Final = ("0.0.0.0", "::")
_IDENTITY_HASH: Final = 0x00
_SHA2_256_HASH: Final = 0x12
_INLINE_KEYS: Final = {1: 32, 2: 33}
"""Kinds whose keys are short enough to stand in the id themselves (Ed25519, secp256k1), and the keys' lengths."""


class BadAddress(ValueError):
    """Text that is no address of a TCP peer, or no peer id."""


def peer_id_text(peer: PeerId) -> str:
    """Base58 of the multihash, as libp2p writes it: 12D3KooW... for an Ed25519 key."""
    return base58.b58encode(peer).decode()


def parse_peer_id(text: str) -> PeerId:
    if len(text) > MAX_PEER_ID_LENGTH:
        raise BadAddress(f"peer id: expected at most {MAX_PEER_ID_LENGTH} characters, found {len(text)}")
    try:
        raw = base58.b58decode(text.encode())
    except ValueError:
        raise BadAddress(f"peer id: expected base58, found {text[:80]!r}") from None
    if not is_peer_id(raw):
        raise BadAddress(
            f"peer id: expected a whole one (52 characters for an Ed25519 key, or 46), found {text[:80]!r}"
        )
    return PeerId(raw)


def is_peer_id(raw: bytes) -> bool:
    """A multihash: the key itself where it is short, as protobuf, else its SHA-256 (libp2p specs/peer-ids)."""
    if len(raw) < 3 or raw[1] != len(raw) - 2:
        return False
    if raw[0] == _SHA2_256_HASH:
        return len(raw) == 34
    heads = (bytes([_IDENTITY_HASH, 4 + size, 0x08, kind, 0x12, size]) for kind, size in _INLINE_KEYS.items())
    return any(raw[:6] == head and len(raw) == 6 + head[5] for head in heads)


@dataclass(frozen=True, slots=True, order=True)
class Address:
    host: str
    """An IP address, or a name to look up when dialling."""
    port: int
    peer: PeerId | None = None
    """Who must answer there."""

    @property
    def is_ip(self) -> bool:
        return _ip_kind(self.host) is not None

    @property
    def is_every(self) -> bool:
        """Every address of the machine: to listen on, and of no use to others."""
        return self.host in _EVERY_HOST

    def with_peer(self, peer: PeerId | None) -> "Address":
        return replace(self, peer=peer)

    def __str__(self) -> str:
        text = f"/{_ip_kind(self.host) or 'dns'}/{self.host}/tcp/{self.port}"
        return text if self.peer is None else f"{text}/p2p/{peer_id_text(self.peer)}"


def parse_address(text: str) -> Address:
    """The inverse of `str(address)`."""
    if len(text) > MAX_ADDRESS_LENGTH:
        raise BadAddress(f"address: expected at most {MAX_ADDRESS_LENGTH} characters, found {len(text)}")
    parts = text.split("/")
    match parts:
        case ["", kind, host, "tcp", port] if kind in _HOST_KINDS:
            peer = None
        case ["", kind, host, "tcp", port, "p2p", peer_text] if kind in _HOST_KINDS:
            peer = parse_peer_id(peer_text)
        case _:
            raise BadAddress(f"address: expected /ip4/HOST/tcp/PORT[/p2p/PEER] (or ip6, dns), found {text!r}")
    if kind in ("ip4", "ip6") and _ip_kind(host) != kind:
        raise BadAddress(f"address: expected an {kind} address, found {host!r}")
    if not host or not host.isascii() or not host.isprintable() or " " in host:
        raise BadAddress(f"address: expected a host name, found {host!r}")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 0xFFFF):
        raise BadAddress(f"address: expected a port of 0 to 65535, found {port!r}")
    return Address(host, int(port), peer)


def limit_group(ip: str) -> str:
    """What limits for each IP address count together: whoever has one IPv6 address has all of its /64 network."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    return ip if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))


def _ip_kind(host: str) -> str | None:
    try:
        return "ip4" if ipaddress.ip_address(host).version == 4 else "ip6"
    except ValueError:
        return None
