"""The staking ledger, number by number as docs/staking.md says it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest

from astralink_node.economics.book import Refused, StakingBook
from astralink_node.economics.ledger import GenesisStake, StakingLedger
from astralink_node.economics.parameters import BWT, PARAMETER_NAMES, StakingParameters
from astralink_node.types import Address

T0 = 1_800_000_000
YEAR = 31_536_000
UNBONDING = 1_814_400


def account(number: int) -> Address:
    return Address(number.to_bytes(20, "big"))


ALICE, BOB, CAROL = account(1), account(2), account(3)
DAVE, ERIN = account(101), account(102)


def key(number: int) -> bytes:
    return number.to_bytes(48, "big")


def stake(number: int, bwt: int, commission_bps: int = 0) -> GenesisStake:
    return GenesisStake(account(number), key(number), key(number)[16:], bwt * BWT, commission_bps)


def ledger(*stakes: GenesisStake, initial_bps: int = 1_000, **parameters: int) -> StakingLedger:
    return StakingLedger.initialise(
        stakes or (stake(1, 100), stake(2, 100)),
        StakingParameters(**{"proposer_share_bps": 0, **parameters}),
        inflation_initial_bps=initial_bps,
        supply_wei=1_000 * BWT,
        timestamp=T0,
        set_hash=b"genesis",
    )


def block(
    book: StakingLedger,
    seconds: int = 0,
    proposer: Address = ALICE,
    credited: int = 1,
    total: int = 1,
    fees: int = 0,
) -> tuple[int, int]:
    """A block `seconds` after the last; (mint, burn). The identity of the balance holds after it."""
    now = book.totals.last_block_time + seconds
    mint, burn, _ = book.begin_block(proposer, credited, total, fees, [], [], 0, timestamp=now)
    totals = book.totals
    assert totals.balance == totals.bonded + totals.unbonding + totals.owed
    return mint, burn


def refused(book: StakingLedger, reason: str, operation: Callable[[], object]) -> None:
    """The operation is refused for that reason, and nothing at all has changed."""
    before = pickle.dumps(snapshot(book))
    with pytest.raises(Refused, match=reason):
        operation()
    assert pickle.dumps(snapshot(book)) == before


def snapshot(book: StakingLedger) -> list[object]:
    return [repr(getattr(book, name)) for name in sorted(StakingBook.__slots__)]


# Genesis


def test_genesis_bonds_what_the_validators_bring() -> None:
    book = ledger(stake(1, 100), stake(2, 60, 500))
    assert book.totals.balance == book.totals.bonded == book.totals.active_tokens == 160 * BWT
    assert book.delegation(ALICE, ALICE).shares == 100 * BWT
    assert book.validator(BOB).commission_bps == 500
    assert book.set_record(0) == (b"genesis", T0 * 1000)
    assert [entry.tokens_wei for entry in book.candidates()] == [100 * BWT, 60 * BWT]


def test_genesis_with_a_rate_out_of_bounds_is_refused() -> None:
    with pytest.raises(Refused, match="inflation"):
        ledger(initial_bps=699)


def test_genesis_with_more_stake_than_supply_is_refused() -> None:
    with pytest.raises(Refused, match="supply"):
        ledger(stake(1, 1_001))


# Rewards


def test_a_year_mints_the_rate_and_splits_it_by_stake() -> None:
    book = ledger(stake(1, 100), stake(2, 300))
    assert block(book, YEAR) == (100 * BWT, 0)
    assert book.pending(ALICE, ALICE) == 25 * BWT
    assert book.pending(BOB, BOB) == 75 * BWT
    assert book.totals.supply == 1_100 * BWT


def test_proposer_is_paid_for_the_power_that_it_credits_and_the_rest_is_not_minted() -> None:
    book = ledger(proposer_share_bps=500)
    mint, _ = block(book, YEAR, credited=3, total=4)
    assert mint == 95 * BWT + 5 * BWT * 3 // 4
    assert book.pending(ALICE, ALICE) == 95 * BWT // 2 + 5 * BWT * 3 // 4
    assert book.pending(BOB, BOB) == 95 * BWT // 2
    assert book.totals.owed == mint


def test_proposer_that_is_not_active_is_paid_nothing() -> None:
    book = ledger(proposer_share_bps=500)
    assert block(book, YEAR, proposer=CAROL) == (95 * BWT, 0)


def test_base_fees_are_burned_without_a_share_for_stakers() -> None:
    book = ledger()
    assert block(book, fees=7 * BWT) == (0, 0)
    assert book.totals.burned == 7 * BWT


def test_stakers_part_of_base_fees_is_minted_again_and_not_counted_as_new() -> None:
    book = ledger(base_fee_to_stakers_bps=2_500)
    assert block(book, fees=8 * BWT) == (2 * BWT, 0)
    assert (book.totals.minted, book.totals.burned) == (0, 6 * BWT)
    assert book.pending(ALICE, ALICE) == BWT


def test_unpaid_part_of_the_proposers_share_of_fees_is_burned() -> None:
    book = ledger(base_fee_to_stakers_bps=10_000, proposer_share_bps=5_000)
    mint, _ = block(book, credited=1, total=2, fees=8 * BWT)
    assert mint == 6 * BWT
    assert (book.totals.minted, book.totals.burned) == (0, 2 * BWT)


def test_without_active_tokens_nothing_is_minted_and_all_fees_are_burned() -> None:
    book = ledger(stake(1, 100), base_fee_to_stakers_bps=5_000)
    book.slash_double_sign(ALICE, 100, 0, b"", timestamp=T0)
    assert block(book, YEAR, fees=4 * BWT) == (0, 5 * BWT)
    assert (book.totals.minted, book.totals.burned) == (0, 9 * BWT)


def test_commission_is_taken_from_everything_the_validator_earns() -> None:
    book = ledger(stake(1, 100, 1_000), stake(2, 100))
    block(book, YEAR)
    assert book.settled_validator(ALICE).commission == 5 * BWT
    assert book.pending(ALICE, ALICE) == 45 * BWT
    assert book.withdraw_commission(ALICE) == 5 * BWT
    assert book.claim(ALICE, ALICE, timestamp=T0 + YEAR) == 45 * BWT
    assert book.totals.owed == 50 * BWT
    assert book.claim(ALICE, ALICE, timestamp=T0 + YEAR) == 0


def test_commission_of_the_past_follows_the_old_rate() -> None:
    book = ledger(stake(1, 100, 1_000), stake(2, 100))
    block(book, YEAR)
    book.set_commission(ALICE, 1_100, timestamp=T0 + YEAR)
    assert book.validator(ALICE).commission == 5 * BWT


def test_new_tokens_earn_from_the_next_block_on() -> None:
    book = ledger(stake(1, 100), stake(2, 100))
    block(book, YEAR)
    assert book.delegate(DAVE, 200 * BWT, ALICE, timestamp=T0 + YEAR) == 200 * BWT
    assert book.pending(DAVE, ALICE) == 0
    mint, _ = block(book, YEAR)
    assert mint == 110 * BWT
    assert book.pending(DAVE, ALICE) == 55 * BWT
    assert book.pending(ALICE, ALICE) == 50 * BWT + 110 * BWT // 4


def test_commission_moves_once_a_day_and_by_little() -> None:
    book = ledger()
    day = T0 + 86_400
    refused(book, "within a day", lambda: book.set_commission(ALICE, 50, timestamp=day - 1))
    refused(book, "too much", lambda: book.set_commission(ALICE, 101, timestamp=day))
    refused(book, "bounds", lambda: book.set_commission(ALICE, -1, timestamp=day))
    book.set_commission(ALICE, 100, timestamp=day)
    refused(book, "within a day", lambda: book.set_commission(ALICE, 150, timestamp=day + 1))
    book.set_commission(ALICE, 0, timestamp=day + 86_400)


# Inflation


def test_rate_rises_while_too_little_is_bonded_and_by_at_most_the_change_of_a_year() -> None:
    book = ledger(stake(1, 100), stake(2, 100))  # 2,000 bps of the supply are bonded, the goal is 6,700
    book.elect(1, b"next", [ALICE], [100], timestamp=T0 + YEAR)
    direction = 10_000 - 2_000 * 10_000 // 6_700
    assert book.totals.rate == 1_000 * 10**9 + direction * 1_300 * 10**9 // 10_000


def test_rate_falls_while_too_much_is_bonded_rounding_down() -> None:
    book = ledger(stake(1, 900))
    book.elect(1, b"next", [ALICE], [900], timestamp=T0 + 7)
    direction = 10_000 - 9_000 * 10_000 // 6_700
    assert direction < 0
    assert book.totals.rate == 1_000 * 10**9 + direction * 1_300 * 10**9 * 7 // (10_000 * YEAR)


@pytest.mark.parametrize(("bonded", "bound"), [(1_000, 700), (1, 2_000)])
def test_rate_stays_within_its_bounds(bonded: int, bound: int) -> None:
    book = ledger(stake(1, bonded), min_stake_wei=BWT)
    book.elect(1, b"next", [ALICE], [bonded], timestamp=T0 + 50 * YEAR)
    assert book.totals.rate == bound * 10**9


# Epochs


def test_elected_set_is_active_from_its_epoch_on() -> None:
    book = ledger(stake(1, 100), stake(2, 100))
    book.create_validator(CAROL, 50 * BWT, key(3), key(3)[16:], 0, "carol", timestamp=T0)
    book.elect(1, b"next", [ALICE, CAROL], [100, 50], timestamp=T0)
    assert book.totals.active_tokens == 200 * BWT
    book.begin_epoch(1, T0 * 1000, height=100)
    assert book.totals.active_tokens == 150 * BWT
    assert [book.validator(account(n)).active for n in (1, 2, 3)] == [True, False, True]
    assert book.set_record(1) == (b"next", T0 * 1000)
    refused(book, "not after", lambda: book.begin_epoch(1, 0, height=100))


def test_without_an_election_the_set_stays() -> None:
    book = ledger()
    book.begin_epoch(1, 5, height=100)
    assert book.set_record(1) == (b"genesis", 5)
    assert book.totals.active_tokens == 200 * BWT


def test_validator_jailed_before_its_epoch_begins_is_not_active_in_it() -> None:
    book = ledger()
    book.elect(1, b"next", [ALICE, BOB], [100, 100], timestamp=T0)
    book.close_window(99, [BOB], [100], [ALICE, BOB], timestamp=T0)
    book.begin_epoch(1, 0, height=100)
    assert book.totals.active_tokens == 100 * BWT


def test_election_of_nonsense_is_refused() -> None:
    book = ledger(max_validators=2)
    for operators, powers in [([], []), ([ALICE], []), ([ALICE, ALICE], [1, 1]), ([ALICE], [0])]:
        refused(book, "set|power", lambda o=operators, p=powers: book.elect(1, b"", o, p, timestamp=T0))
    refused(book, "no validator", lambda: book.elect(1, b"", [CAROL], [1], timestamp=T0))
    refused(book, "seats", lambda: book.elect(1, b"", [ALICE, BOB, CAROL], [1, 1, 1], timestamp=T0))
    book.elect(1, b"", [ALICE], [1], timestamp=T0)
    refused(book, "elected", lambda: book.elect(1, b"", [BOB], [1], timestamp=T0))


def test_credits_of_a_height_are_joined_and_overwritten_sixteen_later() -> None:
    book = ledger()
    assert book.begin_block(ALICE, 1, 1, 0, [4], [0b01], 4, timestamp=T0)[2] == 0b01
    assert book.begin_block(ALICE, 1, 1, 0, [5, 4], [0b11, 0b10], 4, timestamp=T0)[2] == 0b11
    assert book.begin_block(ALICE, 1, 1, 0, [20], [0b100], 4, timestamp=T0)[2] == 0
    assert book.begin_block(ALICE, 1, 1, 0, [], [], 20, timestamp=T0)[2] == 0b100


def test_block_start_that_makes_no_sense_is_refused() -> None:
    book = ledger()
    refused(book, "credited", lambda: book.begin_block(ALICE, 2, 1, 0, [], [], 0, timestamp=T0))
    refused(book, "number", lambda: book.begin_block(ALICE, 1, 1, 0, [1], [], 0, timestamp=T0))
    refused(book, "time", lambda: book.begin_block(ALICE, 1, 1, 0, [], [], 0, timestamp=T0 - 1))


# Stake in motion


def test_share_costs_less_after_a_slash() -> None:
    book = ledger()
    book.slash_double_sign(BOB, 100, 0, b"", timestamp=T0)
    book.close_window(99, [ALICE], [100], [ALICE], timestamp=T0)
    assert book.validator(ALICE).tokens == 99 * BWT
    assert book.delegate(DAVE, 99 * BWT, ALICE, timestamp=T0) == 100 * BWT
    assert book.delegation_value(DAVE, ALICE) == 99 * BWT


def test_delegating_is_refused_where_it_makes_no_sense() -> None:
    book = ledger(stake(1, 100), stake(2, 100), double_sign_slash_bps=10_000, downtime_slash_bps=1_000)
    refused(book, "no validator", lambda: book.delegate(DAVE, BWT, CAROL, timestamp=T0))
    refused(book, "share", lambda: book.delegate(DAVE, 0, ALICE, timestamp=T0))
    book.slash_double_sign(BOB, 100, 0, b"", timestamp=T0)
    refused(book, "tombstoned", lambda: book.delegate(DAVE, BWT, BOB, timestamp=T0))


def test_undelegated_stake_leaves_at_once_and_is_paid_when_mature() -> None:
    book = ledger()
    assert book.undelegate(ALICE, ALICE, 40 * BWT, timestamp=T0) == 40 * BWT
    assert (book.totals.bonded, book.totals.unbonding, book.totals.active_tokens) == (160 * BWT, 40 * BWT, 160 * BWT)
    refused(book, "still", lambda: book.withdraw(ALICE, 0, timestamp=T0 + UNBONDING - 1))
    refused(book, "entry 1 of 1", lambda: book.withdraw(ALICE, 1, timestamp=T0 + UNBONDING))
    assert book.withdraw(ALICE, 0, timestamp=T0 + UNBONDING) == 40 * BWT
    assert book.unbondings(ALICE) == ()
    block(book)


@pytest.mark.parametrize("shares", [0, -1, 100 * BWT + 1])
def test_more_shares_than_there_are_cannot_leave(shares: int) -> None:
    book = ledger()
    refused(book, "shares of", lambda: book.undelegate(ALICE, ALICE, shares, timestamp=T0))
    refused(book, "shares of", lambda: book.redelegate(ALICE, ALICE, BOB, shares, timestamp=T0))


def test_thirty_third_unbonding_entry_is_refused() -> None:
    book = ledger()
    for _ in range(32):
        book.undelegate(ALICE, ALICE, 1, timestamp=T0)
    refused(book, "too many", lambda: book.undelegate(ALICE, ALICE, 1, timestamp=T0))


def test_last_entry_takes_the_place_of_a_withdrawn_one() -> None:
    book = ledger()
    for amount in (1, 2, 3):
        book.undelegate(ALICE, ALICE, amount, timestamp=T0)
    book.withdraw(ALICE, 0, timestamp=T0 + UNBONDING)
    assert [view.entry.amount for view in book.unbondings(ALICE)] == [3, 2]


def test_leaving_stake_bears_a_slash_for_an_epoch_that_counted_it() -> None:
    book = ledger()
    book.undelegate(ALICE, ALICE, 40 * BWT + 1, timestamp=T0)
    book.slash_double_sign(ALICE, 100, 0, b"", timestamp=T0 + 5)
    assert book.unbondings(ALICE)[0].value_now == 38 * BWT
    assert book.withdraw(ALICE, 0, timestamp=T0 + UNBONDING) == 38 * BWT
    assert block(book)[1] == 2 * BWT + 1 + (60 * BWT - 1) * 500 // 10_000


def test_slash_for_a_later_epoch_spares_who_had_left() -> None:
    book = ledger()
    book.undelegate(ALICE, ALICE, 40 * BWT, timestamp=T0)
    book.begin_epoch(1, 0, height=100)
    book.slash_double_sign(ALICE, 60, 1, b"", timestamp=T0 + 5)
    assert book.withdraw(ALICE, 0, timestamp=T0 + UNBONDING) == 40 * BWT


def test_stake_that_leaves_after_the_election_still_answers_for_the_next_epoch() -> None:
    book = ledger()
    book.elect(1, b"", [ALICE, BOB], [100, 100], timestamp=T0)
    book.undelegate(ALICE, ALICE, 40 * BWT, timestamp=T0)
    book.begin_epoch(1, 0, height=100)
    book.slash_double_sign(ALICE, 100, 1, b"", timestamp=T0 + 5)
    assert book.unbondings(ALICE)[0].value_now == 38 * BWT


def test_slash_before_undelegating_is_not_borne_twice() -> None:
    book = ledger()
    book.slash_double_sign(ALICE, 100, 0, b"", timestamp=T0)
    assert book.undelegate(ALICE, ALICE, 40 * BWT, timestamp=T0) == 38 * BWT
    assert book.unbondings(ALICE)[0].value_now == 38 * BWT


def test_redelegated_stake_moves_at_once_and_answers_for_where_it_was() -> None:
    book = ledger(stake(1, 100), stake(2, 100), stake(3, 100))
    book.delegate(DAVE, 50 * BWT, ALICE, timestamp=T0)
    assert book.redelegate(DAVE, ALICE, BOB, 50 * BWT, timestamp=T0) == 50 * BWT
    assert [book.validator(operator).tokens for operator in (ALICE, BOB)] == [100 * BWT, 150 * BWT]
    refused(book, "may move", lambda: book.redelegate(DAVE, BOB, CAROL, 1, timestamp=T0))
    refused(book, "may move", lambda: book.undelegate(DAVE, BOB, 1, timestamp=T0))
    book.slash_double_sign(ALICE, 150, 0, b"", timestamp=T0 + 1)
    assert book.poke(DAVE, BOB, timestamp=T0 + 2) == 1
    assert book.delegation(DAVE, BOB).shares == 47 * BWT + BWT // 2
    assert book.validator(BOB).tokens == 147 * BWT + BWT // 2
    assert book.delegation(DAVE, BOB).free_shares == 0
    assert book.poke(DAVE, BOB, timestamp=T0 + 2) == 0
    assert block(book)[1] == 5 * BWT + 5 * BWT // 2


def test_liability_that_matured_is_forgotten_after_its_slashes() -> None:
    book = ledger(stake(1, 100), stake(2, 100), stake(3, 100))
    book.delegate(DAVE, 50 * BWT, ALICE, timestamp=T0)
    book.redelegate(DAVE, ALICE, BOB, 50 * BWT, timestamp=T0)
    book.slash_double_sign(ALICE, 150, 0, b"", timestamp=T0 + 1)
    left = 47 * BWT + BWT // 2
    assert book.redelegate(DAVE, BOB, CAROL, left, timestamp=T0 + UNBONDING) == left
    assert book.delegation(DAVE, BOB).shares == 0
    liability = book.delegation(DAVE, CAROL).liability
    assert liability is not None
    assert liability.source == BOB


def test_delegation_holds_one_liability_at_most() -> None:
    book = ledger(stake(1, 100), stake(2, 100), stake(3, 100))
    for operator in (ALICE, CAROL):
        book.delegate(DAVE, 50 * BWT, operator, timestamp=T0)
    book.redelegate(DAVE, ALICE, BOB, 50 * BWT, timestamp=T0)
    refused(book, "liability", lambda: book.redelegate(DAVE, CAROL, BOB, 1, timestamp=T0))
    book.redelegate(DAVE, CAROL, BOB, 1, timestamp=T0 + UNBONDING)


def test_own_shares_beside_liable_ones_are_free() -> None:
    book = ledger(stake(1, 100), stake(2, 100), stake(3, 100))
    for operator in (ALICE, BOB):
        book.delegate(DAVE, 50 * BWT, operator, timestamp=T0)
    book.redelegate(DAVE, ALICE, BOB, 50 * BWT, timestamp=T0)
    assert book.undelegate(DAVE, BOB, 50 * BWT, timestamp=T0) == 50 * BWT


def test_redelegating_to_the_same_or_a_tombstoned_validator_is_refused() -> None:
    book = ledger()
    refused(book, "one validator", lambda: book.redelegate(ALICE, ALICE, ALICE, 1, timestamp=T0))
    book.slash_double_sign(BOB, 100, 0, b"", timestamp=T0)
    refused(book, "tombstoned", lambda: book.redelegate(ALICE, ALICE, BOB, 1, timestamp=T0))
    assert book.redelegate(BOB, BOB, ALICE, BWT, timestamp=T0) > 0


def jailed_often(book: StakingLedger, operator: Address, times: int) -> int:
    now = T0
    for _ in range(times):
        now += 600
        book.close_window(50, [operator], [1], [operator], timestamp=now)
        book.unjail(operator, timestamp=now + 600)
    return now


def test_at_most_64_slashes_are_applied_at_a_time() -> None:
    book = ledger(max_jailed_per_epoch=128)
    book.undelegate(ALICE, ALICE, 40 * BWT, timestamp=T0)
    book.delegate(DAVE, 50 * BWT, ALICE, timestamp=T0)
    book.redelegate(DAVE, ALICE, BOB, 50 * BWT, timestamp=T0)
    now = jailed_often(book, ALICE, 65)
    refused(book, "applied first", lambda: book.withdraw(ALICE, 0, timestamp=T0 + UNBONDING))
    refused(book, "applied first", lambda: book.delegate(DAVE, BWT, BOB, timestamp=now))
    value = book.unbondings(ALICE)[0].value_now
    assert [book.poke(ALICE, ALICE, timestamp=now) for _ in range(3)] == [64, 1, 0]
    book.claim(DAVE, BOB, timestamp=now)
    assert [book.poke(DAVE, BOB, timestamp=now) for _ in range(2)] == [1, 0], "claiming applied 64"
    assert book.withdraw(ALICE, 0, timestamp=T0 + UNBONDING) == value
    book.delegate(DAVE, BWT, BOB, timestamp=now)


# Punishment


def test_slash_takes_from_the_power_of_the_fault_and_no_more_than_there_is() -> None:
    book = ledger()
    book.delegate(DAVE, 300 * BWT, ALICE, timestamp=T0)
    book.slash_double_sign(ALICE, 100, 0, b"", timestamp=T0)
    book.slash_double_sign(BOB, 1_000, 0, b"", timestamp=T0)
    assert [book.validator(operator).tokens for operator in (ALICE, BOB)] == [395 * BWT, 95 * BWT]
    assert block(book) == (0, 10 * BWT)
    assert book.totals.supply == 990 * BWT


def test_tombstoned_validator_never_comes_back() -> None:
    book = ledger()
    book.slash_double_sign(ALICE, 100, 0, b"", timestamp=T0)
    refused(book, "already", lambda: book.slash_double_sign(ALICE, 100, 0, b"", timestamp=T0))
    refused(book, "tombstoned", lambda: book.unjail(ALICE, timestamp=T0 + YEAR))
    assert [entry.operator for entry in book.candidates()] == [BOB]
    book.begin_epoch(1, 0, height=100)
    assert book.totals.active_tokens == 100 * BWT
    assert book.undelegate(ALICE, ALICE, 100 * BWT, timestamp=T0) == 95 * BWT


def test_downtime_jails_until_the_operator_returns() -> None:
    book = ledger()
    book.note_absent(10, [ALICE, BOB])
    assert book.missed([ALICE, BOB]) == (1, 1)
    refused(book, "not jailed", lambda: book.unjail(ALICE, timestamp=T0))
    book.close_window(99, [ALICE], [100], [ALICE, BOB], timestamp=T0)
    assert book.missed([ALICE, BOB]) == (0, 0)
    assert (book.validator(ALICE).tokens, book.validator(ALICE).active) == (99 * BWT, False)
    book.note_absent(100, [ALICE])
    assert book.missed([ALICE]) == (0,)
    refused(book, "still", lambda: book.unjail(ALICE, timestamp=T0 + 599))
    book.unjail(ALICE, timestamp=T0 + 600)
    assert not book.validator(ALICE).active
    book.begin_epoch(1, 0, height=100)
    assert book.validator(ALICE).active


def test_no_more_are_jailed_in_an_epoch_than_allowed() -> None:
    book = ledger(stake(1, 100), stake(2, 100), stake(3, 100))
    refused(book, "too many", lambda: book.close_window(99, [ALICE, BOB, CAROL], [1, 1, 1], [], timestamp=T0))
    book.close_window(99, [ALICE, BOB], [1, 1], [], timestamp=T0)
    assert book.room_to_jail() == 0
    refused(book, "too many", lambda: book.close_window(99, [CAROL], [1], [], timestamp=T0))
    book.begin_epoch(1, 0, height=100)
    assert book.room_to_jail() == 2


def test_window_judged_in_the_next_epoch_is_a_fault_of_its_own() -> None:
    book = ledger(stake(1, 100), stake(2, 100))
    book.begin_epoch(1, 0, height=100)
    book.close_window(99, [ALICE], [100], [], timestamp=T0)
    book.close_window(199, [BOB], [100], [], timestamp=T0)
    assert [book.validator(operator).slashes[0].epoch for operator in (ALICE, BOB)] == [0, 1]


def test_announced_maintenance_excuses_absence() -> None:
    book = ledger()
    book.announce_maintenance(ALICE, 200, 50, height=100)
    for height in (199, 200, 249, 250):
        book.note_absent(height, [ALICE])
    assert book.missed([ALICE]) == (2,)


def test_maintenance_is_announced_early_is_short_and_rare() -> None:
    book = ledger()
    refused(book, "too soon", lambda: book.announce_maintenance(ALICE, 199, 50, height=100))
    refused(book, "too long", lambda: book.announce_maintenance(ALICE, 200, 201, height=100))
    refused(book, "no length", lambda: book.announce_maintenance(ALICE, 200, 0, height=100))
    refused(book, "no validator", lambda: book.announce_maintenance(DAVE, 200, 1, height=100))
    book.announce_maintenance(ALICE, 200, 50, height=100)
    refused(book, "over and judged", lambda: book.announce_maintenance(ALICE, 750, 1, height=257))
    refused(book, "after the last", lambda: book.announce_maintenance(ALICE, 749, 1, height=258))
    book.announce_maintenance(ALICE, 750, 1, height=258)


# Registration


def test_validator_registers_once_with_new_keys_and_the_minimum_stake() -> None:
    book = ledger()

    def create(sender: Address, value: int, voting: bytes, checkpoint: bytes, commission: int = 0) -> None:
        book.create_validator(sender, value, voting, checkpoint, commission, "name", timestamp=T0)

    refused(book, "minimum", lambda: create(CAROL, 32 * BWT - 1, key(3), key(3)[16:]))
    refused(book, "registered already", lambda: create(ALICE, 32 * BWT, key(3), key(3)[16:]))
    refused(book, "key", lambda: create(CAROL, 32 * BWT, key(1), key(3)[16:]))
    refused(book, "key", lambda: create(CAROL, 32 * BWT, key(3), key(2)[16:]))
    refused(book, "commission", lambda: create(CAROL, 32 * BWT, key(3), key(3)[16:], 10_001))
    create(CAROL, 32 * BWT, key(3), key(3)[16:])
    assert not book.validator(CAROL).active
    assert len(book.candidates()) == 3
    block(book)


def test_keys_rotate_once_an_epoch_and_never_come_back() -> None:
    book = ledger()
    book.rotate_voting_key(ALICE, key(8))
    book.rotate_checkpoint_key(ALICE, key(8)[16:])
    assert (book.candidates()[0].voting_key, book.candidates()[0].ml_dsa_key_hash) == (key(8), key(8)[16:])
    refused(book, "in this epoch", lambda: book.rotate_voting_key(ALICE, key(9)))
    refused(book, "in this epoch", lambda: book.rotate_checkpoint_key(ALICE, key(9)[16:]))
    book.begin_epoch(1, 0, height=100)
    refused(book, "registered before", lambda: book.rotate_voting_key(ALICE, key(1)))
    refused(book, "registered before", lambda: book.rotate_checkpoint_key(BOB, key(8)[16:]))
    book.rotate_voting_key(ALICE, key(9))


def test_full_register_takes_a_stronger_validator_and_lets_go_of_the_weakest() -> None:
    book = StakingLedger.initialise(
        [stake(1, 100), stake(2, 100)],
        StakingParameters(),
        inflation_initial_bps=700,
        supply_wei=100_000 * BWT,
        timestamp=T0,
        set_hash=b"",
    )

    def create(number: int, bwt: int) -> None:
        book.create_validator(account(number), bwt * BWT, key(number), key(number)[16:], 0, "", timestamp=T0)

    for number in range(3, 257):
        create(number, 40 if number > 3 else 35)
    refused(book, "full", lambda: create(300, 35))
    create(300, 36)
    assert book.registered()[2] == account(256), "the last took the place"
    assert book.registered()[-1] == account(300)
    assert len(book.registered()) == 256
    assert account(3) not in [entry.operator for entry in book.candidates()]
    assert book.undelegate(account(3), account(3), 35 * BWT, timestamp=T0) == 35 * BWT
    refused(book, "registered already", lambda: create(3, 90))
    book.elect(1, b"", [account(300)], [36], timestamp=T0)
    create(301, 41)
    assert account(300) in book.registered(), "who is elected is not displaced"
    assert account(256) not in book.registered(), "the first in the list of those with least"


def test_who_cannot_be_elected_is_displaced_from_a_full_register() -> None:
    book = ledger()
    for number in range(3, 256):
        book.create_validator(account(number), 32 * BWT, key(number), key(number)[16:], 0, "", timestamp=T0)
    book.undelegate(account(3), account(3), 1, timestamp=T0)
    refused(book, "not full", lambda: book.displace(account(3)))
    book.create_validator(account(256), 32 * BWT, key(256), key(256)[16:], 0, "", timestamp=T0)
    refused(book, "could be elected", lambda: book.displace(account(4)))
    refused(book, "in the set", lambda: book.displace(ALICE))
    book.displace(account(3))
    assert account(3) not in book.registered()
    book.create_validator(account(257), 32 * BWT, key(257), key(257)[16:], 0, "", timestamp=T0)
    refused(book, "displaced already", lambda: book.displace(account(3)))
    book.slash_double_sign(account(5), 32, 0, b"", timestamp=T0)
    book.displace(account(5))
    assert len(book.registered()) == 255


# Frozen until judged

HASH = b"evidence"


def test_frozen_stake_neither_leaves_nor_comes_until_it_is_judged() -> None:
    book = ledger()
    book.delegate(DAVE, 10 * BWT, ALICE, timestamp=T0)
    book.undelegate(DAVE, ALICE, BWT, timestamp=T0)
    book.freeze(ALICE, 100, 0, HASH)
    frozen = book.validator(ALICE)
    assert (frozen.jailed, frozen.active, frozen.tombstoned, frozen.tokens) == (True, False, False, 109 * BWT)
    later = T0 + UNBONDING
    refused(book, "frozen", lambda: book.freeze(ALICE, 100, 0, HASH))
    refused(book, "frozen", lambda: book.undelegate(DAVE, ALICE, BWT, timestamp=later))
    refused(book, "frozen", lambda: book.redelegate(DAVE, ALICE, BOB, BWT, timestamp=later))
    refused(book, "frozen", lambda: book.redelegate(BOB, BOB, ALICE, BWT, timestamp=later))
    refused(book, "frozen", lambda: book.delegate(DAVE, BWT, ALICE, timestamp=later))
    refused(book, "frozen", lambda: book.withdraw(DAVE, 0, timestamp=later))
    refused(book, "frozen", lambda: book.unjail(ALICE, timestamp=later))
    book.judge(ALICE, guilty=False, timestamp=later)
    book.unjail(ALICE, timestamp=later)
    assert book.withdraw(DAVE, 0, timestamp=later) == BWT
    refused(book, "acquitted", lambda: book.freeze(ALICE, 100, 0, HASH))
    book.freeze(ALICE, 100, 1, HASH)


def test_who_is_judged_guilty_is_slashed_for_the_epoch_that_it_signed_in() -> None:
    book = ledger()
    book.delegate(DAVE, 50 * BWT, ALICE, timestamp=T0)
    book.undelegate(DAVE, ALICE, 10 * BWT, timestamp=T0)
    book.freeze(ALICE, 100, 0, HASH)
    book.begin_epoch(1, 0, height=100)
    book.judge(ALICE, guilty=True, timestamp=T0)
    guilty = book.validator(ALICE)
    assert guilty.tombstoned
    assert (guilty.slashes[0].epoch, guilty.slashes[0].cut_wei) == (0, 5 * BWT), "5 % of the 100 that voted"
    assert book.withdraw(DAVE, 0, timestamp=T0 + UNBONDING) == 10 * BWT * 95 // 100
    refused(book, "not frozen", lambda: book.judge(ALICE, guilty=True, timestamp=T0))
    refused(book, "tombstoned", lambda: book.freeze(ALICE, 100, 2, HASH))


def test_moved_stake_stays_liable_while_its_source_is_frozen() -> None:
    book = ledger()
    book.delegate(DAVE, 10 * BWT, ALICE, timestamp=T0)
    book.redelegate(DAVE, ALICE, BOB, 10 * BWT, timestamp=T0)
    book.freeze(ALICE, 100, 0, HASH)
    later = T0 + UNBONDING
    refused(book, "may move", lambda: book.undelegate(DAVE, BOB, 1, timestamp=later))
    book.judge(ALICE, guilty=True, timestamp=later)
    assert book.undelegate(DAVE, BOB, 9 * BWT, timestamp=later) == 9 * BWT
    assert book.delegation(DAVE, BOB).shares == BWT // 2, "5 % of what moved is burned"


# Governance


def test_governance_changes_a_parameter_within_its_bounds() -> None:
    book = ledger()
    book.set_parameter(14, 700)
    assert book.parameters == replace(StakingParameters(), proposer_share_bps=700)
    for identifier, value in [(14, 5_001), (0, 10**18 - 1), (10, 2_001), (11, 699), (4, 7), (17, 1), (-1, 1)]:
        refused(book, "expected", lambda i=identifier, v=value: book.set_parameter(i, v))
    refused(book, "fixed", lambda: book.set_parameter(2, 1_814_400_000))


def test_parameters_stand_in_the_order_of_their_ids() -> None:
    assert len(PARAMETER_NAMES) == 17
    assert [PARAMETER_NAMES[i] for i in (0, 2, 9, 13, 16)] == [
        "min_stake_wei",
        "unbonding_ms",
        "double_sign_slash_bps",
        "bonded_goal_bps",
        "maintenance_max_blocks",
    ]
    assert StakingParameters().values()[1] == 64
