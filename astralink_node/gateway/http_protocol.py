"""uvicorn's two protocols with the bounds that it leaves to a proxy: connections, heads, pipelines, slow clients.

HTTP is parsed by llhttp, Node's parser, through httptools: a request costs a fraction of what h11, in Python, takes
for it. llhttp is strict about what could mean one request to a proxy and another to us, but leaves to its user how
much a head may hold, one Host header (RFC 9112, 3.2), and codings besides "chunked"; those are judged here.

A gateway stands alone in front of its clients, so one that opens connections and sends nothing, or reads
nothing, must cost little and go away by itself. Who makes room for whom is decided in gateway.connections. What
belongs to a connection rather than to a request travels in ASGI's ``state``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame
from websockets.protocol import State

from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.connections import Connections
from astralink_node.gateway.rate_limits import RateLimits

CLOSE_GRACE_S = 5.0
"""What a closed WebSocket connection gets to flush its last bytes, of which the last say why it was closed."""
MAX_FRAGMENTS = 8192
"""Frames of one WebSocket message. Its bytes are bounded, but empty ones cost memory, too; more are refused (1009)."""
NOT_TEXT = 1007
VIOLATION = 1008
TOO_BIG = 1009
"""RFC 6455's close codes: text that is no UTF-8; a policy violation, here that the client does not read; a message
beyond the bounds."""

MAX_HEAD_BYTES = 64 * 1024
"""Of a request's names, values and target. Beyond so much that neither ends a head nor brings any body (a head, a
trailer, a chunk's extensions) a request is refused before its end."""
MAX_HEADERS = 128
"""Of a request; each is two objects. Browsers behind several proxies send some forty."""
MAX_PIPELINED = 16
"""Requests that wait for the answers to those before them. Of a connection that sends more, these are answered, and
then it is closed: its client repeats the rest (RFC 9112, 9.3.2)."""

BAD_REQUEST = b"400 Bad Request"
HEAD_TOO_LARGE = b"431 Request Header Fields Too Large"
UNAVAILABLE = b"503 Service Unavailable"
WHY = {BAD_REQUEST: b"invalid HTTP request", HEAD_TOO_LARGE: b"request head too large"}

RETRY_AFTER_S = 1
"""When whoever found no room may try again."""

ALLOWANCE = "allowance"
"""In ASGI's state: the connection's :class:`~astralink_node.gateway.rate_limits.Allowance`."""
WIRE = "wire"
"""Likewise, of a WebSocket: its :class:`~astralink_node.gateway.outbox.Wire`."""
WHOLE = "whole"
"""There once all of a request's body is here, so that nobody has to wait for it."""

logger = logging.getLogger(__name__)


class _WriteWatch:
    """Acts on a connection whose client has not read anything for a while."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._timer: asyncio.TimerHandle | None = None

    def paused(self, act: Callable[[], None]) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._timeout_s, act)

    def resumed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class BadHead(Exception):
    """Raised in the parser's callbacks, to end it; it comes out of the parser as an HttpParserError."""


def http_protocol(limits: GatewayLimits, connections: Connections, rates: RateLimits) -> type[HttpToolsProtocol]:
    """The HTTP protocol class for one server's limits; uvicorn makes an instance for each connection."""
    timeout_s, head_timeout_s = limits.body_timeout_ms / 1000, limits.head_timeout_ms / 1000

    class BoundedHttpProtocol(HttpToolsProtocol):
        _watch: _WriteWatch
        _head_deadline: asyncio.TimerHandle
        _is_websocket = False
        _is_deaf = False
        """What comes is thrown away: the connection ends with the last answer that it is owed."""
        _unplaced_bytes = 0
        """Since the last end of a head or piece of a body."""
        _head_bytes = 0
        """Of the head at work, in names, values and the target."""
        _refusal = BAD_REQUEST
        """For what the parser refuses."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self._watch = _WriteWatch(timeout_s)
            self._head_deadline = self.loop.call_later(head_timeout_s, self._close_if_silent)
            super().connection_made(transport)
            self.parser = httptools.HttpRequestParser(self)  # without uvicorn's leniency
            address = self.client[0] if self.client else ""
            # One of its own: uvicorn gives all connections the same.
            self.app_state = {**self.app_state, ALLOWANCE: rates.connection_from(address)}
            if not connections.opened(transport, address):
                self._turn_away(UNAVAILABLE, b"too many connections")

        def connection_lost(self, exc: Exception | None) -> None:
            connections.closed(self.transport)
            self._head_deadline.cancel()
            self._watch.resumed()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._is_deaf:
                return
            self._unset_keepalive_if_required()
            before = self.cycle
            self._unplaced_bytes += len(data)
            self._parse(data)
            if self._is_websocket or self.transport.is_closing():
                return  # the WebSocket protocol has the transport now, which waits for no head; or nobody has it
            if self._unplaced_bytes > MAX_HEAD_BYTES and not self._is_deaf:
                self._refuse(HEAD_TOO_LARGE)
            if self.cycle is not before:
                self._head_deadline.cancel()
            elif self._idle() and self._head_deadline.cancelled():
                # The head of a further request has begun to arrive and uvicorn's idle timer is off.
                self._head_deadline = self.loop.call_later(head_timeout_s, self._close_if_silent)
            self._report_turn()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._report_turn()

        def _report_turn(self) -> None:
            if self._idle() or self.cycle.more_body:
                connections.waits(self.transport)
            else:
                connections.works(self.transport)

        def _idle(self) -> bool:
            cycle: RequestResponseCycle | None = self.cycle  # uvicorn leaves out that there is none at first
            return cycle is None or cycle.response_complete

        def _close_if_silent(self) -> None:
            if self._idle():
                self.transport.abort()

        # --- Parsing -----------------------------------------------------------------------------------------

        def _parse(self, data: bytes) -> None:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                else:
                    self._parse_without_upgrade(data[upgrade.args[0] :])
            except httptools.HttpParserError:
                self._refuse(self._refusal)

        def _parse_without_upgrade(self, rest: bytes) -> None:
            """To what we do not speak (Java's client asks for h2c each time) is no error but passed over (RFC 9110,
            7.8). llhttp passes over the body instead, so that it gets the same head without what led it astray."""
            version = self.parser.get_http_version().encode("ascii")
            head = [b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, version)]
            head += [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self._parse(b"".join(head) + b"\r\n" + rest)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._head_bytes += len(name) + len(value)
            if len(self.headers) >= MAX_HEADERS or self._head_bytes + len(self.url) > MAX_HEAD_BYTES:
                self._refusal = HEAD_TOO_LARGE
                raise BadHead
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._unplaced_bytes = self._head_bytes = 0
            self._check_head()
            if self.parser.should_upgrade():
                self.scope["method"] = self.parser.get_method().decode("ascii")  # for the handshake
                return
            super().on_headers_complete()
            self.headers = []  # trailers would go on arriving in the scope's

        def _check_head(self) -> None:
            """Raises BadHead."""
            hosts = 0
            for name, value in self.headers:
                if name == b"host":
                    hosts += 1
                elif name == b"transfer-encoding" and value.lower() != b"chunked":
                    raise BadHead
            version = self.parser.get_http_version()
            if hosts > 1 or version not in ("1.1", "1.0") or (not hosts and version == "1.1"):
                raise BadHead
            if len(self.pipeline) >= MAX_PIPELINED or self.parser.get_method() == b"CONNECT":
                raise BadHead

        def on_body(self, body: bytes) -> None:
            self._unplaced_bytes = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._head_bytes = 0  # of trailers
            if not self.parser.should_upgrade():  # else there is no cycle for it
                self.scope["state"][WHOLE] = True
                super().on_message_complete()

        def handle_websocket_upgrade(self) -> None:
            if not self._idle():
                self._refuse(BAD_REQUEST)  # the connection is not the WebSocket's while answers go over it
                return
            self._head_deadline.cancel()
            if connections.becomes_websocket(self.transport):
                self._is_websocket = True
                super().handle_websocket_upgrade()
            else:
                self._turn_away(UNAVAILABLE, b"too many WebSocket connections")

        # --- Refusing ----------------------------------------------------------------------------------------

        def _refuse(self, status: bytes) -> None:
            """What came is no request, or too much of one. Those that came whole before it are answered first."""
            cycle: RequestResponseCycle | None = self.cycle
            if cycle is None or cycle.response_complete:
                self._turn_away(status, WHY[status])
            elif not cycle.more_body:
                cycle.keep_alive = False
                self._is_deaf = True
            elif self.pipeline or cycle.response_started:
                self.transport.close()  # what is said now would be taken for another answer, or a part of it
            else:
                self._turn_away(status, WHY[status])

        def _turn_away(self, status: bytes, text: bytes) -> None:
            """With a status instead of a slammed door, so that a client, or its operator, can tell why."""
            retry = b"retry-after: %d\r\n" % RETRY_AFTER_S if status is UNAVAILABLE else b""
            self.transport.write(
                b"HTTP/1.1 %b\r\n%bcontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (status, retry, len(text), text)
            )
            self.transport.close()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._watch.paused(self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._watch.resumed()

    return BoundedHttpProtocol


def websocket_protocol(limits: GatewayLimits, connections: Connections) -> type[WebSocketsSansIOProtocol]:
    """The WebSocket protocol class, whose instances are :class:`~astralink_node.gateway.outbox.Wire`."""
    timeout_s = limits.body_timeout_ms / 1000

    class BoundedWebSocketProtocol(WebSocketsSansIOProtocol):
        _watch: _WriteWatch
        _resume: Callable[[], None] | None = None

        def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, object]) -> None:
            super().__init__(config, server_state, {**app_state, WIRE: self})
            self._watch = _WriteWatch(timeout_s)

        # --- The wire, past ASGI: a thousand subscribers' events must not wake a thousand tasks ------------------

        @property
        def is_ready(self) -> bool:
            return self.writable.is_set() and not self._is_ending()

        def call_when_ready(self, resume: Callable[[], None]) -> None:
            self._resume = resume

        def write(self, frames: bytes) -> None:
            self.transport.write(frames)

        def drop(self, reason: str) -> None:
            if self._is_ending():
                return
            logger.warning("a WebSocket client at %s was disconnected: %s", self.client and self.client[0], reason)
            self.queue.put_nowait({"type": "websocket.disconnect", "code": VIOLATION, "reason": reason})
            self._fail(VIOLATION, reason)
            if self.read_paused:
                self.read_paused = False
                self.transport.resume_reading()
            self.close_timer = self.loop.call_later(CLOSE_GRACE_S, self.transport.abort)

        def _fail(self, code: int, reason: str) -> None:
            if (
                self.conn.state is State.OPEN
            ):  # the client may have closed it in bytes that were read but not handled yet
                self.conn.send_close(code, reason)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True

        def _is_ending(self) -> bool:
            return self.close_sent or self.disconnected or self.transport.is_closing()

        # --- Bounds ----------------------------------------------------------------------------------------------

        def handle_cont(self, event: Frame) -> None:
            if self._is_ending():
                return
            if len(self.frames) < MAX_FRAGMENTS:
                super().handle_cont(event)
                return
            self._refuse(TOO_BIG, f"more than {MAX_FRAGMENTS} frames in a message")

        def send_receive_event_to_app(self) -> None:
            """Text is checked here, and goes on as bytes: uvicorn logs a traceback for what is no UTF-8."""
            message = b"".join(self.frames)
            if self.curr_msg_data_type == "text":
                try:
                    message.decode()
                except UnicodeDecodeError:
                    if not self._is_ending():
                        self._refuse(NOT_TEXT, "not UTF-8")
                    return
            self.frames = [message]
            self.curr_msg_data_type = "bytes"
            super().send_receive_event_to_app()

        def _refuse(self, code: int, reason: str) -> None:
            """What the client sent; with it the connection ends."""
            self.frames = []
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
            self._fail(code, reason)
            self.transport.close()

        def handle_ping(self) -> None:
            """A client that pings and does not read gets no pongs, which would pile up; nor does it need them."""
            answers = self.conn.data_to_send()
            if self.writable.is_set():
                self.transport.write(b"".join(answers))

        def pause_writing(self) -> None:
            super().pause_writing()
            self._watch.paused(self._end_as_silent)

        def _end_as_silent(self) -> None:
            if self._is_ending():
                self.transport.abort()  # it was closed, and what is left of it will never be read
            else:
                self.drop(f"too slow: nothing was read for {timeout_s:g} s")

        def keepalive_timeout(self) -> None:
            """A ping stands in the queue behind all else: who is behind is judged by the bounds on that, not by it."""
            if self.writable.is_set():
                super().keepalive_timeout()
            else:
                self.pong_timer = None
                self.schedule_ping()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._watch.resumed()
            if self._resume is not None:
                self._resume()

        def connection_lost(self, exc: Exception | None) -> None:
            connections.closed(self.transport)
            self._watch.resumed()
            super().connection_lost(exc)

        async def run_asgi(self) -> None:
            await super().run_asgi()
            if not self.disconnected:
                self.loop.call_later(CLOSE_GRACE_S, self.transport.abort)

    return BoundedWebSocketProtocol
