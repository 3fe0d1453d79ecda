"""trace_*: Parity's traces, as OpenEthereum defined them and Erigon, Nethermind and reth serve them.

What is committed is executed again for each request, so that how far back it goes is bounded by the state that is
kept. What protocol calls do between transactions leaves no traces here: astralink_getProtocolLog tells of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from astralink_node.chain.messages import AtLatest, BlockSelector
from astralink_node.chain.trace_messages import RunTrace
from astralink_node.gateway.call_parameters import CallArguments
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.arguments import BLOCK, TRANSACTION, TRANSACTION_HASH, request_of
from astralink_node.gateway.methods.table import Handler, Method, Parameter, Specification
from astralink_node.gateway.parameters import byte_string
from astralink_node.gateway.reading.traces import FRAMES, CallSetting
from astralink_node.gateway.streamed import Streamed
from astralink_node.gateway.submission import read_transaction
from astralink_node.gateway.traces.large_json import joined, json_list, json_text
from astralink_node.gateway.traces.parity_json import FlatTrace, TracePlace
from astralink_node.gateway.traces.parity_parameters import (
    ParityKinds,
    TracedCall,
    kinds,
    request_of_transaction,
    trace_path,
    traced_calls,
)
from astralink_node.gateway.traces.parity_runs import flat_json, flat_traces_of, parity_run_pieces
from astralink_node.gateway.traces.trace_json import listed

KINDS = Parameter("traceTypes", kinds)


# --- What happened ---------------------------------------------------------------------------------------------


async def trace_block(context: RpcContext, at: BlockSelector) -> Json | Streamed:
    view = await context.read.blocks.block(at)
    if view is None:
        return None
    if not view.record.raw_transactions:
        return []

    def entries(run: RunTrace) -> Iterable[bytes]:
        place = TracePlace(view.block_hash, view.height, run.transaction_hash, run.index)
        return flat_json(flat_traces_of(run, place))

    return listed(context.read.traces.block(view.block_hash, FRAMES), entries, context.limits.response_bytes)


async def trace_transaction(context: RpcContext, transaction_hash: bytes) -> Json:
    traces = await _traces_of(context, transaction_hash)
    return None if traces is None else await json_list(lambda: flat_json(traces), context.limits.response_bytes)


async def trace_get(context: RpcContext, transaction_hash: bytes, path: tuple[int, ...]) -> Json:
    traces = await _traces_of(context, transaction_hash)
    if traces is None:
        return None

    def found() -> Iterator[bytes]:
        yield next(flat_json(flat for flat in traces if flat.trace_address == path), b"null")

    return await json_text(found, context.limits.response_bytes)


async def _traces_of(context: RpcContext, transaction_hash: bytes) -> Iterator[FlatTrace] | None:
    found = await context.read.blocks.transaction(transaction_hash)
    if found is None:
        return None
    run = await context.read.traces.transaction(transaction_hash, FRAMES)
    place = TracePlace(found.place.block_hash, found.place.height, transaction_hash, found.place.index)
    return flat_traces_of(run, place)


# --- What happened, kind by kind -------------------------------------------------------------------------------


async def replay_transaction(context: RpcContext, transaction_hash: bytes, wanted: ParityKinds) -> Json:
    run = await context.read.traces.transaction(transaction_hash, wanted.how)
    return await _parity_json(context, wanted, run)


async def replay_block_transactions(context: RpcContext, at: BlockSelector, wanted: ParityKinds) -> Json | Streamed:
    view = await context.read.blocks.block(at)
    if view is None:
        return None
    if not view.record.raw_transactions:
        return []

    max_bytes = context.limits.response_bytes

    def entries(run: RunTrace) -> Iterable[bytes]:
        yield joined(parity_run_pieces(wanted, run, with_hash=True), max_bytes)

    return listed(context.read.traces.block(view.block_hash, wanted.how), entries, max_bytes)


# --- What never happens ----------------------------------------------------------------------------------------


async def trace_call(context: RpcContext, arguments: CallArguments, wanted: ParityKinds, at: BlockSelector) -> Json:
    run = await context.read.traces.call(request_of(context, arguments), at, wanted.how, CallSetting())
    return await _parity_json(context, wanted, run)


async def trace_call_many(context: RpcContext, calls: tuple[TracedCall, ...], at: BlockSelector) -> Streamed:
    requests = tuple(request_of(context, call.arguments) for call in calls)
    max_bytes = context.limits.response_bytes

    def entries(run: RunTrace) -> Iterable[bytes]:
        yield joined(parity_run_pieces(calls[run.index].kinds, run), max_bytes)

    return listed(context.read.traces.calls(requests, at, tuple(call.kinds.how for call in calls)), entries, max_bytes)


async def trace_raw_transaction(context: RpcContext, raw: bytes, wanted: ParityKinds) -> Json:
    request = request_of_transaction(*read_transaction(raw, context.identity.chain_id))
    run = await context.read.traces.call(request, AtLatest(), wanted.how, CallSetting())
    return await _parity_json(context, wanted, run)


async def _parity_json(context: RpcContext, wanted: ParityKinds, run: RunTrace) -> Json:
    return await json_text(lambda: parity_run_pieces(wanted, run), context.limits.response_bytes)


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
