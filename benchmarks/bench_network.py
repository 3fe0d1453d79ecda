"""From a transaction's arrival to its final receipt, in a devnet of four validator processes on this machine.

    python -m benchmarks.bench_network [--rates 200,150,100] [--seconds 30] [--no-on-demand]     (`make bench-network`)

ERC-20 transfers signed beforehand arrive at each rate in turn, highest first, until one meets the limits: median at
most half a block interval and 300 ms, 99th percentile at most an interval and 700 ms, nothing refused or missing. The
highest rate that meets them is reported. Exits 1 unless the first does, and consensus keeps to its own limit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.network_load import Latency, LoadFailed, measure
from benchmarks.report import RESULTS, circumstances, write_result
from tests.support.node_process import NodeFailed

CONSENSUS_LIMIT_MS = 250
MEDIAN_EXTRA_MS = 300
P99_EXTRA_MS = 700


def shortfalls(latency: Latency, interval_ms: int) -> list[str]:
    """What does not meet its limit; empty if all does."""
    median_limit, p99_limit = interval_ms / 2 + MEDIAN_EXTRA_MS, interval_ms + P99_EXTRA_MS
    found = []
    if latency.median_ms > median_limit:
        found.append(f"median {latency.median_ms} ms, limit {median_limit:g} ms")
    if latency.p99_ms > p99_limit:
        found.append(f"99th percentile {latency.p99_ms} ms, limit {p99_limit:g} ms")
    if latency.missing or latency.refused:
        found.append(f"{latency.missing} transfers without a receipt, {latency.refused} refused")
    return found


def main() -> int:
    arguments = _arguments()
    runs: list[dict[str, object]] = []
    highest = 0
    consensus_ms = 0.0
    for rate in arguments.rates:
        with tempfile.TemporaryDirectory(prefix="astralink-bench-") as folder:
            try:
                latency = measure(
                    Path(folder) / "net",
                    rate,
                    arguments.seconds,
                    arguments.interval_ms,
                    on_demand=arguments.on_demand,
                )
            except (LoadFailed, NodeFailed) as error:
                print(f"error: {rate} a second: {error}", file=sys.stderr)
                return 2
        found = shortfalls(latency, arguments.interval_ms)
        runs.append({**asdict(latency), "shortfalls": found})
        consensus_ms = consensus_ms or latency.consensus_median_ms
        print(
            f"{rate:4} a second: median {latency.median_ms:7.1f} ms, 99th percentile {latency.p99_ms:7.1f} ms, "
            f"consensus {latency.consensus_median_ms:5.0f} ms, client late {latency.client_late_ms:.0f} ms: "
            f"{'; '.join(found) or 'within limits'}",
            flush=True,
        )
        if not found:
            highest = rate
            break
    result = {
        **circumstances(0),
        "validators": 4,
        "interval_ms": arguments.interval_ms,
        "on_demand": arguments.on_demand,
        "highest_rate_within_limits": highest,
        "consensus_median_ms": consensus_ms,
        "consensus_limit_ms": CONSENSUS_LIMIT_MS,
        "runs": runs,
    }
    write_result(arguments.output, result)
    return 0 if highest == arguments.rates[0] and consensus_ms < CONSENSUS_LIMIT_MS else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="arrival to final receipt, four validator processes")
    parser.add_argument(
        "--rates", type=_rates, default=(200, 175, 150, 125, 100, 75, 50), help="a second, highest first"
    )
    parser.add_argument("--seconds", type=int, default=30, help="of load at each rate, after the warm-up")
    parser.add_argument("--interval-ms", type=int, default=1000)
    parser.add_argument(
        "--on-demand",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="build as soon as a transaction waits, as `devnet` does (default)",
    )
    parser.add_argument("--output", type=Path, default=RESULTS / "network-latency.json")
    return parser.parse_args()


def _rates(text: str) -> tuple[int, ...]:
    return tuple(sorted((int(part) for part in text.split(",")), reverse=True))


if __name__ == "__main__":
    sys.exit(main())
