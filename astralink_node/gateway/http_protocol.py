"""uvicorn's two protocols with the bounds that it leaves to a proxy: connections, slow headers, slow readers.

A gateway stands alone in front of its clients, so one that opens connections and sends nothing, or reads
nothing, must cost little and go away by itself. Who makes room for whom is decided in gateway.connections.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.connections import Connections

CLOSE_GRACE_S = 2.0
"""What a closed WebSocket connection gets to flush its last bytes."""


class _WriteWatch:
    """Aborts a connection whose client has not read anything for a while."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._timer: asyncio.TimerHandle | None = None

    def paused(self, transport: asyncio.Transport) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._timeout_s, transport.abort)

    def resumed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def http_protocol(limits: GatewayLimits, connections: Connections) -> type[H11Protocol]:
    """The HTTP protocol class for one server's limits; uvicorn makes an instance for each connection."""
    timeout_s, head_timeout_s = limits.body_timeout_ms / 1000, limits.head_timeout_ms / 1000

    class BoundedH11Protocol(H11Protocol):
        _watch: _WriteWatch
        _head_deadline: asyncio.TimerHandle
        _is_websocket = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self._watch = _WriteWatch(timeout_s)
            self._head_deadline = self.loop.call_later(head_timeout_s, self._close_if_silent)
            super().connection_made(transport)
            if not connections.opened(transport, self.client[0] if self.client else ""):
                transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            connections.closed(self.transport)
            self._head_deadline.cancel()
            self._watch.resumed()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            super().data_received(data)
            if self._is_websocket:
                return  # whose protocol has the transport now; it waits for no head
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

        def handle_websocket_upgrade(self, event: object) -> None:
            self._head_deadline.cancel()
            if connections.becomes_websocket(self.transport):
                self._is_websocket = True
                super().handle_websocket_upgrade(event)  # type: ignore[arg-type]
            else:
                self._refuse_websocket()

        def _refuse_websocket(self) -> None:
            text = b"too many WebSocket connections"
            headers = [(b"content-length", b"%d" % len(text)), (b"connection", b"close")]
            for part in (h11.Response(status_code=503, headers=headers), h11.Data(data=text), h11.EndOfMessage()):
                self.transport.write(self.conn.send(part) or b"")
            self.transport.close()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._watch.paused(self.transport)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._watch.resumed()

    return BoundedH11Protocol


def websocket_protocol(limits: GatewayLimits, connections: Connections) -> type[WebSocketsSansIOProtocol]:
    timeout_s = limits.body_timeout_ms / 1000

    class BoundedWebSocketProtocol(WebSocketsSansIOProtocol):
        _watch: _WriteWatch

        def __init__(self, config: Config, *arguments: object, **named: object) -> None:
            super().__init__(config, *arguments, **named)  # type: ignore[arg-type]
            self._watch = _WriteWatch(timeout_s)

        def connection_lost(self, exc: Exception | None) -> None:
            connections.closed(self.transport)
            self._watch.resumed()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._watch.paused(self.transport)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._watch.resumed()

        async def run_asgi(self) -> None:
            await super().run_asgi()
            if not self.disconnected:
                self.loop.call_later(CLOSE_GRACE_S, self.transport.abort)

    return BoundedWebSocketProtocol
