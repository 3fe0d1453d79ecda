"""Years of a chain's economy in steps of an epoch, a day each: simulated people on the real staking ledger.

Rewards, slashes, inflation, elections and jailing are the ledger's and `consensus`'s own code. What is simulated is
what people do and who is away. Chance comes from a seed alone, so that a run can be repeated.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from astralink_node.economics.decentralisation import gini_coefficient, largest_share, nakamoto_coefficient
from astralink_node.economics.ledger import StakingLedger
from astralink_node.economics.parameters import BPS, BWT, DAY_S, RATE_SCALE, StakingParameters
from astralink_node.economics.people import LEAST_MOVE_WEI, Holders, account, first_stakes, keys_of
from astralink_node.economics.scenarios import DAYS_A_YEAR, LargeOperator, Scenario
from astralink_node.types import Address
from consensus.downtime import offenders
from consensus.election import elect
from consensus.validator_set import Validator

SAMPLE_DAYS: Final = 30
_THIN: Final = 5 / 6
_LARGE_OPERATOR: Final = "large operator"


@dataclass(frozen=True, slots=True)
class Sample:
    """The economy at the end of a month. Yields and growth are the month's, at a year's rate, not compounded."""

    day: int
    supply_bwt: int
    supply_growth: float
    inflation: float
    """The rate that the ledger mints at, a year."""
    bonded_ratio: float
    delegator_yield: float
    """Of holders on what they have delegated: rewards after commission, less what slashes took of it."""
    validator_yield: float
    """Of operators on their own stake: its rewards and the commission, less what slashes took of it."""
    nakamoto_one_third: int
    """Parties, not validators, here and in the next three."""
    nakamoto_two_thirds: int
    gini: float
    largest_share: float
    members: int
    """Validators in the set."""
    jailed: int
    """Validators, tombstoned ones included."""
    lowest_presence: float
    """Of the set's power, what was present on the worst day since the last sample; two thirds are needed."""
    thin_days: int
    """Days since the last sample with less than five sixths of the set's power present: half the reserve gone."""
    minted_bwt: int
    """Since the start, as the next two."""
    burned_bwt: int
    """Fees and slashes."""
    slashed_bwt: int


@dataclass(frozen=True, slots=True)
class Run:
    scenario: Scenario
    seed: int
    parameters: StakingParameters
    samples: tuple[Sample, ...]
    """The first is the start, where growth and yields are 0."""


def simulate(
    scenario: Scenario,
    parameters: StakingParameters,
    *,
    inflation_initial_bps: int,
    years: int,
    seed: int,
    on_day: Callable[[int], None] = lambda _day: None,
) -> Run:
    """Run `scenario` on a chain with these parameters. `on_day` hears of every day that is done."""
    economy = Economy(scenario, replace(parameters, **scenario.parameters), inflation_initial_bps, seed)
    samples = [economy.sample(0)]
    days = years * DAYS_A_YEAR
    for day in range(1, days + 1):
        economy.live(day)
        if day % SAMPLE_DAYS == 0 or day == days:
            samples.append(economy.sample(day))
        on_day(day)
    return Run(scenario, seed, economy.ledger.parameters, tuple(samples))


@dataclass(slots=True)
class _Money:
    """Of one kind of people, in wei: what they earned since the start, lost since, and had bonded, summed over days."""

    earned: int = 0
    lost: int = 0
    stake_days: int = 0

    def yield_since(self, before: "_Money") -> float:
        stake_days = self.stake_days - before.stake_days
        gained = (self.earned - before.earned) - (self.lost - before.lost)
        return gained * DAYS_A_YEAR / stake_days if stake_days else 0.0


class Economy:
    """The ledger, the people, and what happens in a day: one epoch, with one block for all of its rewards."""

    def __init__(self, scenario: Scenario, parameters: StakingParameters, inflation_bps: int, seed: int) -> None:
        self._scenario = scenario
        self._chance = random.Random(seed)
        self._window = parameters.downtime_window
        supply = scenario.supply_bwt * BWT
        self.ledger = StakingLedger.initialise(
            first_stakes(scenario, self._chance, supply=supply, min_stake_wei=parameters.min_stake_wei),
            parameters,
            inflation_initial_bps=inflation_bps,
            supply_wei=supply,
            timestamp=0,
            set_hash=bytes(32),
        )
        self.holders = Holders(scenario, self._chance, self.ledger)
        self._members = self._elected()
        self._away_until: dict[Address, int] = {}
        self._party: dict[Address, str] = {}
        self._collected = 0
        self._operators = _Money()
        self._delegators = _Money()
        self._slashed = 0
        self._presence: list[float] = []
        self._before = (0, supply, replace(self._operators), replace(self._delegators))

    def live(self, day: int) -> None:
        """Day 1 is epoch 1, whose set was elected on day 0."""
        now = day * DAY_S
        away = self._who_is_away(day)
        self.ledger.begin_epoch(day, now * 1000, height=day * self._window)
        self._reward(day, now, away)
        self._punish(day, now, away)
        large = self._scenario.large_operator
        if large and large.day == day:
            self._join(large, now)
        self._operators_act(day, now, away)
        self.holders.act(day, now)
        self._elect(day, now)
        own_stake = sum(self.ledger.delegation_value(operator, operator) for operator in self.ledger.operators())
        self._operators.stake_days += own_stake
        self._delegators.stake_days += self.ledger.totals.bonded - own_stake

    def sample(self, day: int) -> Sample:
        ledger, totals = self.ledger, self.ledger.totals
        self._delegators.earned = self.holders.earned()
        self._operators.earned = self._collected + sum(
            ledger.pending(operator, operator) + ledger.settled_validator(operator).commission
            for operator in ledger.operators()
        )
        last_day, supply, operators, delegators = self._before
        self._before = (day, totals.supply, replace(self._operators), replace(self._delegators))
        days = day - last_day
        presence, self._presence = self._presence, []
        powers = list(self._power_by_party().values())
        return Sample(
            day=day,
            supply_bwt=totals.supply // BWT,
            supply_growth=(totals.supply / supply - 1) * DAYS_A_YEAR / days if days else 0.0,
            inflation=totals.rate / (BPS * RATE_SCALE),
            bonded_ratio=totals.bonded / totals.supply,
            delegator_yield=self._delegators.yield_since(delegators),
            validator_yield=self._operators.yield_since(operators),
            nakamoto_one_third=nakamoto_coefficient(powers, Fraction(1, 3)),
            nakamoto_two_thirds=nakamoto_coefficient(powers, Fraction(2, 3)),
            gini=float(gini_coefficient(powers)),
            largest_share=float(largest_share(powers)),
            members=len(self._members),
            jailed=sum(ledger.validator(operator).jailed for operator in ledger.operators()),
            lowest_presence=min(presence, default=1.0),
            thin_days=sum(present < _THIN for present in presence),
            minted_bwt=totals.minted // BWT,
            burned_bwt=totals.burned // BWT,
            slashed_bwt=self._slashed // BWT,
        )

    def _power_by_party(self) -> Counter[str]:
        powers: Counter[str] = Counter()
        for member in self._members:
            operator = Address(member.operator)
            powers[self._party.get(operator, operator.hex())] += member.power
        return powers

    # What the protocol does

    def _reward(self, day: int, now: int, away: frozenset[Address]) -> None:
        boom = self._scenario.fee_boom
        fees_bwt = boom.base_fees_bwt if boom and boom.period.covers(day) else self._scenario.base_fees_bwt
        fees = self.holders.give(fees_bwt * BWT)
        present = [member for member in self._members if member.operator not in away]
        credited = sum(member.power for member in present)
        total = sum(member.power for member in self._members)
        self._presence.append(credited / total)
        proposer = self._chance.choices(present, weights=[member.power for member in present])[0]
        _, burn, _ = self.ledger.begin_block(
            Address(proposer.operator), credited, total, fees, [], [], 0, timestamp=now
        )
        self._slashed += burn

    def _punish(self, day: int, now: int, away: frozenset[Address]) -> None:
        """As the protocol judges a window of a day: whoever is away missed all of it."""
        ledger, members = self.ledger, self._members
        absent = [operator for operator in map(_operator, members) if operator in away]
        last = day * self._window + self._window - 1
        for height in range(last + 1 - self._window, last + 1):
            ledger.note_absent(height, absent)
        found = offenders(
            members,
            ledger.missed([_operator(member) for member in members]),
            window=self._window,
            min_signed_bps=ledger.parameters.downtime_min_signed_bps,
            room=ledger.room_to_jail(),
        )
        ledger.close_window(
            last,
            [_operator(member) for member in found],
            [member.power for member in found],
            [_operator(member) for member in members],
            timestamp=now,
        )
        double_signers = self._double_signers(day)
        for member in double_signers:
            ledger.slash_double_sign(_operator(member), member.power, day, bytes(32), timestamp=now)
        for member in (*found, *double_signers):
            self._count_loss(_operator(member))

    def _count_loss(self, operator: Address) -> None:
        validator = self.ledger.validator(operator)
        cut = validator.slashes[-1].cut_wei
        own = cut * self.ledger.shares_of(operator, operator) // validator.shares if validator.shares else 0
        self._operators.lost += own
        self._delegators.lost += cut - own

    def _elect(self, day: int, now: int) -> None:
        elected = self._elected()
        if elected:
            self.ledger.elect(
                day + 1,
                day.to_bytes(32, "big"),
                [_operator(member) for member in elected],
                [member.power for member in elected],
                timestamp=now,
            )
            self._members = elected

    def _elected(self) -> tuple[Validator, ...]:
        return elect(self.ledger.candidates(), self.ledger.parameters.max_validators)

    # What happens to operators, and what they do

    def _who_is_away(self, day: int) -> frozenset[Address]:
        """Who misses this whole day: each member by a small chance, and whoever the shared bug hits."""
        bug = self._scenario.shared_bug
        if bug and day == bug.period.first:
            room = sum(member.power for member in self._members) * bug.power_bps // BPS
            for member in self._chance.sample(self._members, len(self._members)):
                if member.power <= room:
                    room -= member.power
                    self._away_until[_operator(member)] = bug.period.last
        for member in self._members:
            if self._chance.random() < self._scenario.outages_a_year / DAYS_A_YEAR:
                self._away_until.setdefault(_operator(member), day)
        self._away_until = {operator: last for operator, last in self._away_until.items() if last >= day}
        return frozenset(self._away_until)

    def _double_signers(self, day: int) -> list[Validator]:
        bug = self._scenario.shared_bug
        chance = self._scenario.double_signs_a_year / DAYS_A_YEAR
        found = {member: None for member in self._members if self._chance.random() < chance}
        if bug and day == bug.period.first:
            hit = [member for member in self._members if self._away_until.get(_operator(member)) == bug.period.last]
            found |= dict.fromkeys(self._chance.sample(hit, min(bug.double_signers, len(hit))))
        return [member for member in found if not self.ledger.validator(_operator(member)).tombstoned]

    def _join(self, large: LargeOperator, now: int) -> None:
        """Buys from holders what it stakes."""
        bought = self.holders.give(self.ledger.totals.supply * large.stake_bps // BPS)
        for number in range(large.validators):
            operator = account(9_000 + number)
            self._party[operator] = _LARGE_OPERATOR
            stake = bought // (large.validators - number)
            bought -= stake
            self.ledger.create_validator(
                operator, stake, *keys_of(operator), large.commission_bps, _LARGE_OPERATOR, timestamp=now
            )

    def _operators_act(self, day: int, now: int, away: frozenset[Address]) -> None:
        """Return from jail when back; once a month collect, bond a part again and pay costs with the rest."""
        ledger = self.ledger
        for number, operator in enumerate(ledger.registered()):
            validator = ledger.validator(operator)
            back = validator.jailed and not validator.tombstoned and operator not in away
            if back and now >= validator.jailed_until:
                ledger.unjail(operator, timestamp=now)
            if (day + number) % SAMPLE_DAYS == 0:
                earned = ledger.claim(operator, operator, timestamp=now) + ledger.withdraw_commission(operator)
                self._collected += earned
                again = earned * self._scenario.restaked_bps // BPS
                if again >= LEAST_MOVE_WEI and not validator.tombstoned and validator.tokens:
                    ledger.delegate(operator, again, operator, timestamp=now)
                    earned -= again
                self.holders.receive(earned)


def _operator(member: Validator) -> Address:
    return Address(member.operator)
