"""Why no block comes, in one line, for every step and for what can be missing in it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from astralink_node.gateway.link_messages import (
    NO_NETWORK,
    ConsensusState,
    Member,
    NetworkView,
    RoundVotes,
    SyncProgress,
)
from astralink_node.gateway.stall import MAX_NAMED, explain, is_idle, missing_validators, stall_limit_ms
from consensus.messages import NIL
from tests.support.networks import BLOCK, OTHER, network_of, votes_of, waiting

NOW_MS = 1_012_345


def line(state: ConsensusState | None, network: NetworkView, now_ms: int = NOW_MS) -> str:
    found = explain(state, network, now_ms)
    assert "\n" not in found
    return found


def test_silent_validators_are_named_with_whether_they_are_connected() -> None:
    state = waiting("prevote", RoundVotes(3, 1, (votes_of(BLOCK, 0, 2),), ()))
    assert line(state, network_of([2, 3])) == (
        "height 812 round 3 waits in prevote since 12 s: 2 of 4 validators silent "
        "(#1 0xa1a1a1a1.. not connected, #3 0xa3a3a3a3.. connected, no vote)"
    )
    assert [(each.index, each.is_connected) for each in missing_validators(state, network_of([2, 3]))] == [
        (1, False),
        (3, True),
    ]


def test_in_a_steps_first_moment_nobody_is_called_silent() -> None:
    state = waiting("prevote", RoundVotes(3, 1, (votes_of(BLOCK, 0, 2),), ()))
    since = state.waiting_since_ms
    assert (
        line(state, network_of([1, 2, 3]), since + 999)
        == "height 812 round 3 waits in prevote since 0 s: votes come in"
    )
    assert "2 of 4 validators silent" in line(state, network_of([1, 2, 3]), since + 1_000)
    split = waiting("prevote", RoundVotes(3, 1, (votes_of(BLOCK, 0, 2), votes_of(NIL, 1)), ()))
    assert "the votes are split" in line(split, network_of([1, 2, 3]), since)


def test_precommits_are_what_the_precommit_step_waits_for() -> None:
    votes = RoundVotes(3, 1, (votes_of(BLOCK, 0, 1, 2),), (votes_of(BLOCK, 0),))
    assert line(waiting("precommit", votes), network_of([1, 2, 3])) == (
        "height 812 round 3 waits in precommit since 12 s: 3 of 4 validators silent "
        "(#1 0xa1a1a1a1.. connected, last vote prevote of round 3, #2 0xa2a2a2a2.. connected, last vote prevote of "
        "round 3, #3 0xa3a3a3a3.. connected, no vote)"
    )


def test_where_a_silent_validator_stood_last_is_said_be_it_behind_or_ahead() -> None:
    rounds = (RoundVotes(1, 0, (votes_of(BLOCK, 1),), ()), RoundVotes(5, 0, (), (votes_of(NIL, 3),)))
    shown = line(waiting("prevote", *rounds), network_of([1, 3]))
    assert "#1 0xa1a1a1a1.. connected, last vote prevote of round 1" in shown
    assert "#3 0xa3a3a3a3.. connected, last vote precommit of round 5" in shown


def test_votes_of_other_rounds_and_of_the_other_type_do_not_count() -> None:
    rounds = (RoundVotes(2, 0, (votes_of(BLOCK, 0, 1, 2, 3),), ()), RoundVotes(3, 1, (), (votes_of(BLOCK, 1),)))
    assert len(missing_validators(waiting("prevote", *rounds), NO_NETWORK)) == 4


def test_this_node_is_called_so() -> None:
    state = waiting("prevote", RoundVotes(3, 1, (votes_of(BLOCK, 1, 2),), ()), is_signing=False)
    shown = line(state, network_of([1, 2, 3]))
    assert "#0 0xa0a0a0a0.. this node, no vote" in shown
    assert shown.endswith("; this validator does not sign yet")


def test_what_is_not_known_is_not_claimed() -> None:
    state = waiting("prevote", RoundVotes(3, 1, (votes_of(BLOCK, 0, 2, 3),), ()))
    assert "connected" not in line(state, NO_NETWORK)
    nobody_mapped = network_of([2, 3], validators=())
    assert "#1 0xa1a1a1a1.. of a node not known, no vote" in line(
        waiting("prevote", RoundVotes(3, 1, (votes_of(BLOCK, 0, 2),), ())), nobody_mapped
    )


def test_split_votes_are_shown_by_share() -> None:
    votes = RoundVotes(3, 1, (votes_of(NIL, 2), votes_of(BLOCK, 0, 1)), ())
    assert line(waiting("prevote", votes), network_of([1, 2])) == (
        "height 812 round 3 waits in prevote since 12 s: the votes are split (0x0b0b0b0b.. 50 %, nil 25 %); "
        "1 of 4 validators silent (#3 0xa3a3a3a3.. not connected)"
    )
    everybody = RoundVotes(3, 1, (votes_of(NIL, 2, 3), votes_of(BLOCK, 0), votes_of(OTHER, 1)), ())
    assert line(waiting("prevote", everybody), network_of([1, 2, 3])).endswith(
        "the votes are split (nil 50 %, 0x0b0b0b0b.. 25 %, 0x0c0c0c0c.. 25 %)"
    )


def test_a_quorum_for_a_block_that_is_not_here_is_told() -> None:
    votes = RoundVotes(3, 1, (votes_of(BLOCK, 1, 2, 3),), ())
    assert line(waiting("prevote", votes), network_of([1, 2, 3])).endswith(
        "two thirds voted for 0x0b0b0b0b.., whose block is not here or not executed yet"
    )
    nil = RoundVotes(3, 1, (), (votes_of(NIL, 1, 2, 3),))
    assert line(waiting("precommit", nil), network_of([1, 2, 3])).endswith("voted for nil: the next step is due")


def test_exactly_two_thirds_are_no_quorum() -> None:
    three = tuple(Member(bytes([index]) * 48, bytes(20), 1) for index in range(3))
    votes = RoundVotes(3, 1, (replace(votes_of(BLOCK, 0, 1), power=2),), ())
    state = waiting("prevote", votes, members=three, total_power=3)
    assert "1 of 3 validators silent" in line(state, NO_NETWORK)


def test_the_proposer_is_named_as_long_as_its_proposal_is_not_here() -> None:
    assert line(waiting("propose"), network_of([2, 3])).endswith(
        "waits in propose since 12 s: no proposal of #1 0xa1a1a1a1.. not connected"
    )
    assert [each.index for each in missing_validators(waiting("propose"), network_of([]))] == [1]
    named = waiting("propose", proposed_hash=BLOCK)
    assert line(named, network_of([1, 2, 3])).endswith(
        "block 0x0b0b0b0b.. of #1 is proposed, but not here or not executed yet"
    )
    checked = waiting("propose", proposed_hash=BLOCK, is_proposal_checked=True)
    assert line(checked, network_of([1, 2, 3])).endswith("is here, but not the polka that its proposal rests on")
    assert missing_validators(checked, network_of([])) == ()


def test_steps_in_which_nobody_is_missing() -> None:
    assert line(waiting("new_height"), network_of([1, 2])) == "height 812 waits for its turn since 12 s"
    assert "is decided and waits since 12 s to be committed" in line(waiting("commit"), network_of([1, 2]))
    assert missing_validators(waiting("new_height"), network_of([])) == ()
    assert missing_validators(waiting("commit"), network_of([])) == ()


def test_a_node_without_peers_or_behind_them_says_so() -> None:
    assert "; no peer is connected" in line(waiting("new_height"), network_of([]))
    catching_up = network_of([1, 2], sync=SyncProgress(10, 812, 5000))
    assert line(waiting("new_height"), catching_up).endswith("; this node catches up: 812 of 5000")
    assert line(None, NO_NETWORK) == "this node recovers: consensus has not begun"


def test_too_little_power_in_reach_is_told_if_everybodys_node_is_known() -> None:
    state = waiting("new_height")
    assert line(state, network_of([1])).endswith("; this node is connected to 50 % of the power alone")
    assert "power" not in line(state, network_of([1, 2]))
    assert "power" not in line(state, network_of([1], validators=network_of([]).validators[:2]))
    assert "power" not in line(waiting("new_height", own_index=-1), network_of([1]))


def test_a_lone_validator_needs_no_peer() -> None:
    alone = waiting("new_height", members=waiting("propose").members[:1], total_power=32)
    assert line(alone, network_of([])) == "height 812 waits for its turn since 12 s"


def test_the_line_stays_short_however_many_are_missing() -> None:
    many = tuple(Member(index.to_bytes(48, "big"), bytes(20), 1) for index in range(512))
    state = waiting("prevote", RoundVotes(3, 1, (), ()), members=many, total_power=512)
    shown = line(state, network_of([]))
    assert f"and {512 - MAX_NAMED} more)" in shown
    assert len(shown) < 700


@pytest.mark.parametrize(
    ("waited_ms", "shown"),
    [(-5, "0 s"), (999, "0 s"), (119_999, "119 s"), (120_000, "2 min"), (7_199_999, "119 min"), (7_200_000, "2 h")],
)
def test_how_long_is_in_units_for_people(waited_ms: int, shown: str) -> None:
    assert f"since {shown}" in line(waiting("new_height"), NO_NETWORK, 1_000_000 + waited_ms)


def test_limit_grows_with_the_block_interval() -> None:
    assert [stall_limit_ms(interval) for interval in (0, 1000, 4000)] == [10_000, 10_000, 12_000]


@pytest.mark.parametrize(
    ("step", "pending", "interval_ms", "empty", "idle"),
    [
        ("new_height", 0, 0, True, True),
        ("new_height", 0, 1000, False, True),
        ("new_height", 0, 1000, True, False),
        ("new_height", 1, 0, True, False),
        ("prevote", 0, 0, True, False),
    ],
)
def test_a_chain_on_demand_is_idle_until_somebody_wants_a_block(
    step: str, pending: int, interval_ms: int, empty: bool, idle: bool
) -> None:
    found = is_idle(step, pending_transactions=pending, block_interval_ms=interval_ms, makes_empty_blocks=empty)
    assert found is idle
