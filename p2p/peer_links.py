"""This node's long-lived streams with each connected peer: gossip and direct messages, one of each in each direction.

What goes out waits in bounded queues, so that a slow peer delays nobody; what comes in is read no faster than a peer
may send. A stream that fails is opened again while its connection lasts. What the bytes mean is the transport's.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from p2p.libp2p_host import Host
from p2p.peer_id import PeerId
from p2p.peer_limits import TokenBucket
from p2p.queues import OutgoingQueue
from p2p.streams import Connection, MessageTooLong, NotConnected, ProtocolRefused, Stream, StreamFailed

LINK_TIMEOUT_S: Final = 15.0
"""How long a peer's stream may wait for this node to have greeted the peer; then it is closed."""
FIRST_REOPEN_S: Final = 0.5
MAX_REOPEN_S: Final = 15.0
"""A stream that failed is opened again after the first, then after twice as long each time."""
REFUSED_RETRY_S: Final = 60.0
"""A peer that does not speak a protocol is asked again; it may have just begun."""

FRAMES_RATE: Final = 2_000.0
FRAMES_BURST: Final = 10_000.0
BYTES_RATE: Final = 8.0 * (1 << 20)
BYTES_BURST: Final = 32.0 * (1 << 20)
"""What one peer may send on one kind of stream; what is beyond stays in its own window."""
FLOOD_S: Final = 10.0
"""A peer that was held back for as long, and hardly stopped in between, is reported; and once more each time."""


def _nothing(*_: object) -> None:
    """For kinds of streams whose coming and going is of no interest."""


@dataclass(frozen=True, slots=True, eq=False)
class StreamKind:
    """One kind of long-lived stream."""

    protocols: tuple[str, ...]
    """The preferred one first."""
    max_frame_bytes: int
    received: Callable[[PeerId, bytes], Awaitable[None]]
    """A frame of the peer; it may wait, and nothing more of the stream is read meanwhile."""
    too_long: Callable[[PeerId], None]
    """The peer sent a frame beyond the limit."""
    flooded: Callable[[PeerId], None]
    """The peer has sent more than it may for FLOOD_S."""
    unread: Callable[[PeerId], None]
    """The peer let our stream fail while its connection lasts: what waited for it is given up."""
    opened: Callable[[Connection, str], None] = _nothing
    """Our stream to the peer is open and speaks this protocol: what is queued will go out."""
    lost: Callable[[Connection], None] = _nothing
    """It is no more."""


@dataclass(slots=True)
class _Direction:
    queue: OutgoingQueue = field(default_factory=OutgoingQueue)
    is_refused: bool = False
    """The peer speaks none of the protocols."""
    opened: trio.Event = field(default_factory=trio.Event)
    inbound: Stream | None = None
    frames: TokenBucket = field(default_factory=lambda: TokenBucket(FRAMES_RATE, FRAMES_BURST))
    bytes: TokenBucket = field(default_factory=lambda: TokenBucket(BYTES_RATE, BYTES_BURST))
    held_back_s: float = 0.0
    """How long reading from the peer was delayed, since it was last calm."""

    def delay_s(self, size: int) -> float:
        """How long to wait before the next frame, after one of `size` bytes."""
        now_s = trio.current_time()
        wait_s = max(self.frames.borrow(1, now_s), self.bytes.borrow(size, now_s))
        is_calm = self.frames.tokens > FRAMES_BURST / 2 and self.bytes.tokens > BYTES_BURST / 2
        self.held_back_s = 0.0 if is_calm else self.held_back_s + wait_s
        return wait_s


@dataclass(slots=True, eq=False)
class _Link:
    connection: Connection
    directions: dict[StreamKind, _Direction]
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class PeerLinks:
    """See the module's description. `connected` and `disconnected` say whose streams there are to be."""

    def __init__(self, host: Host, kinds: Sequence[StreamKind]) -> None:
        self._host = host
        self._kinds = kinds
        self._links: dict[PeerId, _Link] = {}
        self._nursery: trio.Nursery | None = None
        self._link_came = trio.Event()
        for kind in kinds:
            for protocol in kind.protocols:
                host.handle(protocol, self._reader(kind))

    @property
    def peers(self) -> Collection[PeerId]:
        """Who was greeted and is connected."""
        return self._links.keys()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def connected(self, connection: Connection) -> None:
        """The peer was greeted. An older connection of it is forgotten."""
        old = self._links.get(connection.peer)
        if old is not None:
            self.disconnected(old.connection)
        if self._nursery is None:
            raise RuntimeError("links: expected `run` to be running")
        link = _Link(connection, {kind: _Direction() for kind in self._kinds})
        self._links[connection.peer] = link
        self._link_came.set()
        self._nursery.start_soon(self._write_all, link)

    def disconnected(self, connection: Connection) -> None:
        """Nothing happens where the peer has another connection by now."""
        link = self._links.get(connection.peer)
        if link is not None and link.connection is connection:
            del self._links[connection.peer]
            link.scope.cancel()

    def put(self, peer: PeerId, kind: StreamKind, frame: bytes) -> None:
        """Queue a frame; nothing happens where there is no such peer, or it does not speak the protocol."""
        link = self._links.get(peer)
        if link is not None and not link.directions[kind].is_refused:
            link.directions[kind].queue.put(frame)

    def speaks(self, peer: PeerId, kind: StreamKind) -> bool:
        """Whether frames for the peer are taken, as far as is known."""
        link = self._links.get(peer)
        return link is not None and not link.directions[kind].is_refused

    def dropped(self, peer: PeerId) -> int:
        """Frames that a full queue has dropped on this connection."""
        link = self._links.get(peer)
        return 0 if link is None else sum(direction.queue.dropped for direction in link.directions.values())

    # --- Out -----------------------------------------------------------------------------------------------------

    async def _write_all(self, link: _Link) -> None:
        with link.scope:
            async with trio.open_nursery() as nursery:
                for kind in self._kinds:
                    nursery.start_soon(self._write, link, kind)

    async def _write(self, link: _Link, kind: StreamKind) -> None:
        delay_s = FIRST_REOPEN_S
        while link.connection.is_open:
            try:
                stream = await self._open(link.connection.peer, kind)
            except ProtocolRefused:
                link.directions[kind].is_refused = True
                await trio.sleep(REFUSED_RETRY_S)
                continue
            except NotConnected:
                return
            except StreamFailed:
                stream = None
            if stream is not None:
                link.directions[kind].is_refused = False
                opened_s = trio.current_time()
                await self._write_to(stream, link, kind)
                if trio.current_time() - opened_s > MAX_REOPEN_S:
                    delay_s = FIRST_REOPEN_S
            await trio.sleep(delay_s)
            delay_s = min(2 * delay_s, MAX_REOPEN_S)

    async def _open(self, peer: PeerId, kind: StreamKind) -> Stream:
        for protocol in kind.protocols[:-1]:
            try:
                return await self._host.open_stream(peer, protocol)
            except ProtocolRefused:
                continue
        return await self._host.open_stream(peer, kind.protocols[-1])

    async def _write_to(self, stream: Stream, link: _Link, kind: StreamKind) -> None:
        """Until the stream fails."""
        direction = link.directions[kind]
        kind.opened(link.connection, stream.protocol)
        direction.opened.set()
        try:
            while True:
                await stream.write_message(await direction.queue.get())
        except StreamFailed:
            direction.queue.clear()
            if link.connection.is_open:
                kind.unread(link.connection.peer)
        finally:
            stream.abort()
            direction.opened = trio.Event()
            kind.lost(link.connection)

    # --- In ------------------------------------------------------------------------------------------------------

    def _reader(self, kind: StreamKind) -> Callable[[Stream], Awaitable[None]]:
        async def read(stream: Stream) -> None:
            with trio.move_on_after(LINK_TIMEOUT_S) as scope:
                direction = (await self._link_of(stream.peer)).directions[kind]
                # What a peer says is of use only when it can be answered.
                while not direction.opened.is_set():
                    await direction.opened.wait()
            if scope.cancelled_caught:
                return
            # One stream of a kind for each peer: a newer one replaces the older.
            if direction.inbound is not None:
                direction.inbound.abort()
            direction.inbound = stream
            await self._read(stream, kind, direction)

        return read

    async def _read(self, stream: Stream, kind: StreamKind, direction: _Direction) -> None:
        while True:
            try:
                frame = await stream.read_message(kind.max_frame_bytes)
            except MessageTooLong:
                kind.too_long(stream.peer)
                raise
            if frame is None:
                return
            await trio.sleep(direction.delay_s(len(frame)))
            if direction.held_back_s >= FLOOD_S:
                direction.held_back_s = 0.0
                kind.flooded(stream.peer)
            await kind.received(stream.peer, frame)

    async def _link_of(self, peer: PeerId) -> _Link:
        while (link := self._links.get(peer)) is None:
            if self._link_came.is_set():
                self._link_came = trio.Event()
            await self._link_came.wait()
        return link
