"""Filters that HTTP clients poll (eth_newFilter and its like): who asked for what, and up to where they know.

Block and log filters keep only a height, so a poll costs a read and an idle filter nothing; pending-transaction
filters keep a bounded list of hashes, or of whole transactions. A filter that nobody polls expires, sooner when others
need its place, and all are forgotten when the gateway restarts: clients then see "filter not found", as they would from
geth, and make a new one.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from astralink_node.crypto.keccak import keccak256
from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.link_messages import SubmittedTransaction
from astralink_node.gateway.log_filters import LogFilter
from astralink_node.gateway.rpc_errors import LIMIT_EXCEEDED, RpcError, server_error
from astralink_node.gateway.subscriptions import new_id


@dataclass(slots=True)
class BlockPoll:
    next_height: int
    """The first height that the client has not been told of."""


@dataclass(slots=True)
class LogPoll:
    log_filter: LogFilter
    next_height: int


@dataclass(slots=True)
class PendingPoll:
    hashes: deque[bytes]


class FullPendingPoll:
    """Whole transactions, the newest that fit. Filters share the bytes, so that many cost what one does."""

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._held: deque[SubmittedTransaction] = deque()
        self._bytes = 0

    def note(self, transactions: Sequence[SubmittedTransaction]) -> None:
        for transaction in transactions:
            self._held.append(transaction)
            self._bytes += len(transaction.raw_transaction)
        while len(self._held) > self._max_count or self._bytes > self._max_bytes:
            self._bytes -= len(self._held.popleft().raw_transaction)

    def take(self) -> tuple[SubmittedTransaction, ...]:
        """All that is held, which is forgotten."""
        taken = tuple(self._held)
        self._held.clear()
        self._bytes = 0
        return taken


Poll = BlockPoll | LogPoll | PendingPoll | FullPendingPoll


class Filters:
    def __init__(self, limits: GatewayLimits, now: Callable[[], float]) -> None:
        """``now`` gives seconds of a clock that never goes back."""
        self._limits = limits
        self._now = now
        self._polls: OrderedDict[str, tuple[Poll, float]] = OrderedDict()
        """Least recently polled first, each with the time of its last poll."""

    def add(self, poll: Poll) -> str:
        """The new filter's id. When all places are taken, the filter that was polled longest ago goes, unless somebody
        still polls it; raises RpcError if all are polled."""
        self._expire()
        if len(self._polls) >= self._limits.filters:
            self._drop_idle_for(self._limits.filter_kept_ms, at_most=1)
        if len(self._polls) >= self._limits.filters:
            raise RpcError(LIMIT_EXCEEDED, f"too many filters: at most {self._limits.filters}; use eth_subscribe")
        filter_id = new_id()
        self._polls[filter_id] = (poll, self._now())
        return filter_id

    def pending_poll(self) -> PendingPoll:
        return PendingPoll(deque(maxlen=self._limits.filter_hashes))

    def full_pending_poll(self) -> FullPendingPoll:
        return FullPendingPoll(self._limits.filter_transactions, self._limits.filter_transaction_bytes)

    def get(self, filter_id: str) -> Poll:
        self._expire()
        entry = self._polls.get(filter_id)
        if entry is None:
            raise server_error("filter not found")
        self._polls[filter_id] = (entry[0], self._now())
        self._polls.move_to_end(filter_id)
        return entry[0]

    def remove(self, filter_id: str) -> bool:
        return self._polls.pop(filter_id, None) is not None

    def note_pending(self, transactions: Sequence[SubmittedTransaction]) -> None:
        for poll, _ in self._polls.values():
            if isinstance(poll, FullPendingPoll):
                poll.note(transactions)
        followers = [poll for poll, _ in self._polls.values() if isinstance(poll, PendingPoll)]
        if followers:
            hashes = [keccak256(transaction.raw_transaction) for transaction in transactions]
            for follower in followers:
                follower.hashes.extend(hashes)

    def _expire(self) -> None:
        self._drop_idle_for(self._limits.filter_idle_ms, at_most=len(self._polls))

    def _drop_idle_for(self, idle_ms: int, *, at_most: int) -> None:
        """Those that nobody polled for longer, the least recently polled first."""
        oldest_kept = self._now() - idle_ms / 1000
        for _ in range(at_most):
            filter_id, (_, polled_at) = next(iter(self._polls.items()))
            if polled_at >= oldest_kept:
                return
            del self._polls[filter_id]
