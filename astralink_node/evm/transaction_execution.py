"""One transaction on a state: buying gas, delegations, the root call, refunds, fees. No block in sight.

Follows the execution specifications (EELS, fork prague: ``process_transaction``, ``process_message_call``), with
py-evm running the root call. A transfer to an account without code never reaches py-evm, unless it is traced. The
caller has validated the transaction; block pipeline and simulation both come through here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from eth.exceptions import ContractCreationCollision, VMError

from astralink_node.evm.blocks import Log
from astralink_node.evm.created_addresses import contract_address
from astralink_node.evm.delegation import DELEGATION_PREFIX, delegate_of, is_delegation
from astralink_node.evm.execution_context import TransactionContext
from astralink_node.evm.machine import Message
from astralink_node.evm.tracing.run import refused_root, root_site
from astralink_node.evm.transactions import U64_MAX, Authorization, Transaction, recover_authority
from astralink_node.evm.vm import ExecutionState
from astralink_node.state.accounts import EMPTY_ACCOUNT, Account
from astralink_node.types import EMPTY_CODE_HASH, ZERO_ADDRESS, Address

if TYPE_CHECKING:
    from astralink_node.state.overlay import Overlay

EXISTING_AUTHORITY_REFUND: Final = 12_500
"""EIP-7702: PER_EMPTY_ACCOUNT_COST - PER_AUTH_BASE_COST, for an authority that already exists."""
MAX_REFUND_QUOTIENT: Final = 5
"""EIP-3529."""

RawLog = tuple[Address, tuple[int, ...], bytes]


@dataclass(slots=True)
class Outcome:
    """What came of an executed transaction."""

    gas_used: int
    """After refunds and the EIP-7623 floor: what the sender pays for."""
    gas_before_refund: int
    """The most that was in use at once: a gas limit below it cannot do."""
    error: VMError | None
    output: bytes
    """Returned or revert data; the deployed code for a creation."""
    logs: Sequence[RawLog]


def log_of(raw: RawLog) -> Log:
    """As a receipt holds it."""
    address, topics, data = raw
    return Log(address, tuple(topic.to_bytes(32, "big") for topic in topics), data)


def execute_transaction(
    state: ExecutionState, transaction: Transaction, sender: Address, *, intrinsic_gas: int, floor_gas: int
) -> Outcome:
    """Apply a valid transaction to the state and pay its fees.

    The sender must afford gas_limit * price + value; its nonce is raised whatever it was. Only a simulation has
    prices below the base fee: then nobody is paid, as in geth.
    """
    overlay, tracer = state.overlay, state.tracer
    overlay.begin_transaction()
    if tracer is not None:
        tracer.begin(state, transaction, sender)
    base_fee = state.execution_context.base_fee_per_gas
    price = transaction.effective_gas_price(base_fee)
    tip = max(price - base_fee, 0)
    coinbase = state.execution_context.coinbase
    if tracer is None and is_plain_transfer(state, transaction):
        gas_used = max(intrinsic_gas, floor_gas)
        _transfer(overlay, transaction, sender, gas_used * price)
        _credit(overlay, coinbase, gas_used * tip)
        return Outcome(gas_used, gas_used, None, b"", ())
    outcome = _execute_message(state, transaction, sender, price, intrinsic_gas, floor_gas)
    _credit(overlay, coinbase, outcome.gas_used * tip)
    # Only now, as in EELS: a contract that destroys itself may be the coinbase.
    for address in state.accounts_to_delete:
        overlay.delete_account(address)
    overlay.clear_empty_accounts()
    if tracer is not None:
        tracer.end(state, outcome)
    return outcome


def is_plain_transfer(state: ExecutionState, transaction: Transaction) -> bool:
    """Whether no code can run: the recipient has none, is no precompile, and nothing is delegated."""
    to = transaction.to
    if not to or transaction.authorizations or to in state.precompile_addresses:
        return False
    recipient = state.overlay.account(Address(to))
    return recipient is None or recipient.code_hash == EMPTY_CODE_HASH


def _transfer(overlay: Overlay, transaction: Transaction, sender: Address, fee: int) -> None:
    accounts, value = overlay.accounts, transaction.value
    nonce, balance, storage_root, code_hash = overlay.account(sender) or EMPTY_ACCOUNT
    accounts[sender] = Account(nonce + 1, balance - fee - value, storage_root, code_hash)
    _credit(overlay, Address(transaction.to), value)


def _credit(overlay: Overlay, address: Address, amount: int) -> None:
    """Add to a balance; an account that this touches and leaves empty does not exist (EIP-161)."""
    account = overlay.account(address)
    if account is None:
        if amount:
            overlay.accounts[address] = Account(0, amount, EMPTY_ACCOUNT.storage_root, EMPTY_CODE_HASH)
        return
    nonce, balance, storage_root, code_hash = account
    if amount:
        overlay.accounts[address] = Account(nonce, balance + amount, storage_root, code_hash)
    elif not balance and not nonce and code_hash == EMPTY_CODE_HASH:
        overlay.delete_account(address)


def _execute_message(
    state: ExecutionState, transaction: Transaction, sender: Address, price: int, intrinsic_gas: int, floor_gas: int
) -> Outcome:
    overlay, gas_limit = state.overlay, transaction.gas_limit
    nonce, balance, storage_root, code_hash = overlay.account(sender) or EMPTY_ACCOUNT
    overlay.put_account(sender, Account(nonce + 1, balance - gas_limit * price, storage_root, code_hash))
    _warm_up(overlay, state, transaction, sender)
    refund = _apply_authorizations(state, transaction.authorizations)
    message = _root_message(state, transaction, sender, nonce, gas_limit - intrinsic_gas)
    gas_left, error, output = run_root_call(state, message, TransactionContext(price, sender))
    if state.root_refund and error is None:
        refund += state.root_refund
    gas_spent = gas_limit - gas_left
    gas_used = max(gas_spent - min(gas_spent // MAX_REFUND_QUOTIENT, refund), floor_gas)
    overlay.set_balance(sender, overlay.get_balance(sender) + (gas_limit - gas_used) * price)
    return Outcome(gas_used, max(gas_spent, floor_gas), error, output, state.logs)


def _warm_up(overlay: Overlay, state: ExecutionState, transaction: Transaction, sender: Address) -> None:
    """EIP-2929, 2930 and 3651; precompiles are warm by themselves."""
    overlay.mark_address_warm(sender)
    overlay.mark_address_warm(state.execution_context.coinbase)
    if transaction.to:
        overlay.mark_address_warm(Address(transaction.to))
    for address, slots in transaction.access_list:
        overlay.mark_address_warm(address)
        for slot in slots:
            overlay.mark_storage_warm(address, slot)


def _apply_authorizations(state: ExecutionState, authorizations: tuple[Authorization, ...]) -> int:
    """EIP-7702, "Behavior": set delegations; invalid tuples are skipped. Returns the refund. Never reverted."""
    overlay, refund = state.overlay, 0
    for authorization in authorizations:
        if authorization.chain_id not in (0, state.execution_context.chain_id) or authorization.nonce >= U64_MAX:
            continue
        authority = recover_authority(authorization)
        if authority is None:
            continue
        overlay.mark_address_warm(authority)
        code = overlay.get_code(authority)
        if code and not is_delegation(code):
            continue
        if overlay.get_nonce(authority) != authorization.nonce:
            continue
        if overlay.account_exists(authority):
            refund += EXISTING_AUTHORITY_REFUND
        if authorization.address == ZERO_ADDRESS:
            overlay.delete_code(authority)
        else:
            overlay.set_code(authority, DELEGATION_PREFIX + authorization.address)
        overlay.increment_nonce(authority)
    return refund


def _root_message(state: ExecutionState, transaction: Transaction, sender: Address, nonce: int, gas: int) -> Message:
    overlay = state.overlay
    if not transaction.to:
        created = contract_address(sender, nonce)
        overlay.mark_address_warm(created)
        return Message(
            gas=gas,
            to=b"",
            sender=sender,
            value=transaction.value,
            data=b"",
            code=transaction.data,
            create_address=created,
        )
    code = overlay.get_code(Address(transaction.to))
    delegate = delegate_of(code)
    if delegate is not None:
        overlay.mark_address_warm(delegate)
        code = overlay.get_code(delegate)
    return Message(
        gas=gas,
        to=transaction.to,
        sender=sender,
        value=transaction.value,
        data=transaction.data,
        code=code,
        is_delegation=delegate is not None,
    )


def run_root_call(
    state: ExecutionState, message: Message, context: TransactionContext
) -> tuple[int, VMError | None, bytes]:
    """Run the root call: (gas left, error, output)."""
    state.begin_message()
    if state.tracer is not None:
        state.call_site = root_site(message)
    if message.is_create:
        if state.has_code_or_nonce(message.storage_address):
            collision = ContractCreationCollision(f"0x{message.storage_address.hex()} is taken")
            if state.tracer is not None:
                state.tracer.refuse(refused_root(message, collision))
            return 0, collision, b""
        computation = state.computation_class.apply_create_message(state, message, context)
    else:
        computation = state.computation_class.apply_message(state, message, context)
    state.end_message(computation)
    return computation.get_gas_remaining(), computation.failure, computation.output
