"""P256VERIFY (0x100, EIP-7951): ECDSA verification on secp256r1, by OpenSSL through `cryptography`.

Invalid input is not a failure: the call succeeds with no output, as for a wrong signature. The public key's range
and curve, the range of r and s, and R at infinity are all checked; OpenSSL compares r with R.x modulo n.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

FIELD = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

_GAS = 6900
_INPUT_BYTES = 160
_VALID = bytes(31) + b"\x01"
_CURVE = SECP256R1()
_SCHEME = ECDSA(Prehashed(SHA256()))


def p256verify_gas(_data: bytes) -> int:
    return _GAS


def p256verify(data: bytes) -> bytes:
    """(digest, r, s, x, y), a word each -> the word 1 if the signature holds, otherwise nothing."""
    if len(data) != _INPUT_BYTES:
        return b""
    r, s, x, y = (int.from_bytes(data[start : start + 32], "big") for start in (32, 64, 96, 128))
    if not (0 < r < ORDER and 0 < s < ORDER and x < FIELD and y < FIELD):
        return b""
    try:
        # Refuses what is not on the curve; (0, 0), which stands for infinity, is not on it either.
        key = EllipticCurvePublicNumbers(x, y, _CURVE).public_key()
        key.verify(encode_dss_signature(r, s), data[:32], _SCHEME)
    except (ValueError, InvalidSignature):
        return b""
    return _VALID
