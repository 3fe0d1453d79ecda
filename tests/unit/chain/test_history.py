"""The history window, pruning, rollback, and the full check of a database that is whole or is not."""

import pytest

from astralink_node.chain.check import MAX_PROBLEMS, CheckResult, check_database
from astralink_node.chain.commits import HistoryWindow, prune_history, rollback_head
from astralink_node.chain.execution import ExecutionConfig
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import (
    AccountsAnswer,
    AccountsQuestion,
    AtHeight,
    BlockAnswer,
    BlockQuestion,
    BytesAnswer,
    HistoryUnavailable,
    Query,
    StorageQuestion,
)
from astralink_node.crypto.keccak import keccak256
from astralink_node.errors import UserError
from astralink_node.state.reverse_diffs import DiffMissing
from astralink_node.storage import keys
from astralink_node.storage.memory import MemoryStore
from tests.support.chains import COUNTER, LOGGER, LocalChain, candidate


def busy_chain(height: int, window: int | None) -> LocalChain:
    chain = LocalChain(config=ExecutionConfig(window=HistoryWindow(window)))
    for number in range(height):
        chain.produce(
            [
                candidate(0, number, value=1),
                candidate(1, number, to=COUNTER, gas=60_000),
                candidate(2, number, to=LOGGER, gas=60_000, data=number.to_bytes(32, "big")),
                candidate(3, number, to=b"", gas=200_000, data=deploying(number)),
            ]
        )
    return chain


def deploying(number: int) -> bytes:
    """Creation code of a contract whose code is one byte and whose slot 1 holds a number."""
    return bytes.fromhex("60") + bytes((number + 1,)) + bytes.fromhex("600155600160005360016000f3")


def count_at(chain: LocalChain, height: int) -> object:
    answer = chain.execution.query(Query(AtHeight(height), StorageQuestion(COUNTER, 0)))
    return int.from_bytes(answer.value, "big") if isinstance(answer, BytesAnswer) else answer


def entries(chain: LocalChain) -> dict[bytes, bytes]:
    return dict(chain.store.iterate(b"", b"\xff"))


def checked(chain: LocalChain) -> CheckResult:
    return check_database(chain.store, lambda *_: None)


def test_state_is_kept_within_the_window_and_unavailable_below_it() -> None:
    chain = busy_chain(10, window=3)
    assert [count_at(chain, height) for height in range(7, 11)] == [7, 8, 9, 10]
    assert count_at(chain, 6) == HistoryUnavailable(6, 7)
    assert count_at(chain, 0) == HistoryUnavailable(0, 7)
    old_block = chain.execution.query(Query(AtHeight(1), BlockQuestion()))
    assert isinstance(old_block, BlockAnswer)


def test_an_archive_keeps_everything() -> None:
    chain = busy_chain(10, window=None)
    assert [count_at(chain, height) for height in range(11)] == list(range(11))


def test_the_smallest_window_keeps_the_head_and_its_parent() -> None:
    chain = busy_chain(4, window=1)
    assert [count_at(chain, height) for height in (3, 4)] == [3, 4]
    assert count_at(chain, 2) == HistoryUnavailable(2, 3)
    with pytest.raises(UserError, match="at least 1"):
        HistoryWindow(0)


def test_a_window_made_smaller_is_reached_a_few_heights_at_a_time() -> None:
    chain = busy_chain(10, window=None)
    chain.config = ExecutionConfig(window=HistoryWindow(2))
    chain = chain.reopened()
    oldest = []
    for _ in range(10):
        chain.produce()
        oldest.append(Ledger(chain.store).oldest_state_height())
    assert oldest == [2, 4, 6, 8, 10, 12, 14, 16, 17, 18]


def test_pruning_leaves_no_diff_behind() -> None:
    chain = busy_chain(6, window=2)
    diffs = list(chain.store.iterate(*keys.prefix_range(keys.DIFFS)))
    assert {keys.decode_height(key[-8:]) for key, _ in diffs} == {5, 6}
    assert len(list(chain.store.iterate(*keys.prefix_range(keys.DIFF_LISTS)))) == 2
    writes, _ = prune_history(chain.store, 6, 10)
    chain.store.write(writes, sync=True)
    assert list(chain.store.iterate(*keys.prefix_range(keys.DIFFS))) == []
    assert checked(chain).problems == []


def test_pruning_by_hand_goes_on_until_done() -> None:
    chain = busy_chain(10, window=None)
    writes, more = prune_history(chain.store, 8, 5)
    assert more
    chain.store.write(writes, sync=True)
    assert count_at(chain, 5) == 5
    assert count_at(chain, 4) == HistoryUnavailable(4, 5)
    writes, more = prune_history(chain.store, 8, 5)
    assert not more
    chain.store.write(writes, sync=True)
    assert Ledger(chain.store).oldest_state_height() == 8
    assert prune_history(chain.store, 3, 5) == ({}, False)


def test_rolling_back_gives_the_database_of_before_byte_for_byte() -> None:
    chain = busy_chain(3, window=None)
    snapshots = []
    for number in range(3, 6):
        before = entries(chain)
        before.pop(keys.HEAD_TOUCHED_KEY)
        snapshots.append(before)
        chain.produce([candidate(1, number, to=COUNTER, gas=60_000), candidate(3, number, to=b"", gas=200_000)])
    for before in reversed(snapshots):
        chain.store.write(rollback_head(chain.store), sync=True)
        assert entries(chain) == before
        assert checked(chain).problems == []


def test_a_rolled_back_chain_goes_on_as_if_nothing_had_been() -> None:
    chain, straight = busy_chain(4, window=None), busy_chain(2, window=None)
    for _ in range(2):
        chain.store.write(rollback_head(chain.store), sync=True)
    chain = chain.reopened()
    assert chain.execution.status() == straight.execution.status()
    again = [candidate(0, 2), candidate(1, 2, to=COUNTER, gas=60_000)]
    assert chain.produce(again) == straight.produce(again)


def test_rolling_back_below_the_window_is_refused() -> None:
    chain = busy_chain(3, window=1)
    chain.store.write(rollback_head(chain.store), sync=True)
    with pytest.raises(DiffMissing):
        rollback_head(chain.store)


# --- The check -------------------------------------------------------------------------------------------------


def test_a_whole_database_has_no_problems() -> None:
    result = checked(busy_chain(5, window=2))
    assert result.problems == []
    assert (result.head_height, result.blocks, result.transactions) == (5, 6, 20)
    assert result.accounts > 10
    assert result.slots >= 2 + 5


@pytest.fixture(scope="module")
def whole() -> dict[bytes, bytes]:
    return entries(busy_chain(3, window=None))


def damaged(whole: dict[bytes, bytes], key: bytes, value: bytes | None) -> CheckResult:
    store = MemoryStore()
    store.write(whole, sync=True)
    store.write({key: value}, sync=True)
    return check_database(store, lambda *_: None)


COUNTER_HASH = keccak256(COUNTER)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        (keys.header_key(2), None, "header of block 2"),
        (keys.body_key(2), None, "body of block 2"),
        (keys.receipts_key(2), None, "receipts of block 2"),
        (keys.receipts_key(2), b"\xc0", "block 2: its receipts do not have the header's root"),
        (keys.payload_key(2), None, "payload of block 2"),
        (keys.certificate_key(2), None, "certificate of block 2"),
        (keys.certificate_key(2), b"\x01", "block 2: its certificate does not hold"),
        (keys.account_key(COUNTER_HASH), None, "is in the trie, but not among the flat entries"),
        (keys.account_key(bytes(32)), b"\x01", "is among the flat entries, but not in the trie"),
        (keys.account_key(b"\xff" * 32), b"\x01", "is among the flat entries, but not in the trie"),
        (
            keys.storage_key(COUNTER_HASH, keccak256(bytes(32))),
            b"\x63",
            "differs between the flat entries and the trie",
        ),
        (keys.storage_key(COUNTER_HASH, b"\xff" * 32), b"\x01", "is among the flat entries, but not in the trie"),
        (keys.storage_key(COUNTER_HASH, keccak256(bytes(32))), None, "is in the trie, but not among the flat entries"),
        (keys.code_key(keccak256(b"\xfe")), None, "the code of account"),
        (keys.code_key(keccak256(b"\xfe")), b"\xfd", "not what its hash says"),
        (keys.ACCOUNT_NODES, None, "the state at height 3"),
        (keys.ACCOUNT_NODES + b"0000", b"\x01", "stored trie nodes belong to no trie"),
        (keys.storage_nodes_prefix(COUNTER_HASH), b"\xc0", "trie node"),
        (keys.HEAD_KEY, None, "head pointer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damage_is_found_and_named(whole: dict[bytes, bytes], key: bytes, value: bytes | None, problem: str) -> None:
    problems = damaged(whole, key, value).problems
    assert any(problem in found for found in problems), problems


def test_every_account_and_node_matters(whole: dict[bytes, bytes]) -> None:
    for table in (keys.ACCOUNTS, keys.STORAGE, keys.ACCOUNT_NODES, keys.STORAGE_NODES):
        for key in [key for key in whole if key.startswith(table)]:
            assert damaged(whole, key, None).problems, key.hex()


def test_every_index_entry_matters(whole: dict[bytes, bytes]) -> None:
    for table in (keys.HEIGHTS, keys.TRANSACTIONS, keys.LOGS):
        for key in [key for key in whole if key.startswith(table)]:
            assert damaged(whole, key, None).problems, key.hex()


def test_problems_are_bounded() -> None:
    chain = busy_chain(15, window=None)
    for height in range(1, 16):
        chain.store.write({keys.receipts_key(height): b"\xc0", keys.certificate_key(height): b""}, sync=True)
    assert len(checked(chain).problems) == MAX_PROBLEMS + 1


def test_an_account_answer_of_history_is_what_it_was() -> None:
    chain = busy_chain(5, window=None)
    balances = []
    for height in range(6):
        answer = chain.execution.query(Query(AtHeight(height), AccountsQuestion((bytes(19) + b"\x77",))))
        assert isinstance(answer, AccountsAnswer)
        balances.append(answer.accounts[0].balance_wei)
    assert balances == list(range(6))
