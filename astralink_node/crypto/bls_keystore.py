"""EIP-2335 keystores: one BLS secret key under a password, as Ethereum's validator tools read and write them."""

import uuid
from collections.abc import Mapping

from astralink_node.crypto import bls
from astralink_node.crypto.keystore_envelope import (
    Kdf,
    KeystoreError,
    Scrypt,
    decrypt_envelope,
    encrypt_envelope,
    hex_field,
    integer_field,
    object_field,
)

_DEFAULT_KDF = Scrypt()


def encrypt_keystore(
    secret: bls.SecretKey, password: str, *, path: str = "", description: str = "", kdf: Kdf = _DEFAULT_KDF
) -> dict[str, object]:
    """The keystore as a JSON object. `path` is the EIP-2334 path that led to the key, empty if none did."""
    return {
        "crypto": encrypt_envelope(secret.reveal(), password, kdf),
        "description": description,
        "pubkey": bls.public_key(secret).hex(),
        "path": path,
        "uuid": str(uuid.uuid4()),
        "version": 4,
    }


def decrypt_keystore(keystore: Mapping[str, object], password: str) -> bls.SecretKey:
    """The key inside; raises `WrongPassword`, or `KeystoreError` for a broken keystore or a foreign pubkey."""
    public_key = keystore_public_key(keystore)
    value = decrypt_envelope(object_field(keystore, "crypto"), password)
    try:
        secret = bls.SecretKey(value)
    except bls.InvalidSecretKey as error:
        raise KeystoreError("keystore: what it holds is not a BLS secret key") from error
    if public_key is not None and bls.public_key(secret) != public_key:
        raise KeystoreError("keystore: pubkey: belongs to another secret key than the one inside")
    return secret


def keystore_public_key(keystore: Mapping[str, object]) -> bytes | None:
    """The key that the keystore claims, without its password; EIP-2335 leaves the field optional."""
    version = integer_field(keystore, "version")
    if version != 4:
        raise KeystoreError(f"keystore: version: expected 4 (EIP-2335), found {version}")
    return hex_field(keystore, "pubkey", width=48) if keystore.get("pubkey") else None
