"""eth_subscribe: what WebSocket connections follow, by what they follow.

Heads and pending transactions come from the node. What a head means to all followers of heads, or to all who asked
for the same logs, is put together once; how it reaches them, and what becomes of those who do not read, is
gateway.outbox's.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.transactions import decode_transaction
from astralink_node.gateway.block_json import each_receipt_json, header_json, logs_json
from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.encoding import data, transaction_fields
from astralink_node.gateway.link_messages import SubmittedTransaction
from astralink_node.gateway.outbox import Outbox, Parcel, answer_parcel, event_parcel
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
class TransactionReceipts:
    """geth's: of every block an array of receipts, of these transactions or of all."""

    hashes: frozenset[bytes]
    """Empty: all."""


@dataclass(frozen=True, slots=True)
class Syncing:
    """When the node begins and ends to catch up (gateway.sync_watch)."""


Topic = NewHeads | Logs | PendingTransactions | TransactionReceipts | Syncing


def new_id() -> str:
    """Unguessable, and a QUANTITY without leading zeros as filter ids have to be."""
    return hex(secrets.randbits(127) | 1 << 127)


class Connection:
    """One WebSocket client's subscriptions.

    Events of a subscription are held until the answer that names it is in the outbox: a client cannot place an
    event whose id it has not heard.
    """

    def __init__(self, limits: GatewayLimits, outbox: Outbox, hub: SubscriptionHub) -> None:
        self._limits = limits
        self._hub = hub
        self.outbox = outbox
        self._topics: dict[str, Topic] = {}
        self._held: dict[str, list[Parcel]] = {}

    def subscribe(self, topic: Topic) -> str:
        if len(self._topics) >= self._limits.subscriptions_per_connection:
            raise RpcError(
                LIMIT_EXCEEDED, f"too many subscriptions: at most {self._limits.subscriptions_per_connection}"
            )
        subscription_id = new_id()
        self._topics[subscription_id] = topic
        self._held[subscription_id] = []
        self._hub.follow(topic, subscription_id, self)
        return subscription_id

    def unsubscribe(self, subscription_id: str) -> bool:
        self._held.pop(subscription_id, None)
        topic = self._topics.pop(subscription_id, None)
        if topic is None:
            return False
        self._hub.unfollow(topic, subscription_id)
        return True

    def send_answer(self, answer: bytes) -> None:
        self.outbox.put(answer_parcel(answer))
        for subscription_id in [held for held in self._held if held.encode("ascii") in answer]:
            for events in self._held.pop(subscription_id):
                self.outbox.put(events, subscription_id.encode("ascii"))

    def send_events(self, subscription_id: str, events: Parcel) -> None:
        held = self._held.get(subscription_id)
        if held is None:
            self.outbox.put(events, subscription_id.encode("ascii"))
        elif sum(parcel.messages for parcel in held) + events.messages <= self._limits.send_queue_messages:
            held.append(events)
        else:
            self.outbox.drop(f"more than {self._limits.send_queue_messages} events before eth_subscribe was answered")

    def close(self) -> None:
        """The client is gone."""
        for subscription_id in list(self._topics):
            self.unsubscribe(subscription_id)
        self.outbox.close()


Followers = dict[str, Connection]
"""By subscription id."""


class SubscriptionHub:
    """Every subscription of this gateway, by what it follows."""

    def __init__(self) -> None:
        self._heads: Followers = {}
        self._logs: dict[LogPattern, Followers] = {}
        self._pending: dict[bool, Followers] = {False: {}, True: {}}
        """Whole transactions by True, hashes by False."""
        self._receipts: dict[frozenset[bytes], Followers] = {}
        self._sync: Followers = {}

    def follow(self, topic: Topic, subscription_id: str, connection: Connection) -> None:
        match topic:
            case NewHeads():
                self._heads[subscription_id] = connection
            case Logs(pattern):
                self._logs.setdefault(pattern, {})[subscription_id] = connection
            case PendingTransactions(full):
                self._pending[full][subscription_id] = connection
            case TransactionReceipts(hashes):
                self._receipts.setdefault(hashes, {})[subscription_id] = connection
            case Syncing():
                self._sync[subscription_id] = connection

    def unfollow(self, topic: Topic, subscription_id: str) -> None:
        match topic:
            case NewHeads():
                del self._heads[subscription_id]
            case Logs(pattern):
                followers = self._logs[pattern]
                del followers[subscription_id]
                if not followers:
                    del self._logs[pattern]
            case PendingTransactions(full):
                del self._pending[full][subscription_id]
            case TransactionReceipts(hashes):
                followers = self._receipts[hashes]
                del followers[subscription_id]
                if not followers:
                    del self._receipts[hashes]
            case Syncing():
                del self._sync[subscription_id]

    def publish_head(self, view: BlockView) -> None:
        _send(self._heads, [header_json(view)])
        for pattern, followers in self._logs.items():
            _send(followers, list(matching_logs(view, pattern)))
        for hashes, followers in self._receipts.items():
            receipts = matching_receipts(view, hashes)
            _send(followers, [b"[" + b",".join(receipts) + b"]"] if receipts else [])

    @property
    def has_sync_followers(self) -> bool:
        return bool(self._sync)

    def publish_sync(self, event: bytes) -> None:
        _send(self._sync, [event])

    def publish_pending(self, transactions: Sequence[SubmittedTransaction]) -> None:
        if self._pending[False]:
            _send(self._pending[False], _pending_hashes(transactions))
        if self._pending[True]:
            _send(self._pending[True], _pending_bodies(transactions))


def _send(followers: Mapping[str, Connection], results: Sequence[bytes]) -> None:
    """Each result to each follower. Nobody leaves meanwhile: nothing here waits."""
    if not results or not followers:
        return
    events = event_parcel(results)
    for subscription_id, connection in followers.items():
        connection.send_events(subscription_id, events)


def matching_logs(view: BlockView, pattern: LogPattern) -> Iterable[bytes]:
    """JSON of a block's logs that a pattern selects; none for a head that came without receipts."""
    if view.receipts is None:
        return
    for log, log_json in zip(view.logs, logs_json(view), strict=True):
        if pattern.matches(log.address, log.topics):
            yield log_json


def matching_receipts(view: BlockView, hashes: frozenset[bytes]) -> Sequence[bytes]:
    """JSON of a block's receipts; none for a head that came without them."""
    if view.receipts is None:
        return ()
    encoded = each_receipt_json(view)
    if not hashes:
        return encoded
    wanted = zip(view.transaction_hashes, encoded, strict=True)
    return [receipt for transaction_hash, receipt in wanted if transaction_hash in hashes]


def _pending_hashes(transactions: Sequence[SubmittedTransaction]) -> list[bytes]:
    return [orjson.dumps(data(keccak256(transaction.raw_transaction))) for transaction in transactions]


def _pending_bodies(transactions: Sequence[SubmittedTransaction]) -> list[bytes]:
    return [
        orjson.dumps(transaction_fields(decode_transaction(each.raw_transaction), each.sender, None))
        for each in transactions
    ]
