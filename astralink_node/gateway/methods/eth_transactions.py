"""eth_*: transactions and receipts, and the way in for signed ones."""

from __future__ import annotations

from astralink_node.chain.messages import AtHash, AtPending, BlockSelector
from astralink_node.evm.blocks import decode_receipt
from astralink_node.evm.transactions import decode_transaction
from astralink_node.gateway.block_json import transaction_json
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import data, receipt_fields, transaction_fields
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.eth_blocks import BLOCK_HASH, BLOCK_NUMBER, INDEX
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.mined_wait import until_mined
from astralink_node.gateway.parameters import byte_string, hash32

MAX_SHOWN = 4096
"""Pending transactions of the node's own accounts, the first ones."""

TRANSACTION_HASH = Parameter("transactionHash", hash32)


async def send_raw_transaction(context: RpcContext, raw: bytes) -> Json:
    transaction_hash = await context.submissions.submit(raw)
    await until_mined(context.read, raw, context.mined_wait_ms)
    return data(transaction_hash)


async def get_transaction_by_hash(context: RpcContext, transaction_hash: bytes) -> Json:
    """In a block, or in the mempool with its place null."""
    found = await context.read.blocks.transaction(transaction_hash)
    if found is None:
        pooled = await context.read.pool.transaction(transaction_hash)
        if pooled is not None:
            return transaction_fields(decode_transaction(pooled.raw_transaction), pooled.sender, None)
        # It may have moved from the mempool into a block between the two questions.
        found = await context.read.blocks.transaction(transaction_hash)
    return None if found is None else transaction_fields(decode_transaction(found.raw), found.sender, found.place)


async def get_raw_transaction_by_hash(context: RpcContext, transaction_hash: bytes) -> Json:
    found = await context.read.blocks.transaction(transaction_hash)
    if found is not None:
        return data(found.raw)
    pooled = await context.read.pool.transaction(transaction_hash)
    return "0x" if pooled is None else data(pooled.raw_transaction)


async def _by_index(context: RpcContext, at: BlockSelector, index: int) -> Json:
    view = None if isinstance(at, AtPending) else await context.read.blocks.block(at)
    if view is None or index >= len(view.record.raw_transactions):
        return None
    return transaction_json(view, index)


async def get_transaction_by_block_number(context: RpcContext, at: BlockSelector, index: int) -> Json:
    return await _by_index(context, at, index)


async def get_transaction_by_block_hash(context: RpcContext, block_hash: bytes, index: int) -> Json:
    return await _by_index(context, AtHash(block_hash), index)


async def _raw_by_index(context: RpcContext, at: BlockSelector, index: int) -> Json:
    view = None if isinstance(at, AtPending) else await context.read.blocks.block(at)
    if view is None or index >= len(view.record.raw_transactions):
        return "0x"
    return data(view.record.raw_transactions[index])


async def get_raw_transaction_by_block_number(context: RpcContext, at: BlockSelector, index: int) -> Json:
    return await _raw_by_index(context, at, index)


async def get_raw_transaction_by_block_hash(context: RpcContext, block_hash: bytes, index: int) -> Json:
    return await _raw_by_index(context, AtHash(block_hash), index)


async def pending_transactions(context: RpcContext) -> Json:
    """Of the node's own accounts: a devnet's unlocked ones."""
    if context.accounts is None:
        return []
    ours = await context.read.pool.pending(sorted(context.accounts.addresses), MAX_SHOWN)
    return [transaction_fields(decode_transaction(each.raw_transaction), each.sender, None) for each in ours]


async def get_transaction_receipt(context: RpcContext, transaction_hash: bytes) -> Json:
    found = await context.read.blocks.transaction_with_receipt(transaction_hash)
    if found is None or found.receipt is None:
        return None
    return receipt_fields(
        decode_receipt(found.receipt.raw_receipt),
        found.receipt,
        decode_transaction(found.raw),
        found.sender,
        found.place,
    )


METHODS = (
    Method(
        "eth_sendRawTransaction",
        send_raw_transaction,
        (Parameter("transaction", byte_string),),
        note="Types 0, 1, 2 and 4; blob transactions do not exist on this chain.",
    ),
    Method("eth_getTransactionByHash", get_transaction_by_hash, (TRANSACTION_HASH,)),
    Method("eth_getRawTransactionByHash", get_raw_transaction_by_hash, (TRANSACTION_HASH,), Specification.GETH),
    Method("eth_getTransactionByBlockNumberAndIndex", get_transaction_by_block_number, (BLOCK_NUMBER, INDEX)),
    Method("eth_getTransactionByBlockHashAndIndex", get_transaction_by_block_hash, (BLOCK_HASH, INDEX)),
    Method(
        "eth_getRawTransactionByBlockNumberAndIndex",
        get_raw_transaction_by_block_number,
        (BLOCK_NUMBER, INDEX),
        source=Specification.GETH,
    ),
    Method(
        "eth_getRawTransactionByBlockHashAndIndex",
        get_raw_transaction_by_block_hash,
        (BLOCK_HASH, INDEX),
        source=Specification.GETH,
    ),
    Method(
        "eth_pendingTransactions",
        pending_transactions,
        source=Specification.GETH,
        note="Of the node's own accounts, which only a devnet has; `txpool_content` has all.",
    ),
    Method("eth_getTransactionReceipt", get_transaction_receipt, (TRANSACTION_HASH,)),
)
