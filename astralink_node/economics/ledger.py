"""The staking contract as a plain Python model: the same operations, the same integers, no EVM.

Written from docs/staking.md alone, so that the contract in Vyper and this can be held against each other, and so
that the simulator runs the rules themselves. Who may call what the protocol calls, and proofs of keys, are the
contract's matter. Operations of accounts take the sender; all take the block's height and time (seconds) where they
depend on them. An operation that is refused raises :class:`~astralink_node.economics.book.Refused` and leaves
everything as it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from astralink_node.economics.book import Refused, StakingBook
from astralink_node.economics.monetary_policy import block_reward, inflation_wei, next_rate
from astralink_node.economics.parameters import (
    BPS,
    BWT,
    DAY_S,
    JUDGED_LAG,
    MAINTENANCE_REST,
    MAX_REGISTERED,
    MAX_SLASHES_APPLIED,
    MAX_UNBONDINGS,
    RATE_SCALE,
    ParameterError,
    StakingParameters,
)
from astralink_node.economics.records import (
    Freeze,
    Liability,
    Maintenance,
    SlashKind,
    Totals,
    Unbonding,
    VotingSet,
)
from astralink_node.types import Address
from consensus.election import Candidate


@dataclass(frozen=True, slots=True)
class GenesisStake:
    """A validator that is bonded when the chain starts, with the stake its own."""

    operator: Address
    voting_key: bytes
    checkpoint_key_hash: bytes
    stake_wei: int
    commission_bps: int = 0


class StakingLedger(StakingBook):
    """See the module. Money that an operation pays to its sender is what it returns, in wei."""

    __slots__ = ()

    # Genesis and governance

    @classmethod
    def initialise(
        cls,
        validators: Sequence[GenesisStake],
        parameters: StakingParameters,
        *,
        inflation_initial_bps: int,
        supply_wei: int,
        timestamp: int,
        set_hash: bytes,
    ) -> "StakingLedger":
        """The contract at block 0: epoch 0 has begun and everybody given votes in it."""
        if not parameters.inflation_min_bps <= inflation_initial_bps <= parameters.inflation_max_bps:
            raise Refused("initial inflation out of bounds")
        powers = {entry.operator: entry.stake_wei // BWT for entry in validators}
        totals = Totals(supply_wei, inflation_initial_bps * RATE_SCALE, timestamp, timestamp)
        ledger = cls(parameters, totals, VotingSet(0, set_hash, powers), timestamp * 1000)
        for entry in validators:
            ledger._register(
                entry.operator, entry.voting_key, entry.checkpoint_key_hash, entry.commission_bps, "", timestamp
            )
            ledger.validator(entry.operator).active = True
            totals.balance += entry.stake_wei
            ledger._add_stake(entry.operator, entry.operator, entry.stake_wei)
        if totals.bonded > supply_wei:
            raise Refused("more stake than supply")
        return ledger

    def set_parameter(self, parameter_id: int, value: int) -> None:
        """By governance."""
        try:
            self.parameters = self.parameters.changed(parameter_id, value)
        except ParameterError as error:
            raise Refused(str(error)) from error

    # What the protocol calls

    def begin_epoch(self, epoch: int, time_ms: int, *, height: int) -> None:
        """The elected set takes over; without an election the current one stays."""
        if epoch <= self.totals.epoch:
            raise Refused(f"epoch {epoch} is not after {self.totals.epoch}")
        leaving = self._current.powers
        if self._elected is not None and self._elected.epoch <= epoch:
            self._current = self._elected
            self._elected = None
        self._current = replace(self._current, epoch=epoch)
        self.totals.epoch = epoch
        self.totals.epoch_first_height = height
        self.totals.jailed_this_epoch = 0
        self._set_records[epoch] = (self._current.set_hash, time_ms)
        for operator in dict.fromkeys((*leaving, *self._current.powers)):
            validator = self.validator(operator)
            elected = operator in self._current.powers
            self._set_active(validator, active=elected and not validator.jailed and not validator.tombstoned)

    def begin_block(
        self,
        proposer: Address,
        credited: int,
        total: int,
        parent_base_fees: int,
        heights: Sequence[int],
        bitmaps: Sequence[int],
        judged: int,
        *,
        timestamp: int,
    ) -> tuple[int, int, int]:
        """Reward the block before; (mint, burn, bitmap of who is credited for the judged height)."""
        totals = self.totals
        if not 0 <= credited <= total or total < 1:
            raise Refused(f"credited {credited} of {total} power")
        if timestamp < totals.last_block_time:
            raise Refused("time runs backwards")
        if len(heights) != len(bitmaps):
            raise Refused("heights and bitmaps differ in number")
        for height, bitmap in zip(heights, bitmaps, strict=True):
            self._credit(height, bitmap)
        validator = self._validators.get(proposer)
        reward = block_reward(
            self.parameters,
            inflation=inflation_wei(totals.supply, totals.rate, timestamp - totals.last_block_time),
            parent_base_fees=parent_base_fees,
            active_tokens=totals.active_tokens,
            proposer_is_active=validator is not None and validator.active,
            credited=credited,
            total=total,
        )
        totals.per_token += reward.per_token
        if validator is not None and reward.for_proposer:
            self._settle(validator, reward.for_proposer)
        burn, totals.to_burn = totals.to_burn, 0
        totals.minted += reward.minted
        totals.burned += reward.fees_burned + burn
        totals.owed += reward.mint
        totals.balance += reward.mint - burn
        totals.last_block_time = timestamp
        return reward.mint, burn, self._credited(judged)

    def note_absent(self, judged: int, operators: Sequence[Address]) -> None:
        absent = [self.validator(operator) for operator in operators]
        for validator in absent:
            excused = validator.maintenance is not None and validator.maintenance.covers(judged)
            if not excused and not validator.jailed:
                validator.missed += 1

    def close_window(
        self,
        judged: int,
        punished: Sequence[Address],
        powers: Sequence[int],
        members: Sequence[Address],
        *,
        timestamp: int,
    ) -> None:
        """Punish the offenders of a downtime window, unless jailed by now, and count everybody's absence anew."""
        if len(punished) != len(powers):
            raise Refused("offenders and powers differ in number")
        offenders = [self.validator(operator) for operator in punished]
        fresh = {validator.operator for validator in offenders if not validator.jailed}
        if fresh and self.totals.jailed_this_epoch + len(fresh) > self.parameters.max_jailed_per_epoch:
            raise Refused("too many jailed in this epoch")
        counted = [self.validator(operator) for operator in members]
        # A window's end is judged eight heights later, which may be the next epoch already.
        epoch = self.totals.epoch - (judged < self.totals.epoch_first_height)
        for validator, power in zip(offenders, powers, strict=True):
            if validator.jailed:
                continue
            self._slash(validator, self.parameters.downtime_slash_bps, power, epoch, SlashKind.DOWNTIME, timestamp)
            self._set_active(validator, active=False)
            validator.jailed = True
            validator.jailed_until = timestamp + self.parameters.downtime_jail_ms // 1000
            self.totals.jailed_this_epoch += 1
        for validator in counted:
            validator.missed = 0

    def slash_double_sign(
        self, operator: Address, power: int, epoch: int, evidence_hash: bytes, *, timestamp: int
    ) -> None:
        """Punish and tombstone. The evidence itself is judged by the protocol, its hash only logged."""
        del evidence_hash
        validator = self.validator(operator)
        if validator.tombstoned:
            raise Refused("tombstoned already")
        self._tombstone(validator, power, epoch, timestamp)

    def freeze(self, operator: Address, power: int, epoch: int, evidence_hash: bytes) -> None:
        """Hold a validator and its stake until it is judged: it signed a header that the chain lacks."""
        validator = self.validator(operator)
        if validator.tombstoned:
            raise Refused("tombstoned")
        self._check_thawed(operator)
        if epoch in validator.acquitted:
            raise Refused(f"acquitted of what it signed in epoch {epoch}")
        self._set_active(validator, active=False)
        validator.jailed = True
        validator.freeze = Freeze(power, epoch, evidence_hash)

    def judge(self, operator: Address, *, guilty: bool, timestamp: int) -> None:
        """By governance: slashed and tombstoned, or free to unjail and never frozen for that epoch again."""
        validator = self.validator(operator)
        freeze = validator.freeze
        if freeze is None:
            raise Refused("not frozen")
        validator.freeze = None
        if guilty:
            self._tombstone(validator, freeze.power, freeze.epoch, timestamp)
        else:
            validator.acquitted |= {freeze.epoch}

    def candidates(self) -> list[Candidate]:
        """Who may be elected, in order of registration."""
        validators = (self._validators[operator] for operator in self._registered)
        return [
            Candidate(entry.operator, entry.voting_key, entry.checkpoint_key_hash, entry.tokens)
            for entry in validators
            if not entry.jailed and not entry.tombstoned and entry.tokens >= self.parameters.min_stake_wei
        ]

    def elect(
        self, epoch: int, set_hash: bytes, operators: Sequence[Address], powers: Sequence[int], *, timestamp: int
    ) -> None:
        """Store the set that votes from `epoch` on, and move the inflation rate."""
        totals = self.totals
        if epoch != totals.epoch + 1 or self._has_elected(epoch):
            raise Refused(f"epoch {epoch} is not the next, or elected already")
        if len(operators) != len(powers) or not operators or len(set(operators)) != len(operators):
            raise Refused("operators and powers are no set")
        if len(operators) > self.parameters.max_validators or min(powers) < 1:
            raise Refused("more members than seats, or a member without power")
        for operator in operators:
            self.validator(operator)
        self._elected = VotingSet(epoch, set_hash, dict(zip(operators, powers, strict=True)))
        seconds = timestamp - totals.last_election_time
        totals.rate = next_rate(
            self.parameters, totals.rate, bonded=totals.bonded, supply=totals.supply, seconds=seconds
        )
        totals.last_election_time = timestamp

    # What operators call

    def create_validator(
        self,
        sender: Address,
        value_wei: int,
        voting_key: bytes,
        checkpoint_key_hash: bytes,
        commission_bps: int,
        name: str,
        *,
        timestamp: int,
    ) -> None:
        """Register the sender with `value_wei` as its own stake, at least the minimum. If the register is full, the
        weakest validator outside the set leaves it for one that brings more."""
        if value_wei < self.parameters.min_stake_wei:
            raise Refused("less than the minimum stake")
        leaving = None
        if len(self._registered) == MAX_REGISTERED:
            leaving = self._weakest_outside()
            if leaving is None or value_wei <= leaving.tokens:
                raise Refused("the register is full")
        self._register(sender, voting_key, checkpoint_key_hash, commission_bps, name, timestamp, in_place_of=leaving)
        self.totals.balance += value_wei
        self._add_stake(sender, sender, value_wei)

    def displace(self, operator: Address) -> None:
        """Remove from a full register a validator outside the set that cannot be elected."""
        validator = self.validator(operator)
        if len(self._registered) != MAX_REGISTERED:
            raise Refused("the register is not full")
        if validator.displaced or self._is_member(operator):
            raise Refused("displaced already, or in the set")
        if not validator.tombstoned and validator.tokens >= self.parameters.min_stake_wei:
            raise Refused("could be elected")
        self._displace(validator)

    def set_commission(self, sender: Address, commission_bps: int, *, timestamp: int) -> None:
        """Once a day, by at most `max_commission_change_bps` either way."""
        validator = self.validator(sender)
        if not 0 <= commission_bps <= BPS:
            raise Refused("commission out of bounds")
        if timestamp < validator.commission_changed_at + DAY_S:
            raise Refused("commission changed within a day")
        if abs(commission_bps - validator.commission_bps) > self.parameters.max_commission_change_bps:
            raise Refused("commission changed by too much")
        self._settle(validator)
        validator.commission_bps = commission_bps
        validator.commission_changed_at = timestamp

    def withdraw_commission(self, sender: Address) -> int:
        validator = self.validator(sender)
        self._settle(validator)
        amount, validator.commission = validator.commission, 0
        return self._pay_owed(amount)

    def unjail(self, sender: Address, *, timestamp: int) -> None:
        validator = self.validator(sender)
        if validator.tombstoned:
            raise Refused("tombstoned")
        self._check_thawed(sender)
        if not validator.jailed:
            raise Refused("not jailed")
        if timestamp < validator.jailed_until:
            raise Refused("still jailed")
        validator.jailed = False

    def announce_maintenance(self, sender: Address, first: int, blocks: int, *, height: int) -> None:
        """A downtime window ahead at least, and ten lengths of the last one after its end, which must be judged."""
        validator = self.validator(sender)
        if not 1 <= blocks <= self.parameters.maintenance_max_blocks:
            raise Refused("maintenance of no length, or too long")
        if first < height + self.parameters.downtime_window:
            raise Refused("maintenance begins too soon")
        last = validator.maintenance
        if last is not None and height < last.first + last.blocks + JUDGED_LAG:
            raise Refused("the last maintenance is not over and judged")
        if last is not None and first < last.first + last.blocks * (1 + MAINTENANCE_REST):
            raise Refused("maintenance too soon after the last")
        validator.maintenance = Maintenance(first, blocks)

    def rotate_voting_key(self, sender: Address, voting_key: bytes) -> None:
        validator = self.validator(sender)
        if validator.voting_key_rotated_in == self.totals.epoch:
            raise Refused("rotated in this epoch")
        self._take_keys(voting_key)
        validator.voting_key = voting_key
        validator.voting_key_rotated_in = self.totals.epoch

    def rotate_checkpoint_key(self, sender: Address, checkpoint_key_hash: bytes) -> None:
        validator = self.validator(sender)
        if validator.checkpoint_key_rotated_in == self.totals.epoch:
            raise Refused("rotated in this epoch")
        self._take_keys(checkpoint_key_hash)
        validator.checkpoint_key_hash = checkpoint_key_hash
        validator.checkpoint_key_rotated_in = self.totals.epoch

    # What delegators call

    def delegate(self, sender: Address, value_wei: int, operator: Address, *, timestamp: int) -> int:
        """The shares that `value_wei` bought."""
        validator = self._open_to_stake(operator)
        with self._whole(sender, operator):
            delegation = self._touch(sender, operator, timestamp)
            shares = validator.shares_for(value_wei)
            if shares < 1:
                raise Refused("less than one share")
            self.totals.balance += value_wei
            self._add_shares(validator, delegation, value_wei, shares)
        return shares

    def undelegate(self, sender: Address, operator: Address, shares: int, *, timestamp: int) -> int:
        """The amount that begins to leave. Liable shares stay: an entry would not answer for where they were."""
        validator = self.validator(operator)
        self._check_thawed(operator)
        entries = self._unbondings.get(sender, [])
        if len(entries) >= MAX_UNBONDINGS:
            raise Refused("too many unbonding entries")
        with self._whole(sender, operator):
            delegation = self._touch(sender, operator, timestamp)
            amount = self._remove_shares(validator, delegation, shares)
        self.totals.unbonding += amount
        entries.append(
            Unbonding(operator, amount, self._matures_at(timestamp), self._last_epoch(), len(validator.slashes))
        )
        self._unbondings[sender] = entries
        return amount

    def withdraw(self, sender: Address, index: int, *, timestamp: int) -> int:
        """What is left of a matured entry. The sender's last entry takes its index."""
        entry = self._entry(sender, index)
        self._check_thawed(entry.operator)
        if timestamp < entry.matures_at:
            raise Refused("still unbonding")
        slashes = self._slashes(entry.operator)
        if len(slashes) - entry.seen > MAX_SLASHES_APPLIED:
            raise Refused("slashes to be applied first")
        entry = self._cut_entry(entry, len(slashes))
        entries = self._unbondings[sender]
        entries[index] = entries[-1]
        entries.pop()
        self.totals.unbonding -= entry.amount
        self.totals.balance -= entry.amount
        return entry.amount

    def redelegate(self, sender: Address, source: Address, target: Address, shares: int, *, timestamp: int) -> int:
        """Move stake at once; the shares in `target`, which stay liable for `source` while unbonding would take."""
        if source == target:
            raise Refused("from and to are one validator")
        left = self.validator(source)
        self._check_thawed(source)
        joined = self._open_to_stake(target)
        with self._whole(sender, source, target):
            of_left = self._touch(sender, source, timestamp)
            of_joined = self._touch(sender, target, timestamp)
            if of_joined.liability is not None:
                raise Refused("holds a liability")
            amount = self._remove_shares(left, of_left, shares)
            received = joined.shares_for(amount)
            if received < 1:
                raise Refused("less than one share")
            self._add_shares(joined, of_joined, amount, received)
            of_joined.liability = Liability(
                source, received, self._last_epoch(), self._matures_at(timestamp), len(left.slashes)
            )
        return received

    def claim(self, sender: Address, operator: Address, *, timestamp: int) -> int:
        """What a delegation has earned. Slashes beyond the 64 that a call applies are no hindrance."""
        validator = self.validator(operator)
        self._apply_liability(sender, operator, timestamp)
        delegation = self._delegation(sender, operator)
        self._settle_delegation(delegation, validator)
        amount, delegation.pending = delegation.pending, 0
        return self._pay_owed(amount)

    def poke(self, delegator: Address, operator: Address, *, timestamp: int) -> int:
        """Apply up to 64 pending slashes each to the delegation and to what leaves `operator`; how many in all."""
        self.validator(operator)
        done = 0
        if (delegator, operator) in self._delegations:
            done = self._apply_liability(delegator, operator, timestamp)
        entries = self._unbondings.get(delegator, [])
        for index, entry in enumerate(entries):
            if entry.operator == operator:
                upto = min(len(self._slashes(operator)), entry.seen + MAX_SLASHES_APPLIED)
                entries[index] = self._cut_entry(entry, upto)
                done += upto - entry.seen
        return done
