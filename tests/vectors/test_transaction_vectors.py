"""ethereum/tests TransactionTests on our decoder, sender recovery and stateless rules (newest fork of each file)."""

import json
from pathlib import Path
from typing import Any

import pytest

from astralink_node.evm.fork_rules import PRAGUE, plain_ethereum
from astralink_node.evm.transactions import (
    InvalidTransaction,
    decode_transaction,
    intrinsic_gas,
    recover_sender,
    validate_stateless,
)

FOLDER = Path(__file__).parents[1] / "fixtures" / "unpacked" / "ethereum_tests" / "TransactionTests"
RULES = plain_ethereum(PRAGUE)
FORKS = ("Cancun", "Paris", "London")
DEFERRED = "TransactionException.GASLIMIT_PRICE_PRODUCT_OVERFLOW"
"""gas limit * price above 2**256 - 1: no account can pay that, so our check of the sender's funds refuses it."""
BELOW_FLOOR = "DataTestSufficientGas2028"
"""Valid in Cancun; since EIP-7623 (Prague) its gas is below the calldata floor."""


def cases() -> list[Any]:
    found = []
    for path in sorted(FOLDER.rglob("*.json")):
        for name, case in json.loads(path.read_bytes()).items():
            results = [case["result"][fork] for fork in FORKS if fork in case["result"]]
            found.append(pytest.param(name, case["txbytes"], results[0], id=f"{path.parent.name}/{name}"))
    if not found:
        raise FileNotFoundError(f"{FOLDER}: no transaction tests; run `make`")
    return found


@pytest.mark.parametrize(("name", "raw", "expected"), cases())
def test_a_transaction_is_what_the_vector_says_or_is_refused(name: str, raw: str, expected: dict[str, str]) -> None:
    encoded = bytes.fromhex(raw[2:])
    if "exception" in expected and expected["exception"] != DEFERRED:
        with pytest.raises(InvalidTransaction):
            refuse(encoded)
        return
    transaction = decode_transaction(encoded)
    recover_sender(transaction)
    assert intrinsic_gas(transaction, PRAGUE)[0] == int(expected["intrinsicGas"], 16)
    if expected.get("exception") == DEFERRED:
        assert transaction.gas_limit * transaction.max_fee_per_gas >= 2**255
        return
    assert "0x" + transaction.hash.hex() == expected["hash"]
    assert "0x" + recover_sender(transaction).hex() == expected["sender"]
    if name == BELOW_FLOOR:
        with pytest.raises(InvalidTransaction, match="floor data gas"):
            validate_stateless(transaction, RULES, PRAGUE)
    else:
        validate_stateless(transaction, RULES, PRAGUE)


def refuse(encoded: bytes) -> None:
    transaction = decode_transaction(encoded)
    recover_sender(transaction)
    validate_stateless(transaction, RULES, PRAGUE)
