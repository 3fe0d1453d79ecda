"""Transactions, blocks and calls run under tracers, on the state and under the block that they belong to.

A committed transaction is traced by executing its block again up to it (chain.replay); a block that is given, on the
state of its parent; a call, on the state that the question names. Answers leave run by run, or step by step, so that
little of them is held here. What the tracers of a transaction keep is bounded, and what those of all calls of one
question do; every question has its time, which includes waiting for whoever reads the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import tee
from typing import assert_never

from astralink_node.chain.call_messages import CallFailed
from astralink_node.chain.call_requests import (
    TRACE_TIMEOUT,
    account_override_of,
    answered,
    block_overrides_of,
    parameters_of,
    problem_of_overrides,
    problem_of_request,
)
from astralink_node.chain.contexts import ChainRecords
from astralink_node.chain.json_stream import Emit, JsonStream
from astralink_node.chain.messages import HistoryUnavailable, LimitExceeded, NotFound
from astralink_node.chain.query_limits import QueryLimits
from astralink_node.chain.replay import BlockReplay, BlockToReplay, committed_block, given_block
from astralink_node.chain.trace_messages import (
    StreamEnd,
    TraceBlock,
    TraceCalls,
    TraceGivenBlock,
    TraceTransaction,
    TypedTracers,
)
from astralink_node.chain.tracers import TypedRun, failed_run, stream_struct_logs
from astralink_node.evm.blocks import Block, MalformedBlock, decode_ethereum_block
from astralink_node.evm.pipeline import BlockContext
from astralink_node.evm.simulate import Simulation
from astralink_node.evm.tracing.kept_bytes import KeptBytes, TraceTooLarge
from astralink_node.evm.tracing.options import StructLogs
from astralink_node.evm.transactions import InvalidTransaction
from astralink_node.state.flat_state import StateReader
from astralink_node.state.overlaid import OverlaidState
from astralink_node.storage.store import Reader

Ending = StreamEnd | NotFound | HistoryUnavailable | CallFailed | LimitExceeded


@dataclass(frozen=True, slots=True)
class Tracing:
    """What a question is answered with: one moment of the chain, and how far the answer may go."""

    reader: Reader
    records: ChainRecords
    limits: QueryLimits
    check_time: Callable[[], None]
    emit: Emit

    # --- What is committed -----------------------------------------------------------------------------------------

    def trace_transaction(self, question: TraceTransaction) -> Ending:
        position = self.records.ledger.transaction_position(question.transaction_hash)
        if position is None:
            return NotFound(f"transaction 0x{question.transaction_hash.hex()}")
        height, index = position
        return self._ending(lambda: self._trace_committed(height, index, question.tracer))

    def trace_block(self, question: TraceBlock, height: int) -> Ending:
        if height == 0:
            return CallFailed("invalid", "genesis is not traceable")
        return self._ending(lambda: self._trace_committed(height, None, question.tracer))

    def _trace_committed(
        self, height: int, index: int | None, how: StructLogs | TypedTracers
    ) -> HistoryUnavailable | None:
        missing = self.records.missing_state(height - 1)
        if missing is not None:
            return missing
        self._trace(committed_block(self.records.ledger, height), index, how)
        return None

    def _trace(self, block: BlockToReplay, index: int | None, how: StructLogs | TypedTracers) -> None:
        """That transaction of the block; all of them, as a list, if none is named. The parent's state is kept."""
        replay = BlockReplay(self.reader, self.records, block, self.check_time)
        replay.start()
        wanted = range(len(replay.transactions)) if index is None else range(index, index + 1)
        replay.skip_to(wanted.start)
        match how:
            case TypedTracers():
                for each in wanted:
                    self._emit_run(replay, each, how)
            case StructLogs() if index is not None:
                stream = JsonStream(self.emit)
                stream_struct_logs(stream, how, replay.apply_next)
                stream.flush()
            case StructLogs():
                self._stream_block(replay, how)
            case _:
                assert_never(how)

    def _emit_run(self, replay: BlockReplay, index: int, how: TypedTracers) -> None:
        run = TypedRun(how, KeptBytes())
        transaction_hash = replay.transactions[index].hash
        try:
            outcome = replay.apply_next(run.tracer)
        except TraceTooLarge as error:
            # Those after it stand on what it does.
            outcome = replay.apply_next()
            self.emit(failed_run(outcome, index, transaction_hash, str(error)))
        else:
            self.emit(run.trace(outcome, index, transaction_hash))

    def _stream_block(self, replay: BlockReplay, how: StructLogs) -> None:
        stream = JsonStream(self.emit)
        stream.open(b"[", b"]")
        for transaction in replay.transactions:
            stream.open(b'{"txHash":"0x%b","result":' % transaction.hash.hex().encode(), b"}")
            stream_struct_logs(stream, how, replay.apply_next)
            stream.close()
        stream.close()
        stream.flush()

    # --- What is given ---------------------------------------------------------------------------------------------

    def trace_given_block(self, question: TraceGivenBlock) -> Ending:
        """A block that somebody made on one of the chain's, valid or not: nothing but its execution is looked at."""
        try:
            block = decode_ethereum_block(question.raw_block)
        except MalformedBlock as error:
            return CallFailed("invalid", f"could not decode block: {error}")
        header = block.header
        if header.number == 0:
            return CallFailed("invalid", "genesis is not traceable")
        if header.number - 1 > self.records.ledger.head().height:
            return CallFailed("invalid", f"block #{header.number - 1} not found")
        if self.records.block_hash_at(header.number - 1) != header.parent_hash:
            return CallFailed("invalid", f"block 0x{header.parent_hash.hex()} not found")
        if header.excess_blob_gas:
            return CallFailed("invalid", f"excess blob gas: expected 0 on this chain, found {header.excess_blob_gas}")
        return self._ending(lambda: self._trace_given(block, question.tracer))

    def _trace_given(self, block: Block, how: StructLogs | TypedTracers) -> HistoryUnavailable | CallFailed | None:
        missing = self.records.missing_state(block.header.number - 1)
        if missing is not None:
            return missing
        try:
            to_replay = given_block(self.records.ledger, block, self.check_time)
        except InvalidTransaction as error:
            return CallFailed("invalid", f"could not decode block: {error}")
        try:
            self._trace(to_replay, None, how)
        except InvalidTransaction as error:
            return CallFailed("invalid", f"tracing failed: {error}")
        return None

    # --- What never happens ----------------------------------------------------------------------------------------

    def trace_calls(self, question: TraceCalls, block: BlockContext, state: StateReader) -> Ending:
        """`state` is that after `block`, the selected one."""
        problem = self._problem_of(question, block)
        if problem is not None:
            return problem
        if question.transaction_index is None:
            return self._ending(lambda: self._trace_calls(question, block, state))
        missing = self.records.missing_state(block.number - 1)
        if missing is not None:
            return missing
        return self._ending(lambda: self._trace_calls_within(question, block))

    def _problem_of(self, question: TraceCalls, block: BlockContext) -> CallFailed | LimitExceeded | None:
        if len(question.requests) > self.limits.max_traced_calls:
            return LimitExceeded(f"at most {self.limits.max_traced_calls} calls may be traced at a time")
        problem = problem_of_overrides(question.overrides, question.block)
        for request in question.requests:
            problem = problem or problem_of_request(request)
        if problem:
            return CallFailed("invalid", problem)
        if len(question.requests) != len(question.tracers):
            return CallFailed("invalid", "expected as many tracers as calls")
        if len(question.tracers) > 1 and any(isinstance(how, StructLogs) for how in question.tracers):
            return CallFailed("invalid", "expected struct logs of one call alone")
        if question.transaction_index is not None and block.number == 0:
            return CallFailed("invalid", "genesis is not traceable")
        return None

    def _trace_calls_within(self, question: TraceCalls, block: BlockContext) -> CallFailed | None:
        committed = committed_block(self.records.ledger, block.number)
        replay = BlockReplay(self.reader, self.records, committed, self.check_time)
        index, count = question.transaction_index or 0, len(replay.transactions)
        if index > count:
            return CallFailed("invalid", f"transaction index {index} out of range for block {block.number}")
        replay.start()
        replay.skip_to(index)
        self._trace_calls(question, block, OverlaidState(replay.execution.overlay))
        return None

    def _trace_calls(self, question: TraceCalls, block: BlockContext, state: StateReader) -> None:
        simulation = Simulation(
            self.records.rules,
            block,
            state,
            gas_cap=self.limits.call_gas,
            overrides=[account_override_of(override) for override in question.overrides],
            block_overrides=block_overrides_of(question.block),
            interrupt=self.check_time,
        )
        calls = [parameters_of(request) for request in question.requests]
        match question.tracers:
            case (StructLogs() as how,):
                stream = JsonStream(self.emit)
                stream_struct_logs(stream, how, lambda tracer: next(simulation.trace([(calls[0], tracer)])))
                stream.flush()
            case tracers:
                kept = KeptBytes()
                # Made one by one, so that none is held here once it was handed on.
                watching, telling = tee(TypedRun(how, kept) for how in tracers if isinstance(how, TypedTracers))
                pairs = zip(calls, (run.tracer for run in watching), strict=True)
                for index, (run, outcome) in enumerate(zip(telling, simulation.trace(pairs), strict=True)):
                    self.emit(run.trace(outcome, index))

    # --- Both ------------------------------------------------------------------------------------------------------

    def _ending(self, work: Callable[[], Ending | None]) -> Ending:
        try:
            return answered(work, TRACE_TIMEOUT) or StreamEnd()
        except TraceTooLarge as error:
            return LimitExceeded(str(error))
