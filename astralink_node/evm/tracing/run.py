"""Runs a call's code under the eyes of a tracer: the slow twin of the loop in vm.py.

The same operations run in the same order; beside them it notes which opcode makes a call, notices calls that never
start, and shows a SELFDESTRUCT. Nothing here decides anything about gas or state. Where two things are wrong with an
opcode, the error named is the one that geth and EELS look at first: the stack, then the gas, then the operands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from eth.exceptions import (
    ContractCreationCollision,
    Halt,
    InsufficientStack,
    OutOfBoundsRead,
    OutOfGas,
    VMError,
    WriteProtection,
)

from astralink_node.evm.created_addresses import contract_address, create2_address
from astralink_node.evm.machine import CALL_STIPEND, WORD_BYTES, Message, address_of, memory_gas
from astralink_node.evm.tracing.costs import CREATE_GAS, Asked
from astralink_node.evm.tracing.failure_words import SSTORE_SENTRY, STACK_UNDERFLOW, describe
from astralink_node.evm.tracing.hooks import ROOT_CREATION, CallSite, RefusedCall, Tracer
from astralink_node.evm.tracing.instructions import (
    CALL,
    CALLCODE,
    CALLS,
    CREATE2,
    CREATIONS,
    DELEGATECALL,
    LOGS,
    RETURNDATACOPY,
    SELFDESTRUCT,
    SSTORE,
    STACK_TAKEN,
    STATICCALL,
)
from astralink_node.types import ZERO_ADDRESS, Address

if TYPE_CHECKING:
    from astralink_node.evm.vm import Computation

TRACED_OPCODES_PER_CHECK: Final = 64
"""How many traced opcodes one call runs between two looks at the interrupt: traced ones are slower than others."""

MAX_CALL_DEPTH: Final = 1024
MAX_NONCE: Final = 2**64 - 1
"""EIP-2681: an account of this nonce creates nothing."""
INITCODE_WORD_GAS: Final = 2
KECCAK_WORD_GAS: Final = 6

TOO_DEEP: Final = "max call depth exceeded"
NO_BALANCE: Final = "insufficient balance for transfer"
NONCE_OVERFLOW: Final = "nonce uint64 overflow"
COLLISION: Final = "contract address collision"

_SITES: Final = CALLS | CREATIONS | {SELFDESTRUCT}
_LOOKED_AT_FIRST: Final = frozenset({RETURNDATACOPY})
_LOOKED_AT_FIRST_IF_STATIC: Final = _LOOKED_AT_FIRST | LOGS | CREATIONS | {SSTORE, CALL, SELFDESTRUCT}
"""Opcodes whose operands, or whose right to write, the machine judges before it charges."""
_CHECK_PERIOD: Final = range(TRACED_OPCODES_PER_CHECK)


def run_traced(computation: Computation, tracer: Tracer) -> None:
    """Run the code from its program counter to its end. Raises VMError where the call fails."""
    code, state, values = computation.code, computation.state, computation.stack_values
    looked_at_first = _LOOKED_AT_FIRST_IF_STATIC if computation.msg.is_static else _LOOKED_AT_FIRST
    watched, interrupt, meter = tracer.watched, state.interrupt, computation._gas_meter
    dispatch, operations, padded = computation.dispatch, computation.traced_operations, code.padded
    while True:
        if interrupt is not None:
            interrupt()
        if tracer.has_enough:
            state.tracer = None
            computation.run_code()
            return
        for _ in _CHECK_PERIOD:
            position = code.program_counter
            opcode = padded[position]
            code.program_counter = position + 1
            gas, mnemonic, _, _ = dispatch[opcode]
            seen = opcode in watched
            if seen:
                tracer.before_opcode(computation, position, opcode)
            site = _Site.of(computation, opcode) if opcode in _SITES else None
            try:
                asked = Asked.of(computation, opcode) if opcode in looked_at_first else None
                if len(values) < STACK_TAKEN[opcode]:
                    raise InsufficientStack(f"{STACK_UNDERFLOW} ({len(values)} <=> {STACK_TAKEN[opcode]})")
                meter.consume_gas(gas, mnemonic)
                operations[opcode](computation)
            except Halt:
                if site is not None:
                    tracer.selfdestruct(computation, site.target, site.balance)
                if seen:
                    tracer.after_opcode(computation, opcode, None)
                return
            except VMError as failure:
                error = failure
                if isinstance(error, (WriteProtection, OutOfBoundsRead)) and asked is not None and not asked.is_payable:
                    below_sentry = opcode == SSTORE and asked.gas_before <= CALL_STIPEND
                    error = OutOfGas(SSTORE_SENTRY if below_sentry else "which counts before what the operands are")
                if seen:
                    tracer.after_opcode(computation, opcode, error)
                raise error from None
            if state.tracer is None:
                break  # it had enough in the call that has just returned
            if site is not None and site.frames_entered == state.frames_entered:
                tracer.refuse(site.refusal(computation))
            if seen:
                tracer.after_opcode(computation, opcode, None)


@dataclass(frozen=True, slots=True)
class _Site:
    """How things stand before an opcode that may start a call, or end its contract."""

    opcode: int
    operands: tuple[int, ...]
    """From the stack, its top first."""
    target: Address
    gas_before: int
    memory_before: int
    """Bytes."""
    frames_entered: int
    balance: int
    """Of the executing account; looked up for a SELFDESTRUCT only."""

    @classmethod
    def of(cls, computation: Computation, opcode: int) -> _Site | None:
        """None if the stack is too short: the opcode is going to fail."""
        values, state = computation.stack_values, computation.state
        taken = STACK_TAKEN[opcode]
        if len(values) < taken:
            return None
        operands = tuple(values[: -taken - 1 : -1])
        target, balance = ZERO_ADDRESS, 0
        if opcode in CALLS:
            target = address_of(operands[1])
        elif opcode == SELFDESTRUCT:
            target, balance = address_of(operands[0]), state.overlay.get_balance(computation.storage_address)
        state.call_site = CallSite(opcode, target)
        return cls(
            opcode,
            operands,
            target,
            computation.gas_left,
            len(computation.memory_content),
            state.frames_entered,
            balance,
        )

    def refusal(self, computation: Computation) -> RefusedCall:
        """What was refused and why, once the opcode has gone on without its call."""
        return self._refused_creation(computation) if self.opcode in CREATIONS else self._refused_call(computation)

    def _refused_call(self, computation: Computation) -> RefusedCall:
        has_value = self.opcode in (CALL, CALLCODE)
        requested, value, place = self.operands[0], self.operands[2] if has_value else 0, 3 if has_value else 2
        stipend = CALL_STIPEND if value else 0
        # The opcode has paid for the access and got the call's gas back, stipend included.
        available = computation.gas_left - stipend
        gas = min(requested, available - available // 64) + stipend
        message = computation.msg
        shown = {CALL: value, CALLCODE: value, DELEGATECALL: message.value, STATICCALL: None}[self.opcode]
        return RefusedCall(
            opcode=self.opcode,
            depth=message.depth + 1,
            sender=computation.storage_address,
            to=self.target,
            value=shown,
            gas=gas,
            gas_used=0,
            input=_memory(computation, self.operands[place], self.operands[place + 1]),
            error=TOO_DEEP if message.depth + 1 > MAX_CALL_DEPTH else NO_BALANCE,
            opcode_cost=self.gas_before - computation.gas_left + gas,
        )

    def _refused_creation(self, computation: Computation) -> RefusedCall:
        value, start, size = self.operands[:3]
        sender, overlay = computation.storage_address, computation.state.overlay
        nonce = overlay.get_nonce(sender)
        cost = self._creation_cost(size, len(computation.memory_content))
        available = self.gas_before - cost
        error = COLLISION
        if computation.msg.depth + 1 > MAX_CALL_DEPTH:
            error = TOO_DEEP
        elif overlay.get_balance(sender) < value:
            error = NO_BALANCE
        elif nonce == MAX_NONCE and computation.gas_left == available:
            error = NONCE_OVERFLOW
        else:
            # A creation that collides has raised the nonce already.
            nonce -= 1
        gas = available - available // 64
        initcode = _memory(computation, start, size)
        is_create2 = self.opcode == CREATE2
        return RefusedCall(
            opcode=self.opcode,
            depth=computation.msg.depth + 1,
            sender=sender,
            to=create2_address(sender, self.operands[3], initcode) if is_create2 else contract_address(sender, nonce),
            value=value,
            gas=gas,
            gas_used=gas if error == COLLISION else 0,
            input=initcode,
            error=error,
            opcode_cost=cost,
        )

    def _creation_cost(self, size: int, memory_after: int) -> int:
        words = (size + WORD_BYTES - 1) // WORD_BYTES
        per_word = INITCODE_WORD_GAS + (KECCAK_WORD_GAS if self.opcode == CREATE2 else 0)
        memory = memory_gas(memory_after // WORD_BYTES) - memory_gas(self.memory_before // WORD_BYTES)
        return CREATE_GAS + words * per_word + memory


def root_site(message: Message) -> CallSite:
    """The opcode that a transaction, or a call by the protocol, stands for."""
    return ROOT_CREATION if message.is_create else CallSite(CALL, message.storage_address)


def refused_root(message: Message, error: ContractCreationCollision) -> RefusedCall:
    """A creating transaction whose address is taken: all of its gas is gone."""
    return RefusedCall(
        opcode=ROOT_CREATION.opcode,
        depth=0,
        sender=message.sender,
        to=message.storage_address,
        value=message.value,
        gas=message.gas,
        gas_used=message.gas,
        input=message.code,
        error=describe(error),
        opcode_cost=0,
    )


def _memory(computation: Computation, start: int, size: int) -> bytes:
    return bytes(computation.memory_content[start : start + size]) if size else b""
