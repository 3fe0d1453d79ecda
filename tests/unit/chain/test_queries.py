"""Queries: what they answer at every place of the chain, within bounds of size, gas and time."""

from collections.abc import Callable
from typing import Any

import pytest

from astralink_node.chain.call_messages import (
    AccessListAnswer,
    AccessListQuestion,
    BlockOverride,
    CallAnswer,
    CallFailed,
    CallQuestion,
    CallRequest,
    EstimateGasQuestion,
    GasAnswer,
    StateOverride,
)
from astralink_node.chain.execution import ExecutionConfig
from astralink_node.chain.log_loading import LOGS_PER_LOOK
from astralink_node.chain.messages import (
    AccountRecord,
    AccountsAnswer,
    AccountsQuestion,
    Answer,
    AtHash,
    AtHeight,
    AtLatest,
    AtPending,
    BlockAnswer,
    BlockQuestion,
    BlockSelector,
    BytesAnswer,
    CodeQuestion,
    FeeHistoryAnswer,
    FeeHistoryQuestion,
    GetStatus,
    LimitExceeded,
    LogsAnswer,
    LogsQuestion,
    NotFound,
    ProofAnswer,
    ProofQuestion,
    Query,
    Question,
    ReceiptsAnswer,
    ReceiptsQuestion,
    StorageQuestion,
    TransactionAnswer,
    TransactionQuestion,
)
from astralink_node.chain.query_limits import QueryLimits
from astralink_node.chain.simulate_messages import BlockCalls, SimulateAnswer, SimulateQuestion
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.blocks import decode_header, decode_receipt
from astralink_node.types import EMPTY_CODE_HASH, EMPTY_TRIE_ROOT, ZERO_ADDRESS
from genesis.dev_accounts import DEVNET_ACCOUNTS
from genesis.devnet_terms import DEVNET_BALANCE_WEI
from tests.support.chains import BURNER, COUNTER, EMITTER, GWEI, LOGGER, LOOPER, REVERTER, LocalChain, candidate

RECIPIENT = bytes(19) + b"\x77"


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def request(to: bytes, *, sender: bytes = DEVNET_ACCOUNTS[9].address, **changes: Any) -> CallRequest:
    fields: dict[str, Any] = {
        "gas": None,
        "gas_price_wei": None,
        "max_fee_wei": None,
        "max_priority_fee_wei": None,
        "value_wei": 0,
        "data": b"",
        "access_list": (),
        "authorizations": None,
    }
    return CallRequest(sender=sender, to=to, **{**fields, **changes})


@pytest.fixture(scope="module")
def chain() -> LocalChain:
    """Four blocks: at height h, one transfer of h wei, one count, and logs with topics h and 100."""
    chain = LocalChain()
    for height in range(1, 5):
        chain.produce(
            [
                candidate(0, height - 1, value=height, tip=height * GWEI),
                candidate(1, height - 1, to=COUNTER, gas=60_000, tip=3 * GWEI),
                candidate(2, 2 * height - 2, to=LOGGER, gas=60_000, data=word(height)),
                candidate(2, 2 * height - 1, to=LOGGER, gas=60_000, data=word(100)),
            ]
        )
    return chain


def ask(chain: LocalChain, question: Question, at: BlockSelector | None = None) -> Answer:
    return chain.execution.query(Query(AtLatest() if at is None else at, question))


def test_accounts_are_read_at_every_height(chain: LocalChain) -> None:
    for height, expected in enumerate((0, 1, 3, 6, 10)):
        answer = ask(chain, AccountsQuestion((RECIPIENT,)), AtHeight(height))
        assert isinstance(answer, AccountsAnswer)
        assert answer.accounts[0].balance_wei == expected


def test_accounts_come_in_the_order_asked_and_absent_ones_are_empty(chain: LocalChain) -> None:
    answer = ask(chain, AccountsQuestion((b"\x99" * 20, COUNTER, DEVNET_ACCOUNTS[0].address)))
    assert isinstance(answer, AccountsAnswer)
    absent, counter, sender = answer.accounts
    assert absent == AccountRecord(0, 0, EMPTY_CODE_HASH, EMPTY_TRIE_ROOT)
    assert (counter.nonce, counter.storage_root != EMPTY_TRIE_ROOT) == (1, True)
    assert sender.nonce == 4


def test_code_and_storage_are_read_at_every_height(chain: LocalChain) -> None:
    assert ask(chain, CodeQuestion(BURNER)) == BytesAnswer(b"\xfe")
    assert ask(chain, CodeQuestion(RECIPIENT)) == BytesAnswer(b"")
    for height in range(5):
        assert ask(chain, StorageQuestion(COUNTER, 0), AtHeight(height)) == BytesAnswer(word(height))
    assert ask(chain, StorageQuestion(COUNTER, 7)) == BytesAnswer(word(70))


def test_a_block_is_found_by_height_by_hash_and_as_the_latest(chain: LocalChain) -> None:
    latest = ask(chain, BlockQuestion())
    assert isinstance(latest, BlockAnswer)
    assert ask(chain, BlockQuestion(), AtHeight(4)) == latest
    assert ask(chain, BlockQuestion(), AtHash(latest.block.block_hash)) == latest
    assert decode_header(latest.block.raw_header).number == 4
    genesis = ask(chain, BlockQuestion(), AtHeight(0))
    assert isinstance(genesis, BlockAnswer)
    assert genesis.block.block_hash == chain.execution.context.genesis_hash


@pytest.mark.parametrize("at", [AtHeight(5), AtHeight(-1), AtHash(bytes(32)), AtPending()], ids=repr)
def test_a_block_that_is_not_there_is_not_found(chain: LocalChain, at: BlockSelector) -> None:
    assert isinstance(ask(chain, BlockQuestion(), at), NotFound)
    assert isinstance(ask(chain, ReceiptsQuestion(), at), NotFound)


@pytest.mark.parametrize("at", [AtHeight(5), AtHeight(-1), AtHash(bytes(32))], ids=repr)
def test_state_of_a_block_that_is_not_there_is_not_found(chain: LocalChain, at: BlockSelector) -> None:
    assert isinstance(ask(chain, AccountsQuestion((RECIPIENT,)), at), NotFound)


def test_receipts_of_a_block(chain: LocalChain) -> None:
    answer = ask(chain, ReceiptsQuestion(), AtHeight(2))
    assert isinstance(answer, ReceiptsAnswer)
    assert [receipt.first_log_index for receipt in answer.receipts] == [0, 0, 0, 1]
    assert sum(receipt.gas_used for receipt in answer.receipts) == decode_header(answer.block.raw_header).gas_used


def test_a_transaction_is_found_by_its_hash(chain: LocalChain) -> None:
    raw = candidate(2, 3, to=LOGGER, gas=60_000, data=word(100)).raw_transaction
    answer = ask(chain, TransactionQuestion(keccak256(raw)), AtPending())
    assert isinstance(answer, TransactionAnswer)
    assert (answer.transaction.index, answer.transaction.raw_transaction) == (3, raw)
    assert answer.transaction.sender == DEVNET_ACCOUNTS[2].address
    assert decode_header(answer.transaction.raw_header).number == 2
    assert decode_receipt(answer.receipt.raw_receipt).logs[0].topics == (word(100),)
    assert isinstance(ask(chain, TransactionQuestion(bytes(32))), NotFound)


# --- Logs ------------------------------------------------------------------------------------------------------


def logs(chain: LocalChain, first: int, last: int, addresses: Any = (), topics: Any = ()) -> list[tuple[int, int, int]]:
    answer = ask(chain, LogsQuestion(first, last, tuple(addresses), tuple(topics)))
    assert isinstance(answer, LogsAnswer), answer
    return [(log.height, log.log_index, int.from_bytes(log.topics[0], "big")) for log in answer.logs]


def test_logs_come_in_chain_order_with_their_places(chain: LocalChain) -> None:
    expected = [(height, index, topic) for height in range(1, 5) for index, topic in ((0, height), (1, 100))]
    assert logs(chain, 0, 4) == expected
    assert logs(chain, 0, 4, [LOGGER]) == expected
    assert logs(chain, 0, 1_000, [LOGGER, COUNTER]) == expected
    answer = ask(chain, LogsQuestion(3, 3, (), ((word(100),),)))
    assert isinstance(answer, LogsAnswer)
    (log,) = answer.logs
    assert (log.transaction_index, log.address, log.data) == (3, LOGGER, b"")
    assert log.block_hash == chain.execution.context.block_hash_at(3)
    raw = candidate(2, 5, to=LOGGER, gas=60_000, data=word(100)).raw_transaction
    assert log.transaction_hash == keccak256(raw)


def test_logs_are_filtered_by_topic_and_address(chain: LocalChain) -> None:
    assert logs(chain, 0, 4, topics=[(word(3),)]) == [(3, 0, 3)]
    assert logs(chain, 0, 4, topics=[(word(3), word(1))]) == [(1, 0, 1), (3, 0, 3)]
    assert logs(chain, 2, 3, [LOGGER], [(word(100),)]) == [(2, 1, 100), (3, 1, 100)]
    assert logs(chain, 0, 4, [COUNTER], [(word(3),)]) == []
    assert logs(chain, 0, 4, topics=[(), (word(3),)]) == []
    assert logs(chain, 0, 4, topics=[(word(3),), (), (), ()]) == [(3, 0, 3)]
    assert logs(chain, 0, 4, topics=[(), (), (), (), (word(3),)]) == []


def test_logs_of_an_empty_or_reversed_range_are_none(chain: LocalChain) -> None:
    assert logs(chain, 0, 0) == []
    assert logs(chain, 4, 2) == []
    assert logs(chain, 9, 12) == []


def limited(**limits: int) -> LocalChain:
    chain = LocalChain(config=ExecutionConfig(query_limits=QueryLimits(**limits)))
    chain.produce([candidate(2, nonce, to=LOGGER, gas=60_000, data=word(nonce)) for nonce in range(3)])
    chain.produce()
    return chain


@pytest.mark.parametrize(
    ("limits", "question"),
    [
        ({"max_logs": 2}, LogsQuestion(0, 2, (), ())),
        ({"max_log_heights": 2}, LogsQuestion(0, 2, (LOGGER,), ())),
        ({"max_unfiltered_log_heights": 2}, LogsQuestion(0, 2, (), ())),
        ({"max_addresses": 2}, LogsQuestion(0, 2, (LOGGER, COUNTER), ((word(1),),))),
        ({"max_addresses": 2}, AccountsQuestion((LOGGER, COUNTER, BURNER))),
        ({"max_proof_slots": 1}, ProofQuestion(COUNTER, (0, 1))),
        ({"max_fee_percentiles": 1}, FeeHistoryQuestion(1, (1, 2))),
        ({"time_ms": 0}, LogsQuestion(0, 2, (), ())),
        ({"time_ms": 0}, FeeHistoryQuestion(2, ())),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_answer_beyond_a_bound_says_so(limits: dict[str, int], question: Question) -> None:
    assert isinstance(ask(limited(**limits), question), LimitExceeded)


def test_within_the_bounds_the_same_questions_are_answered() -> None:
    chain = limited(max_logs=3, max_log_heights=3, max_unfiltered_log_heights=3, max_addresses=3)
    assert len(logs(chain, 0, 2)) == len(logs(chain, 0, 2, [LOGGER])) == 3


# --- Fees ------------------------------------------------------------------------------------------------------


def test_fee_history_tells_base_fees_fullness_and_rewards(chain: LocalChain) -> None:
    answer = ask(chain, FeeHistoryQuestion(3, (0, 5_000, 10_000)))
    assert isinstance(answer, FeeHistoryAnswer)
    assert answer.oldest_height == 2
    assert len(answer.base_fees_wei) == 4
    assert answer.base_fees_wei[3] == chain.execution.status().next_base_fee_wei
    assert answer.gas_limits == (30_000_000,) * 3
    assert answer.rewards_wei[1] == (GWEI, 3 * GWEI, 3 * GWEI)
    assert answer.rewards_wei[2] == (GWEI, 3 * GWEI, 4 * GWEI)


def test_fee_history_stops_at_genesis_and_gives_no_rewards_unasked(chain: LocalChain) -> None:
    answer = ask(chain, FeeHistoryQuestion(100, ()), AtHeight(1))
    assert isinstance(answer, FeeHistoryAnswer)
    assert (answer.oldest_height, len(answer.base_fees_wei), answer.rewards_wei) == (0, 3, ())
    empty = ask(chain, FeeHistoryQuestion(1, (5_000,)), AtHeight(0))
    assert isinstance(empty, FeeHistoryAnswer)
    assert empty.rewards_wei == ((0,),)


# --- Proofs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("height", range(5))
def test_a_proof_leads_to_the_state_root_of_its_height(chain: LocalChain, height: int) -> None:
    answer = ask(chain, ProofQuestion(COUNTER, (0, 7, 8)), AtHeight(height))
    assert isinstance(answer, ProofAnswer)
    block = ask(chain, BlockQuestion(), AtHeight(height))
    assert isinstance(block, BlockAnswer)
    header = decode_header(block.block.raw_header)
    assert keccak256(answer.account_nodes[0]) == header.state_root
    assert [entry.value for entry in answer.storage] == [height, 70, 0]
    assert keccak256(answer.storage[0].nodes[0]) == answer.account.storage_root


# --- Calls -----------------------------------------------------------------------------------------------------


def test_a_call_runs_on_the_state_and_block_asked_for(chain: LocalChain) -> None:
    read_slot = bytes.fromhex("5f545f5260205ff3")
    for height in range(1, 5):
        override = StateOverride(COUNTER, None, None, read_slot, None, ())
        answer = ask(chain, CallQuestion(request(COUNTER), (override,)), AtHeight(height))
        assert isinstance(answer, CallAnswer)
        assert (answer.status, int.from_bytes(answer.output, "big")) == ("ok", height)


def block_field(opcode: int) -> bytes:
    return bytes((opcode,)) + bytes.fromhex("5f5260205ff3")


@pytest.mark.parametrize(
    ("opcode", "expected"),
    [
        (0x43, lambda chain: 5),  # NUMBER
        (0x41, lambda chain: 0),  # COINBASE
        (0x45, lambda chain: 30_000_000),  # GASLIMIT
        (0x46, lambda chain: 0x414C4E44),  # CHAINID
        (0x42, lambda chain: (chain.execution.status().head_time_ms + 200) // 1000),  # TIMESTAMP
    ],
    ids=["NUMBER", "COINBASE", "GASLIMIT", "CHAINID", "TIMESTAMP"],
)
def test_pending_is_the_head_state_under_the_next_header(
    chain: LocalChain, opcode: int, expected: Callable[[LocalChain], int]
) -> None:
    override = StateOverride(COUNTER, None, None, block_field(opcode), None, ())
    answer = ask(chain, CallQuestion(request(COUNTER), (override,)), AtPending())
    assert isinstance(answer, CallAnswer)
    assert int.from_bytes(answer.output, "big") == expected(chain)


def test_block_hashes_are_known_to_calls(chain: LocalChain) -> None:
    code = bytes.fromhex("6002405f5260205ff3")
    answer = ask(chain, CallQuestion(request(COUNTER), (StateOverride(COUNTER, None, None, code, None, ()),)))
    assert isinstance(answer, CallAnswer)
    assert answer.output == chain.execution.context.block_hash_at(2)


def test_a_revert_carries_its_data(chain: LocalChain) -> None:
    answer = ask(chain, CallQuestion(request(REVERTER)))
    assert isinstance(answer, CallAnswer)
    assert (answer.status, answer.output) == ("reverted", bytes.fromhex("deadbeef"))
    failed = ask(chain, EstimateGasQuestion(request(REVERTER)))
    assert isinstance(failed, CallFailed)
    assert (failed.kind, failed.output) == ("reverted", bytes.fromhex("deadbeef"))


def test_estimates_and_access_lists_are_served(chain: LocalChain) -> None:
    assert ask(chain, EstimateGasQuestion(request(RECIPIENT, value_wei=1))) == GasAnswer(21_000)
    found = ask(chain, AccessListQuestion(request(COUNTER)))
    assert isinstance(found, AccessListAnswer)
    assert [(entry.address, entry.slots) for entry in found.access_list] == [(COUNTER, (0,))]


def test_a_call_without_end_times_out() -> None:
    chain = LocalChain(config=ExecutionConfig(query_limits=QueryLimits(time_ms=50)))
    answer = ask(chain, CallQuestion(request(LOOPER)))
    assert isinstance(answer, CallFailed)
    assert answer.kind == "timeout"


def test_a_call_is_capped_in_gas() -> None:
    chain = LocalChain(config=ExecutionConfig(query_limits=QueryLimits(call_gas=100_000)))
    answer = ask(chain, CallQuestion(request(BURNER, gas=10**9)))
    assert isinstance(answer, CallAnswer)
    assert (answer.status, answer.gas_used) == ("halted", 100_000)


def test_a_sender_without_funds_is_told_so(chain: LocalChain) -> None:
    answer = ask(chain, CallQuestion(request(RECIPIENT, sender=b"\x99" * 20, value_wei=1)))
    assert isinstance(answer, CallFailed)
    assert answer.kind == "insufficient_funds"


@pytest.mark.parametrize(
    "question",
    [
        AccountsQuestion((b"\x01",)),
        CodeQuestion(b""),
        StorageQuestion(COUNTER, 2**256),
        StorageQuestion(COUNTER, -1),
        StorageQuestion(b"", 0),
        ProofQuestion(COUNTER, (2**256,)),
        ProofQuestion(b"\x01" * 21, ()),
        CallQuestion(request(b"\x01")),
        CallQuestion(request(COUNTER, sender=b"")),
        CallQuestion(request(COUNTER, value_wei=-1)),
        CallQuestion(request(COUNTER, gas=-1)),
        CallQuestion(request(COUNTER, max_fee_wei=2**256)),
        CallQuestion(request(COUNTER), (StateOverride(b"", None, None, None, None, ()),)),
        CallQuestion(request(COUNTER), (StateOverride(COUNTER, None, 2**256, None, None, ()),)),
        CallQuestion(request(COUNTER), (StateOverride(COUNTER, None, None, None, ((-1, 0),), ()),)),
    ],
    ids=lambda question: type(question).__name__,
)
def test_a_question_that_makes_no_sense_is_refused_by_name(chain: LocalChain, question: Question) -> None:
    answer = ask(chain, question)
    assert isinstance(answer, CallFailed)
    assert answer.kind == "invalid"


def test_status_is_a_question_too(chain: LocalChain) -> None:
    assert ask(chain, GetStatus()) == chain.execution.status()


def test_a_query_sees_one_moment_whatever_is_committed_meanwhile() -> None:
    chain = LocalChain()
    chain.produce([candidate(2, nonce, to=LOGGER, gas=60_000, data=word(1)) for nonce in range(3)])
    committed = []

    def interrupt() -> None:
        if not committed:
            committed.append(chain.produce([candidate(2, 3, to=LOGGER, gas=60_000, data=word(1))]))

    answer = chain.execution.query(Query(AtLatest(), LogsQuestion(0, 10, (LOGGER,), ())), interrupt)
    assert isinstance(answer, LogsAnswer)
    assert len(answer.logs) == 3
    assert len(logs(chain, 0, 10)) == 4


def test_many_logs_of_one_block_are_loaded_with_looks_at_the_clock() -> None:
    chain = LocalChain()
    chain.produce([candidate(2, 0, to=EMITTER, gas=1_000_000)])
    looks: list[None] = []
    answer = chain.execution.query(Query(AtLatest(), LogsQuestion(1, 1, (), ())), lambda: looks.append(None))
    assert isinstance(answer, LogsAnswer)
    assert len(answer.logs) > 2_000
    assert len(looks) > len(answer.logs) // LOGS_PER_LOOK


def test_genesis_accounts_hold_what_the_file_says() -> None:
    answer = ask(LocalChain(), AccountsQuestion((DEVNET_ACCOUNTS[0].address, ZERO_ADDRESS)))
    assert isinstance(answer, AccountsAnswer)
    assert [account.balance_wei for account in answer.accounts] == [DEVNET_BALANCE_WEI, 0]


def test_simulated_blocks_end_when_their_time_is_up() -> None:
    now = iter(range(0, 10**15, 10**9))
    config = ExecutionConfig(query_limits=QueryLimits(time_ms=5_000))
    chain = LocalChain(config=config, now_ns=lambda: next(now))
    question = SimulateQuestion((BlockCalls(calls=(request(LOOPER),)),))
    answer = chain.execution.query(Query(AtLatest(), question))
    assert answer == CallFailed("timeout", "execution aborted (timeout = 5s)")


@pytest.mark.parametrize(
    "block",
    [
        BlockCalls(BlockOverride(number=2**64)),
        BlockCalls(BlockOverride(time_s=-1)),
        BlockCalls(BlockOverride(gas_limit=2**64)),
        BlockCalls(BlockOverride(base_fee_wei=2**256)),
        BlockCalls(BlockOverride(fee_recipient=bytes(19))),
        BlockCalls(BlockOverride(prev_randao=bytes(31))),
        BlockCalls(BlockOverride(beacon_root=bytes(33))),
        BlockCalls(overrides=(StateOverride(bytes(20), None, None, None, None, (), b"\x01"),)),
        BlockCalls(calls=(request(bytes(20), nonce=2**64),)),
        BlockCalls(calls=(request(bytes(19)),)),
    ],
)
def test_a_simulated_block_that_no_message_should_hold_is_invalid(chain: LocalChain, block: BlockCalls) -> None:
    answer = chain.execution.query(Query(AtLatest(), SimulateQuestion((block,))))
    assert isinstance(answer, CallFailed)
    assert answer.kind == "invalid"


def test_simulated_blocks_return_no_more_than_an_answer_may_hold() -> None:
    chain = LocalChain(config=ExecutionConfig(query_limits=QueryLimits(max_simulated_bytes=1_000)))
    returning = StateOverride(COUNTER, None, None, bytes.fromhex("6103e85ff3"), None, ())
    once = SimulateQuestion((BlockCalls(overrides=(returning,), calls=(request(COUNTER),)),))
    assert isinstance(chain.execution.query(Query(AtLatest(), once)), SimulateAnswer)
    twice = SimulateQuestion((*once.blocks, BlockCalls(calls=(request(COUNTER),))))
    assert isinstance(chain.execution.query(Query(AtLatest(), twice)), LimitExceeded)


def test_overrides_are_bounded_over_all_simulated_blocks_together(chain: LocalChain) -> None:
    half = tuple(StateOverride(number.to_bytes(20, "big"), 1, None, None, None, ()) for number in range(500))
    whole = SimulateQuestion((BlockCalls(overrides=half), BlockCalls(overrides=half)))
    assert isinstance(chain.execution.query(Query(AtLatest(), whole)), SimulateAnswer)
    more = SimulateQuestion((*whole.blocks, BlockCalls(overrides=half[:1])))
    answer = chain.execution.query(Query(AtLatest(), more))
    assert answer == CallFailed("invalid", "state overrides: expected at most 1000 accounts")
