"""A committed block as interfaces read it: decoded when first needed.

Immutable apart from what it remembers of its own decoding, and of encodings that interfaces make of it. The same
class serves cached heads and blocks that were fetched from the execution process for one request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar, cast

from astralink_node.chain.messages import BlockRecord, LogRecord, ReceiptRecord
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.blocks import Receipt, decode_header, decode_receipt
from astralink_node.evm.transactions import Transaction, decode_transaction

_WEIGHT_PER_RAW_BYTE = 6
"""Raw bytes, decoded values, and JSON in hex of blocks and receipts."""
LARGE_WEIGHT_BYTES = 1024 * 1024
"""Some three hundred transfers with their receipts, of which JSON takes ten milliseconds."""

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a transaction stands in the chain."""

    block_hash: bytes
    height: int
    timestamp: int
    base_fee_wei: int
    index: int


class BlockView:
    """A block, with its receipts when they are at hand (``receipts`` None: they have to be asked for)."""

    def __init__(self, record: BlockRecord, receipts: tuple[ReceiptRecord, ...] | None) -> None:
        self.record = record
        self.receipts = receipts
        self.header = decode_header(record.raw_header)
        self._decoded: dict[int, Transaction] = {}
        self._made: dict[Callable[[BlockView], object], object] = {}

    @property
    def height(self) -> int:
        return self.header.number

    @property
    def block_hash(self) -> bytes:
        return self.record.block_hash

    def remember(self, make: Callable[[BlockView], Made]) -> Made:
        """What `make` makes of the block: made once, kept as long as the block is."""
        if make not in self._made:
            self._made[make] = make(self)
        return cast(Made, self._made[make])

    async def remember_beside(self, make: Callable[[BlockView], Made]) -> Made:
        """Likewise; for a large block in a thread, while the event loop goes on."""
        if make in self._made or self.weight_bytes < LARGE_WEIGHT_BYTES:
            return self.remember(make)
        return await asyncio.to_thread(self.remember, make)

    def learn_receipts(self, receipts: tuple[ReceiptRecord, ...]) -> None:
        """Keep the receipts of a head that was announced without them."""
        if self.receipts is None:
            self.receipts = receipts

    @cached_property
    def transaction_hashes(self) -> tuple[bytes, ...]:
        return tuple(keccak256(raw) for raw in self.record.raw_transactions)

    def transaction(self, index: int) -> Transaction:
        decoded = self._decoded.get(index)
        if decoded is None:
            decoded = self._decoded[index] = decode_transaction(self.record.raw_transactions[index])
        return decoded

    def place(self, index: int) -> Place:
        return Place(
            block_hash=self.record.block_hash,
            height=self.header.number,
            timestamp=self.header.timestamp,
            base_fee_wei=self.header.base_fee_per_gas,
            index=index,
        )

    @property
    def receipt_records(self) -> tuple[ReceiptRecord, ...]:
        """Needs receipts, as all that follow from them do."""
        if self.receipts is None:
            raise LookupError(f"the receipts of block {self.height} were not fetched")
        return self.receipts

    @cached_property
    def decoded_receipts(self) -> tuple[Receipt, ...]:
        return tuple(decode_receipt(record.raw_receipt) for record in self.receipt_records)

    @cached_property
    def logs(self) -> tuple[LogRecord, ...]:
        """Every log of the block, in order."""
        return tuple(
            log
            for index, (receipt, record) in enumerate(zip(self.decoded_receipts, self.receipt_records, strict=True))
            for log in logs_of_receipt(receipt, record, self.transaction_hashes[index], self.place(index))
        )

    @cached_property
    def tips(self) -> tuple[tuple[int, int], ...]:
        """(what each transaction paid the proposer per gas, its gas), cheapest first."""
        base_fee = self.header.base_fee_per_gas
        return tuple(
            sorted(
                (self.transaction(index).effective_gas_price(base_fee) - base_fee, record.gas_used)
                for index, record in enumerate(self.receipt_records)
            )
        )

    @cached_property
    def weight_bytes(self) -> int:
        """Roughly what keeping it costs once everything is decoded and encoded."""
        receipts = self.receipts or ()
        raw = sum(len(raw) for raw in self.record.raw_transactions) + len(self.record.raw_payload)
        raw += sum(len(receipt.raw_receipt) for receipt in receipts)
        return _WEIGHT_PER_RAW_BYTE * raw + 4096


def logs_of_receipt(receipt: Receipt, record: ReceiptRecord, transaction_hash: bytes, place: Place) -> list[LogRecord]:
    return [
        LogRecord(
            address=log.address,
            topics=log.topics,
            data=log.data,
            height=place.height,
            block_hash=place.block_hash,
            block_timestamp=place.timestamp,
            transaction_hash=transaction_hash,
            transaction_index=place.index,
            log_index=record.first_log_index + offset,
        )
        for offset, log in enumerate(receipt.logs)
    ]
