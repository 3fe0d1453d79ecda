"""astralink_*: the node's place on the network, its peers, and whether others reach it. Read-only."""

from __future__ import annotations

from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import JsonObject, data, quantity
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.link_messages import NetworkView, PeerView
from astralink_node.gateway.methods.table import Method, Specification
from astralink_node.gateway.network_health import clock_limit_ms, notices_of, problems_of


async def peers(context: RpcContext) -> Json:
    """Those that are connected and welcome."""
    network = await context.read.node.network()
    state = await context.read.node.consensus_state()
    members = () if state is None else state.members
    indices = {member.voting_key: index for index, member in enumerate(members)}
    validators = {validator.peer_id: indices.get(validator.voting_key) for validator in network.validators}
    return [
        _peer_fields(peer, validators.get(peer.peer_id), is_validator=peer.peer_id in validators)
        for peer in network.peers
    ]


async def net_status(context: RpcContext) -> Json:
    network = await context.read.node.network()
    sync = network.sync
    return {
        "listening": network.is_listening,
        "peerId": network.peer_id or None,
        "listenAddresses": list(network.listen_addresses),
        "advertisedAddresses": list(network.advertised_addresses),
        "peers": quantity(len(network.peers)),
        "validatorsConnected": quantity(network.validators_connected),
        "validatorsKnown": quantity(len(network.validators)),
        "syncing": None
        if sync is None
        else {"current": quantity(sync.current_height), "highest": quantity(sync.highest_height)},
        "clockSkewMs": network.clock_skew_ms,
    }


async def net_doctor(context: RpcContext) -> Json:
    """Has peers dial this node back, and says what is wrong with its place on the network."""
    reports = await context.read.node.check_reachability()
    network = await context.read.node.network()
    return {
        "peerId": network.peer_id or None,
        "genesisHash": data(context.identity.genesis_hash),
        "clockSkewMs": network.clock_skew_ms,
        "clockLimitMs": quantity(clock_limit_ms(network)),
        "advertisedAddresses": list(network.advertised_addresses),
        "peers": [_checked_fields(peer) for peer in network.peers],
        "bootnodes": [
            {
                "address": bootnode.address,
                "isConnected": bootnode.is_connected,
                "trouble": bootnode.trouble or None,
                "atMs": quantity(bootnode.trouble_ms) if bootnode.trouble else None,
            }
            for bootnode in network.bootnodes
        ],
        "refused": _refused_fields(network),
        "dialBack": [
            {
                "peerId": report.peer_id,
                "address": report.address,
                "outcome": report.outcome,
                "detail": report.detail or None,
            }
            for report in reports
        ],
        "problems": problems_of(network, reports),
        "notices": notices_of(reports),
    }


def _peer_fields(peer: PeerView, validator_index: int | None, *, is_validator: bool) -> JsonObject:
    return {
        "peerId": peer.peer_id,
        "addresses": list(peer.addresses),
        "direction": "outbound" if peer.is_outbound else "inbound",
        "connectedSinceMs": quantity(peer.connected_since_ms),
        "headNumber": quantity(peer.head_height),
        "genesisMatches": peer.genesis_matches,
        "forksMatch": peer.forks_match,
        "clockSkewMs": peer.clock_skew_ms,
        "client": peer.client,
        "points": peer.points,
        "isValidator": is_validator,
        "validatorIndex": None if validator_index is None else quantity(validator_index),
        "rttMs": peer.round_trip_ms,
    }


def _checked_fields(peer: PeerView) -> JsonObject:
    return {
        "peerId": peer.peer_id,
        "genesisMatches": peer.genesis_matches,
        "forksMatch": peer.forks_match,
        "clockSkewMs": peer.clock_skew_ms,
    }


def _refused_fields(network: NetworkView) -> list[JsonObject]:
    return [
        {
            "peerId": refused.peer_id,
            "reason": refused.reason,
            "atMs": quantity(refused.at_ms),
            "wasSought": refused.was_sought,
        }
        for refused in network.refused
    ]


METHODS = (
    Method("astralink_peers", peers, source=Specification.ASTRALINK),
    Method("astralink_netStatus", net_status, source=Specification.ASTRALINK),
    Method("astralink_netDoctor", net_doctor, source=Specification.ASTRALINK),
)
