"""Large messages between nodes: held here for whoever asks, fetched part by part from those who announced them.

A message is given to others only once this node's application has accepted it, so nobody spreads what it has not
checked. Each part is checked when it arrives; who sends another one is convicted by it and asked no more.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from p2p.parts import HASH_BYTES, PART_BYTES, Announcement, Assembly, PartsError, announce, part_of
from p2p.peer_id import PeerId
from p2p.reputation import Offence
from p2p.request_protocol import (
    AsksPeers,
    Failure,
    MalformedRequest,
    Refused,
    RequestFailed,
    RequestProtocol,
    ServesPeers,
)

PARTS_PROTOCOL: Final = RequestProtocol(
    name="/astralink/parts/1",
    max_request_bytes=HASH_BYTES + 2,
    max_answer_bytes=PART_BYTES,
    rate=512.0,
    burst=2048.0,
    timeout_s=5.0,
)
MAX_HELD: Final = 64
MAX_HELD_BYTES: Final = 64 << 20
"""Messages kept for others, and against fetching them twice; beyond either, the oldest are given up."""
MAX_SOURCES: Final = 4
"""Peers that one message is fetched from at the same time."""
MAX_REQUESTS_OF_A_SOURCE: Final = 4
FETCH_TIMEOUT_S: Final = 20.0
HEDGE_S: Final = 0.3
"""A part that one peer has not sent by then is asked of another too, so that a slow one delays nothing for long."""
COME_BACK_S: Final = 0.25
"""Before a peer is asked again that has answered enough for now."""


class Exchanges(AsksPeers, ServesPeers, Protocol):
    """Both sides of requests."""


class FetchFailed(Exception):
    """Nobody who announced the message gave all of it."""


Report = Callable[[PeerId, Offence], None]
Sources = Callable[[], Sequence[PeerId]]
"""Who has announced the message by now."""


@dataclass(slots=True)
class _Held:
    announcement: Announcement
    data: bytes
    is_offered: bool


class PartExchange:
    """See the module's description."""

    def __init__(self, requests: Exchanges, report: Report) -> None:
        self._requests = requests
        self._report = report
        self._held: OrderedDict[bytes, _Held] = OrderedDict()
        self._held_bytes = 0
        requests.serve(PARTS_PROTOCOL, self._answer)

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def offer(self, data: bytes) -> Announcement:
        """Give an own message to whoever asks from now on."""
        announcement = announce(data)
        self._hold(announcement, data)
        self.offer_held(announcement.root)
        return announcement

    def offer_held(self, root: bytes) -> None:
        """Give a message that was fetched to others too; nothing happens where it is gone already."""
        held = self._held.get(root)
        if held is not None:
            held.is_offered = True

    async def fetch(self, announcement: Announcement, sources: Sources) -> bytes:
        """The whole message. Raises FetchFailed when no source is left, or time is up."""
        held = self._held.get(announcement.root)
        if held is not None:
            return held.data
        assembly = Assembly(announcement)
        failed: set[PeerId] = set()
        with trio.move_on_after(FETCH_TIMEOUT_S):
            while not assembly.is_complete:
                usable = [peer for peer in sources() if peer not in failed][:MAX_SOURCES]
                if not usable:
                    break
                await self._fetch_from(usable, assembly, failed)
        if not assembly.is_complete:
            missing = len(assembly.missing())
            raise FetchFailed(f"expected {len(announcement.hashes)} parts, {missing} were not to be had")
        data = assembly.join()
        self._hold(announcement, data)
        return data

    async def _fetch_from(self, peers: Sequence[PeerId], assembly: Assembly, failed: set[PeerId]) -> None:
        """Until the message is complete or each of the peers has failed."""
        root = assembly.announcement.root
        asked: dict[int, set[PeerId]] = {index: set() for index in assembly.missing()}
        """Part -> of whom it is being asked."""

        async def work(peer: PeerId, whole: trio.CancelScope) -> None:
            while peer not in failed:
                index = next((index for index in assembly.missing() if not asked[index]), None)
                if index is None:
                    # All are under way. One that is slow to come is asked of this peer as well.
                    await trio.sleep(HEDGE_S)
                    index = next((index for index in assembly.missing() if peer not in asked[index]), None)
                if index is None:
                    return
                asked[index].add(peer)
                if not await self._fetch_part(peer, root, index, assembly):
                    failed.add(peer)
                asked[index].discard(peer)
                if assembly.is_complete:
                    whole.cancel()

        async with trio.open_nursery() as nursery:
            for _ in range(MAX_REQUESTS_OF_A_SOURCE):
                for peer in peers:
                    nursery.start_soon(work, peer, nursery.cancel_scope)

    async def _fetch_part(self, peer: PeerId, root: bytes, index: int, assembly: Assembly) -> bool:
        """Whether the peer gave it."""
        while True:
            try:
                part = await self._requests.request(peer, PARTS_PROTOCOL, root + index.to_bytes(2, "big"))
                assembly.add(index, part)
            except RequestFailed as error:
                if error.failure is not Failure.COME_BACK:
                    return False
                await trio.sleep(COME_BACK_S)
            except PartsError:
                self._report(peer, Offence.BAD_ANSWER)
                return False
            else:
                return True

    async def _answer(self, _peer: PeerId, request: bytes) -> bytes:
        if len(request) != PARTS_PROTOCOL.max_request_bytes:
            raise MalformedRequest(f"expected {PARTS_PROTOCOL.max_request_bytes} bytes, found {len(request)}")
        held = self._held.get(request[:HASH_BYTES])
        if held is None or not held.is_offered:
            raise Refused("no such message is offered here")
        index = int.from_bytes(request[HASH_BYTES:], "big")
        if index >= len(held.announcement.hashes):
            raise MalformedRequest(f"expected a part below {len(held.announcement.hashes)}, found {index}")
        return part_of(held.data, index)

    def _hold(self, announcement: Announcement, data: bytes) -> None:
        root = announcement.root
        if root in self._held:
            self._held.move_to_end(root)
            return
        self._held[root] = _Held(announcement, data, is_offered=False)
        self._held_bytes += len(data)
        while len(self._held) > MAX_HELD or self._held_bytes > MAX_HELD_BYTES:
            _, oldest = self._held.popitem(last=False)
            self._held_bytes -= len(oldest.data)
