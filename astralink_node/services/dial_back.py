"""Whether others can reach this node where it says that they can: it asks a few peers to dial it, and does so for them.

A node is dialled only as itself: whoever answers at an address must prove the asking peer's id, under a name of the
moment, so that the connection that carries the question is left alone. What strangers could make this node connect to
is bounded: no names, no addresses of this machine or of private networks for those who are not there themselves, and
few dials a minute for all peers together.
"""

import ipaddress
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

import trio

from astralink_node.gateway.link_messages import DialedBack
from consensus.wire import DecodeError, WireReader
from p2p.addresses import Address, BadAddress, parse_address, peer_id_text
from p2p.identity import new_identity
from p2p.peer_id import PeerId
from p2p.peer_limits import TokenBucket
from p2p.request_protocol import (
    AsksPeers,
    MalformedRequest,
    Refused,
    RequestFailed,
    RequestProtocol,
    ServesPeers,
)
from p2p.streams import DialFailed

MAX_ADDRESSES: Final = 4
"""Of one request; a node with more has the first ones checked."""
MAX_ADDRESS_BYTES: Final = 128
MAX_DETAIL_BYTES: Final = 160
MAX_ASKED: Final = 3
"""Peers that are asked at once."""
DIALS_A_SECOND: Final = 0.2
DIALS_BURST: Final = 12.0
"""For all peers together; requests beyond are refused."""
REUSE_S: Final = 10.0
"""A check's result is given again for so long: whoever may call RPC must not make peers dial at will."""
DIAL_BACK: Final = RequestProtocol(
    "/astralink/dialback/1",
    1 + MAX_ADDRESSES * (1 + MAX_ADDRESS_BYTES),
    1 + MAX_ADDRESSES * (2 + MAX_DETAIL_BYTES),
    rate=0.1,
    burst=4,
    timeout_s=15.0,
)

Dialler = Callable[[Address], Awaitable[None]]
"""Connects to an address, whose `peer` must answer there, and lets go again. Raises DialFailed."""


class Outcome(IntEnum):
    """On the wire; further values are taken for FAILED."""

    REACHED = 0
    FAILED = 1
    REFUSED = 2
    """Not tried."""


@dataclass(frozen=True, slots=True)
class Attempt:
    outcome: Outcome
    detail: str


class AsksAndServesPeers(AsksPeers, ServesPeers, Protocol):
    """Both sides."""


class DialBack:
    """Serves from the beginning; nothing has to run.

    `peers` are those connected now, with the other end's IP address of each; `own_addresses` what this node advertises.
    """

    def __init__(
        self,
        requests: AsksAndServesPeers,
        peers: Callable[[], Collection[tuple[PeerId, str]]],
        own_addresses: Callable[[], Sequence[str]],
        dialler: Dialler,
    ) -> None:
        self._requests = requests
        self._peers = peers
        self._own_addresses = own_addresses
        self._dialler = dialler
        self._bucket = TokenBucket(DIALS_A_SECOND, DIALS_BURST)
        self._checking = trio.Lock()
        self._checked_s = -REUSE_S
        self._found: tuple[DialedBack, ...] = ()
        requests.serve(DIAL_BACK, self._answer)

    # Asking.

    async def check(self) -> tuple[DialedBack, ...]:
        """What a few peers find when they dial the advertised addresses; none without peers or addresses."""
        async with self._checking:
            if trio.current_time() - self._checked_s >= REUSE_S:
                self._found = await self._ask_some()
                self._checked_s = trio.current_time()
            return self._found

    async def _ask_some(self) -> tuple[DialedBack, ...]:
        addresses = [text for text in self._own_addresses() if len(text) <= MAX_ADDRESS_BYTES][:MAX_ADDRESSES]
        peers = [peer for peer, _ in self._peers()][:MAX_ASKED]
        found: dict[PeerId, list[DialedBack]] = {peer: [] for peer in peers}
        if not addresses:
            return ()

        async def ask(peer: PeerId) -> None:
            found[peer] = await self._ask(peer, addresses)

        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(ask, peer)
        return tuple(report for reports in found.values() for report in reports)

    async def _ask(self, peer: PeerId, addresses: Sequence[str]) -> list[DialedBack]:
        name = peer_id_text(peer)
        try:
            answer = await self._requests.request(peer, DIAL_BACK, encode_addresses(addresses))
            attempts = decode_attempts(answer, len(addresses))
        except RequestFailed as error:
            return [DialedBack(name, address, "unanswered", error.failure.value) for address in addresses]
        except DecodeError as error:
            return [DialedBack(name, address, "unanswered", f"not understood: {error}") for address in addresses]
        return [
            DialedBack(name, address, attempt.outcome.name.lower(), attempt.detail)
            for address, attempt in zip(addresses, attempts, strict=True)
        ]

    # Answering.

    async def _answer(self, peer: PeerId, data: bytes) -> bytes:
        try:
            addresses = [parse_address(text) for text in decode_addresses(data)]
        except (DecodeError, BadAddress) as error:
            raise MalformedRequest(str(error)) from error
        asks_from = next((ip for other, ip in self._peers() if other == peer), None)
        if asks_from is None:
            raise Refused("you are not connected")
        if not self._bucket.take(len(addresses), trio.current_time()):
            raise Refused("too many ask: come back in a minute")
        attempts = [Attempt(Outcome.FAILED, "")] * len(addresses)

        async def attempt(index: int, address: Address) -> None:
            attempts[index] = await self._attempt(peer, asks_from, address)

        async with trio.open_nursery() as nursery:
            for index, address in enumerate(addresses):
                nursery.start_soon(attempt, index, address)
        return encode_attempts(attempts)

    async def _attempt(self, peer: PeerId, asks_from: str, address: Address) -> Attempt:
        if address.is_every:  # taken as everybody takes it: to be where the asker came from
            address = Address(asks_from, address.port, address.peer)
        why_not = refusal_of(address, peer, asks_from)
        if why_not:
            return Attempt(Outcome.REFUSED, why_not)
        target = address.with_peer(peer)
        try:
            await self._dialler(target)
        except DialFailed as error:
            return Attempt(Outcome.FAILED, str(error).removeprefix(f"{target.with_peer(None)}: "))
        return Attempt(Outcome.REACHED, "")


def refusal_of(address: Address, asker: PeerId, asks_from: str) -> str:
    """Why an address is not dialled for a peer that is connected from an IP address; empty: it may be."""
    if address.peer not in (None, asker):
        return "the address names another peer"
    if not address.is_ip:
        return "names are not looked up for others"
    if not address.port:
        return "port 0 is no port"
    target, origin = _ip(address.host), _ip(asks_from)
    if target.is_loopback:
        return "" if origin.is_loopback else "a loopback address, and you are on another machine"
    if target.is_unspecified or target.is_multicast or target.is_link_local or target.is_reserved:
        return "nobody else can use that address"
    if not target.is_global and origin.is_global:
        return "a private address, and you come from a public one"
    return ""


async def dial_once(address: Address) -> None:
    """The dialler of a real network: a host of its own with a fresh key, gone as soon as the other side has proven who
    it is. Raises DialFailed."""
    from p2p.libp2p_host import Host  # libp2p takes a second to load, and nodes that stand alone do without

    host = await Host.open(new_identity(), ())
    failure: DialFailed | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        try:
            await host.dial([address])
        except DialFailed as error:
            failure = error  # raised in here it would come out in a group
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


# --- Bytes -------------------------------------------------------------------------------------------------------


def encode_addresses(addresses: Sequence[str]) -> bytes:
    """Count 1, then each multiaddress with length 1."""
    return bytes([len(addresses)]) + b"".join(bytes([len(text)]) + text.encode("ascii") for text in addresses)


def decode_addresses(data: bytes) -> list[str]:
    reader = WireReader(data)
    count = reader.unsigned(1, "count", maximum=MAX_ADDRESSES)
    texts = [_take_text(reader, "address", MAX_ADDRESS_BYTES) for _ in range(count)]
    reader.finish()
    return texts


def encode_attempts(attempts: Sequence[Attempt]) -> bytes:
    """Count 1, then for each address of the request, in its order: outcome 1, detail with length 1."""
    parts = [bytes([len(attempts)])]
    for attempt in attempts:
        detail = _printable(attempt.detail)
        parts.append(bytes([attempt.outcome, len(detail)]) + detail)
    return b"".join(parts)


def decode_attempts(data: bytes, expected: int) -> list[Attempt]:
    reader = WireReader(data)
    count = reader.unsigned(1, "count", maximum=MAX_ADDRESSES)
    if count != expected:
        raise DecodeError("count", str(expected), str(count))
    attempts = []
    for _ in range(count):
        outcome = reader.unsigned(1, "outcome")
        detail = _take_text(reader, "detail", MAX_DETAIL_BYTES)
        attempts.append(Attempt(Outcome(outcome) if outcome in set(Outcome) else Outcome.FAILED, detail))
    reader.finish()
    return attempts


def _take_text(reader: WireReader, field: str, maximum: int) -> str:
    """Printable ASCII: it is shown to people."""
    data = reader.take(reader.unsigned(1, field, maximum=maximum), field)
    if not all(32 <= byte < 127 for byte in data):
        raise DecodeError(field, "printable ASCII", data.hex())
    return data.decode("ascii")


def _printable(text: str) -> bytes:
    cut = text.encode("ascii", "replace")[:MAX_DETAIL_BYTES]
    return bytes(byte if 32 <= byte < 127 else ord("?") for byte in cut)


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IPv4 address in IPv6's clothes is what it is (RFC 4291, 2.5.5.2)."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped
