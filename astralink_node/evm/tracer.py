"""EIP-3155: one JSON line for every opcode, and one that sums up.

Gas costs are as geth reports them: a call's includes the gas that it hands on, a creation's does not. Refunds
are the transaction's so far. The lines of an opcode that starts a call come before those of the call.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from eth.exceptions import InvalidInstruction, VMError

from astralink_node.evm.vm import Computation

_CREATES: Final = (0xF0, 0xF5)
_DESIGNATED_INVALID: Final = "0xfe"
"""EIP-141."""


@dataclass(slots=True)
class _Pending:
    """An opcode whose line waits for its cost."""

    line: dict[str, object]
    gas_before: int
    opcode: int


class Eip3155Tracer:
    """Writes lines as the computation runs; one instance traces one transaction."""

    def __init__(self, write: Callable[[str], None], *, memory: bool = False) -> None:
        self._write = write
        self._memory = memory
        self._pending: _Pending | None = None
        self._calls: list[Computation] = []

    def enter(self, computation: Computation) -> None:
        if self._pending is not None:
            caller = self._calls[-1]
            cost = self._pending.gas_before - caller.gas_left
            if self._pending.opcode in _CREATES:
                cost -= computation.gas_left
            self._flush(cost)
        self._calls.append(computation)

    def leave(self) -> None:
        del self._calls[-1:]

    def before_opcode(self, computation: Computation, program_counter: int, opcode: int) -> None:
        line: dict[str, object] = {
            "pc": program_counter,
            "op": opcode,
            "gas": hex(computation.gas_left),
            "gasCost": "0x0",
            "memSize": len(computation.memory_content),
            "stack": [hex(value) for value in computation.stack_values],
            "depth": len(self._calls),
            "refund": sum(call.refunded for call in self._calls),
            "opName": computation.dispatch[opcode][1],
        }
        if self._memory:
            line["memory"] = "0x" + computation.memory_content.hex()
        self._pending = _Pending(line, computation.gas_left, opcode)

    def after_opcode(self, computation: Computation, error: VMError | None) -> None:
        if self._pending is None:
            return
        if error is not None:
            self._pending.line["error"] = describe(error)
        self._flush(self._pending.gas_before - computation.gas_left)

    def summary(self, *, state_root: bytes, output: bytes, gas_used: int, error: VMError | None, fork: str) -> None:
        line: dict[str, object] = {
            "stateRoot": "0x" + state_root.hex(),
            "output": "0x" + output.hex(),
            "gasUsed": hex(gas_used),
            "pass": error is None,
            "fork": fork,
        }
        if error is not None:
            line["error"] = describe(error)
        self._write(json.dumps(line))

    def _flush(self, cost: int) -> None:
        if self._pending is not None:
            self._pending.line["gasCost"] = hex(cost)
            self._write(json.dumps(self._pending.line))
            self._pending = None


def describe(error: VMError) -> str:
    """The kind of failure in words, as geth has them where it does."""
    if isinstance(error, InvalidInstruction):
        # py-evm: "Invalid opcode 0xc @ 17".
        opcode = str(error).split()[2]
        return f"invalid opcode: {'INVALID' if opcode == _DESIGNATED_INVALID else f'opcode {opcode} not defined'}"
    return _DESCRIPTIONS.get(type(error).__name__, str(error) or type(error).__name__)


_DESCRIPTIONS: Final = {
    "OutOfGas": "out of gas",
    "Revert": "execution reverted",
    "InsufficientStack": "stack underflow",
    "FullStack": "stack limit reached 1024 (1023)",
    "InvalidJumpDestination": "invalid jump destination",
    "WriteProtection": "write protection",
    "OutOfBoundsRead": "return data out of bounds",
    "ContractCreationCollision": "contract address collision",
    "ReservedBytesInCode": "invalid code: must not begin with 0xef",
}
