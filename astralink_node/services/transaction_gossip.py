"""Passes transactions on between mempools, in batches: what came in here goes out, what comes from peers goes in.

What a peer sent is never sent again from here: the gossip network itself carries it on, once this node has judged it.
Nothing is sent for a peer's sake when it connects, however much the pool holds: it gets what comes from then on.
A batch that does not decode, or that holds a transaction nobody signed, counts against whoever sent it.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import trio

from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.transactions import InvalidTransaction, decode_transaction, recover_sender
from astralink_node.gateway.link_messages import SubmittedTransaction
from astralink_node.services.offload import Offload
from astralink_node.services.transaction_pool import TransactionPool
from astralink_node.txpool.admission import PoolTransaction
from consensus.wire import DecodeError, WireReader
from p2p.gossip_events import Verdict
from p2p.topic_transport import TopicMessage, TopicTransport
from p2p.topics import Topic

BATCH_S: Final = 0.02
"""How long a transaction waits for others to be sent with it."""
BATCH_INTERVAL_S: Final = 0.1
"""From one batch to the next at least, unless it is full: a message costs every node more than what is in it, and
under load a transaction waits longer than this for its block anyhow."""
MAX_BATCH_BYTES: Final = 96_000
"""Below what is announced in parts instead of being sent whole; one larger transaction goes alone."""
MAX_BATCH_TRANSACTIONS: Final = 256
MAX_HEARD: Final = 131_072
"""Transactions from peers that are remembered; one forgotten may be sent once more when it becomes executable."""
MAX_WAITING: Final = 131_072
"""Transactions that wait to be sent, as many as a pool of the default size holds; further ones stay in this node's
own pool until it proposes. Only hashes wait: what has left the pool by its turn is not sent."""


class TransactionGossip:
    """See the module's description."""

    def __init__(self, transport: TopicTransport, pool: TransactionPool, offload: Offload) -> None:
        self._transport = transport
        self._pool = pool
        self._offload = offload
        self._outgoing, self._waiting = trio.open_memory_channel[bytes](MAX_WAITING)
        """Hashes."""
        self._heard: OrderedDict[bytes, None] = OrderedDict()
        """Hashes of what peers sent, the longest ago first."""

    def announce(self, pending: Sequence[PoolTransaction]) -> None:
        """The pool took transactions in; must not wait."""
        for entry in pending:
            if entry.transaction.hash not in self._heard:
                try:
                    self._outgoing.send_nowait(entry.transaction.hash)
                except trio.WouldBlock:
                    return

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send)
            while True:
                await self._take(await self._transport.receive())

    async def _send(self) -> None:
        next_due_s = 0.0
        while True:
            batch = [await self._next()]
            size = len(batch[0])
            with trio.move_on_at(max(trio.current_time() + BATCH_S, next_due_s)):
                while size < MAX_BATCH_BYTES and len(batch) < MAX_BATCH_TRANSACTIONS:
                    raw = await self._next()
                    if size + len(raw) > MAX_BATCH_BYTES:
                        self._transport.broadcast(Topic.TRANSACTION, encode_batch(batch))
                        batch, size = [], 0
                    batch.append(raw)
                    size += len(raw)
            self._transport.broadcast(Topic.TRANSACTION, encode_batch(batch))
            next_due_s = trio.current_time() + BATCH_INTERVAL_S

    async def _next(self) -> bytes:
        """The next transaction to send that is still in the pool."""
        while True:
            entry = self._pool.pool.get(await self._waiting.receive())
            if entry is not None:
                return entry.transaction.raw

    async def _take(self, message: TopicMessage) -> None:
        try:
            batch = {keccak256(raw): raw for raw in decode_batch(message.data)}
            unknown = [raw for transaction_hash, raw in batch.items() if transaction_hash not in self._pool.pool]
            submitted = await self._offload(_recover, unknown) if unknown else ()
        except (DecodeError, InvalidTransaction):
            self._transport.judge(message, Verdict.REJECT)
            return
        hashes = list(batch)
        self._heard |= dict.fromkeys(hashes)
        while len(self._heard) > MAX_HEARD:
            self._heard.popitem(last=False)
        verdicts = await self._pool.submit(submitted)
        for transaction_hash in hashes:
            # Refused, so this node does not pass it on: if its own users submit it at a better time, it must go out.
            if transaction_hash not in self._pool.pool:
                self._heard.pop(transaction_hash, None)
        is_news = any(not verdict.rejection for verdict in verdicts)
        self._transport.judge(message, Verdict.ACCEPT if is_news else Verdict.IGNORE)


def encode_batch(raw_transactions: Sequence[bytes]) -> bytes:
    """Each with its length in 4 bytes before it."""
    return b"".join(len(raw).to_bytes(4, "big") + raw for raw in raw_transactions)


def decode_batch(data: bytes) -> list[bytes]:
    """The inverse of `encode_batch`; `DecodeError` for anything else, and for what no honest node sends at once."""
    reader, left, size = WireReader(data), len(data), 0
    found: list[bytes] = []
    while left:
        if len(found) == MAX_BATCH_TRANSACTIONS:
            raise DecodeError("transactions", f"at most {MAX_BATCH_TRANSACTIONS}", "more")
        length = reader.unsigned(4, "length", maximum=left)
        size += length
        if found and size > MAX_BATCH_BYTES:
            raise DecodeError("batch", f"at most {MAX_BATCH_BYTES} bytes or one transaction", f"{size} or more")
        found.append(reader.take(length, "transaction"))
        left -= 4 + length
    if not found:
        raise DecodeError("transactions", "at least 1", "none")
    return found


def _recover(raw_transactions: Sequence[bytes]) -> tuple[SubmittedTransaction, ...]:
    """With senders, in a worker thread. Raises InvalidTransaction."""
    return tuple(SubmittedTransaction(raw, recover_sender(decode_transaction(raw))) for raw in raw_transactions)
