"""txpool_*: the mempool's content. Served only where --rpc-api names it: it shows what others are about to do.

Answers are put together page by page, so a full mempool delays nobody else; one that would be longer than an answer
may be is refused with the way to ask for less.
"""

from __future__ import annotations

from collections.abc import Callable

from astralink_node.crypto.addresses import checksum_address
from astralink_node.evm.transactions import Transaction, decode_transaction
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import JsonObject, quantity, transaction_fields
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.arguments import ADDRESS
from astralink_node.gateway.methods.table import Method, Specification
from astralink_node.gateway.reading.errors import TooMuch

FIELDS_BYTES = 700
"""Of JSON that a transaction makes besides its bytes, which are two digits each."""
SUMMARY_BYTES = 120
"""Of a line of txpool_inspect, with its nonce."""

Show = Callable[[Transaction, bytes], Json]
"""(transaction, sender) -> its JSON."""


async def status(context: RpcContext) -> Json:
    counts = await context.read.node.status()
    return {"pending": quantity(counts.pending_transactions), "queued": quantity(counts.queued_transactions)}


async def content(context: RpcContext) -> Json:
    return await _all(context, _fields, FIELDS_BYTES, "txpool_contentFrom tells one sender's")


async def content_from(context: RpcContext, account: bytes) -> Json:
    told = await _told(context, [account], _fields, FIELDS_BYTES, "eth_getTransactionByHash tells one")
    return {kind: senders.get(account, {}) for kind, senders in told.items()}


async def inspect(context: RpcContext) -> Json:
    return await _all(context, _summary, SUMMARY_BYTES, "txpool_contentFrom tells one sender's")


async def _all(context: RpcContext, show: Show, bytes_each: int, otherwise: str) -> Json:
    told = await _told(context, await context.read.pool.senders(), show, bytes_each, otherwise)
    return {
        kind: {checksum_address(sender): nonces for sender, nonces in senders.items()} for kind, senders in told.items()
    }


async def _told(
    context: RpcContext, senders: list[bytes], show: Show, bytes_each: int, otherwise: str
) -> dict[str, dict[bytes, JsonObject]]:
    """By ``pending`` and ``queued``, sender and nonce. Raises TooMuch, which says what to ask instead."""
    told: dict[str, dict[bytes, JsonObject]] = {"pending": {}, "queued": {}}
    room = limit = context.limits.response_bytes
    async for page in context.read.pool.pages(senders):
        for kind, transactions in (("pending", page.pending), ("queued", page.queued)):
            for each in transactions:
                transaction = decode_transaction(each.raw_transaction)
                told[kind].setdefault(each.sender, {})[str(transaction.nonce)] = show(transaction, each.sender)
                room -= bytes_each + (2 * len(each.raw_transaction) if show is _fields else 0)
        if room < 0:
            raise TooMuch(f"the mempool holds more than an answer of {limit} bytes can: {otherwise}")
    return told


def _fields(transaction: Transaction, sender: bytes) -> Json:
    return transaction_fields(transaction, sender, None)


def _summary(transaction: Transaction, _sender: bytes) -> Json:
    recipient = checksum_address(transaction.to) if transaction.to else "contract creation"
    price = transaction.gas_price
    return f"{recipient}: {transaction.value} wei + {transaction.gas_limit} gas × {price} wei"


METHODS = (
    Method("txpool_status", status),
    Method("txpool_content", content, note="An answer longer than the response limit is refused with -32005."),
    Method("txpool_contentFrom", content_from, (ADDRESS,)),
    Method("txpool_inspect", inspect, source=Specification.GETH),
)
