"""Stake in motion: delegating, leaving, moving, and what slashes take on the way."""

from __future__ import annotations

import pytest

from contracts.artifacts import encode_call, load
from contracts.places import STAKING
from tests.support.staking_worlds import (
    COIN,
    PARAMETERS,
    Call,
    StakingWorld,
    account,
)

A, B, HOLDER, OTHER, STRANGER = (account(number) for number in range(1, 6))
UNBONDING_S = PARAMETERS[2] // 1000
NO_LIABILITY = {"source": bytes(20), "shares": 0, "last_epoch": 0, "matures_at": 0, "seen": 0}


@pytest.fixture
def world() -> StakingWorld:
    return StakingWorld([(A, 100 * COIN), (B, 300 * COIN)], rich=[HOLDER, OTHER])


def balanced(world: StakingWorld) -> bool:
    bonded, unbonding, owed = world.view("totals")[:3]
    return bool(world.balance() == bonded + unbonding + owed + world.view("pending_burn"))


def only_event(call: Call) -> tuple[str, dict[str, object]]:
    assert call.succeeded, call.reason
    (event,) = call.events
    return event


def shares(world: StakingWorld, holder: bytes, operator: bytes) -> int:
    return int(world.view("delegation", holder, operator)[0])


# --- Delegating ------------------------------------------------------------------------------------------------


def test_first_shares_are_tokens(world: StakingWorld) -> None:
    call = world.call(HOLDER, "delegate", A, value=10 * COIN)
    assert call.values == (10 * COIN,)
    assert only_event(call) == (
        "Delegated",
        {"delegator": HOLDER, "operator": A, "amount": 10 * COIN, "shares": 10 * COIN},
    )
    assert world.view("delegation", HOLDER, A) == (10 * COIN, 10 * COIN, 0, NO_LIABILITY)
    validator = world.view("validator", A)
    assert (validator["tokens"], validator["shares"]) == (110 * COIN, 110 * COIN)
    assert world.view("totals")[0] == world.view("totals")[7] == 410 * COIN
    assert balanced(world)


def test_slash_makes_shares_cheaper_for_who_comes_later(world: StakingWorld) -> None:
    world.jail(A)
    bought = world.call(HOLDER, "delegate", A, value=99 * COIN).values[0]
    assert bought == 100 * COIN
    assert world.view("delegation", HOLDER, A)[1] == 99 * COIN
    assert world.view("delegation", A, A)[1] == 99 * COIN


def test_shares_are_rounded_down(world: StakingWorld) -> None:
    world.jail(A, power=33)
    tokens = world.view("validator", A)["tokens"]
    assert tokens == 100 * COIN - 33 * COIN // 100
    assert world.call(HOLDER, "delegate", A, value=10**9 + 7).values[0] == (10**9 + 7) * 100 * COIN // tokens


@pytest.mark.parametrize(
    ("operator", "value", "reason"),
    [(A, 0, "staking: no value"), (STRANGER, COIN, "staking: no such validator")],
)
def test_delegating_is_refused(world: StakingWorld, operator: bytes, value: int, reason: str) -> None:
    assert world.call(HOLDER, "delegate", operator, value=value).reason == reason
    assert balanced(world)


def test_nothing_more_for_a_tombstoned_validator(world: StakingWorld) -> None:
    world.slash(A)
    assert world.call(HOLDER, "delegate", A, value=COIN).reason == "staking: tombstoned"


def test_validator_that_everybody_left_is_as_new(world: StakingWorld) -> None:
    world.call(A, "undelegate", A, 100 * COIN - 1)
    world.call(A, "undelegate", A, 1)
    assert world.view("validator", A)["tokens"] == world.view("validator", A)["shares"] == 0
    assert world.call(HOLDER, "delegate", A, value=7).values == (7,)


def test_shares_that_a_slash_left_worthless_admit_no_stake() -> None:
    parameters = list(PARAMETERS)
    parameters[9] = 10_000
    world = StakingWorld([(A, 32 * COIN), (B, 32 * COIN)], rich=[HOLDER], parameters=parameters)
    world.slash(A)
    assert world.view("validator", A)["tokens"] == 0
    assert world.call(HOLDER, "delegate", A, value=COIN).reason == "staking: tombstoned"
    assert world.call(A, "undelegate", A, COIN).reason == "staking: worth nothing"
    assert world.call(A, "redelegate", A, B, COIN).reason == "staking: less than one share"


def test_plain_transfer_is_refused(world: StakingWorld) -> None:
    sent = world.call_data(HOLDER, b"", world.staking, None, value=COIN)
    assert not sent.succeeded
    assert not world.call_data(HOLDER, b"\x12\x34\x56\x78", world.staking, None).succeeded
    assert balanced(world)


# --- Leaving ---------------------------------------------------------------------------------------------------


def test_stake_leaves_at_once_and_is_paid_when_mature(world: StakingWorld) -> None:
    world.call(HOLDER, "delegate", A, value=10 * COIN)
    left = world.call(HOLDER, "undelegate", A, 4 * COIN)
    matures_at = world.time_ms // 1000 + UNBONDING_S
    assert left.values == (4 * COIN,)
    assert only_event(left) == (
        "Undelegated",
        {
            "delegator": HOLDER,
            "operator": A,
            "amount": 4 * COIN,
            "shares": 4 * COIN,
            "matures_at": matures_at,
            "last_epoch": 0,
        },
    )
    entry = {"operator": A, "amount": 4 * COIN, "value_now": 4 * COIN, "matures_at": matures_at, "last_epoch": 0}
    assert world.view("unbondings", HOLDER) == (entry,)
    assert world.view("totals")[:2] == (406 * COIN, 4 * COIN)
    world.advance(1, UNBONDING_S - 1)
    assert world.call(HOLDER, "withdraw", 0).reason == "staking: not mature yet"
    world.advance(1, 1)
    before = world.balance(HOLDER)
    paid = world.call(HOLDER, "withdraw", 0)
    assert only_event(paid) == ("Withdrawn", {"delegator": HOLDER, "operator": A, "amount": 4 * COIN})
    assert world.balance(HOLDER) - before == 4 * COIN
    assert world.view("unbondings", HOLDER) == ()
    assert balanced(world)


def test_last_epoch_is_the_next_one_once_its_election_has_run(world: StakingWorld) -> None:
    world.elect([(A, 100)])
    world.call(A, "undelegate", A, COIN)
    assert world.view("unbondings", A)[0]["last_epoch"] == 1
    world.begin_epoch()
    world.call(A, "undelegate", A, COIN)
    assert world.view("unbondings", A)[1]["last_epoch"] == 1


@pytest.mark.parametrize(
    ("operator", "amount", "reason"),
    [
        (A, 0, "staking: no shares"),
        (A, COIN + 1, "staking: more shares than held"),
        (B, 1, "staking: more shares than held"),
        (STRANGER, 1, "staking: no such validator"),
    ],
)
def test_undelegating_is_refused(world: StakingWorld, operator: bytes, amount: int, reason: str) -> None:
    world.call(HOLDER, "delegate", A, value=COIN)
    assert world.call(HOLDER, "undelegate", operator, amount).reason == reason


def test_thirty_two_entries_and_no_more(world: StakingWorld) -> None:
    world.call(HOLDER, "delegate", A, value=COIN)
    for _ in range(32):
        assert world.call(HOLDER, "undelegate", A, 1).succeeded
    assert world.call(HOLDER, "undelegate", A, 1).reason == "staking: 32 entries already"
    world.advance(1, UNBONDING_S)
    assert world.call(HOLDER, "withdraw", 0).succeeded
    assert world.call(HOLDER, "undelegate", A, 1).succeeded


def test_last_entry_takes_the_index_of_the_withdrawn_one(world: StakingWorld) -> None:
    world.call(HOLDER, "delegate", A, value=COIN)
    for amount in (1, 2, 3):
        world.call(HOLDER, "undelegate", A, amount)
    world.advance(1, UNBONDING_S)
    assert world.call(HOLDER, "withdraw", 0).values == (1,)
    assert [entry["amount"] for entry in world.view("unbondings", HOLDER)] == [3, 2]
    assert world.call(HOLDER, "withdraw", 2).reason == "staking: no such entry"
    assert world.call(STRANGER, "withdraw", 0).reason == "staking: no such entry"


def test_slash_reaches_stake_that_left_while_it_voted(world: StakingWorld) -> None:
    world.call(HOLDER, "delegate", A, value=100 * COIN)
    world.call(HOLDER, "undelegate", A, 50 * COIN)
    world.slash(A, power=150, epoch=0)
    assert world.view("unbondings", HOLDER)[0]["value_now"] == 50 * COIN * 95 // 100
    world.advance(1, UNBONDING_S)
    world.begin_block(B)
    paid = world.call(HOLDER, "withdraw", 0)
    assert paid.values == (50 * COIN * 95 // 100,)
    assert paid.events[0] == ("StakeCut", {"delegator": HOLDER, "operator": A, "amount": 50 * COIN * 5 // 100})
    assert world.view("pending_burn") == 50 * COIN * 5 // 100
    assert balanced(world)


def test_slash_for_a_later_epoch_leaves_alone_what_had_left(world: StakingWorld) -> None:
    world.call(HOLDER, "delegate", A, value=100 * COIN)
    world.call(HOLDER, "undelegate", A, 50 * COIN)
    world.elect([(A, 100), (B, 300)])
    world.begin_epoch()
    world.slash(A, epoch=1)
    assert world.view("unbondings", HOLDER)[0]["value_now"] == 50 * COIN


def test_slash_before_leaving_is_not_felt_twice(world: StakingWorld) -> None:
    world.slash(A)
    left = world.call(A, "undelegate", A, 100 * COIN).values[0]
    assert left == 95 * COIN
    assert world.view("unbondings", A)[0]["value_now"] == 95 * COIN


def test_cut_of_an_entry_is_rounded_up(world: StakingWorld) -> None:
    world.call(HOLDER, "delegate", A, value=COIN)
    world.call(HOLDER, "undelegate", A, 101)
    world.slash(A)
    assert world.view("unbondings", HOLDER)[0]["value_now"] == 101 - 6


def test_more_than_64_slashes_are_applied_in_steps() -> None:
    parameters = list(PARAMETERS)
    parameters[8], parameters[6] = 128, 1
    world = StakingWorld([(A, 100 * COIN), (B, 300 * COIN)], rich=[HOLDER], parameters=parameters)
    world.call(HOLDER, "delegate", A, value=10 * COIN)
    world.call(HOLDER, "undelegate", A, COIN)
    world.call(HOLDER, "redelegate", A, B, COIN)
    for _ in range(70):
        world.advance(1, PARAMETERS[7] // 1000)
        assert world.system("close_window", 0, [A], [100], [A]).succeeded
        world.advance(1, PARAMETERS[7] // 1000)
        assert world.call(A, "unjail").succeeded
    world.advance(1, UNBONDING_S)
    expected = COIN
    for _ in range(70):
        expected -= -(-expected // 10_000)
    assert world.view("unbondings", HOLDER)[0]["value_now"] == expected
    for function, arguments in (("withdraw", (0,)), ("undelegate", (B, 1)), ("redelegate", (B, A, 1))):
        assert world.call(HOLDER, function, *arguments).reason == "staking: slashes left, poke first", function
    assert world.call(HOLDER, "delegate", B, value=COIN).reason == "staking: slashes left, poke first"
    assert world.call(OTHER, "poke", HOLDER, A).succeeded
    assert world.call(HOLDER, "withdraw", 0).values == (expected,)
    assert world.call(OTHER, "poke", HOLDER, B).succeeded
    assert world.view("delegation", HOLDER, B)[3]["seen"] == 64
    assert world.call(HOLDER, "claim", B).succeeded, "claiming moves no stake"
    assert world.view("delegation", HOLDER, B)[3] == NO_LIABILITY
    assert shares(world, HOLDER, B) == expected
    assert balanced(world)


# --- Moving ----------------------------------------------------------------------------------------------------


def test_redelegated_stake_is_at_its_new_place_at_once_and_liable(world: StakingWorld) -> None:
    world.call(HOLDER, "delegate", A, value=10 * COIN)
    moved = world.call(HOLDER, "redelegate", A, B, 4 * COIN)
    matures_at = world.time_ms // 1000 + UNBONDING_S
    assert only_event(moved) == (
        "Redelegated",
        {
            "delegator": HOLDER,
            "source": A,
            "operator": B,
            "amount": 4 * COIN,
            "shares": 4 * COIN,
            "matures_at": matures_at,
            "last_epoch": 0,
        },
    )
    liability = {"source": A, "shares": 4 * COIN, "last_epoch": 0, "matures_at": matures_at, "seen": 0}
    assert world.view("delegation", HOLDER, B) == (4 * COIN, 4 * COIN, 0, liability)
    assert world.view("validator", B)["tokens"] == 304 * COIN
    assert world.view("totals")[0] == 410 * COIN
    assert balanced(world)


@pytest.mark.parametrize(
    ("source", "target", "amount", "reason"),
    [
        (A, A, 1, "staking: the same validator"),
        (STRANGER, A, 1, "staking: no such validator"),
        (A, STRANGER, 1, "staking: no such validator"),
        (A, B, 0, "staking: no shares"),
        (A, B, 10 * COIN + 1, "staking: more shares than held"),
    ],
)
def test_redelegating_is_refused(world: StakingWorld, source: bytes, target: bytes, amount: int, reason: str) -> None:
    world.call(HOLDER, "delegate", A, value=10 * COIN)
    assert world.call(HOLDER, "redelegate", source, target, amount).reason == reason


def test_liable_shares_stay_and_take_no_company(world: StakingWorld) -> None:
    world.call(HOLDER, "delegate", A, value=10 * COIN)
    world.call(HOLDER, "delegate", B, value=COIN)
    world.call(HOLDER, "redelegate", A, B, 4 * COIN)
    assert world.call(HOLDER, "redelegate", B, A, COIN + 1).reason == "staking: shares are liable"
    assert world.call(HOLDER, "undelegate", B, COIN + 1).reason == "staking: shares are liable"
    assert world.call(HOLDER, "redelegate", A, B, 1).reason == "staking: liable already"
    assert world.call(HOLDER, "undelegate", B, COIN).succeeded
    world.advance(1, UNBONDING_S)
    assert world.call(HOLDER, "redelegate", B, A, 4 * COIN).succeeded


def test_redelegating_to_a_tombstoned_validator_is_refused(world: StakingWorld) -> None:
    world.slash(B)
    assert world.call(A, "redelegate", A, B, COIN).reason == "staking: tombstoned"


def test_slash_of_the_source_follows_redelegated_stake(world: StakingWorld) -> None:
    world.call(HOLDER, "delegate", A, value=10 * COIN)
    world.call(HOLDER, "redelegate", A, B, 4 * COIN)
    world.slash(A, power=100, epoch=0)
    world.begin_block(B)
    before = world.view("validator", B)["tokens"]
    call = world.call(OTHER, "poke", HOLDER, B)
    cut = 4 * COIN * 5 // 100
    assert only_event(call) == ("StakeCut", {"delegator": HOLDER, "operator": B, "amount": cut})
    assert world.view("validator", B)["tokens"] == before - cut
    assert world.view("pending_burn") == cut
    assert world.view("delegation", HOLDER, B)[3]["shares"] == shares(world, HOLDER, B) == 4 * COIN - cut
    assert world.call(OTHER, "poke", HOLDER, B).events == (), "felt once"
    assert balanced(world)


def test_slash_is_felt_before_anything_else_touches_the_delegation(world: StakingWorld) -> None:
    world.call(HOLDER, "delegate", A, value=10 * COIN)
    world.call(HOLDER, "redelegate", A, B, 4 * COIN)
    world.call(HOLDER, "delegate", B, value=COIN)
    world.slash(A, epoch=0)
    call = world.call(HOLDER, "undelegate", B, COIN)
    assert [name for name, _ in call.events] == ["StakeCut", "Undelegated"]
    assert shares(world, HOLDER, B) == 4 * COIN * 95 // 100


def test_slash_of_the_source_for_a_later_epoch_is_not_felt(world: StakingWorld) -> None:
    world.call(HOLDER, "delegate", A, value=10 * COIN)
    world.call(HOLDER, "redelegate", A, B, 4 * COIN)
    world.elect([(A, 100), (B, 300)])
    world.begin_epoch()
    world.slash(A, epoch=1)
    assert world.call(OTHER, "poke", HOLDER, B).events == ()
    assert shares(world, HOLDER, B) == 4 * COIN


def test_poking_a_validator_that_does_not_exist_is_refused(world: StakingWorld) -> None:
    assert world.call(OTHER, "poke", HOLDER, STRANGER).reason == "staking: no such validator"


# --- Money leaves to whom it belongs ---------------------------------------------------------------------------

GREEDY = account(66)


def greedy_code(world_call: bytes) -> bytes:
    """Forwards what it is sent to Staking; whenever money arrives it calls Staking with `world_call` and notes
    in slot 0 how that went: 1 failed, 2 succeeded."""
    place = b"\x73" + STAKING
    tail = bytes.fromhex("5af1")
    call_again = bytes.fromhex("5f5f60") + bytes([len(world_call)]) + bytes.fromhex("5f5f") + place + tail
    note = bytes.fromhex("6001015f5500")
    copy_head, copy_tail = bytes.fromhex("60") + bytes([len(world_call)]) + b"\x60", bytes.fromhex("5f39")
    receive_length = len(copy_head) + 1 + len(copy_tail) + len(call_again) + len(note)
    forward_at = 4 + receive_length
    forward = bytes.fromhex("5b365f5f375f5f365f34") + place + tail
    refuse = bytes.fromhex("3d5f5f3e3d5ffd")
    done_at = forward_at + len(forward) + 3 + len(refuse)
    forward += bytes([0x60, done_at, 0x57]) + refuse + bytes.fromhex("5b00")
    data_at = forward_at + len(forward)
    code = bytes([0x36, 0x60, forward_at, 0x57]) + copy_head + bytes([data_at]) + copy_tail + call_again + note
    return code + forward + world_call


@pytest.mark.parametrize("function", ["claim", "withdraw"])
def test_money_cannot_be_taken_twice_by_calling_again_when_it_arrives(function: str) -> None:
    staking = load("Staking")
    again = encode_call(staking, function, (A,) if function == "claim" else (0,))
    world = StakingWorld([(A, 100 * COIN), (B, 300 * COIN)], rich=[HOLDER], codes={GREEDY: greedy_code(again)})

    def act(name: str, *arguments: object, value: int = 0) -> Call:
        data = encode_call(staking, name, arguments)
        return world.call_data(HOLDER, data, staking, None, value=value, at=GREEDY)

    assert act("delegate", A, value=10 * COIN).succeeded
    world.begin_block(A)
    assert act("undelegate", A, 2 * COIN).succeeded
    assert act("undelegate", A, 3 * COIN).succeeded
    world.advance(1, UNBONDING_S)
    before = world.balance(GREEDY)
    due = world.view("delegation", GREEDY, A)[2] if function == "claim" else 2 * COIN
    assert due > 0
    assert act(function, *((A,) if function == "claim" else (0,))).succeeded
    assert world.overlay.get_storage(GREEDY, 0) == 1, "the second call was made and failed"
    assert world.balance(GREEDY) - before == due
    assert balanced(world)


def test_recipient_that_refuses_money_keeps_its_claim() -> None:
    # Forwards like the other, but reverts whenever money arrives (calldata is empty then).
    code = bytes.fromhex("36600757 5f5ffd 5b 365f5f37 5f5f365f34 73".replace(" ", "")) + STAKING + bytes.fromhex("5af1")
    done_at = len(code) + 3 + 7
    code += bytes([0x60, done_at, 0x57]) + bytes.fromhex("3d5f5f3e3d5ffd") + bytes.fromhex("5b00")
    staking = load("Staking")
    world = StakingWorld([(A, 100 * COIN)], rich=[HOLDER], codes={GREEDY: code})
    delegated = world.call_data(
        HOLDER, encode_call(staking, "delegate", (A,)), staking, None, value=10 * COIN, at=GREEDY
    )
    assert delegated.succeeded, delegated.reason
    world.begin_block(A)
    due = world.view("delegation", GREEDY, A)[2]
    assert due > 0
    assert not world.call_data(HOLDER, encode_call(staking, "claim", (A,)), staking, None, at=GREEDY).succeeded
    assert world.view("delegation", GREEDY, A)[2] == due
    assert balanced(world)
