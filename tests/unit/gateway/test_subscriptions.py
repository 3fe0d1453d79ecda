"""Outboxes are bounded, and a subscription's events follow the answer that names it."""

import asyncio

import orjson
import pytest

from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.rpc_errors import LIMIT_EXCEEDED, RpcError
from astralink_node.gateway.subscriptions import Connection, NewHeads, Outbox, SubscriptionHub, new_id
from tests.support.asynchronous import run


def test_messages_leave_in_the_order_they_came() -> None:
    async def main() -> None:
        outbox = Outbox(10, 100)
        waiting = asyncio.create_task(outbox.get())
        await asyncio.sleep(0)
        for message in (b"a", b"b", b"c"):
            outbox.put(message)
        assert [await waiting, await outbox.get(), await outbox.get()] == [b"a", b"b", b"c"]

    run(main)


def test_an_outbox_overflows_by_count_or_bytes_and_stays_so() -> None:
    async def main() -> None:
        by_count = Outbox(2, 1000)
        for _ in range(3):
            by_count.put(b"x")
        assert by_count.overflowed.is_set()
        by_bytes = Outbox(1000, 10)
        by_bytes.put(b"123456")
        assert not by_bytes.overflowed.is_set()
        by_bytes.put(b"123456")
        assert by_bytes.overflowed.is_set()

    run(main)


def test_one_message_may_be_larger_than_the_byte_bound() -> None:
    async def main() -> None:
        outbox = Outbox(10, 10)
        outbox.put(b"x" * 100)
        assert await outbox.get() == b"x" * 100
        assert not outbox.overflowed.is_set()

    run(main)


def test_events_wait_for_the_answer_that_names_their_subscription() -> None:
    async def main() -> None:
        connection = Connection(GatewayLimits())
        subscription_id = connection.subscribe(NewHeads())
        connection.send_event(subscription_id, b'"early"')
        connection.send_answer(b'{"id":1,"result":"another"}')
        connection.send_answer(b'{"id":2,"result":"%b"}' % subscription_id.encode())
        connection.send_event(subscription_id, b'"late"')
        messages = [orjson.loads(await connection.outbox.get()) for _ in range(4)]
        assert [message.get("id") for message in messages] == [1, 2, None, None]
        assert [message["params"]["result"] for message in messages[2:]] == ["early", "late"]

    run(main)


def test_subscriptions_of_a_connection_are_bounded() -> None:
    async def main() -> None:
        connection = Connection(GatewayLimits(subscriptions_per_connection=2))
        first = connection.subscribe(NewHeads())
        connection.subscribe(NewHeads())
        with pytest.raises(RpcError) as refusal:
            connection.subscribe(NewHeads())
        assert refusal.value.code == LIMIT_EXCEEDED
        assert connection.unsubscribe(first)
        assert not connection.unsubscribe(first)
        connection.subscribe(NewHeads())

    run(main)


def test_a_connection_that_left_hears_nothing() -> None:
    async def main() -> None:
        hub = SubscriptionHub()
        connection = Connection(GatewayLimits())
        hub.join(connection)
        hub.leave(connection)
        hub.leave(connection)
        hub.publish_pending(())

    run(main)


def test_ids_are_quantities_that_nobody_can_guess() -> None:
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(each) == 34 and each[2] != "0" for each in ids)
