"""How quickly a node that is far behind catches up by ranges of blocks: `python -m benchmarks.bench_block_sync`.

The node's driver and sync run here, its execution and that of the node that helps it are processes of their own, as
in a node; requests are carried in memory. Four validators, twenty transactions a block. Exits 1 below 10 blocks/s.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import trio

from astralink_node.chain.data_folder import DATABASE_NAME, initialise_folder
from astralink_node.chain.messages import Candidate, Committed
from astralink_node.config import BlocksConfig
from astralink_node.evm.blocks import decode_header
from astralink_node.services.block_sync import BlockSync
from astralink_node.services.consensus_driver import ChainSettings, ConsensusDriver
from astralink_node.services.consensus_log import ConsensusLog
from astralink_node.services.offload import in_thread
from astralink_node.services.peer_heads import PeerHeads
from astralink_node.services.proposer import Proposer
from astralink_node.services.snapshot_trust import JoiningRules
from astralink_node.services.sync_server import SyncServer
from astralink_node.storage.leveldb import open_leveldb
from benchmarks.report import RESULTS, circumstances, write_result
from benchmarks.workload import BALANCE_WEI, KINDS, SENDERS, Workload
from consensus.params import ConsensusParams
from genesis.schema import GenesisAccount
from p2p.memory_requests import MemoryRequests
from p2p.memory_transport import MemoryNetwork
from p2p.peer_id import PeerId
from tests.support.chains import LocalChain, genesis_text
from tests.support.execution_processes import ExecutionProcess, execution_process
from tests.support.lying_peers import Reports

VALIDATORS = 4
TRANSACTIONS = 20
LIMIT_BLOCKS_PER_S = 10
EPOCH = 100
HELPER, NODE = PeerId(b"helper"), PeerId(b"node")


class NoTransactions:
    """A follower proposes nothing."""

    def candidates(self, *, long_run: bool) -> tuple[Candidate, ...]:  # noqa: ARG002
        return ()

    async def wait_for_payable(self) -> None:
        await trio.sleep_forever()


def make_chain(folder: Path, kind_name: str, blocks: int) -> bytes:
    """The helper's database; returns the genesis file."""
    workload = Workload(accounts=SENDERS + 1, seed=1)
    holders = [workload.owner, *workload.senders]
    genesis = genesis_text(
        VALIDATORS,
        extra_alloc={holder.address: GenesisAccount(BALANCE_WEI, 0, b"", ()) for holder in holders},
        epoch_length=EPOCH,
    )
    initialise_folder(folder, genesis)
    store = open_leveldb(folder / DATABASE_NAME, create=False)
    chain = LocalChain(store, genesis=genesis, validators=VALIDATORS)
    for signed in workload.setup_blocks():
        chain.produce([Candidate(one.raw, one.sender) for one in signed])
    kind = replace(next(kind for kind in KINDS if kind.name == kind_name), transactions=TRANSACTIONS)
    for number in range(blocks):
        chain.produce([Candidate(one.raw, one.sender) for one in workload.block(kind, number)])
    store.close()
    return genesis


async def catch_up(helper: ExecutionProcess, node: ExecutionProcess, folder: Path) -> tuple[int, float]:
    """(blocks, seconds)."""
    network, heads, reports, params = MemoryRequests(), PeerHeads(), Reports(), ConsensusParams()
    SyncServer(helper.queries, network.join(HELPER))
    target, status = await helper.client.status(), await node.client.status()
    done = trio.Event()

    def on_committed(committed: Committed) -> None:
        if decode_header(committed.block.raw_header).number == target.head_height:
            done.set()

    def now_ms() -> int:
        return target.head_time_ms + 1000

    log = ConsensusLog(folder / "consensus")
    pool = NoTransactions()
    driver = ConsensusDriver(
        node.client,
        ChainSettings(status.genesis_hash, params, EPOCH),
        None,
        Proposer(node.client, pool, params, BlocksConfig(), now_ms, in_thread),  # type: ignore[arg-type]
        log,
        MemoryNetwork().join(NODE),
        now_ms,
        on_committed,
    )
    rules = JoiningRules(params, EPOCH)
    sync = BlockSync(network.join(NODE), node.client, driver.commit_decided, heads, rules, reports, now_ms, in_thread)
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        nursery.start_soon(sync.run)
        started = time.perf_counter()
        heads.note(HELPER, target.head_height)
        await done.wait()
        seconds = time.perf_counter() - started
        nursery.cancel_scope.cancel()
    log.close()
    assert not reports.noted
    assert await node.client.status() == target
    return target.head_height, seconds


async def measure(kinds: Sequence[str], blocks: int, folder: Path) -> dict[str, object]:
    result: dict[str, object] = {"blocks": blocks, "transactions_a_block": TRANSACTIONS}
    for kind in kinds:
        served, new = folder / f"{kind}-served", folder / f"{kind}-new"
        genesis = make_chain(served, kind, blocks)
        initialise_folder(new, genesis)
        async with execution_process(served) as helper, execution_process(new) as node:
            count, seconds = await catch_up(helper, node, new)
        result[kind] = {
            "seconds": round(seconds, 2),
            "blocks_per_second": round(count / seconds, 1),
            "transactions_per_second": round(blocks * TRANSACTIONS / seconds),
        }
        print(kind, result[kind])
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=1_000)
    parser.add_argument("--output", type=Path, default=RESULTS / "block-sync.json")
    options = parser.parse_args()
    about = circumstances(1)
    kinds = ("transfer", "erc20-transfer")
    with tempfile.TemporaryDirectory() as folder:
        result = trio.run(measure, kinds, options.blocks, Path(folder))
    write_result(options.output, {**about, **result, "limit_blocks_per_second": LIMIT_BLOCKS_PER_S})
    rates = [float(result[kind]["blocks_per_second"]) for kind in kinds]  # type: ignore[index]
    return int(min(rates) < LIMIT_BLOCKS_PER_S)


if __name__ == "__main__":
    sys.exit(main())
