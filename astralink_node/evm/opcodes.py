"""A fork's dispatch table: py-evm's Prague opcodes, with the commonest stack, jump and memory ones made short.

The replacements do what py-evm's do, in gas, effect and failure; the others are py-evm's own functions. Osaka
adds CLZ (EIP-7939).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from eth.exceptions import FullStack, InsufficientStack, InvalidJumpDestination
from eth.vm.forks.prague.opcodes import PRAGUE_OPCODES
from eth.vm.logic.invalid import InvalidOpcode

from astralink_node.evm.fork_rules import ForkRules
from astralink_node.evm.machine import STACK_LIMIT, WORD_BYTES

if TYPE_CHECKING:
    from astralink_node.evm.vm import Computation

Operation = Callable[[Any], None]
DispatchTable = tuple[tuple[int, str, Operation], ...]
"""By opcode: gas charged beforehand, mnemonic, what to call."""

CLZ: Final = 0x1E
CLZ_GAS: Final = 5
_JUMP, _JUMPI, _PC, _GAS, _JUMPDEST = 0x56, 0x57, 0x58, 0x5A, 0x5B
_POP, _MLOAD, _MSTORE, _MSTORE8, _MCOPY = 0x50, 0x51, 0x52, 0x53, 0x5E
_CALLDATALOAD, _CALLDATACOPY, _CODECOPY = 0x35, 0x37, 0x39
_PUSH0, _DUP1, _SWAP1 = 0x5F, 0x80, 0x90
_WORD_BITS: Final = 256
_COPY_WORD_GAS: Final = 3


def dispatch_table(fork: ForkRules) -> DispatchTable:
    replacements: dict[int, Operation] = {
        _POP: pop,
        _MLOAD: mload,
        _MSTORE: mstore,
        _MSTORE8: mstore8,
        _CALLDATALOAD: calldataload,
        _CALLDATACOPY: calldatacopy,
        _CODECOPY: codecopy,
        _MCOPY: mcopy,
        _JUMP: jump,
        _JUMPI: jumpi,
        _PC: program_counter,
        _GAS: gas,
        **{_PUSH0 + size: push(size) for size in range(33)},
        **{_DUP1 + position: dup(position + 1) for position in range(16)},
        **{_SWAP1 + position: swap(position + 1) for position in range(16)},
    }
    table: list[tuple[int, str, Operation]] = []
    for value in range(256):
        # SELFDESTRUCT wears a wrapper that prints a deprecation warning.
        opcode = getattr(PRAGUE_OPCODES.get(value), "__wrapped__", PRAGUE_OPCODES.get(value))
        if value == CLZ and fork.clz:
            table.append((CLZ_GAS, "CLZ", count_leading_zeros))
        elif opcode is None:
            table.append((0, "INVALID", InvalidOpcode(value).__call__))
        elif hasattr(opcode, "logic_fn"):
            table.append((opcode.gas_cost, opcode.mnemonic, replacements.get(value, opcode.logic_fn)))
        else:
            # Calls and creations charge by themselves. The bound method keeps C frames out of nested calls.
            table.append((0, opcode.mnemonic, opcode.__call__))
    return tuple(table)


def count_leading_zeros(computation: Computation) -> None:
    """EIP-7939: 256 for zero."""
    computation.stack_push_int(_WORD_BITS - computation.stack_pop1_int().bit_length())


def push(size: int) -> Operation:
    def push_bytes_of_code(computation: Computation) -> None:
        code, values = computation.code, computation.stack_values
        if len(values) >= STACK_LIMIT:
            raise FullStack("stack limit reached")
        start = code.program_counter
        code.program_counter = end = start + size
        values.append(int.from_bytes(code.padded[start:end], "big"))

    return push_bytes_of_code


def dup(position: int) -> Operation:
    def duplicate(computation: Computation) -> None:
        values = computation.stack_values
        count = len(values)
        if count < position:
            raise InsufficientStack(f"wanted {position} stack items, had {count}")
        if count >= STACK_LIMIT:
            raise FullStack("stack limit reached")
        values.append(values[-position])

    return duplicate


def swap(position: int) -> Operation:
    index = -position - 1

    def exchange(computation: Computation) -> None:
        values = computation.stack_values
        if len(values) <= position:
            raise InsufficientStack(f"wanted {position + 1} stack items, had {len(values)}")
        values[-1], values[index] = values[index], values[-1]

    return exchange


def pop(computation: Computation) -> None:
    values = computation.stack_values
    if not values:
        raise InsufficientStack("wanted 1 stack item, had none")
    values.pop()


def jump(computation: Computation) -> None:
    values = computation.stack_values
    if not values:
        raise InsufficientStack("wanted 1 stack item, had none")
    _jump_to(computation, values.pop())


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
        content = computation.memory_content
        content[to : to + size] = content[start : start + size]


def _copy_to_memory(computation: Computation, source: bytes, reason: str) -> None:
    """Behind the source's end there are zeros. The memory is paid for before anything as long is made."""
    to, start, size = computation.stack_pop_ints(3)
    if size:
        computation.extend_memory(to, size)
        computation.consume_gas(_COPY_WORD_GAS * ((size + 31) >> 5), reason)
        computation.memory_content[to : to + size] = source[start : start + size].ljust(size, b"\0")


def _jump_to(computation: Computation, destination: int) -> None:
    code = computation.code
    if destination not in code.destinations:
        raise InvalidJumpDestination(f"{destination} is no JUMPDEST")
    code.program_counter = destination
