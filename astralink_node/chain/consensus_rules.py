"""What a block's header and consensus payload must say, given its parent: every rule that needs no execution.

docs/specification.md, "Header" and "Consensus payload". Building fills a header and a payload in from the same
context and passes both through the same check, so that a proposer learns of its own mistake first. A broken rule
is a :class:`RuleBroken` with its stable name, what was expected and what was found.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from astralink_node.chain.messages import BuildAttributes, Invalid
from astralink_node.crypto import bls, ml_dsa
from astralink_node.errors import AstraLinkError
from astralink_node.evm.block_errors import InvalidBlock
from astralink_node.evm.blocks import Header, empty_header
from astralink_node.evm.fee_rules import FeeParameters, encode_fee_parameters, step_toward
from astralink_node.evm.fork_rules import ChainRules
from astralink_node.evm.header_rules import child_base_fee, fee_parameters, validate_header
from astralink_node.types import Address, Hash32
from consensus.beacon import next_prev_randao
from consensus.block_evidence import MAX_ITEMS
from consensus.certificate import (
    Certificate,
    CertificateError,
    VerifyAggregate,
    decode_certificate,
    verify_commit,
    verify_signers,
)
from consensus.checkpoint import Checkpoint, checkpoint_hash, decode_checkpoint, verify_checkpoint
from consensus.epoch import epoch_of, last_height
from consensus.messages import NO_ROUND, VoteType, reveal_sign_bytes, signing_root
from consensus.params import LATE_CREDIT_HEIGHTS
from consensus.payload import MAX_LATE_CREDITS, PAYLOAD_VERSION, ConsensusPayload, payload_root
from consensus.proposer_selection import Priorities, priorities_hash, proposer
from consensus.validator_set import ValidatorSet
from consensus.wire import DecodeError
from genesis.schema import GenesisFile

ZERO_32 = bytes(32)

MAX_BUILD_ROUND = 10_000
"""A proposer's index costs a step of the selection for each round: about a second here with 512 validators. With the
shortest timeouts that genesis allows in practice, a round this high is days of failing rounds."""


class RuleBroken(AstraLinkError):
    """A block that is not valid."""

    def __init__(self, rule: str, expected: object, found: object) -> None:
        super().__init__(f"{rule}: expected {_shown(expected)}, found {_shown(found)}")
        self.rule = rule
        self.expected = _shown(expected)
        self.found = _shown(found)

    def as_answer(self) -> Invalid:
        return Invalid(self.rule, self.expected, self.found)


@dataclass(frozen=True, slots=True)
class BlockContext:
    """What the committed chain says about the block after its head."""

    genesis: GenesisFile
    rules: ChainRules
    genesis_hash: bytes
    parent: Header
    parent_payload: ConsensusPayload
    parent_voting_set: ValidatorSet
    """Voted on the parent."""
    voting_set: ValidatorSet
    """Votes on this block."""
    next_set: ValidatorSet
    """Votes on the block after it."""
    priorities: Priorities
    """Proposer priorities before this height."""
    latest_checkpoint_epoch: int
    """Epoch of the latest checkpoint that a committed block carries; -1 before the first."""
    block_hash_at: Callable[[int], bytes]
    """Hash of a committed block."""
    voting_set_at: Callable[[int], ValidatorSet]
    """Set that voted on a committed block, or that votes on this one."""

    @property
    def height(self) -> int:
        return self.parent.number + 1

    @property
    def min_time_ms(self) -> int:
        return self.parent_payload.time_ms + self.genesis.consensus.min_block_interval_ms


# --- Filling in ------------------------------------------------------------------------------------------------


def payload_from(
    context: BlockContext, attributes: BuildAttributes, evidence: tuple[bytes, ...] = ()
) -> ConsensusPayload:
    """The payload that a proposer puts beside its block. Raises RuleBroken for attributes that do not decode.

    `evidence` is encoded as blocks carry it.
    """
    certificate, checkpoint = attributes.parent_certificate, attributes.checkpoint
    return ConsensusPayload(
        version=PAYLOAD_VERSION,
        genesis_hash=context.genesis_hash,
        height=context.height,
        time_ms=max(attributes.time_ms, context.min_time_ms),
        build_round=attributes.round_,
        proposer_index=attributes.proposer_index,
        priorities_hash=priorities_hash(context.priorities),
        reveal=attributes.reveal,
        parent_certificate=_decode_certificate("parent certificate", certificate) if certificate else None,
        late_credits=tuple(_decode_certificate("late credit", credit) for credit in attributes.late_credits),
        voting_set_hash=context.voting_set.hash,
        next_set_hash=context.next_set.hash,
        evidence=evidence,
        epoch=epoch_of(context.height, context.genesis.epoch_length),
        checkpoint=checkpoint,
        checkpoint_hash=checkpoint_hash(checkpoint) if checkpoint else context.parent_payload.checkpoint_hash,
        outbox_root=ZERO_32,
    )


def header_from(context: BlockContext, payload: ConsensusPayload, fees: FeeParameters, coinbase: Address) -> Header:
    """The header before execution: roots, bloom and gas used are those of an empty block."""
    return replace(
        empty_header(),
        parent_hash=context.parent.hash,
        coinbase=coinbase,
        number=context.height,
        gas_limit=fees.gas_limit,
        timestamp=payload.time_ms // 1000,
        extra_data=encode_fee_parameters(fees),
        prev_randao=Hash32(next_prev_randao(context.parent.prev_randao, context.parent_payload.reveal)),
        base_fee_per_gas=child_base_fee(context.rules, context.parent),
        parent_beacon_block_root=Hash32(payload_root(payload)),
    )


def fees_from(context: BlockContext, attributes: BuildAttributes) -> FeeParameters:
    """The parent's fee parameters, one notch nearer to the proposer's preference; without one they hold still."""
    parent = fee_parameters(context.parent)
    preference = attributes.fee_preference
    if preference is None:
        return parent
    wanted = FeeParameters(preference.gas_target, preference.base_fee_step_index, preference.min_base_fee_wei)
    return step_toward(parent, wanted, context.genesis.fee_bounds)


# --- Checking --------------------------------------------------------------------------------------------------


def check_header(context: BlockContext, header: Header, payload: ConsensusPayload) -> None:
    """The header against its parent and its payload; what only execution can say is not looked at."""
    try:
        validate_header(context.rules, header, context.parent)
    except InvalidBlock as error:
        raise RuleBroken(error.rule.value, error.expected, error.found) from error
    _expect("timestamp", payload.time_ms // 1000, header.timestamp)
    expected_randao = next_prev_randao(context.parent.prev_randao, context.parent_payload.reveal)
    _expect("prev_randao", expected_randao, header.prev_randao)
    _expect("parent_beacon_block_root", payload_root(payload), header.parent_beacon_block_root)


def check_payload(context: BlockContext, payload: ConsensusPayload) -> None:
    """The payload's plain values; signatures are check_signatures'."""
    _expect("payload version", PAYLOAD_VERSION, payload.version)
    _expect("payload genesis hash", context.genesis_hash, payload.genesis_hash)
    _expect("payload height", context.height, payload.height)
    if payload.time_ms < context.min_time_ms:
        raise RuleBroken("time", f"at least {context.min_time_ms} ms", f"{payload.time_ms} ms")
    if payload.build_round > MAX_BUILD_ROUND:
        raise RuleBroken("build round", f"at most {MAX_BUILD_ROUND}", payload.build_round)
    expected_proposer = proposer(context.priorities, context.voting_set, payload.build_round)
    _expect("proposer index", expected_proposer, payload.proposer_index)
    _expect("priorities hash", priorities_hash(context.priorities), payload.priorities_hash)
    _expect("voting set hash", context.voting_set.hash, payload.voting_set_hash)
    _expect("next set hash", context.next_set.hash, payload.next_set_hash)
    _check_evidence_count(context, payload)
    _expect("epoch", epoch_of(context.height, context.genesis.epoch_length), payload.epoch)
    # The outbox has no rules yet, so its only valid value is none.
    _expect("outbox root", ZERO_32, payload.outbox_root)
    _check_late_credit_order(payload.late_credits)
    if payload.checkpoint:
        _check_checkpoint(context, payload)
    else:
        _expect("checkpoint hash", context.parent_payload.checkpoint_hash, payload.checkpoint_hash)


def _check_evidence_count(context: BlockContext, payload: ConsensusPayload) -> None:
    """Whether it holds is chain.evidence_rules': that takes the parent's state."""
    if context.genesis.staking is None:
        _expect("evidence", 0, len(payload.evidence))
    elif len(payload.evidence) > MAX_ITEMS:
        raise RuleBroken("evidence", f"at most {MAX_ITEMS} items", len(payload.evidence))


def check_signatures(context: BlockContext, payload: ConsensusPayload) -> None:
    """The proposer's reveal, the parent's certificate, the late credits: in one pairing product; then the checkpoint.

    Only where that fails is each looked at by itself, to name the one that does not hold.
    """
    statements: list[bls.Statement] = []

    def note(keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
        statements.append((keys, message, signature))
        return True

    _check_bls_signatures(context, payload, note)
    if not bls.verify_statements(statements):
        _check_bls_signatures(context, payload, bls.fast_aggregate_verify)
        raise RuleBroken("signatures", "a batch that holds where each of its parts does", "one that does not")
    if payload.checkpoint:
        checkpoint = _carried_checkpoint(payload)
        voting_set = context.voting_set_at(checkpoint.height)
        try:
            verify_checkpoint(checkpoint, voting_set, context.genesis_hash, ml_dsa.verify)
        except CertificateError as error:
            raise RuleBroken(f"checkpoint {error.rule}", error.expected, error.found) from error


def _check_bls_signatures(context: BlockContext, payload: ConsensusPayload, verify: VerifyAggregate) -> None:
    message = signing_root(reveal_sign_bytes(context.genesis_hash, context.height))
    key = context.voting_set.validators[payload.proposer_index].voting_key
    if not verify((key,), message, payload.reveal):
        raise RuleBroken("reveal", f"a signature by proposer {payload.proposer_index} on its height", "another")
    certificate = payload.parent_certificate
    if context.height == 1:
        _expect("parent certificate", "none at height 1", "none at height 1" if certificate is None else "one")
    elif certificate is None:
        raise RuleBroken("parent certificate", f"precommits for block {context.parent.number}", "none")
    else:
        try:
            verify_commit(
                certificate,
                context.parent.number,
                context.parent.hash,
                context.parent_voting_set,
                context.genesis_hash,
                verify,
            )
        except CertificateError as error:
            raise RuleBroken(f"parent certificate {error.rule}", error.expected, error.found) from error
    for credit in payload.late_credits:
        _check_late_credit(context, credit, verify)


def _check_checkpoint(context: BlockContext, payload: ConsensusPayload) -> None:
    """A carried checkpoint is newer than any before it, of this chain, and names who votes after its epoch."""
    checkpoint = _carried_checkpoint(payload)
    _expect("checkpoint hash", checkpoint_hash(payload.checkpoint), payload.checkpoint_hash)
    if checkpoint.epoch <= context.latest_checkpoint_epoch:
        raise RuleBroken("checkpoint epoch", f"above {context.latest_checkpoint_epoch}", checkpoint.epoch)
    _expect("checkpoint height", last_height(checkpoint.epoch, context.genesis.epoch_length), checkpoint.height)
    if checkpoint.height >= context.height:
        raise RuleBroken("checkpoint height", f"below {context.height}", checkpoint.height)
    _expect("checkpoint block", context.block_hash_at(checkpoint.height), checkpoint.block_hash)
    _expect("checkpoint next set", context.voting_set_at(checkpoint.height + 1).hash, checkpoint.next_set_hash)


def _carried_checkpoint(payload: ConsensusPayload) -> Checkpoint:
    try:
        return decode_checkpoint(payload.checkpoint)
    except DecodeError as error:
        raise RuleBroken(f"checkpoint encoding: {error.field}", error.expected, error.found) from error


def _check_late_credit_order(credits: tuple[Certificate, ...]) -> None:
    """Decoding a payload holds these too; a proposer meets them here first."""
    if len(credits) > MAX_LATE_CREDITS:
        raise RuleBroken("late credits", f"at most {MAX_LATE_CREDITS}", len(credits))
    for earlier, later in pairwise(credits):
        if later.height <= earlier.height:
            raise RuleBroken("late credit height", f"above {earlier.height}", later.height)


def _check_late_credit(context: BlockContext, credit: Certificate, verify: VerifyAggregate) -> None:
    """Precommits for a committed block of the last 8 heights, by members of the set that voted on it; no quorum."""
    oldest, newest = max(1, context.height - LATE_CREDIT_HEIGHTS), context.height - 2
    if not oldest <= credit.height <= newest:
        raise RuleBroken("late credit height", f"{oldest} to {newest}", credit.height)
    _expect("late credit block", context.block_hash_at(credit.height), credit.block_hash)
    if credit.vote_type is not VoteType.PRECOMMIT or credit.valid_round != NO_ROUND:
        raise RuleBroken("late credit votes", "precommits", credit.vote_type.name)
    voting_set = context.voting_set_at(credit.height)
    try:
        verify_signers(credit, voting_set, context.genesis_hash, verify)
    except CertificateError as error:
        raise RuleBroken(f"late credit {error.rule}", error.expected, error.found) from error


def _decode_certificate(name: str, encoded: bytes) -> Certificate:
    try:
        return decode_certificate(encoded)
    except DecodeError as error:
        raise RuleBroken(f"{name} encoding: {error.field}", error.expected, error.found) from error


def _expect(rule: str, expected: object, found: object) -> None:
    if expected != found:
        raise RuleBroken(rule, expected, found)


def _shown(value: object) -> str:
    return f"0x{value.hex()}" if isinstance(value, bytes) else str(value)
