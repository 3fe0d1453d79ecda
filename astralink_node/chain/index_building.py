"""Building the explorer index of blocks that were committed without it: `db index`, while no node runs.

Gaps are filled from below, some blocks at a time. Entries and the coverage that counts them in are one synced batch,
so whoever is killed at any point has lost a batch of work at most and goes on from there: the coverage is the
position. Where the state before a block is kept the block is executed again and its internal calls are indexed; below,
its body and receipts must do.
"""

from collections.abc import Callable, Iterator

from astralink_node.chain.contexts import ChainRecords
from astralink_node.chain.errors import StateIncomplete
from astralink_node.chain.explorer_coverage import encode_coverage, extended, load_coverage, missing
from astralink_node.chain.explorer_index import IndexedBlock, block_entries, executed_block, outlined_block
from astralink_node.chain.initialise import OpenedChain
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.replay import BlockReplay, committed_block
from astralink_node.storage import keys
from astralink_node.storage.store import Reader, Store

BATCH_HEIGHTS = 256
BATCH_ENTRIES = 20_000
"""A batch ends with the first block that reaches either."""

Progress = Callable[[str, int, int], None]
"""(what is being done, how much is done, how much there is)."""


def missing_heights(reader: Reader) -> int:
    """How many blocks `build_index` would add."""
    return sum(last - first + 1 for first, last in missing(reader))


def build_index(store: Store, chain: OpenedChain, progress: Progress) -> int:
    """Fill every gap; returns how many blocks were added. Raises StateIncomplete during a snapshot's import."""
    if store.get(keys.IMPORT_KEY) is not None:
        raise StateIncomplete("the explorer index cannot be built while a snapshot is being imported")
    records = ChainRecords(chain.genesis, chain.genesis.chain_rules(), chain.genesis_hash, Ledger(store))
    oldest_state = records.ledger.oldest_state_height()
    total, done = missing_heights(store), 0
    for first, last in list(missing(store)):
        position = first
        while position <= last:
            position = _add_batch(store, records, position, last, oldest_state)
            progress("indexed blocks", done + position - first, total)
        done += last - first + 1
    return done


def _add_batch(store: Store, records: ChainRecords, first: int, last: int, oldest_state: int) -> int:
    """Index blocks from `first` on, in one synced batch; returns the height that comes next."""
    coverage = load_coverage(store)
    writes: dict[bytes, bytes | None] = {}
    for block in _blocks(store, records, first, last, oldest_state):
        writes.update(block_entries(block))
        coverage = extended(coverage, block.as_stretch)
        if len(writes) >= BATCH_ENTRIES or block.height - first + 1 >= BATCH_HEIGHTS:
            break
    writes[keys.EXPLORER_COVERAGE_KEY] = encode_coverage(coverage)
    store.write(writes, sync=True)
    return block.height + 1


def _blocks(reader: Reader, records: ChainRecords, first: int, last: int, oldest_state: int) -> Iterator[IndexedBlock]:
    for height in range(first, last + 1):
        # Executing a block takes the state that its parent left.
        if height > oldest_state:
            yield _executed_again(reader, records, height)
        else:
            yield outlined_block(records.ledger, height)


def _executed_again(reader: Reader, records: ChainRecords, height: int) -> IndexedBlock:
    if not records.ledger.body(height)[0]:
        return IndexedBlock(height, (), (), with_calls=True)
    replay = BlockReplay(reader, records, committed_block(records.ledger, height))
    replay.execution.collect_addresses()
    replay.start()
    replay.skip_to(len(replay.transactions))
    return executed_block(height, replay.transactions, replay.senders, tuple(replay.execution.appearances))
