"""Corrections of py-libp2p 0.8.1, and nothing else: what it gets wrong with peers that are slow, silent or hostile.

Its noise handshake, keys and protocol negotiation are used as they are; its yamux multiplexer is subclassed where it
trusts the peer. Every correction has a test in tests/unit/p2p/test_libp2p_patches.py that shows the fault without it.
Another version of py-libp2p is refused: it would have other faults. Protocols: libp2p specs/connections (multistream
select), hashicorp yamux/spec.md.
"""

import importlib.metadata
import logging
import struct
import sys
import types
from collections.abc import Callable
from typing import Final

import trio

from p2p import peer_limits as bound
from p2p.peer_limits import TokenBucket

SUPPORTED_VERSION: Final = "0.8.1"


class UnsupportedLibp2p(ImportError):
    """The corrections are made for one version."""


def check_version(found: str) -> None:
    if found != SUPPORTED_VERSION:
        raise UnsupportedLibp2p(
            f"py-libp2p: expected version {SUPPORTED_VERSION}, which is corrected here; found {found}"
        )


def _take_out_secio() -> None:
    """`import libp2p` loads secio, a handshake that libp2p withdrew, and with it a package that needs a C compiler and
    headers (docs/adr/0005). It is never offered here, so an empty module takes its place."""
    stand_in = types.ModuleType("libp2p.security.secio.transport")
    stand_in.__dict__.update(ID="/secio/1.0.0", Transport=None)
    sys.modules.setdefault(stand_in.__name__, stand_in)


check_version(importlib.metadata.version("libp2p"))
_take_out_secio()

from libp2p.abc import ISecureConn  # noqa: E402 - only after secio is out of the way
from libp2p.crypto.keys import KeyType  # noqa: E402
from libp2p.crypto.serialization import key_type_to_public_key_deserializer  # noqa: E402
from libp2p.exceptions import BaseLibp2pError  # noqa: E402
from libp2p.io.exceptions import ConnectionClosedError, IncompleteReadError, IOException  # noqa: E402
from libp2p.peer.id import ID  # noqa: E402
from libp2p.protocol_muxer.exceptions import MultiselectCommunicatorError  # noqa: E402
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator  # noqa: E402
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamError, MuxedStreamReset  # noqa: E402
from libp2p.stream_muxer.yamux import yamux as upstream  # noqa: E402

# Importing it has set its logger up to print warnings and errors on stderr. A stranger's garbage is no error of this
# program: it is reported to whoever runs the host.
logging.getLogger("libp2p").setLevel(logging.CRITICAL)
# A stranger's RSA key of 4096 bits with a great exponent takes a tenth of a second to check, thirty times a whole
# handshake. Peers have had Ed25519 keys for years.
key_type_to_public_key_deserializer.pop(KeyType.RSA.value, None)

__all__ = [
    "BoundedCommunicator",
    "BoundedYamux",
    "BoundedYamuxStream",
    "MuxedStreamEOF",
    "MuxedStreamError",
    "StreamStalled",
    "TooManyStreams",
    "UnsupportedLibp2p",
    "check_version",
]

_HEADER: Final = struct.Struct("!BBHII")
MAX_NOISE_PLAINTEXT: Final = 65_535 - 16
"""What one noise message carries."""
MAX_FRAME_DATA: Final = MAX_NOISE_PLAINTEXT - _HEADER.size
"""Of a frame that we send, so that it travels in one noise message."""
MAX_REFUSED_STREAMS: Final = 1_000
"""Streams of one connection that were reset because the peer had too many; then the connection is closed."""

FRAMES_RATE: Final = 10_000.0
FRAMES_BURST: Final = 50_000.0
"""A peer's frames are read at most this quickly, so that tiny ones do not take the whole processor."""
PINGS_RATE: Final = 5.0
PINGS_BURST: Final = 50.0
"""Probes that are answered; further ones are a flood and end the connection."""
STRAY_RATE: Final = float(1 << 20)
STRAY_BURST: Final = float(32 << 20)
"""Bytes for streams that are gone. Some are on their way whenever a stream is reset; more end the connection."""


class PeerViolation(Exception):
    """The peer broke the multiplexer's protocol or ignored a bound."""


class StreamStalled(MuxedStreamError):
    """The peer has not read the stream for too long."""


class TooManyStreams(MuxedStreamError):
    """This side holds as many streams to the peer as it may."""


class BoundedCommunicator(MultiselectCommunicator):
    """Negotiation whose messages are short and text. Stock reads as many bytes as the peer announces, and lets the
    UnicodeDecodeError of other bytes, and a stream's reset, escape."""

    async def write(self, msg_str: str) -> None:
        try:
            await super().write(msg_str)
        except MuxedStreamError as error:
            raise MultiselectCommunicatorError(f"stream lost: {error}") from error

    async def read(self) -> str:
        length = shift = 0
        while True:
            byte = (await self._exactly(1))[0]
            length |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 14:
                raise MultiselectCommunicatorError("expected a length of at most three bytes")
        if not 1 <= length <= bound.MAX_NEGOTIATION_BYTES:
            raise MultiselectCommunicatorError(
                f"expected a message of 1 to {bound.MAX_NEGOTIATION_BYTES} bytes, found {length}"
            )
        message = await self._exactly(length)
        if message[-1:] != b"\n" or not message.isascii():
            raise MultiselectCommunicatorError(f"expected a line of ASCII text, found {message[:40].hex()}")
        return message[:-1].decode("ascii")

    async def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            try:
                piece = await self.read_writer.read(count - len(found))
            except BaseLibp2pError as error:
                raise MultiselectCommunicatorError(f"connection lost: {error}") from error
            if not piece:
                raise MultiselectCommunicatorError(f"expected {count} bytes, found {len(found)} and the end")
            found += piece
        return found


class BoundedYamuxStream(upstream.YamuxStream):
    """A stream that wakes its writer when the peer reads, and tells the peer of room by half windows."""

    conn: "BoundedYamux"

    def __init__(self, stream_id: int, conn: "BoundedYamux", is_initiator: bool) -> None:
        super().__init__(stream_id, conn, is_initiator)
        self._room = trio.Event()

    def grant(self, count: int) -> None:
        """The peer lets us send so many bytes more."""
        self.send_window += count
        self._room.set()

    async def write(self, data: bytes) -> None:
        """Stock polls a closed window a hundred times a second and gives up after 5 s."""
        rest = memoryview(data)
        while rest:
            if self.reset_received:
                raise MuxedStreamReset("the stream was reset")
            if self.send_closed or self.closed:
                raise MuxedStreamError("the stream is closed for writing")
            if self.send_window <= 0:
                await self._wait_for_room()
                continue
            piece = bytes(rest[: min(self.send_window, MAX_FRAME_DATA)])
            rest = rest[len(piece) :]
            self.send_window -= len(piece)
            await self.conn.queue_frame(upstream.TYPE_DATA, 0, self.stream_id, len(piece), piece)

    async def _wait_for_room(self) -> None:
        self._room = trio.Event()
        with trio.move_on_after(bound.STALL_TIMEOUT_S) as scope:
            await self._room.wait()
        if scope.cancelled_caught:
            raise StreamStalled(f"the peer has not read for {bound.STALL_TIMEOUT_S:.0f} s")

    async def read(self, n: int | None = -1) -> bytes:
        """What has arrived, at most `n` bytes, as soon as there is any. Raises MuxedStreamEOF at the end.

        Stock sends a window update with every read, and leaves an event behind for every stream that ends in it.
        """
        while True:
            buffer = self.conn.stream_buffers.get(self.stream_id)
            if buffer:
                return await self._taken(buffer, len(buffer) if n is None or n < 0 else n)
            if self.reset_received:
                raise MuxedStreamReset("the stream was reset")
            arrived = self.conn.stream_events.get(self.stream_id)
            if buffer is None or arrived is None or self.recv_closed or self.closed:
                raise MuxedStreamEOF("the stream is at its end")
            if arrived.is_set():
                arrived = self.conn.stream_events[self.stream_id] = trio.Event()
            await arrived.wait()

    async def _taken(self, buffer: bytearray, count: int) -> bytes:
        data = bytes(buffer[:count])
        del buffer[:count]
        self.conn.unread -= len(data)
        if self.closed and not buffer:
            self.conn.finalize(self)
        room = self.target_recv_window - (self.recv_window + len(buffer))
        if room >= self.target_recv_window // 2 and not self.recv_closed:
            await self.conn.queue_frame(upstream.TYPE_WINDOW_UPDATE, 0, self.stream_id, self._open_window(len(buffer)))
        else:
            await trio.lowlevel.checkpoint()
        return data

    def _open_window(self, unread: int) -> int:
        """What the peer may send in addition: up to the target, which doubles where half of it lasted 4 round trips."""
        now = trio.current_time()
        if now - self.epoch_start < 4 * self._effective_rtt():
            self.target_recv_window = min(2 * self.target_recv_window, bound.MAX_STREAM_WINDOW)
        self.epoch_start = now
        return self._grow_to_delta(unread)

    def abort(self) -> None:
        """Reset at once, also in a task that is being cancelled; stock's `reset` waits, and then leaks the stream."""
        if not self.closed:
            self.closed = self.send_closed = self.recv_closed = self.reset_received = True
            self.conn.put_frame(upstream.TYPE_WINDOW_UPDATE, upstream.FLAG_RST, self.stream_id, 0)
            self._room.set()
        self.conn.discard(self)

    def ended_by_peer(self) -> None:
        """Wake whoever waits to write: nothing will be read any more."""
        self._room.set()


class BoundedYamux(upstream.Yamux):
    """A multiplexer that holds the peer to the protocol's bounds and to ours.

    Stock buffers without bound for a peer that ignores its window, waits for ever for one that does not read, notices
    no peer that is silent, and stalls at 256 streams of its own. A task that is cancelled while it writes would leave
    half a noise message behind; here one task writes whole messages, several frames in one where they wait.
    `abort` closes the connection at once; `reason` then says why.
    """

    streams: dict[int, BoundedYamuxStream]  # type: ignore[assignment]

    def __init__(
        self, secured_conn: ISecureConn, peer_id: ID, close_socket: Callable[[], None], max_inbound_streams: int
    ) -> None:
        super().__init__(secured_conn, peer_id)
        self.reason = ""
        self.violated = False
        self.unread = 0
        """Bytes of all streams that arrived and were not read."""
        self._close_socket = close_socket
        self._max_inbound = max_inbound_streams
        self._refused = 0
        self._outgoing = bytearray()
        self._to_write = trio.Event()
        self._has_room = trio.Event()
        self._last_received = trio.current_time()
        self._frames = TokenBucket(FRAMES_RATE, FRAMES_BURST)
        self._pings = TokenBucket(PINGS_RATE, PINGS_BURST)
        self._stray = TokenBucket(STRAY_RATE, STRAY_BURST)

    # Sending.

    def put_frame(self, kind: int, flags: int, stream_id: int, length: int, data: bytes = b"") -> None:
        """Queue a frame without waiting: for small ones, whose number something else bounds."""
        if not self.event_shutting_down.is_set():
            self._outgoing += _HEADER.pack(0, kind, flags, stream_id, length) + data
            self._to_write.set()

    async def queue_frame(self, kind: int, flags: int, stream_id: int, length: int, data: bytes = b"") -> None:
        await self._write_frame(_HEADER.pack(0, kind, flags, stream_id, length) + data)

    async def _write_frame(self, data: bytes) -> None:
        """Queue whole, then wait until the socket has taken most of what waits: a cancelled writer loses nothing."""
        if self.event_shutting_down.is_set():
            raise ConnectionClosedError(self.reason or "the connection is closed")
        self._outgoing += data
        self._to_write.set()
        await trio.lowlevel.checkpoint()
        while len(self._outgoing) > bound.MAX_OUTGOING_BYTES:
            if self.event_shutting_down.is_set():
                raise ConnectionClosedError(self.reason or "the connection is closed")
            if self._has_room.is_set():
                self._has_room = trio.Event()
            await self._has_room.wait()

    async def _write_loop(self) -> None:
        while True:
            while not self._outgoing:
                self._to_write = trio.Event()
                await self._to_write.wait()
            piece = bytes(self._outgoing[:MAX_NOISE_PLAINTEXT])
            del self._outgoing[: len(piece)]
            with trio.move_on_after(bound.WRITE_TIMEOUT_S) as scope:
                try:
                    await self.secured_conn.write(piece)
                except IOException as error:
                    self.abort(f"connection lost: {error}")
                    return
            if scope.cancelled_caught:
                self.abort(f"the peer took nothing for {bound.WRITE_TIMEOUT_S:.0f} s")
                return
            self._has_room.set()

    async def drained(self) -> None:
        """Wait until the socket has taken everything."""
        while self._outgoing and not self.event_shutting_down.is_set():
            if self._has_room.is_set():
                self._has_room = trio.Event()
            await self._has_room.wait()

    # Receiving.

    async def handle_incoming(self) -> None:
        """Read frames until the connection ends. Whatever the peer sends, this ends in `abort` and raises nothing."""
        received = bytearray()
        try:
            while not self.event_shutting_down.is_set():
                received += await self.secured_conn.read()
                self._last_received = trio.current_time()
                await self._take_frames(received)
        except PeerViolation as error:
            self.violated = True
            self.abort(f"protocol violation: {error}")
        except IncompleteReadError:
            self.abort("closed by the peer")
        except Exception as error:  # noqa: BLE001 - what the layers below raise of a stranger's bytes is not one family
            self.abort(f"connection lost: {error!r:.200}")

    async def _take_frames(self, received: bytearray) -> None:
        """Handle each whole frame and cut it off."""
        start = 0
        while len(received) - start >= _HEADER.size:
            version, kind, flags, stream_id, length = _HEADER.unpack_from(received, start)
            if version != 0:
                raise PeerViolation(f"expected yamux version 0, found {version}")
            end = start + _HEADER.size
            if kind == upstream.TYPE_DATA:
                if length > bound.MAX_STREAM_WINDOW:
                    raise PeerViolation(f"expected frames of at most {bound.MAX_STREAM_WINDOW} bytes, found {length}")
                end += length
                if len(received) < end:
                    break
            data = bytes(received[start + _HEADER.size : end])
            start = end
            wait_s = self._frames.borrow(1, trio.current_time())
            if wait_s:
                await trio.sleep(wait_s)
            await self._handle_frame(kind, flags, stream_id, length, data)
        del received[:start]

    async def _handle_frame(self, kind: int, flags: int, stream_id: int, length: int, data: bytes) -> None:
        match kind:
            case upstream.TYPE_DATA | upstream.TYPE_WINDOW_UPDATE:
                await self._handle_stream_frame(kind, flags, stream_id, length, data)
            case upstream.TYPE_PING if flags & upstream.FLAG_SYN:
                if not self._pings.take(1, trio.current_time()):
                    raise PeerViolation("flood of pings")
                await self.queue_frame(upstream.TYPE_PING, upstream.FLAG_ACK, 0, length)
            case upstream.TYPE_PING:
                if length == self._ping_id and not self._ping_event.is_set():
                    self._rtt = trio.current_time() - self._ping_sent_time
                    self._ping_event.set()
            case upstream.TYPE_GO_AWAY:
                self.abort(f"the peer said goodbye with code {length}")
            case _:
                raise PeerViolation(f"expected a frame of type 0 to 3, found {kind}")

    async def _handle_stream_frame(self, kind: int, flags: int, stream_id: int, length: int, data: bytes) -> None:
        stream = self.streams.get(stream_id)
        if flags & upstream.FLAG_SYN:
            if stream is not None or stream_id % 2 == self.next_stream_id % 2 or stream_id == 0:
                raise PeerViolation(f"the peer opened stream {stream_id}, which is not its to open")
            stream = await self._accept(stream_id)
        if stream is None:
            if data and not self._stray.take(len(data), trio.current_time()):
                raise PeerViolation("flood of data for streams that are gone")
            return
        if kind == upstream.TYPE_WINDOW_UPDATE:
            stream.grant(length)
        elif data:
            if length > stream.recv_window:
                raise PeerViolation(f"expected at most {stream.recv_window} bytes on a stream, found {length}")
            if self.unread + length > bound.MAX_UNREAD_BYTES:
                raise PeerViolation(f"expected at most {bound.MAX_UNREAD_BYTES} bytes before they are read")
            stream.recv_window -= length
            self.unread += length
            self.stream_buffers[stream_id].extend(data)
        if flags & upstream.FLAG_RST:
            stream.closed = stream.send_closed = stream.recv_closed = stream.reset_received = True
        elif flags & upstream.FLAG_FIN:
            stream.recv_closed = True
            stream.closed = stream.send_closed
        self.stream_events[stream_id].set()
        if stream.closed:
            stream.ended_by_peer()
            self.finalize(stream)

    async def _accept(self, stream_id: int) -> BoundedYamuxStream | None:
        inbound = sum(1 for stream in self.streams.values() if not stream.is_initiator)
        if inbound >= self._max_inbound or self.new_stream_send_channel.statistics().current_buffer_used >= 10:
            self._refused += 1
            if self._refused > MAX_REFUSED_STREAMS:
                raise PeerViolation(f"opened {MAX_REFUSED_STREAMS} streams beyond {self._max_inbound}")
            await self.queue_frame(upstream.TYPE_WINDOW_UPDATE, upstream.FLAG_RST, stream_id, 0)
            return None
        stream = self._new_stream(stream_id, is_initiator=False)
        await self.queue_frame(upstream.TYPE_WINDOW_UPDATE, upstream.FLAG_ACK, stream_id, 0)
        self.new_stream_send_channel.send_nowait(stream)
        return stream

    # Streams.

    async def open_stream(self) -> BoundedYamuxStream:
        if self.event_shutting_down.is_set():
            raise MuxedStreamError(self.reason or "the connection is closed")
        if sum(1 for stream in self.streams.values() if stream.is_initiator) >= bound.MAX_OUTBOUND_STREAMS:
            raise TooManyStreams(f"expected at most {bound.MAX_OUTBOUND_STREAMS} streams to one peer")
        stream = self._new_stream(self.next_stream_id, is_initiator=True)
        self.next_stream_id += 2
        try:
            await self.queue_frame(upstream.TYPE_WINDOW_UPDATE, upstream.FLAG_SYN, stream.stream_id, 0)
        except ConnectionClosedError as error:
            raise MuxedStreamError(str(error)) from error
        except trio.Cancelled:
            stream.abort()
            raise
        return stream

    def _new_stream(self, stream_id: int, *, is_initiator: bool) -> BoundedYamuxStream:
        stream = BoundedYamuxStream(stream_id, self, is_initiator)
        self.streams[stream_id] = stream
        self.stream_buffers[stream_id] = bytearray()
        self.stream_events[stream_id] = trio.Event()
        return stream

    def finalize(self, stream: upstream.YamuxStream) -> None:
        """Forget a stream that both sides have closed, once its data is read."""
        if not self.stream_buffers.get(stream.stream_id):
            self.discard(stream)

    def discard(self, stream: upstream.YamuxStream) -> None:
        """Forget it with what was not read."""
        self.streams.pop(stream.stream_id, None)
        self.unread -= len(self.stream_buffers.pop(stream.stream_id, b""))
        arrived = self.stream_events.pop(stream.stream_id, None)
        if arrived is not None:
            arrived.set()

    # Life.

    async def start(self) -> None:
        """Run until the connection ends."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_loop)
            nursery.start_soon(self._probe)
            self._established = True
            self.event_started.set()
            await self.handle_incoming()
            nursery.cancel_scope.cancel()

    async def _probe(self) -> None:
        """Stock measures the round trip twice a minute and draws no conclusion from an answer that does not come."""
        missed = 0
        while True:
            sent = self._ping_sent_time = trio.current_time()
            self._ping_id = (self._ping_id + 1) & 0xFFFF_FFFF
            self._ping_event = trio.Event()
            self.put_frame(upstream.TYPE_PING, upstream.FLAG_SYN, 0, self._ping_id)
            with trio.move_on_after(bound.PING_INTERVAL_S):
                await self._ping_event.wait()
            is_alive = self._ping_event.is_set() or self._last_received > sent
            missed = 0 if is_alive else missed + 1
            if missed >= bound.MAX_MISSED_PINGS:
                self.abort(f"no answer to {missed} pings")
                return
            await trio.sleep_until(sent + bound.PING_INTERVAL_S)

    def abort(self, reason: str) -> None:
        """Close at once: no lock is asked for that a stuck writer could hold. The first reason stays."""
        if self.event_shutting_down.is_set():
            return
        self.reason = reason
        self.event_shutting_down.set()
        self._close_socket()
        self._outgoing.clear()
        self._has_room.set()
        for stream in list(self.streams.values()):
            stream.closed = stream.send_closed = stream.recv_closed = stream.reset_received = True
            stream.ended_by_peer()
            self.discard(stream)
        self.new_stream_send_channel.close()
        self.event_closed.set()
