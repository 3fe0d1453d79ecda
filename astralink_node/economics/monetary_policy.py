"""What a block mints and burns, and how the inflation rate follows the bonded ratio: pure arithmetic on integers.

Every division rounds down, also of a negative number (docs/staking.md, "Rewards").
"""

from dataclasses import dataclass

from astralink_node.economics.parameters import BPS, RATE_SCALE, SCALE, YEAR_S, StakingParameters


@dataclass(frozen=True, slots=True)
class BlockReward:
    """All in wei, but `per_token`."""

    for_proposer: int
    rest: int
    """For all active tokens alike."""
    per_token: int
    """What `rest` is for one wei of active stake, times 10^18."""
    minted: int
    """Of `mint`, what inflation made; the remainder replaces base fees."""
    fees_burned: int
    """Of the parent's base fees, what does not come back as a reward."""

    @property
    def mint(self) -> int:
        return self.for_proposer + self.rest


def inflation_wei(supply_wei: int, rate: int, seconds: int) -> int:
    """New wei for `seconds` at `rate` (bps a year, times 10^9), without compounding in between."""
    return supply_wei * rate * seconds // (BPS * YEAR_S * RATE_SCALE)


def block_reward(
    parameters: StakingParameters,
    *,
    inflation: int,
    parent_base_fees: int,
    active_tokens: int,
    proposer_is_active: bool,
    credited: int,
    total: int,
) -> BlockReward:
    """Split a block's reward. `credited` of `total` power signed the parent: the proposer earns for carrying it."""
    if active_tokens == 0:
        return BlockReward(0, 0, 0, 0, parent_base_fees)
    share = parent_base_fees * parameters.base_fee_to_stakers_bps // BPS
    reward = inflation + share
    proposer_pool = reward * parameters.proposer_share_bps // BPS
    for_proposer = proposer_pool * credited // total if proposer_is_active else 0
    rest = reward - proposer_pool
    from_fees = min(share, for_proposer + rest)
    return BlockReward(
        for_proposer=for_proposer,
        rest=rest,
        per_token=rest * SCALE // active_tokens,
        minted=for_proposer + rest - from_fees,
        fees_burned=parent_base_fees - from_fees,
    )


def next_rate(parameters: StakingParameters, rate: int, *, bonded: int, supply: int, seconds: int) -> int:
    """The rate (bps times 10^9) after an election, `seconds` after the last: up while too little is bonded."""
    bonded_bps = bonded * BPS // supply
    direction = BPS - bonded_bps * BPS // parameters.bonded_goal_bps
    moved = rate + direction * parameters.inflation_change_bps * RATE_SCALE * seconds // (BPS * YEAR_S)
    return min(max(moved, parameters.inflation_min_bps * RATE_SCALE), parameters.inflation_max_bps * RATE_SCALE)
