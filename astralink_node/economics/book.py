"""What the staking ledger holds and shows, and the rules that several of its operations share.

Settling rewards, moving shares, slashing, and what leaving and moved stake bear of a slash (docs/staking.md,
"Rewards", "Stake in motion", "Slashing"). :class:`~astralink_node.economics.ledger.StakingLedger` has the operations.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from astralink_node.economics.parameters import BPS, BWT, CREDIT_RING, MAX_SLASHES_APPLIED, SCALE, StakingParameters
from astralink_node.economics.records import (
    DelegationRecord,
    Slash,
    SlashKind,
    Totals,
    Unbonding,
    UnbondingView,
    ValidatorRecord,
    VotingSet,
)
from astralink_node.types import Address


class Refused(Exception):
    """An operation that the contract reverts; nothing has changed."""


class StakingBook:
    """State and views. Fields with an underscore are for the ledger's operations alone."""

    __slots__ = (
        "_credits",
        "_current",
        "_delegations",
        "_elected",
        "_keys",
        "_registered",
        "_set_records",
        "_unbondings",
        "_validators",
        "parameters",
        "totals",
    )

    def __init__(self, parameters: StakingParameters, totals: Totals, current: VotingSet, time_ms: int) -> None:
        """An empty ledger; `initialise` makes one that holds a genesis."""
        self.parameters = parameters
        self.totals = totals
        self._current = current
        self._elected: VotingSet | None = None
        self._validators: dict[Address, ValidatorRecord] = {}
        self._registered: list[Address] = []
        self._delegations: dict[tuple[Address, Address], DelegationRecord] = {}
        self._unbondings: dict[Address, list[Unbonding]] = {}
        self._keys: set[bytes] = set()
        self._credits: dict[int, tuple[int, int]] = {}
        self._set_records = {0: (current.set_hash, time_ms)}

    # Views

    def validator(self, operator: Address) -> ValidatorRecord:
        """The record itself, not settled; `settled_validator` says what has been earned until now."""
        try:
            return self._validators[operator]
        except KeyError:
            raise Refused(f"no validator 0x{operator.hex()}") from None

    def settled_validator(self, operator: Address) -> ValidatorRecord:
        """A copy with everything earned so far in it."""
        validator = replace(self.validator(operator))
        self._settle(validator)
        return validator

    def operators(self) -> tuple[Address, ...]:
        """Everybody who ever registered, in order."""
        return tuple(self._validators)

    def registered(self) -> tuple[Address, ...]:
        """Everybody who is not displaced, in order of registration; but the last takes the place of who is."""
        return tuple(self._registered)

    def delegation(self, delegator: Address, operator: Address) -> DelegationRecord:
        """A copy; empty if there is none. Slashes that a liability has yet to bear are not in it."""
        return replace(self._delegations.get((delegator, operator), DelegationRecord()))

    def shares_of(self, delegator: Address, operator: Address) -> int:
        """As in `delegation`."""
        delegation = self._delegations.get((delegator, operator))
        return delegation.shares if delegation else 0

    def delegators(self) -> Iterator[tuple[Address, Address]]:
        """(delegator, operator) of every delegation that ever was."""
        return iter(self._delegations)

    def delegation_value(self, delegator: Address, operator: Address) -> int:
        """Wei that its shares are now; as above."""
        return self.validator(operator).tokens_of(self.shares_of(delegator, operator))

    def pending(self, delegator: Address, operator: Address) -> int:
        """Wei that `claim` would pay."""
        per_share = self.settled_validator(operator).per_share
        delegation = self.delegation(delegator, operator)
        return delegation.pending + (per_share - delegation.seen) * delegation.shares // SCALE

    def unbondings(self, delegator: Address) -> tuple[UnbondingView, ...]:
        return tuple(UnbondingView(entry, self._value(entry)) for entry in self._unbondings.get(delegator, []))

    def missed(self, operators: Sequence[Address]) -> tuple[int, ...]:
        return tuple(self.validator(operator).missed for operator in operators)

    def room_to_jail(self) -> int:
        return max(self.parameters.max_jailed_per_epoch - self.totals.jailed_this_epoch, 0)

    def set_record(self, epoch: int) -> tuple[bytes, int] | None:
        """(set hash, time in milliseconds) of an epoch that has begun."""
        return self._set_records.get(epoch)

    def voting_set(self) -> Mapping[Address, int]:
        """Power by operator in the current epoch."""
        return dict(self._current.powers)

    # Rules that several operations share

    def _register(
        self,
        operator: Address,
        voting_key: bytes,
        checkpoint_key_hash: bytes,
        commission_bps: int,
        name: str,
        timestamp: int,
        in_place_of: ValidatorRecord | None = None,
    ) -> None:
        if operator in self._validators:
            raise Refused("registered already")
        if not 0 <= commission_bps <= BPS:
            raise Refused("commission out of bounds")
        self._take_keys(voting_key, checkpoint_key_hash)
        self._validators[operator] = ValidatorRecord(
            operator, voting_key, checkpoint_key_hash, commission_bps, timestamp, self.totals.per_token, name
        )
        if in_place_of:
            self._displace(in_place_of)
        self._registered.append(operator)

    def _displace(self, validator: ValidatorRecord) -> None:
        place = self._registered.index(validator.operator)
        last = self._registered.pop()
        if last != validator.operator:
            self._registered[place] = last
        validator.displaced = True

    def _take_keys(self, *keys: bytes) -> None:
        if any(key in self._keys for key in keys):
            raise Refused("key registered before")
        self._keys.update(keys)

    def _settle(self, validator: ValidatorRecord, for_proposer: int = 0) -> None:
        earned = (self.totals.per_token - validator.seen) * validator.tokens // SCALE if validator.active else 0
        due = earned + for_proposer
        validator.seen = self.totals.per_token
        cut = due * validator.commission_bps // BPS if validator.shares else due
        validator.commission += cut
        if validator.shares:
            validator.per_share += (due - cut) * SCALE // validator.shares

    def _settle_delegation(self, delegation: DelegationRecord, validator: ValidatorRecord) -> None:
        self._settle(validator)
        delegation.pending += (validator.per_share - delegation.seen) * delegation.shares // SCALE
        delegation.seen = validator.per_share

    def _move_tokens(self, validator: ValidatorRecord, change: int) -> None:
        """Of a settled validator."""
        validator.tokens += change
        self.totals.bonded += change
        if validator.active:
            self.totals.active_tokens += change

    def _set_active(self, validator: ValidatorRecord, *, active: bool) -> None:
        if validator.active != active:
            self._settle(validator)
            validator.active = active
            self.totals.active_tokens += validator.tokens if active else -validator.tokens

    def _add_stake(self, delegator: Address, operator: Address, amount: int) -> None:
        """An operator's first."""
        self._add_shares(self.validator(operator), self._delegation(delegator, operator), amount, amount)

    def _add_shares(self, validator: ValidatorRecord, delegation: DelegationRecord, amount: int, shares: int) -> None:
        self._settle_delegation(delegation, validator)
        self._move_tokens(validator, amount)
        validator.shares += shares
        delegation.shares += shares

    def _remove_shares(self, validator: ValidatorRecord, delegation: DelegationRecord, shares: int) -> int:
        if not 1 <= shares <= delegation.free_shares:
            raise Refused(f"{shares} shares of {delegation.free_shares} that may move")
        amount = validator.tokens_of(shares)
        if amount == 0:
            raise Refused("shares worth nothing")
        self._take_shares(validator, delegation, amount, shares)
        return amount

    def _take_shares(self, validator: ValidatorRecord, delegation: DelegationRecord, amount: int, shares: int) -> None:
        self._settle_delegation(delegation, validator)
        self._move_tokens(validator, -amount)
        validator.shares -= shares
        delegation.shares -= shares

    def _slash(
        self, validator: ValidatorRecord, bps: int, power: int, epoch: int, kind: SlashKind, timestamp: int
    ) -> None:
        self._settle(validator)
        cut = min(validator.tokens, power * BWT) * bps // BPS
        self._move_tokens(validator, -cut)
        self.totals.to_burn += cut
        validator.slashes = (*validator.slashes, Slash(epoch, bps, timestamp, kind, cut))

    def _tombstone(self, validator: ValidatorRecord, power: int, epoch: int, timestamp: int) -> None:
        self._slash(validator, self.parameters.double_sign_slash_bps, power, epoch, SlashKind.DOUBLE_SIGN, timestamp)
        self._set_active(validator, active=False)
        validator.jailed = validator.tombstoned = True

    def _check_thawed(self, operator: Address) -> None:
        if self.validator(operator).freeze is not None:
            raise Refused("frozen")

    def _slashes(self, operator: Address) -> tuple[Slash, ...]:
        return self.validator(operator).slashes

    def _touch(self, delegator: Address, operator: Address, timestamp: int) -> DelegationRecord:
        """Before anything else happens to a delegation: what it is liable for, then what it earned."""
        delegation = self._delegation(delegator, operator)
        liability = delegation.liability
        if liability and len(self._slashes(liability.source)) - liability.seen > MAX_SLASHES_APPLIED:
            raise Refused("slashes to be applied first")
        self._apply_liability(delegator, operator, timestamp)
        self._settle_delegation(delegation, self.validator(operator))
        return delegation

    def _apply_liability(self, delegator: Address, operator: Address, timestamp: int) -> int:
        """Burn liable shares for up to 64 slashes, and forget a liability that has matured; how many slashes."""
        delegation = self._delegation(delegator, operator)
        liability = delegation.liability
        if liability is None:
            return 0
        slashes = self._slashes(liability.source)
        upto = min(len(slashes), liability.seen + MAX_SLASHES_APPLIED)
        validator = self.validator(operator)
        left = liability.shares
        for slash in slashes[liability.seen : upto]:
            if slash.epoch <= liability.last_epoch:
                left -= _share_up(left, slash.bps)
        if left != liability.shares:
            # All at once: the shares' worth is rounded down once, however many slashes there were.
            burned = liability.shares - left
            amount = validator.tokens_of(burned)
            self._take_shares(validator, delegation, amount, burned)
            self.totals.to_burn += amount
        # While its source is frozen, it may yet have to bear a slash.
        may_end = timestamp >= liability.matures_at and self.validator(liability.source).freeze is None
        over = upto == len(slashes) and may_end
        delegation.liability = None if over or not left else replace(liability, shares=left, seen=upto)
        return upto - liability.seen

    def _cut_entry(self, entry: Unbonding, upto: int) -> Unbonding:
        cut = replace(entry, amount=self._value(entry, upto), seen=upto)
        self.totals.unbonding -= entry.amount - cut.amount
        self.totals.to_burn += entry.amount - cut.amount
        return cut

    def _value(self, entry: Unbonding, upto: int | None = None) -> int:
        amount = entry.amount
        for slash in self._slashes(entry.operator)[entry.seen : upto]:
            if slash.epoch <= entry.last_epoch:
                amount -= _share_up(amount, slash.bps)
        return amount

    def _pay_owed(self, amount: int) -> int:
        self.totals.owed -= amount
        self.totals.balance -= amount
        return amount

    def _open_to_stake(self, operator: Address) -> ValidatorRecord:
        validator = self.validator(operator)
        if validator.tombstoned:
            raise Refused("tombstoned")
        self._check_thawed(operator)
        if validator.shares and not validator.tokens:
            raise Refused("slashed to nothing")
        return validator

    def _delegation(self, delegator: Address, operator: Address) -> DelegationRecord:
        return self._delegations.setdefault((delegator, operator), DelegationRecord())

    def _entry(self, sender: Address, index: int) -> Unbonding:
        entries = self._unbondings.get(sender, [])
        if not 0 <= index < len(entries):
            raise Refused(f"no unbonding entry {index} of {len(entries)}")
        return entries[index]

    def _matures_at(self, timestamp: int) -> int:
        return timestamp + self.parameters.unbonding_ms // 1000

    def _last_epoch(self) -> int:
        """The last epoch whose power counts what is bonded now."""
        epoch = self.totals.epoch
        return epoch + 1 if self._has_elected(epoch + 1) else epoch

    def _has_elected(self, epoch: int) -> bool:
        """Whether the set that votes in `epoch`, or in one after it, is stored already."""
        return self._elected is not None and self._elected.epoch >= epoch

    def _is_member(self, operator: Address) -> bool:
        return operator in self._current.powers or (self._elected is not None and operator in self._elected.powers)

    def _weakest_outside(self) -> ValidatorRecord | None:
        """The first of those with fewest tokens that are registered, do not vote and are not elected."""
        outside = (self._validators[operator] for operator in self._registered if not self._is_member(operator))
        return min(outside, key=lambda validator: validator.tokens, default=None)

    def _credit(self, height: int, bitmap: int) -> None:
        kept_height, kept = self._credits.get(height % CREDIT_RING, (height, 0))
        self._credits[height % CREDIT_RING] = (height, kept | bitmap if kept_height == height else bitmap)

    def _credited(self, height: int) -> int:
        kept_height, bitmap = self._credits.get(height % CREDIT_RING, (height, 0))
        return bitmap if kept_height == height else 0

    @contextmanager
    def _whole(self, delegator: Address, *operators: Address) -> Iterator[None]:
        """What is refused half-way is undone: totals, these validators, and the delegator's delegations to them."""
        keys = [(delegator, operator) for operator in operators]
        new = [key for key in keys if key not in self._delegations]
        records: list[Totals | ValidatorRecord | DelegationRecord] = [self.totals]
        records += [self._validators[operator] for operator in operators]
        records += [self._delegation(*key) for key in keys]
        before = [(record, [(name, getattr(record, name)) for name in record.__slots__]) for record in records]
        try:
            yield
        except Refused:
            for record, values in before:
                for name, value in values:
                    setattr(record, name, value)
            for key in new:
                del self._delegations[key]
            raise


def _share_up(amount: int, bps: int) -> int:
    return -(-amount * bps // BPS)
