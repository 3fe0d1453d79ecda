"""What the protocol calls: rewards to the wei, credits, absence, punishment, elections, epochs, parameters."""

from __future__ import annotations

import pytest

from astralink_node.crypto.keccak import keccak256
from contracts.places import GOVERNANCE
from tests.support.staking_worlds import (
    COIN,
    EPOCH_LENGTH,
    GENESIS_MS,
    INITIAL_BPS,
    PARAMETERS,
    SUPPLY,
    Call,
    StakingWorld,
    account,
)

A, B, C, HOLDER = (account(number) for number in range(1, 5))
YEAR = 31_536_000
NAMES = [
    "minStakeWei",
    "maxValidators",
    "unbondingMs",
    "maxCommissionChangeBps",
    "downtimeWindow",
    "downtimeMinSignedBps",
    "downtimeSlashBps",
    "downtimeJailMs",
    "maxJailedPerEpoch",
    "doubleSignSlashBps",
    "inflationMinBps",
    "inflationMaxBps",
    "inflationChangeBps",
    "bondedGoalBps",
    "proposerShareBps",
    "baseFeeToStakersBps",
    "maintenanceMaxBlocks",
]


def changed(**values: int) -> list[int]:
    return [values.get(name, value) for name, value in zip(NAMES, PARAMETERS, strict=True)]


@pytest.fixture
def world() -> StakingWorld:
    return StakingWorld([(A, 100 * COIN), (B, 300 * COIN)], rich=[C, HOLDER])


def balanced(world: StakingWorld) -> bool:
    bonded, unbonding, owed = world.view("totals")[:3]
    return bool(world.balance() == bonded + unbonding + owed + world.view("pending_burn"))


# --- Who may ---------------------------------------------------------------------------------------------------

INITIALISE = ([], list(PARAMETERS), 1_000, SUPPLY, GENESIS_MS, bytes(32), EPOCH_LENGTH)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("initialise", INITIALISE),
        ("begin_epoch", (1, 0)),
        ("begin_block", (A, 1, 1, 0, [], [], 0)),
        ("note_absent", (1, [A])),
        ("close_window", (1, [A], [1], [A])),
        ("slash_double_sign", (A, 1, 0, bytes(32))),
        ("elect", (1, bytes(32), [A], [1])),
    ],
)
def test_only_the_protocol_may(world: StakingWorld, function: str, arguments: tuple[object, ...]) -> None:
    for sender in (A, HOLDER):
        assert world.call(sender, function, *arguments).reason == "staking: only the protocol"


def test_genesis_happens_once(world: StakingWorld) -> None:
    assert world.system("initialise", *INITIALISE).reason == "staking: initialised already"


# --- Genesis ---------------------------------------------------------------------------------------------------


def test_genesis_set_is_bonded_and_votes(world: StakingWorld) -> None:
    assert [name for name, _ in world.initialised.events] == ["Registered", "Delegated"] * 2
    assert world.view("members") == ((A, B), (100, 300))
    assert world.view("operators") == (A, B)
    assert world.view("parameters") == PARAMETERS
    assert world.view("set_record", 0) == (keccak256(b"set 0"), GENESIS_MS)
    assert world.view("set_record", 1) == (bytes(32), 0)
    assert world.view("totals") == (400 * COIN, 0, 0, 0, 0, SUPPLY, INITIAL_BPS * 10**9, 400 * COIN, 0)
    assert world.view("elected") == (0, (), ())
    validator = world.view("validator", B)
    assert validator["active"]
    assert (validator["power"], validator["tokens"], validator["shares"]) == (300, 300 * COIN, 300 * COIN)
    assert world.view("delegation", B, B)[:3] == (300 * COIN, 300 * COIN, 0)
    assert balanced(world)


def refused_genesis(parameters: list[int], bps: int = INITIAL_BPS, stakes: object = ((A, 100 * COIN),)) -> str:
    with pytest.raises(AssertionError, match="staking: ") as refusal:
        StakingWorld(stakes, parameters=parameters, inflation_bps=bps)  # type: ignore[arg-type]
    return str(refusal.value).splitlines()[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("minStakeWei", 10**18 - 1),
        ("minStakeWei", 10**27 + 1),
        ("maxValidators", 0),
        ("maxValidators", 129),
        ("maxCommissionChangeBps", 10_001),
        ("downtimeWindow", 7),
        ("downtimeWindow", EPOCH_LENGTH + 1),
        ("downtimeMinSignedBps", 9_501),
        ("downtimeSlashBps", 1_001),
        ("downtimeJailMs", 999),
        ("downtimeJailMs", 2**40 + 1),
        ("maxJailedPerEpoch", 0),
        ("maxJailedPerEpoch", 129),
        ("doubleSignSlashBps", 99),
        ("doubleSignSlashBps", 10_001),
        ("inflationMaxBps", 5_001),
        ("inflationMinBps", 2_001),
        ("inflationChangeBps", 10_001),
        ("bondedGoalBps", 99),
        ("bondedGoalBps", 10_001),
        ("proposerShareBps", 5_001),
        ("baseFeeToStakersBps", 10_001),
        ("maintenanceMaxBlocks", 100_001),
    ],
)
def test_parameter_out_of_bounds_is_refused_at_genesis_and_later(world: StakingWorld, name: str, value: int) -> None:
    assert refused_genesis(changed(**{name: value})) == "staking: outside its bounds"
    refused = world.call(GOVERNANCE, "set_parameter", NAMES.index(name), value)
    assert refused.reason == "staking: outside its bounds"


@pytest.mark.parametrize("bps", [699, 2_001])
def test_first_rate_lies_between_its_bounds(bps: int) -> None:
    assert refused_genesis(list(PARAMETERS), bps) == "staking: outside its bounds"


def test_genesis_operator_stands_there_once() -> None:
    stakes = [(A, 100 * COIN), (A, 100 * COIN)]
    assert refused_genesis(list(PARAMETERS), stakes=stakes) == "staking: registered already"


# --- Parameters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("minStakeWei", 10**18),
        ("minStakeWei", 10**27),
        ("maxValidators", 128),
        ("downtimeWindow", EPOCH_LENGTH),
        ("downtimeWindow", 8),
        ("inflationMinBps", 2_000),
        ("inflationMaxBps", 700),
        ("downtimeJailMs", 2**40),
        ("maintenanceMaxBlocks", 0),
    ],
)
def test_governance_sets_a_parameter_within_its_bounds(world: StakingWorld, name: str, value: int) -> None:
    number = NAMES.index(name)
    call = world.call(GOVERNANCE, "set_parameter", number, value)
    assert call.events == (("ParameterChanged", {"id": number, "before": PARAMETERS[number], "after": value}),)
    assert world.view("parameters") == tuple(changed(**{name: value}))


def test_nobody_else_sets_parameters(world: StakingWorld) -> None:
    assert world.call(A, "set_parameter", 0, COIN).reason == "staking: only governance"
    assert world.system("set_parameter", 0, COIN).reason == "staking: only governance"


def test_unbonding_time_is_fixed(world: StakingWorld) -> None:
    assert world.call(GOVERNANCE, "set_parameter", 2, PARAMETERS[2]).reason == "staking: fixed"


def test_there_are_seventeen_parameters(world: StakingWorld) -> None:
    assert world.call(GOVERNANCE, "set_parameter", 17, 1).reason == "staking: no such parameter"


# --- Rewards ---------------------------------------------------------------------------------------------------


def test_block_pays_inflation_to_stake_and_proposer(world: StakingWorld) -> None:
    call = world.begin_block(A, credited=300, total=400, base_fees=1_000, seconds=3)
    reward = SUPPLY * INITIAL_BPS * 3 // (10_000 * YEAR)
    for_proposer = reward * 500 // 10_000 * 300 // 400
    rest = reward - reward * 500 // 10_000
    assert call.values == (for_proposer + rest, 0, 0)
    per_token = rest * 10**18 // (400 * COIN)
    earned = per_token * 100 * COIN // 10**18 + for_proposer
    assert world.view("delegation", A, A)[2] == earned * 10**18 // (100 * COIN) * 100 * COIN // 10**18
    assert world.view("delegation", B, B)[2] == per_token * 300 * COIN // 10**18
    mint = for_proposer + rest
    expected = (400 * COIN, 0, mint, mint, 1_000, SUPPLY + mint - 1_000, INITIAL_BPS * 10**9, 400 * COIN, 0)
    assert world.view("totals") == expected
    assert balanced(world)


def test_part_of_the_base_fees_goes_to_stake_instead_of_being_burned() -> None:
    world = StakingWorld([(A, 100 * COIN)], parameters=changed(baseFeeToStakersBps=2_500))
    fees = 10**18 + 3
    mint = world.begin_block(A, base_fees=fees).values[0]
    share = fees * 2_500 // 10_000
    reward = SUPPLY * INITIAL_BPS * 2 // (10_000 * YEAR) + share
    assert mint == reward
    minted, burned, supply = world.view("totals")[3:6]
    assert minted == mint - share
    assert burned == fees - share
    assert supply == SUPPLY + minted - burned
    assert balanced(world)


def test_unpaid_part_of_the_proposers_share_is_not_minted(world: StakingWorld) -> None:
    reward = SUPPLY * INITIAL_BPS * 2 // (10_000 * YEAR)
    rest = reward - reward * 500 // 10_000
    assert world.begin_block(HOLDER).values[0] == rest
    assert balanced(world)


def test_fees_beyond_what_is_minted_are_burned() -> None:
    parameters = changed(inflationMinBps=0, baseFeeToStakersBps=10_000, proposerShareBps=5_000)
    world = StakingWorld([(A, 100 * COIN)], parameters=parameters, inflation_bps=0)
    mint = world.begin_block(HOLDER, base_fees=1_000).values[0]
    assert mint == 500
    assert world.view("totals")[3:5] == (0, 500)


def test_nothing_is_minted_without_active_stake() -> None:
    world = StakingWorld([(A, 100 * COIN)], parameters=changed(baseFeeToStakersBps=2_500))
    world.jail(A)
    world.begin_block(A)
    assert world.begin_block(A, base_fees=1_000).values == (0, 0, 0)
    assert world.view("totals")[4] == 1_000 + COIN, "the fees and the slash"
    assert balanced(world)


def test_block_that_follows_within_the_second_mints_nothing(world: StakingWorld) -> None:
    assert world.begin_block(A, seconds=0).values == (0, 0, 0)


def test_commission_is_the_operators_before_its_delegators(world: StakingWorld) -> None:
    world.create(C, stake=100 * COIN, commission_bps=1_000)
    world.call(HOLDER, "delegate", C, value=300 * COIN)
    world.elect([(C, 400)])
    world.begin_epoch()
    mint = world.begin_block(C).values[0]
    reward = SUPPLY * INITIAL_BPS * 2 // (10_000 * YEAR)
    for_proposer = reward * 500 // 10_000
    due = (mint - for_proposer) * 10**18 // (400 * COIN) * 400 * COIN // 10**18 + for_proposer
    cut = due // 10
    assert world.view("validator", C)["commission_wei"] == cut
    per_share = (due - cut) * 10**18 // (400 * COIN)
    assert world.view("delegation", HOLDER, C)[2] == per_share * 300 * COIN // 10**18


def test_validator_without_shares_keeps_all_as_commission(world: StakingWorld) -> None:
    world.call(A, "undelegate", A, 100 * COIN)
    reward = SUPPLY * INITIAL_BPS * 2 // (10_000 * YEAR)
    world.begin_block(A)
    assert world.view("validator", A)["commission_wei"] == reward * 500 // 10_000


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((A, 1, 1, 0, [1], [], 0), "staking: a bitmap a height"),
        ((A, 2, 1, 0, [], [], 0), "staking: credited above total"),
        ((A, 0, 0, 0, [], [], 0), "staking: credited above total"),
    ],
)
def test_beginning_a_block_is_refused(world: StakingWorld, arguments: tuple[object, ...], reason: str) -> None:
    assert world.system("begin_block", *arguments).reason == reason


# --- Credits and absence ---------------------------------------------------------------------------------------


def test_credits_add_up_until_the_height_is_judged(world: StakingWorld) -> None:
    world.begin_block(A, credits=[(0, 1)])
    world.begin_block(A, credits=[(1, 0b001)])
    world.begin_block(A, credits=[(2, 0b111), (1, 0b100)])
    for height in range(4, 9):
        assert world.begin_block(A, credits=[(height - 1, 0b1111)]).values[2] == 0, "height 0 is never judged"
    assert world.begin_block(A, credits=[(8, 1)]).values[2] == 0b101
    assert world.begin_block(A).values[2] == 0b111


def test_credit_of_an_older_height_in_the_ring_is_overwritten(world: StakingWorld) -> None:
    world.begin_block(A, credits=[(1, 0b01)])
    world.advance(15)
    world.begin_block(A, credits=[(17, 0b10)])
    world.advance(7)
    assert world.begin_block(A).values[2] == 0b10
    world.advance(15)
    assert world.height - 8 + 1 == 33
    assert world.begin_block(A).values[2] == 0, "nobody credited height 33, whatever stands in its place"


def test_late_credit_of_the_judged_height_counts(world: StakingWorld) -> None:
    world.advance(8)
    assert world.begin_block(A, credits=[(1, 0b11)]).values[2] == 0b11


def test_absence_is_counted_but_not_in_jail(world: StakingWorld) -> None:
    world.system("note_absent", 1, [A, B])
    world.system("note_absent", 2, [A])
    world.jail(B)
    world.system("note_absent", 3, [A, B])
    assert world.view("missed_of", [A, B]) == (3, 0)


def test_window_is_closed_for_all_its_members(world: StakingWorld) -> None:
    world.system("note_absent", 1, [A, B])
    call = world.system("close_window", 19, [A], [100], [A, B])
    until = world.time_ms // 1000 + PARAMETERS[7] // 1000
    assert call.events == (
        ("Slashed", {"operator": A, "kind": 2, "epoch": 0, "bps": 100, "cut": COIN}),
        ("Jailed", {"operator": A, "until": until, "missed": 1}),
    )
    assert world.view("missed_of", [A, B]) == (0, 0)
    assert world.view("jailed_this_epoch") == 1
    validator = world.view("validator", A)
    assert (validator["jailed"], validator["active"], validator["jailed_until"]) == (True, False, until)
    assert validator["tokens"] == 99 * COIN
    assert world.view("slash_record", A, 0) == (0, 100, world.time_ms // 1000, 2, COIN)
    assert world.view("totals")[7] == 300 * COIN
    assert world.begin_block(B).values[1] == COIN, "what the slash cut is burned"
    assert balanced(world)


def test_window_of_the_epoch_before_is_punished_as_of_that_epoch(world: StakingWorld) -> None:
    world.begin_epoch()
    world.system("close_window", EPOCH_LENGTH - 1, [A], [100], [A])
    world.system("close_window", EPOCH_LENGTH, [B], [300], [B])
    assert [world.view("slash_record", operator, 0)[0] for operator in (A, B)] == [0, 1]


def test_no_more_are_jailed_in_an_epoch_than_allowed() -> None:
    world = StakingWorld([(A, 100 * COIN), (B, 300 * COIN), (C, 50 * COIN)])
    members = [A, B, C]
    assert world.system("close_window", 19, members, [100, 300, 50], members).reason == "staking: jailed enough"
    assert world.view("jailed_this_epoch") == 0, "a call that fails changes nothing"
    assert world.system("close_window", 19, [A, B], [100, 300], members).succeeded
    assert world.system("close_window", 39, [C], [50], members).reason == "staking: jailed enough"
    world.begin_epoch()
    assert world.view("jailed_this_epoch") == 0
    assert world.system("close_window", 119, [C], [50], members).succeeded


def test_who_is_in_jail_is_not_punished_again(world: StakingWorld) -> None:
    world.jail(A)
    assert world.system("close_window", 39, [A], [100], [A, B]).events == ()
    assert world.view("jailed_this_epoch") == 1


@pytest.mark.parametrize(
    ("function", "arguments", "reason"),
    [
        ("close_window", (19, [HOLDER], [1], []), "staking: no such validator"),
        ("close_window", (19, [A], [], []), "staking: a power an operator"),
        ("slash_double_sign", (HOLDER, 1, 0, bytes(32)), "staking: no such validator"),
        ("slash_double_sign", (A, 1, 2**40, bytes(32)), "staking: no such epoch"),
    ],
)
def test_punishing_is_refused(world: StakingWorld, function: str, arguments: tuple[object, ...], reason: str) -> None:
    assert world.system(function, *arguments).reason == reason


# --- Double signing --------------------------------------------------------------------------------------------


def test_double_signing_is_cut_and_excluded_for_ever(world: StakingWorld) -> None:
    world.begin_epoch()
    call = world.slash(A, power=100, epoch=0)
    assert call.events == (
        ("Slashed", {"operator": A, "kind": 1, "epoch": 0, "bps": 500, "cut": 5 * COIN}),
        ("Tombstoned", {"operator": A, "evidence_hash": keccak256(b"evidence")}),
    )
    validator = world.view("validator", A)
    assert (validator["tombstoned"], validator["active"], validator["slash_count"]) == (True, False, 1)
    assert validator["tokens"] == 95 * COIN
    assert [entry["operator"] for entry in world.view("candidates")] == [B]
    assert world.slash(A).reason == "staking: tombstoned"
    assert balanced(world)


def test_slash_takes_of_what_voted_then_and_is_there_still(world: StakingWorld) -> None:
    world.call(HOLDER, "delegate", A, value=900 * COIN)
    world.slash(A, power=100)
    assert world.view("slash_record", A, 0)[4] == 5 * COIN
    world.call(B, "undelegate", B, 200 * COIN)
    world.slash(B, power=300)
    assert world.view("slash_record", B, 0)[4] == 5 * COIN
    assert world.call(HOLDER, "slash_record", B, 1).reason == "staking: no such slash"


def test_reward_earned_before_a_slash_stays(world: StakingWorld) -> None:
    world.begin_block(B)
    earned = world.view("delegation", A, A)[2]
    world.slash(A)
    assert world.view("delegation", A, A)[2] == earned > 0
    world.begin_block(B)
    assert world.view("delegation", A, A)[2] == earned, "and nothing comes after it"


# --- Elections and epochs --------------------------------------------------------------------------------------


def test_elected_set_takes_over_when_its_epoch_begins(world: StakingWorld) -> None:
    world.create(C, stake=50 * COIN)
    elected = world.system("elect", 1, bytes([7] * 32), [C, B], [50, 300])
    ((name, event),) = elected.events
    assert name == "Elected"
    assert (event["epoch"], event["operators"], event["powers"]) == (1, (C, B), (50, 300))
    assert world.view("elected") == (1, (C, B), (50, 300))
    assert world.view("members") == ((A, B), (100, 300))
    assert world.view("totals")[7] == 400 * COIN
    begun = world.begin_epoch()
    assert begun.events == (("EpochBegan", {"epoch": 1, "set_hash": bytes([7] * 32), "time_ms": world.time_ms}),)
    assert world.view("members") == ((C, B), (50, 300))
    assert world.view("set_record", 1) == (bytes([7] * 32), world.time_ms)
    assert [world.view("validator", operator)["active"] for operator in (A, B, C)] == [False, True, True]
    assert [world.view("validator", operator)["power"] for operator in (A, B, C)] == [0, 300, 50]
    assert world.view("totals")[7:] == (350 * COIN, 1)


def test_epoch_without_election_keeps_the_set(world: StakingWorld) -> None:
    world.begin_epoch()
    assert world.view("members") == ((A, B), (100, 300))
    assert world.view("set_record", 1) == (keccak256(b"set 0"), world.time_ms)
    assert world.view("totals")[7] == 400 * COIN


def test_who_is_jailed_when_its_epoch_begins_does_not_earn(world: StakingWorld) -> None:
    world.elect([(A, 100), (B, 300)])
    world.jail(A)
    world.begin_epoch()
    assert not world.view("validator", A)["active"]
    assert world.view("validator", A)["power"] == 100
    assert world.view("totals")[7] == 300 * COIN


def test_leaving_the_set_keeps_what_was_earned(world: StakingWorld) -> None:
    world.begin_block(B)
    earned = world.view("delegation", A, A)[2]
    world.elect([(B, 300)])
    world.begin_epoch()
    world.begin_block(B)
    assert world.view("delegation", A, A)[2] == earned > 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((0, bytes(32), [A], [1]), "staking: not the next epoch"),
        ((2, bytes(32), [A], [1]), "staking: not the next epoch"),
        ((1, bytes(32), [A], []), "staking: a power an operator"),
        ((1, bytes(32), [], []), "staking: nobody is elected"),
        ((1, bytes(32), [A, B, A], [1, 1, 1]), "staking: elected twice"),
        ((1, bytes(32), [HOLDER], [1]), "staking: no such validator"),
        ((1, bytes(32), [A], [0]), "staking: power out of range"),
        ((1, bytes(32), [A], [2**60]), "staking: power out of range"),
        ((1, bytes(32), [A] * 65, [1] * 65), "staking: too many members"),
    ],
)
def test_electing_is_refused(world: StakingWorld, arguments: tuple[object, ...], reason: str) -> None:
    assert world.system("elect", *arguments).reason == reason


def test_election_and_epoch_happen_once(world: StakingWorld) -> None:
    assert world.elect([(A, 100)]).succeeded
    assert world.elect([(B, 100)]).reason == "staking: elected already"
    assert world.begin_epoch().succeeded
    assert world.system("begin_epoch", 1, 0).reason == "staking: epoch begun already"
    assert world.elect([(B, 300)]).succeeded


def next_rate(rate: int, bonded: int, supply: int, goal: int, change: int, seconds: int) -> int:
    direction = 10_000 - bonded * 10_000 // supply * 10_000 // goal
    moved = rate + direction * change * 10**9 * seconds // (10_000 * YEAR)
    return min(max(moved, 700 * 10**9), 2_000 * 10**9)


@pytest.mark.parametrize("bonded", [SUPPLY // 100, SUPPLY * 67 // 100, SUPPLY * 99 // 100])
@pytest.mark.parametrize("seconds", [1, 200, 10**7, 10**9])
def test_rate_follows_what_is_bonded(bonded: int, seconds: int) -> None:
    world = StakingWorld([(A, bonded)])
    world.advance(1, seconds)
    world.elect([(A, bonded // COIN)])
    assert world.view("totals")[6] == next_rate(INITIAL_BPS * 10**9, bonded, SUPPLY, 6_700, 1_300, seconds)


def test_rate_moves_by_the_time_since_the_last_election(world: StakingWorld) -> None:
    world.advance(1, 1_000)
    world.elect([(A, 100)])
    world.begin_epoch()
    first = world.view("totals")[6]
    world.advance(1, 500)
    world.elect([(A, 100)])
    assert world.view("totals")[6] == next_rate(first, 400 * COIN, SUPPLY, 6_700, 1_300, 500)


def test_candidates_have_the_least_stake(world: StakingWorld) -> None:
    world.call(A, "undelegate", A, 68 * COIN)
    assert len(world.view("candidates")) == 2
    world.call(A, "undelegate", A, 1)
    assert [entry["operator"] for entry in world.view("candidates")] == [B]


def test_views_of_what_does_not_exist(world: StakingWorld) -> None:
    unknown: Call = world.call(HOLDER, "validator", HOLDER)
    assert unknown.reason == "staking: no such validator"
    assert world.view("delegation", HOLDER, HOLDER)[:3] == (0, 0, 0)
    assert world.view("unbondings", HOLDER) == ()
    assert world.view("missed_of", [HOLDER]) == (0,)
