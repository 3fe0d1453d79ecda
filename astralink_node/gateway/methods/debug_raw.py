"""debug_getRaw*: blocks, headers, receipts and transactions as they are encoded, and what this node never has."""

# ruff: noqa: ARG001 - handlers take what the table declares, used or not

from __future__ import annotations

from astralink_node.chain.messages import BlockSelector
from astralink_node.evm.blocks import Block, ethereum_block_rlp
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import data
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.arguments import BLOCK_HASH, GIVEN_BLOCK, TRANSACTION_HASH
from astralink_node.gateway.methods.debug import block_in_geths_words, block_not_found
from astralink_node.gateway.methods.eth_transactions import get_raw_transaction_by_hash
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.parameters import anything, hash32
from astralink_node.gateway.rpc_errors import RESOURCE_NOT_FOUND, RpcError, server_error


async def get_raw_block(context: RpcContext, at: BlockSelector) -> Json:
    view = await block_in_geths_words(context, at)
    return data(ethereum_block_rlp(Block(view.header, view.record.raw_transactions)))


async def get_raw_header(context: RpcContext, at: BlockSelector) -> Json:
    return data((await block_in_geths_words(context, at)).record.raw_header)


async def get_raw_receipts(context: RpcContext, at: BlockSelector) -> Json:
    """As EIP-2718 has them."""
    view = await context.read.blocks.block_with_receipts(at)
    if view is None:
        raise block_not_found(at)
    return [data(receipt.raw_receipt) for receipt in view.receipt_records]


async def get_raw_block_access_list(context: RpcContext, at: BlockSelector) -> Json:
    await block_in_geths_words(context, at)
    raise RpcError(RESOURCE_NOT_FOUND, "this chain's blocks have no access lists (EIP-7928)")


async def get_bad_blocks(context: RpcContext) -> Json:
    return []


async def trace_bad_block(context: RpcContext, block_hash: bytes, config: object) -> Json:
    raise server_error(f"bad block {data(block_hash)} not found")


async def preimage(context: RpcContext, digest: bytes) -> Json:
    raise server_error("unknown preimage")


METHODS = (
    Method("debug_getRawBlock", get_raw_block, (GIVEN_BLOCK,)),
    Method("debug_getRawHeader", get_raw_header, (GIVEN_BLOCK,)),
    Method("debug_getRawReceipts", get_raw_receipts, (GIVEN_BLOCK,)),
    Method("debug_getRawTransaction", get_raw_transaction_by_hash, (TRANSACTION_HASH,)),
    Method(
        "debug_getRawBlockAccessList",
        get_raw_block_access_list,
        (GIVEN_BLOCK,),
        note="Blocks of this chain have no access lists (EIP-7928): always the specification's -32001.",
    ),
    Method(
        "debug_getBadBlocks",
        get_bad_blocks,
        note="Always empty: a proposal that is not valid never becomes a block, and is not kept.",
    ),
    Method(
        "debug_traceBadBlock",
        trace_bad_block,
        (BLOCK_HASH, Parameter("config", anything, None)),
        source=Specification.GETH,
        note="None is kept: `debug_traceBlock` traces one that is given.",
    ),
    Method(
        "debug_preimage",
        preimage,
        (Parameter("hash", hash32),),
        source=Specification.GETH,
        note="Always `unknown preimage`, as geth without `--cache.preimages`.",
    ),
)
