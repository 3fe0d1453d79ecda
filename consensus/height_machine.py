"""One height of consensus as a pure step: (state, input) -> (state, outputs).

It holds the height's proposals, votes and verdicts on blocks, lets the rules of `round_machine` see them, and says
what is to be done in the world: sign, build, check, wait, commit. Proposals, votes and certificates come in with
their signatures verified (`consensus.admission`, `consensus.certificate`); nothing here knows the time but the
arrival that a proposal's input carries. The same inputs give the same outputs, which is how a log is replayed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from consensus import round_machine as rounds
from consensus.certificate import Certificate
from consensus.evidence import Evidence
from consensus.messages import NIL, NO_ROUND, VoteType
from consensus.params import MAX_ROUND, ConsensusParams
from consensus.proposer_selection import ProposerRotation
from consensus.round_machine import ProposedValue, RoundState, Step, TimeoutKind
from consensus.validator_set import ValidatorSet
from consensus.vote_tally import (
    MAX_ROUNDS_AHEAD,
    Quorum,
    VoteTally,
    add_certificate,
    add_vote,
    forget_old_rounds,
)
from consensus.votes import SignedProposal, SignedVote

# --- Inputs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartHeight:
    """Line 10: begin with round 0."""


@dataclass(frozen=True, slots=True)
class ProposalReceived:
    proposal: SignedProposal
    arrived_ms: int
    """When the signed proposal arrived, before its body, by this validator's clock (PBTS)."""


@dataclass(frozen=True, slots=True)
class VoteReceived:
    vote: SignedVote


@dataclass(frozen=True, slots=True)
class CertificateReceived:
    """A polka (prevotes) or a commit (precommits) of this height, verified."""

    certificate: Certificate


@dataclass(frozen=True, slots=True)
class BlockBuilt:
    """The answer to `BuildBlock`; the block is valid by construction."""

    round_: int
    block_hash: bytes
    time_ms: int


@dataclass(frozen=True, slots=True)
class BlockChecked:
    """The answer to `CheckBlock`."""

    block_hash: bytes
    is_valid: bool
    build_round: int
    """From the block's payload, as `time_ms`; of no meaning in an invalid block."""
    time_ms: int


@dataclass(frozen=True, slots=True)
class TimeoutElapsed:
    kind: TimeoutKind
    round_: int


Input = StartHeight | ProposalReceived | VoteReceived | CertificateReceived | BlockBuilt | BlockChecked | TimeoutElapsed

# --- Outputs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BuildBlock:
    """Build for this round, not before the clock has passed the parent's time; answer `BlockBuilt`."""

    round_: int


@dataclass(frozen=True, slots=True)
class CheckBlock:
    """Get the block, from peers if need be, make it durable, validate it; answer `BlockChecked`. Asked once a block."""

    block_hash: bytes


@dataclass(frozen=True, slots=True)
class SignProposal:
    """Sign, tell everyone with the block's body, and feed it back as `ProposalReceived`."""

    round_: int
    block_hash: bytes
    valid_round: int


@dataclass(frozen=True, slots=True)
class SignVote:
    """Sign, tell everyone, and feed it back as `VoteReceived`; a signer that refuses just leaves us silent."""

    vote_type: VoteType
    round_: int
    block_hash: bytes
    valid_round: int


@dataclass(frozen=True, slots=True)
class ShareQuorum:
    """Tell everyone the polka that a re-proposal rests on: without it the lock stays hidden and rounds are lost."""

    quorum: Quorum


@dataclass(frozen=True, slots=True)
class ScheduleTimeout:
    """Feed `TimeoutElapsed` back after this time."""

    kind: TimeoutKind
    round_: int
    duration_ms: int


@dataclass(frozen=True, slots=True)
class ReportEvidence:
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class CommitBlock:
    """The block is decided: make it final with the certificate of these votes. Said once."""

    quorum: Quorum


Output = (
    BuildBlock | CheckBlock | SignProposal | SignVote | ShareQuorum | ScheduleTimeout | ReportEvidence | CommitBlock
)

# --- State -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeightContext:
    """What is fixed before the height begins."""

    height: int
    validator_set: ValidatorSet
    proposers: ProposerRotation
    own_index: int | None
    """Where this validator stands in the set; None for one that only follows."""
    params: ConsensusParams


@dataclass(frozen=True, slots=True)
class HeightState:
    context: HeightContext
    rounds: RoundState
    tally: VoteTally
    proposals: Mapping[int, ProposalReceived] = field(default_factory=dict)
    """The first of each round."""
    blocks: Mapping[bytes, BlockChecked | None] = field(default_factory=dict)
    """Verdicts; None while one is asked for."""
    decision: Quorum | None = None

    @property
    def height(self) -> int:
        return self.context.height


def begin_height(context: HeightContext) -> HeightState:
    """Before `StartHeight`; messages may come earlier than it."""
    return HeightState(context, RoundState(), VoteTally(context.height, context.validator_set))


def step(state: HeightState, event: Input) -> tuple[HeightState, tuple[Output, ...]]:
    """One input. Raises ValueError for one of another height: a caller's mistake, never a peer's."""
    outputs: list[Output] = []
    state = _take(state, event, outputs)
    if state.decision is None and state.rounds.step is not Step.NOT_STARTED:
        state = _apply_rules(state, outputs)
    return state, tuple(outputs)


def what_to_repeat(state: HeightState) -> tuple[SignedProposal | None, tuple[SignedVote, ...], Quorum | None]:
    """What a validator that makes no progress says again: the round's proposal, votes, and the polka of validRound.

    The votes are all that it holds of its round and the precommits of the round before: what brought it to where
    it is brings everybody else there too, as the paper's gossip property asks.
    """
    round_ = state.rounds.round_
    received = state.proposals.get(round_)
    votes = [
        vote
        for at, vote_type in (
            (round_ - 1, VoteType.PRECOMMIT),
            (round_, VoteType.PREVOTE),
            (round_, VoteType.PRECOMMIT),
        )
        for _, vote in sorted(state.tally.ballots(at, vote_type).votes.items())
    ]
    return received.proposal if received else None, tuple(votes), _valid_polka(state)


def is_timely(params: ConsensusParams, round_: int, time_ms: int, arrived_ms: int) -> bool:
    """PBTS: neither from the future nor older than a proposal of that round may be on its way."""
    oldest = arrived_ms - params.message_delay_at(round_) - params.precision_ms
    return oldest <= time_ms <= arrived_ms + params.precision_ms


# --- Taking inputs in ------------------------------------------------------------------------------------------


def _take(state: HeightState, event: Input, outputs: list[Output]) -> HeightState:
    match event:
        case VoteReceived(vote):
            _check_height(state, vote.height)
            tally, evidence = add_vote(state.tally, vote, state.rounds.round_)
            if evidence is not None:
                outputs.append(ReportEvidence(evidence))
            return state if tally is state.tally else replace(state, tally=tally)
        case ProposalReceived(proposal):
            _check_height(state, proposal.height)
            return state if state.decision is not None else _take_proposal(state, event, outputs)
        case BlockChecked(block_hash):
            return replace(state, blocks={**state.blocks, block_hash: event})
        case TimeoutElapsed(kind, round_):
            if state.decision is not None:
                return state
            moved = rounds.on_timeout(state.rounds, kind, round_, _Facts(state))
            return state if moved is None else _perform(state, moved, outputs)
        case CertificateReceived(certificate):
            _check_height(state, certificate.height)
            tally, found = add_certificate(state.tally, certificate)
            outputs.extend(ReportEvidence(evidence) for evidence in found)
            return replace(state, tally=tally)
        case BlockBuilt(round_, block_hash, time_ms):
            checked = BlockChecked(block_hash, is_valid=True, build_round=round_, time_ms=time_ms)
            state = replace(state, blocks={**state.blocks, block_hash: checked})
            is_awaited = round_ == state.rounds.round_ and state.rounds.step is Step.PROPOSE
            if is_awaited and state.decision is None:
                outputs.append(SignProposal(round_, block_hash, NO_ROUND))  # line 19
            return state
        case StartHeight():
            if state.rounds.step is not Step.NOT_STARTED:
                return state
            return _perform(state, rounds.start_round(state.rounds, 0, _Facts(state)), outputs)
        case _:
            assert_never(event)


def _take_proposal(state: HeightState, event: ProposalReceived, outputs: list[Output]) -> HeightState:
    proposal = event.proposal
    if proposal.round_ in state.proposals or proposal.round_ > state.rounds.round_ + MAX_ROUNDS_AHEAD:
        return state
    state = replace(state, proposals={**state.proposals, proposal.round_: event})
    return _ask_for(state, proposal.block_hash, outputs)


def _ask_for(state: HeightState, block_hash: bytes, outputs: list[Output]) -> HeightState:
    """Have a block checked, once."""
    if block_hash in state.blocks:
        return state
    outputs.append(CheckBlock(block_hash))
    return replace(state, blocks={**state.blocks, block_hash: None})


def _check_height(state: HeightState, height: int) -> None:
    if height != state.context.height:
        raise ValueError(f"expected a message of height {state.context.height}, found one of {height}")


# --- Applying the rules ----------------------------------------------------------------------------------------


def _apply_rules(state: HeightState, outputs: list[Output]) -> HeightState:
    """Until none applies; every rule moves the round, the step or a flag forward, so they come to an end."""
    state = _ask_for_quorum_blocks(state, outputs)
    while state.decision is None:
        moved = rounds.next_transition(state.rounds, _Facts(state))
        if moved is None:
            break
        state = _perform(state, moved, outputs)
    return state


def _ask_for_quorum_blocks(state: HeightState, outputs: list[Output]) -> HeightState:
    """A quorum behind a block that never reached us: get the block."""
    for round_ in state.tally.rounds:
        for vote_type in (VoteType.PRECOMMIT, VoteType.PREVOTE):
            if vote_type is VoteType.PREVOTE and not state.rounds.valid_round < round_ <= state.rounds.round_:
                continue
            for block_hash, _ in state.tally.quorums(round_, vote_type):
                if block_hash != NIL:
                    state = _ask_for(state, block_hash, outputs)
    return state


def _perform(state: HeightState, moved: rounds.Transition, outputs: list[Output]) -> HeightState:
    """Take a transition over and turn its actions into outputs."""
    before, (after, actions) = state.rounds, moved
    state = replace(state, rounds=after)
    if after.round_ != before.round_:
        state = replace(state, tally=forget_old_rounds(state.tally, after.round_, after.valid_round))
        state = _ask_for_quorum_blocks(state, outputs)
    for action in actions:
        match action:
            case rounds.Vote(vote_type, round_, block_hash, valid_round):
                if state.context.own_index is not None:
                    outputs.append(SignVote(vote_type, round_, block_hash, valid_round))
            case rounds.Schedule(kind, round_):
                outputs.append(ScheduleTimeout(kind, round_, _duration_ms(state.context.params, kind, round_)))
            case rounds.GetValue(round_):
                outputs.append(BuildBlock(round_))
            case rounds.Propose(round_, block_hash, valid_round):
                polka = _valid_polka(state)
                if polka is not None:
                    outputs.append(ShareQuorum(polka))
                outputs.append(SignProposal(round_, block_hash, valid_round))
            case rounds.Decide(round_, block_hash):
                decision = state.tally.quorum(round_, VoteType.PRECOMMIT, (block_hash, NO_ROUND))
                state = replace(state, decision=decision)
                outputs.append(CommitBlock(decision))
            case _:
                assert_never(action)
    return state


def _valid_polka(state: HeightState) -> Quorum | None:
    """What stands behind validValue; None if there is none."""
    valid_round, valid_hash = state.rounds.valid_round, state.rounds.valid_hash
    for choice in state.tally.quorums(valid_round, VoteType.PREVOTE):
        if choice[0] == valid_hash != NIL:
            return state.tally.quorum(valid_round, VoteType.PREVOTE, choice)
    return None


def _duration_ms(params: ConsensusParams, kind: TimeoutKind, round_: int) -> int:
    match kind:
        case TimeoutKind.PROPOSE:
            return params.propose_timeout_at(round_)
        case TimeoutKind.PREVOTE:
            return params.prevote_timeout_at(round_)
        case TimeoutKind.PRECOMMIT:
            return params.precommit_timeout_at(round_)


class _Facts:
    """The state as the rules see it; see `round_machine.Facts`."""

    __slots__ = ("_state",)

    def __init__(self, state: HeightState) -> None:
        self._state = state

    def is_proposer(self, round_: int) -> bool:
        context = self._state.context
        return context.own_index is not None and context.proposers.at(round_) == context.own_index

    def proposed(self, round_: int) -> ProposedValue | None:
        received = self._state.proposals.get(round_)
        if received is None:
            return None
        proposal = received.proposal
        return ProposedValue(proposal.block_hash, proposal.valid_round, self._is_acceptable(received))

    def _is_acceptable(self, received: ProposalReceived) -> bool | None:
        proposal = received.proposal
        checked = self._state.blocks.get(proposal.block_hash)
        if checked is None:
            return None
        if proposal.valid_round != NO_ROUND or not checked.is_valid:
            return checked.is_valid  # a re-proposal keeps its time and its build round
        params = self._state.context.params
        is_timely_ = is_timely(params, proposal.round_, checked.time_ms, received.arrived_ms)
        return is_timely_ and checked.build_round == proposal.round_

    def is_valid(self, block_hash: bytes) -> bool:
        checked = self._state.blocks.get(block_hash)
        return checked is not None and checked.is_valid

    def polkas(self, round_: int) -> Iterable[bytes]:
        return [block_hash for block_hash, _ in self._state.tally.quorums(round_, VoteType.PREVOTE)]

    def missed_polka(self, after_round: int, before_round: int) -> tuple[int, bytes] | None:
        if after_round + 1 >= before_round:
            return None
        for round_ in sorted(self._state.tally.rounds, reverse=True):
            if after_round < round_ < before_round:
                for block_hash in self.polkas(round_):
                    if self.is_valid(block_hash):
                        return round_, block_hash
        return None

    def has_any_prevotes(self, round_: int) -> bool:
        return self._state.tally.has_quorum_of_any(round_, VoteType.PREVOTE)

    def has_any_precommits(self, round_: int) -> bool:
        return self._state.tally.has_quorum_of_any(round_, VoteType.PRECOMMIT)

    def committed(self) -> tuple[int, bytes] | None:
        tally = self._state.tally
        for round_ in tally.rounds:
            for block_hash, _ in tally.quorums(round_, VoteType.PRECOMMIT):
                if block_hash != NIL and self.is_valid(block_hash):
                    return round_, block_hash
        return None

    def round_ahead(self, round_: int) -> int | None:
        tally = self._state.tally
        found = [ahead for ahead in tally.rounds if round_ < ahead <= MAX_ROUND and tally.one_correct_is_at(ahead)]
        return max(found, default=None)
