"""`init`: make a data folder the home of the chain that a genesis file describes."""

import json
from pathlib import Path

import click

from astralink_node.chain.data_folder import errors_naming, read_genesis_file
from astralink_node.chain.new_folder import initialise_folder
from astralink_node.cli.options import data_dir_option, json_option


@click.command("init")
@click.argument("genesis_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@data_dir_option()
@json_option()
def init(genesis_file: Path, data_dir: Path, as_json: bool) -> None:
    """Write block 0 of GENESIS_FILE into the data folder. Doing it again changes nothing."""
    with errors_naming(genesis_file):
        block = initialise_folder(data_dir, read_genesis_file(genesis_file))
    genesis = block.genesis
    if as_json:
        summary = {
            "dataDir": str(data_dir),
            "networkName": genesis.network_name,
            "chainId": genesis.chain_id,
            "genesisHash": f"0x{block.hash.hex()}",
        }
        click.echo(json.dumps(summary, indent=2))
        return
    click.echo(f"Data folder:  {data_dir}")
    click.echo(f"Network:      {genesis.network_name} (chain id {genesis.chain_id})")
    click.echo(f"Genesis hash: 0x{block.hash.hex()}")
