"""Movements of the coin as if they were an ERC-20's: eth_simulateV1's ``traceTransfers``, as geth does it.

A transfer stands among the logs of the running call, so that whatever undoes the call undoes it too; it has a type of
its own by which it is told from the logs that contracts emit, and no receipt holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from astralink_node.evm.tracing.hooks import SilentTracer
from astralink_node.evm.tracing.instructions import CALLCODE
from astralink_node.evm.transaction_execution import Outcome, RawLog
from astralink_node.evm.transactions import Transaction
from astralink_node.evm.vm import Computation
from astralink_node.types import Address

TRANSFER_ADDRESS: Final = Address(b"\xee" * 20)
"""ERC-7528's place of the native coin."""
TRANSFER_TOPIC: Final = int("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef", 16)
"""keccak256("Transfer(address,address,uint256)")."""


class TransferLog(NamedTuple):
    """A RawLog that no contract emitted."""

    address: Address
    topics: tuple[int, ...]
    data: bytes


class TransferTracer(SilentTracer):
    """Sees one transaction after another."""

    def enter(self, computation: Computation) -> None:
        message = computation.msg
        # CALLCODE names a value, but the coin stays where it is.
        by_callcode = computation.state.call_site.opcode == CALLCODE
        if message.value and message.should_transfer_value and not by_callcode:
            computation.state.logs.append(transfer_log(message.sender, message.storage_address, message.value))

    def selfdestruct(self, computation: Computation, beneficiary: Address, balance: int) -> None:
        if balance:
            computation.state.logs.append(transfer_log(computation.storage_address, beneficiary, balance))


def transfer_log(sender: Address, recipient: Address, value: int) -> TransferLog:
    topics = (TRANSFER_TOPIC, int.from_bytes(sender, "big"), int.from_bytes(recipient, "big"))
    return TransferLog(TRANSFER_ADDRESS, topics, value.to_bytes(32, "big"))


def with_root_transfer(transaction: Transaction, sender: Address, outcome: Outcome) -> Sequence[RawLog]:
    """All logs of a traced transaction. A transfer between accounts without code runs no call to be seen."""
    logs = outcome.logs
    seen = bool(logs) and isinstance(logs[0], TransferLog)
    if seen or outcome.error is not None or not transaction.value:
        return logs
    return (transfer_log(sender, Address(transaction.to), transaction.value), *logs)


def emitted(logs: Sequence[RawLog]) -> Sequence[RawLog]:
    """What a receipt holds: the contracts' own."""
    return [log for log in logs if not isinstance(log, TransferLog)]
