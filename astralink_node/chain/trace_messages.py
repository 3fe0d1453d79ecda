"""Questions that run a transaction, a block or a call under a tracer, and what comes back: typed, or as a stream.

Each goes over a connection of its own: closing it cancels the work. Struct logs come as JSON text in chunks,
because they are large and nobody but the client reads them; everything else is typed, one answer a run. How to trace
and what was found are evm.tracing's own values (options, records). Part of :mod:`astralink_node.chain.messages`, which
takes these into its unions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from astralink_node.chain.call_messages import NO_BLOCK_OVERRIDE, BlockOverride, CallRequest, StateOverride
from astralink_node.chain.replay_messages import ReplayAnswer, ReplayQuestion
from astralink_node.evm.tracing.options import StructLogs, TypedTracer
from astralink_node.evm.tracing.records import CallTrace, Prestate, SelectorCounts, VmTrace

MAX_TRACED_CALLS: Final = 128
"""In one TraceCalls."""

# --- How to trace ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TypedTracers:
    """Several on one run; none of them still says what came of the transaction."""

    tracers: tuple[TypedTracer, ...]


TracerChoice = StructLogs | TypedTracers


# --- What to trace ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TraceTransaction:
    """A committed transaction; the selector is ignored. ``time_ms`` of 0 asks for the usual time."""

    transaction_hash: bytes
    tracer: TracerChoice
    time_ms: int = 0


@dataclass(frozen=True, slots=True)
class TraceBlock:
    """Every transaction of the selected block."""

    tracer: TracerChoice
    time_ms: int = 0


@dataclass(frozen=True, slots=True)
class TraceGivenBlock:
    """Every transaction of a block whose parent is committed, be it the chain's or not; the selector is ignored."""

    raw_block: bytes
    """RLP of an Ethereum block."""
    tracer: TracerChoice
    time_ms: int = 0


@dataclass(frozen=True, slots=True)
class TraceCalls:
    """Calls that never happen, each on what the one before left: on the state after the selected block, and under it.

    With an index, on the state before that transaction of the block.
    """

    requests: tuple[CallRequest, ...]
    tracers: tuple[TracerChoice, ...]
    """Of each; a call with struct logs stands alone."""
    overrides: tuple[StateOverride, ...] = ()
    block: BlockOverride = NO_BLOCK_OVERRIDE
    transaction_index: int | None = None
    time_ms: int = 0


TraceQuestion = TraceTransaction | TraceBlock | TraceGivenBlock | TraceCalls
LongQuestion = TraceQuestion | ReplayQuestion


# --- What comes back -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """A part of a JSON text. Those of one answer, joined in their order, are the whole text."""

    data: bytes
    closing: bytes
    """What makes valid JSON of the text so far, should no more of it come."""


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """There is no more to come. A stream that ends with another answer, or without one, failed."""


TraceResult = CallTrace | Prestate | SelectorCounts | VmTrace


@dataclass(frozen=True, slots=True)
class RunTrace:
    """What came of one run, and what each of the tracers found, in the order in which they were asked for.

    An answer has one for each run, in their order, and then the end.
    """

    transaction_hash: bytes
    """Empty for a call."""
    index: int
    """In its block, or among the calls."""
    gas_used: int
    output: bytes
    """Returned data, or revert data."""
    error: str
    """In geth's words; empty if it succeeded."""
    results: tuple[TraceResult, ...]
    failure: str = ""
    """Why there are no results, such as that they would be too large."""


TracePart = StreamChunk | RunTrace | ReplayAnswer
"""One kind in one answer; of a :data:`ReplayQuestion` a single one."""
TraceAnswer = TracePart | StreamEnd
