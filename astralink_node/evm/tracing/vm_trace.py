"""Parity's ``vmTrace``: for each opcode of each call its cost and effects on stack, memory and storage.

OpenEthereum and Erigon are the models. The nested JSON is written as the opcodes run, for there may be hundreds of
thousands: an operation that makes a call begins with that call (``sub``), and goes on with what came of it. As there,
DUPn and SWAPn push all that they reach, an opcode that failed has no effects, and ``used`` is the gas that is left
after the opcode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson
from eth.exceptions import VMError

from astralink_node.evm.machine import WORD_BYTES
from astralink_node.evm.tracing.hooks import RefusedCall, SilentTracer
from astralink_node.evm.tracing.instructions import (
    ALL_OPCODES,
    CALL,
    CALLCODE,
    CALLDATACOPY,
    CALLS,
    CODECOPY,
    CREATIONS,
    DELEGATECALL,
    EXTCODECOPY,
    MCOPY,
    MLOAD,
    MSTORE,
    MSTORE8,
    OPCODE_NAMES,
    RETURNDATACOPY,
    SSTORE,
    STACK_LEFT,
    STACK_TAKEN,
    STATICCALL,
)
from astralink_node.evm.tracing.kept_bytes import KeptBytes
from astralink_node.evm.tracing.records import VmTrace

if TYPE_CHECKING:
    from astralink_node.evm.vm import Computation

_COPIES: Final = frozenset({CALLDATACOPY, CODECOPY, RETURNDATACOPY, MCOPY})
_OUTPUT_PLACES: Final = {CALL: 5, CALLCODE: 5, DELEGATECALL: 4, STATICCALL: 4}
"""Where on the stack a call says where its output goes."""


@dataclass(slots=True)
class _Pending:
    """An opcode that has begun."""

    program_counter: int
    gas_before: int
    operands: tuple[int, ...]
    cost: int | None = None
    """Known once the call that it makes begins, or is refused."""
    makes_call: bool = False
    """The text has that call already."""


class _Running:
    """A call that runs."""

    __slots__ = ("computation", "has_operations", "pending")

    def __init__(self, computation: Computation) -> None:
        self.computation = computation
        self.has_operations = False
        self.pending: _Pending | None = None


class VmTracer(SilentTracer):
    """One instance traces one transaction."""

    watched = ALL_OPCODES

    def __init__(self, kept: KeptBytes | None = None) -> None:
        self._text = bytearray()
        self._running: list[_Running] = []
        self._kept = kept or KeptBytes()

    def result(self) -> VmTrace:
        return VmTrace(bytes(self._text) or b"null")

    def enter(self, computation: Computation) -> None:
        if self._running:
            caller = self._running[-1]
            assert caller.pending is not None, "only an opcode makes a call"
            caller.pending.makes_call = True
            caller.pending.cost = caller.pending.gas_before - caller.computation.gas_left
            self._begin_operation(caller)
            self._write(b'"sub":')
        code = bytes(computation.msg.code)
        self._kept.add(2 * len(code))
        self._text += b'{"code":"0x%b","ops":[' % code.hex().encode()
        self._running.append(_Running(computation))

    def leave(self, computation: Computation) -> None:  # noqa: ARG002
        self._running.pop()
        self._write(b"]}")

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
        if not pending.makes_call:
            self._begin_operation(running)
        shown = {
            "cost": pending.gas_before - computation.gas_left if pending.cost is None else pending.cost,
            "ex": None if error is not None else self._effects(computation, opcode, pending.operands),
            "pc": pending.program_counter,
            "op": OPCODE_NAMES[opcode],
        }
        self._write((b"," if pending.makes_call else b'"sub":null,') + orjson.dumps(shown)[1:])

    def _begin_operation(self, running: _Running) -> None:
        self._write(b",{" if running.has_operations else b"{")
        running.has_operations = True

    def _write(self, text: bytes) -> None:
        self._kept.add(len(text))
        self._text += text

    def _effects(self, computation: Computation, opcode: int, operands: tuple[int, ...]) -> dict[str, object]:
        left, values = STACK_LEFT[opcode], computation.stack_values
        return {
            "mem": self._memory_write(computation, opcode, operands),
            "push": [hex(value) for value in values[-left:]] if left else [],
            "store": {"key": hex(operands[0]), "val": hex(operands[1])} if opcode == SSTORE else None,
            "used": computation.gas_left,
        }

    def _memory_write(
        self, computation: Computation, opcode: int, operands: tuple[int, ...]
    ) -> dict[str, object] | None:
        place = _written_memory(opcode, operands)
        if place is None or not place[1]:
            return None
        offset, size = place
        return {"data": "0x" + computation.memory_content[offset : offset + size].hex(), "off": offset}


def _written_memory(opcode: int, operands: tuple[int, ...]) -> tuple[int, int] | None:
    """Offset and size. A load counts as a write of what is there, as in OpenEthereum; an empty range is none."""
    if opcode in (MLOAD, MSTORE):
        return operands[0], WORD_BYTES
    if opcode == MSTORE8:
        return operands[0], 1
    if opcode in _COPIES:
        return operands[0], operands[2]
    if opcode == EXTCODECOPY:
        return operands[1], operands[3]
    if opcode in CALLS:
        place = _OUTPUT_PLACES[opcode]
        return operands[place], operands[place + 1]
    return None
