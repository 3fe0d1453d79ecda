"""What Otterscan asks about blocks and addresses, in front of the real execution facade."""

from __future__ import annotations

from typing import Any

import pytest

from astralink_node.evm.created_addresses import contract_address
from astralink_node.gateway.config import DEFAULT_APIS
from astralink_node.gateway.rpc_errors import INVALID_PARAMS, SERVER_ERROR
from tests.support.chains import BURNER
from tests.support.explorer_contracts import (
    DELEGATOR,
    DEPLOYS,
    DESTROYER,
    EXPLORER_CONTRACTS,
    FORWARDER,
    MAKER,
    MAKER_2,
    word,
)
from tests.support.gateways import (
    ALICE,
    BOB,
    CAROL,
    COUNTER,
    ECHO,
    REVERTER,
    Client,
    SmallNode,
    hexed,
    signed,
    with_client,
)

APIS = (*DEFAULT_APIS, "ots", "erigon")
MISSING = "0x" + "de" * 32


def indexed_node(*, explorer_index: bool = True) -> SmallNode:
    return SmallNode(contracts=EXPLORER_CONTRACTS, explorer_index=explorer_index)


def on_blocks(body: Any, node: SmallNode | None = None) -> None:
    with_client(body, node=node or indexed_node(), apis=APIS)


def mine(client: Client, *raw: bytes) -> list[str]:
    hashes = [hexed(client.node.add(each)) for each in raw]
    client.node.produce()
    return hashes


def transfer(nonce: int, **fields: Any) -> bytes:
    return signed(ALICE, nonce=nonce, to=CAROL.address, value=1, gas=21_000, **fields)


# --- The node as such --------------------------------------------------------------------------------------------


def test_the_probe_with_which_otterscan_begins_is_answered() -> None:
    async def body(client: Client) -> None:
        mine(client)
        assert await client.call("ots_getApiLevel") == 8
        height = int(await client.call("eth_blockNumber"), 16)
        header = await client.call("erigon_getHeaderByNumber", height)
        assert header["number"] == "0x1"
        assert header == await client.call("erigon_getHeaderByNumber", "latest")
        assert header == await client.call("erigon_getHeaderByHash", header["hash"])
        assert "transactions" not in header
        assert await client.call("erigon_blockNumber") == "0x1"
        assert await client.call("erigon_blockNumber", "earliest") == "0x0"
        assert await client.call("erigon_getHeaderByNumber", "pending") is None
        missing = await client.error("erigon_getHeaderByNumber", 99)
        assert missing["code"] == SERVER_ERROR

    on_blocks(body)


def test_code_is_told_apart_from_none_at_the_block_asked_about() -> None:
    async def body(client: Client) -> None:
        mine(client, signed(ALICE, nonce=0, data=DEPLOYS))
        created = hexed(contract_address(ALICE.address, 0))
        assert await client.call("ots_hasCode", created, "latest") is True
        assert await client.call("ots_hasCode", created, 1) is True
        assert await client.call("ots_hasCode", created, 0) is False
        assert await client.call("ots_hasCode", hexed(BOB.address), "latest") is False

    on_blocks(body)


# --- Blocks ------------------------------------------------------------------------------------------------------


def test_block_details_count_transactions_and_fees_and_leave_lists_out() -> None:
    async def body(client: Client) -> None:
        mine(client, transfer(0), transfer(1, maxFeePerGas=5 * 10**9, maxPriorityFeePerGas=2 * 10**9))
        standard = await client.call("eth_getBlockByNumber", "0x1", True)
        receipts = await client.call("eth_getBlockReceipts", "0x1")
        details = await client.call("ots_getBlockDetails", 1)
        assert details == await client.call("ots_getBlockDetailsByHash", standard["hash"])
        block = details["block"]
        assert block["transactionCount"] == 2
        assert block["logsBloom"] is None
        assert "transactions" not in block
        shared = block.keys() - {"transactionCount", "logsBloom", "totalDifficulty"}
        assert shared == standard.keys() - {"transactions", "logsBloom"}
        assert all(block[name] == standard[name] for name in shared)
        assert details["issuance"] == {"blockReward": "0x0", "uncleReward": "0x0", "issuance": "0x0"}
        fees = sum(int(one["gasUsed"], 16) * int(one["effectiveGasPrice"], 16) for one in receipts)
        assert int(details["totalFees"], 16) == fees > 0

    on_blocks(body)


def test_a_block_that_is_not_there_has_no_details() -> None:
    async def body(client: Client) -> None:
        assert await client.call("ots_getBlockDetails", 7) is None
        assert await client.call("ots_getBlockDetails", "pending") is None
        assert await client.call("ots_getBlockDetailsByHash", MISSING) is None
        assert await client.call("ots_getBlockTransactions", 7, 0, 25) is None
        assert (await client.call("ots_getBlockDetails", 0))["totalFees"] == "0x0"

    on_blocks(body)


def test_a_blocks_transactions_come_in_pages_from_its_end() -> None:
    async def body(client: Client) -> None:
        calls = [signed(ALICE, nonce=nonce, to=ECHO, data=bytes.fromhex("aabbccdd") + bytes(60)) for nonce in range(5)]
        hashes = mine(client, *calls)
        pages = [await client.call("ots_getBlockTransactions", 1, number, 2) for number in range(4)]
        shown = [[each["hash"] for each in page["fullblock"]["transactions"]] for page in pages]
        assert shown == [hashes[3:5], hashes[1:3], hashes[0:1], []]
        for page in pages:
            block = page["fullblock"]
            assert block["transactionCount"] == 5
            assert block["logsBloom"] is None
            assert [each["transactionHash"] for each in page["receipts"]] == [
                each["hash"] for each in block["transactions"]
            ]
            assert all(each["input"] == "0xaabbccdd" for each in block["transactions"])
            assert all(each["logs"] is None and each["logsBloom"] is None for each in page["receipts"])
            assert all(each["status"] == "0x1" for each in page["receipts"])
        refused = await client.error("ots_getBlockTransactions", 1, 0, 256)
        assert refused["code"] == INVALID_PARAMS

    on_blocks(body)


# --- Addresses ---------------------------------------------------------------------------------------------------


def test_an_addresss_transactions_come_in_pages_with_their_receipts() -> None:
    async def body(client: Client) -> None:
        first = mine(client, transfer(0), transfer(1))
        second = mine(client, transfer(2), signed(ALICE, nonce=3, to=FORWARDER, data=word(COUNTER)))
        page = await client.call("ots_searchTransactionsBefore", hexed(ALICE.address), 0, 25)
        assert [each["hash"] for each in page["txs"]] == [*reversed(second), *reversed(first)]
        assert page.keys() == {"txs", "receipts", "firstPage", "lastPage"}
        assert (page["firstPage"], page["lastPage"]) == (True, True)
        for transaction, receipt in zip(page["txs"], page["receipts"], strict=True):
            assert transaction == await client.call("eth_getTransactionByHash", transaction["hash"])
            block = await client.call("eth_getBlockByHash", transaction["blockHash"], False)
            assert receipt.pop("timestamp") == int(block["timestamp"], 16)
            assert receipt == await client.call("eth_getTransactionReceipt", transaction["hash"])
        inner = await client.call("ots_searchTransactionsBefore", hexed(COUNTER), 0, 25)
        assert [each["hash"] for each in inner["txs"]] == second[1:]

    on_blocks(body)


def test_first_and_last_page_are_named_as_the_search_goes() -> None:
    async def body(client: Client) -> None:
        for number in range(3):
            mine(client, transfer(2 * number), transfer(2 * number + 1))
        alice = hexed(ALICE.address)

        async def shown(method: str, height: int, size: int) -> tuple[list[int], bool, bool]:
            page = await client.call(method, alice, height, size)
            return [int(each["nonce"], 16) for each in page["txs"]], page["firstPage"], page["lastPage"]

        assert await shown("ots_searchTransactionsBefore", 0, 1) == ([5, 4], True, False)
        assert await shown("ots_searchTransactionsBefore", 3, 3) == ([3, 2, 1, 0], False, True)
        assert await shown("ots_searchTransactionsBefore", 1, 3) == ([], False, True)
        assert await shown("ots_searchTransactionsAfter", 0, 1) == ([1, 0], False, True)
        assert await shown("ots_searchTransactionsAfter", 1, 4) == ([5, 4, 3, 2], True, False)
        assert await shown("ots_searchTransactionsAfter", 3, 4) == ([], True, False)

    on_blocks(body)


@pytest.mark.parametrize("size", [0, 26])
def test_a_page_size_that_is_not_served_is_refused_in_erigons_words(size: int) -> None:
    async def body(client: Client) -> None:
        refused = await client.error("ots_searchTransactionsBefore", hexed(ALICE.address), 0, size)
        assert refused["code"] == INVALID_PARAMS
        assert "max allowed page size: 25" in refused["message"]

    on_blocks(body)


def test_a_nonce_and_a_contract_lead_to_their_transactions() -> None:
    async def body(client: Client) -> None:
        deployed, made = mine(
            client, signed(ALICE, nonce=0, data=DEPLOYS), signed(ALICE, nonce=1, to=MAKER, data=DEPLOYS)
        )
        alice = hexed(ALICE.address)
        assert await client.call("ots_getTransactionBySenderAndNonce", alice, 1) == made
        assert await client.call("ots_getTransactionBySenderAndNonce", alice, 2) is None
        assert await client.call("ots_getContractCreator", hexed(contract_address(ALICE.address, 0))) == {
            "hash": deployed,
            "creator": alice,
        }
        assert await client.call("ots_getContractCreator", hexed(contract_address(MAKER, 1))) == {
            "hash": made,
            "creator": hexed(MAKER),
        }
        assert await client.call("ots_getContractCreator", alice) is None
        assert await client.call("ots_getContractCreator", hexed(COUNTER)) is None

    on_blocks(body)


# --- Inside a transaction ----------------------------------------------------------------------------------------


def test_a_transaction_is_shown_with_its_inner_calls_and_without_precompiles() -> None:
    async def body(client: Client) -> None:
        identity = word(b"\x04".rjust(20, b"\x00"))
        through = word(DELEGATOR) + word(MAKER) + DEPLOYS
        first, second = mine(
            client,
            signed(ALICE, nonce=0, to=FORWARDER, value=5, gas=400_000, data=through),
            signed(ALICE, nonce=1, to=FORWARDER, gas=400_000, data=identity + b"data"),
        )
        alice, forwarder, delegator = hexed(ALICE.address), hexed(FORWARDER), hexed(DELEGATOR)
        entries = await client.call("ots_traceTransaction", first)
        shown = [(each["type"], each["depth"], each["from"], each["to"], each["value"]) for each in entries]
        created = hexed(contract_address(DELEGATOR, 1))
        assert shown == [
            ("CALL", 0, alice, forwarder, "0x5"),
            ("CALL", 1, forwarder, delegator, "0x5"),
            ("DELEGATECALL", 2, delegator, hexed(MAKER), None),
            ("CREATE", 3, delegator, created, "0x0"),
        ]
        assert entries[0]["input"] == hexed(through)
        assert entries[3]["input"] == hexed(DEPLOYS)
        assert entries[3]["output"] == "0x00"
        assert [each["to"] for each in await client.call("ots_traceTransaction", second)] == [forwarder]
        assert await client.call("ots_getInternalOperations", first) == [
            {"type": 0, "from": forwarder, "to": delegator, "value": "0x5"},
            {"type": 2, "from": delegator, "to": created, "value": "0x0"},
        ]

    on_blocks(body)


def test_creations_and_destructions_are_internal_operations_and_the_transaction_itself_is_none() -> None:
    async def body(client: Client) -> None:
        heir = word(CAROL.address)
        created, destroyed, deployed = mine(
            client,
            signed(ALICE, nonce=0, to=MAKER_2, gas=400_000, data=DEPLOYS),
            signed(ALICE, nonce=1, to=DESTROYER, value=3, gas=400_000, data=heir),
            signed(ALICE, nonce=2, gas=400_000, data=DEPLOYS),
        )
        (operation,) = await client.call("ots_getInternalOperations", created)
        assert (operation["type"], operation["from"], operation["value"]) == (3, hexed(MAKER_2), "0x0")
        assert await client.call("ots_getInternalOperations", destroyed) == [
            {"type": 1, "from": hexed(DESTROYER), "to": hexed(CAROL.address), "value": hex(10**18 + 3)}
        ]
        assert await client.call("ots_getInternalOperations", deployed) == []
        (entry,) = await client.call("ots_traceTransaction", deployed)
        assert (entry["type"], entry["to"]) == ("CREATE", hexed(contract_address(ALICE.address, 2)))

    on_blocks(body)


def test_the_error_of_a_transaction_is_its_revert_data() -> None:
    async def body(client: Client) -> None:
        reverted, burned, fine = mine(
            client,
            signed(ALICE, nonce=0, to=REVERTER, data=b"the reason"),
            signed(ALICE, nonce=1, to=BURNER),
            transfer(2),
        )
        assert await client.call("ots_getTransactionError", reverted) == hexed(b"the reason")
        assert await client.call("ots_getTransactionError", burned) == "0x"
        assert await client.call("ots_getTransactionError", fine) == "0x"

    on_blocks(body)


@pytest.mark.parametrize("method", ["ots_traceTransaction", "ots_getInternalOperations", "ots_getTransactionError"])
def test_a_transaction_that_is_not_there_has_no_inside(method: str) -> None:
    async def body(client: Client) -> None:
        assert (await client.error(method, MISSING))["code"] == SERVER_ERROR

    on_blocks(body)


# --- Without the index -------------------------------------------------------------------------------------------


def test_a_node_without_the_index_names_the_command_that_builds_it() -> None:
    async def body(client: Client) -> None:
        mine(client, transfer(0))
        alice = hexed(ALICE.address)
        for method, *params in (
            ("ots_searchTransactionsBefore", alice, 0, 25),
            ("ots_searchTransactionsAfter", alice, 0, 25),
            ("ots_getContractCreator", hexed(COUNTER)),
        ):
            refused = await client.error(method, *params)
            assert refused["code"] == SERVER_ERROR
            assert "blocks 1 to 1" in refused["message"]
            assert "`astralink-node db index`" in refused["message"]
        # What no index is needed for is answered all the same.
        assert (await client.call("ots_getBlockDetails", 1))["block"]["transactionCount"] == 1
        block = await client.call("eth_getBlockByNumber", "0x1", False)
        assert await client.call("ots_getTransactionBySenderAndNonce", alice, 0) == block["transactions"][0]
        assert await client.call("ots_getTransactionBySenderAndNonce", alice, 1) is None

    on_blocks(body, indexed_node(explorer_index=False))


def test_before_the_first_block_there_is_nothing_to_find() -> None:
    async def body(client: Client) -> None:
        page = await client.call("ots_searchTransactionsBefore", hexed(ALICE.address), 0, 25)
        assert page == {"txs": [], "receipts": [], "firstPage": True, "lastPage": True}
        page = await client.call("ots_searchTransactionsAfter", hexed(ALICE.address), 0, 25)
        assert page == {"txs": [], "receipts": [], "firstPage": True, "lastPage": True}

    on_blocks(body)


def test_the_namespaces_are_off_unless_they_are_named() -> None:
    async def body(client: Client) -> None:
        for method in ("ots_getApiLevel", "erigon_blockNumber"):
            assert (await client.error(method))["code"] == -32601

    with_client(body)
