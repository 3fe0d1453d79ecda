"""geth's struct logger, the default of ``debug_trace*``: every opcode as one JSON object, written as it happens.

Nothing is kept but the storage slots seen, so that a caller can send the lines on while the transaction runs, and can
end it at any line by raising from ``write``. Field by field as geth and execution-apis have it: numbers where the
EIP-3155 lines have hexadecimal strings; absent fields instead of empty ones; at SLOAD and SSTORE all slots of the
contract seen so far, with the value read or about to be written. An error is shown where geth's shows one: for an
opcode that cannot be paid or does not fit the stack, not for one that fails while it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson
from eth.exceptions import FullStack, InsufficientStack, OutOfGas, Revert, VMError

from astralink_node.evm.machine import WORD_BYTES
from astralink_node.evm.tracing.failure_words import describe
from astralink_node.evm.tracing.instructions import OPCODE_NAMES, SLOT_OPCODES, SSTORE, STACK_TAKEN
from astralink_node.evm.tracing.kept_bytes import KeptBytes
from astralink_node.evm.tracing.opcode_lines import OpcodeLines
from astralink_node.evm.tracing.options import StructLogs
from astralink_node.types import Address

if TYPE_CHECKING:
    from astralink_node.evm.transaction_execution import Outcome
    from astralink_node.evm.vm import Computation, ExecutionState

_SLOT_BYTES: Final = 64
_BEFORE_IT_RUNS: Final = (OutOfGas, InsufficientStack, FullStack)


@dataclass(frozen=True, slots=True)
class StructLogResult:
    """What stands around the lines."""

    gas: int
    """Used by the transaction, after refunds."""
    failed: bool
    return_value: bytes
    """Returned or revert data; empty after any other failure."""


class StructLogger(OpcodeLines[dict[str, object]]):
    """Writes each line, a JSON object without a newline, as soon as its cost is known."""

    def __init__(self, write: Callable[[bytes], None], options: StructLogs) -> None:
        super().__init__()
        self._write = write
        self._options = options
        self._lines = 0
        self._storage: dict[Address, dict[str, str]] = {}
        self._kept = KeptBytes()
        self._result: StructLogResult | None = None

    def result(self) -> StructLogResult | None:
        """None until the transaction is over."""
        return self._result

    def start_line(
        self, computation: Computation, program_counter: int, opcode: int, refund: int
    ) -> dict[str, object] | None:
        options = self._options
        if options.limit and self._lines >= options.limit:
            return None
        self._lines += 1
        line: dict[str, object] = {
            "pc": program_counter,
            "op": OPCODE_NAMES[opcode],
            "gas": computation.gas_left,
            "gasCost": 0,
            "depth": len(self.calls),
        }
        if options.with_stack:
            line["stack"] = [hex(value) for value in computation.stack_values]
        if options.with_return_data and computation.return_data:
            line["returnData"] = "0x" + computation.return_data.hex()
        if options.with_memory and computation.memory_content:
            line["memory"] = _words(computation.memory_content)
        if options.with_storage and opcode in SLOT_OPCODES:
            slots = self._slots(computation, opcode)
            if slots is not None:
                line["storage"] = slots
        if refund:
            line["refund"] = refund
        return line

    def end_line(self, line: dict[str, object], cost: int, error: VMError | None) -> None:
        line["gasCost"] = cost
        if isinstance(error, _BEFORE_IT_RUNS):
            line["error"] = describe(error)
        self._write(orjson.dumps(line))
        self.has_enough = bool(self._options.limit) and self._lines >= self._options.limit

    def end(self, state: ExecutionState, outcome: Outcome) -> None:  # noqa: ARG002
        shown = outcome.error is None or isinstance(outcome.error, Revert)
        self._result = StructLogResult(
            gas=outcome.gas_used,
            failed=outcome.error is not None,
            return_value=outcome.output if shown else b"",
        )

    def _slots(self, computation: Computation, opcode: int) -> dict[str, str] | None:
        values = computation.stack_values
        if len(values) < STACK_TAKEN[opcode]:
            return None
        slot, account = values[-1], computation.storage_address
        value = values[-2] if opcode == SSTORE else computation.state.overlay.get_storage(account, slot)
        slots = self._storage.setdefault(account, {})
        key = f"0x{slot:064x}"
        if key not in slots:
            self._kept.add(2 * _SLOT_BYTES)
        slots[key] = f"0x{value:064x}"
        return slots


def _words(memory: bytearray) -> list[str]:
    text = memory.hex()
    digits = 2 * WORD_BYTES
    return ["0x" + text[start : start + digits] for start in range(0, len(text), digits)]
