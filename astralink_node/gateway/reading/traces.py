"""Transactions, blocks and calls under a tracer. Closing a stream, or giving up a wait, ends the work for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from astralink_node.chain.messages import AtLatest, BlockSelector
from astralink_node.chain.trace_messages import StreamChunk, StructLogs, TraceBlock, TraceTransaction
from astralink_node.gateway.reading.source import Source


class TraceReader:
    """``time_ms`` of 0 means the time that the execution process gives by itself."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def transaction_steps(
        self, transaction_hash: bytes, options: StructLogs, time_ms: int = 0
    ) -> AsyncGenerator[StreamChunk]:
        """geth's struct log object, as JSON text."""
        return self._source.stream(AtLatest(), TraceTransaction(transaction_hash, options, time_ms))

    def block_steps(self, at: BlockSelector, options: StructLogs, time_ms: int = 0) -> AsyncGenerator[StreamChunk]:
        """A list of ``{"txHash": ..., "result": struct log object}``, as JSON text."""
        return self._source.stream(at, TraceBlock(options, time_ms))
