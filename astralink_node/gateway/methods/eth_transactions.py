"""eth_*: transactions and receipts, and the way in for signed ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from astralink_node.chain.messages import AtHash, AtLatest, AtPending, BlockSelector
from astralink_node.evm.blocks import decode_receipt
from astralink_node.evm.transactions import decode_transaction
from astralink_node.gateway.block_json import transaction_json
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import data, receipt_fields, transaction_fields
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.arguments import ADDRESS, BLOCK_HASH, BLOCK_NUMBER, INDEX, TRANSACTION_HASH
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.mined_wait import settle
from astralink_node.gateway.parameters import byte_string, quantity64

MAX_SHOWN: Final = 4096
"""Pending transactions in one list: a full mempool would make an answer that nobody reads."""


async def send_raw_transaction(context: RpcContext, raw: bytes) -> Json:
    sent = await context.submissions.submit(raw)
    await settle(context.read, sent, context.mined_wait_ms)
    return data(sent.transaction_hash)


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


async def get_transaction_by_sender_and_nonce(context: RpcContext, sender: bytes, nonce: int) -> Json:
    """In the mempool, or in a block: a nonce that the state has used is a block's transaction's or nobody's."""
    if nonce >= (await context.read.state.account(sender, AtLatest())).nonce:
        pooled = await context.read.pool.of_nonce(sender, nonce)
        if pooled is not None:
            return transaction_fields(decode_transaction(pooled.raw_transaction), sender, None)
        # As in get_transaction_by_hash.
    transaction_hash = await context.read.index.transaction_hash(sender, nonce)
    found = None if transaction_hash is None else await context.read.blocks.transaction(transaction_hash)
    return None if found is None else transaction_fields(decode_transaction(found.raw), found.sender, found.place)


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
    return [] if context.accounts is None else await first_pending(context, sorted(context.accounts.addresses))


async def first_pending(context: RpcContext, senders: Sequence[bytes]) -> list[Json]:
    """Of those senders, at most MAX_SHOWN."""
    pending = await context.read.pool.pending(senders, MAX_SHOWN)
    return [transaction_fields(decode_transaction(each.raw_transaction), each.sender, None) for each in pending]


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
        submits=True,
    ),
    Method("eth_getTransactionByHash", get_transaction_by_hash, (TRANSACTION_HASH,)),
    Method("eth_getRawTransactionByHash", get_raw_transaction_by_hash, (TRANSACTION_HASH,), Specification.GETH),
    Method(
        "eth_getTransactionBySenderAndNonce",
        get_transaction_by_sender_and_nonce,
        (ADDRESS, Parameter("nonce", quantity64)),
        source=Specification.RETH,
        note="Where the state is not kept, from the explorer index (`--explorer-index`).",
    ),
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
