"""web3.py 8, unchanged, against a real devnet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import rlp
from eth_abi import abi
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from eth_utils import keccak
from trie import HexaryTrie
from web3 import AsyncWeb3, Web3, WebSocketProvider
from web3.contract import Contract
from web3.exceptions import ContractCustomError, Web3RPCError
from web3.utils.subscriptions import LogsSubscription, NewHeadsSubscription

from tests.clients.conftest import Devnet

SUPPLY = 1000 * 10**18
RECEIPT_TIMEOUT_S = 30
UNUSED_ADDRESS = "0x00000000000000000000000000000000000000AA"


@pytest.fixture(scope="module")
def w3(devnet: Devnet) -> Web3:
    w3 = Web3(Web3.HTTPProvider(devnet.http_url))
    assert w3.is_connected()
    return w3


@pytest.fixture(scope="module")
def sender(devnet: Devnet) -> LocalAccount:
    return Account.from_key(devnet.keys[0])


@pytest.fixture(scope="module")
def receiver(devnet: Devnet) -> LocalAccount:
    return Account.from_key(devnet.keys[1])


def send(w3: Web3, account: LocalAccount, transaction: dict[str, Any]) -> Any:
    """Fill in what is missing, sign, send, and wait for a successful receipt."""
    filled = {
        "from": account.address,
        "nonce": w3.eth.get_transaction_count(account.address),
        "chainId": w3.eth.chain_id,
        "value": 0,
        **transaction,
    }
    if "gasPrice" not in filled:
        filled.setdefault("maxPriorityFeePerGas", w3.eth.max_priority_fee)
        base_fee = w3.eth.get_block("latest")["baseFeePerGas"]
        filled.setdefault("maxFeePerGas", 2 * base_fee + filled["maxPriorityFeePerGas"])
    filled.setdefault("gas", w3.eth.estimate_gas(filled))
    signed = account.sign_transaction({key: value for key, value in filled.items() if key != "from"})
    receipt = w3.eth.wait_for_transaction_receipt(
        w3.eth.send_raw_transaction(signed.raw_transaction), timeout=RECEIPT_TIMEOUT_S, poll_latency=0.05
    )
    assert receipt["status"] == 1
    assert w3.eth.get_transaction(receipt["transactionHash"])["from"] == account.address
    return receipt


def deploy(w3: Web3, account: LocalAccount, artifact: dict[str, Any], *arguments: Any) -> Contract:
    factory = w3.eth.contract(abi=artifact["abi"], bytecode=artifact["bytecode"])
    receipt = send(w3, account, {"data": factory.constructor(*arguments).data_in_transaction})
    assert w3.eth.get_code(receipt["contractAddress"])
    return w3.eth.contract(address=receipt["contractAddress"], abi=artifact["abi"])


def call_data(function: Any) -> dict[str, Any]:
    return {"to": function.address, "data": function._encode_transaction_data()}


@pytest.fixture(scope="module")
def token(w3: Web3, sender: LocalAccount, artifacts: dict[str, Any]) -> Contract:
    return deploy(w3, sender, artifacts["TestToken"], SUPPLY)


def test_balances(w3: Web3, sender: LocalAccount) -> None:
    assert w3.eth.get_balance(sender.address) > 10**18
    assert w3.eth.get_balance(UNUSED_ADDRESS) == 0


def test_chain_reads_and_finality(w3: Web3, devnet: Devnet) -> None:
    assert w3.eth.chain_id == devnet.chain_id
    assert w3.net.version == str(devnet.chain_id)
    assert "astralink" in w3.client_version.lower()
    block = w3.eth.get_block("finalized")
    assert w3.eth.get_block(block["hash"])["number"] == block["number"]
    assert w3.eth.get_block("safe")["number"] <= w3.eth.block_number


def test_fee_history(w3: Web3) -> None:
    history = w3.eth.fee_history(4, "latest", [10, 50])
    assert len(history["baseFeePerGas"]) == len(history["gasUsedRatio"]) + 1
    assert all(len(rewards) == 2 for rewards in history["reward"])


def test_legacy_transaction(w3: Web3, sender: LocalAccount, receiver: LocalAccount) -> None:
    receipt = send(w3, sender, {"to": receiver.address, "value": 1, "gasPrice": w3.eth.gas_price * 2})
    assert (receipt["type"], receipt["gasUsed"]) == (0, 21_000)


def test_access_list_transaction(w3: Web3, sender: LocalAccount, receiver: LocalAccount) -> None:
    access_list = [{"address": receiver.address, "storageKeys": ["0x" + "00" * 32]}]
    request = {"to": receiver.address, "value": 1, "gasPrice": w3.eth.gas_price * 2}
    receipt = send(w3, sender, {**request, "type": 1, "accessList": access_list})
    assert (receipt["type"], receipt["gasUsed"]) == (1, 21_000 + 2_400 + 1_900)


def test_fee_market_transaction(w3: Web3, sender: LocalAccount, receiver: LocalAccount) -> None:
    before = w3.eth.get_balance(receiver.address)
    receipt = send(w3, sender, {"to": receiver.address, "value": 12_345})
    assert receipt["type"] == 2
    assert w3.eth.get_balance(receiver.address) - before == 12_345


def test_erc20_deploys_transfers_and_logs(
    w3: Web3, sender: LocalAccount, receiver: LocalAccount, token: Contract
) -> None:
    assert token.functions.balanceOf(sender.address).call() == SUPPLY
    receipt = send(w3, sender, call_data(token.functions.transfer(receiver.address, 1_000)))
    assert token.functions.balanceOf(receiver.address).call() == 1_000
    assert token.events.Transfer().process_receipt(receipt)[0]["args"]["value"] == 1_000
    found = token.events.Transfer().get_logs(from_block=0, argument_filters={"to": receiver.address})
    assert [log["args"]["from"] for log in found] == [sender.address]


def test_erc721_deploys_mints_and_moves(
    w3: Web3, sender: LocalAccount, receiver: LocalAccount, artifacts: dict[str, Any]
) -> None:
    item = deploy(w3, sender, artifacts["TestItem"])
    send(w3, sender, call_data(item.functions.mint(sender.address)))
    send(w3, sender, call_data(item.functions.safeTransferFrom(sender.address, receiver.address, 1)))
    assert item.functions.ownerOf(1).call() == receiver.address
    assert len(w3.eth.get_logs({"address": item.address, "fromBlock": 0})) == 2


def test_filters_give_what_is_new(w3: Web3, sender: LocalAccount, receiver: LocalAccount, token: Contract) -> None:
    transfers = token.events.Transfer.create_filter(from_block="latest", argument_filters={"to": receiver.address})
    blocks = w3.eth.filter("latest")
    receipt = send(w3, sender, call_data(token.functions.transfer(receiver.address, 33)))
    assert [event["args"]["value"] for event in transfers.get_new_entries()] == [33]
    assert transfers.get_new_entries() == []
    assert receipt["blockHash"] in blocks.get_new_entries()
    assert w3.eth.uninstall_filter(transfers.filter_id)


def test_state_overrides_change_what_a_call_sees(token: Contract) -> None:
    slot, seven = "0x" + f"{2:064x}", "0x" + f"{7:064x}"
    overrides = {token.address: {"stateDiff": {slot: seven}}}
    assert token.functions.totalSupply().call(state_override=overrides) == 7
    assert token.functions.totalSupply().call() == SUPPLY


def test_traces_in_geths_form_and_in_openethereums(
    w3: Web3, sender: LocalAccount, receiver: LocalAccount, token: Contract
) -> None:
    receipt = send(w3, sender, call_data(token.functions.transfer(receiver.address, 4)))
    request = [receipt["transactionHash"].to_0x_hex(), {"tracer": "callTracer"}]
    call = w3.provider.make_request("debug_traceTransaction", request)["result"]  # type: ignore[arg-type]
    assert (call["type"], call["to"], int(call["gasUsed"], 16)) == ("CALL", token.address.lower(), receipt["gasUsed"])
    traces = w3.tracing.trace_transaction(receipt["transactionHash"])
    assert [trace["action"]["to"] for trace in traces] == [token.address]


def test_unlocked_account_sends_and_signs(w3: Web3, sender: LocalAccount, receiver: LocalAccount) -> None:
    assert sender.address in w3.eth.accounts
    transaction_hash = w3.eth.send_transaction({"from": sender.address, "to": receiver.address, "value": 1})
    receipt = w3.eth.wait_for_transaction_receipt(transaction_hash, timeout=RECEIPT_TIMEOUT_S, poll_latency=0.05)
    assert (receipt["status"], receipt["from"]) == (1, sender.address)
    signature = w3.eth.sign(sender.address, text="hello")
    assert Account.recover_message(encode_defunct(text="hello"), signature=signature) == sender.address
    nonce = w3.eth.get_transaction_count(sender.address)
    signed = w3.eth.sign_transaction(
        {"from": sender.address, "to": receiver.address, "gas": 21_000, "gasPrice": 10**10, "nonce": nonce}
    )
    assert Account.recover_transaction(signed["raw"]) == sender.address


@pytest.mark.parametrize("action", ["call", "estimate_gas"])
def test_custom_error_reaches_the_caller(
    sender: LocalAccount, receiver: LocalAccount, token: Contract, action: str
) -> None:
    function = token.functions.transfer(receiver.address, 2 * SUPPLY)
    with pytest.raises(ContractCustomError) as caught:
        getattr(function, action)({"from": sender.address})
    data = bytes.fromhex(str(caught.value.data)[2:])
    assert data[:4] == keccak(text="ERC20InsufficientBalance(address,uint256,uint256)")[:4]
    _, _, needed = abi.decode(["address", "uint256", "uint256"], data[4:])
    assert needed == 2 * SUPPLY


def test_set_code_transaction_delegates_an_account(w3: Web3, sender: LocalAccount, artifacts: dict[str, Any]) -> None:
    counter = deploy(w3, sender, artifacts["Counter"])
    authority = Account.create()
    authorization = authority.sign_authorization({"chainId": w3.eth.chain_id, "address": counter.address, "nonce": 0})
    request = call_data(counter.functions.increase(7))
    receipt = send(
        w3,
        sender,
        {**request, "to": authority.address, "gas": 200_000, "authorizationList": [authorization]},
    )
    assert receipt["type"] == 4
    assert w3.eth.get_code(authority.address) == bytes.fromhex("ef0100" + counter.address[2:])
    delegated = w3.eth.contract(address=authority.address, abi=artifacts["Counter"]["abi"])
    assert delegated.functions.value().call() == 7
    assert counter.functions.value().call() == 0


def test_account_and_storage_proof_verifies_against_the_state_root(
    w3: Web3, sender: LocalAccount, token: Contract
) -> None:
    block = w3.eth.get_block("latest")
    for address in (token.address, sender.address):
        answer = w3.eth.get_proof(address, [0, 2], block["number"])
        account = rlp.encode([answer["nonce"], answer["balance"], answer["storageHash"], answer["codeHash"]])
        assert proven(block["stateRoot"], bytes.fromhex(address[2:]), answer["accountProof"]) == account
        for slot in answer["storageProof"]:
            value = int.from_bytes(slot["value"], "big")
            key = int.from_bytes(slot["key"], "big").to_bytes(32, "big")
            stored = proven(answer["storageHash"], key, slot["proof"])
            assert stored == (rlp.encode(value) if value else b"")
    assert int.from_bytes(w3.eth.get_proof(token.address, [2]).storageProof[0].value, "big") == SUPPLY


def proven(root: bytes, key: bytes, proof: list[bytes]) -> bytes:
    """The value that the trie library reads out of the proof; empty if the proof shows that there is none."""
    return HexaryTrie.get_from_proof(bytes(root), keccak(key), [rlp.decode(bytes(node)) for node in proof])


def test_refused_transactions_say_why(w3: Web3, sender: LocalAccount, receiver: LocalAccount) -> None:
    nonce = w3.eth.get_transaction_count(sender.address)
    transaction = {
        "to": receiver.address,
        "value": 1,
        "gas": 21_000,
        "maxFeePerGas": 10**10,
        "maxPriorityFeePerGas": 1,
        "nonce": nonce - 1,
        "chainId": w3.eth.chain_id,
    }
    with pytest.raises(Web3RPCError, match="nonce too low"):
        w3.eth.send_raw_transaction(sender.sign_transaction(transaction).raw_transaction)
    poor = Account.create()
    with pytest.raises(Web3RPCError, match="insufficient funds"):
        w3.eth.send_raw_transaction(poor.sign_transaction({**transaction, "nonce": 0}).raw_transaction)


async def subscribe_and_collect(
    devnet: Devnet, make_subscription: Callable[..., Any], provoke: Callable[[], object], wanted: int
) -> list[Any]:
    """Subscribe over WebSocket, provoke events from a thread, and return the first of them."""
    collected: list[Any] = []
    enough = asyncio.Event()

    async def handler(context: Any) -> None:
        collected.append(context.result)
        if len(collected) >= wanted:
            enough.set()

    async with AsyncWeb3(WebSocketProvider(devnet.ws_url)) as socket:
        await socket.subscription_manager.subscribe(make_subscription(handler=handler))
        listening = asyncio.create_task(socket.subscription_manager.handle_subscriptions())
        try:
            await asyncio.to_thread(provoke)
            await asyncio.wait_for(enough.wait(), timeout=20)
        finally:
            await socket.subscription_manager.unsubscribe_all()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
    return collected


def test_websocket_new_heads(w3: Web3, devnet: Devnet, sender: LocalAccount, receiver: LocalAccount) -> None:
    def two_blocks() -> None:
        for _ in range(2):
            send(w3, sender, {"to": receiver.address, "value": 1})

    heads = asyncio.run(subscribe_and_collect(devnet, NewHeadsSubscription, two_blocks, 2))
    assert heads[1]["number"] == heads[0]["number"] + 1
    assert heads[1]["parentHash"] == heads[0]["hash"]


def test_websocket_logs(
    w3: Web3, devnet: Devnet, sender: LocalAccount, receiver: LocalAccount, token: Contract
) -> None:
    def transfer() -> None:
        send(w3, sender, call_data(token.functions.transfer(receiver.address, 77)))

    transfers = partial(LogsSubscription, address=token.address, topics=[token.events.Transfer().topic])
    logs = asyncio.run(subscribe_and_collect(devnet, transfers, transfer, 1))
    assert token.events.Transfer().process_log(logs[0])["args"]["value"] == 77
