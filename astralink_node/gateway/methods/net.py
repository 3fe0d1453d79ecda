"""net_*: the network's id and what the node hears from it."""

from __future__ import annotations

from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import quantity
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.table import Method, Specification


async def version(context: RpcContext) -> Json:
    """The chain id in decimal, as on Ethereum's networks."""
    return str(context.identity.chain_id)


async def listening(context: RpcContext) -> Json:
    """False for a node that runs alone."""
    return (await context.read.node.network()).is_listening


async def peer_count(context: RpcContext) -> Json:
    return quantity(len((await context.read.node.network()).peers))


METHODS = (
    Method("net_version", version, note="The chain id, in decimal."),
    Method("net_listening", listening, source=Specification.GETH, note="False for a node that runs alone."),
    Method("net_peerCount", peer_count, source=Specification.GETH),
)
