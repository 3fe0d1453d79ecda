"""A signature scheme for simulations: as cheap as one hash, with the same interface as BLS and the same weakness.

A signature is a keyed hash, an aggregate the exclusive or of signatures: like a plain sum of BLS signatures it holds
where the errors of two cancel. Whoever has a `SigningKey` signs; the `Notary` knows all keys and only verifies. An
actor that holds no foreign `SigningKey` can therefore not forge.
"""

from collections.abc import Iterable, Sequence
from hashlib import shake_256

from consensus.hashing import keccak256

_SIGNATURE_BYTES = 96


class SigningKey:
    """One validator's key; `public` is the voting key that the set lists."""

    __slots__ = ("_secret", "public")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.public = shake_256(b"public" + secret).digest(48)

    def sign(self, message: bytes) -> bytes:
        """96 bytes, the same for the same message."""
        return shake_256(self._secret + message).digest(_SIGNATURE_BYTES)


def make_keys(count: int) -> list[SigningKey]:
    """In the order of their public keys, which is the order of the set."""
    keys = [SigningKey(keccak256(b"simulated validator %d" % number)) for number in range(count)]
    return sorted(keys, key=lambda key: key.public)


def aggregate(signatures: Iterable[bytes]) -> bytes:
    total = 0
    for signature in signatures:
        total ^= int.from_bytes(signature, "big")
    return total.to_bytes(_SIGNATURE_BYTES, "big")


class Notary:
    """The verification functions that `consensus.admission` and `consensus.certificate` ask for."""

    def __init__(self, keys: Iterable[SigningKey]) -> None:
        self._keys = {key.public: key for key in keys}

    def verify(self, key: bytes, message: bytes, signature: bytes) -> bool:
        return self._keys[key].sign(message) == signature

    def verify_batch(self, keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]) -> bool:
        return all(map(self.verify, keys, messages, signatures))

    def verify_aggregate(self, keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
        return aggregate(self._keys[key].sign(message) for key in keys) == signature
