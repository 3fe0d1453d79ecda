"""The explorer index: what an address took part in, who created a contract, which transaction has a nonce (ADR 20).

Where the index does not reach, IndexGap is raised: a missing entry is never told as something that does not
exist.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from astralink_node.chain.index_messages import (
    MAX_SEARCH_PAGE,
    AddressPage,
    AddressSearch,
    CreationAnswer,
    CreationQuestion,
    FoundTransaction,
    HeightRange,
    NonceAnswer,
    NonceQuestion,
)
from astralink_node.chain.messages import AtLatest, ReceiptRecord
from astralink_node.evm.blocks import Header, decode_header
from astralink_node.gateway.reading.block_view import Place
from astralink_node.gateway.reading.blocks import CommittedTransaction
from astralink_node.gateway.reading.errors import IndexGap
from astralink_node.gateway.reading.source import Source


@dataclass(frozen=True, slots=True)
class TransactionPage:
    transactions: tuple[CommittedTransaction, ...]
    """With receipts, newest first."""
    has_more: bool
    """Further on in the direction of the search."""
    without_calls: tuple[HeightRange, ...]
    """Heights searched whose internal calls are not in the index."""
    without_blocks: tuple[HeightRange, ...]
    """Heights asked about that this node does not have."""


class IndexReader:
    def __init__(self, source: Source) -> None:
        self._source = source

    async def before(self, address: bytes, height: int, page_size: int) -> TransactionPage:
        """Transactions below a height, or from the head on if it is 0; whole blocks, until the page is full."""
        return await self._page(AddressSearch(address, height, forward=False, page_size=page_size))

    async def after(self, address: bytes, height: int, page_size: int) -> TransactionPage:
        """Transactions above a height, the nearest ones; 0 is genesis."""
        return await self._page(AddressSearch(address, height, forward=True, page_size=page_size))

    async def heights_of(self, address: bytes, first: int, last: int) -> AsyncGenerator[int]:
        """Heights from `first` to `last` at which the address takes part, rising, some of them more than once.

        Raises IndexGap where the index does not know of all calls, or the node not of all blocks.
        """
        height = max(first, 1) - 1
        while True:
            page = await self.after(address, height, MAX_SEARCH_PAGE)
            for gaps, reason in ((page.without_blocks, "without_blocks"), (page.without_calls, "without_calls")):
                for gap in gaps:
                    if gap.first <= last:
                        raise IndexGap(gap.first, gap.last, reason)
            for transaction in reversed(page.transactions):
                height = transaction.place.height
                if height > last:
                    return
                yield height
            if not page.has_more:
                return

    async def creation(self, contract: bytes) -> CreationAnswer | None:
        """None for what no transaction created: accounts without code, and contracts of genesis."""
        return await self._source.find(AtLatest(), CreationQuestion(contract), CreationAnswer)

    async def transaction_hash(self, sender: bytes, nonce: int) -> bytes | None:
        """Of a committed transaction; where the state of its time is kept, no index is needed."""
        answer = await self._source.find(AtLatest(), NonceQuestion(sender, nonce), NonceAnswer)
        return None if answer is None else answer.transaction_hash

    async def _page(self, search: AddressSearch) -> TransactionPage:
        page = await self._source.ask(AtLatest(), search, AddressPage)
        headers: dict[bytes, Header] = {}
        transactions = tuple(_committed(found, headers) for found in page.transactions)
        if transactions:
            await self._source.heads.reach(transactions[0].place.height)
        return TransactionPage(transactions, page.has_more, page.without_calls, page.without_blocks)


def _committed(found: FoundTransaction, headers: dict[bytes, Header]) -> CommittedTransaction:
    header = headers.get(found.block_hash)
    if header is None:
        header = headers[found.block_hash] = decode_header(found.raw_header)
    place = Place(
        block_hash=found.block_hash,
        height=header.number,
        timestamp=header.timestamp,
        base_fee_wei=header.base_fee_per_gas,
        index=found.index,
    )
    receipt = ReceiptRecord(found.raw_receipt, found.gas_used, found.contract_address, found.first_log_index)
    return CommittedTransaction(found.raw_transaction, found.sender, place, receipt)
