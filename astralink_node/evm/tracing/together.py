"""Several tracers on one run: geth's ``muxTracer``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eth.exceptions import VMError

from astralink_node.evm.tracing.hooks import RefusedCall, Tracer
from astralink_node.types import Address

if TYPE_CHECKING:
    from astralink_node.evm.transaction_execution import Outcome
    from astralink_node.evm.transactions import Transaction
    from astralink_node.evm.vm import Computation, ExecutionState


class TracersTogether:
    """Tells all of them everything, each only the opcodes that it watches."""

    def __init__(self, tracers: Sequence[Tracer]) -> None:
        self._tracers = tuple(tracers)
        self.watched: frozenset[int] = frozenset().union(*(tracer.watched for tracer in tracers))

    @property
    def has_enough(self) -> bool:
        return all(tracer.has_enough for tracer in self._tracers)

    def begin(self, state: ExecutionState, transaction: Transaction, sender: Address) -> None:
        for tracer in self._tracers:
            tracer.begin(state, transaction, sender)

    def end(self, state: ExecutionState, outcome: Outcome) -> None:
        for tracer in self._tracers:
            tracer.end(state, outcome)

    def enter(self, computation: Computation) -> None:
        for tracer in self._tracers:
            tracer.enter(computation)

    def leave(self, computation: Computation) -> None:
        for tracer in self._tracers:
            tracer.leave(computation)

    def refuse(self, refused: RefusedCall) -> None:
        for tracer in self._tracers:
            tracer.refuse(refused)

    def selfdestruct(self, computation: Computation, beneficiary: Address, balance: int) -> None:
        for tracer in self._tracers:
            tracer.selfdestruct(computation, beneficiary, balance)

    def before_opcode(self, computation: Computation, program_counter: int, opcode: int) -> None:
        for tracer in self._tracers:
            if opcode in tracer.watched:
                tracer.before_opcode(computation, program_counter, opcode)

    def after_opcode(self, computation: Computation, opcode: int, error: VMError | None) -> None:
        for tracer in self._tracers:
            if opcode in tracer.watched:
                tracer.after_opcode(computation, opcode, error)
