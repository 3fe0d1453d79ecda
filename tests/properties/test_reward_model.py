"""Rewards by lazy accumulators are what a payment to every delegator at every block would be, less rounding.

The stated rounding: a block's part of one wei of stake is rounded down to 10^-18 wei, a settlement of a validator and
of a delegation to a wei each, a share's part to 10^-18 wei. Commission rounds down too, so that delegators together
may gain less than a wei where a commission is taken: never more than was minted.
"""

from __future__ import annotations

import random
from collections import Counter
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from astralink_node.economics.ledger import GenesisStake, StakingLedger
from astralink_node.economics.parameters import BWT, SCALE, StakingParameters
from astralink_node.types import Address
from tests.support.naive_rewards import FINE_UNIT, NaiveRewards, exact_part, fine_part

T0 = 1_800_000_000
DAY = 86_400
SUPPLY = 1_000_000 * BWT


def account(number: int) -> Address:
    return Address(number.to_bytes(20, "big"))


OPERATORS = [account(number) for number in range(1, 11)]
DELEGATORS = [account(number) for number in range(101, 107)]
THOUSAND = [account(number) for number in range(1_000, 2_000)]


class BothModels:
    """The ledger and the naive model under the same events, and how often the ledger had to round."""

    def __init__(self, stakes: list[int], commissions: list[int], naive: NaiveRewards) -> None:
        self.naive = naive
        self.ledger = StakingLedger.initialise(
            [
                GenesisStake(operator, operator, b"checkpoint" + operator, stake, commission)
                for operator, stake, commission in zip(OPERATORS, stakes, commissions, strict=False)
            ],
            naive.parameters,
            inflation_initial_bps=naive.rate_bps,
            supply_wei=SUPPLY,
            timestamp=T0,
            set_hash=b"",
        )
        for operator, stake, commission in zip(OPERATORS, stakes, commissions, strict=False):
            naive.join(operator, stake, commission)
        self.now = T0
        self.epoch = 0
        self.settled: Counter[Address] = Counter()
        self.touched: Counter[tuple[Address, Address]] = Counter()
        self.most_shares = Counter(
            {(operator, operator): stake for operator, stake in zip(OPERATORS, stakes, strict=False)}
        )
        self.paid: Counter[tuple[Address, Address]] = Counter()
        self.paid_commission: Counter[Address] = Counter()

    def block(self, proposer: Address, credited: int, total: int, fees: int, seconds: int) -> None:
        self.now += seconds
        mint, _, _ = self.ledger.begin_block(proposer, credited, total, fees, [], [], 0, timestamp=self.now)
        self.settled[proposer] += 1
        assert mint == self.naive.block(proposer, credited, total, fees, seconds)
        totals = self.ledger.totals
        assert totals.balance == totals.bonded + totals.unbonding + totals.owed

    def touch(self, delegator: Address, operator: Address) -> None:
        self.settled[operator] += 1
        self.touched[delegator, operator] += 1
        shares = self.ledger.delegation(delegator, operator).shares
        self.most_shares[delegator, operator] = max(shares, self.most_shares[delegator, operator])

    def delegate(self, delegator: Address, operator: Address, amount: int) -> None:
        validator = self.ledger.validator(operator)
        if validator.tombstoned or validator.shares_for(amount) < 1:
            return
        self.ledger.delegate(delegator, amount, operator, timestamp=self.now)
        self.naive.delegate(delegator, amount, operator)
        self.touch(delegator, operator)

    def undelegate(self, delegator: Address, operator: Address, part_bps: int) -> None:
        shares = self.ledger.delegation(delegator, operator).shares * part_bps // 10_000
        if not self.ledger.validator(operator).tokens_of(shares) or len(self.ledger.unbondings(delegator)) == 32:
            return
        self.ledger.undelegate(delegator, operator, shares, timestamp=self.now)
        self.naive.undelegate(delegator, operator, shares)
        self.touch(delegator, operator)

    def claim(self, delegator: Address, operator: Address) -> None:
        if (delegator, operator) in set(self.ledger.delegators()):
            self.paid[delegator, operator] += self.ledger.claim(delegator, operator, timestamp=self.now)
            self.touch(delegator, operator)

    def withdraw_commission(self, operator: Address) -> None:
        self.paid_commission[operator] += self.ledger.withdraw_commission(operator)
        self.settled[operator] += 1

    def set_commission(self, operator: Address, commission_bps: int) -> None:
        self.block(operator, 1, 1, 0, DAY)
        self.ledger.set_commission(operator, commission_bps, timestamp=self.now)
        self.naive.validators[operator].commission_bps = commission_bps
        self.settled[operator] += 1

    def slash(self, operator: Address, power: int, *, tombstone: bool) -> None:
        validator = self.ledger.validator(operator)
        if validator.jailed:
            return
        before = validator.tokens
        if tombstone:
            self.ledger.slash_double_sign(operator, power, self.epoch, b"", timestamp=self.now)
        elif self.ledger.room_to_jail():
            self.ledger.close_window(0, [operator], [power], [operator], timestamp=self.now)
        else:
            return
        self.naive.slash(operator, before - validator.tokens)
        self.naive.validators[operator].active = False
        self.settled[operator] += 1

    def next_epoch(self) -> None:
        """Everybody who may returns from jail."""
        self.block(OPERATORS[0], 1, 1, 0, 600)
        self.epoch += 1
        for operator in self.naive.validators:
            validator = self.ledger.validator(operator)
            if validator.jailed and not validator.tombstoned:
                self.ledger.unjail(operator, timestamp=self.now)
            self.naive.validators[operator].active = not validator.tombstoned
            self.settled[operator] += 1
        self.ledger.begin_epoch(self.epoch, 0, height=self.epoch * 100)

    def check(self, unit: int) -> None:
        """Nobody gets more than the naive model pays, nor less than the stated rounding allows."""
        everything = 0
        for operator in self.naive.validators:
            commission = self.ledger.settled_validator(operator).commission + self.paid_commission[operator]
            everything += commission
            exact = Fraction(self.naive.commission[operator]) / unit
            validator = self.naive.validators[operator]
            settlements = self.settled[operator] + 1
            slack = Fraction(sum(slack for (_, of), slack in self.naive.slack.items() if of == operator), SCALE)
            assert exact - slack - 2 * settlements <= commission <= exact + Fraction(1, 10**20)
            assert self.ledger.validator(operator).shares == validator.total()
            assert self.ledger.validator(operator).tokens == validator.tokens
        for delegator, operator in self.ledger.delegators():
            got = self.ledger.pending(delegator, operator) + self.paid[delegator, operator]
            everything += got
            exact = Fraction(self.naive.earned[delegator, operator]) / unit
            settlements = self.settled[operator] + 1
            of_shares = Fraction(self.most_shares[delegator, operator], SCALE)
            least = exact - Fraction(self.naive.slack[delegator, operator], SCALE)
            least -= settlements * (1 + of_shares) + self.touched[delegator, operator] + 1
            takes_commission = self.naive.commission[operator] > 0
            assert least <= got <= exact + (settlements if takes_commission else Fraction(1, 10**20))
        assert everything <= self.naive.minted
        assert self.ledger.totals.owed + sum(self.paid.values()) + self.paid_commission.total() == self.naive.minted


def models(stakes: list[int], commissions: list[int], *, fine: bool = False, **parameters: int) -> BothModels:
    naive = NaiveRewards(
        StakingParameters(max_commission_change_bps=10_000, **parameters),
        SUPPLY,
        1_000,
        fine_part if fine else exact_part,
        FINE_UNIT if fine else 1,
    )
    return BothModels(stakes, commissions, naive)


amounts = st.one_of(st.integers(1, 1_000), st.integers(1, 50_000 * BWT))
operators = st.integers(0, 2).map(OPERATORS.__getitem__)
delegators = st.sampled_from(DELEGATORS)
events = st.one_of(
    st.tuples(
        st.just("block"), operators, st.integers(67, 100), st.just(100), st.integers(0, BWT), st.integers(0, DAY)
    ),
    st.tuples(st.just("delegate"), delegators, operators, amounts),
    st.tuples(st.just("undelegate"), delegators, operators, st.integers(1, 10_000)),
    st.tuples(st.just("claim"), delegators, operators),
    st.tuples(st.just("withdraw_commission"), operators),
    st.tuples(st.just("set_commission"), operators, st.integers(0, 10_000)),
    st.tuples(st.just("downtime"), operators, st.integers(0, 60_000)),
    st.tuples(st.just("double_sign"), operators, st.integers(0, 60_000)),
    st.tuples(st.just("next_epoch")),
)


def apply(both: BothModels, event: tuple[object, ...]) -> None:
    kind, *arguments = event
    match kind:
        case "downtime" | "double_sign":
            operator, power = arguments
            both.slash(operator, power, tombstone=kind == "double_sign")  # type: ignore[arg-type]
        case _:
            getattr(both, str(kind))(*arguments)


@settings(max_examples=150)
@given(
    stakes=st.lists(st.integers(BWT, 100_000 * BWT), min_size=3, max_size=3),
    commissions=st.lists(st.sampled_from([0, 0, 1, 500, 10_000]), min_size=3, max_size=3),
    proposer_share_bps=st.integers(0, 5_000),
    base_fee_to_stakers_bps=st.integers(0, 10_000),
    history=st.lists(events, max_size=25),
)
def test_lazy_rewards_are_naive_ones_less_rounding(
    stakes: list[int],
    commissions: list[int],
    proposer_share_bps: int,
    base_fee_to_stakers_bps: int,
    history: list[tuple[object, ...]],
) -> None:
    both = models(
        stakes,
        commissions,
        proposer_share_bps=proposer_share_bps,
        base_fee_to_stakers_bps=base_fee_to_stakers_bps,
        min_stake_wei=BWT,
    )
    for event in history:
        apply(both, event)
    both.block(OPERATORS[0], 1, 1, 0, 60)
    both.check(1)


def test_a_thousand_delegators_over_a_hundred_epochs() -> None:
    chance = random.Random(20_261_126)
    both = models(
        [chance.randrange(100 * BWT, 20_000 * BWT) for _ in OPERATORS],
        [0, 0, 0, 300, 500, 500, 700, 1_000, 2_500, 10_000],
        fine=True,
        base_fee_to_stakers_bps=2_000,
    )
    for delegator in THOUSAND:
        both.delegate(delegator, chance.choice(OPERATORS), chance.randrange(1, 500 * BWT))
    for _ in range(100):
        for _ in range(6):
            both.block(chance.choice(OPERATORS), chance.randrange(67, 101), 100, chance.randrange(BWT), 3_600)
            for _ in range(3):
                delegator, operator = chance.choice(THOUSAND), chance.choice(OPERATORS)
                both.delegate(delegator, operator, chance.randrange(1, 500 * BWT))
                both.undelegate(*chance.choice(tuple(both.ledger.delegators())), chance.randrange(1, 10_000))
                both.claim(*chance.choice(tuple(both.ledger.delegators())))
        if chance.random() < 0.1:
            both.slash(chance.choice(OPERATORS), chance.randrange(20_000), tombstone=chance.random() < 0.1)
        both.next_epoch()
    both.check(FINE_UNIT)
    assert len(set(both.ledger.delegators())) > 1_500
    assert both.naive.minted > 1_000 * BWT
    lost = (
        both.ledger.totals.owed
        - sum(both.ledger.pending(*pair) for pair in both.ledger.delegators())
        - sum(both.ledger.settled_validator(operator).commission for operator in OPERATORS)
    )
    assert 0 < lost < BWT // 10**9
