"""Runs a piece of code by itself, without a transaction around it: what ``evm run`` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eth.exceptions import VMError

from astralink_node.evm.created_addresses import contract_address
from astralink_node.evm.execution_context import TransactionContext
from astralink_node.evm.fork_rules import ForkRules
from astralink_node.evm.machine import Message
from astralink_node.evm.pipeline import BlockContext
from astralink_node.evm.scratch_state import ScratchState
from astralink_node.evm.tracing.hooks import Tracer
from astralink_node.evm.transaction_execution import run_root_call
from astralink_node.evm.vm import ExecutionState
from astralink_node.types import ZERO_ADDRESS, ZERO_HASH, Address, Hash32


@dataclass(frozen=True, slots=True)
class CodeRun:
    """What to run. Creation runs ``code`` as initcode; otherwise it is the receiver's code."""

    fork: ForkRules
    code: bytes
    data: bytes
    gas: int
    value: int
    price: int
    sender: Address
    receiver: Address
    create: bool
    chain_id: int
    prestate: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CodeResult:
    output: bytes
    gas_used: int
    error: VMError | None
    state_root: Hash32


def run_code(run: CodeRun, tracer: Tracer | None) -> CodeResult:
    """One root call with the given gas; no intrinsic gas, no fees, no refunds."""
    prestate = ScratchState(run.prestate)
    overlay = prestate.overlay()
    if overlay.get_balance(run.sender) < run.value:
        overlay.set_balance(run.sender, run.value)
    if run.code and not run.create:
        overlay.set_code(run.receiver, run.code)
    overlay.begin_transaction()
    state = ExecutionState(overlay, _block(run), run.chain_id, run.fork, native_precompiles=False)
    state.tracer = tracer
    for address in (run.sender, run.receiver):
        overlay.mark_address_warm(address)
    message = Message(
        gas=run.gas,
        to=b"" if run.create else run.receiver,
        sender=run.sender,
        value=run.value,
        data=b"" if run.create else run.data,
        code=run.code + run.data if run.create else overlay.get_code(run.receiver),
        create_address=contract_address(run.sender, overlay.get_nonce(run.sender)) if run.create else None,
    )
    gas_left, error, output = run_root_call(state, message, TransactionContext(run.price, run.sender))
    for address in state.accounts_to_delete:
        overlay.delete_account(address)
    overlay.clear_empty_accounts()
    return CodeResult(output, run.gas - gas_left, error, prestate.root_after(overlay))


def _block(run: CodeRun) -> BlockContext:
    return BlockContext(
        number=0,
        timestamp=0,
        coinbase=ZERO_ADDRESS,
        gas_limit=run.gas,
        base_fee_per_gas=0,
        prev_randao=ZERO_HASH,
    )
