"""The mempool, as the node holds it now."""

from __future__ import annotations

from astralink_node.gateway.link_messages import (
    GetPendingNonce,
    GetPoolContent,
    GetPooledTransaction,
    PendingNonce,
    PoolContent,
    PooledTransaction,
)
from astralink_node.gateway.reading.source import Source


class PoolReader:
    def __init__(self, source: Source) -> None:
        self._source = source

    async def pending_nonce(self, address: bytes) -> int | None:
        """The nonce after a sender's executable transactions; None when the pool has nothing from it."""
        reply = await self._source.ask_node(GetPendingNonce(address), PendingNonce)
        return reply.nonce if reply.known else None

    async def transaction(self, transaction_hash: bytes) -> PooledTransaction | None:
        reply = await self._source.ask_node(GetPooledTransaction(transaction_hash), PooledTransaction)
        return reply if reply.raw_transaction else None

    async def content(self) -> PoolContent:
        return await self._source.ask_node(GetPoolContent(), PoolContent)
