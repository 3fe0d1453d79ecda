"""The precompiles of EIP-2537 (0x0b to 0x11): sums, products, pairings and maps on BLS12-381.

Lengths, paddings and points are checked before arkworks computes: sums need points on the curve, the others points
in the subgroup. Traps of the binding: a multi-exponentiation of lists of unequal length silently gives infinity
(here both always come from the same slices), and its decoders raise ValueError.
"""

from collections.abc import Callable
from typing import TypeVar

from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

from astralink_node.evm.precompiles.call_data import INPUT_LENGTH, PrecompileFailure

_Point = TypeVar("_Point", G1Point, G2Point)

_PADDING = bytes(16)
_FIELD = bytes.fromhex(
    "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab"
)
"""The modulus, as the elements are written."""
_FP_BYTES = 64
"""A field element: 16 zero bytes, then 48 big endian."""
_G1_BYTES = 2 * _FP_BYTES
_G2_BYTES = 4 * _FP_BYTES
_SCALAR_BYTES = 32
_G1_TERM = _G1_BYTES + _SCALAR_BYTES
_G2_TERM = _G2_BYTES + _SCALAR_BYTES
_PAIR_BYTES = _G1_BYTES + _G2_BYTES

_G1_ADD_GAS, _G1_MUL_GAS, _MAP_FP_GAS = 375, 12_000, 5_500
_G2_ADD_GAS, _G2_MUL_GAS, _MAP_FP2_GAS = 600, 22_500, 23_800
_PAIRING_BASE_GAS, _PAIR_GAS = 37_700, 32_600

# EIP-2537, "discount" tables: thousandths of the single price for k = 1 to 128 terms; the last holds beyond.
# fmt: off
_G1_DISCOUNTS = (
    1000, 949, 848, 797, 764, 750, 738, 728, 719, 712, 705, 698, 692, 687, 682, 677, 673, 669, 665, 661, 658, 654,
    651, 648, 645, 642, 640, 637, 635, 632, 630, 627, 625, 623, 621, 619, 617, 615, 613, 611, 609, 608, 606, 604,
    603, 601, 599, 598, 596, 595, 593, 592, 591, 589, 588, 586, 585, 584, 582, 581, 580, 579, 577, 576, 575, 574,
    573, 572, 570, 569, 568, 567, 566, 565, 564, 563, 562, 561, 560, 559, 558, 557, 556, 555, 554, 553, 552, 551,
    550, 549, 548, 547, 547, 546, 545, 544, 543, 542, 541, 540, 540, 539, 538, 537, 536, 536, 535, 534, 533, 532,
    532, 531, 530, 529, 528, 528, 527, 526, 525, 525, 524, 523, 522, 522, 521, 520, 520, 519,
)
_G2_DISCOUNTS = (
    1000, 1000, 923, 884, 855, 832, 812, 796, 782, 770, 759, 749, 740, 732, 724, 717, 711, 704, 699, 693, 688, 683,
    679, 674, 670, 666, 663, 659, 655, 652, 649, 646, 643, 640, 637, 634, 632, 629, 627, 624, 622, 620, 618, 615,
    613, 611, 609, 607, 606, 604, 602, 600, 598, 597, 595, 593, 592, 590, 589, 587, 586, 584, 583, 582, 580, 579,
    578, 576, 575, 574, 573, 571, 570, 569, 568, 567, 566, 565, 563, 562, 561, 560, 559, 558, 557, 556, 555, 554,
    553, 552, 552, 551, 550, 549, 548, 547, 546, 545, 545, 544, 543, 542, 541, 541, 540, 539, 538, 537, 537, 536,
    535, 535, 534, 533, 532, 532, 531, 530, 530, 529, 528, 528, 527, 526, 526, 525, 524, 524,
)
# fmt: on


def g1_add_gas(_data: bytes) -> int:
    return _G1_ADD_GAS


def g1_add(data: bytes) -> bytes:
    """Two points of the curve, in or outside the subgroup -> their sum."""
    _expect_length(data, 2 * _G1_BYTES)
    return _encode_g1(_g1_on_curve(data[:_G1_BYTES]) + _g1_on_curve(data[_G1_BYTES:]))


def g1_msm_gas(data: bytes) -> int:
    return _msm_gas(data, _G1_TERM, _G1_MUL_GAS, _G1_DISCOUNTS)


def g1_msm(data: bytes) -> bytes:
    """Terms of a point and a scalar -> the sum of the products."""
    points = [_g1_in_subgroup(data[start : start + _G1_BYTES]) for start in _starts(data, _G1_TERM)]
    return _encode_g1(G1Point.multiexp_unchecked(points, _scalars(data, _G1_TERM)))


def g2_add_gas(_data: bytes) -> int:
    return _G2_ADD_GAS


def g2_add(data: bytes) -> bytes:
    """Two points of the curve, in or outside the subgroup -> their sum."""
    _expect_length(data, 2 * _G2_BYTES)
    return _encode_g2(_g2_on_curve(data[:_G2_BYTES]) + _g2_on_curve(data[_G2_BYTES:]))


def g2_msm_gas(data: bytes) -> int:
    return _msm_gas(data, _G2_TERM, _G2_MUL_GAS, _G2_DISCOUNTS)


def g2_msm(data: bytes) -> bytes:
    """Terms of a point and a scalar -> the sum of the products."""
    points = [_g2_in_subgroup(data[start : start + _G2_BYTES]) for start in _starts(data, _G2_TERM)]
    return _encode_g2(G2Point.multiexp_unchecked(points, _scalars(data, _G2_TERM)))


def pairing_gas(data: bytes) -> int:
    return _PAIRING_BASE_GAS + _PAIR_GAS * len(_starts(data, _PAIR_BYTES))


def pairing(data: bytes) -> bytes:
    """Pairs of G1 and G2 points -> the word 1 if the product of their pairings is one, else the word 0."""
    starts = _starts(data, _PAIR_BYTES)
    g1_points = [_g1_in_subgroup(data[start : start + _G1_BYTES]) for start in starts]
    g2_points = [_g2_in_subgroup(data[start + _G1_BYTES : start + _PAIR_BYTES]) for start in starts]
    return GT.pairing_check(g1_points, g2_points).to_bytes(32, "big")


def map_fp_to_g1_gas(_data: bytes) -> int:
    return _MAP_FP_GAS


def map_fp_to_g1(data: bytes) -> bytes:
    _expect_length(data, _FP_BYTES)
    return _encode_g1(G1Point.map_from_fp_be(_field_elements(data)))


def map_fp2_to_g2_gas(_data: bytes) -> int:
    return _MAP_FP2_GAS


def map_fp2_to_g2(data: bytes) -> bytes:
    _expect_length(data, 2 * _FP_BYTES)
    return _encode_g2(G2Point.map_from_fp2_be(_field_elements(data)))


def _expect_length(data: bytes, length: int) -> None:
    if len(data) != length:
        raise PrecompileFailure(INPUT_LENGTH)


def _starts(data: bytes, size: int) -> range:
    """Where each item of `size` bytes begins; EIP-2537 wants at least one, and nothing left over."""
    if not data or len(data) % size:
        raise PrecompileFailure(INPUT_LENGTH)
    return range(0, len(data), size)


def _msm_gas(data: bytes, size: int, single_gas: int, discounts: tuple[int, ...]) -> int:
    count = len(_starts(data, size))
    return count * single_gas * discounts[min(count, len(discounts)) - 1] // 1000


def _scalars(data: bytes, size: int) -> list[Scalar]:
    """Any 256-bit value is a scalar: EIP-2537 reduces it modulo the group order."""
    return [
        Scalar.from_be_bytes_mod_order(data[start + size - _SCALAR_BYTES : start + size])
        for start in _starts(data, size)
    ]


def _field_elements(data: bytes) -> bytes:
    """The 48 significant bytes of each element."""
    elements = []
    for start in range(0, len(data), _FP_BYTES):
        if data[start : start + 16] != _PADDING:
            raise PrecompileFailure("invalid field element top bytes")
        element = data[start + 16 : start + _FP_BYTES]
        if element >= _FIELD:
            raise PrecompileFailure("invalid fp.Element encoding")
        elements.append(element)
    return b"".join(elements)


def _checked(decode: Callable[[bytes], _Point], data: bytes, group: str) -> _Point:
    try:
        return decode(_field_elements(data))
    except ValueError as error:
        off_curve = "not on the" in str(error)
        words = "invalid point: not on curve" if off_curve else f"{group} point is not on correct subgroup"
        raise PrecompileFailure(words) from error


def _g1_on_curve(data: bytes) -> G1Point:
    return _checked(G1Point.from_xy_bytes_unchecked_be, data, "g1")


def _g1_in_subgroup(data: bytes) -> G1Point:
    return _checked(G1Point.from_xy_bytes_be, data, "g1")


def _g2_on_curve(data: bytes) -> G2Point:
    return _checked(G2Point.from_xy_bytes_unchecked_be, data, "g2")


def _g2_in_subgroup(data: bytes) -> G2Point:
    return _checked(G2Point.from_xy_bytes_be, data, "g2")


def _encode_g1(point: G1Point) -> bytes:
    return _pad_elements(bytes(point.to_xy_bytes_be()))


def _encode_g2(point: G2Point) -> bytes:
    return _pad_elements(bytes(point.to_xy_bytes_be()))


def _pad_elements(elements: bytes) -> bytes:
    return b"".join(_PADDING + elements[start : start + 48] for start in range(0, len(elements), 48))
