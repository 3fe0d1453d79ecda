"""astralink_*: what became of a transaction, wherever it is now. geth has no such answer."""

from __future__ import annotations

from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import data, quantity
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.parameters import hash32
from astralink_node.gateway.pool_messages import DroppedFate, HeldFate
from astralink_node.gateway.reading.pool import Included


async def get_transaction_fate(context: RpcContext, transaction_hash: bytes) -> Json:
    """Pending, queued (with what it waits for), included, dropped (with the reason) or unknown."""
    match await context.read.pool.fate(transaction_hash):
        case Included(place, sender):
            return {
                "state": "included",
                "from": data(sender),
                "blockHash": data(place.block_hash),
                "blockNumber": quantity(place.height),
                "transactionIndex": quantity(place.index),
            }
        case HeldFate(sender, nonce, is_pending, waits_for, missing_nonce):
            missing = {} if missing_nonce is None else {"missingNonce": quantity(missing_nonce)}
            return {
                "state": "pending" if is_pending else "queued",
                "from": data(sender),
                "nonce": quantity(nonce),
                "waitsFor": waits_for,
                **missing,
            }
        case DroppedFate(reason, at_ms):
            return {"state": "dropped", "reason": reason, "droppedAtMs": quantity(at_ms)}
        case None:
            return {"state": "unknown"}


METHODS = (
    Method(
        "astralink_getTransactionFate",
        get_transaction_fate,
        (Parameter("hash", hash32),),
        source=Specification.ASTRALINK,
    ),
)
