"""Long questions over the query socket: answers in chunks, and work that ends when nobody reads on."""

import json
from dataclasses import dataclass, replace

import pytest

from astralink_node.chain.call_messages import CallAnswer, CallFailed, CallQuestion, CallRequest
from astralink_node.chain.codec import PAUSE_ITEMS
from astralink_node.chain.execution import ExecutionConfig
from astralink_node.chain.frames import encode_frame
from astralink_node.chain.json_stream import CHUNK_BYTES, Emit
from astralink_node.chain.messages import (
    AccountRecord,
    AccountsAnswer,
    Answer,
    AtHeight,
    AtLatest,
    GetStatus,
    LimitExceeded,
    NotFound,
    Query,
    RunsLong,
    Status,
)
from astralink_node.chain.queries import Interrupt
from astralink_node.chain.query_limits import QueryLimits
from astralink_node.chain.query_server import (
    LONG_THREADS,
    MAX_TRACES_WAITING,
    TRACE_THREADS,
    WorkGate,
)
from astralink_node.chain.trace_messages import RunTrace, StreamChunk, StreamEnd, TraceBlock, TraceTransaction
from astralink_node.evm.tracing.options import StructLogs
from astralink_node.evm.tracing.records import SelectorCount, SelectorCounts
from astralink_node.evm.transactions import decode_transaction
from astralink_node.storage.store import StorageError
from tests.support.chains import COUNTER, LOOPER, LocalChain, candidate
from tests.support.query_sockets import PATIENCE_S, query_server

ENDLESS_GAS = 3_000_000
"""Nearly a million steps: far more than any test waits for."""


@dataclass
class FailingQueries:
    failure: Exception

    def query(self, query: Query, interrupt: Interrupt, emit: Emit) -> Answer:
        raise self.failure


def chain_with(*, to: bytes, gas: int, limits: QueryLimits | None = None) -> tuple[LocalChain, Query]:
    """A chain whose first block has one transaction, and the question that traces it."""
    chain = LocalChain(config=ExecutionConfig(query_limits=limits or QueryLimits()))
    given = candidate(0, 0, to=to, value=0, gas=gas)
    chain.produce([given])
    transaction_hash = decode_transaction(given.raw_transaction).hash
    return chain, Query(AtLatest(), TraceTransaction(transaction_hash, StructLogs()))


def test_a_trace_comes_in_chunks_and_is_whole() -> None:
    chain, question = chain_with(to=LOOPER, gas=50_000)
    with query_server(chain.execution) as (_, connect):
        asker = connect()
        asker.send(question)
        first = asker.receive()
        assert isinstance(first, StreamChunk)
        assert len(first.data) < 2 * CHUNK_BYTES
        assert json.loads(first.data + first.closing)["structLogs"]
        rest, end = asker.collect()
    assert end == StreamEnd()
    assert len(rest) > 2 * CHUNK_BYTES
    assert len(json.loads(first.data + rest)["structLogs"]) > 1_000


def test_a_block_is_traced_as_one_list() -> None:
    chain, _ = chain_with(to=COUNTER, gas=100_000)
    with query_server(chain.execution) as (_, connect):
        asker = connect()
        asker.send(Query(AtHeight(1), TraceBlock(StructLogs())))
        text, end = asker.collect()
    assert end == StreamEnd()
    (traced,) = json.loads(text)
    assert traced["result"]["structLogs"][-1]["op"] == "STOP"


def test_closing_the_connection_ends_the_work() -> None:
    chain, question = chain_with(to=LOOPER, gas=ENDLESS_GAS)
    with query_server(chain.execution) as (watched, connect):
        asker = connect()
        asker.send(question)
        assert isinstance(asker.receive(), StreamChunk)
        asker.close()
        assert watched.ended.acquire(timeout=PATIENCE_S)
        assert watched.endings == ["_Unwanted"]


def test_an_ordinary_question_of_a_gateway_that_died_ends_too() -> None:
    chain, _ = chain_with(to=LOOPER, gas=50_000)
    request = CallRequest(bytes(20), LOOPER, None, None, None, None, 0, b"", (), None)
    with query_server(chain.execution) as (watched, connect):
        asker = connect()
        asker.send(Query(AtLatest(), CallQuestion(request)))
        assert watched.began.acquire(timeout=PATIENCE_S)
        asker.close()
        assert watched.ended.acquire(timeout=PATIENCE_S)
        assert watched.endings == ["_Unwanted"]


def test_an_empty_frame_ends_one_question_and_no_other_and_is_answered_by_one() -> None:
    chain, _ = chain_with(to=LOOPER, gas=50_000)
    request = CallRequest(bytes(20), LOOPER, None, None, None, None, 0, b"", (), None)
    with query_server(chain.execution) as (watched, connect):
        asker = connect()
        asker.send(Query(AtLatest(), CallQuestion(request)), request_id=7)
        assert watched.began.acquire(timeout=PATIENCE_S)
        asker.link.sendall(encode_frame(7, b""))
        assert watched.ended.acquire(timeout=PATIENCE_S)
        assert watched.endings == ["_Unwanted"]
        (over,) = asker.receive_frames()
        assert (over.request_id, over.payload) == (7, b"")
        asker.send(Query(AtLatest(), TraceTransaction(b"\x01" * 32, StructLogs())), request_id=8)
        assert isinstance(asker.receive(), NotFound)


def test_closing_the_connection_ends_what_still_waits_for_a_thread() -> None:
    chain, question = chain_with(to=LOOPER, gas=ENDLESS_GAS)
    with query_server(chain.execution) as (watched, connect):
        running = [connect() for _ in range(TRACE_THREADS)]
        for asker in running:
            asker.send(question)
            assert isinstance(asker.receive(), StreamChunk)
        waiting = connect()
        waiting.send(question)
        waiting.close()
        for asker in running:
            asker.close()
        for _ in running:
            assert watched.ended.acquire(timeout=PATIENCE_S)
        last = connect()
        last.send(Query(AtLatest(), TraceTransaction(b"\x01" * 32, StructLogs())))
        assert isinstance(last.receive(), NotFound)
        assert set(watched.endings[:-1]) == {"_Unwanted"}


def test_traces_leave_threads_for_other_questions() -> None:
    chain, question = chain_with(to=LOOPER, gas=ENDLESS_GAS)
    with query_server(chain.execution) as (_, connect):
        for _ in range(TRACE_THREADS + 2):
            connect().send(question)
        other = connect()
        other.send(Query(AtLatest(), GetStatus()))
        assert isinstance(other.receive(), Status)


def test_calls_leave_threads_for_what_is_only_read() -> None:
    chain, _ = chain_with(to=LOOPER, gas=50_000)
    request = CallRequest(bytes(20), LOOPER, None, None, None, None, 0, b"", (), None)
    with query_server(chain.execution) as (watched, connect):
        calls = connect()
        for number in range(4):
            calls.send(Query(AtLatest(), CallQuestion(request)), number + 1)
        assert watched.began.acquire(timeout=PATIENCE_S)
        reads = connect()
        reads.send(Query(AtLatest(), GetStatus()))
        assert isinstance(reads.receive(), Status)
        assert set(watched.endings) <= {"Status", "_Long"}  # no call has its answer


def call_of(code: bytes) -> Query:
    return Query(AtLatest(), CallQuestion(CallRequest(bytes(20), code, None, None, None, None, 0, b"", (), None)))


PATIENT = QueryLimits(time_ms=1_000 * PATIENCE_S, call_gas=1 << 40)


def test_a_short_call_does_not_wait_for_long_ones() -> None:
    chain, _ = chain_with(to=LOOPER, gas=50_000, limits=PATIENT)
    with query_server(chain.execution) as (watched, connect):
        long_calls = connect()
        for number in range(6):
            long_calls.send(replace(call_of(LOOPER), runs_long=True), number + 1)
        for _ in range(LONG_THREADS):
            assert watched.began.acquire(timeout=PATIENCE_S)
        short = connect()
        short.send(call_of(COUNTER))
        assert isinstance(short.receive(), CallAnswer)
        assert "CallFailed" not in watched.endings


def test_a_call_that_runs_long_is_told_so_and_answered_when_it_is_asked_again() -> None:
    limits = QueryLimits(time_ms=1_000, call_gas=1 << 40)
    chain, _ = chain_with(to=LOOPER, gas=50_000, limits=limits)
    with query_server(chain.execution) as (watched, connect):
        asker = connect()
        asker.send(call_of(LOOPER))
        assert asker.receive() == RunsLong()
        asker.send(replace(call_of(LOOPER), runs_long=True))
        assert asker.receive() == CallFailed("timeout", "execution aborted (timeout = 1s)")
    assert watched.endings == ["_Long", "CallFailed"]


def test_a_long_answer_gives_way_also_while_it_is_encoded() -> None:
    class Gate(WorkGate):
        looks = 0

        def give_way(self) -> None:
            self.looks += 1

    class Long:
        def query(self, query: Query, interrupt: Interrupt, emit: Emit) -> Answer:
            counts = SelectorCounts((SelectorCount(bytes(4), 0, 1),) * (2 * PAUSE_ITEMS))
            emit(RunTrace(b"", 0, 0, b"", "", (counts,)))
            return AccountsAnswer((AccountRecord(1, 2, bytes(32), bytes(32)),) * (3 * PAUSE_ITEMS))

    gate = Gate()
    with query_server(Long(), gate) as (_, connect):
        asker = connect()
        asker.send(Query(AtLatest(), GetStatus()))
        assert isinstance(asker.receive(), RunTrace)
        assert isinstance(asker.receive(), AccountsAnswer)
    assert gate.looks == 1 + 2 + 3


def test_too_many_traces_are_refused() -> None:
    chain, question = chain_with(to=LOOPER, gas=ENDLESS_GAS)
    with query_server(chain.execution) as (_, connect):
        asker = connect()
        for number in range(TRACE_THREADS + MAX_TRACES_WAITING + 1):
            asker.send(question, number + 1)
        _, refusal = asker.collect()
    assert refusal == LimitExceeded("too many traces at once; try again")


@pytest.mark.parametrize("time_ms", [0, 1, 60_000])
def test_a_trace_that_takes_too_long_ends_with_geths_words(time_ms: int) -> None:
    """Its own time, the usual one, or the most that may be asked for."""
    limits = QueryLimits(trace_time_ms=1, max_trace_time_ms=2)
    chain, question = chain_with(to=LOOPER, gas=ENDLESS_GAS, limits=limits)
    assert isinstance(question.question, TraceTransaction)
    asked = TraceTransaction(question.question.transaction_hash, StructLogs(), time_ms)
    with query_server(chain.execution) as (_, connect):
        asker = connect()
        asker.send(Query(AtLatest(), asked))
        _, end = asker.collect()
    assert end == CallFailed("timeout", "execution timeout")


@pytest.mark.parametrize(
    ("failure", "words", "logged"),
    [
        (StorageError("No space left on device"), "the database failed: see the node's log", "a failing database"),
        (RuntimeError("a bug"), "internal error: see the node's log", "RuntimeError: a bug"),
    ],
)
def test_a_failing_database_or_a_bug_is_told_as_no_fault_of_the_caller(
    failure: Exception, words: str, logged: str
) -> None:
    complaints: list[str] = []
    with query_server(FailingQueries(failure), complain=complaints.append) as (_, connect):
        asker = connect()
        asker.send(Query(AtLatest(), GetStatus()))
        assert asker.receive() == CallFailed("internal", words)
    (complaint,) = complaints
    assert logged in complaint


def test_genesis_cannot_be_traced() -> None:
    chain = LocalChain()
    with query_server(chain.execution) as (_, connect):
        asker = connect()
        asker.send(Query(AtHeight(0), TraceBlock(StructLogs())))
        assert asker.receive() == CallFailed("invalid", "genesis is not traceable")
