"""parity_*: the one method that Blockscout asks of nodes of Nethermind's kind."""

# ruff: noqa: ARG001 - handlers take what the table declares, used or not

from __future__ import annotations

from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.eth_transactions import first_pending
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.parameters import anything


async def pending_transactions(context: RpcContext, limit: object, order: object) -> Json:
    return [*await first_pending(context, await context.read.pool.senders())]


METHODS = (
    Method(
        "parity_pendingTransactions",
        pending_transactions,
        (Parameter("limit", anything, None), Parameter("filter", anything, None)),
        source=Specification.OPENETHEREUM,
        note="The first 4,096 that are pending: limit and filter change nothing.",
    ),
)
