"""ML-DSA-65 (FIPS 204): the quantum-safe signature under checkpoints. The only importer of an ML-DSA library.

Keys live as their 32-byte seeds, from which the library expands them. The context string is empty: what is
signed carries its own purpose tag. Signatures are hedged, hence differ each time; the signing history keeps
the one that left.
"""

import hmac
import secrets
from collections.abc import Mapping
from functools import lru_cache
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

from astralink_node.crypto.keccak import keccak256
from astralink_node.crypto.keystore_envelope import (
    Kdf,
    KeystoreError,
    Scrypt,
    decrypt_envelope,
    encrypt_envelope,
    hex_field,
    object_field,
)
from astralink_node.errors import AstraLinkError
from astralink_node.types import Hash32

SEED_BYTES = 32
PUBLIC_KEY_BYTES = 1952
SIGNATURE_BYTES = 3309
KEYSTORE_TYPE = "astralink-ml-dsa-65"

_KEY_CACHE_SIZE = 1024
_DEFAULT_KDF = Scrypt()


class InvalidKey(AstraLinkError):
    """Bytes of the wrong length, or no key."""


class Seed:
    """A secret seed that does not show itself: not in repr, str, errors or pickles."""

    __slots__ = ("_key", "_value")

    def __init__(self, value: bytes) -> None:
        if len(value) != SEED_BYTES:
            raise InvalidKey(f"ML-DSA seed: expected {SEED_BYTES} bytes, found {len(value)}")
        self._value = value
        self._key = MLDSA65PrivateKey.from_seed_bytes(value)

    def reveal(self) -> bytes:
        """The 32 bytes: for encryption into a keystore and nothing else."""
        return self._value

    def __repr__(self) -> str:
        return "Seed(hidden)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Seed) and hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret seed is not pickled")


def generate_seed() -> Seed:
    return Seed(secrets.token_bytes(SEED_BYTES))


def public_key(seed: Seed) -> bytes:
    """1,952 bytes."""
    return seed._key.public_key().public_bytes_raw()


def key_hash(key: bytes) -> Hash32:
    """What a validator set stores of the key."""
    if len(key) != PUBLIC_KEY_BYTES:
        raise InvalidKey(f"ML-DSA key: expected {PUBLIC_KEY_BYTES} bytes, found {len(key)}")
    return Hash32(keccak256(key))


def sign(seed: Seed, message: bytes) -> bytes:
    """3,309 bytes."""
    return seed._key.sign(message)


def verify(key: bytes, message: bytes, signature: bytes, context: bytes = b"") -> bool:
    """Whether `signature` is the holder of `key`'s on `message`; malformed input is False."""
    if len(key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES or len(context) > 255:
        return False
    try:
        _decode_key(key).verify(signature, message, context)
    except InvalidSignature:
        return False
    return True


def encrypt_seed(seed: Seed, password: str, *, kdf: Kdf = _DEFAULT_KDF) -> dict[str, object]:
    """A keystore as a JSON object: EIP-2335's `crypto` around the seed, beside the public key."""
    return {
        "crypto": encrypt_envelope(seed.reveal(), password, kdf),
        "public_key": public_key(seed).hex(),
        "type": KEYSTORE_TYPE,
        "version": 1,
    }


def decrypt_seed(keystore: Mapping[str, object], password: str) -> Seed:
    """The seed inside; raises `WrongPassword`, or `KeystoreError` for a broken or foreign keystore."""
    claimed = keystore_public_key(keystore)
    value = decrypt_envelope(object_field(keystore, "crypto"), password)
    if len(value) != SEED_BYTES:
        raise KeystoreError(f"keystore: expected a seed of {SEED_BYTES} bytes, found {len(value)}")
    seed = Seed(value)
    if public_key(seed) != claimed:
        raise KeystoreError("keystore: public_key: belongs to another seed than the one inside")
    return seed


def keystore_public_key(keystore: Mapping[str, object]) -> bytes:
    """The key that the keystore claims, without its password."""
    if keystore.get("type") != KEYSTORE_TYPE or keystore.get("version") != 1:
        raise KeystoreError(f"keystore: expected type {KEYSTORE_TYPE}, version 1, found {keystore.get('type')!r}")
    return hex_field(keystore, "public_key", width=PUBLIC_KEY_BYTES)


@lru_cache(_KEY_CACHE_SIZE)
def _decode_key(key: bytes) -> MLDSA65PublicKey:
    return MLDSA65PublicKey.from_public_bytes(key)
