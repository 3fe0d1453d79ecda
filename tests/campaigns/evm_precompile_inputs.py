"""Inputs for precompiles 0x01 to 0x11 and 0x100: well-formed ones, and the same spoiled; with about what they cost."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from astralink_node.crypto.secp256k1 import ORDER, sign

PRECOMPILES: Final = (*range(0x01, 0x12), 0x100)

_BN_PRIME: Final = 21888242871839275222246405745257275088696311157297823662689037894645226208583
_BN_ORDER: Final = 21888242871839275222246405745257275088548364400416034343698204186575808495617
_BN_G2: Final = (
    "198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2"
    "1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed"
    "090689d0585ff075ec9e99ad690c3395bc4b313370b38ef355acdadcd122975b"
    "12c85ea5db8c6deb4aab71808dcb408fe3d1e7690c43d37b4ce6cc0166fa7daa"
)
_BLS_PRIME: Final = int(
    "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab", 16
)
_BLS_G1: Final = (
    0x17F1D3A73197D7942695638C4FA9AC0FC3688C4F9774B905A14E3A3F171BAC586C55E83FF97A1AEFFB3AF00ADB22C6BB,
    0x08B3F481E3AAA0F1A09E30ED741D8AE4FCF5E095D5D00AF600DB18CB2C04B3EDD03CC744A2888AE40CAA232946C5E7E1,
)
_BLS_G2: Final = (
    0x024AA2B2F08F0A91260805272DC51051C6E47AD4FA403B02B4510B647AE3D1770BAC0326A805BBEFD48056C8C121BDB8,
    0x13E02B6052719F607DACD3A088274F65596BD0D09920B61AB5DA61BBDC7F5049334CF11213945D57E5AC7D055D042B7E,
    0x0CE5D527727D6E118CC9CDC6DA2E351AADFD9BAA8CBDD3A76D429A695160D12C923AC9CC3BACA289E193548608B82801,
    0x0606C4A02EA734CC32ACD2B02BC28B99CB3E287E85A763AF267492AB572E99AB3F370D275CEC1DA1AAA9075FF05F79BE,
)
_P256_VALID: Final = bytes.fromhex(
    "1111111111111111111111111111111111111111111111111111111111111111"
    "b1019dcce8e79e9eb17c37e6e9502f2362ec1be3e4a317c6d5153f33db511086"
    "99be7eaf8c429e84ed4f52a9f98fbc781e4ad2cf5ddf03a68cbb9d2d58fbeb28"
    "26efcebd0ee9e34a669187e18b3a9122b2f733945b649cc9f9f921e9f9dad812"
    "90238bde9cc7bb330d150c67704dd25ae7055205744b6f31bf4070745872d0e6"
)


def precompile_input(random: Random, number: int) -> tuple[bytes, int]:
    """(data, about the gas that it takes)."""
    data, gas = _MAKERS[number](random)
    kind = random.random()
    if kind < 0.06:
        data = data[: random.randrange(len(data) + 1)]
    elif kind < 0.1:
        data += random.randbytes(random.choice((1, 31, 32)))
    elif kind < 0.17 and data:
        spoiled = bytearray(data)
        spoiled[random.randrange(len(spoiled))] ^= 1 << random.randrange(8)
        data = bytes(spoiled)
    return data, gas


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _ecrecover(random: Random) -> tuple[bytes, int]:
    digest = random.randbytes(32)
    r, s, y_parity = sign(_word(random.randint(1, 2**128)), digest)
    if random.random() < 0.3:
        r, s = random.choice(((r, ORDER - s), (0, s), (r, 0), (ORDER, s), (r, ORDER), (2**256 - 1, s), (s, r)))
    v = 27 + y_parity if random.random() < 0.85 else random.choice((0, 1, 26, 27, 28, 29, 27 + (1 << 8), 2**255 + 27))
    return digest + _word(v) + _word(r) + _word(s), 3_000


def _hash(base: int, a_word: int) -> Callable[[Random], tuple[bytes, int]]:
    def make(random: Random) -> tuple[bytes, int]:
        data = random.randbytes(random.choice((0, 1, 31, 32, 33, 64, 127, 200)))
        return data, base + a_word * ((len(data) + 31) // 32)

    return make


def _modexp(random: Random) -> tuple[bytes, int]:
    sizes = [random.choice((0, 0, 1, 2, 8, 31, 32, 33, 64, 65, 100)) for _ in range(3)]
    if random.random() < 0.1:
        sizes[random.randrange(3)] = random.choice((255, 1_023, 1_024, 1_025))
    said = list(sizes)
    if random.random() < 0.2:
        said[random.randrange(3)] = random.choice((1_023, 1_024, 1_025, 2**16, 2**32, 2**64, 2**255))
    body = b"".join(_modexp_operand(random, size) for size in sizes)
    return b"".join(map(_word, said)) + body, random.choice((200, 500, 1_000))


def _modexp_operand(random: Random, size: int) -> bytes:
    """Random, zero, one, or small behind many zeros, which is what the price of an exponent looks at."""
    kind = random.random()
    if kind < 0.6 or not size:
        return random.randbytes(size)
    return random.choice((0, 1, 2, random.randrange(256))).to_bytes(size, "big")


def _bn_g1(random: Random) -> bytes:
    return random.choices(
        (
            _word(1) + _word(2),
            bytes(64),
            _word(1) + _word(_BN_PRIME - 2),
            _word(1) + _word(3),
            _word(_BN_PRIME + 1) + _word(2),
            _word(0) + _word(_BN_PRIME),
        ),
        (6, 3, 3, 1, 1, 1),
    )[0]


def _bn_add(random: Random) -> tuple[bytes, int]:
    return _bn_g1(random) + _bn_g1(random), 150


def _bn_mul(random: Random) -> tuple[bytes, int]:
    scalar = random.choice((0, 1, 2, _BN_ORDER - 1, _BN_ORDER, _BN_ORDER + 1, 2**256 - 1, random.getrandbits(256)))
    return _bn_g1(random) + _word(scalar), 6_000


def _bn_pairing(random: Random) -> tuple[bytes, int]:
    count = random.choice((0, 1, 1, 2))
    pairs = b"".join(
        _bn_g1(random) + (bytes.fromhex(_BN_G2) if random.random() < 0.7 else bytes(128)) for _ in range(count)
    )
    return pairs, 45_000 + 34_000 * count


def _blake2f(random: Random) -> tuple[bytes, int]:
    rounds = random.choice((0, 1, 12, 100, 2**32 - 1))
    flag = random.choice((0, 1, 1, 2))
    return rounds.to_bytes(4, "big") + random.randbytes(208) + bytes((flag,)), min(rounds, 100)


def _point_evaluation(random: Random) -> tuple[bytes, int]:
    return random.randbytes(random.choice((191, 192, 192, 193))), 50_000


def _padded(coordinate: int) -> bytes:
    return coordinate.to_bytes(64, "big")


def _bls_g1(random: Random) -> bytes:
    x, y = _BLS_G1
    kind = random.random()
    if kind < 0.15:
        return bytes(128)
    if kind < 0.3:
        y = _BLS_PRIME - y
    elif kind < 0.36:
        x += _BLS_PRIME
    elif kind < 0.42:
        # On no curve, or (0, 2) on the curve and outside of the subgroup.
        x, y = random.choice(((x, x), (0, 2)))
    return _padded(x) + _padded(y)


def _bls_g2(random: Random) -> bytes:
    x0, x1, y0, y1 = _BLS_G2
    kind = random.random()
    if kind < 0.15:
        return bytes(256)
    if kind < 0.3:
        y0, y1 = _BLS_PRIME - y0, _BLS_PRIME - y1
    elif kind < 0.36:
        x1 += _BLS_PRIME
    elif kind < 0.42:
        x0 ^= 1
    return b"".join(map(_padded, (x0, x1, y0, y1)))


def _scalar(random: Random) -> bytes:
    return _word(random.choice((0, 1, 2, 2**256 - 1, random.getrandbits(256))))


def _bls_g1_add(random: Random) -> tuple[bytes, int]:
    return _bls_g1(random) + _bls_g1(random), 375


def _bls_g1_msm(random: Random) -> tuple[bytes, int]:
    count = random.choice((0, 1, 1, 2, 3))
    return b"".join(_bls_g1(random) + _scalar(random) for _ in range(count)), (0, 12_000, 22_776, 30_528)[count]


def _bls_g2_add(random: Random) -> tuple[bytes, int]:
    return _bls_g2(random) + _bls_g2(random), 600


def _bls_g2_msm(random: Random) -> tuple[bytes, int]:
    count = random.choice((0, 1, 1, 2))
    return b"".join(_bls_g2(random) + _scalar(random) for _ in range(count)), (0, 22_500, 45_000)[count]


def _bls_pairing(random: Random) -> tuple[bytes, int]:
    count = random.choice((0, 1, 1, 2))
    return b"".join(_bls_g1(random) + _bls_g2(random) for _ in range(count)), 37_700 + 32_600 * count


def _bls_map_g1(random: Random) -> tuple[bytes, int]:
    return _field_element(random), 5_500


def _bls_map_g2(random: Random) -> tuple[bytes, int]:
    return _field_element(random) + _field_element(random), 23_800


def _field_element(random: Random) -> bytes:
    return _padded(random.choice((0, 1, _BLS_PRIME - 1, _BLS_PRIME, random.randrange(_BLS_PRIME))))


def _p256(random: Random) -> tuple[bytes, int]:
    if random.random() < 0.3:
        words = [_P256_VALID[start : start + 32] for start in range(0, 160, 32)]
        words[random.randrange(1, 5)] = random.choice((bytes(32), b"\xff" * 32, _word(1)))
        return b"".join(words), 6_900
    return _P256_VALID, 6_900


_MAKERS: Final[dict[int, Callable[[Random], tuple[bytes, int]]]] = {
    0x01: _ecrecover,
    0x02: _hash(60, 12),
    0x03: _hash(600, 120),
    0x04: _hash(15, 3),
    0x05: _modexp,
    0x06: _bn_add,
    0x07: _bn_mul,
    0x08: _bn_pairing,
    0x09: _blake2f,
    0x0A: _point_evaluation,
    0x0B: _bls_g1_add,
    0x0C: _bls_g1_msm,
    0x0D: _bls_g2_add,
    0x0E: _bls_g2_msm,
    0x0F: _bls_pairing,
    0x10: _bls_map_g1,
    0x11: _bls_map_g2,
    0x100: _p256,
}
