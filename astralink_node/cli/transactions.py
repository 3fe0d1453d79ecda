"""From a call to its receipt, over JSON-RPC: fees and gas, what the account must hold, signing, sending, waiting.

Knows no contract. A call that would revert is refused before it is signed, with the revert's bytes for whoever can
decode them; the key is needed only between :func:`plan` and :func:`send`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from astralink_node.cli.amounts import bwt
from astralink_node.cli.rpc_client import RequestFailed
from astralink_node.errors import AstraLinkError, UserError
from astralink_node.evm.transaction_encoding import new_transaction, sign_transaction
from astralink_node.evm.transactions import DYNAMIC_FEE_TYPE, Transaction
from astralink_node.types import Address, Hash32

MAX_GAS: Final = 16_777_216
"""Of one transaction, since Osaka (EIP-7825)."""
HEADROOM_GAS: Final = 200_000
"""Beyond the estimate, beside a quarter of it. A block begins with rewards: a call that found nothing to settle when
it was estimated may then fill up to eight empty slots, 22,100 each. What is not used is not paid."""
WAIT_S: Final = 120.0
"""For a block with the transaction; it may still come afterwards."""
POLL_S: Final = 0.25
SAY_EVERY_S: Final = 10.0
_REVERTED: Final = 3
_INSUFFICIENT_FUNDS: Final = "insufficient funds"


class Rpc(Protocol):
    """:class:`~astralink_node.cli.rpc_client.RpcClient`, or a small one of a test's."""

    def call(self, method: str, *params: object) -> Any: ...


class WouldRevert(AstraLinkError):
    """The contract refuses the call as things stand. `output` is what it said, in bytes."""

    def __init__(self, message: str, output: bytes) -> None:
        super().__init__(message)
        self.output = output


class NotEnoughFunds(UserError):
    """The account cannot pay what the call sends and its fee."""


class OutOfGas(AstraLinkError):
    """In a block, and undone: more was to do there than when it was planned."""


class NotInBlock(AstraLinkError):
    """Sent, and in no block yet."""


@dataclass(frozen=True, slots=True)
class ContractCall:
    """What a transaction is to do. `purpose` says it to a person: `delegate 5 BWT to 0x..`."""

    to: Address
    data: bytes
    purpose: str
    value_wei: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A transaction that would succeed now, not signed yet."""

    call: ContractCall
    sender: Address
    chain_id: int
    nonce: int
    gas_limit: int
    max_fee_wei: int
    priority_fee_wei: int
    """Both per gas."""

    @property
    def highest_fee_wei(self) -> int:
        return self.gas_limit * self.max_fee_wei


@dataclass(frozen=True, slots=True)
class Log:
    address: Address
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    transaction_hash: bytes
    height: int
    succeeded: bool
    gas_used: int
    fee_wei: int
    logs: tuple[Log, ...]


def plan(rpc: Rpc, sender: Address, call: ContractCall) -> Plan:
    """Raises `NotEnoughFunds`, `WouldRevert`, and what the client raises."""
    sender_hex = "0x" + sender.hex()
    balance = _quantity(rpc.call("eth_getBalance", sender_hex, "latest"))
    if balance < call.value_wei:
        raise NotEnoughFunds(f"expected at least {bwt(call.value_wei)} in {sender_hex}, found {bwt(balance)}")
    gas = _estimate(rpc, sender_hex, call)
    priority_fee = _quantity(rpc.call("eth_maxPriorityFeePerGas"))
    made = Plan(
        call=call,
        sender=sender,
        chain_id=_quantity(rpc.call("eth_chainId")),
        nonce=_quantity(rpc.call("eth_getTransactionCount", sender_hex, "pending")),
        gas_limit=min(gas * 5 // 4 + HEADROOM_GAS, MAX_GAS),
        max_fee_wei=2 * _quantity(rpc.call("eth_baseFee")) + priority_fee,
        priority_fee_wei=priority_fee,
    )
    needed = call.value_wei + made.highest_fee_wei
    if balance < needed:
        raise NotEnoughFunds(
            f"expected at least {bwt(needed)} in {sender_hex} (of it up to {bwt(made.highest_fee_wei)} for gas), "
            f"found {bwt(balance)}"
        )
    return made


def sign(planned: Plan, private_key: bytes) -> Transaction:
    """Type 2 (EIP-1559)."""
    unsigned = new_transaction(
        DYNAMIC_FEE_TYPE,
        chain_id=planned.chain_id,
        nonce=planned.nonce,
        max_fee_per_gas=planned.max_fee_wei,
        max_priority_fee_per_gas=planned.priority_fee_wei,
        gas_limit=planned.gas_limit,
        to=planned.call.to,
        value=planned.call.value_wei,
        data=planned.call.data,
    )
    return sign_transaction(unsigned, private_key)


def send(rpc: Rpc, transaction: Transaction) -> Hash32:
    rpc.call("eth_sendRawTransaction", "0x" + transaction.raw.hex())
    return transaction.hash


def await_receipt(
    rpc: Rpc,
    transaction_hash: bytes,
    tell: Callable[[str], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
    now_s: Callable[[], float] = time.monotonic,
) -> Receipt:
    """Polls until a block has it. Raises `NotInBlock` after `WAIT_S`."""
    shown = "0x" + transaction_hash.hex()
    started = said = now_s()
    while True:
        found = rpc.call("eth_getTransactionReceipt", shown)
        if found is not None:
            return _receipt(found)
        now = now_s()
        if now - started >= WAIT_S:
            raise NotInBlock(
                f"{shown} is in no block after {WAIT_S:.0f} s; it may still come: do not send it again before "
                "eth_getTransactionReceipt or `astralink-node status` says what became of it"
            )
        if now - said >= SAY_EVERY_S:
            said = now
            tell(f"still waiting for a block with it; the head is {_quantity(rpc.call('eth_blockNumber')):,}")
        sleep(POLL_S)


def ran_out_of_gas(planned: Plan, receipt: Receipt) -> bool:
    """A call within the call leaves its caller a 64th (EIP-150)."""
    return not receipt.succeeded and receipt.gas_used * 64 >= planned.gas_limit * 63


def revert_of(rpc: Rpc, planned: Plan, receipt: Receipt) -> bytes:
    """Why a transaction that was in a block reverted, asked for again under that block. Empty if it does not say."""
    request = _request("0x" + planned.sender.hex(), planned.call)
    try:
        rpc.call("eth_call", request, hex(receipt.height))
    except RequestFailed as error:
        if error.code == _REVERTED and error.data is not None:
            return _bytes(error.data)
    return b""


def _estimate(rpc: Rpc, sender_hex: str, call: ContractCall) -> int:
    try:
        return _quantity(rpc.call("eth_estimateGas", _request(sender_hex, call), "latest"))
    except RequestFailed as error:
        if error.code == _REVERTED:
            raise WouldRevert(error.message, _bytes(error.data or "0x")) from error
        if _INSUFFICIENT_FUNDS in error.message:
            raise NotEnoughFunds(f"{sender_hex}: {error.message}") from error
        raise


def _request(sender_hex: str, call: ContractCall) -> dict[str, str]:
    return {
        "from": sender_hex,
        "to": "0x" + call.to.hex(),
        "value": hex(call.value_wei),
        "input": "0x" + call.data.hex(),
    }


def _receipt(fields: dict[str, Any]) -> Receipt:
    gas_used = _quantity(fields["gasUsed"])
    return Receipt(
        transaction_hash=_bytes(fields["transactionHash"]),
        height=_quantity(fields["blockNumber"]),
        succeeded=fields["status"] == "0x1",
        gas_used=gas_used,
        fee_wei=gas_used * _quantity(fields["effectiveGasPrice"]),
        logs=tuple(
            Log(Address(_bytes(log["address"])), tuple(_bytes(topic) for topic in log["topics"]), _bytes(log["data"]))
            for log in fields["logs"]
        ),
    )


def _quantity(text: str) -> int:
    return int(text, 16)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
