"""BLS signatures on BLS12-381: Ethereum's proof-of-possession suite (draft-irtf-cfrg-bls-signature-05, min-pubkey).

The only importer of py_arkworks_bls12381. The raw library decodes 0xff * 48 to infinity and verifies the
identity key against the identity signature; here every encoding must be canonical, every point in its subgroup,
and no public key the identity. Aggregates over one message are safe only for keys whose possession was proven.
"""

import hashlib
import hmac
from collections.abc import Sequence
from functools import lru_cache
from typing import NoReturn, TypeVar

from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

from astralink_node.errors import AstraLinkError

CURVE_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001

_SIGNATURE_DST = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"
_POSSESSION_DST = b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"
_G1_INFINITY = b"\xc0" + bytes(47)
_GENERATOR = G1Point()
_NEGATIVE_GENERATOR = -_GENERATOR
_KEY_CACHE_SIZE = 4096
"""Decoded keys kept (about 200 bytes each): more than eight full validator sets."""
_MESSAGE_CACHE_SIZE = 256
"""Hashed messages kept (about 400 bytes each). The votes of a round, its certificate and the own signature share one
message; hashing it to the curve is a fifth of verifying it."""


_FEW_POINTS = 16
"""Up to here, multiplying one by one is quicker than the library's multi-scalar multiplication."""
_ONE = Scalar.from_be_bytes((1).to_bytes(32, "big"))

Point = TypeVar("Point", G1Point, G2Point)

Statement = tuple[Sequence[bytes], bytes, bytes]
"""(keys, message, aggregate signature): all holders of the keys signed the one message."""


class InvalidPoint(AstraLinkError):
    """Bytes that are not the canonical encoding of an admissible curve point."""


class InvalidSecretKey(AstraLinkError):
    """Not a number from 1 to the curve order, exclusive, in 32 bytes. Never says which bytes."""


class SecretKey:
    """A BLS secret key that does not show itself: not in repr, str, errors or pickles."""

    __slots__ = ("_scalar",)

    def __init__(self, value: bytes) -> None:
        if len(value) != 32 or not 0 < int.from_bytes(value, "big") < CURVE_ORDER:
            raise InvalidSecretKey("secret key: expected 32 bytes, from 1 to the curve order, exclusive")
        self._scalar = Scalar.from_be_bytes(value)

    def reveal(self) -> bytes:
        """The 32 bytes, big endian: for encryption into a keystore and nothing else."""
        return bytes(self._scalar.to_be_bytes())

    def __repr__(self) -> str:
        return "SecretKey(hidden)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretKey) and hmac.compare_digest(self.reveal(), other.reveal())

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret key is not pickled")


def public_key(secret: SecretKey) -> bytes:
    """48 bytes: compressed G1."""
    return bytes((_GENERATOR * secret._scalar).to_compressed_bytes())


def sign(secret: SecretKey, message: bytes) -> bytes:
    """96 bytes: compressed G2. Deterministic."""
    return _sign(secret, message, _SIGNATURE_DST)


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is the holder of `key`'s on `message`; malformed input is False."""
    return fast_aggregate_verify((key,), message, signature)


def aggregate(signatures: Sequence[bytes]) -> bytes:
    """The sum of valid encodings, 96 bytes. At least one; raises `InvalidPoint`."""
    if not signatures:
        raise InvalidPoint("signatures: expected at least one, found none")
    total = _decode_signature(signatures[0])
    for signature in signatures[1:]:
        total += _decode_signature(signature)
    return bytes(total.to_compressed_bytes())


def fast_aggregate_verify(keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
    """Whether all holders of `keys` (possession proven) signed the one `message`. No keys, or malformed: False."""
    try:
        return _pairing_holds(_sum_keys(keys), message, _decode_signature(signature), _SIGNATURE_DST)
    except InvalidPoint:
        return False


def aggregate_verify(keys: Sequence[bytes], messages: Sequence[bytes], signature: bytes) -> bool:
    """Whether each holder of `keys[i]` signed `messages[i]`, one aggregate over all."""
    if not keys or len(keys) != len(messages):
        return False
    try:
        points = [decode_public_key(key) for key in keys]
        point = _decode_signature(signature)
    except InvalidPoint:
        return False
    hashes = [_hash_to_curve(message, _SIGNATURE_DST) for message in messages]
    return GT.pairing_check([*points, _NEGATIVE_GENERATOR], [*hashes, point])


def batch_verify(keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]) -> bool:
    """Whether every single signature holds: `verify_statements` of one key each."""
    if not len(keys) == len(messages) == len(signatures):
        return False
    return verify_statements(
        [((key,), message, signature) for key, message, signature in zip(keys, messages, signatures, strict=True)]
    )


def verify_statements(statements: Sequence[Statement]) -> bool:
    """Whether every statement holds, in one pairing product: False says only that some does not. None: False.

    Each is weighted with 128 bits derived from the whole batch (Fiat-Shamir), so that errors which cancel in a
    plain sum do not cancel here; the answer does not depend on chance. One of the weights may be 1.
    """
    if not statements:
        return False
    try:
        points = [_sum_keys(keys) for keys, _, _ in statements]
        decoded = [_decode_signature(signature) for _, _, signature in statements]
    except InvalidPoint:
        return False
    weights = _batch_weights(statements)
    # Votes of one round mostly share a message: one hash and one pairing for each distinct one.
    members: dict[bytes, list[int]] = {}
    for index, (_, message, _) in enumerate(statements):
        members.setdefault(message, []).append(index)
    weighted_keys = [
        _weighted_sum(G1Point, [points[index] for index in indices], [weights[index] for index in indices])
        for indices in members.values()
    ]
    hashes = [_hash_to_curve(message, _SIGNATURE_DST) for message in members]
    total = _weighted_sum(G2Point, decoded, weights)
    return GT.pairing_check([*weighted_keys, _NEGATIVE_GENERATOR], [*hashes, total])


def prove_possession(secret: SecretKey) -> bytes:
    """96 bytes that prove the holder of the public key knows its secret."""
    return _sign(secret, public_key(secret), _POSSESSION_DST)


def verify_possession(key: bytes, proof: bytes) -> bool:
    """Whether `proof` is `prove_possession` by the holder of `key`; malformed input is False."""
    try:
        return _pairing_holds(decode_public_key(key), key, _decode_signature(proof), _POSSESSION_DST)
    except InvalidPoint:
        return False


def aggregate_public_keys_eip2537(keys: Sequence[bytes]) -> bytes:
    """The sum of `keys` as EIP-2537 encodes a G1 point: x and y in 64 bytes each. Raises `InvalidPoint`."""
    return _padded(bytes(_sum_keys(keys).to_xy_bytes_be()))


def signature_eip2537(signature: bytes) -> bytes:
    """A signature as EIP-2537 encodes a G2 point: x and y, two elements of 64 bytes each. Raises `InvalidPoint`."""
    return _padded(bytes(_decode_signature(signature).to_xy_bytes_be()))


@lru_cache(_KEY_CACHE_SIZE)
def decode_public_key(key: bytes) -> G1Point:
    """KeyValidate of the draft, section 2.5: canonical, in the subgroup, not the identity."""
    if len(key) != 48:
        raise InvalidPoint(f"public key: expected 48 bytes, found {len(key)}")
    if key == _G1_INFINITY:
        raise InvalidPoint("public key: the identity belongs to nobody")
    try:
        point = G1Point.from_compressed_bytes(key)
    except ValueError as error:
        raise InvalidPoint("public key: not a point of the G1 subgroup") from error
    if bytes(point.to_compressed_bytes()) != key:
        raise InvalidPoint("public key: not the canonical encoding of its point")
    return point


@lru_cache(_MESSAGE_CACHE_SIZE)
def _hash_to_curve(message: bytes, dst: bytes) -> G2Point:
    return G2Point.hash_to_curve(message, dst)


def _decode_signature(signature: bytes) -> G2Point:
    if len(signature) != 96:
        raise InvalidPoint(f"signature: expected 96 bytes, found {len(signature)}")
    try:
        point = G2Point.from_compressed_bytes(signature)
    except ValueError as error:
        raise InvalidPoint("signature: not a point of the G2 subgroup") from error
    if bytes(point.to_compressed_bytes()) != signature:
        raise InvalidPoint("signature: not the canonical encoding of its point")
    return point


def _padded(elements: bytes) -> bytes:
    """EIP-2537: each field element of 48 bytes behind 16 zeros."""
    return b"".join(bytes(16) + elements[start : start + 48] for start in range(0, len(elements), 48))


def _sum_keys(keys: Sequence[bytes]) -> G1Point:
    if not keys:
        raise InvalidPoint("public keys: expected at least one, found none")
    total = decode_public_key(keys[0])
    for key in keys[1:]:
        total += decode_public_key(key)
    if total == G1Point.identity():
        raise InvalidPoint("public keys: their sum is the identity")
    return total


def _sign(secret: SecretKey, message: bytes, dst: bytes) -> bytes:
    return bytes((_hash_to_curve(message, dst) * secret._scalar).to_compressed_bytes())


def _pairing_holds(key: G1Point, message: bytes, signature: G2Point, dst: bytes) -> bool:
    """e(key, H(message)) == e(generator, signature)."""
    return GT.pairing_check([key, _NEGATIVE_GENERATOR], [_hash_to_curve(message, dst), signature])


def _weighted_sum(group: type[Point], points: Sequence[Point], weights: Sequence[Scalar | None]) -> Point:
    """A weight of None is 1."""
    if len(points) > _FEW_POINTS:
        return group.multiexp_unchecked(list(points), [_ONE if weight is None else weight for weight in weights])
    terms = [point if weight is None else point * weight for point, weight in zip(points, weights, strict=True)]
    total = terms[0]
    for term in terms[1:]:
        total += term
    return total


def _batch_weights(statements: Sequence[Statement]) -> list[Scalar | None]:
    """The first is 1, as None: the ratios to it are what keeps errors apart."""
    digest = hashlib.sha256(b"astralink bls batch")
    for keys, message, signature in statements:
        digest.update(len(keys).to_bytes(4, "big") + b"".join(keys) + signature + hashlib.sha256(message).digest())
    seed = digest.digest()
    return [
        None,
        *(
            Scalar.from_be_bytes(bytes(16) + _nonzero(hashlib.sha256(seed + index.to_bytes(8, "big")).digest()[:16]))
            for index in range(1, len(statements))
        ),
    ]


def _nonzero(weight: bytes) -> bytes:
    return weight if any(weight) else weight[:-1] + b"\x01"
