"""Virtual time, chance and order of a simulated network: everything that happens follows from one seed.

Events run in the order of their time, and of their making where times are equal. Nothing here or above it may ask the
machine for time, chance or hashes; the digest over all that happened tells whether two runs were the same.
"""

from collections.abc import Callable
from hashlib import blake2b
from heapq import heappop, heappush
from random import Random
from typing import Any

from tests.simulation.blocks import GENESIS

_Event = tuple[int, int, Callable[..., None], tuple[Any, ...]]


class World:
    """Times are whole milliseconds; the first is that of the genesis block."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.now_ms = GENESIS.time_ms
        self._events: list[_Event] = []
        self._made = 0
        self._trace = blake2b(digest_size=16)

    @property
    def elapsed_ms(self) -> int:
        return self.now_ms - GENESIS.time_ms

    def after(self, delay_ms: int, action: Callable[..., None], *arguments: Any) -> None:
        """Call `action(*arguments)` when that time has passed."""
        self._made += 1
        heappush(self._events, (self.now_ms + delay_ms, self._made, action, arguments))

    def run(self, is_over: Callable[[], bool], deadline_ms: int) -> bool:
        """Until `is_over` (asked after each event), at most that long after genesis; whether it was over in time."""
        events, end = self._events, GENESIS.time_ms + deadline_ms
        while not is_over():
            if not events or events[0][0] > end:
                return False
            self.now_ms, _, action, arguments = heappop(events)
            action(*arguments)
        return True

    def trace(self, what: bytes) -> None:
        """Make `what` and its time part of the digest."""
        self._trace.update(b"%d " % self.now_ms + what)

    def digest(self) -> str:
        return self._trace.hexdigest()

    def below(self, bound: int) -> int:
        """A whole number from 0 to bound - 1. (Random.randrange takes five times as long.)"""
        return int(self.chance.random() * bound)

    def chances(self, share: float) -> bool:
        return share > 0 and self.chance.random() < share
