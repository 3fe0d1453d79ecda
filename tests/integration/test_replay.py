"""Committed blocks executed again from history: everything that their headers say comes out the same."""

from astralink_node.chain.contexts import ChainRecords
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.replay import BlockReplay, committed_block
from astralink_node.evm.pipeline import check_executed
from astralink_node.state.commitment import commit_changes
from astralink_node.state.reverse_diffs import HistoricalReader
from astralink_node.storage.store import Store
from genesis.sealing import parse_genesis
from tests.support.chains import COUNTER, LOGGER, REVERTER, LocalChain, candidate
from tests.support.staking_chains import eventful_chain


def records_of(chain: LocalChain) -> ChainRecords:
    context = chain.execution.context
    return ChainRecords(parse_genesis(chain.genesis), context.rules, context.genesis_hash, Ledger(chain.store))


def check_replay(store: Store, records: ChainRecords, height: int) -> None:
    replay = BlockReplay(store, records, committed_block(records.ledger, height))
    replay.start()
    executed = replay.finish()
    check_executed(replay.header, executed)
    changes = replay.execution.overlay.changes()
    parent = records.ledger.header(height - 1)
    update = commit_changes(HistoricalReader(store, height - 1), parent.state_root, changes)
    assert update.state_root == replay.header.state_root, height
    stored = [receipt.raw_receipt for receipt in records.ledger.receipts(height)]
    assert list(executed.raw_receipts) == stored, height


def test_every_block_of_an_eventful_chain_with_staking_replays_to_its_header() -> None:
    """An election, evidence, a jailing and two epochs' ends: the protocol's own steps are part of the state."""
    chain = eventful_chain()
    records = records_of(chain)
    for height in range(1, chain.head_height + 1):
        check_replay(chain.store, records, height)


def test_every_block_of_a_chain_without_staking_replays_to_its_header() -> None:
    chain = LocalChain()
    for nonce in range(0, 12, 4):
        chain.produce(
            [
                candidate(0, nonce, to=COUNTER, value=0, gas=100_000),
                candidate(0, nonce + 1, to=LOGGER, value=0, gas=100_000, data=b"\x07" * 32),
                candidate(0, nonce + 2, to=REVERTER, value=0, gas=100_000),
                candidate(0, nonce + 3),
            ]
        )
    records = records_of(chain)
    for height in range(1, 4):
        check_replay(chain.store, records, height)
