"""Blocks of many signed transactions: the cheapest transfers, and EIP-7702 authorizations."""

from __future__ import annotations

from functools import cache

from eth_account import Account

from astralink_node.crypto.secp256k1 import address_of
from astralink_node.evm.transactions import Transaction, decode_transaction
from astralink_node.types import Address

TRANSFERS = 300
AUTHORIZATIONS = 300
_FEES = {"maxFeePerGas": 7, "maxPriorityFeePerGas": 0, "chainId": 1}


def _key(index: int) -> bytes:
    return (0xA57A0000 + index).to_bytes(32, "big")


FUNDED: tuple[Address, ...] = tuple(address_of(_key(index)) for index in range(TRANSFERS))
"""Accounts that need a balance for these transactions."""


def transfers() -> list[Transaction]:
    """Each from another sender to another account that does not exist yet; decoded anew, senders unknown."""
    return [decode_transaction(raw) for raw in _raw_transfers()]


def authorizations() -> list[Transaction]:
    """One transaction that delegates the code of many accounts."""
    return [decode_transaction(_raw_authorizations())]


@cache
def _raw_transfers() -> tuple[bytes, ...]:
    return tuple(
        bytes(
            Account.sign_transaction(
                {"nonce": 0, "gas": 21_000, "to": (0xFEED0000 + index).to_bytes(20, "big"), "value": 1, **_FEES},
                _key(index),
            ).raw_transaction
        )
        for index in range(TRANSFERS)
    )


@cache
def _raw_authorizations() -> bytes:
    signed = [
        Account.sign_authorization(
            {"chainId": 1, "address": (1).to_bytes(20, "big"), "nonce": 0}, _key(TRANSFERS + index)
        )
        for index in range(AUTHORIZATIONS)
    ]
    transaction = {
        "type": 4,
        "nonce": 0,
        "gas": 21_000 + 25_000 * AUTHORIZATIONS,
        "to": (0xFEED).to_bytes(20, "big"),
        "value": 0,
        "data": b"",
        "accessList": [],
        "authorizationList": signed,
        **_FEES,
    }
    return bytes(Account.sign_transaction(transaction, _key(0)).raw_transaction)
