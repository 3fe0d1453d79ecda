"""eth_getLogs, polled filters and pushed subscriptions against the real execution facade."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from astralink_node.chain.messages import Answer, Query
from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.link_messages import GetNetworkView, Reply, Request, SyncProgress
from astralink_node.gateway.methods.eth_logs import FEW_LOGS
from astralink_node.gateway.reading.errors import Unavailable
from astralink_node.gateway.rpc_errors import INVALID_PARAMS, LIMIT_EXCEEDED, METHOD_NOT_FOUND, SERVER_ERROR
from tests.support.chains import CONTRACTS, EMITTER
from tests.support.gateways import ALICE, BOB, ECHO, Client, SmallNode, hexed, signed, with_client
from tests.support.networks import network_of
from tests.support.wires import MemoryWire

ONE, TWO = "0x" + "01" * 32, "0x" + "02" * 32


def emit(node: SmallNode, *topics: str) -> None:
    """A block in which Alice logs each topic; the block is empty without any."""
    from astralink_node.chain.messages import AccountsAnswer, AccountsQuestion, AtLatest, Query

    answer = node.execution.query(Query(AtLatest(), AccountsQuestion((ALICE.address,))))
    assert isinstance(answer, AccountsAnswer)
    for nonce, topic in enumerate(topics, start=answer.accounts[0].nonce):
        node.add(signed(ALICE, to=ECHO, nonce=nonce, data=bytes.fromhex(topic[2:])))
    node.produce()


def topics_of(logs: list[dict[str, Any]]) -> list[str]:
    return [log["topics"][0] for log in logs]


@pytest.mark.parametrize("cached_blocks", [256, 1])
def test_logs_are_found_by_range_address_and_topic(cached_blocks: int) -> None:
    async def body(client: Client) -> None:
        emit(client.node, ONE, TWO)
        emit(client.node)
        emit(client.node, ONE)

        async def found(**wanted: object) -> list[str]:
            return topics_of(await client.call("eth_getLogs", wanted))

        assert await found(fromBlock="earliest", toBlock="latest") == [ONE, TWO, ONE]
        assert await found() == [ONE]
        assert await found(fromBlock="0x1", toBlock="0x2") == [ONE, TWO]
        assert await found(fromBlock="0x1", topics=[TWO]) == [TWO]
        assert await found(fromBlock="0x1", topics=[[TWO, ONE]]) == [ONE, TWO, ONE]
        assert await found(fromBlock="0x1", topics=[None, ONE]) == []
        assert await found(fromBlock="0x1", address=hexed(ECHO)) == [ONE, TWO, ONE]
        assert await found(fromBlock="0x1", address=[hexed(BOB.address)]) == []
        logs = await client.call("eth_getLogs", {"fromBlock": "0x1"})
        assert [int(log["logIndex"], 16) for log in logs] == [0, 1, 0]
        assert [log["blockNumber"] for log in logs] == ["0x1", "0x1", "0x3"]
        assert await found(blockHash=logs[0]["blockHash"], topics=[TWO]) == [TWO]

    with_client(body, limits=GatewayLimits(cached_blocks=cached_blocks))


@pytest.mark.parametrize(
    ("wanted", "code", "words"),
    [
        ({"fromBlock": "0x1", "toBlock": "0x9"}, INVALID_PARAMS, "block range extends beyond current head block"),
        ({"fromBlock": "0x1", "toBlock": "0x0"}, INVALID_PARAMS, "invalid block range params"),
        ({"fromBlock": "pending"}, INVALID_PARAMS, "pending logs are not supported"),
        ({"blockHash": "0x" + "99" * 32}, SERVER_ERROR, "unknown block"),
        ({"topics": [None] * 5}, INVALID_PARAMS, "exceed max topics"),
        ({"fromBlock": "0x0", "toBlock": "0x1", "blockHash": ONE}, INVALID_PARAMS, "cannot specify both BlockHash"),
    ],
)
def test_log_queries_that_make_no_sense_are_refused(wanted: dict[str, object], code: int, words: str) -> None:
    async def body(client: Client) -> None:
        client.node.produce()
        error = await client.error("eth_getLogs", wanted)
        assert (error["code"], words in error["message"]) == (code, True)

    with_client(body)


@pytest.mark.parametrize("cached_blocks", [256, 1])
def test_log_queries_are_bounded_in_range_and_results(cached_blocks: int) -> None:
    async def body(client: Client) -> None:
        emit(client.node, ONE, ONE, ONE)
        emit(client.node)
        error = await client.error("eth_getLogs", {"fromBlock": "0x0", "toBlock": "0x2"})
        assert error == {"code": LIMIT_EXCEEDED, "message": "block range too large: 3 blocks, at most 2"}
        error = await client.error("eth_getLogs", {"fromBlock": "0x1", "toBlock": "0x2"})
        assert error == {"code": LIMIT_EXCEEDED, "message": "query returned more than 2 results"}

    with_client(body, limits=GatewayLimits(log_range_blocks=2, log_results=2, cached_blocks=cached_blocks))


@pytest.mark.parametrize("cached_blocks", [256, 1])
def test_many_logs_are_told_as_few_are(cached_blocks: int) -> None:
    async def body(client: Client) -> None:
        client.node.add(signed(ALICE, to=EMITTER, nonce=0, gas=1_000_000))
        client.node.produce()
        emit(client.node)
        logs = await client.call("eth_getLogs", {"fromBlock": "0x1"})
        assert len(logs) > FEW_LOGS
        (receipt,) = await client.call("eth_getBlockReceipts", "0x1")
        assert logs == receipt["logs"]

    node = SmallNode(contracts={EMITTER: CONTRACTS[EMITTER]})
    with_client(body, node=node, limits=GatewayLimits(cached_blocks=cached_blocks))


@pytest.mark.parametrize("cached_blocks", [256, 1])
def test_filters_tell_what_is_new_once(cached_blocks: int) -> None:
    async def body(client: Client) -> None:
        emit(client.node, ONE)
        logs = await client.call("eth_newFilter", {"topics": [ONE]})
        everything = await client.call("eth_newFilter", {"fromBlock": "earliest"})
        blocks = await client.call("eth_newBlockFilter")
        pending = await client.call("eth_newPendingTransactionFilter")
        for filter_id in (logs, blocks, pending):
            assert await client.call("eth_getFilterChanges", filter_id) == []
        emit(client.node, ONE, TWO)
        sent = await client.call("eth_sendRawTransaction", hexed(signed(BOB, to=ECHO, nonce=0, data=b"\2" * 32)))
        client.node.produce()
        assert topics_of(await client.call("eth_getFilterChanges", logs)) == [ONE]
        assert topics_of(await client.call("eth_getFilterChanges", everything)) == [ONE, TWO, TWO]
        assert topics_of(await client.call("eth_getFilterLogs", everything)) == [ONE, ONE, TWO, TWO]
        hashes = [(await client.call("eth_getBlockByNumber", height, False))["hash"] for height in ("0x2", "0x3")]
        assert await client.call("eth_getFilterChanges", blocks) == hashes
        assert await client.call("eth_getFilterChanges", pending) == [sent]
        for filter_id in (logs, blocks, pending, everything):
            assert await client.call("eth_getFilterChanges", filter_id) == []
            assert await client.call("eth_uninstallFilter", filter_id) is True
            assert await client.call("eth_uninstallFilter", filter_id) is False
            error = await client.error("eth_getFilterChanges", filter_id)
            assert error == {"code": SERVER_ERROR, "message": "filter not found"}

    with_client(body, limits=GatewayLimits(cached_blocks=cached_blocks))


def test_a_pending_filter_tells_whole_transactions_to_whom_asks_for_them() -> None:
    async def body(client: Client) -> None:
        full = await client.call("eth_newPendingTransactionFilter", True)
        hashes = await client.call("eth_newPendingTransactionFilter", False)
        sent = await client.call("eth_sendRawTransaction", hexed(signed(BOB, to=ECHO, nonce=0, data=b"\2" * 32)))
        pending = await client.call("eth_getTransactionByHash", sent)
        assert pending["blockHash"] is None
        client.node.produce()
        assert await client.call("eth_getFilterChanges", full) == [pending]
        assert await client.call("eth_getFilterChanges", full) == []
        assert await client.call("eth_getFilterChanges", hashes) == [sent]
        error = await client.error("eth_newPendingTransactionFilter", "yes")
        assert error["message"] == 'invalid argument 0: fullTransactions: expected true or false, found "yes"'
        error = await client.error("eth_getFilterLogs", full)
        assert error["message"] == "filter not found"

    with_client(body)


def test_a_filter_stays_within_its_range() -> None:
    async def body(client: Client) -> None:
        bounded = await client.call("eth_newFilter", {"fromBlock": "0x2", "toBlock": "0x2"})
        for _ in range(3):
            emit(client.node, ONE)
        logs = await client.call("eth_getFilterChanges", bounded)
        assert [log["blockNumber"] for log in logs] == ["0x2"]
        assert await client.call("eth_getFilterChanges", bounded) == []

    with_client(body)


def test_a_poll_that_would_be_too_long_is_told_block_by_block() -> None:
    async def body(client: Client) -> None:
        logs = await client.call("eth_newFilter", {})
        for _ in range(3):
            emit(client.node, ONE, TWO)
        found = [await client.call("eth_getFilterChanges", logs) for _ in range(4)]
        assert [[log["blockNumber"] for log in part] for part in found] == [["0x1"] * 2, ["0x2"] * 2, ["0x3"] * 2, []]

    with_client(body, limits=GatewayLimits(log_results=3))


@pytest.mark.parametrize("kind", ["eth_newFilter", "eth_newBlockFilter"])
def test_what_a_poll_that_failed_would_have_told_is_told_by_the_next(kind: str) -> None:
    class Failing(SmallNode):
        is_down = False

        async def query(self, query: Query) -> Answer:
            if self.is_down:
                raise Unavailable("the execution process is temporarily unavailable")
            return await super().query(query)

    node = Failing()

    async def body(client: Client) -> None:
        polled = await client.call(kind, *([{}] if kind == "eth_newFilter" else []))
        emit(node, ONE)
        emit(node)
        emit(node)
        node.is_down = True
        await client.error("eth_getFilterChanges", polled)
        node.is_down = False
        assert len(await client.call("eth_getFilterChanges", polled)) == (1 if kind == "eth_newFilter" else 3)

    with_client(body, node=node, limits=GatewayLimits(cached_blocks=1))


def test_filter_logs_are_for_log_filters_and_filters_for_the_future() -> None:
    async def body(client: Client) -> None:
        blocks = await client.call("eth_newBlockFilter")
        assert (await client.error("eth_getFilterLogs", blocks))["message"] == "filter not found"
        assert (await client.error("eth_newFilter", {"blockHash": ONE}))["code"] == INVALID_PARAMS
        error = await client.error("eth_newFilter", {"fromBlock": "0x5", "toBlock": "0x1"})
        assert (error["code"], error["message"]) == (INVALID_PARAMS, "invalid block range params")
        assert await client.call("eth_newFilter", {"fromBlock": "0x5", "toBlock": "0x5"})
        assert await client.call("eth_newFilter", {"fromBlock": "0xffff"}), "blocks to come"

    with_client(body)


def test_subscriptions_need_a_connection_that_can_be_pushed_to() -> None:
    async def body(client: Client) -> None:
        error = await client.error("eth_subscribe", "newHeads")
        assert error == {"code": METHOD_NOT_FOUND, "message": "notifications not supported"}
        assert (await client.error("eth_unsubscribe", "0x1"))["code"] == METHOD_NOT_FOUND

    with_client(body)


class Socket:
    """A WebSocket client of a gateway object."""

    def __init__(self, client: Client) -> None:
        self.wire = MemoryWire()
        self.connection = client.gateway.open_connection(self.wire)


async def over(client: Client, socket: Socket, method: str, *params: object) -> Any:
    body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
    await client.gateway.answer_connection(socket.connection, body)
    return orjson.loads(await socket.wire.get())


async def events(socket: Socket, count: int) -> list[tuple[str, Any]]:
    messages = [orjson.loads(await socket.wire.get())["params"] for _ in range(count)]
    return [(message["subscription"], message["result"]) for message in messages]


def test_subscribers_hear_of_heads_logs_and_pending_transactions() -> None:
    async def body(client: Client) -> None:
        socket = Socket(client)
        heads = (await over(client, socket, "eth_subscribe", "newHeads"))["result"]
        logs = (await over(client, socket, "eth_subscribe", "logs", {"address": hexed(ECHO), "topics": [ONE]}))[
            "result"
        ]
        hashes = (await over(client, socket, "eth_subscribe", "newPendingTransactions"))["result"]
        bodies = (await over(client, socket, "eth_subscribe", "newPendingTransactions", True))["result"]
        assert "result" in await over(client, socket, "eth_subscribe", "syncing")
        raw = signed(ALICE, to=ECHO, nonce=0, data=bytes.fromhex(ONE[2:]))
        sent = await client.call("eth_sendRawTransaction", hexed(raw))
        assert await events(socket, 2) == [
            (hashes, sent),
            (bodies, await client.call("eth_getTransactionByHash", sent)),
        ]
        client.node.produce()
        (head_id, head), (log_id, log) = await events(socket, 2)
        block = await client.call("eth_getBlockByNumber", "latest", False)
        assert head_id == heads
        assert head == {name: block[name] for name in head}
        assert not {"transactions", "size", "uncles"} & set(head)
        assert log_id == logs
        assert [log] == await client.call("eth_getLogs", {})
        assert (await over(client, socket, "eth_unsubscribe", heads))["result"] is True
        assert (await over(client, socket, "eth_unsubscribe", heads))["error"]["message"] == "subscription not found"
        emit(client.node, TWO)
        emit(client.node, ONE)
        assert [each for each, _ in await events(socket, 1)] == [logs]

    with_client(body)


def test_receipts_of_named_transactions_or_of_all_come_block_by_block() -> None:
    async def body(client: Client) -> None:
        raws = [signed(ALICE, to=ECHO, nonce=nonce) for nonce in range(3)]
        hashes = [hexed(client.node.add(raw)) for raw in raws]
        socket = Socket(client)
        every = (await over(client, socket, "eth_subscribe", "transactionReceipts"))["result"]
        wanted = {"transactionHashes": [hashes[1], "0x" + "ab" * 32]}
        one = (await over(client, socket, "eth_subscribe", "transactionReceipts", wanted))["result"]
        client.node.produce()
        receipts = await client.call("eth_getBlockReceipts", "latest")
        assert await events(socket, 2) == [(every, receipts), (one, [receipts[1]])]
        client.node.produce()  # of an empty block there is nothing to tell
        emit(client.node, ONE)
        assert [each for each, _ in await events(socket, 1)] == [every]

    with_client(body)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ({"transactionHashes": "0x"}, "filter.transactionHashes: expected an array"),
        ({"transactionHashes": ["0x1"]}, "filter.transactionHashes[0]: hex string has length 1"),
        ({"transactionHashes": ["0x" + "ab" * 32] * 201}, "at most 200"),
    ],
)
def test_a_receipts_filter_that_cannot_be_is_refused(argument: object, words: str) -> None:
    async def body(client: Client) -> None:
        socket = Socket(client)
        error = (await over(client, socket, "eth_subscribe", "transactionReceipts", argument))["error"]
        assert error["code"] == -32602
        assert words in error["message"]

    with_client(body)


def test_sync_followers_hear_when_catching_up_begins_and_ends() -> None:
    node = SmallNode()

    async def body(client: Client) -> None:
        socket = Socket(client)
        followed = (await over(client, socket, "eth_subscribe", "syncing"))["result"]
        node.produce()  # a node in step: nothing to tell
        node.network = network_of([1], sync=SyncProgress(1, 2, 900))
        node.produce()
        status = {"startingBlock": "0x1", "currentBlock": "0x2", "highestBlock": hex(900)}
        assert await events(socket, 1) == [(followed, {"syncing": True, "status": status})]
        node.network = network_of([1], sync=SyncProgress(1, 3, 900))
        node.produce()  # still behind
        node.network = network_of([1])
        node.produce()
        assert await events(socket, 1) == [(followed, False)]

    with_client(body, node=node)


def test_nobody_asks_the_node_about_its_sync_for_nobody() -> None:
    class Asked(SmallNode):
        asked = 0

        def reply(self, request: Request) -> Reply:
            self.asked += isinstance(request, GetNetworkView)
            return super().reply(request)

    node = Asked()

    async def body(client: Client) -> None:
        socket = Socket(client)
        heads = (await over(client, socket, "eth_subscribe", "newHeads"))["result"]
        for _ in range(3):
            node.produce()
            assert (await events(socket, 1))[0][0] == heads
        assert node.asked == 0

    with_client(body, node=node)


def test_a_read_after_a_head_event_sees_that_head() -> None:
    async def body(client: Client) -> None:
        socket = Socket(client)
        await over(client, socket, "eth_subscribe", "newHeads")
        for nonce in range(5):
            emit(client.node, ONE)
            ((_, head),) = await events(socket, 1)
            assert await client.call("eth_blockNumber") == head["number"]
            assert await client.call("eth_getTransactionCount", hexed(ALICE.address)) == hex(nonce + 1)
            assert (await client.call("eth_getBlockByNumber", "latest", False))["hash"] == head["hash"]

    with_client(body)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (("newStuff",), "invalid argument 0: subscription"),
        ((5,), "invalid argument 0: subscription"),
        ((), "missing value for required argument 0"),
        (("logs", {"topics": ["0x1"]}), "invalid argument 1: filter.topics[0]"),
        (("logs", {"topics": [None] * 5}), "exceed max topics"),
        (("newPendingTransactions", "yes"), "invalid argument 1: fullTransactions"),
    ],
)
def test_subscriptions_to_nonsense_are_refused(params: tuple[object, ...], words: str) -> None:
    async def body(client: Client) -> None:
        error = (await over(client, Socket(client), "eth_subscribe", *params))["error"]
        assert error["code"] == INVALID_PARAMS
        assert words in error["message"]

    with_client(body)


def test_the_events_of_a_subscription_made_in_a_batch_follow_its_answer() -> None:
    async def body(client: Client) -> None:
        socket = Socket(client)
        batch = [
            {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]},
            {"jsonrpc": "2.0", "id": 2, "method": "eth_getCode", "params": [hexed(ECHO)]},
        ]
        queried = client.node.query

        async def with_a_block_meanwhile(query: Any) -> Any:
            client.node.produce()
            return await queried(query)

        client.node.query = with_a_block_meanwhile  # type: ignore[method-assign]
        await client.gateway.answer_connection(socket.connection, orjson.dumps(batch))
        answers = orjson.loads(await socket.wire.get())
        ((subscription_id, head),) = await events(socket, 1)
        assert (answers[0]["result"], head["number"]) == (subscription_id, "0x1")

    with_client(body)
