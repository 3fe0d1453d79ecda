"""eth_simulateV1: what is handed on from block to block, what is shared, what is refused and with which code."""

from __future__ import annotations

from typing import Any

import pytest

from astralink_node.crypto.addresses import checksum_address
from astralink_node.evm.transaction_execution import contract_address
from astralink_node.types import Address
from tests.support.gateways import (
    ALICE,
    BOB,
    COUNTER,
    ECHO,
    REVERTER,
    Client,
    SmallNode,
    hexed,
    signed,
    with_client,
)

A, B = hexed(ALICE.address), hexed(BOB.address)
GAS_CAP = 50_000_000
ALICE_CHECKSUM = checksum_address(ALICE.address)
POOR = "0x" + "77" * 20
PROBE = "0x" + "99" * 20
WORD = "5f5260205ff3"
ETHER = "0x" + "ee" * 20
IDENTITY = "0x" + f"{4:040x}"
FEE = hex(3 * 10**9)


def code(text: str) -> dict[str, str]:
    return {"code": "0x" + text}


def word(answer: dict[str, Any]) -> int:
    return int(answer["returnData"], 16)


async def simulate(client: Client, *blocks: dict[str, Any], at: str = "latest", **options: bool) -> list[Any]:
    result: list[Any] = await client.call("eth_simulateV1", {"blockStateCalls": list(blocks), **options}, at)
    return result


async def refused(client: Client, *blocks: Any, at: str = "latest", **options: bool) -> dict[str, Any]:
    return await client.error("eth_simulateV1", {"blockStateCalls": list(blocks), **options}, at)


# --- From block to block -----------------------------------------------------------------------------------------


def test_changes_last_from_call_to_call_and_from_block_to_block_but_not_after() -> None:
    async def body(client: Client) -> None:
        count = {"from": A, "to": hexed(COUNTER)}
        reading = {"stateOverrides": {hexed(COUNTER): code("5f54" + WORD)}, "calls": [count]}
        first, second, third = await simulate(client, {"calls": [count, count]}, {"calls": [count]}, reading)
        assert word(third["calls"][0]) == 56 + 3
        assert (second["parentHash"], third["parentHash"]) == (first["hash"], second["hash"])
        assert len({block["stateRoot"] for block in (first, second, third)}) == 3
        assert await client.call("eth_getStorageAt", hexed(COUNTER), "0x0") == "0x" + f"{56:064x}"

    with_client(body)


def test_gaps_are_filled_and_numbers_times_and_hashes_are_seen_inside() -> None:
    async def body(client: Client) -> None:
        client.node.produce()
        head = await client.call("eth_getBlockByNumber", "latest", False)
        probe = {PROBE: code("5f3540" + WORD)}  # the hash of the block that is asked for
        asked = {"to": PROBE, "data": "0x" + f"{2:064x}"}
        blocks = await simulate(
            client,
            {"blockOverrides": {"number": "0x4"}, "stateOverrides": probe},
            {"calls": [asked, asked | {"data": "0x" + f"{1:064x}"}]},
        )
        assert [int(block["number"], 16) for block in blocks] == [2, 3, 4, 5]
        start = int(head["timestamp"], 16)
        assert [int(block["timestamp"], 16) - start for block in blocks] == [12, 24, 36, 48]
        assert [call["returnData"] for call in blocks[-1]["calls"]] == [blocks[0]["hash"], head["hash"]]

    with_client(body)


def test_gas_limit_and_fee_recipient_are_handed_down_and_the_rest_is_not() -> None:
    async def body(client: Client) -> None:
        overrides = {
            "gasLimit": "0xf4240",
            "feeRecipient": POOR,
            "prevRandao": "0x" + "11" * 32,
            "baseFeePerGas": "0x5",
            "beaconRoot": "0x" + "22" * 32,
        }
        first, second = await simulate(client, {"blockOverrides": overrides}, {})
        assert (first["gasLimit"], first["miner"], first["mixHash"]) == ("0xf4240", POOR, "0x" + "11" * 32)
        assert (first["baseFeePerGas"], first["parentBeaconBlockRoot"]) == ("0x5", "0x" + "22" * 32)
        assert (second["gasLimit"], second["miner"], second["mixHash"]) == ("0xf4240", POOR, "0x" + "00" * 32)
        assert (second["baseFeePerGas"], second["parentBeaconBlockRoot"]) == ("0x0", "0x" + "00" * 32)

    with_client(body)


def test_a_replaced_storage_is_gone_whatever_was_stored_and_stays_gone() -> None:
    async def body(client: Client) -> None:
        reader = code("5f546001546002540101" + WORD) | {"state": {"0x" + f"{1:064x}": "0x" + f"{7:064x}"}}
        count = {"from": A, "to": hexed(COUNTER)}
        block = {"stateOverrides": {hexed(COUNTER): reader}, "calls": [count]}
        blocks = await simulate(client, {"calls": [count]}, block, {"calls": [count]}, block)
        assert [word(each["calls"][0]) for each in blocks[1:]] == [7, 7, 7]

    with_client(body)


def test_a_block_of_the_past_may_be_built_upon() -> None:
    async def body(client: Client) -> None:
        for nonce in range(3):
            client.node.add(signed(ALICE, to=COUNTER, nonce=nonce))
            client.node.produce()
        reading = {
            "stateOverrides": {hexed(COUNTER): code("5f54" + WORD)},
            "calls": [{"to": hexed(COUNTER)}],
        }
        for height in range(4):
            (block,) = await simulate(client, reading, at=hex(height))
            assert word(block["calls"][0]) == 56 + height
            parent = await client.call("eth_getBlockByNumber", hex(height), False)
            assert block["parentHash"] == parent["hash"]
        assert (await simulate(client, {}, at="pending"))[0]["number"] == "0x4"

    with_client(body)


def test_moved_precompiles_are_back_in_the_next_block() -> None:
    async def body(client: Client) -> None:
        calls = [{"to": PROBE, "data": "0x1234"}, {"to": IDENTITY, "data": "0x1234"}]
        moved = {"stateOverrides": {IDENTITY: {"movePrecompileToAddress": PROBE}}, "calls": calls}
        first, second = await simulate(client, moved, {"calls": calls})
        assert [call["returnData"] for call in first["calls"]] == ["0x1234", "0x"]
        assert [call["returnData"] for call in second["calls"]] == ["0x", "0x1234"]

    with_client(body)


def test_a_contract_deployed_in_one_block_is_called_in_the_next() -> None:
    async def body(client: Client) -> None:
        deployed = hexed(contract_address(Address(ALICE.address), 0))
        create = {"from": A, "data": "0x" + "67" + "602a" + WORD + "5f5260086018f3"}
        first, second = await simulate(client, {"calls": [create]}, {"calls": [{"to": deployed}]})
        assert first["calls"][0]["status"] == "0x1"
        assert word(second["calls"][0]) == 42

    with_client(body)


# --- Calls -------------------------------------------------------------------------------------------------------


def test_a_failing_call_is_told_and_the_others_go_on() -> None:
    async def body(client: Client) -> None:
        reason = "0x08c379a0" + f"{32:064x}" + f"{5:064x}" + b"sorry".hex().ljust(64, "0")
        broken = {PROBE: code("fe")}
        calls = [{"to": hexed(REVERTER), "data": reason}, {"to": PROBE, "gas": "0x7530"}, {"to": hexed(ECHO)}]
        (block,) = await simulate(client, {"stateOverrides": broken, "calls": calls})
        reverted, halted, fine = block["calls"]
        assert reverted["error"] == {"code": 3, "message": "execution reverted: sorry", "data": reason}
        assert halted["error"] == {"code": -32015, "message": "invalid opcode: INVALID"}
        assert (reverted["returnData"], reverted["status"], halted["status"]) == ("0x", "0x0", "0x0")
        assert (fine["status"], halted["gasUsed"]) == ("0x1", "0x7530")
        assert "error" not in fine

    with_client(body)


def test_what_a_call_needs_is_more_than_what_it_pays_for() -> None:
    async def body(client: Client) -> None:
        clearing = {hexed(COUNTER): code("5f5f5500")}
        (block,) = await simulate(client, {"stateOverrides": clearing, "calls": [{"to": hexed(COUNTER)}]})
        (call,) = block["calls"]
        assert int(call["maxUsedGas"], 16) > int(call["gasUsed"], 16)

    with_client(body)


def test_transactions_are_shown_by_hash_or_whole_and_of_the_type_that_their_fields_ask_for() -> None:
    async def body(client: Client) -> None:
        listed = [{"address": B, "storageKeys": []}]
        calls = [
            {"from": A, "to": B},
            {"from": A, "to": B, "gasPrice": FEE},
            {"from": A, "to": B, "gasPrice": FEE, "accessList": listed},
            {"from": A, "to": B, "maxFeePerGas": FEE, "nonce": "0x9"},
        ]
        (hashes,) = await simulate(client, {"calls": calls})
        (whole,) = await simulate(client, {"calls": calls}, returnFullTransactions=True)
        assert [each["hash"] for each in whole["transactions"]] == hashes["transactions"]
        assert [each["type"] for each in whole["transactions"]] == ["0x2", "0x0", "0x1", "0x2"]
        assert [each["nonce"] for each in whole["transactions"]] == ["0x0", "0x1", "0x2", "0x9"]
        assert {each[name] for each in whole["transactions"] for name in ("v", "r", "s")} == {"0x0"}
        assert {(each["from"], each["blockHash"]) for each in whole["transactions"]} == {(A, whole["hash"])}

    with_client(body)


def test_logs_are_numbered_through_the_block() -> None:
    async def body(client: Client) -> None:
        echo = {"to": hexed(ECHO), "data": "0x" + "05" * 32}
        (block,) = await simulate(client, {"calls": [echo, {"to": hexed(REVERTER)}, echo]})
        logs = [log for call in block["calls"] for log in call["logs"]]
        assert [log["logIndex"] for log in logs] == ["0x0", "0x1"]
        assert [log["transactionIndex"] for log in logs] == ["0x0", "0x2"]
        assert {log["blockHash"] for log in logs} == {block["hash"]}
        assert int(block["logsBloom"], 16)

    with_client(body)


# --- Transfers ---------------------------------------------------------------------------------------------------


def transfers(block: dict[str, Any]) -> list[tuple[str, str, int]]:
    return [
        ("0x" + log["topics"][1][26:], "0x" + log["topics"][2][26:], int(log["data"], 16))
        for call in block["calls"]
        for log in call["logs"]
        if log["address"] == ETHER
    ]


SENDING = "5f5f5f5f600573" + POOR[2:] + "5a"
CASES = {
    "no code": ("", [(A, PROBE, 9)]),
    "call": (SENDING + "f100", [(A, PROBE, 9), (PROBE, POOR, 5)]),
    "callcode": (SENDING + "f200", [(A, PROBE, 9)]),
    "selfdestruct": ("73" + POOR[2:] + "ff", [(A, PROBE, 9), (PROBE, POOR, 9)]),
    "reverted": (SENDING + "f15f5ffd", []),
    "too poor to call": (SENDING.replace("6005", "6040") + "f100", [(A, PROBE, 9)]),
}


@pytest.mark.parametrize(("given", "expected"), CASES.values(), ids=CASES)
def test_transfers_are_logs_where_the_coin_moved(given: str, expected: list[tuple[str, str, int]]) -> None:
    async def body(client: Client) -> None:
        block = {"stateOverrides": {PROBE: code(given)}, "calls": [{"from": A, "to": PROBE, "value": "0x9"}]}
        (traced,) = await simulate(client, block, traceTransfers=True)
        assert transfers(traced) == expected
        (silent,) = await simulate(client, block)
        assert transfers(silent) == []
        # They are told to the client alone: no receipt holds them, and no gas is paid for them.
        assert (traced["hash"], traced["gasUsed"]) == (silent["hash"], silent["gasUsed"])

    with_client(body)


def test_a_creation_that_fails_to_store_its_code_moved_nothing() -> None:
    async def body(client: Client) -> None:
        deposit = {"from": A, "value": "0x9", "gas": hex(60_000), "data": "0x611000" + "5ff3"}
        (block,) = await simulate(
            client, {"calls": [deposit, {"from": A, "to": B, "value": "0x2"}]}, traceTransfers=True
        )
        assert [call["status"] for call in block["calls"]] == ["0x0", "0x1"]
        assert transfers(block) == [(A, B, 2)]
        assert block["calls"][1]["logs"][0]["logIndex"] == "0x0"

    with_client(body)


def test_a_contracts_own_log_at_that_address_is_a_receipts_too() -> None:
    async def body(client: Client) -> None:
        block = {"stateOverrides": {ETHER: code("5f5fa000")}, "calls": [{"from": A, "to": ETHER, "value": "0x1"}]}
        (traced,) = await simulate(client, block, traceTransfers=True)
        (silent,) = await simulate(client, block)
        assert [len(each["calls"][0]["logs"]) for each in (traced, silent)] == [2, 1]
        assert traced["receiptsRoot"] == silent["receiptsRoot"]

    with_client(body)


# --- Gas ---------------------------------------------------------------------------------------------------------


def test_gas_is_shared_over_the_whole_request() -> None:
    async def body(client: Client) -> None:
        burn = {"stateOverrides": {PROBE: code("fe")}, "calls": [{"to": PROBE}]}
        told = {"calls": [{"to": hexed(ECHO)}]}
        blocks = await simulate(client, burn, told, told, returnFullTransactions=True)
        gas = [int(block["transactions"][0]["gas"], 16) for block in blocks]
        used = [int(block["gasUsed"], 16) for block in blocks]
        limit = int(blocks[0]["gasLimit"], 16)
        assert gas == [limit, GAS_CAP - limit, GAS_CAP - limit - used[1]]
        assert used[0] == limit
        assert (await refused(client, burn, burn, burn))["code"] == -38013

    with_client(body)


def test_a_blocks_gas_limit_bounds_its_calls() -> None:
    async def body(client: Client) -> None:
        block = {"blockOverrides": {"gasLimit": "0xc350"}, "calls": [{"to": B}, {"to": B, "gas": "0x7531"}]}
        error = await refused(client, block)
        assert error == {"code": -38015, "message": "block gas limit reached: remaining: 29000, required: 30001"}

    with_client(body)


# --- What is refused ---------------------------------------------------------------------------------------------

VALID = {"from": A, "to": B, "maxFeePerGas": FEE}


@pytest.mark.parametrize(
    ("call", "status", "message"),
    [
        (VALID, None, ""),
        (
            VALID | {"nonce": "0x1"},
            -38011,
            f"nonce too high: address {ALICE_CHECKSUM}, tx: 1 state: 0",
        ),
        (VALID | {"maxFeePerGas": "0x1"}, -38012, "max fee per gas less than block base fee"),
        (VALID | {"gas": "0x5207"}, -38013, "intrinsic gas too low: have 20999, want 21000"),
        (VALID | {"from": POOR}, -38014, "insufficient funds for gas * price + value"),
        ({"from": A, "maxFeePerGas": FEE, "data": "0x" + "00" * 49_153}, -38025, "max initcode size exceeded"),
        (VALID | {"maxPriorityFeePerGas": hex(10**12)}, -32602, "maxFeePerGas (3000000000) < maxPriorityFeePerGas"),
        (VALID | {"chainId": "0x1"}, -32000, "chainId does not match node's"),
        (VALID | {"blobVersionedHashes": []}, -32602, "blob transactions are not supported"),
    ],
)
def test_validation_judges_a_call_as_a_block_would(call: dict[str, Any], status: int | None, message: str) -> None:
    async def body(client: Client) -> None:
        if status is None:
            (block,) = await simulate(client, {"calls": [call]}, validation=True)
            assert block["baseFeePerGas"] == await client.call("eth_baseFee")
            return
        error = await refused(client, {"calls": [call]}, validation=True)
        assert error["code"] == status
        assert message in error["message"]

    with_client(body)


def test_a_nonce_that_was_used_is_too_low() -> None:
    async def body(client: Client) -> None:
        calls = {"calls": [VALID, VALID | {"nonce": "0x0"}]}
        error = await refused(client, calls, validation=True)
        assert error["code"] == -38010
        assert "nonce too low" in error["message"]
        assert len((await simulate(client, calls))[0]["calls"]) == 2

    with_client(body)


def test_without_validation_a_call_without_fees_is_free_and_the_base_fee_stands() -> None:
    async def body(client: Client) -> None:
        block = {
            "blockOverrides": {"baseFeePerGas": "0x64", "feeRecipient": "0x" + "ab" * 20},
            "stateOverrides": {PROBE: code("48" + WORD)},
            "calls": [{"from": POOR, "to": PROBE}, {"from": A, "to": PROBE, "maxFeePerGas": "0x63"}],
        }
        error = await refused(client, block)
        assert error["code"] == -38012
        block["calls"] = block["calls"][:1]
        (answer,) = await simulate(client, block)
        assert word(answer["calls"][0]) == 100

    with_client(body)


@pytest.mark.parametrize(
    ("blocks", "error"),
    [
        ([], {"code": -32602, "message": "empty input"}),
        ([{}] * 257, {"code": -38026, "message": "too many blocks: expected at most 256, found 257"}),
        ([{"blockOverrides": {"number": "0x101"}}], {"code": -38026, "message": "too many blocks"}),
        (
            [{"blockOverrides": {"number": "0x2"}}, {"blockOverrides": {"number": "0x2"}}],
            {"code": -38020, "message": "block numbers must be in order: 2 <= 2"},
        ),
        (
            [{"blockOverrides": {"time": "0x65554000"}}, {"blockOverrides": {"time": "0x65554000"}}],
            {"code": -38021, "message": "block timestamps must be in order: 1700085760 <= 1700085760"},
        ),
        (
            [{"blockOverrides": {"time": hex(2**64 - 1)}}, {}],
            {"code": -38021, "message": "block timestamps must be 64-bit numbers"},
        ),
        (
            [{"stateOverrides": {POOR: {"movePrecompileToAddress": PROBE}}}],
            {"code": -32000, "message": f"account {checksum_address(bytes.fromhex(POOR[2:]))} is not a precompile"},
        ),
    ],
)
def test_a_sequence_that_cannot_be_is_refused(blocks: list[Any], error: dict[str, Any]) -> None:
    async def body(client: Client) -> None:
        assert await refused(client, *blocks) == error

    with_client(body)


@pytest.mark.parametrize(
    ("payload", "place"),
    [
        ([], "payload"),
        ({"blockStateCalls": {}}, "payload.blockStateCalls"),
        ({"blockStateCalls": [[]]}, "payload.blockStateCalls[0]"),
        ({"blockStateCalls": [{"calls": {}}]}, "payload.blockStateCalls[0].calls"),
        ({"blockStateCalls": [{"calls": [{"to": "0x1"}]}]}, "payload.blockStateCalls[0].calls[0].to"),
        ({"blockStateCalls": [{"blockOverrides": {"time": "5"}}]}, "payload.blockStateCalls[0].blockOverrides.time"),
        (
            {"blockStateCalls": [{"blockOverrides": {"withdrawals": [{"index": "0x0"}]}}]},
            "payload.blockStateCalls[0].blockOverrides.withdrawals",
        ),
        ({"blockStateCalls": [{}], "validation": "yes"}, "payload.validation"),
    ],
)
def test_nonsense_names_its_place(payload: object, place: str) -> None:
    async def body(client: Client) -> None:
        error = await client.error("eth_simulateV1", payload)
        assert error["code"] == -32602
        assert error["message"].startswith(f"invalid argument 0: {place}: ")

    with_client(body)


def test_coin_out_of_nothing_has_its_limit() -> None:
    async def body(client: Client) -> None:
        most = {"balance": hex(2**256 - 1)}
        block = {"stateOverrides": {POOR: most, PROBE: most}, "calls": [{"from": POOR, "to": PROBE, "value": "0x1"}]}
        error = await refused(client, block)
        assert error["code"] == -32602
        assert "outgrows" in error["message"]

    with_client(body)


def test_256_blocks_are_simulated_and_nothing_is_written() -> None:
    node = SmallNode()

    async def body(client: Client) -> None:
        before = node.execution.status()
        blocks = await simulate(client, {"blockOverrides": {"number": "0x100"}})
        assert len(blocks) == 256
        assert {block["miner"] for block in blocks} == {hexed(bytes(20))}
        assert node.execution.status() == before
        assert node.produce().block.senders == ()

    with_client(body, node=node)
