"""How quickly a node that is far behind catches up by ranges of blocks: `python -m benchmarks.bench_block_sync`.

Two real `astralink-node start` processes on loopback, without keys: one has a chain of four validators, the other only
its first blocks, and the first as its bootnode. Twenty transactions a block, a block a second. Time runs from the
second's first reported peer to the last block. Exits 1 below 10 blocks/s.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from astralink_node.chain.data_folder import DATABASE_NAME
from astralink_node.chain.messages import Candidate
from astralink_node.chain.new_folder import initialise_folder
from astralink_node.services.data_folder import DataFolder
from astralink_node.storage.leveldb import open_leveldb
from benchmarks.report import RESULTS, circumstances, write_result
from benchmarks.workload import BALANCE_WEI, KINDS, SENDERS, Workload
from genesis.schema import GenesisAccount
from p2p.addresses import Address
from p2p.identity import load_or_create_identity
from tests.support.chains import BLOCK_INTERVAL_MS, LocalChain, genesis_text
from tests.support.network_processes import free_port
from tests.support.node_process import NodeProcess, await_that

VALIDATORS = 4
TRANSACTIONS = 20
LIMIT_BLOCKS_PER_S = 10
EPOCH = 100
PATIENCE_S = 1_800
PROGRESS_BLOCKS = 500


def make_chains(served: Path, new: Path, kind_name: str, blocks: int) -> int:
    """Both databases; the new node's ends where the token stands. Returns the height of the longer one."""
    workload = Workload(accounts=SENDERS + 1, seed=1)
    holders = [workload.owner, *workload.senders]
    setup = list(workload.setup_blocks())
    length = len(setup) + blocks
    genesis = genesis_text(
        VALIDATORS,
        extra_alloc={holder.address: GenesisAccount(BALANCE_WEI, 0, b"", ()) for holder in holders},
        epoch_length=EPOCH,
        timestamp=int(time.time()) - length * BLOCK_INTERVAL_MS // 1000 - 60,
    )
    initialise_folder(served, genesis)
    store = open_leveldb(served / DATABASE_NAME, create=False)
    chain = LocalChain(store, genesis=genesis, validators=VALIDATORS)
    for signed in setup:
        chain.produce([Candidate(one.raw, one.sender) for one in signed])
    store.close()
    shutil.copytree(served, new)
    store = open_leveldb(served / DATABASE_NAME, create=False)
    chain = LocalChain(store, genesis=genesis, validators=VALIDATORS)
    kind = replace(next(kind for kind in KINDS if kind.name == kind_name), transactions=TRANSACTIONS)
    for number in range(blocks):
        chain.produce([Candidate(one.raw, one.sender) for one in workload.block(kind, number)])
        if number % PROGRESS_BLOCKS == PROGRESS_BLOCKS - 1:
            print(f"{kind_name}: {number + 1} of {blocks} blocks made", file=sys.stderr, flush=True)
    store.close()
    return length


def catch_up(served: Path, new: Path, height: int) -> tuple[int, float]:
    """(blocks, seconds)."""
    port = free_port()
    address = Address("127.0.0.1", port, load_or_create_identity(DataFolder(served).node_key).peer_id)
    common = ("--rpc-port", "0", "--p2p-host", "127.0.0.1", "--json")
    helper = NodeProcess(
        served.with_suffix(".log"), "start", "--data-dir", str(served), "--p2p-port", str(port), *common
    )
    with helper:
        helper.await_ready()
        flags = ("--p2p-port", "0", "--bootnode", str(address))
        with NodeProcess(new.with_suffix(".log"), "start", "--data-dir", str(new), *flags, *common) as node:
            node.await_ready()
            started, behind = time.perf_counter(), height - node.height()
            await_that(
                lambda: node.height() == height,
                lambda: f"only {node.height()} of {height} blocks came:\n{node.said()}",
                PATIENCE_S,
            )
            seconds = time.perf_counter() - started
            heads = [each.call("eth_getBlockReceipts", hex(height))[0]["blockHash"] for each in (helper, node)]
            assert heads[0] == heads[1], heads
    return behind, seconds


def measure(kind: str, blocks: int, folder: Path) -> dict[str, float]:
    served, new = folder / f"{kind}-served", folder / f"{kind}-new"
    count, seconds = catch_up(served, new, make_chains(served, new, kind, blocks))
    return {
        "seconds": round(seconds, 2),
        "blocks_per_second": round(count / seconds, 1),
        "transactions_per_second": round(count * TRANSACTIONS / seconds),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=5_000)
    parser.add_argument("--output", type=Path, default=RESULTS / "block-sync.json")
    options = parser.parse_args()
    result: dict[str, object] = {
        **circumstances(1),
        "blocks": options.blocks,
        "transactions_a_block": TRANSACTIONS,
        "limit_blocks_per_second": LIMIT_BLOCKS_PER_S,
    }
    rates = []
    for kind in ("transfer", "erc20-transfer"):
        with tempfile.TemporaryDirectory(prefix="astralink-bench-") as folder:
            measured = measure(kind, options.blocks, Path(folder))
        print(kind, measured, flush=True)
        result[kind] = measured
        rates.append(measured["blocks_per_second"])
    write_result(options.output, result)
    return int(min(rates) < LIMIT_BLOCKS_PER_S)


if __name__ == "__main__":
    sys.exit(main())
