"""EIP-3155: one JSON line for every opcode, and one that sums up."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from eth.exceptions import VMError

from astralink_node.evm.tracing.failure_words import describe
from astralink_node.evm.tracing.instructions import OPCODE_NAMES
from astralink_node.evm.tracing.opcode_lines import OpcodeLines

if TYPE_CHECKING:
    from astralink_node.evm.vm import Computation


class Eip3155Tracer(OpcodeLines[dict[str, object]]):
    """Writes lines as the computation runs; one instance traces one transaction."""

    def __init__(self, write: Callable[[str], None], *, memory: bool = False) -> None:
        super().__init__()
        self._write = write
        self._memory = memory

    def start_line(self, computation: Computation, program_counter: int, opcode: int, refund: int) -> dict[str, object]:
        line: dict[str, object] = {
            "pc": program_counter,
            "op": opcode,
            "gas": hex(computation.gas_left),
            "gasCost": "0x0",
            "memSize": len(computation.memory_content),
            "stack": [hex(value) for value in computation.stack_values],
            "depth": len(self.calls),
            "refund": refund,
            "opName": OPCODE_NAMES[opcode],
        }
        if self._memory:
            line["memory"] = "0x" + computation.memory_content.hex()
        return line

    def end_line(self, line: dict[str, object], cost: int, error: VMError | None) -> None:
        line["gasCost"] = hex(cost)
        if error is not None:
            line["error"] = describe(error)
        self._write(json.dumps(line))

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
