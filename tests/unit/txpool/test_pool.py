"""The mempool: what becomes executable, what is replaced, evicted or dropped, and what a builder is given."""

import pytest

from astralink_node.evm.fork_rules import OSAKA
from astralink_node.txpool.admission import AccountView, ChainView, PoolRejection
from astralink_node.txpool.fate import Dropped
from astralink_node.txpool.pool import AccountUpdate, Pool, PoolLimits
from tests.support.transactions import CHAIN_ID, GWEI, address, transaction

RICH = AccountView(0, 10**24, False)
ALICE, BOB, CAROL = address(1), address(2), address(3)


def chain(base_fee=GWEI, gas_limit=30_000_000, min_base_fee=1):
    return ChainView(CHAIN_ID, OSAKA, gas_limit, base_fee, min_base_fee)


def new_pool(**limits):
    return Pool(PoolLimits(**limits), chain())


def add(pool, sender, tx, account=RICH, now_ms=0, authorities=frozenset()):
    return pool.add(tx, sender, account, now_ms=now_ms, authorities=authorities)


def hashes(entries):
    return [entry.hash for entry in entries]


def best(pool):
    return pool.best(max_count=1000, max_bytes=10**7)


def drop_reason(pool, transaction_hash):
    """Why it left; None of one that is there, was included, or was never here."""
    fate = pool.fate(transaction_hash)
    return fate.reason if isinstance(fate, Dropped) else None


def test_next_nonce_is_executable_at_once():
    pool = new_pool()
    tx = transaction(0)
    assert hashes(add(pool, ALICE, tx)) == [tx.hash]
    assert pool.pending_nonce(ALICE) == 1
    assert (pool.pending_count, pool.queued_count) == (1, 0)


def test_gap_queues_until_it_is_filled():
    pool = new_pool()
    first, second = transaction(0), transaction(1)
    assert add(pool, ALICE, second) == ()
    assert (pool.pending_count, pool.queued_count) == (0, 1)
    assert hashes(add(pool, ALICE, first)) == [first.hash, second.hash]
    assert pool.queued_count == 0


def test_same_transaction_twice_is_already_known():
    pool = new_pool()
    add(pool, ALICE, transaction(0))
    with pytest.raises(PoolRejection, match=r"^already known$"):
        add(pool, ALICE, transaction(0))


def test_replacement_takes_the_place_and_remembers_what_it_replaced():
    pool = new_pool()
    old, new, after = transaction(0), transaction(0, fee=20 * GWEI, tip=2 * GWEI), transaction(1)
    add(pool, ALICE, old)
    add(pool, ALICE, after)
    assert hashes(add(pool, ALICE, new)) == [new.hash]
    assert hashes(pool.pending()) == [new.hash, after.hash]
    assert "replaced" in drop_reason(pool, old.hash)


def test_underpriced_replacement_changes_nothing():
    pool = new_pool()
    add(pool, ALICE, transaction(0))
    with pytest.raises(PoolRejection, match="replacement transaction underpriced"):
        add(pool, ALICE, transaction(0, fee=10 * GWEI + 1))
    assert len(pool) == 1


def test_builder_gets_the_best_tip_first_and_keeps_nonce_order():
    pool = new_pool()
    low, high = transaction(0, tip=1), transaction(1, tip=9 * GWEI)
    middle = transaction(0, tip=GWEI, salt=1)
    add(pool, ALICE, low)
    add(pool, ALICE, high)
    add(pool, BOB, middle)
    assert hashes(best(pool)) == [middle.hash, low.hash, high.hash]


def test_equal_tips_go_by_arrival():
    pool = new_pool()
    first, second = transaction(0, salt=1), transaction(0, salt=2)
    add(pool, BOB, first)
    add(pool, ALICE, second)
    assert hashes(best(pool)) == [first.hash, second.hash]


def test_transaction_below_the_base_fee_waits_and_holds_its_sender_back():
    pool = new_pool()
    cheap, dear = transaction(0, fee=GWEI // 2, tip=0), transaction(1)
    add(pool, ALICE, cheap)
    add(pool, ALICE, dear)
    assert best(pool) == []
    pool.on_commit((), (), chain(base_fee=GWEI // 2))
    assert hashes(best(pool)) == [cheap.hash, dear.hash]


def test_builder_is_given_no_more_than_it_asked_for():
    pool = new_pool()
    for nonce in range(5):
        add(pool, ALICE, transaction(nonce, size=100))
    assert len(pool.best(max_count=3, max_bytes=10**6)) == 3
    assert len(pool.best(max_count=10, max_bytes=250)) == 2


def test_commit_removes_included_and_promotes_what_follows():
    pool = new_pool()
    one, three = transaction(0), transaction(2)
    add(pool, ALICE, one)
    add(pool, ALICE, three)
    promoted = pool.on_commit((AccountUpdate(ALICE, 2, 10**24),), (one.hash,), chain())
    assert hashes(promoted) == [three.hash]
    assert drop_reason(pool, one.hash) is None
    assert hashes(pool.pending()) == [three.hash]


def test_nonce_used_by_another_transaction_is_dropped_with_a_reason():
    pool = new_pool()
    tx = transaction(0)
    add(pool, ALICE, tx)
    pool.on_commit((AccountUpdate(ALICE, 1, 10**24),), (bytes(32),), chain())
    assert len(pool) == 0
    assert "nonce" in drop_reason(pool, tx.hash)
    assert not pool.knows_sender(ALICE)


def test_lost_balance_drops_what_cannot_be_paid_and_queues_what_no_longer_fits():
    pool = new_pool()
    small, large = transaction(0), transaction(1, value=10**18)
    third = transaction(2)
    for tx in (small, large, third):
        add(pool, ALICE, tx)
    cost = 21_000 * 10 * GWEI
    pool.on_commit((AccountUpdate(ALICE, 0, 10**18),), (), chain())
    assert "insufficient funds" in drop_reason(pool, large.hash)
    assert hashes(pool.pending()) == [small.hash]
    assert hashes(pool.queued()) == [third.hash]
    pool.on_commit((AccountUpdate(ALICE, 0, cost),), (), chain())
    assert hashes(pool.pending()) == [small.hash]


def test_fallen_gas_limit_and_risen_minimum_fee_drop_what_can_never_be_included():
    pool = new_pool()
    heavy, cheap = transaction(0, gas=20_000_00), transaction(0, fee=50, tip=0)
    add(pool, ALICE, heavy)
    add(pool, BOB, cheap)
    pool.on_commit((), (), chain(gas_limit=1_000_000, min_base_fee=60))
    assert len(pool) == 0
    assert drop_reason(pool, heavy.hash) == "exceeds block gas limit"
    assert drop_reason(pool, cheap.hash) == "transaction gas price below minimum"


def test_full_pool_evicts_the_cheapest_tail():
    pool = new_pool(max_transactions=3)
    kept, tail, other = transaction(0, tip=1), transaction(1, tip=5), transaction(0, tip=3)
    add(pool, ALICE, kept)
    add(pool, ALICE, tail)
    add(pool, BOB, other)
    add(pool, CAROL, transaction(0, tip=9))
    assert tail.hash not in pool
    assert "evicted" in drop_reason(pool, tail.hash)
    assert pool.pending_count == len(pool) <= 3


def test_full_pool_rejects_what_pays_no_more_and_loses_nothing():
    pool = new_pool(max_transactions=2)
    add(pool, ALICE, transaction(0, tip=5))
    add(pool, BOB, transaction(0, tip=5, salt=1))
    for _ in range(2):
        with pytest.raises(PoolRejection, match="transaction underpriced"):
            add(pool, CAROL, transaction(0, tip=5, salt=2))
    assert len(pool) == 2


def test_full_pool_prefers_executable_to_queued():
    pool = new_pool(max_transactions=1)
    add(pool, ALICE, transaction(3, tip=9 * GWEI))
    add(pool, BOB, transaction(0, tip=1))
    assert pool.queued_count == 0
    with pytest.raises(PoolRejection):
        add(pool, CAROL, transaction(3, tip=9 * GWEI))


def test_bytes_are_bounded():
    pool = new_pool(max_bytes=1000)
    add(pool, ALICE, transaction(0, tip=1, size=600))
    with pytest.raises(PoolRejection, match="underpriced"):
        add(pool, BOB, transaction(0, tip=1, size=600, salt=1))
    add(pool, BOB, transaction(0, tip=2, size=600, salt=2))
    assert pool.total_bytes == 600


def test_each_sender_is_bounded():
    pool = new_pool(max_per_sender=2, max_queued_per_sender=1)
    add(pool, ALICE, transaction(0))
    add(pool, ALICE, transaction(1))
    with pytest.raises(PoolRejection, match="account limit exceeded: pooled 2, limit 2"):
        add(pool, ALICE, transaction(2))
    add(pool, BOB, transaction(5))
    with pytest.raises(PoolRejection, match="account limit exceeded: queued 1, limit 1"):
        add(pool, BOB, transaction(6))


def test_dropped_by_the_builder_queues_what_followed():
    pool = new_pool()
    first, second = transaction(0), transaction(1)
    add(pool, ALICE, first)
    add(pool, ALICE, second)
    pool.drop(first.hash, "sender not an externally owned account")
    assert hashes(pool.queued()) == [second.hash]
    assert drop_reason(pool, first.hash) == "sender not an externally owned account"


def test_queued_expires_but_pending_does_not():
    pool = new_pool(queued_lifetime_ms=1000)
    waiting = transaction(5)
    add(pool, ALICE, waiting, now_ms=0)
    add(pool, BOB, transaction(0), now_ms=0)
    assert pool.expire_queued(1000) == 0
    assert pool.expire_queued(1001) == 1
    assert waiting.hash not in pool
    assert pool.pending_count == 1


def test_whoever_is_active_keeps_what_waits():
    pool = new_pool(queued_lifetime_ms=1000)
    add(pool, ALICE, transaction(5), now_ms=0)
    add(pool, ALICE, transaction(0), now_ms=900)
    assert pool.expire_queued(1900) == 0
    assert pool.expire_queued(1901) == 1


def test_what_lost_its_place_as_executable_waits_from_then_on():
    pool = new_pool(queued_lifetime_ms=1000)
    first, second = transaction(0), transaction(1)
    add(pool, ALICE, first, now_ms=0)
    add(pool, ALICE, second, now_ms=0)
    pool.tick(5000)
    pool.drop(first.hash, "cannot be included")
    assert pool.expire_queued(6000) == 0
    assert pool.expire_queued(6001) == 1


def test_what_waits_displaces_nothing_executable_however_much_it_pays():
    pool = new_pool(max_transactions=1)
    add(pool, ALICE, transaction(0, tip=1))
    with pytest.raises(PoolRejection, match=r"^future transaction tries to replace pending$"):
        add(pool, BOB, transaction(3, tip=9 * GWEI))


def test_what_building_dropped_can_be_submitted_again():
    pool = new_pool()
    sent = transaction(0)
    add(pool, ALICE, sent)
    pool.drop(sent.hash, "sender not an eoa")
    assert hashes(add(pool, ALICE, sent)) == [sent.hash]
    assert drop_reason(pool, sent.hash) is None


def test_delegated_account_may_have_one_transaction_in_flight():
    pool = new_pool()
    delegated = AccountView(0, 10**24, True)
    with pytest.raises(PoolRejection, match="gapped-nonce tx from delegated accounts"):
        add(pool, ALICE, transaction(1), delegated)
    add(pool, ALICE, transaction(0), delegated)
    with pytest.raises(PoolRejection, match="in-flight transaction limit reached for delegated accounts"):
        add(pool, ALICE, transaction(1), delegated)
    add(pool, ALICE, transaction(0, fee=20 * GWEI, tip=2 * GWEI), delegated)


def test_authority_of_a_pooled_delegation_is_limited_like_a_delegated_account():
    pool = new_pool()
    add(pool, BOB, transaction(0), authorities=frozenset({ALICE}))
    add(pool, ALICE, transaction(0, salt=1))
    with pytest.raises(PoolRejection, match="in-flight"):
        add(pool, ALICE, transaction(1))
    pool.on_commit((AccountUpdate(BOB, 1, 10**24),), (), chain())
    add(pool, ALICE, transaction(1))


def test_account_with_several_transactions_cannot_be_named_as_authority():
    pool = new_pool()
    add(pool, ALICE, transaction(0))
    add(pool, ALICE, transaction(1))
    with pytest.raises(PoolRejection, match="authority already reserved"):
        add(pool, BOB, transaction(0, salt=1), authorities=frozenset({ALICE}))
