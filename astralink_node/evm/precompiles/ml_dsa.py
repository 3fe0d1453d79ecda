"""ML-DSA-65 verification (FIPS 204), this chain's own precompile at 0x0a5165, as EIP-8355 encodes and prices it.

It never fails: what is short, malformed or signed by somebody else gives the word 0. The context string is empty.
"""

from typing import Final

from astralink_node.crypto import ml_dsa
from astralink_node.types import Address

ML_DSA_ADDRESS: Final = Address((0x0A5165).to_bytes(20, "big"))

_BASE_GAS: Final = 9_000
_GAS_PER_MESSAGE_WORD: Final = 6
_MESSAGE_START: Final = ml_dsa.PUBLIC_KEY_BYTES + ml_dsa.SIGNATURE_BYTES
_INVALID: Final = bytes(32)
_VALID: Final = bytes(31) + b"\x01"


def ml_dsa_gas(data: bytes) -> int:
    """9,000, and 6 for each word of the message, rounded up."""
    message_bytes = max(len(data) - _MESSAGE_START, 0)
    return _BASE_GAS + _GAS_PER_MESSAGE_WORD * ((message_bytes + 31) // 32)


def ml_dsa_verify(data: bytes) -> bytes:
    """key 1,952 || signature 3,309 || message -> a word: 1 if the signature holds, otherwise 0."""
    if len(data) < _MESSAGE_START:
        return _INVALID
    key, signature = data[: ml_dsa.PUBLIC_KEY_BYTES], data[ml_dsa.PUBLIC_KEY_BYTES : _MESSAGE_START]
    return _VALID if ml_dsa.verify(key, data[_MESSAGE_START:], signature) else _INVALID
