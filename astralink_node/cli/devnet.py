"""`devnet`: a chain of one's own on this machine, with funded accounts, in one command.

The first run makes keys, a genesis file and a database below --dir; later runs go on with that chain.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from astralink_node import node
from astralink_node.chain.data_folder import load_genesis
from astralink_node.cli.block_watch import watch_until_interrupted
from astralink_node.cli.devnet_console import Console
from astralink_node.cli.devnet_folder import (
    PASSWORD_FILE,
    check_is_ours,
    forget_chain,
    load_or_begin_chain,
    load_or_make_keys,
    member_name,
    new_genesis,
    running_on,
)
from astralink_node.cli.devnet_network import MAX_VALIDATORS, Welcome, members_of, run_network
from astralink_node.cli.devnet_screen import network_screen, screen
from astralink_node.cli.options import json_option, new_signing_history_option
from astralink_node.cli.passwords import read_secret_line
from astralink_node.cli.rpc_client import RpcClient
from astralink_node.cli.settings import node_flags, settings_from
from astralink_node.cli.start import ready_object
from astralink_node.config import RPC_APIS, NodeConfig, Value
from astralink_node.errors import UserError
from astralink_node.listening import listen_tcp
from astralink_node.log import LEVELS
from astralink_node.services.data_folder import DataFolder, FolderLock, LockHolder
from genesis.schema import GenesisFile

DEFAULT_DIR: Final = Path("devnet")
_DEFAULTS: Final[Mapping[str, Value]] = {
    "blocks.on_demand": True,
    "txpool.allow_unprotected": True,
    "index.explorer": True,
    "rpc.api": RPC_APIS,
}
MIN_BLOCK_TIME_S: Final = 0.01
MAX_BLOCK_TIME_S: Final = 86_400


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
    alone = validators == 1 and not (folder.root / member_name(0)).exists()
    defaults = {**_DEFAULTS, "p2p.enabled": not alone}
    if is_watching:
        defaults["log.level"] = "warning"  # its line for every block would tear the live one
    flags |= mining_flags(flags, instant=instant, block_time_s=block_time)
    config = settings_from(folder.root, None, flags, defaults=defaults).config
    running = running_on(folder) if is_watching else None
    if running is not None:
        _watch_running(running, as_json=as_json)
        return
    with Console(is_watching=is_watching, as_json=as_json) as console:
        if alone:
            _run_alone(folder, config, console, reset=reset, unlocked=unlocked, accept_lost_history=new_signing_history)
        else:
            _run_several(folder, validators, config, console, reset=reset, unlocked=unlocked)
    if alone and LEVELS.index(config.log.level) > LEVELS.index("info"):
        click.echo("stopped", err=True)  # which the log leaves out at this level


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
    console: Console,
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
            forget_chain(folder)
        check_is_ours(folder)
        public = load_or_make_keys(folder)
        genesis = load_or_begin_chain(folder, public, config)
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
    folder: DataFolder, count: int, config: NodeConfig, console: Console, *, reset: bool, unlocked: bool
) -> None:
    """A folder a validator below `--dir`, one genesis file in each."""
    folders = [DataFolder(folder.root / member_name(number)) for number in range(count)]
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
                forget_chain(member)
            check_is_ours(member)
    publics = [load_or_make_keys(member, number) for number, member in enumerate(folders)]
    if not folders[0].genesis_file.exists():
        from astralink_node.chain.new_folder import initialise_folder  # with py-evm: half a second to load

        genesis_file = new_genesis(publics, config)
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

    run_network(members, config, Welcome(count, tell), console.close)


def _warn_of_interval(genesis: GenesisFile, config: NodeConfig) -> None:
    least = genesis.consensus.min_block_interval_ms
    if config.blocks.interval_ms and config.blocks.interval_ms < least:
        click.echo(
            f"warning: blocks of this chain are at least {least} ms apart; for {config.blocks.interval_ms} ms begin a "
            "new one with --reset",
            err=True,
        )


# --- Watching one that runs already -----------------------------------------------------------------------------------


def _watch_running(running: LockHolder, *, as_json: bool) -> None:
    """Where it says that it answers: what this command's flags and settings say is about nodes that it starts."""
    if not running.rpc_url:
        raise UserError(
            f"the devnet that runs already (process {running.process}) answers nobody yet: try again when it does"
        )
    url = running.rpc_url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    if not as_json:
        click.echo(
            f"watching the devnet that runs already (process {running.process}) at {url}; Ctrl-C leaves it running"
        )
    watch_until_interrupted(RpcClient(url), as_json=as_json)
