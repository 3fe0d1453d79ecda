"""eth_*: making a transaction ready to sign, and sending a signed one and waiting for what comes of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from astralink_node.chain.call_messages import CallRequest
from astralink_node.chain.messages import AtLatest, AtPending
from astralink_node.evm.transaction_encoding import new_transaction, unsigned
from astralink_node.evm.transactions import (
    ACCESS_LIST_TYPE,
    DYNAMIC_FEE_TYPE,
    LEGACY_TYPE,
    SET_CODE_TYPE,
    Authorization,
    Transaction,
)
from astralink_node.gateway.call_parameters import CallArguments, call_arguments
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import data, transaction_fields
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.eth_calls import request_of
from astralink_node.gateway.methods.eth_state import get_transaction_count
from astralink_node.gateway.methods.eth_transactions import get_transaction_receipt
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.parameters import byte_string, milliseconds, quantity64
from astralink_node.gateway.rpc_errors import server_error, still_pending
from astralink_node.types import Address

# --- eth_fillTransaction ----------------------------------------------------------------------------------------


async def fill_transaction(context: RpcContext, arguments: CallArguments) -> Json:
    """What is not given is chosen as geth's setDefaults does: fees, then nonce, then gas by estimate."""
    request = _with_fees(context, request_of(context, arguments))
    if not request.to and not request.data:
        raise server_error("contract creation without any data provided")
    if request.nonce is None:
        pending = await get_transaction_count(context, request.sender, AtPending())
        request = replace(request, nonce=quantity64("nonce", pending))
    if request.gas is None:
        request = replace(request, gas=await context.read.calls.estimate_gas(request, AtLatest()))
    transaction = unsigned(_transaction(request, context.identity.chain_id))
    fields = transaction_fields(transaction, request.sender, None)
    for name in ("blockHash", "blockNumber", "blockTimestamp", "transactionIndex", "from"):
        del fields[name]
    if transaction.tx_type == LEGACY_TYPE:
        fields["v"] = "0x0"
    return {"raw": data(transaction.raw), "tx": fields}


def _with_fees(context: RpcContext, request: CallRequest) -> CallRequest:
    if request.gas_price_wei is not None:
        if not request.gas_price_wei:
            raise server_error("gasPrice must be non-zero after london fork")
        return request
    if request.max_fee_wei == 0:
        raise server_error("maxFeePerGas must be non-zero")
    tip, max_fee = request.max_priority_fee_wei, request.max_fee_wei
    if tip is None:
        tip = context.read.fees.suggested_priority_fee_wei()
    if max_fee is None:
        # Enough for as long as the base fee does not double.
        max_fee = tip + 2 * context.read.fees.next_base_fee_wei
    if max_fee < tip:
        raise server_error(f"maxFeePerGas ({max_fee}) < maxPriorityFeePerGas ({tip})")
    return replace(request, max_priority_fee_wei=tip, max_fee_wei=max_fee)


def _transaction(request: CallRequest, chain_id: int) -> Transaction:
    if request.authorizations:
        tx_type = SET_CODE_TYPE
    elif request.gas_price_wei is None:
        tx_type = DYNAMIC_FEE_TYPE
    else:
        tx_type = ACCESS_LIST_TYPE if request.access_list else LEGACY_TYPE
    price = request.gas_price_wei
    return new_transaction(
        tx_type,
        # Unsigned, a legacy transaction names no chain: EIP-155 puts it into the signature.
        chain_id=None if tx_type == LEGACY_TYPE else chain_id,
        nonce=request.nonce or 0,
        max_fee_per_gas=(request.max_fee_wei or 0) if price is None else price,
        max_priority_fee_per_gas=(request.max_priority_fee_wei or 0) if price is None else price,
        gas_limit=request.gas or 0,
        to=request.to,
        value=request.value_wei,
        data=request.data,
        access_list=tuple((Address(entry.address), entry.slots) for entry in request.access_list),
        authorizations=tuple(
            Authorization(entry.chain_id, Address(entry.address), entry.nonce, entry.y_parity, entry.r, entry.s)
            for entry in request.authorizations
        ),
    )


# --- eth_sendRawTransactionSync ---------------------------------------------------------------------------------


async def send_raw_transaction_sync(context: RpcContext, raw: bytes, timeout_ms: int) -> Json:
    """EIP-7966: the receipt of a transaction, which is final here as soon as there is one."""
    wait_ms = min(timeout_ms or context.limits.transaction_wait_ms, context.limits.longest_transaction_wait_ms)
    height = context.read.blocks.head.height
    transaction_hash = await context.submissions.submit(raw)
    try:
        async with asyncio.timeout(wait_ms / 1000):
            await context.read.blocks.inclusion(transaction_hash, after=height)
    except TimeoutError:
        raise still_pending(transaction_hash, wait_ms) from None
    return await get_transaction_receipt(context, transaction_hash)


METHODS = (
    Method("eth_fillTransaction", fill_transaction, (Parameter("transaction", call_arguments),)),
    Method(
        "eth_sendRawTransactionSync",
        send_raw_transaction_sync,
        (Parameter("transaction", byte_string), Parameter("timeout", milliseconds, 0)),
        source=Specification.GETH,
        note="EIP-7966. The receipt is final. Waits 20 s if not told, and never longer than a request may take.",
    ),
)
