"""Who goes first into a block, and who goes first out of a full pool: orders that no new base fee upsets.

Both are kept by sender and change only where a sender's line does. What a transaction tips is the lesser of its tip
cap and of what its fee cap leaves above the base fee; the orders are by the caps, and the base fee is applied to as
few of them as it takes. Neither order looks at anything but what :meth:`note` was given.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from astralink_node.txpool.admission import PoolTransaction
from astralink_node.txpool.sender_line import SenderLine
from astralink_node.types import Address

MAX_STALE_ENTRIES: Final = 64
"""A heap is cleared of outdated entries when they are this many more than the others."""

Worth = tuple[bool, int]
"""(executable, least tip at the next base fee up to this nonce): what a transaction is worth to the pool."""

_Rank = tuple[int, int, Address]
"""(minus tip cap, arrival, sender): of a sender's first transaction; the least goes first."""


class Leaders:
    """Senders of something executable, by the tip cap of the first transaction of each; equal ones by arrival."""

    def __init__(self) -> None:
        self._order: list[_Rank] = []
        self._ranks: dict[Address, _Rank] = {}
        self._by_fee_cap: list[tuple[int, _Rank]] = []
        """A heap of (minus fee cap, rank); outdated where the rank is not its sender's any more."""

    def note(self, address: Address, first: PoolTransaction | None) -> None:
        """A sender's first executable transaction may be another one now; None: nothing of it can be executed."""
        known = self._ranks.get(address)
        if first is None:
            if known is not None:
                del self._ranks[address]
                del self._order[bisect_left(self._order, known)]
            return
        if known is not None:
            if known[1] == first.arrival:
                return
            del self._order[bisect_left(self._order, known)]
        rank = (-first.transaction.max_priority_fee_per_gas, first.arrival, address)
        self._ranks[address] = rank
        insort(self._order, rank)
        heapq.heappush(self._by_fee_cap, (-first.transaction.max_fee_per_gas, rank))
        if len(self._by_fee_cap) > 2 * len(self._ranks) + MAX_STALE_ENTRIES:
            self._by_fee_cap = [entry for entry in self._by_fee_cap if self._is_current(entry)]
            heapq.heapify(self._by_fee_cap)

    def can_pay(self, base_fee: int) -> bool:
        """Whether the first transaction of any sender can."""
        while self._by_fee_cap and not self._is_current(self._by_fee_cap[0]):
            heapq.heappop(self._by_fee_cap)
        return bool(self._by_fee_cap) and -self._by_fee_cap[0][0] >= base_fee

    def in_order(self) -> Iterator[_Rank]:
        """Must not be changed meanwhile."""
        return iter(self._order)

    def _is_current(self, entry: tuple[int, _Rank]) -> bool:
        return self._ranks.get(entry[1][2]) is entry[1]


_TailKey = tuple[int, int, int, Address]
"""(a floor of the line, minus place in it, minus arrival, sender): of equals those behind go before those in front."""


class Tails:
    """The last transaction of every sender, the cheapest first: those that wait before those that can be executed.

    What a line's last transaction is worth at a base fee is the lesser of the line's least tip cap and of its least
    fee cap less the base fee. So the cheapest of all is the first by the one or by the other, at every base fee.
    """

    def __init__(self) -> None:
        self._current: dict[Address, tuple[bool, _TailKey, _TailKey]] = {}
        """By sender: whether the tail can be executed, its key by tip cap, its key by fee cap."""
        self._heaps: dict[tuple[bool, int], list[_TailKey]] = {
            (executable, which): [] for executable in (False, True) for which in (1, 2)
        }
        """By (executable, place of the key in `_current`); outdated where that holds another key."""

    def note(self, address: Address, line: SenderLine | None, length: int = 0) -> None:
        """A sender's line may end elsewhere now: after `length` entries. None or 0: there is none."""
        if line is None or not length:
            self._current.pop(address, None)
            return
        place = length - 1
        floors, arrival = line.floors[place], line.entries[place].arrival
        executable = length <= line.executable
        known = self._current.get(address)
        by_tip, by_fee = (floors.tip_cap, -place, -arrival, address), (floors.fee_cap, -place, -arrival, address)
        if known is not None and known == (executable, by_tip, by_fee):
            return
        self._current[address] = (executable, by_tip, by_fee)
        for which, key in ((1, by_tip), (2, by_fee)):
            heap = self._heaps[executable, which]
            heapq.heappush(heap, key)
            if len(heap) > 2 * len(self._current) + MAX_STALE_ENTRIES:
                is_current = self._check(executable, which)
                heap[:] = [entry for entry in heap if is_current(entry)]
                heapq.heapify(heap)

    def cheapest(self, base_fee: int) -> tuple[Worth, Address] | None:
        """What the cheapest tail is worth, and whose it is."""
        for executable in (False, True):
            for which in (1, 2):
                heap, is_current = self._heaps[executable, which], self._check(executable, which)
                while heap and not is_current(heap[0]):
                    heapq.heappop(heap)
            by_tip, by_fee = self._heaps[executable, 1], self._heaps[executable, 2]
            if by_tip:
                floor, behind, newest, address = by_fee[0]
                least = min(by_tip[0], (floor - base_fee, behind, newest, address))
                return (executable, least[0]), least[3]
        return None

    def _check(self, executable: bool, which: int) -> Callable[[_TailKey], bool]:
        current = self._current

        def is_current(key: _TailKey) -> bool:
            known = current.get(key[3])
            return known is not None and known[0] is executable and known[which] is key

        return is_current


_Next = tuple[int, int, int, SenderLine]
"""(minus tip, arrival, place, line): what a line has next to give."""


def best_tip_first(
    leaders: Iterator[_Rank],
    lines: Mapping[Address, SenderLine],
    base_fee: int,
    *,
    max_count: int,
    max_bytes: int,
    begun: tuple[SenderLine, int] | None = None,
) -> list[PoolTransaction]:
    """Executable transactions by tip, keeping the order within each line; one that cannot pay ends its line.

    `begun` is a line that is not among the leaders, and how many of it are taken already. Leaders are read only as
    far as one of them can be next: none behind tips more than its tip cap.
    """
    heap: list[_Next] = []
    if begun is not None:
        _push_next(heap, *begun, base_fee)
    upcoming = next(leaders, None)
    chosen: list[PoolTransaction] = []
    size = 0
    while len(chosen) < max_count:
        while upcoming is not None and (not heap or upcoming[:2] < heap[0][:2]):
            _push_next(heap, lines[upcoming[2]], 0, base_fee)
            upcoming = next(leaders, None)
        if not heap:
            break
        _, _, place, line = heapq.heappop(heap)
        entry = line.entries[place]
        if size + entry.size > max_bytes:
            continue
        chosen.append(entry)
        size += entry.size
        _push_next(heap, line, place + 1, base_fee)
    return chosen


def _push_next(heap: list[_Next], line: SenderLine, place: int, base_fee: int) -> None:
    if place < line.executable:
        entry = line.entries[place]
        tip = entry.tip(base_fee)
        if tip >= 0:
            heapq.heappush(heap, (-tip, entry.arrival, place, line))
