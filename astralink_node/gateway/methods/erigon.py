"""erigon_*: what Otterscan and other tools of that family ask beside the standard methods."""

from __future__ import annotations

import orjson

from astralink_node.chain.messages import AtHash, AtLatest, AtPending, BlockSelector
from astralink_node.gateway.block_json import header_json
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import quantity
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.parameters import block_number_or_number, hash32


async def get_header_by_number(context: RpcContext, at: BlockSelector) -> Json:
    if isinstance(at, AtPending):
        return None
    return orjson.Fragment(header_json(await context.read.blocks.existing_block(at)))


async def get_header_by_hash(context: RpcContext, block_hash: bytes) -> Json:
    return orjson.Fragment(header_json(await context.read.blocks.existing_block(AtHash(block_hash))))


async def block_number(context: RpcContext, at: BlockSelector) -> Json:
    """Of a tag; Erigon's has the node's execution progress without one, which here is the head."""
    return quantity((await context.read.blocks.existing_block(at)).height)


METHODS = (
    Method(
        "erigon_getHeaderByNumber",
        get_header_by_number,
        (Parameter("block", block_number_or_number),),
        source=Specification.ERIGON,
        note="`null` for `pending`: blocks exist once they are final.",
    ),
    Method(
        "erigon_getHeaderByHash",
        get_header_by_hash,
        (Parameter("blockHash", hash32),),
        source=Specification.ERIGON,
    ),
    Method(
        "erigon_blockNumber",
        block_number,
        (Parameter("block", block_number_or_number, AtLatest()),),
        source=Specification.ERIGON,
    ),
)
