"""ots_*: what the Otterscan explorer asks of a node, level 8. Blocks and addresses here, traces in ots_traces.

Shapes are those of Otterscan's specification and of Erigon, which it was written for: heights, pages and counts are
JSON numbers there. Searches answer from the explorer index; where it does not reach they say so (ADR 20).
"""

# ruff: noqa: ARG001 - handlers take what the table declares, used or not

from __future__ import annotations

from typing import Final

from astralink_node.chain.index_messages import MAX_SEARCH_PAGE, HeightRange
from astralink_node.chain.messages import AtHash, AtPending, BlockSelector
from astralink_node.evm.blocks import decode_receipt
from astralink_node.evm.transactions import decode_transaction
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import JsonObject, block_fields, data, quantity, receipt_fields, transaction_fields
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.arguments import ADDRESS
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.parameters import (
    BadValue,
    block_number_or_number,
    block_or_number,
    hash32,
    whole_number,
)
from astralink_node.gateway.reading.block_view import BlockView
from astralink_node.gateway.reading.blocks import CommittedTransaction
from astralink_node.gateway.reading.index import TransactionPage

API_LEVEL: Final = 8
SELECTOR_BYTES: Final = 4
MAX_BLOCK_PAGE: Final = 255
"""Erigon's page numbers and sizes of ots_getBlockTransactions are one byte."""


async def get_api_level(context: RpcContext) -> Json:
    return API_LEVEL


async def has_code(context: RpcContext, account: bytes, at: BlockSelector) -> Json:
    return bool(await context.read.state.code(account, at))


# --- Blocks ------------------------------------------------------------------------------------------------------


async def get_block_details(context: RpcContext, at: BlockSelector) -> Json:
    return await _details(context, at)


async def get_block_details_by_hash(context: RpcContext, block_hash: bytes) -> Json:
    return await _details(context, AtHash(block_hash))


async def _details(context: RpcContext, at: BlockSelector) -> Json:
    view = None if isinstance(at, AtPending) else await context.read.blocks.block_with_receipts(at)
    if view is None:
        return None
    block = _block(view)
    del block["transactions"]
    base_fee = view.header.base_fee_per_gas
    fees = sum(
        view.transaction(index).effective_gas_price(base_fee) * record.gas_used
        for index, record in enumerate(view.receipt_records)
    )
    nothing = quantity(0)
    return {
        "block": block,
        "issuance": {"blockReward": nothing, "uncleReward": nothing, "issuance": nothing},
        "totalFees": quantity(fees),
    }


async def get_block_transactions(context: RpcContext, at: BlockSelector, page: int, page_size: int) -> Json:
    """A page of a block counted from its end, in the block's order."""
    view = None if isinstance(at, AtPending) else await context.read.blocks.block_with_receipts(at)
    if view is None:
        return None
    end = max(0, len(view.receipt_records) - page * page_size)
    indices = range(max(0, end - page_size), end)
    block = _block(view)
    block["transactions"] = [_without_input(view, index) for index in indices]
    return {"fullblock": block, "receipts": [_without_logs(view, index) for index in indices]}


def _block(view: BlockView) -> JsonObject:
    fields = block_fields(view.header, view.block_hash, view.record.size_bytes, [])
    fields["logsBloom"] = None
    fields["totalDifficulty"] = quantity(0)
    fields["transactionCount"] = len(view.record.raw_transactions)
    return fields


def _without_input(view: BlockView, index: int) -> JsonObject:
    transaction = view.transaction(index)
    fields = transaction_fields(transaction, view.record.senders[index], view.place(index))
    fields["input"] = data(transaction.data[:SELECTOR_BYTES])
    return fields


def _without_logs(view: BlockView, index: int) -> JsonObject:
    fields = receipt_fields(
        view.decoded_receipts[index],
        view.receipt_records[index],
        view.transaction(index),
        view.record.senders[index],
        view.place(index),
    )
    fields["logs"] = fields["logsBloom"] = None
    return fields


# --- Addresses ---------------------------------------------------------------------------------------------------


async def search_before(context: RpcContext, account: bytes, height: int, page_size: int) -> Json:
    page = await context.read.index.before(account, height, page_size)
    return _page(page, is_first=not height, is_last=not page.has_more)


async def search_after(context: RpcContext, account: bytes, height: int, page_size: int) -> Json:
    page = await context.read.index.after(account, height, page_size)
    return _page(page, is_first=not page.has_more, is_last=not height)


def _page(page: TransactionPage, *, is_first: bool, is_last: bool) -> JsonObject:
    found: JsonObject = {
        "txs": [
            transaction_fields(decode_transaction(each.raw), each.sender, each.place) for each in page.transactions
        ],
        "receipts": [_receipt(each) for each in page.transactions],
        "firstPage": is_first,
        "lastPage": is_last,
    }
    # Only where there is something to confess; Otterscan itself does not know these fields.
    if page.without_calls:
        found["withoutInternalCalls"] = [_range(part) for part in page.without_calls]
    if page.without_blocks:
        found["withoutBlocks"] = [_range(part) for part in page.without_blocks]
    return found


def _receipt(found: CommittedTransaction) -> JsonObject:
    assert found.receipt is not None, "pages come with receipts"
    receipt = decode_receipt(found.receipt.raw_receipt)
    fields = receipt_fields(receipt, found.receipt, decode_transaction(found.raw), found.sender, found.place)
    fields["timestamp"] = found.place.timestamp
    return fields


def _range(part: HeightRange) -> JsonObject:
    return {"fromBlock": quantity(part.first), "toBlock": quantity(part.last)}


async def get_transaction_by_sender_and_nonce(context: RpcContext, sender: bytes, nonce: int) -> Json:
    found = await context.read.index.transaction_hash(sender, nonce)
    return None if found is None else data(found)


async def get_contract_creator(context: RpcContext, contract: bytes) -> Json:
    found = await context.read.index.creation(contract)
    return None if found is None else {"hash": data(found.transaction_hash), "creator": data(found.creator)}


# --- The table ---------------------------------------------------------------------------------------------------


def block_page(path: str, value: object) -> int:
    number = whole_number(path, value)
    if number > MAX_BLOCK_PAGE:
        raise BadValue(path, f"expected at most {MAX_BLOCK_PAGE}, found {number}")
    return number


def search_page(path: str, value: object) -> int:
    number = whole_number(path, value)
    if not 1 <= number <= MAX_SEARCH_PAGE:
        raise BadValue(path, f"max allowed page size: {MAX_SEARCH_PAGE}, found {number}")
    return number


_HEIGHT = Parameter("blockNumber", whole_number)
_SEARCH = (ADDRESS, _HEIGHT, Parameter("pageSize", search_page))
_NO_REWARDS = (
    "`issuance` is zero: rewards on this chain are the protocol's own calls (`astralink_getProtocolLog`). "
    "`totalDifficulty` is zero."
)
_OF_INDEX = (
    "From the explorer index (`--explorer-index`). Blocks that it does not hold make it an error; "
    "`withoutInternalCalls` and `withoutBlocks` name blocks of which it knows less."
)

METHODS = (
    Method("ots_getApiLevel", get_api_level, source=Specification.OTTERSCAN),
    Method(
        "ots_hasCode",
        has_code,
        (ADDRESS, Parameter("block", block_or_number)),
        source=Specification.OTTERSCAN,
    ),
    Method(
        "ots_getBlockDetails",
        get_block_details,
        (Parameter("block", block_number_or_number),),
        source=Specification.OTTERSCAN,
        note=_NO_REWARDS,
    ),
    Method(
        "ots_getBlockDetailsByHash",
        get_block_details_by_hash,
        (Parameter("blockHash", hash32),),
        source=Specification.OTTERSCAN,
        note=f"`null` for an unknown hash. {_NO_REWARDS}",
    ),
    Method(
        "ots_getBlockTransactions",
        get_block_transactions,
        (
            Parameter("block", block_number_or_number),
            Parameter("pageNumber", block_page),
            Parameter("pageSize", block_page),
        ),
        source=Specification.OTTERSCAN,
    ),
    Method("ots_searchTransactionsBefore", search_before, _SEARCH, source=Specification.OTTERSCAN, note=_OF_INDEX),
    Method("ots_searchTransactionsAfter", search_after, _SEARCH, source=Specification.OTTERSCAN, note=_OF_INDEX),
    Method(
        "ots_getTransactionBySenderAndNonce",
        get_transaction_by_sender_and_nonce,
        (ADDRESS, Parameter("nonce", whole_number)),
        source=Specification.OTTERSCAN,
        note="Where the state is not kept, from the explorer index (`--explorer-index`).",
    ),
    Method(
        "ots_getContractCreator",
        get_contract_creator,
        (ADDRESS,),
        source=Specification.OTTERSCAN,
        note="From the explorer index (`--explorer-index`). `null` for contracts of the genesis file.",
    ),
)
