"""Transactions, blocks and calls under tracers. Closing a stream, or giving up a wait, ends the work for it.

``time_ms`` of 0 means the time that the execution process gives by itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from astralink_node.chain.call_messages import NO_BLOCK_OVERRIDE, BlockOverride, CallRequest, StateOverride
from astralink_node.chain.messages import AtHash, AtLatest, BlockSelector
from astralink_node.chain.trace_messages import (
    RunTrace,
    StreamChunk,
    TraceBlock,
    TraceCalls,
    TraceGivenBlock,
    TracerChoice,
    TraceResult,
    TraceTransaction,
    TypedTracers,
)
from astralink_node.evm.tracing.options import CallFrames, StructLogs
from astralink_node.gateway.reading.errors import TooMuch
from astralink_node.gateway.reading.source import Source, first_of

FRAMES: Final = TypedTracers((CallFrames(),))
"""Everything that is made of calls alone."""


def results_of(run: RunTrace) -> tuple[TraceResult, ...]:
    """One of each tracer that ran. Raises TooMuch where the trace is larger than may be held."""
    if run.failure:
        raise TooMuch(f"transaction 0x{run.transaction_hash.hex()} cannot be traced: {run.failure}")
    return run.results


class TraceReader:
    def __init__(self, source: Source) -> None:
        self._source = source

    async def transaction(self, transaction_hash: bytes, how: TypedTracers, time_ms: int = 0) -> RunTrace:
        """Raises UnknownTransaction, and what :func:`results_of` does."""
        run = await first_of(self._source.parts(AtLatest(), TraceTransaction(transaction_hash, how, time_ms), RunTrace))
        results_of(run)
        return run

    def transaction_steps(
        self, transaction_hash: bytes, options: StructLogs, time_ms: int = 0
    ) -> AsyncGenerator[StreamChunk]:
        """geth's struct log object, as JSON text."""
        return self._source.parts(AtLatest(), TraceTransaction(transaction_hash, options, time_ms), StreamChunk)

    def block(self, block_hash: bytes, how: TypedTracers, time_ms: int = 0) -> AsyncGenerator[RunTrace]:
        """Of every transaction, in order, those too that could not be traced: :func:`results_of` tells."""
        return self._source.parts(AtHash(block_hash), TraceBlock(how, time_ms), RunTrace)

    def block_steps(self, block_hash: bytes, options: StructLogs, time_ms: int = 0) -> AsyncGenerator[StreamChunk]:
        """A list of ``{"txHash": ..., "result": struct log object}``, as JSON text."""
        return self._source.parts(AtHash(block_hash), TraceBlock(options, time_ms), StreamChunk)

    def given_block(self, raw_block: bytes, how: TypedTracers, time_ms: int = 0) -> AsyncGenerator[RunTrace]:
        """As :meth:`block`, of a block that stands on one of the chain's. What is refused raises CallRefused."""
        return self._source.parts(AtLatest(), TraceGivenBlock(raw_block, how, time_ms), RunTrace)

    def given_block_steps(self, raw_block: bytes, options: StructLogs, time_ms: int = 0) -> AsyncGenerator[StreamChunk]:
        return self._source.parts(AtLatest(), TraceGivenBlock(raw_block, options, time_ms), StreamChunk)

    async def call(self, request: CallRequest, at: BlockSelector, how: TypedTracers, more: CallSetting) -> RunTrace:
        return await first_of(self._source.parts(at, more.question((request,), (how,)), RunTrace))

    def call_steps(
        self, request: CallRequest, at: BlockSelector, options: StructLogs, more: CallSetting
    ) -> AsyncGenerator[StreamChunk]:
        return self._source.parts(at, more.question((request,), (options,)), StreamChunk)

    def calls(
        self, requests: tuple[CallRequest, ...], at: BlockSelector, tracers: tuple[TypedTracers, ...]
    ) -> AsyncGenerator[RunTrace]:
        """Each call on what the one before left."""
        return self._source.parts(at, TraceCalls(requests, tracers), RunTrace)


@dataclass(frozen=True, slots=True)
class CallSetting:
    """What a traced call may pretend, and how long it may take."""

    overrides: tuple[StateOverride, ...] = ()
    block: BlockOverride = NO_BLOCK_OVERRIDE
    transaction_index: int | None = None
    """Run it on the state before that transaction of the block."""
    time_ms: int = 0

    def question(self, requests: tuple[CallRequest, ...], tracers: tuple[TracerChoice, ...]) -> TraceCalls:
        return TraceCalls(requests, tracers, self.overrides, self.block, self.transaction_index, self.time_ms)
