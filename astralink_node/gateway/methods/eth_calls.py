"""eth_*: simulated transactions. The execution process runs them, within its own caps on gas and time."""

from __future__ import annotations

from astralink_node.chain.call_messages import (
    NO_BLOCK_OVERRIDE,
    AccessListAnswer,
    AccessListQuestion,
    BlockOverride,
    CallAnswer,
    CallQuestion,
    CallRequest,
    EstimateGasQuestion,
    GasAnswer,
    StateOverride,
)
from astralink_node.chain.messages import AtLatest, BlockSelector
from astralink_node.gateway.call_parameters import CallArguments, block_overrides, call_arguments, state_overrides
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import JsonObject, access_list_fields, data, quantity
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.table import Method, Parameter
from astralink_node.gateway.parameters import block as block_selector
from astralink_node.gateway.rpc_errors import execution_reverted, halted, server_error

TRANSACTION = Parameter("transaction", call_arguments)
BLOCK = Parameter("block", block_selector, AtLatest())
STATE_OVERRIDES = Parameter("stateOverrides", state_overrides, ())
BLOCK_OVERRIDES = Parameter("blockOverrides", block_overrides, NO_BLOCK_OVERRIDE)

REVERTED = "reverted"
HALTED = "halted"


async def call(
    context: RpcContext,
    arguments: CallArguments,
    at: BlockSelector,
    overrides: tuple[StateOverride, ...],
    block: BlockOverride,
) -> Json:
    request = _request(context, arguments)
    answer = await context.chain.ask(at, CallQuestion(request, overrides, block), CallAnswer)
    if answer.status == REVERTED:
        raise execution_reverted(answer.output)
    if answer.status == HALTED:
        raise halted(answer.halt_reason)
    return data(answer.output)


async def estimate_gas(
    context: RpcContext,
    arguments: CallArguments,
    at: BlockSelector,
    overrides: tuple[StateOverride, ...],
    block: BlockOverride,
) -> Json:
    request = _request(context, arguments)
    return quantity((await context.chain.ask(at, EstimateGasQuestion(request, overrides, block), GasAnswer)).gas)


async def create_access_list(
    context: RpcContext,
    arguments: CallArguments,
    at: BlockSelector,
    overrides: tuple[StateOverride, ...],
    block: BlockOverride,
) -> Json:
    question = AccessListQuestion(_request(context, arguments), overrides, block)
    answer = await context.chain.ask(at, question, AccessListAnswer)
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
        (TRANSACTION, BLOCK, STATE_OVERRIDES, BLOCK_OVERRIDES),
    ),
)
