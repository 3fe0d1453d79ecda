"""trace_*: Parity's forms of what happened, of what would, and of what happened somewhere."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from astralink_node.chain.messages import Answer, Query
from astralink_node.evm.transactions import decode_transaction
from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.rpc_errors import RESPONSE_TOO_LARGE
from astralink_node.storage import keys
from tests.support.gateways import ALICE, BOB, COUNTER, REVERTER, Client, SmallNode, hexed, signed, with_client
from tests.support.traced_chains import CALLER, DESTROYER, HOARDER, HOARDER_GAS, traced_block, traced_node

APIS = ("eth", "trace")
SLOT = "0x" + "00" * 32


def traced(body: Any, **more: Any) -> None:
    node = traced_node()
    hashes = [hexed(each) for each in traced_block(node)]

    async def main(client: Client) -> None:
        await body(client, hashes)

    with_client(main, node=node, apis=APIS, **more)


def test_a_blocks_traces_are_flat_and_say_where_they_stand() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        block = await client.call("eth_getBlockByNumber", "0x1", False)
        traces = await client.call("trace_block", "0x1")
        assert [trace["transactionPosition"] for trace in traces] == [0, 1, 1, 1, 1, 1, 2, 3, 4, 4]
        transfer = traces[0]
        assert transfer == {
            "action": {
                "from": hexed(ALICE.address),
                "callType": "call",
                "gas": hex(100_000 - 21_000),
                "input": "0x",
                "to": hexed(BOB.address),
                "value": "0x7",
            },
            "blockHash": block["hash"],
            "blockNumber": 1,
            "result": {"gasUsed": "0x0", "output": "0x"},
            "subtraces": 0,
            "traceAddress": [],
            "transactionHash": hashes[0],
            "transactionPosition": 0,
            "type": "call",
        }
        reverted = traces[6]
        assert (reverted["error"], reverted["result"]["output"][:10]) == ("Reverted", "0x08c379a0")
        created = traces[7]
        receipt = await client.call("eth_getTransactionReceipt", hashes[3])
        assert (created["type"], created["action"]["creationMethod"]) == ("create", "create")
        assert (created["result"]["address"], created["result"]["code"]) == (receipt["contractAddress"], "0xfe")
        destroyed = traces[9]
        assert destroyed["type"] == "suicide"
        assert destroyed["action"] == {
            "address": hexed(DESTROYER),
            "refundAddress": hexed(BOB.address),
            "balance": "0x5",
        }
        assert destroyed["result"] is None
        assert await client.call("trace_block", "0x0") == []
        assert await client.call("trace_block", "0x63") is None

    traced(body)


def test_one_transactions_traces_and_one_of_them_by_its_path() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        block = await client.call("trace_block", "latest")
        traces = await client.call("trace_transaction", hashes[1])
        assert traces == block[1:6]
        assert [trace["traceAddress"] for trace in traces] == [[], [0], [1], [2], [3]]
        assert [trace["subtraces"] for trace in traces] == [4, 0, 0, 0, 0]
        assert await client.call("trace_get", hashes[1], ["0x1"]) == traces[2]
        assert await client.call("trace_get", hashes[1], [3]) == traces[4]
        assert await client.call("trace_get", hashes[1], []) == traces[0]
        assert await client.call("trace_get", hashes[1], ["0x9"]) is None
        assert await client.call("trace_transaction", "0x" + "01" * 32) is None
        assert await client.call("trace_get", "0x" + "01" * 32, []) is None

    traced(body)


def test_calls_of_precompiles_that_move_no_value_are_left_out() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        traces = await client.call("trace_transaction", hashes[1])
        assert "staticcall" not in {trace["action"].get("callType") for trace in traces}
        assert "delegatecall" in {trace["action"].get("callType") for trace in traces}

    traced(body)


# --- Replays ---------------------------------------------------------------------------------------------------


def test_a_replayed_transaction_has_what_was_asked_for_and_null_for_the_rest() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        nothing = await client.call("trace_replayTransaction", hashes[1], [])
        assert nothing == {"output": "0x", "stateDiff": None, "trace": [], "vmTrace": None}
        found = await client.call("trace_replayTransaction", hashes[1], ["trace", "stateDiff", "vmTrace"])
        assert len(found["trace"]) == 5
        assert "blockHash" not in found["trace"][0]
        assert found["vmTrace"]["ops"][0]["op"] == "PUSH0"
        counter = found["stateDiff"][hexed(COUNTER)]
        assert counter == {
            "balance": "=",
            "nonce": "=",
            "code": "=",
            "storage": {SLOT: {"*": {"from": f"0x{56:064x}", "to": f"0x{57:064x}"}}},
        }
        alice = found["stateDiff"][hexed(ALICE.address)]
        assert alice["nonce"] == {"*": {"from": "0x1", "to": "0x2"}}
        assert set(alice["balance"]) == {"*"}
        (created,) = [each for each in found["stateDiff"].values() if each["nonce"] == {"+": "0x1"}]
        assert created["code"] == {"+": "0x"}
        reverted = await client.call("trace_replayTransaction", hashes[2], "trace")
        assert reverted["output"].startswith("0x08c379a0")

    traced(body)


def test_a_replayed_block_names_its_transactions() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        found = await client.call("trace_replayBlockTransactions", "0x1", ["trace"])
        assert [each["transactionHash"] for each in found] == hashes
        single = await client.call("trace_replayTransaction", hashes[1], ["trace"])
        assert found[1] == {**single, "transactionHash": hashes[1]}
        assert await client.call("trace_replayBlockTransactions", "0x0", ["trace"]) == []
        assert await client.call("trace_replayBlockTransactions", "0x63", ["trace"]) is None
        error = await client.error("trace_replayTransaction", "0x" + "01" * 32, ["trace"])
        assert error == {"code": -32000, "message": "transaction not found"}

    traced(body)


# --- Calls -----------------------------------------------------------------------------------------------------


def test_a_call_is_traced_without_happening() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        call = {"from": hexed(ALICE.address), "to": hexed(COUNTER)}
        for block, before in (("0x0", 56), ("latest", 57)):
            found = await client.call("trace_call", call, ["stateDiff", "trace"], block)
            change = found["stateDiff"][hexed(COUNTER)]["storage"][SLOT]["*"]
            assert change == {"from": f"0x{before:064x}", "to": f"0x{before + 1:064x}"}
            assert found["trace"][0]["action"]["to"] == hexed(COUNTER)

    traced(body)


def test_many_calls_stand_on_each_other() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        call = {"from": hexed(ALICE.address), "to": hexed(COUNTER)}
        calls = [[call, ["stateDiff"]], [call, ["trace", "stateDiff"]], [{"to": hexed(REVERTER)}, ["trace"]]]
        found = await client.call("trace_callMany", calls, "latest")
        values = [each["stateDiff"][hexed(COUNTER)]["storage"][SLOT]["*"]["to"] for each in found[:2]]
        assert values == [f"0x{58:064x}", f"0x{59:064x}"]
        assert found[0]["trace"] == []
        assert found[2]["trace"][0]["error"] == "Reverted"
        assert await client.call("trace_callMany", [], "latest") == []

    traced(body)


def test_a_contract_made_by_one_of_many_calls_can_be_called_by_the_next() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        initcode = "0x6300000001" + "5f52" + "6001601ff3"  # deploys one byte, 0x01: ADD
        creating = {"from": hexed(BOB.address), "data": initcode}
        (made,) = await client.call("trace_callMany", [[creating, ["trace"]]], "latest")
        address = made["trace"][0]["result"]["address"]
        calls = [[creating, ["trace"]], [{"to": address}, ["trace"]]]
        _, called = await client.call("trace_callMany", calls, "latest")
        assert called["trace"][0]["error"] == "Stack underflow"

    traced(body)


def test_a_signed_transaction_is_traced_without_being_sent() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        for raw in (
            signed(BOB, nonce=9, to=COUNTER),
            signed(BOB, nonce=9, to=COUNTER, gasPrice=3 * 10**9),
        ):
            found = await client.call("trace_rawTransaction", hexed(raw), ["trace"])
            assert found["trace"][0]["action"]["from"] == hexed(BOB.address)
            assert decode_transaction(raw).hash not in client.node.pool
        assert "transaction encoding" in (await client.error("trace_rawTransaction", "0x02", ["trace"]))["message"]
        foreign = signed(BOB, nonce=0, to=COUNTER, chainId=7)
        assert "chain id" in (await client.error("trace_rawTransaction", hexed(foreign), ["trace"]))["message"]

    traced(body)


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("5b5f56", "Out of gas"),
        ("61c0015f5ff0", "Out of gas"),
        ("fe", "Bad instruction"),
        ("0c", "Bad instruction"),
        ("5f56", "Bad jump destination"),
        ("01", "Stack underflow"),
        ("5b5f5f56", "Out of stack"),
        ("5f5ffd", "Reverted"),
        ("60205f5f3e", "Out of bounds"),
    ],
)
def test_errors_have_openethereums_words(code: str, word: str) -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        # Initcode is code like any other.
        found = await client.call("trace_call", {"data": "0x" + code, "gas": hex(100_000)}, ["trace"])
        assert found["trace"][0]["error"] == word
        assert (found["trace"][0]["result"] is None) == (word != "Reverted")

    traced(body)


def test_a_failing_precompile_and_a_forbidden_write_have_words_of_their_own() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        ecadd = {"to": "0x" + "00" * 19 + "06", "data": "0x" + "ff" * 64, "gas": hex(100_000)}
        found = await client.call("trace_call", ecadd, ["trace"])
        assert found["trace"][0]["error"] == "Built-in failed"
        static = "5f5f5f5f73" + COUNTER.hex() + "61ffff" + "fa00"
        found = await client.call("trace_call", {"data": "0x" + static, "gas": hex(200_000)}, ["trace"])
        assert found["trace"][1]["error"] == "Mutable Call In Static Context"

    traced(body)


# --- Filters ---------------------------------------------------------------------------------------------------


def test_a_filter_finds_traces_by_sender_and_recipient() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        alice, bob, caller, counter = (hexed(each) for each in (ALICE.address, BOB.address, CALLER, COUNTER))
        everything = await client.call("trace_filter", {"fromBlock": "0x0", "toBlock": "latest"})
        assert everything == await client.call("trace_block", "0x1")

        async def count(**given: Any) -> int:
            return len(await client.call("trace_filter", given))

        assert await count(fromAddress=[alice]) == 5
        assert await count(fromAddress=[caller]) == 4
        assert await count(toAddress=[bob]) == 2
        assert await count(fromAddress=[caller], toAddress=[counter]) == 2
        assert await count(fromAddress=[alice], toAddress=[bob]) == 1
        assert await count(fromAddress=[alice], toAddress=[bob], mode="union") == 6
        assert await count(fromAddress=[alice], toAddress=[bob], mode="intersection") == 1
        assert await count(fromAddress="0x" + "99" * 20) == 0

    traced(body)


def test_matches_come_in_pages() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        everything = await client.call("trace_filter", {})
        for after, count in ((0, 3), (3, 3), (8, 100), (100, 1)):
            page = await client.call("trace_filter", {"after": after, "count": count})
            assert page == everything[after : after + count]
        assert await client.call("trace_filter", {"after": "0x1", "count": "0x1"}) == everything[1:2]
        assert await client.call("trace_filter", {"count": 0}) == []

    traced(body)


def test_a_filters_range_and_results_are_bounded() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        for _ in range(3):
            client.node.produce()
        error = await client.error("trace_filter", {"fromBlock": "0x0", "toBlock": "0x3"})
        assert error["code"] == -32005
        assert "at most 3 blocks can be filtered at a time, found 4" in error["message"]
        error = await client.error("trace_filter", {"fromBlock": "0x1", "toBlock": "0x2"})
        assert error["code"] == -32005
        assert "more than 5 traces match" in error["message"]
        assert len(await client.call("trace_filter", {"fromBlock": "0x1", "toBlock": "0x2", "count": 5})) == 5
        error = await client.error("trace_filter", {"fromBlock": "0x3", "toBlock": "0x2"})
        assert error["code"] == -32000
        assert await client.call("trace_filter", {"fromBlock": "0x2", "toBlock": "0x63"}) == []

    traced(body, limits=GatewayLimits(trace_filter_blocks=3, trace_filter_results=5))


def long_chain(*, explorer_index: bool) -> SmallNode:
    """Blocks 1, 5 and 9 hold transactions, of ten."""
    node = traced_node(explorer_index=explorer_index)
    for nonce, height in enumerate((1, 5, 9)):
        while node.execution.status().head_height < height - 1:
            node.produce()
        node.add(signed(ALICE, nonce=nonce, to=CALLER, gas=300_000))
        node.produce()
    node.produce()
    return node


def test_a_long_range_is_filtered_by_the_explorer_index() -> None:
    async def body(client: Client) -> None:
        async def blocks(**given: Any) -> list[int]:
            found = await client.call("trace_filter", {"fromBlock": "0x0", "toBlock": "latest", **given})
            return sorted({trace["blockNumber"] for trace in found})

        assert await blocks(toAddress=[hexed(COUNTER)]) == [1, 5, 9]
        assert await blocks(toAddress=[hexed(COUNTER)], toBlock="0x8") == [1, 5]
        assert await blocks(toAddress=[hexed(COUNTER)], fromBlock="0x2") == [5, 9]
        assert await blocks(fromAddress=[hexed(CALLER)], toAddress=[hexed(COUNTER), hexed(REVERTER)]) == [1, 5, 9]
        assert await blocks(fromAddress=["0x" + "99" * 20], toAddress=[hexed(BOB.address)], mode="union") == []
        for refused in ({}, {"toAddress": [f"0x{number:040x}" for number in range(9)]}):
            error = await client.error("trace_filter", {"fromBlock": "0x0", **refused})
            assert (error["code"], "at most 3 blocks" in error["message"]) == (-32005, True)

    node = long_chain(explorer_index=True)
    with_client(body, node=node, apis=APIS, limits=GatewayLimits(trace_filter_blocks=3))


def test_more_blocks_than_the_bound_are_refused_even_if_the_index_names_them() -> None:
    async def body(client: Client) -> None:
        error = await client.error("trace_filter", {"fromBlock": "0x0", "toAddress": [hexed(COUNTER)]})
        assert error["code"] == -32005
        assert "more than 2 blocks of it have such transactions" in error["message"]

    node = long_chain(explorer_index=True)
    with_client(body, node=node, apis=APIS, limits=GatewayLimits(trace_filter_blocks=2))


def test_without_the_index_a_long_range_is_refused_with_the_command_that_builds_it() -> None:
    async def body(client: Client) -> None:
        error = await client.error("trace_filter", {"fromBlock": "0x0", "toAddress": [hexed(COUNTER)]})
        assert error["code"] == -32005
        assert "astralink-node db index" in error["message"]

    node = long_chain(explorer_index=False)
    with_client(body, node=node, apis=APIS, limits=GatewayLimits(trace_filter_blocks=3))


def test_a_long_range_with_blocks_that_the_node_does_not_have_is_refused() -> None:
    """A node that joined with a snapshot at block 6 knows nothing of what happened below it."""

    async def body(client: Client) -> None:
        wanted = {"toAddress": [hexed(COUNTER)], "toBlock": "latest"}
        error = await client.error("trace_filter", {"fromBlock": "0x1", **wanted})
        assert error["code"] == -32005
        assert "this node does not have blocks 1 to 5: it joined with a snapshot" in error["message"]
        found = await client.call("trace_filter", {"fromBlock": "0x6", **wanted})
        assert {trace["blockNumber"] for trace in found} == {9}

    node = long_chain(explorer_index=True)
    node.store.write({keys.OLDEST_BLOCK_KEY: keys.encode_height(6)}, sync=True)
    with_client(body, node=node, apis=APIS, limits=GatewayLimits(trace_filter_blocks=3))


# --- Arguments -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("trace_call", [{"to": hexed(COUNTER)}, ["everything"]]),
        ("trace_call", [{"to": hexed(COUNTER)}, 7]),
        ("trace_callMany", [[{"to": hexed(COUNTER)}], "latest"]),
        ("trace_callMany", [[[{"to": hexed(COUNTER)}, ["trace"]]] * 129, "latest"]),
        ("trace_callMany", ["0x", "latest"]),
        ("trace_get", ["0x" + "01" * 32, "0x1"]),
        ("trace_get", ["0x" + "01" * 32, [-1]]),
        ("trace_get", ["0x" + "01" * 32, [0] * 1025]),
        ("trace_filter", [[]]),
        ("trace_filter", [{"fromAddress": 7}]),
        ("trace_filter", [{"after": -1}]),
        ("trace_filter", [{"mode": "both"}]),
        ("trace_filter", [{"fromBlock": "latest?"}]),
    ],
)
def test_arguments_of_the_wrong_form_are_refused(method: str, params: list[Any]) -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        assert (await client.error(method, *params))["code"] == -32602

    traced(body)


def test_a_trace_that_would_be_too_large_is_refused() -> None:
    node = traced_node()
    node.add(signed(ALICE, nonce=0, to=HOARDER, gas=HOARDER_GAS))
    node.produce()

    async def body(client: Client) -> None:
        call = {"to": hexed(HOARDER), "gas": hex(HOARDER_GAS)}
        error = await client.error("trace_call", call, ["trace"])
        assert error["code"] == -32005
        assert "the trace is larger than" in error["message"]
        assert "cannot be traced" in (await client.error("trace_block", "latest"))["message"]

    with_client(body, node=node, apis=APIS)


LARGE = "0x5f62020000525f" + "5f5f620200005f60cc610100fa" * 4
"""Initcode: four static calls, each with 128 KiB of the same memory as its data."""


@pytest.mark.parametrize("kind", ["trace", "vmTrace"])
def test_a_call_whose_json_is_longer_than_the_limit_of_answers_is_refused(kind: str) -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        call = {"data": LARGE if kind == "trace" else "0x5b5f56", "gas": hex(300_000)}
        error = await client.error("trace_call", call, [kind], "latest")
        assert error["code"] == RESPONSE_TOO_LARGE
        error = await client.error("trace_callMany", [[call, [kind]]], "latest")
        assert error["code"] == RESPONSE_TOO_LARGE

    traced(body, limits=GatewayLimits(response_bytes=100_000))


def test_of_many_calls_none_runs_after_the_answer_has_reached_its_limit() -> None:
    node = traced_node()
    read = 0

    async def main(client: Client) -> None:
        nonlocal read
        stream = node.stream

        async def counted(query: Query) -> AsyncGenerator[Answer]:
            nonlocal read
            async with aclosing(stream(query)) as answers:
                async for answer in answers:
                    read += 1
                    yield answer

        node.stream = counted  # type: ignore[method-assign]
        calls = [[{"data": LARGE, "gas": hex(300_000)}, ["trace"]]] * 128
        assert (await client.error("trace_callMany", calls, "latest"))["code"] == RESPONSE_TOO_LARGE

    with_client(main, node=node, apis=APIS, limits=GatewayLimits(response_bytes=3_000_000))
    assert read == 3
