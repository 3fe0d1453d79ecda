"""ots_*: what Otterscan asks about the inside of a transaction. It is executed again, under the call tracer.

Shapes are Erigon's: calls that failed or were undone are listed like the others, precompiles are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import orjson

from astralink_node.chain.trace_messages import TypedTracers
from astralink_node.evm.tracing.records import CallFrame, CallTrace
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import JsonObject, data, quantity
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.arguments import TRANSACTION_HASH
from astralink_node.gateway.methods.table import Method, Specification
from astralink_node.gateway.reading.traces import FRAMES
from astralink_node.gateway.traces.large_json import json_list
from astralink_node.gateway.traces.parity_json import REVERTED

OUTCOME: Final = TypedTracers(())
TRANSFER: Final = 0
OPERATIONS: Final = {"SELFDESTRUCT": 1, "CREATE": 2, "CREATE2": 3}
_VALUED: Final = frozenset({"CALL", "CALLCODE", "CREATE", "CREATE2", "SELFDESTRUCT"})


async def trace_transaction(context: RpcContext, transaction_hash: bytes) -> Json:
    """The tree of calls as a list with depths."""
    frames = await _frames(context, transaction_hash)
    return await json_list(
        lambda: (orjson.dumps(_entry(frame)) for frame in frames if not frame.precompile), context.limits.response_bytes
    )


async def get_internal_operations(context: RpcContext, transaction_hash: bytes) -> Json:
    """What moved value, created or destroyed within the transaction, other than the transaction itself."""
    frames = await _frames(context, transaction_hash)
    return await json_list(lambda: _operations(frames[1:]), context.limits.response_bytes)


async def get_transaction_error(context: RpcContext, transaction_hash: bytes) -> Json:
    """The revert data; empty if it succeeded, and if it failed without saying why."""
    run = await context.read.traces.transaction(transaction_hash, OUTCOME)
    return data(run.output if run.error == REVERTED else b"")


async def _frames(context: RpcContext, transaction_hash: bytes) -> tuple[CallFrame, ...]:
    run = await context.read.traces.transaction(transaction_hash, FRAMES)
    (trace,) = run.results
    assert isinstance(trace, CallTrace), "frames were asked for"
    return trace.frames


def _entry(frame: CallFrame) -> JsonObject:
    return {
        "type": frame.kind,
        "depth": frame.depth,
        "from": data(frame.sender),
        "to": data(frame.to),
        "value": quantity(frame.value or 0) if frame.kind in _VALUED else None,
        "input": data(frame.input),
        "output": data(frame.output),
    }


def _operations(frames: Sequence[CallFrame]) -> Iterator[bytes]:
    for frame in frames:
        kind = _operation(frame)
        if kind is not None:
            addresses = {"from": data(frame.sender), "to": data(frame.to)}
            yield orjson.dumps({"type": kind, **addresses, "value": quantity(frame.value or 0)})


def _operation(frame: CallFrame) -> int | None:
    if frame.kind == "CALL":
        return TRANSFER if frame.value else None
    return OPERATIONS.get(frame.kind)


METHODS = (
    Method(
        "ots_traceTransaction",
        trace_transaction,
        (TRANSACTION_HASH,),
        source=Specification.OTTERSCAN,
        note="Only while the state before its block is kept.",
        takes_long=True,
    ),
    Method(
        "ots_getInternalOperations",
        get_internal_operations,
        (TRANSACTION_HASH,),
        source=Specification.OTTERSCAN,
        note="Only while the state before its block is kept.",
        takes_long=True,
    ),
    Method(
        "ots_getTransactionError",
        get_transaction_error,
        (TRANSACTION_HASH,),
        source=Specification.OTTERSCAN,
        note="Only while the state before its block is kept.",
        takes_long=True,
    ),
)
