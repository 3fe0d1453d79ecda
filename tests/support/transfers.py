"""Signed transfers of the developers' accounts, for tests that send transactions to real nodes."""

from __future__ import annotations

from astralink_node.evm.transaction_encoding import new_transaction, sign_transaction
from astralink_node.evm.transactions import DYNAMIC_FEE_TYPE, Transaction
from genesis.dev_accounts import DEVNET_ACCOUNTS
from genesis.devnet_terms import DEVNET_CHAIN_ID
from genesis.presets import GWEI

RECEIVER = bytes(19) + b"\x42"


def signed_transfer(*, sender: int, nonce: int) -> Transaction:
    """One wei from the developers' account of that number."""
    unsigned = new_transaction(
        DYNAMIC_FEE_TYPE,
        chain_id=DEVNET_CHAIN_ID,
        nonce=nonce,
        max_fee_per_gas=100 * GWEI,
        max_priority_fee_per_gas=GWEI,
        gas_limit=21_000,
        to=RECEIVER,
        value=1,
        data=b"",
    )
    return sign_transaction(unsigned, DEVNET_ACCOUNTS[sender].private_key)
