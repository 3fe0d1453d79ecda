"""What the gossip router remembers: messages seen, waiting and cached, promises and backoffs. Every table is bounded.

Values only: time comes in as milliseconds of a clock that never goes back, and nothing here decides anything.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from p2p.peer_id import PeerId

SEEN_TTL_MS: Final = 120_000
MAX_SEEN: Final = 65_536
"""Beyond it the oldest is forgotten; its duplicate would be delivered again, so the application must not mind one."""

WAITING_TTL_MS: Final = 30_000
"""A message without a verdict by then is dropped, as if it had been ignored."""
MAX_WAITING: Final = 2048
MAX_WAITING_BYTES: Final = 32 << 20
MAX_WAITING_OF_A_PEER: Final = 256
MAX_WAITING_BYTES_OF_A_PEER: Final = 8 << 20
"""Messages beyond any of these four are dropped unseen, so that another copy of them may still be taken later."""

HISTORY_WINDOWS: Final = 5
GOSSIPED_WINDOWS: Final = 3
MAX_CACHED: Final = 4096
MAX_CACHED_BYTES: Final = 32 << 20
"""Beyond either, the oldest messages leave the cache early: nobody can ask for them any more."""

PROMISE_MS: Final = 3_000
"""How long a peer that has a message may take to send it when it is asked."""
MAX_PROMISES: Final = 4096
"""Beyond it a peer is asked all the same, and not held to its promise."""

MAX_BACKOFFS: Final = 4096
"""Beyond it the oldest is forgotten; grafting too early costs no more than a refusal."""


class SeenMessages:
    """Ids of messages of the last two minutes, and which of them were found invalid."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, tuple[int, bool]] = OrderedDict()
        """id -> (until when, whether it is invalid), the oldest first."""

    def __len__(self) -> int:
        return len(self._seen)

    def __contains__(self, message_id: bytes) -> bool:
        return message_id in self._seen

    def add(self, message_id: bytes, now_ms: int) -> None:
        if message_id not in self._seen and len(self._seen) >= MAX_SEEN:
            self._seen.popitem(last=False)
        self._seen[message_id] = (now_ms + SEEN_TTL_MS, False)
        self._seen.move_to_end(message_id)

    def mark_invalid(self, message_id: bytes) -> None:
        if message_id in self._seen:
            self._seen[message_id] = (self._seen[message_id][0], True)

    def is_invalid(self, message_id: bytes) -> bool:
        return self._seen.get(message_id, (0, False))[1]

    def forget_old(self, now_ms: int) -> None:
        while self._seen and next(iter(self._seen.values()))[0] <= now_ms:
            self._seen.popitem(last=False)


@dataclass(slots=True)
class WaitingMessage:
    topic: str
    data: bytes
    first_sender: PeerId
    senders: dict[PeerId, None]
    """Everyone who sent it so far. A dict for its order, as everywhere in the router."""
    until_ms: int


class WaitingMessages:
    """Messages that the application has and has not judged yet."""

    def __init__(self) -> None:
        self._messages: OrderedDict[bytes, WaitingMessage] = OrderedDict()
        self._bytes = 0
        self._count_by_peer: Counter[PeerId] = Counter()
        self._bytes_by_peer: Counter[PeerId] = Counter()

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def total_bytes(self) -> int:
        return self._bytes

    def get(self, message_id: bytes) -> WaitingMessage | None:
        return self._messages.get(message_id)

    def add(self, message_id: bytes, topic: str, data: bytes, peer: PeerId, now_ms: int) -> bool:
        """False: there is no room, in all or for this peer."""
        has_room = (
            len(self._messages) < MAX_WAITING
            and self._bytes + len(data) <= MAX_WAITING_BYTES
            and self._count_by_peer[peer] < MAX_WAITING_OF_A_PEER
            and self._bytes_by_peer[peer] + len(data) <= MAX_WAITING_BYTES_OF_A_PEER
        )
        if has_room:
            self._messages[message_id] = WaitingMessage(topic, data, peer, {peer: None}, now_ms + WAITING_TTL_MS)
            self._change(peer, 1, len(data))
        elif not self._count_by_peer[peer]:
            del self._count_by_peer[peer], self._bytes_by_peer[peer]
        return has_room

    def take(self, message_id: bytes) -> WaitingMessage | None:
        """The message, which waits no longer; None if none (any more) waits under this id."""
        message = self._messages.pop(message_id, None)
        if message is not None:
            self._change(message.first_sender, -1, -len(message.data))
        return message

    def forget_old(self, now_ms: int) -> None:
        while self._messages and next(iter(self._messages.values())).until_ms <= now_ms:
            self.take(next(iter(self._messages)))

    def _change(self, peer: PeerId, count: int, size: int) -> None:
        self._bytes += size
        self._count_by_peer[peer] += count
        self._bytes_by_peer[peer] += size
        if not self._count_by_peer[peer]:
            del self._count_by_peer[peer], self._bytes_by_peer[peer]


@dataclass(slots=True)
class CachedMessage:
    topic: str
    data: bytes
    senders: dict[PeerId, None]
    """Who is known to have it because it sent it."""
    window: int
    times_served: dict[PeerId, int] = field(default_factory=dict)


class MessageCache:
    """Accepted messages of the last heartbeats: told of in gossip, and sent to whoever asks."""

    def __init__(self) -> None:
        self._messages: OrderedDict[bytes, CachedMessage] = OrderedDict()
        self._bytes = 0
        self._window = 0

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def total_bytes(self) -> int:
        return self._bytes

    def get(self, message_id: bytes) -> CachedMessage | None:
        return self._messages.get(message_id)

    def put(self, message_id: bytes, topic: str, data: bytes, senders: Iterable[PeerId]) -> None:
        if message_id in self._messages:
            return
        self._messages[message_id] = CachedMessage(topic, data, dict.fromkeys(senders), self._window)
        self._bytes += len(data)
        while len(self._messages) > MAX_CACHED or self._bytes > MAX_CACHED_BYTES:
            self._drop_oldest()

    def to_gossip(self, topic: str) -> list[bytes]:
        """Ids of the topic's messages in the newest windows."""
        oldest = self._window - GOSSIPED_WINDOWS + 1
        return [
            message_id
            for message_id, message in self._messages.items()
            if message.window >= oldest and message.topic == topic
        ]

    def shift(self) -> None:
        """A new window begins; what is older than the history leaves."""
        self._window += 1
        while self._messages and next(iter(self._messages.values())).window <= self._window - HISTORY_WINDOWS:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, message = self._messages.popitem(last=False)
        self._bytes -= len(message.data)


class Promises:
    """Peers said that they have a message, and were asked for it."""

    def __init__(self) -> None:
        self._promises: OrderedDict[bytes, dict[PeerId, int]] = OrderedDict()
        """id -> who promised it until when."""

    def __len__(self) -> int:
        return len(self._promises)

    def add(self, peer: PeerId, message_id: bytes, now_ms: int) -> None:
        if message_id not in self._promises and len(self._promises) >= MAX_PROMISES:
            return
        self._promises.setdefault(message_id, {}).setdefault(peer, now_ms + PROMISE_MS)

    def fulfil(self, message_id: bytes) -> None:
        """The message is here, from whomever: nobody is held to anything."""
        self._promises.pop(message_id, None)

    def take_broken(self, now_ms: int) -> list[PeerId]:
        """Who broke one, as often as it broke some; those are forgotten."""
        broken: list[PeerId] = []
        for message_id, until_by_peer in list(self._promises.items()):
            late = [peer for peer, until_ms in until_by_peer.items() if until_ms <= now_ms]
            broken += late
            for peer in late:
                del until_by_peer[peer]
            if not until_by_peer:
                del self._promises[message_id]
        return broken

    def forget_peer(self, peer: PeerId) -> None:
        for message_id, until_by_peer in list(self._promises.items()):
            until_by_peer.pop(peer, None)
            if not until_by_peer:
                del self._promises[message_id]


class Backoffs:
    """Until when a peer must not be grafted in a topic, nor graft us. They outlive the peer's connection."""

    def __init__(self) -> None:
        self._until_ms: OrderedDict[tuple[str, PeerId], int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until_ms)

    def until_ms(self, topic: str, peer: PeerId) -> int | None:
        return self._until_ms.get((topic, peer))

    def extend(self, topic: str, peer: PeerId, until_ms: int) -> None:
        """A longer one that is there already stays."""
        key = (topic, peer)
        if key not in self._until_ms and len(self._until_ms) >= MAX_BACKOFFS:
            self._until_ms.popitem(last=False)
        self._until_ms[key] = max(until_ms, self._until_ms.get(key, until_ms))

    def forget_old(self, now_ms: int) -> None:
        for key in [key for key, until_ms in self._until_ms.items() if until_ms <= now_ms]:
            del self._until_ms[key]
