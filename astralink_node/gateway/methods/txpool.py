"""txpool_*: the mempool's content. Served only where --rpc-api names it: it shows what others are about to do."""

from __future__ import annotations

from collections.abc import Iterable

from astralink_node.evm.transactions import Transaction, decode_transaction
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import JsonObject, checksum_address, quantity, transaction_fields
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.link_messages import SubmittedTransaction
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.parameters import address


async def status(context: RpcContext) -> Json:
    counts = await context.read.node.status()
    return {"pending": quantity(counts.pending_transactions), "queued": quantity(counts.queued_transactions)}


async def content(context: RpcContext) -> Json:
    pool = await context.read.pool.content()
    return {"pending": _by_sender(pool.pending), "queued": _by_sender(pool.queued)}


async def content_from(context: RpcContext, account: bytes) -> Json:
    pool = await context.read.pool.content()
    return {
        "pending": _by_nonce(each for each in pool.pending if each.sender == account),
        "queued": _by_nonce(each for each in pool.queued if each.sender == account),
    }


async def inspect(context: RpcContext) -> Json:
    pool = await context.read.pool.content()
    return {"pending": _summaries(pool.pending), "queued": _summaries(pool.queued)}


def _by_sender(transactions: Iterable[SubmittedTransaction]) -> dict[str, JsonObject]:
    senders: dict[str, JsonObject] = {}
    for each in transactions:
        transaction = decode_transaction(each.raw_transaction)
        nonces = senders.setdefault(checksum_address(each.sender), {})
        nonces[str(transaction.nonce)] = transaction_fields(transaction, each.sender, None)
    return senders


def _by_nonce(transactions: Iterable[SubmittedTransaction]) -> JsonObject:
    fields: JsonObject = {}
    for each in transactions:
        transaction = decode_transaction(each.raw_transaction)
        fields[str(transaction.nonce)] = transaction_fields(transaction, each.sender, None)
    return fields


def _summaries(transactions: Iterable[SubmittedTransaction]) -> dict[str, JsonObject]:
    senders: dict[str, JsonObject] = {}
    for each in transactions:
        transaction = decode_transaction(each.raw_transaction)
        senders.setdefault(checksum_address(each.sender), {})[str(transaction.nonce)] = _summary(transaction)
    return senders


def _summary(transaction: Transaction) -> str:
    recipient = checksum_address(transaction.to) if transaction.to else "contract creation"
    price = transaction.gas_price
    return f"{recipient}: {transaction.value} wei + {transaction.gas_limit} gas × {price} wei"


METHODS = (
    Method("txpool_status", status),
    Method("txpool_content", content),
    Method("txpool_contentFrom", content_from, (Parameter("address", address),)),
    Method("txpool_inspect", inspect, source=Specification.GETH),
)
