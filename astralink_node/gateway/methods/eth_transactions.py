"""eth_*: transactions and receipts, and the way in for signed ones."""

# ruff: noqa: ARG001 - handlers take what the table declares, used or not

from __future__ import annotations

from astralink_node.chain.messages import AtHash, AtPending, BlockSelector
from astralink_node.evm.blocks import decode_receipt
from astralink_node.evm.transactions import decode_transaction
from astralink_node.gateway.block_json import transaction_json
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import data, receipt_fields, transaction_fields
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.eth_blocks import BLOCK_HASH, BLOCK_NUMBER, INDEX
from astralink_node.gateway.methods.table import Handler, Method, Parameter
from astralink_node.gateway.parameters import anything, byte_string, hash32
from astralink_node.gateway.rpc_errors import accounts_not_managed

TRANSACTION_HASH = Parameter("transactionHash", hash32)


async def send_raw_transaction(context: RpcContext, raw: bytes) -> Json:
    return data(await context.submissions.submit(raw))


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


def _refusal(method: str) -> Handler:
    async def refuse(context: RpcContext, *arguments: object) -> Json:
        raise accounts_not_managed(method)

    return refuse


_ACCOUNT_METHODS = ("eth_sendTransaction", "eth_signTransaction", "eth_sign", "eth_signTypedData_v4", "personal_sign")
_IGNORED = tuple(Parameter(f"argument{index}", anything, None) for index in range(3))

METHODS = (
    Method("eth_sendRawTransaction", send_raw_transaction, (Parameter("transaction", byte_string),)),
    Method("eth_getTransactionByHash", get_transaction_by_hash, (TRANSACTION_HASH,)),
    Method("eth_getRawTransactionByHash", get_raw_transaction_by_hash, (TRANSACTION_HASH,)),
    Method("eth_getTransactionByBlockNumberAndIndex", get_transaction_by_block_number, (BLOCK_NUMBER, INDEX)),
    Method("eth_getTransactionByBlockHashAndIndex", get_transaction_by_block_hash, (BLOCK_HASH, INDEX)),
    Method("eth_getTransactionReceipt", get_transaction_receipt, (TRANSACTION_HASH,)),
    *(Method(name, _refusal(name), _IGNORED) for name in _ACCOUNT_METHODS),
)
