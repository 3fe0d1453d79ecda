"""Questions that run a transaction, a block or a call under a tracer, and what comes back: typed, or as a stream.

Each goes over a connection of its own: closing it cancels the work. Struct logs come as JSON text in chunks,
because they are large and nobody but the client reads them; everything else is one typed answer. Part of
:mod:`astralink_node.chain.messages`, which takes these into its unions.
"""

from __future__ import annotations

from dataclasses import dataclass

from astralink_node.chain.call_messages import CallRequest, StateOverride

# --- How to trace ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StructLogs:
    """geth's opcode logger, whose answer is a stream of JSON; the fields are those of its trace configuration."""

    with_memory: bool = False
    with_stack: bool = True
    with_storage: bool = True
    with_return_data: bool = False
    limit: int = 0
    """Of the steps listed; 0 lists all."""


@dataclass(frozen=True, slots=True)
class CallFrames:
    """The tree of calls (geth's callTracer), as evm.tracing's CallTrace."""

    only_top_call: bool = False
    with_logs: bool = False


@dataclass(frozen=True, slots=True)
class TouchedAccounts:
    """Accounts and slots touched (geth's prestateTracer), as evm.tracing's Prestate."""

    diff_mode: bool = False
    with_code: bool = True
    with_storage: bool = True
    with_empty: bool = False


@dataclass(frozen=True, slots=True)
class Selectors:
    """Functions called (geth's 4byteTracer), as evm.tracing's SelectorCounts."""


@dataclass(frozen=True, slots=True)
class VmSteps:
    """Effects of every opcode (Parity's vmTrace), as evm.tracing's VmTrace."""


TypedTracer = CallFrames | TouchedAccounts | Selectors | VmSteps


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
class TraceCall:
    """A call that never happens, on the state after the selected block; or after so many of its transactions."""

    request: CallRequest
    overrides: tuple[StateOverride, ...]
    transaction_index: int | None
    tracer: TracerChoice
    time_ms: int = 0


LongQuestion = TraceTransaction | TraceBlock


# --- What comes back -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """A part of a JSON text. Those of one answer, joined in their order, are the whole text."""

    data: bytes
    closing: bytes
    """What makes valid JSON of the text so far, should no more of it come."""


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The text is whole. A stream that ends with another answer, or without one, failed."""


TraceAnswer = StreamChunk | StreamEnd
