"""Movements of the coin as if they were an ERC-20's: eth_simulateV1's ``traceTransfers``, as geth does it.

A transfer stands among the logs of the running call, so that whatever undoes the call undoes it too; it has a type of
its own by which it is told from the logs that contracts emit, and no receipt holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from eth.exceptions import VMError

from astralink_node.evm.transaction_execution import Outcome, RawLog
from astralink_node.evm.transactions import Transaction
from astralink_node.evm.vm import Computation
from astralink_node.types import Address

TRANSFER_ADDRESS: Final = Address(b"\xee" * 20)
"""ERC-7528's place of the native coin."""
TRANSFER_TOPIC: Final = int("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef", 16)
"""keccak256("Transfer(address,address,uint256)")."""

_CALLCODE: Final = 0xF2
_SELFDESTRUCT: Final = 0xFF
_ADDRESS_MASK: Final = (1 << 160) - 1


class TransferLog(NamedTuple):
    """A RawLog that no contract emitted."""

    address: Address
    topics: tuple[int, ...]
    data: bytes


class TransferTracer:
    """Sees one transaction after another."""

    def __init__(self) -> None:
        self._opcode = 0
        """The one that runs: what a call that begins was started by."""

    def enter(self, computation: Computation) -> None:
        message = computation.msg
        # CALLCODE names a value, but the coin stays where it is.
        by_callcode = message.depth > 0 and self._opcode == _CALLCODE
        if message.value and message.should_transfer_value and not by_callcode:
            computation.state.logs.append(transfer_log(message.sender, message.storage_address, message.value))

    def leave(self) -> None:
        """A call that failed has taken its logs with it."""

    def before_opcode(self, computation: Computation, program_counter: int, opcode: int) -> None:  # noqa: ARG002
        self._opcode = opcode
        if opcode == _SELFDESTRUCT and computation.stack_values:
            beneficiary = Address((computation.stack_values[-1] & _ADDRESS_MASK).to_bytes(20, "big"))
            holder = computation.storage_address
            balance = computation.state.overlay.get_balance(holder)
            if balance:
                computation.state.logs.append(transfer_log(holder, beneficiary, balance))

    def after_opcode(self, computation: Computation, error: VMError | None) -> None:
        """Everything is known beforehand."""


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
