"""Turns of transactions that the clock stopped: each goes first once, and nobody slows every block down for free."""

from astralink_node.evm.fork_rules import OSAKA
from astralink_node.txpool.admission import AccountView, ChainView
from astralink_node.txpool.fate import Dropped
from astralink_node.txpool.long_runs import MAX_WAITING, PAUSE_BLOCKS, LongRuns
from astralink_node.txpool.pool import AccountUpdate, Pool, PoolLimits
from tests.support.transactions import CHAIN_ID, GWEI, address, transaction

RICH = AccountView(0, 10**24, False)
ALICE, BOB, CAROL = address(1), address(2), address(3)


def chain(base_fee=GWEI):
    return ChainView(CHAIN_ID, OSAKA, 30_000_000, base_fee, 1)


class Bench:
    """A pool, and blocks that contain what they are told to."""

    def __init__(self):
        self.pool = Pool(PoolLimits(), chain())
        self.salt = 0

    def add(self, sender, tip=GWEI, nonce=0, fee=10 * GWEI):
        self.salt += 1
        tx = transaction(nonce, tip=tip, fee=fee, salt=self.salt)
        self.pool.add(tx, sender, RICH, now_ms=0)
        return tx.hash

    def offer(self, **options):
        offer = self.pool.offer(max_count=1000, max_bytes=10**7, **options)
        return [entry.hash for entry in offer.transactions], offer.first_may_run_long

    def commit(self, *included, base_fee=GWEI):
        entries = [self.pool.get(transaction_hash) for transaction_hash in included]
        touched = [AccountUpdate(entry.sender, entry.nonce + 1, 10**24) for entry in entries]
        self.pool.on_commit(touched, included, chain(base_fee))

    def fail_a_long_run(self):
        """One that was offered, and is not in the block that came of it."""
        self.offer()
        self.commit()


def test_the_best_paying_transaction_may_run_long_at_once():
    bench = Bench()
    low, high = bench.add(ALICE), bench.add(BOB, tip=2 * GWEI)
    assert bench.offer() == ([high, low], True)


def test_an_empty_pool_offers_nothing():
    assert Bench().offer() == ([], False)


def test_what_the_clock_stopped_goes_first_although_others_pay_more():
    bench = Bench()
    heavy, other = bench.add(ALICE), bench.add(BOB, tip=5 * GWEI)
    bench.pool.put_off(heavy)
    assert bench.offer() == ([heavy, other], True)


def test_a_turn_is_taken_once_and_then_the_tip_decides_again():
    bench = Bench()
    heavy, other = bench.add(ALICE), bench.add(BOB, tip=5 * GWEI)
    bench.pool.put_off(heavy)
    bench.offer()
    assert bench.offer()[0] == [other, heavy]


def test_those_that_wait_are_in_no_other_block_and_go_in_the_order_of_being_stopped():
    bench = Bench()
    later, sooner, other = bench.add(ALICE, tip=9 * GWEI), bench.add(BOB), bench.add(CAROL)
    bench.pool.put_off(sooner)
    bench.pool.put_off(later)
    assert bench.offer() == ([sooner, other], True)
    bench.commit(sooner, other)
    assert bench.offer() == ([later], True)


def test_what_follows_the_first_of_its_sender_comes_in_its_place_by_tip():
    bench = Bench()
    heavy, cheap, dear = bench.add(ALICE), bench.add(ALICE, tip=1, nonce=1), bench.add(BOB)
    bench.pool.put_off(heavy)
    assert bench.offer()[0] == [heavy, dear, cheap]


def test_a_long_run_that_was_not_included_makes_the_next_one_wait():
    bench = Bench()
    heavy, other = bench.add(ALICE), bench.add(BOB)
    bench.fail_a_long_run()
    bench.pool.put_off(heavy)
    for _ in range(PAUSE_BLOCKS):
        assert bench.offer() == ([other], False)
        bench.commit()
    assert bench.offer() == ([heavy, other], True)


def test_a_long_run_that_was_included_makes_nobody_wait():
    bench = Bench()
    first, second = bench.add(ALICE), bench.add(BOB)
    bench.offer()
    bench.commit(first)
    assert bench.offer() == ([second], True)


def test_the_pause_holds_nothing_up_where_no_other_transaction_waits():
    bench = Bench()
    heavy = bench.add(ALICE)
    bench.fail_a_long_run()
    bench.pool.put_off(heavy)
    assert bench.offer() == ([heavy], True)


def test_a_further_round_has_no_long_run_and_uses_no_turn_up():
    bench = Bench()
    heavy, other = bench.add(ALICE), bench.add(BOB)
    bench.pool.put_off(heavy)
    assert bench.offer(long_run=False) == ([other], False)
    assert bench.offer() == ([heavy, other], True)


def test_a_replacement_takes_the_turn_over():
    bench = Bench()
    heavy, other = bench.add(ALICE), bench.add(BOB, tip=5 * GWEI)
    bench.pool.put_off(heavy)
    new = bench.add(ALICE, tip=2 * GWEI, fee=20 * GWEI)
    assert bench.offer() == ([new, other], True)


def test_a_turn_that_cannot_pay_the_base_fee_lets_the_next_by_and_comes_back():
    bench = Bench()
    poor, rich = bench.add(ALICE, fee=GWEI, tip=0), bench.add(BOB)
    bench.pool.put_off(poor)
    bench.pool.put_off(rich)
    bench.commit(base_fee=2 * GWEI)
    assert bench.offer() == ([rich], True)
    bench.commit(rich, base_fee=GWEI)
    assert bench.offer() == ([poor], True)


def test_a_turn_ends_when_its_nonce_was_used_or_its_transaction_left():
    bench = Bench()
    used, after, dropped = bench.add(ALICE), bench.add(ALICE, nonce=1), bench.add(BOB)
    bench.pool.put_off(used)
    bench.pool.put_off(dropped)
    bench.commit(used)
    bench.pool.drop(dropped, "dropped")
    other = bench.add(CAROL, tip=5 * GWEI)
    assert bench.offer()[0] == [other, after]


def test_a_turn_behind_a_nonce_that_came_in_meanwhile_waits_for_it():
    bench = Bench()
    before, heavy, other = bench.add(ALICE), bench.add(ALICE, nonce=1), bench.add(BOB, tip=5 * GWEI)
    bench.pool.put_off(heavy)
    assert bench.offer()[0] == [other, before, heavy]
    bench.commit(other, before)
    assert bench.offer() == ([heavy], True)


def test_putting_off_what_left_the_pool_does_nothing():
    bench = Bench()
    heavy = bench.add(ALICE)
    bench.pool.drop(heavy, "dropped")
    bench.pool.put_off(heavy)
    assert bench.offer() == ([], False)


def test_what_is_stopped_when_too_many_wait_leaves_the_pool_with_a_reason():
    bench = Bench()
    for number in range(MAX_WAITING):
        bench.pool.put_off(bench.add(address(100 + number)))
    heavy = bench.add(ALICE)
    bench.pool.put_off(heavy)
    assert heavy not in bench.pool
    fate = bench.pool.fate(heavy)
    assert isinstance(fate, Dropped)
    assert "too many" in fate.reason


def test_a_sender_that_waits_already_keeps_its_place():
    runs = LongRuns()
    for sender in (ALICE, BOB, ALICE):
        assert runs.put_off(sender, 0)
    assert list(runs.in_turn()) == [ALICE, BOB]
