"""Learns from peers whom else there is: each is asked now and then for addresses that it has used or been told.

Addresses are hearsay: the peer book holds them until a dial shows who answers there. What one peer may say is bounded,
and a private address is passed on only to peers that are themselves reached at one.
"""

import ipaddress
from collections.abc import Callable, Collection, Iterable
from typing import Final

import trio

from p2p.addresses import Address, BadAddress, parse_address
from p2p.request_protocol import AsksPeers, MalformedRequest, RequestFailed, RequestProtocol
from p2p.transport import PeerId

MAX_SHARED: Final = 32
MAX_ANSWER_BYTES: Final = 8_192
PEERS: Final = RequestProtocol("/astralink/peers/1", 1, MAX_ANSWER_BYTES, rate=0.2, burst=4)
FIRST_INTERVAL_S: Final = 1.0
"""Doubles from here, as long as nothing new is learned, up to ..."""
MAX_INTERVAL_S: Final = 60.0

Learn = Callable[[PeerId, Iterable[Address]], None]
Known = Callable[[], Iterable[Address]]
"""Addresses worth passing on, each with its peer, the best first."""


class PeerExchange:
    """See the module's description. `peers` are those connected now, with where each is connected from or to."""

    def __init__(
        self, requests: AsksPeers, peers: Callable[[], Collection[tuple[PeerId, str]]], known: Known, learn: Learn
    ) -> None:
        self._requests = requests
        self._peers = peers
        self._known = known
        self._learn = learn
        self._learned = 0

    async def run(self) -> None:
        interval_s = FIRST_INTERVAL_S
        while True:
            await trio.sleep(interval_s)
            before = self._learned
            async with trio.open_nursery() as nursery:
                for peer, _ in self._peers():
                    nursery.start_soon(self._ask, peer)
            interval_s = FIRST_INTERVAL_S if self._learned > before else min(2 * interval_s, MAX_INTERVAL_S)

    async def answer(self, peer: PeerId, data: bytes) -> bytes:
        if data:
            raise MalformedRequest("expected an empty request")
        asks_from = next((ip for other, ip in self._peers() if other == peer), "")
        lines: list[str] = []
        for address in self._known():
            if address.peer not in (None, peer) and (_is_private(asks_from) or not _is_private(address.host)):
                lines.append(str(address))
                if len(lines) == MAX_SHARED:
                    break
        return "\n".join(lines).encode("ascii")[:MAX_ANSWER_BYTES]

    async def _ask(self, peer: PeerId) -> None:
        try:
            answer = await self._requests.request(peer, PEERS, b"")
        except RequestFailed:
            return  # it is scored where requests are made
        known = {str(address) for address in self._known()}
        for line in answer.decode("ascii", "replace").split("\n")[:MAX_SHARED]:
            try:
                address = parse_address(line)
            except BadAddress:
                continue
            if address.peer is not None and address.port and str(address) not in known:
                self._learned += 1
                self._learn(address.peer, [address])


def _is_private(host: str) -> bool:
    """Of a network of its own: loopback and the like. Names are taken to be public."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False
