"""What is wrong with a node, judged by what it says over JSON-RPC, and how figures are shown to people. Pure."""

from collections.abc import Mapping
from typing import Any

from astralink_node.gateway.stall import is_idle, stall_limit_ms
from p2p.addresses import BadAddress, parse_address

Answer = Mapping[str, Any]
"""A JSON-RPC result."""


def number(quantity: str) -> int:
    return int(quantity, 16)


def head_age_s(status: Answer, now_s: float) -> float:
    return max(0.0, now_s - number(status["headTimestamp"]))


def problems_of_node(status: Answer, consensus: Answer | None, net: Answer, now_s: float) -> list[str]:
    """Of astralink_nodeStatus, astralink_consensusState and astralink_netStatus; empty: healthy."""
    found = []
    if net["syncing"] is not None:
        current, highest = number(net["syncing"]["current"]), number(net["syncing"]["highest"])
        found.append(f"catching up: {current:,} of {highest:,}")
    age_s, interval_ms = head_age_s(status, now_s), number(status["blockIntervalMs"])
    idle = consensus is not None and is_idle(
        consensus["step"],
        pending_transactions=number(status["pendingTransactions"]),
        block_interval_ms=interval_ms,
        makes_empty_blocks=status["makesEmptyBlocks"],
    )
    if 1000 * age_s > stall_limit_ms(interval_ms) and not idle:
        why = "consensus has not begun on this node" if consensus is None else consensus["explanation"]
        found.append(f"no block for {duration(age_s)}: {why}")
    if consensus is not None and consensus["isValidator"] and not consensus["isSigning"]:
        found.append("this validator does not sign yet: the log says what it waits for")
    return found


def away_text(away: Answer) -> str:
    """Of astralink_consensusState's `away`: who has not voted since when."""
    name = f"#{number(away['index'])} {short(away['votingKey'])}"
    since = "this node started" if away["lastVoteNumber"] is None else f"height {number(away['lastVoteNumber']):,}"
    where = {True: "connected", False: "not connected", None: "its node is not known"}[away["isConnected"]]
    where = "this node" if away["isSelf"] else where
    return f"{name} no vote since {since}, {where}"


def duration(seconds: float) -> str:
    """In the unit that people would use."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"


def place(address: str) -> str:
    """A multiaddress; one that only a listener can use in words."""
    try:
        parsed = parse_address(address)
    except BadAddress:
        return address
    return f"every address of this machine, port {parsed.port}" if parsed.is_every else address


def age(at_ms: str, now_s: float) -> str:
    """Of a moment in Unix time."""
    return f"{duration(max(0.0, now_s - number(at_ms) / 1000))} ago"


def short(data: str | None, digits: int = 8) -> str:
    """The first digits of a hash or key."""
    return "none" if data is None else f"{data[: 2 + digits]}.."


def short_peer(peer_id: str) -> str:
    """The end of a peer id, where ids differ."""
    return f"..{peer_id[-8:]}"


def field(name: str, value: str) -> str:
    """One line of a fixed-width overview."""
    return f"{name:<12}{value}"
