"""Requests over kept connections, each sent when the one before is answered, for a while.

    python -m benchmarks.request_load HOST PORT CONNECTIONS SECONDS BODY

Prints how many, and how long each took.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from statistics import quantiles
from typing import cast

import uvloop


class Asker(asyncio.Protocol):
    def __init__(self, request: bytes, until: float) -> None:
        self._request = request
        self._until = until
        self._buffer = b""
        self._sent = 0.0
        self.waits_s: list[float] = []
        self.done = asyncio.Event()
        self.fault = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0")
        if not end or len(body) < length:
            return
        self._buffer = b""
        if not head.startswith(b"HTTP/1.1 200") or b'"result"' not in body:
            self.fault = (head[:40] + body[:200]).decode(errors="replace")
        now = time.perf_counter()
        self.waits_s.append(now - self._sent)
        if now < self._until and not self.fault:
            self._ask()
        else:
            self.done.set()
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.is_set():
            self.fault = f"disconnected: {exc}"
            self.done.set()


async def main(host: str, port: int, connections: int, seconds: float, body: bytes) -> None:
    request = (
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (len(body), body)
    )
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    askers = [
        (await loop.create_connection(lambda: Asker(request, started + seconds), host, port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(asker.done.wait() for asker in askers))
    waits_ms = [1000 * wait for asker in askers for wait in asker.waits_s]
    cuts = quantiles(waits_ms, n=100, method="inclusive")
    result = {
        "requests": len(waits_ms),
        "seconds": round(time.perf_counter() - started, 3),
        "p50_ms": round(cuts[49], 3),
        "p99_ms": round(cuts[98], 3),
        "fault": next((asker.fault for asker in askers if asker.fault), ""),
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5].encode()))
