"""Sealing and importing beside stock py-evm: same blocks, same accounts, LevelDB, caches cold at each block.

Prints a table and writes benchmarks/results/speed.json; exits 1 when a ratio is below the agreed one. A ratio is
the median, over paired and interleaved runs, of stock's processor time divided by ours. See README.md here.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import MeasuredProcess
from benchmarks.report import RESULTS, circumstances, middle, write_result
from benchmarks.workload import KINDS, Kind, SignedTransaction, Workload

ACTIONS = ("seal", "import")
DISAGREEMENT = "stock py-evm and our pipeline disagree about block {number}: 0x{ours} and 0x{stock}"


@dataclass(slots=True)
class Samples:
    """Milliseconds a block of one kind, by action and side, a sample a run."""

    wall: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, action: str, side: str, answer: dict[str, Any]) -> None:
        self.wall[action, side].append(answer["wall_ms"])
        self.cpu[action, side].append(answer["cpu_ms"])

    def ratio(self, action: str, times: dict[tuple[str, str], list[float]]) -> float:
        """Paired: each run's stock time by the same run's own."""
        return middle([s / o for s, o in zip(times[action, "stock"], times[action, "ours"], strict=True)])


class Comparison:
    """Both processes, kept on the same chain block by block."""

    def __init__(self, ours: MeasuredProcess, stock: MeasuredProcess, workload: Workload, folder: Path) -> None:
        self._ours = ours
        self._stock = stock
        self._height = 0
        genesis = folder / "genesis.json"
        genesis.write_bytes(workload.genesis())
        for name in ("ours", "stock"):
            (folder / name).mkdir()
        opened = ours.ask("open", folder=str(folder / "ours"), genesis=str(genesis))
        answer = stock.ask("open", folder=str(folder / "stock"), genesis=str(genesis), header=opened["header"])
        self.stock_hash_backend: str = answer["hash_backend"]

    def block(self, transactions: list[SignedTransaction], samples: Samples, *, stock_imports_first: bool) -> None:
        """Seal and import one block on both sides. Our seal comes first, since it makes the block."""
        raw = [transaction.raw.hex() for transaction in transactions]
        sealed = self._ours.ask("seal", transactions=raw, senders=[one.sender.hex() for one in transactions])
        samples.add("seal", "ours", sealed)
        samples.add("seal", "stock", self._stock.ask("seal", transactions=raw, timestamp=sealed["timestamp"]))
        if stock_imports_first:
            imported = self._stock.ask("import", ethereum_block=sealed["ethereum_block"])
            samples.add("import", "ours", self._ours.ask("import", block=sealed["block"]))
        else:
            samples.add("import", "ours", self._ours.ask("import", block=sealed["block"]))
            imported = self._stock.ask("import", ethereum_block=sealed["ethereum_block"])
        samples.add("import", "stock", imported)
        self._height += 1
        if imported["hash"] != sealed["hash"]:
            raise RuntimeError(DISAGREEMENT.format(number=self._height, ours=sealed["hash"], stock=imported["hash"]))


def measure(workload: Workload, runs: int) -> tuple[dict[str, Samples], str]:
    samples = {kind.name: Samples() for kind in KINDS}
    with (
        tempfile.TemporaryDirectory(prefix="astralink-bench-") as folder,
        MeasuredProcess("benchmarks.our_side") as ours,
        MeasuredProcess("benchmarks.stock_pyevm") as stock,
    ):
        comparison = Comparison(ours, stock, workload, Path(folder))
        for transactions in workload.setup_blocks():
            comparison.block(transactions, Samples(), stock_imports_first=False)
        for run in range(runs + 1):
            for kind in KINDS:
                # Run 0 warms the interpreter (not our caches) and is not counted.
                kept = samples[kind.name] if run else Samples()
                comparison.block(workload.block(kind, run), kept, stock_imports_first=run % 2 == 0)
            print(f"run {run} of {runs} done" + ("" if run else " (warm-up, not counted)"), file=sys.stderr)
        return samples, comparison.stock_hash_backend


def row(kind: Kind, samples: Samples, action: str) -> dict[str, Any]:
    return {
        "kind": kind.name,
        "action": action,
        "transactions": kind.transactions,
        "stock_ms_per_transaction": middle([ms / kind.transactions for ms in samples.cpu[action, "stock"]]),
        "our_ms_per_transaction": middle([ms / kind.transactions for ms in samples.cpu[action, "ours"]]),
        "ratio": samples.ratio(action, samples.cpu),
        "wall_ratio": samples.ratio(action, samples.wall),
        "required_ratio": kind.required_ratio,
        "wall_ms": {side: samples.wall[action, side] for side in ("stock", "ours")},
        "cpu_ms": {side: samples.cpu[action, side] for side in ("stock", "ours")},
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    columns = ("stock ms/tx", "ours ms/tx", "ratio", "wall ratio", "needed")
    widths = (12, 11, 7, 10, 7)
    print(f"{'block of':<16} {'action':<7} " + " ".join(f"{c:>{w}}" for c, w in zip(columns, widths, strict=True)))
    for one in rows:
        verdict = "" if one["ratio"] >= one["required_ratio"] else "  TOO SLOW"
        print(
            f"{one['kind']:<16} {one['action']:<7} {one['stock_ms_per_transaction']:>12.3f} "
            f"{one['our_ms_per_transaction']:>11.3f} {one['ratio']:>6.1f}x {one['wall_ratio']:>9.1f}x "
            f"{one['required_ratio']:>6.1f}x{verdict}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "speed.json")
    options = parser.parse_args()
    samples, hash_backend = measure(Workload(options.accounts, options.seed), options.runs)
    rows = [row(kind, samples[kind.name], action) for kind in KINDS for action in ACTIONS]
    result = {
        **circumstances(options.seed),
        "accounts": options.accounts,
        "runs": options.runs,
        "stock_hash_backend": hash_backend,
        "rows": rows,
    }
    write_result(options.output, result)
    print_table(rows)
    return 0 if all(one["ratio"] >= one["required_ratio"] for one in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
