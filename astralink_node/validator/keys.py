"""A validator's keys on disk: the BLS voting key and the ML-DSA-65 checkpoint key, encrypted, and their public side.

The folder holds `voting-keystore.json` (EIP-2335), `checkpoint-keystore.json` and `validator.json`, which has what
a genesis file or a registration needs and no secret. It appears whole or not at all and is never overwritten.
"""

import errno
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from astralink_node.crypto import bls, ml_dsa
from astralink_node.crypto.bls_keys import derive_key, voting_key_path
from astralink_node.crypto.bls_keystore import decrypt_keystore, encrypt_keystore, keystore_public_key
from astralink_node.crypto.keystore_envelope import Kdf, KeystoreError, Scrypt, hex_field
from astralink_node.crypto.secret_files import SecretFileExists, create_json_file, read_json_file, sync_folder
from astralink_node.types import Address, Hash32
from astralink_node.validator.history_file import HistoryFile
from astralink_node.validator.signing_history import create_history, history_path

VOTING_KEYSTORE = "voting-keystore.json"
CHECKPOINT_KEYSTORE = "checkpoint-keystore.json"
PUBLIC_FILE = "validator.json"

_CHECKPOINT_SEED_INFO = b"ALNK:ml-dsa-65/v1"
_DEFAULT_KDF = Scrypt()


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """What a validator tells the world. Field names in JSON are those of a genesis file's validator entry."""

    voting_key: bytes
    """48 bytes: compressed BLS12-381 G1."""
    proof_of_possession: bytes
    """96 bytes."""
    checkpoint_key: bytes
    """1,952 bytes: ML-DSA-65."""
    operator: Address | None
    """The account that owns the stake, if it was named when the keys were made."""

    @property
    def checkpoint_key_hash(self) -> Hash32:
        return ml_dsa.key_hash(self.checkpoint_key)


@dataclass(frozen=True, slots=True)
class ValidatorKeys:
    """The secrets, decrypted, and their public side."""

    voting_secret: bls.SecretKey
    checkpoint_seed: ml_dsa.Seed
    public: PublicKeys


def random_keys(operator: Address | None = None) -> ValidatorKeys:
    """Keys from the operating system's randomness."""
    return keys_from_seed(secrets.token_bytes(32), 0, operator)


def keys_from_seed(seed: bytes, account: int, operator: Address | None = None) -> ValidatorKeys:
    """Both keys of validator `account` under one seed (a BIP-39 seed has 64 bytes), so that one phrase restores them.

    The voting key follows EIP-2334. No standard derives ML-DSA keys: the seed is HKDF-SHA-512 of the same seed.
    """
    info = _CHECKPOINT_SEED_INFO + account.to_bytes(4, "big")
    checkpoint_seed = HKDF(SHA512(), ml_dsa.SEED_BYTES, salt=None, info=info).derive(seed)
    return keys_of(derive_key(seed, voting_key_path(account)), ml_dsa.Seed(checkpoint_seed), operator)


def keys_of(voting_secret: bls.SecretKey, checkpoint_seed: ml_dsa.Seed, operator: Address | None) -> ValidatorKeys:
    public = PublicKeys(
        bls.public_key(voting_secret), bls.prove_possession(voting_secret), ml_dsa.public_key(checkpoint_seed), operator
    )
    return ValidatorKeys(voting_secret, checkpoint_seed, public)


def create_validator(
    keys_folder: Path,
    signing_folder: Path,
    keys: ValidatorKeys,
    password: str,
    *,
    key_is_new: bool,
    path: str = "",
    kdf: Kdf = _DEFAULT_KDF,
) -> None:
    """Store keys and begin their signing history. Raises `SecretFileExists` or `HistoryExists`.

    `key_is_new` is false for a key that was restored: it may have signed elsewhere. The history comes first: a
    key that appears without one would have to be treated as restored.
    """
    if keys_folder.exists() and any(keys_folder.iterdir()):
        raise SecretFileExists(f"{keys_folder}: holds keys already; they are never overwritten")
    storage = HistoryFile(history_path(signing_folder, keys.public.voting_key))
    try:
        create_history(storage, keys.public.voting_key, key_is_new=key_is_new)
    finally:
        storage.close()
    save_keys(keys_folder, keys, password, path=path, kdf=kdf)


def save_keys(folder: Path, keys: ValidatorKeys, password: str, *, path: str = "", kdf: Kdf = _DEFAULT_KDF) -> None:
    """Write the folder, whole or not at all. Raises `SecretFileExists`."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    temporary.mkdir(mode=0o700)
    try:
        voting = encrypt_keystore(keys.voting_secret, password, path=path, kdf=kdf)
        create_json_file(temporary / VOTING_KEYSTORE, voting)
        create_json_file(temporary / CHECKPOINT_KEYSTORE, ml_dsa.encrypt_seed(keys.checkpoint_seed, password, kdf=kdf))
        create_json_file(temporary / PUBLIC_FILE, public_keys_object(keys.public))
        try:
            temporary.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise SecretFileExists(f"{folder}: holds keys already; they are never overwritten") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(folder.parent)


def load_keys(folder: Path, password: str) -> ValidatorKeys:
    """Decrypt both keys; raises `WrongPassword`, `KeystoreError` or `UnreadableSecretFile`."""
    public = load_public_keys(folder)
    with _naming(folder / VOTING_KEYSTORE):
        voting_secret = decrypt_keystore(read_json_file(folder / VOTING_KEYSTORE), password)
    with _naming(folder / CHECKPOINT_KEYSTORE):
        checkpoint_seed = ml_dsa.decrypt_seed(read_json_file(folder / CHECKPOINT_KEYSTORE), password)
    keys = keys_of(voting_secret, checkpoint_seed, public.operator)
    if keys.public != public:
        raise KeystoreError(f"{folder / PUBLIC_FILE}: does not belong to the keystores beside it")
    return keys


def load_public_keys(folder: Path) -> PublicKeys:
    """The public side, without a password, checked against the keystores' own claims and its proof."""
    with _naming(folder / PUBLIC_FILE):
        public = _parse_public_keys(read_json_file(folder / PUBLIC_FILE))
    if not bls.verify_possession(public.voting_key, public.proof_of_possession):
        raise KeystoreError(f"{folder / PUBLIC_FILE}: proofOfPossession does not prove votingKey")
    with _naming(folder / VOTING_KEYSTORE):
        if keystore_public_key(read_json_file(folder / VOTING_KEYSTORE)) != public.voting_key:
            raise KeystoreError(f"keystore: holds another key than {PUBLIC_FILE} names")
    with _naming(folder / CHECKPOINT_KEYSTORE):
        if ml_dsa.keystore_public_key(read_json_file(folder / CHECKPOINT_KEYSTORE)) != public.checkpoint_key:
            raise KeystoreError(f"keystore: holds another key than {PUBLIC_FILE} names")
    return public


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say which file it is that the crypto modules, which see only its content, complain about."""
    try:
        yield
    except KeystoreError as error:
        raise type(error)(f"{path}: {str(error).removeprefix('keystore: ')}") from error


def public_keys_object(public: PublicKeys) -> dict[str, object]:
    """A genesis file's validator entry, but for its stake; `operator` is absent when unknown."""
    entry: dict[str, object] = {} if public.operator is None else {"operator": "0x" + public.operator.hex()}
    entry["votingKey"] = "0x" + public.voting_key.hex()
    entry["proofOfPossession"] = "0x" + public.proof_of_possession.hex()
    entry["checkpointKey"] = "0x" + public.checkpoint_key.hex()
    return entry


def _parse_public_keys(entry: Mapping[str, object]) -> PublicKeys:
    return PublicKeys(
        hex_field(entry, "votingKey", width=48),
        hex_field(entry, "proofOfPossession", width=96),
        hex_field(entry, "checkpointKey", width=ml_dsa.PUBLIC_KEY_BYTES),
        Address(hex_field(entry, "operator", width=20)) if "operator" in entry else None,
    )
