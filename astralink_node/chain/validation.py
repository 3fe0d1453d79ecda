"""Whether a proposed block is valid: every rule, its signatures included, and nothing about when it arrived.

Cheap rules first, then signatures, then execution. The outcome depends on the block and on the committed chain
alone. Any bytes at all are answered: what is not a valid block is a :class:`RuleBroken`, never another error.
"""

from collections.abc import Sequence

from astralink_node.chain.consensus_rules import (
    BlockContext,
    RuleBroken,
    check_header,
    check_payload,
    check_signatures,
)
from astralink_node.chain.prepared import PreparedBlock
from astralink_node.chain.protocol_steps import ProtocolSteps
from astralink_node.evm import pipeline
from astralink_node.evm.block_errors import BlockRule, InvalidBlock
from astralink_node.evm.blocks import MalformedBlock, SealedBlock, decode_block
from astralink_node.evm.transactions import InvalidTransaction, Transaction, decode_transaction, recover_sender
from astralink_node.state.commitment import commit_changes
from astralink_node.state.flat_state import HeadState
from astralink_node.state.overlay import Overlay
from astralink_node.state.trie import ordered_root
from astralink_node.storage.store import Reader
from astralink_node.types import Address
from consensus.payload import ConsensusPayload, decode_payload
from consensus.wire import DecodeError


def decode_sealed(raw_block: bytes) -> SealedBlock:
    try:
        return decode_block(raw_block)
    except MalformedBlock as error:
        raise RuleBroken(BlockRule.ENCODING.value, error.expected, error.found) from error


def validate_block(
    context: BlockContext,
    reader: Reader,
    sealed: SealedBlock,
    known_senders: Sequence[bytes] = (),
    *,
    with_appearances: bool = False,
) -> PreparedBlock:
    """The block executed on the head's state, which `reader` holds. Raises RuleBroken."""
    block = sealed.block
    payload = _decode_payload(sealed.raw_payload)
    check_payload(context, payload)
    check_header(context, block.header, payload)
    found_root = ordered_root(block.raw_transactions)
    if found_root != block.header.transactions_root:
        raise RuleBroken(BlockRule.TRANSACTIONS_ROOT.value, found_root, block.header.transactions_root)
    check_signatures(context, payload)
    overlay = Overlay(HeadState(reader))
    transactions: list[Transaction] = []
    senders: list[Address] = []
    try:
        pipeline.check_block_size(context.rules, block)
        _decode_transactions(sealed, known_senders, transactions, senders)
        execution = pipeline.BlockExecution(
            context.rules, pipeline.BlockContext.of_header(block.header, context.block_hash_at), overlay
        )
        if with_appearances:
            execution.collect_addresses()
        execution.apply_system_start()
        steps = ProtocolSteps(context, execution, payload)
        steps.before_transactions()
        for transaction, sender in zip(transactions, senders, strict=True):
            execution.apply_transaction(transaction, sender)
        protocol = steps.after_transactions()
        executed = execution.finish(block.withdrawals, protocol.requests)
        pipeline.check_executed(block.header, executed)
    except InvalidBlock as error:
        raise RuleBroken(error.rule.value, error.expected, error.found) from error
    except InvalidTransaction as error:
        rule = f"{BlockRule.TRANSACTION.value}: {error.rule.value}"
        raise RuleBroken(rule, error.expected, error.found) from error
    changes = overlay.changes()
    state = commit_changes(reader, context.parent.state_root, changes)
    if state.state_root != block.header.state_root:
        raise RuleBroken(BlockRule.STATE_ROOT.value, state.state_root, block.header.state_root)
    return PreparedBlock(
        sealed=sealed,
        payload=payload,
        transactions=tuple(transactions),
        senders=tuple(senders),
        executed=executed,
        protocol=protocol,
        state=state,
        touched=changes.touched,
        appearances=tuple(execution.appearances) if with_appearances else None,
    )


def _decode_payload(raw_payload: bytes) -> ConsensusPayload:
    try:
        return decode_payload(raw_payload)
    except DecodeError as error:
        raise RuleBroken(f"payload {error.field}", error.expected, error.found) from error


def _decode_transactions(
    sealed: SealedBlock, known_senders: Sequence[bytes], transactions: list[Transaction], senders: list[Address]
) -> None:
    """Fill both lists. Senders that the caller knows are taken as they are: this node recovered them itself."""
    raw_transactions = sealed.block.raw_transactions
    transactions.extend(decode_transaction(raw) for raw in raw_transactions)
    if len(known_senders) == len(raw_transactions):
        known_or_not: Sequence[bytes] = known_senders
    else:
        known_or_not = [b""] * len(raw_transactions)
    senders.extend(
        Address(known) if known else recover_sender(transaction)
        for transaction, known in zip(transactions, known_or_not, strict=True)
    )
