"""Blocks, transactions and receipts: from the head cache where it can answer, else from the execution process."""

from __future__ import annotations

from dataclasses import dataclass

from astralink_node.chain.consensus_messages import (
    CheckpointAnswer,
    CheckpointQuestion,
    ValidatorsAnswer,
    ValidatorsQuestion,
)
from astralink_node.chain.messages import (
    AtHash,
    AtHeight,
    AtLatest,
    AtPending,
    BlockAnswer,
    BlockQuestion,
    BlockSelector,
    GetStatus,
    ReceiptRecord,
    ReceiptsAnswer,
    ReceiptsQuestion,
    Status,
    TransactionAnswer,
    TransactionQuestion,
)
from astralink_node.chain.protocol_messages import ProtocolLogAnswer, ProtocolLogQuestion
from astralink_node.evm.blocks import decode_header
from astralink_node.gateway.reading.block_view import BlockView, Place
from astralink_node.gateway.reading.errors import UnknownBlock
from astralink_node.gateway.reading.head_cache import Head
from astralink_node.gateway.reading.source import Source, committed
from consensus.certificate import Certificate, decode_certificate
from consensus.payload import decode_payload


@dataclass(frozen=True, slots=True)
class CommittedTransaction:
    raw: bytes
    sender: bytes
    place: Place
    receipt: ReceiptRecord | None
    """None where only the transaction was asked for, and its receipt was not at hand."""


class BlockReader:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._heads = source.heads

    @property
    def head(self) -> Head:
        return self._heads.head

    def newest(self, count: int) -> list[BlockView]:
        """Up to ``count`` cached blocks without a gap, newest first."""
        return self._heads.newest(count)

    def height_of(self, at: BlockSelector) -> int | None:
        """The height a selector names, as far as the gateway can tell alone; pending counts as the head."""
        match at:
            case AtHeight(height):
                return height
            case AtLatest() | AtPending():
                return self._heads.head.height
            case AtHash(block_hash):
                view = self._heads.by_hash(block_hash)
                return None if view is None else view.height

    async def block(self, at: BlockSelector) -> BlockView | None:
        view = self._cached(at)
        if view is not None or self._source.beyond_head(at):
            return view
        answer = await self._source.find(committed(at), BlockQuestion(), BlockAnswer)
        return None if answer is None else await self._told(BlockView(answer.block, None))

    async def existing_block(self, at: BlockSelector) -> BlockView:
        """Raises UnknownBlock."""
        view = await self.block(at)
        if view is None:
            raise UnknownBlock(by_hash=isinstance(at, AtHash))
        return view

    async def block_with_receipts(self, at: BlockSelector) -> BlockView | None:
        view = self._cached(at)
        if view is not None and view.receipts is not None:
            return view
        if self._source.beyond_head(at):
            return None
        # A head that came without receipts is asked for by its hash: the chain may have moved on since.
        place = committed(at) if view is None else AtHash(view.block_hash)
        answer = await self._source.find(place, ReceiptsQuestion(), ReceiptsAnswer)
        if answer is None:
            return None
        told = await self._told(BlockView(answer.block, answer.receipts))
        told.learn_receipts(answer.receipts)
        return told

    async def mined(self, transaction_hash: bytes) -> None:
        """Wait until one of the newest blocks holds the transaction; how long, the caller bounds."""
        await self._source.heads.holds(transaction_hash)

    async def transaction(self, transaction_hash: bytes) -> CommittedTransaction | None:
        cached = self._heads.transaction(transaction_hash)
        if cached is not None:
            return _in_view(*cached)
        answer = await self._source.find(AtLatest(), TransactionQuestion(transaction_hash), TransactionAnswer)
        if answer is None:
            return None
        found = _found(answer)
        await self._heads.reach(found.place.height)
        return found

    async def transaction_with_receipt(self, transaction_hash: bytes) -> CommittedTransaction | None:
        found = await self.transaction(transaction_hash)
        if found is None or found.receipt is not None:
            return found
        view = await self.block_with_receipts(AtHash(found.place.block_hash))
        return None if view is None else _in_view(view, found.place.index)

    async def reach(self, height: int) -> None:
        """Wait until the head is at least at ``height``; the caller bounds how long."""
        await self._heads.reach(height)

    async def protocol_log(self, at: BlockSelector) -> ProtocolLogAnswer | None:
        """What the protocol's own calls did at a block, beside its transactions."""
        if self._source.beyond_head(at):
            return None
        answer = await self._source.find(committed(at), ProtocolLogQuestion(), ProtocolLogAnswer)
        if answer is not None:
            await self._heads.reach(answer.height)
        return answer

    # --- Why a block is final ------------------------------------------------------------------------------------

    async def certificate(self, at: BlockSelector) -> Certificate | None:
        """Of a block: its child's record of it, or at the head this node's own. None for genesis."""
        view = await self.block(at)
        if view is None or view.height == 0:
            return None
        child = await self.block(AtHeight(view.height + 1))
        if child is not None:
            return decode_payload(child.record.raw_payload).parent_certificate
        status = await self._source.ask(AtLatest(), GetStatus(), Status)
        if status.head_hash == view.block_hash and status.head_certificate:
            return decode_certificate(status.head_certificate)
        # The chain moved on between the questions: now there is a child.
        await self._heads.reach(view.height + 1)
        return await self.certificate(AtHash(view.block_hash))

    async def checkpoint(self, epoch: int | None) -> CheckpointAnswer | None:
        """The quantum-safe checkpoint that a block carries for an epoch; for None the latest."""
        answer = await self._source.find(AtLatest(), CheckpointQuestion(epoch), CheckpointAnswer)
        if answer is not None:
            await self._heads.reach(answer.height)
        return answer

    async def validators(self, at: BlockSelector) -> ValidatorsAnswer | None:
        """The set that votes at a block; at pending, the one that decides the next."""
        if self._source.beyond_head(at):
            return None
        answer = await self._source.find(at, ValidatorsQuestion(), ValidatorsAnswer)
        if answer is not None:
            await self._heads.reach(answer.height - 1 if isinstance(at, AtPending) else answer.height)
        return answer

    # --- Inside --------------------------------------------------------------------------------------------------

    def _cached(self, at: BlockSelector) -> BlockView | None:
        match at:
            case AtHeight(height):
                return self._heads.by_height(height)
            case AtLatest() | AtPending():
                return self._heads.head.view
            case AtHash(block_hash):
                return self._heads.by_hash(block_hash)

    async def _told(self, view: BlockView) -> BlockView:
        """Hold back a block that execution committed a moment ago until the node has announced it."""
        await self._heads.reach(view.height)
        return self._heads.by_hash(view.block_hash) or view


def _in_view(view: BlockView, index: int) -> CommittedTransaction:
    receipt = None if view.receipts is None else view.receipts[index]
    return CommittedTransaction(
        view.record.raw_transactions[index], view.record.senders[index], view.place(index), receipt
    )


def _found(answer: TransactionAnswer) -> CommittedTransaction:
    record = answer.transaction
    header = decode_header(record.raw_header)
    place = Place(
        block_hash=record.block_hash,
        height=header.number,
        timestamp=header.timestamp,
        base_fee_wei=header.base_fee_per_gas,
        index=record.index,
    )
    return CommittedTransaction(record.raw_transaction, record.sender, place, answer.receipt)
