"""Traces through a gateway process and a real query server: parts that arrive early, and clients that leave."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h11
import orjson
from websockets.asyncio.client import connect

from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.streamed import HELD_BACK_BYTES
from tests.support.asynchronous import run
from tests.support.gateway_processes import GatewayProcess, parse_response, running_gateway
from tests.support.gateways import hexed
from tests.support.query_sockets import PATIENCE_S, WatchedQueries
from tests.support.traced_chains import LOOPER, traced_node

APIS = ("eth", "debug", "trace")
LONG_GAS, SHORT_GAS = 40_000_000, 200_000
"""Ten million steps, which nobody waits for; and some ten thousand."""


def trace_call(gas: int, **config: Any) -> dict[str, Any]:
    params = [{"to": hexed(LOOPER), "gas": hex(gas)}, "latest", config]
    return {"jsonrpc": "2.0", "id": 9, "method": "debug_traceCall", "params": params}


class Exchange:
    """One HTTP request and its response as it comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self._http = h11.Connection(h11.CLIENT)

    def send(self, gateway: GatewayProcess, message: object) -> None:
        body = orjson.dumps(message)
        headers = [("host", gateway.host), ("content-type", "application/json"), ("content-length", str(len(body)))]
        for event in (h11.Request(method="POST", target="/", headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.writer.write(self._http.send(event) or b"")

    async def events(self) -> AsyncIterator[h11.Event]:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(1 << 16))
                continue
            assert isinstance(event, h11.Event)
            yield event
            if isinstance(event, h11.EndOfMessage):
                return

    async def begun(self) -> None:
        """Until its answer comes; no more of it is read."""
        async for event in self.events():
            if isinstance(event, h11.Data):
                return

    async def response(self) -> tuple[h11.Response, list[bytes]]:
        head: h11.Response | None = None
        parts = []
        async for event in self.events():
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                parts.append(bytes(event.data))
        assert head is not None
        return head, parts


Body = Callable[[GatewayProcess, WatchedQueries], Coroutine[Any, Any, None]]


def traced(tmp_path: Path, body: Body, **config: Any) -> None:
    async def main() -> None:
        node = traced_node()
        watched = WatchedQueries(node.execution)
        async with running_gateway(tmp_path, node, watched=watched, apis=APIS, **config) as gateway:
            await body(gateway, watched)

    run(main, timeout_s=2 * PATIENCE_S)


@asynccontextmanager
async def exchange(gateway: GatewayProcess, message: object) -> AsyncIterator[Exchange]:
    reader, writer = await gateway.connect()
    try:
        found = Exchange(reader, writer)
        found.send(gateway, message)
        yield found
    finally:
        writer.close()


async def ended(watched: WatchedQueries) -> str:
    """How the next query to end did."""
    assert await asyncio.to_thread(watched.ended.acquire, timeout=PATIENCE_S)
    return watched.endings[-1]


def header(response: h11.Response, name: bytes) -> bytes | None:
    return dict(response.headers.raw_items()).get(name) or dict(response.headers).get(name)


def test_a_long_answer_comes_in_parts_and_a_short_one_or_an_early_failure_whole(tmp_path: Path) -> None:
    async def body(gateway: GatewayProcess, watched: WatchedQueries) -> None:
        async with exchange(gateway, trace_call(SHORT_GAS)) as long:
            head, parts = await long.response()
        assert header(head, b"transfer-encoding") == b"chunked"
        assert header(head, b"content-type") == b"application/json"
        whole = b"".join(parts)
        assert len(whole) > 2 * HELD_BACK_BYTES
        answer = orjson.loads(whole)
        assert answer["id"] == 9
        assert len(answer["result"]["structLogs"]) > 10_000
        assert answer["result"]["failed"] is True
        async with exchange(gateway, trace_call(SHORT_GAS, limit=3)) as short:
            head, parts = await short.response()
        assert header(head, b"content-length") == str(len(b"".join(parts))).encode()
        assert len(orjson.loads(b"".join(parts))["result"]["structLogs"]) == 3
        async with exchange(gateway, trace_call(LONG_GAS, timeout="1ms")) as hopeless:
            head, parts = await hopeless.response()
        assert header(head, b"content-length") is not None
        error = {"code": -32000, "message": "execution timeout"}
        assert orjson.loads(b"".join(parts)) == {"jsonrpc": "2.0", "id": 9, "error": error}

    traced(tmp_path, body)


def test_to_a_client_that_knows_no_chunks_the_same_answer_comes_whole(tmp_path: Path) -> None:
    async def body(gateway: GatewayProcess, watched: WatchedQueries) -> None:
        message = orjson.dumps(trace_call(SHORT_GAS))
        head = b"POST / HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(message)
        response = parse_response(await gateway.raw(head + message))
        assert "transfer-encoding" not in response.headers
        assert int(response.headers["content-length"]) == len(response.body) > 2 * HELD_BACK_BYTES
        assert len(response.json()["result"]["structLogs"]) > 10_000

    traced(tmp_path, body)


def test_a_client_that_leaves_ends_the_execution(tmp_path: Path) -> None:
    async def body(gateway: GatewayProcess, watched: WatchedQueries) -> None:
        async with exchange(gateway, trace_call(LONG_GAS)) as streamed:
            await streamed.begun()
        assert await ended(watched) == "_Unwanted"
        watched.began.acquire()
        async with exchange(gateway, trace_call(LONG_GAS, tracer="callTracer")):
            assert await asyncio.to_thread(watched.began.acquire, timeout=PATIENCE_S)
        assert await ended(watched) == "_Unwanted"
        async with connect(f"ws://{gateway.host}:{gateway.port}") as socket:
            await socket.send(orjson.dumps(trace_call(LONG_GAS, tracer="callTracer")).decode())
            assert await asyncio.to_thread(watched.began.acquire, timeout=PATIENCE_S)
        assert await ended(watched) == "_Unwanted"

    traced(tmp_path, body)


def test_what_grows_too_large_fails_beside_what_came_or_whole_and_ends(tmp_path: Path) -> None:
    """In parts, the error follows a result that is cut short; in a batch and over WebSocket it stands alone."""

    async def body(gateway: GatewayProcess, watched: WatchedQueries) -> None:
        async with exchange(gateway, trace_call(LONG_GAS)) as large:
            _, parts = await large.response()
        answer = orjson.loads(b"".join(parts))
        assert answer["error"]["code"] == -32003
        assert answer["result"]["structLogs"]
        assert await ended(watched) == "_Unwanted"
        async with exchange(gateway, [trace_call(LONG_GAS)]) as batch:
            _, parts = await batch.response()
        assert [each.get("error", {}).get("code") for each in orjson.loads(b"".join(parts))] == [-32003]
        assert await ended(watched) == "_Unwanted"
        async with connect(f"ws://{gateway.host}:{gateway.port}") as socket:
            await socket.send(orjson.dumps(trace_call(SHORT_GAS, limit=100)).decode())
            assert len(orjson.loads(await socket.recv())["result"]["structLogs"]) == 100
            assert await ended(watched) == "StreamEnd"
            await socket.send(orjson.dumps(trace_call(LONG_GAS)).decode())
            assert orjson.loads(await socket.recv())["error"]["code"] == -32003
            assert await ended(watched) == "_Unwanted"

    limits = GatewayLimits(streamed_bytes=2 * HELD_BACK_BYTES, response_bytes=HELD_BACK_BYTES)
    traced(tmp_path, body, limits=limits)


def test_an_execution_process_that_goes_away_ends_the_stream_with_an_error(tmp_path: Path) -> None:
    async def body(gateway: GatewayProcess, watched: WatchedQueries) -> None:
        async with exchange(gateway, trace_call(LONG_GAS)) as cut:
            parts = []
            async for event in cut.events():
                if isinstance(event, h11.Data):
                    parts.append(bytes(event.data))
                    if len(parts) == 1:
                        await gateway.sockets.stop_execution()
        answer = orjson.loads(b"".join(parts))
        assert answer["error"]["code"] == -32000
        assert "execution process" in answer["error"]["message"]
        assert watched.endings[-1] == "_Unwanted"

    traced(tmp_path, body)


def test_beyond_the_bound_traces_wait_and_then_are_refused(tmp_path: Path) -> None:
    async def body(gateway: GatewayProcess, watched: WatchedQueries) -> None:
        async with exchange(gateway, trace_call(LONG_GAS)) as running:
            await running.begun()
            async with exchange(gateway, trace_call(SHORT_GAS, limit=1)) as waiting:
                await in_line(gateway)
                # Other questions are answered as ever.
                assert (await gateway.call("eth_blockNumber"))["result"] == "0x0"
                assert (await gateway.call("eth_getCode", hexed(LOOPER), "latest"))["result"] == "0x5b5f56"
                running.writer.close()
                _, parts = await waiting.response()
                assert len(orjson.loads(b"".join(parts))["result"]["structLogs"]) == 1

    traced(tmp_path, body, limits=GatewayLimits(long_in_flight=1, long_waiting=1))


def test_sigterm_ends_executions_and_every_client_learns_why(tmp_path: Path) -> None:
    """Those that read: whether their answer has begun, is being made, or waits. Who does not read is cut off."""

    async def body(gateway: GatewayProcess, watched: WatchedQueries) -> None:
        async with exchange(gateway, trace_call(LONG_GAS)) as begun, exchange(gateway, trace_call(LONG_GAS)) as unread:
            parts = []
            async for event in begun.events():
                if isinstance(event, h11.Data):
                    parts.append(bytes(event.data))
                    if len(parts) == 1:
                        await unread.begun()
                        async with exchange(gateway, trace_call(LONG_GAS, tracer="callTracer")) as waiting:
                            await in_line(gateway)
                            gateway.process.send_signal(signal.SIGTERM)
                            _, answer = await waiting.response()
            assert await gateway.process.wait() == 0
        stopping = {"code": -32000, "message": "the node is stopping"}
        assert orjson.loads(b"".join(answer)) == {"jsonrpc": "2.0", "id": 9, "error": stopping}
        told = orjson.loads(b"".join(parts))
        assert told["error"] == stopping
        assert told["result"]["structLogs"]
        for _ in range(2):
            assert await ended(watched) == "_Unwanted"
        assert gateway.process.stderr is not None
        assert b"Traceback" not in await gateway.process.stderr.read()

    traced(tmp_path, body, limits=GatewayLimits(long_in_flight=2, long_waiting=1))


async def in_line(gateway: GatewayProcess) -> None:
    """Until so many traces run and wait that another one is refused."""
    refusal: dict[str, Any] = {}
    while "error" not in refusal:
        async with exchange(gateway, trace_call(SHORT_GAS, limit=1, timeout="1ms")) as refused:
            _, parts = await refused.response()
            refusal = orjson.loads(b"".join(parts))
    assert refusal["error"]["code"] == -32005
    assert "too many traces" in refusal["error"]["message"]
