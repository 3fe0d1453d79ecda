"""Transactions for tests that need no valid signature: the mempool gets the sender beside the transaction."""

from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.transactions import Authorization, Transaction
from astralink_node.types import Address, Hash32

CHAIN_ID = 1337
GWEI = 10**9


def address(number: int) -> Address:
    return Address(number.to_bytes(20, "big"))


def transaction(
    nonce: int = 0,
    *,
    tip: int = GWEI,
    fee: int = 10 * GWEI,
    gas: int = 21_000,
    value: int = 0,
    data: bytes = b"",
    to: bytes = bytes(19) + b"\x99",
    tx_type: int = 2,
    chain_id: int | None = CHAIN_ID,
    authorizations: tuple[Authorization, ...] = (),
    size: int = 110,
    salt: int = 0,
) -> Transaction:
    """A transaction whose bytes are only as long as asked, and whose hash differs whenever a field or salt does."""
    identity = repr((nonce, tip, fee, gas, value, data, to, tx_type, chain_id, authorizations, salt)).encode()
    return Transaction(
        tx_type=tx_type,
        chain_id=chain_id,
        nonce=nonce,
        max_priority_fee_per_gas=tip,
        max_fee_per_gas=fee,
        gas_limit=gas,
        to=to,
        value=value,
        data=data,
        access_list=(),
        authorizations=authorizations,
        y_parity=0,
        r=1,
        s=1,
        raw=bytes(size),
        hash=Hash32(keccak256(identity)),
    )
