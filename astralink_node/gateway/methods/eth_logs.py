"""eth_*: logs, filters that are polled, and subscriptions that are pushed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import orjson

from astralink_node.chain.messages import AtHash, AtHeight, AtLatest, AtPending, BlockSelector, LogRecord
from astralink_node.evm.transactions import decode_transaction
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import data, log_fields, transaction_fields
from astralink_node.gateway.filters import BlockPoll, FullPendingPoll, LogPoll, PendingPoll
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.log_filters import LogFilter, check_bounds, log_filter
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.parameters import BadValue, anything, boolean, hash32, text
from astralink_node.gateway.reading.errors import TooMuch
from astralink_node.gateway.reading.log_pattern import LogPattern
from astralink_node.gateway.rpc_errors import (
    invalid_argument,
    invalid_params,
    server_error,
    subscriptions_need_websocket,
)
from astralink_node.gateway.subscriptions import (
    Logs,
    NewHeads,
    PendingTransactions,
    Syncing,
    Topic,
    TransactionReceipts,
)
from astralink_node.gateway.traces.large_json import json_list

FILTER = Parameter("filter", log_filter)
FILTER_ID = Parameter("filterId", text)
BLOCKS_PER_POLL = 1024
"""A block filter that fell further behind is told of the rest at its next poll."""

FEW_LOGS = 500
"""The JSON of more is made in a thread."""


# --- Logs ----------------------------------------------------------------------------------------------------


async def get_logs(context: RpcContext, wanted: LogFilter) -> Json:
    _check(context, wanted.pattern)
    if wanted.block_hash is not None:
        view = await context.read.blocks.block_with_receipts(AtHash(wanted.block_hash))
        if view is None:
            raise server_error("unknown block")
        return await _logs_json(context, context.read.logs.of_views([view], wanted.pattern))
    first, last = _range(context, wanted)
    head_height = context.read.blocks.head.height
    if last > head_height:
        raise invalid_params("block range extends beyond current head block")
    if first > last:
        raise invalid_params("invalid block range params")
    return await _logs_between(context, first, last, wanted.pattern)


def _check(context: RpcContext, pattern: LogPattern) -> None:
    check_bounds(pattern, context.limits.log_addresses, context.limits.log_topic_choices)


def _range(context: RpcContext, wanted: LogFilter) -> tuple[int, int]:
    """Heights of the filter's ends; an end left open is the head."""
    first = _end(context, wanted.from_block)
    return first, _end(context, wanted.to_block)


def _end(context: RpcContext, at: BlockSelector | None) -> int:
    match at:
        case None | AtLatest():
            return context.read.blocks.head.height
        case AtHeight(height):
            return height
        case AtPending():
            raise invalid_params("pending logs are not supported")
        case AtHash():
            raise invalid_params("a block range has heights for ends")


async def _logs_between(context: RpcContext, first: int, last: int, pattern: LogPattern) -> Json:
    return await _logs_json(context, await context.read.logs.between(first, last, pattern))


async def _logs_json(context: RpcContext, logs: Sequence[LogRecord]) -> Json:
    if len(logs) <= FEW_LOGS:
        return [log_fields(log) for log in logs]
    return await json_list(lambda: (orjson.dumps(log_fields(log)) for log in logs), context.limits.response_bytes)


# --- Filters -------------------------------------------------------------------------------------------------


async def new_filter(context: RpcContext, wanted: LogFilter) -> Json:
    _check(context, wanted.pattern)
    if wanted.block_hash is not None:
        raise invalid_params("a filter follows blocks to come: blockHash is for eth_getLogs")
    first, last = _range(context, wanted)
    if first > last and isinstance(wanted.to_block, AtHeight):  # an open end moves on, past any first block
        raise invalid_params("invalid block range params")
    return context.filters.add(LogPoll(wanted, context.read.blocks.head.height + 1))


async def new_block_filter(context: RpcContext) -> Json:
    return context.filters.add(BlockPoll(context.read.blocks.head.height + 1))


async def new_pending_transaction_filter(context: RpcContext, full: object) -> Json:
    """Of hashes, or of whole transactions if `full` is True."""
    return context.filters.add(context.filters.full_pending_poll() if full else context.filters.pending_poll())


async def uninstall_filter(context: RpcContext, filter_id: str) -> Json:
    return context.filters.remove(filter_id)


async def get_filter_changes(context: RpcContext, filter_id: str) -> Json:
    poll = context.filters.get(filter_id)
    match poll:
        case PendingPoll():
            hashes = [data(transaction_hash) for transaction_hash in poll.hashes]
            poll.hashes.clear()
            return hashes
        case FullPendingPoll():
            return await _pending_transactions(context, poll)
        case BlockPoll():
            return await _new_block_hashes(context, poll)
        case LogPoll():
            return await _new_logs(context, poll)


async def _pending_transactions(context: RpcContext, poll: FullPendingPoll) -> Json:
    taken = poll.take()
    return await json_list(
        lambda: (
            orjson.dumps(transaction_fields(decode_transaction(each.raw_transaction), each.sender, None))
            for each in taken
        ),
        context.limits.response_bytes,
    )


async def _new_block_hashes(context: RpcContext, poll: BlockPoll) -> Json:
    first = poll.next_height
    last = min(context.read.blocks.head.height, first + BLOCKS_PER_POLL - 1)
    # Moved before anything is awaited, so that two polls at once share the blocks between them.
    poll.next_height = max(first, last + 1)
    hashes: list[Json] = []
    with _untold_if_it_fails(poll, first):
        for height in range(first, last + 1):
            view = await context.read.blocks.block(AtHeight(height))
            if view is not None:
                hashes.append(data(view.block_hash))
    return hashes


@contextmanager
def _untold_if_it_fails(poll: BlockPoll | LogPoll, first: int) -> Iterator[None]:
    """The next poll begins there again: rather twice than never. Whoever asks may also leave, or run out of time."""
    try:
        yield
    except BaseException:
        poll.next_height = min(poll.next_height, first)
        raise


async def _new_logs(context: RpcContext, poll: LogPoll) -> Json:
    head_height = context.read.blocks.head.height
    first = poll.next_height
    if isinstance(poll.log_filter.from_block, AtHeight):
        first = max(first, poll.log_filter.from_block.height)
    last = min(head_height, first + context.limits.log_range_blocks - 1)
    if isinstance(poll.log_filter.to_block, AtHeight):
        last = min(last, poll.log_filter.to_block.height)
    if first > last:
        return []
    poll.next_height = last + 1
    with _untold_if_it_fails(poll, first):
        while True:
            try:
                return await _logs_between(context, first, last, poll.log_filter.pattern)
            except TooMuch:
                if first == last:
                    raise
                # The rest is for the next poll.
                last = (first + last) // 2
                poll.next_height = min(poll.next_height, last + 1)


async def get_filter_logs(context: RpcContext, filter_id: str) -> Json:
    poll = context.filters.get(filter_id)
    if not isinstance(poll, LogPoll):
        raise server_error("filter not found")
    return await get_logs(context, poll.log_filter)


# --- Subscriptions -------------------------------------------------------------------------------------------


async def subscribe(context: RpcContext, kind: str, argument: object) -> Json:
    if context.connection is None:
        raise subscriptions_need_websocket()
    return context.connection.subscribe(_topic(context, kind, argument))


async def unsubscribe(context: RpcContext, subscription_id: str) -> Json:
    if context.connection is None:
        raise subscriptions_need_websocket()
    if not context.connection.unsubscribe(subscription_id):
        raise server_error("subscription not found")
    return True


def _topic(context: RpcContext, kind: str, argument: object) -> Topic:
    match kind:
        case "newHeads":
            return NewHeads()
        case "logs":
            try:
                wanted = log_filter("filter", {} if argument is None else argument)
            except BadValue as error:
                raise invalid_argument(1, str(error)) from error
            _check(context, wanted.pattern)
            return Logs(wanted.pattern)
        case "newPendingTransactions":
            if argument not in (None, True, False):
                raise invalid_argument(1, "fullTransactions: expected true or false")
            return PendingTransactions(full=argument is True)
        case "syncing":
            return Syncing()
        case "transactionReceipts":
            return TransactionReceipts(_receipt_hashes(argument, context.limits.receipt_hashes))
        case _:
            raise invalid_argument(0, f'subscription: no "{kind[:50]}" subscription in eth namespace')


def _receipt_hashes(argument: object, limit: int) -> frozenset[bytes]:
    if argument is None:
        return frozenset()
    given = argument.get("transactionHashes") if isinstance(argument, dict) else argument
    if given is None:
        return frozenset()
    if not isinstance(given, list):
        raise invalid_argument(1, "filter.transactionHashes: expected an array")
    if len(given) > limit:
        raise invalid_params(
            f"exceed max number of transaction hashes allowed per transactionReceipts subscription: at most {limit}"
        )
    try:
        return frozenset(hash32(f"filter.transactionHashes[{index}]", each) for index, each in enumerate(given))
    except BadValue as error:
        raise invalid_argument(1, str(error)) from error


METHODS = (
    Method(
        "eth_getLogs",
        get_logs,
        (FILTER,),
        note="Bounded by `rpc.max_log_range` and `rpc.max_log_results`; a range beyond the head is an error.",
    ),
    Method("eth_newFilter", new_filter, (FILTER,)),
    Method("eth_newBlockFilter", new_block_filter),
    Method(
        "eth_newPendingTransactionFilter",
        new_pending_transaction_filter,
        (Parameter("fullTransactions", boolean, None),),
        note="Takes geth's flag for whole transactions, of which a filter holds the newest 4,096 or 4 MiB.",
    ),
    Method("eth_uninstallFilter", uninstall_filter, (FILTER_ID,)),
    Method("eth_getFilterChanges", get_filter_changes, (FILTER_ID,)),
    Method("eth_getFilterLogs", get_filter_logs, (FILTER_ID,)),
    Method(
        "eth_subscribe",
        subscribe,
        (Parameter("subscription", text), Parameter("argument", anything, None)),
        Specification.GETH,
        note="WebSocket only. Nothing is ever taken back, so no log has `removed`; "
        "`syncing` comes with the head after the change.",
    ),
    Method("eth_unsubscribe", unsubscribe, (Parameter("subscriptionId", text),), Specification.GETH),
)
