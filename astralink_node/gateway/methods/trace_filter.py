"""trace_filter: traces of a range of blocks, by who called and who was called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

import orjson

from astralink_node.chain.messages import AtHeight
from astralink_node.chain.trace_messages import RunTrace
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.reading.errors import IndexGap
from astralink_node.gateway.reading.traces import FRAMES
from astralink_node.gateway.rpc_errors import LIMIT_EXCEEDED, RpcError, response_too_large, server_error
from astralink_node.gateway.traces.large_json import bounded
from astralink_node.gateway.traces.parity_json import TracePlace
from astralink_node.gateway.traces.parity_parameters import TraceFilter, trace_filter_argument
from astralink_node.gateway.traces.parity_runs import flat_json, flat_traces_of

MAX_INDEXED_ADDRESSES: Final = 8
"""Whose blocks are looked up in the index for one filter."""


async def trace_filter(context: RpcContext, wanted: TraceFilter) -> Json:
    limits = context.limits
    head = context.read.blocks.head.view.height
    first, last = wanted.first_height(head), min(wanted.last_height(head), head)
    if first > last:
        raise server_error("invalid parameters: fromBlock cannot be greater than toBlock")
    if wanted.count == 0:
        return []
    found: list[bytes] = []
    found_bytes = 0
    skip = wanted.after
    for height in await _heights(context, wanted, first, last):
        async with aclosing(_matches(context, wanted, height)) as matches:
            async for text in matches:
                if skip:
                    skip -= 1
                    continue
                found.append(text)
                found_bytes += len(text)
                if found_bytes > limits.response_bytes:
                    raise response_too_large(limits.response_bytes)
                if len(found) == wanted.count:
                    return _list(found)
                if len(found) > limits.trace_filter_results:
                    raise RpcError(
                        LIMIT_EXCEEDED,
                        f"more than {limits.trace_filter_results} traces match: ask for less, or in pages with "
                        "after and count",
                    )
    return _list(found)


def _list(found: Sequence[bytes]) -> orjson.Fragment:
    return orjson.Fragment(b"[" + b",".join(found) + b"]")


async def _matches(context: RpcContext, wanted: TraceFilter, height: int) -> AsyncGenerator[bytes]:
    """Of one block, which is executed again; a block without transactions costs a look."""

    def of_run(run: RunTrace, place: TracePlace) -> list[bytes]:
        return bounded(flat_json(filter(wanted.matches, flat_traces_of(run, place))), context.limits.response_bytes)

    view = await context.read.blocks.block(AtHeight(height))
    if view is None or not view.record.raw_transactions:
        return
    async with aclosing(context.read.traces.block(view.block_hash, FRAMES)) as runs:
        async for run in runs:
            place = TracePlace(view.block_hash, height, run.transaction_hash, run.index)
            for text in await asyncio.to_thread(of_run, run, place):
                yield text


# --- Which blocks ----------------------------------------------------------------------------------------------


async def _heights(context: RpcContext, wanted: TraceFilter, first: int, last: int) -> Sequence[int]:
    """All of a small range; of a larger one those in which somebody who is asked for takes part, by the index."""
    limit = context.limits.trace_filter_blocks
    if last - first < limit:
        return range(first, last + 1)
    addresses = wanted.needed_addresses
    if not 0 < len(addresses) <= MAX_INDEXED_ADDRESSES:
        raise _too_large(f"at most {limit} blocks can be filtered at a time, found {last - first + 1}")
    heights: set[int] = set()
    for address in sorted(addresses):
        try:
            async with aclosing(context.read.index.heights_of(address, first, last)) as found:
                async for height in found:
                    heights.add(height)
                    if len(heights) > limit:
                        raise _too_large(f"more than {limit} blocks of it have such transactions")
        except IndexGap as gap:
            raise _too_large(f"at most {limit} blocks can be filtered at a time: {gap}") from gap
    return sorted(heights)


def _too_large(reason: str) -> RpcError:
    return RpcError(LIMIT_EXCEEDED, f"block range too large: {reason}")


METHODS = (
    Method(
        "trace_filter",
        trace_filter,
        (Parameter("filter", trace_filter_argument),),
        Specification.OPENETHEREUM,
        "Blocks are executed again, at most 100; of a longer range those that the explorer index names. Sender and "
        "recipient must both match, or either with Erigon's `mode` of `union`.",
        takes_long=True,
    ),
)
