"""The plainest model of staking rewards: at every block every delegator is paid its part, one by one.

No accumulators and nothing lazy. Parts are exact fractions, or integers with many digits more than a wei where there
are too many blocks for fractions; only what the specification counts in whole wei (a block's reward, the proposer's
share of it, shares bought and sold) is rounded.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from astralink_node.economics.parameters import BPS, YEAR_S, StakingParameters
from astralink_node.types import Address

Amount = Fraction | int
Part = Callable[[Amount, int, int], Amount]
"""(amount, numerator, denominator) -> that part of the amount."""


def exact_part(amount: Amount, numerator: int, denominator: int) -> Amount:
    return Fraction(amount) * numerator / denominator


def fine_part(amount: Amount, numerator: int, denominator: int) -> Amount:
    """For amounts that count 10^-40 of a wei."""
    return int(amount) * numerator // denominator


FINE_UNIT = 10**40


@dataclass
class NaiveValidator:
    commission_bps: int
    active: bool = True
    tokens: int = 0
    shares: Counter[Address] = field(default_factory=Counter)

    def total(self) -> int:
        return sum(self.shares.values())


class NaiveRewards:
    """What everybody has earned since the beginning, claimed or not, in units of 1 / `unit` wei."""

    def __init__(self, parameters: StakingParameters, supply: int, rate_bps: int, part: Part, unit: int) -> None:
        self.parameters = parameters
        self.supply = supply
        self.rate_bps = rate_bps
        self.validators: dict[Address, NaiveValidator] = {}
        self.earned: defaultdict[tuple[Address, Address], Amount] = defaultdict(int)
        self.commission: defaultdict[Address, Amount] = defaultdict(int)
        self.slack: Counter[tuple[Address, Address]] = Counter()
        """What the global accumulator's rounding may have cost the delegation, in 10^-18 wei: one of it a block."""
        self.minted = 0
        self._to_burn = 0
        """Slashed since the last block; part of the supply until the next."""
        self._part = part
        self._unit = unit

    def join(self, operator: Address, stake: int, commission_bps: int) -> None:
        self.validators[operator] = NaiveValidator(commission_bps)
        self.delegate(operator, stake, operator)

    def delegate(self, delegator: Address, amount: int, operator: Address) -> None:
        validator = self.validators[operator]
        shares = amount * validator.total() // validator.tokens if validator.total() else amount
        validator.shares[delegator] += shares
        validator.tokens += amount

    def undelegate(self, delegator: Address, operator: Address, shares: int) -> None:
        validator = self.validators[operator]
        validator.tokens -= shares * validator.tokens // validator.total()
        validator.shares[delegator] -= shares

    def slash(self, operator: Address, cut: int) -> None:
        self.validators[operator].tokens -= cut
        self._to_burn += cut

    def block(self, proposer: Address, credited: int, total: int, fees: int, seconds: int) -> int:
        """Pay everybody; what is minted."""
        parameters = self.parameters
        active = sum(validator.tokens for validator in self.validators.values() if validator.active)
        inflation = self.supply * self.rate_bps * seconds // (BPS * YEAR_S)
        self.supply -= fees + self._to_burn
        self._to_burn = 0
        if not active:
            return 0
        reward = inflation + fees * parameters.base_fee_to_stakers_bps // BPS
        pool = reward * parameters.proposer_share_bps // BPS
        for_proposer = pool * credited // total if self.validators[proposer].active else 0
        mint = reward - pool + for_proposer
        self.minted += mint
        self.supply += mint
        for operator, validator in self.validators.items():
            if validator.active:
                self._pay(operator, self._part((reward - pool) * self._unit, validator.tokens, active))
        if for_proposer:
            self._pay(proposer, for_proposer * self._unit)
        return mint

    def _pay(self, operator: Address, amount: Amount) -> None:
        validator = self.validators[operator]
        total = validator.total()
        commission_bps = validator.commission_bps if total else BPS
        self.commission[operator] += self._part(amount, commission_bps, BPS)
        for delegator, shares in validator.shares.items():
            if shares:
                part = self._part(amount, (BPS - commission_bps) * shares, BPS * total)
                self.earned[delegator, operator] += part
                self.slack[delegator, operator] += validator.tokens * shares // total + 1
