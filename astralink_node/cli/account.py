"""`account new|import|list`: ordinary accounts as Web3 keystore files, the same that geth reads and writes."""

import json
import secrets
from datetime import UTC, datetime
from pathlib import Path

import click

from astralink_node.cli.options import data_dir_option, json_option, password_file_option
from astralink_node.cli.passwords import hidden_input, new_password, read_secret_line
from astralink_node.crypto import secp256k1
from astralink_node.crypto.addresses import checksum_address
from astralink_node.crypto.keystore_envelope import KeystoreError
from astralink_node.crypto.secret_files import (
    SecretFileExists,
    UnreadableSecretFile,
    create_json_file,
    read_json_file,
)
from astralink_node.crypto.web3_keystore import encrypt_account, keystore_address
from astralink_node.errors import UserError
from astralink_node.types import Address

KEYSTORE_FOLDER = "keystore"


class InvalidImport(UserError):
    """What was given is no private key. The message never repeats it."""


@click.group()
def account() -> None:
    """Create, import and list accounts (encrypted keystore files)."""


@account.command("new")
@data_dir_option()
@password_file_option()
@json_option()
def new(data_dir: Path, password_file: Path | None, as_json: bool) -> None:
    """Create an account with a new random key."""
    private_key = _random_private_key()
    _store(data_dir, private_key, password_file, as_json=as_json)


@account.command("import")
@click.argument("key_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@data_dir_option()
@password_file_option()
@json_option()
def import_(key_file: Path | None, data_dir: Path, password_file: Path | None, as_json: bool) -> None:
    """Import a private key from KEY_FILE (64 hexadecimal digits), or ask for it."""
    text = hidden_input("Private key (hidden)") if key_file is None else read_secret_line(key_file)
    _store(data_dir, _parse_private_key(text), password_file, as_json=as_json)


@account.command("list")
@data_dir_option()
@json_option()
def list_(data_dir: Path, as_json: bool) -> None:
    """List the accounts in the keystore folder."""
    found = stored_accounts(data_dir / KEYSTORE_FOLDER)
    if as_json:
        entries = [{"address": checksum_address(address), "keystore": str(path)} for address, path in found]
        click.echo(json.dumps(entries, indent=2))
        return
    for address, path in found:
        click.echo(f"{checksum_address(address)}  {path}")
    if not found:
        click.echo(f"No accounts in {data_dir / KEYSTORE_FOLDER}.", err=True)


def _store(data_dir: Path, private_key: bytes, password_file: Path | None, *, as_json: bool) -> None:
    folder = data_dir / KEYSTORE_FOLDER
    address = secp256k1.address_of(private_key)
    for stored, stored_path in stored_accounts(folder):
        if stored == address:
            raise SecretFileExists(f"{checksum_address(address)} is in the keystore already: {stored_path}")
    password = new_password(password_file, f"account {checksum_address(address)}")
    # geth's naming, so that one folder serves both; colons are left out for other file systems' sake.
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%f000Z")
    path = folder / f"UTC--{stamp}--{address.hex()}"
    create_json_file(path, encrypt_account(private_key, password))
    if as_json:
        click.echo(json.dumps({"address": checksum_address(address), "keystore": str(path)}, indent=2))
    else:
        click.echo(f"Address:  {checksum_address(address)}")
        click.echo(f"Keystore: {path}")
        click.echo("Keep the file and its password: neither can be restored.", err=True)


def stored_accounts(folder: Path) -> list[tuple[Address, Path]]:
    """Sorted by file name, which begins with the time of creation. What is no keystore is named and passed over."""
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            address = keystore_address(read_json_file(path))
        except (KeystoreError, UnreadableSecretFile) as error:
            click.echo(f"warning: {path.name} is passed over: {error}", err=True)
            continue
        if address is not None:
            found.append((address, path))
    return found


def _random_private_key() -> bytes:
    # 1 to ORDER - 1, uniformly.
    return (secrets.randbelow(secp256k1.ORDER - 1) + 1).to_bytes(32, "big")


def _parse_private_key(text: str) -> bytes:
    try:
        private_key = bytes.fromhex(text.strip().removeprefix("0x"))
        secp256k1.address_of(private_key)
    except (ValueError, secp256k1.InvalidPrivateKey):
        raise InvalidImport("private key: expected 64 hexadecimal digits below the group order") from None
    return private_key
