"""astralink_*: what became of a transaction, wherever it is now. geth has no such answer."""

from __future__ import annotations

from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import data, quantity
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.parameters import hash32
from astralink_node.gateway.reading.pool import Included


async def get_transaction_fate(context: RpcContext, transaction_hash: bytes) -> Json:
    """Pending, queued (with what it waits for), included, dropped (with the reason) or unknown."""
    fate = await context.read.pool.fate(transaction_hash)
    if isinstance(fate, Included):
        return {
            "state": "included",
            "from": data(fate.sender),
            "blockHash": data(fate.place.block_hash),
            "blockNumber": quantity(fate.place.height),
            "transactionIndex": quantity(fate.place.index),
        }
    if fate.state == "dropped":
        return {"state": fate.state, "reason": fate.reason, "droppedAtMs": quantity(fate.at_ms)}
    if fate.state == "unknown":
        return {"state": fate.state}
    missing = {} if fate.missing_nonce is None else {"missingNonce": quantity(fate.missing_nonce)}
    return {
        "state": fate.state,
        "from": data(fate.sender),
        "nonce": quantity(fate.nonce),
        "waitsFor": fate.waits_for,
        **missing,
    }


METHODS = (
    Method(
        "astralink_getTransactionFate",
        get_transaction_fate,
        (Parameter("hash", hash32),),
        source=Specification.ASTRALINK,
    ),
)
