"""What an opcode asks for in gas, worked out beside the machine: for lines of opcodes that failed.

The machine charges in steps and stops at the first that it cannot pay, so what it has charged says little. geth and
the specification (EELS) name the whole. Nothing here is charged to anyone. The rules are EIP-150, 2028, 2929, 3529,
3860, 5656 and 7702 as EELS's ``instructions`` have them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from astralink_node.evm.delegation import delegate_of
from astralink_node.evm.machine import CALL_STIPEND, WORD_BYTES, address_of, memory_gas
from astralink_node.evm.tracing.instructions import (
    ACCOUNT_READS,
    CALL,
    CALLCODE,
    CALLDATACOPY,
    CALLS,
    CODECOPY,
    CREATE,
    CREATE2,
    CREATIONS,
    DELEGATECALL,
    EXP,
    EXTCODECOPY,
    KECCAK256,
    LOGS,
    MCOPY,
    MLOAD,
    MSTORE,
    MSTORE8,
    RETURN,
    RETURNDATACOPY,
    REVERT,
    SELFDESTRUCT,
    SLOAD,
    SLOT_OPCODES,
    SSTORE,
    STACK_TAKEN,
    STATICCALL,
)
from astralink_node.types import Address

if TYPE_CHECKING:
    from astralink_node.evm.vm import Computation, ExecutionState

STATE_OPCODES: Final = ACCOUNT_READS | SLOT_OPCODES | CALLS | {SELFDESTRUCT}

LARGEST_COST: Final = 2**64 - 1
"""What is shown for anything above it; no one can pay that."""

WARM_GAS: Final = 100
COLD_ACCOUNT_GAS: Final = 2_600
COLD_SLOT_GAS: Final = 2_100
SET_GAS: Final = 20_000
RESET_GAS: Final = 5_000 - COLD_SLOT_GAS
CLEAR_REFUND: Final = 4_800
VALUE_GAS: Final = 9_000
NEW_ACCOUNT_GAS: Final = 25_000
CREATE_GAS: Final = 32_000
TOPIC_GAS: Final = 375
LOG_BYTE_GAS: Final = 8
EXP_BYTE_GAS: Final = 50

_WORD_GAS: Final = {
    # Per word of the operand that says how long: KECCAK256, the copies, initcode (with its hash for CREATE2).
    KECCAK256: (1, 6),
    CALLDATACOPY: (2, 3),
    CODECOPY: (2, 3),
    RETURNDATACOPY: (2, 3),
    MCOPY: (2, 3),
    EXTCODECOPY: (3, 3),
    CREATE: (2, 2),
    CREATE2: (2, 8),
}

_RANGES: Final[dict[int, tuple[tuple[int, int], ...]]] = {
    # Operands that are a range of memory: where, and how long.
    KECCAK256: ((0, 1),),
    CALLDATACOPY: ((0, 2),),
    CODECOPY: ((0, 2),),
    RETURNDATACOPY: ((0, 2),),
    MCOPY: ((0, 2), (1, 2)),
    EXTCODECOPY: ((1, 3),),
    CREATE: ((1, 2),),
    CREATE2: ((1, 2),),
    RETURN: ((0, 1),),
    REVERT: ((0, 1),),
    CALL: ((3, 4), (5, 6)),
    CALLCODE: ((3, 4), (5, 6)),
    DELEGATECALL: ((2, 3), (4, 5)),
    STATICCALL: ((2, 3), (4, 5)),
    **dict.fromkeys(LOGS, ((0, 1),)),
}
_FIXED_RANGES: Final = {MLOAD: WORD_BYTES, MSTORE: WORD_BYTES, MSTORE8: 1}


@dataclass(frozen=True, slots=True)
class Asked:
    """How things stand before an opcode, as far as its cost depends on them."""

    opcode: int
    operands: tuple[int, ...]
    """From the stack, its top first; fewer than it takes if they are not there."""
    gas_before: int
    memory_before: int
    """Bytes."""
    constant: int
    """What the dispatch table charges before anything else."""
    state_gas: int
    """For what it touches of the state, which is warm afterwards."""
    refund: int
    """That it adds to the transaction's, if it is an SSTORE."""

    @classmethod
    def of(cls, computation: Computation, opcode: int) -> Asked:
        taken, values = STACK_TAKEN[opcode], computation.stack_values
        operands = tuple(values[: -taken - 1 : -1]) if taken else ()
        state_gas, refund = 0, 0
        if opcode in STATE_OPCODES and len(operands) == taken:
            state_gas, refund = _state_gas(computation, opcode, operands)
        return cls(
            opcode,
            operands,
            computation.gas_left,
            len(computation.memory_content),
            computation.dispatch[opcode][0],
            state_gas,
            refund,
        )

    def cost(self) -> int:
        """All of it; of a call also the gas that it would hand on."""
        opcode, operands = self.opcode, self.operands
        if len(operands) < STACK_TAKEN[opcode]:
            return self.constant
        if opcode == SSTORE and self.gas_before <= CALL_STIPEND:
            return 0
        cost = self.constant + self.state_gas + self._memory_gas() + self._size_gas()
        if opcode in CALLS:
            left = self.gas_before - cost
            cost += operands[0] if left < 0 else min(operands[0], left - left // 64)
        return min(cost, LARGEST_COST)

    @property
    def is_payable(self) -> bool:
        return self.cost() <= self.gas_before and not (self.opcode == SSTORE and self.gas_before <= CALL_STIPEND)

    def _memory_gas(self) -> int:
        opcode, operands = self.opcode, self.operands
        end = 0
        if opcode in _FIXED_RANGES:
            end = operands[0] + _FIXED_RANGES[opcode]
        for start, size in _RANGES.get(opcode, ()):
            if operands[size]:
                end = max(end, operands[start] + operands[size])
        words, words_before = _words(end), self.memory_before // WORD_BYTES
        return memory_gas(words) - memory_gas(words_before) if words > words_before else 0

    def _size_gas(self) -> int:
        opcode, operands = self.opcode, self.operands
        cost = 0
        if opcode in _WORD_GAS:
            place, per_word = _WORD_GAS[opcode]
            cost = per_word * _words(operands[place])
        if opcode in CREATIONS:
            cost += CREATE_GAS
        elif opcode in LOGS:
            cost = TOPIC_GAS * (opcode - 0xA0) + LOG_BYTE_GAS * operands[1]
        elif opcode == EXP:
            cost = EXP_BYTE_GAS * ((operands[1].bit_length() + 7) // 8)
        return cost


def _state_gas(computation: Computation, opcode: int, operands: tuple[int, ...]) -> tuple[int, int]:
    """For an opcode of STATE_OPCODES: (gas, refund)."""
    state = computation.state
    if opcode == SLOAD:
        return _slot_gas(computation, operands[0], WARM_GAS), 0
    if opcode == SSTORE:
        return _store_gas(computation, operands[0], operands[1])
    if opcode in CALLS:
        return _call_gas(state, opcode, operands), 0
    address = address_of(operands[0])
    if opcode == SELFDESTRUCT:
        gas = 0 if state.is_address_warm(address) else COLD_ACCOUNT_GAS
        if state.overlay.account_is_empty(address) and state.overlay.get_balance(computation.storage_address):
            gas += NEW_ACCOUNT_GAS
        return gas, 0
    return _account_gas(state, address), 0


def _call_gas(state: ExecutionState, opcode: int, operands: tuple[int, ...]) -> int:
    target = address_of(operands[1])
    value = operands[2] if opcode in (CALL, CALLCODE) else 0
    gas = _account_gas(state, target)
    delegate = delegate_of(state.overlay.get_code(target))
    if delegate is not None:
        gas += WARM_GAS if delegate == target else _account_gas(state, delegate)
    if value:
        gas += VALUE_GAS
        if opcode == CALL and state.overlay.account_is_empty(target):
            gas += NEW_ACCOUNT_GAS
    return gas


def _store_gas(computation: Computation, slot: int, value: int) -> tuple[int, int]:
    """EIP-2200 with EIP-2929's and EIP-3529's numbers."""
    if computation.gas_left <= CALL_STIPEND:
        return 0, 0
    overlay, account = computation.state.overlay, computation.storage_address
    current, original = overlay.get_storage(account, slot), overlay.get_storage(account, slot, from_journal=False)
    gas, refund = WARM_GAS, 0
    if original == current != value:
        gas = RESET_GAS if original else SET_GAS
    if current != value:
        if original and current and not value:
            refund += CLEAR_REFUND
        if original and not current:
            refund -= CLEAR_REFUND
        if original == value:
            refund += (RESET_GAS if original else SET_GAS) - WARM_GAS
    return gas + (0 if overlay.is_storage_warm(account, slot) else COLD_SLOT_GAS), refund


def _slot_gas(computation: Computation, slot: int, warm: int) -> int:
    is_warm = computation.state.overlay.is_storage_warm(computation.storage_address, slot)
    return warm if is_warm else COLD_SLOT_GAS


def _account_gas(state: ExecutionState, address: Address) -> int:
    return WARM_GAS if state.is_address_warm(address) else COLD_ACCOUNT_GAS


def _words(size: int) -> int:
    return (size + WORD_BYTES - 1) // WORD_BYTES
