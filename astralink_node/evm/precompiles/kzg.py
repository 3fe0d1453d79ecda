"""Point evaluation (0x0a, EIP-4844): does the polynomial behind a KZG commitment take the value y at z?

One pairing product, e(C - [y]G1 + [z]W, G2) * e(-W, [tau]G2) == 1, needs a single point of the ceremony's output,
which stands below. The usual library, c-kzg, needs 2.3 s to load all 8,257 of them before its first answer: in the
first block that uses the precompile after a start, that would overrun any proposal timeout. It is the oracle of
the tests instead.
"""

import hashlib

from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

from astralink_node.evm.precompiles.call_data import INPUT_LENGTH, PrecompileFailure

TAU_G2 = bytes.fromhex(
    "b5bfd7dd8cdeb128843bc287230af38926187075cbfbefa81009a2ce615ac53d2914e5870cb452d2afaaab24f3499f72"
    "185cbfee53492714734429b7b38608e23926c911cceceac9a36851477ba4c60b087041de621000edc98edada20c1def2"
)
"""[tau]G2 of Ethereum's KZG ceremony: index 1 of `g2_monomial` in the consensus specs' trusted setup."""
SCALAR_FIELD = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001

_GAS = 50_000
_INPUT_BYTES = 192
_VERSION = b"\x01"
_NO_PROOF = "error verifying kzg proof"
_FIELD_ELEMENTS_PER_BLOB = 4096
_OUTPUT = _FIELD_ELEMENTS_PER_BLOB.to_bytes(32, "big") + SCALAR_FIELD.to_bytes(32, "big")
_G1, _G2 = G1Point(), G2Point()
_TAU_G2 = G2Point.from_compressed_bytes(TAU_G2)
_ONE = Scalar(1)


def point_evaluation_gas(_data: bytes) -> int:
    return _GAS


def point_evaluation(data: bytes) -> bytes:
    """versioned hash (32) | z (32) | y (32) | commitment (48) | proof (48) -> two constants if the proof holds."""
    if len(data) != _INPUT_BYTES:
        raise PrecompileFailure(INPUT_LENGTH)
    commitment, proof = data[96:144], data[144:]
    if data[:32] != _VERSION + hashlib.sha256(commitment).digest()[1:]:
        raise PrecompileFailure("mismatched versioned hash")
    if not verify_opening(commitment, data[32:64], data[64:96], proof):
        raise PrecompileFailure(f"{_NO_PROOF}: it does not hold")
    return _OUTPUT


def verify_opening(commitment: bytes, z: bytes, y: bytes, proof: bytes) -> bool:
    """`verify_kzg_proof` of the consensus specs (Deneb); malformed input raises `PrecompileFailure`."""
    witness = _point(proof, "proof")
    difference = G1Point.multiexp_unchecked(
        [_point(commitment, "commitment"), _G1, witness], [_ONE, -_scalar(y, "y"), _scalar(z, "z")]
    )
    return GT.pairing_check([difference, -witness], [_G2, _TAU_G2])


def _scalar(data: bytes, what: str) -> Scalar:
    if int.from_bytes(data, "big") >= SCALAR_FIELD:
        raise PrecompileFailure(f"{_NO_PROOF}: {what}: not below the order of the scalar field")
    return Scalar.from_be_bytes(data)


def _point(data: bytes, what: str) -> G1Point:
    """A compressed point of the subgroup, infinity included. The binding also decodes forms that are not canonical."""
    try:
        point = G1Point.from_compressed_bytes(data)
    except ValueError as error:
        raise PrecompileFailure(f"{_NO_PROOF}: {what}: {error}") from error
    if bytes(point.to_compressed_bytes()) != data:
        raise PrecompileFailure(f"{_NO_PROOF}: {what}: not the canonical encoding of its point")
    return point
