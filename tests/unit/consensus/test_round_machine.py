"""Algorithm 1 line by line, each rule where it applies and where it must not. The facts are given, not derived."""

from dataclasses import dataclass, field, replace

import pytest

from consensus.messages import NIL, VoteType
from consensus.params import MAX_ROUND
from consensus.round_machine import (
    Decide,
    GetValue,
    Propose,
    ProposedValue,
    RoundState,
    Schedule,
    Step,
    TimeoutKind,
    Vote,
    next_transition,
    on_timeout,
    start_round,
)

V, W = b"v" * 32, b"w" * 32


@dataclass
class GivenFacts:
    """What is known of the height, as a test lists it."""

    proposes_in: set[int] = field(default_factory=set)
    proposals: dict[int, ProposedValue] = field(default_factory=dict)
    valid: set[bytes] = field(default_factory=lambda: {V, W})
    polkas_of: dict[int, list[bytes]] = field(default_factory=dict)
    any_prevotes: set[int] = field(default_factory=set)
    any_precommits: set[int] = field(default_factory=set)
    commit: tuple[int, bytes] | None = None
    ahead: int | None = None
    missed: tuple[int, bytes] | None = None

    def is_proposer(self, round_):
        return round_ in self.proposes_in

    def proposed(self, round_):
        return self.proposals.get(round_)

    def is_valid(self, block_hash):
        return block_hash in self.valid

    def polkas(self, round_):
        return self.polkas_of.get(round_, [])

    def missed_polka(self, after_round, before_round):
        return self.missed if self.missed is not None and after_round < self.missed[0] < before_round else None

    def has_any_prevotes(self, round_):
        return round_ in self.any_prevotes

    def has_any_precommits(self, round_):
        return round_ in self.any_precommits

    def committed(self):
        return self.commit

    def round_ahead(self, round_):
        return self.ahead if self.ahead is not None and self.ahead > round_ else None


NOTHING = GivenFacts()
PROPOSING = RoundState(round_=2, step=Step.PROPOSE)
PREVOTED = replace(PROPOSING, step=Step.PREVOTE)
PRECOMMITTED = replace(PROPOSING, step=Step.PRECOMMIT)


def locked(state, round_, block_hash=V):
    return replace(state, locked_round=round_, locked_hash=block_hash, valid_round=round_, valid_hash=block_hash)


def fresh(block_hash=V, is_acceptable=True):
    return GivenFacts(proposals={2: ProposedValue(block_hash, -1, is_acceptable)})


def again(valid_round, block_hash=V, polkas=None, is_acceptable=True):
    """A re-proposal in round 2, with the polkas that are known."""
    return GivenFacts(
        proposals={2: ProposedValue(block_hash, valid_round, is_acceptable)},
        polkas_of={valid_round: [block_hash]} if polkas is None else polkas,
    )


def prevote(block_hash, valid_round=-1, round_=2):
    return Vote(VoteType.PREVOTE, round_, block_hash, valid_round)


def precommit(block_hash, round_=2):
    return Vote(VoteType.PRECOMMIT, round_, block_hash, -1)


def applies(state, facts):
    """The next rule that applies: (state, its only action)."""
    moved = next_transition(state, facts)
    assert moved is not None
    after, actions = moved
    (action,) = actions
    return after, action


# --- Lines 11 to 21: a round starts ------------------------------------------------------------------------------


def test_a_round_starts_with_its_propose_timeout():
    state, actions = start_round(RoundState(), 0, NOTHING)
    assert state == RoundState(round_=0, step=Step.PROPOSE)
    assert actions == (Schedule(TimeoutKind.PROPOSE, 0),)


def test_the_proposer_without_a_valid_value_asks_for_a_block():
    _, actions = start_round(PRECOMMITTED, 3, GivenFacts(proposes_in={3}))
    assert actions == (Schedule(TimeoutKind.PROPOSE, 3), GetValue(3))


def test_the_proposer_with_a_valid_value_proposes_it_with_its_valid_round():
    state = replace(PRECOMMITTED, valid_round=1, valid_hash=W)
    _, actions = start_round(state, 3, GivenFacts(proposes_in={3}))
    assert actions == (Schedule(TimeoutKind.PROPOSE, 3), Propose(3, W, 1))


def test_who_proposes_another_round_waits():
    _, actions = start_round(replace(PRECOMMITTED, valid_round=1, valid_hash=W), 3, GivenFacts(proposes_in={2, 4}))
    assert actions == (Schedule(TimeoutKind.PROPOSE, 3),)


def test_a_new_round_keeps_locked_and_valid_value_and_forgets_which_timeouts_ran():
    before = replace(
        locked(PRECOMMITTED, 1, V),
        valid_round=2,
        valid_hash=W,
        prevote_timeout_scheduled=True,
        precommit_timeout_scheduled=True,
    )
    after, _ = start_round(before, 3, NOTHING)
    assert after == RoundState(3, Step.PROPOSE, 1, V, 2, W, False, False)


# --- Lines 22 to 27: a fresh proposal ----------------------------------------------------------------------------


def test_an_acceptable_fresh_proposal_is_prevoted_with_no_valid_round():
    assert applies(PROPOSING, fresh()) == (PREVOTED, prevote(V))


def test_an_unacceptable_fresh_proposal_is_prevoted_nil():
    assert applies(PROPOSING, fresh(is_acceptable=False)) == (PREVOTED, prevote(NIL))


def test_a_fresh_proposal_of_unknown_validity_is_waited_for():
    assert next_transition(PROPOSING, fresh(is_acceptable=None)) is None


def test_a_locked_validator_refuses_another_fresh_value():
    _, vote = applies(locked(PROPOSING, 1, V), fresh(W))
    assert vote == prevote(NIL)


def test_a_locked_validator_refuses_even_its_locked_value_when_it_comes_without_a_polka():
    """The accountable prevote: "or lockedValue = v" of line 23 would let an honest validator be accused."""
    _, vote = applies(locked(PROPOSING, 1, V), fresh(V))
    assert vote == prevote(NIL)


def test_a_valid_value_alone_does_not_lock_out_a_fresh_proposal():
    state = replace(PROPOSING, valid_round=1, valid_hash=W)
    assert applies(state, fresh(V))[1] == prevote(V)


def test_a_proposal_of_another_round_is_not_answered():
    facts = GivenFacts(proposals={1: ProposedValue(V, -1, True), 3: ProposedValue(V, -1, True)})
    assert next_transition(PROPOSING, facts) is None


@pytest.mark.parametrize("state", [PREVOTED, PRECOMMITTED])
def test_a_proposal_is_answered_in_step_propose_only(state):
    assert next_transition(state, fresh()) is None
    assert next_transition(state, again(1)) is None


# --- Lines 28 to 33: a re-proposal -------------------------------------------------------------------------------


def test_a_reproposal_with_its_polka_is_prevoted_with_its_valid_round():
    assert applies(PROPOSING, again(1)) == (PREVOTED, prevote(V, 1))


def test_a_reproposal_without_its_polka_is_not_answered():
    assert next_transition(PROPOSING, again(1, polkas={})) is None


@pytest.mark.parametrize("polkas", [{1: [W]}, {1: [NIL]}, {0: [V]}, {2: [V]}])
def test_a_polka_for_another_value_or_round_does_not_support_a_reproposal(polkas):
    assert next_transition(PROPOSING, again(1, polkas=polkas)) is None


@pytest.mark.parametrize("locked_round", [0, 1])
def test_a_polka_of_the_locks_round_or_above_releases_the_lock(locked_round):
    _, vote = applies(locked(PROPOSING, locked_round, W), again(1))
    assert vote == prevote(V, 1)


def test_a_lock_is_not_given_up_for_an_older_polka():
    _, vote = applies(locked(PROPOSING, 1, W), again(0))
    assert vote == prevote(NIL)


def test_the_locked_value_itself_needs_a_polka_as_recent_as_the_lock():
    """Line 29 without "or lockedValue = v"."""
    _, vote = applies(locked(PROPOSING, 1, V), again(0))
    assert vote == prevote(NIL)


def test_an_invalid_reproposal_is_prevoted_nil():
    _, vote = applies(PROPOSING, again(1, is_acceptable=False))
    assert vote == prevote(NIL)


def test_a_reproposal_of_unknown_validity_is_waited_for():
    assert next_transition(PROPOSING, again(1, is_acceptable=None)) is None


def test_nil_prevotes_never_carry_a_valid_round():
    for state, facts in (
        (locked(PROPOSING, 1, W), again(0)),
        (PROPOSING, again(1, is_acceptable=False)),
        (PROPOSING, fresh(is_acceptable=False)),
    ):
        assert applies(state, facts)[1].valid_round == -1


# --- Lines 34, 35: the prevote timeout ---------------------------------------------------------------------------


def test_a_quorum_of_any_prevotes_starts_the_prevote_timeout():
    after, action = applies(PREVOTED, GivenFacts(any_prevotes={2}))
    assert action == Schedule(TimeoutKind.PREVOTE, 2)
    assert after == replace(PREVOTED, prevote_timeout_scheduled=True)


def test_the_prevote_timeout_starts_once_a_round():
    assert next_transition(replace(PREVOTED, prevote_timeout_scheduled=True), GivenFacts(any_prevotes={2})) is None


@pytest.mark.parametrize("state", [PROPOSING, PRECOMMITTED])
def test_the_prevote_timeout_starts_in_step_prevote_only(state):
    assert next_transition(state, GivenFacts(any_prevotes={2})) is None


def test_prevotes_of_another_round_start_no_timeout():
    assert next_transition(PREVOTED, GivenFacts(any_prevotes={1, 3})) is None


# --- Lines 36 to 43: a polka for a value -------------------------------------------------------------------------


def test_a_polka_in_step_prevote_locks_and_precommits():
    after, vote = applies(PREVOTED, GivenFacts(polkas_of={2: [V]}))
    assert vote == precommit(V)
    assert after == replace(locked(PRECOMMITTED, 2, V))


def test_a_polka_moves_the_lock_from_an_older_value():
    after, vote = applies(locked(PREVOTED, 1, W), GivenFacts(polkas_of={2: [V]}))
    assert vote == precommit(V)
    assert (after.locked_round, after.locked_hash) == (2, V)


def test_a_polka_after_the_precommit_sets_the_valid_value_and_no_lock():
    """Line 42 outside of line 37: what this validator will propose, not what it stands by."""
    moved = next_transition(locked(PRECOMMITTED, 1, W), GivenFacts(polkas_of={2: [V]}))
    assert moved == (replace(locked(PRECOMMITTED, 1, W), valid_round=2, valid_hash=V), ())


def test_a_polka_is_taken_once_a_round():
    after, _ = applies(PREVOTED, GivenFacts(polkas_of={2: [V]}))
    assert next_transition(after, GivenFacts(polkas_of={2: [V]})) is None


def test_a_polka_for_a_value_not_known_to_be_valid_locks_nothing():
    assert next_transition(PREVOTED, GivenFacts(polkas_of={2: [V]}, valid={W})) is None
    assert next_transition(PRECOMMITTED, GivenFacts(polkas_of={2: [V]}, valid={W})) is None


def test_a_polka_before_the_prevote_is_waited_with():
    assert next_transition(PROPOSING, GivenFacts(polkas_of={2: [V]})) is None


@pytest.mark.parametrize("round_", [1, 3])
def test_a_polka_of_another_round_locks_nothing(round_):
    assert next_transition(PREVOTED, GivenFacts(polkas_of={round_: [V]})) is None


# --- Lines 44 to 46: a polka for nil -----------------------------------------------------------------------------


def test_a_nil_polka_in_step_prevote_precommits_nil():
    assert applies(PREVOTED, GivenFacts(polkas_of={2: [NIL]})) == (PRECOMMITTED, precommit(NIL))


def test_a_nil_polka_does_not_unlock():
    before = locked(PREVOTED, 1, V)
    after, vote = applies(before, GivenFacts(polkas_of={2: [NIL]}))
    assert vote == precommit(NIL)
    assert after == replace(before, step=Step.PRECOMMIT)


@pytest.mark.parametrize("state", [PROPOSING, PRECOMMITTED])
def test_a_nil_polka_says_nothing_outside_of_step_prevote(state):
    assert next_transition(state, GivenFacts(polkas_of={2: [NIL]})) is None


def test_a_nil_polka_of_another_round_says_nothing():
    assert next_transition(PREVOTED, GivenFacts(polkas_of={1: [NIL], 3: [NIL]})) is None


# --- Lines 47, 48: the precommit timeout -------------------------------------------------------------------------


@pytest.mark.parametrize("state", [PROPOSING, PREVOTED, PRECOMMITTED])
def test_a_quorum_of_any_precommits_starts_the_precommit_timeout_in_every_step(state):
    after, action = applies(state, GivenFacts(any_precommits={2}))
    assert action == Schedule(TimeoutKind.PRECOMMIT, 2)
    assert after == replace(state, precommit_timeout_scheduled=True)


def test_the_precommit_timeout_starts_once_a_round():
    state = replace(PRECOMMITTED, precommit_timeout_scheduled=True)
    assert next_transition(state, GivenFacts(any_precommits={2})) is None


def test_precommits_of_another_round_start_no_timeout():
    assert next_transition(PRECOMMITTED, GivenFacts(any_precommits={1, 3})) is None


# --- Lines 49 to 54: a decision ----------------------------------------------------------------------------------


@pytest.mark.parametrize("round_", [0, 2, 7])
@pytest.mark.parametrize("state", [PROPOSING, PREVOTED, PRECOMMITTED])
def test_a_commit_of_whatever_round_decides_in_every_step(state, round_):
    assert next_transition(state, GivenFacts(commit=(round_, V))) == (state, (Decide(round_, V),))


def test_a_commit_decides_also_against_a_lock():
    _, action = applies(locked(PREVOTED, 1, W), GivenFacts(commit=(0, V)))
    assert action == Decide(0, V)


def test_a_decision_comes_before_every_other_rule():
    facts = replace(fresh(), commit=(1, W), ahead=5, any_precommits={2}, polkas_of={2: [V]})
    assert applies(PROPOSING, facts)[1] == Decide(1, W)


def test_without_a_commit_nothing_is_decided():
    assert next_transition(PRECOMMITTED, NOTHING) is None


# --- Lines 55, 56: skipping rounds -------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [PROPOSING, PREVOTED, PRECOMMITTED])
def test_f_plus_1_messages_of_a_higher_round_start_it(state):
    moved = next_transition(locked(state, 1), GivenFacts(ahead=7))
    assert moved == (locked(RoundState(7, Step.PROPOSE), 1), (Schedule(TimeoutKind.PROPOSE, 7),))


def test_no_round_ahead_starts_none():
    assert next_transition(PROPOSING, GivenFacts(ahead=2)) is None


def test_a_proposer_that_skips_into_its_round_proposes():
    _, actions = next_transition(PREVOTED, GivenFacts(ahead=7, proposes_in={7}))
    assert actions == (Schedule(TimeoutKind.PROPOSE, 7), GetValue(7))


# --- Lines 57 to 67: timeouts ------------------------------------------------------------------------------------


def test_the_propose_timeout_prevotes_nil():
    assert on_timeout(PROPOSING, TimeoutKind.PROPOSE, 2, NOTHING) == (PREVOTED, (prevote(NIL),))


def test_the_propose_timeout_of_a_locked_validator_prevotes_nil_and_leaves_the_lock():
    before = locked(PROPOSING, 1)
    assert on_timeout(before, TimeoutKind.PROPOSE, 2, NOTHING) == (locked(PREVOTED, 1), (prevote(NIL),))


@pytest.mark.parametrize("state", [PREVOTED, PRECOMMITTED])
def test_the_propose_timeout_is_of_no_interest_after_the_prevote(state):
    assert on_timeout(state, TimeoutKind.PROPOSE, 2, NOTHING) is None


def test_the_prevote_timeout_precommits_nil_and_leaves_the_lock():
    before = locked(PREVOTED, 1)
    assert on_timeout(before, TimeoutKind.PREVOTE, 2, NOTHING) == (locked(PRECOMMITTED, 1), (precommit(NIL),))


@pytest.mark.parametrize("state", [PROPOSING, PRECOMMITTED])
def test_the_prevote_timeout_is_of_interest_in_step_prevote_only(state):
    assert on_timeout(state, TimeoutKind.PREVOTE, 2, NOTHING) is None


@pytest.mark.parametrize("state", [PROPOSING, PREVOTED, PRECOMMITTED])
def test_the_precommit_timeout_starts_the_next_round_in_every_step(state):
    moved = on_timeout(locked(state, 1), TimeoutKind.PRECOMMIT, 2, NOTHING)
    assert moved == (locked(RoundState(3, Step.PROPOSE), 1), (Schedule(TimeoutKind.PROPOSE, 3),))


@pytest.mark.parametrize("kind", TimeoutKind)
@pytest.mark.parametrize("round_", [0, 1, 3])
@pytest.mark.parametrize("state", [PROPOSING, PREVOTED, PRECOMMITTED])
def test_timeouts_of_other_rounds_are_ignored(state, round_, kind):
    assert on_timeout(state, kind, round_, NOTHING) is None


@pytest.mark.parametrize("kind", TimeoutKind)
def test_timeouts_before_the_start_are_ignored(kind):
    assert on_timeout(RoundState(), kind, 0, NOTHING) is None


def test_the_last_round_does_not_end():
    """Nobody could sign in the next one; only more than f byzantine validators bring anybody there."""
    last = replace(PRECOMMITTED, round_=MAX_ROUND)
    assert on_timeout(last, TimeoutKind.PRECOMMIT, MAX_ROUND, NOTHING) is None
    moved = on_timeout(replace(last, round_=MAX_ROUND - 1), TimeoutKind.PRECOMMIT, MAX_ROUND - 1, NOTHING)
    assert moved[0].round_ == MAX_ROUND


@pytest.mark.parametrize("step", [Step.PROPOSE, Step.PREVOTE, Step.PRECOMMIT])
def test_a_missed_polka_raises_the_valid_value_and_neither_lock_nor_step(step):
    state = RoundState(round_=4, step=step, locked_round=1, locked_hash=W, valid_round=1, valid_hash=W)
    moved = next_transition(state, GivenFacts(missed=(2, V)))
    assert moved == (replace(state, valid_round=2, valid_hash=V), ())


def test_a_missed_polka_below_the_valid_round_changes_nothing():
    state = RoundState(round_=4, step=Step.PROPOSE, valid_round=2, valid_hash=W)
    assert next_transition(state, GivenFacts(missed=(1, V))) is None


def test_a_missed_polka_counts_before_the_round_is_skipped():
    """So that whoever proposes in the round ahead proposes what has the polka."""
    state = RoundState(round_=4, step=Step.PROPOSE)
    facts = GivenFacts(missed=(2, V), ahead=7, proposes_in={7})
    state, _ = next_transition(state, facts)
    _, actions = next_transition(state, facts)
    assert Propose(7, V, 2) in actions
