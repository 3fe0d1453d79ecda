"""Questions to the explorer index and their answers: part of the queries of chain.messages.

Answers say how far the index holds: a gap is refused with :class:`IndexIncomplete`, and what was indexed without
internal calls, or lies below the oldest block of this node, is named in the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_SEARCH_PAGE: Final = 25
"""Erigon's default for Otterscan's pages, and what Otterscan asks for."""


@dataclass(frozen=True, slots=True)
class AddressSearch:
    """A page of the transactions in which an address takes part; the selector is ignored."""

    address: bytes
    height: int
    """Exclusive; 0 begins at the head, or at genesis when searching forward."""
    forward: bool
    page_size: int
    """At most MAX_SEARCH_PAGE. Whole blocks are added until at least so many transactions are found."""


@dataclass(frozen=True, slots=True)
class CreationQuestion:
    """Who created a contract, and in which transaction; the selector is ignored."""

    contract: bytes


@dataclass(frozen=True, slots=True)
class NonceQuestion:
    """Which transaction of a sender has that nonce; the selector is ignored."""

    sender: bytes
    nonce: int


@dataclass(frozen=True, slots=True)
class IndexStatusQuestion:
    """Which heights are indexed; the selector is ignored."""


@dataclass(frozen=True, slots=True)
class HeightRange:
    first: int
    last: int
    """Inclusive."""


@dataclass(frozen=True, slots=True)
class FoundTransaction:
    """A committed transaction with its receipt, as chain.messages' records have them."""

    raw_header: bytes
    block_hash: bytes
    index: int
    raw_transaction: bytes
    sender: bytes
    raw_receipt: bytes
    gas_used: int
    contract_address: bytes
    first_log_index: int


@dataclass(frozen=True, slots=True)
class AddressPage:
    transactions: tuple[FoundTransaction, ...]
    """Newest first, whichever way was searched."""
    has_more: bool
    """Beyond the page, in the direction of the search."""
    without_calls: tuple[HeightRange, ...]
    """Of the heights searched, those whose internal calls the index does not hold."""
    without_blocks: tuple[HeightRange, ...]
    """Of the heights asked about, those whose blocks this node does not have: it joined with a snapshot."""


@dataclass(frozen=True, slots=True)
class CreationAnswer:
    transaction_hash: bytes
    creator: bytes


@dataclass(frozen=True, slots=True)
class NonceAnswer:
    transaction_hash: bytes


@dataclass(frozen=True, slots=True)
class IndexStatus:
    head_height: int
    oldest_block_height: int
    """The lowest height whose block is here."""
    complete: tuple[HeightRange, ...]
    without_calls: tuple[HeightRange, ...]
    missing: tuple[HeightRange, ...]
    """What `db index` would add."""


@dataclass(frozen=True, slots=True)
class IndexIncomplete:
    """The answer may depend on blocks that the index does not hold, or not well enough."""

    missing: HeightRange
    reason: str
    """``unindexed`` (`db index` adds them), ``without_calls`` (their state is gone) or ``without_blocks``."""


IndexQuestion = AddressSearch | CreationQuestion | NonceQuestion | IndexStatusQuestion
IndexAnswer = AddressPage | CreationAnswer | NonceAnswer | IndexStatus | IndexIncomplete
