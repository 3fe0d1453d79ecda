"""HTTP and WebSocket in front of the gateway, on one port and one path, as geth serves them.

ASGI: runs on uvicorn. JSON-RPC is found without a router, because most requests are for it; the rest is routed by
starlette, so that later interfaces (REST, GraphQL) get routes beside it. Everything a client may send is bounded here
before it is parsed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing, suppress
from typing import Any, cast

import orjson
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from astralink_node.gateway.access import AccessPolicy, Headers, access_policy
from astralink_node.gateway.askers import asker
from astralink_node.gateway.config import GatewayConfig, GatewayLimits
from astralink_node.gateway.dispatch import RateLimited
from astralink_node.gateway.gateway import Gateway
from astralink_node.gateway.http_protocol import ALLOWANCE, ASKER, WHOLE
from astralink_node.gateway.outbox import Wire
from astralink_node.gateway.rate_limits import Allowance
from astralink_node.gateway.reading.errors import ReadError
from astralink_node.gateway.rpc_errors import INVALID_REQUEST, RpcError
from astralink_node.gateway.subscriptions import Connection
from astralink_node.gateway.websocket_protocol import WIRE
from astralink_node.metrics import CONTENT_TYPE

JSON_TYPES = frozenset({b"application/json", b"application/json-rpc", b"application/jsonrequest"})
"""geth's list. No page of another origin can send them without a preflight."""

DISCARDED_BYTES = 32 * 1024 * 1024
"""Of a body that is too large: so much is read and thrown away before the refusal. Most clients read no answer before
they have sent all they have, and closing a connection with bytes unread would take the answer away from them."""
DISCARD_TIMEOUT_S = 5


class BodyTooLarge(Exception):
    def __init__(self, *, has_more: bool) -> None:
        super().__init__()
        self.has_more = has_more
        """Of it is yet to be read."""


class ClientGone(Exception):
    pass


Fields = Mapping[bytes, bytes]
"""A request's headers by name; of one that comes twice the first."""


def application(config: GatewayConfig, gateway: Gateway) -> ASGIApp:
    policy = access_policy(config.vhosts, config.cors_origins)
    endpoint = RpcEndpoint(gateway, policy, config.limits)
    routes: list[BaseRoute] = []
    if config.metrics:
        routes.append(Route("/metrics", endpoint=MetricsEndpoint(gateway, policy, config.limits)))
    others = Starlette(routes=routes)

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        await (endpoint if scope["path"] == "/" else others)(scope, receive, send)

    return route


class MetricsEndpoint:
    """The node's metrics for Prometheus. Pages of other origins cannot read them: no CORS header is sent."""

    def __init__(self, gateway: Gateway, policy: AccessPolicy, limits: GatewayLimits) -> None:
        self._gateway = gateway
        self._policy = policy
        self._timeout_s = limits.request_timeout_ms / 1000

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive  # what a GET carries is of no interest
        if not self._policy.host_allowed(_text(_fields(scope), b"host")):
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
        except (TimeoutError, ReadError):
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
        fields = _fields(scope)
        origin = _text(fields, b"origin")
        cors = self._policy.cors_headers(origin)
        if not self._policy.host_allowed(_text(fields, b"host")):
            await _respond(send, 403, b"invalid host specified", cors)
            return
        match scope["method"]:
            case "POST":
                await self._post(scope, fields, receive, send, cors)
            case "OPTIONS":
                private_network = _text(fields, b"access-control-request-private-network") == "true"
                headers = self._policy.preflight_headers(origin, private_network=private_network)
                await _respond(send, 204, b"", headers)
            case _:
                await _respond(send, 405, _POST_ONLY, [*cors, (b"allow", b"POST, OPTIONS"), _TEXT])

    async def _post(self, scope: Scope, fields: Fields, receive: Receive, send: Send, cors: Headers) -> None:
        if fields.get(b"content-type", b"").partition(b";")[0].strip().lower() not in JSON_TYPES:
            await _respond(
                send, 415, b"invalid content type, only application/json is supported", [*cors, _CLOSE_CONNECTION]
            )
            return
        coding = (_text(fields, b"content-encoding") or "identity").strip().lower()
        if coding != "identity":
            # A small body could be unpacked to any size; geth reads none either.
            text = _error(f"content encoding {coding[:40]} is not supported: send the body as it is")
            await _discard_body(fields, receive)
            await _respond(send, 415, text, [*cors, _JSON, (b"accept-encoding", b"identity"), _CLOSE_CONNECTION])
            return
        try:
            if WHOLE in scope["state"]:
                body = await _read_body(fields, receive, self._limits.request_bytes)
            else:
                async with asyncio.timeout(self._limits.body_timeout_ms / 1000):
                    body = await _read_body(fields, receive, self._limits.request_bytes)
        except BodyTooLarge as error:
            text = _error(f"request body too large: more than {self._limits.request_bytes} bytes")
            if error.has_more:
                await _discard_body(fields, receive)
            await _respond(send, 413, text, [*cors, _JSON, _CLOSE_CONNECTION])
            return
        except TimeoutError:
            await _respond(send, 408, b"the request body did not arrive in time", [*cors, _CLOSE_CONNECTION])
            return
        except ClientGone:
            return
        allowance = cast(Allowance, scope["state"][ALLOWANCE])
        asker.set(scope["state"][ASKER])
        try:
            # HTTP/1.0 knows no chunks.
            answer = await self._gateway.answer_in_parts(body, allowance, whole=scope["http_version"] == "1.0")
        except RateLimited as refusal:
            after_s = -(-refusal.retry_after_ms // 1000)
            retry = (b"retry-after", str(after_s).encode("ascii"))
            await _respond(send, 429, refusal.answer or b"", [*cors, _JSON, retry])
            return
        if answer is None:
            await _respond(send, 204, b"", cors)
        elif isinstance(answer, bytes):
            await _respond(send, 200, answer, [*cors, _JSON])
        else:
            await _while_connected(receive, _respond_in_parts(send, answer, [*cors, _JSON]))

    # --- WebSocket -------------------------------------------------------------------------------------------

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        fields = _fields(scope)
        host_allowed = self._policy.host_allowed(_text(fields, b"host"))
        if not host_allowed or not self._policy.websocket_origin_allowed(_text(fields, b"origin")):
            # Before the handshake is accepted this is an HTTP 403.
            await send({"type": "websocket.close", "code": 1008, "reason": "origin or host not allowed"})
            return
        await send({"type": "websocket.accept"})
        connection = self._gateway.open_connection(cast(Wire, scope["state"][WIRE]))
        try:
            await self._converse(connection, receive, cast(Allowance, scope["state"][ALLOWANCE]))
        except* ClientGone:
            pass
        finally:
            connection.close()

    async def _converse(self, connection: Connection, receive: Receive, allowance: Allowance) -> None:
        """Answer messages as they come, so many at once, while more wait in their order.

        The socket is read meanwhile, so that a client that leaves is noticed: then ClientGone is raised, and what works
        for it is cancelled. Only while as many wait as may, the next is left in the socket.
        """
        waiting, at_work = _Waiting(self._limits), 0

        async def answer() -> None:
            nonlocal at_work
            while (body := waiting.next()) is not None:
                await self._gateway.answer_connection(connection, body, allowance)
            at_work -= 1

        async with asyncio.TaskGroup() as answers:
            while True:
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    raise ClientGone
                await waiting.add(_payload(message))
                if at_work < self._limits.requests_per_connection:
                    at_work += 1
                    answers.create_task(answer())


class _Waiting:
    """Messages of one connection that wait for others to be answered; bounded."""

    def __init__(self, limits: GatewayLimits) -> None:
        self._limits = limits
        self._bodies: deque[bytes] = deque()
        self._bytes = 0
        self._shrank = asyncio.Event()

    async def add(self, body: bytes) -> None:
        """Waits until there is room for it."""
        while self._is_full_for(body):
            self._shrank.clear()
            await self._shrank.wait()
        self._bodies.append(body)
        self._bytes += len(body)

    def _is_full_for(self, body: bytes) -> bool:
        """A message may exceed the bound on bytes if none other waits."""
        if len(self._bodies) >= self._limits.requests_waiting_per_connection:
            return True
        return bool(self._bodies) and self._bytes + len(body) > self._limits.request_bytes

    def next(self) -> bytes | None:
        if not self._bodies:
            return None
        body = self._bodies.popleft()
        self._bytes -= len(body)
        self._shrank.set()
        return body


def _payload(message: Message) -> bytes:
    """Clients send text; geth takes binary frames too."""
    text = message.get("text")
    if isinstance(text, str):
        return text.encode("utf-8", "surrogatepass")
    body = message.get("bytes")
    return body if isinstance(body, bytes) else b""


async def _read_body(fields: Fields, receive: Receive, max_bytes: int) -> bytes:
    announced = fields.get(b"content-length")
    if announced is not None and announced.isdigit() and int(announced) > max_bytes:
        raise BodyTooLarge(has_more=True)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise BodyTooLarge(has_more=message.get("more_body", False))
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _discard_body(fields: Fields, receive: Receive) -> None:
    """Read what is left of a body, within bounds; not if the client waits for a go-ahead, or has far too much to send.

    A client that leaves meanwhile gets no answer: uvicorn drops it.
    """
    announced = fields.get(b"content-length")
    expects_go_ahead = fields.get(b"expect", b"").lower() == b"100-continue"
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


async def _while_connected(receive: Receive, answering: Coroutine[Any, Any, None]) -> None:
    """Answer, unless the client leaves: then whatever works for the answer is cancelled."""
    work = asyncio.create_task(answering)
    gone = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (work, gone):
            task.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)
    if not work.cancelled():
        work.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _respond_in_parts(send: Send, parts: AsyncGenerator[bytes], headers: Headers) -> None:
    """An answer in one part is an ordinary response; of more the length is not known when they begin."""
    async with aclosing(parts):
        first = await anext(parts)
        second = await anext(parts, None)
        if second is None:
            await _respond(send, 200, first, headers)
            return
        await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
        for part in (first, second):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        async for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


_JSON = (b"content-type", b"application/json")
_TEXT = (b"content-type", b"text/plain")
_POST_ONLY = b"this is a JSON-RPC endpoint: POST a request, or connect by WebSocket\n"
_CLOSE_CONNECTION = (b"connection", b"close")
"""After a body that was not read to its end the connection is of no further use."""


def _error(message: str) -> bytes:
    """For a request that was not read."""
    return orjson.dumps({"jsonrpc": "2.0", "id": None, "error": RpcError(INVALID_REQUEST, message).to_json()})


def _fields(scope: Scope) -> Fields:
    return dict(reversed(scope["headers"]))


def _text(fields: Fields, name: bytes) -> str | None:
    value = fields.get(name)
    return None if value is None else value.decode("latin-1")


async def _respond(send: Send, status: int, body: bytes, headers: Headers) -> None:
    all_headers = list(headers)
    if status != 204:
        all_headers.append((b"content-length", str(len(body)).encode("ascii")))
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})
