"""The simulated people: who holds BWT at the start, and how holders stake, move and leave.

Holders look once a week at the yield that wallets show and compare it with what they want. Wishes and preferences
are floats and drawn by chance from a seed; wei are integers and always somebody's.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from astralink_node.economics.ledger import GenesisStake, StakingLedger
from astralink_node.economics.parameters import BPS, BWT, MAX_UNBONDINGS, RATE_SCALE
from astralink_node.economics.records import ValidatorRecord
from astralink_node.economics.scenarios import Scenario
from astralink_node.types import Address

DECISION_DAYS: Final = 7
LEAST_MOVE_WEI: Final = BWT
"""Nobody sends a transaction for less."""
_INDIFFERENCE: Final = 0.05
"""Of the yield that a holder wants: within this distance it neither stakes more nor leaves."""
_LOYALTY: Final = 0.6
"""Chance that new stake goes where the holder's other stake is."""
_MOST_CHOSEN: Final = 3
"""Validators among which a holder spreads its stake, unless one is jailed."""
_FLIGHT: Final = 0.25
"""Chance that a holder, when it looks, moves its stake away from a validator that is jailed."""
_COMMISSIONS_BPS: Final = (300, 500, 500, 700, 1_000)


@dataclass(slots=True)
class Holder:
    account: Address
    liquid: int
    """Wei outside the ledger."""
    wanted_yield: float
    """A year."""
    chosen: list[Address] = field(default_factory=list)
    """Validators that hold stake of its."""


def account(number: int) -> Address:
    return Address(number.to_bytes(20, "big"))


def keys_of(operator: Address) -> tuple[bytes, bytes]:
    """(voting key, hash of the checkpoint key): stand-ins of the right size."""
    return operator.rjust(48, b"\0"), operator.rjust(32, b"\0")


def first_stakes(scenario: Scenario, chance: random.Random, *, supply: int, min_stake_wei: int) -> list[GenesisStake]:
    """What operators bring themselves, unequal, none below the minimum."""
    bonded = supply * scenario.bonded_bps // BPS
    own = _divided(bonded * scenario.own_stake_bps // BPS, _sizes(chance, scenario.validators, 1.4))
    operators = [account(number) for number in range(1, scenario.validators + 1)]
    return [
        GenesisStake(operator, *keys_of(operator), max(stake, min_stake_wei), chance.choice(_COMMISSIONS_BPS))
        for operator, stake in zip(operators, own, strict=True)
    ]


class Holders:
    """All holders, acting on `ledger`. Together with the ledger's balance they hold the whole supply."""

    def __init__(self, scenario: Scenario, chance: random.Random, ledger: StakingLedger) -> None:
        self._scenario = scenario
        self._chance = chance
        self._ledger = ledger
        self.claimed = 0
        """Rewards paid out so far, in wei."""
        totals = ledger.totals
        fortunes = _divided(totals.supply - totals.balance, _sizes(chance, scenario.holders, 1.3))
        least, most = (bps / BPS for bps in scenario.wanted_yield_bps)
        self.all = [
            Holder(account(1_000 + number), fortune, chance.uniform(least, most))
            for number, fortune in enumerate(fortunes)
        ]
        self._stake_first(totals.supply * scenario.bonded_bps // BPS - totals.bonded)

    def act(self, day: int, now: int) -> None:
        for number, holder in enumerate(self.all):
            if (day + number) % DECISION_DAYS == 0:
                self._decide(holder, day, now)

    def receive(self, amount: int) -> None:
        """Somebody is paid."""
        self._chance.choice(self.all).liquid += amount

    def give(self, amount: int) -> int:
        """Everybody pays in proportion to what is liquid; what came together, at most `amount`."""
        liquid = sum(holder.liquid for holder in self.all)
        given = 0
        for holder in self.all:
            part = min(amount, liquid) * holder.liquid // liquid if liquid else 0
            holder.liquid -= part
            given += part
        return given

    def earned(self) -> int:
        """Rewards since the start, claimed or not."""
        pending = (self._ledger.pending(holder.account, operator) for holder in self.all for operator in holder.chosen)
        return self.claimed + sum(pending)

    def _decide(self, holder: Holder, day: int, now: int) -> None:
        """Collect, take back what has matured, leave the jailed, then stake more or less."""
        scenario = self._scenario
        self._take_matured(holder, now)
        earned = sum(self._ledger.claim(holder.account, operator, timestamp=now) for operator in holder.chosen)
        self.claimed += earned
        holder.liquid += earned
        holder.chosen = [chosen for chosen in holder.chosen if self._ledger.shares_of(holder.account, chosen)]
        self._leave_jailed(holder, now)
        wanted, haste_bps = holder.wanted_yield, scenario.haste_bps
        if scenario.exodus and scenario.exodus.period.covers(day):
            wanted += scenario.exodus.wanted_yield_bps / BPS
            haste_bps = scenario.exodus.haste_bps
        seen = shown_yield(self._ledger)
        if seen < wanted * (1 - _INDIFFERENCE):
            self._unstake(holder, haste_bps, now)
            return
        more = earned * scenario.restaked_bps // BPS
        if seen > wanted * (1 + _INDIFFERENCE):
            more += (holder.liquid - more) * haste_bps // BPS
        self._stake(holder, more, now, self._choose(holder, loyal=True))

    def _take_matured(self, holder: Holder, now: int) -> None:
        entries = [view.entry for view in self._ledger.unbondings(holder.account)]
        for index in reversed(range(len(entries))):  # a withdrawn entry's place is taken by the last
            if entries[index].matures_at <= now:
                holder.liquid += self._ledger.withdraw(holder.account, index, timestamp=now)

    def _stake(self, holder: Holder, amount: int, now: int, validator: ValidatorRecord | None) -> None:
        if validator is None or amount < LEAST_MOVE_WEI:
            return
        self._ledger.delegate(holder.account, amount, validator.operator, timestamp=now)
        holder.liquid -= amount
        _remember(holder, validator.operator)

    def _unstake(self, holder: Holder, haste_bps: int, now: int) -> None:
        for operator in holder.chosen:
            shares = self._ledger.delegation(holder.account, operator).free_shares * haste_bps // BPS
            worth_it = self._ledger.validator(operator).tokens_of(shares) >= LEAST_MOVE_WEI
            if worth_it and len(self._ledger.unbondings(holder.account)) < MAX_UNBONDINGS:
                self._ledger.undelegate(holder.account, operator, shares, timestamp=now)

    def _leave_jailed(self, holder: Holder, now: int) -> None:
        ledger = self._ledger
        for operator in tuple(holder.chosen):
            validator = ledger.validator(operator)
            if not validator.jailed or self._chance.random() >= _FLIGHT:
                continue
            destination = self._choose(holder, loyal=False)
            shares = ledger.delegation(holder.account, operator).free_shares
            if destination is None or validator.tokens_of(shares) < LEAST_MOVE_WEI:
                continue
            if ledger.delegation(holder.account, destination.operator).liability is None:
                ledger.redelegate(holder.account, operator, destination.operator, shares, timestamp=now)
                _remember(holder, destination.operator)

    def _choose(self, holder: Holder, *, loyal: bool) -> ValidatorRecord | None:
        """A validator that is well: one that the holder knows, or one by size and by what it leaves of a reward."""
        registered = map(self._ledger.validator, self._ledger.registered())
        well = [validator for validator in registered if not validator.jailed and validator.tokens]
        known = [validator for validator in well if validator.operator in holder.chosen]
        if loyal and known and (len(known) >= _MOST_CHOSEN or self._chance.random() < _LOYALTY):
            return self._chance.choice(known)
        if not well:
            return None
        weights = [(validator.tokens / BWT) ** 0.5 * (1 - validator.commission_bps / BPS) ** 4 for validator in well]
        return self._chance.choices(well, weights=weights)[0]

    def _stake_first(self, amount: int) -> None:
        """Who wants least has staked first, with two validators, and kept a tenth."""
        for holder in sorted(self.all, key=lambda holder: holder.wanted_yield):
            part = min(holder.liquid * 9 // 10, amount) // 2
            amount -= 2 * part
            for _ in range(2):
                self._stake(holder, part, self._ledger.totals.last_block_time, self._choose(holder, loyal=False))


def shown_yield(ledger: StakingLedger) -> float:
    """What wallets show: minted in a year at today's rate for each active token, before commission."""
    totals = ledger.totals
    return totals.supply * totals.rate / (BPS * RATE_SCALE * totals.active_tokens) if totals.active_tokens else 0.0


def _remember(holder: Holder, operator: Address) -> None:
    if operator not in holder.chosen:
        holder.chosen.append(operator)


def _sizes(chance: random.Random, count: int, shape: float) -> list[float]:
    """Pareto: a few large, many small, and no one far above a twentieth of all."""
    sizes = [chance.paretovariate(shape) for _ in range(count)]
    return [min(size, sum(sizes) / 20) for size in sizes]


def _divided(amount: int, sizes: Sequence[float]) -> list[int]:
    """`amount` in parts as the sizes are; the last takes what rounding leaves."""
    weights = [int(size * 1_000_000) for size in sizes]
    parts = [amount * weight // sum(weights) for weight in weights]
    parts[-1] += amount - sum(parts)
    return parts
