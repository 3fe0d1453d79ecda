"""eth_*: the chain itself, its head and its fees. Nearly all of it is answered from the head cache."""

# ruff: noqa: ARG001 - handlers take what the table declares, used or not

from __future__ import annotations

from astralink_node.chain.messages import BlockSelector, FeeHistoryAnswer
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import JsonObject, quantity, sync_fields
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.table import Method, Parameter
from astralink_node.gateway.parameters import block_count, block_number, percentiles
from astralink_node.gateway.rpc_errors import invalid_params, server_error

MAX_PERCENTILES = 100
MIN_BLOB_BASE_FEE_WEI = 1
"""EIP-4844's minimum, which BLOBBASEFEE gives in contracts too: this chain carries no blobs."""


async def chain_id(context: RpcContext) -> Json:
    return quantity(context.identity.chain_id)


async def block_number_now(context: RpcContext) -> Json:
    return quantity(context.read.blocks.head.height)


async def syncing(context: RpcContext) -> Json:
    """False for a node that keeps up with its peers."""
    sync = (await context.read.node.network()).sync
    if sync is None:
        return False
    return sync_fields(sync)


async def gas_price(context: RpcContext) -> Json:
    """What a legacy transaction should offer to be in the next block: its base fee and the usual tip."""
    return quantity(context.read.fees.next_base_fee_wei + context.read.fees.suggested_priority_fee_wei())


async def max_priority_fee_per_gas(context: RpcContext) -> Json:
    return quantity(context.read.fees.suggested_priority_fee_wei())


async def base_fee(context: RpcContext) -> Json:
    """The next block's base fee."""
    return quantity(context.read.fees.next_base_fee_wei)


async def blob_base_fee(context: RpcContext) -> Json:
    return quantity(MIN_BLOB_BASE_FEE_WEI)


async def fee_history(
    context: RpcContext, count: int, newest: BlockSelector, reward_percentiles: tuple[float, ...]
) -> Json:
    _check_percentiles(reward_percentiles)
    head_height = context.read.blocks.head.height
    newest_height = context.read.blocks.height_of(newest)
    if newest_height is None or newest_height > head_height:
        raise server_error(f"request beyond head block: requested {newest_height}, head {head_height}")
    count = min(count, context.limits.fee_history_blocks, newest_height + 1)
    if count == 0:
        return {"oldestBlock": "0x0", "baseFeePerGas": [], "gasUsedRatio": []}
    percentiles_bps = tuple(round(percentile * 100) for percentile in reward_percentiles)
    history = await context.read.fees.history(newest_height, count, percentiles_bps)
    return _history_fields(history, with_rewards=bool(percentiles_bps))


def _check_percentiles(values: tuple[float, ...]) -> None:
    if len(values) > MAX_PERCENTILES:
        raise invalid_params(f"invalid reward percentile: over the query limit {MAX_PERCENTILES}")
    for index, value in enumerate(values):
        if not 0 <= value <= 100:
            raise invalid_params(f"invalid reward percentile: {value:f}")
        if index and value <= values[index - 1]:
            raise invalid_params(f"invalid reward percentile: #{index - 1}:{values[index - 1]:f} >= #{index}:{value:f}")


def _history_fields(history: FeeHistoryAnswer, *, with_rewards: bool) -> JsonObject:
    fields: JsonObject = {
        "oldestBlock": quantity(history.oldest_height),
        "baseFeePerGas": [quantity(fee) for fee in history.base_fees_wei],
        "gasUsedRatio": [
            used / limit if limit else 0.0 for used, limit in zip(history.gas_used, history.gas_limits, strict=True)
        ],
        "baseFeePerBlobGas": [quantity(MIN_BLOB_BASE_FEE_WEI)] * len(history.base_fees_wei),
        "blobGasUsedRatio": [0.0] * len(history.gas_used),
    }
    if with_rewards:
        fields["reward"] = [[quantity(reward) for reward in block] for block in history.rewards_wei]
    return fields


METHODS = (
    Method("eth_chainId", chain_id),
    Method("eth_blockNumber", block_number_now),
    Method("eth_syncing", syncing, note="An object while the node is eight blocks or more behind a peer."),
    Method("eth_gasPrice", gas_price),
    Method("eth_maxPriorityFeePerGas", max_priority_fee_per_gas),
    Method("eth_baseFee", base_fee),
    Method("eth_blobBaseFee", blob_base_fee, note="Always 1 wei: the chain carries no blobs."),
    Method(
        "eth_feeHistory",
        fee_history,
        (
            Parameter("blockCount", block_count),
            Parameter("newestBlock", block_number),
            Parameter("rewardPercentiles", percentiles, ()),
        ),
        note="At most 1024 blocks and 100 percentiles; blobs as for blocks without any.",
    ),
)
