"""What became of a transaction, as the mempool can tell whoever asks; and the memory of why some left it."""

from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from astralink_node.types import Address

MAX_REMEMBERED_DROPS: Final = 32_768
"""Transactions that left the pool without being included; the oldest are forgotten first."""


class WaitsFor(StrEnum):
    """What keeps a transaction out of the next block. The values are what RPC clients read."""

    BLOCK = "block"
    """Nothing but its turn by price."""
    BASE_FEE = "baseFee"
    """It, or one in front of it, pays less than the base fee."""
    LONG_RUN = "longRun"
    """The clock stopped it, or one in front of it: a later block begins with it (txpool.long_runs)."""
    NONCE = "nonce"
    """An earlier nonce of its sender is missing."""
    FUNDS = "funds"
    """The balance does not cover it together with those in front of it."""


@dataclass(frozen=True, slots=True)
class Held:
    """It is in the pool."""

    sender: Address
    nonce: int
    is_pending: bool
    """Else queued."""
    waits_for: WaitsFor
    missing_nonce: int | None = None
    """Of the sender, the lowest; None unless it waits for a nonce."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """It left without being included."""

    reason: str
    at_ms: int
    """Unix time, to within the pool's clock (Pool.tick)."""


Fate = Held | Dropped


class Drops:
    """See MAX_REMEMBERED_DROPS."""

    def __init__(self) -> None:
        self._by_hash: OrderedDict[bytes, Dropped] = OrderedDict()

    def get(self, transaction_hash: bytes) -> Dropped | None:
        return self._by_hash.get(transaction_hash)

    def remember(self, transaction_hash: bytes, reason: str, at_ms: int) -> None:
        self._by_hash[transaction_hash] = Dropped(reason, at_ms)
        self._by_hash.move_to_end(transaction_hash)
        while len(self._by_hash) > MAX_REMEMBERED_DROPS:
            self._by_hash.popitem(last=False)

    def forget(self, transaction_hash: bytes) -> None:
        """It came back, or was included after all."""
        self._by_hash.pop(transaction_hash, None)
