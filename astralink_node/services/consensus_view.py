"""What consensus is doing at this moment, as RPC shows it: for an operator who asks why nothing moves."""

from astralink_node.gateway.link_messages import MAX_ROUNDS_SHOWN, ConsensusState, Member, RoundVotes, VotesFor
from astralink_node.services.consensus_driver import ConsensusDriver
from astralink_node.services.presence import votes_are_overdue
from consensus.certificate import bitmap_of
from consensus.height_machine import HeightState
from consensus.messages import NO_ROUND, VoteType
from consensus.round_machine import Step
from consensus.vote_tally import MAX_ROUNDS_AHEAD


def consensus_state(driver: ConsensusDriver, now_ms: int) -> ConsensusState | None:
    """None while the node recovers. `now_ms` is Unix time."""
    run = driver.run_of_height
    if run is None:
        return None
    state, rounds = run.state, run.state.rounds
    is_started = rounds.step is not Step.NOT_STARTED
    shown = _rounds_shown(state)
    proposed = state.proposals.get(rounds.round_)
    is_overdue = votes_are_overdue(state, now_ms - run.step_since_ms)
    attendance = driver.last_votes.attendance(state, votes_are_overdue=is_overdue)
    return ConsensusState(
        height=state.height,
        round_=rounds.round_,
        step="commit" if state.decision is not None else rounds.step.name.lower() if is_started else "new_height",
        proposer_index=state.context.proposers.at(rounds.round_),
        locked_round=rounds.locked_round,
        locked_hash=b"" if rounds.locked_round == NO_ROUND else rounds.locked_hash,
        valid_round=rounds.valid_round,
        valid_hash=b"" if rounds.valid_round == NO_ROUND else rounds.valid_hash,
        members=tuple(
            Member(
                member.voting_key,
                member.operator,
                member.power,
                -1 if seen.last_height is None else seen.last_height,
                seen.is_away,
            )
            for member, seen in zip(state.context.validator_set.validators, attendance, strict=True)
        ),
        total_power=state.context.validator_set.total_power,
        proposed_hash=b"" if proposed is None else proposed.proposal.block_hash,
        is_proposal_checked=proposed is not None and state.blocks.get(proposed.proposal.block_hash) is not None,
        rounds=tuple(_votes_of(state, round_) for round_ in shown),
        waiting_since_ms=run.step_since_ms,
        own_index=-1 if driver.own_index is None else driver.own_index,
        is_validator=driver.own_index is not None,
        is_signing=state.context.own_index is not None,
    )


def _rounds_shown(state: HeightState) -> list[int]:
    """Those nearest to the present one, ascending. Rounds far ahead are left out: a single validator can name them,
    and who proposes there takes as many steps to find out."""
    current = state.rounds.round_
    known = {round_ for round_ in state.tally.rounds if round_ <= current + MAX_ROUNDS_AHEAD}
    return sorted(sorted({*known, current}, key=lambda round_: abs(round_ - current))[:MAX_ROUNDS_SHOWN])


def _votes_of(state: HeightState, round_: int) -> RoundVotes:
    return RoundVotes(
        round_,
        state.context.proposers.at(round_),
        _votes_for(state, round_, VoteType.PREVOTE),
        _votes_for(state, round_, VoteType.PRECOMMIT),
    )


def _votes_for(state: HeightState, round_: int, vote_type: VoteType) -> tuple[VotesFor, ...]:
    """By block hash, whatever validRound prevotes carry."""
    members = state.context.validator_set.validators
    voters: dict[bytes, list[int]] = {}
    for index, vote in state.tally.ballots(round_, vote_type).votes.items():
        voters.setdefault(vote.block_hash, []).append(index)
    return tuple(
        VotesFor(block_hash, sum(members[index].power for index in indices), bitmap_of(indices, len(members)))
        for block_hash, indices in sorted(voters.items())
    )
