"""A committed block as the gateway serves it: decoded when first needed, encoded to JSON at most once.

Immutable apart from what it remembers of its own encodings. The same class serves cached heads and blocks that
were fetched from the execution process for one request.
"""

from __future__ import annotations

from functools import cached_property

import orjson

from astralink_node.chain.messages import BlockRecord, LogRecord, ReceiptRecord
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.blocks import Receipt, decode_header, decode_receipt
from astralink_node.evm.transactions import Transaction, decode_transaction
from astralink_node.gateway.encoding import (
    Place,
    block_fields,
    data,
    header_fields,
    log_fields,
    logs_of_receipt,
    receipt_fields,
    transaction_fields,
)

_WEIGHT_PER_RAW_BYTE = 6
"""Raw bytes, decoded values, and JSON in hex of blocks and receipts."""


class BlockView:
    """A block, with its receipts when they are at hand (``receipts`` None: they have to be asked for)."""

    def __init__(self, record: BlockRecord, receipts: tuple[ReceiptRecord, ...] | None) -> None:
        self.record = record
        self.receipts = receipts
        self.header = decode_header(record.raw_header)
        self._decoded: dict[int, Transaction] = {}

    @property
    def height(self) -> int:
        return self.header.number

    @property
    def block_hash(self) -> bytes:
        return self.record.block_hash

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

    @cached_property
    def _decoded_receipts(self) -> tuple[Receipt, ...]:
        return tuple(decode_receipt(record.raw_receipt) for record in self._receipt_records())

    def _receipt_records(self) -> tuple[ReceiptRecord, ...]:
        if self.receipts is None:
            raise LookupError(f"the receipts of block {self.height} were not fetched")
        return self.receipts

    @cached_property
    def logs(self) -> tuple[LogRecord, ...]:
        """Every log of the block, in order. Needs receipts, as all that follow from them do."""
        return tuple(
            log
            for index, (receipt, record) in enumerate(zip(self._decoded_receipts, self._receipt_records(), strict=True))
            for log in logs_of_receipt(receipt, record, self.transaction_hashes[index], self.place(index))
        )

    @cached_property
    def tips(self) -> tuple[tuple[int, int], ...]:
        """(what each transaction paid the proposer per gas, its gas), cheapest first."""
        base_fee = self.header.base_fee_per_gas
        return tuple(
            sorted(
                (self.transaction(index).effective_gas_price(base_fee) - base_fee, record.gas_used)
                for index, record in enumerate(self._receipt_records())
            )
        )

    # --- JSON, encoded once ----------------------------------------------------------------------------------

    @cached_property
    def header_json(self) -> bytes:
        """What a newHeads subscription sends."""
        return orjson.dumps(header_fields(self.header, self.block_hash))

    @cached_property
    def json_with_hashes(self) -> orjson.Fragment:
        hashes = [data(transaction_hash) for transaction_hash in self.transaction_hashes]
        return self._block_json(orjson.Fragment(orjson.dumps(hashes)))

    @cached_property
    def json_with_transactions(self) -> orjson.Fragment:
        count = len(self.record.raw_transactions)
        return self._block_json(orjson.Fragment(orjson.dumps([self.transaction_json(index) for index in range(count)])))

    def _block_json(self, transactions: orjson.Fragment) -> orjson.Fragment:
        fields = block_fields(self.header, self.block_hash, self.record.size_bytes, [])
        fields["transactions"] = transactions
        return orjson.Fragment(orjson.dumps(fields))

    def transaction_json(self, index: int) -> orjson.Fragment:
        fields = transaction_fields(self.transaction(index), self.record.senders[index], self.place(index))
        return orjson.Fragment(orjson.dumps(fields))

    @cached_property
    def receipts_json(self) -> orjson.Fragment:
        count = len(self._receipt_records())
        return orjson.Fragment(orjson.dumps([self.receipt_json(index) for index in range(count)]))

    def receipt_json(self, index: int) -> orjson.Fragment:
        fields = receipt_fields(
            self._decoded_receipts[index],
            self._receipt_records()[index],
            self.transaction(index),
            self.record.senders[index],
            self.place(index),
        )
        return orjson.Fragment(orjson.dumps(fields))

    @cached_property
    def logs_json(self) -> tuple[bytes, ...]:
        """Each of :attr:`logs` as JSON, for every subscription that wants it."""
        return tuple(orjson.dumps(log_fields(log)) for log in self.logs)

    @cached_property
    def weight_bytes(self) -> int:
        """Roughly what keeping it costs once everything below is decoded and encoded."""
        receipts = self.receipts or ()
        raw = sum(len(raw) for raw in self.record.raw_transactions) + len(self.record.raw_payload)
        raw += sum(len(receipt.raw_receipt) for receipt in receipts)
        return _WEIGHT_PER_RAW_BYTE * raw + 4096
