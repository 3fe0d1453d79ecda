"""Importing the state after a trusted block into a database that holds nothing but genesis.

Chunks arrive in sixteen segments of the key space, in any order between segments and in order within one. Each is
verified by itself; its entries and the place where the segment goes on are one batch, so a process that is killed
at any point goes on from there. Then the tries are built from the flat entries, every root is compared, and one
synced batch makes the block the head. Until then the head is genesis, whose state is gone.
"""

from collections.abc import Iterator
from typing import Final

from astralink_node.chain.commits import log_index_entries
from astralink_node.chain.import_segments import SEGMENTS, first_account, last_account
from astralink_node.chain.initialise import FIRST_HEIGHT
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.prepared import receipt_records_of
from astralink_node.chain.records import encode_body, encode_head, encode_position, encode_receipts, encode_touched
from astralink_node.chain.snapshot_manifest import (
    CheckedManifest,
    Manifest,
    ManifestRefused,
    check_manifest,
    decode_manifest,
)
from astralink_node.chain.sync_messages import ImportProgress, ImportRefused, SegmentPosition
from astralink_node.evm.blocks import MalformedBlock, decode_receipt, encode_header
from astralink_node.evm.transactions import InvalidTransaction, decode_transaction, recover_sender
from astralink_node.state.accounts import decode_account, encode_integer
from astralink_node.state.range_proofs import FIRST_KEY, KEY_BYTES, RangeRefused
from astralink_node.state.rebuild import rebuild_trie
from astralink_node.state.snapshot_chunks import Position, decode_chunk, verify_chunk
from astralink_node.storage import keys
from astralink_node.storage.store import Store
from astralink_node.types import EMPTY_TRIE_ROOT
from consensus.proposer_selection import encode_priorities, succeed
from genesis.builder import build_genesis
from genesis.sealing import parse_genesis

_BATCH_ENTRIES: Final = 20_000
"""Deleted, or written while the tries are built, in one batch."""
_STATE_TABLES: Final = (keys.ACCOUNTS, keys.STORAGE, keys.ACCOUNT_NODES, keys.STORAGE_NODES)
"""Codes stay: they are keyed by their hash, and genesis' are needed again if the import is abandoned."""

Writes = dict[bytes, bytes | None]


class StateImport:
    """The import that a database is in, if it is in one."""

    def __init__(self, store: Store, genesis_hash: bytes, epoch_length: int) -> None:
        self._store = store
        self._genesis_hash = genesis_hash
        self._epoch_length = epoch_length
        raw_manifest = store.get(keys.IMPORT_KEY)
        self._current = None if raw_manifest is None else _Current(raw_manifest, genesis_hash, epoch_length)

    @property
    def is_running(self) -> bool:
        return self._current is not None

    def progress(self, *, with_manifest: bool = False) -> ImportProgress:
        current = self._current
        if current is None:
            return ImportProgress(0)
        missing = tuple(
            SegmentPosition(segment, position.account, position.slot)
            for segment in range(SEGMENTS)
            if (position := self._position(segment)) is not None
        )
        return ImportProgress(current.height, missing, current.raw_manifest if with_manifest else b"")

    def begin(self, raw_manifest: bytes) -> ImportProgress | ImportRefused:
        """Start, or go on if it is the same block's; what an import of another one left is dropped."""
        head_height = Ledger(self._store).head().height
        if head_height:
            return ImportRefused("head", "a database that holds genesis alone", f"block {head_height}")
        try:
            current = _Current(raw_manifest, self._genesis_hash, self._epoch_length)
        except ManifestRefused as error:
            return ImportRefused(error.rule, error.expected, error.found)
        if self._current is not None and self._current.block_hash == current.block_hash and self._is_emptied():
            return self.progress()
        self._empty(raw_manifest, current.height)
        self._current = current
        self._store.write(
            {keys.import_position_key(segment): _first_position(segment) for segment in range(SEGMENTS)}, sync=True
        )
        return self.progress()

    def add_chunk(self, segment: int, raw_chunk: bytes) -> ImportProgress | ImportRefused:
        """The segment's next chunk. What is refused convicts its sender, unless the rule is `segment`."""
        current = self._current
        position = None if current is None or not 0 <= segment < SEGMENTS else self._position(segment)
        if current is None or position is None or not self._is_emptied():
            return ImportRefused("segment", "one that is being imported and incomplete", str(segment))
        try:
            chunk = decode_chunk(raw_chunk)
            verified = verify_chunk(chunk, current.checked.header.state_root, position, last_account(segment))
        except RangeRefused as error:
            return ImportRefused(error.rule, error.expected, error.found)
        after = verified.next_position
        writes = verified.writes
        writes[keys.import_position_key(segment)] = b"" if after is None else after.account + after.slot
        self._store.write(writes, sync=False)
        return self.progress()

    def finish(self) -> ImportRefused | None:
        """Build the tries, compare every root, and make the block the head; None: it is."""
        current = self._current
        if current is None or self.progress().missing:
            return ImportRefused("segment", "an import whose segments are complete", "none, or incomplete ones")
        problem = self._build_tries()
        if problem is not None:
            return problem
        try:
            writes = _head_writes(current.manifest, current.checked)
        except (MalformedBlock, InvalidTransaction) as error:
            return ImportRefused("transactions", error.expected, error.found)
        writes[keys.IMPORT_KEY] = None
        writes.update(dict.fromkeys(map(keys.import_position_key, range(SEGMENTS))))
        self._store.write(writes, sync=True)
        self._current = None
        return None

    def abandon(self) -> None:
        """Forget what was imported: genesis again."""
        if self._current is None:
            return
        self._empty(self._current.raw_manifest, self._current.height)
        genesis_file = self._store.get(keys.GENESIS_FILE_KEY)
        assert genesis_file is not None, "it was there when the database was opened"
        writes: Writes = dict(build_genesis(parse_genesis(genesis_file)).state.writes)
        writes[keys.IMPORT_KEY] = None
        writes[keys.OLDEST_STATE_KEY] = None
        self._store.write(writes, sync=True)
        self._current = None

    # --- Steps -----------------------------------------------------------------------------------------------------

    def _position(self, segment: int) -> Position | None:
        """Where it goes on; None if it is complete."""
        raw = self._store.get(keys.import_position_key(segment))
        if raw is None:
            return Position(first_account(segment))  # not emptied yet: nothing of it is here
        return Position(raw[:KEY_BYTES], raw[KEY_BYTES:]) if raw else None

    def _is_emptied(self) -> bool:
        """Whether what stood there before is gone; a process may have been killed on the way."""
        return self._store.get(keys.import_position_key(0)) is not None

    def _empty(self, raw_manifest: bytes, height: int) -> None:
        """Say first that an import runs, and that the head has no state; then drop the state, some at a time."""
        writes: Writes = dict.fromkeys(map(keys.import_position_key, range(SEGMENTS)))
        writes[keys.IMPORT_KEY] = raw_manifest
        writes[keys.OLDEST_STATE_KEY] = keys.encode_height(height)
        self._store.write(writes, sync=True)
        for table in _STATE_TABLES:
            self._drop(table)

    def _drop(self, table: bytes) -> None:
        batch: Writes = {}
        for key, _ in self._store.iterate(*keys.prefix_range(table)):
            batch[key] = None
            if len(batch) >= _BATCH_ENTRIES:
                self._store.write(batch, sync=False)
                batch = {}
        self._store.write(batch, sync=False)

    def _build_tries(self) -> ImportRefused | None:
        assert self._current is not None, "only a running import is finished"
        nodes = _NodeWriter(self._store)
        problems: list[ImportRefused] = []

        def accounts() -> Iterator[tuple[bytes, bytes]]:
            for key, raw_account in self._store.iterate(*keys.prefix_range(keys.ACCOUNTS)):
                address_hash = key[len(keys.ACCOUNTS) :]
                storage_root = decode_account(raw_account).storage_root
                if storage_root != EMPTY_TRIE_ROOT:
                    found = rebuild_trie(self._slots(address_hash), keys.storage_nodes_prefix(address_hash), nodes.put)
                    if found != storage_root and not problems:
                        what = f"storage root of {address_hash.hex()}"
                        problems.append(ImportRefused(what, storage_root.hex(), found.hex()))
                yield address_hash, raw_account

        expected = self._current.checked.header.state_root
        found = rebuild_trie(accounts(), keys.ACCOUNT_NODES, nodes.put)
        nodes.flush()
        if found != expected:
            problems.append(ImportRefused("state root", expected.hex(), found.hex()))
        return problems[0] if problems else None

    def _slots(self, address_hash: bytes) -> Iterator[tuple[bytes, bytes]]:
        prefix = keys.storage_prefix(address_hash)
        for key, value in self._store.iterate(*keys.prefix_range(prefix)):
            yield key[len(prefix) :], encode_integer(int.from_bytes(value, "big"))


class _Current:
    """The manifest of an import, decoded once."""

    def __init__(self, raw_manifest: bytes, genesis_hash: bytes, epoch_length: int) -> None:
        self.raw_manifest = raw_manifest
        self.manifest: Manifest = decode_manifest(raw_manifest)
        self.checked: CheckedManifest = check_manifest(self.manifest, genesis_hash, epoch_length)
        self.height = self.checked.header.number
        self.block_hash = self.checked.header.hash


class _NodeWriter:
    """Writes nodes some at a time, not synced: the batch that makes the head is, and everything before it with it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._batch: Writes = {}

    def put(self, key: bytes, raw_node: bytes) -> None:
        self._batch[key] = raw_node
        if len(self._batch) >= _BATCH_ENTRIES:
            self.flush()

    def flush(self) -> None:
        self._store.write(self._batch, sync=False)
        self._batch = {}


def _first_position(segment: int) -> bytes:
    return first_account(segment) + FIRST_KEY


# --- The head ----------------------------------------------------------------------------------------------------


def _head_writes(manifest: Manifest, checked: CheckedManifest) -> Writes:
    """What a commit of the block would have written, beside the state, and what later blocks refer to."""
    header, block = checked.header, checked.sealed.block
    height, block_hash = header.number, header.hash
    transactions = [decode_transaction(raw) for raw in block.raw_transactions]
    senders = [recover_sender(transaction) for transaction in transactions]
    receipts = [decode_receipt(raw) for raw in manifest.raw_receipts]
    records = receipt_records_of(transactions, senders, receipts, manifest.raw_receipts)
    writes: Writes = {}
    for raw_header, linked in zip(manifest.raw_headers, checked.headers, strict=True):
        writes[keys.header_key(linked.number)] = raw_header
    for ancestor in checked.ancestors:
        parts, at = ancestor.parts, ancestor.header.number
        writes[keys.header_key(at)] = parts.raw_header
        writes[keys.payload_key(at)] = parts.raw_payload
        writes[keys.certificate_key(at)] = parts.certificate
        writes[keys.validator_set_key(at)] = parts.voting_set
        writes[keys.validator_set_key(at + 1)] = parts.next_set
    writes[keys.header_key(height)] = encode_header(header)
    writes[keys.height_key(block_hash)] = keys.encode_height(height)
    writes[keys.body_key(height)] = encode_body(block.raw_transactions, senders)
    writes[keys.payload_key(height)] = checked.sealed.raw_payload
    writes[keys.certificate_key(height)] = manifest.certificate
    writes[keys.receipts_key(height)] = encode_receipts(records)
    for index, transaction in enumerate(transactions):
        writes[keys.transaction_key(transaction.hash)] = encode_position(height, index)
    writes.update(log_index_entries([log for receipt in receipts for log in receipt.logs], height))
    writes[keys.validator_set_key(height)] = manifest.voting_set
    writes[keys.validator_set_key(height + 1)] = manifest.next_set
    writes[keys.priorities_key(FIRST_HEIGHT)] = None
    writes[keys.priorities_key(height)] = manifest.priorities
    next_priorities = succeed(checked.priorities, checked.voting_set, checked.next_set)
    writes[keys.priorities_key(height + 1)] = encode_priorities(next_priorities)
    if manifest.checkpoint:
        writes[keys.checkpoint_key(checked.checkpoint_epoch)] = keys.encode_height(height)
        writes[keys.IMPORTED_CHECKPOINT_KEY] = manifest.checkpoint
    writes[keys.HEAD_TOUCHED_KEY] = encode_touched(height, ())
    writes[keys.OLDEST_STATE_KEY] = keys.encode_height(height)
    writes[keys.OLDEST_BLOCK_KEY] = keys.encode_height(height)
    writes[keys.HEAD_KEY] = encode_head(height, block_hash)
    return writes
