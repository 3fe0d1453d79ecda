"""Simulated calls as typed answers: eth_call, eth_estimateGas and eth_createAccessList on the state asked about."""

from collections.abc import Callable

from astralink_node.chain.call_messages import (
    AccessListAnswer,
    AccessListEntry,
    AccessListQuestion,
    CallAnswer,
    CallFailed,
    CallQuestion,
    CallRequest,
    EstimateGasQuestion,
    GasAnswer,
    StateOverride,
)
from astralink_node.chain.messages import LimitExceeded
from astralink_node.chain.next_rewards import next_rewards
from astralink_node.chain.query_limits import DeadlinePassed, QueryLimits
from astralink_node.chain.view_messages import ViewsAnswer, ViewsQuestion
from astralink_node.evm.fork_rules import ChainRules
from astralink_node.evm.pipeline import BlockContext
from astralink_node.evm.simulate import AccountOverride, CallParameters, CallRefused, Simulation
from astralink_node.evm.transactions import U64_MAX, U256_MAX, Authorization
from astralink_node.state.flat_state import StateReader
from astralink_node.types import ZERO_ADDRESS, Address

ADDRESS_BYTES = 20
MAX_OVERRIDES = 1_000
MAX_OVERRIDE_SLOTS = 10_000
MAX_ACCESS_LIST_SLOTS = 10_000

AnyCall = CallQuestion | EstimateGasQuestion | AccessListQuestion


def answer_call(
    rules: ChainRules,
    block: BlockContext,
    state: StateReader,
    question: AnyCall,
    limits: QueryLimits,
    check_time: Callable[[], None],
) -> CallAnswer | GasAnswer | AccessListAnswer | CallFailed:
    overrides = () if isinstance(question, AccessListQuestion) else question.overrides
    problem = _problem_of(question.request, overrides)
    if problem:
        return CallFailed("invalid", problem)
    expected = next_rewards(rules, block, state) if isinstance(question, EstimateGasQuestion) else ()
    simulation = Simulation(
        rules,
        block,
        state,
        gas_cap=limits.call_gas,
        overrides=(*expected, *(_override(override) for override in overrides)),
        interrupt=check_time,
    )
    try:
        return _simulate(simulation, question)
    except CallRefused as refusal:
        return CallFailed(refusal.kind, refusal.message, refusal.output)
    except DeadlinePassed:
        return CallFailed("timeout", f"execution aborted: it takes longer than {limits.time_ms} ms")


def answer_views(
    rules: ChainRules,
    block: BlockContext,
    state: StateReader,
    question: ViewsQuestion,
    limits: QueryLimits,
    check_time: Callable[[], None],
) -> ViewsAnswer | CallFailed | LimitExceeded:
    if len(question.contract) != ADDRESS_BYTES:
        return CallFailed("invalid", f"contract: expected an address of {ADDRESS_BYTES} bytes")
    if len(question.calls) > limits.max_views:
        return LimitExceeded(f"at most {limits.max_views} views may be asked for, found {len(question.calls)}")
    simulation = Simulation(rules, block, state, gas_cap=limits.call_gas, interrupt=check_time)
    outputs = []
    try:
        for index, data in enumerate(question.calls):
            result = simulation.call(CallParameters(sender=ZERO_ADDRESS, to=question.contract, data=data))
            if result.status != "ok":
                return CallFailed(result.status, f"view {index}: {result.halt_reason}", result.output)
            outputs.append(result.output)
    except CallRefused as refusal:
        return CallFailed(refusal.kind, refusal.message, refusal.output)
    except DeadlinePassed:
        return CallFailed("timeout", f"execution aborted: it takes longer than {limits.time_ms} ms")
    return ViewsAnswer(tuple(outputs))


def _simulate(simulation: Simulation, question: AnyCall) -> CallAnswer | GasAnswer | AccessListAnswer:
    call = _parameters(question.request)
    match question:
        case CallQuestion():
            result = simulation.call(call)
            return CallAnswer(result.status, result.output, result.gas_used, result.halt_reason)
        case EstimateGasQuestion():
            return GasAnswer(simulation.estimate_gas(call))
        case AccessListQuestion():
            found = simulation.access_list(call)
            entries = tuple(AccessListEntry(address, slots) for address, slots in found.access_list)
            return AccessListAnswer(entries, found.gas_used, found.error)


def _parameters(request: CallRequest) -> CallParameters:
    return CallParameters(
        sender=Address(request.sender),
        to=request.to,
        data=request.data,
        value=request.value_wei,
        gas=request.gas,
        gas_price=request.gas_price_wei,
        max_fee_per_gas=request.max_fee_wei,
        max_priority_fee_per_gas=request.max_priority_fee_wei,
        access_list=tuple((Address(entry.address), entry.slots) for entry in request.access_list),
        authorizations=tuple(
            Authorization(entry.chain_id, Address(entry.address), entry.nonce, entry.y_parity, entry.r, entry.s)
            for entry in request.authorizations
        ),
    )


def _override(override: StateOverride) -> AccountOverride:
    return AccountOverride(
        address=Address(override.address),
        nonce=override.nonce,
        balance=override.balance_wei,
        code=override.code,
        state=override.state,
        state_diff=override.state_diff,
    )


def _problem_of(request: CallRequest, overrides: tuple[StateOverride, ...]) -> str:
    """What no transaction could say; empty if there is nothing of the kind."""
    if len(request.sender) != ADDRESS_BYTES or len(request.to) not in (0, ADDRESS_BYTES):
        return "sender and recipient: expected addresses of 20 bytes"
    amounts = (request.gas_price_wei, request.max_fee_wei, request.max_priority_fee_wei, request.value_wei)
    if not all(amount is None or 0 <= amount <= U256_MAX for amount in amounts):
        return "fees and value: expected 256-bit numbers"
    if request.gas is not None and not 0 <= request.gas <= U64_MAX:
        return "gas: expected a 64-bit number"
    if sum(len(entry.slots) + 1 for entry in request.access_list) > MAX_ACCESS_LIST_SLOTS:
        return f"access list: expected at most {MAX_ACCESS_LIST_SLOTS} addresses and slots"
    for entry in request.access_list:
        if len(entry.address) != ADDRESS_BYTES or not all(0 <= slot <= U256_MAX for slot in entry.slots):
            return "access list: expected addresses of 20 bytes and 256-bit slots"
    for authorization in request.authorizations:
        if len(authorization.address) != ADDRESS_BYTES:
            return "authorizations: expected addresses of 20 bytes"
    return _problem_of_overrides(overrides)


def _problem_of_overrides(overrides: tuple[StateOverride, ...]) -> str:
    if len(overrides) > MAX_OVERRIDES:
        return f"state overrides: expected at most {MAX_OVERRIDES} accounts"
    slot_count = 0
    for override in overrides:
        slots = (*(override.state or ()), *override.state_diff)
        slot_count += len(slots)
        if len(override.address) != ADDRESS_BYTES:
            return "state overrides: expected addresses of 20 bytes"
        if not all(0 <= slot <= U256_MAX and 0 <= value <= U256_MAX for slot, value in slots):
            return "state overrides: expected 256-bit slots and values"
        if not 0 <= (override.nonce or 0) <= U64_MAX or not 0 <= (override.balance_wei or 0) <= U256_MAX:
            return "state overrides: expected a 64-bit nonce and a 256-bit balance"
    if slot_count > MAX_OVERRIDE_SLOTS:
        return f"state overrides: expected at most {MAX_OVERRIDE_SLOTS} slots"
    return ""
