"""Waiting, within a bound, for the block of a transaction that the mempool took.

On a devnet that mines at once a transaction's sender is answered when its block is there: tools for anvil and
hardhat's own node send a deployment and use the contract in their next line, which works there because nothing is
ever pending. Elsewhere, and for a transaction that cannot be in the next block, only those wait who ask for it.
"""

from __future__ import annotations

import asyncio

from astralink_node.gateway.reading.reader import Reader
from astralink_node.gateway.submission import Sent


async def is_mined(read: Reader, transaction_hash: bytes, wait_ms: int) -> bool:
    """Wait for it; False if it is in no block after `wait_ms`."""
    try:
        async with asyncio.timeout(wait_ms / 1000):
            await read.blocks.mined(transaction_hash)
    except TimeoutError:
        return False
    return True


async def settle(read: Reader, sent: Sent, wait_ms: int) -> None:
    """Wait, if it can be in the next block. After `wait_ms` it is simply still pending; 0: nobody waits."""
    if not wait_ms:
        return
    expected = await read.pool.pending_nonce(sent.sender)
    if expected is None or expected > sent.nonce:  # else it is queued behind a gap
        await is_mined(read, sent.transaction_hash, wait_ms)
