"""One gateway put together: caches, methods and subscriptions in front of a backend, fed by the node's pushes.

Transport-free: :mod:`asgi` puts HTTP and WebSocket in front of it, tests call it directly. Later interfaces
(REST, GraphQL, gRPC) are further callers of the same object.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from astralink_node.gateway.backend import Backend
from astralink_node.gateway.config import GatewayConfig
from astralink_node.gateway.context import ChainIdentity, RpcContext
from astralink_node.gateway.dev_accounts import DevAccounts
from astralink_node.gateway.dispatch import Dispatcher, RateLimited
from astralink_node.gateway.filters import Filters
from astralink_node.gateway.link_messages import NewHead, NewPendingTransactions, Push
from astralink_node.gateway.methods.namespaces import methods_of, served_apis
from astralink_node.gateway.outbox import Outbox, SendQueues, Wire
from astralink_node.gateway.rate_limits import Allowance
from astralink_node.gateway.reading.head_cache import HeadCache
from astralink_node.gateway.reading.reader import Reader
from astralink_node.gateway.submission import Submissions
from astralink_node.gateway.subscriptions import Connection, SubscriptionHub
from astralink_node.gateway.sync_watch import SyncWatch


class HeadFeed:
    """What the node pushes, in its order: first into the cache, then to those who follow it.

    It exists before the gateway does, because the node announces its head as soon as it is connected to.
    """

    def __init__(self, config: GatewayConfig, now: Callable[[], float] = time.monotonic) -> None:
        self.heads = HeadCache(config.limits.cached_blocks, config.limits.cached_bytes)
        self.hub = SubscriptionHub()
        self.filters = Filters(config.limits, now)

    def on_push(self, push: Push) -> None:
        match push:
            case NewHead(committed):
                head = self.heads.add(committed)
                if head is not None:
                    self.hub.publish_head(head.view)
            case NewPendingTransactions(transactions):
                self.filters.note_pending(transactions)
                self.hub.publish_pending(transactions)


class Gateway:
    def __init__(self, config: GatewayConfig, identity: ChainIdentity, backend: Backend, feed: HeadFeed) -> None:
        limits = config.limits
        apis = served_apis(config.apis)
        self._limits = limits
        self.read = Reader(config, backend, feed.heads)
        self._hub = feed.hub
        self._queues = SendQueues(limits)
        self._dispatcher = Dispatcher(methods_of(apis, dev_accounts=config.dev_accounts), limits)
        self.submissions = Submissions(
            backend,
            identity.chain_id,
            max_waiting=limits.submissions_waiting,
            max_batch=limits.submission_batch,
        )
        self.sync_watch = SyncWatch(self.read, feed.hub)
        self._context = RpcContext(
            identity=identity,
            read=self.read,
            submissions=self.submissions,
            filters=feed.filters,
            limits=limits,
            accounts=DevAccounts(config.faucet_turn) if config.dev_accounts else None,
            mined_wait_ms=config.mined_wait_ms,
            apis=apis,
        )

    async def answer(self, body: bytes, allowance: Allowance | None = None) -> bytes | None:
        """One JSON-RPC message of a client that cannot be pushed to. Raises RateLimited."""
        return await self._dispatcher.answer(body, self._context, allowance)

    async def answer_in_parts(
        self, body: bytes, allowance: Allowance | None = None, *, whole: bool = False
    ) -> bytes | AsyncGenerator[bytes] | None:
        """Likewise, of one that may leave meanwhile, and takes what is long part by part, or whole."""
        return await self._dispatcher.answer_in_parts(body, self._context, allowance, whole=whole)

    async def stop(self, grace_s: float) -> None:
        """See :meth:`Dispatcher.stop`."""
        await self._dispatcher.stop(grace_s)

    def open_connection(self, wire: Wire) -> Connection:
        """For a WebSocket client, until :meth:`Connection.close`."""
        return Connection(self._limits, Outbox(wire, self._queues), self._hub)

    async def answer_connection(self, connection: Connection, body: bytes, allowance: Allowance | None = None) -> None:
        """One JSON-RPC message of a WebSocket client; the answer goes into its outbox, events after it."""
        try:
            answer = await self._dispatcher.answer(body, replace(self._context, connection=connection), allowance)
        except RateLimited as refusal:
            answer = refusal.answer
        if answer is not None:
            connection.send_answer(answer)
