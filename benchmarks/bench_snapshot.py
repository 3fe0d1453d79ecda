"""How long a new node takes to import a state of 200,000 accounts: `python -m benchmarks.bench_snapshot`.

Serving, carrying (in memory), verifying and importing happen in this one process, on LevelDB folders of their own,
while the serving chain commits a block after every tenth chunk. Exits 1 above a minute.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import trio

from astralink_node.chain.check import check_database
from astralink_node.chain.client import InProcessExecution
from astralink_node.chain.execution import Execution, ExecutionConfig
from astralink_node.chain.initialise import initialise
from astralink_node.chain.messages import Status
from astralink_node.services.offload import in_thread
from astralink_node.services.snapshot_sync import SnapshotSync
from astralink_node.services.snapshot_trust import JoiningRules
from astralink_node.services.sync_protocols import CHUNK
from astralink_node.storage.leveldb import open_leveldb
from astralink_node.types import Address
from benchmarks.report import RESULTS, circumstances, write_result
from consensus.params import ConsensusParams
from genesis.schema import GenesisAccount
from p2p.peer_id import PeerId
from tests.support.chains import CONTRACTS, GENESIS_TIMESTAMP, LocalChain, candidate, genesis_text
from tests.support.lying_peers import Helpers, Reports

ACCOUNTS = 200_000
LIMIT_S = 60.0
EPOCH = 10
VALIDATORS = 4
CONTRACTS_WITH_SLOTS = 500
SLOTS = 20
LARGE_CONTRACT_SLOTS = 20_000
CHUNKS_A_BLOCK = 10


def genesis_of(accounts: int) -> bytes:
    """One in four hundred accounts is a contract of twenty slots, and one contract has twenty thousand."""
    alloc = {Address((1 << 80 | number).to_bytes(20, "big")): _account(number) for number in range(accounts)}
    alloc[Address(b"\xee" * 20)] = GenesisAccount(0, 1, b"\x00", tuple((i, i + 1) for i in range(LARGE_CONTRACT_SLOTS)))
    return genesis_text(VALIDATORS, extra_alloc={**CONTRACTS, **alloc}, epoch_length=EPOCH)


def _account(number: int) -> GenesisAccount:
    if number < CONTRACTS_WITH_SLOTS:
        return GenesisAccount(
            number, 1, b"\x60" * (50 + number % 7), tuple((slot, number + 1) for slot in range(SLOTS))
        )
    return GenesisAccount(10**18 + number, 0, b"", ())


class AdvancingChain(LocalChain):
    nonce = 0

    def advance(self) -> None:
        self.produce(
            [candidate(0, self.nonce + at, to=(1 << 80 | self.nonce + at).to_bytes(20, "big")) for at in range(20)]
        )
        self.nonce += 20


def measure(accounts: int, folder: Path) -> dict[str, object]:
    started = time.perf_counter()
    source = AdvancingChain(
        open_leveldb(folder / "source", create=True), genesis=genesis_of(accounts), validators=VALIDATORS
    )
    for _ in range(2 * EPOCH + 2):
        source.advance()
    print(f"the serving chain is there after {time.perf_counter() - started:.1f} s")
    store = open_leveldb(folder / "newcomer", create=True)
    initialise(store, source.genesis)
    newcomer = Execution.open(store, ExecutionConfig(), now_ns=time.monotonic_ns)
    helpers = Helpers(source)
    sizes: list[int] = []
    blocks_at_start = helpers.head

    def note(_: bytes, honest: bytes) -> bytes:
        sizes.append(len(honest))
        # The two latest epochs are served: moving on by one more would end this snapshot.
        if len(sizes) % CHUNKS_A_BLOCK == 0 and helpers.head < blocks_at_start + EPOCH - 4:
            source.advance()
        return honest

    for name in ("one", "two"):
        helpers.join(name, protocol=CHUNK, change=note)
    reports = Reports()
    sync = SnapshotSync(
        helpers.network.join(PeerId(b"newcomer")),
        InProcessExecution(newcomer),
        helpers.heads,
        JoiningRules(ConsensusParams(), EPOCH),
        reports,
        lambda: 1000 * GENESIS_TIMESTAMP + 3_600_000,
        in_thread,
    )
    started, cpu = time.perf_counter(), time.process_time()
    status: Status = trio.run(sync.run)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    problems = check_database(store, lambda *_: None).problems
    assert not problems, problems
    assert not reports.noted
    meanwhile = helpers.head - blocks_at_start
    store.close()
    source.store.close()
    return {
        "accounts": accounts,
        "slots": CONTRACTS_WITH_SLOTS * SLOTS + LARGE_CONTRACT_SLOTS,
        "seconds": round(seconds, 2),
        "cpu_seconds_serving_and_importing": round(cpu_seconds, 2),
        "chunks": len(sizes),
        "chunk_bytes": sum(sizes),
        "snapshot_height": status.head_height,
        "blocks_committed_by_the_server_meanwhile": meanwhile,
        "limit_seconds": LIMIT_S,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--output", type=Path, default=RESULTS / "snapshot.json")
    options = parser.parse_args()
    about = circumstances(0)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options.accounts, Path(folder))
    write_result(options.output, {**about, **result})
    for name, value in result.items():
        print(f"{name:45} {value}")
    return int(float(str(result["seconds"])) > LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
