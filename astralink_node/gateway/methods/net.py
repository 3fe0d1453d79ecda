"""net_*: the network's id and what the node hears from it."""

# ruff: noqa: ARG001 - handlers take what the table declares, used or not

from __future__ import annotations

from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import quantity
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.link_messages import GetNodeStatus, NodeStatus
from astralink_node.gateway.methods.table import Method
from astralink_node.gateway.rpc_errors import server_error


async def version(context: RpcContext) -> Json:
    """The chain id in decimal, as on Ethereum's networks."""
    return str(context.identity.chain_id)


async def listening(context: RpcContext) -> Json:
    return True


async def peer_count(context: RpcContext) -> Json:
    return quantity((await node_status(context)).peer_count)


async def node_status(context: RpcContext) -> NodeStatus:
    reply = await context.backend.ask_node(GetNodeStatus())
    if not isinstance(reply, NodeStatus):
        raise server_error("the node could not be asked; try again")
    return reply


METHODS = (
    Method("net_version", version),
    Method("net_listening", listening),
    Method("net_peerCount", peer_count),
)
