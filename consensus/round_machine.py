"""Tendermint's Algorithm 1 (arXiv 1807.04938v3, lines 1 to 67), rule by rule: the rounds of one height.

The rules see the messages of the height through `Facts` and answer with actions; whoever calls feeds timeouts and
asks for the next rule until none applies. Two deviations, named at their rules: the accountable prevote (a
prevote carries validRound, and "or lockedValue = v" is gone from lines 23 and 29: docs/adr/0012), and quorums
that stand for the proposal that they must have seen (lines 36 and 49), also where they come late (lines 42 and 43).
Never unlocks on a nil polka.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

from consensus.messages import NIL, NO_ROUND, VoteType
from consensus.params import MAX_ROUND


class Step(IntEnum):
    """Line 4, and what stands before line 10."""

    NOT_STARTED = 0
    PROPOSE = 1
    PREVOTE = 2
    PRECOMMIT = 3


class TimeoutKind(IntEnum):
    PROPOSE = 1
    PREVOTE = 2
    PRECOMMIT = 3


@dataclass(frozen=True, slots=True)
class RoundState:
    """Lines 3 to 9. The locked value itself decides nothing here, only its round does; it is kept for people."""

    round_: int = 0
    step: Step = Step.NOT_STARTED
    locked_round: int = NO_ROUND
    locked_hash: bytes = NIL
    valid_round: int = NO_ROUND
    valid_hash: bytes = NIL
    prevote_timeout_scheduled: bool = False
    """Line 34 is for the first time in a round."""
    precommit_timeout_scheduled: bool = False
    """Line 47 as well."""


@dataclass(frozen=True, slots=True)
class ProposedValue:
    block_hash: bytes
    valid_round: int
    is_acceptable: bool | None
    """valid(v), and for a fresh value also timely and built in this round; None while that is not known yet."""


class Facts(Protocol):
    """What the rules ask about the messages and blocks of the height."""

    def is_proposer(self, round_: int) -> bool:
        """proposer(h, round) = p."""

    def proposed(self, round_: int) -> ProposedValue | None:
        """PROPOSAL(h, round, v, validRound) from that round's proposer."""

    def is_valid(self, block_hash: bytes) -> bool:
        """valid(v), where v is known; timeliness is no part of it."""

    def polkas(self, round_: int) -> Iterable[bytes]:
        """Hashes with 2f+1 PREVOTE(h, round, id(v), validRound) under one validRound; NIL among them."""

    def missed_polka(self, after_round: int, before_round: int) -> tuple[int, bytes] | None:
        """(r, id(v)) of the highest round between these two with a polka for a valid v."""

    def has_any_prevotes(self, round_: int) -> bool:
        """2f+1 PREVOTE(h, round, *)."""

    def has_any_precommits(self, round_: int) -> bool:
        """2f+1 PRECOMMIT(h, round, *)."""

    def committed(self) -> tuple[int, bytes] | None:
        """(r, id(v)) with 2f+1 PRECOMMIT(h, r, id(v)) for a valid v, in whatever round r."""

    def round_ahead(self, round_: int) -> int | None:
        """The highest round above `round_` with f+1 messages."""


@dataclass(frozen=True, slots=True)
class GetValue:
    """Line 18: build a block."""

    round_: int


@dataclass(frozen=True, slots=True)
class Propose:
    """Line 19 with a value that had a polka."""

    round_: int
    block_hash: bytes
    valid_round: int


@dataclass(frozen=True, slots=True)
class Vote:
    vote_type: VoteType
    round_: int
    block_hash: bytes
    valid_round: int


@dataclass(frozen=True, slots=True)
class Schedule:
    kind: TimeoutKind
    round_: int


@dataclass(frozen=True, slots=True)
class Decide:
    """Line 51."""

    round_: int
    block_hash: bytes


Action = GetValue | Propose | Vote | Schedule | Decide
Transition = tuple[RoundState, tuple[Action, ...]]


def start_round(state: RoundState, round_: int, facts: Facts) -> Transition:
    """Lines 11 to 21."""
    started = replace(
        state,
        round_=round_,
        step=Step.PROPOSE,
        prevote_timeout_scheduled=False,
        precommit_timeout_scheduled=False,
    )
    # Line 21. Unlike in the paper also for the proposer: its block may fail to be built, or its signer may refuse.
    schedule = Schedule(TimeoutKind.PROPOSE, round_)
    if not facts.is_proposer(round_):
        return started, (schedule,)
    if state.valid_hash != NIL:
        return started, (schedule, Propose(round_, state.valid_hash, state.valid_round))  # lines 15, 16, 19
    return started, (schedule, GetValue(round_))  # line 18


def next_transition(state: RoundState, facts: Facts) -> Transition | None:
    """The next rule that applies, or None. Rules of the current round come after those that leave it."""
    decision = facts.committed()
    if decision is not None:  # line 49: the quorum has seen the proposal, we need only the block
        return state, (Decide(*decision),)
    missed = facts.missed_polka(state.valid_round, state.round_)
    if missed is not None:
        # Lines 36, 42 and 43 for a round that is over. Without it only its holder could propose what is locked there,
        # and whoever holds a lock of little power waits for its turn as long as the rotation is.
        valid_round, valid_hash = missed
        return replace(state, valid_round=valid_round, valid_hash=valid_hash), ()
    ahead = facts.round_ahead(state.round_)
    if ahead is not None:  # line 55
        return start_round(state, ahead, facts)
    if state.step is Step.PROPOSE:
        moved = _answer_proposal(state, facts)
        if moved is not None:
            return moved
    if state.step >= Step.PREVOTE:
        moved = _follow_prevotes(state, facts)
        if moved is not None:
            return moved
    if not state.precommit_timeout_scheduled and facts.has_any_precommits(state.round_):  # line 47
        scheduled = replace(state, precommit_timeout_scheduled=True)
        return scheduled, (Schedule(TimeoutKind.PRECOMMIT, state.round_),)  # line 48
    return None


def on_timeout(state: RoundState, kind: TimeoutKind, round_: int, facts: Facts) -> Transition | None:
    """Lines 57 to 67; None where the timeout is no longer of interest."""
    if round_ != state.round_ or state.step is Step.NOT_STARTED:
        return None
    match kind:
        case TimeoutKind.PROPOSE if state.step is Step.PROPOSE:  # line 58
            return _prevote(state, NIL, NO_ROUND)  # lines 59, 60
        case TimeoutKind.PREVOTE if state.step is Step.PREVOTE:  # line 62
            return _precommit(state, NIL)  # lines 63, 64
        case TimeoutKind.PRECOMMIT if round_ < MAX_ROUND:  # line 66; the last round does not end
            return start_round(state, round_ + 1, facts)  # line 67
        case _:
            return None


def _answer_proposal(state: RoundState, facts: Facts) -> Transition | None:
    """Lines 22 to 33: the prevote for the proposal of the current round."""
    proposed = facts.proposed(state.round_)
    if proposed is None or proposed.is_acceptable is None:
        return None
    valid_round = proposed.valid_round
    if valid_round == NO_ROUND:
        # Line 23 without "or lockedValue = v": a fresh proposal is refused by everyone who is locked.
        may_prevote = proposed.is_acceptable and state.locked_round == NO_ROUND
    elif proposed.block_hash in facts.polkas(valid_round):  # line 28; validRound < round is part of the sign bytes
        # Line 29 without "or lockedValue = v": the polka must be at least as recent as the lock.
        may_prevote = proposed.is_acceptable and state.locked_round <= valid_round
    else:
        return None
    if may_prevote:
        return _prevote(state, proposed.block_hash, valid_round)  # lines 24, 30
    return _prevote(state, NIL, NO_ROUND)  # lines 26, 32


def _follow_prevotes(state: RoundState, facts: Facts) -> Transition | None:
    """Lines 34 to 46, in the steps prevote and precommit."""
    for block_hash in facts.polkas(state.round_):
        if block_hash != NIL:
            # Line 36. A quorum of prevotes for v stands for the proposal: more than a third of it is correct.
            if state.valid_round < state.round_ and facts.is_valid(block_hash):
                return _accept_polka(state, block_hash)
        elif state.step is Step.PREVOTE:  # line 44
            return _precommit(state, NIL)  # lines 45, 46
    if (
        state.step is Step.PREVOTE
        and not state.prevote_timeout_scheduled
        and facts.has_any_prevotes(state.round_)  # line 34
    ):
        scheduled = replace(state, prevote_timeout_scheduled=True)
        return scheduled, (Schedule(TimeoutKind.PREVOTE, state.round_),)  # line 35
    return None


def _accept_polka(state: RoundState, block_hash: bytes) -> Transition:
    """Lines 37 to 43."""
    valid = replace(state, valid_round=state.round_, valid_hash=block_hash)  # lines 42, 43
    if state.step is not Step.PREVOTE:  # line 37
        return valid, ()
    locked = replace(valid, locked_round=state.round_, locked_hash=block_hash)  # lines 38, 39
    return _precommit(locked, block_hash)  # lines 40, 41


def _prevote(state: RoundState, block_hash: bytes, valid_round: int) -> Transition:
    vote = Vote(VoteType.PREVOTE, state.round_, block_hash, valid_round)
    return replace(state, step=Step.PREVOTE), (vote,)


def _precommit(state: RoundState, block_hash: bytes) -> Transition:
    vote = Vote(VoteType.PRECOMMIT, state.round_, block_hash, NO_ROUND)
    return replace(state, step=Step.PRECOMMIT), (vote,)
