"""Evidence in blocks against the chain's own state: whether a block's items hold, and which a proposer may carry.

docs/staking.md, "Evidence in blocks". Everything is judged by the parent's state alone, so that a node without a
past decides as all others do; only the proposer needs the sets themselves, which it puts beside the evidence.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from astralink_node.chain.consensus_rules import BlockContext, RuleBroken
from astralink_node.chain.evidence_verification import BlockHashAt, verify_any_evidence
from astralink_node.chain.staking_contract import StakingContract, SystemCallFailed
from astralink_node.types import Address
from consensus.block_evidence import (
    MAX_ITEMS,
    CarriedEvidence,
    check_age,
    convicted,
    decode_carried,
    encode_carried,
)
from consensus.epoch import epoch_of
from consensus.evidence import EvidenceError
from consensus.evidence_forms import AnyEvidence, decode_any_evidence, evidence_hash
from consensus.forged_header import ForgedHeader
from consensus.payload import MAX_EVIDENCE_BYTES
from consensus.validator_set import Validator, ValidatorSet
from consensus.wire import DecodeError


@dataclass(frozen=True, slots=True)
class ParentState:
    """Where evidence is judged: what the block's parent left behind."""

    contract: StakingContract
    block_hash_at: BlockHashAt
    """As EIP-2935 keeps them in the state."""


@dataclass(frozen=True, slots=True)
class Conviction:
    """What one item proves."""

    members: tuple[Validator, ...]
    """As they stood in the set of that height, those included who are tombstoned (or frozen) already."""
    epoch: int
    evidence_hash: bytes
    is_forgery: bool
    """They signed a forged header: to be frozen. Otherwise they contradicted themselves: to be slashed."""


@dataclass(frozen=True, slots=True)
class ToCarry:
    """What a proposer makes of the evidence that its node holds."""

    items: tuple[bytes, ...]
    """For the payload, at most `MAX_ITEMS`."""
    useless: tuple[bytes, ...]
    """Of the evidence as given: what no later block can carry either."""


def judge_evidence(context: BlockContext, state: ParentState, items: Sequence[bytes]) -> tuple[Conviction, ...]:
    """What the items of a block prove, in their order. Raises RuleBroken for the first that does not hold."""
    convictions = []
    seen: set[bytes] = set()
    for encoded in items:
        try:
            conviction = _judge(context, state, decode_carried(encoded))
        except DecodeError as error:
            raise RuleBroken(f"evidence encoding: {error.field}", error.expected, error.found) from error
        except EvidenceError as error:
            raise RuleBroken(f"evidence {error.rule}", error.expected, error.found) from error
        if conviction.evidence_hash in seen:
            raise RuleBroken("evidence", "every item once", f"0x{conviction.evidence_hash.hex()} twice")
        seen.add(conviction.evidence_hash)
        convictions.append(conviction)
    return tuple(convictions)


def evidence_to_carry(context: BlockContext, state: ParentState, encoded: Iterable[bytes]) -> ToCarry:
    """The first items that hold and name somebody whom no earlier one of them does, or not for as much.

    Nothing here is an error: a proposer leaves out what others would refuse.
    """
    items: list[bytes] = []
    useless: list[bytes] = []
    slashed: set[bytes] = set()
    frozen: set[bytes] = set()
    for raw in dict.fromkeys(encoded):
        if len(items) == MAX_ITEMS:
            break
        try:
            evidence = decode_any_evidence(raw)
            if evidence.height >= context.height:
                continue  # its time comes with the next block
            item = CarriedEvidence(evidence, context.voting_set_at(evidence.height))
            conviction = _judge(context, state, item)
        except (DecodeError, EvidenceError):
            useless.append(raw)
            continue
        operators = {member.operator for member in conviction.members}
        carried = encode_carried(item)
        named = slashed | frozen if conviction.is_forgery else slashed
        if len(carried) > MAX_EVIDENCE_BYTES or operators <= named:
            continue  # whom it names is tombstoned or frozen by this block: the next one finds it useless
        if conviction.is_forgery:
            frozen |= operators
        else:
            slashed |= operators
        items.append(carried)
    return ToCarry(tuple(items), tuple(useless))


def _judge(context: BlockContext, state: ParentState, item: CarriedEvidence) -> Conviction:
    """Raises EvidenceError. Cheap rules first: signatures cost pairings."""
    evidence = item.evidence
    epoch = epoch_of(evidence.height, context.genesis.epoch_length)

    def verify(evidence: AnyEvidence, validator_set: ValidatorSet) -> tuple[int, ...]:
        return verify_any_evidence(evidence, validator_set, context.genesis_hash, state.block_hash_at)

    try:
        record = state.contract.set_record(epoch)
        check_age(
            evidence,
            record,
            height=context.height,
            parent_time_ms=context.parent_payload.time_ms,
            params=context.genesis.consensus,
        )
        members = convicted(item, record, verify)
        is_forgery = isinstance(evidence, ForgedHeader)
        _check_it_has_effect(state.contract, members, epoch, is_forgery=is_forgery)
    except SystemCallFailed as error:
        raise EvidenceError("state", "a contract that answers", str(error)) from error
    return Conviction(members, epoch, evidence_hash(evidence), is_forgery)


def _check_it_has_effect(
    contract: StakingContract, members: Sequence[Validator], epoch: int, *, is_forgery: bool
) -> None:
    operators = [Address(member.operator) for member in members]
    if is_forgery:
        if not any(contract.may_be_frozen(operator, epoch) for operator in operators):
            expected = "somebody who is not yet, nor tombstoned, nor acquitted for that epoch"
            raise EvidenceError("frozen", expected, f"{len(members)} who are")
    elif all(contract.is_tombstoned(operator) for operator in operators):
        raise EvidenceError("tombstoned", "somebody who is not yet", f"{len(members)} who are")
