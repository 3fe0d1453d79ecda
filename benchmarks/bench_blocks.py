"""A block's cost follows what it touches: the same blocks on states of 1,000, 10,000 and 100,000 accounts.

Prints a table and writes benchmarks/results/blocks.json; exits 1 when a hundred times the state makes a block more
than MAX_GROWTH times as dear. (Some growth is right: a trie of a hundred times the leaves is 1.7 levels deeper.)
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.processes import MeasuredProcess
from benchmarks.report import RESULTS, circumstances, middle, write_result
from benchmarks.workload import KINDS, Workload

SIZES = (1_000, 10_000, 100_000)
MAX_GROWTH = 2.0


def measure(seed: int, runs: int) -> dict[tuple[str, str, int], list[float]]:
    """Milliseconds of processor time by kind, action and size; sizes take turns within each run."""
    times: dict[tuple[str, str, int], list[float]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="astralink-bench-")))
        sides: dict[int, tuple[MeasuredProcess, Workload]] = {}
        for size in SIZES:
            workload = Workload(size, seed)
            genesis = folder / f"genesis-{size}.json"
            genesis.write_bytes(workload.genesis())
            process = stack.enter_context(MeasuredProcess("benchmarks.our_side"))
            process.ask("open", folder=str(folder / str(size)), genesis=str(genesis))
            for transactions in workload.setup_blocks():
                _block(process, transactions)
            sides[size] = process, workload
            print(f"a state of {size:,} accounts is ready", file=sys.stderr)
        for run in range(runs + 1):
            for kind in KINDS:
                for size, (process, workload) in sides.items():
                    sealed_ms, imported_ms = _block(process, workload.block(kind, run))
                    if run:
                        times.setdefault((kind.name, "seal", size), []).append(sealed_ms)
                        times.setdefault((kind.name, "import", size), []).append(imported_ms)
    return times


def _block(process: MeasuredProcess, transactions: list[Any]) -> tuple[float, float]:
    sealed = process.ask(
        "seal", transactions=[one.raw.hex() for one in transactions], senders=[one.sender.hex() for one in transactions]
    )
    return sealed["cpu_ms"], process.ask("import", block=sealed["block"])["cpu_ms"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_blocks", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "blocks.json")
    options = parser.parse_args()
    times = measure(options.seed, options.runs)
    rows = []
    for kind in KINDS:
        for action in ("seal", "import"):
            medians = {size: middle(times[kind.name, action, size]) for size in SIZES}
            growth = round(medians[SIZES[-1]] / medians[SIZES[0]], 2)
            rows.append({"kind": kind.name, "action": action, "ms_per_block": medians, "growth": growth})
    write_result(options.output, {**circumstances(options.seed), "runs": options.runs, "rows": rows})
    print(f"{'block of':<16} {'action':<7} " + " ".join(f"{size:>9,} acc." for size in SIZES) + f" {'growth':>8}")
    for row in rows:
        cells = " ".join(f"{row['ms_per_block'][size]:>11.1f} ms" for size in SIZES)
        print(f"{row['kind']:<16} {row['action']:<7} {cells} {row['growth']:>7.2f}x")
    return 0 if all(row["growth"] <= MAX_GROWTH for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
