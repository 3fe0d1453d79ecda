"""Calls over HTTP whose clients leave: what runs for them ends, and they hold nobody else up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson

from tests.support.asynchronous import run
from tests.support.gateway_processes import GatewayProcess, running_gateway
from tests.support.gateways import hexed
from tests.support.query_sockets import PATIENCE_S, WatchedQueries
from tests.support.traced_chains import LOOPER, traced_node

LONG_GAS = 40_000_000
"""Ten million steps, which nobody waits for."""


def looping_call(request_id: int = 1) -> dict[str, Any]:
    params = [{"to": hexed(LOOPER), "gas": hex(LONG_GAS)}, "latest"]
    return {"jsonrpc": "2.0", "id": request_id, "method": "eth_call", "params": params}


async def ask_and_leave(gateway: GatewayProcess, watched: WatchedQueries, message: object, begins: int) -> None:
    """Leaves when so many queries have begun."""
    _, writer = await gateway.connect()
    body = orjson.dumps(message)
    fields = f"host: {gateway.host}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(b"POST / HTTP/1.1\r\n" + fields.encode() + body)
    for _ in range(begins):
        assert await asyncio.to_thread(watched.began.acquire, timeout=PATIENCE_S)
    writer.close()
    for _ in range(begins):
        assert await asyncio.to_thread(watched.ended.acquire, timeout=PATIENCE_S)


def test_a_client_that_leaves_ends_its_calls(tmp_path: Path) -> None:
    async def main() -> None:
        node = traced_node()
        watched = WatchedQueries(node.execution)
        async with running_gateway(tmp_path, node, watched=watched) as gateway:
            # The first try of each is over after 50 ms, the second would take many seconds.
            await ask_and_leave(gateway, watched, looping_call(), begins=2)
            assert watched.endings == ["_Long", "_Unwanted"]
            watched.endings.clear()
            await ask_and_leave(gateway, watched, [looping_call(1), looping_call(2)], begins=4)
            assert sorted(watched.endings) == ["_Long", "_Long", "_Unwanted", "_Unwanted"]

    run(main, timeout_s=2 * PATIENCE_S)
