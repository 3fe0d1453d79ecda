"""From a call to its receipt against a small node: what is planned, signed and waited for, and every way it ends."""

from __future__ import annotations

from typing import Any

import pytest

from astralink_node.cli.rpc_client import RequestFailed
from astralink_node.cli.transactions import (
    WAIT_S,
    ContractCall,
    NotEnoughFunds,
    NotInBlock,
    Receipt,
    WouldRevert,
    await_receipt,
    plan,
    ran_out_of_gas,
    revert_of,
    send,
    sign,
)
from astralink_node.evm.transactions import decode_transaction, recover_sender
from astralink_node.types import Address
from genesis.dev_accounts import DEVNET_ACCOUNTS

ALICE = DEVNET_ACCOUNTS[0]
CONTRACT = Address(b"\xc0" * 20)
BWT = 10**18
HASH = b"\x0a" * 32


class SmallRpc:
    """One account, one contract. Answers are functions of the parameters, so that a test can change any."""

    def __init__(self, **answers: Any) -> None:
        self.asked: list[tuple[str, tuple[object, ...]]] = []
        self.answers: dict[str, Any] = {
            "eth_getBalance": hex(10 * BWT),
            "eth_estimateGas": hex(100_000),
            "eth_maxPriorityFeePerGas": hex(7),
            "eth_chainId": hex(424242),
            "eth_getTransactionCount": hex(5),
            "eth_baseFee": hex(1_000),
            "eth_blockNumber": hex(12),
            "eth_sendRawTransaction": "0x",
        } | answers

    def call(self, method: str, *params: object) -> Any:
        self.asked.append((method, params))
        answer = self.answers[method]
        answer = answer(*params) if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer


def failed(message: str, code: int = -32000, data: str | None = None) -> RequestFailed:
    return RequestFailed("http://node", "eth_estimateGas", code, message, data)


def call(value_wei: int = BWT) -> ContractCall:
    return ContractCall(CONTRACT, b"\x01\x02", "do a thing", value_wei)


def receipt_fields(status: str = "0x1") -> dict[str, Any]:
    return {
        "transactionHash": "0x" + HASH.hex(),
        "blockNumber": "0x10",
        "status": status,
        "gasUsed": hex(90_000),
        "effectiveGasPrice": hex(1_007),
        "logs": [{"address": "0x" + CONTRACT.hex(), "topics": ["0x" + "01" * 32], "data": "0xff"}],
    }


def test_a_plan_has_room_above_the_estimate_and_its_transaction_is_the_senders() -> None:
    rpc = SmallRpc()
    planned = plan(rpc, ALICE.address, call())
    assert (planned.gas_limit, planned.nonce, planned.chain_id) == (325_000, 5, 424242)
    assert (planned.max_fee_wei, planned.priority_fee_wei) == (2_007, 7)
    assert ("eth_getTransactionCount", ("0x" + ALICE.address.hex(), "pending")) in rpc.asked
    transaction = sign(planned, ALICE.private_key)
    assert recover_sender(transaction) == ALICE.address
    sent = send(rpc, transaction)
    raw = rpc.asked[-1][1][0]
    assert isinstance(raw, str)
    decoded = decode_transaction(bytes.fromhex(raw[2:]))
    assert (decoded.hash, decoded.to, decoded.value, decoded.data) == (sent, CONTRACT, BWT, b"\x01\x02")
    assert (decoded.chain_id, decoded.nonce, decoded.gas_limit) == (424242, 5, 325_000)


def test_the_gas_limit_stays_below_the_chains_cap() -> None:
    planned = plan(SmallRpc(eth_estimateGas=hex(16_000_000)), ALICE.address, call())
    assert planned.gas_limit == 16_777_216


def test_an_account_without_the_value_is_told_before_anything_is_simulated() -> None:
    rpc = SmallRpc()
    with pytest.raises(NotEnoughFunds, match=r"expected at least 11 BWT in 0xf39f.*, found 10 BWT"):
        plan(rpc, ALICE.address, call(11 * BWT))
    assert [method for method, _ in rpc.asked] == ["eth_getBalance"]


def test_an_account_without_the_fee_is_told_how_much_it_is() -> None:
    with pytest.raises(NotEnoughFunds, match=r"of it up to 0.000000000652275 BWT for gas"):
        plan(SmallRpc(), ALICE.address, call(10 * BWT))


def test_a_refused_call_carries_the_reverts_bytes() -> None:
    rpc = SmallRpc(eth_estimateGas=failed("execution reverted", 3, "0x08c379a0"))
    with pytest.raises(WouldRevert) as refused:
        plan(rpc, ALICE.address, call())
    assert refused.value.output == bytes.fromhex("08c379a0")


def test_other_failures_of_the_estimate_are_passed_on() -> None:
    with pytest.raises(NotEnoughFunds, match="insufficient funds for transfer"):
        plan(SmallRpc(eth_estimateGas=failed("insufficient funds for transfer")), ALICE.address, call())
    with pytest.raises(RequestFailed, match="busy"):
        plan(SmallRpc(eth_estimateGas=failed("the node is busy")), ALICE.address, call())


def test_a_failure_that_used_all_its_gas_is_told_from_a_revert() -> None:
    planned = plan(SmallRpc(), ALICE.address, call())
    assert ran_out_of_gas(planned, Receipt(HASH, 16, False, planned.gas_limit * 63 // 64 + 1, 1, ()))
    assert not ran_out_of_gas(planned, Receipt(HASH, 16, True, planned.gas_limit, 1, ()))
    assert not ran_out_of_gas(planned, Receipt(HASH, 16, False, planned.gas_limit // 2, 1, ()))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_waiting_ends_with_the_receipt_and_says_in_between_that_it_waits() -> None:
    clock, told = Clock(), []
    rpc = SmallRpc(eth_getTransactionReceipt=lambda _: receipt_fields() if clock.now > 21 else None)
    found = await_receipt(rpc, HASH, told.append, sleep=clock.sleep, now_s=lambda: clock.now)
    assert (found.height, found.succeeded, found.gas_used, found.fee_wei) == (16, True, 90_000, 90_000 * 1_007)
    assert found.logs[0].topics == (b"\x01" * 32,)
    assert told == ["still waiting for a block with it; the head is 12"] * 2


def test_a_transaction_that_no_block_takes_is_named_in_the_error() -> None:
    clock = Clock()
    rpc = SmallRpc(eth_getTransactionReceipt=None)
    with pytest.raises(NotInBlock, match=HASH.hex()):
        await_receipt(rpc, HASH, lambda _: None, sleep=clock.sleep, now_s=lambda: clock.now)
    assert clock.now == WAIT_S


def test_the_reason_of_a_revert_in_a_block_is_asked_for_under_that_block() -> None:
    rpc = SmallRpc(eth_call=failed("execution reverted: staking: no", 3, "0x1234"))
    planned = plan(rpc, ALICE.address, call())
    receipt = Receipt(HASH, 16, False, 1, 1, ())
    assert revert_of(rpc, planned, receipt) == b"\x12\x34"
    assert rpc.asked[-1][1][1] == "0x10"
    for silent in (failed("historical state is not available"), "0x"):
        rpc.answers["eth_call"] = silent
        assert revert_of(rpc, planned, receipt) == b""
