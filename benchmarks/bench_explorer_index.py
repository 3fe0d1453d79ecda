"""What the explorer index costs a node that keeps it: `python -m benchmarks.bench_explorer_index`.

The same blocks, sealed (Build and Commit with one synced write) and followed (Validate and Commit, senders known) by
two execution facades on LevelDB folders of their own, one with the index and one without, block by block in turn.
Ratios are medians over blocks of processor time with the index by without. Then `db index`'s own work: the index of
all those blocks built later by executing them again. Exits 1 if a block costs more than a quarter more.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from astralink_node.chain.commits import HistoryWindow
from astralink_node.chain.execution import ExecutionConfig
from astralink_node.chain.index_building import build_index
from astralink_node.chain.initialise import open_chain
from astralink_node.chain.messages import Candidate, Commit, Valid, Validate
from astralink_node.storage import keys
from astralink_node.storage.leveldb import open_leveldb
from benchmarks.measuring import Stopwatch
from benchmarks.report import RESULTS, circumstances, middle, write_result
from benchmarks.workload import KINDS, SENDERS, Workload
from tests.support.chains import LocalChain

RUNS = 12
LIMIT_RATIO = 1.25
TABLES = (keys.APPEARANCES, keys.CREATIONS, keys.SENDER_NONCES, keys.APPEARANCE_LISTS)


class Side:
    """A chain that seals and one that follows it, both with the index or both without."""

    def __init__(self, folder: Path, genesis: bytes, *, indexed: bool) -> None:
        config = ExecutionConfig(window=HistoryWindow(None), explorer_index=indexed)
        self.stores = [open_leveldb(folder / name, create=True) for name in ("sealing", "following")]
        self.sealing, self.following = (LocalChain(store, genesis=genesis, config=config) for store in self.stores)

    def block(self, candidates: list[Candidate]) -> dict[str, Stopwatch]:
        seal, follow = Stopwatch(), Stopwatch()
        request = self.sealing.build_request(candidates)
        with seal:
            built = self.sealing.execution.build(request)
        certificate = self.sealing.certificate(built.block_hash)  # type: ignore[union-attr]
        commit = Commit(built.block_hash, certificate)  # type: ignore[union-attr]
        with seal:
            self.sealing.execution.commit(commit)
        proposal = Validate(built.raw_block, tuple(each.sender for each in candidates))  # type: ignore[union-attr]
        with follow:
            answer = self.following.execution.validate(proposal)
            self.following.execution.commit(commit)
        if not isinstance(answer, Valid) or self.following.execution.status() != self.sealing.execution.status():
            raise RuntimeError(f"the two chains do not agree: {answer}")
        return {"seal": seal, "follow": follow}


def measure(folder: Path, runs: int) -> dict[str, Any]:
    workload = Workload(accounts=SENDERS + 1, seed=1)
    genesis = workload.genesis()
    sides = {name: Side(folder / name, genesis, indexed=name == "with") for name in ("with", "without")}
    for signed in workload.setup_blocks():
        for side in sides.values():
            side.block([Candidate(one.raw, one.sender) for one in signed])
    results: dict[str, Any] = {}
    for kind in KINDS:
        samples: dict[str, dict[str, list[float]]] = {
            action: {name: [] for name in sides} for action in ("seal", "follow")
        }
        for run in range(runs + 1):
            candidates = [Candidate(one.raw, one.sender) for one in workload.block(kind, run)]
            for name in sides if run % 2 else reversed(sides):
                watches = sides[name].block(candidates)
                if run:  # the first warms both
                    for action, watch in watches.items():
                        samples[action][name].append(round(watch.times()["cpu_ms"], 3))
        results[kind.name] = {
            "transactions": kind.transactions,
            **{
                action: {
                    "with_ms": middle(found["with"]),
                    "without_ms": middle(found["without"]),
                    "ratio": middle([a / b for a, b in zip(found["with"], found["without"], strict=True)]),
                    "samples_ms": found,
                }
                for action, found in samples.items()
            },
        }
    without = sides["without"].sealing.store
    watch = Stopwatch()
    with watch:
        blocks = build_index(without, open_chain(without), lambda *_: None)
    transactions = sum(1 for _ in without.iterate(*keys.prefix_range(keys.SENDER_NONCES)))
    results["later"] = {
        "blocks": blocks,
        "transactions": transactions,
        "transactions_per_second": round(transactions / (watch.wall_ns / 1e9)),
        "bytes_a_transaction": round(_entry_bytes(without.iterate) / transactions, 1),
    }
    for side in sides.values():
        for store in side.stores:
            store.close()
    return results


def _entry_bytes(iterate: Callable[..., Any]) -> int:
    """Keys and values, before LevelDB compresses them."""
    return sum(len(key) + len(value) for table in TABLES for key, value in iterate(*keys.prefix_range(table)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--output", type=Path, default=RESULTS / "explorer-index.json")
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="astralink-bench-") as folder:
        results = measure(Path(folder), options.runs)
    ratios = []
    for kind in KINDS:
        for action in ("seal", "follow"):
            found = results[kind.name][action]
            ratios.append(found["ratio"])
            print(
                f"{kind.name:<16}{action:<8}{found['with_ms']:>9} ms with, {found['without_ms']:>9} ms without the "
                f"index: {found['ratio']:.3f}"
            )
    print(f"built later: {results['later']}; {time.perf_counter() - started:.0f} s in all")
    write_result(options.output, {**circumstances(1), "limit_ratio": LIMIT_RATIO, **results})
    return 0 if max(ratios) <= LIMIT_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
