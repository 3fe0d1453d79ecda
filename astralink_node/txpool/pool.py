"""The mempool: transactions that wait for a block, per sender in nonce order. Plain data and rules, no tasks.

A sender's transactions are *pending* (executable) while their nonces follow the account's without a gap and its
balance covers them all; the rest are *queued*. Building takes pending ones by best tip. When a bound is reached
the cheapest tail of any sender goes, so that an eviction never makes a gap. Limits on delegated accounts are
geth's (EIP-7702: another transaction may empty or bump such an account at any time).
"""

import heapq
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from astralink_node.evm.transactions import Transaction
from astralink_node.txpool.admission import (
    AccountView,
    ChainView,
    PoolRejection,
    PoolTransaction,
    check_nonce_and_balance,
    check_replacement,
    check_transaction,
)
from astralink_node.txpool.long_runs import LongRuns
from astralink_node.types import Address

MAX_REMEMBERED_DROPS = 4096
"""Reasons kept for transactions that left the pool without being included; the oldest are forgotten first."""


EVICTION_BATCH = 64
"""A full pool evicts up to this many at once, so that ranking everything is paid once for that many newcomers."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """The bounds of the pool. At each of them a newcomer must outbid something, or is turned away."""

    max_transactions: int = 8192
    max_bytes: int = 64 * 1024 * 1024
    max_per_sender: int = 1024
    max_queued_per_sender: int = 64
    max_queued: int = 2048
    """Of newcomers; transactions that lose their place as executable may exceed it within the bounds above."""
    replacement_bump_percent: int = 10
    min_tip_wei: int = 0
    queued_lifetime_ms: int = 3 * 60 * 60 * 1000
    """How long a transaction may wait for an earlier nonce or for funds."""
    allow_unprotected: bool = False
    """Legacy transactions from before EIP-155, which are valid on every chain."""


@dataclass(frozen=True, slots=True)
class AccountUpdate:
    """An account that a block touched."""

    address: Address
    nonce: int
    balance_wei: int


@dataclass(frozen=True, slots=True)
class Offer:
    """What a block may be made of, in this order."""

    transactions: tuple[PoolTransaction, ...]
    first_may_run_long: bool


@dataclass(slots=True)
class _Sender:
    account: AccountView
    by_nonce: dict[int, PoolTransaction] = field(default_factory=dict)
    spent: int = 0
    """Cost of everything in ``by_nonce``."""
    pending: list[PoolTransaction] = field(default_factory=list)
    """The executable prefix."""
    pending_cost: int = 0

    @property
    def queued_count(self) -> int:
        return len(self.by_nonce) - len(self.pending)

    @property
    def next_nonce(self) -> int:
        return self.account.nonce + len(self.pending)


_Worth = tuple[bool, int]
"""(executable, least tip at the next base fee up to this nonce): what a transaction is worth to the pool.

A transaction cannot be had before those in front of it, so it is worth no more than any of them.
"""


class Pool:
    """All mutable state of the mempool. Methods take and return values; none of them waits."""

    def __init__(self, limits: PoolLimits, chain: ChainView) -> None:
        self.limits = limits
        self.chain = chain
        self._by_hash: dict[bytes, PoolTransaction] = {}
        self._senders: dict[Address, _Sender] = {}
        self._authorities: dict[Address, int] = {}
        self._bytes = 0
        self._pending_count = 0
        self._arrivals = 0
        self._drops: OrderedDict[bytes, str] = OrderedDict()
        self._long_runs = LongRuns()
        self._floor: _Worth | None = None
        """The least worth in a full pool: a newcomer worth no more is turned away without a look at the rest."""

    # --- Views -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._by_hash)

    def __contains__(self, transaction_hash: bytes) -> bool:
        return transaction_hash in self._by_hash

    @property
    def pending_count(self) -> int:
        return self._pending_count

    @property
    def queued_count(self) -> int:
        return len(self._by_hash) - self._pending_count

    @property
    def total_bytes(self) -> int:
        return self._bytes

    def get(self, transaction_hash: bytes) -> PoolTransaction | None:
        return self._by_hash.get(transaction_hash)

    def knows_sender(self, address: Address) -> bool:
        """Whether the pool holds this sender's account; otherwise :meth:`add` needs it."""
        return address in self._senders

    def senders(self) -> Collection[Address]:
        return self._senders.keys()

    def pending_nonce(self, address: Address) -> int | None:
        """The nonce after a sender's executable transactions; None when the pool has nothing from it."""
        sender = self._senders.get(address)
        return None if sender is None else sender.next_nonce

    def pending(self) -> Iterator[PoolTransaction]:
        """Executable transactions, a sender's in nonce order."""
        for sender in self._senders.values():
            yield from sender.pending

    def queued(self) -> Iterator[PoolTransaction]:
        for sender in self._senders.values():
            end = sender.next_nonce
            for nonce in sorted(nonce for nonce in sender.by_nonce if nonce >= end):
                yield sender.by_nonce[nonce]

    def drop_reason(self, transaction_hash: bytes) -> str | None:
        """Why a transaction left the pool without being included, while that is remembered."""
        return self._drops.get(transaction_hash)

    # --- In ----------------------------------------------------------------------------------------------------

    def add(
        self,
        transaction: Transaction,
        sender: Address,
        account: AccountView | None,
        *,
        now_ms: int,
        authorities: frozenset[Address] = frozenset(),
    ) -> tuple[PoolTransaction, ...]:
        """Admit one transaction; returns those that became executable with it. Raises PoolRejection.

        ``account`` is the sender's account at the head, needed unless :meth:`knows_sender`.
        """
        if transaction.hash in self._by_hash:
            raise PoolRejection("already known")
        limits = self.limits
        check_transaction(
            transaction, self.chain, min_tip_wei=limits.min_tip_wei, allow_unprotected=limits.allow_unprotected
        )
        entry = PoolTransaction(transaction, sender, self._arrivals, now_ms, authorities)
        state = self._senders.get(sender)
        if state is None:
            if account is None:
                raise ValueError("the account of an unknown sender is needed")
            state = _Sender(account)
        old = state.by_nonce.get(entry.nonce)
        check_nonce_and_balance(entry, state.account, state.spent, old.cost if old else 0)
        self._check_delegation(entry, state)
        if old is not None:
            check_replacement(old, entry, limits.replacement_bump_percent)
        elif len(state.by_nonce) >= limits.max_per_sender:
            raise PoolRejection(f"account limit exceeded: pooled {len(state.by_nonce)}, limit {limits.max_per_sender}")
        self._make_room(entry, state, old)
        self._arrivals += 1
        self._senders[sender] = state
        if old is not None:
            self._unlink(state, old)
            self._remember_drop(old.hash, "replaced by a transaction with higher fees")
            self._link(state, entry)
            self._refresh(sender, state)
            return (entry,) if entry in state.pending else ()
        self._link(state, entry)
        return self._extend_pending(state)

    # --- Out ---------------------------------------------------------------------------------------------------

    def best(self, *, max_count: int, max_bytes: int) -> list[PoolTransaction]:
        """Executable transactions for a block, best tip first, each sender's in nonce order.

        A sender whose next transaction cannot pay the base fee is passed over. Equal tips go by arrival.
        """
        lines = [(sender.pending, 0) for sender in self._senders.values()]
        return _best_tip_first(lines, self.chain.base_fee_wei, max_count, max_bytes)

    def offer(self, *, max_count: int, max_bytes: int, long_run: bool = True) -> Offer:
        """Candidates for a block: as :meth:`best`, but first what the clock stopped in an earlier one.

        Those that wait for such a turn are left out otherwise. `long_run` False: no turn, and nothing may run long.
        """
        base_fee, runs = self.chain.base_fee_wei, self._long_runs
        lines: list[_Place] = [
            (sender.pending, 0)
            for address, sender in self._senders.items()
            if sender.pending and not runs.waits(address, sender.pending[0].nonce)
        ]
        chosen = _best_tip_first(lines, base_fee, max_count, max_bytes)
        if not long_run or (runs.is_paused and chosen):
            return Offer(tuple(chosen), first_may_run_long=False)
        turn = self._first_in_turn()
        if turn is not None:
            first = turn[0]
            rest = _best_tip_first([*lines, (turn, 1)], base_fee, max_count - 1, max_bytes - first.size)
            chosen = [first, *rest]
        if chosen:
            runs.begin(chosen[0].sender, chosen[0].hash)
        return Offer(tuple(chosen), first_may_run_long=bool(chosen))

    def _first_in_turn(self) -> list[PoolTransaction] | None:
        """The executable transactions of the sender whose turn it is; who cannot pay the base fee lets others by."""
        base_fee, runs = self.chain.base_fee_wei, self._long_runs
        for address in runs.in_turn():
            pending = self._senders[address].pending
            if pending and runs.waits(address, pending[0].nonce) and pending[0].tip(base_fee) >= 0:
                return pending
        return None

    def put_off(self, transaction_hash: bytes) -> None:
        """The clock stopped this transaction in a build: a later block begins with it."""
        entry = self._by_hash.get(transaction_hash)
        if entry is not None and not self._long_runs.put_off(entry.sender, entry.nonce):
            self.drop(transaction_hash, "too many transactions wait for a block that has the time for them")

    def on_commit(
        self, touched: Iterable[AccountUpdate], included: Collection[bytes], chain: ChainView
    ) -> tuple[PoolTransaction, ...]:
        """Follow a new head; returns transactions that became executable through it.

        ``touched`` are the accounts that the block changed: no others need a look.
        """
        limits_changed = chain.gas_limit < self.chain.gas_limit or chain.min_base_fee_wei > self.chain.min_base_fee_wei
        self.chain = chain
        self._floor = None
        self._long_runs.on_commit(included)
        promoted: list[PoolTransaction] = []
        for update in touched:
            state = self._senders.get(update.address)
            if state is None:
                continue
            before = {entry.hash for entry in state.pending}
            state.account = AccountView(update.nonce, update.balance_wei, state.account.has_code)
            self._discard_unusable(state, included)
            self._long_runs.forget(update.address, update.nonce)
            self._refresh(update.address, state)
            promoted += [entry for entry in state.pending if entry.hash not in before]
        if limits_changed:
            self._discard_unfit()
        return tuple(promoted)

    def set_has_code(self, address: Address, *, has_code: bool) -> None:
        """Note that an account's delegation changed; what it already has in the pool stays."""
        state = self._senders.get(address)
        if state is not None:
            state.account = AccountView(state.account.nonce, state.account.balance_wei, has_code)

    def drop(self, transaction_hash: bytes, reason: str) -> None:
        """Remove one transaction, for example because building found that it can never be included."""
        entry = self._by_hash.get(transaction_hash)
        if entry is None:
            return
        state = self._senders[entry.sender]
        self._unlink(state, entry)
        if self._long_runs.waits(entry.sender, entry.nonce):
            self._long_runs.forget(entry.sender)
        self._floor = None
        self._remember_drop(transaction_hash, reason)
        self._refresh(entry.sender, state)

    def expire_queued(self, now_ms: int) -> int:
        """Drop what has waited too long for an earlier nonce or for funds; returns how many."""
        oldest = now_ms - self.limits.queued_lifetime_ms
        expired = [entry.hash for entry in self.queued() if entry.arrived_ms < oldest]
        for transaction_hash in expired:
            self.drop(transaction_hash, "waited too long for an earlier nonce or for funds")
        return len(expired)

    # --- Bounds ------------------------------------------------------------------------------------------------

    def _make_room(self, entry: PoolTransaction, state: _Sender, old: PoolTransaction | None) -> None:
        """Evict cheaper transactions until a newcomer fits, or reject it without having evicted any."""
        limits = self.limits
        is_executable = entry.nonce <= state.next_nonce
        if old is None and not is_executable:
            if state.queued_count >= limits.max_queued_per_sender:
                raise PoolRejection(
                    f"account limit exceeded: queued {state.queued_count}, limit {limits.max_queued_per_sender}"
                )
            if self.queued_count >= limits.max_queued:
                raise PoolRejection("txpool is full: too many transactions wait for an earlier nonce")
        surplus = len(self._by_hash) + (old is None) - limits.max_transactions
        surplus_bytes = self._bytes + entry.size - (old.size if old else 0) - limits.max_bytes
        if surplus <= 0 and surplus_bytes <= 0:
            return
        base_fee = self.chain.base_fee_wei
        ahead = (other.tip(base_fee) for nonce, other in state.by_nonce.items() if nonce < entry.nonce)
        worth = (is_executable, min((entry.tip(base_fee), *ahead)))
        victims: list[PoolTransaction] = []
        if self._floor is None or worth > self._floor:
            ranked = self._cheapest_first()
            self._floor = ranked[0][0] if ranked else None
            for victim_worth, _, victim in ranked:
                if victim_worth >= worth:
                    break
                if surplus <= 0 and surplus_bytes <= 0 and len(victims) >= EVICTION_BATCH:
                    break
                # Of its own sender only what stands behind it; what stands before is worth no less than it.
                if victim.sender != entry.sender or victim.nonce > entry.nonce:
                    victims.append(victim)
                    surplus -= 1
                    surplus_bytes -= victim.size
        if surplus > 0 or surplus_bytes > 0:
            raise PoolRejection("transaction underpriced: the pool is full of better paying ones")
        for victim in victims:
            self.drop(victim.hash, "evicted from a full pool by a better paying transaction")

    def _cheapest_first(self) -> list[tuple[_Worth, int, PoolTransaction]]:
        """(worth, minus place in line, transaction), so that of equals those behind go before those in front."""
        base_fee = self.chain.base_fee_wei
        ranked: list[tuple[_Worth, int, PoolTransaction]] = []
        for state in self._senders.values():
            least, end = None, state.next_nonce
            for place, nonce in enumerate(sorted(state.by_nonce)):
                entry = state.by_nonce[nonce]
                tip = entry.tip(base_fee)
                least = tip if least is None else min(least, tip)
                ranked.append(((nonce < end, least), -place, entry))
        ranked.sort(key=lambda item: item[:2])
        return ranked

    def _check_delegation(self, entry: PoolTransaction, state: _Sender) -> None:
        """geth's rules: one transaction in flight for an account that is, or is about to be, delegated."""
        if state.account.has_code or entry.sender in self._authorities:
            if not state.by_nonce and entry.nonce != state.account.nonce:
                raise PoolRejection("gapped-nonce tx from delegated accounts")
            if state.by_nonce and entry.nonce not in state.by_nonce:
                raise PoolRejection("in-flight transaction limit reached for delegated accounts")
        for authority in entry.authorities:
            other = self._senders.get(authority)
            if other is not None and len(other.by_nonce) > 1:
                raise PoolRejection("authority already reserved")

    # --- Bookkeeping -------------------------------------------------------------------------------------------

    def _link(self, state: _Sender, entry: PoolTransaction) -> None:
        state.by_nonce[entry.nonce] = entry
        state.spent += entry.cost
        self._by_hash[entry.hash] = entry
        self._bytes += entry.size
        self._drops.pop(entry.hash, None)
        for authority in entry.authorities:
            self._authorities[authority] = self._authorities.get(authority, 0) + 1

    def _unlink(self, state: _Sender, entry: PoolTransaction) -> None:
        del state.by_nonce[entry.nonce]
        state.spent -= entry.cost
        del self._by_hash[entry.hash]
        self._bytes -= entry.size
        for authority in entry.authorities:
            self._authorities[authority] -= 1
            if not self._authorities[authority]:
                del self._authorities[authority]

    def _refresh(self, address: Address, state: _Sender) -> None:
        """Work out a sender's executable prefix anew, after anything but an addition."""
        self._pending_count -= len(state.pending)
        state.pending = []
        state.pending_cost = 0
        if state.by_nonce:
            self._extend_pending(state)
        else:
            self._senders.pop(address, None)
            self._long_runs.forget(address)

    def _extend_pending(self, state: _Sender) -> tuple[PoolTransaction, ...]:
        """Move what has become executable behind the executable prefix; returns it."""
        before = len(state.pending)
        while (entry := state.by_nonce.get(state.next_nonce)) is not None:
            if state.pending_cost + entry.cost > state.account.balance_wei:
                break
            state.pending.append(entry)
            state.pending_cost += entry.cost
        self._pending_count += len(state.pending) - before
        return tuple(state.pending[before:])

    def _discard_unusable(self, state: _Sender, included: Collection[bytes]) -> None:
        account = state.account
        for entry in list(state.by_nonce.values()):
            if entry.nonce < account.nonce:
                self._unlink(state, entry)
                if entry.hash not in included:
                    self._remember_drop(entry.hash, "its nonce was used by another transaction")
            elif entry.cost > account.balance_wei:
                self._unlink(state, entry)
                self._remember_drop(entry.hash, "insufficient funds for gas * price + value")

    def _discard_unfit(self) -> None:
        """After the gas limit fell or the minimum base fee rose: drop what can never be included any more."""
        for entry in list(self._by_hash.values()):
            if entry.transaction.gas_limit > self.chain.gas_limit:
                self.drop(entry.hash, "exceeds block gas limit")
            elif entry.transaction.max_fee_per_gas < self.chain.min_base_fee_wei:
                self.drop(entry.hash, "transaction gas price below minimum")

    def _remember_drop(self, transaction_hash: bytes, reason: str) -> None:
        self._drops[transaction_hash] = reason
        self._drops.move_to_end(transaction_hash)
        while len(self._drops) > MAX_REMEMBERED_DROPS:
            self._drops.popitem(last=False)


_Place = tuple[list[PoolTransaction], int]
"""A sender's executable transactions, and the first of them that is not yet chosen."""


def _best_tip_first(lines: Iterable[_Place], base_fee: int, max_count: int, max_bytes: int) -> list[PoolTransaction]:
    """Merge lines of transactions by tip, keeping the order within each; one that cannot pay ends its line."""
    heap: list[tuple[int, int, int, list[PoolTransaction]]] = []
    for line, position in lines:
        _push_next(heap, line, position, base_fee)
    chosen: list[PoolTransaction] = []
    size = 0
    while heap and len(chosen) < max_count:
        _, _, position, line = heapq.heappop(heap)
        entry = line[position]
        if size + entry.size > max_bytes:
            continue
        chosen.append(entry)
        size += entry.size
        _push_next(heap, line, position + 1, base_fee)
    return chosen


def _push_next(
    heap: list[tuple[int, int, int, list[PoolTransaction]]], line: list[PoolTransaction], position: int, base_fee: int
) -> None:
    if position >= len(line):
        return
    tip = line[position].tip(base_fee)
    if tip >= 0:
        heapq.heappush(heap, (-tip, line[position].arrival, position, line))
