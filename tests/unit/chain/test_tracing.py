"""Traces of what is committed and of what is not: against receipts, and where there is nothing to trace."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from astralink_node.chain.call_messages import CallFailed, CallRequest
from astralink_node.chain.codec import decode, encode
from astralink_node.chain.commits import HistoryWindow
from astralink_node.chain.execution import ExecutionConfig
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import (
    Answer,
    AtHash,
    AtHeight,
    AtLatest,
    AtPending,
    HistoryUnavailable,
    LimitExceeded,
    NotFound,
    Query,
)
from astralink_node.chain.query_limits import QueryLimits
from astralink_node.chain.trace_messages import (
    LongQuestion,
    RunTrace,
    StreamEnd,
    TraceBlock,
    TraceCalls,
    TraceGivenBlock,
    TracePart,
    TraceTransaction,
    TypedTracers,
)
from astralink_node.evm.blocks import ethereum_block_rlp
from astralink_node.evm.tracing.kept_bytes import MAX_KEPT_BYTES
from astralink_node.evm.tracing.options import CallFrames, Selectors, StructLogs, TouchedAccounts, TypedTracer, VmSteps
from astralink_node.evm.tracing.records import CallTrace, Prestate, SelectorCounts, VmTrace
from astralink_node.evm.transactions import decode_transaction
from contracts.places import STAKING
from tests.support.chains import COUNTER, REVERTER, LocalChain, candidate
from tests.support.staking_chains import BWT, StakingChain, eventful_chain

FRAMES = TypedTracers((CallFrames(),))
CALL = CallRequest(bytes(20), COUNTER, 100_000, None, None, None, 0, b"", (), None)


def ask(chain: LocalChain, question: LongQuestion, at: object = None) -> tuple[list[TracePart], Answer]:
    parts: list[TracePart] = []
    selector = AtLatest() if at is None else at
    ending = chain.execution.query(Query(selector, question), emit=parts.append)  # type: ignore[arg-type]
    return parts, ending


def counting_chain(blocks: int, config: ExecutionConfig | None = None) -> LocalChain:
    """Each block raises the counter, fails, and moves a coin."""
    chain = LocalChain(config=config)
    for nonce in range(0, 3 * blocks, 3):
        chain.produce(
            [
                candidate(0, nonce, to=COUNTER, value=0, gas=100_000),
                candidate(0, nonce + 1, to=REVERTER, value=0, gas=100_000),
                candidate(0, nonce + 2),
            ]
        )
    return chain


def test_every_transaction_of_an_eventful_staking_chain_is_traced_with_its_receipts_gas() -> None:
    chain = eventful_chain()
    ledger = Ledger(chain.store)
    traced = 0
    for height in range(1, chain.head_height + 1):
        parts, ending = ask(chain, TraceBlock(FRAMES), AtHeight(height))
        assert ending == StreamEnd()
        receipts = ledger.receipts(height)
        assert len(parts) == len(receipts)
        for part, receipt, raw in zip(parts, receipts, ledger.body(height)[0], strict=True):
            assert isinstance(part, RunTrace)
            assert (part.gas_used, part.transaction_hash) == (receipt.gas_used, decode_transaction(raw).hash)
            traced += 1
    assert traced == 2


def test_a_call_within_a_staking_block_stands_on_the_protocols_own_steps() -> None:
    """Before its first transaction the block has minted rewards already; its parent's state has not."""
    chain = StakingChain()
    chain.step()
    operator = chain.execution.context.voting_set.validators[0].operator
    chain.step([chain.send(5, 0, "delegate", operator, value=BWT)])
    height = chain.head_height
    call = replace(CALL, to=STAKING)
    balances = []
    for at, index in ((AtHeight(height - 1), None), (AtHeight(height), 0), (AtHeight(height), 1)):
        question = TraceCalls((call,), (TypedTracers((TouchedAccounts(),)),), transaction_index=index)
        (run,), ending = ask(chain, question, at)
        assert ending == StreamEnd()
        assert isinstance(run, RunTrace)
        (prestate,) = run.results
        assert isinstance(prestate, Prestate)
        balances.append(next(each.balance or 0 for each in prestate.pre if each.address == STAKING))
    assert balances[0] < balances[1]
    assert balances[2] == balances[1] + BWT


def test_the_chains_own_blocks_are_traced_alike_where_they_are_given() -> None:
    """The protocol's steps before the transactions come from the payload, which the given bytes lack."""
    chain = eventful_chain()
    ledger = Ledger(chain.store)
    traced = 0
    for height in range(1, chain.head_height + 1):
        given = ethereum_block_rlp(ledger.sealed_block(height).block)
        for how in (FRAMES, StructLogs(), TypedTracers((TouchedAccounts(diff_mode=True),))):
            parts, ending = ask(chain, TraceBlock(how), AtHeight(height))
            assert ask(chain, TraceGivenBlock(given, how)) == (parts, ending)
            traced += sum(isinstance(part, RunTrace) for part in parts)
    assert traced == 4


def test_several_tracers_run_together_and_their_results_keep_their_order() -> None:
    chain = counting_chain(1)
    how = TypedTracers((Selectors(), CallFrames(), VmSteps(), TouchedAccounts(diff_mode=True)))
    parts, ending = ask(chain, TraceBlock(how), AtHeight(1))
    assert ending == StreamEnd()
    for part in parts:
        assert isinstance(part, RunTrace)
        assert [type(result) for result in part.results] == [SelectorCounts, CallTrace, VmTrace, Prestate]
    assert [part.error for part in parts if isinstance(part, RunTrace)] == ["", "execution reverted", ""]
    reverted = parts[1]
    assert isinstance(reverted, RunTrace)
    assert reverted.output == bytes.fromhex("deadbeef")


def test_without_tracers_a_run_still_says_what_came_of_it() -> None:
    chain = counting_chain(1)
    parts, _ = ask(chain, TraceBlock(TypedTracers(())), AtHeight(1))
    assert [(part.index, part.results) for part in parts if isinstance(part, RunTrace)] == [(0, ()), (1, ()), (2, ())]


def test_outside_the_window_the_oldest_height_is_named() -> None:
    chain = counting_chain(6, ExecutionConfig(window=HistoryWindow(2)))
    ledger = Ledger(chain.store)
    oldest = ledger.oldest_state_height()
    assert oldest == 4
    transaction_hash = decode_transaction(ledger.body(4)[0][0]).hash
    gone = HistoryUnavailable(3, oldest)
    assert ask(chain, TraceGivenBlock(ethereum_block_rlp(ledger.sealed_block(4).block), FRAMES)) == ([], gone)
    assert ask(chain, TraceBlock(FRAMES), AtHeight(4)) == ([], gone)
    assert ask(chain, TraceTransaction(transaction_hash, FRAMES)) == ([], gone)
    within = TraceCalls((CALL,), (FRAMES,), transaction_index=0)
    assert ask(chain, within, AtHeight(4)) == ([], gone)
    for height in (5, 6):
        parts, ending = ask(chain, TraceBlock(FRAMES), AtHeight(height))
        assert (len(parts), ending) == (3, StreamEnd())


@pytest.mark.parametrize("how", [FRAMES, StructLogs()])
def test_what_does_not_exist_is_not_found(how: TypedTracers | StructLogs) -> None:
    chain = counting_chain(1)
    for question, at in (
        (TraceTransaction(b"\x01" * 32, how), AtLatest()),
        (TraceBlock(how), AtHeight(2)),
        (TraceBlock(how), AtHash(b"\x01" * 32)),
        (TraceBlock(how), AtPending()),
        (TraceCalls((CALL,), (how,)), AtHeight(2)),
        (TraceCalls((CALL,), (how,), transaction_index=0), AtPending()),
    ):
        parts, ending = ask(chain, question, at)
        assert not parts
        assert isinstance(ending, NotFound), question


def test_a_call_can_stand_on_the_pending_block() -> None:
    chain = counting_chain(1)
    parts, ending = ask(chain, TraceCalls((CALL,), (FRAMES,)), AtPending())
    assert (len(parts), ending) == (1, StreamEnd())


def test_questions_that_make_no_sense_are_refused() -> None:
    chain = LocalChain(config=ExecutionConfig(query_limits=QueryLimits(max_traced_calls=2)))
    refused = [
        (TraceCalls((CALL,), ()), CallFailed),
        (TraceCalls((CALL, CALL), (StructLogs(), FRAMES)), CallFailed),
        (TraceCalls((CALL,) * 3, (FRAMES,) * 3), LimitExceeded),
        (TraceCalls((CallRequest(b"", COUNTER, 1, None, None, None, 0, b"", (), None),), (FRAMES,)), CallFailed),
        (TraceCalls((CALL,), (FRAMES,), transaction_index=0), CallFailed),
        (TraceBlock(FRAMES), CallFailed),
    ]
    for question, kind in refused:
        parts, ending = ask(chain, question, AtHeight(0))
        assert not parts
        assert isinstance(ending, kind), question


def test_who_takes_no_parts_is_not_given_any() -> None:
    chain = counting_chain(1)
    with pytest.raises(TypeError, match="nobody takes"):
        chain.execution.query(Query(AtHeight(1), TraceBlock(FRAMES)))


# --- How much is kept ------------------------------------------------------------------------------------------

LARGE_CALLS = bytes.fromhex("5f62200000525f" + "5f5f622000005f60cc610100fa" * 4)
"""Initcode: four static calls, each with two mebibytes of the same memory as its data."""


def large_calls(count: int, *tracers: TypedTracer) -> TraceCalls:
    call = replace(CALL, to=b"", gas=9_000_000, data=LARGE_CALLS)
    return TraceCalls((call,) * count, (TypedTracers(tracers),) * count)


def test_the_calls_of_one_question_keep_so_much_together() -> None:
    chain = counting_chain(1)
    parts, ending = ask(chain, large_calls(3, CallFrames()))
    assert (len(parts), ending) == (3, StreamEnd())
    parts, ending = ask(chain, large_calls(5, CallFrames()))
    assert len(parts) == 3
    assert ending == LimitExceeded(f"the trace is larger than {MAX_KEPT_BYTES} bytes")


def test_the_tracers_of_one_run_keep_so_much_together() -> None:
    parts, ending = ask(counting_chain(1), large_calls(1, *(CallFrames() for _ in range(5))))
    assert (parts, ending) == ([], LimitExceeded(f"the trace is larger than {MAX_KEPT_BYTES} bytes"))


def test_a_call_is_handed_on_before_the_next_one_runs() -> None:
    """So that nothing collects them here, and whoever has had enough ends the work."""

    class EnoughError(Exception):
        pass

    chain = counting_chain(1)
    given: list[TracePart] = []

    def emit(part: TracePart) -> None:
        given.append(part)
        raise EnoughError

    with pytest.raises(EnoughError):
        chain.execution.query(Query(AtLatest(), large_calls(5, CallFrames())), emit=emit)
    assert len(given) == 1


def test_the_opcodes_of_a_run_come_as_text() -> None:
    (part,), _ = ask(counting_chain(1), TraceCalls((CALL,), (TypedTracers((VmSteps(),)),)))
    assert isinstance(part, RunTrace)
    (trace,) = part.results
    assert isinstance(trace, VmTrace)
    assert decode(RunTrace, encode(part)) == part
    assert [op["op"] for op in orjson.loads(trace.json)["ops"]][-1] == "STOP"
