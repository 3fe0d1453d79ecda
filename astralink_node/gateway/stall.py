"""Why no block comes, in one line: the step that consensus waits in, since when, and whom it misses there.

Pure: the same words for the log, RPC and the command line. What is not known (which node a validator runs) is not
claimed. Everything is as this node sees it; another may miss somebody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from astralink_node.gateway.link_messages import ConsensusState, NetworkView, RoundVotes, VotesFor
from consensus.certificate import signer_indices
from consensus.messages import NIL

MAX_NAMED: Final = 8
"""Missing validators that one line names; of more it gives the number."""
LEAST_STALL_MS: Final = 10_000
STALL_INTERVALS: Final = 3
MOMENT_MS: Final = 1_000
"""Of a step in which votes that are on their way are not called missing."""


@dataclass(frozen=True, slots=True)
class MissingValidator:
    """Somebody whose message the present step waits for, or who has been away for a while."""

    index: int
    voting_key: bytes
    operator: bytes
    power: int
    is_self: bool
    """It is this node."""
    is_connected: bool | None
    """None: which node it runs is not known here."""
    last_vote: str
    """Its newest of this height; empty: none in the rounds that are shown."""
    last_height: int
    """The highest at which it voted; -1: nothing was heard of it since this node started."""


def stall_limit_ms(block_interval_ms: int) -> int:
    """How long a height may stand before it is worth a word."""
    return max(LEAST_STALL_MS, STALL_INTERVALS * block_interval_ms)


def is_idle(step: str, *, pending_transactions: int, block_interval_ms: int, makes_empty_blocks: bool) -> bool:
    """Whether no block is due: nothing waits for one, and blocks come on demand only."""
    comes_by_itself = makes_empty_blocks and block_interval_ms > 0
    return step == "new_height" and not pending_transactions and not comes_by_itself


def missing_validators(state: ConsensusState, network: NetworkView) -> tuple[MissingValidator, ...]:
    """The proposer whose proposal is not here, or those without a vote in this round and step; else nobody."""
    match state.step:
        case "propose" if not state.proposed_hash:
            indices = [state.proposer_index]
        case "prevote" | "precommit":
            voters = {index for votes in _votes_now(state) for index in signer_indices(votes.voters)}
            indices = [index for index in range(len(state.members)) if index not in voters]
        case _:
            indices = []
    return tuple(_missing(state, network, index) for index in indices if index < len(state.members))


def away_validators(state: ConsensusState, network: NetworkView) -> tuple[MissingValidator, ...]:
    """Those without a vote for a while, whomever the present step waits for."""
    return tuple(_missing(state, network, index) for index, member in enumerate(state.members) if member.is_away)


def explain(state: ConsensusState | None, network: NetworkView, now_ms: int) -> str:
    """One line, whether anything is wrong or not."""
    if state is None:
        return "this node recovers: consensus has not begun" + _of_this_node(state, network)
    waited_ms = now_ms - state.waiting_since_ms
    since = _since(waited_ms)
    place = f"height {state.height} round {state.round_}"
    match state.step:
        case "new_height":
            line = f"height {state.height} waits for its turn since {since}"
        case "propose":
            line = f"{place} waits in propose since {since}: {_why_no_proposal(state, network)}"
        case "commit":
            line = f"{place} is decided and waits since {since} to be committed: the execution process is at work"
        case _ if waited_ms < MOMENT_MS and not _has_quorum(state):
            line = f"{place} waits in {state.step} since {since}: votes come in"
        case _:
            line = f"{place} waits in {state.step} since {since}: {_why_no_quorum(state, network)}"
    return line + _of_this_node(state, network)


def _why_no_proposal(state: ConsensusState, network: NetworkView) -> str:
    missing = missing_validators(state, network)
    if missing:
        return f"no proposal of {_named(missing[0], network, '')}"
    block = f"block {_short(state.proposed_hash)} of #{state.proposer_index}"
    if not state.is_proposal_checked:
        return f"{block} is proposed, but not here or not executed yet"
    return f"{block} is here, but not the polka that its proposal rests on"


def _why_no_quorum(state: ConsensusState, network: NetworkView) -> str:
    votes, missing = _votes_now(state), missing_validators(state, network)
    most = max(votes, key=lambda each: each.power, default=None)
    silent = f"{len(missing)} of {len(state.members)} validators silent ({_list(missing, network)})" if missing else ""
    if most is not None and _is_quorum(most.power, state.total_power):
        if most.block_hash == NIL or state.step == "precommit":
            return f"two thirds voted for {_value(most)}: the next step is due"
        return f"two thirds voted for {_value(most)}, whose block is not here or not executed yet"
    if not _has_quorum(state):
        return silent
    ordered = sorted(votes, key=lambda each: -each.power)
    shares = ", ".join(f"{_value(each)} {_percent(each.power, state.total_power)}" for each in ordered[:MAX_NAMED])
    return f"the votes are split ({shares})" + (f"; {silent}" if silent else "")


def _of_this_node(state: ConsensusState | None, network: NetworkView) -> str:
    """What is special about this node, if anything is."""
    notes = []
    if network.sync is not None:
        notes.append(f"this node catches up: {network.sync.current_height} of {network.sync.highest_height}")
    if network.peer_id and not network.peers and (state is None or len(state.members) > 1 or state.own_index < 0):
        notes.append("no peer is connected")
    connected = None if state is None else _connected_power(state, network)
    if state is not None and connected is not None and not _is_quorum(connected, state.total_power):
        notes.append(f"this node is connected to {_percent(connected, state.total_power)} of the power alone")
    if state is not None and state.is_validator and not state.is_signing:
        notes.append("this validator does not sign yet")
    return "".join(f"; {note}" for note in notes)


def _connected_power(state: ConsensusState, network: NetworkView) -> int | None:
    """Of those who are connected and this node's own; None unless everybody's node is known."""
    connected = {peer.peer_id for peer in network.peers}
    nodes = {validator.voting_key: validator.peer_id for validator in network.validators}
    power = 0
    for index, member in enumerate(state.members):
        node = nodes.get(member.voting_key)
        if index != state.own_index and node is None:
            return None
        if index == state.own_index or node in connected:
            power += member.power
    return power


def _list(missing: tuple[MissingValidator, ...], network: NetworkView) -> str:
    named = ", ".join(_named(each, network, ", no vote") for each in missing[:MAX_NAMED])
    return named if len(missing) <= MAX_NAMED else f"{named} and {len(missing) - MAX_NAMED} more"


def _named(missing: MissingValidator, network: NetworkView, without_vote: str) -> str:
    name = f"#{missing.index} {_short(missing.voting_key)}"
    last = f", last vote {missing.last_vote}" if missing.last_vote else without_vote
    if missing.is_self:
        return f"{name} this node{last}"
    if not network.peer_id:
        return f"{name}{last}"
    match missing.is_connected:
        case True:
            return f"{name} connected{last}"
        case False:
            return f"{name} not connected"
        case None:
            return f"{name} of a node not known{last}"


def _missing(state: ConsensusState, network: NetworkView, index: int) -> MissingValidator:
    member = state.members[index]
    node = next((each.peer_id for each in network.validators if each.voting_key == member.voting_key), None)
    return MissingValidator(
        index=index,
        voting_key=member.voting_key,
        operator=member.operator,
        power=member.power,
        is_self=index == state.own_index,
        is_connected=None if node is None else any(peer.peer_id == node for peer in network.peers),
        last_vote=_last_vote(state, index),
        last_height=member.last_height,
    )


def _last_vote(state: ConsensusState, index: int) -> str:
    for shown in reversed(state.rounds):
        for kind, votes in (("precommit", shown.precommits), ("prevote", shown.prevotes)):
            if any(index in signer_indices(each.voters) for each in votes):
                return f"{kind} of round {shown.round_}"
    return ""


def _votes_now(state: ConsensusState) -> tuple[VotesFor, ...]:
    """Of this round, of the type that the step waits for."""
    shown = next((each for each in state.rounds if each.round_ == state.round_), RoundVotes(state.round_, 0, (), ()))
    return shown.precommits if state.step == "precommit" else shown.prevotes


def _has_quorum(state: ConsensusState) -> bool:
    """Of votes for anything."""
    return _is_quorum(sum(each.power for each in _votes_now(state)), state.total_power)


def _is_quorum(power: int, total: int) -> bool:
    return 3 * power > 2 * total


def _value(votes: VotesFor) -> str:
    return "nil" if votes.block_hash == NIL else _short(votes.block_hash)


def _short(data: bytes) -> str:
    return f"0x{data[:4].hex()}.."


def _percent(power: int, total: int) -> str:
    return f"{100 * power // total} %"


def _since(duration_ms: int) -> str:
    seconds = max(0, duration_ms) // 1000
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
