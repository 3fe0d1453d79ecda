"""debug_*: the forms of geth's tracers, on committed transactions and blocks and on calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from astralink_node.evm import rlp
from astralink_node.evm.blocks import Block, decode_ethereum_block, ethereum_block_rlp
from astralink_node.gateway.config import GatewayLimits
from tests.support.gateways import ALICE, BOB, COUNTER, REVERTER, Client, hexed, signed, with_client
from tests.support.traced_chains import CALLER, DESTROYER, HOARDER, HOARDER_GAS, LOOPER, traced_block, traced_node

APIS = ("eth", "debug", "trace")


def traced(body: Any, **more: Any) -> None:
    """Run the body with the hashes of a block's transactions."""
    node = traced_node()
    hashes = [hexed(each) for each in traced_block(node)]

    async def main(client: Client) -> None:
        await body(client, hashes)

    with_client(main, node=node, apis=APIS, **more)


# --- Struct logs -----------------------------------------------------------------------------------------------


def test_struct_logs_of_a_transfer_are_empty_and_of_a_call_list_every_step() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        transfer = await client.call("debug_traceTransaction", hashes[0])
        assert transfer == {"structLogs": [], "gas": 21_000, "failed": False, "returnValue": "0x"}
        found = await client.call("debug_traceTransaction", hashes[1])
        receipt = await client.call("eth_getTransactionReceipt", hashes[1])
        assert found["gas"] == int(receipt["gasUsed"], 16)
        first = found["structLogs"][0]
        assert first == {"pc": 0, "op": "PUSH0", "gas": first["gas"], "gasCost": 2, "depth": 1, "stack": []}
        assert {step["depth"] for step in found["structLogs"]} == {1, 2}

    traced(body)


def test_a_failed_transaction_is_marked_and_shows_its_revert_data() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        found = await client.call("debug_traceTransaction", hashes[2])
        assert found["failed"] is True
        assert found["returnValue"].startswith("0x08c379a0")

    traced(body)


def test_struct_logs_are_as_wide_as_asked_for() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        options = {"disableStack": True, "enableMemory": True, "enableReturnData": True, "limit": 4}
        found = await client.call("debug_traceTransaction", hashes[2], options)
        assert len(found["structLogs"]) == 4
        assert "stack" not in found["structLogs"][0]
        counted = await client.call("debug_traceTransaction", hashes[1], {})
        stored = [step["storage"] for step in counted["structLogs"] if "storage" in step]
        assert stored[0] == {"0x" + "00" * 32: f"0x{56:064x}"}

    traced(body)


def test_a_block_is_traced_by_number_by_hash_and_by_its_rlp_alike() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        block = await client.call("eth_getBlockByNumber", "0x1", False)
        by_number = await client.call("debug_traceBlockByNumber", "0x1")
        assert [each["txHash"] for each in by_number] == hashes
        assert by_number[1]["result"] == await client.call("debug_traceTransaction", hashes[1])
        assert await client.call("debug_traceBlockByHash", block["hash"]) == by_number
        raw = await client.call("debug_getRawBlock", "0x1")
        assert await client.call("debug_traceBlock", raw) == by_number

    traced(body)


def altered(raw: str, keep: int, **changes: Any) -> str:
    """The block with its first transactions alone, and other fields of its header."""
    block = decode_ethereum_block(bytes.fromhex(raw[2:]))
    header = replace(block.header, **changes)
    return hexed(ethereum_block_rlp(Block(header, block.raw_transactions[:keep])))


@pytest.mark.parametrize("config", [{}, {"tracer": "callTracer"}, {"tracer": "prestateTracer"}])
def test_a_block_that_is_not_the_chains_is_traced_on_the_state_of_its_parent(config: dict[str, Any]) -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        client.node.produce()
        raw = await client.call("debug_getRawBlock", "0x1")
        committed = await client.call("debug_traceBlockByNumber", "0x1", config)
        found = await client.call("debug_traceBlock", altered(raw, 3, extra_data=b"ours"), config)
        assert found == committed[:3]
        assert await client.call("debug_traceBlock", altered(raw, 0, timestamp=2**40), config) == []
        assert await client.call("debug_traceBlock", altered(raw, 5, state_root=bytes(32)), config) == committed

    traced(body)


def test_a_block_on_the_head_is_traced_in_its_own_place() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        head = decode_ethereum_block(bytes.fromhex((await client.call("debug_getRawBlock", "0x1"))[2:])).header
        header = replace(head, number=2, parent_hash=head.hash, gas_limit=10**9)
        raw_transactions = (signed(ALICE, nonce=5, to=COUNTER),)
        given = hexed(ethereum_block_rlp(Block(header, raw_transactions)))
        ((trace,),) = [
            each["result"] for each in await client.call("debug_traceBlock", given, {"tracer": "flatCallTracer"})
        ]
        assert trace["blockHash"] == hexed(header.hash)
        assert (trace["blockNumber"], trace["transactionPosition"]) == (2, 0)
        assert trace["action"]["to"] == hexed(COUNTER)

    traced(body)


@pytest.mark.parametrize(
    ("keep", "changes", "words"),
    [
        (5, {"number": 0}, "genesis is not traceable"),
        (5, {"number": 9}, "block #8 not found"),
        (5, {"parent_hash": b"\x01" * 32}, "block 0x" + "01" * 32 + " not found"),
        (5, {"excess_blob_gas": 2**60}, "excess blob gas: expected 0 on this chain, found 1152921504606846976"),
        (5, {"base_fee_per_gas": 10**15}, "tracing failed: max fee per gas less than block base fee"),
        (5, {"gas_limit": 50_000}, "tracing failed: gas limit reached"),
    ],
)
@pytest.mark.parametrize("config", [{}, {"tracer": "callTracer"}])
def test_a_given_block_that_cannot_be_executed_says_why(
    keep: int, changes: dict[str, Any], words: str, config: dict[str, Any]
) -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        raw = await client.call("debug_getRawBlock", "0x1")
        error = await client.error("debug_traceBlock", altered(raw, keep, **changes), config)
        assert error["code"] == -32000
        assert error["message"].startswith(words)

    traced(body)


def test_a_given_block_whose_transactions_are_none_says_so() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        block = decode_ethereum_block(bytes.fromhex((await client.call("debug_getRawBlock", "0x1"))[2:]))
        for raw, words in (
            (b"\x03\xc0", "could not decode block: blob transactions are not carried by this chain"),
            (b"\xc0", "could not decode block: transaction encoding"),
            (signed(ALICE, nonce=9, to=COUNTER), "tracing failed: nonce too high: expected 0, found 9"),
        ):
            error = await client.error("debug_traceBlock", hexed(ethereum_block_rlp(Block(block.header, (raw,)))))
            assert error["code"] == -32000
            assert error["message"].startswith(words)

    traced(body)


# --- Named tracers ---------------------------------------------------------------------------------------------


def test_the_call_tracer_nests_calls_as_geth_does() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        found = await client.call("debug_traceTransaction", hashes[1], {"tracer": "callTracer"})
        assert (found["type"], found["from"], found["to"]) == ("CALL", hexed(ALICE.address), hexed(CALLER))
        assert found["gas"] == hex(300_000)
        kinds = [(call["type"], call.get("error")) for call in found["calls"]]
        assert kinds == [
            ("CALL", None),
            ("CALL", "execution reverted"),
            ("STATICCALL", None),
            ("DELEGATECALL", None),
            ("CREATE", None),
        ]
        assert "value" not in found["calls"][2]
        top = await client.call(
            "debug_traceTransaction", hashes[1], {"tracer": "callTracer", "tracerConfig": {"onlyTopCall": True}}
        )
        assert "calls" not in top

    traced(body)


def test_the_call_tracer_decodes_revert_reasons() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        found = await client.call("debug_traceTransaction", hashes[2], {"tracer": "callTracer"})
        assert (found["error"], found["revertReason"]) == ("execution reverted", "not today")

    traced(body)


def test_the_prestate_tracer_shows_accounts_before_or_what_changed() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        before = await client.call("debug_traceTransaction", hashes[1], {"tracer": "prestateTracer"})
        assert before[hexed(COUNTER)]["storage"] == {"0x" + "00" * 32: f"0x{56:064x}"}
        assert before[hexed(ALICE.address)]["nonce"] == 1
        diff = await client.call(
            "debug_traceTransaction", hashes[1], {"tracer": "prestateTracer", "tracerConfig": {"diffMode": True}}
        )
        assert diff["post"][hexed(COUNTER)]["storage"] == {"0x" + "00" * 32: f"0x{57:064x}"}
        assert diff["post"][hexed(ALICE.address)]["nonce"] == 2

    traced(body)


def test_the_selector_tracer_counts_functions() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        found = await client.call("debug_traceTransaction", hashes[2], {"tracer": "4byteTracer"})
        assert found == {"0x08c379a0-96": 1}

    traced(body)


def test_the_flat_call_tracer_is_paritys_form_with_geths_words() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        found = await client.call("debug_traceTransaction", hashes[1], {"tracer": "flatCallTracer"})
        assert [each["traceAddress"] for each in found] == [[], [0], [1], [2], [3]]
        assert found[0]["subtraces"] == 4
        assert found[0]["action"]["gas"] == hex(300_000)
        assert found[2]["error"] == "execution reverted"
        assert (found[0]["transactionPosition"], found[0]["transactionHash"]) == (1, hashes[1])
        parity = await client.call(
            "debug_traceTransaction",
            hashes[1],
            {"tracer": "flatCallTracer", "tracerConfig": {"convertParityErrors": True, "includePrecompiles": True}},
        )
        assert len(parity) == 6
        assert parity[2]["error"] == "Reverted"

    traced(body)


IDENTITY = "6004"
CALLS_OF_PRECOMPILES = "".join(
    (
        f"5f5f5f5f6001{IDENTITY}5af150",  # CALL that pays it
        f"5f5f5f5f5f{IDENTITY}5af150",  # CALL that does not
        f"5f5f5f5f{IDENTITY}5afa50",  # STATICCALL
        f"5f5f5f5f{IDENTITY}5af450",  # DELEGATECALL
        f"5f5f5f5f6cffffffffffffffffffffffffff{IDENTITY}5af150",  # CALL that cannot pay
        "5f5ffd",
    )
)


def test_geth_and_openethereum_leave_out_different_calls_of_precompiles() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        call = {"from": hexed(ALICE.address), "data": "0x" + CALLS_OF_PRECOMPILES, "value": "0x1", "gas": hex(300_000)}
        geth = await client.call("debug_traceCall", call, "latest", {"tracer": "flatCallTracer"})
        assert [each["action"].get("callType", "create") for each in geth] == ["create", "delegatecall"]
        assert geth[0]["subtraces"] == 1
        parity = (await client.call("trace_call", call, ["trace"]))["trace"]
        assert [each["action"]["value"] for each in parity] == ["0x1", "0x1", "0xffffffffffffffffffffffffff"]
        assert parity[2]["error"] == "insufficient balance for transfer"

    traced(body)


def test_a_creation_that_reverts_has_an_address_and_a_method_in_openethereums_form_alone() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        call = {"from": hexed(ALICE.address), "data": "0x5f5ffd", "gas": hex(100_000)}
        (geth,) = await client.call("debug_traceCall", call, "latest", {"tracer": "flatCallTracer"})
        assert set(geth["result"]) == {"gasUsed", "code"}
        assert "creationMethod" not in geth["action"]
        (parity,) = (await client.call("trace_call", call, ["trace"]))["trace"]
        assert set(parity["result"]) == {"gasUsed", "code", "address"}
        assert parity["action"]["creationMethod"] == "create"

    traced(body)


def test_errors_that_geth_has_no_word_of_openethereums_for_stay_as_they_are() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        config = {"tracer": "flatCallTracer", "tracerConfig": {"convertParityErrors": True, "includePrecompiles": True}}

        async def errors(code: str) -> list[str]:
            call = {"data": "0x" + code, "gas": hex(300_000)}
            return [each.get("error", "") for each in await client.call("debug_traceCall", call, "latest", config)]

        forbidden = f"5f5f5f5f73{COUNTER.hex()}61fffffa00"
        assert await errors(forbidden) == ["", "write protection"]
        assert await errors("61c0015f5ff0") == ["out of gas: max initcode size exceeded: size 49153"]
        assert await errors("5f5f5f5f60095afa00") == ["", "Built-in failed"]
        assert await errors("60015f5260405f60405f60065afa00") == ["", "bn256: malformed point"]

    traced(body)


def test_tracers_can_run_together_or_not_at_all() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        config = {"callTracer": {"onlyTopCall": True}, "4byteTracer": {}, "noopTracer": {}, "flatCallTracer": {}}
        found = await client.call("debug_traceTransaction", hashes[2], {"tracer": "muxTracer", "tracerConfig": config})
        assert set(found) == set(config)
        assert found["4byteTracer"] == {"0x08c379a0-96": 1}
        assert found["noopTracer"] == {}
        assert found["flatCallTracer"][0]["blockNumber"] == 1
        assert await client.call("debug_traceTransaction", hashes[2], {"tracer": "noopTracer"}) == {}

    traced(body)


def test_a_block_under_a_named_tracer_has_a_result_for_each_transaction() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        found = await client.call("debug_traceBlockByNumber", "latest", {"tracer": "callTracer"})
        assert [each["txHash"] for each in found] == hashes
        assert [each["result"]["type"] for each in found] == ["CALL", "CALL", "CALL", "CREATE", "CALL"]
        assert found[4]["result"]["calls"][0] == {
            "from": hexed(DESTROYER),
            "gas": "0x0",
            "gasUsed": "0x0",
            "to": hexed(BOB.address),
            "input": "0x",
            "value": "0x5",
            "type": "SELFDESTRUCT",
        }
        client.node.produce()
        assert await client.call("debug_traceBlockByNumber", "0x2", {"tracer": "callTracer"}) == []
        assert await client.call("debug_traceBlockByNumber", "0x2") == []

    traced(body)


def test_a_transaction_of_a_block_that_cannot_be_traced_has_an_error_and_the_next_a_result() -> None:
    node = traced_node()
    node.add(signed(ALICE, nonce=0, to=HOARDER, gas=HOARDER_GAS))
    node.add(signed(ALICE, nonce=1, to=COUNTER))
    node.produce()

    async def body(client: Client) -> None:
        first, second = await client.call("debug_traceBlockByNumber", "0x1", {"tracer": "callTracer"})
        assert set(first) == {"txHash", "error"}
        assert "the trace is larger than" in first["error"]
        receipt = await client.call("eth_getTransactionReceipt", second["txHash"])
        assert second["result"]["gasUsed"] == receipt["gasUsed"]

    with_client(body, node=node, apis=APIS)


@pytest.mark.parametrize(
    "config",
    [
        {"tracer": "callTracer"},
        {"tracer": "flatCallTracer"},
        {"tracer": "muxTracer", "tracerConfig": {"callTracer": {}, "noopTracer": {}}},
    ],
    ids=lambda config: config["tracer"],
)
def test_one_transaction_whose_trace_is_too_large_is_refused_with_the_bound(config: dict[str, Any]) -> None:
    node = traced_node()
    transaction_hash = hexed(node.add(signed(ALICE, nonce=0, to=HOARDER, gas=HOARDER_GAS)))
    node.produce()

    async def body(client: Client) -> None:
        methods = ("debug_traceTransaction", config), ("trace_transaction",), ("ots_traceTransaction",)
        for method, *more in methods:
            error = await client.error(method, transaction_hash, *more)
            assert error["code"] == -32005
            assert f"transaction {transaction_hash} cannot be traced: the trace is larger than" in error["message"]

    with_client(body, node=node, apis=(*APIS, "trace", "ots"))


# --- Calls -----------------------------------------------------------------------------------------------------


def test_a_call_is_traced_on_the_state_and_the_pretences_asked_for() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        call = {"from": hexed(ALICE.address), "to": hexed(COUNTER)}
        slot = "0x" + "00" * 32
        for block, extra, expected in (
            ("0x0", {}, 56),
            ("0x1", {}, 57),
            ("0x1", {"txIndex": "0x1"}, 56),
            ("0x1", {"txIndex": "0x2"}, 57),
            ("latest", {"stateOverrides": {hexed(COUNTER): {"stateDiff": {slot: f"0x{99:064x}"}}}}, 99),
        ):
            found = await client.call("debug_traceCall", call, block, {"tracer": "prestateTracer", **extra})
            assert found[hexed(COUNTER)]["storage"][slot] == f"0x{expected:064x}", (block, extra)

    traced(body)


def test_a_calls_block_can_be_overridden() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        number = {"to": hexed(COUNTER)}
        code = {hexed(COUNTER): {"code": "0x435f5260205ff3"}}
        config = {"tracer": "callTracer", "stateOverrides": code, "blockOverrides": {"number": "0x1234"}}
        found = await client.call("debug_traceCall", number, "latest", config)
        assert int(found["output"], 16) == 0x1234
        steps = await client.call("debug_traceCall", number, "latest", {"stateOverrides": code})
        assert steps["structLogs"][0]["op"] == "NUMBER"
        assert int(steps["returnValue"], 16) == 1

    traced(body)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ([{"to": hexed(COUNTER), "gas": "0x1"}, "latest", {}], "intrinsic gas too low"),
        ([{"to": hexed(COUNTER)}, "0x1", {"txIndex": "0x63"}], "out of range"),
        ([{"to": hexed(COUNTER)}, "0x0", {"txIndex": "0x0"}], "genesis is not traceable"),
        ([{"to": hexed(COUNTER)}, "0x7", {}], "header not found"),
        ([{"to": hexed(COUNTER)}, "pending", {"txIndex": "0x0"}], "header not found"),
        ([{"to": hexed(COUNTER), "chainId": "0x7"}, "latest", {}], "chainId does not match"),
    ],
)
def test_a_call_that_cannot_be_traced_says_why(params: list[Any], words: str) -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        error = await client.error("debug_traceCall", *params)
        assert error["code"] == -32000
        assert words in error["message"]

    traced(body)


# --- What cannot be traced -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "params", "message"),
    [
        ("debug_traceTransaction", ["0x" + "01" * 32], "transaction not found"),
        ("debug_traceBlockByNumber", ["0x0"], "genesis is not traceable"),
        ("debug_traceBlockByNumber", ["0x63"], "block #99 not found"),
        ("debug_traceBlockByHash", ["0x" + "01" * 32], "block 0x" + "01" * 32 + " not found"),
        ("debug_traceBlock", ["0x" + rlp.encode([[b"\x01"]]).hex()], "could not decode block: expected a header of 21"),
        ("debug_traceBlock", ["0xc0"], "could not decode block"),
        ("debug_traceBlock", ["0x12"], "could not decode block"),
    ],
)
def test_what_is_not_there_is_named_in_geths_words(method: str, params: list[Any], message: str) -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        error = await client.error(method, *params)
        assert error["code"] == -32000
        assert message in error["message"]

    traced(body)


def test_a_trace_beyond_its_time_ends_in_geths_words() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        call = {"to": hexed(LOOPER), "gas": hex(40_000_000)}
        for tracer in ("", "callTracer"):
            error = await client.error("debug_traceCall", call, "latest", {"timeout": "1ms", "tracer": tracer})
            assert error == {"code": -32000, "message": "execution timeout"}

    traced(body)


def test_an_answer_beyond_the_limit_is_refused_where_it_must_be_whole() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        error = await client.error("debug_traceCall", {"to": hexed(LOOPER), "gas": hex(100_000)}, "latest", {})
        assert error["code"] == -32003

    traced(body, limits=GatewayLimits(response_bytes=100_000))


# --- Encodings -------------------------------------------------------------------------------------------------


def test_raw_blocks_headers_receipts_and_transactions_are_the_encodings() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        block = await client.call("eth_getBlockByNumber", "0x1", False)
        raw_block = bytes.fromhex((await client.call("debug_getRawBlock", "0x1"))[2:])
        raw_header = bytes.fromhex((await client.call("debug_getRawHeader", block["hash"]))[2:])
        decoded = rlp.decode_list(raw_block)
        assert len(raw_block) == int(block["size"], 16)
        assert rlp.encode(decoded[0]) == raw_header
        receipts = await client.call("debug_getRawReceipts", "latest")
        assert [receipt[:4] for receipt in receipts] == ["0x02"] * len(hashes)
        assert await client.call("debug_getRawReceipts", "0x0") == []
        for transaction_hash in hashes:
            assert await client.call("debug_getRawTransaction", transaction_hash) == await client.call(
                "eth_getRawTransactionByHash", transaction_hash
            )
        assert await client.call("debug_getRawTransaction", "0x" + "01" * 32) == "0x"
        assert (await client.error("debug_getRawHeader", "0x63"))["message"] == "block #99 not found"
        assert (await client.error("debug_getRawReceipts", "0x63"))["message"] == "block #99 not found"

    traced(body)


def test_there_are_neither_bad_blocks_nor_block_access_lists() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        assert await client.call("debug_getBadBlocks") == []
        assert (await client.error("debug_getRawBlockAccessList", "0x1"))["code"] == -32001

    traced(body)


def test_the_namespace_is_served_only_when_named() -> None:
    async def body(client: Client) -> None:
        for method in ("debug_traceTransaction", "trace_block"):
            assert (await client.error(method, "0x1"))["code"] == -32601

    with_client(body, apis=("eth",))


def test_a_traced_call_that_reverts_without_data_has_an_error_and_no_output() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        found = await client.call("debug_traceCall", {"to": hexed(REVERTER)}, "latest", {"tracer": "callTracer"})
        assert found["error"] == "execution reverted"
        assert "output" not in found

    traced(body)


def test_bad_blocks_and_preimages_are_not_kept() -> None:
    async def body(client: Client, hashes: list[str]) -> None:
        assert await client.call("debug_getBadBlocks") == []
        error = await client.error("debug_traceBadBlock", hashes[0], {})
        assert error == {"code": -32000, "message": f"bad block {hashes[0]} not found"}
        error = await client.error("debug_preimage", hashes[0])
        assert error == {"code": -32000, "message": "unknown preimage"}

    traced(body)
