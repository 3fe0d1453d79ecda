"""On a devnet that mines at once: a transaction's sender is answered when its block is there.

Tools for anvil and hardhat's own node send a deployment and use the contract in their next line, which works there
because nothing is ever pending. Elsewhere, and for a transaction that cannot be in the next block, nobody waits.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from astralink_node.evm.transactions import decode_transaction, recover_sender
from astralink_node.gateway.reading.reader import Reader


async def until_mined(read: Reader, raw: bytes, wait_ms: int) -> None:
    """Of a transaction that the mempool took. After `wait_ms` it is simply still pending; 0: nobody waits."""
    if not wait_ms:
        return
    transaction = decode_transaction(raw)
    expected = await read.pool.pending_nonce(recover_sender(transaction))
    if expected is not None and expected <= transaction.nonce:
        return  # queued behind a gap
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_ms / 1000):
            await read.blocks.mined(transaction.hash)
