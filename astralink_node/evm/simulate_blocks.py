"""Blocks that never happen, one on the other: eth_simulateV1 on any state.

Semantics are geth's (``internal/ethapi/simulate``): calls without signatures become the transactions of blocks with
real headers, receipts and roots; gaps in the numbers are filled with empty blocks; gas is shared over the whole
request. Each block goes through the pipeline that builds real ones, less what only a proposer knows: the chain's own
steps (rewards, evidence, elections) are not part of it. Nothing is written.

Without validation gas is free where no fee is given, and nonces are not looked at. With it, both are as in a block;
that senders have no code and EIP-7825's cap are never asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from astralink_node.crypto.addresses import checksum_address
from astralink_node.evm.blocks import Block, Header, Log, empty_header
from astralink_node.evm.fork_rules import ChainRules
from astralink_node.evm.header_rules import child_base_fee, child_excess_blob_gas
from astralink_node.evm.overrides import (
    NO_BLOCK_OVERRIDES,
    AccountOverride,
    BlockOverrides,
    OverrideRefused,
    apply_account_overrides,
    overridden_precompiles,
)
from astralink_node.evm.pipeline import AncestorHash, BlockContext, BlockExecution
from astralink_node.evm.simulate import (
    CallParameters,
    CallRefused,
    CallResult,
    check_authorizations,
    check_fees,
    check_funds,
    check_gas,
    result_of,
    supplied,
    transaction_type,
    unsigned_transaction,
)
from astralink_node.evm.transaction_encoding import unsigned
from astralink_node.evm.transaction_execution import log_of
from astralink_node.evm.transactions import (
    LEGACY_TYPE,
    U64_MAX,
    U256_MAX,
    Transaction,
)
from astralink_node.evm.transfer_tracer import TransferTracer, emitted, with_root_transfer
from astralink_node.evm.vm import precompiles_of
from astralink_node.state.flat_state import HeadState
from astralink_node.state.overlay import Overlay, StateChanges
from astralink_node.state.uncommitted import UncommittedState
from astralink_node.storage.store import PointReader
from astralink_node.types import Address

MAX_BLOCKS: Final = 256
"""From the block that they stand on to the last one, gaps included."""
TIMESTAMP_INCREMENT_S: Final = 12
"""Between two simulated blocks that say nothing else, whatever the chain's interval is: geth's, which clients know."""


@dataclass(frozen=True, slots=True)
class BlockToSimulate:
    overrides: BlockOverrides = NO_BLOCK_OVERRIDES
    accounts: tuple[AccountOverride, ...] = ()
    """As if changed after the block before; precompiles move for this block alone."""
    calls: tuple[CallParameters, ...] = ()


@dataclass(frozen=True, slots=True)
class SimulatedCall:
    result: CallResult
    max_gas_used: int
    """Before refunds: less would not have done."""
    logs: tuple[Log, ...]
    """With the transfers among them, if they were asked for."""


@dataclass(frozen=True, slots=True)
class SimulatedBlock:
    block: Block
    """Its transactions carry no signatures."""
    senders: tuple[Address, ...]
    calls: tuple[SimulatedCall, ...]


class BlockSimulation:
    """One request. Not for use by two threads at once."""

    def __init__(
        self,
        rules: ChainRules,
        base: Header,
        state: PointReader,
        ancestor_hash: AncestorHash,
        *,
        gas_cap: int,
        validation: bool = False,
        trace_transfers: bool = False,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        """`state` holds the keys of the state after `base`; `ancestor_hash` knows `base` and those before it."""
        self._rules = rules
        self._base = base
        self._state = UncommittedState(state, base.state_root, interrupt)
        self._base_ancestor_hash = ancestor_hash
        self._gas_left = gas_cap
        self._validation = validation
        self._trace_transfers = trace_transfers
        self._interrupt = no_interrupt if interrupt is None else interrupt
        self._headers: dict[int, Header] = {}

    def run(self, blocks: Sequence[BlockToSimulate]) -> tuple[SimulatedBlock, ...]:
        """All blocks, those that fill gaps too. Raises :class:`CallRefused`, and whatever the interrupt raises."""
        parent, simulated = self._base, []
        for block in in_sequence(self._base, blocks):
            done = self._block(block, parent)
            parent = done.block.header
            self._headers[parent.number] = parent
            simulated.append(done)
        return tuple(simulated)

    def _block(self, block: BlockToSimulate, parent: Header) -> SimulatedBlock:
        template = self._template(block.overrides, parent)
        overlay = Overlay(HeadState(self._state))
        context = BlockContext.of_header(template, self._ancestor_hash)
        if block.overrides.blob_base_fee is not None:
            context = replace(context, blob_base_fee=block.overrides.blob_base_fee)
        execution = self._execution(context, overlay, block.accounts)
        execution.set_interrupt(self._interrupt)
        execution.apply_system_start()
        execution.set_tracer(TransferTracer() if self._trace_transfers else None)
        transactions, calls = [], []
        for call in block.calls:
            # Many short calls take long, too, and so does what comes after them.
            self._interrupt()
            transaction, done = self._call(execution, call)
            transactions.append(transaction.raw)
            calls.append(done)
        execution.set_tracer(None)
        self._interrupt()
        executed = execution.finish()
        changes = overlay.changes()
        _check_ranges(changes)
        header = replace(
            template,
            state_root=self._state.add(changes),
            transactions_root=executed.transactions_root,
            receipts_root=executed.receipts_root,
            logs_bloom=executed.logs_bloom,
            gas_used=executed.gas_used,
            requests_hash=executed.requests_hash,
        )
        senders = tuple(call.sender for call in block.calls)
        return SimulatedBlock(Block(header, tuple(transactions)), senders, tuple(calls))

    def _template(self, overrides: BlockOverrides, parent: Header) -> Header:
        """As far as the parent and the overrides decide it. Gas limit and fee recipient are handed down."""
        rules, number = self._rules, _planned(overrides.number)
        header = empty_header()
        base_fee = overrides.base_fee_per_gas
        if base_fee is None:
            base_fee = child_base_fee(rules, parent) if self._validation else 0
        return replace(
            header,
            parent_hash=parent.hash,
            coinbase=parent.coinbase if overrides.coinbase is None else overrides.coinbase,
            number=number,
            gas_limit=parent.gas_limit if overrides.gas_limit is None else overrides.gas_limit,
            timestamp=_planned(overrides.timestamp),
            # AstraLink's fee parameters, held still: the base fee of the next block follows from them.
            extra_data=header.extra_data if rules.plain_ethereum else parent.extra_data,
            prev_randao=header.prev_randao if overrides.prev_randao is None else overrides.prev_randao,
            base_fee_per_gas=base_fee,
            excess_blob_gas=child_excess_blob_gas(rules.fork_at(number), parent) if rules.plain_ethereum else 0,
            parent_beacon_block_root=(
                header.parent_beacon_block_root if overrides.beacon_root is None else overrides.beacon_root
            ),
        )

    def _execution(
        self, context: BlockContext, overlay: Overlay, accounts: Sequence[AccountOverride]
    ) -> BlockExecution:
        rules = self._rules
        usual = precompiles_of(rules.fork_at(context.number), native_precompiles=not rules.plain_ethereum)
        try:
            precompiles = overridden_precompiles(usual, accounts)
        except OverrideRefused as error:
            raise CallRefused("override", str(error)) from None
        apply_account_overrides(overlay, accounts)
        return BlockExecution(rules, context, overlay, precompiles=precompiles)

    def _ancestor_hash(self, number: int) -> bytes:
        header = self._headers.get(number)
        return self._base_ancestor_hash(number) if header is None else header.hash

    # --- One call ------------------------------------------------------------------------------------------------

    def _call(self, execution: BlockExecution, call: CallParameters) -> tuple[Transaction, SimulatedCall]:
        overlay, context = execution.overlay, execution.context
        nonce = overlay.get_nonce(call.sender)
        room = context.gas_limit - execution.gas_used
        gas = room if call.gas is None else call.gas
        if gas > room:
            raise CallRefused("block_gas", f"block gas limit reached: remaining: {room}, required: {gas}")
        gas = min(gas, self._gas_left)
        transaction = _transaction(call, self._rules.chain_id, nonce if call.nonce is None else call.nonce, gas)
        try:
            intrinsic, floor = self._check(execution, transaction, call.sender, nonce)
        except CallRefused as refusal:
            raise supplied(refusal, gas) from None
        outcome = execution.execute(transaction, call.sender, intrinsic_gas=intrinsic, floor_gas=floor)
        self._gas_left -= outcome.gas_used
        logs = outcome.logs
        if self._trace_transfers:
            logs = with_root_transfer(transaction, call.sender, outcome)
            outcome.logs = emitted(logs)
        execution.include(transaction, outcome)
        shown = tuple(log_of(raw) for raw in logs) if outcome.error is None else ()
        return transaction, SimulatedCall(result_of(outcome), outcome.gas_before_refund, shown)

    def _check(
        self, execution: BlockExecution, transaction: Transaction, sender: Address, nonce: int
    ) -> tuple[int, int]:
        """In geth's order, which decides what a call with several faults is told."""
        if self._validation:
            _check_nonce(transaction.nonce, sender, nonce)
        if nonce >= U64_MAX:
            raise CallRefused("nonce_max", f"nonce has max value: address {checksum_address(sender)}, nonce: {nonce}")
        if self._validation or transaction.max_fee_per_gas or transaction.max_priority_fee_per_gas:
            check_fees(transaction, sender, execution.context.base_fee_per_gas)
        check_authorizations(transaction, sender)
        check_funds(transaction, sender, execution.overlay.get_balance(sender))
        return check_gas(transaction, execution.fork)


def no_interrupt() -> None:
    """For callers that wait for however long it takes."""


def in_sequence(base: Header, blocks: Sequence[BlockToSimulate]) -> list[BlockToSimulate]:
    """The blocks with the number and the time of each, and empty ones where numbers are left out.

    Raises :class:`CallRefused` where they do not ascend or are too many.
    """
    number, time, sequence = base.number, base.timestamp, []
    for block in blocks:
        overrides = block.overrides
        wanted = number + 1 if overrides.number is None else overrides.number
        if wanted <= number:
            raise CallRefused("block_number", f"block numbers must be in order: {wanted} <= {number}")
        if wanted - base.number > MAX_BLOCKS:
            raise CallRefused("too_many_blocks", "too many blocks")
        for missing in range(number + 1, wanted):
            time += TIMESTAMP_INCREMENT_S
            sequence.append(BlockToSimulate(BlockOverrides(number=missing, timestamp=time)))
        wanted_time = time + TIMESTAMP_INCREMENT_S if overrides.timestamp is None else overrides.timestamp
        if wanted_time <= time:
            raise CallRefused("block_time", f"block timestamps must be in order: {wanted_time} <= {time}")
        if wanted_time > U64_MAX:
            raise CallRefused("block_time", "block timestamps must be 64-bit numbers")
        number, time = wanted, wanted_time
        sequence.append(replace(block, overrides=replace(overrides, number=number, timestamp=time)))
    return sequence


def _planned(value: int | None) -> int:
    """A number or time that :func:`in_sequence` has filled in."""
    if value is None:
        raise ValueError("a block that has no place in a sequence")
    return value


def _transaction(call: CallParameters, chain_id: int, nonce: int, gas: int) -> Transaction:
    """The call as a transaction of the type that its fields ask for, with no signature."""
    tx_type = transaction_type(call, has_access_list=bool(call.access_list))
    shown_id = None if tx_type == LEGACY_TYPE else chain_id
    return unsigned(unsigned_transaction(call, tx_type=tx_type, chain_id=shown_id, nonce=nonce, gas=gas))


def _check_nonce(nonce: int, sender: Address, expected: int) -> None:
    if nonce == expected:
        return
    kind, word = ("nonce_too_low", "low") if nonce < expected else ("nonce_too_high", "high")
    raise CallRefused(kind, f"nonce too {word}: address {checksum_address(sender)}, tx: {nonce} state: {expected}")


def _check_ranges(changes: StateChanges) -> None:
    """Overrides can create so much coin that a balance outgrows its 256 bits, which no real block can."""
    for address, nonce, balance in changes.touched:
        if balance > U256_MAX or nonce > U64_MAX:
            raise CallRefused("invalid", f"account {checksum_address(address)} outgrows its balance or nonce")
