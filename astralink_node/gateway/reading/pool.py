"""The mempool, as the node holds it now, and what became of a transaction that it was given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from astralink_node.evm.transactions import decode_transaction
from astralink_node.gateway.link_messages import (
    GetPendingNonce,
    GetPooledTransaction,
    PendingNonce,
    PooledTransaction,
)
from astralink_node.gateway.pool_messages import (
    MAX_PAGE_SENDERS,
    DroppedFate,
    GetPoolPage,
    GetPoolSenders,
    GetTransactionFate,
    HeldFate,
    HeldTransaction,
    PoolFate,
    PoolPage,
    PoolSenders,
)
from astralink_node.gateway.reading.block_view import Place
from astralink_node.gateway.reading.blocks import BlockReader
from astralink_node.gateway.reading.source import Source
from astralink_node.types import ADDRESS_BYTES


@dataclass(frozen=True, slots=True)
class Included:
    """It is in a block, for good."""

    place: Place
    sender: bytes


TransactionFate = Included | HeldFate | DroppedFate


class PoolReader:
    def __init__(self, source: Source, blocks: BlockReader) -> None:
        self._source = source
        self._blocks = blocks

    async def pending_nonce(self, address: bytes) -> int | None:
        """The nonce after a sender's executable transactions; None when the pool has nothing from it."""
        reply = await self._source.ask_node(GetPendingNonce(address), PendingNonce)
        return reply.nonce if reply.known else None

    async def transaction(self, transaction_hash: bytes) -> PooledTransaction | None:
        reply = await self._source.ask_node(GetPooledTransaction(transaction_hash), PooledTransaction)
        return reply if reply.raw_transaction else None

    async def of_nonce(self, sender: bytes, nonce: int) -> HeldTransaction | None:
        """A sender's transaction with that nonce, executable or not."""
        page = await self._source.ask_node(GetPoolPage((sender,), nonce), PoolPage)
        held = (*page.pending, *page.queued)
        return next((each for each in held if decode_transaction(each.raw_transaction).nonce == nonce), None)

    async def senders(self) -> list[bytes]:
        """Everybody with a transaction in the pool, ascending."""
        addresses = (await self._source.ask_node(GetPoolSenders(), PoolSenders)).addresses
        return sorted(addresses[at : at + ADDRESS_BYTES] for at in range(0, len(addresses), ADDRESS_BYTES))

    async def pages(self, senders: Sequence[bytes]) -> AsyncIterator[PoolPage]:
        """What those senders have in the pool, each sender's in nonce order; the pool moves on between pages."""
        start = first_nonce = 0
        while start < len(senders):
            asked = GetPoolPage(tuple(senders[start : start + MAX_PAGE_SENDERS]), first_nonce)
            page = await self._source.ask_node(asked, PoolPage)
            yield page
            start, first_nonce = start + page.senders_told, page.next_nonce

    async def pending(self, senders: Sequence[bytes], max_count: int) -> list[HeldTransaction]:
        """The first executable transactions of those senders, each sender's in nonce order."""
        found: list[HeldTransaction] = []
        async for page in self.pages(senders):
            found += page.pending
            if len(found) >= max_count:
                break
        return found[:max_count]

    async def fate(self, transaction_hash: bytes) -> TransactionFate | None:
        """None: nothing is known of it. What got into a block while this node's pool dropped it is included."""
        fate = (await self._source.ask_node(GetTransactionFate(transaction_hash), PoolFate)).told
        if isinstance(fate, HeldFate):
            return fate
        committed = await self._blocks.transaction(transaction_hash)
        return fate if committed is None else Included(committed.place, committed.sender)
