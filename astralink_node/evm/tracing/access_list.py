"""Finds the accounts and slots that a call touches, for eth_createAccessList."""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Final

from astralink_node.evm.machine import address_of
from astralink_node.evm.tracing.hooks import SilentTracer
from astralink_node.evm.tracing.instructions import ACCOUNT_READS, CALLS, SELFDESTRUCT, SLOT_OPCODES
from astralink_node.evm.transactions import AccessList
from astralink_node.types import Address

if TYPE_CHECKING:
    from astralink_node.evm.vm import Computation

_FIRST_OPERAND: Final = ACCOUNT_READS | {SELFDESTRUCT}
"""Is an address; a call's is its second."""


class AccessListTracer(SilentTracer):
    """Sees one transaction; touches count even where a call reverts, as geth has it."""

    watched = SLOT_OPCODES | _FIRST_OPERAND | CALLS

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
        if opcode in SLOT_OPCODES:
            stack = computation.stack_values
            if stack:
                self._slots.setdefault(computation.storage_address, set()).add(stack[-1])
        elif opcode in _FIRST_OPERAND:
            self._add_address(computation.stack_values, 1)
        else:
            self._add_address(computation.stack_values, 2)

    def _add_address(self, stack: list[int], position: int) -> None:
        if len(stack) >= position:
            address = address_of(stack[-position])
            if address not in self._excluded:
                self._slots.setdefault(address, set())
