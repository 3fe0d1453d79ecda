"""Learns from peers whom else there is: each is asked now and then for addresses that it has used or been told.

Addresses are hearsay: the peer book holds them until a dial shows who answers there. What one peer may say is bounded,
and a private address is passed on only to peers that are themselves reached at one.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from typing import Final

import trio

from p2p.addresses import Address, BadAddress, parse_address
from p2p.peer_id import PeerId
from p2p.request_protocol import AsksPeers, MalformedRequest, RequestFailed, RequestProtocol

MAX_SHARED: Final = 32
MAX_ANSWER_BYTES: Final = 8_192
MAX_HEARD: Final = 1_024
"""Addresses that are remembered to be no news; one forgotten is news once more."""
FIRST_INTERVAL_S: Final = 1.0
"""Doubles from here, as long as nothing new is learned, up to ..."""
MAX_INTERVAL_S: Final = 60.0
PEERS: Final = RequestProtocol("/astralink/peers/1", 1, MAX_ANSWER_BYTES, rate=2 / FIRST_INTERVAL_S, burst=8)
"""More often than an honest peer asks even if another one always has news for it."""

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
        self._heard: OrderedDict[str, None] = OrderedDict()
        """Addresses that some peer told of, the longest ago first."""
        self._news = 0

    async def run(self) -> None:
        interval_s = FIRST_INTERVAL_S
        while True:
            await trio.sleep(interval_s)
            before = self._news
            async with trio.open_nursery() as nursery:
                for peer, _ in self._peers():
                    nursery.start_soon(self._ask, peer)
            interval_s = FIRST_INTERVAL_S if self._news > before else min(2 * interval_s, MAX_INTERVAL_S)

    async def answer(self, peer: PeerId, data: bytes) -> bytes:
        if data:
            raise MalformedRequest("expected an empty request")
        asks_from = next((ip for other, ip in self._peers() if other == peer), "")
        lines: dict[str, None] = {}
        room = MAX_ANSWER_BYTES + 1  # no line feed follows the last line
        for address in self._known():
            if address.peer not in (None, peer) and (_is_private(asks_from) or not _is_private(address.host)):
                line = str(address)
                if line in lines:
                    continue
                room -= len(line) + 1
                if room < 0:
                    break
                lines[line] = None
                if len(lines) == MAX_SHARED:
                    break
        return "\n".join(lines).encode("ascii")

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
                self._note_heard(str(address))
                self._learn(address.peer, [address])

    def _note_heard(self, address: str) -> None:
        """Those that are known are not all: the book may be full, or hold the peer under another address as well."""
        if address not in self._heard:
            self._news += 1
            self._heard[address] = None
            if len(self._heard) > MAX_HEARD:
                self._heard.popitem(last=False)


def _is_private(host: str) -> bool:
    """Of a network of its own: loopback and the like. Names are taken to be public."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False
