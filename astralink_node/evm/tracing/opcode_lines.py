"""What tracers of every opcode share: a line that waits for its cost, and the refund that it shows.

An opcode's cost is known once it has run, or once the call that it makes begins: whichever comes first completes the
line, so that lines come in the order in which the opcodes began. As geth has it, a call's cost includes the gas that
it hands on and a creation's does not; an opcode that failed shows all that it asked for; and the refund of an SSTORE's
line counts that SSTORE already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from eth.exceptions import VMError

from astralink_node.evm.tracing.costs import Asked
from astralink_node.evm.tracing.hooks import RefusedCall, SilentTracer
from astralink_node.evm.tracing.instructions import ALL_OPCODES, CREATIONS

if TYPE_CHECKING:
    from astralink_node.evm.vm import Computation

Line = TypeVar("Line")


class OpcodeLines(SilentTracer, Generic[Line]):
    """Calls :meth:`start_line` before an opcode and :meth:`end_line` when its cost is known."""

    watched = ALL_OPCODES

    def __init__(self) -> None:
        self.calls: list[Computation] = []
        """Those that run, the outermost first; a line's depth is their number."""
        self._outer_refunds = [0]
        """Of the callers of each running call, together."""
        self._line: Line | None = None
        self._asked: Asked | None = None

    def start_line(self, computation: Computation, program_counter: int, opcode: int, refund: int) -> Line | None:
        """What is to be shown of the state before the opcode, with the transaction's refund; None for no line."""
        raise NotImplementedError

    def end_line(self, line: Line, cost: int, error: VMError | None) -> None:
        raise NotImplementedError

    def enter(self, computation: Computation) -> None:
        if self.calls:
            caller = self.calls[-1]
            self._outer_refunds.append(self._outer_refunds[-1] + caller.refunded)
            if self._asked is not None:
                cost = self._asked.gas_before - caller.gas_left
                self._complete(cost - computation.msg.gas if self._asked.opcode in CREATIONS else cost, None)
        self.calls.append(computation)

    def leave(self, computation: Computation) -> None:  # noqa: ARG002
        self.calls.pop()
        if self.calls:
            self._outer_refunds.pop()

    def refuse(self, refused: RefusedCall) -> None:
        self._complete(refused.opcode_cost, None)

    def before_opcode(self, computation: Computation, program_counter: int, opcode: int) -> None:
        self._asked = asked = Asked.of(computation, opcode)
        refund = self._outer_refunds[-1] + computation.refunded + asked.refund
        self._line = self.start_line(computation, program_counter, opcode, refund)

    def after_opcode(self, computation: Computation, opcode: int, error: VMError | None) -> None:  # noqa: ARG002
        asked = self._asked
        if asked is None:
            return
        cost = asked.gas_before - computation.gas_left if error is None else asked.cost()
        self._complete(cost, error)

    def _complete(self, cost: int, error: VMError | None) -> None:
        line, self._line, self._asked = self._line, None, None
        if line is not None:
            self.end_line(line, cost, error)
