"""Simulated calls as typed answers: eth_call, eth_estimateGas and eth_createAccessList on the state asked about."""

from collections.abc import Callable

from astralink_node.chain.call_messages import (
    AccessListAnswer,
    AccessListEntry,
    AccessListQuestion,
    CallAnswer,
    CallFailed,
    CallQuestion,
    EstimateGasQuestion,
    GasAnswer,
)
from astralink_node.chain.call_requests import (
    account_override_of,
    answered,
    block_overrides_of,
    call_timeout,
    parameters_of,
    problem_of_overrides,
    problem_of_request,
)
from astralink_node.chain.messages import LimitExceeded
from astralink_node.chain.next_rewards import next_rewards
from astralink_node.chain.query_limits import QueryLimits
from astralink_node.chain.view_messages import ViewsAnswer, ViewsQuestion
from astralink_node.evm.fork_rules import ChainRules
from astralink_node.evm.pipeline import BlockContext
from astralink_node.evm.simulate import CallParameters, Simulation
from astralink_node.state.flat_state import StateReader
from astralink_node.types import ADDRESS_BYTES, ZERO_ADDRESS

AnyCall = CallQuestion | EstimateGasQuestion | AccessListQuestion


def answer_call(
    rules: ChainRules,
    block: BlockContext,
    state: StateReader,
    question: AnyCall,
    limits: QueryLimits,
    check_time: Callable[[], None],
) -> CallAnswer | GasAnswer | AccessListAnswer | CallFailed:
    problem = problem_of_request(question.request) or problem_of_overrides(question.overrides, question.block)
    if problem:
        return CallFailed("invalid", problem)
    expected = next_rewards(rules, block, state) if isinstance(question, EstimateGasQuestion) else ()

    def simulated() -> CallAnswer | GasAnswer | AccessListAnswer:
        simulation = Simulation(
            rules,
            block,
            state,
            gas_cap=limits.call_gas,
            overrides=(*expected, *(account_override_of(override) for override in question.overrides)),
            block_overrides=block_overrides_of(question.block),
            interrupt=check_time,
        )
        return _simulate(simulation, question)

    return answered(simulated, call_timeout(limits))


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
    return answered(lambda: _views(simulation, question), call_timeout(limits))


def _views(simulation: Simulation, question: ViewsQuestion) -> ViewsAnswer | CallFailed:
    outputs = []
    for index, data in enumerate(question.calls):
        result = simulation.call(CallParameters(sender=ZERO_ADDRESS, to=question.contract, data=data))
        if result.status != "ok":
            return CallFailed(result.status, f"view {index}: {result.halt_reason}", result.output)
        outputs.append(result.output)
    return ViewsAnswer(tuple(outputs))


def _simulate(simulation: Simulation, question: AnyCall) -> CallAnswer | GasAnswer | AccessListAnswer:
    call = parameters_of(question.request)
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
