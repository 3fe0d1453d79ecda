"""The mempool as gateways read it: put together from pages, and never more than an answer may be."""

from __future__ import annotations

import asyncio

from astralink_node.evm.fork_rules import OSAKA
from astralink_node.gateway.config import GatewayConfig
from astralink_node.gateway.link_messages import Reply, Request
from astralink_node.gateway.pool_messages import MAX_PAGE_BYTES, GetPoolPage, GetPoolSenders
from astralink_node.gateway.reading.head_cache import HeadCache
from astralink_node.gateway.reading.reader import Reader
from astralink_node.services.pool_view import page_of, senders_of
from astralink_node.txpool.admission import AccountView, ChainView
from astralink_node.txpool.pool import Pool, PoolLimits
from tests.support.asynchronous import run
from tests.support.gateways import SmallNode
from tests.support.transactions import CHAIN_ID, GWEI, address, transaction

SENDERS = [address(number) for number in (3, 1, 2)]


class Node(SmallNode):
    """With a real pool, whose transactions' bytes mean nothing."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.real_pool = Pool(PoolLimits(), ChainView(CHAIN_ID, OSAKA, 30_000_000, GWEI, 1))
        self.pages = 0
        for salt, sender in enumerate(SENDERS):
            for nonce in (0, 1, 5):
                sent = transaction(nonce, size=size, salt=salt)
                self.real_pool.add(sent, sender, AccountView(0, 10**24, has_code=False), now_ms=0)

    async def ask_node(self, request: Request) -> Reply:
        await asyncio.sleep(0)
        match request:
            case GetPoolSenders():
                return senders_of(self.real_pool)
            case GetPoolPage():
                self.pages += 1
                return page_of(self.real_pool, request)
            case _:
                raise AssertionError(f"nobody asks for this here: {request}")


def reader(node: Node) -> Reader:
    return Reader(GatewayConfig("", ""), node, HeadCache(16, 1 << 20))


def test_all_of_it_comes_in_as_many_pages_as_it_takes() -> None:
    async def main() -> None:
        node = Node(size=MAX_PAGE_BYTES // 2)
        pool = reader(node).pool
        pages = [page async for page in pool.pages(await pool.senders())]
        pending = [each.sender for page in pages for each in page.pending]
        assert pending == [who for who in sorted(SENDERS) for _ in range(2)]
        assert [each.sender for page in pages for each in page.queued] == sorted(SENDERS)
        assert len(pages) == node.pages == 5

    run(main)


def test_of_some_senders_only_theirs() -> None:
    async def main() -> None:
        pool = reader(Node(size=110)).pool
        assert {each.sender for each in await pool.pending(SENDERS[:1], 10)} == {SENDERS[0]}
        assert await pool.pending([address(9)], 10) == []

    run(main)


def test_no_more_pages_are_asked_for_than_are_wanted() -> None:
    async def main() -> None:
        node = Node(size=MAX_PAGE_BYTES // 2)
        pool = reader(node).pool
        found = await pool.pending(await pool.senders(), 3)
        assert [each.sender for each in found] == [sorted(SENDERS)[0], sorted(SENDERS)[0], sorted(SENDERS)[1]]
        assert node.pages < 5

    run(main)
