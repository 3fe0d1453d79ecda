"""The mempool as gateways read it: put together from pages, and never more than an answer may be."""

from __future__ import annotations

import asyncio

import pytest

from astralink_node.evm.fork_rules import OSAKA
from astralink_node.gateway.config import GatewayConfig, GatewayLimits
from astralink_node.gateway.link_messages import Reply, Request
from astralink_node.gateway.pool_messages import MAX_PAGE_BYTES, GetPoolPage, GetPoolSenders
from astralink_node.gateway.reading.errors import TooMuch
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


def reader(node: Node, response_bytes: int = 25 * 1024 * 1024) -> Reader:
    config = GatewayConfig("", "", limits=GatewayLimits(response_bytes=response_bytes))
    return Reader(config, node, HeadCache(16, 1 << 20))


def test_all_of_it_comes_in_as_many_pages_as_it_takes() -> None:
    async def main() -> None:
        node = Node(size=MAX_PAGE_BYTES // 2)
        content = await reader(node).pool.content()
        assert [each.sender for each in content.pending] == [who for who in sorted(SENDERS) for _ in range(2)]
        assert [each.sender for each in content.queued] == sorted(SENDERS)
        assert node.pages == 5

    run(main)


def test_of_some_senders_only_theirs() -> None:
    async def main() -> None:
        content = await reader(Node(size=110)).pool.content(SENDERS[:1])
        assert {each.sender for each in (*content.pending, *content.queued)} == {SENDERS[0]}
        assert (await reader(Node(size=110)).pool.content([address(9)])).pending == ()

    run(main)


def test_more_than_an_answer_may_be_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(TooMuch):
            await reader(Node(size=110), response_bytes=2 * 9 * 110 - 2).pool.content()
        content = await reader(Node(size=110), response_bytes=2 * 9 * 110).pool.content()
        assert len(content.pending) + len(content.queued) == 9

    run(main)
