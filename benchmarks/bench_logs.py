"""How quickly eth_getLogs finds few logs among many, over 10,000 blocks: `python -m benchmarks.bench_logs`.

A chain of its own is made by the execution facade (three transactions and 24 logs a block); a real `astralink-node
start` then serves it, so a request goes over HTTP, gateway, execution process and LevelDB. Beside each filter stands a
scan without an index on the same database: every header's bloom, then the receipts of the blocks that may match, in
one process and without any encoding, as a lower bound. Beside wall-clock time stands the processor time of all of the
node's processes a request, which holds on a busy machine, too. Exits 1 when the 99th percentile of a filter that finds
few logs is above 200 ms. `--chain FOLDER` keeps the chain for another run; `--blocks 100000` asks about as many.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

from astralink_node.chain.data_folder import DATABASE_NAME
from astralink_node.chain.execution import ExecutionConfig
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.new_folder import initialise_folder
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.blocks import Log, decode_receipt
from astralink_node.storage.leveldb import open_leveldb
from astralink_node.storage.store import Reader, Store
from astralink_node.types import Address
from benchmarks.report import RESULTS, circumstances, middle, write_result
from genesis.schema import GenesisAccount
from tests.support.chains import BLOCK_INTERVAL_MS, LocalChain, candidate, genesis_text
from tests.support.node_process import NodeProcess

BLOCKS = 12_000
RANGE_BLOCKS = 10_000
LIMIT_MS = 200.0
RUNS = 100
SCAN_RUNS = 3
LOGS_A_TRANSACTION = 8
HOLDERS = 2_000
MEDIUM_EVERY = 20
RARE_EVERY = 500
PROGRESS_BLOCKS = 2_000
TIMEOUT_S = 60

EMITTER_CODE = bytes.fromhex("5f5b3681101560215780604001355f528060200135813560205fa26060016001565b00")
"""Emits a LOG2 for every 96 bytes of its call data: two topics and a word of data."""
BUSY, MEDIUM, RARE = (Address(bytes.fromhex(byte) * 20) for byte in ("e0", "e1", "e2"))
TRANSFER, APPROVAL, SETTLED = (keccak256(name) for name in (b"Transfer", b"Approval", b"Settled"))
"""The last one is rare, and the busy contract's."""


@dataclass(frozen=True, slots=True)
class Filter:
    name: str
    addresses: tuple[bytes, ...] = ()
    topics: tuple[bytes | None, ...] = ()
    blocks: int = 0
    """0: the whole range."""
    selective: bool = True
    judged: bool = True
    """Whether the limit is for it: few logs, that is some hundreds among 240,000."""

    def as_json(self, last: int, whole: int) -> dict[str, Any]:
        blocks = self.blocks or whole
        fields: dict[str, Any] = {"fromBlock": hex(last - blocks + 1), "toBlock": hex(last)}
        if self.addresses:
            fields["address"] = ["0x" + each.hex() for each in self.addresses]
        if self.topics:
            fields["topics"] = [None if each is None else "0x" + each.hex() for each in self.topics]
        return fields

    def matches(self, log: Log) -> bool:
        if self.addresses and log.address not in self.addresses:
            return False
        wanted = [(place, topic) for place, topic in enumerate(self.topics) if topic is not None]
        return all(place < len(log.topics) and log.topics[place] == topic for place, topic in wanted)

    def values(self) -> list[list[bytes]]:
        """Of each clause, what a bloom would have to hold one of."""
        clauses = [list(self.addresses), *([topic] for topic in self.topics if topic is not None)]
        return [clause for clause in clauses if clause]


FILTERS = (
    Filter("a rare address", (RARE,)),
    Filter("a rare address and a topic", (RARE,), (APPROVAL,)),
    Filter("a rare topic", (), (SETTLED,)),
    Filter("a busy address and a rare topic", (BUSY,), (SETTLED,)),
    Filter("a busy address, a busy topic, one holder", (BUSY,), (TRANSFER, (7).to_bytes(32, "big"))),
    Filter("one holder among all", (), (None, (11).to_bytes(32, "big"))),
    Filter("nothing that exists", (b"\x01" * 20,), (TRANSFER,)),
    Filter("an address in every twentieth block, a topic", (MEDIUM,), (APPROVAL,), judged=False),
    Filter("a busy address, 400 blocks", (BUSY,), (), 400, selective=False),
    Filter("a busy address, more than the limit", (BUSY,), selective=False),
)


class Unsynced:
    """A store that does not wait for the disk with each block: the chain is only made to be read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.get, self.iterate, self.snapshot = store.get, store.iterate, store.snapshot
        self.compact, self.approximate_bytes, self.close = store.compact, store.approximate_bytes, store.close

    def write(self, batch: Mapping[bytes, bytes | None], *, sync: bool) -> None:  # noqa: ARG002
        self._store.write(batch, sync=False)


def make_chain(folder: Path, blocks: int) -> None:
    random = Random(1)
    genesis = genesis_text(
        extra_alloc={address: GenesisAccount(0, 1, EMITTER_CODE, ()) for address in (BUSY, MEDIUM, RARE)},
        timestamp=int(time.time()) - (blocks + 60) * BLOCK_INTERVAL_MS // 1000,
    )
    initialise_folder(folder, genesis)
    store = Unsynced(open_leveldb(folder / DATABASE_NAME, create=False))
    chain = LocalChain(store, genesis=genesis, config=ExecutionConfig())
    started = time.perf_counter()
    for number in range(blocks):
        targets = [BUSY, BUSY, MEDIUM if number % MEDIUM_EVERY == 0 else BUSY]
        if number % RARE_EVERY == RARE_EVERY - 1:
            targets[1] = RARE
        candidates = []
        for account, target in enumerate(targets):
            data = bytearray()
            for at in range(LOGS_A_TRANSACTION):
                topic = TRANSFER if at % 4 else APPROVAL
                if target == BUSY and at == 0 and number % RARE_EVERY == 0:
                    topic = SETTLED
                data += topic + random.randrange(HOLDERS).to_bytes(32, "big") + random.randbytes(32)
            candidates.append(candidate(account, number, to=target, value=0, gas=60_000, data=bytes(data)))
        committed = chain.produce(candidates)
        if committed.receipts[-1].first_log_index != 2 * LOGS_A_TRANSACTION:
            raise RuntimeError(f"block {number + 1} does not hold the logs that it should")
        if number % PROGRESS_BLOCKS == PROGRESS_BLOCKS - 1:
            took = time.perf_counter() - started
            print(f"{number + 1} of {blocks} blocks made, {took:.0f} s", file=sys.stderr, flush=True)
    store.close()


def scan(reader: Reader, wanted: Filter, first: int, last: int) -> int:
    """How many logs match, found without an index."""
    ledger, found = Ledger(reader), 0
    clauses = [[_bloom(value) for value in values] for values in wanted.values()]
    for height in range(first, last + 1):
        bloom = int.from_bytes(ledger.header(height).logs_bloom, "big")
        if not all(any(bloom & bits == bits for bits in values) for values in clauses):
            continue
        for receipt in ledger.receipts(height):
            found += sum(1 for log in decode_receipt(receipt.raw_receipt).logs if wanted.matches(log))
    return found


def _bloom(value: bytes) -> int:
    digest = keccak256(value)
    bits = 0
    for position in (0, 2, 4):
        bits |= 1 << (int.from_bytes(digest[position : position + 2], "big") & 2047)
    return bits


class Client:
    """One kept connection, as a wallet's or an indexer's."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)

    def call(self, method: str, *params: object) -> dict[str, Any]:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        self._connection.request("POST", "/", body, {"content-type": "application/json"})
        answer: dict[str, Any] = json.loads(self._connection.getresponse().read())
        return answer


def timed_ms(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return (time.perf_counter() - started) * 1e3, result


def percentile(samples: list[float], hundredth: int) -> float:
    ordered = sorted(samples)
    return round(ordered[min(len(ordered) - 1, len(ordered) * hundredth // 100)], 2)


def measure(folder: Path, blocks: int, runs: int) -> dict[str, dict[str, Any]]:
    whole = min(blocks, max(RANGE_BLOCKS, blocks - blocks % RANGE_BLOCKS))
    results: dict[str, dict[str, Any]] = {}
    store = open_leveldb(folder / DATABASE_NAME, create=False)
    for wanted in FILTERS:
        if wanted.selective:
            scans = [timed_ms(lambda f=wanted: scan(store, f, blocks - whole + 1, blocks)) for _ in range(SCAN_RUNS)]
            results[wanted.name] = {"logs": scans[0][1], "scan_ms": middle([taken for taken, _ in scans])}
        else:
            results[wanted.name] = {}
    store.close()
    flags = ("--data-dir", str(folder), "--rpc-port", "0", "--no-p2p", "--json")
    with NodeProcess(folder.with_suffix(".log"), "start", *flags) as node:
        client = Client(node.await_ready().ready["rpcUrl"])
        for wanted in FILTERS:
            given = wanted.as_json(blocks, whole)
            samples, answer = [], client.call("eth_getLogs", given)
            spent = _processor_ms(node)
            for _ in range(runs if wanted.selective else max(1, runs // 10)):
                taken, answer = timed_ms(lambda g=given: client.call("eth_getLogs", g))
                samples.append(taken)
            entry = results[wanted.name]
            found = answer.get("result")
            if wanted.selective and (found is None or len(found) != entry["logs"]):
                raise RuntimeError(f"{wanted.name}: the scan found {entry['logs']} logs, eth_getLogs {answer}")
            entry |= {
                "cpu_ms": round((_processor_ms(node) - spent) / len(samples), 2),
                "answer": f"{len(found)} logs" if found is not None else answer["error"]["message"],
                "p50_ms": percentile(samples, 50),
                "p99_ms": percentile(samples, 99),
                "samples_ms": [round(sample, 2) for sample in samples],
            }
            if wanted.selective:
                entry["scan_ratio"] = round(entry["scan_ms"] / entry["p50_ms"], 1)
    return results


def _processor_ms(node: NodeProcess) -> float:
    """Of the node, its gateway and its execution process so far."""
    ticks = 0
    for process in (node.process.pid, *node.children()):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return 1e3 * ticks / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=BLOCKS, help="how many to make; all but the remainder are asked")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--chain", type=Path, help="a chain of an earlier run, or where to keep this one's")
    parser.add_argument("--output", type=Path, default=RESULTS / "logs.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="astralink-bench-") as folder:
        data = options.chain or Path(folder) / "node"
        if not data.exists():
            make_chain(data, options.blocks)
        results = measure(data, options.blocks, options.runs)
    print(f"{'filter':<46}{'answer':<14}{'p50 ms':>9}{'p99 ms':>9}{'cpu ms':>9}{'scan ms':>10}{'ratio':>8}")
    for name, entry in results.items():
        shown = entry["answer"] if len(entry["answer"]) < 14 else "refused"
        scanned, ratio = entry.get("scan_ms", "-"), entry.get("scan_ratio", "-")
        times = f"{entry['p50_ms']:>9}{entry['p99_ms']:>9}{entry['cpu_ms']:>9}"
        print(f"{name:<46}{shown:<14}{times}{scanned:>10}{ratio:>8}")
    worst = max(results[wanted.name]["p99_ms"] for wanted in FILTERS if wanted.selective and wanted.judged)
    write_result(
        options.output,
        {
            **circumstances(1),
            "blocks": options.blocks,
            "logs_a_block": 3 * LOGS_A_TRANSACTION,
            "limit_ms": LIMIT_MS,
            "worst_p99_ms": worst,
            "filters": results,
        },
    )
    return 0 if worst <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
