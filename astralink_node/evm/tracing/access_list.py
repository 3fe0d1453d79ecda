"""Finds the accounts and slots that a call touches, for eth_createAccessList."""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Final

from astralink_node.evm.tracing.hooks import CALLS, SELFDESTRUCT, SilentTracer
from astralink_node.evm.transactions import AccessList
from astralink_node.types import Address

if TYPE_CHECKING:
    from astralink_node.evm.vm import Computation

_SLOT_OPCODES: Final = frozenset({0x54, 0x55})  # SLOAD, SSTORE
_ADDRESS_OPCODES: Final = frozenset({0x31, 0x3B, 0x3C, 0x3F, SELFDESTRUCT})  # BALANCE, EXTCODE*
_ADDRESS_MASK: Final = (1 << 160) - 1


class AccessListTracer(SilentTracer):
    """Sees one transaction; touches count even where a call reverts, as geth has it."""

    watched = _SLOT_OPCODES | _ADDRESS_OPCODES | CALLS

    def __init__(self, known: AccessList, *, excluded: Set[Address]) -> None:
        self._excluded = excluded
        self._slots: dict[Address, set[int]] = {}
        for address, slots in known:
            if address not in excluded or slots:
                self._slots.setdefault(address, set()).update(slots)

    def access_list(self) -> AccessList:
        """Sorted, so that two runs that touch the same give the same list."""
        return tuple((address, tuple(sorted(slots))) for address, slots in sorted(self._slots.items()))

    def before_opcode(self, computation: Computation, program_counter: int, opcode: int) -> None:  # noqa: ARG002
        if opcode in _SLOT_OPCODES:
            stack = computation.stack_values
            if stack:
                self._slots.setdefault(computation.storage_address, set()).add(stack[-1])
        elif opcode in _ADDRESS_OPCODES:
            self._add_address(computation.stack_values, 1)
        else:
            self._add_address(computation.stack_values, 2)

    def _add_address(self, stack: list[int], position: int) -> None:
        if len(stack) >= position:
            address = Address((stack[-position] & _ADDRESS_MASK).to_bytes(20, "big"))
            if address not in self._excluded:
                self._slots.setdefault(address, set())
