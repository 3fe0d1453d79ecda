"""What the protocol itself does in a block, in the order of docs/staking.md: for building and validating alike.

Before transactions: evidence, the epoch's start, rewards and credits, absence. After them: the election. Each call
of the contract stands or fails by itself. A failing one is noted in the protocol log and leaves the block valid and
the set unchanged: nothing here may halt the chain. Only evidence can make a block invalid.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVarTuple

from astralink_node.chain.consensus_rules import BlockContext
from astralink_node.chain.evidence_rules import Conviction, ParentState, judge_evidence
from astralink_node.chain.prepared import ProtocolOutcome
from astralink_node.chain.staking_contract import Rules, StakingContract, SystemCallFailed
from astralink_node.crypto import bls
from astralink_node.evm.pipeline import BlockExecution
from astralink_node.evm.system_calls import recorded_block_hash
from astralink_node.evm.transactions import U256_MAX
from astralink_node.types import Address
from consensus.certificate import Certificate, signer_indices
from consensus.downtime import absentees, is_in_window, offenders, window_that_ends
from consensus.election import elect
from consensus.epoch import epoch_of, first_height, is_election
from consensus.params import LATE_CREDIT_HEIGHTS
from consensus.payload import ConsensusPayload
from consensus.validator_set import Validator, ValidatorSet

EVERYBODY: Final = 2**256 - 1
"""The bitmap of a height decided above round 0: its late precommits are nobody's fault."""


Ts = TypeVarTuple("Ts")


class ProtocolSteps:
    """Of one block of a chain with staking; on one without, both halves do nothing."""

    def __init__(self, context: BlockContext, execution: BlockExecution, payload: ConsensusPayload) -> None:
        self._context = context
        self._execution = execution
        self._payload = payload
        self._has_staking = context.genesis.staking is not None
        self._contract = StakingContract(execution.system_call)

    def before_transactions(self) -> None:
        """Raises RuleBroken for evidence that does not hold; nothing was changed then."""
        if not self._has_staking:
            return
        self._punish_the_convicted()
        self._attempt(self._begin_epoch)
        self._attempt(self._begin_block)

    def after_transactions(self) -> ProtocolOutcome:
        """What the block's last steps and its log say; to be called once, before the execution is finished."""
        if not self._has_staking:
            return ProtocolOutcome()
        elected = self._elect() if is_election(self._context.height, self._epoch_length) else None
        return ProtocolOutcome(elected, self._contract.noted_calls())

    @property
    def _epoch_length(self) -> int:
        return self._context.genesis.epoch_length

    @staticmethod
    def _attempt(step: Callable[[*Ts], None], *arguments: *Ts) -> None:
        """A step ends with the first of its calls that fails; the contract has noted which."""
        try:
            step(*arguments)
        except SystemCallFailed:
            return

    # --- Evidence --------------------------------------------------------------------------------------------------

    def _punish_the_convicted(self) -> None:
        # All of it is judged by the parent's state before the first slash; the block's own hash of its parent, which
        # stands there already, is none that the rules look at.
        overlay = self._execution.overlay
        state = ParentState(self._contract, lambda number: recorded_block_hash(overlay.get_storage, number))
        for conviction in judge_evidence(self._context, state, self._payload.evidence):
            punish = self._freeze if conviction.is_forgery else self._slash
            for member in conviction.members:
                self._attempt(punish, member, conviction)

    def _slash(self, member: Validator, conviction: Conviction) -> None:
        operator = Address(member.operator)
        if not self._contract.is_tombstoned(operator):
            self._contract.slash_double_sign(operator, member.power, conviction.epoch, conviction.evidence_hash)

    def _freeze(self, member: Validator, conviction: Conviction) -> None:
        operator = Address(member.operator)
        if self._contract.may_be_frozen(operator, conviction.epoch):
            self._contract.freeze(operator, member.power, conviction.epoch, conviction.evidence_hash)

    # --- The epoch, rewards and absence ----------------------------------------------------------------------------

    def _begin_epoch(self) -> None:
        epoch = epoch_of(self._context.height, self._epoch_length)
        if self._context.height == first_height(epoch, self._epoch_length):
            self._contract.begin_epoch(epoch, self._context.parent_payload.time_ms)

    def _begin_block(self) -> None:
        context, payload = self._context, self._payload
        judged = max(context.height - LATE_CREDIT_HEIGHTS, 0)
        credited, total = _credited_power(payload.parent_certificate, context.parent_voting_set)
        paid = self._contract.begin_block(
            proposer=Address(context.voting_set.validators[payload.proposer_index].operator),
            credited=credited,
            total=total,
            parent_base_fees_wei=(context.parent.base_fee_per_gas or 0) * context.parent.gas_used,
            credits=_credits(payload),
            judged=judged,
        )
        self._move_balance(paid.mint_wei - paid.burn_wei)
        # Every certificate has signers: where nobody is credited, that height's own call failed.
        if judged and paid.judged_bitmap:
            self._judge(judged, paid.judged_bitmap)

    def _move_balance(self, difference_wei: int) -> None:
        """What the contract minted or burned, as the state has it. It can only be wrong if the contract is."""
        overlay, address = self._execution.overlay, self._contract.address
        balance = overlay.get_balance(address) + difference_wei
        if 0 <= balance <= U256_MAX:
            overlay.set_balance(address, balance)
        else:
            self._contract.note_failure("begin_block", f"a balance of {balance} wei")

    def _judge(self, judged: int, bitmap: int) -> None:
        """Count who was absent at that height; at the end of a downtime window, punish who was too often."""
        members = self._context.voting_set_at(judged).validators
        rules = self._contract.rules()
        if is_in_window(judged, self._epoch_length, rules.downtime_window):
            absent = [Address(members[index].operator) for index in absentees(bitmap, len(members))]
            if absent:
                self._attempt(self._contract.note_absent, judged, absent)
        if window_that_ends(judged, self._epoch_length, rules.downtime_window) is not None:
            self._close_window(judged, members, rules)

    def _close_window(self, judged: int, members: Sequence[Validator], rules: Rules) -> None:
        operators = [Address(member.operator) for member in members]
        punished = offenders(
            members,
            self._contract.missed(operators),
            window=rules.downtime_window,
            min_signed_bps=rules.downtime_min_signed_bps,
            room=rules.max_jailed_per_epoch - self._contract.jailed_this_epoch(),
        )
        self._contract.close_window(
            judged,
            [Address(member.operator) for member in punished],
            [member.power for member in punished],
            operators,
        )

    # --- Election --------------------------------------------------------------------------------------------------

    def _elect(self) -> ValidatorSet | None:
        """Who votes in the next epoch, if that is another set than the present one and the contract keeps it."""
        current = self._context.next_set
        chosen = self._choose(current)
        try:
            self._contract.elect(
                epoch_of(self._context.height, self._epoch_length) + 1,
                chosen.hash,
                [Address(member.operator) for member in chosen.validators],
                [member.power for member in chosen.validators],
            )
        except SystemCallFailed:
            return None
        return None if chosen.hash == current.hash else chosen

    def _choose(self, current: ValidatorSet) -> ValidatorSet:
        """The current set, where there is nobody to elect."""
        try:
            members = elect(self._contract.candidates(), self._contract.rules().max_validators)
        except SystemCallFailed:
            return current
        if not members or members == current.validators:
            return current
        try:
            return ValidatorSet(members, bls.aggregate_public_keys_eip2537([one.voting_key for one in members]))
        except bls.InvalidPoint:
            # Somebody who owns every key of a set can make their sum the identity; no such set may vote.
            return current


def _credited_power(certificate: Certificate | None, voting_set: ValidatorSet) -> tuple[int, int]:
    """(power that signed for the parent, all power); height 1, whose parent nobody voted on, counts as all."""
    if certificate is None:
        return 1, 1
    credited = sum(voting_set.validators[index].power for index in signer_indices(certificate.signers))
    return credited, voting_set.total_power


def _credits(payload: ConsensusPayload) -> tuple[tuple[int, int], ...]:
    """(height, bitmap of the signers: bit i is member i) of the parent's certificate and each late credit.

    A parent decided above round 0 credits everybody. A late credit names its signers alone, whatever its round: one
    validator's word must not excuse the others.
    """
    found = [(credit.height, int.from_bytes(credit.signers, "little")) for credit in payload.late_credits]
    parent = payload.parent_certificate
    if parent is not None:
        bitmap = EVERYBODY if parent.round_ else int.from_bytes(parent.signers, "little")
        found.append((parent.height, bitmap))
    return tuple(found)
