"""eth_sendRawTransactionSync: sending a signed transaction and waiting for the block that holds it."""

from __future__ import annotations

from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.eth_transactions import get_transaction_receipt
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.mined_wait import is_mined
from astralink_node.gateway.parameters import byte_string, whole_number
from astralink_node.gateway.rpc_errors import still_pending


async def send_raw_transaction_sync(context: RpcContext, raw: bytes, timeout_ms: int) -> Json:
    """EIP-7966: the receipt of a transaction, which is final here as soon as there is one."""
    wait_ms = min(timeout_ms or context.limits.transaction_wait_ms, context.limits.longest_transaction_wait_ms)
    transaction_hash = (await context.submissions.submit(raw)).transaction_hash
    if not await is_mined(context.read, transaction_hash, wait_ms):
        raise still_pending(transaction_hash, wait_ms)
    return await get_transaction_receipt(context, transaction_hash)


METHODS = (
    Method(
        "eth_sendRawTransactionSync",
        send_raw_transaction_sync,
        (Parameter("transaction", byte_string), Parameter("timeout", whole_number, 0)),
        source=Specification.GETH,
        note="EIP-7966. The receipt is final. Waits 20 s if not told, and never longer than a request may take.",
    ),
)
