"""The node's place on the network: TCP, noise, yamux; who is connected, and streams to them.

Of py-libp2p it uses the handshakes and, corrected, the multiplexer (p2p.libp2p_patches); no other module imports it.
Sockets, limits and tasks are this module's own. py-libp2p's own host ends with any exception of a stream's handler,
and refuses everybody after 250 inbound connections in total. Here each connection and each handler is isolated: what
a peer does, or a handler raises, ends that stream or that connection and is told as an event.
"""

import errno
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol, Self

from p2p.libp2p_patches import BoundedCommunicator, BoundedYamux, BoundedYamuxStream

# isort: split
# The line above makes `import libp2p` possible.
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.protocol_muxer.exceptions import MultiselectError, ProtocolNotSupportedError
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamError
from multiaddr import Multiaddr

from p2p.addresses import Address, limit_group, peer_id_text
from p2p.identity import Identity
from p2p.peer_id import PeerId
from p2p.peer_limits import (
    CONNECT_TIMEOUT_S,
    HANDSHAKE_BURST,
    HANDSHAKE_TIMEOUT_S,
    NEGOTIATE_TIMEOUT_S,
    HostLimits,
    PeerBuckets,
)
from p2p.streams import (
    Connected,
    Connection,
    DialFailed,
    Disconnected,
    HandlerFailed,
    HostEvent,
    NotConnected,
    ProtocolRefused,
    Stream,
    StreamFailed,
)
from p2p.turned_away import TurnedAway

YAMUX: Final = TProtocol("/yamux/1.0.0")
IDENTIFY: Final = "/ipfs/id/1.0.0"
PING: Final = "/ipfs/ping/1.0.0"
AGENT: Final = "astralink"
PING_BYTES: Final = 32

MAX_EVENTS: Final = 1024
"""That wait for whoever runs the host; beyond, connections wait before they come and before they go."""
MAX_ADDRESSES_A_DIAL: Final = 8
SIMULTANEOUS_DIAL_S: Final = 5.0
"""Two connections of one peer that open within this time were dialled from both sides; later ones replace."""
BACKLOG: Final = 256
ACCEPT_PAUSE_S: Final = 0.1
"""After the operating system had no descriptor or buffer for a new connection."""
_READ_BYTES: Final = 64 << 10
_NO_ROOM: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}

Handler = Callable[[Stream], Awaitable[None]]
"""Serves one stream that a peer opened; the stream is closed when it returns, and reset when it raises."""


class Gate(Protocol):
    """Who may connect at all: bans."""

    def admits_ip(self, ip: str) -> bool: ...

    def admits_peer(self, peer: PeerId) -> bool: ...


class Host:
    """Open it, register handlers, then let `run` serve until it is cancelled."""

    def __init__(
        self,
        identity: Identity,
        listeners: Sequence[trio.SocketListener],
        limits: HostLimits,
        gate: Gate | None,
        is_needed: Callable[[PeerId], bool],
    ) -> None:
        self.own_id: Final = identity.peer_id
        self.listen_addresses: Final = tuple(
            _socket_address(listener.socket.getsockname()).with_peer(self.own_id) for listener in listeners
        )
        self._key = create_new_key_pair(identity.seed)
        self._noise = NoiseTransport(self._key, create_noise_key_pair().private_key)
        self._listeners = listeners
        self._limits = limits
        self._gate = gate
        self._is_needed = is_needed
        self._handshakes: PeerBuckets[str] = PeerBuckets(limits.handshakes_a_second_each_ip, HANDSHAKE_BURST)
        self._connections: dict[PeerId, Connection] = {}
        self._greeting: dict[trio.CancelScope, str] = {}
        """Inbound connections before they are authenticated, the oldest first, and their IP addresses' groups."""
        self.turned_away: Final = TurnedAway()
        self._dialling: set[PeerId] = set()
        self._handlers: dict[str, Handler] = {IDENTIFY: self._identify, PING: _echo}
        self._nursery: trio.Nursery | None = None
        self._tell, self.events = trio.open_memory_channel[HostEvent](MAX_EVENTS)

    @classmethod
    async def open(
        cls,
        identity: Identity,
        listen_addresses: Sequence[Address],
        limits: HostLimits | None = None,
        gate: Gate | None = None,
        is_needed: Callable[[PeerId], bool] | None = None,
    ) -> Self:
        """Listens from now on; port 0 lets the system choose. Raises OSError where an address cannot be used.

        Peers that are needed, as validators are, come in also when inbound connections are at their bound.
        """
        listeners: list[trio.SocketListener] = []
        for address in listen_addresses:
            listeners += await trio.open_tcp_listeners(address.port, host=address.host, backlog=BACKLOG)
        return cls(identity, listeners, limits or HostLimits(), gate, is_needed or _nobody)

    @property
    def connections(self) -> Mapping[PeerId, Connection]:
        return self._connections

    def handle(self, protocol: str, handler: Handler) -> None:
        """Serve streams of a protocol that peers open."""
        self._handlers[protocol] = handler

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept and serve until cancelled; then everything is closed."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for listener in self._listeners:
                    nursery.start_soon(self._accept, listener)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            for listener in self._listeners:
                listener.socket.close()

    # Dialling.

    async def dial(self, addresses: Sequence[Address]) -> Connection:
        """The first address that answers as the peer it names; the connection that is there, if one is.

        Raises DialFailed with every address's reason.
        """
        reasons = []
        for address in addresses[:MAX_ADDRESSES_A_DIAL]:
            if address.peer is not None and address.peer in self._connections:
                return self._connections[address.peer]
            try:
                return await self._dial_once(address)
            except DialFailed as error:
                reasons.append(f"{address.with_peer(None)}: {error}")  # who it is, the caller knows
        raise DialFailed("; ".join(reasons) or "no address")

    async def _dial_once(self, address: Address) -> Connection:
        if self._nursery is None:
            raise DialFailed("the host does not run")
        if address.peer == self.own_id:
            raise DialFailed("that is this node itself")
        if sum(connection.outbound for connection in self._connections.values()) >= self._limits.outbound:
            raise DialFailed(f"expected at most {self._limits.outbound} outbound connections")
        key = PeerId(str(address).encode()) if address.peer is None else address.peer
        if key in self._dialling:
            raise DialFailed("is being dialled already")
        self._dialling.add(key)
        try:
            muxed = await self._reach(address)
            connection: Connection = await self._nursery.start(partial(self._serve, muxed, address, outbound=True))
            return connection
        finally:
            self._dialling.discard(key)

    async def _reach(self, address: Address) -> BoundedYamux:
        try:
            with trio.fail_after(CONNECT_TIMEOUT_S):
                stream = await trio.open_tcp_stream(address.host, address.port)
            with trio.fail_after(HANDSHAKE_TIMEOUT_S):
                return await self._upgrade(_TcpEnd(stream, address), address.peer, is_initiator=True)
        except trio.TooSlowError:
            raise DialFailed("no answer in time") from None
        except OSError as error:
            raise DialFailed(_reasons(error)) from error
        except (UnicodeError, _HandshakeFailed) as error:  # a name that can be none is an error of its encoding
            raise DialFailed(str(error)) from error

    # Accepting.

    async def _accept(self, listener: trio.SocketListener) -> None:
        assert self._nursery is not None
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                self._close_oldest_greeting(None)
                await trio.sleep(ACCEPT_PAUSE_S)
                continue
            try:
                remote = _socket_address(stream.socket.getpeername())
            except OSError:
                remote = None  # gone already
            if remote is not None and self._may_greet(remote.host):
                self._nursery.start_soon(self._greet, _TcpEnd(stream, remote))
            else:
                stream.socket.close()
                if remote is not None:
                    self.turned_away.note_refused(limit_group(remote.host))

    def _may_greet(self, ip: str) -> bool:
        if self._gate is not None and not self._gate.admits_ip(ip):
            return False
        group = limit_group(ip)
        if Counter(self._greeting.values())[group] >= self._limits.handshakes_each_ip:
            self._close_oldest_greeting(group)
        elif len(self._greeting) >= self._limits.handshakes:
            self._close_oldest_greeting(None)
        return True

    def _close_oldest_greeting(self, group: str | None) -> None:
        for scope, greeted in self._greeting.items():
            if group is None or greeted == group:
                scope.cancel()
                del self._greeting[scope]
                return

    async def _greet(self, end: "_TcpEnd") -> None:
        """Authenticate a stranger, and serve the peer that it turns out to be."""
        group = limit_group(end.remote.host)
        with trio.CancelScope(deadline=trio.current_time() + HANDSHAKE_TIMEOUT_S) as scope:
            self._greeting[scope] = group
            try:
                muxed = await self._upgrade(end, None, is_initiator=False)
            except _HandshakeFailed:
                self.turned_away.note_failed(group)
                return
            finally:
                self._greeting.pop(scope, None)
        if scope.cancelled_caught:
            self.turned_away.note_failed(group)
            return
        try:
            await self._serve(muxed, end.remote, outbound=False)
        except DialFailed:  # it is closed
            self.turned_away.note_refused(group)

    async def _upgrade(self, end: "_TcpEnd", expected: PeerId | None, *, is_initiator: bool) -> BoundedYamux:
        """Noise and yamux over a socket. Raises _HandshakeFailed, and closes the socket unless it succeeds."""
        raw = RawConnection(end, is_initiator)
        muxed = None
        try:
            await _agree(end, NOISE, is_initiator=is_initiator)
            if not is_initiator:
                await self._wait_for_turn(limit_group(end.remote.host))
            pattern = self._noise.get_pattern()
            if is_initiator:
                secured = await pattern.handshake_outbound(raw, None)
            else:
                secured = await pattern.handshake_inbound(raw)
            peer = PeerId(secured.get_remote_peer().to_bytes())
            if expected is not None and peer != expected:
                raise _HandshakeFailed(f"expected {peer_id_text(expected)}, found {peer_id_text(peer)}")
            await _agree(secured, YAMUX, is_initiator=is_initiator)
            muxed = BoundedYamux(secured, secured.get_remote_peer(), end.abort, self._limits.streams_each_peer)
        except _HandshakeFailed:
            raise
        except Exception as error:
            raise _HandshakeFailed(f"handshake: {error!r:.200}") from error
        finally:
            if muxed is None:
                end.abort()
        return muxed

    async def _wait_for_turn(self, group: str) -> None:
        while not self._handshakes.take(group, 1, trio.current_time()):  # noqa: ASYNC110 - a bucket is no event
            await trio.sleep(1 / self._limits.handshakes_a_second_each_ip)

    # A connection's life.

    async def _serve(
        self,
        muxed: BoundedYamux,
        address: Address,
        *,
        outbound: bool,
        task_status: trio.TaskStatus[Connection] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """From authenticated to closed. Raises DialFailed where the peer is not wanted, or better connected already."""
        peer = PeerId(muxed.peer_id.to_bytes())
        connection = Connection(peer, address, outbound, trio.current_time(), muxed)
        try:
            await self._make_room_for(connection)
            self._connections[peer] = connection
            try:
                await self._serve_registered(connection, task_status)
            except Exception as error:  # noqa: BLE001 - the task's outermost frame: one connection's bug ends that one
                muxed.abort(f"internal error: {error!r:.200}")
            muxed.abort("closed")
        finally:
            muxed.abort("the host closes")
            if self._connections.get(peer) is connection:
                del self._connections[peer]
            connection.ended.set()
        await self._tell.send(Disconnected(connection, muxed.reason, muxed.violated))

    async def _make_room_for(self, new: Connection) -> None:
        if new.peer == self.own_id:
            raise DialFailed("that is this node itself")
        if self._gate is not None and not self._gate.admits_peer(new.peer):
            raise DialFailed("the peer is banned")
        while (old := self._connections.get(new.peer)) is not None:
            if not self._replaces(new, old):
                raise DialFailed("the peer is connected already")
            old.close("replaced by a newer connection")
            await old.ended.wait()
        if not new.outbound:
            self._make_room_inbound(new)

    def _make_room_inbound(self, new: Connection) -> None:
        inbound = [connection for connection in self._connections.values() if not connection.outbound]
        group = limit_group(new.address.host)
        of_same_group = [connection for connection in inbound if limit_group(connection.address.host) == group]
        if len(of_same_group) >= self._limits.inbound_each_ip:
            full = of_same_group
        elif len(inbound) >= self._limits.inbound:
            full = inbound
        else:
            return
        others = [connection for connection in full if not self._is_needed(connection.peer)]
        if not others or not self._is_needed(new.peer):
            raise DialFailed("there is no room")
        others[-1].close("its place is needed")

    def _replaces(self, new: Connection, old: Connection) -> bool:
        """The newer one, since the older may be dead; where both sides dialled at once, the lower peer id's dial."""
        if new.outbound == old.outbound or new.opened - old.opened > SIMULTANEOUS_DIAL_S:
            return True
        return new.outbound == (self.own_id < new.peer)

    async def _serve_registered(self, connection: Connection, task_status: trio.TaskStatus[Connection]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.muxed.start)
            await self._tell.send(Connected(connection))
            task_status.started(connection)
            while True:
                try:
                    muxed_stream = await connection.muxed.accept_stream()
                except MuxedConnUnavailable:
                    break
                assert isinstance(muxed_stream, BoundedYamuxStream)
                nursery.start_soon(self._serve_stream, connection, muxed_stream)
            nursery.cancel_scope.cancel()

    async def _serve_stream(self, connection: Connection, muxed: BoundedYamuxStream) -> None:
        protocol = ""
        try:
            offered: dict[TProtocol | None, None] = {TProtocol(name): None for name in self._handlers}
            with trio.fail_after(NEGOTIATE_TIMEOUT_S):
                chosen, _ = await Multiselect(dict(offered)).negotiate(BoundedCommunicator(muxed))
            protocol = str(chosen)
            stream = Stream(connection.peer, protocol, muxed)
            await self._handlers[protocol](stream)
            await stream.aclose()
        except (trio.TooSlowError, MultiselectError, StreamFailed):
            return  # the peer's doing: it fell silent, spoke another protocol or went away
        except Exception as error:  # noqa: BLE001 - the task's outermost frame: a handler's bug ends its stream alone
            await self._tell.send(HandlerFailed(connection.peer, protocol, error))
        finally:
            muxed.abort()

    # Streams of ours.

    async def open_stream(self, peer: PeerId, protocol: str) -> Stream:
        """Raises NotConnected, ProtocolRefused, StreamFailed."""
        connection = self._connections.get(peer)
        if connection is None:
            raise NotConnected(f"no connection to {peer_id_text(peer)}")
        try:
            muxed = await connection.muxed.open_stream()
        except MuxedStreamError as error:
            raise StreamFailed(str(error)) from error
        is_ours = False
        try:
            with trio.fail_after(NEGOTIATE_TIMEOUT_S):
                await MultiselectClient().select_one_of([TProtocol(protocol)], BoundedCommunicator(muxed))
            is_ours = True
        except trio.TooSlowError:
            raise StreamFailed(f"no answer within {NEGOTIATE_TIMEOUT_S:.0f} s") from None
        except ProtocolNotSupportedError:
            raise ProtocolRefused(f"the peer does not speak {protocol}") from None
        except BaseLibp2pError as error:
            if "not supported" in str(error):
                raise ProtocolRefused(f"the peer does not speak {protocol}") from None
            raise StreamFailed(str(error)) from error
        finally:
            if not is_ours:
                muxed.abort()
        return Stream(peer, protocol, muxed)

    def close_peer(self, peer: PeerId, reason: str) -> None:
        """At once; nothing happens where it is not connected."""
        connection = self._connections.get(peer)
        if connection is not None:
            connection.close(reason)

    async def _identify(self, stream: Stream) -> None:
        """Other implementations ask what we speak before they open streams. libp2p specs/identify."""
        connection = self._connections.get(stream.peer)
        message = Identify(
            protocol_version="astralink/1",
            agent_version=AGENT,
            public_key=self._key.public_key.serialize(),
            listen_addrs=[Multiaddr(str(address.with_peer(None))).to_bytes() for address in self.listen_addresses],
            observed_addr=Multiaddr(str(connection.address.with_peer(None))).to_bytes() if connection else b"",
            protocols=sorted(self._handlers),
        )
        await stream.write_message(message.SerializeToString())


class _HandshakeFailed(Exception):
    """The other end is no peer that this host can talk to."""


class _TcpEnd(ReadWriteCloser):
    """A socket as py-libp2p wants it, with reads that are whole."""

    def __init__(self, stream: trio.SocketStream, remote: Address) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self.remote = remote

    async def read(self, n: int | None = None) -> bytes:
        """Exactly `n` bytes, fewer only at the end. Stock returns what is there, and its reader gives up after a
        message's hundredth piece."""
        while not self._buffer or (n is not None and len(self._buffer) < n):
            try:
                piece = await self._stream.receive_some(_READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionClosedError(f"the socket is closed: {error}") from error
            if not piece:
                break
            self._buffer += piece
        data = bytes(self._buffer if n is None else self._buffer[:n])
        del self._buffer[: len(data)]
        return data

    async def write(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionClosedError(f"the socket is closed: {error}") from error

    async def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        self._stream.socket.close()

    def get_remote_address(self) -> tuple[str, int] | None:
        return self.remote.host, self.remote.port


def _nobody(peer: PeerId) -> bool:  # noqa: ARG001 - whoever asks gives a peer
    return False


def _reasons(error: OSError) -> str:
    """trio gathers the failures of a name's addresses behind one that says only that all failed."""
    if isinstance(error.__cause__, ExceptionGroup):
        return ", ".join(str(cause) for cause in error.__cause__.exceptions)
    return str(error.__cause__ or error)


def _socket_address(name: tuple[str, int] | tuple[str, int, int, int]) -> Address:
    return Address(name[0], name[1])


async def _agree(end: ReadWriteCloser, protocol: TProtocol, *, is_initiator: bool) -> None:
    communicator = BoundedCommunicator(end)
    if is_initiator:
        await MultiselectClient().select_one_of([protocol], communicator)
    else:
        await Multiselect({protocol: None}).negotiate(communicator)


async def _echo(stream: Stream) -> None:
    """libp2p specs/ping."""
    while (first := await stream.read(PING_BYTES)) != b"":
        await stream.write(
            first + (await stream.read_exactly(PING_BYTES - len(first)) if len(first) < PING_BYTES else b"")
        )
