"""Whatever is added, dropped, committed or expired, the mempool does what a naive model of its rules does."""

from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from astralink_node.evm.fork_rules import OSAKA
from astralink_node.txpool.admission import AccountView, ChainView, PoolRejection
from astralink_node.txpool.fate import Dropped, Held
from astralink_node.txpool.long_runs import PAUSE_BLOCKS
from astralink_node.txpool.pool import AccountUpdate, Pool, PoolLimits
from tests.support.mempool_model import Account, Chain, Item, Limits, MempoolModel, Refused
from tests.support.transactions import CHAIN_ID, address, transaction

SENDERS = [address(number) for number in range(1, 6)]
BUMP_PERCENT = 50
"""Of prices as low as these a tenth would be nothing."""
LIFETIME_MS = 20
senders = st.sampled_from(SENDERS)
prices = st.integers(0, 12)
COST = 21_000
PLENTY = 10**9
balances = st.just(PLENTY) | st.integers(0, 40).map(lambda count: count * COST)
"""Enough for all transactions, or for some at these prices, often just so."""


class PoolMachine(RuleBasedStateMachine):
    @initialize(
        transactions=st.integers(2, 14),
        size=st.integers(400, 2500),
        queued=st.integers(1, 8),
        min_tip=st.integers(0, 2),
        funds=st.tuples(*[balances] * len(SENDERS)),
    )
    def start(self, transactions, size, queued, min_tip, funds):
        limits = PoolLimits(
            max_transactions=transactions,
            max_bytes=size,
            max_per_sender=6,
            max_queued_per_sender=3,
            max_queued=queued,
            price_bump_percent=BUMP_PERCENT,
            min_tip_wei=min_tip,
            queued_lifetime_ms=LIFETIME_MS,
        )
        self.pool = Pool(limits, ChainView(CHAIN_ID, OSAKA, 100_000, 5, 1))
        self.model = MempoolModel(
            Limits(transactions, size, 6, 3, queued, BUMP_PERCENT, min_tip, LIFETIME_MS, PAUSE_BLOCKS),
            Chain(100_000, 5, 1),
            {sender: Account(0, balance) for sender, balance in zip(SENDERS, funds, strict=True)},
        )
        self.transactions = {}
        """Every one that was ever offered, by hash, with its item."""
        self.admitted, self.included = set(), set()

    # --- In --------------------------------------------------------------------------------------------------------

    @rule(
        sender=senders,
        ahead=st.integers(-1, 4),
        tip=prices,
        extra=st.integers(-1, 12),
        gas=st.sampled_from([COST, COST, 50_000, 90_000]),
        size=st.integers(100, 300),
        tx_type=st.sampled_from([0, 1, 2, 2]),
    )
    def add(self, sender, ahead, tip, extra, gas, size, tx_type):
        fee = tip if tx_type < 2 else max(0, tip + extra)
        nonce = max(0, self.model.accounts[sender].nonce + ahead)
        self._submit(
            sender, transaction(nonce, tip=tip, fee=fee, gas=gas, size=size, tx_type=tx_type, salt=self._salt())
        )

    @rule(sender=senders, tip=st.integers(8, 200), size=st.integers(100, 300))
    def add_the_next(self, sender, tip, size):
        nonce = self.model.next_nonce(sender)
        nonce = self.model.accounts[sender].nonce if nonce is None else nonce
        self._submit(sender, transaction(nonce, tip=tip, fee=tip, size=size, salt=self._salt()))

    @rule(sender=senders, count=st.integers(2, 4), price=st.integers(5, 9))
    def add_a_run(self, sender, count, price):
        for _ in range(count):
            self.add_the_next(sender, price, 100)

    @rule(sender=senders, balance=balances)
    def fund(self, sender, balance):
        """A block in which somebody's balance changes, and nothing else."""
        account = self.model.accounts[sender]
        self._commit({sender: Account(account.nonce, balance, account.delegated)}, set(), self.model.chain)

    @rule(data=st.data(), more=st.sampled_from([0, 1, 49, 50, 51, 100]), more_tip=st.sampled_from([0, 49, 50, 100]))
    def replace(self, data, more, more_tip):
        """Below, at and above the bump."""
        if self.model.items:
            old = data.draw(st.sampled_from(self.model.items))
            fee, tip = old.fee_cap * (100 + more) // 100, old.tip_cap * (100 + more_tip) // 100
            self._submit(old.sender, transaction(old.nonce, tip=tip, fee=fee, size=old.size, salt=self._salt()))

    @rule(sender=senders, authorities=st.frozensets(senders, min_size=1, max_size=2), tip=st.integers(3, 12))
    def add_a_delegation(self, sender, authorities, tip):
        nonce = self.model.accounts[sender].nonce
        sent = transaction(nonce, tip=tip, fee=20, gas=90_000, salt=self._salt())
        self._submit(sender, sent, authorities)

    @precondition(lambda self: self.transactions)
    @rule(data=st.data())
    def submit_again(self, data):
        """What is known, was dropped, was replaced or was included."""
        sent, item = data.draw(st.sampled_from(list(self.transactions.values())))
        self._submit(item.sender, sent, item.authorities)

    def _salt(self):
        return len(self.transactions)

    def _submit(self, sender, sent, authorities=frozenset()):
        item = Item(
            sent.hash,
            sender,
            sent.nonce,
            sent.max_priority_fee_per_gas,
            sent.max_fee_per_gas,
            sent.gas_limit,
            sent.value,
            len(sent.raw),
            authorities,
        )
        self.transactions[sent.hash] = (sent, item)
        account = self.model.accounts[sender]
        view = AccountView(account.nonce, account.balance, account.delegated)
        pending_before = {entry.hash for entry in self.pool.pending()}
        expected = self._refusal_of_the_model(item)
        promoted, found = self._try(sent, sender, view, authorities)
        note(f"refused: {found}")
        assert found.startswith(expected)
        assert bool(found) == bool(expected)
        if not found:
            self.admitted.add(sent.hash)
        assert {entry.hash for entry in promoted} == {entry.hash for entry in self.pool.pending()} - pending_before

    def _refusal_of_the_model(self, item):
        try:
            self.model.add(item)
        except Refused as refused:
            return str(refused)
        return ""

    def _try(self, sent, sender, view, authorities):
        """(what became executable, why it was refused)"""
        try:
            return self.pool.add(sent, sender, view, now_ms=self.model.now_ms, authorities=authorities), ""
        except PoolRejection as refused:
            return (), str(refused)

    # --- Blocks ----------------------------------------------------------------------------------------------------

    @rule(
        data=st.data(),
        base_fee=st.integers(1, 20),
        gas_limit=st.sampled_from([100_000, 100_000, 60_000]),
        min_base_fee=st.sampled_from([1, 1, 4]),
        changed=st.dictionaries(senders, st.tuples(st.integers(0, 2), balances), max_size=2),
    )
    def commit(self, data, base_fee, gas_limit, min_base_fee, changed):
        """Some of the best go in, and others move nonces and balances."""
        best = self.model.best(100, 10**9)
        block = best[: data.draw(st.integers(0, len(best)))]
        touched = {}
        for item in block:
            account = touched.get(item.sender, self.model.accounts[item.sender])
            assert (item.nonce, item.cost <= account.balance) == (account.nonce, True)
            touched[item.sender] = Account(account.nonce + 1, account.balance - item.cost, account.delegated)
        for sender, (steps, balance) in changed.items():
            account = touched.get(sender, self.model.accounts[sender])
            touched[sender] = Account(account.nonce + steps, balance, account.delegated)
        self._commit(touched, {item.hash for item in block}, Chain(gas_limit, base_fee, min_base_fee))

    def _commit(self, touched, included, chain):
        self.included |= included
        pending_before = {entry.hash for entry in self.pool.pending()}
        self.model.commit(touched, included, chain)
        promoted = self.pool.on_commit(
            [AccountUpdate(who, account.nonce, account.balance) for who, account in touched.items()],
            included,
            ChainView(CHAIN_ID, OSAKA, chain.gas_limit, chain.base_fee, chain.min_base_fee),
        )
        pending = {entry.hash for entry in self.pool.pending()}
        assert pending - pending_before == {entry.hash for entry in promoted} - pending_before

    @rule(sender=senders, delegated=st.booleans())
    def delegate(self, sender, delegated):
        account = self.model.accounts[sender]
        self.model.accounts[sender] = Account(account.nonce, account.balance, delegated)
        self.pool.set_has_code(sender, has_code=delegated)

    @rule(long_run=st.booleans(), count=st.integers(1, 12))
    def offer(self, long_run, count):
        expected, may_run_long = self.model.offer(count, long_run=long_run)
        offer = self.pool.offer(max_count=count, max_bytes=10**9, long_run=long_run)
        assert [entry.hash for entry in offer.transactions] == [item.hash for item in expected]
        assert offer.first_may_run_long == may_run_long

    @precondition(lambda self: self.model.items)
    @rule(data=st.data())
    def put_off(self, data):
        item = data.draw(st.sampled_from(self.model.items))
        self.model.put_off(item)
        self.pool.put_off(item.hash)

    @precondition(lambda self: self.model.items)
    @rule(data=st.data())
    def drop_and_submit_again(self, data):
        """As when building refused it for what has passed."""
        item = data.draw(st.sampled_from(self.model.items))
        self.model.remove(item, "cannot be included")
        self.pool.drop(item.hash, "cannot be included")
        self._submit(item.sender, self.transactions[item.hash][0], item.authorities)

    @precondition(lambda self: self.model.items)
    @rule(data=st.data())
    def drop(self, data):
        item = data.draw(st.sampled_from(self.model.items))
        self.model.remove(item, "cannot be included")
        self.pool.drop(item.hash, "cannot be included")

    @rule(elapsed=st.sampled_from([1, 5, 11, LIFETIME_MS, LIFETIME_MS + 1]), expires=st.booleans())
    def time_passes(self, elapsed, expires):
        self.model.now_ms += elapsed
        self.pool.tick(self.model.now_ms)
        if expires:
            queued_before = self.pool.queued_count
            self.model.expire()
            assert self.pool.expire_queued(self.model.now_ms) == queued_before - self.pool.queued_count

    # --- Always ----------------------------------------------------------------------------------------------------

    @invariant()
    def the_same_transactions_are_pending_and_queued(self):
        for sender in SENDERS:
            pending, queued = self.pool.of_sender(sender)
            assert [entry.hash for entry in pending] == [item.hash for item in self.model.pending(sender)]
            assert [entry.hash for entry in queued] == [item.hash for item in self.model.queued(sender)]
            assert self.pool.pending_nonce(sender) == self.model.next_nonce(sender)
            assert self.pool.knows_sender(sender) == bool(self.model.line(sender))

    @invariant()
    def pending_has_no_hole(self):
        for sender in SENDERS:
            nonces = [entry.nonce for entry in self.pool.of_sender(sender)[0]]
            first = self.model.accounts[sender].nonce
            assert nonces == list(range(first, first + len(nonces)))

    @invariant()
    def counts_are_true_and_bounds_hold(self):
        pending, queued = list(self.pool.pending()), list(self.pool.queued())
        assert (len(pending), len(queued)) == (self.pool.pending_count, self.pool.queued_count)
        assert len(pending) + len(queued) == len(self.pool) <= self.model.limits.transactions
        assert sum(entry.size for entry in pending + queued) == self.pool.total_bytes <= self.model.limits.size
        assert all(len(self.model.line(sender)) <= self.model.limits.per_sender for sender in SENDERS)

    @invariant()
    def the_best_come_in_the_same_order(self):
        for count, size in ((100, 10**9), (3, 10**9), (100, 500)):
            best = self.pool.best(max_count=count, max_bytes=size)
            assert [entry.hash for entry in best] == [item.hash for item in self.model.best(count, size)]
        assert self.pool.can_pay() == bool(self.model.best(1, 10**9))

    @invariant()
    def the_fate_of_everything_is_known(self):
        held = {item.hash: item for item in self.model.items}
        for transaction_hash in self.transactions:
            match self.pool.fate(transaction_hash):
                case Held(sender, nonce, is_pending, waits_for, missing_nonce):
                    item = held[transaction_hash]
                    assert (sender, nonce) == (item.sender, item.nonce)
                    assert is_pending == (item in self.model.pending(sender))
                    assert waits_for == self.model.waits_for(item)
                    assert missing_nonce == (self.model.missing_nonce(sender) if waits_for == "nonce" else None)
                case Dropped(reason):
                    assert transaction_hash not in held
                    assert reason.startswith(self.model.dropped[transaction_hash])
                case None:
                    assert transaction_hash not in held
                    assert transaction_hash not in self.model.dropped
                    assert transaction_hash in self.included or transaction_hash not in self.admitted


PoolMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)
TestPool = PoolMachine.TestCase
