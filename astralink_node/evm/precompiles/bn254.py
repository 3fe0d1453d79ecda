"""ECADD (0x06), ECMUL (0x07) and ECPAIRING (0x08) on alt_bn128 (EIP-196, EIP-197; prices of EIP-1108).

zksnake's arkworks binding panics on points off the curve and reduces coordinates silently, so every coordinate is
range-checked and every point curve-checked here, in GMP integers, before the library sees it. G2 points go in by
their compressed form, whose decoder checks the subgroup and reports instead of panicking.
"""

import gmpy2
from gmpy2 import mpz
from zksnake._algebra import ec_bn254

from astralink_node.evm.precompiles.call_data import PrecompileFailure, padded

FIELD = 21888242871839275222246405745257275088696311157297823662689037894645226208583
ORDER = 21888242871839275222246405745257275088548364400416034343698204186575808495617

_ECADD_GAS = 150
_ECMUL_GAS = 6000
_PAIRING_BASE_GAS = 45_000
_PAIR_GAS = 34_000
_PAIR_BYTES = 192

_P = mpz(FIELD)
_HALF = FIELD // 2
_NO_POINT = "bn256: malformed point"
"""Off the curve, or outside the subgroup."""
_TRUE = bytes(31) + b"\x01"
_FALSE = bytes(32)

_Fq2 = tuple[mpz, mpz]
"""real, imaginary."""

# The twist y^2 = x^3 + 3 / (9 + u): 3 * (9 - u) / 82.
_INVERSE_82 = gmpy2.invert(mpz(82), _P)
_TWIST_B = (27 * _INVERSE_82 % _P, -3 * _INVERSE_82 % _P)


def ecadd_gas(_data: bytes) -> int:
    return _ECADD_GAS


def ecadd(data: bytes) -> bytes:
    """Two G1 points of 64 bytes -> their sum. In integers: crossing into the library costs ten times the sum."""
    x1, y1 = _affine_g1(padded(data, 0, 64))
    x2, y2 = _affine_g1(padded(data, 64, 64))
    if not (x1 or y1):
        return _encode(x2, y2)
    if not (x2 or y2):
        return _encode(x1, y1)
    if x1 != x2:
        slope = (y2 - y1) * gmpy2.invert(x2 - x1, _P) % _P
    elif y1 == y2:
        # The group's order is odd, so that y is never zero and the tangent always exists.
        slope = 3 * x1 * x1 * gmpy2.invert(2 * y1, _P) % _P
    else:
        return bytes(64)
    x = (slope * slope - x1 - x2) % _P
    return _encode(x, (slope * (x1 - x) - y1) % _P)


def ecmul_gas(_data: bytes) -> int:
    return _ECMUL_GAS


def ecmul(data: bytes) -> bytes:
    """A G1 point and a scalar of 32 bytes, any value -> their product."""
    x, y = _affine_g1(padded(data, 0, 64))
    scalar = int.from_bytes(padded(data, 64, 32), "big") % ORDER
    if not (x or y) or scalar == 0:
        return bytes(64)
    product = ec_bn254.PointG1(int(x), int(y)) * scalar
    return _encode(product.x, product.y)


def ecpairing_gas(data: bytes) -> int:
    return _PAIRING_BASE_GAS + _PAIR_GAS * (len(data) // _PAIR_BYTES)


def ecpairing(data: bytes) -> bytes:
    """Pairs of G1 (64 bytes) and G2 (128 bytes) -> whether the product of the pairings is one. No pair: it is."""
    if len(data) % _PAIR_BYTES:
        raise PrecompileFailure("bad elliptic curve pairing size")
    g1_points, g2_points = [], []
    for start in range(0, len(data), _PAIR_BYTES):
        x, y = _affine_g1(data[start : start + 64])
        g2_point = _decode_g2(data[start + 64 : start + _PAIR_BYTES])
        if g2_point is not None and (x or y):
            g1_points.append(ec_bn254.PointG1(int(x), int(y)))
            g2_points.append(g2_point)
    if not g1_points:
        return _TRUE
    return _TRUE if ec_bn254.multi_pairing(g1_points, g2_points) == _GT_ONE else _FALSE


def _affine_g1(data: bytes) -> tuple[mpz, mpz]:
    """A point of the curve; (0, 0) is infinity."""
    x, y = mpz(int.from_bytes(data[:32], "big")), mpz(int.from_bytes(data[32:64], "big"))
    _check_coordinates(x, y)
    if (x or y) and (y * y - x * x * x - 3) % _P:
        raise PrecompileFailure(_NO_POINT)
    return x, y


def _check_coordinates(*coordinates: mpz) -> None:
    """The first that is too large is named."""
    for coordinate in coordinates:
        if coordinate >= _P:
            found = "equals" if coordinate == _P else "exceeds"
            raise PrecompileFailure(f"bn256: coordinate {found} modulus")


def _decode_g2(data: bytes) -> ec_bn254.PointG2 | None:
    """A point of the subgroup, None for infinity. EIP-197 puts the imaginary part first."""
    x_imaginary, x_real, y_imaginary, y_real = (
        mpz(int.from_bytes(data[start : start + 32], "big")) for start in (0, 32, 64, 96)
    )
    _check_coordinates(x_imaginary, x_real, y_imaginary, y_real)
    if not (x_imaginary or x_real or y_imaginary or y_real):
        return None
    x, y = (x_real, x_imaginary), (y_real, y_imaginary)
    cube = _multiply(_multiply(x, x), x)
    if _multiply(y, y) != ((cube[0] + _TWIST_B[0]) % _P, (cube[1] + _TWIST_B[1]) % _P):
        raise PrecompileFailure(_NO_POINT)
    # arkworks' compressed form: x little endian, the highest bit set for the larger of the two y.
    compressed = bytearray(int(x_real).to_bytes(32, "little") + int(x_imaginary).to_bytes(32, "little"))
    if (y_imaginary or y_real) > _HALF:
        compressed[63] |= 0x80
    try:
        return ec_bn254.PointG2.from_bytes(bytes(compressed))
    except ValueError as error:
        raise PrecompileFailure(_NO_POINT) from error


def _multiply(a: _Fq2, b: _Fq2) -> _Fq2:
    return (a[0] * b[0] - a[1] * b[1]) % _P, (a[0] * b[1] + a[1] * b[0]) % _P


def _encode(x: int | mpz, y: int | mpz) -> bytes:
    return int(x).to_bytes(32, "big") + int(y).to_bytes(32, "big")


_G1_ONE = ec_bn254.g1()
_G2_ONE = ec_bn254.g2()
_GT_ONE = ec_bn254.multi_pairing([_G1_ONE, -_G1_ONE], [_G2_ONE, _G2_ONE])
"""The neutral element of the target group; the binding has no name for it."""
