"""The peers that this node knows of, on disk: where they listen, when they were last seen, and who is banned.

One JSON file, replaced as a whole. It is a convenience: without it a node finds the others again by its bootnodes, so a
damaged file is put aside with a warning and never stops a node. Times are Unix seconds and arguments.
"""

import ipaddress
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from p2p.addresses import Address, parse_address, parse_peer_id, peer_id_text
from p2p.peer_id import PeerId

MAX_PEERS: Final = 1000
"""Beyond, the least useful one is forgotten: most failures in sequence first, then the one not seen for longest."""
MAX_ADDRESSES: Final = 8
"""Of one peer; the newest are kept."""
MAX_BANS: Final = 4096
"""Peers and IP addresses each; beyond, the ban that ends first is dropped."""
MAX_FILE_BYTES: Final = 8 << 20
MAX_NESTING: Final = 64
_FORMAT: Final = 1

Key = TypeVar("Key", PeerId, str)


@dataclass(frozen=True, slots=True)
class KnownPeer:
    peer: PeerId
    addresses: tuple[Address, ...]
    """The last known good one first."""
    last_seen_s: int = 0
    """When it was connected last; 0: never."""
    failures: int = 0
    """Dials in sequence that reached nobody."""


@dataclass(frozen=True, slots=True)
class KnownBan:
    until_s: int
    reason: str


class PeerBook:
    """In memory; `save` writes it. Banned peers are kept apart from known ones: bans outlive what is known."""

    def __init__(self) -> None:
        self._peers: dict[PeerId, KnownPeer] = {}
        self._banned_peers: dict[PeerId, KnownBan] = {}
        self._banned_ips: dict[str, KnownBan] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def get(self, peer: PeerId) -> KnownPeer | None:
        return self._peers.get(peer)

    def learn(self, peer: PeerId, addresses: Iterable[Address]) -> None:
        """Somebody says that the peer listens there. Behind what is known to work."""
        known = self._peers.get(peer) or KnownPeer(peer, ())
        new = [address.with_peer(peer) for address in addresses]
        self._put(replace(known, addresses=tuple(dict.fromkeys([*known.addresses, *new]))[:MAX_ADDRESSES]))

    def note_seen(self, peer: PeerId, now_s: int, dialled: Address | None = None) -> None:
        """It is connected; `dialled` is the address at which it answered, if this node dialled it."""
        known = self._peers.get(peer) or KnownPeer(peer, ())
        first = () if dialled is None else (dialled.with_peer(peer),)
        addresses = tuple(dict.fromkeys([*first, *known.addresses]))[:MAX_ADDRESSES]
        self._put(KnownPeer(peer, addresses, now_s, 0))

    def note_failure(self, peer: PeerId) -> None:
        """A dial of all its addresses failed."""
        known = self._peers.get(peer)
        if known is not None:
            self._peers[peer] = replace(known, failures=known.failures + 1)

    def candidates(self, now_s: int, limit: int) -> list[KnownPeer]:
        """Peers worth dialling, the most promising first: few failures, seen lately."""
        usable = [known for known in self._peers.values() if known.addresses and not self.is_banned(known.peer, now_s)]
        return sorted(usable, key=_usefulness, reverse=True)[:limit]

    def ban(self, peer: PeerId, until_s: int, reason: str) -> None:
        _add_ban(self._banned_peers, peer, KnownBan(until_s, reason))

    def ban_ip(self, ip: str, until_s: int, reason: str) -> None:
        """Loopback is never banned: everything on this machine shares it."""
        if not ipaddress.ip_address(ip).is_loopback:
            _add_ban(self._banned_ips, ip, KnownBan(until_s, reason))

    def lift_ban(self, peer: PeerId) -> None:
        self._banned_peers.pop(peer, None)

    def is_banned(self, peer: PeerId, now_s: float) -> bool:
        found = self._banned_peers.get(peer)
        return found is not None and now_s < found.until_s

    def is_ip_banned(self, ip: str, now_s: float) -> bool:
        found = self._banned_ips.get(ip)
        return found is not None and now_s < found.until_s

    def bans(self, now_s: float) -> dict[PeerId, KnownBan]:
        """Those that have not ended."""
        return {peer: found for peer, found in self._banned_peers.items() if now_s < found.until_s}

    def save(self, path: Path, now_s: int) -> None:
        """Whole or not at all. Raises OSError."""
        text = json.dumps(
            {
                "format": _FORMAT,
                "peers": [_peer_json(known) for known in self._peers.values()],
                "banned_peers": [_ban_json(peer_id_text(peer), ban) for peer, ban in self.bans(now_s).items()],
                "banned_ips": [_ban_json(ip, ban) for ip, ban in self._banned_ips.items() if now_s < ban.until_s],
            },
            indent=1,
        )
        aside = path.with_name(path.name + ".new")
        with aside.open("w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)

    def _put(self, known: KnownPeer) -> None:
        self._peers[known.peer] = known
        if len(self._peers) > MAX_PEERS:
            others = (other for other in self._peers.values() if other.peer != known.peer)
            del self._peers[min(others, key=_usefulness).peer]


def load_peer_book(path: Path) -> tuple[PeerBook, str]:
    """The book, and a warning where the file was damaged (the book is then empty, and the file has another name).

    Raises OSError where the file is there and cannot be read.
    """
    if not path.exists():
        return PeerBook(), ""
    try:
        return _read(path), ""
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        aside = path.with_name(path.name + ".damaged")
        path.replace(aside)
        return PeerBook(), f"{path}: not a peer book ({error!r:.200}): kept as {aside.name}, and a new one begun"


class BanGate:
    """Keeps banned peers and addresses out of a host (p2p.libp2p_host.Gate)."""

    def __init__(self, book: PeerBook, now_s: Callable[[], float]) -> None:
        self._book = book
        self._now_s = now_s

    def admits_ip(self, ip: str) -> bool:
        return not self._book.is_ip_banned(ip, self._now_s())

    def admits_peer(self, peer: PeerId) -> bool:
        return not self._book.is_banned(peer, self._now_s())


def _usefulness(known: KnownPeer) -> tuple[int, int]:
    return -known.failures, known.last_seen_s


def _add_ban(bans: dict[Key, KnownBan], key: Key, ban: KnownBan) -> None:
    bans[key] = ban
    if len(bans) > MAX_BANS:
        del bans[min(bans, key=lambda other: bans[other].until_s)]


def _peer_json(known: KnownPeer) -> dict[str, Any]:
    return {
        "peer": peer_id_text(known.peer),
        "addresses": [str(address.with_peer(None)) for address in known.addresses],
        "last_seen_s": known.last_seen_s,
        "failures": known.failures,
    }


def _ban_json(name: str, ban: KnownBan) -> dict[str, Any]:
    return {"name": name, "until_s": ban.until_s, "reason": ban.reason}


def _read(path: Path) -> PeerBook:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"expected at most {MAX_FILE_BYTES} bytes, found {path.stat().st_size}")
    text = path.read_text(encoding="ascii")
    _check_nesting(text)
    content = json.loads(text)
    if content["format"] != _FORMAT:
        raise ValueError(f"expected format {_FORMAT}, found {content['format']!r}")
    book = PeerBook()
    for entry in content["peers"]:
        peer = parse_peer_id(entry["peer"])
        addresses = tuple(parse_address(text).with_peer(peer) for text in entry["addresses"])[:MAX_ADDRESSES]
        book._put(KnownPeer(peer, addresses, _whole(entry["last_seen_s"]), _whole(entry["failures"])))
    for entry in content["banned_peers"]:
        book.ban(parse_peer_id(entry["name"]), _whole(entry["until_s"]), str(entry["reason"]))
    for entry in content["banned_ips"]:
        book.ban_ip(str(entry["name"]), _whole(entry["until_s"]), str(entry["reason"]))
    return book


def _check_nesting(text: str) -> None:
    """The parser recurses as deeply as the text does, which a process with a raised recursion limit does not survive.
    Brackets inside strings count too: a book has hardly any."""
    depth = 0
    for character in text:
        if character in "[{":
            depth += 1
            if depth > MAX_NESTING:
                raise ValueError(f"expected at most {MAX_NESTING} levels of nesting, found more")
        elif character in "]}":
            depth -= 1


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"expected a whole number, found {value!r}")
    return value
