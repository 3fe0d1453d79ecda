"""Subscriptions are bounded, grouped by what they follow, and their events follow the answer that names them."""

from __future__ import annotations

import orjson
import pytest

from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.link_messages import SubmittedTransaction
from astralink_node.gateway.outbox import Outbox, SendQueues, event_parcel
from astralink_node.gateway.reading.log_pattern import LogPattern
from astralink_node.gateway.rpc_errors import LIMIT_EXCEEDED, RpcError
from astralink_node.gateway.subscriptions import (
    Connection,
    Logs,
    NewHeads,
    PendingTransactions,
    SubscriptionHub,
    Syncing,
    Topic,
    new_id,
)
from tests.support.asynchronous import run
from tests.support.gateways import ALICE, BOB, signed
from tests.support.wires import MemoryWire

TRANSACTION = SubmittedTransaction(signed(ALICE, to=BOB.address, nonce=0), ALICE.address)


class Bench:
    def __init__(self, **limits: int) -> None:
        self.hub = SubscriptionHub()
        self._queues = SendQueues(GatewayLimits(**limits))

    def connection(self) -> tuple[Connection, MemoryWire]:
        wire = MemoryWire()
        return Connection(self._queues.limits, Outbox(wire, self._queues), self.hub), wire


def answered(connection: Connection, topic: Topic) -> str:
    """A subscription whose id the client has heard."""
    subscription_id = connection.subscribe(topic)
    connection.send_answer(b'{"id":1,"result":"%b"}' % subscription_id.encode())
    return subscription_id


def test_events_wait_for_the_answer_that_names_their_subscription() -> None:
    async def main() -> None:
        connection, wire = Bench().connection()
        subscription_id = connection.subscribe(NewHeads())
        connection.send_events(subscription_id, event_parcel([b'"early"']))
        connection.send_answer(b'{"id":1,"result":"another"}')
        connection.send_answer(b'{"id":2,"result":"%b"}' % subscription_id.encode())
        connection.send_events(subscription_id, event_parcel([b'"late"']))
        messages = [orjson.loads(await wire.get()) for _ in range(4)]
        assert [message.get("id") for message in messages] == [1, 2, None, None]
        assert [message["params"]["result"] for message in messages[2:]] == ["early", "late"]

    run(main)


def test_a_client_whose_answer_never_comes_is_dropped_when_too_much_waits_for_it() -> None:
    async def main() -> None:
        connection, wire = Bench(send_queue_messages=3).connection()
        subscription_id = connection.subscribe(NewHeads())
        connection.send_events(subscription_id, event_parcel([b"1", b"2", b"3"]))
        assert not wire.dropped
        connection.send_events(subscription_id, event_parcel([b"4"]))
        assert wire.dropped == "more than 3 events before eth_subscribe was answered"

    run(main)


def test_subscriptions_of_a_connection_are_bounded() -> None:
    async def main() -> None:
        connection, _ = Bench(subscriptions_per_connection=2).connection()
        first = connection.subscribe(NewHeads())
        connection.subscribe(NewHeads())
        with pytest.raises(RpcError) as refusal:
            connection.subscribe(NewHeads())
        assert refusal.value.code == LIMIT_EXCEEDED
        assert connection.unsubscribe(first)
        assert not connection.unsubscribe(first)
        connection.subscribe(NewHeads())

    run(main)


def test_each_follower_hears_every_event_once_in_one_write() -> None:
    async def main() -> None:
        bench = Bench()
        followers = [bench.connection() for _ in range(5)]
        ids = [answered(connection, PendingTransactions(full=False)) for connection, _ in followers]
        twice = answered(followers[0][0], PendingTransactions(full=False))
        for _, wire in followers:
            wire.writes = 0
        bench.hub.publish_pending([TRANSACTION] * 3)
        assert [wire.writes for _, wire in followers] == [2, 1, 1, 1, 1]
        for number, (_, wire) in enumerate(followers):
            answers = 2 if number == 0 else 1
            messages = [orjson.loads(await wire.get()) for _ in range(wire.arrived)][answers:]
            heard = [message["params"]["subscription"] for message in messages]
            assert heard == [ids[number]] * 3 + ([twice] * 3 if number == 0 else [])

    run(main)


@pytest.mark.parametrize(
    "topic",
    [
        NewHeads(),
        Logs(LogPattern(frozenset(), ())),
        PendingTransactions(full=False),
        PendingTransactions(full=True),
        Syncing(),
    ],
)
def test_who_unsubscribed_or_left_hears_nothing_and_others_go_on(topic: Topic) -> None:
    async def main() -> None:
        bench = Bench()
        (stays, hears), (leaves, deaf), (unsubscribes, silent) = (bench.connection() for _ in range(3))
        for connection in (stays, leaves, unsubscribes):
            subscription_id = answered(connection, topic)
        unsubscribes.unsubscribe(subscription_id)
        leaves.close()
        leaves.close()
        bench.hub.publish_pending([TRANSACTION])
        assert (deaf.arrived, silent.arrived) == (1, 1), "the answers alone"
        assert hears.arrived == (2 if isinstance(topic, PendingTransactions) else 1)
        stays.close()

    run(main)


def test_one_slow_follower_is_dropped_and_the_others_hear_everything() -> None:
    async def main() -> None:
        bench = Bench(send_queue_messages=5)
        followers = [bench.connection() for _ in range(4)]
        for connection, _ in followers:
            answered(connection, PendingTransactions(full=True))
        slow = followers[2][1]
        slow.is_ready = False
        for _ in range(10):
            bench.hub.publish_pending([TRANSACTION])
        assert [bool(wire.dropped) for _, wire in followers] == [False, False, True, False]
        assert [wire.arrived for _, wire in followers] == [11, 11, 1, 11]

    run(main)


def test_ids_are_quantities_that_nobody_can_guess() -> None:
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(each) == 34 and each[2] != "0" for each in ids)
