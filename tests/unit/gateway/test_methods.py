"""The methods in front of the real execution facade: what wallets and deploying developers ask."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from eth_account import Account
from eth_utils.crypto import keccak

from astralink_node.chain.messages import AtLatest, CodeQuestion, Query
from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.link_messages import NewHead
from astralink_node.gateway.rpc_errors import INVALID_PARAMS, LIMIT_EXCEEDED, METHOD_NOT_FOUND, SERVER_ERROR
from tests.support.asynchronous import run
from tests.support.gateways import (
    ALICE,
    BOB,
    CAROL,
    CHAIN_ID,
    COUNTER,
    ECHO,
    REVERTER,
    Client,
    SmallNode,
    hexed,
    signed,
    with_client,
)

A = hexed(ALICE.address)
WORD = "0x" + "00" * 31 + "2a"
MISSING = "0x" + "de" * 32


async def mine(client: Client, *raw: bytes) -> list[str]:
    """Send through the gateway, then make a block of it."""
    hashes = [await client.call("eth_sendRawTransaction", hexed(each)) for each in raw]
    client.node.produce()
    return hashes


# --- Chain and fees ------------------------------------------------------------------------------------------


def test_what_never_changes() -> None:
    async def body(client: Client) -> None:
        assert await client.call("eth_chainId") == hex(CHAIN_ID)
        assert await client.call("net_version") == str(CHAIN_ID)
        assert await client.call("net_listening") is False
        assert await client.call("net_peerCount") == "0x0"
        assert await client.call("eth_accounts") == []
        assert await client.call("eth_syncing") is False
        assert await client.call("web3_clientVersion") == "AstraLink/test"
        assert await client.call("web3_sha3", "0x68656c6c6f") == hexed(keccak(b"hello"))
        assert await client.call("eth_blobBaseFee") == "0x1"
        assert await client.call("astralink_getGenesisHash") == hexed(client.node.genesis_hash)

    with_client(body)


def test_head_reads_follow_each_block_without_asking_execution() -> None:
    async def body(client: Client) -> None:
        for height in range(1, 4):
            committed = client.node.produce()
            before = client.node.queries
            assert await client.call("eth_blockNumber") == hex(height)
            block = await client.call("eth_getBlockByNumber", "latest", False)
            assert block["hash"] == hexed(committed.block.block_hash)
            assert await client.call("eth_getBlockByHash", block["hash"], True) == block
            assert await client.call("eth_getBlockReceipts", "latest") == []
            assert int(await client.call("eth_baseFee"), 16) == committed.next_base_fee_wei
            assert int(await client.call("eth_gasPrice"), 16) == committed.next_base_fee_wei + 10**9
            assert await client.call("eth_maxPriorityFeePerGas") == hex(10**9)
            await client.call("eth_feeHistory", "0x2", "latest", [])
            assert client.node.queries == before

    with_client(body)


def test_safe_finalized_and_latest_are_one_block() -> None:
    async def body(client: Client) -> None:
        client.node.produce()
        blocks = [
            await client.call("eth_getBlockByNumber", tag, False) for tag in ("latest", "safe", "finalized", "0x1")
        ]
        assert all(block == blocks[0] for block in blocks)
        assert (await client.call("eth_getBlockByNumber", "earliest", False))["number"] == "0x0"

    with_client(body)


def test_the_pending_block_is_head_state_under_the_next_header() -> None:
    async def body(client: Client) -> None:
        committed = client.node.produce()
        pending = await client.call("eth_getBlockByNumber", "pending", True)
        assert (pending["number"], pending["parentHash"]) == ("0x2", hexed(committed.block.block_hash))
        assert (pending["hash"], pending["nonce"], pending["miner"]) == (None, None, None)
        assert pending["transactions"] == []
        assert int(pending["baseFeePerGas"], 16) == committed.next_base_fee_wei
        assert await client.call("eth_getBlockTransactionCountByNumber", "pending") == "0x0"
        assert await client.call("eth_getBlockReceipts", "pending") is None
        assert await client.call("eth_getTransactionByBlockNumberAndIndex", "pending", "0x0") is None

    with_client(body)


def test_fee_history_from_the_cache_equals_what_execution_says() -> None:
    node = SmallNode()

    async def body(client: Client) -> None:
        for nonce in range(3):
            tips = [10**9, 2 * 10**9, 3 * 10**9]
            senders = [ALICE, BOB, CAROL]
            for sender, tip in zip(senders, tips, strict=True):
                node.add(
                    signed(
                        sender,
                        to=ECHO,
                        nonce=nonce,
                        data=b"\x01" * (32 + nonce),
                        maxPriorityFeePerGas=tip,
                        maxFeePerGas=9 * 10**9,
                    )
                )
            node.produce()
        questions = [
            ("0x3", "latest", [0, 25.5, 50, 99.99, 100]),
            ("0x2", "0x2", [50]),
            ("0x400", "latest", []),
            (1, "0x0", [10]),
        ]
        asked = node.queries
        cached = [await client.call("eth_feeHistory", *question) for question in questions[:2]]
        assert node.queries == asked
        assert cached[0]["oldestBlock"] == "0x1"
        assert len(cached[0]["baseFeePerGas"]) == 4
        assert len(cached[0]["reward"]) == 3
        fresh = [NewHead(node.head)]

        async def uncached(other: Client) -> None:
            assert len(fresh) == 1
            for question, expected in zip(questions[:2], cached, strict=True):
                assert await other.call("eth_feeHistory", *question) == expected
            assert len((await other.call("eth_feeHistory", *questions[2]))["gasUsedRatio"]) == 4
            assert (await other.call("eth_feeHistory", *questions[3]))["reward"] == [["0x0"]]

        from astralink_node.gateway.config import GatewayConfig
        from astralink_node.gateway.context import ChainIdentity
        from astralink_node.gateway.gateway import Gateway, HeadFeed

        config = GatewayConfig("", "", limits=GatewayLimits(cached_blocks=1))
        feed = HeadFeed(config)
        feed.on_push(NewHead(node.head))
        await uncached(Client(node, Gateway(config, ChainIdentity(CHAIN_ID, b"", ""), node, feed), feed))

    with_client(body, node=node)


@pytest.mark.parametrize(
    ("params", "code", "words"),
    [
        (("0x1", "0x9", []), SERVER_ERROR, "request beyond head block: requested 9, head 0"),
        (("0x1", "latest", [101]), INVALID_PARAMS, "invalid reward percentile: 101"),
        (("0x1", "latest", [-1]), INVALID_PARAMS, "invalid reward percentile: -1"),
        (("0x1", "latest", [50, 50]), INVALID_PARAMS, "invalid reward percentile: #0"),
        (("0x1", "latest", list(range(101))), INVALID_PARAMS, "over the query limit"),
        (("many", "latest", []), INVALID_PARAMS, "invalid argument 0: blockCount"),
        ((), INVALID_PARAMS, "missing value for required argument 0"),
    ],
)
def test_fee_history_refuses_nonsense(params: tuple[object, ...], code: int, words: str) -> None:
    async def body(client: Client) -> None:
        error = await client.error("eth_feeHistory", *params)
        assert error["code"] == code
        assert words in error["message"]

    with_client(body)


# --- State ---------------------------------------------------------------------------------------------------


def test_state_is_read_at_head_and_in_history() -> None:
    async def body(client: Client) -> None:
        balance = int(await client.call("eth_getBalance", A, "latest"), 16)
        await mine(client, signed(ALICE, to=COUNTER, nonce=0), signed(ALICE, to=BOB.address, nonce=1, value=5))
        assert await client.call("eth_getTransactionCount", A) == "0x2"
        assert await client.call("eth_getTransactionCount", A, "0x0") == "0x0"
        assert int(await client.call("eth_getBalance", A), 16) < balance
        assert int(await client.call("eth_getBalance", A, "earliest"), 16) == balance
        assert await client.call("eth_getStorageAt", hexed(COUNTER), "0x0", "latest") == "0x" + f"{57:064x}"
        assert (
            await client.call("eth_getStorageAt", hexed(COUNTER), "0x0", {"blockNumber": "0x0"}) == "0x" + f"{56:064x}"
        )
        assert await client.call("eth_getStorageValues", {hexed(COUNTER): ["0x0", "0x1"]}) == {
            hexed(COUNTER): ["0x" + f"{57:064x}", "0x" + "00" * 32]
        }
        code = await client.call("eth_getCode", hexed(COUNTER), "latest")
        assert code == "0x60005460010160005500"
        assert await client.call("eth_getCode", MISSING[:42]) == "0x"
        genesis = await client.call("eth_getBlockByNumber", "0x0", False)
        assert (
            await client.call("eth_getTransactionCount", A, {"blockHash": genesis["hash"], "requireCanonical": True})
            == "0x0"
        )

    with_client(body)


def test_the_pending_nonce_counts_the_mempool() -> None:
    async def body(client: Client) -> None:
        for nonce in range(3):
            await client.call("eth_sendRawTransaction", hexed(signed(ALICE, to=ECHO, nonce=nonce, data=b"\1" * 32)))
        assert await client.call("eth_getTransactionCount", A, "pending") == "0x3"
        assert await client.call("eth_getTransactionCount", A, "latest") == "0x0"
        client.node.produce()
        assert await client.call("eth_getTransactionCount", A, "pending") == "0x3"
        assert await client.call("eth_getTransactionCount", A, "latest") == "0x3"

    with_client(body)


def test_blocks_that_are_not_there_are_named_as_geth_does() -> None:
    async def body(client: Client) -> None:
        assert await client.error("eth_getBalance", A, "0x64") == {"code": SERVER_ERROR, "message": "header not found"}
        error = await client.error("eth_getBalance", A, {"blockHash": MISSING})
        assert error == {"code": SERVER_ERROR, "message": "header for hash not found"}
        assert await client.call("eth_getBlockByHash", MISSING, False) is None
        assert await client.call("eth_getBlockByNumber", "0x64", True) is None
        assert await client.call("eth_getBlockReceipts", "0x64") is None
        assert await client.call("eth_getBlockTransactionCountByHash", MISSING) is None
        assert await client.call("eth_getUncleCountByBlockNumber", "0x64") is None
        assert await client.call("eth_getTransactionByHash", MISSING) is None
        assert await client.call("eth_getTransactionReceipt", MISSING) is None
        assert await client.call("eth_getRawTransactionByHash", MISSING) == "0x"

    with_client(body)


def test_proofs_show_keys_as_they_were_asked() -> None:
    async def body(client: Client) -> None:
        full = "0x" + "00" * 32
        proof = await client.call("eth_getProof", hexed(COUNTER), [full, "0x1"], "latest")
        assert [entry["key"] for entry in proof["storageProof"]] == [full, "0x1"]
        assert [entry["value"] for entry in proof["storageProof"]] == ["0x38", "0x0"]
        assert proof["balance"] == "0x7"
        assert proof["accountProof"][0].startswith("0xf9")
        short = await client.call("eth_getProof", hexed(COUNTER), ["0x00"], "latest")
        assert short["storageProof"][0]["key"] == "0x0"

    with_client(body)


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        ("eth_getBalance", ("0x12", "latest"), "invalid argument 0: address: hex string has length 2, want 40"),
        ("eth_getBalance", (A, "newest"), "invalid argument 1: block: hex string without 0x prefix"),
        ("eth_getBalance", (A, "0x01"), "invalid argument 1: block: hex number with leading zero digits"),
        ("eth_getBalance", (), "missing value for required argument 0: address"),
        ("eth_getBalance", (A, "latest", 1), "too many arguments, want at most 2"),
        ("eth_getBlockByNumber", ("latest",), "missing value for required argument 1: fullTransactions"),
        ("eth_getBlockByNumber", ("latest", "yes"), "invalid argument 1: fullTransactions"),
        ("eth_getTransactionByHash", ("0x1",), "invalid argument 0: transactionHash: hex string has length 1, want 64"),
        ("eth_call", ({"to": "0x1"},), "invalid argument 0: transaction.to"),
        (
            "eth_call",
            ({}, "latest", {}, {"number": "1"}),
            "invalid argument 3: blockOverrides.number",
        ),
        ("eth_getLogs", ({"topics": ["0x1"]},), r"invalid argument 0: filter.topics[0]"),
        ("eth_sendRawTransaction", ("f86c",), "invalid argument 0: transaction: hex string without 0x prefix"),
        ("web3_sha3", (None,), "missing value for required argument 0: data"),
    ],
)
def test_nonsense_parameters_name_the_argument(method: str, params: tuple[object, ...], words: str) -> None:
    async def body(client: Client) -> None:
        error = await client.error(method, *params)
        assert error["code"] == INVALID_PARAMS
        assert words in error["message"]

    with_client(body)


def test_too_many_slots_are_refused() -> None:
    async def body(client: Client) -> None:
        error = await client.error("eth_getProof", A, ["0x0"] * 4, "latest")
        assert error == {"code": INVALID_PARAMS, "message": "too many keys (max 3)"}
        error = await client.error("eth_getStorageValues", {A: ["0x0"] * 4})
        assert error == {"code": INVALID_PARAMS, "message": "too many slots (max 3)"}

    with_client(body, limits=GatewayLimits(proof_slots=3, storage_slots=3))


# --- Transactions --------------------------------------------------------------------------------------------


def all_types() -> list[bytes]:
    """One transaction of each type, by Alice, then a creation."""
    authorization = Account.from_key(BOB.private_key).sign_authorization(
        {"chainId": CHAIN_ID, "address": ECHO, "nonce": 0}
    )
    access_list = [{"address": hexed(COUNTER), "storageKeys": [WORD]}]
    return [
        signed(ALICE, to=BOB.address, nonce=0, gasPrice=3 * 10**9, value=1),
        signed(ALICE, to=COUNTER, nonce=1, gasPrice=3 * 10**9, accessList=access_list, type=1),
        signed(ALICE, to=ECHO, nonce=2, data=b"\x05" * 40),
        signed(ALICE, to=COUNTER, nonce=3, authorizationList=[authorization], gas=200_000),
        signed(
            ALICE,
            nonce=4,
            data=bytes.fromhex("600a600c600039600a6000f3") + bytes.fromhex("60005460010160005500"),
            to="",
        ),
    ]


def test_every_transaction_type_is_shown_in_pool_block_and_receipt() -> None:
    async def body(client: Client) -> None:
        raws = all_types()
        hashes = [await client.call("eth_sendRawTransaction", hexed(raw)) for raw in raws]
        assert hashes == [hexed(keccak(raw)) for raw in raws]
        pending = [await client.call("eth_getTransactionByHash", each) for each in hashes]
        assert all(each["blockHash"] is None and each["transactionIndex"] is None for each in pending)
        assert all(each["from"] == A for each in pending)
        assert [await client.call("eth_getTransactionReceipt", each) for each in hashes] == [None] * 5
        assert [await client.call("eth_getRawTransactionByHash", each) for each in hashes] == [
            hexed(raw) for raw in raws
        ]

        client.node.produce()
        block = await client.call("eth_getBlockByNumber", "latest", True)
        included = [await client.call("eth_getTransactionByHash", each) for each in hashes]
        assert block["transactions"] == included
        assert [each["type"] for each in included] == ["0x0", "0x1", "0x2", "0x4", "0x2"]
        assert [int(each["transactionIndex"], 16) for each in included] == [0, 1, 2, 3, 4]
        assert [
            await client.call("eth_getTransactionByBlockNumberAndIndex", "0x1", hex(index)) for index in range(5)
        ] == included
        assert await client.call("eth_getTransactionByBlockHashAndIndex", block["hash"], "0x1") == included[1]
        assert await client.call("eth_getTransactionByBlockHashAndIndex", block["hash"], "0x5") is None
        assert await client.call("eth_getBlockTransactionCountByNumber", "latest") == "0x5"

        legacy, access_list, dynamic, set_code, create = included
        assert (legacy["v"], legacy["chainId"]) == (
            hex(35 + 2 * CHAIN_ID + (int(legacy["v"], 16) - 35) % 2),
            hex(CHAIN_ID),
        )
        assert not {"yParity", "accessList", "maxFeePerGas"} & set(legacy)
        assert access_list["accessList"] == [{"address": hexed(COUNTER), "storageKeys": [WORD]}]
        assert access_list["v"] == access_list["yParity"]
        assert int(dynamic["gasPrice"], 16) == int(block["baseFeePerGas"], 16) + 10**9
        assert set_code["authorizationList"][0]["address"] == hexed(ECHO)
        assert create["to"] is None

        receipts = [await client.call("eth_getTransactionReceipt", each) for each in hashes]
        assert receipts == await client.call("eth_getBlockReceipts", "0x1")
        assert receipts == await client.call("eth_getBlockReceipts", block["hash"])
        assert [receipt["status"] for receipt in receipts] == ["0x1"] * 5
        assert sum(int(receipt["gasUsed"], 16) for receipt in receipts) == int(receipts[-1]["cumulativeGasUsed"], 16)
        assert receipts[2]["logs"][0]["topics"] == ["0x" + "05" * 32]
        assert receipts[2]["logs"][0]["blockTimestamp"] == block["timestamp"]
        assert await client.call("eth_getCode", receipts[4]["contractAddress"]) == "0x60005460010160005500"
        assert await client.call("eth_getCode", hexed(BOB.address)) == "0xef0100" + ECHO.hex()

    with_client(body)


def test_answers_from_execution_equal_answers_from_the_cache() -> None:
    async def body(client: Client) -> None:
        hashes = await mine(client, *all_types())
        asks = [("eth_getTransactionByHash", each) for each in hashes] + [
            ("eth_getTransactionReceipt", each) for each in hashes
        ]
        asks += [("eth_getBlockReceipts", "0x1")]
        cached = [await client.call(*ask) for ask in asks]
        block = await client.call("eth_getBlockByNumber", "0x1", True)
        logs = await client.call("eth_getLogs", {"fromBlock": "0x1", "toBlock": "0x1"})
        client.node.produce()
        client.node.produce()
        queries = client.node.queries
        assert [await client.call(*ask) for ask in asks] == cached
        assert await client.call("eth_getBlockByNumber", "0x1", True) == block
        assert await client.call("eth_getLogs", {"fromBlock": "0x1", "toBlock": "0x1"}) == logs
        assert await client.call("eth_getLogs", {"blockHash": block["hash"]}) == logs
        assert client.node.queries > queries

    with_client(body, limits=GatewayLimits(cached_blocks=1))


def test_a_block_that_the_node_has_not_announced_is_not_told_of() -> None:
    async def body(client: Client) -> None:
        client.node.announcing = False
        client.node.add(signed(ALICE, to=ECHO, nonce=0, data=b"\1" * 32))
        transaction_hash = hexed(next(iter(client.node.pool)))
        committed = client.node.produce()
        assert await client.call("eth_blockNumber") == "0x0"
        assert await client.call("eth_getBlockByNumber", "0x1", False) is None
        receipt = asyncio.create_task(client.call("eth_getTransactionReceipt", transaction_hash))
        by_hash = asyncio.create_task(client.call("eth_getBlockByHash", hexed(committed.block.block_hash), False))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not receipt.done()
        assert not by_hash.done()
        client.node.push(NewHead(committed))
        assert (await receipt)["blockNumber"] == "0x1"
        assert (await by_hash)["number"] == "0x1"
        assert await client.call("eth_blockNumber") == "0x1"

    with_client(body)


def test_a_head_announced_without_receipts_gets_them_from_execution() -> None:
    node = SmallNode()
    node.add(signed(ALICE, to=ECHO, nonce=0, data=b"\1" * 32))
    transaction_hash = hexed(next(iter(node.pool)))
    committed = node.produce()
    from dataclasses import replace

    node.head = replace(committed, receipts=())

    async def body(client: Client) -> None:
        assert (await client.call("eth_getTransactionReceipt", transaction_hash))["status"] == "0x1"
        assert len(await client.call("eth_getBlockReceipts", "latest")) == 1
        assert len(await client.call("eth_getLogs", {})) == 1
        assert (await client.call("eth_feeHistory", 1, "latest", [50]))["reward"] == [[hex(10**9)]]

    with_client(body, node=node)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "malformed transaction"),
        (b"\xf8\x6c", "malformed transaction"),
        (b"\xc0", "malformed transaction"),
        (b"\x03\xf8\x01", "transaction type not supported: this chain carries no blob transactions"),
        (b"\x05\xc0", "transaction type not supported"),
        (b"\x7f" * 1000, "transaction type not supported"),
        (signed(ALICE, to=ECHO, nonce=0, chainId=1), "invalid sender: invalid chain id for signer: have 1 want"),
        (signed(ALICE, to=ECHO, nonce=0) + b"\x00", "malformed transaction"),
    ],
)
def test_transactions_that_are_none_are_refused_without_asking_the_node(raw: bytes, words: str) -> None:
    async def body(client: Client) -> None:
        error = await client.error("eth_sendRawTransaction", hexed(raw))
        assert error["code"] == SERVER_ERROR
        assert words in error["message"]
        assert client.node.submitted == []

    with_client(body)


def test_a_signature_nobody_can_have_made_is_an_invalid_sender() -> None:
    async def body(client: Client) -> None:
        raw = signed(ALICE, to=ECHO, nonce=0)
        at = raw.rindex(b"\xa0")  # s: the last 32-byte item
        broken = raw[: at + 1] + b"\xff" * 32
        error = await client.error("eth_sendRawTransaction", hexed(broken))
        assert "invalid sender" in error["message"]

    with_client(body)


def test_the_pools_verdict_reaches_the_client() -> None:
    async def body(client: Client) -> None:
        raw = hexed(signed(ALICE, to=ECHO, nonce=0))
        await client.call("eth_sendRawTransaction", raw)
        assert await client.error("eth_sendRawTransaction", raw) == {"code": SERVER_ERROR, "message": "already known"}

    with_client(body)


@pytest.mark.parametrize("indexed", [False, True])
def test_a_transaction_is_found_by_its_sender_and_nonce_wherever_it_is(indexed: bool) -> None:
    node = SmallNode(explorer_index=indexed)

    async def body(client: Client) -> None:
        async def of_nonce(account: Any, nonce: int) -> Any:
            return await client.call("eth_getTransactionBySenderAndNonce", hexed(account.address), hex(nonce))

        hashes = [hexed(client.node.add(raw)) for raw in all_types()]
        pooled = [await of_nonce(ALICE, nonce) for nonce in range(len(hashes))]
        assert [each["hash"] for each in pooled] == hashes
        assert {each["blockHash"] for each in pooled} == {None}
        assert await of_nonce(ALICE, len(hashes)) is None
        client.node.produce()
        client.node.produce()
        for nonce, transaction_hash in enumerate(hashes):
            found = await of_nonce(ALICE, nonce)
            assert found == await client.call("eth_getTransactionByHash", transaction_hash)
            assert found["blockNumber"] == "0x1"
        assert await of_nonce(ALICE, len(hashes)) is None
        assert await client.call("eth_getTransactionCount", hexed(BOB.address)) == "0x1"
        assert await of_nonce(BOB, 0) is None, "an authorization used it"

    with_client(body, node=node)


def test_an_account_is_told_whole() -> None:
    async def body(client: Client) -> None:
        counter, nobody = hexed(COUNTER), "0x" + "99" * 20
        client.node.add(signed(ALICE, nonce=0, to=COUNTER))
        client.node.produce()
        for at in ("latest", "0x0"):
            proof = await client.call("eth_getProof", counter, [], at)
            assert await client.call("eth_getAccount", counter, at) == {
                "balance": "0x7",
                "nonce": "0x1",
                "storageRoot": proof["storageHash"],
                "codeHash": proof["codeHash"],
            }
            code = await client.call("eth_getCode", counter, at)
            info = await client.call("eth_getAccountInfo", counter, at)
            assert info == {"balance": "0x7", "nonce": "0x1", "code": code}
        assert await client.call("eth_getAccount", nobody) is None
        assert await client.call("eth_getAccountInfo", nobody) == {"balance": "0x0", "nonce": "0x0", "code": "0x"}
        alice = await client.call("eth_getAccountInfo", hexed(ALICE.address), "pending")
        assert (alice["nonce"], alice["code"]) == ("0x1", "0x")
        for method in ("eth_getAccount", "eth_getAccountInfo"):
            error = await client.error(method, counter, "0x9")
            assert error == {"code": -32000, "message": "header not found"}

    with_client(body)


def test_transactions_sent_together_reach_the_node_in_few_batches_and_in_order() -> None:
    async def body(client: Client) -> None:
        raws = [hexed(signed(ALICE, to=ECHO, nonce=nonce)) for nonce in range(60)]
        single = [client.call("eth_sendRawTransaction", raw) for raw in raws[:30]]
        batch = client.send(
            [
                {"jsonrpc": "2.0", "id": n, "method": "eth_sendRawTransaction", "params": [raw]}
                for n, raw in enumerate(raws[30:])
            ]
        )
        *hashes, answers = await asyncio.gather(*single, batch)
        assert len(client.node.submitted) <= 6
        hashes += [answer["result"] for answer in answers]
        assert [hexed(each) for each in client.node.pool] == hashes
        assert len(client.node.produce().block.raw_transactions) == 60

    with_client(body)


def test_too_many_submissions_are_told_to_come_back() -> None:
    async def body(client: Client) -> None:
        raws = [hexed(signed(ALICE, to=ECHO, nonce=nonce)) for nonce in range(8)]
        sent = [
            client.send({"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": [raw]})
            for raw in raws
        ]
        answers = await asyncio.gather(*sent)
        codes = [answer.get("error", {}).get("code") for answer in answers]
        assert codes[:4] == [None] * 4
        assert set(codes[4:]) == {LIMIT_EXCEEDED}

    with_client(body, limits=GatewayLimits(submissions_waiting=4))


@pytest.mark.parametrize(
    "method", ["eth_sendTransaction", "eth_sign", "eth_signTransaction", "personal_sign", "eth_signTypedData_v4"]
)
def test_methods_that_need_keys_say_that_the_node_has_none(method: str) -> None:
    async def body(client: Client) -> None:
        error = await client.error(method, {"from": A})
        assert error["code"] == METHOD_NOT_FOUND
        assert "accounts are not managed by this node" in error["message"]

    with_client(body)


# --- Calls ---------------------------------------------------------------------------------------------------


def test_a_call_returns_what_the_contract_does() -> None:
    async def body(client: Client) -> None:
        assert await client.call("eth_call", {"to": hexed(ECHO), "input": WORD}, "latest") == WORD
        assert await client.call("eth_call", {"to": hexed(ECHO), "data": WORD, "from": A}) == WORD
        assert await client.call("eth_call", {"to": MISSING[:42], "data": WORD}, "pending") == "0x"
        replaced = {hexed(BOB.address): {"code": "0x602a60005260206000f3"}}
        assert await client.call("eth_call", {"to": hexed(BOB.address)}, "latest", replaced) == WORD

    with_client(body)


def test_a_revert_is_code_3_with_its_bytes() -> None:
    reason = "08c379a0" + f"{32:064x}" + f"{5:064x}" + b"sorry".hex().ljust(64, "0")
    custom = "0xe450d38c" + "11" * 32

    async def body(client: Client) -> None:
        for method in ("eth_call", "eth_estimateGas"):
            error = await client.error(method, {"to": hexed(REVERTER), "data": "0x" + reason}, "latest")
            assert error == {"code": 3, "message": "execution reverted: sorry", "data": "0x" + reason}
            error = await client.error(method, {"to": hexed(REVERTER), "data": custom}, "latest")
            assert error == {"code": 3, "message": "execution reverted", "data": custom}

    with_client(body)


def test_a_call_that_halts_is_a_server_error() -> None:
    async def body(client: Client) -> None:
        invalid = {hexed(BOB.address): {"code": "0xfe"}}
        error = await client.error("eth_call", {"to": hexed(BOB.address)}, "latest", invalid)
        assert error["code"] == SERVER_ERROR
        assert "invalid opcode" in error["message"]
        error = await client.error("eth_call", {"to": hexed(COUNTER), "gas": hex(21_100)}, "latest")
        assert error["code"] == SERVER_ERROR
        assert "out of gas" in error["message"]

    with_client(body)


def test_an_estimate_is_enough_and_a_poor_sender_is_told() -> None:
    async def body(client: Client) -> None:
        assert await client.call("eth_estimateGas", {"from": A, "to": hexed(BOB.address), "value": "0x1"}) == "0x5208"
        estimate = await client.call("eth_estimateGas", {"from": A, "to": hexed(COUNTER)})
        (transaction_hash,) = await mine(client, signed(ALICE, to=COUNTER, nonce=0, gas=int(estimate, 16)))
        assert (await client.call("eth_getTransactionReceipt", transaction_hash))["status"] == "0x1"
        error = await client.error("eth_estimateGas", {"from": MISSING[:42], "to": hexed(BOB.address), "value": "0x1"})
        assert error["code"] == SERVER_ERROR
        assert "insufficient funds" in error["message"]

    with_client(body)


def test_an_access_list_names_what_a_call_touches() -> None:
    async def body(client: Client) -> None:
        answer = await client.call("eth_createAccessList", {"from": A, "to": hexed(COUNTER)}, "latest")
        assert answer["accessList"] == [{"address": hexed(COUNTER), "storageKeys": ["0x" + "00" * 32]}]
        assert int(answer["gasUsed"], 16) > 21_000
        assert "error" not in answer

    with_client(body)


def test_a_call_for_another_chain_is_refused() -> None:
    async def body(client: Client) -> None:
        error = await client.error("eth_call", {"to": hexed(ECHO), "chainId": "0x1"}, "latest")
        assert error["message"] == f"chainId does not match node's (have=1, want={CHAIN_ID})"

    with_client(body)


# --- Namespaces ----------------------------------------------------------------------------------------------


def test_only_the_enabled_namespaces_are_served() -> None:
    async def body(client: Client) -> None:
        assert (await client.error("txpool_status"))["code"] == METHOD_NOT_FOUND
        assert (await client.error("debug_traceTransaction", MISSING))["code"] == METHOD_NOT_FOUND

    with_client(body)

    async def wider(client: Client) -> None:
        assert await client.call("txpool_status") == {"pending": "0x0", "queued": "0x0"}
        assert (await client.error("eth_blockNumber"))["code"] == METHOD_NOT_FOUND

    with_client(wider, apis=("txpool",))


def test_the_pool_is_shown_by_sender_and_nonce() -> None:
    async def body(client: Client) -> None:
        await client.call("eth_sendRawTransaction", hexed(signed(ALICE, to=ECHO, nonce=0)))
        await client.call("eth_sendRawTransaction", hexed(signed(ALICE, nonce=1, data=b"\0", to="")))
        content = await client.call("txpool_content")
        checksummed = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
        assert content["pending"][checksummed]["0"]["to"] == hexed(ECHO)
        assert (await client.call("txpool_contentFrom", A))["pending"].keys() == {"0", "1"}
        summary = (await client.call("txpool_inspect"))["pending"][checksummed]
        assert summary["1"].startswith("contract creation: 0 wei")
        assert await client.call("txpool_status") == {"pending": "0x2", "queued": "0x0"}

    with_client(body, apis=("eth", "txpool"))


def test_a_mempool_larger_than_an_answer_is_refused_with_the_way_to_ask_for_less() -> None:
    async def body(client: Client) -> None:
        for nonce in range(3):
            client.node.add(signed(ALICE, nonce=nonce, to=ECHO, data=bytes(300)))
        client.node.add(signed(BOB, nonce=0, to=ECHO))
        error = await client.error("txpool_content")
        assert error["code"] == LIMIT_EXCEEDED
        assert "txpool_contentFrom" in error["message"]
        assert (await client.error("txpool_contentFrom", A))["code"] == LIMIT_EXCEEDED
        bob = await client.call("txpool_contentFrom", hexed(BOB.address))
        assert (bob["pending"].keys(), bob["queued"]) == ({"0"}, {})
        assert len((await client.call("txpool_inspect"))["pending"]) == 2

    with_client(body, apis=("txpool",), limits=GatewayLimits(response_bytes=2500))


def test_the_fate_of_a_transaction_is_told_wherever_it_is() -> None:
    async def body(client: Client) -> None:
        raw = signed(ALICE, to=ECHO, nonce=0)
        sent = await client.call("eth_sendRawTransaction", hexed(raw))
        assert await client.call("astralink_getTransactionFate", sent) == {
            "state": "pending",
            "from": A,
            "nonce": "0x0",
            "waitsFor": "block",
        }
        committed = client.node.produce()
        assert await client.call("astralink_getTransactionFate", sent) == {
            "state": "included",
            "from": A,
            "blockHash": hexed(committed.block.block_hash),
            "blockNumber": "0x1",
            "transactionIndex": "0x0",
        }
        client.node.dropped[b"\x01" * 32] = "waited too long"
        dropped = await client.call("astralink_getTransactionFate", "0x" + "01" * 32)
        assert dropped == {"state": "dropped", "reason": "waited too long", "droppedAtMs": "0x3e8"}
        assert await client.call("astralink_getTransactionFate", "0x" + "02" * 32) == {"state": "unknown"}
        assert (await client.error("astralink_getTransactionFate", "0x01"))["code"] == INVALID_PARAMS

    with_client(body)


def test_consensus_payload_certificate_and_fee_parameters_are_readable() -> None:
    async def body(client: Client) -> None:
        assert await client.call("astralink_getCertificate", "0x0") is None
        assert (await client.call("astralink_getPayload", "0x0"))["parentCertificate"] is None
        first, second = client.node.produce(), client.node.produce()
        payload = await client.call("astralink_getPayload", "latest")
        assert payload["parentCertificate"]["blockHash"] == hexed(first.block.block_hash)
        assert payload["genesisHash"] == hexed(client.node.genesis_hash)
        for committed, height in ((first, "0x1"), (second, "0x2")):
            certificate = await client.call("astralink_getCertificate", height)
            assert certificate["blockHash"] == hexed(committed.block.block_hash)
            assert (certificate["number"], certificate["signers"]) == (height, ["0x0"])
        parameters = await client.call("astralink_getFeeParameters")
        head = await client.call("eth_getBlockByNumber", "latest", False)
        assert parameters["gasLimit"] == head["gasLimit"]
        status = await client.call("astralink_nodeStatus")
        assert (status["headNumber"], status["headHash"]) == ("0x2", hexed(second.block.block_hash))
        assert await client.call("astralink_getPayload", "0x64") is None

    with_client(body)


def test_a_backend_answer_of_the_wrong_kind_is_unavailable_not_a_crash() -> None:
    class Confused(SmallNode):
        async def query(self, query: Query) -> object:  # type: ignore[override]
            return await super().query(Query(AtLatest(), CodeQuestion(ECHO)))

    async def body(client: Client) -> None:
        error = await client.error("eth_getBalance", A, "latest")
        assert "unexpected answer" in error["message"]

    with_client(body, node=Confused())


def test_the_helper_that_runs_tests_bounds_them() -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        run(stuck, timeout_s=0.01)
