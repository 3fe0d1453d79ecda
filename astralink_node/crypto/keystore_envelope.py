"""Encryption of one secret under a password: the KDFs and the cipher that all keystore formats here share.

The `crypto` object is EIP-2335's; `bls_keystore` and `ml_dsa` wrap it, and `web3_keystore` reuses the key
derivation for the older V3 layout. Parameters of a file are bounded before they cost memory or time.
"""

import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from astralink_node.errors import UserError

_MAX_SCRYPT_MEMORY = 1 << 30
_MAX_SCRYPT_N = 1 << 22
_MAX_SCRYPT_P = 64
_MAX_PBKDF2_ROUNDS = 10_000_000
_MAX_SECRET_BYTES = 1024


class KeystoreError(UserError):
    """A keystore that is not what its format demands."""


class WrongPassword(KeystoreError):
    """The keystore is sound as far as one can tell, and the password does not open it."""


@dataclass(frozen=True, slots=True)
class Scrypt:
    """RFC 7914. The defaults are those of EIP-2335's and geth's own files: about a second and 256 MB."""

    n: int = 262_144
    r: int = 8
    p: int = 1


@dataclass(frozen=True, slots=True)
class Pbkdf2:
    """RFC 8018 with HMAC-SHA-256."""

    c: int = 262_144


Kdf = Scrypt | Pbkdf2


def normalize_password(password: str) -> bytes:
    """EIP-2335: NFKD, then control codes (C0, C1, Delete) stripped, then UTF-8."""
    decomposed = unicodedata.normalize("NFKD", password)
    return "".join(char for char in decomposed if unicodedata.category(char) != "Cc").encode()


def derive_key(kdf: Kdf, salt: bytes, password: bytes) -> bytes:
    """32 bytes; raises `KeystoreError` for parameters beyond reason."""
    match kdf:
        case Scrypt(n, r, p):
            memory = 128 * r * (n + p + 2)
            power_of_two = n > 1 and n & (n - 1) == 0
            if not (power_of_two and n <= _MAX_SCRYPT_N and r >= 1 and 1 <= p <= _MAX_SCRYPT_P):
                raise KeystoreError(f"keystore: scrypt parameters out of bounds: n={n}, r={r}, p={p}")
            if memory > _MAX_SCRYPT_MEMORY:
                raise KeystoreError(f"keystore: scrypt would need {memory} bytes, more than {_MAX_SCRYPT_MEMORY}")
            if n < 1 << 16 * r:
                return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=memory + 65_536, dklen=32)
            return _unbounded_scrypt(password, salt, n, r, p)
        case Pbkdf2(c):
            if not 1 <= c <= _MAX_PBKDF2_ROUNDS:
                raise KeystoreError(f"keystore: pbkdf2 rounds out of bounds: c={c}")
            return hashlib.pbkdf2_hmac("sha256", password, salt, c, dklen=32)


def _unbounded_scrypt(password: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    """RFC 7914 asks n < 2^(16 r), and OpenSSL insists; published V3 keystores with r = 1 are beyond it."""
    from Crypto.Protocol.KDF import scrypt

    # The library's stubs say str for bytes, and a tuple for several keys.
    return cast(bytes, scrypt(cast(str, password), cast(str, salt), 32, n, r, p))


def aes_128_ctr(key: bytes, iv: bytes, data: bytes) -> bytes:
    """Encrypts and decrypts: 16-byte key, 16-byte initial counter, big endian, wrapping."""
    context = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return context.update(data) + context.finalize()


def kdf_params_object(kdf: Kdf, salt: bytes) -> dict[str, object]:
    """The `params` (V3: `kdfparams`) object of a keystore."""
    match kdf:
        case Scrypt(n, r, p):
            return {"dklen": 32, "n": n, "p": p, "r": r, "salt": salt.hex()}
        case Pbkdf2(c):
            return {"dklen": 32, "c": c, "prf": "hmac-sha256", "salt": salt.hex()}


def kdf_name(kdf: Kdf) -> str:
    match kdf:
        case Scrypt():
            return "scrypt"
        case Pbkdf2():
            return "pbkdf2"


def parse_kdf(name: str, params: Mapping[str, object]) -> tuple[Kdf, bytes]:
    """The function that a keystore names, and its salt."""
    if integer_field(params, "dklen") != 32:
        raise KeystoreError(f"keystore: dklen: expected 32, found {params['dklen']!r}")
    salt = hex_field(params, "salt")
    if name == "scrypt":
        return Scrypt(integer_field(params, "n"), integer_field(params, "r"), integer_field(params, "p")), salt
    if name == "pbkdf2":
        if params.get("prf") != "hmac-sha256":
            raise KeystoreError(f"keystore: prf: expected hmac-sha256, found {params.get('prf')!r}")
        return Pbkdf2(integer_field(params, "c")), salt
    raise KeystoreError(f"keystore: kdf: expected scrypt or pbkdf2, found {name!r}")


def encrypt_envelope(secret: bytes, password: str, kdf: Kdf) -> dict[str, object]:
    """EIP-2335's `crypto` object around `secret`."""
    salt = secrets.token_bytes(32)
    iv = secrets.token_bytes(16)
    key = derive_key(kdf, salt, normalize_password(password))
    ciphertext = aes_128_ctr(key[:16], iv, secret)
    return {
        "kdf": {"function": kdf_name(kdf), "params": kdf_params_object(kdf, salt), "message": ""},
        "checksum": {
            "function": "sha256",
            "params": {},
            "message": hashlib.sha256(key[16:32] + ciphertext).hexdigest(),
        },
        "cipher": {"function": "aes-128-ctr", "params": {"iv": iv.hex()}, "message": ciphertext.hex()},
    }


def decrypt_envelope(crypto: Mapping[str, object], password: str) -> bytes:
    """The secret; raises `WrongPassword`, or `KeystoreError` for a broken or foreign object."""
    kdf_module = object_field(crypto, "kdf")
    checksum = object_field(crypto, "checksum")
    cipher = object_field(crypto, "cipher")
    if checksum.get("function") != "sha256":
        raise KeystoreError(f"keystore: checksum.function: expected sha256, found {checksum.get('function')!r}")
    if cipher.get("function") != "aes-128-ctr":
        raise KeystoreError(f"keystore: cipher.function: expected aes-128-ctr, found {cipher.get('function')!r}")
    kdf, salt = parse_kdf(text_field(kdf_module, "function"), object_field(kdf_module, "params"))
    iv = hex_field(object_field(cipher, "params"), "iv", width=16)
    ciphertext = hex_field(cipher, "message")
    expected = hex_field(checksum, "message", width=32)
    if len(ciphertext) > _MAX_SECRET_BYTES:
        raise KeystoreError(f"keystore: cipher.message: expected at most {_MAX_SECRET_BYTES} bytes")
    key = derive_key(kdf, salt, normalize_password(password))
    if not hmac.compare_digest(hashlib.sha256(key[16:32] + ciphertext).digest(), expected):
        raise WrongPassword("keystore: wrong password (the checksum does not match)")
    return aes_128_ctr(key[:16], iv, ciphertext)


def object_field(parent: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = parent.get(name)
    if not isinstance(value, dict):
        raise KeystoreError(f"keystore: {name}: expected an object, found {_shape(value)}")
    return value


def text_field(parent: Mapping[str, object], name: str) -> str:
    value = parent.get(name)
    if not isinstance(value, str):
        raise KeystoreError(f"keystore: {name}: expected a string, found {_shape(value)}")
    return value


def integer_field(parent: Mapping[str, object], name: str) -> int:
    value = parent.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise KeystoreError(f"keystore: {name}: expected a whole number, found {_shape(value)}")
    return value


def hex_field(parent: Mapping[str, object], name: str, *, width: int | None = None) -> bytes:
    text = text_field(parent, name)
    try:
        value = bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise KeystoreError(f"keystore: {name}: expected hexadecimal digits") from error
    if width is not None and len(value) != width:
        raise KeystoreError(f"keystore: {name}: expected {width} bytes, found {len(value)}")
    return value


def _shape(value: object) -> str:
    return "nothing" if value is None else type(value).__name__
