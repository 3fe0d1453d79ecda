"""geth's ``prestateTracer``: the accounts and slots that a transaction touches, as they were before it.

Touched are the sender, the recipient, the coinbase, EIP-7702's authorities and the accounts that hold delegated code,
and whatever an opcode names that can be paid: an account's balance, code or hash, a call's target, a beneficiary, a
created address, a storage slot. With ``diff_mode`` only what changed is shown, before and after.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from astralink_node.evm.created_addresses import contract_address, create2_address
from astralink_node.evm.delegation import delegate_of
from astralink_node.evm.machine import address_of
from astralink_node.evm.tracing.costs import Asked
from astralink_node.evm.tracing.hooks import SilentTracer
from astralink_node.evm.tracing.instructions import (
    ACCOUNT_READS,
    CALLS,
    CREATE,
    CREATE2,
    CREATIONS,
    SELFDESTRUCT,
    SLOT_OPCODES,
    STACK_TAKEN,
)
from astralink_node.evm.tracing.kept_bytes import KeptBytes
from astralink_node.evm.tracing.options import TouchedAccounts
from astralink_node.evm.tracing.records import Prestate, TouchedAccount
from astralink_node.evm.transactions import MAX_INITCODE_BYTES, recover_authority
from astralink_node.types import Address

if TYPE_CHECKING:
    from astralink_node.evm.transaction_execution import Outcome
    from astralink_node.evm.transactions import Transaction
    from astralink_node.evm.vm import Computation, ExecutionState
    from astralink_node.state.overlay import Overlay

ACCOUNT_BYTES: Final = 1000
SLOT_BYTES: Final = 500
"""What an account without code and a slot are counted as."""


@dataclass(slots=True)
class _Before:
    balance: int
    nonce: int
    code: bytes
    slots: dict[int, int] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not (self.balance or self.nonce or self.code)


class PrestateTracer(SilentTracer):
    """One instance traces one transaction."""

    watched = SLOT_OPCODES | ACCOUNT_READS | {SELFDESTRUCT} | CALLS | CREATIONS

    def __init__(self, options: TouchedAccounts | None = None, kept: KeptBytes | None = None) -> None:
        self._options = options or TouchedAccounts()
        self._before: dict[Address, _Before] = {}
        self._kept = kept or KeptBytes()
        self._result = Prestate((), (), self._options.diff_mode)

    def result(self) -> Prestate:
        """Empty until the transaction is over."""
        return self._result

    def begin(self, state: ExecutionState, transaction: Transaction, sender: Address) -> None:
        overlay = state.overlay
        to = Address(transaction.to)
        if not to:
            to = contract_address(sender, overlay.get_nonce(sender))
        for address in (sender, to, state.execution_context.coinbase):
            self._touch(overlay, address)
        for authorization in transaction.authorizations:
            authority = recover_authority(authorization)
            if authority is not None:
                self._touch(overlay, authority)
        self._touch_delegate(overlay, to)

    def enter(self, computation: Computation) -> None:
        """An authorization of this very transaction may have made the recipient delegate."""
        message = computation.msg
        if not message.depth and not message.is_create:
            self._touch_delegate(computation.state.overlay, message.storage_address)

    def before_opcode(self, computation: Computation, program_counter: int, opcode: int) -> None:  # noqa: ARG002
        values, overlay = computation.stack_values, computation.state.overlay
        if len(values) < STACK_TAKEN[opcode] or not Asked.of(computation, opcode).is_payable:
            return
        if opcode in SLOT_OPCODES:
            self._touch_slot(overlay, computation.storage_address, values[-1])
        elif opcode in CALLS:
            target = address_of(values[-2])
            self._touch(overlay, target)
            self._touch_delegate(overlay, target)
        elif opcode in CREATIONS:
            if values[-3] <= MAX_INITCODE_BYTES:
                self._touch(overlay, _created(computation, opcode))
        else:
            self._touch(overlay, address_of(values[-1]))

    def end(self, state: ExecutionState, outcome: Outcome) -> None:  # noqa: ARG002
        options, before = self._options, self._before
        if options.diff_mode:
            # EIP-6780: they were created by this transaction.
            self._result = self._difference(state.overlay, frozenset(state.accounts_to_delete))
            return
        pre = tuple(
            self._shown(address, account.balance, account.nonce, account.code, account.slots)
            for address, account in sorted(before.items())
            if options.with_empty or not account.is_empty
        )
        self._result = Prestate(pre, (), is_diff=False)

    def _difference(self, overlay: Overlay, deleted: frozenset[Address]) -> Prestate:
        """What was deleted is shown as it was before, if it was anything."""
        pre, post = [], []
        for address, before in sorted(self._before.items()):
            if address in deleted:
                slots = before.slots
            else:
                now = {slot: overlay.get_storage(address, slot) for slot in before.slots}
                changed = {slot: value for slot, value in now.items() if value != before.slots[slot]}
                after = self._changed(overlay, address, before, changed)
                if after is None:
                    continue
                post.append(after)
                slots = {slot: before.slots[slot] for slot in changed}
            if not before.is_empty:
                slots = {slot: value for slot, value in slots.items() if value}
                pre.append(self._shown(address, before.balance, before.nonce, before.code, slots))
        return Prestate(tuple(pre), tuple(post), is_diff=True)

    def _changed(
        self, overlay: Overlay, address: Address, before: _Before, slots: dict[int, int]
    ) -> TouchedAccount | None:
        """Only the fields that are others than before; a slot that was cleared is not shown. None: no change."""
        balance, nonce, code = overlay.get_balance(address), overlay.get_nonce(address), overlay.get_code(address)
        slots = slots if self._options.with_storage else {}
        code_changed = code != before.code
        if balance == before.balance and nonce == before.nonce and not code_changed and not slots:
            return None
        return TouchedAccount(
            address,
            balance=None if balance == before.balance else balance,
            nonce=None if nonce == before.nonce else nonce,
            code=code if code_changed and self._options.with_code else None,
            storage=tuple(sorted((slot, value) for slot, value in slots.items() if value)),
        )

    def _shown(self, address: Address, balance: int, nonce: int, code: bytes, slots: dict[int, int]) -> TouchedAccount:
        options = self._options
        return TouchedAccount(
            address,
            balance=balance,
            nonce=nonce or None,
            code=code if options.with_code and code else None,
            storage=tuple(sorted(slots.items())) if options.with_storage else (),
        )

    def _touch(self, overlay: Overlay, address: Address) -> _Before:
        known = self._before.get(address)
        if known is None:
            code = overlay.get_code(address)
            self._kept.add(ACCOUNT_BYTES + len(code))
            known = _Before(overlay.get_balance(address), overlay.get_nonce(address), code)
            self._before[address] = known
        return known

    def _touch_slot(self, overlay: Overlay, address: Address, slot: int) -> None:
        slots = self._touch(overlay, address).slots
        if slot not in slots:
            self._kept.add(SLOT_BYTES)
            slots[slot] = overlay.get_storage(address, slot)

    def _touch_delegate(self, overlay: Overlay, address: Address) -> None:
        delegate = delegate_of(overlay.get_code(address))
        if delegate is not None:
            self._touch(overlay, delegate)


def _created(computation: Computation, opcode: int) -> Address:
    """The memory may still have to grow for the opcode: what lies behind its end is zeros."""
    sender = computation.storage_address
    if opcode == CREATE:
        return contract_address(sender, computation.state.overlay.get_nonce(sender))
    _, start, size, salt = computation.stack_values[: -STACK_TAKEN[CREATE2] - 1 : -1]
    initcode = bytes(computation.memory_content[start : start + size]).ljust(size, b"\0")
    return create2_address(sender, salt, initcode)
