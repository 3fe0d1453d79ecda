"""What is on its way to WebSocket clients: frames encoded once for all who get them, and bounded queues.

A thousand clients that follow the same thing get the same bytes but for their subscription's id, so an event is put
into frames once and each client's copy is one join. While a client reads, its frames go straight to its connection
and no task wakes; what it has not read waits here as references to what all share. Whoever lets too much wait is
disconnected with a reason that names the bound: events are never dropped silently.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.jsonrpc import notification_around

ID_BYTES = 34
"""Of every subscription's id: 0x and 32 digits. Frames name their length before the id that goes into them."""


class Wire(Protocol):
    """A client's WebSocket connection, as far as pushing needs one."""

    @property
    def is_ready(self) -> bool:
        """Whether the client reads, so that more may be written."""
        ...

    def call_when_ready(self, resume: Callable[[], None]) -> None:
        """Each time that it reads again after it had not."""
        ...

    def write(self, frames: bytes) -> None: ...

    def drop(self, reason: str) -> None:
        """End it with close code 1008. Telling again changes nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Parcel:
    """Whole text frames for one client: `pieces` with the subscription's id between them."""

    pieces: tuple[bytes, ...]
    messages: int
    size_bytes: int

    def frames_for(self, subscription_id: bytes) -> bytes:
        return subscription_id.join(self.pieces)


def answer_parcel(answer: bytes) -> Parcel:
    frame = text_frame_head(len(answer)) + answer
    return Parcel((frame,), 1, len(frame))


def event_parcel(results: Sequence[bytes]) -> Parcel:
    """eth_subscription notifications, one for each result (JSON), in their order; at least one."""
    before, after, end = notification_around()
    pieces: list[bytes] = []
    rest = b""
    for result in results:
        length = len(before) + ID_BYTES + len(after) + len(result) + len(end)
        pieces.append(rest + text_frame_head(length) + before)
        rest = after + result + end
    pieces.append(rest)
    size = sum(len(piece) for piece in pieces) + ID_BYTES * len(results)
    return Parcel(tuple(pieces), len(results), size)


def text_frame_head(length: int) -> bytes:
    """RFC 6455, 5.2: a whole text message, unmasked as servers send them."""
    if length < 126:
        return bytes((0x81, length))
    if length < 1 << 16:
        return b"\x81\x7e" + length.to_bytes(2, "big")
    return b"\x81\x7f" + length.to_bytes(8, "big")


class SendQueues:
    """What waits for all clients together is bounded too: beyond it, whoever has most waiting is disconnected."""

    def __init__(self, limits: GatewayLimits) -> None:
        self.limits = limits
        self._behind: set[Outbox] = set()
        self._bytes = 0

    def grew(self, outbox: Outbox, size: int) -> None:
        self._behind.add(outbox)
        self._bytes += size
        while self._bytes > self.limits.send_queues_bytes and self._behind:
            furthest = max(self._behind, key=lambda each: each.waiting_bytes)
            furthest.drop(f"too slow: {self.limits.send_queues_bytes} bytes wait for all clients, most of them for you")

    def shrank(self, outbox: Outbox, size: int) -> None:
        self._bytes -= size
        if not outbox.waiting_bytes:
            self._behind.discard(outbox)


class Outbox:
    """Messages on their way to one client. Once it is dropped, or closed, it stays so and takes nothing."""

    def __init__(self, wire: Wire, queues: SendQueues) -> None:
        self._wire = wire
        self._queues = queues
        self._waiting: deque[tuple[Parcel, bytes]] = deque()
        self._waiting_messages = 0
        self.waiting_bytes = 0
        self._is_closed = False
        wire.call_when_ready(self.flush)

    def put(self, parcel: Parcel, subscription_id: bytes = b"") -> None:
        """Never waits. A single parcel may exceed the bounds if nothing else is waiting."""
        if self._is_closed:
            return
        if not self._waiting and self._wire.is_ready:
            self._wire.write(parcel.frames_for(subscription_id))
            return
        limits = self._queues.limits
        if self._waiting and self._waiting_messages + parcel.messages > limits.send_queue_messages:
            self.drop(f"too slow: more than {limits.send_queue_messages} messages wait for you")
        elif self._waiting and self.waiting_bytes + parcel.size_bytes > limits.send_queue_bytes:
            self.drop(f"too slow: more than {limits.send_queue_bytes} bytes wait for you")
        else:
            self._waiting.append((parcel, subscription_id))
            self._waiting_messages += parcel.messages
            self.waiting_bytes += parcel.size_bytes
            self._queues.grew(self, parcel.size_bytes)

    def flush(self) -> None:
        """The client reads again: write what waits until it stops."""
        while self._waiting and self._wire.is_ready:
            parcel, subscription_id = self._waiting.popleft()
            self._waiting_messages -= parcel.messages
            self.waiting_bytes -= parcel.size_bytes
            self._queues.shrank(self, parcel.size_bytes)
            self._wire.write(parcel.frames_for(subscription_id))

    def drop(self, reason: str) -> None:
        self.close()
        self._wire.drop(reason)

    def close(self) -> None:
        """Forget what waits. Closing again changes nothing."""
        self._is_closed = True
        self._waiting.clear()
        size, self.waiting_bytes, self._waiting_messages = self.waiting_bytes, 0, 0
        self._queues.shrank(self, size)
