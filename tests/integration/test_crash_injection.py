"""A crash at every write and every sync of a chain's life leaves a committed block with the right state.

The life is: genesis, blocks with transfers, calls, logs and deployments, pruning, a rollback, a prune by hand. It
runs once undisturbed, and then once for each write with the process ending before it, with the process ending
after it, with the power failing, and with the disk being full. What is left is opened like any other database,
checked from end to end, and must go on to the very same blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from astralink_node.chain.check import check_database
from astralink_node.chain.commits import HistoryWindow, prune_history, rollback_head
from astralink_node.chain.errors import NotInitialised
from astralink_node.chain.execution import Execution, ExecutionConfig
from astralink_node.chain.initialise import initialise, open_chain
from astralink_node.chain.messages import Candidate
from astralink_node.storage.store import DiskFull, StoreFailed
from tests.support.chains import CONTRACTS, COUNTER, LOGGER, LocalChain, candidate, genesis_text
from tests.support.faulty_store import Crashed, Disk, Fault, FaultyStore

HEIGHTS = 6
WINDOW = 2
CONFIG = ExecutionConfig(window=HistoryWindow(WINDOW))
GENESIS = genesis_text(1, extra_alloc=CONTRACTS)


def candidates_at(height: int) -> list[Candidate]:
    nonce = height - 1
    return [
        candidate(0, nonce, value=height),
        candidate(1, nonce, to=COUNTER, gas=60_000),
        candidate(2, nonce, to=LOGGER, gas=60_000, data=height.to_bytes(32, "big")),
        candidate(3, nonce, to=b"", gas=200_000, data=bytes.fromhex("600160015560005360016000f3")),
    ]


@dataclass
class Life:
    """What happened until the fault."""

    committed: dict[int, bytes] = field(default_factory=dict)
    """The hashes that Commit reported."""
    kept: int = 0
    """The height below which the head may not fall."""


def produce_to(chain: LocalChain, height: int, life: Life) -> None:
    while (number := chain.execution.context.height) <= height:
        life.committed[number] = chain.produce(candidates_at(number)).block.block_hash
        life.kept = number


def live(store: FaultyStore, life: Life) -> None:
    chain = LocalChain(store, genesis=GENESIS, config=CONFIG)
    produce_to(chain, HEIGHTS, life)
    life.kept = HEIGHTS - 1
    store.write(rollback_head(store), sync=True)
    del life.committed[HEIGHTS]
    chain = LocalChain(store, genesis=GENESIS, config=CONFIG)
    produce_to(chain, HEIGHTS, life)
    writes, _ = prune_history(store, HEIGHTS, 1)
    store.write(writes, sync=True)


def undisturbed() -> tuple[Life, FaultyStore]:
    life, store = Life(), FaultyStore(Disk())
    live(store, life)
    return life, store


REFERENCE, REFERENCE_STORE = undisturbed()
WRITES = REFERENCE_STORE.writes


def run_into(fault: Fault, at_write: int) -> tuple[Life, Disk]:
    life, disk = Life(), Disk()
    with pytest.raises((Crashed, DiskFull)):
        live(FaultyStore(disk, fault, at_write), life)
    return life, disk


def check_survivor(disk: Disk, life: Life) -> None:
    """The head is the last block that was reported, or the one being committed when the fault struck."""
    store = FaultyStore(disk)
    try:
        head = open_chain(store).head
    except NotInitialised:
        assert life.committed == {}
        initialise(store, GENESIS)
        head = open_chain(store).head
    assert life.kept <= head.height <= max(life.committed, default=0) + 1
    if head.height:
        assert head.block_hash == REFERENCE.committed[head.height]
    problems = check_database(store, lambda *_: None).problems
    assert problems == []
    chain = LocalChain(store, genesis=GENESIS, config=CONFIG)
    again = Life()
    produce_to(chain, HEIGHTS, again)
    assert again.committed.items() <= REFERENCE.committed.items()


def test_the_life_writes_once_for_genesis_once_a_block_and_once_for_each_command() -> None:
    assert WRITES == 1 + HEIGHTS + 1 + 1 + 1
    assert REFERENCE_STORE.disk.unsynced() == 0


@pytest.mark.parametrize("at_write", range(1, WRITES + 1))
@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER], ids=lambda fault: fault.name)
@pytest.mark.parametrize(
    "left", [Disk.after_process_end, Disk.after_power_failure], ids=["process ends", "power fails"]
)
def test_a_crash_at_a_write_loses_no_committed_block(fault: Fault, at_write: int, left: Callable[[Disk], Disk]) -> None:
    life, disk = run_into(fault, at_write)
    check_survivor(left(disk), life)


@pytest.mark.parametrize("at_write", range(1, WRITES + 1))
def test_a_full_disk_at_a_write_loses_no_committed_block(at_write: int) -> None:
    life, disk = run_into(Fault.DISK_FULL, at_write)
    check_survivor(disk.after_power_failure(), life)


def test_after_a_full_disk_nothing_more_is_committed_until_the_store_is_opened_again() -> None:
    disk = Disk()
    chain = LocalChain(FaultyStore(disk, Fault.DISK_FULL, 3), genesis=GENESIS, config=CONFIG)
    chain.produce(candidates_at(1))
    built = chain.build(candidates_at(2))
    with pytest.raises(DiskFull):
        chain.commit(built.block_hash)
    with pytest.raises(StoreFailed):
        chain.commit(built.block_hash)
    assert chain.execution.status().head_height == 1
    again = LocalChain(FaultyStore(disk), genesis=GENESIS, config=CONFIG)
    assert again.produce(candidates_at(2)).block.block_hash == built.block_hash


def test_building_validating_and_asking_write_nothing() -> None:
    store = FaultyStore(Disk())
    chain = LocalChain(store, genesis=GENESIS, config=CONFIG)
    before = store.writes
    built = chain.build(candidates_at(1))
    assert isinstance(chain.execution, Execution)
    chain.execution.status()
    assert store.writes == before
    chain.commit(built.block_hash)
    assert store.writes == before + 1
