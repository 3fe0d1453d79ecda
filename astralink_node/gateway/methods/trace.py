"""trace_*: Parity's traces, as OpenEthereum defined them and Erigon, Nethermind and reth serve them.

What is committed is executed again for each request, so that how far back it goes is bounded by the state that is
kept. What protocol calls do between transactions leaves no traces here: astralink_getProtocolLog tells of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from astralink_node.chain.messages import AtLatest, BlockSelector
from astralink_node.chain.trace_messages import RunTrace
from astralink_node.gateway.call_parameters import CallArguments
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import data
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.arguments import BLOCK, TRANSACTION, TRANSACTION_HASH, request_of
from astralink_node.gateway.methods.table import Handler, Method, Parameter, Specification
from astralink_node.gateway.parameters import byte_string
from astralink_node.gateway.reading.traces import FRAMES, CallSetting
from astralink_node.gateway.streamed import Streamed
from astralink_node.gateway.submission import read_transaction
from astralink_node.gateway.traces.parity_json import FlatTrace, TracePlace
from astralink_node.gateway.traces.parity_parameters import (
    ParityKinds,
    TracedCall,
    kinds,
    request_of_transaction,
    trace_path,
    traced_calls,
)
from astralink_node.gateway.traces.parity_runs import flat_traces_of, parity_run_json
from astralink_node.gateway.traces.trace_json import listed

KINDS = Parameter("traceTypes", kinds)


# --- What happened ---------------------------------------------------------------------------------------------


async def trace_block(context: RpcContext, at: BlockSelector) -> Json | Streamed:
    view = await context.read.blocks.block(at)
    if view is None:
        return None
    if not view.record.raw_transactions:
        return []

    def entries(run: RunTrace) -> Iterable[Json]:
        place = TracePlace(view.block_hash, view.height, run.transaction_hash, run.index)
        return (flat.fields for flat in flat_traces_of(run, place))

    return listed(context.read.traces.block(view.block_hash, FRAMES), entries)


async def trace_transaction(context: RpcContext, transaction_hash: bytes) -> Json:
    traces = await _traces_of(context, transaction_hash)
    return None if traces is None else [flat.fields for flat in traces]


async def trace_get(context: RpcContext, transaction_hash: bytes, path: tuple[int, ...]) -> Json:
    traces = await _traces_of(context, transaction_hash) or ()
    return next((flat.fields for flat in traces if flat.trace_address == path), None)


async def _traces_of(context: RpcContext, transaction_hash: bytes) -> list[FlatTrace] | None:
    found = await context.read.blocks.transaction(transaction_hash)
    if found is None:
        return None
    run = await context.read.traces.transaction(transaction_hash, FRAMES)
    place = TracePlace(found.place.block_hash, found.place.height, transaction_hash, found.place.index)
    return flat_traces_of(run, place)


# --- What happened, kind by kind -------------------------------------------------------------------------------


async def replay_transaction(context: RpcContext, transaction_hash: bytes, wanted: ParityKinds) -> Json:
    return parity_run_json(wanted, await context.read.traces.transaction(transaction_hash, wanted.how))


async def replay_block_transactions(context: RpcContext, at: BlockSelector, wanted: ParityKinds) -> Json | Streamed:
    view = await context.read.blocks.block(at)
    if view is None:
        return None
    if not view.record.raw_transactions:
        return []

    def entries(run: RunTrace) -> Iterable[Json]:
        yield {**parity_run_json(wanted, run), "transactionHash": data(run.transaction_hash)}

    return listed(context.read.traces.block(view.block_hash, wanted.how), entries)


# --- What never happens ----------------------------------------------------------------------------------------


async def trace_call(context: RpcContext, arguments: CallArguments, wanted: ParityKinds, at: BlockSelector) -> Json:
    run = await context.read.traces.call(request_of(context, arguments), at, wanted.how, CallSetting())
    return parity_run_json(wanted, run)


async def trace_call_many(context: RpcContext, calls: tuple[TracedCall, ...], at: BlockSelector) -> Json:
    requests = tuple(request_of(context, call.arguments) for call in calls)
    runs = await context.read.traces.calls(requests, at, tuple(call.kinds.how for call in calls))
    return [parity_run_json(call.kinds, run) for call, run in zip(calls, runs, strict=True)]


async def trace_raw_transaction(context: RpcContext, raw: bytes, wanted: ParityKinds) -> Json:
    request = request_of_transaction(*read_transaction(raw, context.identity.chain_id))
    return parity_run_json(wanted, await context.read.traces.call(request, AtLatest(), wanted.how, CallSetting()))


NO_REWARDS = "No traces of block rewards: the protocol's own calls are astralink_getProtocolLog's."


def _method(name: str, handler: Handler, parameters: tuple[Parameter, ...], note: str = "") -> Method:
    return Method(name, handler, parameters, Specification.OPENETHEREUM, note, takes_long=True)


METHODS = (
    _method("trace_block", trace_block, (BLOCK,), NO_REWARDS),
    _method("trace_transaction", trace_transaction, (TRANSACTION_HASH,)),
    _method("trace_get", trace_get, (TRANSACTION_HASH, Parameter("path", trace_path))),
    _method("trace_replayTransaction", replay_transaction, (TRANSACTION_HASH, KINDS)),
    _method("trace_replayBlockTransactions", replay_block_transactions, (BLOCK, KINDS)),
    _method("trace_call", trace_call, (TRANSACTION, KINDS, BLOCK)),
    _method("trace_callMany", trace_call_many, (Parameter("calls", traced_calls), BLOCK)),
    _method(
        "trace_rawTransaction",
        trace_raw_transaction,
        (Parameter("data", byte_string), KINDS),
        "Nonce and signature's sender are not held against the state, as for a call.",
    ),
)
