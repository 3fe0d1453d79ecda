"""Random chains with inner calls and creations: the index is what call traces name, however it came about."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astralink_node.chain.commits import HistoryWindow, rollback_head
from astralink_node.chain.execution import ExecutionConfig
from astralink_node.chain.explorer_index import encode_creation
from astralink_node.chain.index_building import build_index
from astralink_node.chain.initialise import open_chain
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.records import encode_position
from astralink_node.evm.transactions import decode_transaction
from astralink_node.storage import keys
from genesis.dev_accounts import DEVNET_ACCOUNTS
from tests.support.chains import BURNER, COUNTER, LOGGER, REVERTER, LocalChain, candidate, genesis_text
from tests.support.explorer_contracts import (
    CREATION_CODES,
    DELEGATING,
    DELEGATOR,
    DESTROYER,
    EXPLORER_CONTRACTS,
    FORWARDER,
    MAKER,
    MAKER_2,
    STATIC_CALLER,
    UNDOER,
    traced_block,
    word,
)

# Hypothesis lowers Python's recursion limit around a test, execution raises it: that it stays raised is right.
pytestmark = pytest.mark.filterwarnings("ignore:The recursion limit will not be reset")

GENESIS = genesis_text(1, extra_alloc=EXPLORER_CONTRACTS)
TABLES = (keys.APPEARANCES, keys.CREATIONS, keys.SENDER_NONCES)
STRANGERS = (bytes(19) + b"\x77", bytes(19) + b"\x04", DEVNET_ACCOUNTS[5].address)

LEAVES = st.one_of(
    st.tuples(
        st.sampled_from([COUNTER, LOGGER, BURNER, REVERTER, DELEGATING, *STRANGERS]), st.sampled_from([b"", bytes(32)])
    ),
    st.tuples(st.sampled_from([MAKER, MAKER_2]), st.sampled_from(CREATION_CODES)),
    st.tuples(st.just(DESTROYER), st.sampled_from(STRANGERS).map(word)),
)
"""(whom to call, with what)."""


def through(carrier: bytes, inner: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    return carrier, word(inner[0]) + inner[1]


CALLS = st.recursive(
    LEAVES,
    lambda inner: st.builds(through, st.sampled_from([FORWARDER, DELEGATOR, STATIC_CALLER, UNDOER]), inner),
    max_leaves=4,
)
TRANSACTIONS = st.one_of(CALLS, st.sampled_from(CREATION_CODES[:4]).map(lambda code: (b"", code)))
CHAINS = st.lists(
    st.lists(st.tuples(st.integers(0, 2), TRANSACTIONS, st.sampled_from([0, 1])), max_size=4), min_size=1, max_size=4
)


def grown(blocks: list[list[tuple[int, tuple[bytes, bytes], int]]], *, indexed: bool) -> LocalChain:
    config = ExecutionConfig(window=HistoryWindow(None), explorer_index=indexed)
    chain = LocalChain(genesis=GENESIS, config=config)
    nonces = [0, 0, 0]
    for block in blocks:
        candidates = []
        for account, (to, data), value in block:
            options = {"to": to, "data": data, "value": value, "gas": 400_000}
            candidates.append(candidate(account, nonces[account], **options))
            nonces[account] += 1
        chain.produce(candidates)
    return chain


def entries(chain: LocalChain, *tables: bytes) -> dict[bytes, bytes]:
    return {key: value for table in tables for key, value in chain.store.iterate(*keys.prefix_range(table))}


def recomputed(chain: LocalChain, height: int) -> dict[bytes, bytes]:
    """The entries up to a height, from call traces and blocks alone."""
    found: dict[bytes, bytes] = {}
    genesis_hash = chain.execution.context.genesis_hash
    for number in range(1, height + 1):
        indices: dict[bytes, list[int]] = {}
        raw_transactions, senders = Ledger(chain.store).body(number)
        for index, traced in enumerate(traced_block(chain.store, chain.genesis, genesis_hash, number)):
            nonce = decode_transaction(raw_transactions[index]).nonce
            found[keys.sender_nonce_key(senders[index], nonce)] = encode_position(number, index)
            for address in traced.addresses:
                indices.setdefault(address, []).append(index)
            for address, creator in traced.creations.items():
                found[keys.creation_key(address)] = encode_creation(number, index, creator)
        found |= {keys.appearance_key(each, number): keys.encode_positions(where) for each, where in indices.items()}
    return found


@settings(max_examples=12)
@given(CHAINS)
def test_commits_later_builds_and_call_traces_agree(
    blocks: list[list[tuple[int, tuple[bytes, bytes], int]]],
) -> None:
    committed, later = grown(blocks, indexed=True), grown(blocks, indexed=False)
    assert build_index(later.store, open_chain(later.store), lambda *_: None) == len(blocks)
    everything = (*TABLES, keys.APPEARANCE_LISTS)
    assert entries(later, *everything) == entries(committed, *everything)
    assert entries(committed, *TABLES) == recomputed(committed, len(blocks))
    for height in reversed(range(len(blocks))):
        committed.store.write(rollback_head(committed.store), sync=True)
        assert entries(committed, *TABLES) == recomputed(committed, height)
