"""`devnet`: a chain of one's own on this machine, with funded accounts, in one command.

The first run makes keys, a genesis file and a database below --dir; later runs go on with that chain. The
validator's keys are encrypted like everybody's, with a random password in a file beside them.
"""

import json
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from astralink_node import node
from astralink_node.chain.data_folder import initialise_folder, load_genesis, open_database
from astralink_node.chain.errors import NotInitialised
from astralink_node.cli.devnet_network import MAX_VALIDATORS, Welcome, members_of, run_network
from astralink_node.cli.options import json_option, new_signing_history_option
from astralink_node.cli.passwords import read_secret_line
from astralink_node.cli.settings import node_flags, settings_from
from astralink_node.cli.start import ready_object
from astralink_node.config import RPC_APIS, NodeConfig, Value
from astralink_node.crypto.addresses import checksum_address
from astralink_node.crypto.keccak import keccak256
from astralink_node.crypto.keystore_envelope import Scrypt
from astralink_node.crypto.secret_files import create_secret_file
from astralink_node.errors import UserError
from astralink_node.listening import listen_tcp
from astralink_node.services.data_folder import DataFolder, FolderLock
from astralink_node.storage import keys
from astralink_node.storage.store import StorageError
from astralink_node.types import Address
from astralink_node.validator.keys import PublicKeys, create_validator, load_public_keys, random_keys
from genesis.presets import DEVNET_ACCOUNTS, DEVNET_BALANCE_WEI, DEVNET_NAME, DEVNET_STAKE_WEI
from genesis.presets import devnet as devnet_genesis
from genesis.schema import GenesisFile, GenesisValidator, parse_genesis

DEFAULT_DIR: Final = Path("devnet")
PASSWORD_FILE: Final = "validator-password"
_KDF: Final = Scrypt(n=16_384)
"""The password is 256 random bits: stretching it further would only make every start a second slower."""
_DEFAULTS: Final[Mapping[str, Value]] = {
    "blocks.on_demand": True,
    "txpool.allow_unprotected": True,
    "index.explorer": True,
    "rpc.api": RPC_APIS,
}


@click.command()
@click.option("--validators", type=int, default=1, show_default=True, help="How many, each a process of its own.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DIR,
    show_default=True,
    help="Where the chain and its keys are kept.",
)
@click.option("--reset", is_flag=True, help="Begin a new chain in that folder. The keys and their history stay.")
@node_flags
@new_signing_history_option()
@json_option()
def devnet(
    validators: int, directory: Path, reset: bool, new_signing_history: bool, as_json: bool, **flags: Any
) -> None:
    """Run a local development network: ten funded accounts, blocks at once when transactions come."""
    if not 1 <= validators <= MAX_VALIDATORS:
        raise UserError(f"--validators: expected 1 to {MAX_VALIDATORS}, found {validators}")
    folder = DataFolder(directory.expanduser().resolve())
    alone = validators == 1 and not (folder.root / _member_name(0)).exists()
    defaults = {**_DEFAULTS, "p2p.enabled": not alone}
    config = settings_from(folder.root, None, flags, defaults=defaults).config
    if not alone:
        _run_several(folder, validators, config, reset=reset, as_json=as_json)
        return
    if not folder.root.exists():
        # The gateway would find out, but only when the folder, keys and a chain had been made for nothing.
        listen_tcp(config.rpc.host, config.rpc.port, "--rpc-port").close()
    with FolderLock(folder):
        if reset:
            _forget_chain(folder)
        _check_is_ours(folder)
        public = _validator(folder)
        genesis = _chain(folder, public, config)
    _warn_of_interval(genesis, config)
    password = read_secret_line(folder.root / PASSWORD_FILE)
    setup = node.NodeSetup(folder, config, password, accept_lost_history=new_signing_history)

    def on_ready(ready: node.NodeReady) -> None:
        click.echo(
            _machine_line(ready, folder, genesis, config) if as_json else _welcome(ready, folder, genesis, config)
        )

    node.run(setup, on_ready)


# --- Several validators ------------------------------------------------------------------------------------------


def _run_several(folder: DataFolder, count: int, config: NodeConfig, *, reset: bool, as_json: bool) -> None:
    """A folder a validator below `--dir`, one genesis file in each."""
    folders = [DataFolder(folder.root / _member_name(number)) for number in range(count)]
    if folder.genesis_file.exists():
        raise UserError(f"{folder.root} holds the chain of one validator: give --dir another folder")
    present = len(list(folder.root.glob("node*/genesis.json"))) if folder.root.exists() else 0
    if present not in (0, count) and not reset:
        raise UserError(
            f"{folder.root} holds a network of {present} validators: run it with --validators {present}, or begin a "
            "new one with --reset"
        )
    for member in folders:
        with FolderLock(member):
            if reset:
                _forget_chain(member)
            _check_is_ours(member)
    publics = [_validator(member, number) for number, member in enumerate(folders)]
    if not folders[0].genesis_file.exists():
        genesis_file = _new_genesis(publics, config)
        for member in folders:
            initialise_folder(member.root, genesis_file)
    genesis = load_genesis(folders[0].root)
    _warn_of_interval(genesis, config)

    members = members_of(folders, PASSWORD_FILE, config)

    def tell(ready: list[dict[str, Any]]) -> None:
        lines = [{**line, "p2pAddress": str(member.p2p)} for line, member in zip(ready, members, strict=True)]
        click.echo(
            _network_line(lines, genesis, config)
            if as_json
            else _network_welcome(lines, folder, genesis, publics, config)
        )

    run_network(members, config, Welcome(count, tell))


def _member_name(number: int) -> str:
    return f"node{number}"


# --- The chain's folder ------------------------------------------------------------------------------------------


def _check_is_ours(folder: DataFolder) -> None:
    """A node's folder that `init` made must not get keys: `start` would then ask for their password."""
    if folder.genesis_file.exists() and not (folder.root / PASSWORD_FILE).exists():
        raise UserError(
            f"{folder.root} holds a chain, but not the keys of a devnet ({PASSWORD_FILE} is missing): run it with "
            f"`astralink-node start --data-dir {folder.root}`, or give devnet another folder (--dir)"
        )


def _operator(number: int) -> Address:
    """Gets the priority fees. Nobody has its key, so that no test account's balance moves by itself."""
    return Address(keccak256(b"AstraLink devnet validator" + (b" %d" % number if number else b""))[12:])


def _validator(folder: DataFolder, number: int = 0) -> PublicKeys:
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


def _chain(folder: DataFolder, public: PublicKeys, config: NodeConfig) -> GenesisFile:
    """The chain in the folder, begun now on the first run."""
    if folder.genesis_file.exists():
        return load_genesis(folder.root)
    return initialise_folder(folder.root, _stored_genesis(folder) or _new_genesis([public], config)).genesis


def _stored_genesis(folder: DataFolder) -> bytes | None:
    """The database's own copy of the file, which a run that was killed while it began may not have written."""
    if not folder.database.exists():
        return None
    try:
        with open_database(folder.root) as store:
            return store.get(keys.GENESIS_FILE_KEY)
    except NotInitialised:
        return None


def _new_genesis(publics: Sequence[PublicKeys], config: NodeConfig) -> bytes:
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
        seed=secrets.token_bytes(32),
    ).encode()


def _forget_chain(folder: DataFolder) -> None:
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
            return parse_genesis(stored).network_name
    return DEVNET_NAME if (folder.root / PASSWORD_FILE).exists() else "unknown"


def _warn_of_interval(genesis: GenesisFile, config: NodeConfig) -> None:
    least = genesis.consensus.min_block_interval_ms
    if config.blocks.interval_ms and config.blocks.interval_ms < least:
        click.echo(
            f"warning: blocks of this chain are at least {least} ms apart; for {config.blocks.interval_ms} ms begin a "
            "new one with --reset",
            err=True,
        )


# --- What is printed ---------------------------------------------------------------------------------------------


def _machine_line(ready: node.NodeReady, folder: DataFolder, genesis: GenesisFile, config: NodeConfig) -> str:
    return json.dumps({**ready_object(ready, folder), **_common_fields(genesis, config)})


def _common_fields(genesis: GenesisFile, config: NodeConfig) -> dict[str, object]:
    return {
        "validators": [f"0x{validator.voting_key.hex()}" for validator in genesis.validators],
        "accounts": [
            {"address": checksum_address(account.address), "privateKey": f"0x{account.private_key.hex()}"}
            for account in DEVNET_ACCOUNTS
        ],
        "blockIntervalMs": config.blocks.interval_ms,
    }


def _welcome(ready: node.NodeReady, folder: DataFolder, genesis: GenesisFile, config: NodeConfig) -> str:
    shown = ready_object(ready, folder)
    return f"""
AstraLink devnet is running

  RPC URL         {shown["rpcUrl"]}
  WebSocket URL   {shown["wsUrl"]}
  Chain id        {ready.chain_id}
  Validators      {len(genesis.validators)} (0x{genesis.validators[0].voting_key.hex()[:24]}...)
  Blocks          {_pace(config)}; the head is {ready.head_height}
  Data folder     {folder.root}
{_for_developers(str(shown["rpcUrl"]))}
Ctrl-C stops the network and keeps its chain.
"""


def _network_welcome(
    ready: Sequence[Mapping[str, Any]],
    folder: DataFolder,
    genesis: GenesisFile,
    publics: Sequence[PublicKeys],
    config: NodeConfig,
) -> str:
    rows = "\n".join(
        f"  ({number}) {line['rpcUrl']}  0x{public.voting_key.hex()[:16]}...  {line['dataDir']}\n"
        f"      {line['p2pAddress']}"
        for number, (line, public) in enumerate(zip(ready, publics, strict=True))
    )
    return f"""
AstraLink devnet of {len(ready)} validators is running

  Chain id        {genesis.chain_id}
  Blocks          {_pace(config)}
  Folder          {folder.root}

Nodes: each a process of its own, with its own RPC URL and data folder; below, where others connect
{rows}
{_for_developers(str(ready[0]["rpcUrl"]))}
Ctrl-C stops all of them and keeps their chain.
"""


def _pace(config: NodeConfig) -> str:
    interval = config.blocks.interval_ms
    if interval and not config.blocks.builds_on_demand:
        return f"every {interval} ms"
    return f"every {interval} ms, and at once when a transaction comes" if interval else "when a transaction comes"


def _for_developers(rpc_url: str) -> str:
    accounts = "\n".join(
        f"  ({number}) {checksum_address(account.address)}  0x{account.private_key.hex()}"
        for number, account in enumerate(DEVNET_ACCOUNTS)
    )
    recipient = checksum_address(DEVNET_ACCOUNTS[1].address)
    key = DEVNET_ACCOUNTS[0].private_key.hex()
    body = '{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}'
    return f"""
Accounts, each funded with {DEVNET_BALANCE_WEI // 10**18:,} BWT at genesis; public test keys: never send real funds
{accounts}

Try next
  curl -s -H 'content-type: application/json' -d '{body}' {rpc_url}
  cast send {recipient} --value 1ether --rpc-url {rpc_url} --private-key 0x{key}
"""


def _network_line(ready: Sequence[Mapping[str, Any]], genesis: GenesisFile, config: NodeConfig) -> str:
    """The first node's line, with all of them beside it."""
    return json.dumps({**ready[0], **_common_fields(genesis, config), "nodes": list(ready)})
