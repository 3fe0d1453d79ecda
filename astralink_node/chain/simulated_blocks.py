"""Simulated blocks as a typed answer: eth_simulateV1 on top of the block asked about."""

from collections.abc import Callable

from astralink_node.chain.call_messages import CallFailed
from astralink_node.chain.call_requests import (
    account_override_of,
    answered,
    block_overrides_of,
    call_timeout,
    parameters_of,
    problem_of_block,
    problem_of_overrides,
    problem_of_request,
)
from astralink_node.chain.messages import LimitExceeded
from astralink_node.chain.query_limits import QueryLimits
from astralink_node.chain.simulate_messages import (
    MAX_BLOCKS,
    BlockCalls,
    SimulateAnswer,
    SimulatedBlockRecord,
    SimulatedCallRecord,
    SimulateQuestion,
)
from astralink_node.evm.blocks import Header, encode_header, ethereum_block_rlp
from astralink_node.evm.fork_rules import ChainRules
from astralink_node.evm.pipeline import AncestorHash
from astralink_node.evm.simulate_blocks import (
    BlockSimulation,
    BlockToSimulate,
    SimulatedBlock,
    SimulatedCall,
)
from astralink_node.storage.store import PointReader


def answer_simulation(
    rules: ChainRules,
    base: Header,
    state: PointReader,
    ancestor_hash: AncestorHash,
    question: SimulateQuestion,
    limits: QueryLimits,
    check_time: Callable[[], None],
) -> SimulateAnswer | CallFailed | LimitExceeded:
    """`state` holds the state after `base`. What does not fit into one answer is LimitExceeded."""
    problem = _problem_of(question.blocks)
    if problem is not None:
        return problem
    simulation = BlockSimulation(
        rules,
        base,
        state,
        ancestor_hash,
        gas_cap=limits.call_gas,
        validation=question.validation,
        trace_transfers=question.trace_transfers,
        interrupt=check_time,
    )
    simulated = answered(lambda: simulation.run([_block(block) for block in question.blocks]), call_timeout(limits))
    if isinstance(simulated, CallFailed):
        return simulated
    size = sum(_bytes_of(call) for block in simulated for call in block.calls)
    if size > limits.max_simulated_bytes:
        return LimitExceeded(
            f"the calls return {size} bytes and logs, at most {limits.max_simulated_bytes} may be answered"
        )
    return SimulateAnswer(tuple(_record(block) for block in simulated))


def _problem_of(blocks: tuple[BlockCalls, ...]) -> CallFailed | None:
    """What no block could hold; None if there is nothing of the kind."""
    if len(blocks) > MAX_BLOCKS:
        return CallFailed("too_many_blocks", "too many blocks")
    # Bounds hold for the whole request: what is overridden is committed to block by block, in one piece each.
    problem = problem_of_overrides([each for block in blocks for each in block.overrides])
    for block in blocks:
        problem = problem or problem_of_block(block.block)
        for request in block.calls:
            problem = problem or problem_of_request(request)
    if problem:
        return CallFailed("invalid", problem)
    return None


def _block(block: BlockCalls) -> BlockToSimulate:
    return BlockToSimulate(
        overrides=block_overrides_of(block.block),
        accounts=tuple(account_override_of(override) for override in block.overrides),
        calls=tuple(parameters_of(request) for request in block.calls),
    )


def _bytes_of(call: SimulatedCall) -> int:
    return len(call.result.output) + sum(len(log.data) for log in call.logs)


def _record(simulated: SimulatedBlock) -> SimulatedBlockRecord:
    block = simulated.block
    return SimulatedBlockRecord(
        block_hash=block.header.hash,
        raw_header=encode_header(block.header),
        raw_transactions=block.raw_transactions,
        senders=simulated.senders,
        size_bytes=len(ethereum_block_rlp(block)),
        calls=tuple(_call(call) for call in simulated.calls),
    )


def _call(call: SimulatedCall) -> SimulatedCallRecord:
    result = call.result
    return SimulatedCallRecord(
        status=result.status,
        output=result.output,
        gas_used=result.gas_used,
        max_gas_used=call.max_gas_used,
        halt_reason=result.halt_reason,
        logs=call.logs,
    )
