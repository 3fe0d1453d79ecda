"""Parameters of the methods that sign: an unsigned transaction, a message, EIP-712's typed data. Pure."""

from __future__ import annotations

import orjson

from astralink_node.gateway.call_parameters import call_arguments
from astralink_node.gateway.filling import Draft
from astralink_node.gateway.parameters import BadValue, byte_string, quantity, quantity64

MAX_FAUCET_WEI = 100 * 10**18
"""Of one call: a hundredth of what each account has at genesis."""


def transaction_draft(path: str, value: object) -> Draft:
    """geth's TransactionArgs. A `type` is passed over: which fields are there decides it, as in geth."""
    arguments = call_arguments(path, value)
    assert isinstance(value, dict), "call_arguments has seen to it"
    nonce = value.get("nonce")
    return Draft(
        request=arguments.request,
        nonce=None if nonce is None else quantity64(f"{path}.nonce", nonce),
        chain_id=arguments.chain_id,
        has_access_list=value.get("accessList") is not None,
    )


def message(path: str, value: object) -> bytes:
    return byte_string(path, value)


def signed_text(path: str, value: object) -> bytes:
    """personal_sign's: hex by its specification; what does not begin with 0x is taken as text, as wallets do."""
    if isinstance(value, str) and value[:2] not in ("0x", "0X"):
        return value.encode("utf-8", errors="surrogatepass")
    return byte_string(path, value)


def typed_data(path: str, value: object) -> object:
    """What `typed_data_digest` hashes. ethers sends the object as JSON text, others as it is."""
    if isinstance(value, str):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise BadValue(path, f"expected an object, or one as JSON text: {error}") from error
    return value


def faucet_amount(path: str, value: object) -> int:
    wei = quantity(path, value)
    if not 0 < wei <= MAX_FAUCET_WEI:
        raise BadValue(path, f"expected 1 wei to {MAX_FAUCET_WEI // 10**18} BWT, found {wei} wei")
    return wei
