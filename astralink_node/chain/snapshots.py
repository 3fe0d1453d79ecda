"""Answers whoever catches up: ranges of decided blocks, light blocks, and the latest two epochs' states in chunks.

Nothing is kept for snapshots: what a height's state held, the reverse diffs say. So states are served as far as the
history window reaches, while the chain advances.
"""

from collections.abc import Callable
from typing import Final, assert_never

from astralink_node.chain.consensus_messages import Decided
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import HistoryUnavailable, NotFound
from astralink_node.chain.snapshot_manifest import (
    HEADERS,
    MAX_ANCESTORS,
    MAX_MANIFEST_BYTES,
    Ancestor,
    Manifest,
    encode_manifest,
)
from astralink_node.chain.sync_messages import (
    BlocksAnswer,
    BlocksQuestion,
    LightBlockAnswer,
    LightBlockQuestion,
    SnapshotChunk,
    SnapshotChunkQuestion,
    SnapshotHeights,
    SnapshotHeightsQuestion,
    SnapshotManifest,
    SnapshotManifestQuestion,
    SyncAnswer,
    SyncQuestion,
)
from astralink_node.evm.blocks import encode_block, encode_header
from astralink_node.state.range_proofs import KEY_BYTES
from astralink_node.state.reverse_diffs import HistoricalReader
from astralink_node.state.snapshot_chunks import Position, encode_chunk, read_chunk
from astralink_node.storage.store import Reader
from consensus.epoch import epoch_of, last_height
from consensus.proposer_selection import encode_priorities
from genesis.schema import GenesisFile

MAX_BLOCKS: Final = 64
"""In one answer."""
SNAPSHOTS_KEPT: Final = 2


def answer_sync(
    reader: Reader, genesis: GenesisFile, question: SyncQuestion, check_time: Callable[[], None]
) -> SyncAnswer | NotFound | HistoryUnavailable:
    ledger = Ledger(reader)
    match question:
        case BlocksQuestion():
            return _blocks(ledger, question, check_time)
        case LightBlockQuestion(height):
            return _light_block(ledger, height)
        case SnapshotHeightsQuestion():
            return SnapshotHeights(snapshot_heights(ledger, genesis.epoch_length))
        case SnapshotManifestQuestion(height):
            if height not in snapshot_heights(ledger, genesis.epoch_length):
                return NotFound(f"a snapshot of height {height}")
            raw_manifest = encode_manifest(_manifest(ledger, height, genesis))
            if len(raw_manifest) > MAX_MANIFEST_BYTES:
                return NotFound(f"a snapshot of height {height}: its manifest is {len(raw_manifest)} bytes long")
            return SnapshotManifest(raw_manifest)
        case SnapshotChunkQuestion():
            return _chunk(reader, ledger, genesis.epoch_length, question, check_time)
        case _:
            assert_never(question)


def snapshot_heights(ledger: Ledger, epoch_length: int) -> tuple[int, ...]:
    """The ends of the latest two epochs whose states are still there, ascending."""
    newest_epoch = epoch_of(ledger.head().height + 1, epoch_length) - 1
    heights = (last_height(epoch, epoch_length) for epoch in range(newest_epoch, -1, -1)[:SNAPSHOTS_KEPT])
    oldest = max(ledger.oldest_state_height(), ledger.oldest_block_height(), 1)
    # The priorities of the oldest height itself go with the diffs below it.
    return tuple(sorted(height for height in heights if height >= oldest and ledger.has_priorities(height)))


def _blocks(
    ledger: Ledger, question: BlocksQuestion, check_time: Callable[[], None]
) -> BlocksAnswer | HistoryUnavailable:
    head_height = ledger.head().height
    first, oldest = max(1, question.from_height), ledger.oldest_block_height()
    if first < oldest:
        return HistoryUnavailable(question.from_height, oldest)
    blocks: list[Decided] = []
    size = 0
    for height in range(first, min(head_height, first + min(question.count, MAX_BLOCKS) - 1) + 1):
        check_time()
        decided = Decided(encode_block(ledger.sealed_block(height)), ledger.certificate(height))
        size += len(decided.raw_block) + len(decided.certificate)
        if blocks and size > question.max_bytes:
            break
        blocks.append(decided)
    return BlocksAnswer(tuple(blocks), head_height)


def _light_block(ledger: Ledger, height: int) -> LightBlockAnswer | NotFound | HistoryUnavailable:
    head_height, oldest = ledger.head().height, ledger.oldest_block_height()
    if not 1 <= height <= head_height:
        return NotFound(f"block {height}: the head is {head_height}")
    if height < oldest:
        return HistoryUnavailable(height, oldest)
    return LightBlockAnswer(
        encode_header(ledger.header(height)),
        ledger.raw_payload(height),
        ledger.certificate(height),
        ledger.raw_validator_set(height),
        ledger.raw_validator_set(height + 1),
    )


def _manifest(ledger: Ledger, height: int, genesis: GenesisFile) -> Manifest:
    return Manifest(
        raw_block=encode_block(ledger.sealed_block(height)),
        certificate=ledger.certificate(height),
        raw_receipts=tuple(receipt.raw_receipt for receipt in ledger.receipts(height)),
        raw_headers=tuple(encode_header(ledger.header(below)) for below in range(max(0, height - HEADERS), height)),
        voting_set=ledger.raw_validator_set(height),
        next_set=ledger.raw_validator_set(height + 1),
        priorities=encode_priorities(ledger.priorities(height)),
        checkpoint=ledger.checkpoint_carried_by(height),
        ancestors=_ancestors(ledger, height, genesis),
    )


def _ancestors(ledger: Ledger, height: int, genesis: GenesisFile) -> tuple[Ancestor, ...]:
    """Where the sets of the evidence age began to vote, and the epochs' ends whose checkpoints may still come."""
    oldest_evidence = height - genesis.consensus.evidence_max_age_blocks
    wanted = set(ledger.set_heights(oldest_evidence, height))
    length = genesis.epoch_length
    first_epoch = ledger.latest_checkpoint_epoch_at(height) + 1
    last_epoch = epoch_of(height, length) - 1
    for epoch in range(max(first_epoch, last_epoch - MAX_ANCESTORS), last_epoch + 1):
        wanted.add(last_height(epoch, length))
    known = [one for one in sorted(wanted) if 0 < one < height and ledger.has_certified(one)]
    return tuple(
        Ancestor(
            encode_header(ledger.header(one)),
            ledger.raw_payload(one),
            ledger.certificate(one),
            ledger.raw_validator_set(one),
            ledger.raw_validator_set(one + 1),
        )
        for one in known[-MAX_ANCESTORS:]
    )


def _chunk(
    reader: Reader,
    ledger: Ledger,
    epoch_length: int,
    question: SnapshotChunkQuestion,
    check_time: Callable[[], None],
) -> SnapshotChunk | NotFound:
    height = question.height
    if height not in snapshot_heights(ledger, epoch_length):
        return NotFound(f"a snapshot of height {height}")
    keys = (question.account, question.slot, question.last_account)
    if any(len(key) != KEY_BYTES for key in keys) or question.account > question.last_account:
        return NotFound("a chunk between such keys")
    chunk = read_chunk(
        HistoricalReader(reader, height),
        ledger.header(height).state_root,
        Position(question.account, question.slot),
        question.last_account,
        check_time,
    )
    if chunk is None:
        return NotFound(f"slots of account {question.account.hex()} at height {height}")
    return SnapshotChunk(encode_chunk(chunk))
