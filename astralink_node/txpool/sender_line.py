"""One sender's transactions in the mempool, in nonce order, and how many of them can be executed.

Plain bookkeeping: whether a transaction may enter, and what else has to change with it, the pool decides.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import NamedTuple

from astralink_node.txpool.admission import AccountView, PoolTransaction
from astralink_node.types import Address


class Floors(NamedTuple):
    """The least of each fee field among a transaction and those in front of it.

    A transaction cannot be had before those in front of it, so at a base fee it is worth no more than the least
    tip among them, which is the lesser of `tip_cap` and `fee_cap` less the base fee.
    """

    tip_cap: int
    fee_cap: int


@dataclass(slots=True)
class SenderLine:
    """The lists are parallel and ascend by nonce; no nonce is below the account's."""

    address: Address
    account: AccountView
    entries: list[PoolTransaction] = field(default_factory=list)
    nonces: list[int] = field(default_factory=list)
    floors: list[Floors] = field(default_factory=list)
    spent: int = 0
    """Cost of all entries."""
    executable: int = 0
    """How many entries, from the front, follow the account's nonce without a gap and are covered by its balance."""
    executable_cost: int = 0
    heartbeat_ms: int = 0
    """When something last became executable, or else when the first of those that wait now began to."""
    waits: bool = False
    """Whether anything was queued when the pool last looked."""

    @property
    def queued_count(self) -> int:
        return len(self.entries) - self.executable

    @property
    def next_nonce(self) -> int:
        """After the executable ones."""
        return self.account.nonce + self.executable

    @property
    def pending(self) -> list[PoolTransaction]:
        return self.entries[: self.executable]

    @property
    def queued(self) -> list[PoolTransaction]:
        return self.entries[self.executable :]

    def find(self, nonce: int) -> PoolTransaction | None:
        place = bisect_left(self.nonces, nonce)
        return self.entries[place] if place < len(self.nonces) and self.nonces[place] == nonce else None

    def place_of(self, entry: PoolTransaction) -> int:
        """Of an entry that is here."""
        return bisect_left(self.nonces, entry.nonce)

    def floors_with(self, entry: PoolTransaction) -> Floors:
        """What its floors would be if it stood here."""
        place = bisect_left(self.nonces, entry.nonce)
        return _floors_after(self.floors[place - 1] if place else None, entry)

    def first_missing_nonce(self) -> int:
        """The lowest nonce from the account's on that nothing here has."""
        nonce = self.account.nonce
        for present in self.nonces:
            if present != nonce:
                break
            nonce += 1
        return nonce

    # --- Changes -------------------------------------------------------------------------------------------------

    def put(self, entry: PoolTransaction) -> list[PoolTransaction]:
        """Add, or replace what has the same nonce; returns what became executable through it."""
        nonce = entry.nonce
        place = bisect_left(self.nonces, nonce)
        if place < len(self.nonces) and self.nonces[place] == nonce:
            before = self.executable
            self.spent += entry.cost - self.entries[place].cost
            self.entries[place] = entry
            self._settle_floors(place)
            self._settle_executable()
            changed = [entry] if place < min(before, self.executable) else []
            return changed + self.entries[before : self.executable]
        self.entries.insert(place, entry)
        self.nonces.insert(place, nonce)
        self.spent += entry.cost
        self._settle_floors(place)
        return self._extend()

    def remove(self, entry: PoolTransaction) -> None:
        place = self.place_of(entry)
        if place < self.executable:
            self.executable_cost -= sum(each.cost for each in self.entries[place : self.executable])
            self.executable = place
        del self.entries[place], self.nonces[place]
        self.spent -= entry.cost
        self._settle_floors(place)

    def follow(
        self, account: AccountView
    ) -> tuple[list[PoolTransaction], list[PoolTransaction], list[PoolTransaction]]:
        """The account changed: (entries whose nonce it has used, entries that cost more than it has, newly executable).

        The first two have left.
        """
        self.account = account
        executable_until = self.nonces[self.executable - 1] + 1 if self.executable else 0
        used_count = bisect_left(self.nonces, account.nonce)
        used, unpayable = self.entries[:used_count], []
        if used_count:
            del self.entries[:used_count], self.nonces[:used_count]
            self.spent -= sum(entry.cost for entry in used)
        if self.spent > account.balance_wei:
            unpayable = [entry for entry in self.entries if entry.cost > account.balance_wei]
            if unpayable:
                self.entries = [entry for entry in self.entries if entry.cost <= account.balance_wei]
                self.nonces = [entry.nonce for entry in self.entries]
                self.spent -= sum(entry.cost for entry in unpayable)
        if used or unpayable:
            self._settle_floors(0)
        self._settle_executable()
        newly = [entry for entry in self.pending if entry.nonce >= executable_until]
        return used, unpayable, newly

    def _settle_executable(self) -> None:
        self.executable = self.executable_cost = 0
        self._extend()

    def _extend(self) -> list[PoolTransaction]:
        """Count in what can be executed behind what is known to be; returns it."""
        before = place = self.executable
        nonce, budget = self.account.nonce + place, self.account.balance_wei - self.executable_cost
        while place < len(self.nonces) and self.nonces[place] == nonce:
            cost = self.entries[place].cost
            if cost > budget:
                break
            budget -= cost
            place += 1
            nonce += 1
        self.executable = place
        self.executable_cost = self.account.balance_wei - budget
        return self.entries[before:place]

    def _settle_floors(self, start: int) -> None:
        """Work them out anew from a place on."""
        floors = self.floors
        del floors[start:]
        last = floors[-1] if floors else None
        for entry in self.entries[start:]:
            last = _floors_after(last, entry)
            floors.append(last)


def _floors_after(before: Floors | None, entry: PoolTransaction) -> Floors:
    tip_cap, fee_cap = entry.transaction.max_priority_fee_per_gas, entry.transaction.max_fee_per_gas
    if before is None:
        return Floors(tip_cap, fee_cap)
    if before.tip_cap <= tip_cap and before.fee_cap <= fee_cap:
        return before
    return Floors(min(before.tip_cap, tip_cap), min(before.fee_cap, fee_cap))
