"""What a trace of a heavy transaction costs, and whom: `python -m benchmarks.bench_tracing`.

An execution process and a gateway process as a node starts them, and this program as node and client. The heaviest
transaction that a block may hold (2^24 gas, some hundred thousand steps of a loop that reads and writes a slot) is
traced over HTTP: time to the first byte, steps a second, memory of both processes, how long the execution process
works on when the client has left, and what a running trace does to the building and committing of blocks beside it.
Exits 1 when memory grows with the trace, or a cancelled one goes on for longer than the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from astralink_node.chain.codec import decode, encode
from astralink_node.chain.data_folder import DATABASE_NAME, GENESIS_NAME
from astralink_node.chain.frames import PUSH_ID, FrameDecoder, encode_frame
from astralink_node.chain.messages import (
    AtHeight,
    BlockAnswer,
    BlockQuestion,
    BlockWork,
    BlockWorkAnswer,
    Built,
    Candidate,
    Commit,
    Committed,
    Query,
)
from astralink_node.chain.new_folder import initialise_folder
from astralink_node.chain.process_config import MODULE, ProcessConfig
from astralink_node.evm.transactions import decode_transaction
from astralink_node.gateway.config import GatewayConfig
from astralink_node.gateway.link_messages import GetNodeStatus, LinkFailed, NewHead, NodeStatus, Reply, Request
from astralink_node.types import Address
from benchmarks.report import RESULTS, circumstances, middle, write_result
from genesis.dev_accounts import DEVNET_ACCOUNTS
from genesis.devnet_terms import DEVNET_CHAIN_ID
from genesis.schema import GenesisAccount
from tests.support.chains import LocalChain, candidate, genesis_text
from tests.support.gateway_processes import ready_line, start_process

HEAVY = Address(b"\x4e" * 20)
HEAVY_CODE = bytes.fromhex("5b5f546001015f555f56")
"""For ever: slot 0 is read, raised by one, written: 221 gas and nine steps a turn."""
HEAVY_GAS = 2**24
"""EIP-7825."""
TRANSFERS = 200
MEMORY_LIMIT_MIB = 64
"""How much either process may grow in a trace of a hundred times that size."""
CANCEL_LIMIT_MS = 250
"""What a query may pause for block work (WorkGate) bounds it; without block work it is a few milliseconds."""


class Processes:
    """An execution process, a gateway process, and the node's part towards both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = LocalChain(genesis=genesis_text(1, extra_alloc={HEAVY: GenesisAccount(0, 1, HEAVY_CODE, ())}))
        self._nonces = dict.fromkeys(range(len(DEVNET_ACCOUNTS)), 0)
        self._gateways: list[asyncio.StreamWriter] = []
        self._head = self._genesis()

    def _genesis(self) -> Committed:
        answer = self.model.execution.query(Query(AtHeight(0), BlockQuestion()))
        assert isinstance(answer, BlockAnswer)
        status = self.model.execution.status()
        return Committed(answer.block, (), (), status.next_base_fee_wei, status.next_gas_limit)

    async def start(self) -> None:
        data = self.folder / "data"
        initialise_folder(data, self.model.genesis)
        ours, theirs = socket.socketpair()
        config = ProcessConfig(
            str(data / DATABASE_NAME), str(data / GENESIS_NAME), theirs.fileno(), str(self.folder / "q")
        )
        self.execution = await asyncio.create_subprocess_exec(
            sys.executable, "-m", MODULE, config.to_json(), pass_fds=[theirs.fileno()]
        )
        theirs.close()
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        self._frames = FrameDecoder()
        self._server = await asyncio.start_unix_server(self._serve_gateway, str(self.folder / "n"))
        await self.block()
        gateway_config = GatewayConfig(str(self.folder / "n"), str(self.folder / "q"), port=0, apis=("eth", "debug"))
        self.gateway, descriptor = await start_process(gateway_config)
        ready = await ready_line(descriptor)
        assert ready is not None, "the gateway did not start"
        self.host, self.port = ready["host"], ready["port"]

    async def stop(self) -> None:
        for process in (self.gateway, self.execution):
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        self._server.close()

    async def ask(self, work: BlockWork) -> BlockWorkAnswer:
        self._writer.write(encode_frame(1, encode(work)))
        while True:
            for frame in self._frames.feed(await self._reader.read(1 << 20)):
                answer: BlockWorkAnswer = decode(BlockWorkAnswer, frame.payload)
                return answer

    async def _serve_gateway(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._gateways.append(writer)
        writer.write(encode_frame(PUSH_ID, encode(NewHead(self._head))))
        frames = FrameDecoder()
        while data := await reader.read(1 << 16):
            for frame in frames.feed(data):
                writer.write(encode_frame(frame.request_id, encode(self._reply(decode(Request, frame.payload)))))

    def _reply(self, request: Request) -> Reply:
        if not isinstance(request, GetNodeStatus):
            return LinkFailed("not served by this benchmark")
        genesis_hash = self.model.execution.context.genesis_hash
        return NodeStatus(
            client_version="AstraLink/benchmark",
            chain_id=DEVNET_CHAIN_ID,
            genesis_hash=genesis_hash,
            is_validator=True,
            block_interval_ms=1000,
            head_height=1,
            pending_transactions=0,
            queued_transactions=0,
            makes_empty_blocks=True,
        )

    # --- Blocks ----------------------------------------------------------------------------------------------------

    def heavy(self) -> Candidate:
        return self._candidate(0, to=HEAVY, value=0, gas=HEAVY_GAS)

    def transfers(self) -> list[Candidate]:
        return [self._candidate(number % len(DEVNET_ACCOUNTS)) for number in range(TRANSFERS)]

    def _candidate(self, account: int, **fields: Any) -> Candidate:
        nonce = self._nonces[account]
        self._nonces[account] += 1
        return candidate(account, nonce, **fields)

    async def block(self, candidates: list[Candidate] | None = None) -> float:
        """Build and commit one; the milliseconds that took. The model follows, unmeasured."""
        request = self.model.build_request(candidates or [])
        started = time.perf_counter()
        built = await self.ask(request)
        assert isinstance(built, Built), built
        between = time.perf_counter()
        certificate = self.model.certificate(built.block_hash)
        signed = time.perf_counter()
        committed = await self.ask(Commit(built.block_hash, certificate))
        ended = time.perf_counter()
        assert isinstance(committed, Committed), committed
        assert built.included == len(candidates or []), built
        self.model.follow(built, certificate)
        self._head = committed
        for gateway in self._gateways:
            gateway.write(encode_frame(PUSH_ID, encode(NewHead(committed))))
        return 1000 * (between - started + ended - signed)

    # --- The client ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def trace(self, transaction_hash: bytes, **config: Any) -> AsyncIterator[asyncio.StreamReader]:
        """The response as it comes; leaving closes the connection."""
        params = ["0x" + transaction_hash.hex(), {"timeout": "5m", **config}]
        body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "debug_traceTransaction", "params": params})
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=1 << 20)
        try:
            head = "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n"
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            yield reader
        finally:
            writer.close()


def memory_mib(pid: int, field: str) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) / 1024


def processor_ns(pid: int) -> int:
    """Of all threads, those that ended included; in ticks of a hundredth for the latter."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total


async def drained(reader: asyncio.StreamReader) -> tuple[float, float, int, int]:
    """(seconds to the first byte, seconds in all, bytes, steps) of a streamed struct log."""
    started = time.perf_counter()
    first = 0.0
    size = steps = 0
    tail = b""
    while data := await reader.read(1 << 18):
        first = first or time.perf_counter() - started
        size += len(data)
        joined = tail + data
        steps += joined.count(b'"gasCost"')
        tail = joined[-8:]  # shorter than what is counted, so that nothing counts twice
    return first, time.perf_counter() - started, size, steps


async def watched(pids: dict[str, int], work: Awaitable[Any]) -> tuple[Any, dict[str, float]]:
    """What the work gives, and by how many MiB each process grew at most meanwhile."""
    before = {name: memory_mib(pid, "VmRSS") for name, pid in pids.items()}
    peak = dict(before)
    task = asyncio.ensure_future(work)
    while not task.done():
        for name, pid in pids.items():
            peak[name] = max(peak[name], memory_mib(pid, "VmRSS"))
        await asyncio.wait([task], timeout=0.05)
    return task.result(), {name: round(peak[name] - before[name], 1) for name in pids}


async def cancel_latency_ms(processes: Processes, transaction_hash: bytes) -> float:
    """From closing the client's connection to the last nanosecond that the execution process works."""
    async with processes.trace(transaction_hash) as reader:
        await reader.readexactly(1 << 19)
    closed = time.perf_counter()
    last, changed = processor_ns(processes.execution.pid), closed
    while time.perf_counter() - changed < 0.1:
        await asyncio.sleep(0.0005)
        now = processor_ns(processes.execution.pid)
        if now != last:
            last, changed = now, time.perf_counter()
    return 1000 * (changed - closed)


async def measure(folder: Path, runs: int) -> dict[str, object]:
    processes = Processes(folder)
    await processes.start()
    try:
        heavy = processes.heavy()
        await processes.block([heavy])
        transaction_hash = bytes(decode_transaction(heavy.raw_transaction).hash)
        pids = {"execution": processes.execution.pid, "gateway": processes.gateway.pid}
        result: dict[str, object] = {"gas": HEAVY_GAS}

        async def whole(**config: Any) -> tuple[float, float, int, int]:
            async with processes.trace(transaction_hash, **config) as reader:
                return await drained(reader)

        await whole(limit=1000)
        samples = []
        for _ in range(runs):
            (first, seconds, size, steps), growth = await watched(pids, whole())
            samples.append(
                {
                    "first_byte_ms": round(1000 * first),
                    "seconds": round(seconds, 2),
                    "bytes": size,
                    "steps": steps,
                    "steps_per_second": round(steps / seconds),
                    "growth_mib": growth,
                }
            )
        result["struct_logs"] = samples
        (_, call_seconds, _, _), growth = await watched(pids, whole(tracer="callTracer"))
        result["call_tracer"] = {"seconds": round(call_seconds, 2), "growth_mib": growth}
        latencies = [await cancel_latency_ms(processes, transaction_hash) for _ in range(2 * runs)]
        result["cancel_ms"] = [round(each, 1) for each in latencies]
        result["blocks"] = await beside(processes, transaction_hash, runs)
        return result
    finally:
        await processes.stop()


async def beside(processes: Processes, transaction_hash: bytes, runs: int) -> dict[str, object]:
    """Milliseconds to build and commit a block of transfers, alone and beside a trace, alternating."""
    alone, traced = [], []
    for _ in range(5 * runs):
        alone.append(await processes.block(processes.transfers()))
        async with processes.trace(transaction_hash) as reader:
            await reader.readexactly(1 << 20)
            reading = asyncio.create_task(drained(reader))
            for _ in range(3):
                traced.append(await processes.block(processes.transfers()))
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    return {
        "transfers": TRANSFERS,
        "alone_ms": [round(each, 1) for each in alone],
        "beside_a_trace_ms": [round(each, 1) for each in traced],
        "median_alone_ms": middle(alone),
        "median_beside_a_trace_ms": middle(traced),
        "slower_by_percent": round(100 * (median(traced) / median(alone) - 1), 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS / "tracing.json")
    options = parser.parse_args()
    about = circumstances(0)
    with tempfile.TemporaryDirectory() as folder:
        result: Any = asyncio.run(measure(Path(folder), options.runs))
    write_result(options.output, {**about, **result})
    for sample in result["struct_logs"]:
        print(f"struct logs     {sample}")
    for name in ("call_tracer", "cancel_ms"):
        print(f"{name:15} {result[name]}")
    print("blocks")
    for name in ("median_alone_ms", "median_beside_a_trace_ms", "slower_by_percent"):
        print(f"  {name:26} {result['blocks'][name]}")
    grown = max(max(sample["growth_mib"].values()) for sample in result["struct_logs"])
    return int(grown > MEMORY_LIMIT_MIB or max(result["cancel_ms"]) > CANCEL_LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())
