"""Bounded queues between peers and this node: what waits to go out never makes anybody wait, and what came in never
grows. Each is used by trio tasks of one thread.
"""

from collections import Counter, deque
from typing import Final

import trio

from p2p.peer_id import PeerId
from p2p.topic_transport import TopicMessage

MAX_OUTGOING_ITEMS: Final = 4096
MAX_OUTGOING_BYTES: Final = 8 << 20
"""For one peer on one stream; beyond either, the oldest is dropped: of consensus messages the newest matter most."""
MAX_INCOMING_ITEMS: Final = 8192
MAX_INCOMING_ITEMS_OF_A_PEER: Final = 4096
MAX_INCOMING_BYTES_OF_A_PEER: Final = 24 << 20
"""Beyond these, who may wait waits, so that the peer's own window fills; what may not wait is dropped. A peer with
nothing waiting always has room for one, however large: one peer's flood keeps nobody else out."""


class OutgoingQueue:
    """Encoded messages for one peer."""

    def __init__(self) -> None:
        self._items: deque[bytes] = deque()
        self._bytes = 0
        self._arrived = trio.Event()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def total_bytes(self) -> int:
        return self._bytes

    def put(self, item: bytes) -> None:
        """Never waits; may drop the oldest."""
        self._items.append(item)
        self._bytes += len(item)
        while len(self._items) > MAX_OUTGOING_ITEMS or (self._bytes > MAX_OUTGOING_BYTES and len(self._items) > 1):
            self._bytes -= len(self._items.popleft())
            self.dropped += 1
        self._arrived.set()

    def clear(self) -> None:
        """Give up what waits: its reader is gone."""
        self.dropped += len(self._items)
        self._items.clear()
        self._bytes = 0

    async def get(self) -> bytes:
        """The oldest, as soon as there is any."""
        while not self._items:
            if self._arrived.is_set():
                self._arrived = trio.Event()
            await self._arrived.wait()
        item = self._items.popleft()
        self._bytes -= len(item)
        return item


class Inbox:
    """Messages of all peers that wait for the application."""

    def __init__(self) -> None:
        self._messages: deque[TopicMessage] = deque()
        self._items_of: Counter[PeerId] = Counter()
        self._bytes_of: Counter[PeerId] = Counter()
        self._arrived = trio.Event()
        self._taken = trio.Event()

    def __len__(self) -> int:
        return len(self._messages)

    def put_nowait(self, message: TopicMessage) -> bool:
        """False: there is no room for it."""
        peer, size = message.peer, len(message.data)
        waiting = self._items_of.get(peer, 0)
        is_over = (
            waiting >= MAX_INCOMING_ITEMS_OF_A_PEER or self._bytes_of.get(peer, 0) + size > MAX_INCOMING_BYTES_OF_A_PEER
        )
        if waiting and (is_over or len(self._messages) >= MAX_INCOMING_ITEMS):
            return False
        self._messages.append(message)
        self._items_of[peer] += 1
        self._bytes_of[peer] += size
        self._arrived.set()
        return True

    async def put(self, message: TopicMessage) -> None:
        """Waits for room."""
        while not self.put_nowait(message):
            if self._taken.is_set():
                self._taken = trio.Event()
            await self._taken.wait()

    async def get(self) -> TopicMessage:
        while not self._messages:
            if self._arrived.is_set():
                self._arrived = trio.Event()
            await self._arrived.wait()
        return self._take()

    def get_waiting(self, limit: int) -> list[TopicMessage]:
        return [self._take() for _ in range(min(limit, len(self._messages)))]

    def _take(self) -> TopicMessage:
        message = self._messages.popleft()
        self._items_of[message.peer] -= 1
        self._bytes_of[message.peer] -= len(message.data)
        if not self._items_of[message.peer]:
            del self._items_of[message.peer], self._bytes_of[message.peer]
        self._taken.set()
        return message
