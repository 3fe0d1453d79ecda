"""A block that was built or validated and waits for its commit: what it is, what it did, what it will write.

The overlay is already folded into database entries here (state root computed), so a commit is one write. The
facade holds a bounded number of these, all children of the head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from astralink_node.chain.messages import BlockRecord, ReceiptRecord, TouchedAccount
from astralink_node.chain.protocol_messages import ProtocolCall
from astralink_node.evm.address_collector import Appearances
from astralink_node.evm.blocks import Header, Receipt, SealedBlock, encode_header, ethereum_block_rlp
from astralink_node.evm.created_addresses import contract_address
from astralink_node.evm.pipeline import ExecutedBlock
from astralink_node.evm.transactions import Transaction
from astralink_node.state.commitment import StateUpdate
from astralink_node.types import Address
from consensus.payload import ConsensusPayload
from consensus.validator_set import ValidatorSet, encode_validator_set

VALIDATOR_SET_REQUEST: Final = b"\xa0"
"""EIP-7685 type of the request that an election makes; its data is the encoded set."""


@dataclass(frozen=True, slots=True)
class ProtocolOutcome:
    """What came of the protocol's own calls in a block, beside the state."""

    elected: ValidatorSet | None = None
    """Votes from the height after the next one on; None: whoever votes at the next height goes on."""
    calls: tuple[ProtocolCall, ...] = ()
    """The protocol log: those that emitted something or failed, in order."""

    @property
    def requests(self) -> tuple[bytes, ...]:
        return () if self.elected is None else (VALIDATOR_SET_REQUEST + encode_validator_set(self.elected),)


@dataclass(frozen=True, slots=True)
class PreparedBlock:
    sealed: SealedBlock
    payload: ConsensusPayload
    transactions: tuple[Transaction, ...]
    senders: tuple[Address, ...]
    executed: ExecutedBlock
    protocol: ProtocolOutcome
    state: StateUpdate
    touched: tuple[tuple[Address, int, int], ...]
    """(address, nonce, balance) after the block, of accounts whose nonce or balance it changed."""
    appearances: tuple[Appearances, ...] | None = None
    """Of each transaction, for the explorer index; None on a node that keeps none."""

    @property
    def header(self) -> Header:
        return self.sealed.block.header

    @property
    def block_hash(self) -> bytes:
        return self.header.hash

    def block_record(self) -> BlockRecord:
        return BlockRecord(
            block_hash=self.block_hash,
            raw_header=encode_header(self.header),
            raw_transactions=self.sealed.block.raw_transactions,
            senders=self.senders,
            raw_payload=self.sealed.raw_payload,
            size_bytes=len(ethereum_block_rlp(self.sealed.block)),
        )

    def receipt_records(self) -> tuple[ReceiptRecord, ...]:
        return receipt_records(self.transactions, self.senders, self.executed)

    def touched_accounts(self) -> tuple[TouchedAccount, ...]:
        return tuple(TouchedAccount(address, nonce, balance) for address, nonce, balance in self.touched)


def receipt_records(
    transactions: Sequence[Transaction], senders: Sequence[Address], executed: ExecutedBlock
) -> tuple[ReceiptRecord, ...]:
    return receipt_records_of(transactions, senders, executed.receipts, executed.raw_receipts)


def receipt_records_of(
    transactions: Sequence[Transaction],
    senders: Sequence[Address],
    receipts: Sequence[Receipt],
    raw_receipts: Sequence[bytes],
) -> tuple[ReceiptRecord, ...]:
    records = []
    gas_before = first_log_index = 0
    for transaction, sender, receipt, raw in zip(transactions, senders, receipts, raw_receipts, strict=True):
        records.append(
            ReceiptRecord(
                raw_receipt=raw,
                gas_used=receipt.cumulative_gas_used - gas_before,
                contract_address=contract_address(sender, transaction.nonce) if transaction.is_create else b"",
                first_log_index=first_log_index,
            )
        )
        gas_before = receipt.cumulative_gas_used
        first_log_index += len(receipt.logs)
    return tuple(records)
