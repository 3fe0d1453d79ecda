"""The head cache keeps the newest blocks within its bounds and wakes who waits for a height."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from astralink_node.chain.messages import BlockRecord, Committed
from astralink_node.evm.blocks import empty_header, encode_header
from astralink_node.gateway.reading.head_cache import HeadCache
from tests.support.asynchronous import run


def committed(height: int, *raw_transactions: bytes) -> Committed:
    header = replace(empty_header(), number=height)
    record = BlockRecord(
        block_hash=header.hash,
        raw_header=encode_header(header),
        raw_transactions=raw_transactions,
        senders=(bytes(20),) * len(raw_transactions),
        raw_payload=b"",
        size_bytes=500,
    )
    return Committed(record, (), (), 7, 8)


def test_a_cache_without_a_head_says_so() -> None:
    async def main() -> None:
        cache = HeadCache(10, 10**6)
        assert not cache.has_head
        with pytest.raises(LookupError):
            _ = cache.head

    run(main)


def test_blocks_are_found_by_height_hash_and_transaction() -> None:
    async def main() -> None:
        cache = HeadCache(10, 10**9)
        cache.add(committed(0))
        head = cache.add(committed(1, b"raw one", b"raw two"))
        assert head is not None
        assert (head.height, head.next_base_fee_wei, head.next_gas_limit) == (1, 7, 8)
        view = cache.by_height(1)
        assert view is not None
        assert view is cache.by_hash(view.block_hash)
        assert cache.transaction(view.transaction_hashes[1]) == (view, 1)
        assert [each.height for each in cache.newest(5)] == [1, 0]

    run(main)


def test_a_head_that_is_not_newer_changes_nothing() -> None:
    async def main() -> None:
        cache = HeadCache(10, 10**6)
        cache.add(committed(5))
        assert cache.add(committed(5)) is None
        assert cache.add(committed(4)) is None
        assert cache.head.height == 5

    run(main)


def test_the_oldest_blocks_leave_at_the_bound_of_count() -> None:
    async def main() -> None:
        cache = HeadCache(3, 10**9)
        for height in range(6):
            cache.add(committed(height, b"raw %d" % height))
        assert [view.height for view in cache.newest(10)] == [5, 4, 3]
        gone = committed(0, b"raw 0").block
        assert cache.by_hash(gone.block_hash) is None
        assert len(cache._transactions) == len(cache._by_hash) == 3

    run(main)


def test_the_oldest_blocks_leave_at_the_bound_of_bytes_but_never_the_head() -> None:
    async def main() -> None:
        cache = HeadCache(100, 100_000)
        for height in range(5):
            cache.add(committed(height, b"x" * 8_000))
        assert [view.height for view in cache.newest(10)] == [4]
        cache.add(committed(5))
        cache.add(committed(6, b"x" * 10**6))
        assert [view.height for view in cache.newest(10)] == [6]

    run(main)


def test_a_gap_ends_what_counts_as_newest() -> None:
    async def main() -> None:
        cache = HeadCache(10, 10**6)
        for height in (1, 2, 5, 6):
            cache.add(committed(height))
        assert [view.height for view in cache.newest(10)] == [6, 5]

    run(main)


def test_waiting_for_a_height_ends_when_it_is_reached() -> None:
    async def main() -> None:
        cache = HeadCache(10, 10**6)
        waiting = asyncio.create_task(cache.reach(2))
        for height in range(3):
            await asyncio.sleep(0)
            assert not waiting.done()
            cache.add(committed(height))
        await waiting
        await cache.reach(1)

    run(main)
