"""What the explorer index writes of a block and takes away again (ADR 20): by address, contract, sender and nonce.

Entries go into the batch of the block's own commit, with the coverage that counts them in, so the index is never
behind and never half-written. Those of a block without state are made of its body and receipts alone.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from astralink_node.chain.explorer_coverage import (
    Stretch,
    covers,
    encode_coverage,
    extended,
    load_coverage,
    truncated,
)
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.records import damaged, decode_position, encode_position
from astralink_node.evm.address_collector import Appearances, Creation
from astralink_node.evm.blocks import decode_receipt
from astralink_node.evm.transactions import Transaction, decode_transaction
from astralink_node.storage import keys
from astralink_node.storage.store import PointReader, Reader
from astralink_node.types import ADDRESS_BYTES, Address

Writes = dict[bytes, bytes | None]


@dataclass(frozen=True, slots=True)
class IndexedBlock:
    """What the index needs of a block."""

    height: int
    nonces: tuple[tuple[bytes, int], ...]
    """(sender, nonce) of each transaction."""
    appearances: tuple[Appearances, ...]
    """Of each transaction."""
    with_calls: bool

    @property
    def as_stretch(self) -> Stretch:
        return Stretch(self.height, self.height, self.with_calls)


def executed_block(
    height: int, transactions: Sequence[Transaction], senders: Sequence[bytes], appearances: tuple[Appearances, ...]
) -> IndexedBlock:
    nonces = tuple((sender, transaction.nonce) for transaction, sender in zip(transactions, senders, strict=True))
    return IndexedBlock(height, nonces, appearances, with_calls=True)


def outlined_block(ledger: Ledger, height: int) -> IndexedBlock:
    """A stored block as body and receipts tell of it: sender, recipient or contract deployed, emitters of logs."""
    raw_transactions, senders = ledger.body(height)
    nonces, appearances = [], []
    for raw, sender, record in zip(raw_transactions, senders, ledger.receipts(height), strict=True):
        transaction, receipt = decode_transaction(raw), decode_receipt(record.raw_receipt)
        target = Address(transaction.to or record.contract_address)
        found = {Address(sender), target, *(log.address for log in receipt.logs)}
        deploys = not transaction.to and receipt.succeeded
        creations = (Creation(target, Address(sender)),) if deploys else ()
        nonces.append((sender, transaction.nonce))
        appearances.append(Appearances(tuple(sorted(found)), creations))
    return IndexedBlock(height, tuple(nonces), tuple(appearances), with_calls=False)


def block_entries(block: IndexedBlock) -> Writes:
    """The entries of one block; with internal calls, also the list by which a rollback finds them."""
    height = block.height
    writes: Writes = {}
    indices: dict[Address, list[int]] = defaultdict(list)
    for index, appearances in enumerate(block.appearances):
        for address in appearances.addresses:
            indices[address].append(index)
        for creation in appearances.creations:
            writes[keys.creation_key(creation.address)] = encode_creation(height, index, creation.creator)
    for address, found in indices.items():
        writes[keys.appearance_key(address, height)] = keys.encode_positions(found)
    for index, (sender, nonce) in enumerate(block.nonces):
        writes[keys.sender_nonce_key(sender, nonce)] = encode_position(height, index)
    if indices and block.with_calls:
        writes[keys.appearance_list_key(height)] = b"".join(sorted(indices))
    return writes


def commit_entries(reader: Reader, block: IndexedBlock) -> Writes:
    """What the commit of a block adds to its batch.

    A snapshot's block was never executed here; the block after it takes it along, so that the index has no gap where
    the chain of this node begins.
    """
    # Whoever rolled back without knowing of the index left heights in it that are made anew.
    coverage = truncated(load_coverage(reader), block.height - 1)
    writes: Writes = {}
    ledger, parent = Ledger(reader), block.height - 1
    if parent and parent == ledger.oldest_block_height() and not covers(coverage, parent):
        outlined = outlined_block(ledger, parent)
        writes.update(block_entries(outlined))
        coverage = extended(coverage, outlined.as_stretch)
    writes.update(block_entries(block))
    writes[keys.EXPLORER_COVERAGE_KEY] = encode_coverage(extended(coverage, block.as_stretch))
    return writes


def rollback_entries(reader: Reader, height: int) -> Writes:
    """What takes the head block out of the index; nothing if it is not in it."""
    coverage = load_coverage(reader)
    listed = load_appearance_list(reader, height)
    if not listed and not covers(coverage, height):
        return {}
    raw_transactions, senders = Ledger(reader).body(height)
    if bool(listed) != bool(raw_transactions):
        raise damaged(f"the explorer index's list of block {height}", "it does not fit the block's transactions")
    writes: Writes = {keys.appearance_list_key(height): None}
    for address in listed:
        writes[keys.appearance_key(address, height)] = None
        creation = load_creation(reader, address)
        if creation is not None and creation.height == height:
            writes[keys.creation_key(address)] = None
    for raw, sender in zip(raw_transactions, senders, strict=True):
        writes[keys.sender_nonce_key(sender, decode_transaction(raw).nonce)] = None
    writes[keys.EXPLORER_COVERAGE_KEY] = encode_coverage(truncated(coverage, height - 1))
    return writes


def load_appearance_list(reader: PointReader, height: int) -> list[bytes]:
    """The addresses that a block's entries stand under, if they were made with internal calls; none otherwise."""
    raw = reader.get(keys.appearance_list_key(height)) or b""
    if len(raw) % ADDRESS_BYTES:
        raise damaged(f"the explorer index's list of block {height}", f"{len(raw)} bytes long")
    return [raw[at : at + ADDRESS_BYTES] for at in range(0, len(raw), ADDRESS_BYTES)]


@dataclass(frozen=True, slots=True)
class StoredCreation:
    height: int
    index: int
    creator: bytes


def encode_creation(height: int, index: int, creator: bytes) -> bytes:
    return encode_position(height, index) + creator


def load_creation(reader: PointReader, address: bytes) -> StoredCreation | None:
    raw = reader.get(keys.creation_key(address))
    if raw is None:
        return None
    height, index = decode_position(raw[:-ADDRESS_BYTES], f"the explorer index's entry of contract 0x{address.hex()}")
    return StoredCreation(height, index, raw[-ADDRESS_BYTES:])
