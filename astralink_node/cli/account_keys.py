"""Which account a verb sends from, and its key: a keystore file of `account`, opened as late as possible."""

from dataclasses import dataclass
from pathlib import Path

from astralink_node.cli.account import KEYSTORE_FOLDER, stored_accounts
from astralink_node.cli.passwords import existing_password
from astralink_node.crypto import secp256k1
from astralink_node.crypto.addresses import checksum_address, parse_address
from astralink_node.crypto.keystore_envelope import KeystoreError
from astralink_node.crypto.secret_files import read_json_file
from astralink_node.crypto.web3_keystore import decrypt_account, keystore_address
from astralink_node.errors import UserError
from astralink_node.types import Address


class NoSuchAccount(UserError):
    """No keystore file for the account, or no way to tell which one is meant."""


@dataclass(frozen=True, slots=True)
class AccountFile:
    address: Address
    path: Path

    def private_key(self, password_file: Path | None) -> bytes:
        """Asks for the password unless a file holds it. Raises `WrongPassword`, `KeystoreError`."""
        password = existing_password(password_file, f"account {checksum_address(self.address)}")
        try:
            key = decrypt_account(read_json_file(self.path), password)
        except KeystoreError as error:
            raise type(error)(f"{self.path}: {str(error).removeprefix('keystore: ')}") from error
        if secp256k1.address_of(key) != self.address:
            raise KeystoreError(f"{self.path}: holds the key of another account than it names")
        return key


def find_account(data_dir: Path, sender: str | None, keystore: Path | None) -> AccountFile:
    """`keystore` names the file; else `sender` is looked for in the data folder, or the only account there is meant."""
    if keystore is not None:
        return _account_of(keystore, sender)
    folder = data_dir / KEYSTORE_FOLDER
    accounts = stored_accounts(folder)
    if sender is not None:
        wanted = parse_address(sender)
        for address, path in accounts:
            if address == wanted:
                return AccountFile(address, path)
        raise NoSuchAccount(
            f"{checksum_address(wanted)} has no keystore in {folder}: `astralink-node account import` puts one there, "
            "or name the file with --keystore"
        )
    if len(accounts) != 1:
        if not accounts:
            raise NoSuchAccount(
                f"{folder} holds no account to send from: `astralink-node account import` or `account new` puts one "
                "there, or name a file with --keystore"
            )
        found = ", ".join(checksum_address(address) for address, _ in accounts)
        raise NoSuchAccount(f"say with --from which account of {folder} sends: there are {found}")
    address, path = accounts[0]
    return AccountFile(address, path)


def _account_of(keystore: Path, sender: str | None) -> AccountFile:
    address = keystore_address(read_json_file(keystore))
    if address is None:
        if sender is None:
            raise NoSuchAccount(f"{keystore}: does not say whose it is: add --from ADDRESS")
        return AccountFile(parse_address(sender), keystore)
    if sender is not None and parse_address(sender) != address:
        raise NoSuchAccount(f"{keystore}: is of {checksum_address(address)}, not of {sender}")
    return AccountFile(address, keystore)
