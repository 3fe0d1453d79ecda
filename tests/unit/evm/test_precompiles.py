"""Each precompile by the cases that its EIP singles out."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from astralink_node.crypto.secp256k1 import ORDER, address_of, sign
from astralink_node.evm.precompiles import blake2f, bls12_381, bn254, kzg, modexp, p256, standard
from astralink_node.evm.precompiles.call_data import PrecompileFailure
from astralink_node.evm.precompiles.registry import OSAKA

KEY = bytes(31) + b"\x2a"
DIGEST = hashlib.sha256(b"digest").digest()


def word(number):
    return number.to_bytes(32, "big")


# ECRECOVER, hashes, identity


def signed_words():
    r, s, y_parity = sign(KEY, DIGEST)
    return r, s, y_parity


def test_ecrecover_gives_the_signer_in_a_word():
    r, s, y_parity = signed_words()
    assert standard.ecrecover(DIGEST + word(27 + y_parity) + word(r) + word(s)) == bytes(12) + address_of(KEY)


def test_ecrecover_accepts_a_high_s_and_ignores_trailing_bytes():
    r, s, y_parity = signed_words()
    data = DIGEST + word(28 - y_parity) + word(r) + word(ORDER - s) + b"trailing"
    assert standard.ecrecover(data) == bytes(12) + address_of(KEY)


@pytest.mark.parametrize("v", [0, 1, 26, 29, 27 + 2**8, 2**256 - 1])
def test_ecrecover_gives_nothing_for_another_v(v):
    r, s, _ = signed_words()
    assert standard.ecrecover(DIGEST + word(v) + word(r) + word(s)) == b""


@pytest.mark.parametrize(("r", "s"), [(0, 1), (1, 0), (ORDER, 1), (1, ORDER), (2**256 - 1, 1)])
def test_ecrecover_gives_nothing_for_r_or_s_out_of_range(r, s):
    assert standard.ecrecover(DIGEST + word(27) + word(r) + word(s)) == b""


def test_ecrecover_reads_missing_input_as_zeros():
    assert standard.ecrecover(b"") == b""
    assert standard.ecrecover_gas(b"") == 3000


def test_hashes_give_the_published_digests():
    assert standard.sha256(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert standard.ripemd160(b"abc").hex() == "00" * 12 + "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"
    assert standard.identity(b"abc") == b"abc"


@pytest.mark.parametrize(
    ("length", "sha256", "ripemd160", "identity"),
    [(0, 60, 600, 15), (1, 72, 720, 18), (32, 72, 720, 18), (33, 84, 840, 21)],
)
def test_hashes_and_identity_charge_by_the_word_rounded_up(length, sha256, ripemd160, identity):
    data = bytes(length)
    assert standard.sha256_gas(data) == sha256
    assert standard.ripemd160_gas(data) == ripemd160
    assert standard.identity_gas(data) == identity


# MODEXP


def modexp_input(base, exponent, modulus):
    return b"".join(word(len(part)) for part in (base, exponent, modulus)) + base + exponent + modulus


def test_modexp_pads_the_result_to_the_length_of_the_modulus():
    assert modexp.modexp(modexp_input(b"\x03", b"\x02", b"\0\0\x07")) == b"\0\0\x02"


def test_modexp_of_an_empty_base_is_zero_to_the_power():
    assert modexp.modexp(modexp_input(b"", b"", b"\x05")) == b"\x01"
    assert modexp.modexp(modexp_input(b"", b"\x02", b"\x05")) == b"\0"


@pytest.mark.parametrize(("modulus", "expected"), [(b"", b""), (b"\0\0", b"\0\0"), (b"\x01", b"\0")])
def test_modexp_modulo_nothing_zero_and_one_is_zero(modulus, expected):
    assert modexp.modexp(modexp_input(b"\x03", b"", modulus)) == expected


def test_modexp_reads_missing_input_as_zeros():
    data = modexp_input(b"\x03", b"\x02", b"\x07\x00")[:-1]
    assert modexp.modexp(data) == (9).to_bytes(2, "big")
    assert modexp.modexp(b"") == b""


def test_modexp_never_reads_an_exponent_that_costs_nothing():
    data = word(0) + word(2**255) + word(0)
    assert modexp.prague_gas(data) == 200
    assert modexp.modexp(data) == b""


def test_modexp_prices_a_long_exponent_by_its_first_32_bytes_and_its_length():
    head = b"\x80" + bytes(31)
    assert modexp.prague_gas(modexp_input(b"\x02" * 32, head + bytes(8), b"\x09" * 32)) == 16 * (8 * 8 + 255) // 3
    assert modexp.osaka_gas(modexp_input(b"\x02" * 32, head + bytes(8), b"\x09" * 32)) == 16 * (16 * 8 + 255)
    assert modexp.osaka_gas(modexp_input(b"\x02" * 33, head + bytes(8), b"\x09")) == 2 * 25 * (16 * 8 + 255)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_modexp_bounds_each_operand_from_osaka_on(position):
    lengths = [0, 0, 0]
    lengths[position] = 1024
    assert modexp.osaka_gas(b"".join(map(word, lengths))) >= 500
    lengths[position] = 1025
    with pytest.raises(PrecompileFailure, match="one or more of base/exponent/modulus length exceeded 1024 bytes"):
        modexp.osaka_gas(b"".join(map(word, lengths)))
    assert modexp.prague_gas(b"".join(map(word, lengths))) >= 200


# BN254

G1 = word(1) + word(2)
MINUS_G1 = word(1) + word(bn254.FIELD - 2)
G2 = (
    word(0x198E9393920D483A7260BFB731FB5D25F1AA493335A9E71297E485B7AEF312C2)
    + word(0x1800DEEF121F1E76426A00665E5C4479674322D4F75EDADD46DEBD5CD992F6ED)
    + word(0x090689D0585FF075EC9E99AD690C3395BC4B313370B38EF355ACDADCD122975B)
    + word(0x12C85EA5DB8C6DEB4AAB71808DCB408FE3D1E7690C43D37B4CE6CC0166FA7DAA)
)
"""The generators of EIP-197; imaginary parts first."""
MINUS_G2 = G2[:64] + b"".join(word(bn254.FIELD - int.from_bytes(G2[start : start + 32], "big")) for start in (64, 96))
TRUE, FALSE = word(1), word(0)


def test_ecadd_doubles_adds_and_cancels():
    double = bn254.ecadd(G1 + G1)
    assert double == bn254.ecmul(G1 + word(2))
    assert bn254.ecadd(double + G1) == bn254.ecmul(G1 + word(3))
    assert bn254.ecadd(G1 + MINUS_G1) == bytes(64)


def test_ecadd_takes_zeros_and_missing_input_for_infinity():
    assert bn254.ecadd(b"") == bytes(64)
    assert bn254.ecadd(G1) == G1
    assert bn254.ecadd(bytes(64) + G1 + b"trailing") == G1


def test_ecmul_takes_any_scalar():
    assert bn254.ecmul(G1 + word(0)) == bytes(64)
    assert bn254.ecmul(G1 + word(bn254.ORDER)) == bytes(64)
    assert bn254.ecmul(G1 + word(bn254.ORDER + 1)) == G1
    assert bn254.ecmul(G1 + word(bn254.ORDER - 1)) == MINUS_G1
    assert bn254.ecmul(bytes(64) + word(5)) == bytes(64)


@pytest.mark.parametrize("point", [word(1) + word(3), word(bn254.FIELD + 1) + word(2), word(1) + word(bn254.FIELD + 2)])
def test_bn254_refuses_a_g1_point_off_the_curve_or_not_reduced(point):
    for call in (bn254.ecadd, bn254.ecmul, lambda data: bn254.ecpairing(data + G2)):
        with pytest.raises(PrecompileFailure):
            call(point)
    with pytest.raises(PrecompileFailure):
        bn254.ecadd(G1 + point)


def test_ecpairing_is_bilinear():
    product = bn254.ecmul(G1 + word(35))
    five, seven = bn254.ecmul(G1 + word(5)), bn254.ecmul(G1 + word(7))
    minus_twelve = bn254.ecmul(G1 + word(bn254.ORDER - 12))
    assert bn254.ecpairing(G1 + G2 + MINUS_G1 + G2) == TRUE
    assert bn254.ecpairing(G1 + G2 + G1 + MINUS_G2) == TRUE
    assert bn254.ecpairing(five + G2 + seven + G2 + minus_twelve + G2) == TRUE
    assert bn254.ecpairing(five + G2 + product + MINUS_G2) == FALSE
    assert bn254.ecpairing(G1 + G2) == FALSE


def test_ecpairing_of_nothing_or_of_infinities_holds():
    assert bn254.ecpairing(b"") == TRUE
    assert bn254.ecpairing(bytes(192)) == TRUE
    assert bn254.ecpairing(G1 + bytes(128)) == TRUE
    assert bn254.ecpairing(bytes(64) + G2) == TRUE


def test_ecpairing_charges_by_the_pair():
    assert bn254.ecpairing_gas(b"") == 45_000
    assert bn254.ecpairing_gas(bytes(384)) == 113_000


@pytest.mark.parametrize(
    "g2",
    [
        pytest.param(G2[:96] + word(5), id="off the curve"),
        pytest.param(word(bn254.FIELD) + G2[32:], id="not reduced"),
        pytest.param(G2[32:64] + G2[:32] + G2[64:], id="parts swapped"),
        pytest.param(None, id="outside the subgroup"),
    ],
)
def test_ecpairing_refuses_a_bad_g2_point_even_beside_infinity(g2):
    g2 = g2 or twist_point_outside_the_subgroup()
    for g1 in (G1, bytes(64)):
        with pytest.raises(PrecompileFailure):
            bn254.ecpairing(g1 + g2)


def test_ecpairing_refuses_a_partial_pair():
    for length in (1, 191, 193):
        with pytest.raises(PrecompileFailure, match="bad elliptic curve pairing size"):
            bn254.ecpairing(bytes(length))


def twist_point_outside_the_subgroup():
    """A point (x, y) of the twist with a small real x; py_ecc, the oracle, says that it lies outside."""
    from py_ecc import optimized_bn128 as oracle

    for x in range(1, 100):
        square = oracle.FQ2([x, 0]) ** 3 + oracle.b2
        real, imaginary = fq2_square_root(int(square.coeffs[0]), int(square.coeffs[1]))
        point = (oracle.FQ2([x, 0]), oracle.FQ2([real, imaginary]), oracle.FQ2.one())
        if oracle.is_on_curve(point, oracle.b2) and not oracle.is_inf(oracle.multiply(point, oracle.curve_order)):
            return word(0) + word(x) + word(imaginary) + word(real)
    raise AssertionError("no such point among the first hundred")


def fq2_square_root(real, imaginary):
    """Of real + imaginary * u, u * u = -1; some other number if there is no root. The field's p is 3 mod 4."""
    p = bn254.FIELD
    norm = pow(real * real + imaginary * imaginary, (p + 1) // 4, p)
    half = (real + norm) * pow(2, -1, p) % p
    root = pow(half, (p + 1) // 4, p)
    if root * root % p != half:
        root = pow((real - norm) * pow(2, -1, p) % p, (p + 1) // 4, p)
    return root, imaginary * pow(2 * root, -1, p) % p


# BLAKE2F


def test_blake2f_with_twelve_rounds_is_blake2b():
    state = bytearray(b"".join(number.to_bytes(8, "little") for number in BLAKE2B_IV))
    state[0] ^= 64
    state[2] ^= 1
    state[3] ^= 1
    block = b"input".ljust(128, b"\0")
    data = (12).to_bytes(4, "big") + bytes(state) + block + (5).to_bytes(16, "little") + b"\x01"
    assert blake2f.blake2f(data) == hashlib.blake2b(b"input").digest()
    assert blake2f.blake2f_gas(data) == 12


BLAKE2B_IV = (
    0x6A09E667F3BCC908,
    0xBB67AE8584CAA73B,
    0x3C6EF372FE94F82B,
    0xA54FF53A5F1D36F1,
    0x510E527FADE682D1,
    0x9B05688C2B3E6C1F,
    0x1F83D9ABFB41BD6B,
    0x5BE0CD19137E2179,
)


# Point evaluation


def test_tau_is_the_second_g2_power_of_the_published_setup():
    from importlib.util import find_spec
    from pathlib import Path

    folder = find_spec("eth").submodule_search_locations[0]
    lines = (Path(folder) / "_utils" / "kzg_trusted_setup.txt").read_text().split()
    lagrange, powers = int(lines[0]), int(lines[1])
    assert (lagrange, powers) == (4096, 65)
    assert lines[2 + lagrange + 1] == kzg.TAU_G2.hex()


INFINITY = b"\xc0" + bytes(47)


def point_evaluation_input(z, y, commitment=INFINITY, proof=INFINITY):
    return b"\x01" + hashlib.sha256(commitment).digest()[1:] + word(z) + word(y) + commitment + proof


def test_point_evaluation_of_the_zero_polynomial_holds_at_any_z_and_only_for_zero():
    assert kzg.point_evaluation(point_evaluation_input(5, 0)) == word(4096) + word(kzg.SCALAR_FIELD)
    with pytest.raises(PrecompileFailure, match="error verifying kzg proof"):
        kzg.point_evaluation(point_evaluation_input(5, 1))


@pytest.mark.parametrize("field", [kzg.SCALAR_FIELD, 2**256 - 1])
def test_point_evaluation_refuses_z_and_y_that_are_not_reduced(field):
    for data in (point_evaluation_input(field, 0), point_evaluation_input(0, field)):
        with pytest.raises(PrecompileFailure, match="scalar field"):
            kzg.point_evaluation(data)


@pytest.mark.parametrize("point", [b"\xff" * 48, b"\xc0" + bytes(46) + b"\x01", b"\xe0" + bytes(47), bytes(48)])
def test_point_evaluation_refuses_points_not_in_canonical_form(point):
    for data in (point_evaluation_input(0, 0, commitment=point), point_evaluation_input(0, 0, proof=point)):
        with pytest.raises(PrecompileFailure):
            kzg.point_evaluation(data)


def test_point_evaluation_refuses_another_length_and_another_versioned_hash():
    good = point_evaluation_input(0, 0)
    for bad in (good[:-1], good + b"\0", b"", b"\x02" + good[1:]):
        with pytest.raises(PrecompileFailure):
            kzg.point_evaluation(bad)


# BLS12-381: the EIP's own vectors are in tests/vectors.


def test_bls_prices_fall_with_the_number_of_terms_until_the_table_ends():
    assert bls12_381.g1_msm_gas(bytes(160)) == 12_000
    assert bls12_381.g1_msm_gas(bytes(160 * 2)) == 2 * 12_000 * 949 // 1000
    assert bls12_381.g1_msm_gas(bytes(160 * 128)) == 128 * 12_000 * 519 // 1000
    assert bls12_381.g1_msm_gas(bytes(160 * 129)) == 129 * 12_000 * 519 // 1000
    assert bls12_381.g2_msm_gas(bytes(288 * 128)) == 128 * 22_500 * 524 // 1000
    assert bls12_381.pairing_gas(bytes(384 * 2)) == 37_700 + 2 * 32_600


@pytest.mark.parametrize(
    ("gas", "size"), [(bls12_381.g1_msm_gas, 160), (bls12_381.g2_msm_gas, 288), (bls12_381.pairing_gas, 384)]
)
def test_bls_refuses_no_term_and_partial_terms(gas, size):
    for length in (0, 1, size - 1, size + 1):
        with pytest.raises(PrecompileFailure):
            gas(bytes(length))


def test_bls_sums_of_infinity_are_infinity():
    assert bls12_381.g1_add(bytes(256)) == bytes(128)
    assert bls12_381.g2_add(bytes(512)) == bytes(256)
    assert bls12_381.pairing(bytes(384)) == TRUE


# P256VERIFY


def p256_words():
    key = ec.derive_private_key(12345, ec.SECP256R1())
    r, s = decode_dss_signature(key.sign(DIGEST, ec.ECDSA(Prehashed(SHA256()))))
    public = key.public_key().public_numbers()
    return r, s, public.x, public.y


def p256_input(r, s, x, y):
    return DIGEST + word(r) + word(s) + word(x) + word(y)


def test_p256verify_accepts_a_signature_and_its_high_s_twin():
    r, s, x, y = p256_words()
    assert p256.p256verify(p256_input(r, s, x, y)) == TRUE
    assert p256.p256verify(p256_input(r, p256.ORDER - s, x, y)) == TRUE
    assert p256.p256verify_gas(b"") == 6900


def test_p256verify_gives_nothing_for_a_wrong_signature_key_or_length():
    r, s, x, y = p256_words()
    good = p256_input(r, s, x, y)
    assert p256.p256verify(bytes(32) + good[32:]) == b""
    assert p256.p256verify(p256_input(r, s, x, p256.FIELD - y)) == b""
    assert p256.p256verify(good[:-1]) == b""
    assert p256.p256verify(good + b"\0") == b""
    assert p256.p256verify(b"") == b""


def test_p256verify_gives_nothing_out_of_range_off_the_curve_or_at_infinity():
    r, s, x, y = p256_words()
    for bad in (
        p256_input(0, s, x, y),
        p256_input(p256.ORDER, s, x, y),
        p256_input(r, 0, x, y),
        p256_input(r, p256.ORDER, x, y),
        p256_input(r, s, p256.FIELD, y),
        p256_input(r, s, x, p256.FIELD),
        p256_input(r, s, x, y + 1 if y + 1 < p256.FIELD else 1),
        p256_input(r, s, 0, 0),
    ):
        assert p256.p256verify(bad) == b""


def test_p256verify_gives_nothing_when_the_sum_is_the_point_at_infinity():
    # With the key -(h / r) G and any s, R = (h / s) G + (r / s) Q is infinity.
    r, s = 5, 7
    digest = int.from_bytes(DIGEST, "big")
    secret = -digest * pow(r, -1, p256.ORDER) % p256.ORDER
    public = ec.derive_private_key(secret, ec.SECP256R1()).public_key().public_numbers()
    assert p256.p256verify(p256_input(r, s, public.x, public.y)) == b""


def test_p256verify_compares_r_with_the_x_coordinate_reduced_by_the_order():
    # EIP-7951: R.x may exceed the order. Choose such an x, take R from it, and a key that makes it come out.
    x = next(x for x in range(p256.ORDER + 1, p256.FIELD) if p256_y(x) is not None)
    r = x - p256.ORDER
    key = p256_recovered_key(x, p256_y(x), r, 1)
    assert p256.p256verify(p256_input(r, 1, *key)) == TRUE
    assert p256.p256verify(p256_input(r + 1, 1, *key)) == b""


def p256_y(x):
    p, b = p256.FIELD, 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    square = (x**3 - 3 * x + b) % p
    root = pow(square, (p + 1) // 4, p)
    return root if root * root % p == square else None


def p256_recovered_key(x, y, r, s):
    """Q = (s R - h G) / r, in integers."""
    generator = ec.derive_private_key(1, ec.SECP256R1()).public_key().public_numbers()
    inverse = pow(r, -1, p256.ORDER)
    left = p256_multiply((x, y), s * inverse % p256.ORDER)
    right = p256_multiply((generator.x, generator.y), -int.from_bytes(DIGEST, "big") * inverse % p256.ORDER)
    return p256_add(left, right)


def p256_add(a, b):
    p = p256.FIELD
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % p == 0:
            return None
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, p) % p
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, p) % p
    x = (slope * slope - a[0] - b[0]) % p
    return x, (slope * (a[0] - x) - a[1]) % p


def p256_multiply(point, scalar):
    total = None
    while scalar:
        if scalar & 1:
            total = p256_add(total, point)
        point = p256_add(point, point)
        scalar >>= 1
    return total


# What geth's precompiles say, by address; traces show it. Infinity is a valid point, so others stand beside it.
G1_OFF_CURVE = bytes(63) + b"\x01" + bytes(63) + b"\x01"
G2_OFF_CURVE = bytes(63) + b"\x01" + bytes(191) + b"\x01"
G1_OUTSIDE = bytes(127) + b"\x02"
"""(0, 2), which is of the curve and not of the subgroup."""
FP_MODULUS = bytes(16) + bytes.fromhex(
    "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab"
)


@pytest.mark.parametrize(
    ("number", "data", "words"),
    [
        (0x05, word(1025), "one or more of base/exponent/modulus length exceeded 1024 bytes"),
        (0x06, word(bn254.FIELD), "bn256: coordinate equals modulus"),
        (0x06, word(bn254.FIELD + 1), "bn256: coordinate exceeds modulus"),
        (0x07, word(1) + word(1), "bn256: malformed point"),
        (0x08, bytes(1), "bad elliptic curve pairing size"),
        (0x08, bytes(64) + word(1), "bad elliptic curve pairing size"),
        (0x08, bytes(64) + bytes(96) + word(1), "bn256: malformed point"),
        (0x09, bytes(212), "invalid input length"),
        (0x09, bytes(212) + b"\x02", "invalid final flag"),
        (0x0A, bytes(191), "invalid input length"),
        (0x0A, bytes(192), "mismatched versioned hash"),
        (0x0B, bytes(255), "invalid input length"),
        (0x0B, b"\x01" + bytes(255), "invalid field element top bytes"),
        (0x0B, FP_MODULUS + bytes(192), "invalid fp.Element encoding"),
        (0x0B, G1_OFF_CURVE + bytes(128), "invalid point: not on curve"),
        (0x0C, bytes(159), "invalid input length"),
        (0x0C, G1_OUTSIDE + word(1), "g1 point is not on correct subgroup"),
        (0x0D, G2_OFF_CURVE + bytes(256), "invalid point: not on curve"),
        (0x0F, bytes(128) + G2_OFF_CURVE, "invalid point: not on curve"),
        (0x10, bytes(63), "invalid input length"),
        (0x10, FP_MODULUS, "invalid fp.Element encoding"),
        (0x11, b"\x01" + bytes(127), "invalid field element top bytes"),
    ],
)
def test_failures_have_geths_words(number, data, words):
    (entry,) = (entry for entry in OSAKA if entry.address[-2:] == number.to_bytes(2, "big"))

    def call():
        entry.gas(data)
        entry.run(data)

    with pytest.raises(PrecompileFailure, match=f"^{words}$"):
        call()
