"""What a gateway asks the node about its mempool beyond single transactions. Part of gateway.link_messages' unions.

A mempool can be a hundred times larger than an answer should be, so its content comes in pages: a gateway asks whose
transactions there are, and then for those of some senders at a time. Between pages the mempool moves on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_PAGE_SENDERS: Final = 512
"""In one request; a page ends behind the last of them at the latest."""
MAX_PAGE_BYTES: Final = 128 * 1024
"""Of transactions in one page, if it is more than one: a few milliseconds of work for the node."""


@dataclass(frozen=True, slots=True)
class HeldTransaction:
    raw_transaction: bytes
    sender: bytes


@dataclass(frozen=True, slots=True)
class GetPoolSenders:
    pass


@dataclass(frozen=True, slots=True)
class PoolSenders:
    addresses: bytes
    """Of everybody with a transaction in the mempool, 20 bytes each, in no particular order."""


@dataclass(frozen=True, slots=True)
class GetPoolPage:
    senders: tuple[bytes, ...]
    """Addresses; those beyond MAX_PAGE_SENDERS are not looked at."""
    first_nonce: int
    """Of the first sender; the others' are told from the beginning."""


@dataclass(frozen=True, slots=True)
class PoolPage:
    """Executable transactions, and those that wait for an earlier nonce or for funds; a sender's in nonce order."""

    pending: tuple[HeldTransaction, ...]
    queued: tuple[HeldTransaction, ...]
    senders_told: int
    """How many of those asked for are told completely."""
    next_nonce: int
    """Where to go on with the one after them."""


@dataclass(frozen=True, slots=True)
class GetTransactionFate:
    transaction_hash: bytes


@dataclass(frozen=True, slots=True)
class HeldFate:
    """txpool.fate.Held: the mempool has it."""

    sender: bytes
    nonce: int
    is_pending: bool
    """Else queued."""
    waits_for: str
    """One of txpool.fate.WaitsFor."""
    missing_nonce: int | None = None
    """The lowest, of a queued transaction that waits for one."""


@dataclass(frozen=True, slots=True)
class DroppedFate:
    """txpool.fate.Dropped: it left without being included."""

    reason: str
    at_ms: int
    """Unix time in milliseconds."""


@dataclass(frozen=True, slots=True)
class PoolFate:
    """What the mempool knows of a transaction."""

    told: HeldFate | DroppedFate | None
    """None: it remembers nothing of it."""
