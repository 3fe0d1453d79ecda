"""Views of a network as a node would show it: four validators of which this node is the first, and their nodes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from astralink_node.gateway.link_messages import (
    NO_NETWORK,
    ConsensusState,
    Member,
    NetworkView,
    PeerView,
    RoundVotes,
    ValidatorPeer,
    VotesFor,
)
from consensus.certificate import bitmap_of

MEMBERS = tuple(Member(bytes([0xA0 + index]) * 48, bytes([0xB0 + index]) * 20, 32) for index in range(4))
BLOCK, OTHER = b"\x0b" * 32, b"\x0c" * 32


def peer_view(index: int, **fields: Any) -> PeerView:
    """The node of validator `index`; good in every way unless said otherwise."""
    good = PeerView(
        peer_id=f"node{index}",
        addresses=(f"/ip4/192.0.2.{index}/tcp/30400",),
        is_outbound=index % 2 == 1,
        connected_since_ms=1_700_000_000_000,
        head_height=811,
        genesis_matches=True,
        forks_match=True,
        clock_skew_ms=10 * index,
        client="astralink/test",
        points=0,
        round_trip_ms=index,
    )
    return replace(good, **fields)


def network_of(connected: Collection[int], **fields: Any) -> NetworkView:
    """This node is node0; of the other three, those named are connected."""
    view = replace(
        NO_NETWORK,
        is_listening=True,
        peer_id="node0",
        listen_addresses=("/ip4/0.0.0.0/tcp/30400",),
        advertised_addresses=("/ip4/192.0.2.0/tcp/30400",),
        peers=tuple(peer_view(index) for index in connected),
        validators=tuple(ValidatorPeer(MEMBERS[index].voting_key, f"node{index}") for index in (1, 2, 3)),
        clock_precision_ms=500,
    )
    return replace(view, **fields)


def votes_of(block_hash: bytes, *voters: int) -> VotesFor:
    return VotesFor(block_hash, 32 * len(voters), bitmap_of(list(voters), len(MEMBERS)))


def waiting(step: str, *rounds: RoundVotes, **fields: Any) -> ConsensusState:
    """Height 812, round 3, in a step since 1,000 s after the epoch; validator 0 is this node."""
    state = ConsensusState(
        height=812,
        round_=3,
        step=step,
        proposer_index=1,
        locked_round=-1,
        locked_hash=b"",
        valid_round=-1,
        valid_hash=b"",
        members=MEMBERS,
        total_power=128,
        proposed_hash=b"",
        is_proposal_checked=False,
        rounds=rounds,
        waiting_since_ms=1_000_000,
        own_index=0,
        is_validator=True,
        is_signing=True,
    )
    return replace(state, **fields)
