"""`start`: run a node on a data folder until it is stopped."""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import click

from astralink_node import node
from astralink_node.chain.data_folder import errors_naming, load_genesis, read_genesis_file
from astralink_node.cli.options import (
    data_dir_option,
    json_option,
    new_signing_history_option,
    password_file_option,
)
from astralink_node.cli.passwords import existing_password, read_secret_line
from astralink_node.cli.settings import config_file_option, node_flags, settings_from
from astralink_node.config import NodeConfig
from astralink_node.errors import UserError
from astralink_node.services.data_folder import DataFolder
from astralink_node.services.snapshot_trust import parse_trust


@click.command()
@data_dir_option()
@config_file_option()
@click.option(
    "--genesis",
    "genesis_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Prepare the data folder from this file if it is empty; otherwise check that it is this chain's.",
)
@click.option(
    "--trust",
    metavar="HEIGHT:HASH",
    help="A recent block that someone you trust vouches for, to join from when this node's newest one is too old.",
)
@node_flags
@password_file_option()
@new_signing_history_option()
@click.option(
    "--unlocked-dev-accounts",
    is_flag=True,
    hidden=True,
    help="As `devnet` has it: only on a devnet, whose keys are public.",
)
@click.option(
    "--stop-at-eof", is_flag=True, hidden=True, help="Stop when standard input ends, as whoever holds it does."
)
@json_option()
def start(
    data_dir: Path,
    config_file: Path | None,
    genesis_file: Path | None,
    trust: str | None,
    password_file: Path | None,
    new_signing_history: bool,
    unlocked_dev_accounts: bool,
    stop_at_eof: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Run a node: serve JSON-RPC and, with validator keys in the data folder, make blocks. Ctrl-C stops it."""
    config = settings_from(data_dir, config_file, flags).config
    folder = DataFolder(data_dir)
    if genesis_file is not None:
        with errors_naming(genesis_file):
            prepare(folder, read_genesis_file(genesis_file))
    if config.p2p.enabled:
        _begin_anew_if_lost(folder)
    folder.check_prepared()
    setup = node.NodeSetup(
        folder,
        config,
        _password(folder, config, password_file),
        None if trust is None else parse_trust(trust),
        accept_lost_history=new_signing_history,
        unlocks_dev_accounts=unlocked_dev_accounts,
    )
    if stop_at_eof:
        threading.Thread(target=_stop_at_eof, daemon=True).start()
    node.run(setup, lambda ready: click.echo(_ready_text(ready, folder, as_json=as_json)))


def _stop_at_eof() -> None:
    """For a node that another process started: however that one ends, the system closes its end of the pipe."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def prepare(folder: DataFolder, genesis_file: bytes) -> None:
    """`init`, unless the folder has that chain already; raises OtherChain if it has another."""
    if folder.genesis_file.exists() and read_genesis_file(folder.genesis_file) == genesis_file:
        return
    from astralink_node.chain.new_folder import (  # with py-evm: half a second to load
        check_same_chain,
        initialise_folder,
    )

    if folder.genesis_file.exists():
        check_same_chain(genesis_file, folder.genesis_file)
    else:
        initialise_folder(folder.root, genesis_file)


def _begin_anew_if_lost(folder: DataFolder) -> None:
    """A lost database is fetched again from the other validators. A chain with one has nobody to ask: see there."""
    if folder.lost_database and len(load_genesis(folder.root).validators) > 1:
        from astralink_node.chain.new_folder import initialise_folder  # with py-evm: half a second to load

        click.echo(
            f"warning: {folder.database} is missing: the chain begins anew from {folder.genesis_file}, and its blocks "
            "come from other nodes",
            err=True,
        )
        initialise_folder(folder.root, read_genesis_file(folder.genesis_file))


def _password(folder: DataFolder, config: NodeConfig, password_file: Path | None) -> str | None:
    """The password of the validator's keys; None where the folder has no keys, or another process has them."""
    if config.signer.address or not folder.validator_keys.is_dir():
        return None
    if password_file is None and config.validator.password_file:
        return read_secret_line(Path(config.validator.password_file).expanduser())
    if password_file is None and not sys.stdin.isatty():
        raise UserError(
            f"{folder.validator_keys} holds validator keys, and there is no terminal to ask for their password: "
            "give --password-file"
        )
    return existing_password(password_file, f"the validator keys in {folder.validator_keys}")


def _ready_text(ready: node.NodeReady, folder: DataFolder, *, as_json: bool) -> str:
    shown = ready_object(ready, folder)
    if as_json:
        return json.dumps(shown)
    role = "validator" if ready.is_validator else "reader"
    return (
        f"Ready: {shown['rpcUrl']} ({shown['wsUrl']}), chain id {ready.chain_id}, block {ready.head_height}, {role}; "
        "Ctrl-C stops the node"
    )


def ready_object(ready: node.NodeReady, folder: DataFolder) -> dict[str, object]:
    """What a script wants to know of a node that has started."""
    url = ready.serving.rpc_url
    return {
        "ready": True,
        "rpcUrl": url,
        "wsUrl": f"ws{url.removeprefix('http')}",
        "chainId": ready.chain_id,
        "genesisHash": f"0x{ready.genesis_hash.hex()}",
        "headHeight": ready.head_height,
        "isValidator": ready.is_validator,
        "dataDir": str(folder.root),
    }
