"""eth_*: simulated transactions. The execution process runs them, within its own caps on gas and time."""

from __future__ import annotations

from astralink_node.chain.call_messages import NO_BLOCK_OVERRIDE, BlockOverride, StateOverride
from astralink_node.chain.messages import BlockSelector
from astralink_node.gateway.call_parameters import CallArguments, block_overrides, state_overrides
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import JsonObject, access_list_fields, data, quantity
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.arguments import BLOCK, TRANSACTION, request_of
from astralink_node.gateway.methods.table import Method, Parameter

STATE_OVERRIDES = Parameter("stateOverrides", state_overrides, ())
BLOCK_OVERRIDES = Parameter("blockOverrides", block_overrides, NO_BLOCK_OVERRIDE)


async def call(
    context: RpcContext,
    arguments: CallArguments,
    at: BlockSelector,
    overrides: tuple[StateOverride, ...],
    block: BlockOverride,
) -> Json:
    return data(await context.read.calls.call(request_of(context, arguments), at, overrides, block))


async def estimate_gas(
    context: RpcContext,
    arguments: CallArguments,
    at: BlockSelector,
    overrides: tuple[StateOverride, ...],
    block: BlockOverride,
) -> Json:
    return quantity(await context.read.calls.estimate_gas(request_of(context, arguments), at, overrides, block))


async def create_access_list(
    context: RpcContext,
    arguments: CallArguments,
    at: BlockSelector,
    overrides: tuple[StateOverride, ...],
    block: BlockOverride,
) -> Json:
    answer = await context.read.calls.access_list(request_of(context, arguments), at, overrides, block)
    fields: JsonObject = {
        "accessList": access_list_fields(answer.access_list),
        "gasUsed": quantity(answer.gas_used),
    }
    if answer.error:
        fields["error"] = answer.error
    return fields


OVERRIDABLE = (TRANSACTION, BLOCK, STATE_OVERRIDES, BLOCK_OVERRIDES)

METHODS = (
    Method("eth_call", call, OVERRIDABLE),
    Method("eth_estimateGas", estimate_gas, OVERRIDABLE),
    Method("eth_createAccessList", create_access_list, OVERRIDABLE, note="Takes block overrides too, as eth_call."),
)
