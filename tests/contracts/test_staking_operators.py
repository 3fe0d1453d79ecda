"""What operators do: register, set their commission, leave jail, announce maintenance, rotate keys; and who is
displaced when the list is full."""

from __future__ import annotations

import pytest

from astralink_node.crypto import bls
from tests.support.staking_worlds import (
    COIN,
    PARAMETERS,
    StakingWorld,
    account,
    g2_eip2537,
    keys,
)

A, B, NEW, OTHER, HOLDER = (account(number) for number in range(1, 6))
DAY = 86_400


@pytest.fixture
def world() -> StakingWorld:
    return StakingWorld([(A, 100 * COIN), (B, 300 * COIN)], rich=[NEW, OTHER, HOLDER])


# --- Registering -----------------------------------------------------------------------------------------------


def test_new_validator_has_its_keys_and_its_stake(world: StakingWorld) -> None:
    world.advance(5)
    created = world.create(NEW, stake=40 * COIN, commission_bps=500, name="Näherei")
    own = keys(NEW)
    assert created.events == (
        (
            "Registered",
            {
                "operator": NEW,
                "voting_key": own.voting_key,
                "checkpoint_key_hash": own.checkpoint_key_hash,
                "commission_bps": 500,
                "name": "Näherei",
            },
        ),
        ("Delegated", {"delegator": NEW, "operator": NEW, "amount": 40 * COIN, "shares": 40 * COIN}),
    )
    assert world.view("validator", NEW) == {
        "operator": NEW,
        "voting_key": own.voting_key,
        "checkpoint_key_hash": own.checkpoint_key_hash,
        "name": "Näherei",
        "tokens": 40 * COIN,
        "shares": 40 * COIN,
        "commission_bps": 500,
        "commission_wei": 0,
        "active": False,
        "jailed": False,
        "tombstoned": False,
        "jailed_until": 0,
        "missed": 0,
        "power": 0,
        "registered_height": 5,
        "maintenance_from": 0,
        "maintenance_until": 0,
        "slash_count": 0,
    }
    assert world.view("operators") == (A, B, NEW)
    assert world.view("candidates")[2] == {
        "operator": NEW,
        "voting_key": own.voting_key,
        "checkpoint_key_hash": own.checkpoint_key_hash,
        "tokens": 40 * COIN,
    }


def test_new_validator_earns_once_it_is_elected(world: StakingWorld) -> None:
    world.create(NEW)
    world.begin_block(A)
    assert world.view("delegation", NEW, NEW)[2] == 0
    world.elect([(A, 100), (NEW, 40)])
    world.begin_epoch()
    assert world.view("validator", NEW)["active"]
    assert world.view("validator", NEW)["power"] == 40
    assert not world.view("validator", B)["active"]
    world.begin_block(A)
    assert world.view("delegation", NEW, NEW)[2] > 0


@pytest.mark.parametrize(
    ("stake", "commission", "reason"),
    [
        (PARAMETERS[0] - 1, 0, "staking: below the least stake"),
        (40 * COIN, 10_001, "staking: commission above all"),
    ],
)
def test_registering_is_refused(world: StakingWorld, stake: int, commission: int, reason: str) -> None:
    assert world.create(NEW, stake=stake, commission_bps=commission).reason == reason


def test_least_stake_and_all_of_the_commission_are_enough(world: StakingWorld) -> None:
    assert world.create(NEW, stake=PARAMETERS[0], commission_bps=10_000).succeeded


def test_operator_registers_once(world: StakingWorld) -> None:
    assert world.create(A).reason == "staking: registered already"


def test_keys_are_registered_at_most_once(world: StakingWorld) -> None:
    assert world.create(NEW).succeeded
    first, other = keys(NEW), keys(OTHER)

    def register(voting: object, checkpoint: object) -> str | None:
        return world.call(
            OTHER,
            "create_validator",
            voting.voting_point,  # type: ignore[attr-defined]
            voting.possession,  # type: ignore[attr-defined]
            checkpoint.checkpoint_key,  # type: ignore[attr-defined]
            checkpoint.checkpoint_possession,  # type: ignore[attr-defined]
            0,
            "",
            value=40 * COIN,
        ).reason

    assert register(first, other) == "staking: key used before"
    assert register(other, first) == "keys: checkpoint key unproven"
    assert register(other, other) is None


def test_name_of_more_than_64_bytes_is_refused(world: StakingWorld) -> None:
    assert not world.create(NEW, name="x" * 65).succeeded
    assert world.create(NEW, name="x" * 64).succeeded


# --- Commission ------------------------------------------------------------------------------------------------


def test_commission_moves_once_a_day_by_no_more_than_allowed(world: StakingWorld) -> None:
    world.create(NEW, commission_bps=500)
    assert world.call(NEW, "set_commission", 600).reason == "staking: once a day"
    world.advance(1, DAY - 1)
    assert world.call(NEW, "set_commission", 600).reason == "staking: once a day"
    world.advance(1, 1)
    assert world.call(NEW, "set_commission", 601).reason == "staking: too great a change"
    assert world.call(NEW, "set_commission", 399).reason == "staking: too great a change"
    assert world.call(NEW, "set_commission", 10_001).reason == "staking: commission above all"
    changed = world.call(NEW, "set_commission", 400)
    assert changed.events == (("CommissionChanged", {"operator": NEW, "commission_bps": 400}),)
    assert world.call(NEW, "set_commission", 400).reason == "staking: once a day"


def test_commission_applies_from_its_change_on(world: StakingWorld) -> None:
    world.call(HOLDER, "delegate", A, value=100 * COIN)
    world.advance(1, DAY)
    world.begin_block(B)
    before = world.view("delegation", HOLDER, A)[2]
    assert world.view("validator", A)["commission_wei"] == 0
    assert world.call(A, "set_commission", 100).succeeded
    assert world.view("delegation", HOLDER, A)[2] == before
    world.begin_block(B)
    commission = world.view("validator", A)["commission_wei"]
    earned = world.view("delegation", HOLDER, A)[2] - before
    assert commission > 0
    assert abs(commission * 99 - 2 * earned) <= 100, "a hundredth of what 200 coins earned"


def test_commission_is_paid_to_the_operator(world: StakingWorld) -> None:
    world.create(NEW, commission_bps=10_000)
    world.elect([(NEW, 40)])
    world.begin_epoch()
    world.begin_block(NEW)
    due = world.view("validator", NEW)["commission_wei"]
    dust = world.view("totals")[2] - due
    assert 0 <= dust < 100 < due, "what rounding left stays in the contract"
    before = world.balance(NEW)
    paid = world.call(NEW, "withdraw_commission")
    assert paid.values == (due,)
    assert paid.events == (("CommissionWithdrawn", {"operator": NEW, "amount": due}),)
    assert world.balance(NEW) - before == due
    assert world.view("totals")[2] == dust
    assert world.view("validator", NEW)["commission_wei"] == 0


def test_claiming_pays_what_is_pending(world: StakingWorld) -> None:
    world.call(HOLDER, "delegate", A, value=100 * COIN)
    world.begin_block(A)
    due = world.view("delegation", HOLDER, A)[2]
    before = world.balance(HOLDER)
    paid = world.call(HOLDER, "claim", A)
    assert paid.events == (("Claimed", {"delegator": HOLDER, "operator": A, "amount": due}),)
    assert world.balance(HOLDER) - before == due > 0
    assert world.view("delegation", HOLDER, A)[2] == 0
    assert world.call(HOLDER, "claim", OTHER).reason == "staking: no such validator"


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("withdraw_commission", ()),
        ("set_commission", (1,)),
        ("unjail", ()),
        ("announce_maintenance", (1_000, 10)),
        ("rotate_voting_key", (b"", b"")),
        ("rotate_checkpoint_key", (b"", b"")),
    ],
)
def test_only_operators_may(world: StakingWorld, function: str, arguments: tuple[object, ...]) -> None:
    assert world.call(HOLDER, function, *arguments).reason == "staking: not an operator"


# --- Jail ------------------------------------------------------------------------------------------------------


def test_jailed_validator_stands_again_after_its_time(world: StakingWorld) -> None:
    assert world.call(A, "unjail").reason == "staking: not jailed"
    world.jail(A)
    jail_seconds = PARAMETERS[7] // 1000
    world.advance(1, jail_seconds - 1)
    assert world.call(A, "unjail").reason == "staking: jailed for longer"
    assert [entry["operator"] for entry in world.view("candidates")] == [B]
    world.advance(1, 1)
    assert world.call(A, "unjail").events == (("Unjailed", {"operator": A}),)
    assert [entry["operator"] for entry in world.view("candidates")] == [A, B]
    assert not world.view("validator", A)["active"], "until the next epoch"
    world.elect([(A, 99), (B, 300)])
    world.begin_epoch()
    assert world.view("validator", A)["active"]


def test_tombstoned_validator_never_stands_again(world: StakingWorld) -> None:
    world.slash(A)
    world.advance(1, 10**9)
    assert world.call(A, "unjail").reason == "staking: tombstoned"


# --- Maintenance -----------------------------------------------------------------------------------------------


def test_announced_maintenance_is_not_counted_as_absence(world: StakingWorld) -> None:
    announced = world.call(A, "announce_maintenance", 20, 5)
    assert announced.events == (("MaintenanceAnnounced", {"operator": A, "first_height": 20, "heights": 5}),)
    for judged in range(19, 26):
        assert world.system("note_absent", judged, [A, B]).succeeded
    assert world.view("missed_of", [B, A]) == (7, 2)
    validator = world.view("validator", A)
    assert (validator["maintenance_from"], validator["maintenance_until"]) == (20, 25)


@pytest.mark.parametrize(
    ("first", "heights", "reason"),
    [
        (20, 0, "staking: maintenance length"),
        (20, 201, "staking: maintenance length"),
        (19, 1, "staking: announced too late"),
        (2**63, 1, "staking: no such height"),
    ],
)
def test_announcing_is_refused(world: StakingWorld, first: int, heights: int, reason: str) -> None:
    assert world.call(A, "announce_maintenance", first, heights).reason == reason
    assert world.call(A, "announce_maintenance", 20, 200).succeeded


def test_next_maintenance_waits_ten_times_its_length(world: StakingWorld) -> None:
    world.call(A, "announce_maintenance", 20, 5)
    world.advance(25 + 7)
    assert world.call(A, "announce_maintenance", 100, 5).reason == "staking: maintenance not over"
    world.advance(1)
    assert world.call(A, "announce_maintenance", 74, 5).reason == "staking: maintenance too soon"
    assert world.call(A, "announce_maintenance", 75, 5).succeeded


# --- Rotating keys ---------------------------------------------------------------------------------------------


def test_rotated_voting_key_is_the_candidates(world: StakingWorld) -> None:
    new = keys(A, 1)
    rotated = world.call(A, "rotate_voting_key", new.voting_point, new.possession)
    key_hash = world.view("validator", A)["checkpoint_key_hash"]
    event = {"operator": A, "voting_key": new.voting_key, "checkpoint_key_hash": key_hash}
    assert rotated.events == (("KeyRotated", event),)
    assert world.view("candidates")[0]["voting_key"] == new.voting_key
    third = keys(A, 2)
    again = world.call(A, "rotate_voting_key", third.voting_point, third.possession)
    assert again.reason == "staking: once an epoch"
    world.begin_epoch()
    assert world.call(A, "rotate_voting_key", new.voting_point, new.possession).reason == "staking: key used before"
    assert world.call(A, "rotate_voting_key", third.voting_point, third.possession).succeeded


def test_rotated_checkpoint_key_is_the_candidates(world: StakingWorld) -> None:
    new = keys(A, 1)
    rotated = world.call(A, "rotate_checkpoint_key", new.checkpoint_key, new.checkpoint_possession)
    voting_key = world.view("validator", A)["voting_key"]
    event = {"operator": A, "voting_key": voting_key, "checkpoint_key_hash": new.checkpoint_key_hash}
    assert rotated.events == (("KeyRotated", event),)
    assert world.view("candidates")[0]["checkpoint_key_hash"] == new.checkpoint_key_hash
    again = keys(A, 2)
    refused = world.call(A, "rotate_checkpoint_key", again.checkpoint_key, again.checkpoint_possession)
    assert refused.reason == "staking: once an epoch"
    assert world.call(A, "rotate_voting_key", again.voting_point, again.possession).succeeded, "one of each"


def test_rotation_without_proof_is_refused(world: StakingWorld) -> None:
    new, secret = keys(A, 1), bls.SecretKey((99).to_bytes(32, "big"))
    false_proof = g2_eip2537(bls.prove_possession(secret))
    assert world.call(A, "rotate_voting_key", new.voting_point, false_proof).reason == "keys: possession not proven"
    other = keys(B, 1)
    refused = world.call(A, "rotate_checkpoint_key", other.checkpoint_key, other.checkpoint_possession)
    assert refused.reason == "keys: checkpoint key unproven"
    assert world.call(A, "rotate_voting_key", new.voting_point, new.possession).succeeded


# --- A full list -----------------------------------------------------------------------------------------------


@pytest.fixture
def full_world() -> StakingWorld:
    """A and B vote; 126 more of genesis do not, nor do 128 that registered later; the least of them is number 1."""
    stakes = [(account(1_000 + number), (100 + number) * COIN) for number in range(128)]
    crowd = [account(2_000 + number) for number in range(128)]
    parameters = list(PARAMETERS)
    parameters[1] = 128
    world = StakingWorld(stakes, rich=[*crowd, NEW, OTHER], parameters=parameters)
    for number, operator in enumerate(crowd):
        assert world.create(operator, stake=(40 + number) * COIN).succeeded
    return world


def test_full_list_makes_room_for_more_stake_than_its_least_outsider(full_world: StakingWorld) -> None:
    world = full_world
    assert len(world.view("operators")) == len(world.view("candidates")) == 256
    assert world.create(NEW, stake=40 * COIN).reason == "staking: no room for this stake"
    created = world.create(NEW, stake=40 * COIN + 1)
    least = account(2_000)
    assert created.events[0] == ("Displaced", {"operator": least})
    operators = world.view("operators")
    assert len(operators) == 256
    assert NEW in operators
    assert least not in operators
    assert least not in [candidate["operator"] for candidate in world.view("candidates")]
    assert world.view("validator", least)["tokens"] == 40 * COIN
    assert world.call(least, "undelegate", least, 40 * COIN).succeeded, "its stake stays its holder's"
    assert world.create(OTHER, stake=41 * COIN).succeeded
    assert account(2_001) in world.view("operators"), "the one just registered had less"


def test_what_cannot_be_elected_may_be_taken_off_a_full_list(full_world: StakingWorld) -> None:
    world = full_world
    outsider, member = account(2_000), account(1_000)
    assert world.call(HOLDER, "displace", outsider).reason == "staking: could be elected"
    assert world.call(HOLDER, "displace", member).reason == "staking: in the set"
    assert world.call(HOLDER, "displace", HOLDER).reason == "staking: not on the list"
    world.call(outsider, "undelegate", outsider, 10 * COIN)
    assert world.call(HOLDER, "displace", outsider).events == (("Displaced", {"operator": outsider}),)
    assert world.call(HOLDER, "displace", outsider).reason == "staking: there is room"
    assert world.create(NEW, stake=PARAMETERS[0]).succeeded
    assert world.call(HOLDER, "displace", outsider).reason == "staking: not on the list"


def test_who_is_elected_for_the_next_epoch_is_not_displaced(full_world: StakingWorld) -> None:
    world = full_world
    least = account(2_000)
    world.elect([(least, 40)])
    assert world.create(NEW, stake=41 * COIN + 1).events[0] == ("Displaced", {"operator": account(2_001)})
    assert least in world.view("operators")
