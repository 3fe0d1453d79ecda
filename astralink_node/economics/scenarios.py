"""Named assumptions about who stakes, what they want and what happens to them: the input of the simulation.

They are assumptions, not forecasts. What the protocol does in them is not assumed: the staking ledger itself runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

DAYS_A_YEAR: Final = 365
INFLATION_INITIAL_BPS: Final = 1_000
"""Of the simulated chain, unless a genesis file says another."""


@dataclass(frozen=True, slots=True)
class Period:
    """Days `first` to `last`, both included, counted from the start."""

    first: int
    last: int

    def covers(self, day: int) -> bool:
        return self.first <= day <= self.last


@dataclass(frozen=True, slots=True)
class FeeBoom:
    period: Period
    base_fees_bwt: int
    """A day, instead of the usual."""


@dataclass(frozen=True, slots=True)
class Exodus:
    """The price falls and holders ask for more before they stake."""

    period: Period
    wanted_yield_bps: int
    """On top of what each wants otherwise."""
    haste_bps: int
    """Of its stake, what a holder moves at a time, instead of the usual."""


@dataclass(frozen=True, slots=True)
class LargeOperator:
    """One party registers several validators."""

    day: int
    validators: int
    stake_bps: int
    """Of the supply, in all of them together."""
    commission_bps: int


@dataclass(frozen=True, slots=True)
class SharedBug:
    """A bug in software that many run takes them off the network; a few of them sign twice on coming back."""

    period: Period
    power_bps: int
    """Of the power, at most: with a third and more the chain would stand still."""
    double_signers: int


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    description: str
    supply_bwt: int = 100_000_000
    bonded_bps: int = 7_000
    """Of the supply, at the start."""
    validators: int = 48
    own_stake_bps: int = 1_500
    """Of all stake at the start, what operators bring themselves."""
    holders: int = 240
    wanted_yield_bps: tuple[int, int] = (600, 1_800)
    """A year; each holder's is drawn between these, and within a twentieth of it does nothing."""
    haste_bps: int = 800
    """Of its liquid or staked BWT, what a holder moves at a time, once a week."""
    restaked_bps: int = 7_000
    """Of rewards."""
    base_fees_bwt: int = 2_000
    """A day."""
    outages_a_year: float = 0.2
    """Days on which a validator is away, on average."""
    double_signs_a_year: float = 0.004
    """For each validator."""
    parameters: Mapping[str, int] = field(default_factory=dict)
    """Staking parameters that differ from the chain's."""
    fee_boom: FeeBoom | None = None
    exodus: Exodus | None = None
    large_operator: LargeOperator | None = None
    shared_bug: SharedBug | None = None


_BUG: Final = SharedBug(Period(541, 544), power_bps=3_000, double_signers=2)

SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario("baseline", "Modest fees, single outages, holders who stake for 6 to 18 % a year."),
        Scenario(
            "low-participation",
            "A fifth of the supply is bonded, and holders want 15 to 60 % a year before they stake.",
            bonded_bps=2_000,
            wanted_yield_bps=(1_500, 6_000),
        ),
        Scenario(
            "large-operator",
            "After a year one party brings 12 % of the supply in six validators that take no commission.",
            large_operator=LargeOperator(DAYS_A_YEAR, validators=6, stake_bps=1_200, commission_bps=0),
        ),
        Scenario(
            "fee-heavy",
            "In the third year 40,000 BWT of base fees a day are burned instead of 2,000.",
            fee_boom=FeeBoom(Period(2 * DAYS_A_YEAR, 3 * DAYS_A_YEAR - 1), base_fees_bwt=40_000),
        ),
        Scenario(
            "shared-bug",
            "A shared bug takes up to 30 % of the power away for four days; two of them sign twice. Jailing is capped.",
            shared_bug=_BUG,
        ),
        Scenario(
            "shared-bug-uncapped",
            "The same bug on a chain that jails up to 128 validators an epoch.",
            shared_bug=_BUG,
            parameters={"max_jailed_per_epoch": 128},
        ),
        Scenario(
            "exodus",
            "The price falls: for nine months holders want 15 % a year more, and move a quarter of their stake a week.",
            exodus=Exodus(Period(541, 810), wanted_yield_bps=1_500, haste_bps=2_500),
        ),
    )
}
"""By name."""
