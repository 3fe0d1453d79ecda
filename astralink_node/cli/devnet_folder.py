"""A devnet's folder: the keys of its validator, its genesis file and its database, made on the first run.

The keys are encrypted like everybody's, with a random password in a file beside them. The file also tells a devnet's
folder from a node's that `init` made. A network of several validators has a folder for each below its own.
"""

import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from astralink_node.chain.data_folder import load_genesis, open_database
from astralink_node.chain.errors import NotInitialised
from astralink_node.cli.passwords import read_secret_line
from astralink_node.config import NodeConfig
from astralink_node.crypto.keccak import keccak256
from astralink_node.crypto.keystore_envelope import Scrypt
from astralink_node.crypto.secret_files import create_secret_file
from astralink_node.errors import UserError
from astralink_node.services.data_folder import DataFolder, LockHolder, node_on
from astralink_node.storage import keys
from astralink_node.storage.store import StorageError
from astralink_node.types import Address
from astralink_node.validator.keys import PublicKeys, create_validator, load_public_keys, random_keys
from genesis.devnet_terms import DEVNET_MIN_BLOCK_INTERVAL_MS, DEVNET_NAME, DEVNET_STAKE_WEI
from genesis.schema import GenesisFile, GenesisValidator, parse_unsealed_genesis

PASSWORD_FILE: Final = "validator-password"
_KDF: Final = Scrypt(n=16_384)
"""The password is 256 random bits: stretching it further would only make every start a second slower."""


def member_name(number: int) -> str:
    return f"node{number}"


def running_on(folder: DataFolder) -> LockHolder | None:
    """A node that runs on this devnet, of one validator or several, one that answers if any; None: none runs."""
    places = [folder, *(DataFolder(path) for path in sorted(folder.root.glob("node*")) if path.is_dir())]
    running = [node for place in places if (node := node_on(place)) is not None]
    return next((node for node in running if node.rpc_url), running[0] if running else None)


def check_is_ours(folder: DataFolder) -> None:
    """A node's folder that `init` made must not get keys: `start` would then ask for their password."""
    if folder.genesis_file.exists() and not (folder.root / PASSWORD_FILE).exists():
        raise UserError(
            f"{folder.root} holds a chain, but not the keys of a devnet ({PASSWORD_FILE} is missing): run it with "
            f"`astralink-node start --data-dir {folder.root}`, or give devnet another folder (--dir)"
        )


def _operator(number: int) -> Address:
    """Gets the priority fees. Nobody has its key, so that no test account's balance moves by itself."""
    return Address(keccak256(b"AstraLink devnet validator" + (b" %d" % number if number else b""))[12:])


def load_or_make_keys(folder: DataFolder, number: int = 0) -> PublicKeys:
    """The keys in the folder, made on the first run."""
    password_file = folder.root / PASSWORD_FILE
    if not password_file.exists():
        if folder.validator_keys.exists():
            raise UserError(f"{password_file} is missing, so the keys in {folder.validator_keys} cannot be opened")
        create_secret_file(password_file, secrets.token_hex(32).encode() + b"\n")
    if not folder.validator_keys.exists():
        password = read_secret_line(password_file)
        create_validator(
            folder.validator_keys, folder.signing, random_keys(_operator(number)), password, key_is_new=True, kdf=_KDF
        )
    return load_public_keys(folder.validator_keys)


def load_or_begin_chain(folder: DataFolder, public: PublicKeys, config: NodeConfig) -> GenesisFile:
    """The chain in the folder, begun now on the first run."""
    if folder.genesis_file.exists():
        return load_genesis(folder.root)
    from astralink_node.chain.new_folder import initialise_folder  # with py-evm: half a second to load

    return initialise_folder(folder.root, _stored_genesis(folder) or new_genesis([public], config)).genesis


def _stored_genesis(folder: DataFolder) -> bytes | None:
    """The database's own copy of the file, which a run that was killed while it began may not have written."""
    if not folder.database.exists():
        return None
    try:
        with open_database(folder.root) as store:
            return store.get(keys.GENESIS_FILE_KEY)
    except NotInitialised:
        return None


def new_genesis(publics: Sequence[PublicKeys], config: NodeConfig) -> bytes:
    from genesis.presets import devnet as devnet_genesis  # with py-evm: half a second to load

    validators = [
        GenesisValidator(
            operator=public.operator or _operator(number),
            voting_key=public.voting_key,
            proof_of_possession=public.proof_of_possession,
            checkpoint_key=public.checkpoint_key,
            stake_wei=DEVNET_STAKE_WEI,
        )
        for number, public in enumerate(publics)
    ]
    return devnet_genesis(
        validators,
        timestamp=int(time.time()),
        block_interval_ms=config.blocks.interval_ms,
        min_block_interval_ms=DEVNET_MIN_BLOCK_INTERVAL_MS if len(publics) == 1 else None,
        seed=secrets.token_bytes(32),
    ).encode()


def forget_chain(folder: DataFolder) -> None:
    """Remove what belongs to the chain; never keys, nor what they signed."""
    if folder.genesis_file.exists() or folder.database.exists():
        network = _network_in(folder)
        if network != DEVNET_NAME:
            raise UserError(f"{folder.root} holds the network {network!r}, not a devnet: it is not reset")
    folder.genesis_file.unlink(missing_ok=True)
    for path in (folder.database, folder.consensus):
        if path.exists():
            shutil.rmtree(path)


def _network_in(folder: DataFolder) -> str:
    """The name of the folder's network: as its file says, or the database, or by the password that only we write."""
    with suppress(UserError):
        return load_genesis(folder.root).network_name
    with suppress(StorageError, UserError):
        stored = _stored_genesis(folder)
        if stored is not None:
            return parse_unsealed_genesis(stored).network_name
    return DEVNET_NAME if (folder.root / PASSWORD_FILE).exists() else "unknown"
