"""A devnet's unlocked accounts, the faucet, and what a sender of an instant devnet waits for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data

from astralink_node.crypto.secp256k1 import recover_address
from astralink_node.evm import transactions
from astralink_node.gateway.link_messages import GetPendingNonce, PendingNonce, Reply, Request
from astralink_node.gateway.rpc_errors import INVALID_PARAMS, METHOD_NOT_FOUND
from astralink_node.gateway.typed_data import MAX_VALUES
from astralink_node.types import Address
from genesis.dev_accounts import DEVNET_ACCOUNTS
from tests.support.gateways import (
    ALICE,
    BOB,
    CHAIN_ID,
    COUNTER,
    ECHO,
    REVERTER,
    Client,
    SmallNode,
    checksummed,
    hexed,
    signed,
    with_client,
)

A, B = hexed(ALICE.address), hexed(BOB.address)
STRANGER = "0x" + "77" * 20
BWT = 10**18
ORDER: dict[str, Any] = {
    "types": {
        "EIP712Domain": [{"name": "name", "type": "string"}, {"name": "chainId", "type": "uint256"}],
        "Order": [{"name": "item", "type": "string"}, {"name": "count", "type": "uint256"}],
    },
    "primaryType": "Order",
    "domain": {"name": "devnet", "chainId": CHAIN_ID},
    "message": {"item": "eSIM", "count": "2"},
}


async def sent(client: Client, transaction_hash: str) -> dict[str, Any]:
    found: dict[str, Any] = await client.call("eth_getTransactionByHash", transaction_hash)
    return found


def test_unlocked_accounts_are_the_ten_that_everybody_knows_and_nobodys_elsewhere() -> None:
    async def unlocked(client: Client) -> None:
        ten = [hexed(account.address) for account in DEVNET_ACCOUNTS]
        assert await client.call("eth_accounts") == ten
        assert await client.call("eth_requestAccounts") == ten

    async def locked(client: Client) -> None:
        assert await client.call("eth_accounts") == []
        assert (await client.error("eth_requestAccounts"))["code"] == METHOD_NOT_FOUND

    with_client(unlocked, dev_accounts=True)
    with_client(locked)


# --- Transactions --------------------------------------------------------------------------------------------------


def test_what_a_sender_leaves_out_is_chosen_as_geth_does() -> None:
    async def body(client: Client) -> None:
        found = await sent(client, await client.call("eth_sendTransaction", {"from": A, "to": B, "value": "0x5"}))
        base_fee, tip = (
            int(await client.call("eth_baseFee"), 16),
            int(await client.call("eth_maxPriorityFeePerGas"), 16),
        )
        assert (found["from"], found["to"], found["value"], found["nonce"]) == (A, B, "0x5", "0x0")
        assert (found["type"], found["gas"], found["chainId"]) == ("0x2", hex(21_000), hex(CHAIN_ID))
        assert int(found["maxFeePerGas"], 16) == 2 * base_fee + tip
        assert int(found["maxPriorityFeePerGas"], 16) == tip
        client.node.produce()
        receipt = await client.call("eth_getTransactionReceipt", found["hash"])
        assert receipt["status"] == "0x1"

    with_client(body, dev_accounts=True)


@pytest.mark.parametrize(
    ("fields", "tx_type"),
    [
        ({"gasPrice": hex(3 * 10**9)}, "0x0"),
        ({"gasPrice": hex(3 * 10**9), "accessList": []}, "0x1"),
        ({"maxFeePerGas": hex(3 * 10**9)}, "0x2"),
        ({"accessList": [{"address": B, "storageKeys": []}]}, "0x2"),
    ],
)
def test_the_type_follows_from_the_fields(fields: dict[str, Any], tx_type: str) -> None:
    async def body(client: Client) -> None:
        found = await sent(client, await client.call("eth_sendTransaction", {"from": A, "to": B, **fields}))
        assert found["type"] == tx_type
        assert {name: found[name] for name in fields} == fields

    with_client(body, dev_accounts=True)


def test_a_delegation_is_sent_as_type_four() -> None:
    authorization = Account.from_key(BOB.private_key).sign_authorization(
        {"chainId": CHAIN_ID, "address": checksummed(ECHO), "nonce": 0}
    )
    listed = {
        "chainId": hex(CHAIN_ID),
        "address": hexed(ECHO),
        "nonce": "0x0",
        "yParity": hex(authorization.y_parity),
        "r": hex(authorization.r),
        "s": hex(authorization.s),
    }

    async def body(client: Client) -> None:
        request = {"from": A, "to": B, "authorizationList": [listed]}
        found = await sent(client, await client.call("eth_sendTransaction", request))
        assert (found["type"], found["authorizationList"]) == ("0x4", [listed])
        client.node.produce()
        assert await client.call("eth_getCode", B, "latest") == "0xef0100" + ECHO.hex()

    with_client(body, dev_accounts=True)


@pytest.mark.parametrize("gas", [{}, {"gas": hex(50_000)}], ids=["gas to be chosen", "gas given"])
@pytest.mark.parametrize(
    "method", ["eth_call", "eth_estimateGas", "eth_fillTransaction", "eth_sendTransaction", "eth_createAccessList"]
)
def test_an_empty_list_of_authorizations_asks_for_type_four_and_is_refused(method: str, gas: dict[str, str]) -> None:
    async def body(client: Client) -> None:
        error = await client.error(method, {"from": A, "to": B, "authorizationList": [], **gas})
        assert f"EIP-7702 transaction with empty auth list (sender {checksummed(ALICE.address)})" in error["message"]
        creation = {"from": A, "data": "0x00", "authorizationList": [], **gas}
        error = await client.error(method, creation)
        assert "EIP-7702 transaction cannot be used to create contract (sender " in error["message"]

    with_client(body, dev_accounts=True)


def test_nonces_of_concurrent_sends_from_one_account_follow_one_another() -> None:
    async def body(client: Client) -> None:
        request = {"from": A, "to": B, "value": "0x1"}
        hashes = await asyncio.gather(*(client.call("eth_sendTransaction", request) for _ in range(20)))
        nonces = [int((await sent(client, each))["nonce"], 16) for each in hashes]
        assert sorted(nonces) == list(range(20))

    with_client(body, dev_accounts=True)


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        ({"from": STRANGER, "to": B}, -32000, "unknown account"),
        ({"to": B}, -32000, "unknown account"),
        ({"from": A}, -32000, "contract creation without any data provided"),
        ({"from": A, "to": B, "chainId": "0x1"}, -32000, "chainId does not match node's (have=1, want="),
        ({"from": A, "to": hexed(REVERTER), "data": "0x01"}, 3, "execution reverted"),
        ({"from": A, "to": B, "gasPrice": "0x1", "maxFeePerGas": "0x1"}, INVALID_PARAMS, "both gasPrice and"),
        ({"from": "me", "to": B}, INVALID_PARAMS, "transaction.from: hex string without 0x prefix"),
        ({"from": A, "to": B, "nonce": "1"}, INVALID_PARAMS, "transaction.nonce: hex string without 0x prefix"),
    ],
)
def test_a_transaction_that_cannot_be_sent_is_refused_and_the_next_one_goes(
    request_: dict[str, Any], code: int, words: str
) -> None:
    async def body(client: Client) -> None:
        error = await client.error("eth_sendTransaction", request_)
        assert error["code"] == code
        assert words in error["message"]
        assert not client.node.pool
        assert await client.call("eth_sendTransaction", {"from": A, "to": B})

    with_client(body, dev_accounts=True)


def test_a_signed_transaction_is_given_and_not_sent() -> None:
    fields = {"to": B, "gas": hex(21_000), "nonce": "0x7", "value": "0x1"}
    fees = {"maxFeePerGas": hex(3 * 10**9), "maxPriorityFeePerGas": "0x1"}

    async def body(client: Client) -> None:
        answer = await client.call("eth_signTransaction", {"from": A, **fields, **fees})
        assert Account.recover_transaction(answer["raw"]) == checksummed(ALICE.address)
        assert {name: answer["tx"][name] for name in (*fields, *fees)} == {**fields, **fees, "to": B}
        assert not client.node.pool

    with_client(body, dev_accounts=True)


@pytest.mark.parametrize(
    ("left_out", "words"),
    [
        ("gas", "gas not specified"),
        ("gasPrice", "missing gasPrice or maxFeePerGas/maxPriorityFeePerGas"),
        ("nonce", "nonce not specified"),
    ],
)
def test_signing_chooses_nothing(left_out: str, words: str) -> None:
    request = {"from": A, "to": B, "gas": "0x5208", "nonce": "0x0", "gasPrice": "0x1"}
    del request[left_out]

    async def body(client: Client) -> None:
        assert (await client.error("eth_signTransaction", request))["message"] == words

    with_client(body, dev_accounts=True)


def test_filling_in_needs_no_key() -> None:
    async def body(client: Client) -> None:
        answer = await client.call("eth_fillTransaction", {"from": A, "to": hexed(COUNTER)})
        assert answer["tx"]["nonce"] == "0x0"
        assert int(answer["tx"]["gas"], 16) > 21_000
        assert not {"r", "s", "yParity", "hash", "from", "blockHash"} & set(answer["tx"])
        assert answer["raw"].startswith("0x02")

    with_client(body)


# --- Messages ------------------------------------------------------------------------------------------------------


def test_messages_are_signed_as_wallets_do() -> None:
    async def body(client: Client) -> None:
        message = encode_defunct(primitive=b"hello")
        expected = "0x" + Account.sign_message(message, ALICE.private_key).signature.hex()
        assert await client.call("eth_sign", A, hexed(b"hello")) == expected
        assert await client.call("personal_sign", hexed(b"hello"), A) == expected
        assert await client.call("personal_sign", hexed(b"hello"), A, "password") == expected
        assert await client.call("personal_sign", "hello", A) == expected
        assert (await client.error("eth_sign", STRANGER, "0x00"))["message"] == "unknown account"

    with_client(body, dev_accounts=True)


def test_typed_data_is_signed_as_an_object_and_as_text() -> None:
    async def body(client: Client) -> None:
        message = encode_typed_data(full_message={**ORDER, "message": {"item": "eSIM", "count": 2}})
        expected = "0x" + Account.sign_message(message, ALICE.private_key).signature.hex()
        assert await client.call("eth_signTypedData_v4", A, ORDER) == expected
        assert await client.call("eth_signTypedData_v4", A, json.dumps(ORDER)) == expected
        error = await client.error("eth_signTypedData_v4", A, "{")
        assert error["code"] == INVALID_PARAMS
        error = await client.error("eth_signTypedData_v4", A, {**ORDER, "primaryType": "Nothing"})
        assert error["code"] == INVALID_PARAMS
        assert error["message"].startswith("invalid argument 1: typedData.primaryType: expected the name")

    with_client(body, dev_accounts=True)


def test_others_are_answered_while_large_typed_data_is_hashed() -> None:
    async def body(client: Client) -> None:
        types = {**ORDER["types"], "Order": [{"name": "counts", "type": "uint256[]"}]}
        large = {**ORDER, "types": types, "message": {"counts": [1] * (MAX_VALUES - 100)}}
        signing = asyncio.create_task(client.call("eth_signTypedData_v4", A, large))
        answered = 0
        while not signing.done():
            await client.call("eth_chainId")
            await asyncio.sleep(0)
            answered += 1
        assert await signing
        assert answered > 3

    with_client(body, dev_accounts=True)


# --- The faucet ----------------------------------------------------------------------------------------------------


def test_the_faucet_sends_from_the_last_account_that_can_pay() -> None:
    async def body(client: Client) -> None:
        found = await sent(client, await client.call("astralink_faucet", STRANGER))
        assert (found["from"], found["value"]) == (hexed(DEVNET_ACCOUNTS[9].address), hex(BWT))
        found = await sent(client, await client.call("astralink_faucet", STRANGER, hex(100 * BWT)))
        assert (int(found["value"], 16), found["nonce"]) == (100 * BWT, "0x1")
        client.node.produce()
        assert int(await client.call("eth_getBalance", STRANGER, "latest"), 16) == 101 * BWT

    with_client(body, dev_accounts=True)


@pytest.mark.parametrize(("turn", "payer"), [(1, 8), (9, 0), (10, 9)])
def test_the_faucets_of_a_networks_nodes_pay_from_accounts_of_their_own(turn: int, payer: int) -> None:
    async def body(client: Client) -> None:
        found = await sent(client, await client.call("astralink_faucet", STRANGER))
        assert found["from"] == hexed(DEVNET_ACCOUNTS[payer].address)

    with_client(body, dev_accounts=True, faucet_turn=turn)


def test_an_emptied_account_is_passed_over() -> None:
    async def body(client: Client) -> None:
        last = DEVNET_ACCOUNTS[9]
        balance = int(await client.call("eth_getBalance", hexed(last.address), "latest"), 16)
        client.node.add(signed(last, nonce=0, to=BOB.address, gas=21_000, value=balance - BWT))
        client.node.produce()
        found = await sent(client, await client.call("astralink_faucet", STRANGER))
        assert found["from"] == hexed(DEVNET_ACCOUNTS[8].address)

    with_client(body, dev_accounts=True)


@pytest.mark.parametrize("amount", ["0x0", hex(100 * BWT + 1)])
def test_the_faucet_is_bounded(amount: str) -> None:
    async def body(client: Client) -> None:
        error = await client.error("astralink_faucet", STRANGER, amount)
        assert error["code"] == INVALID_PARAMS
        assert "amount: expected 1 wei to 100 BWT" in error["message"]

    with_client(body, dev_accounts=True)


def test_a_contract_that_takes_no_money_gets_none() -> None:
    async def body(client: Client) -> None:
        assert (await client.error("astralink_faucet", hexed(REVERTER)))["code"] == 3

    with_client(body, dev_accounts=True)


def test_there_is_no_faucet_elsewhere() -> None:
    async def body(client: Client) -> None:
        assert (await client.error("astralink_faucet", STRANGER))["code"] == METHOD_NOT_FOUND

    with_client(body)


@pytest.mark.parametrize("method", ["evm_mine", "evm_snapshot", "hardhat_setBalance", "anvil_impersonateAccount"])
def test_there_are_no_cheats(method: str) -> None:
    async def body(client: Client) -> None:
        error = await client.error(method, A)
        assert error == {"code": METHOD_NOT_FOUND, "message": f"the method {method} does not exist/is not available"}

    with_client(body, dev_accounts=True)


# --- Waiting for the block -----------------------------------------------------------------------------------------


def in_pool(node: SmallNode, count: int) -> asyncio.Event:
    """Set when the pool has so many transactions."""
    reached = asyncio.Event()
    node.followers.append(lambda _push: reached.set() if len(node.pool) >= count else None)
    return reached


def test_a_sender_of_an_instant_devnet_is_answered_when_the_block_is_there() -> None:
    async def body(client: Client) -> None:
        raw = signed(ALICE, nonce=0, to=BOB.address, gas=21_000)
        pooled = in_pool(client.node, 1)
        sending = asyncio.ensure_future(client.call("eth_sendRawTransaction", hexed(raw)))
        await pooled.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        assert not sending.done()
        client.node.produce()
        assert await client.call("eth_getTransactionReceipt", await sending) is not None

    with_client(body, mined_wait_ms=60_000)


def test_the_wait_for_a_block_recovers_no_sender_a_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    recovered: list[Address] = []

    def noting(message_hash: bytes, r: int, s: int, y_parity: int) -> Address:
        recovered.append(recover_address(message_hash, r, s, y_parity))
        return recovered[-1]

    async def body(client: Client) -> None:
        raw = signed(ALICE, nonce=0, to=BOB.address, gas=21_000)
        monkeypatch.setattr(transactions, "recover_address", noting)
        await client.call("eth_sendRawTransaction", hexed(raw))
        assert recovered == [ALICE.address]

    with_client(body, mined_wait_ms=1)


def test_unlocked_senders_do_not_wait_for_each_others_blocks() -> None:
    async def body(client: Client) -> None:
        request = {"from": A, "to": B, "value": "0x1"}
        pooled = in_pool(client.node, 3)
        sending = [asyncio.ensure_future(client.call("eth_sendTransaction", request)) for _ in range(3)]
        await pooled.wait()
        client.node.produce()
        assert len(set(await asyncio.gather(*sending))) == 3

    with_client(body, dev_accounts=True, mined_wait_ms=60_000)


def test_a_transaction_behind_a_gap_is_answered_at_once() -> None:
    class GapNode(SmallNode):
        def reply(self, request: Request) -> Reply:
            """Its pool's executable transactions of everybody end before nonce 1."""
            return PendingNonce(True, 1) if isinstance(request, GetPendingNonce) else super().reply(request)

    async def body(client: Client) -> None:
        raw = signed(ALICE, nonce=2, to=BOB.address, gas=21_000)
        assert await client.call("eth_sendRawTransaction", hexed(raw))

    with_client(body, node=GapNode(), mined_wait_ms=60_000)


def test_a_block_that_does_not_come_in_time_is_not_waited_for_any_longer() -> None:
    async def body(client: Client) -> None:
        raw = signed(ALICE, nonce=0, to=BOB.address, gas=21_000)
        transaction_hash = await client.call("eth_sendRawTransaction", hexed(raw))
        assert (await sent(client, transaction_hash))["blockNumber"] is None

    with_client(body, mined_wait_ms=1)
