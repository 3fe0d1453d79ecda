"""Transactions that never happen: eth_call, eth_estimateGas and eth_createAccessList on any state.

Semantics are geth's: no signature, nonce or sender-code checks; with no fees given, gas is free and BASEFEE is
zero; estimates search as its ``gasestimator`` does. Work is bounded by a gas cap, and by an interrupt which is
called now and then and may raise. ``chain.calls`` maps the messages of ``chain.messages`` onto the dataclasses
here, field by field; nothing here changes the state that it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from eth.exceptions import OutOfGas, Revert, VMError

from astralink_node.crypto.addresses import checksum_address
from astralink_node.errors import AstraLinkError
from astralink_node.evm.created_addresses import contract_address
from astralink_node.evm.fork_rules import ChainRules, ForkRules
from astralink_node.evm.machine import CALL_STIPEND
from astralink_node.evm.overrides import (
    NO_BLOCK_OVERRIDES,
    AccountOverride,
    BlockOverrides,
    OverrideRefused,
    apply_account_overrides,
    overridden_precompiles,
)
from astralink_node.evm.pipeline import BlockContext
from astralink_node.evm.tracing.access_list import AccessListTracer
from astralink_node.evm.tracing.failure_words import describe
from astralink_node.evm.tracing.hooks import Tracer
from astralink_node.evm.transaction_encoding import new_transaction
from astralink_node.evm.transaction_execution import Outcome, execute_transaction
from astralink_node.evm.transactions import (
    ACCESS_LIST_TYPE,
    DYNAMIC_FEE_TYPE,
    LEGACY_TYPE,
    MAX_INITCODE_BYTES,
    SET_CODE_TYPE,
    TX_BASE_GAS,
    AccessList,
    Authorization,
    Transaction,
    intrinsic_gas,
)
from astralink_node.evm.vm import ExecutionState, precompiles_of
from astralink_node.state.accounts import Account
from astralink_node.state.flat_state import StateReader
from astralink_node.state.overlay import Overlay
from astralink_node.types import Address, Hash32

ESTIMATE_ERROR_PERMILLE: Final = 15
"""geth stops searching when the answer is known to 1.5 %."""
MAX_ACCESS_LIST_ROUNDS: Final = 8
"""A contract may go on finding new slots for ever; geth would follow it."""


class CallRefused(AstraLinkError):
    """A call that cannot start, or an estimate that cannot succeed.

    ``kind`` is one of ``insufficient_funds``, ``intrinsic_gas``, ``fee_cap``, ``initcode``, ``override``,
    ``invalid``, ``reverted``, ``out_of_gas``, ``halted``; of simulated blocks also ``nonce_too_low``,
    ``nonce_too_high``, ``nonce_max``, ``block_gas``, ``block_number``, ``block_time``, ``too_many_blocks``.
    ``output`` holds revert data.
    """

    def __init__(self, kind: str, message: str, output: bytes = b"") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.output = output


@dataclass(frozen=True, slots=True)
class CallParameters:
    """An unsigned transaction. Fees of None mean: none, and no balance is needed for gas."""

    sender: Address
    to: bytes
    """Empty for a creation."""
    data: bytes = b""
    value: int = 0
    gas: int | None = None
    gas_price: int | None = None
    max_fee_per_gas: int | None = None
    max_priority_fee_per_gas: int | None = None
    access_list: AccessList = ()
    authorizations: tuple[Authorization, ...] | None = None
    """A list, if only an empty one, asks for a transaction of type 4 (EIP-7702)."""
    nonce: int | None = None
    """Of simulated blocks alone; one call does not look at it."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """``status`` is ``ok``, ``reverted`` or ``halted``; ``halt_reason`` says why for the latter two."""

    status: str
    output: bytes
    gas_used: int
    halt_reason: str


@dataclass(frozen=True, slots=True)
class AccessListResult:
    access_list: AccessList
    gas_used: int
    """With that access list."""
    error: str
    """Empty if the call succeeded."""


class Simulation:
    """Calls under one block on one state. Not for use by two threads at once."""

    def __init__(
        self,
        rules: ChainRules,
        block: BlockContext,
        base: StateReader,
        *,
        gas_cap: int,
        overrides: Sequence[AccountOverride] = (),
        block_overrides: BlockOverrides = NO_BLOCK_OVERRIDES,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        """Raises :class:`CallRefused` for overrides that contradict each other."""
        self._rules = rules
        self._header_gas_limit = block.gas_limit
        self._block = block_overrides.applied_to(block)
        self._base = _CachedState(base)
        self._gas_cap = gas_cap
        self._overrides = tuple(overrides)
        self._interrupt = interrupt
        self._fork = rules.fork_at(self._block.number)
        try:
            self._precompiles = overridden_precompiles(
                precompiles_of(self._fork, native_precompiles=not rules.plain_ethereum), self._overrides
            )
        except OverrideRefused as error:
            raise CallRefused("override", str(error)) from None

    def call(self, call: CallParameters) -> CallResult:
        """eth_call. Raises :class:`CallRefused` if the call cannot start."""
        gas = self._gas_cap if call.gas is None else min(call.gas, self._gas_cap)
        try:
            outcome = self._execute(call, gas)
        except CallRefused as refusal:
            raise supplied(refusal, gas) from None
        return result_of(outcome)

    def estimate_gas(self, call: CallParameters) -> int:
        """The least gas limit with which the call succeeds, to 1.5 %. Raises :class:`CallRefused` if none does."""
        highest = self._highest_gas(call)
        if self._is_plain_transfer(call) and highest >= TX_BASE_GAS and self._succeeds(call, TX_BASE_GAS):
            return TX_BASE_GAS
        try:
            outcome = self._execute(call, highest)
        except CallRefused as refusal:
            raise _estimate_refusal(refusal, highest) from None
        if outcome.error is not None:
            raise _estimate_failure(outcome, highest)
        lowest = outcome.gas_used - 1
        # Most calls need what they used, the stipend, and a 64th more at each level of calls.
        optimistic = (outcome.gas_before_refund + CALL_STIPEND) * 64 // 63
        if optimistic < highest:
            if self._succeeds(call, optimistic):
                highest = optimistic
            else:
                lowest = optimistic
        while lowest + 1 < highest and (highest - lowest) * 1000 >= ESTIMATE_ERROR_PERMILLE * highest:
            middle = min((highest + lowest) // 2, lowest * 2)
            if self._succeeds(call, middle):
                highest = middle
            else:
                lowest = middle
        return highest

    def access_list(self, call: CallParameters) -> AccessListResult:
        """eth_createAccessList: run until a run touches nothing that its access list does not name."""
        gas = self._gas_cap if call.gas is None else min(call.gas, self._gas_cap)
        access_list = call.access_list
        for _ in range(MAX_ACCESS_LIST_ROUNDS):
            tracer = AccessListTracer(access_list, excluded=self._known_addresses(call))
            try:
                outcome = self._execute(replace(call, access_list=access_list), gas, tracer)
            except CallRefused as refusal:
                raise CallRefused(refusal.kind, f"failed to apply transaction: err: {refusal.message}") from None
            found = tracer.access_list()
            if found == access_list:
                break
            access_list = found
        return AccessListResult(access_list, outcome.gas_used, _reason(outcome.error))

    def trace(self, calls: Iterable[tuple[CallParameters, Tracer]]) -> Iterator[Outcome]:
        """Each call under its tracer, on what the one before left. Raises :class:`CallRefused`."""
        overlay = self._overlay()
        for call, tracer in calls:
            gas = self._gas_cap if call.gas is None else min(call.gas, self._gas_cap)
            try:
                yield self._execute(call, gas, tracer, overlay)
            except CallRefused as refusal:
                raise supplied(refusal, gas) from None

    # --- One execution -------------------------------------------------------------------------------------------

    def _execute(
        self, call: CallParameters, gas: int, tracer: Tracer | None = None, overlay: Overlay | None = None
    ) -> Outcome:
        overlay = self._overlay() if overlay is None else overlay
        transaction = _all_of(call, gas)
        block = self._block if transaction.max_fee_per_gas else replace(self._block, base_fee_per_gas=0)
        intrinsic, floor = self._check(call, transaction, overlay, block.base_fee_per_gas)
        state = self._execution_state(overlay, block)
        state.interrupt = self._interrupt
        state.tracer = tracer
        return execute_transaction(state, transaction, call.sender, intrinsic_gas=intrinsic, floor_gas=floor)

    def _execution_state(self, overlay: Overlay, block: BlockContext) -> ExecutionState:
        rules = self._rules
        return ExecutionState(
            overlay,
            block,
            rules.chain_id,
            self._fork,
            native_precompiles=not rules.plain_ethereum,
            precompiles=self._precompiles,
        )

    def _check(
        self, call: CallParameters, transaction: Transaction, overlay: Overlay, base_fee: int
    ) -> tuple[int, int]:
        """In geth's order, which decides what a call with several faults is told."""
        check_fees(transaction, call.sender, base_fee)
        check_authorizations(transaction, call.sender)
        check_funds(transaction, call.sender, overlay.get_balance(call.sender))
        return check_gas(transaction, self._fork)

    def _overlay(self) -> Overlay:
        overlay = Overlay(self._base)
        apply_account_overrides(overlay, self._overrides)
        return overlay

    # --- Estimates ------------------------------------------------------------------------------------------------

    def _succeeds(self, call: CallParameters, gas: int) -> bool:
        try:
            return self._execute(call, gas).error is None
        except CallRefused:
            return False

    def _highest_gas(self, call: CallParameters) -> int:
        """The most gas that the block, the call, the node, EIP-7825 and the sender's balance allow."""
        highest = self._header_gas_limit
        if call.gas is not None and call.gas >= TX_BASE_GAS:
            highest = call.gas
        highest = min(highest, self._gas_cap)
        if self._fork.tx_gas_cap is not None:
            highest = min(highest, self._fork.tx_gas_cap)
        max_fee = call.gas_price or call.max_fee_per_gas or 0
        if max_fee:
            available = self._overlay().get_balance(call.sender) - call.value
            if call.value and available <= 0:
                raise CallRefused("insufficient_funds", "insufficient funds for transfer")
            highest = min(highest, available // max_fee)
        return highest

    def _is_plain_transfer(self, call: CallParameters) -> bool:
        if call.data or not call.to or call.authorizations is not None:
            return False
        return not self._overlay().get_code(Address(call.to))

    def _known_addresses(self, call: CallParameters) -> frozenset[Address]:
        """What an access list need not name: they are warm anyway (EIP-2929)."""
        overlay = self._overlay()
        target = Address(call.to) if call.to else contract_address(call.sender, overlay.get_nonce(call.sender))
        state = self._execution_state(overlay, self._block)
        return frozenset({call.sender, target, *(Address(address) for address in state.precompile_addresses)})


class _CachedState:
    """Keeps what repeated runs of one call read again."""

    def __init__(self, base: StateReader) -> None:
        self._base = base
        self._accounts: dict[Address, Account | None] = {}
        self._slots: dict[tuple[Address, int], int] = {}
        self._codes: dict[Hash32, bytes] = {}

    def account(self, address: Address) -> Account | None:
        if address not in self._accounts:
            self._accounts[address] = self._base.account(address)
        return self._accounts[address]

    def storage(self, address: Address, slot: int) -> int:
        place = (address, slot)
        if place not in self._slots:
            self._slots[place] = self._base.storage(address, slot)
        return self._slots[place]

    def code(self, code_hash: Hash32) -> bytes:
        if code_hash not in self._codes:
            self._codes[code_hash] = self._base.code(code_hash)
        return self._codes[code_hash]


# --- Calls as transactions -----------------------------------------------------------------------------------------


def _all_of(call: CallParameters, gas: int) -> Transaction:
    """Of the type that carries all of it."""
    tx_type = SET_CODE_TYPE if call.authorizations is not None else DYNAMIC_FEE_TYPE
    return unsigned_transaction(call, tx_type=tx_type, chain_id=None, nonce=0, gas=gas)


def transaction_type(call: CallParameters, *, has_access_list: bool) -> int:
    """The type that the call's fields ask for, as geth has it."""
    if call.authorizations is not None:
        return SET_CODE_TYPE
    if call.gas_price is None:
        return DYNAMIC_FEE_TYPE
    return ACCESS_LIST_TYPE if has_access_list else LEGACY_TYPE


def unsigned_transaction(
    call: CallParameters, *, tx_type: int, chain_id: int | None, nonce: int, gas: int
) -> Transaction:
    """The call as a transaction without a signature, whose gas and nonce the caller has chosen. Absent fees are 0."""
    if call.gas_price is not None:
        max_fee = priority_fee = call.gas_price
    else:
        max_fee, priority_fee = call.max_fee_per_gas or 0, call.max_priority_fee_per_gas or 0
    return new_transaction(
        tx_type,
        chain_id=chain_id,
        nonce=nonce,
        max_fee_per_gas=max_fee,
        max_priority_fee_per_gas=priority_fee,
        gas_limit=gas,
        to=call.to,
        value=call.value,
        data=call.data,
        access_list=call.access_list,
        authorizations=call.authorizations or (),
    )


# --- What a call must satisfy to start ---------------------------------------------------------------------------


def check_fees(transaction: Transaction, sender: Address, base_fee: int) -> None:
    max_fee, priority_fee = transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas
    if priority_fee > max_fee:
        raise CallRefused(
            "invalid",
            f"max priority fee per gas higher than max fee per gas: address {checksum_address(sender)}, "
            f"maxPriorityFeePerGas: {priority_fee}, maxFeePerGas: {max_fee}",
        )
    if max_fee < base_fee:
        raise CallRefused(
            "fee_cap",
            f"max fee per gas less than block base fee: address {checksum_address(sender)}, "
            f"maxFeePerGas: {max_fee}, baseFee: {base_fee}",
        )


def check_authorizations(transaction: Transaction, sender: Address) -> None:
    """EIP-7702."""
    if transaction.tx_type != SET_CODE_TYPE:
        return
    who = f"(sender {checksum_address(sender)})"
    if transaction.is_create:
        raise CallRefused("invalid", f"EIP-7702 transaction cannot be used to create contract {who}")
    if not transaction.authorizations:
        raise CallRefused("invalid", f"EIP-7702 transaction with empty auth list {who}")


def check_funds(transaction: Transaction, sender: Address, balance: int) -> None:
    cost = transaction.gas_limit * transaction.max_fee_per_gas + transaction.value
    if balance < cost:
        raise CallRefused(
            "insufficient_funds",
            f"insufficient funds for gas * price + value: address {checksum_address(sender)} "
            f"have {balance} want {cost}",
        )


def check_gas(transaction: Transaction, fork: ForkRules) -> tuple[int, int]:
    """Returns what ``intrinsic_gas`` does."""
    gas = transaction.gas_limit
    intrinsic, floor = intrinsic_gas(transaction, fork)
    if gas < intrinsic:
        raise CallRefused("intrinsic_gas", f"intrinsic gas too low: have {gas}, want {intrinsic}")
    if gas < floor:
        raise CallRefused("intrinsic_gas", f"insufficient gas for floor data gas cost: have {gas}, want {floor}")
    if transaction.is_create and len(transaction.data) > MAX_INITCODE_BYTES:
        raise CallRefused(
            "initcode",
            f"max initcode size exceeded: code size {len(transaction.data)} limit {MAX_INITCODE_BYTES}",
        )
    return intrinsic, floor


def supplied(refusal: CallRefused, gas: int) -> CallRefused:
    """In the words that geth puts around what a call lacks."""
    return CallRefused(refusal.kind, f"err: {refusal.message} (supplied gas {gas})")


def _estimate_refusal(refusal: CallRefused, highest: int) -> CallRefused:
    """More gas than there may be is what the call needs, or something that no gas can mend."""
    if refusal.kind == "intrinsic_gas":
        return CallRefused("out_of_gas", f"gas required exceeds allowance ({highest})")
    return CallRefused(refusal.kind, f"failed with {highest} gas: {refusal.message}")


def _estimate_failure(outcome: Outcome, highest: int) -> CallRefused:
    if isinstance(outcome.error, Revert):
        return CallRefused("reverted", "execution reverted", outcome.output)
    if isinstance(outcome.error, OutOfGas):
        return CallRefused("out_of_gas", f"gas required exceeds allowance ({highest})")
    return CallRefused("halted", _reason(outcome.error))


def result_of(outcome: Outcome) -> CallResult:
    return CallResult(_status(outcome.error), outcome.output, outcome.gas_used, _reason(outcome.error))


def _status(error: VMError | None) -> str:
    if error is None:
        return "ok"
    return "reverted" if isinstance(error, Revert) else "halted"


def _reason(error: VMError | None) -> str:
    return "" if error is None else describe(error)
