"""secp256k1 as Ethereum uses it: recover the signer of a digest, sign with a recoverable signature.

Recovery is the hottest call of the node (one per transaction), so it talks to libsecp256k1 through coincurve's
bindings with buffers that each thread keeps, and never copies a key into a Python object. It does not judge
high s values: EIP-2 forbids them in transactions and permits them in the ECRECOVER precompile; callers compare
with `HALF_ORDER`.
"""

import threading
from typing import Any, cast

from coincurve import PrivateKey
from coincurve._libsecp256k1 import ffi, lib  # type: ignore[import-not-found]  # cffi output, untyped
from coincurve.context import GLOBAL_CONTEXT

from astralink_node.crypto.keccak import keccak256
from astralink_node.errors import AstraLinkError
from astralink_node.types import Address

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
HALF_ORDER = ORDER // 2
"""The highest s of a transaction's signature since EIP-2."""

_UNCOMPRESSED = lib.SECP256K1_EC_UNCOMPRESSED
_context: Any = GLOBAL_CONTEXT.ctx
_parse_compact: Any = lib.secp256k1_ecdsa_recoverable_signature_parse_compact
_recover: Any = lib.secp256k1_ecdsa_recover
_serialize: Any = lib.secp256k1_ec_pubkey_serialize


class InvalidSignature(AstraLinkError):
    """r, s and y_parity that no key can have made for the digest."""


class InvalidPrivateKey(AstraLinkError):
    """Not a number from 1 to the group order, exclusive, in 32 bytes. Never says which bytes."""


class _Buffers(threading.local):
    """Each thread's own: libsecp256k1 runs without the GIL. (Slots would be shared between threads.)"""

    def __init__(self) -> None:
        self.all: tuple[Any, Any, Any, Any] = (
            ffi.new("secp256k1_ecdsa_recoverable_signature *"),
            ffi.new("secp256k1_pubkey *"),
            ffi.new("unsigned char[65]"),
            ffi.new("size_t *", 65),
        )


_buffers = _Buffers()


def recover_public_key(digest: bytes, r: int, s: int, y_parity: int) -> bytes:
    """The 64 bytes x || y of the key that signed the 32-byte `digest`; raises `InvalidSignature`."""
    if not (0 < r < ORDER and 0 < s < ORDER):
        raise InvalidSignature("r and s: expected 1 to the group order, exclusive")
    if y_parity not in (0, 1):
        raise InvalidSignature(f"y_parity: expected 0 or 1, found {y_parity}")
    if len(digest) != 32:
        raise InvalidSignature(f"digest: expected 32 bytes, found {len(digest)}")
    signature, public_key, serialized, length = _buffers.all
    if not _parse_compact(_context, signature, r.to_bytes(32, "big") + s.to_bytes(32, "big"), y_parity):
        raise InvalidSignature("r and s: expected 1 to the group order, exclusive")
    if not _recover(_context, public_key, signature, digest):
        raise InvalidSignature("no public key signed this digest with these r, s and y_parity")
    length[0] = 65
    _serialize(_context, serialized, length, public_key, _UNCOMPRESSED)
    return cast(bytes, ffi.buffer(serialized, 65)[1:])


def recover_address(digest: bytes, r: int, s: int, y_parity: int) -> Address:
    """The account that signed the 32-byte `digest`; raises `InvalidSignature`."""
    return Address(keccak256(recover_public_key(digest, r, s, y_parity))[12:])


def sign(private_key: bytes, digest: bytes) -> tuple[int, int, int]:
    """(r, s, y_parity) over the 32-byte `digest`: deterministic (RFC 6979), s in the lower half."""
    if len(digest) != 32:
        raise ValueError(f"digest: expected 32 bytes, found {len(digest)}")
    signature = _load(private_key).sign_recoverable(digest, hasher=None)
    return int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]


def address_of(private_key: bytes) -> Address:
    """The account that a private key owns."""
    return Address(keccak256(_load(private_key).public_key.format(compressed=False)[1:])[12:])


def _load(private_key: bytes) -> PrivateKey:
    if len(private_key) != 32 or not 0 < int.from_bytes(private_key, "big") < ORDER:
        raise InvalidPrivateKey("private key: expected 32 bytes, from 1 to the group order, exclusive")
    return PrivateKey(private_key)
