"""How soon a devnet that mines at once has a receipt, and how long 200 transfers take that wait for one another.

    python -m benchmarks.bench_devnet [--anvil PATH]

Signed transfers go one after the other over one HTTP connection; each is timed from its sending to its receipt. With
--anvil the same transfers are sent to that program in the same run, turn about.
"""

from __future__ import annotations

import argparse
import http.client
import json
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final
from urllib.parse import urlsplit

from astralink_node.evm.transaction_encoding import new_transaction, sign_transaction
from astralink_node.evm.transactions import DYNAMIC_FEE_TYPE
from benchmarks.report import RESULTS, circumstances, write_result
from genesis.dev_accounts import DEVNET_ACCOUNTS
from tests.support.anvil import anvil_at
from tests.support.node_process import NodeProcess

TRANSFERS: Final = 200
RUNS: Final = 3
LIMIT_MEDIAN_MS: Final = 100.0
"""A few tens of ms on an idle machine; beyond this a developer notices."""
_POLL_S: Final = 0.001


class Connection:
    """One that stays open, as libraries keep theirs."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._http = http.client.HTTPConnection(parts.hostname or "", parts.port)

    def call(self, method: str, *params: object) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        self._http.request("POST", "/", body, {"content-type": "application/json"})
        return json.loads(self._http.getresponse().read())["result"]


def receipt_times_ms(node: Connection) -> list[float]:
    sender, receiver = DEVNET_ACCOUNTS[:2]
    chain_id = int(node.call("eth_chainId"), 16)
    first = int(node.call("eth_getTransactionCount", f"0x{sender.address.hex()}", "latest"), 16)
    raws = []
    for nonce in range(first, first + TRANSFERS):
        unsigned = new_transaction(
            DYNAMIC_FEE_TYPE,
            chain_id=chain_id,
            nonce=nonce,
            max_fee_per_gas=10**10,
            max_priority_fee_per_gas=10**9,
            gas_limit=21_000,
            to=receiver.address,
            value=1,
        )
        raws.append(f"0x{sign_transaction(unsigned, sender.private_key).raw.hex()}")
    taken = []
    for raw in raws:
        began = time.perf_counter()
        transaction_hash = node.call("eth_sendRawTransaction", raw)
        while node.call("eth_getTransactionReceipt", transaction_hash) is None:
            time.sleep(_POLL_S)
        taken.append(1000 * (time.perf_counter() - began))
    return taken


def summary(runs: list[list[float]]) -> dict[str, float]:
    """Of the run whose total is the middle one."""
    taken = sorted(runs, key=sum)[len(runs) // 2]
    return {
        "median_ms": round(median(taken), 1),
        "p90_ms": round(quantiles(taken, n=10)[-1], 1),
        "max_ms": round(max(taken), 1),
        "total_s": round(sum(taken) / 1000, 2),
    }


def measure(anvil: Path | None) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        arguments = ("devnet", "--dir", f"{folder}/chain", "--rpc-port", "0", "--instant", "--json")
        with NodeProcess(Path(folder, "log"), *arguments) as node:
            urls = {"devnet": str(node.await_ready().ready["rpcUrl"])}
            if anvil is None:
                return _measured(urls)
            with anvil_at(anvil) as url:
                return _measured({**urls, "anvil": url})


def _measured(urls: dict[str, str]) -> dict[str, dict[str, float]]:
    nodes = {name: Connection(url) for name, url in urls.items()}
    runs: dict[str, list[list[float]]] = {name: [] for name in nodes}
    for _ in range(RUNS):
        for name, node in nodes.items():
            runs[name].append(receipt_times_ms(node))
    return {name: summary(taken) for name, taken in runs.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anvil", type=Path, help="Foundry's anvil, measured beside it")
    parser.add_argument("--json", type=Path, default=RESULTS / "devnet.json")
    options = parser.parse_args()
    given = circumstances(seed=0)
    figures = measure(options.anvil)
    for name, figure in figures.items():
        print(f"{name:8}" + "  ".join(f"{key} {value}" for key, value in figure.items()))
    holds = figures["devnet"]["median_ms"] <= LIMIT_MEDIAN_MS
    result = {**given, "transfers": TRANSFERS, "runs": RUNS, "limit_median_ms": LIMIT_MEDIAN_MS, "holds": holds}
    write_result(options.json, {**result, "figures": figures})
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
