"""admin_*: geth's view of a node and its peers, filled from libp2p's. Read-only: peers are the node's to choose.

Where geth has an enode URL this chain has a multiaddress, and a peer id where it has a node id: `astralink_peers` says
more, and in this network's own words.
"""

from __future__ import annotations

from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import JsonObject, data
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.link_messages import NetworkView, PeerView
from astralink_node.gateway.methods.table import Method, Specification
from p2p.addresses import Address, BadAddress, parse_address

CAPABILITY = "astralink/1"
"""As geth's `eth/68`: the protocol that a welcome peer speaks, by its status handshake (/astralink/status/1)."""


async def node_info(context: RpcContext) -> Json:
    network = await context.read.node.network()
    identity = context.identity
    reachable = _first_address((*network.advertised_addresses, *network.listen_addresses))
    listening = _first_address(network.listen_addresses)
    return {
        "id": network.peer_id,
        "name": identity.client_version,
        "enode": _with_peer(reachable, network.peer_id),
        "enr": "",
        "ip": "" if reachable is None else reachable.host,
        "listenAddr": _host_and_port(listening),
        # The same port serves both: peers are found through those that are connected.
        "ports": dict.fromkeys(("discovery", "listener"), 0 if listening is None else listening.port),
        "protocols": {
            "eth": {
                "network": identity.chain_id,
                "genesis": data(identity.genesis_hash),
                "head": data(context.read.blocks.head.view.block_hash),
                "difficulty": 0,
                "config": {"chainId": identity.chain_id},
            }
        },
    }


async def peers(context: RpcContext) -> Json:
    """Those that are connected and welcome."""
    network = await context.read.node.network()
    return [_peer(peer, network) for peer in network.peers]


def _peer(peer: PeerView, network: NetworkView) -> JsonObject:
    other_end = _first_address(peer.addresses)
    listening = None if peer.is_outbound else _first_address(network.listen_addresses)
    return {
        "id": peer.peer_id,
        "name": peer.client,
        "enode": _with_peer(other_end, peer.peer_id),
        "caps": [CAPABILITY],
        "network": {
            "localAddress": _host_and_port(listening),
            "remoteAddress": _host_and_port(other_end),
            "inbound": not peer.is_outbound,
            "trusted": False,
            "static": any(bootnode.address.endswith(f"/p2p/{peer.peer_id}") for bootnode in network.bootnodes),
        },
        "protocols": {"eth": {"version": 1, "number": peer.head_height}},
    }


def _first_address(texts: tuple[str, ...]) -> Address | None:
    for text in texts:
        try:
            return parse_address(text)
        except BadAddress:  # a peer says where it listens in its own words
            continue
    return None


def _with_peer(address: Address | None, peer_id: str) -> str:
    return "" if address is None else f"{address.with_peer(None)}/p2p/{peer_id}"


def _host_and_port(address: Address | None) -> str:
    if address is None:
        return ""
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"


METHODS = (
    Method(
        "admin_nodeInfo",
        node_info,
        source=Specification.GETH,
        note="`id` is a libp2p peer id and `enode` a multiaddress; there is no `enr`; of `config` the chain id alone.",
    ),
    Method(
        "admin_peers",
        peers,
        source=Specification.GETH,
        note="As `admin_nodeInfo`; `localAddress` is where the node listens, and empty for connections that it opened; "
        "`static` are the operator's bootnodes.",
    ),
)
