"""A WebSocket's messages are answered so many at once, and a client that leaves is noticed whatever is at work."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from starlette.types import Message

from astralink_node.gateway.access import access_policy
from astralink_node.gateway.asgi import RpcEndpoint
from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.gateway import Gateway
from astralink_node.gateway.http_protocol import ALLOWANCE
from astralink_node.gateway.websocket_protocol import WIRE
from tests.support.asynchronous import run

AT_ONCE = 3
SCOPE: dict[str, Any] = {"type": "websocket", "headers": [], "state": {ALLOWANCE: None, WIRE: None}}


class Connection:
    is_closed = False

    def close(self) -> None:
        self.is_closed = True


class SilentGateway:
    """Begins with every message, and answers none."""

    def __init__(self) -> None:
        self.connection = Connection()
        self.at_work = self.cancelled = 0
        self._began = asyncio.Semaphore(0)

    async def wait_for(self, messages: int) -> None:
        for _ in range(messages):
            await self._began.acquire()

    def open_connection(self, wire: object) -> Connection:
        return self.connection

    async def answer_connection(self, connection: object, body: bytes, allowance: object) -> None:
        self.at_work += 1
        self._began.release()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled += 1


class Client:
    """What it sends, message by message."""

    def __init__(self, messages: int) -> None:
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.incoming.put_nowait({"type": "websocket.connect"})
        for _ in range(messages):
            self.incoming.put_nowait({"type": "websocket.receive", "bytes": b"{}"})

    def leave(self) -> None:
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})

    async def send(self, message: Message) -> None:
        assert message["type"] == "websocket.accept"


def endpoint(gateway: SilentGateway) -> RpcEndpoint:
    limits = GatewayLimits(requests_per_connection=AT_ONCE)
    return RpcEndpoint(cast(Gateway, gateway), access_policy(("*",), ()), limits)


def test_a_client_that_leaves_with_as_many_requests_at_work_as_may_be_ends_them() -> None:
    async def main() -> None:
        gateway, client = SilentGateway(), Client(AT_ONCE)
        talking = asyncio.create_task(endpoint(gateway)(SCOPE, client.incoming.get, client.send))
        await gateway.wait_for(AT_ONCE)
        client.leave()
        await talking
        assert gateway.connection.is_closed
        assert gateway.cancelled == AT_ONCE

    run(main)


def test_no_more_are_at_work_than_may_be_and_one_more_is_read() -> None:
    async def main() -> None:
        gateway, client = SilentGateway(), Client(AT_ONCE + 3)
        talking = asyncio.create_task(endpoint(gateway)(SCOPE, client.incoming.get, client.send))
        await gateway.wait_for(AT_ONCE)
        for _ in range(10):
            await asyncio.sleep(0)
        assert gateway.at_work == AT_ONCE
        assert client.incoming.qsize() == 2
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)

    run(main)
