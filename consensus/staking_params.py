"""The numbers that govern stake, as genesis lists them, and the bounds within which governance may move them.

docs/staking.md, "Parameters": the order of the fields is the order of their ids. Amounts are wei, times whole
milliseconds, shares of a whole basis points (ten thousandths).
"""

from dataclasses import dataclass, fields
from typing import Final

BPS: Final = 10_000
WEI_PER_POWER: Final = 10**18
"""A member's power is its tokens in whole BWT, rounded down."""
MAX_SEATS: Final = 128
MIN_DOWNTIME_WINDOW: Final = 8

_DAY_MS: Final = 86_400_000
_BOUNDS: Final[dict[str, tuple[int, int]]] = {
    "min_stake_wei": (10**18, 10**27),
    "max_validators": (1, MAX_SEATS),
    "unbonding_ms": (1, 2**53 - 1),
    "max_commission_change_bps": (0, BPS),
    "downtime_window": (MIN_DOWNTIME_WINDOW, 100_000),
    "downtime_min_signed_bps": (0, 9_500),
    "downtime_slash_bps": (0, 1_000),
    "downtime_jail_ms": (1_000, 2**40),
    "max_jailed_per_epoch": (1, MAX_SEATS),
    "double_sign_slash_bps": (100, BPS),
    "inflation_min_bps": (0, 5_000),
    "inflation_max_bps": (0, 5_000),
    "inflation_change_bps": (0, BPS),
    "bonded_goal_bps": (100, BPS),
    "proposer_share_bps": (0, 5_000),
    "base_fee_to_stakers_bps": (0, BPS),
    "maintenance_max_blocks": (0, 100_000),
    "inflation_initial_bps": (0, 5_000),
}


class StakingParamsError(ValueError):
    """A staking parameter out of its bounds. `field` is the attribute's name."""

    def __init__(self, field: str, expected: str, found: int) -> None:
        super().__init__(f"{field}: expected {expected}, found {found}")
        self.field = field
        self.expected = expected
        self.found = found


@dataclass(frozen=True, slots=True)
class StakingParams:
    """The devnet's values by default. Raises `StakingParamsError` for values out of bounds."""

    min_stake_wei: int = 32 * WEI_PER_POWER
    """A validator below it leaves the set."""
    max_validators: int = 64
    unbonding_ms: int = 21 * _DAY_MS
    """As in the consensus parameters; fixed."""
    max_commission_change_bps: int = 100
    """A day."""
    downtime_window: int = 100
    """Heights; at most an epoch."""
    downtime_min_signed_bps: int = 5_000
    """Of a window."""
    downtime_slash_bps: int = 100
    downtime_jail_ms: int = 600_000
    max_jailed_per_epoch: int = 2
    """For downtime."""
    double_sign_slash_bps: int = 500
    inflation_min_bps: int = 700
    """A year, as the two below."""
    inflation_max_bps: int = 2_000
    inflation_change_bps: int = 1_300
    bonded_goal_bps: int = 6_700
    proposer_share_bps: int = 500
    """Of a block's reward."""
    base_fee_to_stakers_bps: int = 0
    """The rest is burned."""
    maintenance_max_blocks: int = 200
    inflation_initial_bps: int = 1_300
    """Genesis alone: where the rate starts. It has no id and governance cannot set it."""

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _BOUNDS.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise StakingParamsError(name, f"{lowest} to {highest}", value)
        if self.inflation_min_bps > self.inflation_max_bps:
            raise StakingParamsError(
                "inflation_min_bps", f"at most inflation_max_bps ({self.inflation_max_bps})", self.inflation_min_bps
            )
        if not self.inflation_min_bps <= self.inflation_initial_bps <= self.inflation_max_bps:
            expected = f"{self.inflation_min_bps} to {self.inflation_max_bps}, the bounds of the rate"
            raise StakingParamsError("inflation_initial_bps", expected, self.inflation_initial_bps)

    @property
    def by_id(self) -> tuple[int, ...]:
        """The values in the order of their ids, as the contract keeps them."""
        return tuple(getattr(self, name) for name in PARAMETER_NAMES)

    def check_epoch_length(self, epoch_length: int) -> None:
        """Raises `StakingParamsError` if no downtime window would ever end within an epoch."""
        if self.downtime_window > epoch_length:
            raise StakingParamsError(
                "downtime_window", f"at most the length of an epoch ({epoch_length})", self.downtime_window
            )


PARAMETER_NAMES: Final = tuple(field.name for field in fields(StakingParams) if field.name != "inflation_initial_bps")
"""The name of each id."""
