"""Whatever accounts and protocol do to the staking ledger, its books balance and no wei comes from nowhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from astralink_node.economics.book import Refused, StakingBook
from astralink_node.economics.ledger import GenesisStake, StakingLedger
from astralink_node.economics.parameters import BPS, BWT, StakingParameters
from astralink_node.types import Address
from consensus.election import elect

T0 = 1_800_000_000
UNBONDING = 3 * 86_400
SUPPLY = 10_000 * BWT


def account(number: int) -> Address:
    return Address(number.to_bytes(20, "big"))


def keys(number: int) -> tuple[bytes, bytes]:
    return number.to_bytes(48, "big"), number.to_bytes(32, "big")


operators = st.integers(1, 5).map(account)
holders = st.integers(1, 7).map(account)
amounts = st.one_of(st.integers(0, 5), st.integers(0, 500 * BWT))


def image(ledger: StakingLedger) -> list[str]:
    return [repr(getattr(ledger, name)) for name in StakingBook.__slots__]


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        parameters = StakingParameters(
            min_stake_wei=BWT,
            unbonding_ms=UNBONDING * 1000,
            double_sign_slash_bps=5_000,
            downtime_slash_bps=1_000,
            base_fee_to_stakers_bps=3_000,
            max_jailed_per_epoch=1,
        )
        self.ledger = StakingLedger.initialise(
            [GenesisStake(account(n), *keys(n), 100 * n * BWT, 700 * n) for n in (1, 2, 3)],
            parameters,
            inflation_initial_bps=1_000,
            supply_wei=SUPPLY,
            timestamp=T0,
            set_hash=b"",
        )
        self.now = T0
        self.height = 0
        self.put_in = 600 * BWT
        self.taken_out = 0
        self.minted = 0
        self.burned = 0
        self.paid: Counter[Address] = Counter({account(n): -100 * n * BWT for n in (1, 2, 3)})

    def attempt(self, operation: Callable[[], int | None]) -> int | None:
        """What it returns; None and an unchanged ledger if it was refused."""
        before = image(self.ledger)
        try:
            return operation()
        except Refused:
            assert image(self.ledger) == before
            return None

    def pays(self, who: Address, operation: Callable[[], int]) -> None:
        amount = self.attempt(operation) or 0
        assert amount >= 0
        self.taken_out += amount
        self.paid[who] += amount

    @rule(seconds=st.integers(0, 86_400), credited=st.integers(0, 3), fees=amounts, proposer=operators)
    def block(self, seconds: int, credited: int, fees: int, proposer: Address) -> None:
        self.height += 1
        self.now += seconds
        before = self.ledger.totals.supply
        mint, burn, _ = self.ledger.begin_block(proposer, credited, 3, fees, [], [], 0, timestamp=self.now)
        self.minted += mint
        self.burned += burn
        assert self.ledger.totals.supply == before + mint - burn - fees
        assert self.ledger.totals.to_burn == 0

    @rule(who=holders, operator=operators, amount=amounts)
    def delegate(self, who: Address, operator: Address, amount: int) -> None:
        if self.attempt(lambda: self.ledger.delegate(who, amount, operator, timestamp=self.now)):
            self.put_in += amount
            self.paid[who] -= amount

    @rule(who=holders, operator=operators, bps=st.integers(0, 10_001))
    def undelegate(self, who: Address, operator: Address, bps: int) -> None:
        shares = self.ledger.delegation(who, operator).shares * bps // BPS
        self.attempt(lambda: self.ledger.undelegate(who, operator, shares, timestamp=self.now))

    @rule(who=holders, source=operators, destination=operators, bps=st.integers(0, 10_001))
    def redelegate(self, who: Address, source: Address, destination: Address, bps: int) -> None:
        shares = self.ledger.delegation(who, source).shares * bps // BPS
        self.attempt(lambda: self.ledger.redelegate(who, source, destination, shares, timestamp=self.now))

    @rule(who=holders, index=st.integers(0, 3))
    def withdraw(self, who: Address, index: int) -> None:
        self.pays(who, lambda: self.ledger.withdraw(who, index, timestamp=self.now))

    @rule(who=holders, operator=operators)
    def claim(self, who: Address, operator: Address) -> None:
        self.pays(who, lambda: self.ledger.claim(who, operator, timestamp=self.now))

    @rule(who=operators)
    def withdraw_commission(self, who: Address) -> None:
        self.pays(who, lambda: self.ledger.withdraw_commission(who))

    @rule(who=holders, operator=operators)
    def poke(self, who: Address, operator: Address) -> None:
        self.attempt(lambda: self.ledger.poke(who, operator, timestamp=self.now))

    @rule(number=st.integers(4, 5), amount=amounts)
    def create_validator(self, number: int, amount: int) -> None:
        known = self.ledger.operators()
        self.attempt(
            lambda: self.ledger.create_validator(account(number), amount, *keys(number), 500, "", timestamp=self.now)
        )
        if self.ledger.operators() != known:
            self.put_in += amount
            self.paid[account(number)] -= amount

    @rule(operator=operators, power=st.integers(0, 600), ago=st.integers(0, 2))
    def double_sign(self, operator: Address, power: int, ago: int) -> None:
        self.slash(
            operator,
            power,
            lambda: self.ledger.slash_double_sign(
                operator, power, max(self.ledger.totals.epoch - ago, 0), b"", timestamp=self.now
            ),
        )

    @rule(operator=operators, power=st.integers(0, 600))
    def downtime(self, operator: Address, power: int) -> None:
        self.slash(
            operator,
            power,
            lambda: self.ledger.close_window(self.height, [operator], [power], [operator], timestamp=self.now),
        )

    def slash(self, operator: Address, power: int, operation: Callable[[], None]) -> None:
        """A slash takes at most its share of the stake, and at most that of the power at fault."""
        if operator not in self.ledger.operators():
            return
        before, to_burn = self.ledger.validator(operator).tokens, self.ledger.totals.to_burn
        known = len(self.ledger.validator(operator).slashes)
        self.attempt(operation)
        slashes = self.ledger.validator(operator).slashes
        if len(slashes) > known:
            cut = before - self.ledger.validator(operator).tokens
            assert cut == slashes[-1].cut_wei == self.ledger.totals.to_burn - to_burn
            assert 0 <= cut * BPS <= min(before, power * BWT) * slashes[-1].bps

    @rule(operator=operators)
    def unjail(self, operator: Address) -> None:
        self.attempt(lambda: self.ledger.unjail(operator, timestamp=self.now))

    @rule(begins=st.booleans())
    def elect(self, begins: bool) -> None:
        members = elect(self.ledger.candidates(), 3)
        epoch = self.ledger.totals.epoch + 1
        who = [Address(member.operator) for member in members]
        powers = [member.power for member in members]
        self.attempt(lambda: self.ledger.elect(epoch, b"next", who, powers, timestamp=self.now))
        if begins:
            self.ledger.begin_epoch(epoch, self.now * 1000, height=self.height)

    @invariant()
    def books_balance(self) -> None:
        ledger, totals = self.ledger, self.ledger.totals
        assert totals.balance == totals.bonded + totals.unbonding + totals.owed + totals.to_burn
        assert totals.balance == self.put_in + self.minted - self.burned - self.taken_out
        validators = [ledger.validator(operator) for operator in ledger.operators()]
        assert totals.bonded == sum(validator.tokens for validator in validators)
        assert totals.active_tokens == sum(validator.tokens for validator in validators if validator.active)
        assert min(totals.balance, totals.bonded, totals.unbonding, totals.owed, totals.to_burn) >= 0
        everybody = [account(number) for number in range(1, 8)]
        entries = [view for who in everybody for view in ledger.unbondings(who)]
        assert totals.unbonding == sum(view.entry.amount for view in entries)
        assert all(0 <= view.value_now <= view.entry.amount for view in entries)

    @invariant()
    def shares_add_up_and_what_is_promised_is_there(self) -> None:
        ledger = self.ledger
        shares: Counter[Address] = Counter()
        promised = sum(ledger.settled_validator(operator).commission for operator in ledger.operators())
        for who, operator in ledger.delegators():
            delegation = ledger.delegation(who, operator)
            shares[operator] += delegation.shares
            assert 0 <= delegation.free_shares <= delegation.shares
            promised += ledger.pending(who, operator)
        assert promised <= ledger.totals.owed
        for operator in ledger.operators():
            validator = ledger.validator(operator)
            assert shares[operator] == validator.shares
            assert validator.shares or not validator.tokens
            # A share is never worth more than a wei, so nobody can make the smallest share dear.
            assert validator.tokens <= validator.shares
            assert not (validator.active and validator.jailed)

    def teardown(self) -> None:
        """Everybody leaves with everything: all that stays is what rounding left."""
        ledger = self.ledger
        everybody = [account(number) for number in range(1, 8)]
        self.now += UNBONDING
        for who, operator in list(ledger.delegators()):
            self.pays(who, lambda w=who, o=operator: ledger.claim(w, o, timestamp=self.now))
            shares = ledger.delegation(who, operator).shares
            if ledger.validator(operator).tokens_of(shares) and len(ledger.unbondings(who)) < 32:
                ledger.undelegate(who, operator, shares, timestamp=self.now)
        for operator in ledger.operators():
            self.pays(operator, lambda o=operator: ledger.withdraw_commission(o))
        self.now += UNBONDING
        for who in everybody:
            while ledger.unbondings(who):
                self.pays(who, lambda w=who: ledger.withdraw(w, 0, timestamp=self.now))
        self.block(0, 0, 0, account(1))
        self.books_balance()
        assert self.taken_out == sum(self.paid.values()) + self.put_in <= self.put_in + self.minted
        assert ledger.totals.unbonding == 0
        # A wei a settlement, and a wei a BWT of stake for each block's part of a token.
        assert 0 <= ledger.totals.owed < 10**6 * (self.height + 100)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40)
