"""What a commit writes: one batch with block, receipts, indexes, state, diffs, sets, priorities and head.

The batch is the unit of durability: after a crash the database stands at one block or at the next, never between.
Old reverse diffs leave in the same batches, a bounded number of heights at a time. A rollback is the same thing
backwards, one synced batch a block.
"""

from collections import defaultdict
from dataclasses import dataclass

from astralink_node.chain.consensus_rules import BlockContext
from astralink_node.chain.explorer_index import commit_entries, executed_block, rollback_entries
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import ReceiptRecord
from astralink_node.chain.prepared import PreparedBlock
from astralink_node.chain.records import (
    encode_body,
    encode_head,
    encode_position,
    encode_protocol_log,
    encode_receipts,
    encode_touched,
)
from astralink_node.crypto.keccak import keccak256
from astralink_node.errors import UserError
from astralink_node.evm.blocks import Log, decode_receipt, encode_header
from astralink_node.state.reverse_diffs import prune_writes, reverse_diff, rollback_writes
from astralink_node.storage import keys
from astralink_node.storage.store import Reader
from consensus.checkpoint import decode_checkpoint
from consensus.proposer_selection import encode_priorities, succeed
from consensus.validator_set import encode_validator_set

Writes = dict[bytes, bytes | None]

DEFAULT_HISTORY_HEIGHTS = 8_192
"""How many heights below the head can still be read: as many as EIP-2935 keeps hashes of."""

PRUNED_HEIGHTS_PER_COMMIT = 2
"""One keeps pace; the second catches up after the window was made smaller."""


@dataclass(frozen=True, slots=True)
class HistoryWindow:
    """How many heights of state below the head are kept, at least one; None keeps all (`--archive`)."""

    heights: int | None = DEFAULT_HISTORY_HEIGHTS

    def __post_init__(self) -> None:
        if self.heights is not None and self.heights < 1:
            raise UserError(f"history: expected at least 1 height below the head, found {self.heights}")


def commit_writes(
    context: BlockContext, reader: Reader, prepared: PreparedBlock, certificate: bytes, window: HistoryWindow
) -> Writes:
    """Everything that makes `prepared` the head."""
    height, header = context.height, prepared.header
    receipts = prepared.receipt_records()
    writes: Writes = dict(prepared.state.writes)
    writes.update(reverse_diff(prepared.state.previous, height))
    writes[keys.header_key(height)] = encode_header(header)
    writes[keys.height_key(prepared.block_hash)] = keys.encode_height(height)
    writes[keys.body_key(height)] = encode_body(prepared.sealed.block.raw_transactions, prepared.senders)
    writes[keys.payload_key(height)] = prepared.sealed.raw_payload
    writes[keys.certificate_key(height)] = certificate
    writes[keys.receipts_key(height)] = encode_receipts(receipts)
    for index, transaction in enumerate(prepared.transactions):
        writes[keys.transaction_key(transaction.hash)] = encode_position(height, index)
    logs = [log for receipt in prepared.executed.receipts for log in receipt.logs]
    writes.update(log_index_entries(logs, height))
    # The set of height + 2 follows from this block's election; without one it is the set of height + 1, whose
    # entry stands already. Priorities advance once a height, whatever round decided it.
    elected = prepared.protocol.elected
    if elected is not None:
        writes[keys.validator_set_key(height + 2)] = encode_validator_set(elected)
    next_priorities = succeed(context.priorities, context.voting_set, context.next_set)
    writes[keys.priorities_key(height + 1)] = encode_priorities(next_priorities)
    if prepared.protocol.calls:
        writes[keys.protocol_log_key(height)] = encode_protocol_log(prepared.protocol.calls)
    if prepared.payload.checkpoint:
        epoch = decode_checkpoint(prepared.payload.checkpoint).epoch
        writes[keys.checkpoint_key(epoch)] = keys.encode_height(height)
    if prepared.appearances is not None:
        indexed = executed_block(height, prepared.transactions, prepared.senders, prepared.appearances)
        writes.update(commit_entries(reader, indexed))
    writes[keys.HEAD_TOUCHED_KEY] = encode_touched(height, prepared.touched_accounts())
    writes[keys.HEAD_KEY] = encode_head(height, prepared.block_hash)
    if window.heights is not None:
        writes.update(_prune_step(reader, height - window.heights, PRUNED_HEIGHTS_PER_COMMIT))
    return writes


def log_index_entries(logs: list[Log], height: int) -> dict[bytes, bytes | None]:
    """Index entries of a block's logs, given in order."""
    positions: dict[bytes, list[int]] = defaultdict(list)
    for position, log in enumerate(logs):
        positions[keys.log_address_prefix(log.address)].append(position)
        for place, topic in enumerate(log.topics):
            positions[keys.log_topic_prefix(place, topic)].append(position)
    return {keys.log_index_key(prefix, height): keys.encode_positions(found) for prefix, found in positions.items()}


def prune_history(reader: Reader, oldest_height: int, max_heights: int) -> tuple[Writes, bool]:
    """Drop what only heights below `oldest_height` need, at most `max_heights` of them; and whether more remain."""
    writes = _prune_step(reader, oldest_height, max_heights)
    return writes, Ledger(reader).oldest_state_height() + max_heights < oldest_height


def _prune_step(reader: Reader, oldest_height: int, max_heights: int) -> Writes:
    oldest = Ledger(reader).oldest_state_height()
    target = min(oldest_height, oldest + max_heights)
    if target <= oldest:
        return {}
    writes: Writes = {keys.OLDEST_STATE_KEY: keys.encode_height(target)}
    has_index = reader.get(keys.EXPLORER_COVERAGE_KEY) is not None
    for height in range(oldest + 1, target + 1):
        if has_index:
            writes[keys.appearance_list_key(height)] = None
        writes.update(prune_writes(reader, height))
        writes[keys.priorities_key(height)] = None
    return writes


def rollback_head(reader: Reader) -> Writes:
    """What takes the database back to the block before its head. Raises DiffMissing when its diff was pruned."""
    ledger = Ledger(reader)
    head = ledger.head()
    height = head.height
    raw_transactions, _ = ledger.body(height)
    writes = rollback_writes(reader, height)
    for raw in raw_transactions:
        writes[keys.transaction_key(keccak256(raw))] = None
    writes.update(dict.fromkeys(log_index_entries(_logs_of(ledger.receipts(height)), height)))
    writes.update(rollback_entries(reader, height))
    for key in (
        keys.header_key(height),
        keys.height_key(head.block_hash),
        keys.body_key(height),
        keys.payload_key(height),
        keys.certificate_key(height),
        keys.receipts_key(height),
        keys.priorities_key(height + 1),
        keys.validator_set_key(height + 2),
        keys.protocol_log_key(height),
        keys.HEAD_TOUCHED_KEY,
    ):
        writes[key] = None
    checkpoint = ledger.carried_checkpoint(height)
    if checkpoint is not None:
        writes[keys.checkpoint_key(checkpoint.epoch)] = None
    writes[keys.HEAD_KEY] = encode_head(height - 1, ledger.header(height).parent_hash)
    return writes


def _logs_of(receipts: tuple[ReceiptRecord, ...]) -> list[Log]:
    return [log for receipt in receipts for log in decode_receipt(receipt.raw_receipt).logs]
