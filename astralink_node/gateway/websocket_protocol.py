"""uvicorn's WebSocket protocol with the bounds that it leaves to a proxy: fragments, slow readers, pings.

Events reach a connection past ASGI, as frames of gateway.outbox: that is what its `Wire` is. Which connections there
are and who makes room for whom is gateway.connections'.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame
from websockets.protocol import State

from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.connections import Connections
from astralink_node.gateway.write_watch import WriteWatch

CLOSE_GRACE_S = 5.0
"""What a closed WebSocket connection gets to flush its last bytes, of which the last say why it was closed."""
MAX_FRAGMENTS = 8192
"""Frames of one WebSocket message. Its bytes are bounded, but empty ones cost memory, too; more are refused (1009)."""
NOT_TEXT = 1007
VIOLATION = 1008
TOO_BIG = 1009
"""RFC 6455's close codes: text that is no UTF-8; a policy violation, here that the client does not read; a message
beyond the bounds."""
WIRE = "wire"
"""In ASGI's ``state``: the connection as :class:`~astralink_node.gateway.outbox.Wire`."""

logger = logging.getLogger(__name__)


def websocket_protocol(limits: GatewayLimits, connections: Connections) -> type[WebSocketsSansIOProtocol]:
    """The protocol class of one server; uvicorn makes an instance for each connection."""

    class WebSocketProtocolOfServer(BoundedWebSocketProtocol):
        _limits = limits
        _places = connections

    return WebSocketProtocolOfServer


class BoundedWebSocketProtocol(WebSocketsSansIOProtocol):
    """An instance is a :class:`~astralink_node.gateway.outbox.Wire`."""

    _limits: GatewayLimits
    _places: Connections
    _watch: WriteWatch
    _resume: Callable[[], None] | None = None

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, object]) -> None:
        super().__init__(config, server_state, {**app_state, WIRE: self})
        self._watch = WriteWatch(self._limits.body_timeout_ms / 1000)

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
        if self.conn.state is State.OPEN:  # the client may have closed it in bytes that were read but not handled yet
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
            self.drop(f"too slow: nothing was read for {self._limits.body_timeout_ms / 1000:g} s")

    def keepalive_timeout(self) -> None:
        """A ping stands in the queue behind all else: who is behind is judged by the bounds on that, not by it. And a
        pong behind messages that are left in the socket cannot have been read yet."""
        if self.writable.is_set() and not self.read_paused:
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
        self._places.closed(self.transport)
        self._watch.resumed()
        super().connection_lost(exc)

    async def run_asgi(self) -> None:
        await super().run_asgi()
        if not self.disconnected:
            self.loop.call_later(CLOSE_GRACE_S, self.transport.abort)
