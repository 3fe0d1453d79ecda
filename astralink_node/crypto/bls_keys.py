"""BLS keys from a seed: EIP-2333 (derivation tree) and EIP-2334 (what the path's levels mean).

A path is m / 12381 / coin type / account / use...; AstraLink's voting key of account i is m/12381/60/i/0, with
the coin type of the EVM wallets that its operators already hold.
"""

import hashlib
import hmac

from astralink_node.crypto.bls import CURVE_ORDER, SecretKey
from astralink_node.errors import UserError

_PURPOSE = 12381
_COIN_TYPE = 60
_MAX_INDEX = 2**32 - 1
_MIN_SEED_BYTES = 32
_KEY_MATERIAL_BYTES = 48
"""ceil((3 * ceil(log2(r))) / 16): EIP-2333's L."""


class InvalidPath(UserError):
    """Not an EIP-2334 path."""


def voting_key_path(account: int) -> str:
    return f"m/{_PURPOSE}/{_COIN_TYPE}/{account}/0"


def parse_path(path: str) -> tuple[int, ...]:
    """The indices below m; raises `InvalidPath`."""
    parts = path.split("/")
    if len(parts) < 5 or parts[0] != "m" or not all(part.isascii() and part.isdigit() for part in parts[1:]):
        raise InvalidPath(f"key path: expected m/{_PURPOSE}/<coin type>/<account>/<use>, found {path!r}")
    indices = tuple(int(part) for part in parts[1:])
    if indices[0] != _PURPOSE:
        raise InvalidPath(f"key path: expected the purpose {_PURPOSE}, found {indices[0]}")
    if max(indices) > _MAX_INDEX:
        raise InvalidPath(f"key path: expected indices up to {_MAX_INDEX}, found {max(indices)}")
    return indices


def derive_key(seed: bytes, path: str) -> SecretKey:
    """The key at `path` of the tree that grows from `seed` (a BIP-39 seed has 64 bytes)."""
    key = master_key(seed)
    for index in parse_path(path):
        key = child_key(key, index)
    return key


def master_key(seed: bytes) -> SecretKey:
    """derive_master_SK."""
    if len(seed) < _MIN_SEED_BYTES:
        raise ValueError(f"seed: expected at least {_MIN_SEED_BYTES} bytes, found {len(seed)}")
    return _hkdf_mod_r(seed)


def child_key(parent: SecretKey, index: int) -> SecretKey:
    """derive_child_SK."""
    if not 0 <= index <= _MAX_INDEX:
        raise ValueError(f"index: expected 0 to {_MAX_INDEX}, found {index}")
    return _hkdf_mod_r(_compressed_lamport_key(parent.reveal(), index))


def _hkdf_mod_r(material: bytes) -> SecretKey:
    salt = b"BLS-SIG-KEYGEN-SALT-"
    value = 0
    while value == 0:
        salt = hashlib.sha256(salt).digest()
        extracted = _hkdf_extract(salt, material + b"\x00")
        expanded = _hkdf_expand(extracted, _KEY_MATERIAL_BYTES.to_bytes(2, "big"), _KEY_MATERIAL_BYTES)
        value = int.from_bytes(expanded, "big") % CURVE_ORDER
    return SecretKey(value.to_bytes(32, "big"))


def _compressed_lamport_key(material: bytes, index: int) -> bytes:
    """parent_SK_to_lamport_PK."""
    salt = index.to_bytes(4, "big")
    inverted = bytes(byte ^ 0xFF for byte in material)
    digest = hashlib.sha256()
    for half in (material, inverted):
        chain = _hkdf_expand(_hkdf_extract(salt, half), b"", 255 * 32)
        for start in range(0, len(chain), 32):
            digest.update(hashlib.sha256(chain[start : start + 32]).digest())
    return digest.digest()


def _hkdf_extract(salt: bytes, material: bytes) -> bytes:
    return hmac.digest(salt, material, "sha256")


def _hkdf_expand(key: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869. The library's HKDF hides the extract step that EIP-2333 needs apart."""
    output = b""
    block = b""
    counter = 1
    while len(output) < length:
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        output += block
        counter += 1
    return output[:length]
