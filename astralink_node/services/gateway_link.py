"""The node's side of the gateways: a Unix socket that answers their requests and pushes the head feed.

Nothing here may delay a vote. Every gateway has a bounded outbox; one that lets it fill is disconnected, comes
back, and asks again for what it missed.
"""

import logging
from collections.abc import Callable

import trio

from astralink_node.chain.codec import CodecError, decode, encode
from astralink_node.chain.frames import PUSH_ID, FrameDecoder, FrameError, encode_frame
from astralink_node.chain.messages import Committed
from astralink_node.gateway.link_messages import (
    GetNodeStatus,
    GetPendingNonce,
    GetPoolContent,
    GetPooledTransaction,
    NewHead,
    NewPendingTransactions,
    NodeStatus,
    PendingNonce,
    PooledTransaction,
    Push,
    Reply,
    Request,
    SubmittedTransaction,
    SubmitTransactions,
    Verdicts,
)
from astralink_node.services.transaction_pool import TransactionPool

logger = logging.getLogger(__name__)

MAX_GATEWAYS = 16
OUTBOX_FRAMES = 4096
"""Frames that wait for one gateway to read; one more and it is disconnected."""
REQUESTS_AT_WORK = 64
"""Of one gateway; reading from it stops while so many are answered."""
RECEIVE_BYTES = 1 << 20


class GatewayLink:
    """Serves every gateway that connects. `head` is what a newcomer is told first."""

    def __init__(self, pool: TransactionPool, node_status: Callable[[], NodeStatus], head: Committed) -> None:
        self._pool = pool
        self._node_status = node_status
        self._head = head
        self._outboxes: dict[trio.MemorySendChannel[bytes], trio.CancelScope] = {}

    async def serve(self, listener: trio.SocketListener) -> None:
        """Accept until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                stream = await listener.accept()
                if len(self._outboxes) >= MAX_GATEWAYS:
                    logger.warning("a gateway was turned away: %d are connected already", MAX_GATEWAYS)
                    await stream.aclose()
                    continue
                nursery.start_soon(self._serve_one, stream)

    def push_head(self, committed: Committed) -> None:
        self._head = committed
        self._push(NewHead(committed))

    def push_pending(self, transactions: tuple[SubmittedTransaction, ...]) -> None:
        self._push(NewPendingTransactions(transactions))

    def _push(self, push: Push) -> None:
        if not self._outboxes:
            return
        frame = encode_frame(PUSH_ID, encode(push))
        for outbox, scope in list(self._outboxes.items()):
            _put(outbox, frame, scope)

    async def _serve_one(self, stream: trio.abc.Stream) -> None:
        outbox, frames = trio.open_memory_channel[bytes](OUTBOX_FRAMES)
        async with stream, outbox, frames:
            try:
                async with trio.open_nursery() as nursery:
                    _put(outbox, encode_frame(PUSH_ID, encode(NewHead(self._head))), nursery.cancel_scope)
                    self._outboxes[outbox] = nursery.cancel_scope
                    nursery.start_soon(_send_all, stream, frames)
                    await self._read(stream, outbox, nursery)
                    nursery.cancel_scope.cancel()
            finally:
                del self._outboxes[outbox]

    async def _read(
        self, stream: trio.abc.Stream, outbox: trio.MemorySendChannel[bytes], nursery: trio.Nursery
    ) -> None:
        decoder = FrameDecoder()
        at_work = trio.CapacityLimiter(REQUESTS_AT_WORK)
        try:
            while data := await stream.receive_some(RECEIVE_BYTES):
                for frame in decoder.feed(bytes(data)):
                    request: Request = decode(Request, frame.payload)
                    token = object()
                    await at_work.acquire_on_behalf_of(token)
                    nursery.start_soon(self._answer, frame.request_id, request, outbox, nursery, at_work, token)
        except (FrameError, CodecError) as error:
            logger.error("a gateway sent what cannot be read, and is disconnected: %s", error)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it went away; another will come

    async def _answer(
        self,
        request_id: int,
        request: Request,
        outbox: trio.MemorySendChannel[bytes],
        nursery: trio.Nursery,
        at_work: trio.CapacityLimiter,
        token: object,
    ) -> None:
        try:
            reply = await self._reply_to(request)
            _put(outbox, encode_frame(request_id, encode(reply)), nursery.cancel_scope)
        finally:
            at_work.release_on_behalf_of(token)

    async def _reply_to(self, request: Request) -> Reply:
        match request:
            case SubmitTransactions(transactions):
                return Verdicts(await self._pool.submit(transactions))
            case GetPendingNonce(address):
                nonce = self._pool.pending_nonce(address)
                return PendingNonce(known=nonce is not None, nonce=nonce or 0)
            case GetPooledTransaction(transaction_hash):
                found = self._pool.get(transaction_hash)
                return PooledTransaction(found.raw_transaction, found.sender) if found else PooledTransaction(b"", b"")
            case GetPoolContent():
                return self._pool.content()
            case GetNodeStatus():
                return self._node_status()


def _put(outbox: trio.MemorySendChannel[bytes], frame: bytes, scope: trio.CancelScope) -> None:
    try:
        outbox.send_nowait(frame)
    except trio.WouldBlock:
        logger.warning("a gateway does not keep up and is disconnected")
        scope.cancel()
    except trio.BrokenResourceError:
        scope.cancel()


async def _send_all(stream: trio.abc.Stream, frames: trio.MemoryReceiveChannel[bytes]) -> None:
    try:
        async for frame in frames:
            await stream.send_all(frame)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return  # the reader sees the end as well, and ends the connection
