"""The other end of a multiplexer under test: frames written by hand, over a pipe in memory instead of noise."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import trio
from trio.testing import memory_stream_pair

from p2p.libp2p_patches import BoundedYamux

# isort: split
# The line above makes `import libp2p` possible.
from libp2p.abc import ConnectionType, ISecureConn
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import PrivateKey, PublicKey
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.peer.id import ID
from libp2p.stream_muxer.yamux.yamux import Yamux
from multiaddr import Multiaddr

from tests.support.hosts import plain_nursery

DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
HEADER = struct.Struct("!BBHII")
KEYS = create_new_key_pair(bytes(range(32)))
PEER_ID = ID.from_pubkey(KEYS.public_key)


class Pipe(ISecureConn):
    """A connection that is taken to be secured already. Its reader gets exactly what it asks for, as from noise."""

    def __init__(self, stream: trio.abc.Stream, *, initiator: bool) -> None:
        self.stream = stream
        self.is_initiator = initiator
        self._buffer = bytearray()
        self._closed = trio.Event()

    async def read(self, n: int | None = None) -> bytes:
        while not self._buffer or (n is not None and len(self._buffer) < n):
            piece = b""
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._cancel_when_closed, nursery.cancel_scope)
                with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
                    piece = await self.stream.receive_some(1 << 16)
                nursery.cancel_scope.cancel()
            if not piece:
                raise ConnectionClosedError("the pipe is closed")
            self._buffer += piece
        data = bytes(self._buffer if n is None else self._buffer[:n])
        del self._buffer[: len(data)]
        return data

    async def _cancel_when_closed(self, scope: trio.CancelScope) -> None:
        await self._closed.wait()
        scope.cancel()

    async def write(self, data: bytes) -> None:
        try:
            await self.stream.send_all(data)
        except (trio.ClosedResourceError, trio.BrokenResourceError) as error:
            raise ConnectionClosedError("the pipe is closed") from error

    async def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        self._closed.set()

    def get_local_peer(self) -> ID:
        return PEER_ID

    def get_local_private_key(self) -> PrivateKey:
        return KEYS.private_key

    def get_remote_peer(self) -> ID:
        return PEER_ID

    def get_remote_public_key(self) -> PublicKey:
        return KEYS.public_key

    def get_remote_address(self) -> tuple[str, int] | None:
        return None

    def get_transport_addresses(self) -> list[Multiaddr]:
        return []

    def get_connection_type(self) -> ConnectionType:
        return ConnectionType.UNKNOWN


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream_id: int
    length: int
    data: bytes = b""


class ByHand:
    """Writes and reads frames, and follows no rule."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._buffer = bytearray()

    async def send(self, kind: int, flags: int, stream_id: int, length: int, data: bytes = b"") -> None:
        await self.stream.send_all(HEADER.pack(0, kind, flags, stream_id, length) + data)

    async def send_data(self, stream_id: int, data: bytes, flags: int = 0) -> None:
        await self.send(DATA, flags, stream_id, len(data), data)

    async def receive(self) -> Frame | None:
        """The next frame that is no probe; None at the end."""
        while True:
            header = await self._exactly(HEADER.size)
            if header is None:
                return None
            _, kind, flags, stream_id, length = HEADER.unpack(header)
            data = await self._exactly(length) if kind == DATA else b""
            if data is None:
                return None
            if kind != PING:
                return Frame(kind, flags, stream_id, length, data)

    async def receive_for(self, seconds: float) -> list[Frame]:
        """All frames of the next seconds."""
        frames = []
        with trio.move_on_after(seconds):
            while (frame := await self.receive()) is not None:
                frames.append(frame)
        return frames

    async def answer_pings(self) -> None:
        """Be alive, and ignore everything else."""
        while (header := await self._exactly(HEADER.size)) is not None:
            _, kind, flags, _, length = HEADER.unpack(header)
            if kind == DATA:
                await self._exactly(length)
            elif kind == PING and flags & SYN:
                await self.send(PING, ACK, 0, length)

    async def _exactly(self, count: int) -> bytes | None:
        while len(self._buffer) < count:
            try:
                piece = await self.stream.receive_some(1 << 16)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                return None
            if not piece:
                return None
            self._buffer += piece
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data


MakeMuxer = Callable[[Pipe], Yamux]


def stock(pipe: Pipe) -> Yamux:
    return Yamux(pipe, PEER_ID)


def bounded(pipe: Pipe) -> BoundedYamux:
    return BoundedYamux(pipe, PEER_ID, pipe.abort, max_inbound_streams=32)


@asynccontextmanager
async def muxer_and_peer(
    make: MakeMuxer,
    pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = memory_stream_pair,
    *,
    initiator: bool = False,
) -> AsyncIterator[tuple[Yamux, ByHand]]:
    """A running multiplexer and the other end of its pipe. The peer's stream ids are odd unless `initiator`."""
    ours, theirs = pair()
    muxer = make(Pipe(ours, initiator=initiator))
    async with plain_nursery() as nursery:
        nursery.start_soon(muxer.start)
        await muxer.event_started.wait()
        yield muxer, ByHand(theirs)
        nursery.cancel_scope.cancel()
