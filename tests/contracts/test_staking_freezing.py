"""A validator whose key signed a header that the chain lacks: frozen with its stake, then judged."""

from __future__ import annotations

import pytest

from astralink_node.crypto.keccak import keccak256
from astralink_node.types import Address
from contracts.places import GOVERNANCE
from tests.support.staking_worlds import COIN, PARAMETERS, Call, StakingWorld, account

A, B, C, HOLDER = (account(number) for number in range(1, 5))
UNBONDING_S = PARAMETERS[2] // 1000
EVIDENCE = keccak256(b"a header")


@pytest.fixture
def world() -> StakingWorld:
    """HOLDER holds 10 at A and 10 at B, and 1 of A is on its way out."""
    world = StakingWorld([(A, 100 * COIN), (B, 300 * COIN)], rich=[C, HOLDER])
    for operator in (A, B):
        assert world.call(HOLDER, "delegate", operator, value=10 * COIN).succeeded
    assert world.call(HOLDER, "undelegate", A, COIN).succeeded
    return world


def freeze(world: StakingWorld, operator: bytes = A, power: int = 100, epoch: int = 0) -> Call:
    return world.system("freeze", operator, power, epoch, EVIDENCE)


def judge(world: StakingWorld, *, guilty: bool, operator: bytes = A) -> Call:
    return world.call(Address(GOVERNANCE), "judge", operator, guilty)


def test_frozen_validator_neither_earns_nor_stands_for_election(world: StakingWorld) -> None:
    world.begin_block(A)
    frozen = freeze(world)
    expected = {"operator": A, "power": 100, "epoch": 0, "evidence_hash": EVIDENCE}
    assert frozen.events == (("Frozen", expected),)
    view = world.view("validator", A)
    assert (view["jailed"], view["active"], view["tombstoned"], view["tokens"]) == (True, False, False, 109 * COIN)
    assert world.view("is_frozen", A)
    assert not world.view("is_frozen", B)
    assert world.view("freeze_of", A) == (100, 0, EVIDENCE)
    assert world.view("freeze_of", B) == (0, 0, bytes(32))
    assert [candidate["operator"] for candidate in world.view("candidates")] == [B]
    pending = world.view("delegation", A, A)[2]
    assert pending > 0
    world.begin_block(A)
    world.elect([(A, 100), (B, 310)])
    world.begin_epoch()
    world.begin_block(A)
    assert world.view("delegation", A, A)[2] == pending
    assert not world.view("validator", A)["active"], "elected before, and all the same"
    assert world.call(A, "claim", A).values == (pending,), "what was earned is paid"


@pytest.mark.parametrize(
    ("sender", "function", "arguments", "value"),
    [
        (HOLDER, "undelegate", (A, COIN), 0),
        (HOLDER, "redelegate", (A, B, COIN), 0),
        (HOLDER, "redelegate", (B, A, COIN), 0),
        (HOLDER, "delegate", (A,), COIN),
        (HOLDER, "withdraw", (0,), 0),
        (A, "unjail", (), 0),
    ],
)
def test_stake_stays_as_it_is_until_the_judgement(
    world: StakingWorld, sender: Address, function: str, arguments: tuple[object, ...], value: int
) -> None:
    freeze(world)
    world.advance(1, UNBONDING_S)
    assert world.call(sender, function, *arguments, value=value).reason == "staking: frozen"
    assert judge(world, guilty=False).succeeded
    assert world.call(sender, function, *arguments, value=value).succeeded


def test_not_guilty_is_not_frozen_again_for_that_epoch(world: StakingWorld) -> None:
    freeze(world)
    judged = judge(world, guilty=False)
    assert judged.events == (("Judged", {"operator": A, "guilty": False, "evidence_hash": EVIDENCE}),)
    assert not world.view("is_frozen", A)
    assert world.view("is_acquitted", A, 0)
    assert not world.view("is_acquitted", A, 1)
    assert not world.view("is_acquitted", B, 0)
    assert world.call(A, "unjail").succeeded
    assert freeze(world).reason == "staking: acquitted"
    assert freeze(world, epoch=1).succeeded
    assert world.view("freeze_of", A) == (100, 1, EVIDENCE)


def test_jail_for_downtime_outlasts_an_acquittal(world: StakingWorld) -> None:
    world.jail(A)
    freeze(world)
    judge(world, guilty=False)
    assert world.call(A, "unjail").reason == "staking: jailed for longer"
    world.advance(1, PARAMETERS[7] // 1000)
    assert world.call(A, "unjail").succeeded


def test_guilty_is_slashed_as_for_double_signing(world: StakingWorld) -> None:
    freeze(world)
    world.begin_epoch()
    judged = judge(world, guilty=True)
    cut = 100 * COIN * PARAMETERS[9] // 10_000
    assert judged.events == (
        ("Judged", {"operator": A, "guilty": True, "evidence_hash": EVIDENCE}),
        ("Slashed", {"operator": A, "kind": 1, "epoch": 0, "bps": PARAMETERS[9], "cut": cut}),
        ("Tombstoned", {"operator": A, "evidence_hash": EVIDENCE}),
    )
    view = world.view("validator", A)
    assert (view["tokens"], view["tombstoned"], view["jailed"]) == (109 * COIN - cut, True, True)
    assert not world.view("is_frozen", A)
    assert freeze(world, epoch=1).reason == "staking: tombstoned"
    assert world.call(A, "unjail").reason == "staking: tombstoned"
    world.advance(1, UNBONDING_S)
    assert world.call(HOLDER, "withdraw", 0).values == (COIN - COIN * PARAMETERS[9] // 10_000,)
    world.begin_block(B)
    bonded, unbonding, owed = world.view("totals")[:3]
    assert world.balance() == bonded + unbonding + owed


def test_moved_stake_stays_liable_while_its_source_is_frozen(world: StakingWorld) -> None:
    assert world.call(HOLDER, "redelegate", A, C, COIN).reason == "staking: no such validator"
    assert world.create(C).succeeded
    assert world.call(HOLDER, "redelegate", A, C, COIN).succeeded
    freeze(world)
    world.advance(1, UNBONDING_S)
    assert world.call(HOLDER, "undelegate", C, COIN).reason == "staking: shares are liable"
    judge(world, guilty=True)
    assert world.call(HOLDER, "poke", HOLDER, C).succeeded
    assert world.view("delegation", HOLDER, C)[0] == COIN - COIN * PARAMETERS[9] // 10_000
    assert world.view("delegation", HOLDER, C)[3]["source"] == bytes(20), "it is over"


def test_double_signing_is_punished_beside_a_freeze(world: StakingWorld) -> None:
    freeze(world)
    assert world.slash(A).succeeded
    assert world.view("is_frozen", A)
    assert judge(world, guilty=False).succeeded
    assert world.call(A, "unjail").reason == "staking: tombstoned"


def test_only_the_protocol_freezes_and_only_governance_judges(world: StakingWorld) -> None:
    assert world.call(A, "freeze", B, 300, 0, EVIDENCE).reason == "staking: only the protocol"
    assert freeze(world, C).reason == "staking: no such validator"
    assert judge(world, guilty=True).reason == "staking: not frozen"
    freeze(world)
    assert freeze(world).reason == "staking: frozen"
    assert world.call(A, "judge", A, False).reason == "staking: only governance"
    assert world.system("judge", A, False).reason == "staking: only governance"
