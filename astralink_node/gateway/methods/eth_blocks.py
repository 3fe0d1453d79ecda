"""eth_*: blocks, by height or hash, and what is counted in them."""

# ruff: noqa: ARG001 - handlers take what the table declares, used or not

from __future__ import annotations

import time
from dataclasses import replace

import orjson

from astralink_node.chain.messages import AtHash, AtPending, BlockSelector
from astralink_node.evm.blocks import EMPTY_BLOOM, EMPTY_REQUESTS_HASH, Block, ethereum_block_rlp
from astralink_node.gateway.block_json import block_json, header_json, receipts_json
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import JsonObject, block_fields, quantity
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.arguments import BLOCK_HASH, BLOCK_NUMBER, GIVEN_BLOCK, INDEX
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.parameters import boolean
from astralink_node.gateway.reading.head_cache import Head
from astralink_node.types import EMPTY_TRIE_ROOT, ZERO_HASH, Hash32

BODY_FIELDS = frozenset({"size", "transactions", "uncles", "withdrawals"})
"""Of a block's fields, those that are no header's."""


async def get_block_by_number(context: RpcContext, at: BlockSelector, full: bool) -> Json:
    if isinstance(at, AtPending):
        return pending_block(context.read.blocks.head, int(time.time()))
    return await _block(context, at, full=full)


async def get_block_by_hash(context: RpcContext, block_hash: bytes, full: bool) -> Json:
    return await _block(context, AtHash(block_hash), full=full)


async def _block(context: RpcContext, at: BlockSelector, *, full: bool) -> Json:
    view = await context.read.blocks.block(at)
    if view is None:
        return None
    return await block_json(view, full=full)


async def get_header_by_number(context: RpcContext, at: BlockSelector) -> Json:
    if isinstance(at, AtPending):
        pending = pending_block(context.read.blocks.head, int(time.time()))
        return {name: value for name, value in pending.items() if name not in BODY_FIELDS}
    return await _header(context, at)


async def get_header_by_hash(context: RpcContext, block_hash: bytes) -> Json:
    return await _header(context, AtHash(block_hash))


async def _header(context: RpcContext, at: BlockSelector) -> Json:
    view = await context.read.blocks.block(at)
    return None if view is None else orjson.Fragment(header_json(view))


async def get_block_access_list(context: RpcContext, at: BlockSelector) -> Json:
    """EIP-7928 has blocks carry one from a fork on that this chain does not have."""
    return None


def pending_block(head: Head, now_s: int) -> JsonObject:
    """Head state under the next block's header, with null where only a proposer could tell, as geth."""
    parent = head.view.header
    header = replace(
        parent,
        parent_hash=Hash32(head.view.block_hash),
        transactions_root=EMPTY_TRIE_ROOT,
        receipts_root=EMPTY_TRIE_ROOT,
        logs_bloom=EMPTY_BLOOM,
        number=parent.number + 1,
        gas_limit=head.next_gas_limit,
        gas_used=0,
        timestamp=max(parent.timestamp, now_s),
        base_fee_per_gas=head.next_base_fee_wei,
        parent_beacon_block_root=ZERO_HASH,
        requests_hash=EMPTY_REQUESTS_HASH,
    )
    fields = block_fields(header, header.hash, len(ethereum_block_rlp(Block(header, ()))), [])
    fields.update({"hash": None, "nonce": None, "miner": None})
    return fields


async def _transaction_count(context: RpcContext, at: BlockSelector) -> Json:
    if isinstance(at, AtPending):
        return quantity(0)
    view = await context.read.blocks.block(at)
    return None if view is None else quantity(len(view.record.raw_transactions))


async def get_transaction_count_by_number(context: RpcContext, at: BlockSelector) -> Json:
    return await _transaction_count(context, at)


async def get_transaction_count_by_hash(context: RpcContext, block_hash: bytes) -> Json:
    return await _transaction_count(context, AtHash(block_hash))


async def _uncle_count(context: RpcContext, at: BlockSelector) -> Json:
    if isinstance(at, AtPending):
        return quantity(0)
    return None if await context.read.blocks.block(at) is None else quantity(0)


async def get_uncle_count_by_number(context: RpcContext, at: BlockSelector) -> Json:
    return await _uncle_count(context, at)


async def get_uncle_count_by_hash(context: RpcContext, block_hash: bytes) -> Json:
    return await _uncle_count(context, AtHash(block_hash))


async def no_uncle(context: RpcContext, at: object, index: int) -> Json:
    """Blocks of this chain never have ommers."""
    return None


async def get_block_receipts(context: RpcContext, at: BlockSelector) -> Json:
    if isinstance(at, AtPending):
        return None
    view = await context.read.blocks.block_with_receipts(at)
    return None if view is None else await receipts_json(view)


METHODS = (
    Method(
        "eth_getBlockByNumber",
        get_block_by_number,
        (BLOCK_NUMBER, Parameter("fullTransactions", boolean)),
        note="`latest`, `safe`, `finalized` and `pending` are all the head: a block exists once it is final.",
    ),
    Method("eth_getBlockByHash", get_block_by_hash, (BLOCK_HASH, Parameter("fullTransactions", boolean))),
    Method("eth_getBlockTransactionCountByNumber", get_transaction_count_by_number, (BLOCK_NUMBER,)),
    Method("eth_getBlockTransactionCountByHash", get_transaction_count_by_hash, (BLOCK_HASH,)),
    *(
        Method(name, handler, parameters, Specification.GETH, note="There are no uncles on this chain.")
        for name, handler, parameters in (
            ("eth_getUncleCountByBlockNumber", get_uncle_count_by_number, (BLOCK_NUMBER,)),
            ("eth_getUncleCountByBlockHash", get_uncle_count_by_hash, (BLOCK_HASH,)),
            ("eth_getUncleByBlockNumberAndIndex", no_uncle, (BLOCK_NUMBER, INDEX)),
            ("eth_getUncleByBlockHashAndIndex", no_uncle, (BLOCK_HASH, INDEX)),
        )
    ),
    Method("eth_getBlockReceipts", get_block_receipts, (GIVEN_BLOCK,)),
    Method("eth_getHeaderByNumber", get_header_by_number, (BLOCK_NUMBER,), source=Specification.GETH),
    Method("eth_getHeaderByHash", get_header_by_hash, (BLOCK_HASH,), source=Specification.GETH),
    Method(
        "eth_getBlockAccessList",
        get_block_access_list,
        (GIVEN_BLOCK,),
        note="Always null: blocks of this chain carry no access list.",
    ),
)
