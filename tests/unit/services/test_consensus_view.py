"""What an operator sees of consensus: the step, the lock, and who voted for what, however many rounds votes name."""

from __future__ import annotations

from dataclasses import dataclass, field

from astralink_node.gateway.link_messages import MAX_ROUNDS_SHOWN, ConsensusState
from astralink_node.services.consensus_view import consensus_state
from astralink_node.services.presence import OVERDUE_MS, LastVotes
from consensus.height_machine import HeightState
from consensus.messages import NIL
from consensus.params import MAX_ROUND
from consensus.round_machine import TimeoutKind
from tests.support.height_machines import (
    HEIGHT,
    PRECOMMIT,
    PREVOTE,
    Machine,
    V,
    W,
    context_of,
    locked_on_v,
    prevote,
    started,
    to_round,
)


@dataclass
class Run:
    """What the view asks of a height's run."""

    state: HeightState
    step_since_ms: int = 123


@dataclass
class Driver:
    """What the view asks of a driver."""

    run_of_height: Run | None
    own_index: int | None = 0
    last_votes: LastVotes = field(default_factory=LastVotes)


def view_of(machine: Machine, *, waited_ms: int = 0) -> ConsensusState:
    run = Run(machine.state)
    found = consensus_state(Driver(run), run.step_since_ms + waited_ms)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_there_is_nothing_to_see_while_the_node_recovers() -> None:
    assert consensus_state(Driver(None), 0) is None  # type: ignore[arg-type]


def test_a_height_that_has_not_begun() -> None:
    view = view_of(Machine(context_of(own_index=None)))
    assert (view.height, view.round_, view.step) == (HEIGHT, 0, "new_height")
    assert (view.locked_round, view.locked_hash, view.valid_round, view.valid_hash) == (-1, b"", -1, b"")
    assert view.total_power == 4
    assert view.waiting_since_ms == 123
    assert not view.is_signing
    assert [shown.round_ for shown in view.rounds] == [0]


def test_steps_and_the_lock() -> None:
    assert view_of(started()).step == "propose"
    locked = view_of(locked_on_v())
    assert locked.step == "precommit"
    assert (locked.locked_round, locked.locked_hash) == (locked.valid_round, locked.valid_hash) == (0, V)
    assert locked.is_signing


def test_a_decision_is_shown_as_commit() -> None:
    machine = locked_on_v()
    machine.precommits((0, 1), 0, V)
    assert machine.decided == V
    assert view_of(machine).step == "commit"


def test_votes_are_shown_by_block_with_their_power_and_voters() -> None:
    machine = started((1, 2, 3, 4))
    machine.prevotes((0, 2), 0, V)
    machine.votes(prevote(1, 0, NIL))
    machine.precommits([3], 0, W)
    (shown,) = view_of(machine).rounds
    assert shown.proposer_index == machine.state.context.proposers.at(0)
    assert [(vote.block_hash, vote.power, vote.voters) for vote in shown.prevotes] == [
        (NIL, 2, b"\x02"),
        (V, 4, b"\x05"),
    ]
    assert [(vote.block_hash, vote.power, vote.voters) for vote in shown.precommits] == [(W, 4, b"\x08")]


def test_prevotes_for_a_block_count_together_whatever_they_rest_on() -> None:
    machine = started()
    to_round(machine, 2)
    machine.votes(prevote(0, 2, V, 0), prevote(1, 2, V, 1), prevote(2, 2, V))
    (votes,) = next(shown for shown in view_of(machine).rounds if shown.round_ == 2).prevotes
    assert (votes.block_hash, votes.power) == (V, 3)


def test_of_many_rounds_those_about_the_present_one_are_shown() -> None:
    machine = started()
    for round_ in range(1, 40):
        to_round(machine, round_)
    assert [shown.round_ for shown in view_of(machine).rounds] == list(range(40 - MAX_ROUNDS_SHOWN, 40))


def test_votes_of_one_validator_for_rounds_far_ahead_neither_hide_the_present_one_nor_cost_anything() -> None:
    """Who proposes in round 65,535 takes as many steps, each over all members: seconds of a node that stands still."""
    machine = started()
    machine.votes(*(prevote(1, round_, NIL) for round_ in range(MAX_ROUND - 20, MAX_ROUND + 1)))
    assert [shown.round_ for shown in view_of(machine).rounds] == [0]
    assert len(machine.state.context.proposers._winners) < 100
    machine.votes(*(prevote(2, round_, NIL) for round_ in range(1, 17)))
    rounds = [shown.round_ for shown in view_of(machine).rounds]
    assert rounds[0] == 0
    assert len(rounds) == MAX_ROUNDS_SHOWN


def test_a_round_without_a_vote_is_shown_when_it_is_the_present_one() -> None:
    machine = started()
    machine.votes(prevote(0, 1, NIL))
    assert [(shown.round_, len(shown.prevotes)) for shown in view_of(machine).rounds] == [(0, 0), (1, 1)]
    assert machine.state.tally.ballots(0, PREVOTE).votes == machine.state.tally.ballots(0, PRECOMMIT).votes == {}


def test_members_are_shown_with_when_they_voted_last_and_whether_they_are_away() -> None:
    machine = started()
    machine.elapse(TimeoutKind.PROPOSE, 0)
    machine.votes(prevote(0, 0, NIL), prevote(2, 0, NIL))
    assert [(member.last_height, member.is_away) for member in view_of(machine).members] == [
        (HEIGHT, False),
        (-1, False),
        (HEIGHT, False),
        (-1, False),
    ]
    late = view_of(machine, waited_ms=OVERDUE_MS)
    assert late.step == "prevote"
    assert [member.is_away for member in late.members] == [False, True, False, True]
