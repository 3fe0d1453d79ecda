"""HTTP and WebSocket in front of the gateway, on one port and one path, as geth serves them.

ASGI: runs on uvicorn, is routed by starlette, so that later interfaces (REST, GraphQL) get routes beside this
one. Everything a client may send is bounded here before it is parsed.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import orjson
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Message, Receive, Scope, Send

from astralink_node.gateway.access import AccessPolicy, Headers, access_policy
from astralink_node.gateway.backend import Unavailable
from astralink_node.gateway.config import GatewayConfig, GatewayLimits
from astralink_node.gateway.gateway import Gateway
from astralink_node.gateway.reading.errors import ReadError
from astralink_node.gateway.rpc_errors import INVALID_REQUEST, RpcError
from astralink_node.gateway.subscriptions import Connection
from astralink_node.metrics import CONTENT_TYPE

JSON_TYPES = frozenset({b"application/json", b"application/json-rpc", b"application/jsonrequest"})
"""geth's list. No page of another origin can send them without a preflight."""

CLOSE_TOO_SLOW = 1008
"""RFC 6455's policy violation: the client let its queue overflow."""


DISCARDED_BYTES = 32 * 1024 * 1024
"""Of a body that is too large: so much is read and thrown away before the refusal. Most clients read no answer before
they have sent all they have, and closing a connection with bytes unread would take the answer away from them."""
DISCARD_TIMEOUT_S = 5


class BodyTooLarge(Exception):
    pass


class ClientGone(Exception):
    pass


def application(config: GatewayConfig, gateway: Gateway) -> Starlette:
    policy = access_policy(config.vhosts, config.cors_origins)
    endpoint = RpcEndpoint(gateway, policy, config.limits)
    routes: list[BaseRoute] = [Route("/", endpoint=endpoint), WebSocketRoute("/", endpoint=endpoint)]
    if config.metrics:
        routes.append(Route("/metrics", endpoint=MetricsEndpoint(gateway, policy, config.limits)))
    return Starlette(routes=routes)


class MetricsEndpoint:
    """The node's metrics for Prometheus. Pages of other origins cannot read them: no CORS header is sent."""

    def __init__(self, gateway: Gateway, policy: AccessPolicy, limits: GatewayLimits) -> None:
        self._gateway = gateway
        self._policy = policy
        self._timeout_s = limits.request_timeout_ms / 1000

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive  # what a GET carries is of no interest
        if not self._policy.host_allowed(_header(scope, b"host")):
            await _respond(send, 403, b"invalid host specified", [])
        elif scope["method"] != "GET":
            await _respond(send, 405, b"method not allowed", [(b"allow", b"GET"), _CLOSE_CONNECTION])
        else:
            text = await self._text()
            if text is None:
                await _respond(send, 503, b"the node gives no metrics now", [])
            else:
                await _respond(send, 200, text.encode(), [(b"content-type", CONTENT_TYPE.encode("ascii"))])

    async def _text(self) -> str | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._gateway.read.node.metrics()
        except (TimeoutError, Unavailable, ReadError):
            return None


class RpcEndpoint:
    """JSON-RPC at one path: POST a message, or speak WebSocket."""

    def __init__(self, gateway: Gateway, policy: AccessPolicy, limits: GatewayLimits) -> None:
        self._gateway = gateway
        self._policy = policy
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._http(scope, receive, send)

    # --- HTTP ------------------------------------------------------------------------------------------------

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = _header(scope, b"origin")
        cors = self._policy.cors_headers(origin)
        if not self._policy.host_allowed(_header(scope, b"host")):
            await _respond(send, 403, b"invalid host specified", cors)
            return
        match scope["method"]:
            case "POST":
                await self._post(scope, receive, send, cors)
            case "OPTIONS":
                private_network = _header(scope, b"access-control-request-private-network") == "true"
                headers = self._policy.preflight_headers(origin, private_network=private_network)
                await _respond(send, 204, b"", headers)
            case _:
                await _respond(send, 405, _POST_ONLY, [*cors, (b"allow", b"POST, OPTIONS"), _TEXT])

    async def _post(self, scope: Scope, receive: Receive, send: Send, cors: Headers) -> None:
        content_type = (_header(scope, b"content-type") or "").partition(";")[0].strip().lower()
        if content_type.encode("latin-1") not in JSON_TYPES:
            await _respond(
                send, 415, b"invalid content type, only application/json is supported", [*cors, _CLOSE_CONNECTION]
            )
            return
        try:
            async with asyncio.timeout(self._limits.body_timeout_ms / 1000):
                body = await _read_body(scope, receive, self._limits.request_bytes)
        except BodyTooLarge:
            error = RpcError(INVALID_REQUEST, f"request body too large: more than {self._limits.request_bytes} bytes")
            text = orjson.dumps({"jsonrpc": "2.0", "id": None, "error": error.to_json()})
            await _discard_body(scope, receive)
            await _respond(send, 413, text, [*cors, _JSON, _CLOSE_CONNECTION])
            return
        except TimeoutError:
            await _respond(send, 408, b"the request body did not arrive in time", [*cors, _CLOSE_CONNECTION])
            return
        except ClientGone:
            return
        answer = await self._gateway.answer(body)
        if answer is None:
            await _respond(send, 204, b"", cors)
        else:
            await _respond(send, 200, answer, [*cors, _JSON])

    # --- WebSocket -------------------------------------------------------------------------------------------

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        host_allowed = self._policy.host_allowed(_header(scope, b"host"))
        if not host_allowed or not self._policy.websocket_origin_allowed(_header(scope, b"origin")):
            # Before the handshake is accepted this is an HTTP 403.
            await send({"type": "websocket.close", "code": 1008, "reason": "origin or host not allowed"})
            return
        await send({"type": "websocket.accept"})
        connection = self._gateway.open_connection()
        try:
            await self._converse(connection, receive, send)
        finally:
            self._gateway.close_connection(connection)

    async def _converse(self, connection: Connection, receive: Receive, send: Send) -> None:
        """Read, answer and push until the client leaves or falls too far behind."""
        reading = asyncio.create_task(self._read(connection, receive))
        writing = asyncio.create_task(_write(connection, send))
        overflow = asyncio.create_task(connection.outbox.overflowed.wait())
        tasks = (reading, writing, overflow)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if connection.outbox.overflowed.is_set():
            try:
                async with asyncio.timeout(1):
                    await send({"type": "websocket.close", "code": CLOSE_TOO_SLOW, "reason": "client too slow"})
            except (TimeoutError, OSError):
                # It does not read at all: the protocol aborts the connection when this returns.
                return

    async def _read(self, connection: Connection, receive: Receive) -> None:
        """Answer messages as they come, so many at once; beyond that the socket is not read."""
        gate = asyncio.Semaphore(self._limits.requests_per_connection)
        async with asyncio.TaskGroup() as answers:
            while True:
                await gate.acquire()
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    raise ClientGone
                answers.create_task(self._answer(connection, _payload(message), gate))

    async def _answer(self, connection: Connection, body: bytes, gate: asyncio.Semaphore) -> None:
        try:
            await self._gateway.answer_connection(connection, body)
        finally:
            gate.release()


async def _write(connection: Connection, send: Send) -> None:
    while True:
        message = await connection.outbox.get()
        await send({"type": "websocket.send", "text": message.decode("utf-8")})


def _payload(message: Message) -> bytes:
    """Clients send text; geth takes binary frames too."""
    text = message.get("text")
    if isinstance(text, str):
        return text.encode("utf-8", "surrogatepass")
    body = message.get("bytes")
    return body if isinstance(body, bytes) else b""


async def _read_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    announced = _header(scope, b"content-length")
    if announced is not None and announced.isdigit() and int(announced) > max_bytes:
        raise BodyTooLarge
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise BodyTooLarge
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _discard_body(scope: Scope, receive: Receive) -> None:
    """Read what is left of a body, within bounds; not if the client waits for a go-ahead, or has far too much to send.

    A client that leaves meanwhile gets no answer: uvicorn drops it.
    """
    announced = _header(scope, b"content-length")
    expects_go_ahead = (_header(scope, b"expect") or "").lower() == "100-continue"
    if announced is not None and (expects_go_ahead or not announced.isdigit() or int(announced) > DISCARDED_BYTES):
        return
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_TIMEOUT_S):
            while size <= DISCARDED_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


_JSON = (b"content-type", b"application/json")
_TEXT = (b"content-type", b"text/plain")
_POST_ONLY = b"this is a JSON-RPC endpoint: POST a request, or connect by WebSocket\n"
_CLOSE_CONNECTION = (b"connection", b"close")
"""After a body that was not read to its end the connection is of no further use."""


def _header(scope: Scope, name: bytes) -> str | None:
    value: bytes
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return None


async def _respond(send: Send, status: int, body: bytes, headers: Headers) -> None:
    all_headers = list(headers)
    if status != 204:
        all_headers.append((b"content-length", str(len(body)).encode("ascii")))
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})
