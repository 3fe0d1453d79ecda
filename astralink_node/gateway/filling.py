"""What a sender left out of a transaction, chosen as geth chooses it (its TransactionArgs.setDefaults).

Used where the node makes a transaction for somebody: eth_fillTransaction, and on a devnet eth_sendTransaction and the
faucet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from astralink_node.chain.call_messages import CallRequest
from astralink_node.chain.messages import AtLatest
from astralink_node.crypto.addresses import checksum_address
from astralink_node.evm.transaction_encoding import new_transaction
from astralink_node.evm.transactions import (
    ACCESS_LIST_TYPE,
    DYNAMIC_FEE_TYPE,
    LEGACY_TYPE,
    SET_CODE_TYPE,
    Authorization,
    Transaction,
)
from astralink_node.gateway.reading.reader import Reader
from astralink_node.gateway.rpc_errors import server_error
from astralink_node.types import Address


@dataclass(frozen=True, slots=True)
class Draft:
    """A transaction as its sender gives it. None means: not given, choose."""

    request: CallRequest
    nonce: int | None
    chain_id: int | None
    has_access_list: bool
    """Given, if only an empty one: it makes a transaction of a gas price one of type 1."""

    @property
    def has_fees(self) -> bool:
        return self.request.gas_price_wei is not None or (
            self.request.max_fee_wei is not None and self.request.max_priority_fee_wei is not None
        )


async def next_nonce(read: Reader, account: bytes) -> int:
    """The first that neither state nor the mempool has used."""
    pooled = await read.pool.pending_nonce(account)
    committed = (await read.state.account(account, AtLatest())).nonce
    # The pool may not have seen yet what a block that was just committed used up.
    return committed if pooled is None else max(committed, pooled)


async def fill(read: Reader, draft: Draft, chain_id: int) -> Transaction:
    """The unsigned transaction. Raises RpcError, and what an estimate of gas raises."""
    _check_chain(draft, chain_id)
    request = draft.request
    if not request.to and not request.data:
        raise server_error("contract creation without any data provided")
    if request.authorizations is not None:
        _check_set_code(request)
    request = _with_fees(read, request)
    nonce = await next_nonce(read, request.sender) if draft.nonce is None else draft.nonce
    if request.gas is None:
        request = replace(request, gas=await read.calls.estimate_gas(request, AtLatest()))
    return unsigned(replace(draft, request=request, nonce=nonce), chain_id)


def _check_chain(draft: Draft, chain_id: int) -> None:
    if draft.chain_id is not None and draft.chain_id != chain_id:
        raise server_error(f"chainId does not match node's (have={draft.chain_id}, want={chain_id})")


def _check_set_code(request: CallRequest) -> None:
    """What no transaction of type 4 may be, whether its gas is estimated or given (EIP-7702)."""
    who = f"(sender {checksum_address(request.sender)})"
    if not request.to:
        raise server_error(f"EIP-7702 transaction cannot be used to create contract {who}")
    if not request.authorizations:
        raise server_error(f"EIP-7702 transaction with empty auth list {who}")


def _with_fees(read: Reader, request: CallRequest) -> CallRequest:
    """A tip as suggested, and twice the next base fee, which covers six full blocks at its steepest rise."""
    if request.gas_price_wei is not None:
        return request
    tip = request.max_priority_fee_wei
    if tip is None:
        tip = read.fees.suggested_priority_fee_wei()
    max_fee = request.max_fee_wei
    if max_fee is None:
        max_fee = tip + 2 * read.fees.next_base_fee_wei
    elif request.max_priority_fee_wei is None:
        tip = min(tip, max_fee)
    return replace(request, max_fee_wei=max_fee, max_priority_fee_wei=tip)


def unsigned(draft: Draft, chain_id: int) -> Transaction:
    """Of a draft that has nonce, gas and fees; its type follows from which fields it has. Raises RpcError."""
    _check_chain(draft, chain_id)
    request, nonce = draft.request, draft.nonce
    assert request.gas is not None, "filled"
    assert nonce is not None, "filled"
    price = request.gas_price_wei
    if request.authorizations is not None:
        tx_type = SET_CODE_TYPE
    elif price is None:
        tx_type = DYNAMIC_FEE_TYPE
    else:
        tx_type = ACCESS_LIST_TYPE if draft.has_access_list else LEGACY_TYPE
    max_fee = request.max_fee_wei if price is None else price
    assert max_fee is not None, "filled"
    return new_transaction(
        tx_type,
        chain_id=chain_id,
        nonce=nonce,
        max_fee_per_gas=max_fee,
        max_priority_fee_per_gas=request.max_priority_fee_wei,
        gas_limit=request.gas,
        to=request.to,
        value=request.value_wei,
        data=request.data,
        access_list=tuple((Address(entry.address), entry.slots) for entry in request.access_list),
        authorizations=tuple(
            Authorization(
                chain_id=each.chain_id,
                address=Address(each.address),
                nonce=each.nonce,
                y_parity=each.y_parity,
                r=each.r,
                s=each.s,
            )
            for each in request.authorizations or ()
        ),
    )
