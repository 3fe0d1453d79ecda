"""The staking contract's seventeen parameters: their ids, bounds and the devnet's values (docs/staking.md).

Shares are in bps (ten thousandths), times in milliseconds, spans of the chain in heights.
"""

from dataclasses import astuple, dataclass, fields, replace
from typing import Final

BWT: Final = 10**18
"""Wei in one BWT."""
BPS: Final = 10_000
YEAR_S: Final = 31_536_000
DAY_S: Final = 86_400
SCALE: Final = 10**18
"""Of the reward accumulators, which count wei per wei and wei per share."""
RATE_SCALE: Final = 10**9
"""The inflation rate is kept as bps times this."""

MAX_REGISTERED: Final = 256
MAX_UNBONDINGS: Final = 32
"""Entries of one delegator."""
MAX_SLASHES_APPLIED: Final = 64
"""Pending slashes that one call applies."""
CREDIT_RING: Final = 16
"""Heights for which credits are kept."""
MAINTENANCE_REST: Final = 10
"""The next maintenance may begin only this many lengths of the last one after its end."""
JUDGED_LAG: Final = 8
"""Absence from a height is judged so many heights later."""


class ParameterError(ValueError):
    """A staking parameter that is unknown, fixed or out of its bounds."""


@dataclass(frozen=True, slots=True)
class StakingParameters:
    """In the order of their ids. Raises `ParameterError` for a value out of bounds."""

    min_stake_wei: int = 32 * BWT
    max_validators: int = 64
    unbonding_ms: int = 1_814_400_000
    max_commission_change_bps: int = 100
    downtime_window: int = 100
    downtime_min_signed_bps: int = 5_000
    downtime_slash_bps: int = 100
    downtime_jail_ms: int = 600_000
    max_jailed_per_epoch: int = 2
    double_sign_slash_bps: int = 500
    inflation_min_bps: int = 700
    inflation_max_bps: int = 2_000
    inflation_change_bps: int = 1_300
    bonded_goal_bps: int = 6_700
    proposer_share_bps: int = 500
    base_fee_to_stakers_bps: int = 0
    maintenance_max_blocks: int = 200

    def __post_init__(self) -> None:
        for field in fields(self):
            low, high = _BOUNDS[field.name]
            value = getattr(self, field.name)
            if not low <= value <= high:
                raise ParameterError(f"{field.name}: expected {low} to {high}, found {value}")
        if self.inflation_min_bps > self.inflation_max_bps:
            raise ParameterError(
                f"inflation_min_bps: expected at most inflation_max_bps ({self.inflation_max_bps}), "
                f"found {self.inflation_min_bps}"
            )

    def values(self) -> tuple[int, ...]:
        """By id."""
        return astuple(self)

    def changed(self, parameter_id: int, value: int) -> "StakingParameters":
        """With one value set as governance may; `ParameterError` if it may not."""
        if not 0 <= parameter_id < len(PARAMETER_NAMES):
            raise ParameterError(f"parameter id: expected 0 to {len(PARAMETER_NAMES) - 1}, found {parameter_id}")
        if parameter_id == UNBONDING_ID:
            raise ParameterError("unbonding_ms: fixed, it equals consensus.unbondingMs")
        return replace(self, **{PARAMETER_NAMES[parameter_id]: value})


PARAMETER_NAMES: Final = tuple(field.name for field in fields(StakingParameters))
"""By id."""
UNBONDING_ID: Final = PARAMETER_NAMES.index("unbonding_ms")

_BOUNDS: Final = {
    "min_stake_wei": (10**18, 10**27),
    "max_validators": (1, 128),
    "unbonding_ms": (1, 2**53 - 1),
    "max_commission_change_bps": (0, 10_000),
    # At most the epoch's length too, which the contract does not know: a longer window never closes.
    "downtime_window": (8, 100_000),
    "downtime_min_signed_bps": (0, 9_500),
    "downtime_slash_bps": (0, 1_000),
    "downtime_jail_ms": (1_000, 2**40),
    "max_jailed_per_epoch": (1, 128),
    "double_sign_slash_bps": (100, 10_000),
    "inflation_min_bps": (0, 5_000),
    "inflation_max_bps": (0, 5_000),
    "inflation_change_bps": (0, 10_000),
    "bonded_goal_bps": (100, 10_000),
    "proposer_share_bps": (0, 5_000),
    "base_fee_to_stakers_bps": (0, 10_000),
    "maintenance_max_blocks": (0, 100_000),
}
