"""Where contracts come to stand: CREATE's and CREATE2's addresses, for transactions and opcodes alike."""

from __future__ import annotations

from astralink_node.crypto.keccak import keccak256
from astralink_node.evm import rlp
from astralink_node.types import Address


def contract_address(sender: Address, nonce: int) -> Address:
    """Where a transaction, or a CREATE, of this sender and nonce deploys."""
    encoded = rlp.encode_list_of_encoded((b"\x94" + sender, rlp.encode_integer(nonce)))
    return Address(keccak256(encoded)[12:])


def create2_address(sender: Address, salt: int, initcode: bytes) -> Address:
    """EIP-1014."""
    return Address(keccak256(b"\xff" + sender + salt.to_bytes(32, "big") + keccak256(initcode))[12:])
