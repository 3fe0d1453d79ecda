"""A WebSocket's messages are answered so many at once, and a client that leaves is noticed whatever is at work."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
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
    """Begins with every message, and answers none until it may."""

    def __init__(self) -> None:
        self.connection = Connection()
        self.at_work = self.cancelled = 0
        self.bodies: list[bytes] = []
        self.may_answer = asyncio.Event()
        self._began = asyncio.Semaphore(0)

    async def wait_for(self, messages: int) -> None:
        for _ in range(messages):
            await self._began.acquire()

    def open_connection(self, wire: object) -> Connection:
        return self.connection

    async def answer_connection(self, connection: object, body: bytes, allowance: object) -> None:
        self.at_work += 1
        self.bodies.append(body)
        self._began.release()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Client:
    """What it sends, message by message."""

    def __init__(self, messages: int) -> None:
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.incoming.put_nowait({"type": "websocket.connect"})
        for number in range(messages):
            self.incoming.put_nowait({"type": "websocket.receive", "bytes": b"%d" % number})

    def leave(self) -> None:
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})

    async def send(self, message: Message) -> None:
        assert message["type"] == "websocket.accept"


def endpoint(gateway: SilentGateway, **more: int) -> RpcEndpoint:
    limits = GatewayLimits(requests_per_connection=AT_ONCE, **more)
    return RpcEndpoint(cast(Gateway, gateway), access_policy(("*",), ()), limits)


@pytest.mark.parametrize("waiting", [0, 1, 5])
def test_a_client_that_leaves_ends_its_requests_however_many_wait(waiting: int) -> None:
    async def main() -> None:
        gateway, client = SilentGateway(), Client(AT_ONCE + waiting)
        talking = asyncio.create_task(endpoint(gateway)(SCOPE, client.incoming.get, client.send))
        await gateway.wait_for(AT_ONCE)
        client.leave()
        await talking
        assert gateway.connection.is_closed
        assert gateway.at_work == gateway.cancelled == AT_ONCE

    run(main)


def test_no_more_are_at_work_than_may_be_and_the_rest_follow_in_order() -> None:
    async def main() -> None:
        gateway, client = SilentGateway(), Client(AT_ONCE + 3)
        talking = asyncio.create_task(endpoint(gateway)(SCOPE, client.incoming.get, client.send))
        await gateway.wait_for(AT_ONCE)
        for _ in range(10):
            await asyncio.sleep(0)
        assert gateway.at_work == AT_ONCE
        assert client.incoming.empty()
        gateway.may_answer.set()
        await gateway.wait_for(3)
        assert gateway.bodies == [b"%d" % number for number in range(AT_ONCE + 3)]
        client.leave()
        await talking

    run(main)


@pytest.mark.parametrize(
    "limits", [{"requests_waiting_per_connection": 2}, {"request_bytes": 2}], ids=["messages", "bytes"]
)
def test_where_too_many_wait_the_next_stay_in_the_socket_until_there_is_room(limits: dict[str, int]) -> None:
    async def main() -> None:
        gateway, client = SilentGateway(), Client(AT_ONCE + 6)
        talking = asyncio.create_task(endpoint(gateway, **limits)(SCOPE, client.incoming.get, client.send))
        await gateway.wait_for(AT_ONCE)
        for _ in range(10):
            await asyncio.sleep(0)
        assert client.incoming.qsize() == 3  # two wait, and one in the hand of who reads
        gateway.may_answer.set()
        await gateway.wait_for(6)
        assert gateway.bodies == [b"%d" % number for number in range(AT_ONCE + 6)]
        client.leave()
        await talking

    run(main)
