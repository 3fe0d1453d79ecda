"""net_*: the network's id and what the node hears from it."""

from __future__ import annotations

from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import quantity
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.link_messages import (
    ConsensusState,
    ConsensusStateReply,
    GetConsensusState,
    GetNetworkView,
    GetNodeStatus,
    NetworkView,
    NodeStatus,
)
from astralink_node.gateway.methods.table import Method
from astralink_node.gateway.rpc_errors import server_error


async def version(context: RpcContext) -> Json:
    """The chain id in decimal, as on Ethereum's networks."""
    return str(context.identity.chain_id)


async def listening(context: RpcContext) -> Json:
    """False for a node that runs alone."""
    return (await network_view(context)).is_listening


async def peer_count(context: RpcContext) -> Json:
    return quantity(len((await network_view(context)).peers))


async def node_status(context: RpcContext) -> NodeStatus:
    reply = await context.backend.ask_node(GetNodeStatus())
    if not isinstance(reply, NodeStatus):
        raise server_error("the node could not be asked; try again")
    return reply


async def network_view(context: RpcContext) -> NetworkView:
    reply = await context.backend.ask_node(GetNetworkView())
    if not isinstance(reply, NetworkView):
        raise server_error("the node could not be asked; try again")
    return reply


async def node_consensus_state(context: RpcContext) -> ConsensusState | None:
    """None: the node shows none."""
    reply = await context.backend.ask_node(GetConsensusState())
    if not isinstance(reply, ConsensusStateReply):
        raise server_error("the node could not be asked; try again")
    return reply.state


METHODS = (
    Method("net_version", version),
    Method("net_listening", listening),
    Method("net_peerCount", peer_count),
)
