"""The newest blocks as the node announced them, and the one answer to the question which block is the head.

A head is in here before any subscriber hears of it, and everything the gateway says about the head comes from
here; state is read from the execution process, which had the block before the node announced it. So a read that
follows a newHeads event never sees an older chain. Blocks leave at the bounds of count or bytes, oldest first.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from astralink_node.chain.messages import Committed
from astralink_node.gateway.reading.block_view import BlockView


@dataclass(frozen=True, slots=True)
class Head:
    """The newest committed block and what follows from it for the next one."""

    view: BlockView
    next_base_fee_wei: int
    next_gas_limit: int

    @property
    def height(self) -> int:
        return self.view.height


class HeadCache:
    def __init__(self, max_blocks: int, max_bytes: int) -> None:
        self._max_blocks = max_blocks
        self._max_bytes = max_bytes
        self._bytes = 0
        self._by_height: OrderedDict[int, BlockView] = OrderedDict()
        self._by_hash: dict[bytes, BlockView] = {}
        self._transactions: dict[bytes, tuple[BlockView, int]] = {}
        self._head: Head | None = None
        self._advanced = asyncio.Event()

    @property
    def head(self) -> Head:
        if self._head is None:
            raise LookupError("the node has not announced a head yet")
        return self._head

    @property
    def has_head(self) -> bool:
        return self._head is not None

    def add(self, committed: Committed) -> Head | None:
        """Take in an announced head. None when it is one that is known already, as after a reconnect."""
        record = committed.block
        # On connecting the node announces its head without receipts: then they are unknown, not absent.
        known = len(committed.receipts) == len(record.raw_transactions)
        view = BlockView(record, committed.receipts if known else None)
        if self._head is not None and view.height <= self._head.height:
            return None
        self._remember(view)
        self._head = Head(view, committed.next_base_fee_wei, committed.next_gas_limit)
        advanced, self._advanced = self._advanced, asyncio.Event()
        advanced.set()
        return self._head

    def by_height(self, height: int) -> BlockView | None:
        return self._by_height.get(height)

    def by_hash(self, block_hash: bytes) -> BlockView | None:
        return self._by_hash.get(block_hash)

    def transaction(self, transaction_hash: bytes) -> tuple[BlockView, int] | None:
        """The cached block that holds a transaction, and its index there."""
        return self._transactions.get(transaction_hash)

    def newest(self, count: int) -> list[BlockView]:
        """Up to ``count`` cached blocks without a gap, newest first."""
        views: list[BlockView] = []
        height = self.head.height
        while len(views) < count and (view := self._by_height.get(height)) is not None:
            views.append(view)
            height -= 1
        return views

    async def reach(self, height: int) -> None:
        """Wait until the head is at least at ``height``; bounded by the request's own time limit."""
        while self._head is None or self._head.height < height:
            await self._advanced.wait()

    async def holds(self, transaction_hash: bytes) -> None:
        """Wait until a cached block holds the transaction; how long, the caller bounds."""
        while transaction_hash not in self._transactions:
            await self._advanced.wait()

    def _remember(self, view: BlockView) -> None:
        self._by_height[view.height] = view
        self._by_hash[view.block_hash] = view
        for index, transaction_hash in enumerate(view.transaction_hashes):
            self._transactions[transaction_hash] = (view, index)
        self._bytes += view.weight_bytes
        while len(self._by_height) > 1 and (len(self._by_height) > self._max_blocks or self._bytes > self._max_bytes):
            _, oldest = self._by_height.popitem(last=False)
            del self._by_hash[oldest.block_hash]
            for transaction_hash in oldest.transaction_hashes:
                self._transactions.pop(transaction_hash, None)
            self._bytes -= oldest.weight_bytes
