"""A thousand WebSocket subscribers in one process, which hold a gateway to its promise: everything, once, in order.

    python -m benchmarks.subscriber_crowd HOST PORT SUBSCRIBERS STALLED

Speaks in lines of JSON (see benchmarks.bench_subscribers, which starts it). Reads frames by hand, because a library
would cost more processor time than the server under test. Each subscriber follows newHeads, the logs of one contract
and newPendingTransactions; a stalled one follows newHeads so often that it falls behind soon, and reads nothing.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import sys
import time
from statistics import quantiles
from typing import Any, Final, cast

import orjson
import uvloop

from astralink_node.gateway.jsonrpc import notification_around
from astralink_node.gateway.outbox import ID_BYTES

TOPICS: Final = ("newHeads", "logs", "newPendingTransactions")
STALLED_SUBSCRIPTIONS: Final = 100
STALLED_RECEIVE_BYTES: Final = 4096
_BEFORE, _BETWEEN, _AFTER = notification_around()
_ID_AT: Final = slice(len(_BEFORE), len(_BEFORE) + ID_BYTES)
_RESULT_AT: Final = slice(len(_BEFORE) + ID_BYTES + len(_BETWEEN), -len(_AFTER))


class OutOfOrder(Exception):
    """A subscriber was told something twice, too late, or not at all."""


class Crowd:
    """What the first to hear of something heard is what all others have to hear, in the same order."""

    def __init__(self, logs_of: str) -> None:
        self.logs_of = logs_of
        self.heard: dict[str, list[bytes]] = {topic: [] for topic in TOPICS}
        self.arrivals: list[list[int]] = []
        """Of each head, when it reached each subscriber (monotonic nanoseconds)."""
        self.subscribers: list[Subscriber] = []
        self.faults: list[str] = []
        self.changed = asyncio.Event()

    def hear(self, topic: str, place: int, result: bytes) -> None:
        heard = self.heard[topic]
        if place == len(heard):
            heard.append(result)
        elif heard[place] != result:
            raise OutOfOrder(f"{topic} {place}: {result[:100]!r} where others heard {heard[place][:100]!r}")
        if topic == "newHeads":
            if place == len(self.arrivals):
                self.arrivals.append([])
            self.arrivals[place].append(time.monotonic_ns())

    def has_all(self, wanted: dict[str, int]) -> bool:
        return all(each.heard[topic] >= wanted[topic] for each in self.subscribers for topic in TOPICS)


class Subscriber(asyncio.Protocol):
    def __init__(self, crowd: Crowd, *, is_stalled: bool) -> None:
        self._crowd = crowd
        self._is_stalled = is_stalled
        self._buffer = bytearray()
        self._topic_of: dict[bytes, str] = {}
        self._is_open = False
        self.heard = dict.fromkeys(TOPICS, 0)
        self.subscribed = asyncio.Event()
        self.close_code = 0
        self.close_reason = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            f"sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_stalled:
            self._crowd.faults.append(f"a subscriber was disconnected: {self.close_code} {self.close_reason} {exc}")
            self._crowd.changed.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_open:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._crowd.faults.append(f"no WebSocket: {bytes(head[:100])!r}")
                return
            self._is_open = True
            self._buffer = rest
            self._subscribe()
        try:
            self._read_frames()
        except OutOfOrder as error:
            self._crowd.faults.append(str(error))
        self._crowd.changed.set()

    def _subscribe(self) -> None:
        topics = ("newHeads",) * STALLED_SUBSCRIPTIONS if self._is_stalled else TOPICS
        for number, topic in enumerate(topics):
            params: list[Any] = [topic, {"address": self._crowd.logs_of}] if topic == "logs" else [topic]
            message = {"jsonrpc": "2.0", "id": number, "method": "eth_subscribe", "params": params}
            self._send(0x1, orjson.dumps(message))

    def _send(self, opcode: int, payload: bytes) -> None:
        """Masked with zeros, which masks nothing, as a client must."""
        size = len(payload)
        length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        self._transport.write(bytes((0x80 | opcode,)) + length + bytes(4) + payload)

    def _read_frames(self) -> None:
        buffer, at = bytes(self._buffer), 0
        while len(buffer) - at >= 2:
            size, start = buffer[at + 1], at + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                size, start = int.from_bytes(buffer[start : start + width], "big"), start + width
            if len(buffer) < start + size:
                break
            self._read(buffer[at] & 0xF, buffer[start : start + size])
            at = start + size
        self._buffer = bytearray(buffer[at:])

    def _read(self, opcode: int, payload: bytes) -> None:
        if opcode == 0x9:
            self._send(0xA, payload)
        elif opcode == 0x8:
            self.close_code, self.close_reason = int.from_bytes(payload[:2], "big"), payload[2:].decode()
        elif opcode == 0x1 and payload.startswith(_BEFORE):
            topic = self._topic_of[payload[_ID_AT]]
            if not self._is_stalled:
                self._crowd.hear(topic, self.heard[topic], payload[_RESULT_AT])
                self.heard[topic] += 1
        elif opcode == 0x1:
            self._note_answer(orjson.loads(payload))

    def _note_answer(self, answer: dict[str, Any]) -> None:
        if "result" not in answer:
            self._crowd.faults.append(f"no subscription: {answer}")
            return
        topic = "newHeads" if self._is_stalled else TOPICS[answer["id"]]
        self._topic_of[answer["result"].encode()] = topic
        if len(self._topic_of) == (STALLED_SUBSCRIPTIONS if self._is_stalled else len(TOPICS)):
            self.subscribed.set()
            if self._is_stalled:
                self._transport.pause_reading()


async def connect(crowd: Crowd, host: str, port: int, *, is_stalled: bool) -> Subscriber:
    connection = socket.socket()
    if is_stalled:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STALLED_RECEIVE_BYTES)
    connection.setblocking(False)  # noqa: FBT003
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, (host, port))
    _, subscriber = await loop.create_connection(lambda: Subscriber(crowd, is_stalled=is_stalled), sock=connection)
    await subscriber.subscribed.wait()
    return subscriber


def summary(values_ms: list[float]) -> dict[str, float]:
    cuts = quantiles(values_ms, n=100, method="inclusive")
    return {"p50": round(cuts[49], 2), "p99": round(cuts[98], 2), "max": round(max(values_ms), 2)}


def latency(arrivals: list[list[int]], pushed_ns: list[int]) -> dict[str, dict[str, float]]:
    """Of single deliveries, and of each head until its last subscriber has it; milliseconds."""
    waits = [[(at - pushed) / 1e6 for at in each] for each, pushed in zip(arrivals, pushed_ns, strict=True)]
    return {
        "each_ms": summary([wait for each in waits for wait in each]),
        "last_ms": summary([max(each) for each in waits]),
    }


async def main(host: str, port: int, subscribers: int, stalled: int) -> None:
    reader = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    crowd = Crowd(json.loads(await reader.readline())["logs_of"])
    for _ in range(subscribers):
        crowd.subscribers.append(await connect(crowd, host, port, is_stalled=False))
    tell({"subscribed": len(crowd.subscribers), "faults": crowd.faults})
    await reader.readline()  # the memory of the gateway has been looked at
    slow = [await connect(crowd, host, port, is_stalled=True) for _ in range(stalled)]
    tell({"stalled": len(slow)})
    while line := await reader.readline():
        request = json.loads(line)
        if "wanted" in request:
            while not crowd.has_all(request["wanted"]) and not crowd.faults:
                crowd.changed.clear()
                await crowd.changed.wait()
            first = request["first_head"]
            pushed_ns = request["pushed_ns"]
            arrivals = crowd.arrivals[first : first + len(pushed_ns)]
            tell({"faults": crowd.faults[:5], **({} if crowd.faults else latency(arrivals, pushed_ns))})
        else:
            tell(
                {
                    "heads": [orjson.loads(head)["number"] for head in crowd.heard["newHeads"]],
                    "logs": [_place(orjson.loads(log)) for log in crowd.heard["logs"]],
                    "pending": [orjson.loads(each) for each in crowd.heard["newPendingTransactions"]],
                    "heads_each": sorted({len(each) for each in crowd.arrivals}),
                    "faults": crowd.faults[:5],
                }
            )
            return


def _place(log: dict[str, str]) -> list[int]:
    return [int(log["blockNumber"], 16), int(log["logIndex"], 16)]


def tell(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
