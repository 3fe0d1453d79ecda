"""`watch`: a running node's blocks as they come, until Ctrl-C."""

import click

from astralink_node.cli.block_watch import watch_until_interrupted
from astralink_node.cli.options import json_option
from astralink_node.cli.rpc_client import RpcClient, rpc_url_option


@click.command()
@rpc_url_option()
@json_option()
def watch(rpc_url: str, as_json: bool) -> None:
    """Show a running node's blocks as they come. Ctrl-C ends it; the node goes on."""
    watch_until_interrupted(RpcClient(rpc_url), as_json=as_json)
