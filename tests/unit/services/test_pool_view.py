"""What gateways are shown of the mempool: every transaction once in pages of bounded size, and its fate."""

import pytest

from astralink_node.evm.fork_rules import OSAKA
from astralink_node.gateway.pool_messages import (
    MAX_PAGE_BYTES,
    MAX_PAGE_SENDERS,
    DroppedFate,
    GetPoolPage,
    HeldFate,
    PoolFate,
)
from astralink_node.services.pool_view import fate_of, page_of, senders_of
from astralink_node.txpool.admission import AccountView, ChainView
from astralink_node.txpool.pool import AccountUpdate, Pool, PoolLimits
from tests.support.transactions import CHAIN_ID, GWEI, address, transaction

RICH = AccountView(0, 10**24, has_code=False)
ALICE, BOB, CAROL = address(1), address(2), address(3)


def chain(base_fee=GWEI):
    return ChainView(CHAIN_ID, OSAKA, 30_000_000, base_fee, 1)


def new_pool():
    return Pool(PoolLimits(), chain())


def add(pool, sender, nonce, **fields):
    sent = transaction(nonce, salt=int.from_bytes(sender, "big"), **fields)
    pool.add(sent, sender, RICH, now_ms=1000)
    return sent.hash


def told(pool, senders):
    """(pages, all of the first, all of the second kind), asking as a gateway does."""
    pages, start, nonce = [], 0, 0
    while start < len(senders):
        page = page_of(pool, GetPoolPage(tuple(senders[start:]), nonce))
        pages.append(page)
        start, nonce = start + page.senders_told, page.next_nonce
    return pages, [each for page in pages for each in page.pending], [each for page in pages for each in page.queued]


@pytest.mark.parametrize("size", [110, MAX_PAGE_BYTES // 3, MAX_PAGE_BYTES - 1, MAX_PAGE_BYTES])
def test_every_transaction_is_told_once_in_order_and_pages_are_bounded(size):
    pool = new_pool()
    nonces = {ALICE: [0, 1, 2, 5, 6, 7], BOB: [0, 1, 2, 3], CAROL: [4]}
    for sender, line in nonces.items():
        for nonce in line:
            add(pool, sender, nonce, size=size)
    pages, pending, queued = told(pool, list(nonces))
    assert [each.sender for each in pending] == [ALICE] * 3 + [BOB] * 4
    assert [each.sender for each in queued] == [ALICE] * 3 + [CAROL]
    for page in pages:
        sizes = [len(each.raw_transaction) for each in (*page.pending, *page.queued)]
        assert sum(sizes) <= MAX_PAGE_BYTES or len(sizes) == 1


def test_a_page_looks_at_so_many_senders_and_knows_nothing_of_strangers():
    pool = new_pool()
    add(pool, ALICE, 0)
    strangers = [address(number) for number in range(100, 100 + MAX_PAGE_SENDERS)]
    page = page_of(pool, GetPoolPage((*strangers, ALICE), 0))
    assert (page.pending, page.queued, page.senders_told) == ((), (), MAX_PAGE_SENDERS)
    assert len(told(pool, [*strangers, ALICE])[1]) == 1


def test_senders_are_those_with_anything_in_the_pool():
    pool = new_pool()
    assert senders_of(pool).addresses == b""
    add(pool, ALICE, 0)
    add(pool, BOB, 3)
    assert senders_of(pool).addresses == ALICE + BOB


def test_what_a_transaction_waits_for_is_told():
    pool = new_pool()
    first, cheap, behind = add(pool, ALICE, 0), add(pool, ALICE, 1, fee=GWEI // 2, tip=0), add(pool, ALICE, 2)
    gapped = add(pool, BOB, 3)
    assert fate_of(pool, first) == PoolFate(HeldFate(ALICE, 0, True, "block"))
    assert fate_of(pool, cheap) == PoolFate(HeldFate(ALICE, 1, True, "baseFee"))
    assert fate_of(pool, behind) == PoolFate(HeldFate(ALICE, 2, True, "baseFee"))
    assert fate_of(pool, gapped) == PoolFate(HeldFate(BOB, 3, False, "nonce", 0))
    pool.put_off(first)
    assert fate_of(pool, first).told.waits_for == "longRun"
    pool.on_commit((AccountUpdate(ALICE, 0, 21_000 * 10 * GWEI),), (), chain())
    assert fate_of(pool, cheap).told.waits_for == "funds"


def test_what_was_dropped_has_its_reason_and_time_until_it_comes_again():
    pool = new_pool()
    sent = add(pool, ALICE, 0)
    pool.tick(5000)
    pool.drop(sent, "runs longer than a block may take to build")
    assert fate_of(pool, sent) == PoolFate(DroppedFate("runs longer than a block may take to build", 5000))
    add(pool, ALICE, 0)
    assert fate_of(pool, sent).told.is_pending
    pool.on_commit((AccountUpdate(ALICE, 1, 10**24),), (sent,), chain())
    assert fate_of(pool, sent) == PoolFate(None), "what was included the chain tells"
