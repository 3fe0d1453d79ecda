"""parity_*: the one method that Blockscout asks of nodes of Nethermind's kind."""

# ruff: noqa: ARG001 - handlers take what the table declares, used or not

from __future__ import annotations

from typing import Final

from astralink_node.evm.transactions import decode_transaction
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import transaction_fields
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.parameters import anything

MAX_SHOWN: Final = 4096
"""An explorer shows the first few; a full mempool would make an answer that nobody reads."""


async def pending_transactions(context: RpcContext, limit: object, order: object) -> Json:
    pool = context.read.pool
    pending = await pool.pending(await pool.senders(), MAX_SHOWN)
    return [transaction_fields(decode_transaction(each.raw_transaction), each.sender, None) for each in pending]


METHODS = (
    Method(
        "parity_pendingTransactions",
        pending_transactions,
        (Parameter("limit", anything, None), Parameter("filter", anything, None)),
        source=Specification.OPENETHEREUM,
        note="The first 4,096 that are pending: limit and filter change nothing.",
    ),
)
