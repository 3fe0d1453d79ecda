"""Web3 Secret Storage, version 3: an account's private key under a password, as geth and wallets exchange it.

The password's UTF-8 bytes enter as they are (geth normalises nothing), unlike in EIP-2335.
"""

import hmac
import secrets
import uuid
from collections.abc import Mapping

from astralink_node.crypto import secp256k1
from astralink_node.crypto.keccak import keccak256
from astralink_node.crypto.keystore_envelope import (
    Kdf,
    KeystoreError,
    Scrypt,
    WrongPassword,
    aes_128_ctr,
    derive_key,
    hex_field,
    integer_field,
    kdf_name,
    kdf_params_object,
    object_field,
    parse_kdf,
    text_field,
)
from astralink_node.types import Address

_DEFAULT_KDF = Scrypt()


def encrypt_account(private_key: bytes, password: str, *, kdf: Kdf = _DEFAULT_KDF) -> dict[str, object]:
    """The keystore as a JSON object."""
    address = secp256k1.address_of(private_key)
    salt = secrets.token_bytes(32)
    iv = secrets.token_bytes(16)
    key = derive_key(kdf, salt, password.encode())
    ciphertext = aes_128_ctr(key[:16], iv, private_key)
    return {
        "address": address.hex(),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": iv.hex()},
            "ciphertext": ciphertext.hex(),
            "kdf": kdf_name(kdf),
            "kdfparams": kdf_params_object(kdf, salt),
            "mac": keccak256(key[16:32] + ciphertext).hex(),
        },
        "id": str(uuid.uuid4()),
        "version": 3,
    }


def decrypt_account(keystore: Mapping[str, object], password: str) -> bytes:
    """The 32-byte private key; raises `WrongPassword`, or `KeystoreError` for a broken keystore."""
    lowered = {name.lower(): value for name, value in keystore.items()}  # some wallets write "Crypto"
    version = integer_field(lowered, "version")
    if version != 3:
        raise KeystoreError(f"keystore: version: expected 3, found {version}")
    crypto = object_field(lowered, "crypto")
    if crypto.get("cipher") != "aes-128-ctr":
        raise KeystoreError(f"keystore: cipher: expected aes-128-ctr, found {crypto.get('cipher')!r}")
    kdf, salt = parse_kdf(text_field(crypto, "kdf"), object_field(crypto, "kdfparams"))
    iv = hex_field(object_field(crypto, "cipherparams"), "iv", width=16)
    ciphertext = hex_field(crypto, "ciphertext", width=32)
    mac = hex_field(crypto, "mac", width=32)
    key = derive_key(kdf, salt, password.encode())
    if not hmac.compare_digest(keccak256(key[16:32] + ciphertext), mac):
        raise WrongPassword("keystore: wrong password (the MAC does not match)")
    private_key = aes_128_ctr(key[:16], iv, ciphertext)
    address = keystore_address(keystore)
    try:
        owner = secp256k1.address_of(private_key)
    except secp256k1.InvalidPrivateKey as error:
        raise KeystoreError("keystore: what it holds is not a secp256k1 private key") from error
    if address is not None and address != owner:
        raise KeystoreError(f"keystore: address: claims 0x{address.hex()}, but the key inside owns 0x{owner.hex()}")
    return private_key


def keystore_address(keystore: Mapping[str, object]) -> Address | None:
    """The account that the keystore claims, without its password; the field is optional."""
    return Address(hex_field(keystore, "address", width=20)) if keystore.get("address") else None
