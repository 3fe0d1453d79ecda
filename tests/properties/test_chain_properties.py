"""Chains of random blocks: two nodes on different stores stay equal, and history is what was."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astralink_node.chain.check import check_database
from astralink_node.chain.commits import HistoryWindow, rollback_head
from astralink_node.chain.execution import ExecutionConfig
from astralink_node.chain.messages import (
    AccountsAnswer,
    AccountsQuestion,
    AtHeight,
    Candidate,
    FeePreference,
    GetStatus,
    Query,
)
from astralink_node.storage.leveldb import open_leveldb
from genesis.dev_accounts import DEVNET_ACCOUNTS
from tests.support.chains import BURNER, COUNTER, GWEI, LOGGER, REVERTER, LocalChain, candidate

# Hypothesis lowers Python's recursion limit around a test, execution raises it: that it stays raised is right.
pytestmark = pytest.mark.filterwarnings("ignore:The recursion limit will not be reset")

ACCOUNTS = 4
TARGETS = (COUNTER, LOGGER, BURNER, REVERTER, bytes(19) + b"\x77", DEVNET_ACCOUNTS[3].address, b"")

TRANSACTIONS = st.builds(
    dict,
    account=st.integers(0, ACCOUNTS - 1),
    nonce_offset=st.sampled_from([0, 0, 0, 0, 1, -1]),
    to=st.sampled_from(TARGETS),
    value=st.sampled_from([0, 0, 1, 10**18, 10**24]),
    gas=st.sampled_from([21_000, 60_000, 200_000, 20_999]),
    data=st.sampled_from([b"", bytes(32), b"\x01" * 40, bytes.fromhex("600160015560005360016000f3")]),
    max_fee=st.sampled_from([10 * GWEI, GWEI, GWEI // 2]),
    tip=st.sampled_from([0, GWEI, GWEI // 2]),
)
BLOCKS = st.lists(
    st.tuples(
        st.lists(TRANSACTIONS, max_size=6),
        st.integers(0, 3),  # round
        st.integers(0, 5_000),  # time since the parent
        st.none() | st.builds(FeePreference, st.integers(0, 2**26), st.integers(0, 8), st.integers(0, 10**12)),
    ),
    min_size=1,
    max_size=5,
)


def signed(transactions: list[dict[str, object]], nonces: list[int]) -> list[Candidate]:
    """Candidates whose nonces mostly follow one another; `nonces` are the accounts' own, and move along."""
    candidates = []
    for fields in transactions:
        options = dict(fields)
        account = options.pop("account")
        offset = options.pop("nonce_offset")
        assert isinstance(account, int)
        assert isinstance(offset, int)
        if options["tip"] > options["max_fee"]:  # type: ignore[operator]
            options["tip"] = 0
        candidates.append(candidate(account, max(0, nonces[account] + offset), **options))  # type: ignore[arg-type]
        if offset == 0:
            nonces[account] += 1
    return candidates


def account_nonces(chain: LocalChain) -> list[int]:
    question = AccountsQuestion(tuple(owner.address for owner in DEVNET_ACCOUNTS[:ACCOUNTS]))
    answer = chain.execution.query(Query(AtHeight(chain.execution.context.parent.number), question))
    assert isinstance(answer, AccountsAnswer)
    return [account.nonce for account in answer.accounts]


@settings(max_examples=25)
@given(blocks=BLOCKS)
def test_two_nodes_on_different_stores_stay_equal_and_whole(blocks: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_leveldb(Path(folder) / "chain", create=True)
        try:
            config = ExecutionConfig(window=HistoryWindow(2))
            proposer, follower = LocalChain(validators=2, config=config), LocalChain(store, validators=2)
            for transactions, round_, interval_ms, preference in blocks:
                candidates = signed(transactions, account_nonces(proposer))  # type: ignore[arg-type]
                time_ms = proposer.execution.status().head_time_ms + interval_ms  # type: ignore[operator]
                built = proposer.build(candidates, round_=round_, time_ms=time_ms, fee_preference=preference)
                assert built.included <= len(candidates)
                certificate = proposer.certificate(built.block_hash)
                assert proposer.commit(built.block_hash) == follower.follow(built, certificate)
                assert proposer.execution.handle(GetStatus()) == follower.execution.handle(GetStatus())
            assert check_database(proposer.store, lambda *_: None).problems == []
            assert check_database(follower.store, lambda *_: None).problems == []
        finally:
            store.close()


@settings(max_examples=15)
@given(blocks=BLOCKS, undone=st.integers(1, 5))
def test_rolling_back_and_going_on_leads_to_the_same_chain(blocks: list[tuple[object, ...]], undone: int) -> None:
    chain = LocalChain()
    contents, certificates = [], []
    for transactions, _, _, _ in blocks:
        contents.append(chain.build(signed(transactions, account_nonces(chain))))  # type: ignore[arg-type]
        certificates.append(chain.certificate(contents[-1].block_hash))
        chain.commit(contents[-1].block_hash)
    end = chain.execution.status()
    state = dict(chain.store.iterate(b"", b"\xff"))
    undone = min(undone, len(blocks))
    for _ in range(undone):
        chain.store.write(rollback_head(chain.store), sync=True)
    chain = chain.reopened()
    for built, certificate in zip(contents[-undone:], certificates[-undone:], strict=True):
        chain.follow(built, certificate)
    assert chain.execution.status() == end
    assert dict(chain.store.iterate(b"", b"\xff")) == state
