"""Worst-case speed of execution: how much gas a validator gets through in a second when a block is made to be slow.

`python -m benchmarks.bench_worst_case [--gas N] [--only TEXT] [--json PATH]` runs every precompile on its worst
inputs, then whole blocks of one transaction that repeats one opcode, then blocks of many transactions, all through
the node's own pipeline on a LevelDB with nothing cached above it; a block's time includes its state root. It prints
gas, CPU milliseconds and Mgas/s, slowest first, and the minimum: genesis bounds the gas limit by that.

CPU time of this process is taken, not the clock's: other work on the machine would otherwise count.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from astralink_node.evm import code
from astralink_node.evm.fee_rules import MAX_GAS_TARGET, MIN_GAS_TARGET, FeeBounds
from astralink_node.evm.fork_rules import astralink
from astralink_node.evm.pipeline import BlockContext, BlockExecution
from astralink_node.evm.precompiles.call_data import PrecompileFailure
from astralink_node.evm.transactions import Transaction, recover_sender
from astralink_node.state.commitment import commit_changes
from astralink_node.state.flat_state import HeadState
from astralink_node.state.overlay import Overlay
from astralink_node.storage.leveldb import open_leveldb
from astralink_node.storage.store import Store
from astralink_node.types import EMPTY_TRIE_ROOT, ZERO_ADDRESS, Address, Hash32
from benchmarks import worst_case_opcodes as opcodes
from benchmarks.worst_case_precompiles import PrecompileCase, modexp_grid, precompile_cases
from benchmarks.worst_case_transactions import FUNDED, authorizations, transfers

RULES = astralink(1, FeeBounds(MIN_GAS_TARGET, MAX_GAS_TARGET, 0, 0, 0, 0))
PROGRAM = Address(b"\xaa" * 20)
SENDER = Address(b"\xbb" * 20)
BASE_FEE = 7
ROUNDS = 3
"""Each block runs this often; the median counts."""
PRECOMPILE_SECONDS = 0.1
STATICCALLS = (
    "IDENTITY empty",
    "ECADD",
    "BLAKE2F 12 rounds",
    "BLS12_G1ADD",
    "BLS12_G2ADD",
    "SHA256 empty",
    "ECRECOVER",
)
"""Precompiles that are also measured behind a STATICCALL: there the call weighs more than the work."""


@dataclass(frozen=True, slots=True)
class Measurement:
    group: str
    name: str
    gas: int
    cpu_ms: float

    @property
    def mgas_per_second(self) -> float:
        return self.gas / self.cpu_ms / 1000


def main() -> int:
    arguments = _arguments()
    measurements = list(_measure(arguments.gas, arguments.only))
    if not measurements:
        print(f"nothing is called {arguments.only!r}", file=sys.stderr)
        return 2
    measurements.sort(key=lambda measurement: measurement.mgas_per_second)
    print(f"\n{'group':12} {'case':38} {'gas':>11} {'CPU ms':>10} {'Mgas/s':>9}")
    for measurement in measurements:
        print(
            f"{measurement.group:12} {measurement.name:38} {measurement.gas:11,} {measurement.cpu_ms:10.3f} "
            f"{measurement.mgas_per_second:9.2f}"
        )
    worst = measurements[0]
    print(f"\nminimum: {worst.mgas_per_second:.2f} Mgas/s ({worst.group}, {worst.name})")
    command = f"python -m benchmarks.bench_worst_case --gas {arguments.gas}"
    print(f"machine: {_machine()}; {datetime.now(UTC).date()}; {command}")
    if arguments.json:
        _write_json(arguments.json, arguments.gas, measurements)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="worst-case gas throughput")
    parser.add_argument("--gas", type=int, default=2_000_000, help="gas of each block that is made of one opcode")
    parser.add_argument("--only", default="", help="run only the cases whose name contains this text")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    return parser.parse_args()


def _measure(gas: int, only: str) -> Iterator[Measurement]:
    for case in precompile_cases():
        if only in case.name:
            yield _shown(_measure_precompile(case))
    for fork, osaka in (("Osaka", True), ("Prague", False)):
        if only in f"MODEXP {fork}":
            slowest = min(
                (_measure_precompile(case, seconds=0.02) for case in modexp_grid(osaka=osaka)),
                key=lambda measurement: measurement.mgas_per_second,
            )
            name = f"{slowest.name} ({fork} price)"
            yield _shown(Measurement(slowest.group, name, slowest.gas, slowest.cpu_ms))
    with tempfile.TemporaryDirectory() as folder:
        yield from _measure_blocks(_Bench(Path(folder)), gas, only)


def _measure_blocks(bench: _Bench, gas: int, only: str) -> Iterator[Measurement]:
    for program in opcodes.programs():
        if only in program.name:
            yield _shown(bench.run("opcode", program.name, gas, program))
    for case in precompile_cases():
        name = f"STATICCALL {case.name}"
        if case.name in STATICCALLS and only in name:
            number = int.from_bytes(case.entry.address, "big")
            yield _shown(bench.run("opcode", name, gas, opcodes.precompile_call(case.name, number, case.data)))
    for name, make in (("transfers to new accounts", transfers), ("EIP-7702 authorizations", authorizations)):
        if only in name:
            yield _shown(bench.run_transactions(name, make))


def _shown(measurement: Measurement) -> Measurement:
    print(f"  {measurement.name}: {measurement.mgas_per_second:.2f} Mgas/s", file=sys.stderr, flush=True)
    return measurement


def _measure_precompile(case: PrecompileCase, seconds: float = PRECOMPILE_SECONDS) -> Measurement:
    def once() -> None:
        case.entry.gas(case.data)
        try:
            case.entry.run(case.data)
        except PrecompileFailure:
            # It burns the gas all the same, so it counts as work.
            return

    once()
    runs, start = 0, time.process_time()
    while (elapsed := time.process_time() - start) < seconds:
        once()
        runs += 1
    return Measurement("precompile", case.name, case.entry.gas(case.data), elapsed * 1000 / runs)


class _Bench:
    """A committed state in LevelDB, on which each block runs without leaving anything behind."""

    def __init__(self, folder: Path) -> None:
        store: Store = open_leveldb(folder / "chain", create=True)
        self._root = _fill(store)
        store.compact()
        self._store = store

    def run(self, group: str, name: str, gas: int, program: opcodes.Program) -> Measurement:
        results = [self._run_program(gas, program) for _ in range(ROUNDS)]
        return _median(group, name, results)

    def run_transactions(self, name: str, make: Callable[[], list[Transaction]]) -> Measurement:
        return _median("transaction", name, [self._run_transactions(make()) for _ in range(ROUNDS)])

    def _run_program(self, gas: int, program: opcodes.Program) -> tuple[int, float]:
        overlay = self._overlay()
        overlay.set_code(PROGRAM, program.code)
        transaction = _transaction(gas, program.data)
        start = time.process_time()
        execution = _execution(overlay)
        receipt = execution.apply_transaction(transaction, SENDER)
        execution.finish()
        commit_changes(self._store, self._root, overlay.changes())
        return receipt.cumulative_gas_used, time.process_time() - start

    def _run_transactions(self, transactions: list[Transaction]) -> tuple[int, float]:
        overlay = self._overlay()
        start = time.process_time()
        execution = _execution(overlay)
        for transaction in transactions:
            execution.apply_transaction(transaction, recover_sender(transaction))
        gas = execution.finish().gas_used
        commit_changes(self._store, self._root, overlay.changes())
        return gas, time.process_time() - start

    def _overlay(self) -> Overlay:
        # An attacker owns more contracts than the caches of code hold.
        code._kept_destinations.cache_clear()
        code._kept_padded.cache_clear()
        return Overlay(HeadState(self._store))


def _fill(store: Store) -> Hash32:
    """The accounts, contracts and slots that the programs expect."""
    overlay = Overlay(HeadState(store))
    overlay.set_balance(SENDER, 10**30)
    overlay.set_balance(PROGRAM, 10**30)
    for address in FUNDED:
        overlay.set_balance(address, 10**24)
    for index in range(opcodes.PLAIN_ACCOUNTS):
        overlay.set_balance(_address(opcodes.PLAIN_BASE + index), index + 1)
    for index in range(opcodes.CONTRACTS):
        overlay.set_code(_address(opcodes.CONTRACT_BASE + index), opcodes.contract_code(index))
    overlay.set_code(_address(opcodes.STOPPER), bytes([opcodes.STOP]))
    overlay.set_code(_address(opcodes.REVERTER), opcodes.ops(opcodes.push(0), opcodes.push(0), opcodes.REVERT))
    overlay.set_code(_address(opcodes.DESTRUCTOR), bytes([opcodes.CALLER, opcodes.SELFDESTRUCT]))
    for slot in range(opcodes.SLOTS):
        overlay.set_storage(PROGRAM, slot, slot + 1)
    update = commit_changes(store, EMPTY_TRIE_ROOT, overlay.changes())
    store.write(update.writes, sync=True)
    return update.state_root


def _execution(overlay: Overlay) -> BlockExecution:
    context = BlockContext(
        number=1,
        timestamp=1,
        coinbase=ZERO_ADDRESS,
        gas_limit=10**10,
        base_fee_per_gas=BASE_FEE,
        prev_randao=Hash32(bytes(32)),
        ancestor_hash=lambda _number: bytes(32),
    )
    return BlockExecution(RULES, context, overlay)


def _transaction(gas: int, data: bytes) -> Transaction:
    """As decoded; its signature was checked at admission and is not part of these cases."""
    return Transaction(
        tx_type=2,
        chain_id=1,
        nonce=0,
        max_priority_fee_per_gas=0,
        max_fee_per_gas=BASE_FEE,
        gas_limit=gas,
        to=PROGRAM,
        value=0,
        data=data,
        access_list=(),
        authorizations=(),
        y_parity=0,
        r=1,
        s=1,
        raw=b"\x02",
        hash=Hash32(bytes(32)),
    )


def _address(number: int) -> Address:
    return Address(number.to_bytes(20, "big"))


def _median(group: str, name: str, results: list[tuple[int, float]]) -> Measurement:
    (gas,) = {gas for gas, _ in results}
    return Measurement(group, name, gas, statistics.median(seconds for _, seconds in results) * 1000)


def _machine() -> str:
    model = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        models = [line for line in cpu_info.read_text().splitlines() if line.startswith("model name")]
        model = models[0].split(":", 1)[1].strip() if models else model
    return f"{model}, CPython {platform.python_version()}, {platform.system()} {platform.machine()}"


def _commit() -> str:
    result = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


def _write_json(path: Path, gas: int, measurements: list[Measurement]) -> None:
    rows = [asdict(item) | {"mgas_per_second": round(item.mgas_per_second, 3)} for item in measurements]
    report = {
        "benchmark": "worst_case",
        "date": str(datetime.now(UTC).date()),
        "machine": _machine(),
        "commit": _commit(),
        "command": f"python -m benchmarks.bench_worst_case --gas {gas}",
        "minimum_mgas_per_second": rows[0]["mgas_per_second"],
        "measurements": rows,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
