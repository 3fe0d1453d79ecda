"""`db index`: the explorer index of blocks that were committed without it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from astralink_node.chain.data_folder import open_database
from astralink_node.chain.index_building import build_index
from astralink_node.chain.index_messages import HeightRange
from astralink_node.chain.index_search import index_status
from astralink_node.chain.initialise import open_chain
from astralink_node.cli.options import data_dir_option, json_option
from astralink_node.cli.progress import Progress


@click.command("index")
@data_dir_option()
@json_option()
def index(data_dir: Path, as_json: bool) -> None:
    """Build the index that block explorers ask, for blocks that were committed without it.

    It can be stopped at any time and goes on where it stood. Blocks whose state is kept are executed again; of older
    ones senders, recipients, deployed contracts and emitters of logs are indexed, but no internal calls. New blocks
    are indexed by a node that runs with --explorer-index.
    """
    progress = Progress()
    with open_database(data_dir) as store:
        added = build_index(store, open_chain(store), progress.update)
        status = index_status(store)
    progress.finish(f"indexed {added:,} blocks in {progress.elapsed_s:.1f} s")
    if as_json:
        click.echo(json.dumps({"added": added, **asdict(status)}, indent=2))
        return
    click.echo(f"complete:               {shown_ranges(status.complete)}")
    click.echo(f"without internal calls: {shown_ranges(status.without_calls)}")


def shown_ranges(ranges: Sequence[HeightRange]) -> str:
    return ", ".join(f"{part.first:,} to {part.last:,}" for part in ranges) or "none"
