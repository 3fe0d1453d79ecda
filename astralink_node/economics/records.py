"""What the staking ledger keeps: validators, delegations, leaving and moved stake, slashes, totals. Amounts in wei."""

from dataclasses import dataclass, field
from enum import Enum

from astralink_node.types import Address


class SlashKind(Enum):
    DOUBLE_SIGN = "double sign"
    DOWNTIME = "downtime"


@dataclass(frozen=True, slots=True)
class Slash:
    """One punishment of one operator."""

    epoch: int
    """In which the fault was: stake that had left before does not bear it."""
    bps: int
    time_s: int
    kind: SlashKind
    cut_wei: int
    """What the validator's own tokens lost; leaving and moved stake bear theirs later."""


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Heights `first` to `first + blocks - 1`, in which absence does not count."""

    first: int
    blocks: int

    def covers(self, height: int) -> bool:
        return self.first <= height < self.first + self.blocks


@dataclass(frozen=True, slots=True)
class Freeze:
    """What a validator will answer for if it is judged guilty."""

    power: int
    epoch: int
    """Of the set that signed, in which the power was the validator's."""
    evidence_hash: bytes


@dataclass(slots=True)
class ValidatorRecord:
    """Numbers as of the last settlement."""

    operator: Address
    voting_key: bytes
    checkpoint_key_hash: bytes
    commission_bps: int
    commission_changed_at: int
    """Seconds; registration counts as a change."""
    seen: int
    """The global `per_token` up to which its rewards are accounted for."""
    name: str = ""
    tokens: int = 0
    shares: int = 0
    per_share: int = 0
    """Rewards of one share since the beginning, times 10^18."""
    commission: int = 0
    """Earned and not withdrawn."""
    active: bool = False
    jailed: bool = False
    jailed_until: int = 0
    """Seconds."""
    tombstoned: bool = False
    freeze: Freeze | None = None
    acquitted: frozenset[int] = frozenset()
    """Epochs for which it was judged not guilty."""
    displaced: bool = False
    missed: int = 0
    maintenance: Maintenance | None = None
    voting_key_rotated_in: int = -1
    """Epoch."""
    checkpoint_key_rotated_in: int = -1
    slashes: tuple[Slash, ...] = ()

    def tokens_of(self, shares: int) -> int:
        return shares * self.tokens // self.shares if self.shares else 0

    def shares_for(self, amount: int) -> int:
        return amount * self.shares // self.tokens if self.shares else amount


@dataclass(frozen=True, slots=True)
class Liability:
    """Shares that came by redelegation and still answer for faults of the validator that they left."""

    source: Address
    shares: int
    """In the validator that holds them now."""
    last_epoch: int
    matures_at: int
    """Seconds."""
    seen: int
    """Slashes of `source` that are applied, or older than the move."""


@dataclass(slots=True)
class DelegationRecord:
    shares: int = 0
    seen: int = 0
    """The validator's `per_share` up to which `pending` is accounted for."""
    pending: int = 0
    liability: Liability | None = None

    @property
    def free_shares(self) -> int:
        return self.shares - (self.liability.shares if self.liability else 0)


@dataclass(frozen=True, slots=True)
class Unbonding:
    operator: Address
    amount: int
    matures_at: int
    """Seconds."""
    last_epoch: int
    """The last epoch whose power counted the amount."""
    seen: int
    """Slashes of the operator that are applied, or older than the entry."""


@dataclass(frozen=True, slots=True)
class UnbondingView:
    entry: Unbonding
    value_now: int
    """After every slash recorded so far."""


@dataclass(slots=True)
class Totals:
    """`balance == bonded + unbonding + owed + to_burn` always, and `to_burn` is 0 after `begin_block`."""

    initial_supply: int
    rate: int
    """Inflation in bps a year, times 10^9."""
    last_block_time: int
    """Seconds."""
    last_election_time: int
    balance: int = 0
    bonded: int = 0
    unbonding: int = 0
    owed: int = 0
    to_burn: int = 0
    """Slashed since the last block."""
    active_tokens: int = 0
    per_token: int = 0
    minted: int = 0
    burned: int = 0
    epoch: int = 0
    epoch_first_height: int = 0
    jailed_this_epoch: int = 0

    @property
    def supply(self) -> int:
        return self.initial_supply + self.minted - self.burned


@dataclass(frozen=True, slots=True)
class VotingSet:
    epoch: int
    set_hash: bytes
    powers: dict[Address, int] = field(hash=False)
