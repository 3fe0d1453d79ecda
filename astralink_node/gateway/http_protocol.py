"""uvicorn's HTTP protocol with the bounds that it leaves to a proxy: connections, heads, pipelines, slow clients.

HTTP is parsed by llhttp, Node's parser, through httptools: a request costs a fraction of what h11, in Python, takes
for it. llhttp is strict about what could mean one request to a proxy and another to us, but leaves to its user how
much a head may hold, one Host header (RFC 9112, 3.2), and codings besides "chunked"; those are judged here.

A gateway stands alone in front of its clients, so one that opens connections and sends nothing, or reads
nothing, must cost little and go away by itself. Who makes room for whom is decided in gateway.connections. What
belongs to a connection rather than to a request travels in ASGI's ``state``.
"""

from __future__ import annotations

import asyncio

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from astralink_node.gateway.askers import Asker
from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.connections import Connections
from astralink_node.gateway.rate_limits import RateLimits
from astralink_node.gateway.write_watch import WriteWatch

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
ASKER = "asker"
"""Likewise its :class:`~astralink_node.gateway.askers.Asker`."""
WHOLE = "whole"
"""There once all of a request's body is here, so that nobody has to wait for it."""


class BadHead(Exception):
    """Raised in the parser's callbacks, to end it; it comes out of the parser as an HttpParserError."""


def http_protocol(limits: GatewayLimits, connections: Connections, rates: RateLimits) -> type[HttpToolsProtocol]:
    """The protocol class of one server; uvicorn makes an instance for each connection."""

    class HttpProtocolOfServer(BoundedHttpProtocol):
        _limits = limits
        _places = connections
        _rates = rates

    return HttpProtocolOfServer


class BoundedHttpProtocol(HttpToolsProtocol):
    """A connection. `http_protocol` says within which bounds."""

    _limits: GatewayLimits
    _places: Connections
    _rates: RateLimits
    _watch: WriteWatch
    _asker: Asker
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
        self._asker = Asker()
        self._watch = WriteWatch(self._limits.body_timeout_ms / 1000)
        self._head_deadline = self.loop.call_later(self._limits.head_timeout_ms / 1000, self._close_if_silent)
        super().connection_made(transport)
        self.parser = httptools.HttpRequestParser(self)  # without uvicorn's leniency
        address = self.client[0] if self.client else ""
        # One of its own: uvicorn gives all connections the same.
        self.app_state = {
            **self.app_state,
            ALLOWANCE: self._rates.connection_from(address),
            ASKER: self._asker,
        }
        if not self._places.opened(transport, address):
            self._turn_away(UNAVAILABLE, b"too many connections")

    def connection_lost(self, exc: Exception | None) -> None:
        self._places.closed(self.transport)
        self._head_deadline.cancel()
        self._watch.resumed()
        self._asker.left()
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
            self._head_deadline = self.loop.call_later(self._limits.head_timeout_ms / 1000, self._close_if_silent)
        self._report_turn()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._report_turn()

    def _report_turn(self) -> None:
        if self._idle() or self.cycle.more_body:
            self._places.waits(self.transport)
        else:
            self._places.works(self.transport)

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
        if self._places.becomes_websocket(self.transport):
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
