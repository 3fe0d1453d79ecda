"""What tracers of every opcode share: a line that waits for its cost, and the depth and refund that it shows.

An opcode's cost is known once it has run, or once the call that it makes begins: whichever comes first completes the
line, so that lines come in the order in which the opcodes began. Costs are as geth reports them: a call's includes
the gas that it hands on, a creation's does not; one that could not be paid is the amount that was asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from eth.exceptions import VMError

from astralink_node.evm.tracing.hooks import ALL_OPCODES, CREATIONS, RefusedCall, SilentTracer

if TYPE_CHECKING:
    from astralink_node.evm.vm import Computation

Line = TypeVar("Line")


class OpcodeLines(SilentTracer, Generic[Line]):
    """Calls :meth:`start_line` before an opcode and :meth:`end_line` when its cost is known."""

    watched = ALL_OPCODES

    def __init__(self) -> None:
        self.calls: list[Computation] = []
        """Those that run, the outermost first; a line's depth is their number."""
        self._line: Line | None = None
        self._gas_before = 0
        self._opcode = 0

    def start_line(self, computation: Computation, program_counter: int, opcode: int) -> Line | None:
        """What is to be shown of the state before the opcode; None for no line."""
        raise NotImplementedError

    def end_line(self, line: Line, cost: int, error: VMError | None) -> None:
        raise NotImplementedError

    def refund(self) -> int:
        """Of the transaction, so far."""
        return sum(call.refunded for call in self.calls)

    def enter(self, computation: Computation) -> None:
        if self._line is not None:
            cost = self._gas_before - self.calls[-1].gas_left
            if self._opcode in CREATIONS:
                cost -= computation.msg.gas
            self._complete(cost, None)
        self.calls.append(computation)

    def leave(self, computation: Computation) -> None:  # noqa: ARG002
        self.calls.pop()

    def refuse(self, refused: RefusedCall) -> None:
        self._complete(refused.opcode_cost, None)

    def before_opcode(self, computation: Computation, program_counter: int, opcode: int) -> None:
        self._line = self.start_line(computation, program_counter, opcode)
        if self._line is not None:
            self._gas_before = computation.gas_left
            self._opcode = opcode

    def after_opcode(self, computation: Computation, opcode: int, error: VMError | None) -> None:  # noqa: ARG002
        self._complete(self._gas_before - computation.gas_left, error)

    def _complete(self, cost: int, error: VMError | None) -> None:
        line, self._line = self._line, None
        if line is not None:
            self.end_line(line, cost, error)
