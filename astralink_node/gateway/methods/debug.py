"""debug_*: transactions, blocks and calls under geth's tracers.

Struct logs, and the traces of a block, are passed on as they come where the client can take them in parts.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

import orjson

from astralink_node.chain.messages import AtHash, AtHeight, AtLatest, AtPending, BlockSelector
from astralink_node.chain.trace_messages import RunTrace
from astralink_node.evm import rlp
from astralink_node.evm.blocks import Header, MalformedBlock, decode_header
from astralink_node.evm.tracing.options import StructLogs
from astralink_node.gateway.call_parameters import CallArguments
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import JsonObject, data
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.arguments import (
    BLOCK,
    BLOCK_HASH,
    BLOCK_NUMBER,
    TRANSACTION,
    TRANSACTION_HASH,
    request_of,
)
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.parameters import byte_string
from astralink_node.gateway.reading.block_view import BlockView
from astralink_node.gateway.reading.traces import CallSetting
from astralink_node.gateway.rpc_errors import RpcError, server_error
from astralink_node.gateway.streamed import Streamed
from astralink_node.gateway.traces.large_json import joined, json_text
from astralink_node.gateway.traces.parity_json import TracePlace
from astralink_node.gateway.traces.trace_json import listed, run_pieces
from astralink_node.gateway.traces.trace_parameters import (
    DEFAULT_CALL_TRACE_CONFIG,
    DEFAULT_TRACE_CONFIG,
    FLAT_CALL_TRACER,
    CallTraceConfig,
    Presentation,
    TraceConfig,
    call_trace_config,
    trace_config,
)

CONFIG = Parameter("config", trace_config, DEFAULT_TRACE_CONFIG)
CALL_CONFIG = Parameter("config", call_trace_config, DEFAULT_CALL_TRACE_CONFIG)
NO_JAVASCRIPT = "No JavaScript tracers; `timeout` is 30 s unless given, at most 5 min; `reexec` is ignored."


async def trace_transaction(context: RpcContext, transaction_hash: bytes, config: TraceConfig) -> Json | Streamed:
    if isinstance(config.how, StructLogs):
        return Streamed(context.read.traces.transaction_steps(transaction_hash, config.how, config.time_ms))
    run = await context.read.traces.transaction(transaction_hash, config.how, config.time_ms)
    return await _json(context, config.shown, run, await _place(context, config.shown, run))


async def _json(context: RpcContext, shown: Presentation, run: RunTrace, place: TracePlace | None) -> Json:
    return await json_text(lambda: run_pieces(shown, run, place), context.limits.response_bytes)


async def _place(context: RpcContext, shown: Presentation, run: RunTrace) -> TracePlace | None:
    """Where the transaction stands, if that is shown."""
    if not any(part.name == FLAT_CALL_TRACER for part in (shown, *shown.parts)):
        return None
    found = await context.read.blocks.transaction(run.transaction_hash)
    if found is None:
        return None
    return TracePlace(found.place.block_hash, found.place.height, run.transaction_hash, found.place.index)


async def trace_block_by_number(context: RpcContext, at: BlockSelector, config: TraceConfig) -> Streamed:
    return _trace_block(context, await block_in_geths_words(context, at), config)


async def trace_block_by_hash(context: RpcContext, block_hash: bytes, config: TraceConfig) -> Streamed:
    return _trace_block(context, await block_in_geths_words(context, AtHash(block_hash)), config)


async def trace_block(context: RpcContext, raw_block: bytes, config: TraceConfig) -> Streamed:
    """Whether it is the chain's or not: its parent is."""
    header = _header_of(raw_block)
    if isinstance(config.how, StructLogs):
        return Streamed(context.read.traces.given_block_steps(raw_block, config.how, config.time_ms))
    runs = context.read.traces.given_block(raw_block, config.how, config.time_ms)
    return _run_list(context, runs, header.hash, header.number, config)


def _header_of(raw_block: bytes) -> Header:
    """What is known before the block is executed; whoever does that decodes the rest."""
    try:
        return decode_header(next(iter(rlp.split_list(raw_block)), b""))
    except (rlp.MalformedRlp, MalformedBlock) as error:
        raise server_error(f"could not decode block: {error}") from error


async def block_in_geths_words(context: RpcContext, at: BlockSelector) -> BlockView:
    """A block that must be there: the debug namespace names the one that is not."""
    view = await context.read.blocks.block(at)
    if view is None:
        raise block_not_found(at)
    return view


def block_not_found(at: BlockSelector) -> RpcError:
    match at:
        case AtHash(block_hash):
            return server_error(f"block {data(block_hash)} not found")
        case AtHeight(height):
            return server_error(f"block #{height} not found")
        case AtLatest() | AtPending():
            return server_error("block not found")


def _trace_block(context: RpcContext, view: BlockView, config: TraceConfig) -> Streamed:
    if view.height == 0:
        raise server_error("genesis is not traceable")
    if isinstance(config.how, StructLogs):
        return Streamed(context.read.traces.block_steps(view.block_hash, config.how, config.time_ms))
    runs = context.read.traces.block(view.block_hash, config.how, config.time_ms)
    return _run_list(context, runs, view.block_hash, view.height, config)


def _run_list(
    context: RpcContext, runs: AsyncGenerator[RunTrace], block_hash: bytes, height: int, config: TraceConfig
) -> Streamed:
    max_bytes = context.limits.response_bytes

    def entries(run: RunTrace) -> Iterable[bytes]:
        fields: JsonObject = {"txHash": data(run.transaction_hash)}
        if run.failure:
            fields["error"] = run.failure
        else:
            place = TracePlace(block_hash, height, run.transaction_hash, run.index)
            fields["result"] = orjson.Fragment(joined(run_pieces(config.shown, run, place), max_bytes))
        yield orjson.dumps(fields)

    return listed(runs, entries, max_bytes)


async def trace_call(
    context: RpcContext, arguments: CallArguments, at: BlockSelector, config: CallTraceConfig
) -> Json | Streamed:
    request, trace = request_of(context, arguments), config.trace
    setting = CallSetting(config.overrides, config.block, config.transaction_index, trace.time_ms)
    if isinstance(trace.how, StructLogs):
        return Streamed(context.read.traces.call_steps(request, at, trace.how, setting))
    return await _json(context, trace.shown, await context.read.traces.call(request, at, trace.how, setting), None)


METHODS = (
    Method(
        "debug_traceTransaction", trace_transaction, (TRANSACTION_HASH, CONFIG), note=NO_JAVASCRIPT, takes_long=True
    ),
    Method(
        "debug_traceBlockByNumber", trace_block_by_number, (BLOCK_NUMBER, CONFIG), note=NO_JAVASCRIPT, takes_long=True
    ),
    Method("debug_traceBlockByHash", trace_block_by_hash, (BLOCK_HASH, CONFIG), note=NO_JAVASCRIPT, takes_long=True),
    Method(
        "debug_traceBlock",
        trace_block,
        (Parameter("block", byte_string), CONFIG),
        source=Specification.GETH,
        note="Any block on one of the chain's. On a chain with staking the protocol's own calls, which its RLP lacks, "
        "are made for the chain's blocks alone.",
        takes_long=True,
    ),
    Method(
        "debug_traceCall",
        trace_call,
        (TRANSACTION, BLOCK, CALL_CONFIG),
        source=Specification.GETH,
        note=f"{NO_JAVASCRIPT} `pending`, which geth refuses, is the head's state under the next block's header.",
        takes_long=True,
    ),
)
