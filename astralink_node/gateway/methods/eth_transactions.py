"""eth_*: transactions and receipts, and the way in for signed ones."""

# ruff: noqa: ARG001 - handlers take what the table declares, used or not

from __future__ import annotations

from astralink_node.chain.messages import AtHash, AtPending, BlockSelector, TransactionAnswer
from astralink_node.evm.blocks import decode_header, decode_receipt
from astralink_node.evm.transactions import decode_transaction
from astralink_node.gateway.block_view import BlockView
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import Place, data, receipt_fields, transaction_fields
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.link_messages import GetPooledTransaction, PooledTransaction
from astralink_node.gateway.methods.eth_blocks import BLOCK_HASH, BLOCK_NUMBER, INDEX
from astralink_node.gateway.methods.table import Handler, Method, Parameter
from astralink_node.gateway.parameters import anything, byte_string, hash32
from astralink_node.gateway.rpc_errors import accounts_not_managed

TRANSACTION_HASH = Parameter("transactionHash", hash32)


async def send_raw_transaction(context: RpcContext, raw: bytes) -> Json:
    return data(await context.submissions.submit(raw))


async def get_transaction_by_hash(context: RpcContext, transaction_hash: bytes) -> Json:
    """In a block, or in the mempool with its place null."""
    found = await context.chain.transaction(transaction_hash)
    if found is None:
        pooled = await _pooled(context, transaction_hash)
        if pooled is not None:
            return transaction_fields(decode_transaction(pooled.raw_transaction), pooled.sender, None)
        # It may have moved from the mempool into a block between the two questions.
        found = await context.chain.transaction(transaction_hash)
    match found:
        case None:
            return None
        case TransactionAnswer():
            record = found.transaction
            return transaction_fields(decode_transaction(record.raw_transaction), record.sender, _place(found))
        case (view, index):
            return view.transaction_json(index)


async def get_raw_transaction_by_hash(context: RpcContext, transaction_hash: bytes) -> Json:
    found = await context.chain.transaction(transaction_hash)
    match found:
        case None:
            pooled = await _pooled(context, transaction_hash)
            return "0x" if pooled is None else data(pooled.raw_transaction)
        case TransactionAnswer():
            return data(found.transaction.raw_transaction)
        case (view, index):
            return data(view.record.raw_transactions[index])


async def _pooled(context: RpcContext, transaction_hash: bytes) -> PooledTransaction | None:
    reply = await context.backend.ask_node(GetPooledTransaction(transaction_hash))
    return reply if isinstance(reply, PooledTransaction) and reply.raw_transaction else None


async def _by_index(context: RpcContext, at: BlockSelector, index: int) -> Json:
    view = None if isinstance(at, AtPending) else await context.chain.block(at)
    if view is None or index >= len(view.record.raw_transactions):
        return None
    return view.transaction_json(index)


async def get_transaction_by_block_number(context: RpcContext, at: BlockSelector, index: int) -> Json:
    return await _by_index(context, at, index)


async def get_transaction_by_block_hash(context: RpcContext, block_hash: bytes, index: int) -> Json:
    return await _by_index(context, AtHash(block_hash), index)


async def get_transaction_receipt(context: RpcContext, transaction_hash: bytes) -> Json:
    found = await context.chain.transaction(transaction_hash)
    match found:
        case None:
            return None
        case TransactionAnswer():
            return _receipt_of(found)
        case (view, index):
            with_receipts = await _with_receipts(context, view)
            return None if with_receipts is None else with_receipts.receipt_json(index)


async def _with_receipts(context: RpcContext, view: BlockView) -> BlockView | None:
    return view if view.receipts is not None else await context.chain.block_with_receipts(AtHash(view.block_hash))


def _receipt_of(found: TransactionAnswer) -> Json:
    record = found.transaction
    return receipt_fields(
        decode_receipt(found.receipt.raw_receipt),
        found.receipt,
        decode_transaction(record.raw_transaction),
        record.sender,
        _place(found),
    )


def _place(found: TransactionAnswer) -> Place:
    header = decode_header(found.transaction.raw_header)
    return Place(
        block_hash=found.transaction.block_hash,
        height=header.number,
        timestamp=header.timestamp,
        base_fee_wei=header.base_fee_per_gas,
        index=found.transaction.index,
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
