"""Keys in a data folder as `account import` and `validator key new` put them there, but cheap to make and to open."""

from __future__ import annotations

from pathlib import Path

from astralink_node.cli.account import KEYSTORE_FOLDER
from astralink_node.crypto.keystore_envelope import Scrypt
from astralink_node.crypto.secret_files import create_json_file
from astralink_node.crypto.web3_keystore import encrypt_account
from astralink_node.services.data_folder import DataFolder
from astralink_node.types import Address
from astralink_node.validator.keys import PublicKeys, create_validator, random_keys

_KDF = Scrypt(n=1_024)


def put_account(data_dir: Path, private_key: bytes, password: str) -> None:
    create_json_file(data_dir / KEYSTORE_FOLDER / "account", encrypt_account(private_key, password, kdf=_KDF))


def put_validator(folder: DataFolder, operator: Address | None, password: str) -> PublicKeys:
    keys = random_keys(operator)
    create_validator(folder.validator_keys, folder.signing, keys, password, key_is_new=True, kdf=_KDF)
    return keys.public


def put_secret(path: Path, text: str) -> Path:
    """A file that only its owner reads, as passwords and keys must lie there."""
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path
