"""The node's server for gateways: requests about the mempool and the node, and the head feed, on a Unix socket.

Nothing here can delay consensus: publishing only puts bytes into bounded queues, and a gateway that does not read
fast enough is disconnected. It then connects anew and starts from the current head.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, assert_never

import trio

from astralink_node.chain.client import ExecutionGone
from astralink_node.chain.codec import CodecError, decode, encode
from astralink_node.chain.frames import PUSH_ID, Frame, FrameDecoder, FrameError, encode_frame
from astralink_node.chain.messages import Committed
from astralink_node.gateway.link_messages import (
    NO_NETWORK,
    CheckReachability,
    ConsensusState,
    ConsensusStateReply,
    DialedBack,
    EvidenceVerdict,
    GetConsensusState,
    GetMetrics,
    GetNetworkView,
    GetNodeStatus,
    GetPendingNonce,
    GetPooledTransaction,
    LinkFailed,
    MetricsText,
    NetworkView,
    NewHead,
    NewPendingTransactions,
    NodeStatus,
    PendingNonce,
    PooledTransaction,
    Reachability,
    Reply,
    Request,
    SubmitEvidence,
    SubmittedTransaction,
    SubmitTransactions,
    Verdicts,
)
from astralink_node.gateway.pool_messages import GetPoolPage, GetPoolSenders, GetTransactionFate
from astralink_node.log import Log
from astralink_node.services.evidence_desk import EvidenceUnwelcome
from astralink_node.services.pool_view import fate_of, page_of, senders_of
from astralink_node.services.transaction_pool import TransactionPool
from astralink_node.txpool.admission import PoolTransaction
from astralink_node.types import Address

MAX_GATEWAYS: Final = 16
"""Connections at once; more are closed at once."""
MAX_QUEUED_FRAMES: Final = 1024
MAX_QUEUED_BYTES: Final = 64 * 1024 * 1024
"""Waiting to be read by one gateway; beyond either it is disconnected."""
MAX_REQUESTS_AT_WORK: Final = 64
"""Of one gateway; its further requests are not read until one is answered."""
MAX_PENDING_BATCH: Final = 512
"""Transactions announced in one frame."""
RECEIVE_BYTES: Final = 1 << 18

_log = Log("gateway_link")

NodeStatusSource = Callable[[], NodeStatus]
ConsensusStateSource = Callable[[], ConsensusState | None]
NetworkSource = Callable[[], NetworkView]
ReachabilityCheck = Callable[[], Awaitable[Sequence[DialedBack]]]
MetricsSource = Callable[[], str]
EvidenceSubmission = Callable[[bytes], Awaitable[bytes]]
"""(encoded evidence) -> its hash; raises EvidenceUnwelcome."""


def no_consensus_state() -> None:
    """For a node whose driver has no rounds to show."""


def no_network() -> NetworkView:
    """For a node that runs alone."""
    return NO_NETWORK


async def nobody_to_ask() -> Sequence[DialedBack]:
    """Likewise."""
    return ()


def no_metrics() -> str:
    """For a node that keeps none."""
    return ""


async def nobody_to_judge(encoded: bytes) -> bytes:
    """For a node without consensus."""
    del encoded
    raise EvidenceUnwelcome("this node takes no part in the network: hand the evidence to one that does")


class GatewayLink:
    """See the module's description. `head` is the current head, for gateways that connect before the next one."""

    def __init__(
        self,
        pool: TransactionPool,
        node_status: NodeStatusSource,
        head: Committed,
        consensus_state: ConsensusStateSource = no_consensus_state,
        network: NetworkSource = no_network,
        reachability: ReachabilityCheck = nobody_to_ask,
        metrics: MetricsSource = no_metrics,
        submit_evidence: EvidenceSubmission = nobody_to_judge,
    ) -> None:
        self._pool = pool
        self._node_status = node_status
        self._consensus_state = consensus_state
        self._network = network
        self._reachability = reachability
        self._metrics = metrics
        self._submit_evidence = submit_evidence
        self._head = head
        self._connections: set[_Connection] = set()
        pool.on_pending = self.publish_pending

    async def serve(self, listener: trio.SocketListener) -> None:
        """Accept gateways until cancelled."""
        await trio.serve_listeners(self._serve_one, [listener])

    def publish_head(self, committed: Committed) -> None:
        self._head = committed
        self._push(NewHead(committed))

    def publish_pending(self, pending: Sequence[PoolTransaction]) -> None:
        """In batches: promotions by one block may be as many as the mempool holds."""
        for start in range(0, len(pending), MAX_PENDING_BATCH):
            batch = pending[start : start + MAX_PENDING_BATCH]
            self._push(NewPendingTransactions(_submitted(batch)))

    def _push(self, push: NewHead | NewPendingTransactions) -> None:
        if self._connections:
            frame = encode_frame(PUSH_ID, encode(push))
            for connection in self._connections:
                connection.put(frame)

    async def _serve_one(self, stream: trio.SocketStream) -> None:
        if len(self._connections) >= MAX_GATEWAYS:
            _log.warning("too many gateways: a connection was refused", limit=MAX_GATEWAYS)
            await stream.aclose()
            return
        connection = _Connection(stream)
        # Between these two lines nothing waits: no head is missed, and none comes twice.
        connection.put(encode_frame(PUSH_ID, encode(NewHead(self._head))))
        self._connections.add(connection)
        try:
            await connection.run(self._answer)
        finally:
            self._connections.discard(connection)

    async def _answer(self, request: Request) -> Reply:
        pool = self._pool.pool
        match request:
            case SubmitTransactions(transactions):
                try:
                    return Verdicts(await self._pool.submit(transactions))
                except ExecutionGone as error:
                    return LinkFailed(str(error))
            case GetPendingNonce(address):
                nonce = pool.pending_nonce(Address(address))
                return PendingNonce(known=nonce is not None, nonce=nonce or 0)
            case GetPooledTransaction(transaction_hash):
                entry = pool.get(transaction_hash)
                return (
                    PooledTransaction(b"", b"")
                    if entry is None
                    else PooledTransaction(entry.transaction.raw, entry.sender)
                )
            case GetPoolSenders():
                return senders_of(pool)
            case GetPoolPage():
                return page_of(pool, request)
            case GetTransactionFate(transaction_hash):
                return fate_of(pool, transaction_hash)
            case GetNodeStatus():
                return self._node_status()
            case GetConsensusState():
                return ConsensusStateReply(self._consensus_state())
            case GetNetworkView():
                return self._network()
            case CheckReachability():
                return Reachability(tuple(await self._reachability()))
            case GetMetrics():
                return MetricsText(self._metrics())
            case SubmitEvidence(encoded):
                try:
                    return EvidenceVerdict(await self._submit_evidence(encoded), "")
                except EvidenceUnwelcome as error:
                    return EvidenceVerdict(b"", str(error))
                except ExecutionGone as error:
                    return LinkFailed(str(error))
            case _:
                assert_never(request)


class _Connection:
    """One gateway: a bounded queue of frames to it, and its requests."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._frames: deque[bytes] = deque()
        self._queued_bytes = 0
        self._filled = trio.Event()
        self._scope = trio.CancelScope()
        self._too_slow = False

    def put(self, frame: bytes) -> None:
        """Queue a frame; when the queue is full the gateway is disconnected instead."""
        if len(self._frames) >= MAX_QUEUED_FRAMES or self._queued_bytes + len(frame) > MAX_QUEUED_BYTES:
            self._too_slow = True
            self._scope.cancel()
            return
        self._frames.append(frame)
        self._queued_bytes += len(frame)
        self._filled.set()

    async def run(self, answer: Callable[[Request], Awaitable[Reply]]) -> None:
        """Serve until the gateway closes its end, is too slow, or breaks the protocol, which is reported."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send)
                    await self._receive(answer, nursery)
                    nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except* (FrameError, CodecError) as broken:
            _log.error("a gateway broke the protocol and was disconnected", reason=str(broken.exceptions[0]))
        finally:
            if self._too_slow:
                _log.warning("a gateway read too slowly and was disconnected", frames=len(self._frames))
            await trio.aclose_forcefully(self._stream)

    async def _send(self) -> None:
        try:
            while True:
                while not self._frames:
                    self._filled = trio.Event()
                    await self._filled.wait()
                frame = self._frames.popleft()
                await self._stream.send_all(frame)
                self._queued_bytes -= len(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._scope.cancel()

    async def _receive(self, answer: Callable[[Request], Awaitable[Reply]], nursery: trio.Nursery) -> None:
        at_work = trio.Semaphore(MAX_REQUESTS_AT_WORK)
        decoder = FrameDecoder()

        async def work(frame: Frame, request: Request) -> None:
            try:
                reply = await answer(request)
            finally:
                at_work.release()
            self.put(encode_frame(frame.request_id, _encode_reply(reply)))

        while data := await self._stream.receive_some(RECEIVE_BYTES):
            for frame in decoder.feed(bytes(data)):
                request: Request = decode(Request, frame.payload)
                await at_work.acquire()
                nursery.start_soon(work, frame, request)


def _encode_reply(reply: Reply) -> bytes:
    try:
        return encode(reply)
    except CodecError as error:
        return encode(LinkFailed(f"the answer cannot be sent: {error}"))


def _submitted(entries: Sequence[PoolTransaction]) -> tuple[SubmittedTransaction, ...]:
    return tuple(SubmittedTransaction(entry.transaction.raw, entry.sender) for entry in entries)
