"""Inputs on which each precompile takes longest for its gas, found by reasoning and, for MODEXP, by a grid.

Points differ from each other and scalars are full-width, so that no shortcut of a library applies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from py_arkworks_bls12381 import G1Point, G2Point, Scalar
from zksnake._algebra import ec_bn254

from astralink_node.crypto.secp256k1 import sign
from astralink_node.evm.precompiles import bn254
from astralink_node.evm.precompiles.registry import OSAKA, PRAGUE, Precompile

MAX_MODEXP_GAS = 1_000_000
"""Larger inputs of the grid are skipped: they cost more time and no less gas for it."""

_ENTRIES = {entry.name: entry for entry in OSAKA}
_MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class PrecompileCase:
    name: str
    entry: Precompile
    data: bytes


def precompile_cases() -> Iterator[PrecompileCase]:
    """Every precompile of Osaka; MODEXP's grid comes apart from this, see `modexp_grid`."""
    for name, label, data in _inputs():
        yield PrecompileCase(f"{name} {label}".strip(), _ENTRIES[name], data)


def modexp_grid(*, osaka: bool) -> Iterator[PrecompileCase]:
    """Operand lengths around every step of the price formulas; odd moduli and, slower in GMP, even ones."""
    entry = next(entry for entry in (OSAKA if osaka else PRAGUE) if entry.name == "MODEXP")
    for length in (1, 8, 32, 33, 40, 64, 128, 256, 512, 1024):
        for exponent_length in (1, 2, 4, 8, 16, 32, 33, 64, 256, 1024):
            for last_byte in (b"\xff", b"\x80"):
                operands = (b"\xfe" * length, b"\xff" * exponent_length, b"\xff" * (length - 1) + last_byte)
                data = b"".join(_word(len(part)) for part in operands) + b"".join(operands)
                if entry.gas(data) <= MAX_MODEXP_GAS:
                    parity = "odd" if last_byte == b"\xff" else "even"
                    yield PrecompileCase(f"MODEXP {length}^{exponent_length} {parity}", entry, data)


def _inputs() -> Iterator[tuple[str, str, bytes]]:
    digest = hashlib.sha256(b"worst case").digest()
    r, s, y_parity = sign(b"\x11" * 32, digest)
    yield "ECRECOVER", "", digest + _word(27 + y_parity) + _word(r) + _word(s)
    for name in ("SHA256", "RIPEMD160", "IDENTITY"):
        yield name, "empty", b""
        yield name, "1 MB", b"\xa5" * _MEGABYTE
    yield from _bn254_inputs()
    yield from _blake2f_inputs(digest)
    yield from _kzg_inputs()
    yield from _bls_inputs()
    yield "P256VERIFY", "", _p256_input(digest)


def _bn254_inputs() -> Iterator[tuple[str, str, bytes]]:
    g1 = [bn254.ecmul(_word(1) + _word(2) + _scalar_word(index)) for index in range(16)]
    yield "ECADD", "", g1[0] + g1[1]
    yield "ECMUL", "", g1[0] + _word(bn254.ORDER - 2)
    for pairs in (1, 2, 16):
        yield "ECPAIRING", f"{pairs} pairs", b"".join(g1[index] + _bn254_g2(index) for index in range(pairs))


def _bn254_g2(index: int) -> bytes:
    raw = bytes((ec_bn254.g2() * _scalar(index)).to_bytes())  # type: ignore[attr-defined]  # not in our stub: unused by the node
    return _decompressed_twist_point(raw)


def _decompressed_twist_point(raw: bytes) -> bytes:
    """EIP-197's form of arkworks' compressed one."""
    p = bn254.FIELD
    x_real = int.from_bytes(raw[:32], "little")
    x_imaginary = int.from_bytes(raw[32:63] + bytes([raw[63] & 0x3F]), "little")
    b_real, b_imaginary = (int(part) for part in bn254._TWIST_B)
    square_real = (x_real * x_real - x_imaginary * x_imaginary) % p
    square_imaginary = 2 * x_real * x_imaginary % p
    y_real, y_imaginary = _fq2_root(
        (square_real * x_real - square_imaginary * x_imaginary + b_real) % p,
        (square_real * x_imaginary + square_imaginary * x_real + b_imaginary) % p,
    )
    return _word(x_imaginary) + _word(x_real) + _word(y_imaginary) + _word(y_real)


def _fq2_root(real: int, imaginary: int) -> tuple[int, int]:
    """Either square root of real + imaginary * u; the field's p is 3 mod 4."""
    p = bn254.FIELD
    half = pow(2, -1, p)
    norm = pow(real * real + imaginary * imaginary, (p + 1) // 4, p)
    root = pow((real + norm) * half, (p + 1) // 4, p)
    if root * root % p != (real + norm) * half % p:
        root = pow((real - norm) * half, (p + 1) // 4, p)
    return root, imaginary * pow(2 * root, -1, p) % p


def _blake2f_inputs(digest: bytes) -> Iterator[tuple[str, str, bytes]]:
    rest = (digest * 7)[:208] + b"\x01"
    for rounds in (12, 1_000_000):
        yield "BLAKE2F", f"{rounds} rounds", rounds.to_bytes(4, "big") + rest


def _kzg_inputs() -> Iterator[tuple[str, str, bytes]]:
    """The constant polynomial y = 5: commitment [5]G1, proof infinity... at a z that costs a full product."""
    commitment = bytes((G1Point() * Scalar(5)).to_compressed_bytes())
    proof = b"\xc0" + bytes(47)
    versioned_hash = b"\x01" + hashlib.sha256(commitment).digest()[1:]
    yield "POINT_EVALUATION", "constant", versioned_hash + _word(2**254) + _word(5) + commitment + proof
    # A wrong proof costs the same work and burns the gas; its points are full-width.
    commitment = bytes((G1Point() * Scalar(_scalar(1))).to_compressed_bytes())
    proof = bytes((G1Point() * Scalar(_scalar(2))).to_compressed_bytes())
    versioned_hash = b"\x01" + hashlib.sha256(commitment).digest()[1:]
    yield "POINT_EVALUATION", "wrong", versioned_hash + _word(2**254) + _word(2**254 + 1) + commitment + proof


def _bls_inputs() -> Iterator[tuple[str, str, bytes]]:
    g1 = [_bls_fields(bytes((G1Point() * Scalar(_scalar(index))).to_xy_bytes_be())) for index in range(128)]
    g2 = [_bls_fields(bytes((G2Point() * Scalar(_scalar(index))).to_xy_bytes_be())) for index in range(128)]
    yield "BLS12_G1ADD", "", g1[0] + g1[1]
    yield "BLS12_G2ADD", "", g2[0] + g2[1]
    for terms in (1, 2, 16, 128):
        yield "BLS12_G1MSM", f"k={terms}", b"".join(g1[index] + _scalar_word(index) for index in range(terms))
        yield "BLS12_G2MSM", f"k={terms}", b"".join(g2[index] + _scalar_word(index) for index in range(terms))
    for pairs in (1, 2, 16):
        yield "BLS12_PAIRING_CHECK", f"{pairs} pairs", b"".join(g1[i] + g2[i] for i in range(pairs))
    yield "BLS12_MAP_FP_TO_G1", "", bytes(16) + b"\x15" * 48
    yield "BLS12_MAP_FP2_TO_G2", "", (bytes(16) + b"\x15" * 48) * 2


def _p256_input(digest: bytes) -> bytes:
    key = ec.derive_private_key(_scalar(3), ec.SECP256R1())
    r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(SHA256()))))
    public = key.public_key().public_numbers()
    return digest + _word(r) + _word(s) + _word(public.x) + _word(public.y)


def _scalar(index: int) -> int:
    """253 bits, different for each index."""
    return int.from_bytes(hashlib.sha256(b"scalar %d" % index).digest(), "big") >> 3


def _scalar_word(index: int) -> bytes:
    return _word(_scalar(index))


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def _bls_fields(raw: bytes) -> bytes:
    return b"".join(bytes(16) + raw[start : start + 48] for start in range(0, len(raw), 48))
