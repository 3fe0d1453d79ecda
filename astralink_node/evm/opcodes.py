"""A fork's dispatch table: py-evm's Prague opcodes, with the commonest stack, jump and memory ones made short.

The replacements do what py-evm's do, in gas, effect and failure; the others are py-evm's own functions. Osaka
adds CLZ (EIP-7939). Each entry says how the loop in vm.py runs it: by the stack alone, in the loop itself (PUSH and
jumps), or on the whole computation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from eth.exceptions import FullStack, InsufficientStack, InvalidInstruction, InvalidJumpDestination, OutOfGas
from eth.vm.forks.prague.opcodes import PRAGUE_OPCODES
from eth.vm.logic.system import Create, CreateOpcodeStackData

from astralink_node.evm import stack_operations
from astralink_node.evm.fork_rules import ForkRules
from astralink_node.evm.machine import BULK_BYTES, STACK_LIMIT, WORD_BYTES
from astralink_node.evm.tracing.instructions import OPCODE_NAMES
from astralink_node.evm.transactions import MAX_INITCODE_BYTES

if TYPE_CHECKING:
    from astralink_node.evm.vm import Computation

Operation = Callable[[Any], None]
DispatchTable = tuple[tuple[int, str, int, Operation], ...]
"""By opcode: gas charged beforehand, mnemonic, way (below), and what to call with the stack or the computation.
The way of a PUSH is how many bytes it pushes."""

ON_STACK: Final = 0
"""Called with the stack's list; IndexError means underflow."""
ON_COMPUTATION: Final = -1
"""Called with the computation; program counter and gas must stand in it."""
JUMP: Final = -2
JUMPI: Final = -3

_JUMP, _JUMPI, _PC, _GAS = 0x56, 0x57, 0x58, 0x5A
_MLOAD, _MSTORE, _MSTORE8, _MCOPY = 0x51, 0x52, 0x53, 0x5E
_CALLDATALOAD, _CALLDATACOPY, _CODECOPY = 0x35, 0x37, 0x39
_PUSH0: Final = 0x5F
_LONGEST_PUSH: Final = 32
_COPY_WORD_GAS: Final = 3


def dispatch_table(fork: ForkRules) -> DispatchTable:
    on_stack = dict(stack_operations.PRAGUE)
    if fork.clz:
        on_stack[stack_operations.CLZ] = stack_operations.count_leading_zeros
    return tuple(_entry(value, on_stack.get(value)) for value in range(256))


def traced_operations(dispatch: DispatchTable) -> tuple[Operation, ...]:
    """The same operations to be called with a computation, whatever their way."""
    return tuple(_traced(way, run) for _, _, way, run in dispatch)


def _traced(way: int, run: Operation) -> Operation:
    if way == ON_STACK:
        return _on_computation(run)
    if way == JUMP:
        return jump
    if way == JUMPI:
        return jumpi
    return run if way == ON_COMPUTATION else push(way)


def _entry(value: int, on_stack: Operation | None) -> tuple[int, str, int, Operation]:
    # SELFDESTRUCT wears a wrapper that prints a deprecation warning.
    opcode = getattr(PRAGUE_OPCODES.get(value), "__wrapped__", PRAGUE_OPCODES.get(value))
    if opcode is None:
        if on_stack is not None:
            return stack_operations.CLZ_GAS, "CLZ", ON_STACK, on_stack
        return 0, "INVALID", ON_COMPUTATION, _invalid(value)
    if not hasattr(opcode, "logic_fn"):
        # Calls and creations charge by themselves. The bound method keeps C frames out of nested calls.
        if isinstance(opcode, Create):
            opcode = type(opcode.mnemonic, (_BoundedInitcode, type(opcode)), {})()
        return 0, opcode.mnemonic, ON_COMPUTATION, opcode.__call__
    if on_stack is not None:
        return opcode.gas_cost, opcode.mnemonic, ON_STACK, on_stack
    if _PUSH0 < value <= _PUSH0 + _LONGEST_PUSH:
        return opcode.gas_cost, opcode.mnemonic, value - _PUSH0, opcode.logic_fn
    way = {_JUMP: JUMP, _JUMPI: JUMPI}.get(value, ON_COMPUTATION)
    return opcode.gas_cost, opcode.mnemonic, way, _REPLACEMENTS.get(value, opcode.logic_fn)


def _invalid(value: int) -> Operation:
    name = OPCODE_NAMES[value]

    def fail(_computation: Computation) -> None:
        raise InvalidInstruction(f"invalid opcode: {name}")

    return fail


class InitcodeTooLong(OutOfGas):  # type: ignore[misc]
    """EIP-3860, of an opcode. Its words are geth's."""


class _BoundedInitcode:
    """EIP-3860: too long initcode ends the creating call, also where the creation would fail in a milder way.

    py-evm looks at the length only once balance, depth, nonce and collision allow the creation.
    """

    def get_gas_cost(self, data: CreateOpcodeStackData) -> int:
        if data.memory_length > MAX_INITCODE_BYTES:
            raise InitcodeTooLong(f"out of gas: max initcode size exceeded: size {data.memory_length}")
        return int(super().get_gas_cost(data))  # type: ignore[misc]


def _on_computation(operation: Operation) -> Operation:
    def run(computation: Computation) -> None:
        try:
            operation(computation.stack_values)
        except IndexError:
            raise InsufficientStack("stack underflow") from None

    return run


def push(size: int) -> Operation:
    def push_bytes_of_code(computation: Computation) -> None:
        code, values = computation.code, computation.stack_values
        if len(values) >= STACK_LIMIT:
            raise FullStack("stack limit reached")
        start = code.program_counter
        code.program_counter = end = start + size
        values.append(int.from_bytes(code.padded[start:end], "big"))

    return push_bytes_of_code


def jump(computation: Computation) -> None:
    _jump_to(computation, computation.stack_pop1_int())


def jumpi(computation: Computation) -> None:
    destination, condition = computation.stack_pop_ints(2)
    if condition:
        _jump_to(computation, destination)


def program_counter(computation: Computation) -> None:
    computation.stack_push_int(computation.code.program_counter - 1)


def gas(computation: Computation) -> None:
    computation.stack_push_int(computation.gas_left)


def mload(computation: Computation) -> None:
    start = computation.stack_pop1_int()
    computation.extend_memory(start, WORD_BYTES)
    computation.stack_push_int(int.from_bytes(computation.memory_content[start : start + WORD_BYTES], "big"))


def mstore(computation: Computation) -> None:
    start, value = computation.stack_pop_ints(2)
    computation.extend_memory(start, WORD_BYTES)
    computation.memory_content[start : start + WORD_BYTES] = value.to_bytes(WORD_BYTES, "big")


def mstore8(computation: Computation) -> None:
    start, value = computation.stack_pop_ints(2)
    computation.extend_memory(start, 1)
    computation.memory_content[start] = value & 0xFF


def calldataload(computation: Computation) -> None:
    start = computation.stack_pop1_int()
    word = computation.msg.data_as_bytes[start : start + WORD_BYTES]
    computation.stack_push_int(int.from_bytes(word.ljust(WORD_BYTES, b"\0"), "big"))


def calldatacopy(computation: Computation) -> None:
    _copy_to_memory(computation, computation.msg.data_as_bytes, "CALLDATACOPY")


def codecopy(computation: Computation) -> None:
    _copy_to_memory(computation, computation.code.raw, "CODECOPY")


def mcopy(computation: Computation) -> None:
    """EIP-5656: the ranges may overlap."""
    to, start, size = computation.stack_pop_ints(3)
    if size:
        computation.extend_memory(max(to, start), size)
        computation.consume_gas(_COPY_WORD_GAS * ((size + 31) >> 5), "MCOPY")
        if size >= BULK_BYTES:
            computation.memory_copy(to, start, size)  # looks at the interrupt
            return
        content = computation.memory_content
        content[to : to + size] = content[start : start + size]


def _copy_to_memory(computation: Computation, source: bytes, reason: str) -> None:
    """Behind the source's end there are zeros. The memory is paid for before anything as long is made."""
    to, start, size = computation.stack_pop_ints(3)
    if size:
        computation.extend_memory(to, size)
        computation.consume_gas(_COPY_WORD_GAS * ((size + 31) >> 5), reason)
        value = source[start : start + size].ljust(size, b"\0")
        if size >= BULK_BYTES:
            computation.memory_write(to, size, value)  # looks at the interrupt
            return
        computation.memory_content[to : to + size] = value


def _jump_to(computation: Computation, destination: int) -> None:
    code = computation.code
    if destination not in code.destinations:
        raise InvalidJumpDestination(f"{destination} is no JUMPDEST")
    code.program_counter = destination


_REPLACEMENTS: Final[dict[int, Operation]] = {
    _MLOAD: mload,
    _MSTORE: mstore,
    _MSTORE8: mstore8,
    _CALLDATALOAD: calldataload,
    _CALLDATACOPY: calldatacopy,
    _CODECOPY: codecopy,
    _MCOPY: mcopy,
    _PC: program_counter,
    _GAS: gas,
}
