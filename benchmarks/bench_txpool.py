"""A hundred thousand transactions from ten thousand senders come in while a node makes a full block a second.

    python -m benchmarks.bench_txpool [--senders 10000] [--each 10] [--shuffled]     (`make bench-txpool`)

A lone validator's node, its own processes and its own gateway, fed by eth_sendRawTransaction in batches over several
connections until everything is in. Blocks are full of transfers with and without the feeding, in one run. Exits 1 if
blocks come more than a tenth slower while it goes on, or if anything is refused. Beside it, in this process: the pool
alone, and decoding, recovery and admission on one core against what eth-account makes of the same transactions.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

from eth_account import Account as EthAccount

from astralink_node.evm.fork_rules import OSAKA
from astralink_node.evm.transactions import decode_transaction, recover_sender
from astralink_node.txpool.admission import AccountView, ChainView
from astralink_node.txpool.pool import Pool, PoolLimits
from benchmarks.report import RESULTS, circumstances, write_result
from benchmarks.txpool_load import LoadFailed, Measured, Phase, measure, signed_transfers
from benchmarks.workload import BALANCE_WEI, CHAIN_ID, GWEI, Account, SignedTransaction
from tests.support.node_process import NodeFailed

MAX_SLOWDOWN: Final = 0.10
IDLE_BLOCKS: Final = 15
"""Full ones without load, before and after."""
FILLING_SENDERS: Final = 2000
FILLING_EACH: Final = 14
REFERENCE_TRANSACTIONS: Final = 2000
"""That eth-account is given: it does some hundreds a second."""


def main() -> int:
    arguments = _arguments()
    accounts = [Account.numbered(1 + number) for number in range(FILLING_SENDERS + arguments.senders)]
    filling = list(signed_transfers(accounts[:FILLING_SENDERS], FILLING_EACH))
    # Their first ones come last, so that blocks stay empty until the pool is full enough.
    filling = filling[FILLING_SENDERS:] + filling[:FILLING_SENDERS]
    load = list(signed_transfers(accounts[FILLING_SENDERS:], arguments.each))
    if arguments.shuffled:
        random.Random(arguments.seed).shuffle(load)
    os.environ |= {"ASTRALINK_TXPOOL_MAX_QUEUED": str(len(load) + len(filling))}
    alone = _alone(load)
    with tempfile.TemporaryDirectory(prefix="astralink-bench-") as folder:
        try:
            measured = measure(Path(folder) / "net", filling, load, IDLE_BLOCKS)
        except (LoadFailed, NodeFailed) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    result = {**circumstances(arguments.seed), **_summary(measured), **alone}
    write_result(arguments.output, result)
    _print(result)
    failed = bool(measured.admission.refused) or _slowdown(measured) > MAX_SLOWDOWN
    return 1 if failed else 0


def _alone(load: Sequence[SignedTransaction]) -> dict[str, object]:
    """In this process, on one core; processor time, since other programs share it."""
    chain = ChainView(CHAIN_ID, OSAKA, 30_000_000, GWEI, 1)
    limits, account = PoolLimits(max_queued=len(load)), AccountView(0, BALANCE_WEI, has_code=False)
    decoded = [(decode_transaction(transfer.raw), transfer.sender) for transfer in load]
    pool = Pool(limits, chain)
    gc.collect()
    began = time.process_time()
    for transaction, sender in decoded:
        pool.add(transaction, sender, account, now_ms=0)
    pool_rate = len(load) / (time.process_time() - began)
    if len(pool) != len(load):
        raise LoadFailed(f"the pool took {len(pool)} of {len(load)}")
    began = time.process_time()
    offered = pool.offer(max_count=1428, max_bytes=8 << 20)
    offer_ms = (time.process_time() - began) * 1000
    del pool, decoded
    some = load[:REFERENCE_TRANSACTIONS]
    pool = Pool(limits, chain)
    began = time.process_time()
    for transfer in some:
        transaction = decode_transaction(transfer.raw)
        pool.add(transaction, recover_sender(transaction), account, now_ms=0)
    own_rate = len(some) / (time.process_time() - began)
    began = time.process_time()
    for transfer in some:
        EthAccount.recover_transaction(transfer.raw)
    reference_rate = len(some) / (time.process_time() - began)
    tracemalloc.start()
    pool = Pool(limits, chain)
    for transfer in some:
        pool.add(decode_transaction(bytes(bytearray(transfer.raw))), transfer.sender, account, now_ms=0)
    bytes_each = tracemalloc.get_traced_memory()[0] / len(some)
    tracemalloc.stop()
    return {
        "pool_alone_per_cpu_second": round(pool_rate),
        "offer_of_1428_cpu_ms": round(offer_ms, 2),
        "offered": len(offered.transactions),
        "decode_recover_admit_per_cpu_second": round(own_rate),
        "eth_account_recover_per_cpu_second": round(reference_rate),
        "ratio_to_eth_account": round(own_rate / reference_rate, 2),
        "bytes_per_pooled_transfer": round(bytes_each),
    }


def _slowdown(measured: Measured) -> float:
    """How much longer a full block's interval is on average while transactions are admitted."""
    idle = [interval for phase in measured.phases if phase.name != "while admitting" for interval in phase.interval_ms]
    loaded = [
        interval for phase in measured.phases if phase.name == "while admitting" for interval in phase.interval_ms
    ]
    return (sum(loaded) / len(loaded)) / (sum(idle) / len(idle)) - 1


def _summary(measured: Measured) -> dict[str, object]:
    admission = measured.admission
    before, after = measured.node_memory_bytes
    return {
        "offered_transactions": admission.accepted + len(admission.refused),
        "accepted": admission.accepted,
        "refused": len(admission.refused),
        "first_refusal": admission.refused[0] if admission.refused else "",
        "admission_seconds": round(admission.seconds, 2),
        "admitted_per_second": round(admission.accepted / admission.seconds),
        "most_pooled": admission.most_pooled,
        "transfers_in_a_full_block": measured.block_transfers,
        "node_memory_mib": {"before": before >> 20, "when_all_was_in": after >> 20},
        "slowdown_of_blocks": round(_slowdown(measured), 4),
        "slowdown_limit": MAX_SLOWDOWN,
        "phases": [_of_phase(phase) for phase in measured.phases],
    }


def _of_phase(phase: Phase) -> dict[str, object]:
    return {
        "name": phase.name,
        "full_blocks": phase.blocks,
        "blocks_per_minute": phase.blocks_per_minute,
        "interval_ms": _spread(phase.interval_ms),
        "build_to_commit_ms": _spread(phase.commit_ms),
        "node_event_loop_ms": _spread(phase.loop_ms),
        "samples_interval_ms": phase.interval_ms,
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    if not ordered:
        return {}
    return {
        "p50": round(median(ordered), 1),
        "p99": round(ordered[-(-len(ordered) * 99 // 100) - 1], 1),
        "max": round(ordered[-1], 1),
    }


def _print(result: dict[str, object]) -> None:
    for name, value in result.items():
        if name == "phases" and isinstance(value, list):
            for phase in value:
                print(
                    f"  {phase['name']}: {phase['full_blocks']} full blocks, {phase['blocks_per_minute']} a minute, "
                    f"interval {phase['interval_ms']}, build to commit {phase['build_to_commit_ms']}, "
                    f"event loop {phase['node_event_loop_ms']}"
                )
        elif name not in {"machine", "date", "command", "commit"}:
            print(f"{name}: {value}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="admission of many transactions beside block production")
    parser.add_argument("--senders", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=10, help="transactions of each")
    parser.add_argument("--shuffled", action="store_true", help="in no order, so that most wait for an earlier nonce")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS / "txpool.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
