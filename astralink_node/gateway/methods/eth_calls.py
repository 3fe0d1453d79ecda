"""eth_*: simulated transactions. The execution process runs them, within its own caps on gas and time."""

# ruff: noqa: ARG001 - handlers take what the table declares, used or not

from __future__ import annotations

from astralink_node.chain.call_messages import (
    CallRequest,
    StateOverride,
)
from astralink_node.chain.messages import AtLatest, BlockSelector
from astralink_node.gateway.call_parameters import CallArguments, call_arguments, state_overrides
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import JsonObject, access_list_fields, data, quantity
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.table import Method, Parameter
from astralink_node.gateway.parameters import block, no_overrides
from astralink_node.gateway.rpc_errors import server_error

TRANSACTION = Parameter("transaction", call_arguments)
BLOCK = Parameter("block", block, AtLatest())
STATE_OVERRIDES = Parameter("stateOverrides", state_overrides, ())
BLOCK_OVERRIDES = Parameter("blockOverrides", no_overrides, None)


async def call(
    context: RpcContext,
    arguments: CallArguments,
    at: BlockSelector,
    overrides: tuple[StateOverride, ...],
    block_overrides: None,
) -> Json:
    request = _request(context, arguments)
    return data(await context.read.calls.call(request, at, overrides))


async def estimate_gas(
    context: RpcContext,
    arguments: CallArguments,
    at: BlockSelector,
    overrides: tuple[StateOverride, ...],
    block_overrides: None,
) -> Json:
    request = _request(context, arguments)
    return quantity(await context.read.calls.estimate_gas(request, at, overrides))


async def create_access_list(context: RpcContext, arguments: CallArguments, at: BlockSelector, overrides: None) -> Json:
    answer = await context.read.calls.access_list(_request(context, arguments), at)
    fields: JsonObject = {
        "accessList": access_list_fields(answer.access_list),
        "gasUsed": quantity(answer.gas_used),
    }
    if answer.error:
        fields["error"] = answer.error
    return fields


def _request(context: RpcContext, arguments: CallArguments) -> CallRequest:
    ours = context.identity.chain_id
    if arguments.chain_id is not None and arguments.chain_id != ours:
        raise server_error(f"chainId does not match node's (have={arguments.chain_id}, want={ours})")
    return arguments.request


METHODS = (
    Method("eth_call", call, (TRANSACTION, BLOCK, STATE_OVERRIDES, BLOCK_OVERRIDES)),
    Method("eth_estimateGas", estimate_gas, (TRANSACTION, BLOCK, STATE_OVERRIDES, BLOCK_OVERRIDES)),
    Method(
        "eth_createAccessList",
        create_access_list,
        (TRANSACTION, BLOCK, Parameter("stateOverrides", no_overrides, None)),
    ),
)
