"""Feeds rubbish to a real gateway process, over HTTP and WebSocket, and looks at what it answers, says and weighs.

    python -m tests.campaigns.rpc_rubbish [--messages 100000] [--seed N]          (`make rpc-rubbish`)

Fails when an answer is no JSON-RPC, is an internal error, or does not come; when the log has a traceback; when a
well-behaved client is not served any more; or when memory keeps growing. A test runs a few thousand.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from websockets.asyncio.client import connect

from astralink_node.gateway.methods.namespaces import NAMESPACES
from tests.support.gateway_processes import GatewayProcess, running_gateway
from tests.support.rpc_rubbish import damaged, messages

AT_ONCE = 8
"""Connections of each kind."""
ANSWER_TIMEOUT_S = 30
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
REQUEST = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'
HEAD = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


@dataclass
class Findings:
    answers: Counter[str] = field(default_factory=Counter)
    """By error code, `result` and `nothing`."""
    wrong: list[str] = field(default_factory=list)
    growth_bytes: int = 0
    """Of the process's memory from the first half's end to the second's."""


async def campaign(folder: Path, seed: int, count: int) -> Findings:
    findings = Findings()
    async with running_gateway(folder, apis=tuple(NAMESPACES)) as gateway:
        await _feed(gateway, seed, count // 2, findings)
        middle = resident_bytes(gateway)
        await _feed(gateway, seed + 1, count // 2, findings)
        findings.growth_bytes = resident_bytes(gateway) - middle
        if "result" not in await gateway.call("eth_chainId"):
            findings.wrong.append("a well-behaved client is not served any more")
        gateway.process.terminate()
        _, log = await gateway.process.communicate()
        findings.wrong += [
            line for line in log.decode().splitlines() if "Traceback" in line or line.startswith("ERROR")
        ]
    return findings


def resident_bytes(gateway: GatewayProcess) -> int:
    pages = int(Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def _feed(gateway: GatewayProcess, seed: int, count: int, findings: Findings) -> None:
    """Two fifths as bodies over HTTP, two fifths over WebSocket, and raw bytes beside them."""
    rubbish = messages(seed, count * 4 // 5)
    shares = [list(islice(rubbish, count * 4 // 5 // (2 * AT_ONCE))) for _ in range(2 * AT_ONCE)]
    async with asyncio.TaskGroup() as clients:
        for share in shares[:AT_ONCE]:
            clients.create_task(_over_http(gateway, share, findings))
        for share in shares[AT_ONCE:]:
            clients.create_task(_over_websocket(gateway, share, findings))
        clients.create_task(_raw(gateway, random.Random(seed), count // 5, findings))


async def _over_http(gateway: GatewayProcess, rubbish: Iterable[bytes], findings: Findings) -> None:
    reader, writer = await gateway.connect()
    for body in rubbish:
        writer.write(HEAD % len(body) + body)
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            answer = await reader.readexactly(int(length or b"0"))
        if head.split()[1] not in (b"200", b"204"):
            findings.wrong.append(f"status {head[:20]!r} for {body[:200]!r}")
        _judge(body, answer, findings)
    writer.close()


async def _over_websocket(gateway: GatewayProcess, rubbish: Iterable[bytes], findings: Findings) -> None:
    """A question that must be answered follows each message, so that it shows which of them got none."""
    async with connect(f"ws://{gateway.host}:{gateway.port}", max_size=None, max_queue=None) as socket:
        for number, body in enumerate(rubbish):
            asked = f"question {number}"
            await socket.send(body)
            await socket.send(orjson.dumps({"jsonrpc": "2.0", "id": asked, "method": "eth_chainId"}))
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                while True:
                    answer = await socket.recv(decode=False)
                    if asked.encode() in answer:
                        break
                    _judge(body, answer, findings)


async def _raw(gateway: GatewayProcess, chance: random.Random, count: int, findings: Findings) -> None:
    """Damaged HTTP, and damaged frames after a good handshake: an answer or none, but never a stuck connection."""
    for _ in range(count // 10):
        reader, writer = await gateway.connect()
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            if chance.random() < 0.5:
                writer.write(damaged(chance, HEAD % len(REQUEST) + REQUEST))
            else:
                writer.write(HANDSHAKE)
                await reader.readuntil(b"\r\n\r\n")
                writer.write(damaged(chance, b"\x81\xaf\0\0\0\0" + REQUEST))
            writer.write_eof()
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await reader.read()
        writer.close()
        findings.answers["raw"] += 1


def _judge(body: bytes, answer: bytes, findings: Findings) -> None:
    if not answer:
        findings.answers["nothing"] += 1
        return
    parsed = orjson.loads(answer)
    for each in parsed if isinstance(parsed, list) else [parsed]:
        fault = _fault(each)
        if fault:
            findings.wrong.append(f"{fault} for {body[:300]!r}: {orjson.dumps(each)[:300]!r}")
        error = each.get("error", {})
        findings.answers["event" if "params" in each else str(error["code"]) if error else "result"] += 1


def _fault(answer: Any) -> str:
    if not isinstance(answer, dict) or answer.get("jsonrpc") != "2.0":
        return "no JSON-RPC"
    if answer.get("error", {}).get("code") == -32603:
        return "an internal error"
    if "params" not in answer and set(answer) not in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"}):
        return "neither a result nor an error"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description="rubbish for a real gateway process")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    arguments = parser.parse_args()
    print("seed", arguments.seed, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        findings = asyncio.run(campaign(Path(folder), arguments.seed, arguments.messages))
    print("answers", dict(findings.answers.most_common()))
    print("memory grew by", findings.growth_bytes // 1024, "KiB over the second half")
    for wrong in findings.wrong[:20]:
        print("WRONG", wrong)
    return 1 if findings.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
