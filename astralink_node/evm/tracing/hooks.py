"""What a tracer is told: the interface between the machine and whoever watches it.

:class:`Tracer` is the interface, :class:`SilentTracer` one that ignores everything (geth's ``noopTracer``): a tracer
derives from it and overrides what it needs. A tracer changes nothing. What it raises, which must be no VMError, ends
the execution; the state is void then, as after an interrupt.

Order of calls for one transaction: ``begin``, then for the root call and every call within it ``enter`` and
``leave``, properly nested, then ``end``. A call that is refused before it starts is one ``refuse``. Opcodes are shown
only if they are in ``watched``, before and after they run; one that starts a call is followed by that call's
``enter`` before its own ``after_opcode``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from eth.exceptions import InsufficientStack, VMError

from astralink_node.errors import AstraLinkError
from astralink_node.types import ZERO_ADDRESS, Address

if TYPE_CHECKING:
    from astralink_node.evm.transaction_execution import Outcome
    from astralink_node.evm.transactions import Transaction
    from astralink_node.evm.vm import Computation, ExecutionState

CREATE: Final = 0xF0
CALL: Final = 0xF1
CALLCODE: Final = 0xF2
DELEGATECALL: Final = 0xF4
CREATE2: Final = 0xF5
STATICCALL: Final = 0xFA
SELFDESTRUCT: Final = 0xFF

CALLS: Final = frozenset({CALL, CALLCODE, DELEGATECALL, STATICCALL})
CREATIONS: Final = frozenset({CREATE, CREATE2})
LOGS: Final = frozenset(range(0xA0, 0xA5))
ALL_OPCODES: Final = frozenset(range(256))
NO_OPCODES: Final[frozenset[int]] = frozenset()

FRAME_KINDS: Final = {
    CREATE: "CREATE",
    CALL: "CALL",
    CALLCODE: "CALLCODE",
    DELEGATECALL: "DELEGATECALL",
    CREATE2: "CREATE2",
    STATICCALL: "STATICCALL",
    SELFDESTRUCT: "SELFDESTRUCT",
}

STACK_UNDERFLOW: Final = "stack underflow"

MAX_KEPT_BYTES: Final = 32 * 1024 * 1024
"""What the tracers of a run, or of several that are asked for together, may keep for their results: data by its length,
the objects around it by weights that are about what they take in memory. A call's input costs its caller nothing once
the memory is paid for, so gas alone does not bound it."""


class TraceTooLarge(AstraLinkError):
    """A trace that would keep more than its limit; the transaction cannot be traced in this way."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the trace is larger than {limit} bytes")
        self.limit = limit


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


class KeptBytes:
    """Counts what one or several tracers keep, and stops them at their limit."""

    __slots__ = ("_left", "_limit")

    def __init__(self, limit: int = MAX_KEPT_BYTES) -> None:
        self._limit = limit
        self._left = limit

    def add(self, size: int) -> None:
        """Raises :class:`TraceTooLarge`."""
        self._left -= size
        if self._left < 0:
            raise TraceTooLarge(self._limit)


def describe(error: VMError) -> str:
    """The kind of failure in geth's words; only a traced run knows the numbers of a stack underflow."""
    if isinstance(error, InsufficientStack):
        return str(error) if str(error).startswith(STACK_UNDERFLOW) else STACK_UNDERFLOW
    return _DESCRIPTIONS.get(type(error).__name__) or str(error) or type(error).__name__


_DESCRIPTIONS: Final = {
    "OutOfGas": "out of gas",
    "CodeDepositOutOfGas": "contract creation code storage out of gas",
    "CodeTooLarge": "max code size exceeded",
    "Revert": "execution reverted",
    "FullStack": "stack limit reached 1024 (1023)",
    "InvalidJumpDestination": "invalid jump destination",
    "WriteProtection": "write protection",
    "OutOfBoundsRead": "return data out of bounds",
    "ContractCreationCollision": "contract address collision",
    "ReservedBytesInCode": "invalid code: must not begin with 0xef",
}
