"""What a chain is configured as, what a node keeps of it, whose fees it collects; headers and raw transactions."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from zlib import crc32

import pytest

from astralink_node.chain.commits import HistoryWindow
from astralink_node.chain.execution import ExecutionConfig
from astralink_node.chain.facts_messages import ChainFacts, ChainFactsQuestion, ForkFacts
from astralink_node.chain.messages import AtLatest, Query
from astralink_node.crypto.keccak import keccak256
from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.link_messages import NewPendingTransactions, Push
from astralink_node.gateway.methods.eth_node import fork_id
from astralink_node.gateway.rpc_errors import SERVER_ERROR
from consensus.staking_params import StakingParams
from contracts.places import STAKING
from tests.support.chains import LocalChain, genesis_text
from tests.support.gateways import (
    ALICE,
    BOB,
    CHAIN_ID,
    COUNTER,
    ECHO,
    FEE_RECIPIENT,
    Client,
    SmallNode,
    hexed,
    signed,
    with_client,
)

MISSING = "0x" + "ab" * 32

# --- The chain and the node --------------------------------------------------------------------------------------


def test_the_configuration_names_the_precompiles_and_system_contracts() -> None:
    async def body(client: Client) -> None:
        answer = await client.call("eth_config")
        current = answer["current"]
        assert (answer["next"], answer["last"]) == (None, None)
        assert (current["activationTime"], current["chainId"]) == (0, hex(CHAIN_ID))
        assert current["forkId"] == hexed(crc32(client.node.genesis_hash).to_bytes(4, "big"))
        assert current["blobSchedule"] == {"baseFeeUpdateFraction": 5007716, "max": 0, "target": 0}
        assert current["precompiles"]["ECREC"] == "0x" + f"{1:040x}"
        assert current["precompiles"]["P256VERIFY"] == "0x" + f"{0x100:040x}"
        assert "ML_DSA_65" in current["precompiles"]
        assert set(current["systemContracts"]) == {"BEACON_ROOTS_ADDRESS", "HISTORY_STORAGE_ADDRESS"}

    with_client(body)


def test_a_fork_to_come_is_next_and_last_and_has_an_id_of_its_own() -> None:
    facts = ChainFacts(
        bytes(32), 5, bytes(32), tuple(ForkFacts(str(height), height, 0, (), ()) for height in (0, 3, 9)), 0, 0, None
    )
    ids = [fork_id(facts, fork) for fork in facts.forks]
    assert ids[0] == crc32(bytes(32)).to_bytes(4, "big")
    assert ids[2] == crc32(bytes(32) + (3).to_bytes(8, "big") + (9).to_bytes(8, "big")).to_bytes(4, "big")
    assert len(set(ids)) == 3


def test_a_fork_of_a_later_height_has_the_time_of_its_block_or_the_earliest_possible() -> None:
    genesis = json.loads(genesis_text())
    genesis["astralink"]["forks"]["osaka"] = 3
    del genesis["config"]["osakaTime"]
    chain = LocalChain(genesis=json.dumps(genesis).encode())
    for height in range(5):
        facts = chain.execution.query(Query(AtLatest(), ChainFactsQuestion()))
        assert isinstance(facts, ChainFacts)
        prague, osaka = facts.forks
        assert (prague.activation_time_s, osaka.activation_height, facts.head_height) == (0, 3, height)
        assert "P256VERIFY" not in {place.name for place in prague.precompiles}
        assert "P256VERIFY" in {place.name for place in osaka.precompiles}
        if height < 3:
            assert chain.execution.context.parent.timestamp <= osaka.activation_time_s <= 1_700_000_002
        else:
            assert osaka.activation_time_s == 1_700_000_002
        chain.produce(time_ms=1_700_000_000_000 + height * 1_000)


def test_what_is_kept_is_told_with_its_window() -> None:
    chain = LocalChain(config=ExecutionConfig(window=HistoryWindow(2)))
    for _ in range(5):
        chain.produce()
    facts = chain.execution.query(Query(AtLatest(), ChainFactsQuestion()))
    assert isinstance(facts, ChainFacts)
    assert (facts.oldest_block_height, facts.oldest_state_height, facts.state_heights) == (0, 3, 2)

    async def body(client: Client) -> None:
        client.node.produce()
        head = await client.call("eth_getBlockByNumber", "latest", False)
        answer = await client.call("eth_capabilities")
        assert answer["head"] == {"number": "0x1", "hash": head["hash"]}
        assert answer["blocks"] == answer["logs"] == {"disabled": False, "oldestBlock": "0x0"}
        assert answer["state"]["deleteStrategy"]["type"] == "window"

    with_client(body)


def test_a_validator_tells_whose_fees_it_collects_and_another_node_has_no_coinbase() -> None:
    node = SmallNode()

    async def body(client: Client) -> None:
        assert await client.call("eth_coinbase") == hexed(FEE_RECIPIENT)
        node.fee_recipient = b""
        error = await client.error("eth_coinbase")
        assert error == {"code": SERVER_ERROR, "message": "etherbase must be explicitly specified"}

    with_client(body, node=node)


# --- Blocks and transactions -------------------------------------------------------------------------------------


def test_a_header_is_a_block_without_its_body() -> None:
    async def body(client: Client) -> None:
        client.node.add(signed(ALICE, to=BOB.address, nonce=0))
        client.node.produce()
        block = await client.call("eth_getBlockByNumber", "0x1", False)
        header = await client.call("eth_getHeaderByNumber", "0x1")
        assert set(block) - set(header) == {"size", "transactions", "uncles", "withdrawals"}
        assert header == {name: block[name] for name in header}
        assert await client.call("eth_getHeaderByHash", block["hash"]) == header
        assert await client.call("eth_getHeaderByHash", MISSING) is None
        assert await client.call("eth_getHeaderByNumber", "0x9") is None
        pending = await client.call("eth_getHeaderByNumber", "pending")
        assert (pending["number"], pending["hash"]) == ("0x2", None)
        assert set(pending) == set(header)
        assert await client.call("eth_getBlockAccessList", block["hash"]) is None

    with_client(body)


def test_raw_transactions_are_found_by_their_place() -> None:
    async def body(client: Client) -> None:
        raws = [signed(ALICE, to=BOB.address, nonce=nonce) for nonce in range(2)]
        for raw in raws:
            client.node.add(raw)
        client.node.produce()
        block = await client.call("eth_getBlockByNumber", "0x1", False)
        for index, raw in enumerate(raws):
            assert await client.call("eth_getRawTransactionByBlockNumberAndIndex", "0x1", hex(index)) == hexed(raw)
            assert await client.call("eth_getRawTransactionByBlockHashAndIndex", block["hash"], hex(index)) == hexed(
                raw
            )
        assert await client.call("eth_getRawTransactionByBlockNumberAndIndex", "0x1", "0x2") == "0x"
        assert await client.call("eth_getRawTransactionByBlockNumberAndIndex", "pending", "0x0") == "0x"
        assert await client.call("eth_getRawTransactionByBlockHashAndIndex", MISSING, "0x0") == "0x"

    with_client(body)


def test_pending_transactions_are_those_of_the_nodes_own_accounts() -> None:
    async def body(client: Client) -> None:
        sent = client.node.add(signed(ALICE, to=BOB.address, nonce=0))
        found = await client.call("eth_pendingTransactions")
        assert [each["hash"] for each in found] == ([hexed(sent)] if await client.call("eth_accounts") else [])

    with_client(body)
    with_client(body, dev_accounts=True)


# --- Sending and waiting -----------------------------------------------------------------------------------------


async def produced_while(client: Client, call: Any) -> Any:
    """The answer to a call during which a block is made."""
    pooled = asyncio.Event()

    def hear(push: Push) -> None:
        if isinstance(push, NewPendingTransactions):
            pooled.set()

    client.node.followers.append(hear)
    task = asyncio.ensure_future(call)
    await pooled.wait()
    client.node.produce()
    return await task


@pytest.mark.parametrize("timeout", [[], [None], [0], [20_000], ["0x4e20"]])
def test_a_sent_transaction_is_answered_with_its_final_receipt(timeout: list[Any]) -> None:
    async def body(client: Client) -> None:
        raw = signed(ALICE, to=ECHO, nonce=0, data=b"\x05" * 32)
        receipt = await produced_while(client, client.call("eth_sendRawTransactionSync", hexed(raw), *timeout))
        assert receipt == await client.call("eth_getTransactionReceipt", receipt["transactionHash"])
        assert (receipt["status"], receipt["blockNumber"], len(receipt["logs"])) == ("0x1", "0x1", 1)

    with_client(body)


def test_what_no_block_holds_in_time_is_code_4_with_its_hash_and_stays_pending() -> None:
    async def body(client: Client) -> None:
        raw = signed(ALICE, to=COUNTER, nonce=0)
        error = await client.error("eth_sendRawTransactionSync", hexed(raw), 1)
        assert error == {
            "code": 4,
            "message": "The transaction was added to the transaction pool but wasn't processed in 0.001s",
            "data": hexed(keccak256(raw)),
        }
        assert len(client.node.pool) == 1

    with_client(body)


def test_a_wait_ends_before_the_requests_own_time_does() -> None:
    async def body(client: Client) -> None:
        raw = signed(ALICE, to=COUNTER, nonce=0)
        error = await client.error("eth_sendRawTransactionSync", hexed(raw), 10**9)
        assert error["code"] == 4

    with_client(body, limits=GatewayLimits(request_timeout_ms=200))


@pytest.mark.parametrize(
    ("params", "code"),
    [(["0x00"], SERVER_ERROR), (["00"], -32602), ([hexed(b"\x02"), -1], -32602), ([hexed(b"\x02"), True], -32602)],
)
def test_a_refused_transaction_is_not_waited_for(params: list[Any], code: int) -> None:
    async def body(client: Client) -> None:
        assert (await client.error("eth_sendRawTransactionSync", *params))["code"] == code

    with_client(body)


def test_staking_contracts_are_system_contracts_where_there_is_staking() -> None:
    chain = LocalChain(genesis=genesis_text(staking=StakingParams()))
    facts = chain.execution.query(Query(AtLatest(), ChainFactsQuestion()))
    assert isinstance(facts, ChainFacts)
    assert STAKING in {place.address for place in facts.forks[0].system_contracts}
