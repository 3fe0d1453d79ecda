"""Parity's ``vmTrace``: for each opcode of each call its cost and effects on stack, memory and storage.

OpenEthereum and Erigon are the models. The result is flat: calls in the order in which they began, each with its
code and operations; an operation that made a call names it by its position. :func:`vm_trace_json` makes the nested
JSON. As there, DUPn and SWAPn push all that they reach, an opcode that failed has no effects, and ``used`` is the gas
that is left after the opcode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from eth.exceptions import VMError

from astralink_node.evm.tracing.hooks import (
    ALL_OPCODES,
    CALL,
    CALLCODE,
    CALLS,
    CREATIONS,
    DELEGATECALL,
    STATICCALL,
    KeptBytes,
    RefusedCall,
    SilentTracer,
)
from astralink_node.evm.tracing.instructions import STACK_LEFT, STACK_TAKEN
from astralink_node.evm.tracing.records import Effects, MemoryWrite, Operation, StorageWrite, TracedCode, VmTrace

if TYPE_CHECKING:
    from astralink_node.evm.vm import Computation

_MLOAD, _MSTORE, _MSTORE8, _SSTORE, _MCOPY = 0x51, 0x52, 0x53, 0x55, 0x5E
_EXTCODECOPY: Final = 0x3C
_COPIES: Final = frozenset({0x37, 0x39, 0x3E, _MCOPY})  # CALLDATACOPY, CODECOPY, RETURNDATACOPY
_OUTPUT_PLACES: Final = {CALL: 5, CALLCODE: 5, DELEGATECALL: 4, STATICCALL: 4}
"""Where on the stack a call says where its output goes."""
OPERATION_BYTES: Final = 100
WORD_BYTES: Final = 32
"""What an operation and each pushed item are counted as."""


@dataclass(slots=True)
class _Pending:
    """An opcode that has begun."""

    program_counter: int
    gas_before: int
    operands: tuple[int, ...]
    cost: int | None = None
    """Known once the call that it makes begins, or is refused."""
    call: int | None = None


class _Running:
    """A call that runs."""

    __slots__ = ("computation", "operations", "pending", "position")

    def __init__(self, computation: Computation, position: int) -> None:
        self.computation = computation
        self.position = position
        self.operations: list[Operation] = []
        self.pending: _Pending | None = None


class VmTracer(SilentTracer):
    """One instance traces one transaction."""

    watched = ALL_OPCODES

    def __init__(self) -> None:
        self._calls: list[TracedCode] = []
        self._running: list[_Running] = []
        self._kept = KeptBytes()

    def result(self) -> VmTrace:
        return VmTrace(tuple(self._calls))

    def enter(self, computation: Computation) -> None:
        position = len(self._calls)
        if self._running:
            caller = self._running[-1]
            if caller.pending is not None:
                caller.pending.call = position
                caller.pending.cost = caller.pending.gas_before - caller.computation.gas_left
        code = bytes(computation.msg.code)
        self._kept.add(len(code))
        self._calls.append(TracedCode(code, ()))
        self._running.append(_Running(computation, position))

    def leave(self, computation: Computation) -> None:  # noqa: ARG002
        running = self._running.pop()
        self._calls[running.position] = TracedCode(self._calls[running.position].code, tuple(running.operations))

    def refuse(self, refused: RefusedCall) -> None:
        if self._running and self._running[-1].pending is not None:
            handed_on = refused.gas if refused.opcode in CREATIONS else 0
            self._running[-1].pending.cost = refused.opcode_cost + handed_on

    def before_opcode(self, computation: Computation, program_counter: int, opcode: int) -> None:
        taken, values = STACK_TAKEN[opcode], computation.stack_values
        operands = tuple(values[: -taken - 1 : -1]) if taken and len(values) >= taken else ()
        self._running[-1].pending = _Pending(program_counter, computation.gas_left, operands)

    def after_opcode(self, computation: Computation, opcode: int, error: VMError | None) -> None:
        running = self._running[-1]
        pending, running.pending = running.pending, None
        assert pending is not None, "an opcode ends after it began"
        effects = None
        if error is None:
            effects = _effects(computation, opcode, pending.operands)
            written = 0 if effects.memory is None else len(effects.memory.data)
            self._kept.add(written + WORD_BYTES * len(effects.pushed))
        self._kept.add(OPERATION_BYTES)
        cost = pending.gas_before - computation.gas_left if pending.cost is None else pending.cost
        running.operations.append(Operation(pending.program_counter, opcode, cost, effects, pending.call))


def _effects(computation: Computation, opcode: int, operands: tuple[int, ...]) -> Effects:
    left, values = STACK_LEFT[opcode], computation.stack_values
    return Effects(
        memory=_memory_write(computation, opcode, operands),
        pushed=tuple(values[-left:]) if left else (),
        storage=StorageWrite(operands[0], operands[1]) if opcode == _SSTORE else None,
        gas_left=computation.gas_left,
    )


def _memory_write(computation: Computation, opcode: int, operands: tuple[int, ...]) -> MemoryWrite | None:
    """A load counts as a write of what is there, as in OpenEthereum; an empty range is none."""
    if opcode in (_MLOAD, _MSTORE):
        offset, size = operands[0], WORD_BYTES
    elif opcode == _MSTORE8:
        offset, size = operands[0], 1
    elif opcode in _COPIES:
        offset, size = operands[0], operands[2]
    elif opcode == _EXTCODECOPY:
        offset, size = operands[1], operands[3]
    elif opcode in CALLS:
        place = _OUTPUT_PLACES[opcode]
        offset, size = operands[place], operands[place + 1]
    else:
        return None
    return MemoryWrite(offset, bytes(computation.memory_content[offset : offset + size])) if size else None
