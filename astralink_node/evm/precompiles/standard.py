"""The precompiles of Frontier: ECRECOVER (0x01), SHA-256 (0x02), RIPEMD-160 (0x03) and the identity (0x04).

They follow the Yellow Paper, appendix E. None of them ever fails: a signature that nobody made gives no output.
"""

import hashlib

from Crypto.Hash import RIPEMD160

from astralink_node.crypto.secp256k1 import InvalidSignature, recover_address
from astralink_node.evm.precompiles.call_data import padded, words

_ECRECOVER_GAS = 3000


def ecrecover_gas(_data: bytes) -> int:
    return _ECRECOVER_GAS


def ecrecover(data: bytes) -> bytes:
    """(digest, v, r, s), a word each -> the signer's address in a word, or nothing. High s is allowed here."""
    v, r, s = (int.from_bytes(padded(data, start, 32), "big") for start in (32, 64, 96))
    if v not in (27, 28):
        return b""
    try:
        return bytes(12) + recover_address(padded(data, 0, 32), r, s, v - 27)
    except InvalidSignature:
        return b""


def sha256_gas(data: bytes) -> int:
    return 60 + 12 * words(data)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def ripemd160_gas(data: bytes) -> int:
    return 600 + 120 * words(data)


def ripemd160(data: bytes) -> bytes:
    """20 bytes in a word. Not from hashlib: whether OpenSSL offers RIPEMD-160 depends on the system's settings."""
    return bytes(12) + RIPEMD160.new(data).digest()


def identity_gas(data: bytes) -> int:
    return 15 + 3 * words(data)


def identity(data: bytes) -> bytes:
    return data
