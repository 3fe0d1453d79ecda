"""Which transaction begins a block because the clock stopped it in an earlier one, and when one may run long.

A block's first transaction may run far longer than the rest of a block is given (chain.building). Two rules keep
that from being a free way to slow the chain down. A transaction is in the way of others only once: from when the
clock stopped it until its turn to be first it is offered to no block. And a long run is paid for when its
transaction is included; after one that was not (it took too long even so, or its block was never committed) the
next waits PAUSE_BLOCKS blocks, unless no other transaction waits. Turns go in the order of being stopped, so with
MAX_WAITING in front a turn comes within MAX_WAITING * (PAUSE_BLOCKS + 1) blocks of this proposer's chain at worst.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import Final

from astralink_node.types import Address

MAX_WAITING: Final = 256
"""Senders whose transaction waits for its turn; what is stopped when so many wait leaves the pool."""

PAUSE_BLOCKS: Final = 8
"""Blocks without a long run after one that nobody paid for: at most one block in nine is slow for free."""


class LongRuns:
    """The turns. They are a sender's at one nonce: a replacement at that nonce takes them over."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Address, int] = OrderedDict()
        self._pause_blocks = 0
        self._unpaid: bytes | None = None
        """Hash of what was last allowed to run long, until it is included."""

    @property
    def is_paused(self) -> bool:
        return self._pause_blocks > 0

    def waits(self, sender: Address, nonce: int) -> bool:
        return self._waiting.get(sender) == nonce

    def in_turn(self) -> Iterator[Address]:
        """Senders that wait, the longest-waiting first."""
        yield from self._waiting

    def put_off(self, sender: Address, nonce: int) -> bool:
        """The clock stopped this sender's transaction. False: too many wait already, so it cannot."""
        if sender not in self._waiting and len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting[sender] = nonce
        return True

    def begin(self, sender: Address, transaction_hash: bytes) -> None:
        """A block is about to be built that begins with this transaction, which may run long; its turn is taken."""
        self._waiting.pop(sender, None)
        self._unpaid = transaction_hash

    def forget(self, sender: Address, below_nonce: int | None = None) -> None:
        """The sender has nothing in the pool any more, or nothing below a nonce."""
        nonce = self._waiting.get(sender)
        if nonce is not None and (below_nonce is None or nonce < below_nonce):
            del self._waiting[sender]

    def on_commit(self, included: Collection[bytes]) -> None:
        """Another block was committed."""
        self._pause_blocks = max(0, self._pause_blocks - 1)
        if self._unpaid is not None:
            if self._unpaid not in included:
                self._pause_blocks = PAUSE_BLOCKS
            self._unpaid = None
