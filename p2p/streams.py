"""What a host hands out: connections to authenticated peers, and streams of bytes or messages in them.

A message on a stream is its length as an unsigned varint and then its bytes, as in all of libp2p's protocols.
"""

from dataclasses import dataclass, field
from typing import Final

import trio

from p2p.addresses import Address
from p2p.libp2p_patches import BoundedYamux, BoundedYamuxStream, MuxedStreamEOF, MuxedStreamError
from p2p.peer_id import PeerId

READ_BYTES: Final = 64 << 10
"""Taken from a stream at once."""
CLOSE_TIMEOUT_S: Final = 2.0
"""How long a stream that was closed waits for the other side's end before it is reset."""
FINISH_TIMEOUT_S: Final = 1.0
"""How long a connection that says goodbye waits until everything is sent."""
_MAX_LENGTH_BYTES: Final = 5


class HostError(Exception):
    """Expected on any network."""


class DialFailed(HostError):
    """No address of a peer answered as that peer."""


class NotConnected(HostError):
    """There is no connection to the peer (any more)."""


class StreamFailed(HostError):
    """The stream ended too early, was reset, or its peer does not read."""


class ProtocolRefused(StreamFailed):
    """The peer does not speak the protocol."""


class MessageTooLong(StreamFailed):
    """The peer announced a message beyond the limit; nothing of it was read."""


class Stream:
    """One conversation with a peer. One task may read it while others write whole messages."""

    def __init__(self, peer: PeerId, protocol: str, muxed: BoundedYamuxStream) -> None:
        self.peer: Final = peer
        self.protocol: Final = protocol
        self._muxed = muxed
        self._read_ahead = bytearray()
        self._writing = trio.Lock()

    @property
    def is_open(self) -> bool:
        """Neither side has closed it, as far as is known here."""
        return not (self._muxed.closed or self._muxed.recv_closed or self._muxed.send_closed)

    async def read(self, max_bytes: int = READ_BYTES) -> bytes:
        """At least one byte, or none at the end. Raises StreamFailed where the peer reset it."""
        if not self._read_ahead and not await self._read_more():
            return b""
        data = bytes(self._read_ahead[:max_bytes])
        del self._read_ahead[: len(data)]
        return data

    async def read_exactly(self, count: int) -> bytes:
        while len(self._read_ahead) < count:
            if not await self._read_more():
                raise StreamFailed(f"expected {count} bytes, found {len(self._read_ahead)} and the end")
        data = bytes(self._read_ahead[:count])
        del self._read_ahead[:count]
        return data

    async def read_message(self, max_bytes: int) -> bytes | None:
        """The next message; None where the peer closed its side between messages."""
        if not self._read_ahead and not await self._read_more():
            return None
        length = 0
        for index in range(_MAX_LENGTH_BYTES):
            byte = (await self.read_exactly(1))[0]
            length |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                break
        else:
            raise MessageTooLong(f"expected a length of at most {_MAX_LENGTH_BYTES} bytes")
        if length > max_bytes:
            raise MessageTooLong(f"expected a message of at most {max_bytes} bytes, found {length}")
        return await self.read_exactly(length)

    async def write(self, data: bytes) -> None:
        """All of it, when the peer's window and the socket have taken it. Cancelled half-way, it resets the stream."""
        async with self._writing:
            try:
                await self._muxed.write(data)
            except MuxedStreamError as error:
                self.abort()
                raise StreamFailed(str(error)) from error
            except trio.Cancelled:
                self.abort()
                raise

    async def write_message(self, data: bytes) -> None:
        await self.write(encode_length(len(data)) + data)

    async def close_writing(self) -> None:
        """The peer reads the end; reading goes on."""
        try:
            await self._muxed.close()
        except MuxedStreamError as error:
            raise StreamFailed(str(error)) from error

    async def aclose(self) -> None:
        """Close, wait a moment for the peer's end, and give the stream up."""
        try:
            with trio.move_on_after(CLOSE_TIMEOUT_S):
                await self.close_writing()
                while await self._read_more():
                    self._read_ahead.clear()
        except StreamFailed:
            return  # it is gone already
        finally:
            self.abort()

    def abort(self) -> None:
        """Reset, unless both sides have closed it. Never waits."""
        self._muxed.abort()

    async def _read_more(self) -> bool:
        try:
            self._read_ahead += await self._muxed.read(READ_BYTES)
        except MuxedStreamEOF:
            return False
        except MuxedStreamError as error:
            raise StreamFailed(str(error)) from error
        return True


@dataclass(slots=True, eq=False)
class Connection:
    """An authenticated, encrypted, multiplexed connection. At most one to a peer at any time."""

    peer: PeerId
    address: Address
    """The other end of the socket: where the peer listens only if this node dialled it."""
    outbound: bool
    """This node dialled it."""
    opened: float
    """By trio's clock."""
    muxed: BoundedYamux
    ended: trio.Event = field(default_factory=trio.Event)
    """Set when it is closed and no handler of it runs any more."""

    @property
    def is_open(self) -> bool:
        return not self.muxed.event_shutting_down.is_set()

    def close(self, reason: str) -> None:
        """At once, whatever waits to be written."""
        self.muxed.abort(reason)

    async def finish(self, reason: str) -> None:
        """Close when what was written is with the operating system, or after a second."""
        with trio.move_on_after(FINISH_TIMEOUT_S):
            await self.muxed.drained()
        self.muxed.abort(reason)


@dataclass(frozen=True, slots=True)
class Connected:
    connection: Connection


@dataclass(frozen=True, slots=True)
class Disconnected:
    connection: Connection
    reason: str
    violated: bool
    """The peer broke the multiplexer's protocol or ignored a bound."""


@dataclass(frozen=True, slots=True)
class HandlerFailed:
    """A handler of ours raised something unexpected while it served a peer; that stream was reset, nothing else."""

    peer: PeerId
    protocol: str
    error: Exception


HostEvent = Connected | Disconnected | HandlerFailed


def encode_length(length: int) -> bytes:
    """Unsigned varint."""
    encoded = bytearray()
    while length >= 0x80:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)
