"""A thousand WebSocket subscribers of one gateway process, ten readers that stall among them; then requests a second.

    python -m benchmarks.bench_subscribers [--subscribers 1000] [--stalled 10] [--seconds 60]

Real blocks, made beforehand, are announced to a real gateway process by a node stand-in of this process at 1 and at 10
a second, each with transactions that were announced as pending before it and logs of them. Every subscriber must hear
everything once and in order. Latency runs from the moment at which the node begins to announce a committed head to the
moment at which a client's loop has read it; clients are one process on the same cores, so their own work is in it.

Then eth_blockNumber, eth_getBalance and eth_call from eight kept connections, beside a bare server of the same kind:
requests a second of the server's own processor time. Exits 1 where a promise is broken or a limit is not met.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from astralink_node.gateway.link_messages import NewHead, NewPendingTransactions, SubmittedTransaction
from benchmarks.report import RESULTS, circumstances, write_result
from tests.support.gateway_processes import GatewayProcess, running_gateway
from tests.support.gateways import ALICE, BOB, COUNTER, ECHO, SmallNode, hexed, signed

RATES: Final = (1, 10)
"""Heads a second."""
LOGS_A_BLOCK: Final = 2
CONNECTIONS: Final = 8
LOAD_S: Final = 5.0
LAST_P99_LIMIT_MS: Final = {1: 250, 10: 250}
"""Until the last of all subscribers has a head, 99 of 100 times."""
LEAST_SHARE_OF_BARE: Final = 0.25
"""Of the bare server's requests a processor second, for eth_blockNumber."""
LOADS: Final[dict[str, list[Any]]] = {
    "eth_blockNumber": [],
    "eth_getBalance": [hexed(ALICE.address), "latest"],
    "eth_call": [{"to": hexed(COUNTER), "data": "0x"}, "latest"],
}


_DISCONNECTED: Final = " was disconnected: "
"""What the gateway's log says of each, with the reason after it; who never reads again does not hear it."""


class Failed(Exception):
    """A promise to subscribers was broken."""


@dataclass(frozen=True, slots=True)
class Block:
    pending: NewPendingTransactions
    head: NewHead


def blocks_of(node: SmallNode, count: int, first_nonce: int) -> list[Block]:
    """Blocks with logs, made and not announced."""
    node.announcing = False
    made = []
    for number in range(count):
        nonces = range(first_nonce + number * LOGS_A_BLOCK, first_nonce + (number + 1) * LOGS_A_BLOCK)
        raws = [signed(ALICE, to=ECHO, nonce=nonce, data=nonce.to_bytes(32, "big")) for nonce in nonces]
        for raw in raws:
            node.add(raw)
        pending = NewPendingTransactions(tuple(SubmittedTransaction(raw, ALICE.address) for raw in raws))
        made.append(Block(pending, NewHead(node.produce())))
    return made


def processor_s(pid: int) -> tuple[float, float]:
    """Of a process so far: in its own code, and in the kernel, which carries what it sends to its receiver."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    return int(fields[11]) * tick_s, int(fields[12]) * tick_s


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Lines:
    """A child process that is told and answers lines of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def tell(self, line: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(line).encode() + b"\n")

    async def hear(self) -> Any:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise Failed("a client process ended early")
        return json.loads(line)


@asynccontextmanager
async def child(module: str, *arguments: object) -> AsyncIterator[Lines]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 26,
    )
    try:
        yield Lines(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


# --- Subscribers ---------------------------------------------------------------------------------------------


async def subscriptions(gateway: GatewayProcess, subscribers: int, stalled: int, seconds: int) -> dict[str, Any]:
    node, pid = gateway.node, gateway.process.pid
    before = resident_bytes(pid)
    async with child("benchmarks.subscriber_crowd", gateway.host, gateway.port, subscribers, stalled) as crowd:
        crowd.tell({"logs_of": hexed(ECHO)})
        checked(await crowd.hear())
        a_subscriber = (resident_bytes(pid) - before) / subscribers
        crowd.tell({})
        checked(await crowd.hear())
        announced: list[Block] = []
        rates = {}
        for rate in RATES:
            blocks = blocks_of(node, rate * seconds, len(announced) * LOGS_A_BLOCK)
            rates[str(rate)] = await _announce(gateway, crowd, blocks, rate, len(announced))
            announced += blocks
            print(f"{rate:3} heads a second: {rates[str(rate)]}", flush=True)
        crowd.tell({"end": True})
        end = checked(await crowd.hear())
    _check_everything_was_heard(end, announced, subscribers)
    return {
        "subscribers": subscribers,
        "stalled": stalled,
        "events_a_head_and_subscriber": 1 + 2 * LOGS_A_BLOCK,
        "memory_a_subscriber_kib": round(a_subscriber / 1024, 1),
        "memory_at_the_end_mib": round(resident_bytes(pid) / 2**20, 1),
        "heads_a_second": rates,
    }


async def _announce(
    gateway: GatewayProcess, crowd: Lines, blocks: list[Block], rate: int, first: int
) -> dict[str, Any]:
    """Processor time is that of the second half, when those who stalled are gone."""
    loop, pid = asyncio.get_running_loop(), gateway.process.pid
    pushed_ns = []
    half_s = (0.0, 0.0)
    started = loop.time()
    for number, block in enumerate(blocks):
        if number == len(blocks) // 2:
            half_s = processor_s(pid)
        await asyncio.sleep(max(0.0, started + number / rate - loop.time()))
        gateway.node.push(block.pending)
        await asyncio.sleep(0.5 / rate)
        pushed_ns.append(time.monotonic_ns())
        gateway.node.push(block.head)
    heads = first + len(blocks)
    wanted = {"newHeads": heads, "logs": heads * LOGS_A_BLOCK, "newPendingTransactions": heads * LOGS_A_BLOCK}
    crowd.tell({"wanted": wanted, "first_head": first, "pushed_ns": pushed_ns})
    found = checked(await crowd.hear())
    counted = len(blocks) - len(blocks) // 2
    own_ms, kernel_ms = (1000 * (now - then) / counted for now, then in zip(processor_s(pid), half_s, strict=True))
    cpu_ms = {"own": round(own_ms, 2), "kernel": round(kernel_ms, 2)}
    return {"heads": len(blocks), "gateway_cpu_ms_a_head": cpu_ms, **found}


def checked(answer: dict[str, Any]) -> dict[str, Any]:
    if answer.get("faults"):
        raise Failed("; ".join(answer["faults"]))
    return {name: value for name, value in answer.items() if name != "faults"}


def _check_everything_was_heard(end: dict[str, Any], announced: list[Block], subscribers: int) -> None:
    heights = range(1, len(announced) + 1)
    if end["heads"] != [hex(height) for height in heights]:
        raise Failed("not every head was heard once and in order")
    if end["logs"] != [[height, index] for height in heights for index in range(LOGS_A_BLOCK)]:
        raise Failed("not every log was heard once and in order")
    if len(end["pending"]) != len(set(end["pending"])) or len(end["pending"]) != len(announced) * LOGS_A_BLOCK:
        raise Failed("not every pending transaction was heard once")
    if end["heads_each"] != [subscribers]:
        raise Failed(f"heads were heard by {end['heads_each']} of {subscribers} subscribers")


# --- Requests ------------------------------------------------------------------------------------------------


async def requests(gateway: GatewayProcess) -> dict[str, Any]:
    await _announce_one(gateway)
    found = {}
    async with child("benchmarks.bare_server") as bare:
        port = await bare.hear()
        found["bare server"] = await _load("127.0.0.1", port, bare.process.pid, "eth_blockNumber", [])
    ceiling = found["bare server"]["requests_a_cpu_second"]
    for method, params in LOADS.items():
        result = await _load(gateway.host, gateway.port, gateway.process.pid, method, params)
        found[method] = {**result, "share_of_bare": round(result["requests_a_cpu_second"] / ceiling, 2)}
    for name, result in found.items():
        print(f"{name:16} {result}", flush=True)
    return found


async def _announce_one(gateway: GatewayProcess) -> None:
    """The stand-in answers of the newest block, so the gateway has to know it."""
    gateway.node.announcing = True
    gateway.node.add(signed(BOB, to=ECHO, nonce=0))
    gateway.node.produce()
    height = hex(gateway.node.execution.status().head_height)
    await gateway.until(lambda answer: answer["result"] == height, "eth_blockNumber")


async def _load(host: str, port: int, pid: int, method: str, params: list[Any]) -> dict[str, Any]:
    body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).decode()
    before = sum(processor_s(pid))
    async with child("benchmarks.request_load", host, port, CONNECTIONS, LOAD_S, body) as load:
        result = await load.hear()
    cpu_s = sum(processor_s(pid)) - before
    if result["fault"]:
        raise Failed(f"{method}: {result['fault']}")
    return {
        "requests_a_second": round(result["requests"] / result["seconds"]),
        "requests_a_cpu_second": round(result["requests"] / cpu_s),
        "p50_ms": result["p50_ms"],
        "p99_ms": result["p99_ms"],
    }


def shortfalls(found: dict[str, Any]) -> list[str]:
    missed = []
    for rate, heads in found["subscriptions"]["heads_a_second"].items():
        p99_ms, limit_ms = heads["last_ms"]["p99"], LAST_P99_LIMIT_MS[int(rate)]
        if p99_ms > limit_ms:
            missed.append(f"{rate} heads a second: {p99_ms} ms until the last subscriber, limit {limit_ms}")
    reasons, stalled = found["subscriptions"]["disconnected"], found["subscriptions"]["stalled"]
    if len(reasons) != stalled or not all(reason.startswith("too slow: ") for reason in reasons):
        missed.append(f"of {stalled} that stalled these were disconnected: {reasons}")
    share = found["requests"]["eth_blockNumber"]["share_of_bare"]
    if share < LEAST_SHARE_OF_BARE:
        missed.append(f"eth_blockNumber reaches {share} of the bare server, at least {LEAST_SHARE_OF_BARE}")
    return missed


async def measure(subscribers: int, stalled: int, seconds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="astralink-bench-") as folder:
        async with running_gateway(Path(folder)) as gateway:
            found = await subscriptions(gateway, subscribers, stalled, seconds)
            asked = await requests(gateway)
            gateway.process.terminate()
            _, log = await gateway.process.communicate()
    found["disconnected"] = [
        line.partition(_DISCONNECTED)[2] for line in log.decode().splitlines() if _DISCONNECTED in line
    ]
    return {"subscriptions": found, "requests": asked}


def main() -> int:
    parser = argparse.ArgumentParser(description="WebSocket subscribers and requests of one gateway process")
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--stalled", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=60, help="of heads at each rate")
    parser.add_argument("--output", type=Path, default=RESULTS / "subscribers.json")
    arguments = parser.parse_args()
    try:
        found = asyncio.run(measure(arguments.subscribers, arguments.stalled, arguments.seconds))
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    missed = shortfalls(found)
    write_result(arguments.output, {**circumstances(0), **found, "shortfalls": missed})
    for line in missed:
        print(line, file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
