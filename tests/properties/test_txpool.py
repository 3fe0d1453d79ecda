"""Whatever is added, dropped, committed or expired, the mempool keeps its invariants."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from astralink_node.evm.fork_rules import OSAKA
from astralink_node.txpool.admission import AccountView, ChainView, PoolRejection
from astralink_node.txpool.pool import AccountUpdate, Pool, PoolLimits
from tests.support.transactions import CHAIN_ID, address, transaction

SENDERS = [address(number) for number in range(1, 5)]
senders = st.sampled_from(SENDERS)
prices = st.integers(0, 30)
LIMITS = PoolLimits(
    max_transactions=12, max_bytes=1500, max_per_sender=6, max_queued_per_sender=3, max_queued=7, queued_lifetime_ms=20
)


class PoolMachine(RuleBasedStateMachine):
    @initialize()
    def start(self):
        self.pool = Pool(LIMITS, ChainView(CHAIN_ID, OSAKA, 30_000_000, 5, 0))
        self.accounts = {sender: AccountView(0, 10**7, False) for sender in SENDERS}
        self.admitted = {}
        self.salt = 0
        self.now_ms = 0

    @rule(
        sender=senders,
        ahead=st.integers(-1, 5),
        tip=prices,
        extra=prices,
        size=st.integers(100, 300),
        authority=st.none() | senders,
    )
    def add(self, sender, ahead, tip, extra, size, authority):
        self.salt += 1
        self.now_ms += 1
        nonce = max(0, self.accounts[sender].nonce + ahead)
        tx = transaction(nonce, tip=tip, fee=tip + extra, size=size, salt=self.salt)
        before = {entry.hash for entry in self.pool.pending()} | {entry.hash for entry in self.pool.queued()}
        authorities = frozenset() if authority is None else frozenset({authority})
        try:
            promoted = self.pool.add(tx, sender, self.accounts[sender], now_ms=self.now_ms, authorities=authorities)
        except PoolRejection:
            after = {entry.hash for entry in self.pool.pending()} | {entry.hash for entry in self.pool.queued()}
            assert after == before
            return
        pending = {entry.hash for entry in self.pool.pending()}
        assert tx.hash in self.pool
        assert all(entry.hash in pending for entry in promoted)
        self.admitted[tx.hash] = sender

    @rule(data=st.data(), base_fee=st.integers(0, 30), balance=st.integers(0, 10**7), gifted=senders)
    def commit(self, data, base_fee, balance, gifted):
        best = self.pool.best(max_count=100, max_bytes=10**6)
        block = best[: data.draw(st.integers(0, len(best)))]
        for entry in block:
            account = self.accounts[entry.sender]
            assert entry.nonce == account.nonce
            assert account.balance_wei >= entry.cost
            self.accounts[entry.sender] = AccountView(account.nonce + 1, account.balance_wei - entry.cost, False)
        self.accounts[gifted] = AccountView(self.accounts[gifted].nonce, balance, False)
        touched = {entry.sender for entry in block} | {gifted}
        self.pool.on_commit(
            [AccountUpdate(who, self.accounts[who].nonce, self.accounts[who].balance_wei) for who in touched],
            {entry.hash for entry in block},
            ChainView(CHAIN_ID, OSAKA, 30_000_000, base_fee, 0),
        )

    @rule(data=st.data())
    def put_off(self, data):
        entries = list(self.pool.pending())
        if entries:
            self.pool.put_off(data.draw(st.sampled_from(entries)).hash)

    @rule(long_run=st.booleans(), count=st.integers(1, 12))
    def offer(self, long_run, count):
        offer = self.pool.offer(max_count=count, max_bytes=10**6, long_run=long_run)
        nonces = {sender: account.nonce for sender, account in self.accounts.items()}
        for entry in offer.transactions:
            assert entry.nonce == nonces[entry.sender]
            assert entry.tip(self.pool.chain.base_fee_wei) >= 0
            nonces[entry.sender] += 1
        assert len(offer.transactions) <= count
        assert bool(offer.transactions) or not offer.first_may_run_long
        payable = self.pool.best(max_count=1, max_bytes=10**6)
        assert bool(payable) == bool(offer.transactions) or not long_run

    @rule(data=st.data())
    def drop(self, data):
        entries = list(self.pool.pending()) + list(self.pool.queued())
        if entries:
            entry = data.draw(st.sampled_from(entries))
            self.pool.drop(entry.hash, "dropped")
            assert self.pool.drop_reason(entry.hash) == "dropped"

    @rule(elapsed=st.integers(0, 30))
    def expire(self, elapsed):
        self.now_ms += elapsed
        self.pool.expire_queued(self.now_ms)
        assert all(entry.arrived_ms >= self.now_ms - 20 for entry in self.pool.queued())

    @invariant()
    def pending_follows_the_account_without_a_gap_and_is_paid_for(self):
        pending = {sender: [e for e in self.pool.pending() if e.sender == sender] for sender in SENDERS}
        for sender, line in pending.items():
            account = self.accounts[sender]
            assert [entry.nonce for entry in line] == [account.nonce + index for index in range(len(line))]
            assert sum(entry.cost for entry in line) <= account.balance_wei

    @invariant()
    def no_nonce_is_held_twice_and_none_is_old(self):
        seen = set()
        for entry in [*self.pool.pending(), *self.pool.queued()]:
            assert (entry.sender, entry.nonce) not in seen
            assert entry.nonce >= self.accounts[entry.sender].nonce
            seen.add((entry.sender, entry.nonce))

    @invariant()
    def counts_are_true_and_bounds_hold(self):
        pending, queued = list(self.pool.pending()), list(self.pool.queued())
        assert (len(pending), len(queued)) == (self.pool.pending_count, self.pool.queued_count)
        assert len(pending) + len(queued) == len(self.pool) <= LIMITS.max_transactions
        assert sum(entry.size for entry in pending + queued) == self.pool.total_bytes <= LIMITS.max_bytes
        for sender in SENDERS:
            assert sum(entry.sender == sender for entry in pending + queued) <= LIMITS.max_per_sender
        assert {entry.sender for entry in pending + queued} == set(self.pool.senders())

    @invariant()
    def builder_gets_payable_transactions_best_first(self):
        base_fee = self.pool.chain.base_fee_wei
        best = self.pool.best(max_count=100, max_bytes=10**6)
        nonces = {sender: account.nonce for sender, account in self.accounts.items()}
        waiting = {sender: [e for e in self.pool.pending() if e.sender == sender] for sender in SENDERS}
        for entry in best:
            assert entry.nonce == nonces[entry.sender]
            nonces[entry.sender] += 1
            heads = [line[0].tip(base_fee) for line in waiting.values() if line]
            assert 0 <= entry.tip(base_fee) == max(heads)
            waiting[entry.sender].pop(0)

    @invariant()
    def everything_admitted_is_held_included_or_has_a_reason(self):
        for transaction_hash, sender in self.admitted.items():
            if transaction_hash not in self.pool and self.pool.drop_reason(transaction_hash) is None:
                assert self.accounts[sender].nonce > 0


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPool = PoolMachine.TestCase
