"""What a tracer is told: the interface between the machine and whoever watches it.

:class:`Tracer` is the interface, :class:`SilentTracer` one that ignores everything (geth's ``noopTracer``): a tracer
derives from it and overrides what it needs. A tracer changes neither gas nor state; transfer_tracer alone adds to the
logs, and whoever runs it takes out again what it added. What a tracer raises, which must be no VMError, ends the
execution; the state is void then, as after an interrupt.

Order of calls for one transaction: ``begin``, then for the root call and every call within it ``enter`` and
``leave``, properly nested, then ``end``. A call that is refused before it starts is one ``refuse``. Opcodes are shown
only if they are in ``watched``, before and after they run; one that starts a call is followed by that call's
``enter`` before its own ``after_opcode``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from eth.exceptions import VMError

from astralink_node.evm.tracing.instructions import CREATE, NO_OPCODES
from astralink_node.types import ZERO_ADDRESS, Address

if TYPE_CHECKING:
    from astralink_node.evm.transaction_execution import Outcome
    from astralink_node.evm.transactions import Transaction
    from astralink_node.evm.vm import Computation, ExecutionState


@dataclass(frozen=True, slots=True)
class CallSite:
    """The opcode that is about to make a call, or that a transaction stands for: CALL or CREATE."""

    opcode: int
    target: Address
    """As the stack or the transaction names it; with a delegation (EIP-7702) not the account whose code runs. Zero
    for creations."""


ROOT_CREATION: Final = CallSite(CREATE, ZERO_ADDRESS)


@dataclass(frozen=True, slots=True)
class RefusedCall:
    """A call or creation that ended before any of its code could run. Nothing came of it but what it cost."""

    opcode: int
    depth: int
    """That it would have had; the root call's is 0."""
    sender: Address
    to: Address
    """For a creation, the address that it would have deployed to."""
    value: int | None
    """None for a STATICCALL, which has none."""
    gas: int
    gas_used: int
    """None of it, except for an address collision, which burns all."""
    input: bytes
    """Call data, or initcode."""
    error: str
    opcode_cost: int
    """Of the calling opcode, the gas that a call hands on included."""


class Tracer(Protocol):
    """Sees a transaction run."""

    @property
    def watched(self) -> frozenset[int]:
        """The opcodes to be shown."""
        ...

    @property
    def has_enough(self) -> bool:
        """Nothing but :meth:`end` is of interest any more: the rest runs as it does without a tracer."""
        ...

    def begin(self, state: ExecutionState, transaction: Transaction, sender: Address) -> None:
        """Before anything of the transaction is applied."""
        ...

    def end(self, state: ExecutionState, outcome: Outcome) -> None:
        """After fees, deletions and all; the state is as the next transaction finds it."""
        ...

    def enter(self, computation: Computation) -> None:
        """A call's value has moved, its code not begun; ``computation.state.call_site`` says what called."""
        ...

    def leave(self, computation: Computation) -> None:
        """The call has its result, a creation its code."""
        ...

    def refuse(self, refused: RefusedCall) -> None: ...

    def selfdestruct(self, computation: Computation, beneficiary: Address, balance: int) -> None:
        """The contract has sent its balance away."""
        ...

    def before_opcode(self, computation: Computation, program_counter: int, opcode: int) -> None: ...
    def after_opcode(self, computation: Computation, opcode: int, error: VMError | None) -> None: ...


class SilentTracer:
    """Watches nothing and remembers nothing."""

    watched: frozenset[int] = NO_OPCODES
    has_enough: bool = False

    def begin(self, state: ExecutionState, transaction: Transaction, sender: Address) -> None:
        """Nothing to prepare."""

    def end(self, state: ExecutionState, outcome: Outcome) -> None:
        """Nothing to complete."""

    def enter(self, computation: Computation) -> None:
        """Calls are not watched."""

    def leave(self, computation: Computation) -> None:
        """Calls are not watched."""

    def refuse(self, refused: RefusedCall) -> None:
        """Calls are not watched."""

    def selfdestruct(self, computation: Computation, beneficiary: Address, balance: int) -> None:
        """Deletions are not watched."""

    def before_opcode(self, computation: Computation, program_counter: int, opcode: int) -> None:
        """Opcodes are not watched."""

    def after_opcode(self, computation: Computation, opcode: int, error: VMError | None) -> None:
        """Opcodes are not watched."""
