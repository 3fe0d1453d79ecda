"""Parameters change, and who is frozen is judged, by more than two thirds of the power that votes."""

from __future__ import annotations

import pytest

from contracts.places import GOVERNANCE
from tests.support.staking_worlds import COIN, PARAMETERS, Call, StakingWorld, account

A, B, C, OUTSIDER = (account(number) for number in range(1, 5))
WEEK = 604_800


@pytest.fixture
def world() -> StakingWorld:
    """Powers 100, 200, 150: two thirds of 450 are 300."""
    return StakingWorld([(A, 100 * COIN), (B, 200 * COIN), (C, 150 * COIN)], rich=[OUTSIDER])


def act(world: StakingWorld, sender: bytes, function: str, *arguments: object) -> Call:
    return world.call(sender, function, *arguments, at=GOVERNANCE)  # type: ignore[arg-type]


def test_more_than_two_thirds_change_a_parameter(world: StakingWorld) -> None:
    proposed = act(world, B, "propose", 0, 50 * COIN)
    assert proposed.values == (0,)
    deadline = world.time_ms // 1000 + WEEK
    assert proposed.events == (
        ("Proposed", {"proposal": 0, "operator": B, "id": 0, "chosen": 50 * COIN, "deadline": deadline}),
        ("Voted", {"proposal": 0, "operator": B}),
    )
    assert act(world, OUTSIDER, "execute", 0).reason == "governance: not enough power"
    assert act(world, A, "vote", 0).events == (("Voted", {"proposal": 0, "operator": A}),)
    assert act(world, OUTSIDER, "execute", 0).reason == "governance: not enough power", "two thirds are not more"
    assert act(world, C, "vote", 0).succeeded
    executed = act(world, OUTSIDER, "execute", 0)
    done = {"proposal": 0, "id": 0, "chosen": 50 * COIN, "yes_power": 450, "total_power": 450}
    changed = {"id": 0, "before": PARAMETERS[0], "after": 50 * COIN}
    assert executed.events == (("Executed", done), ("ParameterChanged", changed))
    assert world.view("parameters")[0] == 50 * COIN
    assert act(world, OUTSIDER, "execute", 0).reason == "governance: executed already"
    assert act(world, A, "vote", 0).reason == "governance: executed already"


def test_power_is_that_of_the_set_at_execution(world: StakingWorld) -> None:
    act(world, A, "propose", 0, 50 * COIN)
    assert act(world, A, "execute", 0).reason == "governance: not enough power"
    world.elect([(A, 100), (B, 20)])
    world.begin_epoch()
    assert act(world, OUTSIDER, "execute", 0).succeeded


def test_vote_of_one_that_left_the_set_does_not_count(world: StakingWorld) -> None:
    act(world, B, "propose", 0, 50 * COIN)
    act(world, C, "vote", 0)
    _, yes, total = act(world, OUTSIDER, "proposal", 0).values
    assert (yes, total) == (350, 450)
    world.elect([(A, 100), (C, 150)])
    world.begin_epoch()
    assert act(world, OUTSIDER, "proposal", 0).values[1:] == (150, 250)
    assert act(world, OUTSIDER, "execute", 0).reason == "governance: not enough power"
    assert act(world, B, "vote", 0).reason == "governance: not in the set"


def test_only_members_propose_and_vote_and_each_once(world: StakingWorld) -> None:
    assert act(world, OUTSIDER, "propose", 0, COIN).reason == "governance: not in the set"
    act(world, A, "propose", 0, COIN)
    assert act(world, OUTSIDER, "vote", 0).reason == "governance: not in the set"
    assert act(world, A, "vote", 0).reason == "governance: voted already"
    assert act(world, OUTSIDER, "has_voted", 0, A).values == (True,)
    assert act(world, OUTSIDER, "has_voted", 0, B).values == (False,)


def test_proposal_ends_after_a_week(world: StakingWorld) -> None:
    for _ in range(2):
        act(world, A, "propose", 0, 50 * COIN)
    for number in range(2):
        act(world, B, "vote", number)
        act(world, C, "vote", number)
    world.advance(1, WEEK - 1)
    assert act(world, OUTSIDER, "execute", 0).succeeded
    world.advance(1, 1)
    assert act(world, OUTSIDER, "execute", 1).reason == "governance: too late"
    assert act(world, A, "vote", 1).reason == "governance: too late"


@pytest.mark.parametrize("function", ["vote", "execute", "proposal"])
def test_proposal_that_was_never_made(world: StakingWorld, function: str) -> None:
    assert act(world, A, function, 0).reason == "governance: no such proposal"


def test_parameter_that_does_not_exist_is_not_proposed(world: StakingWorld) -> None:
    assert act(world, A, "propose", 17, 1).reason == "governance: no such parameter"


@pytest.mark.parametrize(("number", "value", "reason"), [(1, 129, "outside its bounds"), (2, 5, "fixed")])
def test_change_that_staking_refuses_is_not_executed(world: StakingWorld, number: int, value: int, reason: str) -> None:
    act(world, A, "propose", number, value)
    act(world, B, "vote", 0)
    act(world, C, "vote", 0)
    assert act(world, OUTSIDER, "execute", 0).reason == f"staking: {reason}"
    assert not act(world, OUTSIDER, "proposal", 0).values[0]["executed"]


def test_proposals_are_numbered(world: StakingWorld) -> None:
    assert [act(world, A, "propose", 0, COIN).values for _ in range(2)] == [(0,), (1,)]
    assert act(world, OUTSIDER, "proposal_count").values == (2,)
    proposal = act(world, OUTSIDER, "proposal", 1).values[0]
    assert (proposal["id"], proposal["chosen"], proposal["proposer"]) == (0, COIN, A)


# --- Judgements ------------------------------------------------------------------------------------------------

EVIDENCE = b"\x0e" * 32
JUDGEMENT = 2**256 - 1


@pytest.mark.parametrize("guilty", [True, False])
def test_more_than_two_thirds_judge_who_is_frozen(world: StakingWorld, *, guilty: bool) -> None:
    world.system("freeze", A, 100, 0, EVIDENCE)
    proposed = act(world, B, "propose_judgement", A, guilty)
    assert proposed.values == (0,)
    asked = {"proposal": 0, "operator": B, "accused": A, "guilty": guilty, "evidence_hash": EVIDENCE}
    asked["deadline"] = world.time_ms // 1000 + WEEK
    assert proposed.events == (("JudgementProposed", asked), ("Voted", {"proposal": 0, "operator": B}))
    stands = act(world, OUTSIDER, "proposal", 0).values[0]
    assert (stands["id"], stands["chosen"], stands["accused"]) == (JUDGEMENT, int(guilty), A)
    assert stands["evidence_hash"] == EVIDENCE
    assert act(world, OUTSIDER, "execute", 0).reason == "governance: not enough power"
    act(world, C, "vote", 0)
    executed = act(world, OUTSIDER, "execute", 0)
    done = {"proposal": 0, "accused": A, "guilty": guilty, "yes_power": 350, "total_power": 450}
    assert executed.events[:2] == (
        ("JudgementExecuted", done),
        ("Judged", {"operator": A, "guilty": guilty, "evidence_hash": EVIDENCE}),
    )
    assert not world.view("is_frozen", A)
    assert world.view("validator", A)["tombstoned"] == guilty
    assert act(world, OUTSIDER, "execute", 0).reason == "governance: executed already"


def test_only_who_is_frozen_is_judged_and_only_members_ask(world: StakingWorld) -> None:
    assert act(world, B, "propose_judgement", A, True).reason == "governance: not frozen"
    world.system("freeze", A, 100, 0, EVIDENCE)
    assert act(world, OUTSIDER, "propose_judgement", A, True).reason == "governance: not in the set"
    assert act(world, B, "propose_judgement", A, True).values == (0,)
    assert act(world, B, "propose", 0, COIN).values == (1,), "numbered together"
    assert act(world, OUTSIDER, "proposal", 1).values[0]["accused"] == bytes(20)


def test_judgement_is_of_the_freeze_that_stood_when_it_was_asked_for(world: StakingWorld) -> None:
    world.system("freeze", A, 100, 0, EVIDENCE)
    for number in range(2):
        act(world, B, "propose_judgement", A, False)
        act(world, C, "vote", number)
    assert act(world, OUTSIDER, "execute", 0).succeeded
    assert act(world, OUTSIDER, "execute", 1).reason == "governance: judged already"
    world.system("freeze", A, 100, 1, b"\x0f" * 32)
    assert act(world, OUTSIDER, "execute", 1).reason == "governance: judged already"
    assert world.view("is_frozen", A)
