"""What is wrong with a node's place on the network, in sentences that say what to do. Pure; empty: nothing.

A node behind a router or a firewall can live on connections that it dialled itself. That nobody reaches it is a
problem all the same: two such nodes never meet. A stranger of another chain that comes by itself is none.
"""

from __future__ import annotations

from collections.abc import Sequence

from astralink_node.gateway.link_messages import DialedBack, NetworkView, PeerView


def clock_limit_ms(network: NetworkView) -> int:
    """By how much this node's clock may differ: beyond half of the precision two such nodes refuse each other's
    proposals."""
    return network.clock_precision_ms // 2


def is_clock_off(network: NetworkView) -> bool:
    skew = network.clock_skew_ms
    return skew is not None and network.clock_precision_ms > 0 and abs(skew) > clock_limit_ms(network)


def problems_of(network: NetworkView, reports: Sequence[DialedBack]) -> list[str]:
    """Worst first. A node that runs without a network has none."""
    if not network.peer_id:
        return []
    found = []
    if not network.peers:
        found.append("no peer is connected: check the bootnodes, and that their ports can be reached from here")
    found += [_mismatch(peer) for peer in network.peers if not (peer.genesis_matches and peer.forks_match)]
    found += [f"peer {peer.peer_id} was refused: {peer.reason}" for peer in network.refused if peer.was_sought]
    skew = network.clock_skew_ms
    if skew is not None and is_clock_off(network):
        direction = "behind" if skew > 0 else "ahead of"
        found.append(
            f"this node's clock is {abs(skew)} ms {direction} its peers' (median), more than {clock_limit_ms(network)} "
            "ms: set it by NTP, or its proposals come to be refused"
        )
    return found + _unreached(network, reports)


def notices_of(reports: Sequence[DialedBack]) -> list[str]:
    """What a node can live with, and its operator should know."""
    outcomes = {report.outcome for report in reports}
    if not outcomes or outcomes & {"reached", "failed"}:  # the latter is a problem
        return []
    return [
        "nobody can dial this node, as far as its peers could find out: give an address that others can dial with "
        "--p2p-advertise"
    ]


def _mismatch(peer: PeerView) -> str:
    what = "has another genesis" if not peer.genesis_matches else "applies other forks"
    return f"peer {peer.peer_id} {what}: `astralink-node genesis diff` shows how two genesis files differ"


def _unreached(network: NetworkView, reports: Sequence[DialedBack]) -> list[str]:
    """An address is fine if anybody reached it; those who could not say count for nothing."""
    if not network.advertised_addresses:
        return ["no address is advertised: give one that others can dial with --p2p-advertise"]
    found = []
    for address in network.advertised_addresses:
        outcomes = [report for report in reports if report.address == address]
        failed = [report for report in outcomes if report.outcome == "failed"]
        if failed and not any(report.outcome == "reached" for report in outcomes):
            found.append(
                f"{address} was not reached by {len(failed)} of the peers asked ({failed[0].detail}): open or forward "
                "the port, or advertise another address with --p2p-advertise"
            )
    return found
