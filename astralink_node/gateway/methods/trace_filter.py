"""trace_filter: traces of a range of blocks, by who called and who was called."""

from __future__ import annotations

from contextlib import aclosing

from astralink_node.chain.messages import AtHeight
from astralink_node.chain.trace_messages import CallFrames, TypedTracers
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import JsonObject
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.parity_json import TracePlace
from astralink_node.gateway.parity_parameters import TraceFilter, trace_filter_argument
from astralink_node.gateway.parity_runs import flat_traces_of
from astralink_node.gateway.rpc_errors import LIMIT_EXCEEDED, RpcError, server_error

FRAMES = TypedTracers((CallFrames(),))


async def trace_filter(context: RpcContext, wanted: TraceFilter) -> Json:
    """Blocks without transactions cost a look; every other one is executed again."""
    blocks, limits = context.read.blocks, context.limits
    head = blocks.head.view.height
    first = wanted.first_height(head)
    last = min(wanted.last_height(head), head)
    if first > last:
        raise server_error("invalid parameters: fromBlock cannot be greater than toBlock")
    if last - first >= limits.trace_filter_blocks:
        raise RpcError(
            LIMIT_EXCEEDED,
            f"block range too large: at most {limits.trace_filter_blocks} blocks can be filtered at a time, "
            f"found {last - first + 1}",
        )
    if wanted.count == 0:
        return []
    found: list[JsonObject] = []
    skip = wanted.after
    for height in range(first, last + 1):
        view = await blocks.block(AtHeight(height))
        if view is None or not view.record.raw_transactions:
            continue
        async with aclosing(context.read.traces.block(view.block_hash, FRAMES)) as runs:
            async for run in runs:
                for flat in flat_traces_of(run, TracePlace(view.block_hash, height, run.transaction_hash, run.index)):
                    if not wanted.matches(flat):
                        continue
                    if skip:
                        skip -= 1
                        continue
                    found.append(flat.fields)
                    if len(found) == wanted.count:
                        return found
                    if len(found) > limits.trace_filter_results:
                        raise RpcError(
                            LIMIT_EXCEEDED,
                            f"more than {limits.trace_filter_results} traces match: ask for less, or in pages with "
                            "after and count",
                        )
    return found


METHODS = (
    Method(
        "trace_filter",
        trace_filter,
        (Parameter("filter", trace_filter_argument),),
        Specification.OPENETHEREUM,
        "Blocks are executed again: at most `trace_filter_blocks` of them. Sender and recipient must both match, or "
        "either with Erigon's `mode` of `union`.",
        takes_long=True,
    ),
)
