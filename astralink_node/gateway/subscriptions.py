"""eth_subscribe: what a WebSocket connection follows, and the bounded queue of what it has not read yet.

Heads and pending transactions come from the node; each is encoded once and put on the queues of those who
follow it. A client that does not read is disconnected when its queue is full: events are never dropped
silently.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.transactions import decode_transaction
from astralink_node.gateway.block_json import header_json, logs_json
from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.encoding import data, transaction_fields
from astralink_node.gateway.jsonrpc import encode_notification
from astralink_node.gateway.link_messages import SubmittedTransaction
from astralink_node.gateway.reading.block_view import BlockView
from astralink_node.gateway.reading.log_pattern import LogPattern
from astralink_node.gateway.rpc_errors import LIMIT_EXCEEDED, RpcError


@dataclass(frozen=True, slots=True)
class NewHeads:
    pass


@dataclass(frozen=True, slots=True)
class Logs:
    pattern: LogPattern


@dataclass(frozen=True, slots=True)
class PendingTransactions:
    full: bool
    """Whole transactions rather than hashes."""


@dataclass(frozen=True, slots=True)
class Syncing:
    """Accepted and silent: a gateway serves a node that is in step."""


Topic = NewHeads | Logs | PendingTransactions | Syncing


def new_id() -> str:
    """Unguessable, and a QUANTITY without leading zeros as filter ids have to be."""
    return hex(secrets.randbits(127) | 1 << 127)


class Outbox:
    """Messages on their way to one client. Full means overflowed, and overflowed is for good."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self.overflowed = asyncio.Event()

    def put(self, message: bytes) -> None:
        """Never waits. A single message may exceed the byte bound if nothing else is waiting."""
        if self.overflowed.is_set():
            return
        full = len(self._messages) >= self._max_messages or self._bytes + len(message) > self._max_bytes
        if full and self._messages:
            self._messages.clear()
            self.overflowed.set()
            return
        self._messages.append(message)
        self._bytes += len(message)
        self._arrived.set()

    async def get(self) -> bytes:
        """The next message to send."""
        while not self._messages:
            self._arrived.clear()
            await self._arrived.wait()
        message = self._messages.popleft()
        self._bytes -= len(message)
        return message


class Connection:
    """One WebSocket client's subscriptions.

    Events of a subscription are held until the answer that names it is in the outbox: a client cannot place an
    event whose id it has not heard.
    """

    def __init__(self, limits: GatewayLimits) -> None:
        self._limits = limits
        self.outbox = Outbox(limits.send_queue_messages, limits.send_queue_bytes)
        self.topics: dict[str, Topic] = {}
        self._held: dict[str, list[bytes]] = {}

    def subscribe(self, topic: Topic) -> str:
        if len(self.topics) >= self._limits.subscriptions_per_connection:
            raise RpcError(
                LIMIT_EXCEEDED, f"too many subscriptions: at most {self._limits.subscriptions_per_connection}"
            )
        subscription_id = new_id()
        self.topics[subscription_id] = topic
        self._held[subscription_id] = []
        return subscription_id

    def unsubscribe(self, subscription_id: str) -> bool:
        self._held.pop(subscription_id, None)
        return self.topics.pop(subscription_id, None) is not None

    def send_answer(self, answer: bytes) -> None:
        self.outbox.put(answer)
        for subscription_id in [held for held in self._held if held.encode("ascii") in answer]:
            for event in self._held.pop(subscription_id):
                self.outbox.put(event)

    def send_event(self, subscription_id: str, result: bytes) -> None:
        event = encode_notification(subscription_id, result)
        held = self._held.get(subscription_id)
        if held is None:
            self.outbox.put(event)
        elif len(held) < self._limits.send_queue_messages:
            held.append(event)
        else:
            self.outbox.overflowed.set()


class SubscriptionHub:
    """Every connection of this gateway that may hear of events."""

    def __init__(self) -> None:
        self._connections: set[Connection] = set()

    def join(self, connection: Connection) -> None:
        self._connections.add(connection)

    def leave(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def publish_head(self, view: BlockView) -> None:
        for connection, subscription_id, topic in self._subscriptions():
            match topic:
                case NewHeads():
                    connection.send_event(subscription_id, header_json(view))
                case Logs(pattern):
                    for log_json in matching_logs(view, pattern):
                        connection.send_event(subscription_id, log_json)
                case PendingTransactions() | Syncing():
                    pass

    def publish_pending(self, transactions: Sequence[SubmittedTransaction]) -> None:
        hashes: list[bytes] | None = None
        bodies: list[bytes] | None = None
        for connection, subscription_id, topic in self._subscriptions():
            if not isinstance(topic, PendingTransactions):
                continue
            if topic.full:
                bodies = _pending_bodies(transactions) if bodies is None else bodies
            else:
                hashes = _pending_hashes(transactions) if hashes is None else hashes
            for event in (bodies if topic.full else hashes) or ():
                connection.send_event(subscription_id, event)

    def _subscriptions(self) -> Iterable[tuple[Connection, str, Topic]]:
        for connection in self._connections:
            for subscription_id, topic in connection.topics.items():
                yield connection, subscription_id, topic


def matching_logs(view: BlockView, pattern: LogPattern) -> Iterable[bytes]:
    """JSON of a block's logs that a pattern selects; none for a head that came without receipts."""
    if view.receipts is None:
        return
    for log, log_json in zip(view.logs, logs_json(view), strict=True):
        if pattern.matches(log.address, log.topics):
            yield log_json


def _pending_hashes(transactions: Sequence[SubmittedTransaction]) -> list[bytes]:
    return [orjson.dumps(data(keccak256(transaction.raw_transaction))) for transaction in transactions]


def _pending_bodies(transactions: Sequence[SubmittedTransaction]) -> list[bytes]:
    return [
        orjson.dumps(transaction_fields(decode_transaction(each.raw_transaction), each.sender, None))
        for each in transactions
    ]
