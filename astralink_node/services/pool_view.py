"""What gateways are shown of the mempool: its content in pages, and what became of one transaction."""

from collections.abc import Sequence

from astralink_node.gateway.pool_messages import (
    MAX_PAGE_BYTES,
    MAX_PAGE_SENDERS,
    DroppedFate,
    GetPoolPage,
    HeldFate,
    HeldTransaction,
    PoolFate,
    PoolPage,
    PoolSenders,
)
from astralink_node.txpool.admission import PoolTransaction
from astralink_node.txpool.fate import Dropped, Held
from astralink_node.txpool.pool import Pool
from astralink_node.types import Address


def senders_of(pool: Pool) -> PoolSenders:
    return PoolSenders(b"".join(pool.senders()))


def page_of(pool: Pool, asked: GetPoolPage) -> PoolPage:
    """As much as a page holds, and at least one transaction if there is any."""
    pending: list[HeldTransaction] = []
    queued: list[HeldTransaction] = []
    size, first_nonce = 0, asked.first_nonce
    for told, sender in enumerate(asked.senders[:MAX_PAGE_SENDERS]):
        for entries, page in zip(pool.of_sender(Address(sender)), (pending, queued), strict=True):
            for entry in _from_nonce(entries, first_nonce):
                size += entry.size
                if size > MAX_PAGE_BYTES and (pending or queued):
                    return PoolPage(tuple(pending), tuple(queued), told, entry.nonce)
                page.append(HeldTransaction(entry.transaction.raw, entry.sender))
        first_nonce = 0
    return PoolPage(tuple(pending), tuple(queued), min(len(asked.senders), MAX_PAGE_SENDERS), 0)


def fate_of(pool: Pool, transaction_hash: bytes) -> PoolFate:
    match pool.fate(transaction_hash):
        case Held(sender, nonce, is_pending, waits_for, missing_nonce):
            return PoolFate(HeldFate(sender, nonce, is_pending, str(waits_for), missing_nonce))
        case Dropped(reason, at_ms):
            return PoolFate(DroppedFate(reason, at_ms))
        case None:
            return PoolFate(None)


def _from_nonce(entries: Sequence[PoolTransaction], first_nonce: int) -> Sequence[PoolTransaction]:
    return [entry for entry in entries if entry.nonce >= first_nonce] if first_nonce else entries
