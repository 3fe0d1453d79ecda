"""`devnet`: a chain of one's own on this machine, with funded accounts, in one command.

The first run makes keys, a genesis file and a database below --dir; later runs go on with that chain. The
validator's keys are encrypted like everybody's, with a random password in a file beside them.
"""

import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import click

from astralink_node import node
from astralink_node.chain.data_folder import initialise_folder, load_genesis, open_database
from astralink_node.chain.errors import NotInitialised
from astralink_node.cli.block_watch import view_for, watch, watch_until_interrupted
from astralink_node.cli.devnet_network import MAX_VALIDATORS, Welcome, members_of, run_network
from astralink_node.cli.devnet_screen import ChainNow, machine_line, network_screen, read_chain, screen
from astralink_node.cli.options import json_option, new_signing_history_option
from astralink_node.cli.passwords import read_secret_line
from astralink_node.cli.rpc_client import NotServed, RpcClient
from astralink_node.cli.settings import node_flags, settings_from
from astralink_node.cli.start import ready_object
from astralink_node.config import RPC_APIS, NodeConfig, Value
from astralink_node.crypto.keccak import keccak256
from astralink_node.crypto.keystore_envelope import Scrypt
from astralink_node.crypto.secret_files import create_secret_file
from astralink_node.errors import UserError
from astralink_node.listening import listen_tcp
from astralink_node.services.data_folder import DataFolder, FolderLock, node_on
from astralink_node.storage import keys
from astralink_node.storage.store import StorageError
from astralink_node.types import Address
from astralink_node.validator.keys import PublicKeys, create_validator, load_public_keys, random_keys
from genesis.presets import DEVNET_MIN_BLOCK_INTERVAL_MS, DEVNET_NAME, DEVNET_STAKE_WEI
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
MIN_BLOCK_TIME_S: Final = 0.01
MAX_BLOCK_TIME_S: Final = 86_400
CONSOLE_STOP_S: Final = 2.0
"""A thread that waits for the stopped node's answer is left behind after this; it holds nothing."""


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
@click.option("--instant", is_flag=True, help="Blocks only when a transaction comes, and then at once.")
@click.option("--block-time", type=float, metavar="SECONDS", help="Blocks only at this interval; transactions wait.")
@click.option(
    "--watch", "is_watching", is_flag=True, help="Show blocks in one live line; also of one that runs already."
)
@click.option(
    "--unlocked/--locked", default=True, help="Sign for the ten accounts (eth_sendTransaction), and a faucet."
)
@node_flags
@new_signing_history_option()
@json_option()
def devnet(
    validators: int,
    directory: Path,
    reset: bool,
    instant: bool,
    block_time: float | None,
    is_watching: bool,
    unlocked: bool,
    new_signing_history: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Run a local development network: ten funded accounts, blocks at once when transactions come.

    Without --instant or --block-time there is a block a second besides, so that the chain's time goes on.
    """
    if not 1 <= validators <= MAX_VALIDATORS:
        raise UserError(f"--validators: expected 1 to {MAX_VALIDATORS}, found {validators}")
    folder = DataFolder(directory.expanduser().resolve())
    alone = validators == 1 and not (folder.root / _member_name(0)).exists()
    defaults = {**_DEFAULTS, "p2p.enabled": not alone}
    if is_watching:
        defaults["log.level"] = "warning"  # its line for every block would tear the live one
    flags |= mining_flags(flags, instant=instant, block_time_s=block_time)
    config = settings_from(folder.root, None, flags, defaults=defaults).config
    running = _running_on(folder) if is_watching else None
    if running is not None:
        _watch_running(config, running, as_json=as_json)
        return
    with Console(is_watching=is_watching, as_json=as_json) as console:
        if alone:
            _run_alone(folder, config, console, reset=reset, unlocked=unlocked, accept_lost_history=new_signing_history)
        else:
            _run_several(folder, validators, config, console, reset=reset, unlocked=unlocked)


def mining_flags(flags: Mapping[str, Any], *, instant: bool, block_time_s: float | None) -> dict[str, Any]:
    """What --instant and --block-time say, as the settings' flags that they stand for. Raises UserError."""
    if not instant and block_time_s is None:
        return {}
    name = "--instant" if instant else "--block-time"
    if instant and block_time_s is not None:
        raise UserError("--instant and --block-time exclude each other")
    if any(flags.get(other) is not None for other in ("blocks__interval_ms", "blocks__on_demand", "blocks__empty")):
        raise UserError(
            f"{name} says all of --block-interval-ms, --on-demand and --empty-blocks: give one or the others"
        )
    if block_time_s is None:
        return {"blocks__interval_ms": 0}
    if not MIN_BLOCK_TIME_S <= block_time_s <= MAX_BLOCK_TIME_S:
        raise UserError(f"--block-time: expected {MIN_BLOCK_TIME_S} to {MAX_BLOCK_TIME_S} s, found {block_time_s:g}")
    return {"blocks__interval_ms": round(block_time_s * 1000), "blocks__on_demand": False, "blocks__empty": True}


# --- One validator -----------------------------------------------------------------------------------------------


def _run_alone(
    folder: DataFolder,
    config: NodeConfig,
    console: "Console",
    *,
    reset: bool,
    unlocked: bool,
    accept_lost_history: bool,
) -> None:
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
    setup = node.NodeSetup(
        folder, config, password, accept_lost_history=accept_lost_history, unlocks_dev_accounts=unlocked
    )

    def on_ready(ready: node.NodeReady) -> None:
        line = ready_object(ready, folder)
        console.show([line], genesis, config, lambda now: screen(line, genesis, config, now, unlocked=unlocked))

    node.run(setup, on_ready)


# --- Several validators ------------------------------------------------------------------------------------------


def _run_several(
    folder: DataFolder, count: int, config: NodeConfig, console: "Console", *, reset: bool, unlocked: bool
) -> None:
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

    members = members_of(folders, PASSWORD_FILE, config, unlocks_dev_accounts=unlocked)

    def tell(ready: list[dict[str, Any]]) -> None:
        lines = [{**line, "p2pAddress": str(member.p2p)} for line, member in zip(ready, members, strict=True)]
        voting_keys = [public.voting_key for public in publics]
        console.show(
            lines,
            genesis,
            config,
            lambda now: network_screen(lines, str(folder.root), voting_keys, genesis, config, now, unlocked=unlocked),
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
        min_block_interval_ms=DEVNET_MIN_BLOCK_INTERVAL_MS if len(publics) == 1 else None,
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


# --- What is shown -----------------------------------------------------------------------------------------------


class Console:
    """Prints the first screen, and the blocks if they are watched, in a thread of its own.

    Both ask the node over its RPC, and the node of one validator runs in this process's main thread.
    """

    def __init__(self, *, is_watching: bool, as_json: bool) -> None:
        self._is_watching = is_watching
        self._as_json = as_json
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(CONSOLE_STOP_S)

    def show(
        self,
        nodes: Sequence[Mapping[str, Any]],
        genesis: GenesisFile,
        config: NodeConfig,
        text: Callable[[ChainNow], str],
    ) -> None:
        """`nodes` are the objects of the ready lines; the first is the one that is asked."""
        if self._as_json:
            click.echo(machine_line(nodes, genesis, config))
        client = RpcClient(str(nodes[0]["rpcUrl"]))

        def run() -> None:
            if not self._as_json:
                click.echo(text(read_chain(client, genesis)))
            if self._is_watching:
                try:
                    view = view_for(sys.stdout, as_json=self._as_json)
                    watch(client, view, self._stop, says_if_lost=False)
                except NotServed as error:
                    click.echo(f"--watch: {error}", err=True)

        self._thread = threading.Thread(target=run, name="console", daemon=True)
        self._thread.start()


def _running_on(folder: DataFolder) -> str | None:
    """The process whose node runs on this devnet, of one validator or several; None: none does."""
    places = [folder, *(DataFolder(path) for path in sorted(folder.root.glob("node*")) if path.is_dir())]
    return next((process for place in places if (process := node_on(place)) is not None), None)


def _watch_running(config: NodeConfig, process: str, *, as_json: bool) -> None:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.rpc.host, config.rpc.host)
    url = f"http://[{host}]:{config.rpc.port}" if ":" in host else f"http://{host}:{config.rpc.port}"
    if not as_json:
        click.echo(f"watching the devnet that runs already (process {process}) at {url}; Ctrl-C leaves it running")
    watch_until_interrupted(RpcClient(url), as_json=as_json)
