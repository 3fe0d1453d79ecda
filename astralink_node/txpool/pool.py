"""The mempool: transactions that wait for a block, per sender in nonce order. Plain data and rules, no tasks.

A sender's transactions are *pending* (executable) while their nonces follow the account's without a gap and its
balance covers them all; the rest are *queued*. Building takes pending ones by best tip. When a bound is reached
the cheapest tail of any sender goes, so that an eviction never makes a gap. Limits on delegated accounts are
geth's (EIP-7702: another transaction may empty or bump such an account at any time). docs/mempool.md lists the
rules beside geth's; no change costs more than the line of its sender, whatever else is in the pool.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

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
from astralink_node.txpool.fate import Drops, Fate, Held, WaitsFor
from astralink_node.txpool.long_runs import LongRuns
from astralink_node.txpool.ranking import Leaders, Tails, best_tip_first
from astralink_node.txpool.sender_line import SenderLine
from astralink_node.types import Address


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """The bounds of the pool. At each of them a newcomer must outbid something, or is turned away."""

    max_transactions: int = 131_072
    max_bytes: int = 128 * 1024 * 1024
    max_per_sender: int = 1024
    max_queued_per_sender: int = 64
    max_queued: int = 16_384
    """Of newcomers; transactions that lose their place as executable may exceed it within the bounds above."""
    price_bump_percent: int = 10
    min_tip_wei: int = 0
    queued_lifetime_ms: int = 3 * 60 * 60 * 1000
    """How long a sender's transactions may wait for an earlier nonce or for funds, with none becoming executable."""
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


class Pool:
    """All mutable state of the mempool. Methods take and return values; none of them waits."""

    def __init__(self, limits: PoolLimits, chain: ChainView) -> None:
        self.limits = limits
        self.chain = chain
        self._by_hash: dict[bytes, PoolTransaction] = {}
        self._lines: dict[Address, SenderLine] = {}
        """Of senders with anything in the pool."""
        self._authorities: dict[Address, int] = {}
        self._bytes = 0
        self._pending_count = 0
        self._arrivals = 0
        self._now_ms = 0
        self._drops = Drops()
        self._long_runs = LongRuns()
        self._leaders = Leaders()
        self._tails = Tails()
        self._most_gas = 0
        """No transaction here wants more."""
        self._least_fee_cap: int | None = None
        """None here offers less; None: nothing has been added since the pool was looked through."""

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
        return address in self._lines

    def senders(self) -> Collection[Address]:
        return self._lines.keys()

    def pending_nonce(self, address: Address) -> int | None:
        """The nonce after a sender's executable transactions; None when the pool has nothing from it."""
        line = self._lines.get(address)
        return None if line is None else line.next_nonce

    def pending(self) -> Iterator[PoolTransaction]:
        """Executable transactions, a sender's in nonce order."""
        for line in self._lines.values():
            yield from line.pending

    def queued(self) -> Iterator[PoolTransaction]:
        for line in self._lines.values():
            yield from line.queued

    def of_sender(self, address: Address) -> tuple[Sequence[PoolTransaction], Sequence[PoolTransaction]]:
        """(executable, queued) of one sender, each in nonce order."""
        line = self._lines.get(address)
        return ((), ()) if line is None else (line.pending, line.queued)

    def fate(self, transaction_hash: bytes) -> Fate | None:
        """Where a transaction stands, or why it left; None: it was never here, was included, or is forgotten."""
        entry = self._by_hash.get(transaction_hash)
        if entry is None:
            return self._drops.get(transaction_hash)
        line = self._lines[entry.sender]
        place = line.place_of(entry)
        is_pending = place < line.executable
        missing = line.first_missing_nonce()
        if not is_pending:
            waits_for_nonce = missing < entry.nonce
            waits_for = WaitsFor.NONCE if waits_for_nonce else WaitsFor.FUNDS
            return Held(
                entry.sender,
                entry.nonce,
                is_pending=False,
                waits_for=waits_for,
                missing_nonce=missing if waits_for_nonce else None,
            )
        waits_for = WaitsFor.BLOCK
        if line.floors[place].fee_cap < self.chain.base_fee_wei:
            waits_for = WaitsFor.BASE_FEE
        elif self._long_runs.waits(entry.sender, line.nonces[0]):
            waits_for = WaitsFor.LONG_RUN
        return Held(entry.sender, entry.nonce, is_pending=True, waits_for=waits_for)

    # --- In ----------------------------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> None:
        """Time passes (Unix milliseconds): what follows happens now."""
        self._now_ms = now_ms

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
        self.tick(now_ms)
        if transaction.hash in self._by_hash:
            raise PoolRejection("already known")
        limits = self.limits
        check_transaction(
            transaction, self.chain, min_tip_wei=limits.min_tip_wei, allow_unprotected=limits.allow_unprotected
        )
        entry = PoolTransaction(transaction, sender, self._arrivals, authorities)
        line = self._lines.get(sender)
        if line is None:
            if account is None:
                raise ValueError("the account of an unknown sender is needed")
            line = SenderLine(sender, account)
        old = line.find(entry.nonce)
        check_nonce_and_balance(entry, line.account, line.spent, old.cost if old else 0)
        self._check_delegation(entry, line)
        if old is not None:
            check_replacement(old, entry, limits.price_bump_percent)
        else:
            self._check_counts(entry, line)
        for victim in self._victims(entry, line, old):
            self.drop(victim.hash, "evicted from a full pool by a better paying transaction")
        self._arrivals += 1
        # Of a sender that had nothing left but what was just evicted, the pool has forgotten the line.
        self._lines[sender] = line
        if old is not None:
            self._forget(old)
            self._drops.remember(old.hash, "replaced by a transaction with higher fees", now_ms)
        self._remember(entry)
        executable_before = line.executable
        promoted = line.put(entry)
        self._pending_count += line.executable - executable_before
        self._note(line, beats=bool(promoted))
        return tuple(promoted)

    # --- Out ---------------------------------------------------------------------------------------------------

    def can_pay(self) -> bool:
        """Whether some transaction could go into the next block."""
        return self._leaders.can_pay(self.chain.base_fee_wei)

    def best(self, *, max_count: int, max_bytes: int) -> list[PoolTransaction]:
        """Executable transactions for a block, best tip first, each sender's in nonce order.

        A sender whose next transaction cannot pay the base fee is passed over. Equal tips go by arrival.
        """
        return best_tip_first(
            self._leaders.in_order(), self._lines, self.chain.base_fee_wei, max_count=max_count, max_bytes=max_bytes
        )

    def offer(self, *, max_count: int, max_bytes: int, long_run: bool = True) -> Offer:
        """Candidates for a block: as :meth:`best`, but first what the clock stopped in an earlier one.

        Those that wait for such a turn are left out otherwise. `long_run` False: no turn, and nothing may run long.
        """
        base_fee, runs, lines = self.chain.base_fee_wei, self._long_runs, self._lines
        chosen = best_tip_first(self._in_no_turn(), lines, base_fee, max_count=max_count, max_bytes=max_bytes)
        if not long_run or (runs.is_paused and chosen):
            return Offer(tuple(chosen), first_may_run_long=False)
        turn = self._first_in_turn()
        if turn is not None:
            first = turn.entries[0]
            rest = best_tip_first(
                self._in_no_turn(),
                lines,
                base_fee,
                max_count=max_count - 1,
                max_bytes=max_bytes - first.size,
                begun=(turn, 1),
            )
            chosen = [first, *rest]
        if chosen:
            runs.begin(chosen[0].sender, chosen[0].hash)
        return Offer(tuple(chosen), first_may_run_long=bool(chosen))

    def _in_no_turn(self) -> Iterator[tuple[int, int, Address]]:
        """The leaders but for those that the clock stopped."""
        for rank in self._leaders.in_order():
            if not self._long_runs.waits(rank[2], self._lines[rank[2]].nonces[0]):
                yield rank

    def _first_in_turn(self) -> SenderLine | None:
        """The line of the sender whose turn it is; who cannot pay the base fee lets others by."""
        base_fee, runs = self.chain.base_fee_wei, self._long_runs
        for address in runs.in_turn():
            line = self._lines[address]
            if line.executable and runs.waits(address, line.nonces[0]) and line.entries[0].tip(base_fee) >= 0:
                return line
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
        self.chain = chain
        self._long_runs.on_commit(included)
        promoted: list[PoolTransaction] = []
        for update in touched:
            line = self._lines.get(update.address)
            if line is None:
                continue
            executable_before = line.executable
            used, unpayable, newly = line.follow(AccountView(update.nonce, update.balance_wei, line.account.has_code))
            for entry in used:
                self._forget(entry)
                if entry.hash not in included:
                    self._drops.remember(entry.hash, "its nonce was used by another transaction", self._now_ms)
            for entry in unpayable:
                self._forget(entry)
                self._drops.remember(entry.hash, "insufficient funds for gas * price + value", self._now_ms)
            self._pending_count += line.executable - executable_before
            self._long_runs.forget(update.address, update.nonce)
            self._note(line, beats=bool(newly))
            promoted += newly
        self._discard_unfit()
        return tuple(entry for entry in promoted if entry.hash in self._by_hash)

    def set_has_code(self, address: Address, *, has_code: bool) -> None:
        """Note that an account's delegation changed; what it already has in the pool stays."""
        line = self._lines.get(address)
        if line is not None:
            line.account = AccountView(line.account.nonce, line.account.balance_wei, has_code)

    def drop(self, transaction_hash: bytes, reason: str) -> None:
        """Remove one transaction, for example because building found that it can never be included.

        What its sender has behind it waits for its nonce then. The same transaction may be added again.
        """
        entry = self._by_hash.get(transaction_hash)
        if entry is None:
            return
        line = self._lines[entry.sender]
        executable_before = line.executable
        line.remove(entry)
        self._forget(entry)
        self._pending_count += line.executable - executable_before
        if self._long_runs.waits(entry.sender, entry.nonce):
            self._long_runs.forget(entry.sender)
        self._drops.remember(transaction_hash, reason, self._now_ms)
        self._note(line)

    def expire_queued(self, now_ms: int) -> int:
        """Drop what senders wait with whose heartbeat is older than the lifetime; returns how many.

        As in geth the time is a sender's: since something of it last became executable, or since it began to wait.
        """
        self.tick(now_ms)
        oldest_ms = now_ms - self.limits.queued_lifetime_ms
        expired = [
            entry
            for line in self._lines.values()
            if line.waits and line.heartbeat_ms < oldest_ms
            for entry in line.queued
        ]
        for entry in expired:
            self.drop(entry.hash, "waited too long for an earlier nonce or for funds")
        return len(expired)

    # --- Bounds ------------------------------------------------------------------------------------------------

    def _check_counts(self, entry: PoolTransaction, line: SenderLine) -> None:
        """Of what is no replacement."""
        limits, pooled = self.limits, len(line.entries)
        if pooled >= limits.max_per_sender:
            raise PoolRejection(f"account limit exceeded: pooled {pooled}, limit {limits.max_per_sender}")
        if entry.nonce <= line.next_nonce:
            return
        if line.queued_count >= limits.max_queued_per_sender:
            raise PoolRejection(
                f"account limit exceeded: queued {line.queued_count}, limit {limits.max_queued_per_sender}"
            )
        if self.queued_count >= limits.max_queued:
            raise PoolRejection("txpool is full: too many transactions wait for an earlier nonce")

    def _victims(self, entry: PoolTransaction, line: SenderLine, old: PoolTransaction | None) -> list[PoolTransaction]:
        """The cheapest that must go for a newcomer to fit. PoolRejection if they are not all cheaper than it is."""
        limits, base_fee = self.limits, self.chain.base_fee_wei
        surplus = len(self._by_hash) + (old is None) - limits.max_transactions
        surplus_bytes = self._bytes + entry.size - (old.size if old else 0) - limits.max_bytes
        if surplus <= 0 and surplus_bytes <= 0:
            return []
        floors = line.floors_with(entry)
        is_executable = entry.nonce <= line.next_nonce
        tip = min(floors.tip_cap, floors.fee_cap - base_fee)
        victims: list[PoolTransaction] = []
        lengths: dict[Address, int] = {}
        """Of lines that would lose something, what would be left of them."""
        try:
            while surplus > 0 or surplus_bytes > 0:
                cheapest = self._tails.cheapest(base_fee)
                if cheapest is None or cheapest[0] >= (is_executable, tip):
                    raise _outbid(is_executable, tip, cheapest and cheapest[0])
                loser = self._lines[cheapest[1]]
                length = lengths.get(loser.address, len(loser.entries)) - 1
                lengths[loser.address] = length
                self._tails.note(loser.address, loser, length)
                victim = loser.entries[length]
                # Of its own sender only what stands behind it; what stands before is worth no less than it.
                if loser is not line or victim.nonce > entry.nonce:
                    victims.append(victim)
                    surplus -= 1
                    surplus_bytes -= victim.size
        finally:
            for address in lengths:
                loser = self._lines[address]
                self._tails.note(address, loser, len(loser.entries))
        return victims

    def _check_delegation(self, entry: PoolTransaction, line: SenderLine) -> None:
        """geth's rules: one transaction in flight for an account that is, or is about to be, delegated."""
        if line.account.has_code or entry.sender in self._authorities:
            if not line.executable:
                if entry.nonce != line.account.nonce:
                    raise PoolRejection("gapped-nonce tx from delegated accounts")
            elif not line.account.nonce <= entry.nonce < line.next_nonce:
                raise PoolRejection("in-flight transaction limit reached for delegated accounts")
        for authority in entry.authorities:
            other = self._lines.get(authority)
            if other is not None and len(other.entries) > 1:
                raise PoolRejection("authority already reserved")

    # --- Bookkeeping -------------------------------------------------------------------------------------------

    def _remember(self, entry: PoolTransaction) -> None:
        self._by_hash[entry.hash] = entry
        self._bytes += entry.size
        self._drops.forget(entry.hash)
        self._most_gas = max(self._most_gas, entry.transaction.gas_limit)
        fee_cap = entry.transaction.max_fee_per_gas
        if self._least_fee_cap is None or fee_cap < self._least_fee_cap:
            self._least_fee_cap = fee_cap
        for authority in entry.authorities:
            self._authorities[authority] = self._authorities.get(authority, 0) + 1

    def _forget(self, entry: PoolTransaction) -> None:
        del self._by_hash[entry.hash]
        self._bytes -= entry.size
        for authority in entry.authorities:
            self._authorities[authority] -= 1
            if not self._authorities[authority]:
                del self._authorities[authority]

    def _note(self, line: SenderLine, *, beats: bool = False) -> None:
        """A line changed: bring everything into step that is kept by sender. `beats`: something became executable."""
        address, length = line.address, len(line.entries)
        if not length:
            del self._lines[address]
            self._long_runs.forget(address)
        waits = length > line.executable
        if beats or (waits and not line.waits):
            line.heartbeat_ms = self._now_ms
        line.waits = waits
        self._leaders.note(address, line.entries[0] if line.executable else None)
        self._tails.note(address, line, length)

    def _discard_unfit(self) -> None:
        """Drop what can never be included any more, after the gas limit fell or the minimum base fee rose."""
        chain = self.chain
        too_cheap = self._least_fee_cap is not None and self._least_fee_cap < chain.min_base_fee_wei
        if self._most_gas <= chain.gas_limit and not too_cheap:
            return
        for entry in list(self._by_hash.values()):
            if entry.transaction.gas_limit > chain.gas_limit:
                self.drop(entry.hash, "exceeds block gas limit")
            elif entry.transaction.max_fee_per_gas < chain.min_base_fee_wei:
                self.drop(entry.hash, "transaction gas price below minimum")
        kept = [entry.transaction for entry in self._by_hash.values()]
        self._most_gas = max((each.gas_limit for each in kept), default=0)
        self._least_fee_cap = min((each.max_fee_per_gas for each in kept), default=None)


def _outbid(is_executable: bool, tip: int, cheapest: tuple[bool, int] | None) -> PoolRejection:
    """In geth's words: it pays too little, or it would have to displace what can be executed although it cannot."""
    if cheapest is None:
        return PoolRejection("txpool is full: the transaction is larger than all that it may displace")
    if not is_executable and cheapest[0] and tip > cheapest[1]:
        return PoolRejection("future transaction tries to replace pending")
    return PoolRejection("transaction underpriced: the pool is full of better paying ones")
