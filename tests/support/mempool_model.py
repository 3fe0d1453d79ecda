"""The mempool's rules once more, as docs/mempool.md states them, and as naively as can be.

One list of transactions; everything else is worked out from it whenever it is asked for. Nothing here is taken from
astralink_node.txpool: what the two agree on, the page says.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

ADDRESS = bytes


@dataclass(frozen=True)
class Item:
    """A transaction as far as the mempool looks at it."""

    hash: bytes
    sender: ADDRESS
    nonce: int
    tip_cap: int
    fee_cap: int
    gas: int
    value: int
    size: int
    authorities: frozenset[ADDRESS] = frozenset()
    arrival: int = -1

    @property
    def cost(self) -> int:
        return self.gas * self.fee_cap + self.value

    def tip(self, base_fee: int) -> int:
        return min(self.tip_cap, self.fee_cap - base_fee)


@dataclass(frozen=True)
class Account:
    nonce: int = 0
    balance: int = 0
    delegated: bool = False


@dataclass(frozen=True)
class Limits:
    transactions: int
    size: int
    per_sender: int
    queued_per_sender: int
    queued: int
    bump_percent: int
    min_tip: int
    lifetime_ms: int
    pause_blocks: int


@dataclass(frozen=True)
class Chain:
    gas_limit: int
    base_fee: int
    min_base_fee: int


class Refused(Exception):
    """With the first words of the refusal."""


@dataclass
class MempoolModel:
    limits: Limits
    chain: Chain
    accounts: dict[ADDRESS, Account]
    items: list[Item] = field(default_factory=list)
    dropped: dict[bytes, str] = field(default_factory=dict)
    beats: dict[ADDRESS, int] = field(default_factory=dict)
    now_ms: int = 0
    arrivals: int = 0
    turns: list[tuple[ADDRESS, int]] = field(default_factory=list)
    """(sender, nonce) of what the clock stopped, the longest ago first."""
    pause: int = 0
    unpaid: bytes | None = None

    # --- What follows from the list --------------------------------------------------------------------------------

    def line(self, sender: ADDRESS) -> list[Item]:
        return sorted((item for item in self.items if item.sender == sender), key=lambda item: item.nonce)

    def pending(self, sender: ADDRESS) -> list[Item]:
        account, found, cost = self.accounts[sender], [], 0
        for item in self.line(sender):
            cost += item.cost
            if item.nonce != account.nonce + len(found) or cost > account.balance:
                break
            found.append(item)
        return found

    def queued(self, sender: ADDRESS) -> list[Item]:
        return self.line(sender)[len(self.pending(sender)) :]

    def all_pending(self) -> list[Item]:
        return [item for sender in self.accounts for item in self.pending(sender)]

    def all_queued(self) -> list[Item]:
        return [item for sender in self.accounts for item in self.queued(sender)]

    def next_nonce(self, sender: ADDRESS) -> int | None:
        return self.accounts[sender].nonce + len(self.pending(sender)) if self.line(sender) else None

    def missing_nonce(self, sender: ADDRESS) -> int:
        nonces = {item.nonce for item in self.line(sender)}
        nonce = self.accounts[sender].nonce
        while nonce in nonces:
            nonce += 1
        return nonce

    def waits_for(self, item: Item) -> str:
        line, pending = self.line(item.sender), self.pending(item.sender)
        if item not in pending:
            return "nonce" if self.missing_nonce(item.sender) < item.nonce else "funds"
        if any(each.fee_cap < self.chain.base_fee for each in line[: line.index(item) + 1]):
            return "baseFee"
        return "longRun" if (item.sender, line[0].nonce) in self.turns else "block"

    # --- In --------------------------------------------------------------------------------------------------------

    def add(self, new: Item) -> None:
        """Raises Refused, with nothing changed."""
        limits, account = self.limits, self.accounts[new.sender]
        line, pending = self.line(new.sender), self.pending(new.sender)
        old = next((item for item in line if item.nonce == new.nonce), None)
        self._check_alone(new)
        if new.nonce < account.nonce:
            raise Refused("nonce too low")
        if new.cost + sum(item.cost for item in line if item is not old) > account.balance:
            raise Refused("insufficient funds for gas * price + value")
        self._check_delegation(new, account, pending)
        if old is not None:
            for before, after in ((old.fee_cap, new.fee_cap), (old.tip_cap, new.tip_cap)):
                if after <= before or after < before + before * limits.bump_percent // 100:
                    raise Refused("replacement transaction underpriced")
        elif len(line) >= limits.per_sender:
            raise Refused("account limit exceeded: pooled")
        elif new.nonce > account.nonce + len(pending):
            if len(line) - len(pending) >= limits.queued_per_sender:
                raise Refused("account limit exceeded: queued")
            if len(self.all_queued()) >= limits.queued:
                raise Refused("txpool is full: too many")
        victims = self._victims(new, old)
        for victim in victims:
            self.remove(victim, "evicted")
        before = self._standing()
        if old is not None:
            self.items.remove(old)
            self.dropped[old.hash] = "replaced"
        self.items.append(replace(new, arrival=self.arrivals))
        self.arrivals += 1
        self.dropped.pop(new.hash, None)
        self._settle(before)

    def _check_alone(self, new: Item) -> None:
        if any(item.hash == new.hash for item in self.items):
            raise Refused("already known")
        if new.gas > self.chain.gas_limit:
            raise Refused("exceeds block gas limit")
        if new.tip_cap > new.fee_cap:
            raise Refused("max priority fee per gas higher than max fee per gas")
        if new.tip_cap < self.limits.min_tip or new.fee_cap < self.chain.min_base_fee:
            raise Refused("transaction gas price below minimum")

    def _check_delegation(self, new: Item, account: Account, pending: list[Item]) -> None:
        if account.delegated or any(new.sender in item.authorities for item in self.items):
            if not pending and new.nonce != account.nonce:
                raise Refused("gapped-nonce tx from delegated accounts")
            if pending and new.nonce not in [item.nonce for item in pending]:
                raise Refused("in-flight transaction limit reached for delegated accounts")
        if any(len(self.line(authority)) > 1 for authority in new.authorities):
            raise Refused("authority already reserved")

    def _victims(self, new: Item, old: Item | None) -> list[Item]:
        count = len(self.items) + (old is None)
        size = sum(item.size for item in self.items) + new.size - (old.size if old else 0)
        if count <= self.limits.transactions and size <= self.limits.size:
            return []
        base_fee, next_nonce = self.chain.base_fee, self.accounts[new.sender].nonce + len(self.pending(new.sender))
        ahead = [item.tip(base_fee) for item in self.line(new.sender) if item.nonce < new.nonce]
        worth = (new.nonce <= next_nonce, min([new.tip(base_fee), *ahead]))
        ranked = []
        for sender in self.accounts:
            line, executable = self.line(sender), len(self.pending(sender))
            for place, item in enumerate(line):
                least = min(each.tip(base_fee) for each in line[: place + 1])
                ranked.append(((place < executable, least), -place, -item.arrival, item))
        ranked.sort(key=lambda entry: entry[:3])
        victims: list[Item] = []
        cheaper = [entry for entry in ranked if entry[0] < worth]
        for *_, item in cheaper:
            if count <= self.limits.transactions and size <= self.limits.size:
                break
            if item.sender != new.sender or item.nonce > new.nonce:
                victims.append(item)
                count -= 1
                size -= item.size
        if count > self.limits.transactions or size > self.limits.size:
            left = ranked[len(cheaper) :]
            if not left:
                raise Refused("txpool is full")
            if not worth[0] and left[0][0][0] and worth[1] > left[0][0][1]:
                raise Refused("future transaction tries to replace pending")
            raise Refused("transaction underpriced")
        return victims

    # --- Out -------------------------------------------------------------------------------------------------------

    def best(self, max_count: int, max_size: int, *, but: frozenset[ADDRESS] = frozenset()) -> list[Item]:
        return self._merge({who: self.pending(who) for who in self.accounts if who not in but}, max_count, max_size)

    def _merge(self, lines: dict[ADDRESS, list[Item]], max_count: int, max_size: int) -> list[Item]:
        chosen: list[Item] = []
        while len(chosen) < max_count:
            heads = [line[0] for line in lines.values() if line and line[0].tip(self.chain.base_fee) >= 0]
            if not heads:
                break
            first = min(heads, key=lambda item: (-item.tip(self.chain.base_fee), item.arrival))
            if sum(item.size for item in chosen) + first.size > max_size:
                lines[first.sender] = []
                continue
            chosen.append(first)
            lines[first.sender] = lines[first.sender][1:]
        return chosen

    def offer(self, max_count: int, *, long_run: bool) -> tuple[list[Item], bool]:
        waiting = frozenset(who for who, nonce in self.turns if self.line(who)[0].nonce == nonce)
        others = self.best(max_count, 10**9, but=waiting)
        if not long_run or (self.pause and others):
            return others, False
        in_turn = [self.pending(who)[:1] for who, _ in self.turns if who in waiting]
        payable = [head[0] for head in in_turn if head and head[0].tip(self.chain.base_fee) >= 0]
        if payable:
            first = payable[0]
            lines = {who: self.pending(who) for who in self.accounts if who not in waiting}
            lines[first.sender] = self.pending(first.sender)[1:]
            others = [first, *self._merge(lines, max_count - 1, 10**9)]
        if others:
            self.turns = [turn for turn in self.turns if turn[0] != others[0].sender]
            self.unpaid = others[0].hash
        return others, bool(others)

    def put_off(self, item: Item) -> None:
        if any(who == item.sender for who, _ in self.turns):
            self.turns = [(who, item.nonce if who == item.sender else nonce) for who, nonce in self.turns]
        else:
            self.turns.append((item.sender, item.nonce))

    def remove(self, item: Item, reason: str) -> None:
        before = self._standing()
        self.items.remove(item)
        self.dropped[item.hash] = reason
        self.turns = [turn for turn in self.turns if turn != (item.sender, item.nonce)]
        self._settle(before)

    def commit(self, touched: dict[ADDRESS, Account], included: set[bytes], chain: Chain) -> None:
        before = self._standing()
        self.chain = chain
        self.pause = max(0, self.pause - 1)
        if self.unpaid is not None and self.unpaid not in included:
            self.pause = self.limits.pause_blocks
        self.unpaid = None
        self.accounts |= touched
        for item in list(self.items):
            account = self.accounts[item.sender]
            if item.nonce < account.nonce:
                self.items.remove(item)
                if item.hash not in included:
                    self.dropped[item.hash] = "its nonce was used"
            elif item.cost > account.balance:
                self.items.remove(item)
                self.dropped[item.hash] = "insufficient funds"
        self.turns = [(who, nonce) for who, nonce in self.turns if nonce >= self.accounts[who].nonce]
        self._settle(before)
        for item in list(self.items):
            if item.gas > chain.gas_limit:
                self.remove(item, "exceeds block gas limit")
            elif item.fee_cap < chain.min_base_fee:
                self.remove(item, "transaction gas price below minimum")

    def expire(self) -> None:
        for sender in self.accounts:
            if self.queued(sender) and self.now_ms - self.beats[sender] > self.limits.lifetime_ms:
                for item in self.queued(sender):
                    self.remove(item, "waited too long")

    # --- Heartbeats ------------------------------------------------------------------------------------------------

    def _standing(self) -> dict[ADDRESS, tuple[set[bytes], bool]]:
        """By sender: what is pending, and whether anything is queued."""
        return {who: ({item.hash for item in self.pending(who)}, bool(self.queued(who))) for who in self.accounts}

    def _settle(self, before: dict[ADDRESS, tuple[set[bytes], bool]]) -> None:
        for who, (pending, queued) in self._standing().items():
            if pending - before[who][0] or (queued and not before[who][1]):
                self.beats[who] = self.now_ms
            if not self.line(who):
                self.turns = [turn for turn in self.turns if turn[0] != who]
