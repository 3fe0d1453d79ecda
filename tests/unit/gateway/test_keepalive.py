"""When a WebSocket client that leaves a ping unanswered counts as gone."""

from __future__ import annotations

import asyncio
from typing import cast

from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.connections import Connections
from astralink_node.gateway.websocket_protocol import websocket_protocol
from tests.support.asynchronous import run


class Transport:
    is_closed = False

    def is_closing(self) -> bool:
        return self.is_closed

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    pass


def protocol() -> tuple[WebSocketsSansIOProtocol, Transport]:
    config = Config(nothing)
    config.load()
    found = websocket_protocol(GatewayLimits(), cast(Connections, None))(config, ServerState(), {})
    transport = Transport()
    found.transport = cast(asyncio.Transport, transport)
    return found, transport


def test_who_has_been_read_to_the_end_and_did_not_answer_is_gone() -> None:
    async def main() -> None:
        socket, transport = protocol()
        socket.keepalive_timeout()
        assert transport.is_closed

    run(main)


def test_whose_answer_may_be_unread_here_is_asked_again() -> None:
    async def main() -> None:
        socket, transport = protocol()
        socket.read_paused = True
        socket.keepalive_timeout()
        assert not transport.is_closed
        assert socket.ping_timer is not None
        socket.stop_keepalive()

    run(main)


def test_who_does_not_read_is_asked_again() -> None:
    async def main() -> None:
        socket, transport = protocol()
        socket.writable.clear()
        socket.keepalive_timeout()
        assert not transport.is_closed
        assert socket.ping_timer is not None
        socket.stop_keepalive()

    run(main)
